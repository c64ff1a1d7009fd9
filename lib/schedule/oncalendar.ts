// Cron expressions as OnCalendar values of systemd: exactly, or refused with the reason. Pure.
//
// What systemd 252 does where clocks change, measured with `systemd-analyze calendar --base-time --iterations`:
// - A time that the day lacks is left out, and that day's run with it: `*-*-* 02:30:00 Europe/Berlin` goes from 28 to 30 March 2026. So the
//   moment after the gap gets a line of its own, on the days of the year on which the gap can be: `Sun *-03-25..31 03:00:00`.
// - A time that the day has twice comes the first time only, in schedules of every hour too, which then pause for two hours. These are
//   written in UTC where no day is named. (A timer that fires late, within the second hour, fires again at the times left in it.)
// - Where summer time is encoded as standard time and winter as negative saving (Ireland, Morocco), what comes after a gap is lost for the
//   day, and some versions up to 257 start a timer over and over in the hour before (systemd issues 32039, 36897). London has Ireland's clocks
//   without it; Morocco's change by no yearly rule, so that no line can stand for its gaps.
// - Where a clock lands within an hour (Chatham: 03:45) what is left of that hour is lost.
// - With `~`, a time that comes twice is the second one when systemd counts on to it from an earlier time of the same day.
// - No zone is the machine's, as `local` is in kedge. It is read when the lines are made: those for gaps are that zone's.
import { DAY, type Offset, offsetIn } from '../zone.ts'
import { type Fields, fieldsOf } from './expression.ts'

const MINUTE = 60_000
/** After so many years the weekdays fall on the same dates again. */
const YEARS = 28
const week = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun']

/**
 * The OnCalendar values that together elapse at exactly the due times of a schedule, or why there are none, as a sentence without a stop.
 * `zone`: an IANA name, or `local`. Rules of daylight saving are taken as they stand at `now`. Throws a config Failure for a wrong
 * expression or zone.
 */
export async function onCalendar(
  expression: string,
  { zone, seed, now = new Date() }: { zone: string; seed: string; now?: Date },
): Promise<{ calendars: string[] } | { refused: string }> {
  const fields = await fieldsOf(expression, seed)
  const changes = changesOf(offsetIn(zone), now.getTime())
  const twice = changes.filter((change) => comesTwice(fields, change))
  const name = zoneName(zone)
  const suffix = name === undefined ? '' : ` ${name}`
  const refuse = (why: string) => ({
    refused: `systemd cannot keep '${expression}'${zone === 'local' ? '' : ` in ${zone}`}: ${why}; it runs under kedge scheduler or from a crontab`,
  })
  const days = daysOf(fields, twice.length > 0)
  const calendars = days.map((each) => `${each} ${list(fields.hours, 24)}:${list(fields.minutes, 60)}:00${suffix}`)
  const gaps = changes.filter(({ before, after }) => after > before)
  const odd = !isYearly(gaps) || gaps.some(isStuck)
  const lost = gaps.filter((gap) => isLost(fields, gap, odd ? 60 : 0))
  const everyHour = fields.hours.length === 24
  const utc = everyHour && days.join() === '*-*-*' && changes.length > 0 ? minutesInUtc(fields, changes) : undefined
  if (utc) return { calendars: [`*-*-* *:${list(utc, 60)}:00 UTC`] }
  if (odd && lost.length > 0) return refuse('it loses times about the hour that the clocks there leave out')
  if (everyHour && twice.length > 0) return refuse('it leaves out the hour that comes twice when the clocks go back')
  if (everyHour) return { calendars }
  if ((fields.dates?.last || fields.weekdays?.last.length) && twice.some(({ at, after }) => new Date(at + after).getUTCMonth() === 1))
    return refuse('at the end of February it may take the second of two hours')
  const [first] = lost
  if (first === undefined) return { calendars }
  const { month, weekday, time } = landing(first)
  const dates = [...new Set(lost.map((gap) => landing(gap).date))].sort((a, b) => a - b)
  return { calendars: [...calendars, `${weekdayList([weekday])}*-${two(month)}-${list(dates, 0)} ${time}:00${suffix}`] }
}

/** The zone as systemd reads it, which minds the case of letters; undefined for the machine's. */
function zoneName(zone: string): string | undefined {
  const known = new Intl.DateTimeFormat('en-US', zone === 'local' ? {} : { timeZone: zone }).resolvedOptions().timeZone
  if (known === 'Europe/Dublin') return 'Europe/London'
  if (zone === 'local') return undefined
  // `known` has the zone's oldest name, which is not installed everywhere.
  return known.toLowerCase() === zone.toLowerCase() || !/^[A-Z]/.test(zone) ? known : zone
}

/** Offsets in milliseconds before and after the moment `at`. */
type Change = { readonly at: number; readonly before: number; readonly after: number }

function changesOf(offset: Offset, now: number): Change[] {
  const until = new Date(now).setUTCFullYear(new Date(now).getUTCFullYear() + YEARS)
  const changes: Change[] = []
  // No zone changes twice within six days (zone.ts).
  for (let from = now; from < until; from += 5 * DAY) {
    let [low, high] = [from, Math.min(until, from + 5 * DAY)]
    const [before, after] = [offset(low), offset(high)]
    if (before === after) continue
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2)
      if (offset(middle) === before) low = middle
      else high = middle
    }
    changes.push({ at: high, before, after })
  }
  return changes
}

/** Where the clock stands after a gap, in the words of a calendar. */
function landing({ at, after }: Change): { month: number; date: number; weekday: number; time: string } {
  const wall = new Date(at + after)
  const time = `${two(wall.getUTCHours())}:${two(wall.getUTCMinutes())}`
  return { month: wall.getUTCMonth() + 1, date: wall.getUTCDate(), weekday: wall.getUTCDay(), time }
}

/** Whether each year has one of these, at the same time of a weekday within the same seven days of a month. */
function isYearly(changes: readonly Change[]): boolean {
  const landings = changes.map(landing)
  const kinds = new Set(landings.map(({ month, weekday, time }) => `${month} ${weekday} ${time}`))
  const dates = landings.map(({ date }) => date)
  return changes.length === YEARS && kinds.size === 1 && Math.max(...dates) - Math.min(...dates) <= 6
}

/** Whether the hour in which the clock lands begins in the gap, and is looked for in the next one (Chatham): systemd never finds it. */
function isStuck({ at, before, after }: Change): boolean {
  const hour = 60 * MINUTE
  const begin = Math.floor((at + after) / hour) * hour
  return begin >= at + before && begin < at + after && after - before >= hour
}

/** Whether something is due within a gap, or `about` minutes before or after, and nothing where the clock lands, which would stand for it. */
function isLost(fields: Fields, { at, before, after }: Change, about: number): boolean {
  if (isDue(fields, at + after) && about === 0) return false
  const end = at + after + about * MINUTE
  for (let wall = at + before - about * MINUTE; wall < end; wall += MINUTE) if (isDue(fields, wall)) return true
  return false
}

function comesTwice(fields: Fields, { at, before, after }: Change): boolean {
  for (let wall = at + after; wall < at + before; wall += MINUTE) if (isDue(fields, wall)) return true
  return false
}

/** The minutes of an hourly schedule as UTC has them; undefined where that depends on the season. */
function minutesInUtc({ minutes }: Fields, changes: readonly Change[]): readonly number[] | undefined {
  const [first = [], ...others] = [...new Set(changes.flatMap(({ before, after }) => [before, after]))].map((offset) =>
    minutes.map((value) => (((value - offset / MINUTE) % 60) + 60) % 60).sort((a, b) => a - b),
  )
  return others.every((other) => other.join() === first.join()) ? first : undefined
}

/** Whether a local time, read in UTC, is one of the schedule's. */
function isDue({ minutes, hours, months, dates, weekdays }: Fields, wall: number): boolean {
  const time = new Date(wall)
  if (!minutes.includes(time.getUTCMinutes()) || !hours.includes(time.getUTCHours()) || !months.includes(time.getUTCMonth() + 1))
    return false
  const [date, weekday] = [time.getUTCDate(), time.getUTCDay()]
  const length = new Date(Date.UTC(time.getUTCFullYear(), time.getUTCMonth() + 1, 0)).getUTCDate()
  const byDate = dates && (dates.values.includes(date) || (dates.last && date === length))
  const byWeekday =
    weekdays &&
    ((weekdays.values.includes(weekday) && (weekdays.nth === 0 || weekdays.nth === Math.ceil(date / 7))) ||
      (weekdays.last.includes(weekday) && date + 7 > length))
  return byDate === undefined && byWeekday === undefined ? true : Boolean(byDate || byWeekday)
}

const lengths = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

/** The days as systemd writes them; "or" takes several. `twice`: the schedule has times in an hour that comes twice. */
function daysOf({ months, dates, weekdays }: Fields, twice: boolean): string[] {
  const month = list(months, 12, 1)
  if (!dates && !weekdays) return [`*-${month}-*`]
  const found: string[] = []
  const longest = Math.max(...months.map((each) => lengths[each - 1] ?? 31))
  const possible = dates?.values.filter((date) => date <= longest) ?? []
  if (possible.length > 0) found.push(`*-${month}-${list(possible, 31, 1)}`)
  if (dates?.last) found.push(...lastDays(months, 1, twice).map((days) => `*-${days}`))
  if (weekdays && weekdays.values.length > 0) {
    const { nth } = weekdays
    const within = nth === 0 ? '*' : `${two(nth * 7 - 6)}..${two(Math.min(31, nth * 7))}`
    found.push(`${weekdayList(weekdays.values)}*-${month}-${within}`)
  }
  // Of the last seven days each that is one of these.
  if (weekdays && weekdays.last.length > 0)
    found.push(...lastDays(months, 7, twice).map((days) => `${weekdayList(weekdays.last)}*-${days}`))
  return found
}

/** The last days of months; `numbered` without `~`, which only February cannot do without. */
function lastDays(months: readonly number[], count: 1 | 7, numbered: boolean): string[] {
  const counted = `~${count === 1 ? '01' : '07/1'}`
  if (!numbered) return [`${list(months, 12, 1)}${counted}`]
  const found: string[] = []
  for (const length of [31, 30, 29]) {
    const those = months.filter((month) => lengths[month - 1] === length)
    const days = count === 1 ? `-${length}` : `-${length - 6}..${length}`
    if (those.length > 0) found.push(`${list(those, 12, 1)}${length === 29 ? counted : days}`)
  }
  return found
}

/** Ranges of weekdays do not reach over Sunday. */
function weekdayList(values: readonly number[]): string {
  const sorted = values.map((value) => (value + 6) % 7).sort((a, b) => a - b)
  return sorted.length === 7 ? '' : `${runs(sorted, (value) => week[value] ?? '').join()} `
}

const two = (value: number): string => String(value).padStart(2, '0')

/** Ascending numbers as systemd writes them: `*` for all of `size`, ranges, steps, lists. */
function list(values: readonly number[], size: number, low = 0): string {
  if (values.length === size) return '*'
  const [first = low, second = first] = values
  const step = second - first
  const even = values.length > 3 && step > 1 && values.every((value, index) => value === first + index * step)
  return even ? `${two(first)}..${two(values.at(-1) ?? 0)}/${step}` : runs(values, two).join()
}

/** Three or more in a row as a range. */
function runs(values: readonly number[], text: (value: number) => string): string[] {
  const found: string[] = []
  for (let index = 0; index < values.length; ) {
    const first = values[index] ?? 0
    let end = index
    while (values[end + 1] === first + end + 1 - index) end++
    const last = values[end] ?? 0
    if (end - index >= 2) found.push(`${text(first)}..${text(last)}`)
    else for (const value of values.slice(index, end + 1)) found.push(text(value))
    index = end + 1
  }
  return found
}
