// What would be sent: for -n the text, for --explain the lines of sh.
import type { Context, Rows } from '../contract.ts'
import { Failure } from '../failure.ts'
import type { Told } from '../rows/house.ts'
import { channelOf, type Sent } from './channels.ts'
import { type Notice, scrub, sealed } from './notice.ts'
import type { ChannelName, Settings } from './settings.ts'

export const toldRow = ({ channel, to, failure }: Sent, target: string): Told => ({
  kind: 'told',
  target,
  channel,
  to,
  state: failure ? 'failed' : 'sent',
  ...(failure && { message: failure.message }),
})

/** One row a channel, and the text. Failure where a channel could not even be addressed: its first. */
export async function* preview(names: readonly ChannelName[], notice: Notice, settings: Settings): AsyncGenerator<Rows> {
  let trouble: Failure | undefined
  for (const channel of names) {
    try {
      yield { kind: 'told', target: notice.target, channel, to: (await channelOf(channel)).to(settings), state: 'would send' }
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      trouble ??= error
      yield { kind: 'told', target: notice.target, channel, to: '', state: 'failed', message: scrub(error.message) }
    }
  }
  const { subject, body } = sealed(notice)
  yield { kind: 'text', text: `Subject: ${subject}\n\n${body.replace(/\n$/, '')}` }
  if (trouble) throw trouble
}

/** The lines that send the same; the secrets are variables, which a line before them sets. */
export async function* byHand(names: readonly ChannelName[], notice: Notice, settings: Settings, context: Pick<Context, 'report'>) {
  const clean = sealed(notice)
  const statuses: number[] = []
  for (const name of names) {
    try {
      yield { kind: 'command', command: (await channelOf(name)).shown(clean, settings) } as const
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      statuses.push(context.report(error, name))
    }
  }
  return statuses
}
