// prune --simulate: what the schedule and the keep rules would leave on each of the next days.
import type { Target } from './contract.ts'
import { Failure } from './failure.ts'
import { rulesOf, toKept } from './kept.ts'
import { simulate } from './retain.ts'
import type { SimulatedDay, Snapshot } from './rows.ts'
import { nextTimes } from './schedule.ts'
import { zoneOf } from './target.ts'

const day = 86_400_000

/** Failure 'config' without SCHEDULE_BACKUP. */
export function scheduleOf(target: Target): string {
  const { SCHEDULE_BACKUP } = target.env
  if (SCHEDULE_BACKUP) return SCHEDULE_BACKUP
  throw new Failure('config', `cannot simulate '${target.name}': it has no SCHEDULE_BACKUP`, {
    hint: 'such as SCHEDULE_BACKUP=@daily in its target.env',
  })
}

/** One row a day, today included. */
export async function simulation(target: Target, days: number, snapshots: readonly Snapshot[]): Promise<SimulatedDay[]> {
  const zone = zoneOf(target)
  const now = new Date()
  // A local day has at most 25 hours: what lies behind the last one is left out by the simulation.
  const until = new Date(now.getTime() + (days + 1) * day)
  const backups = await nextTimes(scheduleOf(target), { zone, seed: target.name, from: now, until })
  const existing = snapshots.map((snapshot) => toKept(target, snapshot))
  const options = { zone, days, now, bases: target.env.KEEP_BASES === 'yes' }
  return simulate(existing, backups, rulesOf(target), options).map((each) => ({ kind: 'day', ...each }))
}
