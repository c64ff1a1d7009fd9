// The manifest of an installation, PREFIX/lib/kedge/manifest: what setup wrote below PREFIX, one line each:
//   f SHA256 PATH    a file
//   l TARGET PATH    a link
//   d - PATH         a folder that was not there before
// What the operator changed since no longer matches its line, and is left alone.
import { createHash } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'

const place = (prefix) => join(prefix, 'lib/kedge/manifest')
export const lib = 'lib/kedge'

export function read(prefix) {
  let text
  try {
    text = readFileSync(place(prefix), 'utf8')
  } catch (error) {
    if (error.code === 'ENOENT') return []
    throw error
  }
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [, kind, mark, path] = /^([fld]) (\S+) (\S+)$/.exec(line) ?? []
      if (!path || path.split('/').includes('..') || path.startsWith('/')) throw new Error(`${place(prefix)} is damaged: '${line}'`)
      return { kind, mark, path }
    })
}

/** In one step: whoever reads it finds the old lines or the new ones. */
export function write(prefix, entries) {
  const lines = new Set(entries.map(({ kind, mark, path }) => `${kind} ${mark} ${path}\n`))
  writeFileSync(`${place(prefix)}.new`, [...lines].sort().join(''), { mode: 0o644 })
  chmodSync(`${place(prefix)}.new`, 0o644) // whatever the umask
  renameSync(`${place(prefix)}.new`, place(prefix))
}

/** SHA-256 in hex, in pieces: node itself can be among the files. */
export function sha256(file) {
  const hash = createHash('sha256')
  const buffer = Buffer.allocUnsafe(1 << 20)
  const fd = openSync(file, 'r')
  try {
    for (let size = readSync(fd, buffer); size > 0; size = readSync(fd, buffer)) hash.update(buffer.subarray(0, size))
  } finally {
    closeSync(fd)
  }
  return hash.digest('hex')
}

/** What lies there, as a line of the manifest has it; undefined for nothing. */
export function look(path) {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (!stat) return undefined
  if (stat.isSymbolicLink()) return { kind: 'l', mark: readlinkSync(path) }
  return stat.isFile() ? { kind: 'f', mark: sha256(path) } : { kind: stat.isDirectory() ? 'd' : '?', mark: '-' }
}

/** The files and links below a folder, by their paths from there. */
export function walk(folder, below = '') {
  return readdirSync(join(folder, below), { withFileTypes: true }).flatMap((entry) => {
    const path = join(below, entry.name)
    return entry.isDirectory() ? walk(folder, path) : [{ path, ...look(join(folder, path)) }]
  })
}

export const alike = (a, b) => a !== undefined && b !== undefined && a.kind === b.kind && a.mark === b.mark

/** Whether what lies at the path is as setup wrote it. */
export const isOurs = (entries, path, there) => entries.some((entry) => entry.path === path && alike(entry, there))
