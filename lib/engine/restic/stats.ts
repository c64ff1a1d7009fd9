// Stats: what a restore would bring, what the snapshots take in the repository, how fast it grows.
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { freeSpace } from '../../place.ts'
import type { Snapshot } from '../../rows.ts'
import { sizesOf } from '../../sizes.ts'
import { newestOfEach } from '../../snapshots.ts'
import { targetTags } from '../../target.ts'
import { snapshotsOf } from './snapshots.ts'
import { askRestic, explain, jsonLine, localRepository, repository } from './tool.ts'

/** `total_uncompressed_size` since 0.18. */
type Stats = { total_size: number; total_file_count?: number; total_uncompressed_size?: number; compression_ratio?: number }

/** argv: of these snapshots, or of all that are the target's. */
export function statsArgs(target: Target, mode: 'restore-size' | 'raw-data', ids?: readonly string[]): string[] {
  const which = ids ? ['--', ...ids] : targetTags(target).flatMap((tag) => ['--tag', tag])
  return ['stats', '--json', '--no-lock', '--mode', mode, ...which]
}

const stats: VerbOf<'stats'> = async function* (target, _, context) {
  if (context.mode === 'explain') {
    yield explain(target, [...statsArgs(target, 'restore-size'), 'latest'])
    yield explain(target, statsArgs(target, 'raw-data'))
    return
  }
  const snapshots = await snapshotsOf(target, context)
  const empty: Stats = { total_size: 0, total_file_count: 0 }
  const latest = latestOf(snapshots)
  // restic would take no ids for all snapshots of the repository.
  const restore = latest.length > 0 ? await ask(target, statsArgs(target, 'restore-size', latest), context) : empty
  const raw = latest.length > 0 ? await ask(target, statsArgs(target, 'raw-data'), context) : empty
  const all = await restoredBy(target, snapshots, restore, context)
  yield await sizesOf(
    {
      target: target.name,
      snapshots: snapshots.length,
      restore: restore.total_size,
      files: filesOf(snapshots, latest) ?? restore.total_file_count ?? 0,
      raw: raw.total_size,
      all,
      uncompressed: raw.total_uncompressed_size,
      free: await freeSpaceOf(target),
    },
    context,
  )
}
export default stats

/** The newest of each source: together they are what a restore of `latest` brings. `snapshots`: newest first. */
export const latestOf = (snapshots: readonly Snapshot[]): string[] => newestOfEach(snapshots).map(({ id }) => id)

/** Since 0.17 each snapshot tells how many files it has; restic's own count has the folders in it. */
function filesOf(snapshots: readonly Snapshot[], ids: readonly string[]): number | undefined {
  const counts = snapshots.filter(({ id }) => ids.includes(id)).map(({ files }) => files)
  return counts.every((count) => count !== undefined) ? counts.reduce((sum, count) => sum + count, 0) : undefined
}

async function ask(target: Target, args: readonly string[], context: RunContext): Promise<Stats> {
  const action = `measure repository '${repository(target)}'`
  const text = await askRestic(target, args, context, { action })
  const answer = text.split('\n').map((line) => jsonLine<Stats>(line))
  const found = answer.findLast((each) => each?.total_size !== undefined)
  if (!found) throw new Error(`restic stats printed no sizes: ${text.slice(0, 200)}`)
  return found
}

/** What all snapshots together would restore. Since 0.17 each snapshot tells its size; for older ones restic walks through them all. */
async function restoredBy(target: Target, snapshots: readonly Snapshot[], latest: Stats, context: RunContext): Promise<number> {
  if (snapshots.every(({ size }) => size !== undefined)) return snapshots.reduce((sum, { size = 0 }) => sum + size, 0)
  if (snapshots.length === latestOf(snapshots).length) return latest.total_size
  return (await ask(target, statsArgs(target, 'restore-size'), context)).total_size
}

/** Bytes that are free for the repository; null where it lies elsewhere. */
async function freeSpaceOf(target: Target): Promise<number | null> {
  const local = localRepository(target)
  return local === undefined ? null : await freeSpace(local)
}
