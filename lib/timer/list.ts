// What runs when, and what starts it on this machine.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Context } from '../contract.ts'
import { findInPath } from '../executable.ts'
import { Failure } from '../failure.ts'
import { holders } from '../lock.ts'
import type { Scheduled } from '../rows/house.ts'
import type { StatusRow } from '../rows.ts'
import { nextTimes } from '../schedule.ts'
import { schedulerDir } from '../scheduler/attempts.ts'
import { standingOf, worstOf } from '../standing.ts'
import { readCrontab, startedBy } from './crontab.ts'
import { present } from './files.ts'
import { unitDir } from './machine.ts'
import { type TimerState, timerStates } from './systemctl.ts'
import { isMarked, ownerOf } from './units.ts'
import type { House, Wanted } from './wanted.ts'

/** What starts runs here: the timers by name, the crontab's commands, whether a scheduler runs. */
export type Starters = {
  readonly timers: ReadonlyMap<string, TimerState>
  readonly commands: ReadonlySet<string>
  readonly scheduler: boolean
}

export async function startersOf(context: Context): Promise<Starters> {
  const living = (await holders(join(schedulerDir(), 'lock'))).some(({ alive }) => alive !== 'no')
  return { timers: await timersThere(context), commands: await commandsThere(context), scheduler: living }
}

async function timersThere(context: Context): Promise<ReadonlyMap<string, TimerState>> {
  const files = await present(unitDir())
  const names = [...files].filter(([name, text]) => name.endsWith('.timer') && isMarked(text)).map(([name]) => name)
  if (names.length === 0) return new Map()
  try {
    return await timerStates(names, context)
  } catch (error) {
    notKnown(error, context)
    return new Map()
  }
}

async function commandsThere(context: Context): Promise<ReadonlySet<string>> {
  if (!findInPath('crontab')) return new Set()
  try {
    const { started, gone } = startedBy(await readCrontab(context), existsSync)
    for (const file of gone) context.log(`warning: the crontab starts '${file}', which is gone: kedge schedule install renews its lines`)
    return started
  } catch (error) {
    notKnown(error, context)
    return new Set()
  }
}

function notKnown(error: unknown, context: Context): void {
  if (!(error instanceof Failure)) throw error
  context.log(`warning: ${error.message}`)
}

/** The rows of a house, in its order. */
export async function* scheduled(house: House, starters: Starters, now: Date): AsyncGenerator<Scheduled[]> {
  for (const wanted of house.wanted.filter(({ target }) => target === '-')) yield [await rowOf(wanted, starters, [], now)]
  for (const target of house.targets) {
    const standing = await standingOf(target, { now })
    const rows: Scheduled[] = []
    for (const wanted of house.wanted) if (wanted.target === target.name) rows.push(await rowOf(wanted, starters, standing, now))
    yield rows
  }
}

/** What is started although no target schedules it, as `backup web1`: a target was removed, or a schedule taken away. */
export function strays({ wanted, broken }: House, { timers, commands }: Starters): string[] {
  const timed = [...timers].flatMap(([name, { active }]) => (active ? (ownerOf(name) ?? []) : []))
  const started = new Set([...timed.map(({ verb, target }) => `${verb} ${target}`), ...commands])
  const known = new Set(wanted.flatMap(({ verb, target, what }) => [what, `${verb} ${target}`]))
  return [...started].filter((what) => !known.has(what) && !broken.has(what.split(' ')[1] ?? ''))
}

async function rowOf(wanted: Wanted, starters: Starters, standing: readonly StatusRow[], now: Date): Promise<Scheduled> {
  const { target, verb, schedule, unit } = wanted
  const timer = starters.timers.get(`${unit}.timer`)
  const by = timer?.active ? 'systemd' : starters.commands.has(wanted.what) ? 'crontab' : starters.scheduler ? 'scheduler' : '-'
  const found = worstOf(standing.filter((row) => row.verb === verb)) // a copy has a row for each store
  return {
    kind: 'scheduled',
    target,
    verb,
    schedule: schedule.expression,
    next: (by === 'systemd' && timer?.next) || (await nextOf(wanted, now)),
    by,
    state: found?.state ?? '-',
    good: found?.good ?? null,
  }
}

/** The next due time with the target's own shift. */
async function nextOf({ schedule }: Wanted, now: Date): Promise<string | null> {
  const shift = schedule.offsetSeconds * 1000
  const [next] = await nextTimes(schedule.expression, { zone: schedule.zone, seed: schedule.seed, from: new Date(now.getTime() - shift) })
  return next ? new Date(next.getTime() + shift).toISOString() : null
}
