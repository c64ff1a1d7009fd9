// One writing run a target; stale locks told from live ones. How the files exclude is in generation.ts, who is alive in process.ts.
import { closeSync, futimesSync, mkdirSync } from 'node:fs'
import { hostname, uptime } from 'node:os'
import { basename, dirname, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Class, Failure } from './failure.ts'
import { add, append, type Generation, type Holder, highest, isPid, namesOf, reopen } from './generation.ts'
import { type Alive, alive, exists, identity } from './process.ts'

export type { Holder }
export type Lock = {
  /** Adds the group of a child; written when the call returns. */
  note: (pgid: number) => Promise<void>
  /** Shows that the holder lives: see `shared`. */
  renew: () => void
  /** A second call does nothing. */
  release: () => Promise<void>
  /**
   * Holders that died without releasing, the latest first. One that a dead holder had itself found is named again, since nobody
   * knows how far that one came: record by run id.
   */
  crashed: readonly Holder[]
}
export type Options = {
  /** Seconds; 0 or absent: not at all. */
  wait?: number | undefined
  signal?: AbortSignal | undefined
  /** Once for each holder that is waited for; undefined where its file is unreadable. */
  onWait?: ((holder: Holder | undefined) => void) | undefined
  /**
   * Other machines see the folder too. Its holder renews the lock; one that renews it is alive, whatever its host and its boot say.
   * `what` names what is locked, `hint` says what to do about a holder.
   */
  shared?: { what: string; hint: string } | undefined
}

/** Seconds: a holder renews a shared lock so often. */
export const renewal = 15
// Seconds, milliseconds, and how many dead holders a lock carries on.
const tornAge = 5
const unrenewed = 4 * renewal
const sureFor = 2000
const keptCrashes = 8

/**
 * Takes the lock `name` in the folder STATE/TARGET/lock. Throws Failure 'locked' when it is held, 'space' and 'permission' for the
 * folder, 'config' where the file system has no hard links, and the signal's reason.
 */
export async function take(dir: string, name: string, holder: Pick<Holder, 'run' | 'verb' | 'of'>, options: Options = {}): Promise<Lock> {
  if (!/^[\w-]+$/.test(name)) throw new Error(`not the name of a lock: '${name}'`)
  const deadline = performance.now() + (options.wait ?? 0) * 1000
  const { shared } = options
  const action = `cannot lock ${shared?.what ?? `target '${targetOf(dir)}'`} for ${holder.verb}`
  let seen = { n: 0, until: 0 }
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    for (let pause = 50; ; pause = Math.min(2 * pause, 1000)) {
      options.signal?.throwIfAborted()
      const sure = performance.now() < seen.until ? seen.n : 0
      const result = await attempt(dir, name, holder, sure, shared !== undefined)
      if ('release' in result) return result
      const left = deadline - performance.now()
      if (left <= 0) throw locked(dir, action, result, shared?.hint)
      if (result.n !== seen.n) options.onWait?.(result.holder)
      if (result.n !== sure) seen = { n: result.n, until: performance.now() + sureFor }
      await rest(Math.min(pause * (0.5 + Math.random() / 2), left), options.signal)
    }
  } catch (error) {
    throw explained(error, action, dir)
  }
}

// The lock, or who holds it. `sure` is a number that was seen held a moment ago.
async function attempt(
  dir: string,
  name: string,
  { run, verb, of }: Pick<Holder, 'run' | 'verb' | 'of'>,
  sure: number,
  shared: boolean,
): Promise<Lock | Generation> {
  for (;;) {
    const found = highest(dir, name)
    let crashed: Holder[] = []
    if (found && found.end !== 'released') {
      const state = await stateOf(found, shared, found.n === sure && !found.end)
      if (found.end !== 'broken' && state !== 'no') return found
      // What it noted between the reading and its death must be judged too.
      if (highest(dir, name)?.text !== found.text) continue
      crashed = [...(found.holder && state === 'no' ? [found.holder] : []), ...found.crashed].slice(0, keptCrashes)
    }
    const n = (found?.n ?? 0) + 1
    const mine: Omit<Holder, 'groups'> = { run, verb, ...(of !== undefined && { of }), at: new Date().toISOString(), ...identity() }
    const descriptor = add(dir, name, n, { ...mine, crashed }, shared)
    if (descriptor !== undefined) return held(descriptor, crashed)
  }
}

function held(descriptor: number, crashed: readonly Holder[]): Lock {
  let open = true
  return {
    crashed,
    async note(pgid) {
      if (!open) throw new Error('a group was noted in a lock that is released')
      if (!isPid(pgid, 2)) throw new Error(`not a process group: ${pgid}`)
      append(descriptor, { group: { pgid, started: uptime() } })
    },
    renew() {
      const now = new Date()
      if (open) futimesSync(descriptor, now, now)
    },
    async release() {
      if (!open) return
      open = false
      try {
        append(descriptor, { released: new Date().toISOString() })
      } finally {
        closeSync(descriptor)
      }
    },
  }
}

// A file without a holder comes from a power cut; one that is young may be a network's late view of a whole one. A shared one may be of
// another machine, and is flushed before it is there: only a hand takes it away.
async function stateOf({ holder, age }: Generation, shared: boolean, sure = false): Promise<Alive> {
  if (!holder) return shared || age < tornAge ? 'unknown' : 'no'
  const found = await alive(holder, holder.groups, sure)
  if (!shared || age > unrenewed) return found
  if (found === 'unknown') return 'yes'
  // Two machines may have one name.
  return found === 'no' && holder.boot !== identity().boot ? 'unknown' : found
}

/** All locks in the folder that nobody released, dead ones included. `n` is what breakLock wants. */
export async function holders(
  dir: string,
  shared = false,
): Promise<{ name: string; n: number; holder: Holder | undefined; alive: Alive }[]> {
  const result = []
  for (const name of namesOf(dir)) {
    const found = highest(dir, name)
    if (found && !found.end) result.push({ name, n: found.n, holder: found.holder, alive: await stateOf(found, shared) })
  }
  return result
}

/**
 * Breaks exactly the lock number n, whoever holds it: false when it is not the current one any more, or released meanwhile. The
 * holder is not stopped, and not reported as crashed unless it is dead.
 */
export async function breakLock(dir: string, name: string, n: number): Promise<boolean> {
  const found = highest(dir, name)
  if (!found || found.n !== n || found.end) return false
  const descriptor = reopen(dir, name, n)
  if (descriptor === undefined) return false
  try {
    append(descriptor, { broken: new Date().toISOString(), by: process.pid })
  } finally {
    closeSync(descriptor)
  }
  return true
}

function targetOf(dir: string): string {
  return basename(dirname(resolve(dir)))
}

async function rest(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await sleep(milliseconds, undefined, signal && { signal })
  } catch (error) {
    signal?.throwIfAborted()
    throw error
  }
}

function locked(dir: string, action: string, { holder, age }: Generation, shared: string | undefined): Failure {
  const hint = shared ?? `--wait=SECONDS waits for it, 'kedge unlock ${targetOf(dir)}' shows whether its holder lives`
  if (!holder) return new Failure('locked', `${action}: held by a run whose lock cannot be read`, { hint })
  const { run, verb, pid, host, at, groups } = holder
  const orphan = host === hostname() && !exists(pid) ? groups.findLast(({ pgid }) => exists(-pgid)) : undefined
  const by = orphan
    ? `process group ${orphan.pgid}, left by run ${run} (${verb}, pid ${pid}, since ${at})`
    : `run ${run} (${verb}, pid ${pid} on host ${host}, since ${at}${shared ? `, last sign of life ${Math.round(age)} s ago` : ''})`
  return new Failure('locked', `${action}: held by ${by}`, { hint })
}

const classes: Readonly<Record<string, Class>> = { ENOSPC: 'space', EDQUOT: 'space', EACCES: 'permission', EROFS: 'permission' }

function explained(error: unknown, action: string, dir: string): unknown {
  if (!(error instanceof Error)) return error
  const { code = '', syscall } = error as NodeJS.ErrnoException
  if (syscall === 'link' && ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'].includes(code)) {
    return new Failure('config', `${action}: no hard links on the file system of '${dir}'`, {
      hint: 'set KEDGE_STATE_DIR to a folder on another file system',
      cause: error,
    })
  }
  const kind = classes[code]
  return kind ? new Failure(kind, `${action}: ${error.message}`, { cause: error }) : error
}
