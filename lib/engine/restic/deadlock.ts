// Locks in the repository that a dead run of this target left, known by host and pid. No others are removed without being asked.
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { parseDuration } from '../../format.ts'
import { exists } from '../../process.ts'
import { askRestic, jsonLine, repository, version } from './tool.ts'
import { has, type Version } from './version.ts'

/** `cat lock`, the same in 0.14, 0.18 and 0.19. */
export type ResticLock = { id: string; time: string; exclusive: boolean; hostname: string; username: string; pid: number }

/** LOCK_WAIT for restic, which knows --retry-lock since 0.16 and writes durations as Go does. */
export function waitArgs(target: Target, restic: Version): string[] {
  const seconds = parseDuration(target.env.LOCK_WAIT ?? '') ?? 0
  return seconds > 0 && has(restic, 'retryLock') ? ['--retry-lock', `${seconds}s`] : []
}

/** The repository's locks; undefined for one that could not be read, since it went away meanwhile. */
export async function locksOf(target: Target, context: RunContext): Promise<(ResticLock | undefined)[]> {
  const action = `list the locks in '${repository(target)}'`
  const text = await askRestic(target, ['list', 'locks', '--no-lock'], context, { action, timeout: 300 })
  const locks: (ResticLock | undefined)[] = []
  for (const id of text.split('\n').filter((line) => /^[0-9a-f]{64}$/.test(line))) {
    const lock = await askRestic(target, ['cat', 'lock', id, '--no-lock'], context, { action, timeout: 300, accept: [1, 10] })
    const fields = jsonLine<Omit<ResticLock, 'id'>>(lock.slice(Math.max(0, lock.indexOf('{'))))
    locks.push(fields && { ...fields, id })
  }
  return locks
}

/** Whether every lock was left by a process of a dead run: of this host, one of its groups' leaders, and gone. */
export function allDead(
  locks: readonly (ResticLock | undefined)[],
  dead: readonly number[],
  here: { host: string; exists: (pid: number) => boolean },
): boolean {
  return locks.length > 0 && locks.every((lock) => lock && lock.hostname === here.host && dead.includes(lock.pid) && !here.exists(lock.pid))
}

/**
 * Work that needs restic's lock. After a crash what the dead run left is removed first: --retry-lock would wait for it in vain.
 * `restic unlock` itself takes only locks whose process is gone. A restic without --retry-lock is started again until LOCK_WAIT is over.
 */
export async function withoutOwnDeadLocks<T>(target: Target, context: RunContext, work: () => Promise<T>): Promise<T> {
  if (context.dead.length > 0) {
    const locks = await locksOf(target, context)
    if (allDead(locks, context.dead, { host: hostname(), exists })) {
      await askRestic(target, ['unlock'], context, { action: `remove the dead run's lock from '${repository(target)}'`, timeout: 300 })
      context.log(`removed the lock that the crashed run left in '${repository(target)}'`)
      await context.buried()
    } else if (!locks.some((lock) => !lock || context.dead.includes(lock.pid))) await context.buried()
  }
  const began = performance.now()
  for (let pause = 1000; ; pause = Math.min(2 * pause, 10_000)) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof Failure) || error.class !== 'locked' || has(await version(target), 'retryLock')) throw error
      const left = began + (parseDuration(target.env.LOCK_WAIT ?? '') ?? 0) * 1000 - performance.now()
      if (left <= 0) throw error
      context.detail(`${error.message}; trying again`)
      await rest(Math.min(pause, left), context.signal)
    }
  }
}

async function rest(milliseconds: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(milliseconds, undefined, { signal })
  } catch (error) {
    signal.throwIfAborted()
    throw error
  }
}
