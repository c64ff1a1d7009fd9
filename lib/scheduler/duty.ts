// What a scheduler has to do, when it is due, and what is started next. Pure: the clock and what is known of earlier runs are arguments.
import type { Target } from '../contract.ts'
import { words } from '../keys.ts'
import { type Schedule, scheduledVerbs, scheduleOf } from '../schedule/verbs.ts'
import { nextTimes } from '../schedule.ts'
import { zoneOf } from '../target.ts'

/** A verb that a target has scheduled, or the digest of all targets, which has no target. `command`: kedge's words for it. */
export type Duty = {
  readonly key: string
  readonly target: string
  readonly verb: string
  readonly command: readonly string[]
  readonly schedule: Schedule
}
/**
 * `since`: the last attempt, or where there was none, from when on the duty is known. `next`: the first due time after it, so that of
 * several missed ones one is made up for. Both in milliseconds.
 */
export type Timed = Duty & { readonly since: number; readonly next: number }

const day = 86_400_000
/** For how long a run waits for one that somebody started by hand: it holds a place of --jobs meanwhile. */
const wait = '1h'
/** Milliseconds after which the clock is looked at whatever is due: the machine may have slept, the clock been set. */
export const longestPause = 30_000

export function dutiesOf(target: Target): Duty[] {
  return scheduledVerbs.flatMap((verb) => {
    const schedule = scheduleOf(target, verb)
    return schedule ? [dutyOf(target.name, verb, schedule)] : []
  })
}

const dutyOf = (target: string, verb: string, schedule: Schedule): Duty => ({
  key: `${target} ${verb}`,
  target,
  verb,
  command: [verb, `--wait=${wait}`, target],
  schedule,
})

/** A duty by its key, as it was scheduled; a digest then is of all targets. Undefined where it is no duty's key. */
export function dutyFrom(key: string, schedule: Schedule): Duty | undefined {
  const [target = '', verb = ''] = key.split(' ')
  if (target === '') return verb === 'digest' ? { key, target, verb, command: ['notify', 'digest'], schedule } : undefined
  return (scheduledVerbs as readonly string[]).includes(verb) ? dutyOf(target, verb, schedule) : undefined
}

/** A digest of all targets, those that do not load included; where they differ in its time, one for those that agree. */
export function digestDuties(targets: readonly Target[]): Duty[] {
  const groups = new Map<string, { schedule: Schedule; names: string[] }>()
  for (const target of targets) {
    const expression = target.env.SCHEDULE_DIGEST
    if (!target.env.NOTIFY || !expression || !words(target.env.NOTIFY_ON).includes('digest')) continue
    const schedule = { expression, zone: zoneOf(target), seed: 'digest', offsetSeconds: 0 }
    const key = `${schedule.zone} ${expression}`
    groups.set(key, { schedule, names: [...(groups.get(key)?.names ?? []), target.name] })
  }
  // No target's name begins with a blank.
  return [...groups].map(([key, { schedule, names }]) => ({
    key: ` digest ${key}`,
    target: '',
    verb: 'digest',
    command: ['notify', 'digest', ...(groups.size > 1 ? names : [])],
    schedule,
  }))
}

/** How people are told of a duty. */
export const labelOf = ({ target, verb }: Pick<Duty, 'target' | 'verb'>): string => (target ? `${target}: ${verb}` : verb)

/**
 * The latest of the attempts; undefined where there is none. One in the future shows that the clock was set back: as long as it may have
 * been an hour or a time zone it counts, and nothing is run twice; one that is more than a day ahead would stop the schedule for long.
 */
export function latestOf(attempts: readonly (number | undefined)[], now: number): number | undefined {
  const sound = attempts.filter((at) => at !== undefined && at <= now + day)
  return sound.length > 0 ? Math.max(...(sound as number[])) : undefined
}

/** Whether the clock was set back so far that `since` says nothing any more. */
export const isLost = ({ since }: Timed, now: number): boolean => since > now + day

export async function timed(duty: Duty, since: number): Promise<Timed> {
  const [next = Number.POSITIVE_INFINITY] = await dueTimes(duty, since, { count: 1 })
  return { ...duty, since, next }
}

/** What to start next of what is due by then: the longest overdue, of a target that is not busy; undefined where there is nothing. */
export function choose(duties: Iterable<Timed>, until: number, busy: ReadonlySet<string>): Timed | undefined {
  return [...duties].filter(({ next, target }) => next <= until && !busy.has(target)).sort(byTime)[0]
}

// At the same time the verbs in their own order: a backup before the prune.
const byTime = (a: Timed, b: Timed) => a.next - b.next || rank(a) - rank(b)
const rank = ({ verb }: Duty) => (scheduledVerbs as readonly string[]).indexOf(verb)

/** Milliseconds until something comes due, at most `longestPause`. What is due and has to wait starts when another run ends. */
export function pauseUntil(duties: Iterable<Timed>, now: number): number {
  let pause = longestPause
  for (const { next } of duties) if (next > now) pause = Math.min(pause, next - now)
  return pause
}

export type Start = { readonly at: number; readonly due: number; readonly duty: Duty }

/** What would start from now until then, by time; what is overdue would start now. Milliseconds. */
export async function upcoming(duties: Iterable<Timed>, now: number, until: number): Promise<Start[]> {
  const starts: Start[] = []
  for (const duty of duties) {
    if (duty.next <= now) starts.push({ at: now, due: duty.next, duty })
    const from = Math.max(now, duty.since)
    for (const at of await dueTimes(duty, from, { until })) starts.push({ at, due: at, duty })
  }
  return starts.sort((a, b) => a.at - b.at || (a.duty.key < b.duty.key ? -1 : 1))
}

/** The due times after `from`, the duty's shift included. Milliseconds. */
async function dueTimes({ schedule }: Duty, from: number, { until, count }: { until?: number; count?: number }): Promise<number[]> {
  const { expression, zone, seed, offsetSeconds } = schedule
  const shift = offsetSeconds * 1000
  const end = until === undefined ? undefined : new Date(until - shift)
  const times = await nextTimes(expression, { zone, seed, from: new Date(from - shift), count, until: end })
  return times.map((time) => time.getTime() + shift)
}
