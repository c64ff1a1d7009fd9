// What of a snapshot a restore brings: the entries of its manifest, judged by the patterns; and how much that is.
import { selection } from '../../pattern.ts'
import type { Entry } from '../../rows.ts'
import type { Choice } from '../../selection.ts'
import { seenFrom } from './located.ts'
import { type Line, leaderOf, readManifest, shownPath, typeOf } from './manifest.ts'
import { type Found, manifestOf } from './snapshots.ts'

export type Selected = Pick<Line, 'size' | 'uid' | 'gid'> & { readonly line: Line; readonly path: string; readonly type: Entry['type'] }

/** The entries that a choice brings, in batches with flat memory; the root of the tree is none. `path`: none outside of it. */
export async function* selected(found: Found, choice: Choice, path: string | undefined): AsyncGenerator<Selected[]> {
  const selects = selection(choice.include, choice.exclude)
  const where = seenFrom(path ?? '/')
  const inside = (text: string) => !text.startsWith('.\t') && where(text) !== undefined
  for await (const lines of readManifest(manifestOf(found), inside)) {
    const batch: Selected[] = []
    for (const line of lines) {
      const path = shownPath(line.path)
      const { size, uid, gid } = line
      if (selects(path, line.type === 'd')) batch.push({ line, path, type: typeOf(line.type), size, uid, gid })
    }
    yield batch
  }
}

/** The bytes of files whose hard links are counted once, as they lie on a disk: keeps the names of linked files in memory. */
export async function bytesOnDisk(entries: () => AsyncIterable<readonly Selected[]>): Promise<number> {
  const linked = new Set<string>()
  const seen = new Set<string>()
  for await (const batch of entries())
    for (const { line } of batch) {
      const leader = leaderOf(line)
      if (leader !== undefined) linked.add(leader)
    }
  let total = 0
  for await (const batch of entries()) {
    for (const { type, line } of batch) {
      if (type !== 'file') continue
      const name = leaderOf(line) ?? line.path
      if (linked.has(name)) {
        if (seen.has(name)) continue
        seen.add(name)
      }
      total += line.size
    }
  }
  return total
}
