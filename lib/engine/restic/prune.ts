// Prune: the plan of the keep rules, the guards before it, the deletion by id, and the repository's own prune.
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { parseKeep } from '../../keeprules.ts'
import { isUnpruned, pruned, savedPlan } from '../../plan.ts'
import { draw, limitOf, rehearsed } from '../../pruning.ts'
import type { Snapshot } from '../../rows.ts'
import { waitArgs, withoutOwnDeadLocks } from './deadlock.ts'
import { deleteSnapshots, forgetArgs } from './doomed.ts'
import { verifyIdentity } from './identity.ts'
import { byHand, guardsByHand, refusalsByHand } from './policy.ts'
import { snapshotsArgs, snapshotsOf } from './snapshots.ts'
import { explain, repository, resticLines, version } from './tool.ts'

export const pruneArgs = (wait: readonly string[] = []): string[] => ['prune', ...wait]

const prune: VerbOf<'prune'> = async function* (target, options, context) {
  if (options.simulate !== undefined) {
    const { scheduleOf, simulation } = await import('../../simulation.ts')
    scheduleOf(target)
    if (context.mode === 'explain') yield explain(target, snapshotsArgs(target))
    else yield await simulation(target, options.simulate, await snapshotsOf(target, context))
    return
  }
  const { rules } = parseKeep(target.env)
  const store = target.env.STORE_ID || repository(target)
  const saved = options.apply === undefined ? undefined : await savedPlan(target, options.apply, store)
  if (context.mode === 'explain') {
    if (!saved) yield* byHand(target, rules, limitOf(target, options), options.maxDelete === undefined ? undefined : '--max-delete')
    else yield* [guardsByHand(), refusalsByHand(), ...[forgetArgs(saved.ids), pruneArgs()].map((args) => explain(target, args))]
    return
  }
  await verifyIdentity(target, context)
  const snapshots = await snapshotsOf(target, context)
  const drawn = draw(target, snapshots, options, { store, saved }, context)
  const { rows, ids, limit, result } = drawn
  if (context.mode === 'dry-run') {
    yield rows
    yield await rehearsed(target, drawn, { store, saved }, context)
    return
  }
  const { deleted, left } = await deleteThese(target, snapshots, ids, context)
  yield rows.filter(({ id, action }) => action === 'later' || deleted.has(id))
  const { later } = result
  if (later > 0) context.log(`${later} more could go: one run deletes at most ${limit} (PRUNE_MAX_DELETE)`)
  if (await isUnpruned(target.name)) await giveBack(target, context)
  yield { ...result, deleted: deleted.size, kept: left - later }
}
export default prune

/** The oldest first, so that what an interruption leaves is the newest. */
async function deleteThese(target: Target, snapshots: readonly Snapshot[], ids: readonly string[], context: RunContext) {
  if (ids.length === 0) return { deleted: new Set<string>(), left: snapshots.length }
  const wanted = new Set(ids)
  const doomed = snapshots.filter(({ id }) => wanted.has(id)).toReversed()
  const there = new Set((await deleteSnapshots(target, doomed, context)).map(({ id }) => id))
  return { deleted: new Set(ids.filter((id) => !there.has(id))), left: there.size }
}

/** The repository's own prune. What an interrupted one left is done by the next. */
async function giveBack(target: Target, context: RunContext): Promise<void> {
  const args = pruneArgs(waitArgs(target, await version(target)))
  await withoutOwnDeadLocks(target, context, async () => {
    for await (const lines of resticLines(target, args, context, { action: `prune '${repository(target)}'` })) {
      for (const line of lines) if (line.trim()) context.detail(line)
    }
  })
  await pruned(target.name)
}
