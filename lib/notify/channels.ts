// The table of channels, each loaded when it is used, and the sending of one notice over several.
import type { Context } from '../contract.ts'
import { Failure } from '../failure.ts'
import { type How, limited } from './attempts.ts'
import { type Notice, scrub, sealed } from './notice.ts'
import type { ChannelName, Settings } from './settings.ts'

export type Channel = {
  /** Where it goes, as it may be printed. Failure `config` or `auth` for what is missing. */
  readonly to: (settings: Settings) => string
  /** Failure where it did not get there. */
  readonly send: (notice: Notice, settings: Settings, how: How) => Promise<void>
  /** The same as a line of sh, without secrets. */
  readonly shown: (notice: Notice, settings: Settings) => string
}

const table = {
  mail: () => import('./mail.ts'),
  webhook: () => import('./webhook.ts'),
  ping: () => import('./ping.ts'),
  command: () => import('./command.ts'),
} as const satisfies Record<ChannelName, () => Promise<Channel>>

export const channelOf = async (name: ChannelName): Promise<Channel> => await table[name]()

/** `to` is empty where the address itself is missing. */
export type Sent = { readonly channel: ChannelName; readonly to: string; readonly failure?: Failure }

/**
 * Sends over these channels at once, and waits for all. What fails is in the answer; a bug is thrown, after the other channels are done.
 * `stop`: ends at once when the signal is aborted, and throws its reason.
 */
export async function sendOver(
  names: readonly ChannelName[],
  notice: Notice,
  settings: Settings,
  signal: AbortSignal,
  stop = false,
): Promise<Sent[]> {
  const clean = sealed(notice)
  const how = limited(settings.timeout, signal, stop)
  const ends = await Promise.allSettled(names.map((name) => sendOne(name, clean, settings, how)))
  how.clear()
  if (stop) signal.throwIfAborted()
  return ends.map((end) => {
    if (end.status === 'rejected') throw end.reason
    return end.value
  })
}

async function sendOne(name: ChannelName, notice: Notice, settings: Settings, how: How): Promise<Sent> {
  let to = ''
  try {
    const channel = await channelOf(name)
    to = channel.to(settings)
    await channel.send(notice, settings, how)
    return { channel: name, to }
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    return { channel: name, to, failure: new Failure(error.class, scrub(error.message), { hint: error.hint, cause: error }) }
  }
}

/** Says what could not be sent. */
export function complain(sent: readonly Sent[], target: string, context: Pick<Context, 'log'>): void {
  for (const { channel, failure } of sent)
    if (failure)
      context.log(`kedge: cannot notify of '${target}' by ${channel}: ${failure.message}${failure.hint ? `\n  hint: ${failure.hint}` : ''}`)
}
