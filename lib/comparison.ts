// The rows of a comparison: each change, or the folders that grew, and the sums. Its memory follows the changes, not the trees.
import type { Context, Rows } from './contract.ts'
import { Failure } from './failure.ts'
import { createFolders } from './folders.ts'
import { bytes, shortId } from './format.ts'
import type { Change, Compared, Growth, Snapshot } from './rows.ts'

type Sides = {
  target: string
  old: Snapshot
  /** undefined: the live source. */
  newer: Snapshot | undefined
  /** The folders that grew most, in place of the changes. */
  top: number | undefined
}

/** Failure 'misuse' for a snapshot that nothing live can be compared with. */
export function checkLive(old: Snapshot): void {
  if (old.stream)
    throw new Failure('misuse', `snapshot '${shortId(old.id)}' is of stream '${old.stream}': a stream has no live source to compare`)
}

/** `stored`: bytes of data that the store does not have before the newer state; asked for when all changes are known. */
export async function* compared(
  { target, old, newer, top }: Sides,
  changes: Iterable<Change[]> | AsyncIterable<Change[]>,
  stored: () => number,
  context: Pick<Context, 'log'>,
): AsyncGenerator<Rows<Change | Compared | Growth>> {
  const folders = createFolders()
  const sum = { added: 0, removed: 0, changed: 0, addedBytes: 0, removedBytes: 0 }
  let rotten = 0
  for await (const rows of changes) {
    for (const row of rows) {
      sum[row.change === '+' ? 'added' : row.change === '-' ? 'removed' : 'changed']++
      if (row.change === '?') rotten++
      if (row.change !== 'U') {
        sum.addedBytes += row.after ?? 0
        sum.removedBytes += row.before ?? 0
      }
      if (top !== undefined) folders.add(row)
    }
    if (top === undefined && rows.length > 0) yield rows
  }
  if (top !== undefined) yield folders.top(top)
  yield { kind: 'compared', target, old: old.id, newer: newer?.id ?? 'live', ...sum, stored: stored() }
  const growth = sum.addedBytes - sum.removedBytes
  const name = (each: Snapshot) => `${shortId(each.id)} of ${each.time}`
  context.log(
    `from ${name(old)} to ${newer ? name(newer) : 'the live source'}: ${sum.added} added, ${sum.removed} removed, ${sum.changed} changed; ` +
      `${growth < 0 ? '' : '+'}${bytes(growth)}, ${bytes(stored())} of data new to the store`,
  )
  if (rotten === 0) return
  throw new Failure('damaged', `the content of ${rotten} files changed, and nothing else about them: bit rot on the disk or in memory`, {
    hint: 'the lines that begin with ? name them; the older snapshot may hold the good ones',
  })
}
