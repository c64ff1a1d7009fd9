// Is the content of snapshots what it was when it was saved? By the hashes in their manifests; each inode is read once.
import type { BigIntStats } from 'node:fs'
import { dirname } from 'node:path'
import type { Part } from '../../checking.ts'
import type { RunContext } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { field } from '../../format.ts'
import { entryAt, statAt } from './entry.ts'
import { type Gathering, gathering } from './gather.ts'
import { newInodes } from './inodes.ts'
import { type Line, readManifest, shownPath } from './manifest.ts'
import { md5Of } from './md5.ts'
import { refusalOf, wordsOf } from './refusal.ts'
import { type Found, manifestOf, treeOf } from './snapshots.ts'

const hashed = /\t([0-9a-f]{2})[0-9a-f]{30}\t[^\t]*$/

/**
 * Whether a line's hash is known, and its first byte in the part: so all names of a content are in one, as restic's packs are. Those of
 * which nothing is known are in no part but all of it.
 */
export function inPart(part: Part): (text: string) => boolean {
  if (part === 'structure') return () => false
  if (part === 'all') return (text) => /^[^\t]*\tf\t/.test(text)
  return (text) => {
    const [, byte] = hashed.exec(text) ?? []
    return byte !== undefined && Number.parseInt(byte, 16) % part.of === part.n - 1
  }
}

/** A file of the store that is not what was saved, for all snapshots whose name for it is the same inode. */
export type Spoiled = { readonly path: string; readonly why: string; readonly of: Found[] }

/**
 * A reader of one part of the data. `read`: tells whether a snapshot is whole, the oldest first; what it has read for one it does not read
 * for the next. `spoiled`: what it found, which is complete when all snapshots were read.
 */
export type ContentReader = { readonly read: (found: Found) => Promise<boolean>; readonly spoiled: () => Iterable<Spoiled> }

/**
 * `bare`: whether files of a snapshot have no hash. The others hear of what only somebody else may read, of a snapshot whose hashes cannot be
 * written down, and of how many were.
 */
export type Readers = {
  readonly bare: (found: Found) => boolean
  readonly closed: (found: Found, what: string) => void
  readonly unwritable: (found: Found, error: unknown) => void
  readonly noted: (files: number) => void
}

export function contentReader(
  part: Part,
  context: Pick<RunContext, 'signal' | 'progress' | 'detail'>,
  readers: Readers,
  what?: string,
): ContentReader {
  const isNew = newInodes()
  const spoiled = new Map<string, Spoiled>()
  /** The snapshot that was read before, by the folder that has both. */
  const before = new Map<string, Found>()
  let [read, files] = [0, 0]
  const report = () => context.progress({ done: read, files, ...(what !== undefined && { what }) })
  const onRead = (bytes: number) => {
    read += bytes
    report()
    context.signal.throwIfAborted()
  }
  /** Whether the file that a line names is what it was. */
  const look = async (found: Found, line: Line, gathered: Gathering | undefined): Promise<boolean> => {
    const at = entryAt(treeOf(found), line.path)
    const stat = lookAt(at)
    if (stat === 'refused') return false
    if (!stat?.isFile()) return true
    if (line.noted) gathered?.keep(line)
    const key = `${stat.dev}:${stat.ino}`
    const known = line.hash !== ''
    if (known && stat.nlink > 1n && !isNew(stat)) {
      const earlier = spoiled.get(key)
      if (earlier && earlier.of.at(-1) !== found) earlier.of.push(found)
      return earlier === undefined
    }
    files++
    const trouble = await troubleIn(async () => {
      if (known) return contentFault(at, line.hash, onRead)
      await gathered?.add(line, at, stat)
      return undefined
    })
    if (trouble === undefined) return true
    const { kind, why } = trouble
    if (kind === 'permission') {
      readers.closed(found, `${field(shownPath(line.path))}: ${why}`)
      return false
    }
    context.detail(`snapshot ${found.id}: ${field(shownPath(line.path))}: ${why}`)
    spoiled.set(key, { path: line.path, why, of: [found] })
    return false
  }
  const gather = async (found: Found, older: Found | undefined): Promise<Gathering | undefined> => {
    try {
      return await gathering(found, older, onRead)
    } catch (error) {
      if (!/^(EROFS|EACCES|EPERM|ENOSPC|EDQUOT)$/.test((error as NodeJS.ErrnoException).code ?? '')) throw error
      readers.unwritable(found, error)
      return undefined
    }
  }
  return {
    async read(found) {
      const root = dirname(found.dir)
      const gathered = part === 'all' && readers.bare(found) ? await gather(found, before.get(root)) : undefined
      let whole = true
      try {
        for await (const lines of readManifest(manifestOf(found), inPart(part))) {
          context.signal.throwIfAborted()
          for (const line of lines) if (!(await look(found, line, gathered))) whole = false
        }
      } catch (error) {
        await gathered?.discard()
        throw error
      }
      if (gathered) readers.noted(await gathered.finish())
      before.set(root, found)
      report()
      return whole
    },
    spoiled: () => spoiled.values(),
  }
}

/** Undefined where nothing is there: the structure has told, as it has of a folder above that cannot be read. */
function lookAt(at: string | Buffer): BigIntStats | 'refused' | undefined {
  try {
    return statAt(at)
  } catch (error) {
    if (refusalOf(error) === undefined) throw error
    return 'refused'
  }
}

type Trouble = { readonly kind: 'damaged' | 'permission'; readonly why: string }

/** What is wrong, or what the system says. */
async function troubleIn(look: () => Promise<string | undefined>): Promise<Trouble | undefined> {
  try {
    const why = await look()
    return why === undefined ? undefined : { kind: 'damaged', why }
  } catch (error) {
    const kind = refusalOf(error)
    if (kind === undefined) throw error
    return { kind, why: `cannot be read: ${wordsOf(error)}` }
  }
}

/** Undefined where the content is what it was. */
async function contentFault(at: string | Buffer, hash: string, onRead?: (bytes: number) => void): Promise<string | undefined> {
  const now = await md5Of(at, onRead)
  return now === hash ? undefined : `its content changed: md5 ${now}, was ${hash}`
}

/** The newest of the snapshots in which the path of a spoiled file has another one, that is what was saved then. */
export async function goodCopy({ path, of }: Spoiled, snapshots: readonly Found[]): Promise<Found | undefined> {
  const bad = new Set(of.map(({ dir }) => dir))
  const at = (found: Found) => entryAt(treeOf(found), path)
  for (const found of snapshots.toReversed()) {
    if (bad.has(found.dir)) continue
    try {
      if (!statAt(at(found))?.isFile()) continue
      for await (const [line] of readManifest(manifestOf(found), (text) => text.startsWith(`${path}\t`)))
        if (line?.hash && (await troubleIn(() => contentFault(at(found), line.hash))) === undefined) return found
    } catch (error) {
      // Its manifest cannot be read, or it was pruned meanwhile: then the good one is not there.
      const { code } = error as NodeJS.ErrnoException
      if (!(error instanceof Failure) && code !== 'ENOENT' && refusalOf(error) === undefined) throw error
    }
  }
  return undefined
}
