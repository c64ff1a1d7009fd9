// `kedge notify test`: proves the channels of a target, one by one.
import { randomUUID } from 'node:crypto'
import type { Context, Rows, Target } from '../contract.ts'
import { Failure, statusFor, worst } from '../failure.ts'
import { channels as known } from '../keys.ts'
import { preamble } from '../preamble.ts'
import { openSecrets } from '../secret.ts'
import { complain, sendOver } from './channels.ts'
import { noteChannels } from './memory.ts'
import type { Notice } from './notice.ts'
import { type ChannelName, type Settings, settingsOf } from './settings.ts'
import { byHand, preview, toldRow } from './show.ts'
import { outcomes } from './telling.ts'

/** The channels to be tried: all of the target, or the one named. Failure `misuse` where there is none. */
export function chosen(settings: Settings, only: string | undefined): readonly ChannelName[] {
  const { channels, target } = settings
  if (only !== undefined && !(known as readonly string[]).includes(only))
    throw new Failure('misuse', `no channel '${only}'`, { hint: `the channels: ${known.join(', ')}` })
  if (channels.length === 0)
    throw new Failure('misuse', `target '${target}' notifies nobody: NOTIFY is not set`, {
      hint: 'NOTIFY=mail in target.env or defaults.env',
    })
  // One that is not in NOTIFY yet may be tried before it is.
  return only === undefined ? channels : [only as ChannelName]
}

function trialNotice({ target, host }: Settings, now: Date): Notice {
  const time = now.toISOString()
  const id = `test-${randomUUID()}`
  const first = `This is a test of kedge on ${host}: what tells of the runs of ${target} reaches you here.`
  const record = { kind: 'test', target, host, time }
  return {
    event: 'test',
    target,
    verb: 'test',
    id,
    time,
    host,
    subject: `kedge: test of ${target} on ${host}`,
    body: `${first}\nNo backup ran, and none failed.\n`,
    record,
    outcome: 'good',
    log: '',
  }
}

/** Returns the worst status of the channels that failed, 0 when none did. */
export async function* trial(target: Target, only: string | undefined, context: Context): AsyncGenerator<Rows, number> {
  const plain = settingsOf(target, undefined)
  const names = chosen(plain, only)
  const notice = trialNotice(plain, new Date())
  if (context.mode === 'explain') {
    yield* preamble(target)
    return worst(yield* byHand(names, notice, plain, context))
  }
  const settings = settingsOf(target, await openSecrets(target, context))
  if (context.mode === 'dry-run') {
    yield* preview(names, notice, settings)
    return 0
  }
  const sent = await sendOver(names, notice, settings, context.signal, true)
  complain(sent, target.name, context)
  await noteChannels(target.name, settings.channels, outcomes(sent, notice.id), new Date().toISOString())
  yield sent.map((each) => toldRow(each, target.name))
  return worst(sent.flatMap(({ failure }) => (failure ? [statusFor(failure)] : [])))
}
