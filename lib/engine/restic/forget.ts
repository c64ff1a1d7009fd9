// Forget: deletes single snapshots that the operator names.
import type { Target, VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { bySource, isGood, sourceOf } from '../../kept.ts'
import { checkIds, pickAll, refuseShared } from '../../named.ts'
import type { Snapshot } from '../../rows.ts'
import { deleteSnapshots, forgetArgs } from './doomed.ts'
import { verifyIdentity } from './identity.ts'
import { refusalsByHand } from './policy.ts'
import { snapshotsOf } from './snapshots.ts'
import { explain } from './tool.ts'

/** Those of `doomed` that are the newest good one of their source; of a source without a good one, the newest. */
export function newestGood(target: Target, snapshots: readonly Snapshot[], doomed: readonly Snapshot[]): Snapshot[] {
  const kept = [...bySource(target, snapshots).values()].map((of) => of.find(isGood) ?? of[0])
  return doomed.filter((snapshot) => kept.includes(snapshot))
}

const forget: VerbOf<'forget'> = async function* (target, { ids }, context) {
  checkIds(target.engine, ids, 'forget')
  if (context.mode === 'explain') {
    yield refusalsByHand()
    yield explain(target, forgetArgs(ids))
    return
  }
  await verifyIdentity(target, context)
  const snapshots = await snapshotsOf(target, context)
  const doomed = pickAll(snapshots, target, ids)
  refuseShared(target, doomed, 'forget')
  const held = doomed.find((snapshot) => snapshot.held)
  if (held)
    throw new Failure('refused', `refusing to forget snapshot ${held.id.slice(0, 8)} of '${target.name}': it is held`, {
      hint: `kedge hold --release ${target.name} ${held.id.slice(0, 8)}`,
    })
  for (const newest of newestGood(target, snapshots, doomed)) {
    const shown = newest.id.slice(0, 8)
    const message = `refusing to forget snapshot ${shown} of '${target.name}': it is the newest good one of ${sourceOf(target, newest)}`
    if (!context.forced.has('newest')) throw new Failure('refused', message, { hint: '--force=newest where that is meant' })
    context.warn(`guard 'newest' overridden: ${message}`)
  }
  const dryRun = context.mode === 'dry-run'
  const left = dryRun ? [] : await deleteSnapshots(target, doomed, context)
  for (const { id } of doomed) {
    if (left.some((each) => each.id === id)) continue // warned of
    yield { kind: 'marked', target: target.name, action: dryRun ? 'would forget' : 'forgotten', id, ...(dryRun && { dryRun }) }
  }
  if (!dryRun) context.log(`kedge prune ${target.name} gives the space back`)
}
export default forget
