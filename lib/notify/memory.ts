// What is known of a target's channels: notify.json in its state. Told by status, doctor and the metrics, since who is not reached by a
// channel does not hear from it that it is broken.
import { join } from 'node:path'
import type { Target } from '../contract.ts'
import { words } from '../keys.ts'
import { makeState, readJson, replaceFile } from '../ledger.ts'
import { take } from '../lock.ts'
import { stateDir } from '../paths.ts'
import { prepare } from '../prepared.ts'
import type { StatusRow } from '../rows.ts'
import { lockDir } from '../running.ts'

/** `ok`: when it was last of use; `failed`: since when it is not, why, and the run that it was last to tell of. */
export type ChannelState = { ok?: string; failed?: { at: string; message: string; run: string } }
/** `told`: of each verb the run that ended without a record and was told of, with the time of that. */
export type Memory = { channels: Record<string, ChannelState>; told?: Record<string, { run: string; at: string }> }

const file = (target: string) => join(stateDir(target), 'notify.json')

export const readMemory = async (target: string): Promise<Memory> => (await readJson<Memory>(file(target))) ?? { channels: {} }

/** Changes it, under the ledger's lock: a backup and a check may end at once. The metrics that are prepared follow. */
async function change(target: string, how: (memory: Memory) => Memory): Promise<void> {
  const state = stateDir(target)
  makeState(state)
  const lock = await take(lockDir(target), 'ledger', { run: 'notify', verb: 'notify' }, { wait: 10 })
  try {
    await replaceFile(file(target), JSON.stringify(how(await readMemory(target))), 0o640, false) // made anew with each message
    await prepare(state)
  } finally {
    await lock.release()
  }
}

/** Notes how the channels did; those that the target has no more (`all`) are forgotten. */
export const noteChannels = async (
  target: string,
  all: readonly string[],
  done: readonly { channel: string; id: string; message?: string | undefined }[],
  at: string,
): Promise<void> =>
  await change(target, (memory) => {
    const channels = { ...memory.channels }
    for (const { channel, id, message } of done) {
      const { ok, failed } = channels[channel] ?? {}
      const known = ok === undefined ? {} : { ok }
      channels[channel] = message === undefined ? { ok: at } : { ...known, failed: { at: failed?.at ?? at, message, run: id } }
    }
    return { ...memory, channels: Object.fromEntries(Object.entries(channels).filter(([name]) => all.includes(name))) }
  })

export const noteTold = async (target: string, verb: string, run: string, at: string): Promise<void> =>
  await change(target, (memory) => ({ ...memory, told: { ...memory.told, [verb]: { run, at } } }))

/** The channels of a target that failed when they were last tried, each as a line. */
export const failing = ({ channels }: Memory, wanted: readonly string[]): string[] =>
  wanted.flatMap((name) => {
    const failed = channels[name]?.failed
    return failed ? [`${name} fails since ${failed.at.slice(0, 16)}Z: ${failed.message}`] : []
  })

/** The rows of status: the first one that has nothing else to say tells which channel fails. A run is not worse for it. */
export async function withFailing(rows: readonly StatusRow[], target: Target): Promise<StatusRow[]> {
  const message = failing(await readMemory(target.name), words(target.env.NOTIFY)).join('; ')
  const place = message ? rows.findIndex((row) => row.state === 'ok' && row.message === undefined) : -1
  return rows.map((row, index) => (index === place ? { ...row, message } : row))
}
