// Snapshots of an rsync store, made without kedge's backup: by hand, as its layout is described, hard links included.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { escapePath, formatLine, header } from '../lib/engine/rsync/manifest.ts'
import type { Stored } from '../lib/engine/rsync/snapshots.ts'
import type { NewRsyncTarget } from './harness.ts'

export const storeId = 'a'.repeat(64)

/** kedge-store.json and the target's folder; the target has to be pinned to `storeId`. */
export function makeStore({ root, store }: NewRsyncTarget): void {
  fs.mkdirSync(path.join(root, 'snapshots'), { recursive: true })
  const file = path.join(store, 'kedge-store.json')
  if (!fs.existsSync(file)) fs.writeFileSync(file, JSON.stringify({ id: storeId, created: '2026-01-01T00:00:00.000Z' }))
}

/**
 * A snapshot of a folder, linked to another one of the same target where `base` names it; `latest` is made to name it. `time` as in
 * '2026-01-01T020000Z', which is its id.
 */
export function makeSnapshot(target: NewRsyncTarget, source: string, id: string, more: Partial<Stored> = {}): string {
  const dir = path.join(target.root, 'snapshots', id)
  const tree = path.join(dir, 'tree')
  fs.mkdirSync(tree, { recursive: true })
  const base = more.base ?? null
  const link = base === null ? [] : [`--link-dest=${path.join(target.root, 'snapshots', base, 'tree')}`]
  execFileSync('rsync', ['-aHS', '--numeric-ids', ...link, `${source}/`, `${tree}/`])
  const counts = writeManifest(tree, path.join(dir, 'manifest'))
  const stored: Stored = {
    format: 1,
    id,
    target: target.name,
    time: id.replace(/^(.{13})(..)(..)(?:\.\d+)?Z$/, '$1:$2:$3.000Z'),
    host: 'host',
    paths: [source],
    tags: [`kedge:${target.name}`],
    base,
    bases: base === null ? [] : [base],
    counts: { ...counts, transferred: 0, added: 0, linked: 0, new: 0, changed: 0, unreadable: 0, vanished: 0 },
    consistency: 'live',
    tools: { kedge: '0' },
    seconds: 1,
    ...more,
  }
  fs.writeFileSync(path.join(dir, 'snapshot.json'), JSON.stringify(stored))
  const latest = path.join(target.root, 'latest')
  if (!stored.tags.includes('kedge:names') && !stored.stream) {
    fs.rmSync(latest, { force: true })
    fs.symlinkSync(`snapshots/${id}`, latest)
  }
  return dir
}

/** Rewrites a manifest from the tree as it is. Gives the counts. */
export function writeManifest(tree: string, file: string): { files: number; folders: number; bytes: number } {
  const [lines, leaders, counts]: [string[], Map<bigint, string>, { files: number; folders: number; bytes: number }] = [
    [],
    new Map(),
    { files: 0, folders: 0, bytes: 0 },
  ]
  const add = (name: string) => {
    const at = path.join(tree, name)
    const stat = fs.lstatSync(at, { bigint: true })
    const type = stat.isDirectory() ? 'd' : stat.isSymbolicLink() ? 'l' : stat.isFIFO() ? 'p' : 'f'
    const leader = type === 'f' && stat.nlink > 1n ? leaders.get(stat.ino) : undefined
    if (type === 'f' && leader === undefined) leaders.set(stat.ino, name)
    counts[type === 'd' ? 'folders' : 'files']++
    counts.bytes += type === 'f' ? Number(stat.size) : 0
    lines.push(
      formatLine({
        path: escapePath(Buffer.from(name)),
        type,
        mode: Number(stat.mode & 0o7777n),
        uid: Number(stat.uid),
        gid: Number(stat.gid),
        size: Number(stat.size),
        mtime: Math.floor(Number(stat.mtimeMs) / 1000),
        how: '>',
        hash: type === 'f' ? createHash('md5').update(fs.readFileSync(at)).digest('hex') : '',
        link:
          type === 'l'
            ? `-> ${escapePath(fs.readlinkSync(at, 'buffer'))}`
            : leader === undefined
              ? ''
              : `=> ${escapePath(Buffer.from(leader))}`,
      }),
    )
    if (type === 'd') for (const each of fs.readdirSync(at).sort()) add(name === '.' ? each : `${name}/${each}`)
  }
  add('.')
  lines.sort()
  fs.writeFileSync(file, [header, ...lines, ''].join('\n'), 'latin1')
  return counts
}
