// An instant in a time zone of the IANA database: its offset from UTC, its calendar, and the instant that a local time names. Pure.
// Instants and local times are milliseconds since 1970; a local time is the zone's clock and calendar read as if it were UTC.
import { Failure } from './failure.ts'

const HOUR = 3_600_000
export const DAY = 24 * HOUR
/** No zone has changed its offset twice within six days since 1970 (tzdata 2025b), so a block this long holds one change at most. */
const BLOCK = 5 * DAY
/** The first and last instant that a Date can hold, less what an offset and a block can add. */
const END = 8.64e15 - 10 * DAY

/** Milliseconds to add to an instant to get the zone's local time. */
export type Offset = (instant: number) => number

/**
 * The offsets of a zone such as 'Europe/Berlin', or of 'local', this machine's. Asking Intl costs some microseconds, so the answers are kept:
 * a run through instants in order asks it once a block. Throws a config Failure for a zone that does not exist.
 */
export function offsetIn(zone: string): Offset {
  const ask = asker(zone)
  const edges = new Map<number, number>()
  const changes = new Map<number, number>()
  const edge = (block: number) => {
    const known = edges.get(block)
    if (known !== undefined) return known
    const offset = ask(block * BLOCK)
    edges.set(block, offset)
    return offset
  }
  const change = (block: number, before: number) => {
    const known = changes.get(block)
    if (known !== undefined) return known
    const instant = firstOther(block * BLOCK, (block + 1) * BLOCK, (at) => ask(at) === before)
    changes.set(block, instant)
    return instant
  }
  let from = 0
  let until = 0
  let offset = 0
  return (instant) => {
    if (instant >= from && instant < until) return offset
    const at = Math.max(-END, Math.min(END, instant))
    const block = Math.floor(at / BLOCK)
    from = block * BLOCK
    until = from + BLOCK
    offset = edge(block)
    const after = edge(block + 1)
    if (after === offset) return offset
    const changed = change(block, offset)
    if (at < changed) until = changed
    else {
      from = changed
      offset = after
    }
    return offset
  }
}

/**
 * The instant of a local time. A time that the clock shows twice means the first. One that it skips is read by the offset
 * before or after the gap: where summer time begins, 02:30 is 03:30 ('later', as cron and Temporal have it) or 01:30 ('earlier').
 */
export function instantOf(local: number, offset: Offset, skipped: 'later' | 'earlier' = 'later'): number {
  const before = local - offset(local - DAY)
  const after = local - offset(local + DAY)
  if (before + offset(before) === local) return before
  if (after + offset(after) === local) return after
  return skipped === 'later' ? before : after
}

/** Hours, days, ISO weeks, months and years, each counted from a beginning of its own: equal numbers are the same hour, day … of the zone. */
export type Calendar = { hourly: number; daily: number; weekly: number; monthly: number; yearly: number }

export function calendarIn(offset: Offset): (instant: number) => Calendar {
  let known = NaN
  let monthly = 0
  return (instant) => {
    const local = instant + offset(instant)
    const daily = Math.floor(local / DAY)
    if (daily !== known) {
      const date = new Date(daily * DAY)
      monthly = date.getUTCFullYear() * 12 + date.getUTCMonth()
      known = daily
    }
    // 1970-01-01 was a Thursday, and ISO weeks begin on Monday.
    return { hourly: Math.floor(local / HOUR), daily, weekly: Math.floor((daily + 3) / 7), monthly, yearly: Math.floor(monthly / 12) }
  }
}

export type Span = { readonly months: number; readonly days: number; readonly hours: number }

/**
 * The instant a span earlier, as Go's AddDate and Add have it: months and days by the zone's calendar (30 February is 1 or 2 March),
 * then hours of 60 minutes. A time that the clock skipped or showed twice is the earlier one: in Apia, where 30 December 2011 was
 * left out, a day before the 31st would otherwise be the 31st, and keep nothing. -Infinity when that is before all dates.
 */
export function back(instant: number, span: Span, offset: Offset): number {
  const date = new Date(instant + offset(instant))
  const local = date.setUTCMonth(date.getUTCMonth() - span.months, date.getUTCDate() - span.days)
  return Number.isNaN(local) ? -Infinity : instantOf(local, offset, 'earlier') - span.hours * HOUR
}

/** YYYY-MM-DD of a local day, counted from 1970-01-01. */
export function dateOf(day: number): string {
  return new Date(day * DAY).toISOString().slice(0, 10)
}

function asker(zone: string): Offset {
  const format = formatter(zone)
  return (instant) => {
    const found = /GMT(?:([+-])(\d\d):(\d\d)(?::(\d\d))?)?$/.exec(format.format(instant))
    if (!found) throw new Error(`cannot read the offset of '${zone}' at ${instant}: ${format.format(instant)}`)
    const [, sign, hours = '0', minutes = '0', seconds = '0'] = found
    return (sign === '-' ? -1 : 1) * (Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds)) * 1000
  }
}

function formatter(zone: string): Intl.DateTimeFormat {
  try {
    return new Intl.DateTimeFormat('en-US', { ...(zone !== 'local' && { timeZone: zone }), timeZoneName: 'longOffset' })
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new Failure('config', `no such time zone '${zone}'`, { hint: 'TZ takes names such as Europe/Berlin or UTC', cause: error })
  }
}

/** The first whole second after which `same` no longer holds; it holds at `low` and not at `high`. */
function firstOther(low: number, high: number, same: (instant: number) => boolean): number {
  let [yes, no] = [low, high]
  while (no - yes > 1000) {
    const middle = Math.floor((yes + no) / 2000) * 1000
    if (same(middle)) yes = middle
    else no = middle
  }
  return no
}
