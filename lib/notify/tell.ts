// What a run tells of its start and of its end. Nothing here changes the run's result: trouble is said and kept, and not thrown.
import type { Context, Target } from '../contract.ts'
import { Failure } from '../failure.ts'
import type { RunRow } from '../rows.ts'
import { limited } from './attempts.ts'
import { complain } from './channels.ts'
import { eventOf, eventsOf, isTold } from './event.ts'
import { readMemory } from './memory.ts'
import { earlierRuns } from './runnotice.ts'
import { type Settings, settingsOf, type Values } from './settings.ts'
import { channelsFor, keepPending, leftPending, sendKept, sendLeft, type Telling } from './telling.ts'

/** Seconds: whoever waits for the end of the run should not wait for its start. */
const startLimit = 10

/** Pings the start to whoever waits for the end. */
export async function tellStart(
  target: Target,
  { run, verb }: { run: string; verb: string },
  secrets: Values | undefined,
  context: Context,
): Promise<void> {
  await harmlessly(target, context, async () => {
    const settings = settingsOf(target, secrets)
    if (!settings.channels.includes('ping')) return
    const { begin } = await import('./ping.ts')
    const limit = limited(Math.min(settings.timeout, startLimit), context.signal, true)
    const { signal, seconds, pause } = limit
    try {
      await begin({ target: target.name, verb, id: run }, settings, { signal, seconds, pause, attempts: 1 })
    } catch (error) {
      // A cancelled run has its end to tell of.
      if (!(error instanceof Failure)) throw error
      if (!context.signal.aborted) complain([{ channel: 'ping', to: '', failure: error }], target.name, context)
    } finally {
      limit.clear()
    }
  })
}

/**
 * Tells of a run's end where NOTIFY_ON asks for it; `before`: the run of the verb before this one; and before that of what an earlier run was
 * ended over: the last that is heard must be the latest.
 */
export async function tellEnd(
  target: Target,
  record: RunRow,
  before: RunRow | undefined,
  secrets: Values | undefined,
  context: Context,
): Promise<void> {
  if (!isTold(record)) return
  await harmlessly(target, context, async () => {
    const settings = settingsOf(target, secrets)
    const telling = await tellingOf(record, before, settings)
    if (telling) await keepPending(telling, context)
    await harmlessly(target, context, async () => {
      await sendLeft(await leftPending(settings), settings, context)
    })
    // A cancelled run has the time to tell of itself only; the crash of another is told by the next one.
    if (telling && !(context.signal.aborted && record.state === 'crashed')) await sendKept(telling, settings, context)
  })
}

/** Undefined where nobody is to hear of it, or has heard of it already. */
async function tellingOf(record: RunRow, before: RunRow | undefined, settings: Settings): Promise<Telling | undefined> {
  const { tellings = [] } = await readMemory(settings.target)
  if (record.state === 'crashed' && tellings.some(({ run }) => run === record.run)) return undefined
  const earlier = await earlierRuns(settings.target, record)
  const prior = before && before.state !== 'skipped' ? before : earlier.before
  const event = eventOf(record, prior, settings.events)
  const channels = channelsFor(settings, event)
  if (channels.length === 0) return undefined
  return { record, event: event ?? eventsOf(record, prior)[0] ?? 'skipped', good: earlier.good, channels }
}

async function harmlessly(target: Target, context: Context, tell: () => Promise<void>): Promise<void> {
  try {
    await tell()
  } catch (error) {
    context.report(error, `cannot notify of '${target.name}'`)
  }
}
