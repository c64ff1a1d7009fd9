// A manifest from what rsync wrote: sorted, with the hashes that the bases knew, and counted.
import { linkSync, unlinkSync } from 'node:fs'
import { type FileHandle, open, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '../../failure.ts'
import { type Counts, count, isUnchanged, noCounts, sameData } from './counts.ts'
import { leadsAway } from './detour.ts'
import { entryAt, isTooLong, seconds, statAt } from './entry.ts'
import { joinedIn } from './joined.ts'
import { asLanded } from './landed.ts'
import { formatLine, header, isBelow, type Line, leaderOf, readManifest } from './manifest.ts'
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
  const joined = joinedIn(merge.tree)
  let missed = false
  const file = join(merge.dir, 'manifest')
  let before: Line | undefined
  let twice = false
  const finish = async (line: Line): Promise<string> => {
    // rsync changes folders as it goes down, and so makes what nobody reaches by its path.
    if (!merge.dryRun && isTooLong(entryAt(merge.tree, line.path))) {
      counts.lost.set(line.path, 'its path is too long for the store')
      return ''
    }
    if (line.type === 'f' && line.how === '>' && !merge.dryRun) {
      const landed = asLanded(merge.tree, line)
      if (landed === 'gone') {
        counts.lost.set(line.path, 'it did not arrive')
        return ''
      }
      // Which of the two came last the order does not tell.
      if (twice) line.hash = await md5Of(entryAt(merge.tree, line.path))
      if (twice || landed === 'altered') counts.altered++
    }
    if (line.type === 'd' && !merge.dryRun && !isBelow(counts.detours, line.path) && leadsAway(merge.linked, line.path))
      counts.detours.add(line.path)
    const found = await complete(merge, line)
    if (!merge.dryRun && line.type === 'f' && line.how === '=') joined.look(line, found.slice(0, merge.bases))
    const crowded = line.copied === true && !merge.dryRun && isCrowded(merge, line)
    if (crowded) counts.crowded++
    const [old] = merge.bases > 0 ? found : []
    const again = line.type === 'f' && line.how === '>' && old && !crowded && isUnchanged(line, old) && sameMoment(merge, line)
    count(counts, line, old, again === true, merge.sources)
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
  counts.joined = await joined.finish(file)
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
  const shared = line.type === 'f' && !line.link && merge.trees.length > merge.bases ? linkedTo(merge, line) : undefined
  if (shared && line.how === '=' && !shared.some((i) => i < merge.bases)) {
    line.how = '>'
    line.taken = true
  }
  if (line.type !== 'f' || line.hash !== '') return found
  // Its content is that of the name that came first, which is filled in at the end.
  const leader = leaderOf(line)
  if (leader !== undefined && merge.leaders.has(leader)) return found
  const same = found.map((each) => (each && sameData(each, line) ? each : undefined))
  const held = same.filter((each) => each !== undefined)
  const certain = !shared && new Set(held.map(({ hash }) => hash)).size < 2
  // Whole seconds cannot tell which of them it is.
  const those = certain ? held : (shared ?? linkedTo(merge, line)).flatMap((i) => same[i] ?? [])
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

/** Fractions of a second are lost where a source was restored from an archive, and all of it is saved once more for that. */
function sameMoment({ trees, tree, dryRun }: Merge, { path }: Line): boolean {
  const [mine, old] = dryRun ? [] : [tree, trees[0] ?? ''].map((each) => statAt(entryAt(each, path)))
  return !mine || !old || mine.mtimeNs === old.mtimeNs // a base that lost the file is a reason to wonder
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

/** The hashes of further names, from the name under which the file was written. */
async function fillIn(file: string, led: ReadonlyMap<string, string>): Promise<void> {
  const fresh = `${file}.new`
  const handle = await create(fresh)
  try {
    for await (const batch of readManifest(file)) {
      for (const line of batch)
        if (line.type === 'f' && line.hash === '' && line.link !== '') line.hash = led.get(leaderOf(line) ?? '') ?? ''
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
