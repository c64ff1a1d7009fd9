// What a restore brought, against the manifest: whether it is there, and with --verify whether it is what was saved.
import type { BigIntStats } from 'node:fs'
import type { RunContext } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { many, timeText } from '../../format.ts'
import { incomplete } from '../../restoring.ts'
import { entryAt, isTooLong, seconds, statAt, typeOf } from './entry.ts'
import type { Line } from './manifest.ts'
import { md5Of } from './md5.ts'
import type { Selected } from './selected.ts'

const mostNamed = 100

/**
 * Looks at each entry below `to`. `settled`: nobody else writes there, so that sizes count always. Failure `damaged` where the snapshot itself
 * lacks an entry, or what came back is not what was saved; `tool` where rsync left one out.
 */
export async function proveRestored(
  entries: AsyncIterable<readonly Selected[]>,
  { tree, to, verify, settled }: { tree: string; to: string; verify: boolean; settled: boolean },
  action: string,
  context: RunContext,
): Promise<void> {
  const wrong = new Map<string, string>()
  let lost = false
  let [unknown, closed, long] = [0, 0, 0]
  for await (const batch of entries) {
    context.signal.throwIfAborted()
    for (const entry of batch) {
      if (wrong.size >= mostNamed) break
      const { line } = entry
      if (isDevice(line) && process.geteuid?.() !== 0) continue // told before
      if (isTooLong(entryAt(to, line.path))) {
        long++
        continue
      }
      try {
        const difference = await differenceAt(entryAt(to, line.path), line, { verify, settled })
        if (difference) {
          wrong.set(entry.path, difference)
          lost ||= verify || !isKept(entryAt(tree, line.path), line)
        } else if (verify && line.type === 'f' && line.hash === '') unknown++
      } catch (error) {
        // An ordinary user is kept out of folders and files whose modes say so, his own too.
        if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error
        closed++
      }
    }
  }
  if (wrong.size > 0) throw incomplete(action, wrong, lost ? 'damaged' : 'tool')
  if (unknown > 0) context.warn(`${many(unknown, 'file has', 'files have')} no known hash: compared by size, mode and time only`)
  if (long > 0)
    context.warn(
      `${many(long, 'entry was', 'entries were')} not looked at again: too long a path below '${to}'`,
      ...(verify ? (['partial'] as const) : []),
    )
  if (closed > 0)
    context.warn(
      `${many(closed, 'entry was not looked at again: its mode keeps', 'entries were not looked at again: their modes keep')} you out`,
      ...(verify ? (['permission'] as const) : []),
    )
}

/** Before anything is deleted for it: Failure `damaged` where the snapshot itself lacks an entry that its manifest names. */
export async function proveWhole(entries: AsyncIterable<readonly Selected[]>, tree: string, action: string): Promise<void> {
  const lost: string[] = []
  for await (const batch of entries)
    for (const { line, path } of batch) if (lost.length < mostNamed && !isKept(entryAt(tree, line.path), line)) lost.push(path)
  if (lost.length === 0) return
  const named = lost.slice(0, 10).map((path) => `'${path}'`)
  throw new Failure(
    'damaged',
    `cannot ${action}: the snapshot has lost ${named.join(', ')}${lost.length > named.length ? ' and more' : ''}`,
    {
      hint: 'nothing was deleted: what lies there may be the last copy; without --delete the rest is restored',
    },
  )
}

export const isDevice = ({ type }: Pick<Line, 'type'>): boolean => type === 'b' || type === 'c'

async function differenceAt(file: string | Buffer, line: Line, how: { verify: boolean; settled: boolean }): Promise<string | undefined> {
  const stat = statAt(file)
  if (!stat) return 'it is not there'
  const difference = differenceOf(line, stat, how)
  if (difference || !how.verify || line.type !== 'f' || line.hash === '') return difference
  return (await md5Of(file)) === line.hash ? undefined : 'its content is not what was saved'
}

/** Whether the snapshot itself still has the entry; of one whose path is too long nobody can tell. */
function isKept(file: string | Buffer, { type, size }: Line): boolean {
  const stat = statAt(file)
  if (!stat) return isTooLong(file)
  return type !== 'f' || Number(stat.size) === size
}

function differenceOf(line: Line, stat: BigIntStats, { verify, settled }: { verify: boolean; settled: boolean }): string | undefined {
  const [size, mode, uid, gid] = [stat.size, stat.mode, stat.uid, stat.gid].map(Number) as [number, number, number, number]
  if (typeOf(stat) !== line.type) return 'it is something else'
  if (line.type === 'f' && (settled || verify) && size !== line.size) return `it has ${size} bytes, saved were ${line.size}`
  if (!verify || line.type === 'l') return undefined
  const root = process.geteuid?.() === 0
  // Only root may give set-id bits to files of every group.
  const bits = root ? 0o7777 : 0o777
  if ((mode & bits) !== (line.mode & bits)) return `it has the mode ${(mode & bits).toString(8)}, saved was ${line.mode.toString(8)}`
  if (root && (uid !== line.uid || gid !== line.gid)) return `it belongs to ${uid}:${gid}, saved was ${line.uid}:${line.gid}`
  // Times of folders change with what is put into them beside the restore.
  const same = seconds(stat) === line.mtime || (line.type === 'd' && !settled)
  return same ? undefined : `it has the time ${timeText(seconds(stat))}, saved was ${timeText(line.mtime)}`
}
