// prune --simulate: what the schedule and the keep rules would leave on each of the next days.
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { toKept } from '../../kept.ts'
import { parseKeep, simulate } from '../../retain.ts'
import type { CommandLine, SimulatedDay } from '../../rows.ts'
import { nextTimes } from '../../schedule.ts'
import { zoneOf } from '../../target.ts'
import { snapshotsArgs, snapshotsOf } from './snapshots.ts'
import { explain } from './tool.ts'

const day = 86_400_000

/** One row a day, today included. Failure 'config' without SCHEDULE_BACKUP. */
export async function* simulation(target: Target, days: number, context: RunContext): AsyncGenerator<SimulatedDay[] | CommandLine> {
  const schedule = target.env.SCHEDULE_BACKUP
  if (!schedule)
    throw new Failure('config', `cannot simulate '${target.name}': it has no SCHEDULE_BACKUP`, {
      hint: 'such as SCHEDULE_BACKUP=@daily in its target.env',
    })
  if (context.mode === 'explain') {
    yield explain(target, snapshotsArgs(target))
    return
  }
  const zone = zoneOf(target)
  const now = new Date()
  const existing = (await snapshotsOf(target, context)).map((snapshot) => toKept(target, snapshot))
  // A local day has at most 25 hours: what lies behind the last one is left out by the simulation.
  const until = new Date(now.getTime() + (days + 1) * day)
  const backups = await nextTimes(schedule, { zone, seed: target.name, from: now, until })
  yield simulate(existing, backups, parseKeep(target.env).rules, { zone, days, now }).map((each) => ({ kind: 'day', ...each }))
}
