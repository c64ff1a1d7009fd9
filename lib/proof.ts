// What was restored against what the snapshot says of it, and against the source where that is unchanged since.
import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import { answer } from './child.ts'
import type { RunContext } from './contract.ts'
import { callerEnv } from './env.ts'
import { Failure } from './failure.ts'
import { timeText } from './format.ts'

export type Sampled = {
  path: string
  size: number
  /** The twelve permission bits. */
  mode: number
  /** Compared where root restores. */
  owner?: { uid: number; gid: number }
  mtime: string
  /** Of its mtime only the second is known. */
  coarse?: true
  /** The ctime of the source as it was saved; `before`: not known, but it was earlier than that. */
  ctime: string | { before: string }
}

/** '2026-11-20T08:14:04.51613Z' -> nanoseconds since 1970. */
export function nanoseconds(time: string): bigint {
  const [, seconds = '', fraction = '', zone = ''] = /^([^.]*?)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)$/.exec(time) ?? []
  const whole = Date.parse(`${seconds}${zone}`)
  if (Number.isNaN(whole)) throw new Failure('tool', `not a time: '${time}'`)
  return BigInt(whole) * 1_000_000n + BigInt(fraction.padEnd(9, '0').slice(0, 9))
}

const second = 1_000_000_000n

const floor = (time: bigint): bigint => (time - (((time % second) + second) % second)) / second

const secondOf = (time: bigint): string => timeText(Number(floor(time)))

/** Some file systems keep whole seconds. */
function sameTime(actual: bigint, { mtime, coarse }: Sampled): boolean {
  const saved = nanoseconds(mtime)
  return actual === saved || ((coarse || actual % second === 0n) && secondOf(actual) === secondOf(saved))
}

/** What is wrong with a restored file, its content aside; undefined when it is as the snapshot says. */
export async function wrongIn(file: Sampled, folder: string): Promise<string | undefined> {
  const stat = await lstat(join(folder, file.path), { bigint: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    throw error
  })
  if (!stat) return 'it was not restored'
  if (!stat.isFile()) return 'it came back as something else than a file'
  if (stat.size !== BigInt(file.size)) return `it came back with ${stat.size} bytes, saved were ${file.size}`
  const root = process.geteuid?.() === 0
  // Only root may give set-id bits to files of every group.
  const bits = root ? 0o7777 : 0o777
  const [mode, saved] = [Number(stat.mode) & bits, file.mode & bits]
  if (mode !== saved) return `it came back with mode ${mode.toString(8)}, saved was ${saved.toString(8)}`
  if (root && file.owner && (Number(stat.uid) !== file.owner.uid || Number(stat.gid) !== file.owner.gid))
    return `it came back with the owner ${stat.uid}:${stat.gid}, saved was ${file.owner.uid}:${file.owner.gid}`
  return sameTime(stat.mtimeNs, file) ? undefined : `it came back with the time ${secondOf(stat.mtimeNs)}, saved was ${file.mtime}`
}

/** Whether the source is what was saved, as far as size and times tell. */
async function unchanged(file: Sampled, ctime = false): Promise<boolean> {
  try {
    const stat = await lstat(file.path, { bigint: true })
    const kept = file.coarse ? sameTime(stat.mtimeNs, file) : stat.mtimeNs === nanoseconds(file.mtime)
    const same = stat.isFile() && stat.size === BigInt(file.size) && kept
    return same && (!ctime || untouched(stat.ctimeNs, file.ctime))
  } catch {
    return false // gone, or not ours to see: then there is nothing to compare with
  }
}

const untouched = (actual: bigint, saved: Sampled['ctime']): boolean =>
  typeof saved === 'string' ? actual === nanoseconds(saved) : actual < nanoseconds(saved.before)

const script = 'while [ $# -gt 1 ]; do cmp -s "$1" "$2"; echo $?; shift 2; done'
const most = 60_000

/**
 * Compares byte for byte with the source, where it is unchanged before and after. Gives which were the same, and which differ. A difference
 * in a file whose ctime is another counts as a change: it was written to, and its mtime set back.
 */
export async function compareWithSource(
  files: readonly Sampled[],
  folder: string,
  context: RunContext,
): Promise<{ same: string[]; differ: string[] }> {
  const same: string[] = []
  const differ: string[] = []
  for (const part of parts(files, ({ path }) => 2 * path.length + folder.length + 16, most)) {
    const before: Sampled[] = []
    for (const file of part) if (await unchanged(file)) before.push(file)
    if (before.length === 0) continue
    const pairs = before.flatMap(({ path }) => [path, join(folder, path)])
    const { stdout, stderr, status } = await answer(['/bin/sh', '-c', script, 'sh', ...pairs], {
      env: callerEnv(),
      timeout: 0,
      signal: context.signal,
      onGroup: context.group,
    })
    const statuses = stdout.split('\n').filter(Boolean).map(Number)
    if (status !== 0 || statuses.length !== before.length || statuses.some((each) => each > 126))
      throw new Failure('tool', `cannot compare with cmp: ${stderr.trim().split('\n').at(-1) || `status ${status}`}`)
    for (const [i, file] of before.entries()) {
      if (!(await unchanged(file))) continue
      if (statuses[i] === 0) same.push(file.path)
      else if (statuses[i] === 1 && (await unchanged(file, true))) differ.push(file.path)
      else context.detail(`'${file.path}': ${statuses[i] === 1 ? 'changed since the snapshot' : 'cmp cannot read it'}: its hashes only`)
    }
  }
  return { same, differ }
}

/** Consecutive parts of a list, each of at most `limit` together: what fits in an argument list (OpenBSD's has 512 KiB). */
export function* parts<T>(all: readonly T[], size: (each: T) => number, limit: number): Generator<T[]> {
  let part: T[] = []
  let sum = 0
  for (const each of all) {
    const more = size(each)
    if (part.length > 0 && sum + more > limit) {
      yield part
      part = []
      sum = 0
    }
    part.push(each)
    sum += more
  }
  if (part.length > 0) yield part
}
