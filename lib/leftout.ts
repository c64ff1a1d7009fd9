// restore --delete: what a backup leaves out on purpose is in no snapshot, and looks like surplus. Nothing of that may go.
import { lstatSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Target } from './contract.ts'
import { Failure } from './failure.ts'
import { cacheDir, configDir, stateDir } from './paths.ts'
import { judge, literal, type Pattern, parsePattern } from './pattern.ts'
import { quote } from './shell.ts'

/** Why a path is in no snapshot; undefined where nothing says so. */
export type LeftOut = (path: string) => string | undefined

/** `store`: its folder, where it is on this machine; `env`: what `$NAME` in the exclude files stands for. */
export async function leftOut(target: Target, store: string | undefined, env: Readonly<Record<string, string>>): Promise<LeftOut> {
  const own = [store, cacheDir(target.name), stateDir(target.name), configDir()].filter((path) => path !== undefined)
  const patterns = await excluded(target, env)
  const inside = (a: string, b: string) => a === b || a.startsWith(`${b}/`)
  return (path) => {
    if (own.some((folder) => inside(path, folder) || inside(folder, path))) return "it holds kedge's own files"
    return judge(patterns, path)[0] ? 'the backup leaves it out, so that no snapshot has it' : undefined
  }
}

/** The patterns of the exclude files as restic reads them: trimmed, without comments, variables expanded. */
async function excluded(target: Target, env: Readonly<Record<string, string>>): Promise<Pattern[]> {
  const texts = await Promise.all(target.excludes.map((file) => readFile(file, 'utf8')))
  const lines = texts.flatMap((text) => text.split('\n').map((line) => line.trim()))
  const expand = (line: string) =>
    line.replace(/\$(\$|\w+|\{\w+\})/g, (_, name: string) => (name === '$' ? '$' : (env[name.replace(/[{}]/g, '')] ?? '')))
  return lines.filter((line) => line !== '' && !line.startsWith('#')).map((line) => parsePattern(expand(line)))
}

/** A folder in which another file system is mounted is saved empty: what lies in it looks like surplus. */
export function mounted(path: string, roots: readonly string[]): string | undefined {
  for (let at = path; at !== '/' && !roots.includes(at); at = dirname(at)) if (deviceOf(at) !== deviceOf(dirname(at))) return onMount(at)
  return undefined
}

export const onMount = (at: string): string => `another file system is mounted at '${at}'`

const deviceOf = (path: string) => lstatSync(path, { throwIfNoEntry: false })?.dev

export const keptBack = (path: string, reason: string): Failure =>
  new Failure('refused', `refusing to delete '${path}': ${reason}`, {
    hint: `--exclude ${quote(literal(path))} leaves it alone; without --delete nothing is deleted`,
  })
