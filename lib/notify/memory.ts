// What is known of a target's channels: notify.json in its state. Told by status, doctor and the metrics, since who is not reached by a
// channel does not hear from it that it is broken.
import { join } from 'node:path'
import type { Target } from '../contract.ts'
import { words } from '../keys.ts'
import { makeState, readJson, replaceFile } from '../ledger.ts'
import { take } from '../lock.ts'
import { stateDir } from '../paths.ts'
import { prepare } from '../prepared.ts'
import type { Identity } from '../process.ts'
import type { RunRow, StatusRow } from '../rows.ts'
import { lockDir } from '../running.ts'
import type { RunEvent } from './event.ts'

/** `ok`: when it was last of use; `failed`: since when it is not, why, and the run that it was last to tell of. */
export type ChannelState = { ok?: string; failed?: { at: string; message: string; run: string } }
/** A run that was told of, as far as its channels took it. */
export type Told = { readonly run: string; readonly verb: string; readonly at: string }
/** What is to be sent, and over which channels it has not been yet. `by`: who is at it, or was when it was ended. */
export type Pending = {
  readonly record: RunRow
  readonly event: RunEvent
  readonly good?: string | undefined
  readonly channels: readonly string[]
  /** When its sending began. */
  readonly at: string
  readonly by: Identity
}
export type Memory = {
  readonly channels: Readonly<Record<string, ChannelState>>
  /** The latest last. */
  readonly tellings?: readonly Told[]
  /** The oldest first. */
  readonly pending?: readonly Pending[]
}

/** How many are kept of either: a target has six verbs that are told of. */
const kept = 16

const file = (target: string) => join(stateDir(target), 'notify.json')

export const readMemory = async (target: string): Promise<Memory> => (await readJson<Memory>(file(target))) ?? { channels: {} }

/** Changes it, under the ledger's lock: a backup and a check may end at once. */
async function change(target: string, how: (memory: Memory) => Memory, then?: (state: string) => Promise<void>): Promise<void> {
  const state = stateDir(target)
  makeState(state)
  const lock = await take(lockDir(target), 'ledger', { run: 'notify', verb: 'notify' }, { wait: 10 })
  try {
    await replaceFile(file(target), JSON.stringify(how(await readMemory(target))), 0o640, false) // made anew with each message
    await then?.(state)
  } finally {
    await lock.release()
  }
}

/** Keeps what is about to be sent, in case that its sender does not come to the end of it. */
export const notePending = async (target: string, pending: Pending): Promise<void> =>
  await change(target, (memory) => {
    const others = (memory.pending ?? []).filter(({ record }) => record.run !== pending.record.run)
    return { ...memory, pending: [...others, pending].slice(-kept) }
  })

export type Done = { readonly channel: string; readonly id: string; readonly message?: string | undefined }
/** `left`: the channels over which the run is to be told later. */
export type End = { readonly telling: Told; readonly told: boolean; readonly left: readonly string[] }

/** Notes how the channels did; those that the target has no more (`all`) are forgotten. The metrics that are prepared follow. */
export const noteChannels = async (target: string, all: readonly string[], done: readonly Done[], at: string, end?: End): Promise<void> =>
  await change(target, (memory) => noted(memory, all, done, at, end), prepare)

function noted(
  { tellings = [], pending = [], ...memory }: Memory,
  all: readonly string[],
  done: readonly Done[],
  at: string,
  end?: End,
): Memory {
  const channels = { ...memory.channels }
  for (const { channel, id, message } of done) {
    const { ok, failed } = channels[channel] ?? {}
    const known = ok === undefined ? {} : { ok }
    channels[channel] = message === undefined ? { ok: at } : { ...known, failed: { at: failed?.at ?? at, message, run: id } }
  }
  const open = pending
    .map((each) => (each.record.run === end?.telling.run ? { ...each, channels: end.left } : each))
    .map((each) => ({ ...each, channels: each.channels.filter((name) => all.includes(name)) }))
    .filter((each) => each.channels.length > 0)
  const said = [...tellings.filter(({ run }) => run !== end?.telling.run), ...(end?.told ? [end.telling] : [])].slice(-kept)
  return {
    ...memory,
    channels: Object.fromEntries(Object.entries(channels).filter(([name]) => all.includes(name))),
    ...(said.length > 0 && { tellings: said }),
    ...(open.length > 0 && { pending: open }),
  }
}

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
