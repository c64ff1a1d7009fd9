// What a snapshot is made of, in figures: what is new, what changed, what was linked to the base, and what should have been.
import type { Line } from './manifest.ts'

export type Counts = {
  files: number
  folders: number
  bytes: number
  transferred: number
  added: number
  linked: number
  new: number
  changed: number
  /** Unchanged against the base as far as its manifest tells, and transferred all the same. */
  unlinked: number
  unlinkedBytes: number
  linkedBytes: number
  /** Copied from the base, since that has as many links as its file system allows. */
  crowded: number
  /** Sources that are links themselves. */
  links: string[]
  /** Files that were written to while they were read: another size than listed, or two contents. */
  altered: number
  /** Paths that rsync told of and that did not come, and why. */
  lost: Map<string, string>
  /** The outermost folders that are links in a tree that was linked to. */
  detours: Set<string>
  /** Names that share a file in the new tree as in the base, and not at the source. */
  joined: Set<string>
}

export const noCounts = (): Counts => ({
  files: 0,
  folders: 0,
  bytes: 0,
  transferred: 0,
  added: 0,
  linked: 0,
  new: 0,
  changed: 0,
  unlinked: 0,
  unlinkedBytes: 0,
  linkedBytes: 0,
  crowded: 0,
  links: [],
  altered: 0,
  lost: new Map(),
  detours: new Set(),
  joined: new Set(),
})

export const sameData = (a: Line, b: Line): boolean => a.type === b.type && a.size === b.size && a.mtime === b.mtime
const sameFile = (a: Line, b: Line): boolean => sameData(a, b) && a.mode === b.mode && a.uid === b.uid && a.gid === b.gid

const alike = (a: Line, b: Line): boolean => a.hash === '' || b.hash === '' || a.hash === b.hash

/** `old`: what the first base has of the path. `again`: nothing kept it from being linked to that, and it was saved again. */
export function count(counts: Counts, line: Line, old: Line | undefined, again: boolean, sources: ReadonlySet<string>): void {
  if (line.type === 'd') {
    counts.folders++
    return
  }
  counts.files++
  if (line.type === 'l' && sources.has(line.path)) counts.links.push(line.path)
  if (line.type === 'f') counts.bytes += line.size
  if (!old) counts.new++
  else if (line.how === '>' || (line.type === 'f' && !sameData(line, old))) counts.changed++
  if (line.type !== 'f') return
  if (line.how === '=') {
    counts.linked++
    counts.linkedBytes += line.size
  } else if (!line.link) {
    if (!line.taken) counts.transferred++
    counts.added += line.size
    if (!again) return
    counts.unlinked++
    counts.unlinkedBytes += line.size
  }
}

/** By what manifests tell, which have whole seconds. */
export const isUnchanged = (line: Line, old: Line): boolean =>
  !line.taken && !line.touched && line.link === old.link && sameFile(line, old) && alike(line, old)

/** What a transfer that was linked to an earlier one of the same run cannot tell: how much that had to save again. */
export function withEarlier(counts: Counts, { unlinked, unlinkedBytes, linkedBytes }: Counts): Counts {
  return unlinked > counts.unlinked ? { ...counts, unlinked, unlinkedBytes, linkedBytes } : counts
}
