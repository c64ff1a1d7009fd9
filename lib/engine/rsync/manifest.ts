// The manifest of a snapshot: a line an entry, sorted by the bytes of its path.
//
// Columns, parted by tabs: path, type (f d l p s b c), mode (octal), uid, gid, size, mtime (seconds since 1970), how it came ('=' linked to
// the base or a folder that was there, '>' written by this run), md5 of the content ('-': not known), link ('-' none, '-> TARGET' of a
// symbolic one, '=> PATH' another name of the same file in this tree). Paths are relative to tree/, without a slash at the end; the tree
// itself is '.'. Control characters, tabs too, are written as rsync writes them, '\#011'; other bytes stay. A tab is less than every byte
// of a path, so the order is that of `LC_ALL=C sort`. Text is held as latin1: a character a byte.
import { open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Failure } from '../../failure.ts'
import { timeText } from '../../format.ts'
import type { Entry } from '../../rows.ts'
import { quote } from '../../shell.ts'
import { type Noted, openNoted } from './noted.ts'

export type Type = 'f' | 'd' | 'l' | 'p' | 's' | 'b' | 'c'
export type Line = {
  /** Escaped; latin1. */
  path: string
  type: Type
  mode: number
  uid: number
  gid: number
  size: number
  mtime: number
  how: '=' | '>'
  /** Hex; empty: not known. */
  hash: string
  /** '-> TARGET', '=> PATH' (escaped), or empty. */
  link: string
  /** The manifest has no hash: a check wrote it down. */
  noted?: true
  /** Of a transfer, and in no manifest: owner, mode, ACL or xattrs are others than the base's. */
  touched?: true
  /** Of a transfer too: of the base's content, and no link to it. */
  copied?: true
  /** Of a transfer too: a link to a file that an unfinished tree brought. */
  taken?: true
}

/** The first name of a file that has several, where the line is of another one. */
export const leaderOf = ({ link }: Pick<Line, 'link'>): string | undefined =>
  link.startsWith('=> ') ? link.slice('=> '.length) : undefined

/** Whether one of the paths is above the path. */
export function isBelow(above: ReadonlySet<string>, path: string): boolean {
  if (above.size === 0) return false
  for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) if (above.has(path.slice(0, at))) return true
  return false
}

/** Whether it is one of the paths, or lies below one. */
export const isIn = (paths: ReadonlySet<string>, path: string): boolean => paths.has(path) || isBelow(paths, path)

export const header = '# kedge manifest 1: path type mode uid gid size mtime how md5 link'

export const formatLine = ({ path, type, mode, uid, gid, size, mtime, how, hash, link }: Line): string =>
  `${path}\t${type}\t${mode.toString(8).padStart(4, '0')}\t${uid}\t${gid}\t${size}\t${mtime}\t${how}\t${hash || '-'}\t${link || '-'}`

export function parseLine(text: string, file: string): Line {
  const cells = text.split('\t')
  const [path = '', type = '', mode = '', uid, gid, size, mtime, how, hash, link] = cells
  if (cells.length !== 10 || !/^[fdlpsbc]$/.test(type)) throw unreadable(file, `not a line of a manifest: '${text.slice(0, 80)}'`)
  return {
    path,
    type: type as Type,
    mode: Number.parseInt(mode, 8),
    uid: Number(uid),
    gid: Number(gid),
    size: Number(size),
    mtime: Number(mtime),
    how: how === '=' ? '=' : '>',
    hash: hash === '-' ? '' : (hash ?? ''),
    link: link === '-' ? '' : (link ?? ''),
  }
}

/** The files need no manifest: how they come back without it. */
const unreadable = (file: string, why: string): Failure =>
  new Failure('damaged', `cannot read '${file}': ${why}`, {
    hint: `unless it was pruned meanwhile, its files are there: rsync -aHAXS --numeric-ids ${quote(join(dirname(file), 'tree/'))} NEW-FOLDER/`,
  })

// One buffer for all of it, and small batches: with larger ones V8 makes its heap larger.
const chunkSize = 16_384

/**
 * The lines of a manifest in batches, with flat memory, and with the hashes that a check wrote down beside it; `wanted` sees the text of a
 * line, before it costs more.
 */
export async function* readManifest(file: string, wanted?: (text: string) => boolean): AsyncGenerator<Line[]> {
  const handle = await open(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
    throw unreadable(file, 'it is gone')
  })
  let noted: Noted | undefined
  try {
    noted = await openNoted(file)
    const buffer = Buffer.allocUnsafe(chunkSize)
    let rest = ''
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, chunkSize)
      if (bytesRead === 0) break
      const lines = (rest + buffer.toString('latin1', 0, bytesRead)).split('\n')
      rest = lines.pop() ?? ''
      const filled = noted ? await noted.fill(lines) : lines
      yield filled.flatMap((text, i) => (text === header || (wanted && !wanted(text)) ? [] : lineOf(text, text !== lines[i], file)))
    }
    if (rest !== '') throw unreadable(file, 'its last line is cut off')
    await noted?.rest()
  } finally {
    await noted?.end()
    await handle.close()
  }
}

function lineOf(text: string, noted: boolean, file: string): Line {
  const line = parseLine(text, file)
  if (noted) line.noted = true
  return line
}

/** The path of a line as the bytes that the file system has. */
export const pathBytes = (escaped: string): Buffer =>
  Buffer.from(
    escaped.replace(/\\#([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
    'latin1',
  )

/** A path as a line has it, from the bytes of a path relative to tree/. */
export const escapePath = (path: Buffer): string =>
  path
    .toString('latin1')
    .replace(/\\(?=#[0-7]{3})/g, '\\#134')
    .replace(/[\x00-\x1f]/g, (char) => `\\#${char.charCodeAt(0).toString(8).padStart(3, '0')}`)

/** '/etc/passwd', as the operator knows it: bytes that are not UTF-8 become U+FFFD. */
export function shownPath(escaped: string): string {
  if (escaped === '.') return '/'
  // Most are: a third of the time that it takes otherwise.
  return /^[ -[\]-~]*$/.test(escaped) ? `/${escaped}` : `/${pathBytes(escaped).toString('utf8')}`
}

const types: Readonly<Record<Type, Entry['type']>> = {
  f: 'file',
  d: 'dir',
  l: 'symlink',
  p: 'fifo',
  s: 'socket',
  b: 'dev',
  c: 'chardev',
}

export const typeOf = (type: Type): Entry['type'] => types[type]

const modes = new Map<number, string>()

/** st_mode's permission bits as rows have them. */
function modeText(mode: number): string {
  let text = modes.get(mode)
  if (text === undefined) {
    text = mode.toString(8).padStart(4, '0')
    modes.set(mode, text)
  }
  return text
}

export const toEntry = (line: Line): Entry => ({
  kind: 'entry',
  path: shownPath(line.path),
  type: types[line.type],
  size: line.size,
  mode: modeText(line.mode),
  uid: line.uid,
  gid: line.gid,
  mtime: timeText(line.mtime),
})

type Side<T> = { line: T | undefined; next: () => Promise<void>; end: () => Promise<unknown> }

async function side<T>(lines: AsyncGenerator<T[]>): Promise<Side<T>> {
  let batch: T[] = []
  let at = 0
  const self: Side<T> = {
    line: undefined,
    async next() {
      at++
      while (at >= batch.length) {
        const { done, value } = await lines.next()
        if (done) {
          self.line = undefined
          return
        }
        batch = value
        at = 0
      }
      self.line = batch[at]
    },
    end: () => lines.return(undefined),
  }
  at = -1
  await self.next()
  return self
}

/** Two manifests side by side, in the order of their paths: [old, newer] where both have the path, else one of them. In batches. */
export async function* beside<A extends { path: string }, B extends { path: string }>(
  old: AsyncGenerator<A[]>,
  newer: AsyncGenerator<B[]>,
): AsyncGenerator<(readonly [A | undefined, B | undefined])[]> {
  const [a, b] = [await side(old), await side(newer)]
  let pairs: (readonly [A | undefined, B | undefined])[] = []
  try {
    while (a.line || b.line) {
      const order = !a.line ? 1 : !b.line ? -1 : a.line.path < b.line.path ? -1 : a.line.path > b.line.path ? 1 : 0
      pairs.push([order <= 0 ? a.line : undefined, order >= 0 ? b.line : undefined])
      if (order <= 0) await a.next()
      if (order >= 0) await b.next()
      if (pairs.length < 512) continue
      yield pairs
      pairs = []
    }
    if (pairs.length > 0) yield pairs
  } finally {
    for (const each of [a, b]) await each.end() // one of them is open where the other could not be read, or nobody wants the rest
  }
}
