// What the tests share: the tools that ./test/run fetched, temporary machines, the built kedge.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import * as fs from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import path from 'node:path'
import type { TestContext } from 'node:test'
import type { Row } from '../lib/rows.ts'

export { growTree, sameTree } from './tree.ts'

/** The project's folder, found from wherever the test was built to. */
export const root = (() => {
  let dir = import.meta.dirname
  while (!fs.existsSync(path.join(dir, 'package.json'))) dir = path.dirname(dir)
  return dir
})()
export const dist = path.join(root, 'dist')

export const tools = process.env.KEDGE_TEST_TOOLS ?? path.join(process.env.XDG_CACHE_HOME ?? path.join(homedir(), '.cache'), 'kedge-test')

export type Restic = { version: string; path: string }

/** restic in each version that the tests need, oldest first. Throws where ./test/run has not fetched them. */
export function restics(): Restic[] {
  const found = fs.existsSync(tools) ? fs.readdirSync(tools).filter((name) => /^restic-\d+\.\d+\.\d+$/.test(name)) : []
  assert.ok(found.length >= 3, `three versions of restic in ${tools}: run ./test/run once`)
  return found.sort().map((name) => ({ version: name.slice('restic-'.length), path: path.join(tools, name, 'usr/bin/restic') }))
}

/** The newest restic. */
export function newest(): Restic {
  return restics().at(-1) as Restic
}

export type Rsync = { version: string; path: string }

/** rsync in each version that the tests need, oldest first. Throws where ./test/run has not fetched them. */
export function rsyncs(): Rsync[] {
  const found = fs.existsSync(tools) ? fs.readdirSync(tools).filter((name) => /^rsync-\d+\.\d+\.\d+$/.test(name)) : []
  assert.ok(found.length >= 2, `two versions of rsync in ${tools}: run ./test/run once`)
  return found.sort().map((name) => ({ version: name.slice('rsync-'.length), path: path.join(tools, name, 'usr/bin/rsync') }))
}

export const promtool = path.join(tools, 'prometheus/usr/bin/promtool')

/** A temporary folder (its real path), removed after the test. */
export function scratch(t: Pick<TestContext, 'after'>): string {
  const dir = fs.realpathSync(fs.mkdtempSync(path.join(tmpdir(), 'kedge-')))
  t.after(() => fs.rmSync(dir, { recursive: true, force: true, maxRetries: 3 }))
  return dir
}

/** Writes an executable; a script without a first line of its own is sh. Returns its path. */
export function fake(dir: string, name: string, script: string): string {
  const file = path.join(dir, name)
  fs.mkdirSync(path.dirname(file), { recursive: true })
  fs.writeFileSync(file, script.startsWith('#!') ? script : `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  return file
}

/** A machine of its own for a test: folders, and the environment in which kedge runs there. */
export type Machine = {
  t: TestContext
  dir: string
  home: string
  /** First in PATH: for fakes. */
  bin: string
  config: string
  state: string
  cache: string
  restic: Restic
  /** The system's own where none was asked for. */
  rsync?: Rsync
  /** Of a copy of kedge that this machine alone has (`ownKedge`); else what was built. */
  dist?: string
  env: Record<string, string>
}

const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** A scratch folder with a home, kedge's folders, and first in PATH a restic (the newest unless another is given) and an rsync. */
export function machine(t: TestContext, restic: Restic = newest(), rsync?: Rsync): Machine {
  const dir = scratch(t)
  const [home, bin, config, state, cache] = ['home', 'bin', 'etc', 'state', 'cache'].map((name) => path.join(dir, name)) as [
    string,
    string,
    string,
    string,
    string,
  ]
  for (const folder of [home, bin, config, state, cache]) fs.mkdirSync(folder, { mode: 0o700 })
  const env = {
    HOME: home,
    PATH: [
      bin,
      ...[rsync, restic].flatMap((tool) => (tool ? path.dirname(tool.path) : [])),
      path.dirname(process.execPath),
      systemPath,
    ].join(':'),
    LANG: 'C.UTF-8',
    TZ: 'UTC',
    KEDGE_CONFIG_DIR: config,
    KEDGE_STATE_DIR: state,
    KEDGE_CACHE_DIR: cache,
  }
  return { t, dir, home, bin, config, state, cache, restic, ...(rsync && { rsync }), env }
}

/**
 * Gives the machine a kedge of its own, and returns its dist. Where setup has linked the command on the computer that runs the tests, it
 * starts what was built here, and units and crontabs would name the command.
 */
export function ownKedge(machine: Machine): string {
  const house = path.join(machine.dir, 'house')
  fs.mkdirSync(house)
  for (const name of ['docs', 'lib', 'openbsd', 'package.json', 'ssh', 'systemd'])
    fs.symlinkSync(path.join(root, name), path.join(house, name))
  machine.dist = path.join(house, 'dist')
  fs.cpSync(dist, machine.dist, { recursive: true })
  return machine.dist
}

export type Result = {
  status: number | null
  signal: NodeJS.Signals | null
  bytes: Buffer
  stdout: string
  stderr: string
  /** stdout without its last line feed, by lines. */
  lines: string[]
  /** stdout's lines parsed, for --json. */
  readonly rows: Row[]
}
export type Started = {
  child: ChildProcess
  result: Promise<Result>
  /** Waits until stdout or stderr matches; fails where the child ends without. */
  until: (pattern: RegExp) => Promise<void>
}
export type RunOptions = {
  env?: Record<string, string | undefined>
  input?: string | Uint8Array
  cwd?: string
  /** Runs it as this user and group. */
  uid?: number
  /** Seconds (120) after which the child is killed and the result is an error. */
  timeout?: number
}

/** Starts a program on the machine, with nothing in its environment but the machine's and `options.env` (undefined removes). */
export function startProgram(machine: Machine, file: string, args: readonly string[], options: RunOptions = {}): Started {
  const env = Object.fromEntries(Object.entries({ ...machine.env, ...options.env }).filter(([, value]) => value !== undefined))
  const child = spawn(file, args, {
    env,
    cwd: options.cwd ?? machine.dir,
    stdio: 'pipe',
    ...(options.uid && { uid: options.uid, gid: options.uid }),
  })
  machine.t.after(() => child.kill('SIGKILL'))
  child.stdin.on('error', () => {})
  child.stdin.end(options.input ?? '')
  const out: Buffer[] = []
  const err: Buffer[] = []
  const said = new Set<() => void>()
  const keep = (into: Buffer[]) => (chunk: Buffer) => {
    into.push(chunk)
    for (const look of said) look()
  }
  child.stdout.on('data', keep(out))
  child.stderr.on('data', keep(err))
  const seconds = options.timeout ?? 120
  const what = [path.basename(file), ...args].join(' ')
  const result = new Promise<Result>((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      reject(new Error(`${what}: still running after ${seconds} s\n${Buffer.concat(out)}${Buffer.concat(err)}`))
    }, seconds * 1000)
    child.on('error', reject)
    child.on('close', (status, signal) => {
      clearTimeout(timer)
      resolve(resultOf(status, signal, Buffer.concat(out), Buffer.concat(err).toString()))
    })
  })
  result.catch(() => {})
  const until = (pattern: RegExp) =>
    new Promise<void>((resolve, reject) => {
      const look = () => {
        if (pattern.test(Buffer.concat(out).toString()) || pattern.test(Buffer.concat(err).toString())) resolve()
      }
      said.add(look)
      look()
      result.then((end) => reject(new Error(`${what}: ended (${end.status ?? end.signal}) without ${pattern}\n${end.stderr}`)), reject)
    })
  return { child, result, until }
}

function resultOf(status: number | null, signal: NodeJS.Signals | null, bytes: Buffer, stderr: string): Result {
  const stdout = bytes.toString()
  const lines = stdout === '' ? [] : stdout.replace(/\n$/, '').split('\n')
  return {
    status,
    signal,
    bytes,
    stdout,
    stderr,
    lines,
    get rows() {
      return lines.map((line) => JSON.parse(line) as Row)
    },
  }
}

/** Starts the built kedge on the machine. */
export function start(machine: Machine, args: readonly string[], options?: RunOptions): Started {
  return startProgram(machine, process.execPath, [path.join(machine.dist ?? dist, 'kedge.cjs'), ...args], options)
}

/** Runs the built kedge on the machine to its end. */
export function kedge(machine: Machine, args: readonly string[], options?: RunOptions): Promise<Result> {
  return start(machine, args, options).result
}

/** Runs kedge and fails unless its status is 0. */
export async function done(machine: Machine, args: readonly string[], options?: RunOptions): Promise<Result> {
  const result = await kedge(machine, args, options)
  assert.equal(result.status, 0, `kedge ${args.join(' ')}: ${result.status ?? result.signal}\n${result.stdout}${result.stderr}`)
  return result
}

export type TargetOptions = {
  /** Settings added to the defaults; undefined removes one. */
  env?: Record<string, string | undefined>
  paths?: readonly string[]
  exclude?: readonly string[]
  secrets?: Record<string, string>
  /** Executables by their path in the target's folder: `streams/app.sql`, `hooks/before-backup`. */
  scripts?: Record<string, string>
}
export type NewTarget = { name: string; dir: string; repository: string; password: string }

/** Writes a target's folder by hand: restic, a local repository (not initialised), the provider `file`. */
export function newTarget(machine: Machine, name: string, options: TargetOptions = {}): NewTarget {
  const repository = options.env?.RESTIC_REPOSITORY ?? path.join(machine.dir, 'repositories', name)
  const password = options.secrets?.RESTIC_PASSWORD ?? `a password for ${name}`
  const secrets = { RESTIC_PASSWORD: password, ...options.secrets }
  const dir = writeTarget(machine, name, { ENGINE: 'restic', RESTIC_REPOSITORY: repository, SECRET: 'file' }, { ...options, secrets })
  return { name, dir, repository, password }
}

/** `root`: the target's own folder in the store. */
export type NewRsyncTarget = { name: string; dir: string; store: string; root: string }

/** Writes a target's folder by hand: rsync, a local store (not initialised), and no secrets unless some are given. */
export function newRsyncTarget(machine: Machine, name: string, options: TargetOptions = {}): NewRsyncTarget {
  const store = options.env?.STORE ?? path.join(machine.dir, 'stores', name)
  fs.mkdirSync(path.dirname(store), { recursive: true })
  const dir = writeTarget(machine, name, { ENGINE: 'rsync', STORE: store, ...(options.secrets && { SECRET: 'file' }) }, options)
  return { name, dir, store, root: path.join(store, name) }
}

function writeTarget(machine: Machine, name: string, env: Record<string, string>, options: TargetOptions): string {
  const dir = path.join(machine.config, 'targets', name)
  fs.mkdirSync(dir, { recursive: true, mode: 0o700 })
  fs.writeFileSync(path.join(dir, 'target.env'), envText({ ...env, ...options.env }), { mode: 0o600 })
  if (options.paths) fs.writeFileSync(path.join(dir, 'paths'), options.paths.map((line) => `${line}\n`).join(''))
  if (options.exclude) fs.writeFileSync(path.join(dir, 'exclude'), options.exclude.map((line) => `${line}\n`).join(''))
  fs.rmSync(path.join(dir, 'secret.env'), { force: true })
  if (options.secrets) fs.writeFileSync(path.join(dir, 'secret.env'), envText(options.secrets), { mode: 0o400 })
  for (const [file, script] of Object.entries(options.scripts ?? {})) fake(dir, file, script)
  return dir
}

/** An env file that both kedge and sh read: each value in single quotes. */
export function envText(values: Record<string, string | undefined>): string {
  const lines = Object.entries(values).filter((entry): entry is [string, string] => entry[1] !== undefined)
  return lines.map(([key, value]) => `${key}='${value.replaceAll("'", "'\\''")}'\n`).join('')
}

/** Runs the machine's restic by hand on a target's repository, and fails unless its status is 0. */
export async function restic(machine: Machine, target: NewTarget, args: readonly string[], options: RunOptions = {}): Promise<Result> {
  const env = { RESTIC_REPOSITORY: target.repository, RESTIC_PASSWORD: target.password, RESTIC_CACHE_DIR: machine.cache, ...options.env }
  const result = await startProgram(machine, machine.restic.path, args, { ...options, env }).result
  assert.equal(result.status, 0, `restic ${args.join(' ')}: ${result.stderr}`)
  return result
}
