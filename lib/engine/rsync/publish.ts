// From an unfinished snapshot to a published one: made durable first, then one rename. What stands below snapshots/ is complete.
import { existsSync } from 'node:fs'
import { mkdir, readdir, readlink, rename, rm, rmdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { toDisk } from '../../inplace.ts'
import { pick } from '../../snapshots.ts'
import { namePartial } from './parts.ts'
import { type Found, idOf, idsIn, newestFirst, readStored, type Stored, toSnapshot } from './snapshots.ts'
import { startTool } from './tool.ts'

/**
 * A new folder incomplete/ID with an empty tree/, below the folder of a target; the caller holds the store's lock. `parts`: rsync will write
 * into it, and keep what is cut off.
 */
export async function begin(root: string, time: Date, { parts = true } = {}): Promise<{ id: string; dir: string }> {
  for (const folder of [root, join(root, 'snapshots'), join(root, 'incomplete')]) await mkdir(folder, { recursive: true, mode: 0o700 })
  await sweep(join(root, 'incomplete'))
  for (let number = 0; ; number++) {
    const id = idOf(time, number)
    const dir = join(root, 'incomplete', id)
    if (['snapshots', 'deleting'].some((kind) => existsSync(join(root, kind, id)))) continue
    try {
      await mkdir(dir, { mode: 0o700 })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      continue
    }
    try {
      await mkdir(join(dir, 'tree'), { mode: 0o755 })
      if (parts) await namePartial(dir)
    } catch (error) {
      await rm(dir, { recursive: true, force: true }) // on a full disk: sweep takes only what is empty
      throw error
    }
    return { id, dir }
  }
}

/** Takes away the folders in which nothing is: a run that was killed had only just made them. */
async function sweep(incomplete: string): Promise<void> {
  for (const name of await readdir(incomplete)) {
    try {
      await rmdir(join(incomplete, name))
    } catch (error) {
      if (!['ENOTEMPTY', 'EEXIST', 'ENOTDIR', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    }
  }
}

/** incomplete/ID with its tree/ and manifest becomes snapshots/ID. Nothing can be seen there before all of it lies on the disk. */
export async function publish(target: Target, root: string, dir: string, stored: Stored, context: RunContext): Promise<Found> {
  await writeFile(join(dir, 'snapshot.json'), `${JSON.stringify(stored, null, 2)}\n`, { mode: 0o600 })
  await flush(target, dir, context)
  for (const path of [join(dir, 'snapshot.json'), join(dir, 'manifest'), dir]) await toDisk(path)
  context.signal.throwIfAborted()
  const place = join(root, 'snapshots', stored.id)
  await rename(dir, place)
  for (const path of [dirname(place), dirname(dir)]) await toDisk(path)
  await renewLatest(root, context)
  return { ...stored, dir: place, held: false }
}

/** All of the file system that the folder lies on. OpenBSD's sync takes no option, and flushes everything. */
async function flush(target: Target, dir: string, context: RunContext): Promise<void> {
  const first = await startTool(target, ['sync', '-f', dir], context, { stdout: 'ignore' }).done
  if (first.status === 0) return
  const unknown = /option|usage/i.test(first.stderr)
  const second = unknown ? await startTool(target, ['sync'], context, { stdout: 'ignore' }).done : first
  if (second.status !== 0) throw new Failure('tool', `cannot write '${dir}' to the disk: ${second.stderr.trim()}`)
}

/** The link `latest` names the snapshot that `latest` means to the commands; none where there is no snapshot. After a removal too. */
export async function renewLatest(root: string, context: Pick<RunContext, 'warn'>): Promise<void> {
  const link = join(root, 'latest')
  const id = newestIn(root, context)
  if (id === undefined) return rm(link, { force: true })
  const to = join('snapshots', id)
  if ((await target(link)) === to) return
  const beside = `${link}.new`
  await rm(beside, { force: true })
  await symlink(to, beside)
  await rename(beside, link)
  await toDisk(root)
}

async function target(link: string): Promise<string | undefined> {
  try {
    return await readlink(link)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'EINVAL') return undefined
    throw error
  }
}

/** The id that `latest` means among the snapshots of a target's folder; undefined where there is none. */
export function newestIn(root: string, context: Pick<RunContext, 'warn'>): string | undefined {
  const rows = idsIn(root).flatMap((id) => {
    try {
      const stored = readStored(join(root, 'snapshots', id))
      return stored ? toSnapshot('', stored) : []
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      context.warn(error.message, 'damaged')
      return []
    }
  })
  rows.sort(newestFirst)
  return rows.length === 0 ? undefined : pick(rows, { name: '', engine: 'rsync' }, 'latest').id
}
