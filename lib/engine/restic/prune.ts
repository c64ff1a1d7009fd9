// Prune: the plan of the keep rules, the guards before it, the deletion by id, and the repository's own prune.
import type { RunContext, Target, VerbOf, Verbs } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { clockJump, type Guard } from '../../guard.ts'
import { bySource, toKept } from '../../kept.ts'
import { isUnpruned, pruned, savedPlan, savePlan } from '../../plan.ts'
import { digest, parseKeep, plan } from '../../retain.ts'
import type { PlanLine, Snapshot } from '../../rows.ts'
import { zoneOf } from '../../target.ts'
import { waitArgs, withoutOwnDeadLocks } from './deadlock.ts'
import { deleteSnapshots, forgetArgs } from './doomed.ts'
import { verifyIdentity } from './identity.ts'
import { byHand, guardsByHand, isOff, refusalsByHand } from './policy.ts'
import { snapshotsOf } from './snapshots.ts'
import { explain, repository, resticLines, version } from './tool.ts'

type Options = Verbs['prune']['options']

export const pruneArgs = (wait: readonly string[] = []): string[] => ['prune', ...wait]

/** What speaks against pruning at all: a guard, and why. */
export function objections(target: Target, snapshots: readonly Snapshot[], now: Date): { guard: Guard; message: string; hint: string }[] {
  const found: { guard: Guard; message: string; hint: string }[] = []
  const refusing = `refusing to prune '${target.name}'`
  const suspects = snapshots.filter(({ suspect }) => suspect !== undefined)
  if (suspects.length > 0) {
    const named = suspects.map(({ id, suspect }) => `snapshot ${id.slice(0, 8)} is suspect: ${suspect}`).join('; ')
    const ids = suspects.map(({ id }) => id.slice(0, 8)).join(' ')
    found.push({ guard: 'suspect', message: `${refusing}: ${named}`, hint: `look at it, then kedge accept ${target.name} ${ids}` })
  }
  for (const [source, of] of bySource(target, snapshots)) {
    const jump = clockJump(
      of.map(({ time }) => new Date(time)),
      now,
    )
    if (jump)
      found.push({ guard: 'clock', message: `${refusing}: ${jump} (${source})`, hint: 'is the clock right? --force=clock where it is' })
  }
  return found
}

const prune: VerbOf<'prune'> = async function* (target, options, context) {
  if (options.simulate !== undefined) {
    const { simulation } = await import('./simulation.ts')
    yield* simulation(target, options.simulate, context)
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
  const now = new Date()
  for (const { guard, message, hint } of objections(target, snapshots, now)) {
    if (!context.forced.has(guard)) throw new Failure('refused', message, { hint })
    context.warn(`guard '${guard}' overridden: ${message}`)
  }
  if (isOff(rules)) context.log(`target '${target.name}' has no keep rules: nothing is deleted`)
  const dryRun = context.mode === 'dry-run'
  const limit = limitOf(target, options)
  const lines = plan(
    snapshots.map((snapshot) => toKept(target, snapshot)),
    rules,
    { zone: zoneOf(target), now, maxDelete: saved || (dryRun && options.maxDelete === undefined) ? undefined : limit },
  ).map((planned): PlanLine => ({ kind: 'plan', target: target.name, ...planned }))
  const rows = saved ? within(lines, new Set(saved.ids), saved.digest) : lines
  if (saved) for (const gone of undeletable(rows, saved.ids)) context.warn(gone)

  const ids = rows.filter(({ action }) => action === 'delete').map(({ id }) => id)
  const later = rows.filter(({ action }) => action === 'later').length
  const result = { kind: 'pruned', target: target.name, later, digest: saved?.digest ?? digest(store, ids) } as const
  if (dryRun) {
    yield rows
    const failed = saved ? undefined : await savePlan(target.name, { store, digest: result.digest, made: now.toISOString(), ids })
    if (failed) context.warn(`the plan is not saved, and --apply will not know it: ${failed}`)
    if (!saved && limit !== undefined && ids.length > limit)
      context.log(`without --apply ${result.digest} a run deletes ${limit} of these ${ids.length}, the oldest first`)
    yield { ...result, deleted: ids.length, kept: rows.length - ids.length - later, dryRun: true }
    return
  }
  const { deleted, left } = await deleteThese(target, snapshots, ids, context)
  yield rows.filter(({ id, action }) => action === 'later' || deleted.has(id))
  if (later > 0) context.log(`${later} more could go: one run deletes at most ${limit} (PRUNE_MAX_DELETE)`)
  if (await isUnpruned(target.name)) await giveBack(target, context)
  yield { ...result, deleted: deleted.size, kept: left - later }
}
export default prune

/** The most that a run without a digest deletes; undefined where PRUNE_MAX_DELETE is empty. */
function limitOf(target: Target, { maxDelete }: Options): number | undefined {
  return maxDelete ?? (target.env.PRUNE_MAX_DELETE ? Number(target.env.PRUNE_MAX_DELETE) : undefined)
}

/** A new plan narrowed to a saved one. */
function within(lines: readonly PlanLine[], ids: ReadonlySet<string>, saved: string): PlanLine[] {
  return lines.map((line) =>
    line.action === 'delete' && !ids.has(line.id) ? { ...line, action: 'keep', reasons: [`not in the plan ${saved}`] } : line,
  )
}

function undeletable(lines: readonly PlanLine[], ids: readonly string[]): string[] {
  const now = new Map(lines.map((line) => [line.id, line]))
  return ids.flatMap((id) => {
    const line = now.get(id)
    if (!line) return [`snapshot ${id.slice(0, 8)} of the plan is not there any more`]
    return line.action === 'delete' ? [] : [`snapshot ${id.slice(0, 8)} of the plan stays: ${line.reasons.join(', ')}`]
  })
}

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
