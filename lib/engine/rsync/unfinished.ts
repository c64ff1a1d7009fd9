// Unfinished trees: taken up by a later snapshot, dropped where nobody can go on from them, and otherwise kept.
import { existsSync, readdirSync } from 'node:fs'
import { rm, statfs } from 'node:fs/promises'
import { basename, join, relative } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { note } from './audit.ts'
import { isTooLong } from './entry.ts'
import { setAside } from './removal.ts'
import { storeOf } from './store.ts'
import { startTool } from './tool.ts'

/** Unfinished trees whose files are in a snapshot now, or of no use: renamed aside; the caller removes what lies there. */
export async function useUp(root: string, target: Target, unfinished: readonly string[], why: string, context: RunContext): Promise<void> {
  for (const dir of unfinished) {
    note(root, { id: basename(dir), action: 'backup', reason: `unfinished, and ${why}`, path: relative(storeOf(target), dir) }, context)
    await setAside(root, dir)
  }
}

/** What a further run needs to begin: for its folders, and its lists. */
const room = { bytes: 1 << 20, inodes: 64 }

/**
 * Removes the tree of a run that has filled the store, where nothing could begin beside it. Returns whether it did. The note comes after
 * the removal: before, there may be no room for it.
 */
export async function makeRoom(root: string, target: Target, dir: string, context: RunContext): Promise<boolean> {
  const { bavail, bsize, files, ffree } = await statfs(dir)
  if (bavail * bsize >= room.bytes && (files === 0 || ffree >= room.inodes)) return false
  await startTool(target, ['rm', '-rf', dir], context, { stdout: 'ignore' }).done
  const reason = 'unfinished, and it filled the store: no run could have begun beside it'
  note(root, { id: `incomplete/${basename(dir)}`, action: 'backup', reason, path: relative(storeOf(target), dir) }, context)
  return true
}

const slash = Buffer.from('/')

/** An unfinished tree in which nothing is: the next run could make no use of it. */
export async function dropEmpty(dir: string): Promise<void> {
  if (existsSync(dir) && !holdsFile(Buffer.from(join(dir, 'tree')))) await rm(dir, { recursive: true, force: true })
}

/** A folder whose path is too long to be looked into counts as holding one: nothing may be lost. */
function holdsFile(folder: Buffer): boolean {
  if (isTooLong(folder)) return true
  for (const entry of readdirSync(folder, { withFileTypes: true, encoding: 'buffer' }))
    if (!entry.isDirectory() || holdsFile(Buffer.concat([folder, slash, entry.name]))) return true
  return false
}
