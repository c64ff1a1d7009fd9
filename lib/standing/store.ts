// How a second store stands: what it lacks, since when, and whether that is too long.
import type { Target } from '../contract.ts'
import { duration, parseDuration } from '../format.ts'
import type { Lag } from '../lag.ts'
import type { Last } from '../ledger.ts'
import type { Live } from '../overview.ts'
import type { StatusRow } from '../rows.ts'
import { scheduleOf } from '../schedule/verbs.ts'
import { zoneOf } from '../target.ts'

/** Seconds: how old a daily backup may be where nothing else is said. */
export const defaultAge = 26 * 3600

export async function rowOfStore(
  lag: Lag,
  target: Target,
  { last, live }: { last: Last; live: readonly Live[] },
  now: Date,
): Promise<StatusRow> {
  const { store, copied, since, behind, failed } = lag
  const ago = (start: string) => Math.max(0, Math.round((now.getTime() - Date.parse(start)) / 1000))
  const { due, late } = await timingOf(lag, target, last, now)
  const judged = (state: StatusRow['state'], why?: string): StatusRow => ({
    kind: 'status',
    target: target.name,
    verb: 'copy',
    state,
    good: copied,
    failed: failed?.start ?? null,
    due: due ?? null,
    age: copied === null ? null : ago(copied),
    store,
    ...(behind !== null && { lag: since === null ? 0 : ago(since), behind }),
    message: `store '${store}' ${inWords(lag, ago)}${why ? `: ${why}` : ''}`,
  })
  const mine = live.filter(({ verb }) => verb === 'copy')
  const running = mine.find(({ alive }) => alive !== 'no')
  const dead = mine.find(({ alive, run }) => alive === 'no' && run !== last.copy?.last.run)
  if (late && copied !== null) return judged('stale', failed?.message ?? late)
  if (dead && !running) return judged('crashed', `the run ${dead.run} ended without a word`)
  if (failed) return judged('failed', failed.message)
  if (running) return judged('running', `a copy runs since ${running.start}`)
  return judged(copied === null ? 'never' : 'ok')
}

function inWords({ copied, since, behind }: Lag, ago: (start: string) => number): string {
  if (copied === null && !behind) return 'has no copy'
  if (!behind || since === null) return behind === null ? 'got the last copy' : 'has all'
  return `lacks ${behind} ${behind === 1 ? 'snapshot, for' : 'snapshots, the oldest for'} ${duration(ago(since))}`
}

/**
 * When a copy is due next, and, where it is late, why. Without COPY_MAX_LAG something may be missing until the next run that was to copy
 * it: by SCHEDULE_COPY, or with COPY_AFTER_BACKUP the backup after the one that made it.
 */
async function timingOf({ since, copied }: Lag, target: Target, last: Last, now: Date): Promise<{ due?: string; late?: string }> {
  const { COPY_MAX_LAG, COPY_AFTER_BACKUP, MAX_AGE, SCHEDULE_COPY, SCHEDULE_BACKUP, SCHEDULE_JITTER } = target.env
  const after = COPY_AFTER_BACKUP === 'yes'
  const expression = SCHEDULE_COPY || (after && SCHEDULE_BACKUP)
  // A target that saves nothing itself knows of no backup: there the last copy tells.
  const from = since ?? (target.paths.length + target.streams.length === 0 ? copied : null)
  const seconds = from === null ? 0 : (now.getTime() - Date.parse(from)) / 1000
  const limit = parseDuration(COPY_MAX_LAG ?? '') ?? (after && !expression ? (parseDuration(MAX_AGE ?? '') ?? defaultAge) : undefined)
  const tooLong = limit !== undefined && seconds > limit ? `longer than ${duration(limit)}` : undefined
  if (!expression) return { ...(tooLong && { late: tooLong }) }
  const schedule = await import('../schedule.ts')
  const where = { zone: zoneOf(target), seed: target.name, now }
  // As for the other verbs: the time that a run takes, and timers that wander.
  const wander = Math.max(1800, (await schedule.interval(expression, where)) / 12) + (parseDuration(SCHEDULE_JITTER ?? '') ?? 0)
  const graceSeconds = wander + (last.copy?.good?.seconds ?? 0)
  const { next, overdue, since: missed } = await schedule.due(expression, { ...where, lastGood: new Date(from ?? now), graceSeconds })
  const late = limit === undefined ? overdue && `it was due ${missed?.toISOString() ?? ''}` : tooLong
  const shift = (scheduleOf(target, 'copy')?.offsetSeconds ?? 0) * 1000
  return { ...(SCHEDULE_COPY && { due: new Date(next.getTime() + shift).toISOString() }), ...(late && { late }) }
}
