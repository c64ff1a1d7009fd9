// Is a snapshot what its manifest says? Each entry is looked at, none is read.
import { readFileSync, readlinkSync } from 'node:fs'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { field, timeText } from '../../format.ts'
import { entryAt, isTooLong, seconds, statAt, typeOf } from './entry.ts'
import { fakedLines } from './faked.ts'
import { beside, escapePath, isIn, type Line, readManifest, shownPath, typeOf as typeNamed } from './manifest.ts'
import { ordered, type Refused, type Seen } from './ordered.ts'
import { mayBeUnnamed } from './overlong.ts'
import { refusalOf, wordsOf } from './refusal.ts'
import { type Found, manifestOf, treeOf } from './snapshots.ts'

/** What hears of a look at a snapshot besides its faults. */
export type Hearing = {
  /** How many entries were looked at. */
  readonly counted: (n: number) => void
  /** A regular file; `known`: its hash is. */
  readonly file: (known: boolean) => void
  /** An entry that only somebody else may look at, in words. */
  readonly closed: (what: string) => void
  /** An entry of a copy whose path was not too long where it was saved: nobody can look at it here. */
  readonly tooLong: (path: string) => void
}

/** The faults of one snapshot in words, each with its path. */
export async function* faultsIn(target: Target, found: Found, context: RunContext, hearing: Hearing): AsyncGenerator<string> {
  let files = 0
  const faults: string[] = []
  const shut = new Set<string>()
  const refused: Refused = (path, error) => {
    const kind = refusalOf(error)
    if (kind === undefined) throw error
    shut.add(path)
    const said = `${named(path)}: cannot be read: ${wordsOf(error)}`
    if (kind === 'damaged') faults.push(said)
    else hearing.closed(said)
  }
  try {
    const lines = inOrder(readManifest(manifestOf(found)), manifestOf(found))
    for await (const pairs of beside(lines, ordered(treeOf(found), context.signal, refused))) {
      yield* faults.splice(0)
      for (const [line, seen] of pairs) {
        if (line && line.type !== 'd') files++
        if (line?.type === 'f') hearing.file(line.hash !== '')
        const path = (line ?? seen)?.path ?? ''
        if (!seen && isTooLong(entryAt(treeOf(found), path))) hearing.tooLong(path)
        else if (!seen) yield* isShut(shut, path) ? [] : [`missing: ${named(path)}`]
        // rsync tells of what it was asked for, and that is never the folder into which all of it goes.
        else if (!line) yield* path === '.' || mayBeUnnamed(found, seen.at) ? [] : [`not in the manifest: ${named(path)}`]
        else yield* told(found, line, seen, refused)
      }
      yield* faults.splice(0)
      hearing.counted(pairs.length)
    }
    yield* faults.splice(0)
    if (found.fake) yield* fakeFaults(target, found, context, shut)
  } catch (error) {
    const kind = refusalOf(error)
    if (kind === 'permission') hearing.closed(`its manifest cannot be read: ${wordsOf(error)}`)
    else if (kind === 'damaged') yield `its manifest cannot be read: ${wordsOf(error)}`
    else if (!(error instanceof Failure) || error.class !== 'damaged') throw error
    else yield error.message
    return
  }
  if (files !== found.counts.files) yield `its manifest has ${files} files, snapshot.json says ${found.counts.files}`
}

function* told(found: Found, line: Line, seen: Seen, refused: Refused): Generator<string> {
  try {
    for (const fault of differences(found, line, seen)) yield `${named(line.path)}: ${fault}`
  } catch (error) {
    refused(line.path, error)
  }
}

/** What is shown of a name in a message: one line. */
const named = (path: string): string => field(shownPath(path))

/** Whether a path is one of these, or lies below one; '.' is all of the tree. */
const isShut = (shut: ReadonlySet<string>, path: string): boolean => shut.has('.') || isIn(shut, path)

/** Owners, modes and kinds that lie in xattrs, against the manifest. What is not there, or another type altogether, was told. */
async function* fakeFaults(target: Target, found: Found, context: RunContext, shut: ReadonlySet<string>): AsyncGenerator<string> {
  for await (const pairs of beside(readManifest(manifestOf(found)), fakedLines(target, found, context))) {
    for (const [line, faked] of pairs) {
      if (!line || line.path === '.') continue
      if (faked) for (const fault of fakeDifferences(line, faked)) yield `${named(line.path)}: ${fault}`
      else if (!isShut(shut, line.path)) {
        const stat = statAt(entryAt(treeOf(found), line.path))
        if (stat && (stat.mode & 0o400n) !== 0n) yield `${named(line.path)}: its owner and mode cannot be read in its xattr`
      }
    }
  }
}

/** rsync's listing has one letter for both kinds of devices, and one for FIFOs and sockets. */
const kindOf = (type: Line['type']): Line['type'] => (type === 'c' ? 'b' : type === 's' ? 'p' : type)

function* fakeDifferences(line: Line, faked: Line): Generator<string> {
  const there = 'by its xattr, in which rsync --fake-super keeps it,'
  if (kindOf(line.type) !== faked.type) {
    yield `${there} it is a ${typeNamed(faked.type)}, was a ${typeNamed(line.type)}`
    return
  }
  if (line.type !== 'l' && faked.mode !== line.mode) yield `${there} its mode is ${octal(faked.mode)}, was ${octal(line.mode)}`
  if (faked.uid !== line.uid || faked.gid !== line.gid) yield `${there} its owner is ${faked.uid}:${faked.gid}, was ${line.uid}:${line.gid}`
}

/** Failure `damaged` where a line is not behind the one before it. */
async function* inOrder(batches: AsyncGenerator<Line[]>, file: string): AsyncGenerator<Line[]> {
  let last = ''
  for await (const lines of batches) {
    for (const { path } of lines) {
      if (path <= last) throw new Failure('damaged', `cannot read '${file}': it is not sorted at '${named(path)}'`)
      last = path
    }
    yield lines
  }
}

/** Where no root wrote it, owners, modes and what a device is lie in attributes; a device is an empty file, a symbolic link one with its target. */
function* differences(found: Found, line: Line, { at, stat }: Seen): Generator<string> {
  const { fake } = found
  const type = typeOf(stat)
  const asFile = fake === true && 'psbcl'.includes(line.type) && type === 'f'
  if (type !== line.type && !asFile) {
    yield `it is a ${typeNamed(type)}, was a ${typeNamed(line.type)}`
    return
  }
  if (type === 'f' && !asFile && Number(stat.size) !== line.size) yield `its size is ${stat.size}, was ${line.size}`
  if (seconds(stat) !== line.mtime) yield `its time is ${shownTime(seconds(stat))}, was ${shownTime(line.mtime)}`
  if (fake) {
    // rsync --fake-super leaves the owner of the store that much of everything.
    const need = type === 'd' ? 0o500n : 0o400n
    if (type !== 'l' && (stat.mode & need) !== need)
      yield `its mode in the store is ${octal(Number(stat.mode & 0o7777n))}: its owner cannot read it`
  } else {
    const mode = Number(stat.mode & 0o7777n)
    if (type !== 'l' && mode !== line.mode) yield `its mode is ${octal(mode)}, was ${octal(line.mode)}`
    if (Number(stat.uid) !== line.uid || Number(stat.gid) !== line.gid)
      yield `its owner is ${stat.uid}:${stat.gid}, was ${line.uid}:${line.gid}`
  }
  const [, arrow, to = ''] = /^(->|=>) (.*)$/s.exec(line.link) ?? []
  if (arrow === '->') {
    const now = escapePath(asFile ? readFileSync(at) : readlinkSync(at, 'buffer'))
    if (now !== to) yield `it is a link to '${now}', was to '${to}'`
  }
  if (arrow === '=>') {
    const first = entryAt(treeOf(found), to)
    if (statAt(first)?.ino !== stat.ino && !isTooLong(first)) yield `it is not the same file as ${named(to)} any more`
  }
}

const octal = (mode: number): string => mode.toString(8).padStart(4, '0')
const shownTime = (seconds: number): string => timeText(seconds).replace('.000Z', 'Z')
