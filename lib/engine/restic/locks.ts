// restic's locks judged: does the process live that wrote it, and what would `restic unlock` do to it.
import { hostname } from 'node:os'
import { answer } from '../../child.ts'
import { callerEnv } from '../../env.ts'
import { Failure } from '../../failure.ts'
import type { Alive } from '../../process.ts'
import type { ResticLock } from './deadlock.ts'

/** What a signal to a pid meets: a process, nothing, or a process of another user (EPERM). */
export type Met = 'process' | 'nothing' | 'denied'
/** A line of ps; `started` in seconds of the wall clock, undefined where ps does not say. */
export type Seen = { zombie: boolean; started: number | undefined; command: string }
export type Judged = {
  lock: ResticLock
  /** Seconds. */
  age: number
  alive: Alive
  /** Whether `restic unlock` removes it. */
  plain: boolean
  /** Whether `restic unlock` would send SIGHUP to a process that has nothing to do with it. */
  stray: boolean
}

// Seconds: restic calls a lock stale after 30 min on whatever host, and writes its own anew every 5 min; ps shows whole seconds.
const staleAge = 1800
const refreshed = 600
const tolerance = 3

/**
 * Pure. A process that began after its lock was written is another one, since the pid was taken then; where it is a restic too, a
 * clock set forward could explain it, until the lock was due to be written anew. A process that began before and is no restic has
 * the same pid elsewhere: a container with this host's name.
 */
export function judgeLock(lock: ResticLock, here: { host: string; now: number; met: Met; seen: Seen | undefined }): Judged {
  const written = Date.parse(lock.time) / 1000
  const age = Math.max(0, Math.round(here.now - written))
  const own = lock.hostname === here.host
  const { met, seen } = here
  const restic = /restic/i.test(seen?.command ?? '')
  const alive = (): Alive => {
    if (!own) return 'unknown'
    if (met === 'nothing') return 'no'
    if (!seen) return 'unknown'
    if (seen.zombie) return 'no'
    if (seen.started === undefined) return 'unknown'
    if (seen.started > written + tolerance) return restic && age < refreshed ? 'unknown' : 'no'
    return restic ? 'yes' : 'unknown'
  }
  const verdict = alive()
  // restic/internal/restic/lock.go: older than 30 min; else on its own host whether SIGHUP can be sent, which to a process of
  // another user fails. Every restic is deaf to SIGHUP; another program may end by it.
  const plain = here.now - written > staleAge || (own && met !== 'process')
  const stray = own && !plain && !restic && !seen?.zombie
  return { lock, age, alive: verdict, plain, stray }
}

/** Judges each lock as it is now. */
export async function judgeLocks(locks: readonly ResticLock[]): Promise<Judged[]> {
  const host = hostname()
  const judged: Judged[] = []
  for (const lock of locks) {
    const own = lock.hostname === host
    const met = own ? meet(lock.pid) : 'nothing'
    judged.push(judgeLock(lock, { host, now: Date.now() / 1000, met, seen: own && met !== 'nothing' ? await look(lock.pid) : undefined }))
  }
  return judged
}

function meet(pid: number): Met {
  // 0 and -1 mean others to kill(2).
  if (!Number.isInteger(pid) || pid < 1) return 'denied'
  try {
    process.kill(pid, 0)
    return 'process'
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ESRCH') return 'nothing'
    if (code === 'EPERM') return 'denied'
    throw error
  }
}

async function look(pid: number): Promise<Seen | undefined> {
  const columns = ['state=', 'lstart=', 'comm='].flatMap((column) => ['-o', column])
  try {
    const { status, stdout } = await answer(['env', 'LC_ALL=C', 'TZ=UTC0', 'ps', ...columns, '-p', String(pid)], {
      env: callerEnv(),
      timeout: 10,
    })
    return status === 0 ? parseSeen(stdout) : undefined
  } catch (error) {
    if (error instanceof Failure && error.class === 'tool') return undefined // no ps that knows these keywords
    throw error
  }
}

/** A line of `ps -o state= -o lstart= -o comm=`. */
export function parseSeen(text: string): Seen | undefined {
  const match = /^\s*(\S+)\s+(?:\w+ (\w+) +(\d+) ([\d:]+) (\d+)|-)\s+(\S.*?)\s*$/m.exec(text)
  if (!match) return undefined
  const [, state = '', month, day, time, year, command = ''] = match
  const started = month ? Date.parse(`${day} ${month} ${year} ${time} GMT`) / 1000 : Number.NaN
  return { zombie: /^[ZX]/.test(state), started: Number.isNaN(started) ? undefined : started, command }
}

/** `why`: dead ones that stay, and the reason. */
export type Plan = { how: 'none' | 'plain' | 'all'; removes: readonly Judged[]; why?: string }

/**
 * restic removes either what it calls stale, or all locks. Pure: the one that removes each dead lock and nothing else, and with force
 * the one that removes all. `unreadable` locks count as living.
 */
export function planUnlock(locks: readonly Judged[], unreadable: number, force: boolean): Plan {
  const dead = locks.filter(({ alive }) => alive === 'no')
  const plainly = locks.filter(({ plain }) => plain)
  const stray = locks.find((each) => each.stray)
  const exact = plainly.length === dead.length && plainly.every(({ alive }) => alive === 'no') && !stray
  const all = dead.length === locks.length && unreadable === 0
  if (force) return locks.length + unreadable === 0 ? { how: 'none', removes: [] } : { how: all && exact ? 'plain' : 'all', removes: locks }
  if (dead.length === 0) return { how: 'none', removes: [] }
  if (exact) return { how: 'plain', removes: dead }
  if (all) return { how: 'all', removes: dead }
  const other = plainly.find(({ alive }) => alive !== 'no')
  const stays = `${dead.length} dead ${dead.length === 1 ? 'lock stays' : 'locks stay'}`
  if (other) return { how: 'none', removes: [], why: `${stays}: restic unlock would also take ${named(other)}, which may live` }
  if (stray)
    return { how: 'none', removes: [], why: `${stays}: restic unlock would send SIGHUP to process ${stray.lock.pid}, another program` }
  const removes = dead.filter(({ plain }) => plain)
  const rest = dead.length - removes.length
  const why = `${rest} dead ${rest === 1 ? 'lock stays' : 'locks stay'}: restic would remove them only with the living ones`
  return { how: removes.length > 0 ? 'plain' : 'none', removes, why }
}

const named = ({ lock }: Judged) => `lock ${lock.id.slice(0, 8)} of host ${lock.hostname}, pid ${lock.pid}`
