// restore --delete: what a backup leaves out on purpose is in no snapshot, and looks like surplus. Nothing of that may go.
import { lstatSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { isCache } from './cachedir.ts'
import type { RunContext, Target } from './contract.ts'
import { Failure } from './failure.ts'
import { byBlanks } from './keys.ts'
import { cacheDir, configDir, stateDir } from './paths.ts'
import { judge, literal, type Pattern, parsePattern } from './pattern.ts'
import type { EngineName } from './rows.ts'
import { quote } from './shell.ts'

/** Why a path is in no snapshot; undefined where nothing says so. */
export type LeftOut = (path: string) => string | undefined

/** Options of BACKUP_ARGS that have no say in which files are saved; a word without a dash is the value of one before it. */
const harmless: Readonly<Record<EngineName, RegExp>> = {
  rsync:
    /^(-[cvqzWSUNIy46]+|--(checksum(-choice|-seed)?|cc|compress(-choice|-level)?|zc|zl|skip-compress|bwlimit|(con)?timeout|insecure-links|(no-)?whole-file|fsync|open-noatime|atimes|crtimes|sparse|preallocate|stats|info|debug|verbose|quiet|sockopts|max-alloc|ipv[46]|ignore-times|fuzzy|old-args|secluded-args|protect-args|outbuf|log-file)(=.*)?)$/,
  restic:
    /^(-[vqo]+|--(compression|limit-(up|down)load|pack-size|read-concurrency|no-scan|with-atime|ignore-(ctime|inode)|force|no-extra-verify|verbose|quiet|option|retry-lock|json|no-cache|cleanup-cache|cache-dir)(=.*)?)$/,
}

/** What left files out of a snapshot, kept with it: the settings may be others by now. */
export type Exclusion = {
  readonly patterns: readonly string[]
  /** EXCLUDE_CACHES and ONE_FILE_SYSTEM. */
  readonly caches: boolean
  readonly oneFileSystem: boolean
  /** A word of BACKUP_ARGS that may choose files. */
  readonly option?: string
  /** kedge's own folders in what is saved, the store among them. */
  readonly own: readonly string[]
}

/** By today's settings. */
export function exclusionOf(target: Target, patterns: readonly string[], own: readonly string[]): Exclusion {
  const { EXCLUDE_CACHES, ONE_FILE_SYSTEM } = target.env
  const option = chooses(target)
  return { patterns, caches: EXCLUDE_CACHES !== 'no', oneFileSystem: ONE_FILE_SYSTEM !== 'no', ...(option && { option }), own }
}

const chooses = ({ env, engine }: Target): string | undefined =>
  byBlanks(env.BACKUP_ARGS).find((word) => word.startsWith('-') && !harmless[engine].test(word))

/**
 * `store`: its folder, where it is on this machine; `env`: what `$NAME` in the exclude files stands for; `then`: what left files out of the
 * snapshot, where that is known: what one of both leaves out stays. Failure 'refused' where BACKUP_ARGS may leave something out, which no
 * one can tell from surplus.
 */
export async function leftOut(
  target: Target,
  store: string | undefined,
  env: Readonly<Record<string, string>>,
  then?: Exclusion,
): Promise<LeftOut> {
  const [now, before] = [chooses(target), then?.option]
  if (now !== undefined || before !== undefined)
    throw new Failure(
      'refused',
      `refusing to delete: BACKUP_ARGS ${now === undefined ? 'held' : 'holds'} '${now ?? before}', which may leave files out of the snapshots`,
      { hint: 'restore without --delete, or with --to, and compare; what every backup leaves out belongs in the exclude file' },
    )
  const own = [store, cacheDir(target.name), stateDir(target.name), configDir(), ...(then?.own ?? [])].filter((path) => path !== undefined)
  const today = await excluded(target, env)
  const former = (then?.patterns ?? []).map(parsePattern)
  const cached = target.env.EXCLUDE_CACHES === 'no' && !then?.caches ? () => false : inCache(target)
  const inside = (a: string, b: string) => a === b || a.startsWith(`${b}/`)
  return (path) => {
    if (own.some((folder) => inside(path, folder) || inside(folder, path))) return "it holds kedge's own files"
    if (judge(today, path)[0]) return 'the backup leaves it out, so that no snapshot has it'
    if (judge(former, path)[0]) return 'the backup left it out when it made this snapshot'
    return cached(path) ? 'it lies in a cache, which the backup leaves out' : undefined
  }
}

/** Whether one of the folders from the target's path downwards is a cache. */
function inCache(target: Target): (path: string) => boolean {
  const known = new Map<string, boolean>()
  const look = (path: string): boolean => {
    const before = known.get(path)
    if (before !== undefined) return before
    const found = isCache(Buffer.from(path)) || (path !== '/' && !target.paths.includes(path) && look(dirname(path)))
    known.set(path, found)
    return found
  }
  return look
}

/** Where what was left out of a snapshot cannot be told. Failure 'refused' unless forced. */
export function guardUnknown(snapshot: string, why: string, context: Pick<RunContext, 'forced' | 'warn'>): void {
  const message = `refusing to delete what snapshot '${snapshot}' does not have: ${why}`
  if (!context.forced.has('excludes'))
    throw new Failure('refused', message, {
      hint: 'restore without --delete, or look with -n --force=excludes at what would go',
    })
  context.warn(`guard 'excludes' overridden: ${message}`)
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
