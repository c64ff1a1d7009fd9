// Folders that kedge is installed from, and what the installation looks like: shared by the tests of setup and of releases.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import path from 'node:path'
import type { TestContext } from 'node:test'
import { dist, type Machine, machine, type Result, root, startProgram } from './harness.ts'

export type Fitted = Machine & { prefix: string; tmp: string }

/** A machine with a prefix to install below, and a folder of its own for temporary files. */
export function fitted(t: TestContext): Fitted {
  const at = machine(t)
  const [prefix, tmp] = [path.join(at.dir, "the prefix's"), path.join(at.dir, 'tmp')]
  for (const folder of [prefix, tmp]) fs.mkdirSync(folder)
  at.env.TMPDIR = tmp
  at.env.SYSTEMD_UNIT_PATH = path.join(at.dir, 'units') // the machine's own are not looked at
  return { ...at, prefix, tmp }
}

/**
 * A folder as a release has it: no sources, no packages of npm. The built kedge says that it is the version. `later`: it has a command and
 * a page that others have not, and lacks a page.
 */
export function house(at: Machine, version: string, { later = false } = {}): string {
  const folder = path.join(at.dir, `kedge ${version}`)
  fs.rmSync(folder, { recursive: true, force: true })
  fs.mkdirSync(folder)
  for (const name of fs.readFileSync(path.join(root, 'install/contents'), 'utf8').trimEnd().split('\n'))
    fs.cpSync(name === 'dist' ? dist : path.join(root, name), path.join(folder, name), { recursive: true })
  const main = path.join(folder, 'dist/kedge.cjs')
  const text = fs.readFileSync(main, 'utf8')
  const { version: built } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string }
  if (!text.includes(built)) throw new Error(`the version ${built} is not in ${main}`)
  fs.writeFileSync(main, text.replaceAll(built, version))
  if (later) {
    fs.copyFileSync(path.join(folder, 'dist/bin/targets.cjs'), path.join(folder, 'dist/bin/later.cjs'))
    fs.renameSync(path.join(folder, 'docs/kedge-hold.1'), path.join(folder, 'docs/kedge-later.1'))
  }
  return folder
}

/** Runs the setup of a folder, without a terminal. */
export function setup(at: Machine, folder: string, args: readonly string[], { shell = 'sh' } = {}): Promise<Result> {
  const file = execFileSync('sh', ['-c', `command -v ${shell}`])
    .toString()
    .trim()
  return startProgram(at, file, [path.join(folder, 'setup'), ...args]).result
}

/** Each path below the folder with its kind, mode and contents. */
export function listing(folder: string, below = ''): Record<string, string> {
  const found = fs.readdirSync(path.join(folder, below)).sort()
  return Object.assign(
    {},
    ...found.map((name) => {
      const at = path.join(below, name)
      const file = path.join(folder, at)
      const stat = fs.lstatSync(file)
      if (stat.isSymbolicLink()) return { [at]: `link ${fs.readlinkSync(file)}` }
      const mode = (stat.mode & 0o777).toString(8)
      if (stat.isDirectory()) return { [at]: `folder ${mode}`, ...listing(folder, at) }
      return { [at]: `file ${mode} ${createHash('sha256').update(fs.readFileSync(file)).digest('hex')}` }
    }),
  )
}

/** The kedge that is installed. */
export const kedge = (at: Fitted, args: readonly string[], name = 'kedge'): Promise<Result> =>
  startProgram(at, path.join(at.prefix, 'bin', name), args).result

export async function done(run: Promise<Result>): Promise<Result> {
  const result = await run
  assert.equal(result.status, 0, result.stdout + result.stderr)
  return result
}

export const version = async (at: Fitted): Promise<string> => (await done(kedge(at, ['--version']))).stdout.trim()
