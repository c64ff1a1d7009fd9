// Hashes for files of which none is known, as in a tree that was taken in: read now, written down beside the manifest, compared from then on.
import type { BigIntStats } from 'node:fs'
import { entryAt, statAt } from './entry.ts'
import { type Seeker, seeker } from './hashes.ts'
import { type Line, readManifest } from './manifest.ts'
import { md5Of } from './md5.ts'
import { type Notes, openNotes } from './noted.ts'
import { type Found, manifestOf, treeOf } from './snapshots.ts'

export type Gathering = {
  /** A line that was written down before. */
  readonly keep: (line: Line) => void
  /** A file without a hash; `at`: where it lies. What the system says of it comes as it is. */
  readonly add: (line: Line, at: string | Buffer, stat: BigIntStats) => Promise<void>
  /** Gives how many hashes are new. */
  readonly finish: () => Promise<number>
  readonly discard: () => Promise<void>
}

/**
 * Lines come in the manifest's order. `older`: a snapshot that was read before: where a path has the same inode there, its hash is that
 * one, and nothing is read. What the system says where nothing can be written comes as it is.
 */
export async function gathering(found: Found, older: Found | undefined, onRead: (bytes: number) => void): Promise<Gathering> {
  const notes: Notes = await openNotes(manifestOf(found))
  // Of a manifest that cannot be read the structure has told.
  const known: Seeker | undefined = older && seeker(readManifest(manifestOf(older)), () => undefined)
  let fresh = 0
  const shared = async (line: Line, stat: BigIntStats): Promise<string | undefined> => {
    if (!older || !known || stat.nlink === 1n) return undefined
    const hash = (await known.seek(line.path))?.hash
    if (!hash) return undefined
    const other = statAt(entryAt(treeOf(older), line.path))
    return other?.ino === stat.ino && other.dev === stat.dev ? hash : undefined
  }
  return {
    keep: ({ path, hash }) => notes.add(path, hash),
    async add(line, at, stat) {
      notes.add(line.path, (await shared(line, stat)) ?? (await md5Of(at, onRead)))
      fresh++
    },
    async finish() {
      await known?.end()
      await notes.finish()
      return fresh
    },
    async discard() {
      await known?.end()
      await notes.discard()
    },
  }
}
