// A run tells of itself: at its start to whoever waits for its end, at its end to the channels of NOTIFY. What cannot be told never
// changes the run's result: it is said, and kept in notify.json for status, doctor and the metrics.
import type { Context, Target } from './contract.ts'
import type { RunRow } from './rows.ts'

/** A target's secrets; undefined where they could not be opened. */
type Secrets = Readonly<Record<string, string>> | undefined

/** Pings the start. Trouble is said; nothing is thrown. */
export async function notifyStart(target: Target, run: { run: string; verb: string }, secrets: Secrets, context: Context): Promise<void> {
  if (!target.env.NOTIFY) return
  const { tellStart } = await import('./notify/tell.ts')
  await tellStart(target, run, secrets, context)
}

/** Tells of the end, where NOTIFY_ON asks for it. `before`: the run of the verb before this one. Trouble is said; nothing is thrown. */
export async function notifyEnd(
  target: Target,
  record: RunRow,
  before: RunRow | undefined,
  secrets: Secrets,
  context: Context,
): Promise<void> {
  if (!target.env.NOTIFY) return
  const { tellEnd } = await import('./notify/tell.ts')
  await tellEnd(target, record, before, secrets, context)
}
