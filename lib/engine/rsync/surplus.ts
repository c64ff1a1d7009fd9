// restore --in-place --delete: what lies in the restored paths and not in the snapshot, found by reading both folders side by side.
import { type BigIntStats, readdirSync } from 'node:fs'
import { rmdir, unlink } from 'node:fs/promises'
import { isCache } from '../../cachedir.ts'
import type { RunContext, Target } from '../../contract.ts'
import { guardUnknown, keptBack, leftOut, mounted, onMount } from '../../leftout.ts'
import { selection } from '../../pattern.ts'
import { held, type Job } from '../../restoring.ts'
import type { CommandLine } from '../../rows.ts'
import { comment, quote, quoteBytes } from '../../shell.ts'
import { isTooLong, statAt } from './entry.ts'
import { type Found, treeOf } from './snapshots.ts'
import { storeOf } from './store.ts'
import { rsyncEnv } from './tool.ts'

/** An entry to be deleted: its path as it is, and as it is shown. */
export type Doomed = { readonly path: Buffer; readonly shown: string; readonly folder: boolean }

const slash = Buffer.from('/')
const under = (folder: Buffer, name: Buffer): Buffer => Buffer.concat(folder.equals(slash) ? [slash, name] : [folder, slash, name])

/**
 * `left`: caches, which backups leave out, so that all that lies in them would look like surplus; `long`: paths that the system does not take,
 * here or in the store, so that nothing is known of them.
 */
export type Surplus = { readonly doomed: readonly Doomed[]; readonly left: readonly string[]; readonly long: readonly string[] }

/**
 * What is not in the snapshot of a job, and is not left out by today's settings or by those of the snapshot. A folder comes behind what is in
 * it. Failure 'refused' when something must not go.
 */
export async function surplus(target: Target, job: Job & { readonly found: Found }, context: RunContext): Promise<Surplus> {
  const { found, how } = job
  const { excluded, paths: saved } = found
  const reasonOf = await leftOut(target, storeOf(target), rsyncEnv(target), excluded)
  const selects = selection(how.include, how.exclude)
  const stay = target.env.ONE_FILE_SYSTEM !== 'no' || excluded?.oneFileSystem !== false
  const caches = target.env.EXCLUDE_CACHES !== 'no' || excluded?.caches !== false
  const doomed: Doomed[] = []
  const left: string[] = []
  const long: string[] = []

  /** Whether all of it goes. `kept`: the folder of the snapshot beside it; undefined: it has none. */
  const visit = (path: Buffer, stat: BigIntStats, kept: Buffer | undefined): boolean => {
    const shown = path.toString('utf8')
    const folder = stat.isDirectory()
    const wanted = selects(shown, folder)
    if (caches && folder && (isCache(path) || (kept && isCache(kept)))) {
      if (wanted) left.push(shown)
      return false
    }
    let whole = kept === undefined && wanted
    if (whole) {
      const reason = reasonOf(shown)
      if (reason) throw keptBack(shown, reason)
    }
    if (folder) {
      for (const name of readdirSync(path, { encoding: 'buffer' }).sort(Buffer.compare)) {
        const [at, beside] = [under(path, name), kept && under(kept, name)]
        // What the store cannot name it may hold all the same; what cannot be named here cannot be deleted.
        if (isTooLong(at) || (beside && isTooLong(beside))) {
          if (selects(at.toString('utf8'), true)) long.push(at.toString('utf8'))
          whole = false
          continue
        }
        const inner = statAt(at)
        if (!inner) continue // gone meanwhile
        const other = beside && statAt(beside)
        if (other && !inner.isDirectory()) continue
        if (inner.isDirectory() && inner.dev !== stat.dev && stay) {
          if (!other && selects(at.toString('utf8'), true)) throw keptBack(at.toString('utf8'), onMount(at.toString('utf8')))
          whole = false
          continue
        }
        // A folder in the place of a file has nothing beside it, though its name is in the snapshot.
        if (!visit(at, inner, other?.isDirectory() ? beside : undefined) && !other) whole = false
      }
    }
    if (whole) doomed.push({ path, shown, folder })
    return whole
  }
  for (const root of held(job)) {
    const [at, beside] = [Buffer.from(root), Buffer.from(`${treeOf(found)}${root === '/' ? '' : root}`)]
    if (isTooLong(at) || isTooLong(beside)) {
      long.push(root)
      continue
    }
    const stat = statAt(at)
    if (!stat?.isDirectory() || !statAt(beside)?.isDirectory()) continue
    const mount = stay ? mounted(root, saved) : undefined
    if (mount) throw keptBack(root, mount)
    visit(at, stat, beside)
  }
  if (!excluded && doomed.length > 0) guardUnknown(found.id, 'nothing says what was left out when it was made', context)
  return { doomed, left, long }
}

/** Deletes them; gives how many. What was put into a folder meanwhile stays, and the folder with it. */
export async function remove(doomed: readonly Doomed[]): Promise<number> {
  let deleted = 0
  for (const { path, folder } of doomed) {
    try {
      await (folder ? rmdir(path) : unlink(path))
      deleted++
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'ENOENT' && code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error
    }
  }
  return deleted
}

/** The same by hand. */
export const removal = ({ doomed, left, long }: Surplus): CommandLine[] => [
  comment(
    doomed.length > 0 ? '--delete: what lies there now and is not in the snapshot' : '--delete: all that lies there now is in the snapshot',
  ),
  ...left.map((path) => comment(`left, being a cache: ${quote(path)}`)),
  ...long.map((path) => comment(`left, since its path is too long to look at: ${quote(path)}`)),
  ...doomed.map(({ path, folder }): CommandLine => ({ kind: 'command', command: `${folder ? 'rmdir' : 'rm -f'} ${quoteBytes(path)}` })),
]
