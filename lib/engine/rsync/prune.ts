// Prune: the plan of the keep rules, the guards before it, and the removal.
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { sourceOf } from '../../kept.ts'
import { type SavedPlan, savedPlan } from '../../plan.ts'
import { type Drawn, draw, keepsAll, limitOf, objections, rehearsed } from '../../pruning.ts'
import type { CommandLine, Snapshot } from '../../rows.ts'
import { comment } from '../../shell.ts'
import { byHand, type Doomed, refusalsByHand, takeAway } from './doomed.ts'
import { freedBy, inventory } from './freed.ts'
import { incompleteOf } from './incomplete.ts'
import { prunedOwners } from './neighbours.ts'
import { type Found, snapshotsOf } from './snapshots.ts'
import { openStore, rootOf, storeOf, verifyIdentity } from './store.ts'
import { takeStoreLocks } from './storelock.ts'
import { explain } from './tool.ts'

type Read = { readonly rows: readonly Snapshot[]; readonly of: (row: Snapshot) => Found }

const prune: VerbOf<'prune'> = async function* (target, options, context) {
  if (options.simulate !== undefined) {
    const { scheduleOf, simulation } = await import('../../simulation.ts')
    scheduleOf(target)
    if (context.mode === 'explain') yield explain(target, ['ls', '-r', `${rootOf(target)}/snapshots`])
    else yield await simulation(target, options.simulate, (await readPruned(target, context)).rows)
    return
  }
  const store = target.env.STORE_ID || openStore(target).id
  const saved = options.apply === undefined ? undefined : await savedPlan(target, options.apply, store)
  const plan = { store, saved }
  if (context.mode === 'explain') {
    yield* explained(target, options, plan, context)
    return
  }
  verifyIdentity(target, context, 'prune')
  if (context.mode === 'dry-run') {
    const read = await readPruned(target, context)
    const drawn = draw(target, read.rows, options, plan, context)
    yield drawn.rows
    yield await incompleteOf(target, context)
    const amid = inventory(storeOf(target))
    const freed = await freedBy(
      doomedOf(target, drawn, read).map(({ dir }) => dir),
      context,
    )
    yield await rehearsed(target, drawn, { ...plan, ...(freed && { freed: { bytes: freed.bytes, amid } }) }, context)
    return
  }
  const lock = await takeStoreLocks(target, context, 'prune')
  try {
    const read = await readPruned(target, context)
    const drawn = draw(target, read.rows, options, plan, context)
    const amid = inventory(storeOf(target))
    const { gone } = await takeAway(target, doomedOf(target, drawn, read), 'prune', lock.context)
    const { rows, ids, limit, result } = drawn
    const { later } = result
    try {
      yield rows.filter(({ action }) => action !== 'keep')
      if (later > 0) context.log(`${later} more could go: one run deletes at most ${limit} (PRUNE_MAX_DELETE)`)
    } finally {
      await gone
    }
    const freed = saved?.ids.length === ids.length && saved.amid === amid && saved.freed !== undefined ? { freed: saved.freed } : {}
    yield { ...result, deleted: ids.length, kept: rows.length - ids.length - later, ...freed }
  } finally {
    await lock.release()
  }
}
export default prune

const readPruned = async (target: Target, context: RunContext): Promise<Read> =>
  await snapshotsOf(target, context, await prunedOwners(target, context.log))

/** The oldest first, so that what an interruption leaves is the newest. Snapshots of two targets may have one id. */
function doomedOf(target: Target, { rows }: Drawn, read: Read): Doomed[] {
  const key = (id: string, source: string) => `${id} ${source}`
  const bySource = new Map(read.rows.map((row) => [key(row.id, sourceOf(target, row)), row]))
  const doomed = rows.filter(({ action }) => action === 'delete').toSorted((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0))
  return doomed.flatMap(({ id, group, reasons }) => {
    const snapshot = bySource.get(key(id, group))
    return snapshot ? { id, dir: read.of(snapshot).dir, reason: reasons.join(', ') } : []
  })
}

/** What a run would do now: the store is read, since the plan is made of what lies there. */
async function* explained(
  target: Target,
  options: Parameters<typeof prune>[1],
  plan: { store: string; saved: SavedPlan | undefined },
  context: RunContext,
): AsyncGenerator<CommandLine> {
  const read = await readPruned(target, context)
  const refused = objections(target, read.rows, new Date()).filter(({ guard }) => !context.forced.has(guard))
  for (const { message } of refused) yield comment(message)
  if (refused.length > 0) return
  if (keepsAll(target)) yield comment('no keep rules: nothing is deleted')
  yield comment('kedge first looks whether the store is the pinned one, a snapshot is suspect, the clock jumped (its guards): mv does not')
  yield refusalsByHand()
  const limit = limitOf(target, options)
  if (!plan.saved && limit === undefined) yield comment('PRUNE_MAX_DELETE is empty: there is no limit to what a run deletes')
  else if (!plan.saved) yield comment(`a run deletes at most ${limit}, the oldest first: the rest is not listed here`)
  const doomed = doomedOf(target, draw(target, read.rows, options, plan, { ...context, log: context.detail }), read)
  yield* byHand(target, doomed, read)
}
