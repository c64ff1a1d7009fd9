// A manifest from what rsync wrote: sorted, with the hashes that the bases knew, and counted.
import { type FileHandle, open, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from '../../failure.ts'
import { formatLine, header, type Line, pathBytes, readManifest } from './manifest.ts'
import { md5Of } from './md5.ts'

/** A manifest that is asked for ascending paths. */
export type Seeker = (path: string) => Promise<Line | undefined>

/** `damaged` hears of what cannot be read: from there on nothing is known. */
export function seeker(lines: AsyncGenerator<Line[]>, damaged: (failure: Failure) => void): Seeker {
  let batch: Line[] = []
  let at = 0
  return async (path) => {
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
  /** Sources that are links themselves. */
  links: string[]
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
  links: [],
})

const sameData = (a: Line, b: Line): boolean => a.type === b.type && a.size === b.size && a.mtime === b.mtime
const sameFile = (a: Line, b: Line): boolean => sameData(a, b) && a.mode === b.mode && a.uid === b.uid && a.gid === b.gid

export type Merge = {
  /** Sorted; of a path that was written twice the last. */
  readonly lines: AsyncGenerator<Line[]>
  /** The manifests of the bases, the first of them first, then what is known of unfinished trees. */
  readonly known: readonly Seeker[]
  /** Whether the first of them is a base, against which is counted. */
  readonly based: boolean
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
  const finish = async (line: Line): Promise<string> => {
    const old = await complete(merge, line)
    count(counts, line, merge.based ? old : undefined, merge.sources)
    if (merge.leaders.has(line.path)) led.set(line.path, line.hash)
    missed ||= line.type === 'f' && line.hash === '' && line.link !== ''
    return `${formatLine(line)}\n`
  }
  const handle = await create(file)
  try {
    for await (const batch of merge.lines) {
      let text = ''
      for (const line of batch) {
        if (before && before.path !== line.path) text += await finish(before)
        before = line
      }
      await write(handle, text)
    }
    if (before) await write(handle, await finish(before))
  } finally {
    await handle.close()
  }
  if (missed) await fillIn(file, led)
  return counts
}

/** Gives a line its hash and its type; returns the base's line of that path. */
async function complete({ known, kindOf, tree, dryRun }: Merge, line: Line): Promise<Line | undefined> {
  const found = await Promise.all(known.map((seek) => seek(line.path)))
  if (dryRun) return found[0]
  const special = line.type === 'b' || line.type === 'p'
  if (special) {
    const before = found.find((old) => old && line.how === '=' && /[bcps]/.test(old.type))
    line.type = before?.type ?? (await kindOf(line.path, line.type as 'b' | 'p'))
  }
  if (line.type !== 'f' || line.hash !== '') return found[0]
  const same = found.filter((each) => each && sameData(each, line))
  const old = same.find((each) => each?.hash) ?? same[0]
  if (old) line.hash = old.hash
  // Nobody knows it yet: rsync copied it here from a base, or from an unfinished tree, or it does not speak of md5.
  else if (!line.link) line.hash = await md5Of(Buffer.concat([Buffer.from(`${tree}/`), pathBytes(line.path)]))
  return found[0]
}

function count(counts: Counts, line: Line, old: Line | undefined, sources: ReadonlySet<string>): void {
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
  if (line.how === '=') counts.linked++
  else if (!line.link) {
    counts.transferred++
    counts.added += line.size
    if (old && sameFile(line, old)) counts.unlinked++
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
