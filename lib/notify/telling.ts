// The sending of what is told of a run, so that none of it is lost: it is kept in notify.json before, until each channel had its attempts.
// Who sends may be killed at any moment; then somebody else sends what is left, and a channel may get it twice.
import type { Context } from '../contract.ts'
import { alive, identity } from '../process.ts'
import type { RunRow } from '../rows.ts'
import { complain, type Sent, sendOver } from './channels.ts'
import type { RunEvent } from './event.ts'
import { noteChannels, notePending, type Pending, readMemory } from './memory.ts'
import { oneLine } from './notice.ts'
import { runNotice } from './runnotice.ts'
import type { ChannelName, Settings } from './settings.ts'

/** `good`: when the last good run of the verb before it began. */
export type Telling = {
  readonly record: RunRow
  readonly event: RunEvent
  readonly good?: string | undefined
  readonly channels: readonly ChannelName[]
}
type Ways = Pick<Context, 'log' | 'signal' | 'report'>

/** The channels that are told of a run: all where its event is wanted; a check that waits for pings takes silence for failure. */
export const channelsFor = ({ channels }: Settings, event: RunEvent | undefined): ChannelName[] =>
  channels.filter((name) => name === 'ping' || event !== undefined)

/** Keeps what is to be sent. False where that cannot be (a disk that is full), which is said: what is new is sent all the same. */
export async function keepPending({ record, event, good, channels }: Telling, context: Pick<Context, 'report'>): Promise<boolean> {
  try {
    await notePending(record.target, { record, event, good, channels, at: new Date().toISOString(), by: identity() })
    return true
  } catch (error) {
    context.report(error, `cannot keep what is to be told of '${record.target}'`)
    return false
  }
}

/**
 * Sends what was kept, says what was not taken, and keeps how the channels did, where it can. What a cancel cut off stays pending. `lost`:
 * a run without a record, which is told of only when somebody took it. `later`, of what another left: the channels that wait on; so does one that wants
 * secrets that are not open.
 */
export async function sendKept(
  telling: Telling,
  settings: Settings,
  context: Ways,
  { lost = false, later }: { lost?: boolean; later?: readonly ChannelName[] } = {},
): Promise<Sent[]> {
  const { record, event, good, channels } = telling
  const { run, verb } = record
  const sent = await sendOver(channels, await runNotice(record, event, good), settings, context.signal)
  complain(sent, settings.target, context)
  const waits = ({ failure }: Sent) => failure && (context.signal.aborted || (later && !settings.open && failure.class === 'auth'))
  const left = [...(later ?? []), ...sent.filter(waits).map(({ channel }) => channel)]
  const at = new Date().toISOString()
  const told = !lost || sent.some(({ failure }) => !failure)
  try {
    await noteChannels(settings.target, settings.channels, outcomes(sent, run), at, { telling: { run, verb, at }, told, left })
  } catch (error) {
    context.report(error, `cannot note what was told of '${settings.target}'`) // it was told
  }
  return sent
}

/** What others left pending when they were ended, the oldest first, as far as the target has the channels. */
export async function leftPending(settings: Settings): Promise<Telling[]> {
  const { pending = [] } = await readMemory(settings.target)
  const left: Pending[] = []
  // Of a host that had another name nothing is known: told twice is better than not at all.
  for (const each of pending) if ((await alive(each.by, [])) !== 'yes') left.push(each)
  return left.flatMap(({ channels: names, ...each }) => {
    const channels = settings.channels.filter((name) => names.includes(name))
    return channels.length > 0 ? [{ ...each, channels }] : []
  })
}

/**
 * Sends what others left pending. A channel that fails is tried once; for the rest it waits. So does all of it where nothing can be noted:
 * it would be sent again by every run.
 */
export async function sendLeft(left: readonly Telling[], settings: Settings, context: Ways): Promise<Sent[]> {
  const all: Sent[] = []
  for (const telling of left) {
    const fails = (name: ChannelName) => all.some(({ channel, failure }) => channel === name && failure)
    const channels = telling.channels.filter((name) => !fails(name))
    if (channels.length === 0 || context.signal.aborted) continue
    if (!(await keepPending(telling, context))) break // as its own: nobody else is to send it now
    all.push(...(await sendKept({ ...telling, channels }, settings, context, { later: telling.channels.filter(fails) })))
  }
  return all
}

export const outcomes = (sent: readonly Sent[], id: string) =>
  sent.map(({ channel, failure }) => ({ channel, id, message: failure && oneLine(failure.message) }))
