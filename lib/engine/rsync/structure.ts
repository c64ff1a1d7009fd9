// Is a snapshot what its manifest says? Each entry is looked at, none is read.
import { lstatSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import type { RunContext } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { beside, escapePath, type Line, pathBytes, readManifest, shownPath, typeOf as typeNamed } from './manifest.ts'
import { ordered, type Seen } from './ordered.ts'
import { type Found, manifestOf, treeOf } from './snapshots.ts'
import { seconds, typeOf } from './walk.ts'

/** The faults of one snapshot in words, each with its path; `counted` hears how many entries were looked at. */
export async function* faultsIn(found: Found, context: Pick<RunContext, 'signal'>, counted: (n: number) => void): AsyncGenerator<string> {
  let files = 0
  try {
    const lines = inOrder(readManifest(manifestOf(found)), manifestOf(found))
    for await (const pairs of beside(lines, ordered(treeOf(found), context.signal))) {
      for (const [line, seen] of pairs) {
        if (line && line.type !== 'd') files++
        const path = shownPath((line ?? seen)?.path ?? '')
        if (!seen) yield `missing: ${path}`
        // rsync tells of what it was asked for, and that is never the folder into which all of it goes.
        else if (!line) yield* seen.path === '.' ? [] : [`not in the manifest: ${path}`]
        else for (const fault of differences(found, line, seen)) yield `${path}: ${fault}`
      }
      counted(pairs.length)
    }
  } catch (error) {
    if (!(error instanceof Failure) || error.class !== 'damaged') throw error
    yield error.message
    return
  }
  if (files !== found.counts.files) yield `its manifest has ${files} files, snapshot.json says ${found.counts.files}`
}

/** Failure `damaged` where a line is not behind the one before it. */
async function* inOrder(batches: AsyncGenerator<Line[]>, file: string): AsyncGenerator<Line[]> {
  let last = ''
  for await (const lines of batches) {
    for (const { path } of lines) {
      if (path <= last) throw new Failure('damaged', `cannot read '${file}': it is not sorted at '${shownPath(path)}'`)
      last = path
    }
    yield lines
  }
}

/** Where no root wrote it, owners, modes and what a device is lie in attributes; a device is an empty file, a symbolic link one with its target. */
function* differences({ dir, fake }: Found, line: Line, { at, stat }: Seen): Generator<string> {
  const type = typeOf(stat)
  const asFile = fake === true && 'psbcl'.includes(line.type) && type === 'f'
  if (type !== line.type && !asFile) {
    yield `it is a ${typeNamed(type)}, was a ${typeNamed(line.type)}`
    return
  }
  if (type === 'f' && !asFile && Number(stat.size) !== line.size) yield `its size is ${stat.size}, was ${line.size}`
  if (seconds(stat) !== line.mtime) yield `its time is ${shownTime(seconds(stat))}, was ${shownTime(line.mtime)}`
  if (!fake) {
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
    const other = lstatSync(Buffer.concat([Buffer.from(join(dir, 'tree/')), pathBytes(to)]), { bigint: true, throwIfNoEntry: false })
    if (other?.ino !== stat.ino) yield `it is not the same file as ${shownPath(to)} any more`
  }
}

const octal = (mode: number): string => mode.toString(8).padStart(4, '0')
const shownTime = (seconds: number): string => new Date(seconds * 1000).toISOString().replace('.000Z', 'Z')
