// Unfinished trees: taken up by a later snapshot, dropped where nobody can go on from them, and otherwise kept.
import { existsSync, readdirSync } from 'node:fs'
import { rm, statfs } from 'node:fs/promises'
import { basename, join, relative } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { note } from './audit.ts'
import { setAside } from './removal.ts'
import { storeOf } from './store.ts'

/** Unfinished trees whose files are in a snapshot now: renamed aside; the caller removes what lies there. */
export async function useUp(root: string, target: Target, unfinished: readonly string[], id: string, context: RunContext): Promise<void> {
  for (const dir of unfinished) {
    note(
      root,
      { id: basename(dir), action: 'forget', reason: `unfinished, and taken up by ${id}`, path: relative(storeOf(target), dir) },
      context,
    )
    await setAside(root, dir)
  }
}

/** Whether a further run has room for its folders; where this one has taken all of it, nobody could go on from its tree. */
export async function leavesRoom(dir: string): Promise<boolean> {
  const { bavail, files, ffree } = await statfs(dir)
  const folders = foldersIn(Buffer.from(join(dir, 'tree'))) + 16
  return bavail > 2 * folders && (files === 0 || ffree > folders)
}

/** Itself too. */
function foldersIn(folder: Buffer): number {
  const entries = readdirSync(folder, { withFileTypes: true, encoding: 'buffer' })
  const inside = entries.filter((entry) => entry.isDirectory())
  return inside.reduce((sum, entry) => sum + foldersIn(Buffer.concat([folder, slash, entry.name])), 1)
}

const slash = Buffer.from('/')

/** An unfinished tree in which nothing is: the next run could make no use of it. */
export async function dropEmpty(dir: string): Promise<void> {
  if (existsSync(dir) && !holdsFile(Buffer.from(join(dir, 'tree')))) await rm(dir, { recursive: true, force: true })
}

function holdsFile(folder: Buffer): boolean {
  for (const entry of readdirSync(folder, { withFileTypes: true, encoding: 'buffer' }))
    if (!entry.isDirectory() || holdsFile(Buffer.concat([folder, slash, entry.name]))) return true
  return false
}
