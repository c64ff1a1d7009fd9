// Prune as every engine does it: what speaks against it, the plan of the keep rules, and what a dry run leaves for --apply.
import type { RunContext, Target, Verbs } from './contract.ts'
import { Failure } from './failure.ts'
import { shortId } from './format.ts'
import { clockJump, type Guard } from './guard.ts'
import { isOff, parseKeep } from './keeprules.ts'
import { bySource, isGood, rulesOf, toKept } from './kept.ts'
import { type SavedPlan, savePlan } from './plan.ts'
import { digest, plan } from './retain.ts'
import type { PlanLine, Pruned, Snapshot } from './rows.ts'
import { zoneOf } from './target.ts'

type Options = Verbs['prune']['options']

/** `rows`: what becomes of each snapshot; `ids`: what goes; `limit`: the most that goes without a digest. */
export type Drawn = {
  readonly rows: readonly PlanLine[]
  readonly ids: readonly string[]
  readonly limit: number | undefined
  readonly now: Date
  readonly result: Pick<Pruned, 'kind' | 'target' | 'later' | 'digest'>
}

/** What speaks against pruning at all: a guard, and why. `snapshots`: the newest first. */
export function objections(target: Target, snapshots: readonly Snapshot[], now: Date): { guard: Guard; message: string; hint: string }[] {
  const found: { guard: Guard; message: string; hint: string }[] = []
  const refusing = `refusing to prune '${target.name}'`
  const suspects = snapshots.filter(({ suspect }) => suspect !== undefined)
  if (suspects.length > 0) {
    const named = suspects.map(({ id, suspect }) => `snapshot ${shortId(id)} is suspect: ${suspect}`).join('; ')
    const ids = suspects.map(({ id }) => shortId(id)).join(' ')
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

/** The most that a run without a digest deletes; undefined where PRUNE_MAX_DELETE is empty. */
export function limitOf(target: Target, { maxDelete }: Options): number | undefined {
  return maxDelete ?? (target.env.PRUNE_MAX_DELETE ? Number(target.env.PRUNE_MAX_DELETE) : undefined)
}

/** No rule of the target's deletes anything. */
export function keepsAll(target: Target): boolean {
  const { rules, manual } = parseKeep(target.env)
  return isOff(rules) && (isOff(manual) || manual.counts.last === Number.POSITIVE_INFINITY)
}

/**
 * The plan for these snapshots (the newest first), narrowed to a saved one where there is. Failure 'refused' where a guard objects that is
 * not overridden.
 */
export function draw(
  target: Target,
  snapshots: readonly Snapshot[],
  options: Options,
  { store, saved }: { store: string; saved: SavedPlan | undefined },
  context: Pick<RunContext, 'forced' | 'warn' | 'log' | 'mode'>,
): Drawn {
  const now = new Date()
  for (const { guard, message, hint } of objections(target, snapshots, now)) {
    if (!context.forced.has(guard)) throw new Failure('refused', message, { hint })
    context.warn(`guard '${guard}' overridden: ${message}`)
  }
  if (keepsAll(target)) context.log(`target '${target.name}' has no keep rules: nothing is deleted`)
  const limit = limitOf(target, options)
  const whole = saved || (context.mode === 'dry-run' && options.maxDelete === undefined)
  const lines = plan(
    snapshots.map((snapshot) => toKept(target, snapshot)),
    rulesOf(target),
    { zone: zoneOf(target), now, maxDelete: whole ? undefined : limit, bases: target.env.KEEP_BASES === 'yes' },
  ).map((planned): PlanLine => ({ kind: 'plan', target: target.name, ...planned }))
  const rows = saved ? within(lines, new Set(saved.ids), saved.digest) : lines
  if (saved) for (const gone of undeletable(rows, saved.ids)) context.warn(gone)
  const ids = rows.filter(({ action }) => action === 'delete').map(({ id }) => id)
  const later = rows.filter(({ action }) => action === 'later').length
  return { rows, ids, limit, now, result: { kind: 'pruned', target: target.name, later, digest: saved?.digest ?? digest(store, ids) } }
}

/** The end of a dry run: its plan is saved for --apply, unless it is a saved one. `freed`: bytes, where the engine can tell, and in what store. */
export async function rehearsed(
  target: Target,
  { rows, ids, limit, now, result }: Drawn,
  { store, saved, freed }: { store: string; saved: SavedPlan | undefined; freed?: { bytes: number; amid: string } },
  context: Pick<RunContext, 'warn' | 'log'>,
): Promise<Pruned> {
  const told = freed && { freed: freed.bytes }
  const failed = saved
    ? undefined
    : await savePlan(target.name, {
        store,
        digest: result.digest,
        made: now.toISOString(),
        ids,
        ...told,
        ...(freed && { amid: freed.amid }),
      })
  if (failed) context.warn(`the plan is not saved, and --apply will not know it: ${failed}`)
  if (!saved && limit !== undefined && ids.length > limit)
    context.log(`without --apply ${result.digest} a run deletes ${limit} of these ${ids.length}, the oldest first`)
  return { ...result, deleted: ids.length, kept: rows.length - ids.length - result.later, ...told, dryRun: true }
}

/** Those of `doomed` that are the newest good one of their source; of a source without a good one, the newest. */
export function newestGood(target: Target, snapshots: readonly Snapshot[], doomed: readonly Snapshot[]): Snapshot[] {
  const kept = [...bySource(target, snapshots).values()].map((of) => of.find(isGood) ?? of[0])
  return doomed.filter((snapshot) => kept.includes(snapshot))
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
    if (!line) return [`snapshot ${shortId(id)} of the plan is not there any more`]
    return line.action === 'delete' ? [] : [`snapshot ${shortId(id)} of the plan stays: ${line.reasons.join(', ')}`]
  })
}
