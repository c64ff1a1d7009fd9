// What changed since a snapshot, by restic's own judgement: a backup that writes nothing, with the snapshot as its parent. What is
// gone restic does not say: the snapshot's entries are looked up, those in folders that restic found changed.
import { lstat } from 'node:fs/promises'
import { batches } from '../../child.ts'
import { checkLive } from '../../comparison.ts'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import type { Change, Snapshot } from '../../rows.ts'
import { presentPaths } from '../../source/paths.ts'
import { pathsArgs } from './backup.ts'
import { failureOf } from './errors.ts'
import { jsonLine, repository, resticLines, startRestic, version } from './tool.ts'
import type { Version } from './version.ts'

/** The target's own backup, dry. One -v makes restic name each file, unchanged ones too. 0.14 locks the repository meanwhile. */
export function liveArgs(target: Target, paths: readonly string[], parent: string | undefined, restic: Version): string[] {
  const [verb = '', ...rest] = pathsArgs(target, {}, paths, true, restic)
  return [verb, '-v', '--no-lock', ...(parent === undefined ? [] : ['--parent', parent]), ...rest]
}

/** Kept by path: a folder's ends in a slash. */
export type Changed = { change: Change['change']; before?: number; after?: number }
/** `stored`: bytes of data that the store does not have before the newer state. */
export type Changes = { rows: Map<string, Changed>; stored: number }

type Message = {
  message_type?: string
  action?: string
  item?: string
  data_size?: number
  data_added?: number
  error?: { message?: string }
}
type Seen = {
  /** The file's path, or the folder's with a slash, and whether restic read new data in it. */
  changes: Map<string, { fresh: boolean; read: boolean }>
  /** Folders with another content than in the snapshot. */
  folders: Set<string>
  stored: number
  unreadable: Map<string, string>
}

export async function liveChanges(target: Target, old: Snapshot, context: RunContext): Promise<Changes> {
  checkLive(old)
  const { present, missing } = await presentPaths(target.paths)
  const seen: Seen = { changes: new Map(), folders: new Set(), stored: 0, unreadable: new Map() }
  if (present.length > 0) await dryBackup(target, old, present, seen, context)
  for (const [path, cause] of seen.unreadable) context.warn(`cannot read '${path}'${cause ? `: ${cause}` : ''}`, 'partial')
  const rows = new Map<string, Changed>()
  const files: { path: string; read: boolean }[] = []
  for (const [path, { fresh, read }] of seen.changes) {
    // A folder is changed where its entries are, which is said of them.
    if (fresh) rows.set(path, { change: '+' })
    if (!path.endsWith('/')) files.push({ path, read })
  }
  await compareEntries(target, old, { rows, seen, missing }, context)
  for (const { path, read } of files) {
    const row = rows.get(path) ?? { change: 'M' }
    const after = (await look(path))?.size
    if (after !== undefined) row.after = after
    // Read, and nothing in it was new: touched, or content that the store has from elsewhere.
    if (row.change === 'M' && !read && row.before === row.after) row.change = 'U'
    rows.set(path, row)
  }
  return { rows: new Map([...rows].sort(([a], [b]) => (a < b ? -1 : 1))), stored: seen.stored }
}

async function dryBackup(target: Target, old: Snapshot, paths: readonly string[], seen: Seen, context: RunContext): Promise<void> {
  const read = (line: string) => note(seen, line, context)
  const child = startRestic(target, liveArgs(target, paths, old.id, await version(target)), context, { action: '', onStderr: read })
  try {
    if (child.stdout) for await (const lines of batches(child.stdout)) for (const line of lines) read(line)
    const exit = await child.done
    if (exit.status !== 0 && exit.status !== 3) throw failureOf(`compare '${target.name}' with '${repository(target)}'`, exit)
  } finally {
    child.end()
    await child.done.catch(() => undefined) // judged above
  }
}

function note(seen: Seen, line: string, context: RunContext): void {
  const message = jsonLine<Message>(line)
  const item = message?.item ?? ''
  if (message?.message_type === 'summary') seen.stored = message.data_added ?? 0
  // A folder is reported twice, by the scan and by the archiver.
  else if (message?.message_type === 'error') seen.unreadable.set(item, message.error?.message ?? seen.unreadable.get(item) ?? '')
  else if (message?.message_type === 'verbose_status') {
    const fresh = message.action === 'new'
    if (!fresh && message.action !== 'modified') return
    const folder = item.endsWith('/')
    if (folder) seen.folders.add(item.slice(0, -1) || '/')
    if (fresh || !folder) seen.changes.set(item, { fresh, read: (message.data_size ?? 0) > 0 })
  } else if (!message && line.trim()) context.detail(`restic: ${line.trim()}`)
}

type Node = { path?: string; type?: string; size?: number; mtime?: string }
type Found = { rows: Map<string, Changed>; seen: Seen; missing: readonly string[] }

/** Goes through the snapshot: sizes before, what is gone, what is of another type now, and links that restic does not report. */
async function compareEntries(target: Target, old: Snapshot, { rows, seen, missing }: Found, context: RunContext): Promise<void> {
  const lost = new Set(missing)
  const inSource = (path: string) =>
    target.paths.some((each) => path === each || each === '/' || path.startsWith(`${each}/`) || each.startsWith(`${path}/`))
  const action = `list the files of snapshot '${old.id.slice(0, 8)}'`
  for await (const lines of resticLines(target, ['ls', '--json', '--no-lock', old.id], context, { action })) {
    for (const line of lines) {
      const node = jsonLine<Node>(line)
      if (node?.path === undefined || node.type === undefined) continue
      const { path, type } = node
      const parent = path.slice(0, path.lastIndexOf('/')) || '/'
      const before = type === 'file' ? { before: node.size ?? 0 } : {}
      if (lost.has(parent) || lost.has(path) || !inSource(path)) {
        if (type === 'dir') lost.add(path)
        rows.set(type === 'dir' ? `${path}/` : path, { change: '-', ...before })
        continue
      }
      const modified = seen.changes.get(path)
      if (!modified && !seen.folders.has(parent)) continue
      const now = await look(path)
      if (!now) {
        if (type === 'dir') lost.add(path)
        rows.set(type === 'dir' ? `${path}/` : path, { change: '-', ...before })
      } else if (now.type !== type) {
        if (type === 'dir') lost.add(path)
        rows.delete(`${path}/`)
        rows.set(path, { change: 'T', ...before })
      } else if (modified) rows.set(path, { change: 'M', ...before })
      else if (type !== 'file' && type !== 'dir' && Date.parse(node.mtime ?? '') !== now.mtime) rows.set(path, { change: 'U' })
    }
  }
}

async function look(path: string): Promise<{ type: string; size: number; mtime: number } | undefined> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    throw new Failure('permission', `cannot look at '${path}': ${error.message}`, { cause: error })
  })
  if (!found) return undefined
  const type = found.isFile()
    ? 'file'
    : found.isDirectory()
      ? 'dir'
      : found.isSymbolicLink()
        ? 'symlink'
        : found.isFIFO()
          ? 'fifo'
          : found.isSocket()
            ? 'socket'
            : found.isCharacterDevice()
              ? 'chardev'
              : 'dev'
  return { type, size: found.size, mtime: Math.trunc(found.mtimeMs) }
}
