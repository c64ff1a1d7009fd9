// Forget: deletes single snapshots, or unfinished ones, that the operator names.
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { refuseForget } from '../../forgetting.ts'
import { checkIds, pickAll } from '../../named.ts'
import { byHand, type Doomed, refusalsByHand, takeAway } from './doomed.ts'
import { isUnfinished, pickUnfinished } from './incomplete.ts'
import { snapshotsOf } from './snapshots.ts'
import { verifyIdentity } from './store.ts'
import { takeStoreLocks } from './storelock.ts'

const forget: VerbOf<'forget'> = async function* (target, { ids }, context) {
  checkIds(
    target.engine,
    ids.filter((id) => !isUnfinished(id)),
    'forget',
  )
  if (context.mode === 'explain') {
    const { doomed, read } = await chosen(target, ids, context)
    yield refusalsByHand()
    yield* byHand(target, doomed, read)
    return
  }
  verifyIdentity(target, context, 'forget')
  const dryRun = context.mode === 'dry-run'
  const lock = dryRun ? undefined : await takeStoreLocks(target, context, 'forget')
  try {
    const { doomed, read, named } = await chosen(target, ids, context)
    refuseForget(target, read.rows, named, context)
    const removal = lock && (await takeAway(target, doomed, 'forget', lock.context))
    try {
      yield doomed.map(({ id }) => ({
        kind: 'marked' as const,
        target: target.name,
        action: dryRun ? ('would forget' as const) : ('forgotten' as const),
        id,
        ...(dryRun && { dryRun }),
      }))
    } finally {
      await removal?.gone
    }
  } finally {
    await lock?.release()
  }
}
export default forget

/** `named`: the snapshots among what the words name. */
async function chosen(target: Target, words: readonly string[], context: RunContext) {
  const read = await snapshotsOf(target, context)
  const ids = words.filter((word) => !isUnfinished(word))
  const named = pickAll(read.rows, target, ids)
  const unfinished = [...new Set(words.filter(isUnfinished))].map((word) => pickUnfinished(target, word))
  const doomed: Doomed[] = named.map((row) => ({ id: row.id, dir: read.of(row).dir, reason: 'named by the operator' }))
  return { doomed: [...doomed, ...unfinished], named, read }
}
