// What a run tells of its start and of its end. Nothing here changes the run's result: trouble is said and kept, and not thrown.
import { open } from 'node:fs/promises'
import { hostname } from 'node:os'
import type { Context, Target } from '../contract.ts'
import { Failure } from '../failure.ts'
import { isAbsent, isGood, logFile, newest } from '../ledger.ts'
import { stateDir } from '../paths.ts'
import type { RunRow } from '../rows.ts'
import { limited } from './attempts.ts'
import { complain, type Sent, sendOver } from './channels.ts'
import { type Event, eventOf, eventsOf, isTold, outcomeOf } from './event.ts'
import { noteChannels, readMemory } from './memory.ts'
import { type Notice, oneLine, tail } from './notice.ts'
import { runText } from './runtext.ts'
import { type ChannelName, type Settings, settingsOf, type Values } from './settings.ts'

/** Seconds: whoever waits for the end of the run should not wait for its start. */
const startLimit = 10

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
    const { clear, ...how } = limited(Math.min(settings.timeout, startLimit), context.signal, true)
    try {
      await begin({ target: target.name, verb, id: run }, settings, { ...how, attempts: 1 })
    } catch (error) {
      // A cancelled run has its end to tell of.
      if (!(error instanceof Failure)) throw error
      if (!context.signal.aborted) complain([{ channel: 'ping', to: '', failure: error }], target.name, context)
    } finally {
      clear()
    }
  })
}

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
    if (record.state === 'crashed' && (await readMemory(target.name)).told?.[record.verb]?.run === record.run) return
    const earlier = await earlierRuns(target.name, record)
    const prior = before && before.state !== 'skipped' ? before : earlier.before
    const event = eventOf(record, prior, settings.events)
    // A check that waits for pings takes silence for failure: NOTIFY_ON does not silence it.
    const names = settings.channels.filter((name) => name === 'ping' || event !== undefined)
    const said = event ?? eventsOf(record, prior)[0] ?? 'skipped'
    if (names.length > 0) await sendAndNote(names, await runNotice(record, said, earlier.good), settings, context)
  })
}

/** Sends, says what was not taken, and keeps how the channels did. `stop`: as in sendOver. */
export async function sendAndNote(
  names: readonly ChannelName[],
  notice: Notice,
  settings: Settings,
  context: Pick<Context, 'log' | 'signal'>,
  stop = false,
): Promise<Sent[]> {
  const sent = await sendOver(names, notice, settings, context.signal, stop)
  complain(sent, settings.target, context)
  await noteChannels(settings.target, settings.channels, outcomes(sent, notice.id), new Date().toISOString())
  return sent
}

export const outcomes = (sent: readonly Sent[], id: string) =>
  sent.map(({ channel, failure }) => ({ channel, id, message: failure && oneLine(failure.message) }))

async function harmlessly(target: Target, context: Context, tell: () => Promise<void>): Promise<void> {
  try {
    await tell()
  } catch (error) {
    context.report(error, `cannot notify of '${target.name}'`)
  }
}

/** `good`: when the last good run of the verb before it began. */
export async function runNotice(record: RunRow, event: Event | 'skipped', good: string | undefined): Promise<Notice> {
  const host = hostname()
  const log = await logTail(record.target, record.run)
  return {
    event,
    target: record.target,
    verb: record.verb,
    id: record.run,
    time: new Date().toISOString(),
    host,
    ...runText({ record, event, host, good, log }),
    record,
    outcome: outcomeOf(record),
    log,
  }
}

const looked = 1000

/** Of the same verb: the last run before this one that was not skipped, and when the last good one began. */
async function earlierRuns(target: string, { run, verb }: RunRow): Promise<{ before?: RunRow; good?: string }> {
  let before: RunRow | undefined
  let count = 0
  for await (const each of newest(stateDir(target))) {
    if (++count > looked) break
    if (each.verb !== verb || each.run >= run || each.state === 'skipped') continue
    before ??= each
    if (isGood(each)) return { before, good: each.start }
  }
  return before ? { before } : {}
}

const logBytes = 16_384

/** The end of a run's log, whole lines; empty where there is none. */
async function logTail(target: string, run: string): Promise<string> {
  try {
    const handle = await open(logFile(stateDir(target), run))
    try {
      const { size } = await handle.stat()
      // One byte more: a line feed there tells that the first line is whole.
      const from = Math.max(0, size - logBytes - 1)
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(size - from), 0, size - from, from)
      return from === 0 ? buffer.toString('utf8', 0, bytesRead) : tail(buffer.toString('utf8', 0, bytesRead), logBytes)
    } finally {
      await handle.close()
    }
  } catch (error) {
    if (isAbsent(error)) return ''
    throw error
  }
}
