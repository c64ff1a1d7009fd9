// A manifest from what rsync wrote: sorted, with the hashes that the bases knew, and counted.
import { linkSync, unlinkSync } from 'node:fs'
import { type FileHandle, open, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '../../failure.ts'
import { isBelow, leadsAway } from './detour.ts'
import { entryAt, seconds, statAt } from './entry.ts'
import { asLanded } from './landed.ts'
import { formatLine, header, type Line, readManifest } from './manifest.ts'
import { md5Of } from './md5.ts'

/** A manifest that is asked for ascending paths; `end` closes it. */
export type Seeker = { readonly seek: (path: string) => Promise<Line | undefined>; readonly end: () => Promise<void> }

/** `damaged` hears of what cannot be read: from there on nothing is known. */
export function seeker(lines: AsyncGenerator<Line[]>, damaged: (failure: Failure) => void): Seeker {
  let batch: Line[] = []
  let at = 0
  const seek = async (path: string): Promise<Line | undefined> => {
    for (;;) {
      for (; at < batch.length; at++) {
        const line = batch[at] as Line
        if (line.path === path) return line
        if (line.path > path) return undefined
      }
      const { done, value } = await lines.next().catch((error: unknown) => {
        if (!(error instanceof Failure) || error.class !== 'damaged') throw error
        damaged(error)
        return { done: true, value: undefined } as const
      })
      if (done) return undefined
      batch = value
      at = 0
    }
  }
  return {
    seek,
    end: async () => {
      await lines.return(undefined)
    },
  }
}

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
  /** Paths that rsync told of and that are not there. */
  lost: string[]
  /** The outermost folders that are links in a tree that was linked to. */
  detours: Set<string>
}

const noCounts = (): Counts => ({
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
  lost: [],
  detours: new Set(),
})

const sameData = (a: Line, b: Line): boolean => a.type === b.type && a.size === b.size && a.mtime === b.mtime
const sameFile = (a: Line, b: Line): boolean => sameData(a, b) && a.mode === b.mode && a.uid === b.uid && a.gid === b.gid

const alike = (a: Line, b: Line): boolean => a.hash === '' || b.hash === '' || a.hash === b.hash

export type Merge = {
  /** Sorted. A path that rsync sent twice, since the first came out wrong, has two lines. */
  readonly lines: AsyncGenerator<Line[]>
  /** The manifests of the bases, the first of them first, then what is known of unfinished trees. */
  readonly known: readonly Seeker[]
  /** How many of them are of snapshots: it is counted against the first. */
  readonly bases: number
  /** What they tell of, in the same order. */
  readonly trees: readonly string[]
  /** Those that were linked to. */
  readonly linked: readonly string[]
  readonly dir: string
  readonly tree: string
  /** Sources, escaped, without the slash. */
  readonly sources: ReadonlySet<string>
  /** What a device, a FIFO or a socket is: 'b' and 'p' stand for both kinds. */
  readonly kindOf: (path: string, type: 'b' | 'p') => Promise<Line['type']>
  /** The other names of a file without a hash of their own, by the name that has it. */
  readonly leaders: ReadonlySet<string>
  /** Nothing was written: there is nothing to look at. */
  readonly dryRun: boolean
}

/** Writes dir/manifest, and counts. */
export async function writeManifest(merge: Merge): Promise<Counts> {
  const counts = noCounts()
  const led = new Map<string, string>()
  let missed = false
  const file = join(merge.dir, 'manifest')
  let before: Line | undefined
  let twice = false
  const finish = async (line: Line): Promise<string> => {
    if (line.type === 'f' && line.how === '>' && !merge.dryRun) {
      const landed = asLanded(merge.tree, line)
      if (landed === 'gone') {
        counts.lost.push(line.path)
        return ''
      }
      // Which of the two came last the order does not tell.
      if (twice) line.hash = await md5Of(entryAt(merge.tree, line.path))
      if (twice || landed === 'altered') counts.altered++
    }
    if (line.type === 'd' && !merge.dryRun && !isBelow(counts.detours, line.path) && leadsAway(merge.linked, line.path))
      counts.detours.add(line.path)
    const found = await complete(merge, line)
    const crowded = line.copied === true && !merge.dryRun && isCrowded(merge, line)
    if (crowded) counts.crowded++
    count(counts, line, found.slice(0, merge.bases), merge.sources, crowded)
    if (merge.leaders.has(line.path)) led.set(line.path, line.hash)
    missed ||= line.type === 'f' && line.hash === '' && line.link !== ''
    return `${formatLine(line)}\n`
  }
  const handle = await create(file)
  try {
    for await (const batch of merge.lines) {
      let text = ''
      for (const line of batch) {
        if (before && before.path !== line.path) {
          text += await finish(before)
          twice = false
        } else if (before) twice ||= before.hash !== line.hash
        before = line
      }
      await write(handle, text)
    }
    if (before) await write(handle, await finish(before))
  } finally {
    await handle.close()
    for (const each of merge.known) await each.end()
  }
  if (missed) await fillIn(file, led)
  return counts
}

/** Gives a line its hash and its type; returns what each manifest has of that path. */
async function complete(merge: Merge, line: Line): Promise<(Line | undefined)[]> {
  const { known, kindOf, tree, dryRun } = merge
  const found = await Promise.all(known.map(({ seek }) => seek(line.path)))
  // rsync's words for such a year tell it to nobody.
  if (Number.isNaN(line.mtime)) line.mtime = (dryRun ? found[0]?.mtime : timeAt(tree, line)) ?? 0
  if (dryRun) return found
  const special = line.type === 'b' || line.type === 'p'
  if (special) {
    const before = found.find((old) => old && line.how === '=' && /[bcps]/.test(old.type))
    line.type = before?.type ?? (await kindOf(line.path, line.type as 'b' | 'p'))
  }
  if (line.type !== 'f' || line.hash !== '') return found
  // Its content is that of the name that came first, which is filled in at the end.
  if (line.link && merge.leaders.has(line.link.slice('=> '.length))) return found
  const same = found.map((each) => (each && sameData(each, line) ? each : undefined))
  const held = same.filter((each) => each !== undefined)
  const certain = merge.trees.length === merge.bases && new Set(held.map(({ hash }) => hash)).size < 2
  // Whole seconds cannot tell which of them it is.
  const those = certain ? held : linkedTo(merge, line).flatMap((i) => same[i] ?? [])
  const old = those.find(({ hash }) => hash) ?? those[0]
  if (old) line.hash = old.hash
  // Nobody knows it yet: rsync copied it here from a base, or from an unfinished tree, or it does not speak of md5.
  else if (!line.link) line.hash = await md5Of(entryAt(tree, line.path))
  return found
}

/** The trees in which the file is this one; none: it is a copy. */
function linkedTo({ trees, tree }: Merge, line: Line): number[] {
  const inodeIn = (folder: string) => statAt(entryAt(folder, line.path))?.ino
  const own = inodeIn(tree)
  return own === undefined ? [] : trees.flatMap((each, i) => (inodeIn(each) === own ? i : []))
}

function timeAt(tree: string, { path }: Line): number | undefined {
  const stat = statAt(entryAt(tree, path))
  return stat && seconds(stat)
}

/** Whether one link more is refused: rsync copies then, as it does for any other reason, and says nothing. */
function isCrowded({ trees, dir }: Merge, line: Line): boolean {
  const probe = join(dir, 'link')
  return trees.some((each) => {
    try {
      linkSync(entryAt(each, line.path), probe)
      unlinkSync(probe)
      return false
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'EMLINK'
    }
  })
}

/** `bases`: what the manifests of snapshots have of the path. */
function count(counts: Counts, line: Line, bases: readonly (Line | undefined)[], sources: ReadonlySet<string>, crowded: boolean): void {
  const [old] = bases
  if (line.type === 'd') {
    counts.folders++
    return
  }
  counts.files++
  if (line.type === 'l' && sources.has(line.path)) counts.links.push(line.path)
  if (line.type === 'f') counts.bytes += line.size
  if (!old) counts.new++
  else if (line.how === '>') counts.changed++
  if (line.type !== 'f') return
  if (line.how === '=') {
    counts.linked++
    counts.linkedBytes += line.size
    // It came with a run that was cut off: new to the store all the same.
    if (!line.link && !bases.some((each) => each && sameData(each, line))) counts.added += line.size
  } else if (!line.link) {
    counts.transferred++
    counts.added += line.size
    if (!old || crowded || line.touched || !sameFile(line, old) || !alike(line, old)) return
    counts.unlinked++
    counts.unlinkedBytes += line.size
  }
}

/** The hashes of further names, from the name under which the file was written. */
async function fillIn(file: string, led: ReadonlyMap<string, string>): Promise<void> {
  const fresh = `${file}.new`
  const handle = await create(fresh)
  try {
    for await (const batch of readManifest(file)) {
      for (const line of batch)
        if (line.type === 'f' && line.hash === '' && line.link !== '') line.hash = led.get(line.link.slice('=> '.length)) ?? ''
      await write(handle, batch.map((line) => `${formatLine(line)}\n`).join(''))
    }
  } finally {
    await handle.close()
  }
  await rename(fresh, file)
}

async function create(file: string): Promise<FileHandle> {
  const handle = await open(file, 'w', 0o600)
  await write(handle, `${header}\n`)
  return handle
}

async function write(handle: FileHandle, text: string): Promise<void> {
  if (text !== '') await handle.appendFile(text, 'latin1')
}
