// When a cron expression comes due. Pure but for the import of cron-parser at the point of use.
//
// Daylight saving: a schedule of every hour (the hour field names all 24) comes due whenever the clock shows its time: in every real hour,
// as in Vixie's cron. In every other, a time that the day lacks runs once, at the next moment that exists (together with what is due then
// anyway), and a time that the day has twice runs once, the first time. oncalendar.ts says what systemd makes of it.
// cron-parser 5.10 alone does otherwise: it moves 02:30 to 03:30 instead of 03:00, drops the day's run where the clock moves by less than
// an hour (Lord Howe) or when it searches backwards, and runs a time twice when it searches backwards.
// So it only parses and finds the days, in UTC, where no clock moves; the clock times are turned into moments here.
import { Failure } from './failure.ts'
import { parse, read } from './schedule/expression.ts'
import { type Offset, offsetIn } from './zone.ts'

export { validate } from './schedule/expression.ts'

type Where = { zone: string; seed: string }
type Plan = {
  /** Minutes after midnight, ascending. */
  readonly minutes: readonly number[]
  readonly everyHour: boolean
  /** Days on which it is due, the first at or after `from` (going back: at or before), as midnights read in UTC. */
  readonly days: (from: number, back: boolean) => Generator<number>
  readonly offset: Offset
}

// Milliseconds, as all times within this file.
const second = 1000
const minute = 60 * second
const hour = 60 * minute
const day = 24 * hour

async function plan(expression: string, { zone, seed }: Where): Promise<Plan> {
  const { cron, fields } = await read(expression)
  if (!validZone(zone)) throw new Failure('config', `unknown time zone '${zone}'`, { hint: 'use a name such as Europe/Berlin, or local' })
  const times = parse(cron, fields, seed).fields
  const hours: readonly number[] = times.hour.values
  const midnights = fields.map((field) => (field.name === 'minute' || field.name === 'hour' ? { ...field, text: '0' } : field))
  return {
    minutes: hours.flatMap((value) => times.minute.values.map((rest) => value * 60 + rest)),
    everyHour: hours.length === 24,
    *days(from, back) {
      const cursor = parse(cron, midnights, seed, from + (back ? second : -second))
      for (;;) yield (back ? cursor.prev() : cursor.next()).getTime()
    },
    offset: offsetIn(zone),
  }
}

// The moment at which a zone's clock shows `wall` (read in UTC): the first of two; if there is none, when the clock jumps over it.
function momentOf(wall: number, offset: Plan['offset']): number {
  // Zones reach from -12 to +14 hours: these moments lie before and after every moment that could be meant.
  const before = offset(wall - 15 * hour)
  const after = offset(wall + 13 * hour)
  if (offset(wall - before) === before) return wall - before
  if (offset(wall - after) === after) return wall - after
  let low = wall - after
  let high = wall - before
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (offset(middle) === before) low = middle
    else high = middle
  }
  return high
}

// A day's due times, ascending. `steady`: no clock changes near it.
function timesOf({ minutes, everyHour, offset }: Plan, midnight: number): { times: number[]; steady: boolean } {
  const early = offset(midnight - 15 * hour)
  const late = offset(midnight + 37 * hour)
  const walls = minutes.map((value) => midnight + value * minute)
  if (early === late) return { times: walls.map((wall) => wall - early), steady: true }
  const times = everyHour
    ? [early, late].flatMap((value) => walls.map((wall) => wall - value).filter((time) => offset(time) === value))
    : walls.map((wall) => momentOf(wall, offset))
  return { times: times.sort((a, b) => a - b), steady: false }
}

// Due times after (going back: before) a moment, in that order, without end.
function* dueTimes(plan: Plan, from: number, back = false): Generator<number> {
  // cron-parser would take it for now.
  if (Number.isNaN(from)) throw new RangeError('invalid date')
  const today = Math.floor((from + plan.offset(from)) / day) * day
  const order = back ? (a: number, b: number) => b - a : (a: number, b: number) => a - b
  let last = from
  // A clock may go back over midnight (St. John's, 2010): then the hour that comes again is the day before's, and comes after the first
  // minutes of the day. So the next day is looked at as well, and the one before today.
  let held: number[] = []
  for (const midnight of plan.days(back ? today + day : today - day, back)) {
    const { times, steady } = timesOf(plan, midnight)
    const list = [...held, ...times].sort(order)
    const ready = steady ? list.length : list.lastIndexOf(held.at(-1) ?? Number.NaN) + 1
    held = list.slice(ready)
    for (const time of list.slice(0, ready)) {
      if (order(time, last) <= 0) continue
      last = time
      yield time
    }
  }
}

function first(times: Generator<number>): number {
  for (const time of times) return time
  throw new Error('a schedule came to an end')
}

/** Due times after `from`: `count` of them (1 if neither is given), none after `until`. `zone` is an IANA name, or `local`. */
export async function nextTimes(
  expression: string,
  options: Where & { from: Date; count?: number | undefined; until?: Date | undefined },
): Promise<Date[]> {
  const { from, until, count = until ? Number.POSITIVE_INFINITY : 1 } = options
  const times: Date[] = []
  if (count <= 0) return times
  for (const time of dueTimes(await plan(expression, options), from.getTime())) {
    if (until && time > until.getTime()) break
    times.push(new Date(time))
    if (times.length >= count) break
  }
  return times
}

/** The last due time before a moment; undefined if that would be before 1970. */
export async function previousTime(expression: string, options: Where & { before: Date }): Promise<Date | undefined> {
  const time = first(dueTimes(await plan(expression, options), options.before.getTime(), true))
  return time < 0 ? undefined : new Date(time)
}

/**
 * The longest gap in seconds between due times, of those gaps that begin in the next five weeks; of the next five gaps where that is more.
 * The gap that begins with the last time is counted: `0 0 1-6 1 *` asked in December is nearly a year.
 */
export async function interval(expression: string, options: Where & { now: Date }): Promise<number> {
  const end = options.now.getTime() + 35 * day
  let longest = 0
  let last: number | undefined
  let gaps = 0
  for (const time of dueTimes(await plan(expression, options), options.now.getTime())) {
    if (last !== undefined) {
      longest = Math.max(longest, time - last)
      gaps++
    }
    last = time
    if (gaps >= 5 && time > end) break
  }
  return longest / second
}

/**
 * The next due time after `now`, and whether a run is overdue: a due time passed more than `graceSeconds` (0) ago, `since`, the first one
 * after the last good run's start. Without a good run it is overdue since the latest due time that is so long ago.
 */
export async function due(
  expression: string,
  options: Where & { lastGood: Date | undefined; now: Date; graceSeconds?: number | undefined },
): Promise<{ next: Date; overdue: boolean; since?: Date }> {
  const { lastGood, now, graceSeconds = 0 } = options
  const schedule = await plan(expression, options)
  const next = new Date(first(dueTimes(schedule, now.getTime())))
  const limit = now.getTime() - graceSeconds * second
  const since = first(lastGood ? dueTimes(schedule, lastGood.getTime()) : dueTimes(schedule, limit, true))
  return since < limit ? { next, overdue: true, since: new Date(since) } : { next, overdue: false }
}

/** Whether a name is an IANA time zone that this system knows, or `local`. */
export function validZone(zone: string): boolean {
  // Newer Nodes take offsets such as +01:00, Node 20 does not: no names, so none of them does here.
  if (zone === 'local') return true
  if (!/^[a-z]/i.test(zone)) return false
  try {
    new Intl.DateTimeFormat('en-US', { timeZone: zone })
    return true
  } catch (error) {
    if (error instanceof RangeError) return false
    throw error
  }
}

/** Whole seconds from 0 to less than `max`, always the same for a seed. */
export function jitter(max: number, seed: string): number {
  // FNV-1a, then Murmur3's last step, without which seeds that differ in the last letter lie close together.
  let hash = 0x811c9dc5
  for (const letter of new TextEncoder().encode(seed)) hash = Math.imul(hash ^ letter, 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return Math.floor((((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32) * max)
}
