// Deleting snapshots by id, and looking afterwards: restic 0.14 and 0.18 say 0 even when they could not delete.
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { readMarks, unmarked, writeMarks } from '../../marks.ts'
import { unpruned } from '../../plan.ts'
import type { Snapshot } from '../../rows.ts'
import { waitArgs, withoutOwnDeadLocks } from './deadlock.ts'
import { cannotDelete, deletionRefusal } from './errors.ts'
import { snapshotsOf } from './snapshots.ts'
import { askRestic, repository, version } from './tool.ts'

/** Ids a process: far below any limit of argv. */
const batch = 200

export const forgetArgs = (ids: readonly string[], wait: readonly string[] = []): string[] => ['forget', ...wait, ...ids]

/**
 * Deletes snapshots, in the order given. Returns those that are left of the target; what restic could not delete is warned of, and a
 * Failure 'permission' or 'tool' when that is all of them. The space is given back by restic's prune, which this notes as due.
 */
export async function deleteSnapshots(target: Target, doomed: readonly Snapshot[], context: RunContext): Promise<Snapshot[]> {
  const wait = waitArgs(target, await version(target))
  await unpruned(target.name)
  let refused: string | undefined
  for (let at = 0; at < doomed.length; at += batch) {
    const ids = doomed.slice(at, at + batch).map(({ id }) => id)
    const action = `delete ${ids.length} snapshots from '${repository(target)}'`
    const onStderr = (line: string) => {
      refused ??= deletionRefusal(line)
    }
    // 3: since 0.19, some could not be deleted; which ones the listing tells.
    await withoutOwnDeadLocks(target, context, () => askRestic(target, forgetArgs(ids, wait), context, { action, accept: [3], onStderr }))
    context.progress({ done: at + ids.length, total: doomed.length, what: 'snapshots' })
  }
  const left = await snapshotsOf(target, context)
  const there = new Set(left.map(({ id }) => id))
  const stuck = doomed.filter(({ id }) => there.has(id))
  if (stuck.length > 0 && stuck.length === doomed.length) {
    if (refused !== undefined) throw cannotDelete(`delete ${stuck.length} snapshots from '${repository(target)}'`, refused)
    throw new Failure('tool', `cannot delete from '${repository(target)}': restic left all ${stuck.length} snapshots there`, {
      hint: 'is the store append-only, or its folder read-only?',
    })
  }
  for (const { id } of stuck) context.warn(`restic could not delete snapshot ${id.slice(0, 8)}`, 'partial')
  const marks = await readMarks(target.name)
  const cleaned = unmarked(
    marks,
    doomed.filter(({ id }) => !there.has(id)).map(({ id }) => id),
  )
  if (cleaned !== marks) await writeMarks(target.name, cleaned)
  return left
}
