// What a run's end means to whoever is told: pure.
import { isGood } from '../ledger.ts'
import type { RunRow } from '../rows.ts'

export type Event = 'failure' | 'warning' | 'recovery' | 'success'
/** What a run may be told as. */
export type RunEvent = Event | 'skipped'
/** The verbs whose runs are told of. */
export const verbs: ReadonlySet<string> = new Set(['backup', 'prune', 'copy', 'check', 'drill', 'rotate'])
const bad: ReadonlySet<string> = new Set(['failed', 'crashed', 'cancelled'])

/**
 * Whether the end of a run is told of at all: a crash is, of whatever verb, since nobody was there to see it; a mistyped option is not,
 * since it is no run.
 */
export const isTold = (record: RunRow): boolean => (verbs.has(record.verb) || record.state === 'crashed') && record.class !== 'misuse'

/**
 * What a record is an instance of, what it is above all first: a good run after a bad one is a recovery, and a success. `before`: the
 * run of the verb before it that was not skipped.
 */
export function eventsOf(record: RunRow, before: RunRow | undefined): Event[] {
  if (bad.has(record.state)) return ['failure']
  if (record.state !== 'success' && record.state !== 'warning') return []
  if (!isGood(record)) return record.state === 'warning' ? ['warning'] : ['success'] // of names from a list (--files-from)
  const recovered: Event[] = before && !isGood(before) && before.state !== 'skipped' ? ['recovery'] : []
  return [...recovered, ...(record.state === 'warning' ? (['warning'] as const) : []), 'success']
}

/** What a check that waits for pings is to hear: of a skipped run, and of one of names from a list, neither good nor bad. */
export const outcomeOf = (record: RunRow): 'good' | 'bad' | 'neither' =>
  isGood(record) ? 'good' : record.state === 'skipped' || record.status === 0 ? 'neither' : 'bad'

/** The event that a record is told as: the first of its events that is wanted. */
export const eventOf = (record: RunRow, before: RunRow | undefined, wanted: readonly string[]): Event | undefined =>
  eventsOf(record, before).find((event) => wanted.includes(event))
