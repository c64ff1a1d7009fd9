// A store of the rsync engine made by hand: bare rsync, and a manifest of what lies there then.
import { execFileSync } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import * as fs from 'node:fs'
import path from 'node:path'
import { isTooLong, seconds } from '../lib/engine/rsync/entry.ts'
import { escapePath, formatLine, header, type Line, type Type } from '../lib/engine/rsync/manifest.ts'
import type { Stored } from '../lib/engine/rsync/snapshots.ts'
import type { Change, Row } from '../lib/rows.ts'

/** The file that marks a store. */
export function markStore(store: string): void {
  fs.mkdirSync(store, { recursive: true, mode: 0o700 })
  const file = path.join(store, 'kedge-store.json')
  if (!fs.existsSync(file)) fs.writeFileSync(file, JSON.stringify({ id: randomUUID(), created: new Date().toISOString() }))
}

/** Snapshot ID (`2026-11-20T021500Z`) of these paths below STORE/OWNER, linked to `base`. Returns its folder. */
export function snapshotByHand(root: string, id: string, paths: readonly string[], more: Partial<Stored> = {}, base?: string): string {
  markStore(path.dirname(root))
  const dir = path.join(root, 'snapshots', id)
  const tree = path.join(dir, 'tree')
  fs.mkdirSync(tree, { recursive: true })
  const link = base === undefined ? [] : [`--link-dest=${path.join(root, 'snapshots', base, 'tree')}`]
  execFileSync('rsync', ['-aHAXSR', '--modify-window=-1', ...link, '--', ...paths, `${tree}/`])
  const lines = linesOf(tree, base === undefined ? undefined : path.join(root, 'snapshots', base, 'tree'))
  writeManifest(dir, lines.map(formatLine))
  const files = lines.filter(({ type }) => type === 'f')
  const fresh = files.filter(({ how }) => how === '>')
  const sum = (some: readonly Line[]) => some.reduce((total, { size }) => total + size, 0)
  const owner = path.basename(root)
  const stored: Stored = {
    format: 1,
    id,
    target: owner,
    time: `${id.slice(0, 13)}:${id.slice(13, 15)}:${id.slice(15, 17)}.000Z`,
    host: 'host',
    paths,
    tags: [`kedge:${owner}`],
    base: base ?? null,
    bases: base === undefined ? [] : [base],
    counts: {
      files: lines.filter(({ type }) => type !== 'd').length,
      folders: lines.filter(({ type }) => type === 'd').length,
      bytes: sum(files),
      transferred: fresh.length,
      added: sum(fresh),
      linked: files.length - fresh.length,
      new: fresh.length,
      changed: 0,
      unreadable: 0,
      vanished: 0,
    },
    excluded: { patterns: [], caches: true, oneFileSystem: true, own: [] },
    consistency: 'live',
    tools: { kedge: '0.2.0' },
    seconds: 1,
    ...more,
  }
  fs.writeFileSync(path.join(dir, 'snapshot.json'), `${JSON.stringify(stored, null, 2)}\n`)
  return dir
}

/** Lines of text as they come, sorted as `LC_ALL=C sort` does. */
export function writeManifest(dir: string, lines: readonly string[]): void {
  const sorted = [...lines].sort((a, b) => (a < b ? -1 : 1))
  fs.writeFileSync(path.join(dir, 'manifest'), Buffer.from([header, ...sorted, ''].join('\n'), 'latin1'))
}

function linesOf(tree: string, base: string | undefined): Line[] {
  const lines: Line[] = []
  const visit = (at: Buffer) => {
    const full = at.length === 0 ? Buffer.from(tree) : Buffer.concat([Buffer.from(`${tree}/`), at])
    const found = fs.lstatSync(full)
    const type: Type = found.isFile()
      ? 'f'
      : found.isDirectory()
        ? 'd'
        : found.isSymbolicLink()
          ? 'l'
          : found.isFIFO()
            ? 'p'
            : found.isSocket()
              ? 's'
              : found.isBlockDevice()
                ? 'b'
                : 'c'
    const inBase = base === undefined ? undefined : fs.lstatSync(Buffer.concat([Buffer.from(`${base}/`), at]), { throwIfNoEntry: false })
    lines.push({
      path: at.length === 0 ? '.' : escapePath(at),
      type,
      mode: found.mode & 0o7777,
      uid: found.uid,
      gid: found.gid,
      size: found.size,
      mtime: seconds(fs.lstatSync(full, { bigint: true })),
      how: inBase && (type === 'd' || inBase.ino === found.ino) ? '=' : '>',
      hash: type === 'f' ? createHash('md5').update(fs.readFileSync(full)).digest('hex') : '',
      link: type === 'l' ? `-> ${escapePath(fs.readlinkSync(full, { encoding: 'buffer' }))}` : '',
    })
    if (type !== 'd') return
    for (const name of fs.readdirSync(full, { encoding: 'buffer' }))
      if (!isTooLong(Buffer.concat([full, Buffer.from('/'), name])))
        visit(at.length === 0 ? name : Buffer.concat([at, Buffer.from('/'), name]))
  }
  visit(Buffer.alloc(0))
  return lines
}

/** The change rows below a folder in short: [change, path, before, after]. */
export function changesIn(source: string, rows: readonly Row[]): unknown[][] {
  const found = rows.filter((row): row is Change => row.kind === 'change' && row.path.startsWith(`${source}/`) && row.path !== `${source}/`)
  return found.map(({ change, path, before, after }) => [change, path.slice(source.length + 1), before, after])
}
