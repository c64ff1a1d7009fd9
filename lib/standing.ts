// How a target stands, verb by verb: was there a good run in time, did the last one fail, when is the next due.
import type { Target } from './contract.ts'
import { duration, parseDuration, shortId } from './format.ts'
import { type Lag, lagsOf } from './lag.ts'
import type { Last } from './ledger.ts'
import { liveRuns } from './live.ts'
import { readMarks } from './marks.ts'
import { type Live, overviewOf } from './overview.ts'
import { stateDir } from './paths.ts'
import type { RunRow, StatusRow } from './rows.ts'
import { type ScheduledVerb, scheduledVerbs, scheduleOf } from './schedule/verbs.ts'
import { defaultAge, rowOfStore } from './standing/store.ts'

/** `lags`: of its second stores. */
export type Known = { last: Last; live: readonly Live[]; lags?: readonly Lag[] }
/** How long the last good backup may be ago, in place of MAX_AGE and the schedule. */
export type Options = { maxAge?: number | undefined; now: Date }

/** The rows of a target, one for each verb that it is to do, or that failed. */
export async function standingOf(target: Target, options: Options): Promise<StatusRow[]> {
  const { last } = overviewOf(stateDir(target.name), new Map())
  return await standing(target, { last, live: await liveRuns(target.name), lags: await lagsOf(target) }, options)
}

export async function standing(target: Target, known: Known, options: Options): Promise<StatusRow[]> {
  const rows: StatusRow[] = []
  for (const verb of scheduledVerbs) {
    if (verb === 'copy' && known.lags?.length) {
      for (const lag of known.lags) rows.push(await rowOfStore(lag, target, known, options.now))
      continue
    }
    const scheduled = scheduleOf(target, verb) !== undefined
    // A target without sources holds what others copy into it.
    const wanted = scheduled || (verb === 'backup' && (target.paths.length + target.streams.length > 0 || Boolean(target.env.MAX_AGE)))
    const row = await rowOf(verb, target, known, options, wanted)
    if (wanted || row.state === 'failed' || row.state === 'crashed' || row.state === 'running') rows.push(row)
  }
  return rows
}

async function rowOf(
  verb: ScheduledVerb,
  target: Target,
  { last, live }: Known,
  { maxAge, now }: Options,
  wanted: boolean,
): Promise<StatusRow> {
  const { good, bad } = last[verb] ?? {}
  const mine = live.filter((each) => each.verb === verb)
  const age = good ? Math.max(0, Math.round((now.getTime() - Date.parse(good.start)) / 1000)) : null
  const row = { kind: 'status', target: target.name, verb, good: good?.start ?? null, failed: bad?.start ?? null, due: null, age } as const
  const timing = wanted ? await timingOf(verb, target, { last, maxAge, now }) : {}
  const judged = (state: StatusRow['state'], message?: string): StatusRow => ({
    ...row,
    due: timing.due ?? null,
    state,
    ...(message && { message }),
  })
  if (timing.late && good) return judged('stale', timing.late)
  const running = mine.find(({ alive }) => alive !== 'no')
  const dead = mine.find(({ alive, run }) => alive === 'no' && run !== last[verb]?.last.run)
  if (dead && !running) return judged('crashed', `the run ${dead.run} ended without a word`)
  if (bad && (!good || bad.start > good.start) && !waitedFor(bad, good) && !(running && bad.class === 'locked'))
    return judged(bad.state === 'crashed' ? 'crashed' : 'failed', bad.message)
  if (running) return judged('running', `since ${running.start}`)
  if (!good && wanted) return timing.late || verb === 'backup' ? judged('never') : judged('ok', 'not due yet')
  return judged('ok', verb === 'backup' && good ? await doubtOf(target, good) : undefined)
}

/** What a good run saved and nobody has accepted yet: prune waits for it, and with rsync no snapshot is linked to it. */
async function doubtOf({ name }: Target, { state, results = [] }: RunRow): Promise<string | undefined> {
  if (state !== 'warning') return undefined // a thousand targets need no further file
  const { suspects } = await readMarks(name)
  const told = results.flatMap((row) => (row.kind === 'summary' ? [[row.snapshot, suspects?.[row.snapshot]] as const] : []))
  const [id, why] = told.find(([, reason]) => reason) ?? []
  return id && `snapshot ${shortId(id)} is suspect: ${why}`
}

/** A run that found the lock held by one that ended well. */
const waitedFor = (bad: RunRow, good: RunRow | undefined): boolean =>
  bad.class === 'locked' && good !== undefined && Date.parse(good.start) + good.seconds * 1000 >= Date.parse(bad.start)

/** When it is due next, and, where it is late, why. */
async function timingOf(
  verb: ScheduledVerb,
  target: Target,
  { last, maxAge, now }: { last: Last; maxAge: number | undefined; now: Date },
): Promise<{ due?: string; late?: string }> {
  const schedule = scheduleOf(target, verb)
  const good = last[verb]?.good
  const age = good && (now.getTime() - Date.parse(good.start)) / 1000
  const given = verb === 'backup' ? (maxAge ?? parseDuration(target.env.MAX_AGE ?? '')) : undefined
  const limit = given ?? (verb === 'backup' && !schedule ? defaultAge : undefined)
  const tooOld = limit !== undefined && age !== undefined && age > limit ? `older than ${duration(limit)}` : undefined
  if (!schedule) return { ...(tooOld && { late: tooOld }) }
  const { due, interval, nextTimes } = await import('./schedule.ts')
  const { expression, zone, seed, offsetSeconds } = schedule
  const where = { zone, seed, now }
  // The time that a run takes, and timers that wander: a daily one may be two hours late. Where systemd shifts it, it does so by a draw of
  // its own: so any shift counts, and a run that came before ours is good.
  const wander = Math.max(1800, (await interval(expression, where)) / 12) + (parseDuration(target.env.SCHEDULE_JITTER ?? '') ?? 0)
  const lastGood = good ? new Date(good.start) : knownSince(last)
  const { overdue, since } = await due(expression, { ...where, lastGood, graceSeconds: wander + (good?.seconds ?? 0) })
  const missed = overdue && since ? `it was due ${since.toISOString()}` : undefined
  const late = limit !== undefined ? tooOld : missed
  const shift = offsetSeconds * 1000
  const [next] = await nextTimes(expression, { zone, seed, from: new Date(now.getTime() - shift) })
  return { ...(next && { due: new Date(next.getTime() + shift).toISOString() }), ...(late && { late }) }
}

// A target that was made today has missed no weekly check. What ran first is the best that is known of its age.
function knownSince(last: Last): Date | undefined {
  const starts = Object.values(last).flatMap(({ last, good, bad }) =>
    [last, good, bad].flatMap((run) => (run ? [Date.parse(run.start)] : [])),
  )
  return starts.length > 0 ? new Date(Math.min(...starts)) : undefined
}

const order: readonly StatusRow['state'][] = ['crashed', 'failed', 'stale', 'never', 'running', 'ok']
export const isBad = ({ state }: StatusRow): boolean => state !== 'ok' && state !== 'running'

/** The one row that stands for the target. */
export function worstOf(rows: readonly StatusRow[]): StatusRow | undefined {
  return rows.toSorted((a, b) => order.indexOf(a.state) - order.indexOf(b.state))[0]
}

/** A monitoring plugin's answer. `rows`: the worst of each target; `unknown`: messages of targets that do not load. */
export function nagios(rows: readonly StatusRow[], unknown: readonly string[]): { status: 0 | 1 | 2 | 3; text: string } {
  // What is saved and whether it is whole is critical; what tidies up or copies is not, yet.
  const critical = rows.filter((row) => isBad(row) && ['backup', 'check', 'drill'].includes(row.verb))
  const warning = rows.filter((row) => isBad(row) && !critical.includes(row))
  const status = critical.length > 0 ? 2 : unknown.length > 0 ? 3 : warning.length > 0 ? 1 : 0
  const word = ['OK', 'WARNING', 'CRITICAL', 'UNKNOWN'][status]
  const said = [...critical, ...warning].map(
    ({ target, verb, state, message }) => `${target}: ${verb} ${state}${message ? ` (${message})` : ''}`,
  )
  const summary = [...said, ...unknown].join('; ') || `${rows.length} target${rows.length === 1 ? '' : 's'} as they should be`
  const perfdata = rows.filter(({ age }) => age !== null).map(({ target, age }) => `'${target}_age'=${age}s;;;0`)
  // One line; a bar begins the perfdata.
  const line = `KEDGE ${word} - ${summary}`.replace(/\s+/g, ' ').replaceAll('|', '/')
  return { status, text: perfdata.length > 0 ? `${line} | ${perfdata.join(' ')}` : line }
}
