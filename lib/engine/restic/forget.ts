// Forget: deletes single snapshots that the operator names.
import type { VerbOf } from '../../contract.ts'
import { refuseForget } from '../../forgetting.ts'
import { checkIds, pickAll } from '../../named.ts'
import { deleteSnapshots, forgetArgs } from './doomed.ts'
import { verifyIdentity } from './identity.ts'
import { refusalsByHand } from './policy.ts'
import { snapshotsOf } from './snapshots.ts'
import { explain } from './tool.ts'

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
  refuseForget(target, snapshots, doomed, context)
  const dryRun = context.mode === 'dry-run'
  const left = dryRun ? [] : await deleteSnapshots(target, doomed, context)
  for (const { id } of doomed) {
    if (left.some((each) => each.id === id)) continue // warned of
    yield { kind: 'marked', target: target.name, action: dryRun ? 'would forget' : 'forgotten', id, ...(dryRun && { dryRun }) }
  }
  if (!dryRun) context.log(`kedge prune ${target.name} gives the space back`)
}
export default forget
