// The record of a run: made at its end, written under the ledger's own lock; and those of runs that died without a word.
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Context, Target } from './contract.ts'
import { Cancelled, type Class, Failure, statusFor, statusOf } from './failure.ts'
import { parseDuration } from './format.ts'
import { keepLags } from './lag.ts'
import { append, expire, newest, readJson, readLast, replaceFile } from './ledger.ts'
import { type Holder, take } from './lock.ts'
import { redact } from './log.ts'
import { stateDir } from './paths.ts'
import { prepare } from './prepared.ts'
import { exists } from './process.ts'
import type { Row, RunRow } from './rows.ts'
import { claimRunning, isLock, lockDir, type Running, runningOf } from './running.ts'

export type End = {
  target: string
  run: string
  verb: string
  start: Date
  failure: unknown
  partial: boolean
  warnings: string[]
  results: Row[]
  forced: string[]
}

/** Characters of a message that are kept: a target may have thousands of faults. */
const longest = 8000

export function ended({ target, run, verb, start, failure, partial, warnings, results, forced }: End): RunRow {
  const seconds = Math.round((Date.now() - start.getTime()) / 100) / 10
  const more = { ...(warnings.length > 0 && { warnings }), ...(forced.length > 0 && { forced }), ...(results.length > 0 && { results }) }
  const base = { kind: 'run', target, run, verb, start: start.toISOString(), seconds } as const
  if (failure === undefined) {
    const state = partial || warnings.length > 0 ? 'warning' : 'success'
    return { ...base, state, status: partial ? statusOf.partial : 0, ...(partial && { class: 'partial' as Class }), ...more }
  }
  const message = redact(failure instanceof Error ? failure.message : String(failure)).slice(0, longest)
  if (failure instanceof Failure) {
    const state = failure.class === 'skipped' ? 'skipped' : 'failed'
    return {
      ...base,
      state,
      status: statusFor(failure),
      class: failure.class,
      message,
      ...(failure.hint && { hint: failure.hint }),
      ...more,
    }
  }
  if (failure instanceof Cancelled) return { ...base, state: 'cancelled', status: statusFor(failure), message, ...more }
  return { ...base, state: 'failed', status: 70, class: 'bug', message, ...more }
}

/** Writes a record. A backup and a check of one target may end at once: the ledger has a lock of its own. */
export async function keep(target: Target, record: RunRow): Promise<void> {
  const state = stateDir(target.name)
  const lock = await take(lockDir(target.name), 'ledger', { run: record.run, verb: 'record' }, { wait: 30 })
  try {
    const before = (await readLast(state))[record.verb]?.last.start ?? ''
    await append(state, record)
    await keepLags(target)
    // Channels that the target has no more are no trouble.
    if (!target.env.NOTIFY) rmSync(join(state, 'notify.json'), { force: true })
    await prepare(state)
    const seconds = parseDuration(target.env.LEDGER_KEEP ?? '')
    // Once a day is enough.
    if (seconds && before.slice(0, 10) !== record.start.slice(0, 10)) await expire(state, new Date(Date.now() - seconds * 1000))
  } finally {
    await lock.release()
  }
}

const deadFile = (target: Target) => join(stateDir(target.name), 'dead.json')

/**
 * Records the runs that died with the lock in their hands, once. Returns the process groups of the dead, of earlier crashes too, whose
 * locks may still lie in the store; `bury` forgets them.
 */
export async function recover(
  target: Target,
  crashed: readonly Holder[],
  context: Context,
  onCrash: (record: RunRow) => void = () => undefined,
): Promise<number[]> {
  const lost = deadWithoutLock(target)
  const before = (await readJson<number[]>(deadFile(target))) ?? []
  const groups = [...crashed.flatMap((holder) => holder.groups.map(({ pgid }) => pgid)), ...lost.flatMap((running) => running.groups ?? [])]
  const dead = [...new Set([...before, ...groups])]
  if (dead.length > before.length) await replaceFile(deadFile(target), JSON.stringify(dead))
  if (crashed.length + lost.length > 0) sweep(stateDir(target.name))
  // A copy that held the lock of its second store is on record with the target that it copied.
  const own = crashed.filter(({ of }) => of === undefined)
  for (const { run, verb, pid, at } of [...own, ...lost.map((running) => ({ ...running, at: running.start }))]) {
    if (await isRecorded(target, run)) continue
    context.log(`the run ${run} (${verb}) crashed: recorded`)
    const message = `its process ${pid} ended without a word`
    const base = { kind: 'run', target: target.name, run, verb, start: at } as const
    const record: RunRow = { ...base, state: 'crashed', status: 1, seconds: 0, class: 'tool', message }
    await keep(target, record)
    onCrash(record)
  }
  return dead
}

/** Takes away what dead processes had half written. */
function sweep(state: string): void {
  for (const name of readdirSync(state)) {
    const pid = /\.(\d+)\.new$/.exec(name)?.[1]
    if (pid !== undefined && !exists(Number(pid))) rmSync(join(state, name), { force: true })
  }
}

/** Runs without a lock (restore) that died: who takes their state file away records them. */
function deadWithoutLock(target: Target): Running[] {
  const state = stateDir(target.name)
  return [...runningOf(target.name)]
    .filter(([place, { pid }]) => !isLock(place) && !exists(pid))
    .filter(([place]) => claimRunning(state, place))
    .map(([, running]) => running)
}

export const bury = (target: Target): void => rmSync(deadFile(target), { force: true })

// Not by the order of ids: a crashed run is recorded after runs that began later.
async function isRecorded(target: Target, wanted: string): Promise<boolean> {
  let looked = 0
  for await (const { run } of newest(stateDir(target.name))) {
    if (run === wanted) return true
    if (++looked > 1000) return false
  }
  return false
}
