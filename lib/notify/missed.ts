// `kedge notify missed`: a unit failed (OnFailure=). Did its run tell of itself? One that was killed, or never started, did not.
import type { Context, Rows, Target } from '../contract.ts'
import { callerVar } from '../env.ts'
import { Failure, statusFor, worst } from '../failure.ts'
import { isGood, newest, runId } from '../ledger.ts'
import { liveRuns } from '../live.ts'
import { nearest } from '../nearest.ts'
import type { Live } from '../overview.ts'
import { stateDir } from '../paths.ts'
import { preamble } from '../preamble.ts'
import { exists } from '../process.ts'
import type { RunRow } from '../rows.ts'
import { openSecrets } from '../secret.ts'
import { checkName, loadTarget } from '../target.ts'
import { complain, type Sent, sendOver } from './channels.ts'
import { eventOf, eventsOf, isTold, verbs } from './event.ts'
import { readMemory, type Told } from './memory.ts'
import { runNotice } from './runnotice.ts'
import { looseSettings, mayNeedSecrets, type Settings, settingsOf } from './settings.ts'
import { byHand, preview, toldRow } from './show.ts'
import { channelsFor, keepPending, leftPending, sendKept, sendLeft, type Telling } from './telling.ts'

/** Seconds between the end of a run that told of itself and the call for its unit. */
const lately = 120

export type Missed = { verb: string; target: string }

/**
 * `backup web1`, or the one word `kedge-backup:web1` that a unit's %i gives: with or without kedge-, with @ for the colon, and with the
 * unit's suffix.
 */
export function parseMissed(operands: readonly string[]): Missed {
  const [first = '', second] = operands
  const [, verb, target] = second === undefined ? (/^(?:kedge-)?([a-z]+)[:@](.+?)(?:\.service)?$/.exec(first) ?? []) : ['', first, second]
  if (!verb || !target || operands.length > 2 || !/^[a-z]+$/.test(verb))
    throw new Failure('misuse', `not a verb and a target: '${operands.join(' ')}'`, { hint: 'kedge notify missed backup web1' })
  if (!verbs.has(verb)) {
    const like = nearest(verb, [...verbs])
    throw new Failure('misuse', `no verb whose runs are told of: '${verb}'`, {
      hint: like ? `did you mean ${like}?` : [...verbs].join(', '),
    })
  }
  return { verb, target: checkName(target) }
}

type Known = {
  /** The runs of the verb that died without a record, the newest first. */
  readonly dead: readonly Pick<Live, 'run' | 'start' | 'pid'>[]
  /** The last run of it on record that ended with another status than 0: a unit that failed ran none of the others. */
  readonly bad: RunRow | undefined
  /** The channels that did not take what that one told: the sandbox of its unit may be why. */
  readonly refused: readonly string[]
  /** What was told of the verb's runs, or is being told. */
  readonly tellings: readonly Pick<Told, 'run' | 'at'>[]
  /** Whether the target loads; a run of one that does not leaves no record. */
  readonly loads: boolean
  /** Whether a unit of systemd's asks. */
  readonly unit: boolean
  readonly now: Date
}
/** `missed`: the record that the run would have left; `untold`: one that is there, to be told over all channels or over those named. */
type Judged = { missed: RunRow } | { untold: RunRow; over?: readonly string[] } | { nothing: string }

/** What there is to tell. A run that died has its state file, unless it was killed before it came so far. Pure. */
export function judge({ verb, target }: Missed, { dead, bad, refused, tellings, loads, unit, now }: Known): Judged {
  const base = { kind: 'run', target, verb, state: 'crashed', status: 1, class: 'tool', seconds: 0 } as const
  const told = (run: string) => tellings.find((each) => each.run === run)
  const died = dead.find(({ run }) => !told(run))
  if (died) {
    const hint = 'it was killed, ran out of memory, or the machine went down: see the journal of the system'
    return { missed: { ...base, run: died.run, start: died.start, message: `its process ${died.pid} ended without a record`, hint } }
  }
  const isRecent = (time: string, seconds = 0) => (now.getTime() - Date.parse(time)) / 1000 - seconds < lately
  const own = bad && told(bad.run)
  if (bad && loads && (isRecent(bad.start, bad.seconds) || (own && isRecent(own.at)))) {
    if (!own) return { untold: bad }
    if (refused.length > 0) return { untold: bad, over: refused }
    return { nothing: `the run ${bad.run} is on record (${bad.state}) and has told of itself` }
  }
  const other = tellings.findLast(({ run, at }) => run !== bad?.run && isRecent(at))
  if (other) return { nothing: `the run ${other.run} was told of ${other.at}` }
  const message = `the ${verb} left no record: kedge could not start, or was killed`
  const said = unit
    ? `journalctl -u kedge-${verb}@${target} has what it said`
    : `what started it has what it said: cron's mail, the scheduler's log`
  const hint = `try it by hand: kedge ${verb} ${target}; ${said}`
  return { missed: { ...base, run: runId(now, 'missed'), start: now.toISOString(), message, hint } }
}

const looked = 1000
/** Seconds after which a record is of no run whose unit fails now. */
const longAgo = 3600

async function knownOf(
  { verb, target }: Missed,
  { timeout }: Settings,
  now: Date,
): Promise<Omit<Known, 'loads' | 'unit'> & { good: string | undefined }> {
  // A run whose process is gone is dead, though a child of it may still be ending.
  const died = ({ alive, pid }: Live) => alive === 'no' || (alive === 'yes' && !exists(pid))
  const dead = (await liveRuns(target)).filter((each) => each.verb === verb && died(each))
  let bad: RunRow | undefined
  let good: string | undefined
  let count = 0
  for await (const each of newest(stateDir(target))) {
    if (++count > looked) break
    if (each.verb !== verb) continue
    if (each.status !== 0) bad ??= each
    good ??= isGood(each) ? each.start : undefined
    // A crash that a later run has put on record has been told of by that.
    const at = dead.findIndex(({ run }) => run === each.run)
    if (at >= 0) dead.splice(at, 1)
    const old = (now.getTime() - Date.parse(each.start)) / 1000 - each.seconds > longAgo
    if (good && dead.length === 0 && (bad || old)) break
  }
  const { channels, tellings = [], pending = [] } = await readMemory(target)
  const open = pending.find(({ record }) => record.run === bad?.run)
  const refused = Object.keys(channels).filter((name) => bad && channels[name]?.failed?.run === bad.run && !open?.channels.includes(name))
  // Its sender was at it until now, or for as long as it tries.
  const until = (at: string) => new Date(Math.min(now.getTime(), Date.parse(at) + 3000 * timeout)).toISOString()
  const begun = pending.map(({ record, at }) => ({ run: record.run, verb: record.verb, at: until(at) }))
  return { dead, bad, good, refused, tellings: [...tellings, ...begun].filter((each) => each.verb === verb), now }
}

type Way = { settings: Settings; target?: Target; trouble?: Failure }

/** How to tell, also of a target that does not load: that may be why the run left no record. Nothing secret is opened. */
async function wayTo(name: string, context: Context): Promise<Way> {
  try {
    const target = await loadTarget(name)
    return { target, settings: settingsOf(target, undefined) }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    context.report(error)
    return { settings: await looseSettings(name), trouble: error }
  }
}

/**
 * The same with the secrets, where a channel may need them, or where they may be why a run left no record (`lost`); without, and why, where
 * they do not open.
 */
async function opened({ target, settings }: Way, lost: boolean, context: Context): Promise<{ settings: Settings; trouble?: Failure }> {
  if (!target || context.mode === 'explain' || !(lost || mayNeedSecrets(target, settings))) return { settings }
  try {
    return { settings: settingsOf(target, await openSecrets(target, context)) }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    context.report(error)
    return { settings, trouble: error }
  }
}

/** Of what was found, what is to be sent; undefined where nobody is to hear of it. */
function tellingOf(found: Exclude<Judged, { nothing: string }>, { settings, trouble }: Way, good: string | undefined): Telling | undefined {
  // What keeps the target from loading is most likely what kept the run from leaving a record.
  const why = trouble ? `: ${trouble.message}` : ''
  const record = 'missed' in found ? { ...found.missed, message: `${found.missed.message}${why}` } : found.untold
  if (!isTold(record)) return undefined
  const event = eventOf(record, undefined, settings.events)
  const over = 'untold' in found ? found.over : undefined
  const channels = channelsFor(settings, event).filter((name) => over?.includes(name) ?? true)
  if (channels.length === 0) return undefined
  return { record, event: event ?? eventsOf(record, undefined)[0] ?? 'skipped', good, channels }
}

/** Returns the worst status: of what could not be sent, and of a target that does not load or whose secrets do not open. */
export async function* missed(operands: readonly string[], context: Context): AsyncGenerator<Rows, number> {
  const what = parseMissed(operands)
  const now = new Date()
  const way = await wayTo(what.target, context)
  const statuses = way.trouble ? [statusFor(way.trouble)] : []
  const left = await leftPending(way.settings)
  const { good, ...known } = await knownOf(what, way.settings, now)
  // A scheduler that is a service hands INVOCATION_ID on, and gives two words.
  const unit = operands.length === 1 && callerVar('INVOCATION_ID') !== undefined
  const found = judge(what, { ...known, loads: way.target !== undefined, unit })
  let telling = 'nothing' in found ? undefined : tellingOf(found, way, good)
  if ('nothing' in found) context.log(`nothing to tell: ${found.nothing}`)
  else if (!telling)
    context.log(`nobody is to be told of the ${what.verb} of '${what.target}': NOTIFY is not set, or NOTIFY_ON leaves it out`)
  if (left.length === 0 && !telling) return worst(statuses)
  const lost = 'missed' in found
  const { settings, trouble } = await opened(way, lost, context)
  if (trouble) statuses.push(statusFor(trouble))
  if (telling && lost && trouble)
    telling = { ...telling, record: { ...telling.record, message: `${telling.record.message}: ${trouble.message}` } }
  if (context.mode !== 'act') {
    if (context.mode === 'explain' && way.target) yield* preamble(way.target)
    for (const { record, event, good, channels } of [...left, ...(telling ? [telling] : [])]) {
      const notice = await runNotice(record, event, good)
      if (context.mode === 'explain') statuses.push(...(yield* byHand(channels, notice, settings, context)))
      else yield* preview(channels, notice, settings)
    }
    return worst(statuses)
  }
  // A target that is gone gets no state folder for that.
  const gone = way.trouble?.class === 'misuse'
  if (telling && !gone) await keepPending(telling, context)
  const sent = await sendLeft(left, settings, context)
  if (telling) sent.push(...(await (gone ? sendUnkept(telling, settings, context) : sendKept(telling, settings, context, { lost }))))
  yield sent.map((each) => toldRow(each, what.target))
  return worst([...statuses, ...sent.flatMap(({ failure }) => (failure ? [statusFor(failure)] : []))])
}

async function sendUnkept({ record, event, good, channels }: Telling, settings: Settings, context: Context): Promise<Sent[]> {
  const sent = await sendOver(channels, await runNotice(record, event, good), settings, context.signal)
  complain(sent, settings.target, context)
  return sent
}
