// Cron expressions: what is wrong with one, and when it comes due. Pure but for the import of cron-parser at the point of use.
//
// Day of month and day of week, when neither is `*` or `?`, are joined by "or", as in every cron; unlike in Vixie's, `*/2` is not like `*`.
//
// Daylight saving: a time that the day lacks runs once, at the next moment that exists (together with what is due then anyway); a time that
// the day has twice runs once, the first time, in every schedule: an hourly one then pauses for two hours.
// cron-parser 5.10 alone does otherwise: it moves 02:30 to 03:30 instead of 03:00, drops the day's run where the clock moves by less than
// an hour (Lord Howe) or when it searches backwards, and runs a time twice when it searches backwards or when all 24 hours are named.
// So it only parses and finds the days, in UTC, where no clock moves; the clock times are turned into moments here.
import { Failure } from './failure.ts'

type Cron = Pick<typeof import('cron-parser'), 'CronExpressionParser' | 'CronDate'>
type Field = {
  readonly text: string
  readonly name: string
  /** How many values it can have. */
  readonly size: number
  /** The least and the greatest value that H draws. */
  readonly min: number
  readonly max: number
}
type Where = { zone: string; seed: string }
type Plan = {
  /** Minutes after midnight, ascending. */
  readonly minutes: readonly number[]
  /** Days on which it is due, the first at or after `from` (going back: at or before), as midnights read in UTC. */
  readonly days: (from: number, back: boolean) => Generator<number>
  /** The zone's offset from UTC at a moment. */
  readonly offset: (moment: number) => number
}

// Milliseconds, as all times within this file.
const second = 1000
const minute = 60 * second
const hour = 60 * minute
const day = 24 * hour

const names: Readonly<Record<string, string>> = {
  '@hourly': '0 * * * *',
  '@daily': '0 0 * * *',
  '@weekly': '0 0 * * 0',
  '@monthly': '0 0 1 * *',
  '@yearly': '0 0 1 1 *',
}
// cron-parser's own H draws days up to 31, which some months lack, and Sunday twice as often, as 0 and as 7.
const parts: readonly Omit<Field, 'text'>[] = [
  { name: 'minute', size: 60, min: 0, max: 59 },
  { name: 'hour', size: 24, min: 0, max: 23 },
  { name: 'day of month', size: 31, min: 1, max: 28 },
  { name: 'month', size: 12, min: 1, max: 12 },
  { name: 'day of week', size: 7, min: 0, max: 6 },
]

function split(expression: string): readonly Field[] | string {
  const text = expression.trim()
  if (text === '') return 'it is empty'
  if (text.startsWith('@') && !Object.hasOwn(names, text)) return `unknown name '${text}': known are ${Object.keys(names).join(', ')}`
  const texts = (names[text] ?? text).split(/\s+/)
  if (texts.length === 6) return 'it has six fields: a schedule has no seconds, leave out the first field'
  const list = parts.map(({ name }) => name).join(', ')
  if (texts.length !== 5) return `it has ${texts.length} field${texts.length === 1 ? '' : 's'} and needs five: ${list}`
  return parts.map((part, index) => ({ ...part, text: texts[index] ?? '' }))
}

// THU and MARCH have an H too.
const hashed = ({ text }: Field) => text.replace(/[a-z]{3}/gi, '').includes('H')

// What cron-parser takes and silently turns into something else, or refuses with some seeds only.
function misread(field: Field): string | undefined {
  const { text, size, min, max } = field
  for (const [, step] of text.matchAll(/\/(\d+)/g)) if (Number(step) > size) return `the step ${step} is wider than the field`
  if (!hashed(field)) return undefined
  const match = /^H(?:\((\d+)-(\d+)\))?(?:\/\d+)?$/.exec(text)
  if (!match) return 'H stands alone, as H, H(1-5), H/2 or H(1-5)/2'
  const [, low, high] = match
  return low !== undefined && (Number(low) < min || Number(high) > max) ? `H draws from ${min} to ${max}` : undefined
}

function parse({ CronExpressionParser }: Cron, fields: readonly Field[], seed: string, from?: number) {
  const text = fields
    .map((field) => (hashed(field) ? field.text.replace(/^H(?!\()/, `H(${field.min}-${field.max})`) : field.text))
    .join(' ')
  // An empty hashSeed would mean a random one.
  return CronExpressionParser.parse(text, { tz: 'UTC', hashSeed: `kedge ${seed}`, ...(from === undefined ? {} : { currentDate: from }) })
}

function fault(cron: Cron, fields: readonly Field[], seed: string): string | undefined {
  try {
    parse(cron, fields, seed)
    return undefined
  } catch (error) {
    // It throws plain Errors, and only for the text that it was given.
    const text = error instanceof Error ? error.message : String(error)
    if (text.includes('day of month definition')) return 'it never comes due: none of its months has such a day'
    if (text.includes('NaN')) return 'not a number or a range of numbers'
    const reason = text.replace(/^(?:Cron\w+ )?(?:Validation|Constraint) error, /, '')
    return reason.charAt(0).toLowerCase() + reason.slice(1)
  }
}

function wrong(cron: Cron, fields: readonly Field[]): string | undefined {
  for (const field of fields) {
    const alone = fields.map((other) => (other === field ? field : { ...other, text: '*' }))
    const text = misread(field) ?? fault(cron, alone, '')
    if (text !== undefined) return `${field.name} '${field.text}': ${text}`
  }
  // With H for the month it depends on the seed whether the month has the day: a hundred seeds draw every month.
  const seeds = fields.some((field) => field.name === 'month' && hashed(field)) ? 100 : 1
  for (let seed = 0; seed < seeds; seed++) {
    const text = fault(cron, fields, String(seed))
    if (text !== undefined) return seeds === 1 ? text : `for some targets ${text}`
  }
  return undefined
}

/** What is wrong with a cron expression, in words, or undefined. One that never comes due is wrong. */
export async function validate(expression: string): Promise<string | undefined> {
  const fields = split(expression)
  return typeof fields === 'string' ? fields : wrong(await import('cron-parser'), fields)
}

async function plan(expression: string, { zone, seed }: Where): Promise<Plan> {
  const fields = split(expression)
  const cron = await import('cron-parser')
  const text = typeof fields === 'string' ? fields : wrong(cron, fields)
  if (typeof fields === 'string' || text !== undefined) throw new Failure('config', `cannot read schedule '${expression}': ${text}`)
  if (!validZone(zone)) throw new Failure('config', `unknown time zone '${zone}'`, { hint: 'use a name such as Europe/Berlin, or local' })
  const times = parse(cron, fields, seed).fields
  const hours: readonly number[] = times.hour.values
  const midnights = fields.map((field) => (field.name === 'minute' || field.name === 'hour' ? { ...field, text: '0' } : field))
  return {
    minutes: hours.flatMap((value) => times.minute.values.map((rest) => value * 60 + rest)),
    *days(from, back) {
      const cursor = parse(cron, midnights, seed, from + (back ? second : -second))
      for (;;) yield (back ? cursor.prev() : cursor.next()).getTime()
    },
    offset: (moment) => new cron.CronDate(moment, zone).getUTCOffset() * minute,
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

// Due times after (going back: before) a moment, in that order, without end.
function* dueTimes({ minutes, days, offset }: Plan, from: number, back = false): Generator<number> {
  // cron-parser would take it for now.
  if (Number.isNaN(from)) throw new RangeError('invalid date')
  const today = Math.floor((from + offset(from)) / day) * day
  const order = back ? minutes.toReversed() : minutes
  let last = from
  // Going back from tomorrow: its midnight may have been before a clock went back over it (St. John's, 2010).
  for (const midnight of days(back ? today + day : today, back)) {
    const early = offset(midnight - 15 * hour)
    const steady = early === offset(midnight + 37 * hour)
    for (const value of order) {
      const wall = midnight + value * minute
      const time = steady ? wall - early : momentOf(wall, offset)
      if (back ? time >= last : time <= last) continue
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
