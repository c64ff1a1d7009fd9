// Taking trees away: renamed aside first, which takes milliseconds and leaves no half of a snapshot; removed by rm while the run goes on.
import { type Dirent, existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { Exit } from '../../child.ts'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { toDisk } from '../../inplace.ts'
import { startTool } from './tool.ts'

/** Folders a process: far below any limit of argv. */
const batch = 200

const asideOf = (root: string): string => join(root, 'deleting')

/** Renames a snapshot or an unfinished tree to deleting/NAME below the folder of its target, and tells where that is. */
export async function setAside(root: string, dir: string): Promise<string> {
  mkdirSync(asideOf(root), { recursive: true, mode: 0o700 })
  const name = basename(dir)
  let place = join(asideOf(root), name)
  for (let number = 1; existsSync(place); number++) place = join(asideOf(root), `${name}-${number}`)
  renameSync(dir, place)
  return place
}

/**
 * Removes whatever lies aside, what a killed run left too. The caller holds the store's lock, goes on with its work, and awaits the end.
 * Failure `permission` or `tool`: what is left there is tried again by the next removal.
 */
export async function removeAside(target: Target, root: string, context: RunContext): Promise<void> {
  const aside = asideOf(root)
  const names = namesIn(aside)
  if (names.length === 0) return
  // A power cut must not leave the removal without the renaming.
  const folders = ['snapshots', 'incomplete', 'deleting'].map((name) => join(root, name))
  await Promise.all(folders.filter((folder) => existsSync(folder)).map(toDisk))
  for (let at = 0; at < names.length; at += batch) {
    const paths = names.slice(at, at + batch).map((name) => join(aside, name))
    const first = await removeByTwo(target, paths, context)
    if (first.status === 0) continue
    // A file's mode is that of every snapshot which shares it: only folders are opened for removal.
    await tool(target, ['find', ...paths, '-type', 'd', '!', '-perm', '-700', '-exec', 'chmod', 'u+rwx', '{}', ';'], context)
    const { status, stderr } = await tool(target, ['rm', '-rf', ...paths], context)
    if (status === 0) continue
    const why = stderr.trim().split('\n')[0] ?? `rm ended with status ${status}`
    throw new Failure(/permi(tted|ssion)|read-only/i.test(why) ? 'permission' : 'tool', `cannot remove what lies in '${aside}': ${why}`, {
      hint: 'its snapshots are gone from the list, their space is not free; the next prune tries again',
    })
  }
}

/** What lies in the trees by two processes at a time, then the trees. What the two cannot remove the last tells of. */
const byTwo = 'xargs -0 -P 2 -n "$0" rm -rf -- 2>/dev/null; exec rm -rf -- "$@"'

/** Names a process, so that none has the last of the work alone. */
const share = (names: number): number => Math.min(Math.ceil(names / 6) || 1, 200)

/** Measured with 20,000 files on two cores: two thirds of the time that one rm takes. */
async function removeByTwo(target: Target, paths: readonly string[], context: RunContext): Promise<Exit> {
  const names = parted(paths)
  const command = ['sh', '-c', byTwo, String(share(names.length)), ...paths]
  const child = startTool(target, command, context, { stdin: 'pipe', stdout: 'ignore' })
  child.stdin?.end(Buffer.concat(names.flatMap((path) => [path, end])))
  return child.done
}

const [slash, end] = [Buffer.from('/'), Buffer.alloc(1)]

/** What lies where a tree parts into several folders first; nothing where it does not, or may not be looked into. Several trees are parted already. */
function parted(paths: readonly string[]): Buffer[] {
  if (paths.length > 1) return paths.map((path) => Buffer.from(path))
  for (let at = paths[0] === undefined ? undefined : Buffer.from(paths[0]); at !== undefined; ) {
    const folder: Buffer = Buffer.concat([at, slash])
    const entries = entriesIn(at)
    const folders = entries.filter((entry) => entry.isDirectory())
    if (folders.length > 1) return entries.map(({ name }) => Buffer.concat([folder, name]))
    const [only] = folders
    at = only && Buffer.concat([folder, only.name])
  }
  return []
}

function entriesIn(folder: Buffer): Dirent<Buffer>[] {
  try {
    return readdirSync(folder, { withFileTypes: true, encoding: 'buffer' })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EACCES' && code !== 'ENOENT' && code !== 'ENAMETOOLONG') throw error
    return [] // rm tells of it; it changes folders, and no path is too long for it
  }
}

const tool = (target: Target, command: readonly string[], context: RunContext) =>
  startTool(target, command, context, { stdout: 'ignore' }).done

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
