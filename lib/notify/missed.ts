// `kedge notify missed`: a unit failed (OnFailure=). Did its run tell of itself? One that was killed, or never started, did not.
import type { Context, Rows, Target } from '../contract.ts'
import { Failure, statusFor, worst } from '../failure.ts'
import { isGood, newest, runId } from '../ledger.ts'
import { liveRuns } from '../live.ts'
import type { Live } from '../overview.ts'
import { stateDir } from '../paths.ts'
import { preamble } from '../preamble.ts'
import type { CommandLine, RunRow } from '../rows.ts'
import { openSecrets } from '../secret.ts'
import { checkName, loadTarget } from '../target.ts'
import { complain, sendOver } from './channels.ts'
import { eventsOf } from './event.ts'
import { noteTold, readMemory } from './memory.ts'
import { looseSettings, mayNeedSecrets, type Settings, settingsOf } from './settings.ts'
import { byHand, preview, toldRow } from './show.ts'
import { runNotice, sendAndNote } from './tell.ts'

/** Seconds between the end of a run and that of its unit: hooks, and messages that are tried three times. */
const lately = 600

export type Missed = { verb: string; target: string }

/** `backup web1`, or the one word `kedge-backup:web1` that a unit's %i gives, with or without kedge-, @ for the colon, and the unit's suffix. */
export function parseMissed(operands: readonly string[]): Missed {
  const [first = '', second] = operands
  const [, verb, target] = second === undefined ? (/^(?:kedge-)?([a-z]+)[:@](.+?)(?:\.service)?$/.exec(first) ?? []) : ['', first, second]
  if (!verb || !target || operands.length > 2 || !/^[a-z]+$/.test(verb))
    throw new Failure('misuse', `not a verb and a target: '${operands.join(' ')}'`, { hint: 'kedge notify missed backup web1' })
  return { verb, target: checkName(target) }
}

type Known = {
  /** The runs of the verb that died without a record, the newest first. */
  dead: readonly Pick<Live, 'run' | 'start' | 'pid'>[]
  /** The last run of it on record. */
  last: RunRow | undefined
  /** The channels over which that one could not tell of itself: the sandbox of its unit may be why. */
  untold: readonly string[]
  told: { run: string; at: string } | undefined
  now: Date
}
/** `missed`: the record that the run would have left; `untold`: one that is there, and was not told over all channels. */
type Judged = { missed: RunRow } | { untold: RunRow } | { nothing: string }

/** What there is to tell. A run that died has its state file, unless it was killed before it came so far. Pure. */
export function judge({ verb, target }: Missed, { dead, last, untold, told, now }: Known): Judged {
  const base = { kind: 'run', target, verb, state: 'crashed', status: 1, class: 'tool', seconds: 0 } as const
  const died = dead.find(({ run }) => run !== told?.run)
  if (died) {
    const hint = 'it was killed, ran out of memory, or the machine went down: see the journal of the system'
    return { missed: { ...base, run: died.run, start: died.start, message: `its process ${died.pid} ended without a record`, hint } }
  }
  const since = (time: string, seconds = 0) => (now.getTime() - Date.parse(time)) / 1000 - seconds
  if (told && since(told.at) < lately) return { nothing: `the run ${told.run} was told of ${told.at}` }
  if (last && since(last.start, last.seconds) < lately)
    return untold.length > 0 ? { untold: last } : { nothing: `the run ${last.run} is on record (${last.state}) and has told of itself` }
  const message = `the ${verb} left no record: kedge could not start, or was killed`
  const hint = `try it by hand: kedge ${verb} ${target}; journalctl -u kedge-${verb}@${target} has what it said`
  return { missed: { ...base, run: runId(now, 'missed'), start: now.toISOString(), message, hint } }
}

const looked = 1000

async function knownOf({ verb, target }: Missed, now: Date): Promise<Known & { good: string | undefined }> {
  const dead = (await liveRuns(target)).filter((each) => each.verb === verb && each.alive === 'no')
  let last: RunRow | undefined
  let good: string | undefined
  let count = 0
  for await (const each of newest(stateDir(target))) {
    if (++count > looked) break
    if (each.verb !== verb) continue
    last ??= each
    good ??= isGood(each) ? each.start : undefined
    // A crash that a later run has put on record has been told of by that.
    const at = dead.findIndex(({ run }) => run === each.run)
    if (at >= 0) dead.splice(at, 1)
    if (good && dead.length === 0) break
  }
  const { channels, told } = await readMemory(target)
  const untold = Object.keys(channels).filter((name) => last !== undefined && channels[name]?.failed?.run === last.run)
  return { dead, last, good, untold, told: told?.[verb], now }
}

type Way = { settings: Settings; lines: readonly CommandLine[]; trouble?: Failure }

/** How to tell, also of a target that does not load: that may be why the run left no record. */
async function wayTo(name: string, context: Context): Promise<Way> {
  let target: Target
  try {
    target = await loadTarget(name)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    context.report(error)
    return { settings: await looseSettings(name), lines: [], trouble: error }
  }
  const settings = settingsOf(target, undefined)
  if (context.mode === 'explain') return { settings, lines: [...preamble(target)] }
  if (!mayNeedSecrets(target, settings)) return { settings, lines: [] }
  try {
    return { settings: settingsOf(target, await openSecrets(target, context)), lines: [] }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    context.report(error)
    return { settings, lines: [], trouble: error }
  }
}

/** Returns the worst status: of what could not be sent, and of a target that does not load or whose secrets do not open. */
export async function* missed(operands: readonly string[], context: Context): AsyncGenerator<Rows, number> {
  const what = parseMissed(operands)
  const now = new Date()
  const { settings, lines, trouble } = await wayTo(what.target, context)
  const statuses = trouble ? [statusFor(trouble)] : []
  const { good, ...known } = await knownOf(what, now)
  const found = judge(what, known)
  if ('nothing' in found) {
    context.log(`nothing to tell: ${found.nothing}`)
    return worst(statuses)
  }
  // What keeps the target from loading is most likely what kept the run from leaving a record.
  const why = trouble ? `: ${trouble.message}` : ''
  const record = 'missed' in found ? { ...found.missed, message: `${found.missed.message}${why}` } : found.untold
  const names = settings.channels.filter((name) =>
    'untold' in found ? known.untold.includes(name) : name === 'ping' || settings.events.includes('failure'),
  )
  if (names.length === 0) {
    context.log(`nobody is told of the ${what.verb} of '${what.target}': NOTIFY is not set, or NOTIFY_ON leaves out failure`)
    return worst(statuses)
  }
  const event = eventsOf(record, undefined)[0] ?? 'failure'
  const notice = await runNotice(record, event, good)
  if (context.mode === 'explain') {
    yield lines
    return worst([...statuses, ...(yield* byHand(names, notice, settings, context))])
  }
  if (context.mode === 'dry-run') {
    yield* preview(names, notice, settings)
    return worst(statuses)
  }
  // A target that is gone gets no state folder for that.
  const gone = trouble?.class === 'misuse'
  const sent = gone ? await sendOver(names, notice, settings, context.signal) : await sendAndNote(names, notice, settings, context)
  if (gone) complain(sent, what.target, context)
  // Once; but where nobody took it the next call tries again.
  else if ('missed' in found && sent.some(({ failure }) => !failure)) await noteTold(what.target, what.verb, record.run, now.toISOString())
  yield sent.map((each) => toldRow(each, what.target))
  return worst([...statuses, ...sent.flatMap(({ failure }) => (failure ? [statusFor(failure)] : []))])
}
