// The lock of a target's folder in a store: two hosts that mount the same disk must not write to it at once. It is taken with link(2), which
// is atomic on NFS too, and kept as lib/generation.ts says.
import { randomBytes } from 'node:crypto'
import { accessSync, constants, existsSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { expected, Failure } from '../../failure.ts'
import { parseDuration } from '../../format.ts'
import { type Lock, renewal, take } from '../../lock.ts'
import { openStore, ownersOf, rootOf, storeOf } from './store.ts'

/** `context`: notes the process groups of children in this lock too. Whoever starts children while the lock is held gives them this one. */
export type StoreLock = { readonly release: () => Promise<void>; readonly context: RunContext }

export const lockDirOf = (target: Target, owner = target.name): string => join(rootOf(target, owner), 'lock')

/**
 * Takes the lock of STORE/OWNER, waiting for LOCK_WAIT. That of a dead process of this machine is taken over, children included; another
 * machine's never is: Failure `locked`. Failure `missing` without a store.
 */
export async function takeStoreLock(target: Target, context: RunContext, verb: string, owner = target.name): Promise<StoreLock> {
  openStore(target)
  const what = `'${owner}' in store '${storeOf(target)}'`
  const dir = lockDirOf(target, owner)
  const holder = { run: context.run || `${verb}-${process.pid}`, verb }
  const lock = await withSpare(target, dir, () =>
    take(dir, 'write', holder, {
      wait: parseDuration(target.env.LOCK_WAIT ?? '') ?? 0,
      signal: context.signal,
      onWait: (by) =>
        context.log(`waiting for the lock of ${what}${by ? `: ${by.verb}, pid ${by.pid} on ${by.host}, since ${by.at}` : ''}`),
      shared: { what, hint: `LOCK_WAIT in target.env waits longer, 'kedge unlock ${target.name}' shows whether its holder lives` },
    }),
  )
  for (const { verb, pid, at } of lock.crashed) context.detail(`took over the lock of ${what}: ${verb}, pid ${pid}, since ${at}, is dead`)
  const renew = setInterval(() => quietly(lock.renew), renewal * 1000)
  renew.unref()
  const release = async () => {
    clearInterval(renew)
    keepSpare(dir)
    // What cannot be released, on a full disk, is found dead by the next run.
    await lock.release().catch((error: Error) => context.log(`kedge: cannot release the lock of ${what}: ${error.message}`))
  }
  const group = (pgid: number) => {
    context.group(pgid)
    lock.note(pgid).catch((error: Error) => context.log(`kedge: cannot note a child in the lock of ${what}: ${error.message}`))
  }
  return { release, context: { ...context, group } }
}

// Room for a lock and a line of the audit on a disk that is full: without it nothing could be pruned there. Not zeros: some file systems
// keep no room for these.
const spareOf = (dir: string): string => join(dir, '.spare')

async function withSpare(target: Target, dir: string, act: () => Promise<Lock>): Promise<Lock> {
  try {
    return await act()
  } catch (thrown) {
    const error = expected(thrown)
    const closed = closedStore(target, error)
    if (closed) throw closed
    if (!(error instanceof Failure) || error.class !== 'space' || !existsSync(spareOf(dir))) throw error
    rmSync(spareOf(dir), { force: true })
    return await act()
  }
}

/** A store that cannot be written, in words: on a read-only file system mkdir of Node says that there is no such folder. */
function closedStore(target: Target, cause: unknown): Failure | undefined {
  const readOnly = isReadOnly(storeOf(target))
  if (!readOnly && !(cause instanceof Failure && cause.class === 'permission')) return undefined
  const why = readOnly ? 'it is mounted read-only' : (cause as Failure).message
  return new Failure('permission', `cannot write to store '${storeOf(target)}': ${why}`, {
    hint: readOnly ? 'the kernel does that to a disk with errors: dmesg and mount tell' : 'run as the user who owns it',
    cause,
  })
}

function isReadOnly(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK)
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EROFS'
  }
}

function keepSpare(dir: string): void {
  if (existsSync(spareOf(dir))) return
  try {
    writeFileSync(spareOf(dir), randomBytes(32_768), { mode: 0o600 })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === undefined) throw error
    rmSync(spareOf(dir), { force: true })
  }
}

/** The locks of all owners, by default those whose snapshots the target shows, that have a folder; in one order, so that two runs never wait for each other. */
export async function takeStoreLocks(
  target: Target,
  context: RunContext,
  verb: string,
  owners: readonly string[] = ownersOf(target),
): Promise<StoreLock> {
  const taken: StoreLock[] = []
  const release = async () => {
    for (const lock of taken.splice(0)) await lock.release()
  }
  let inner = context
  try {
    for (const owner of owners.toSorted()) {
      if (owner !== target.name && !existsSync(rootOf(target, owner))) continue
      const lock = await takeStoreLock(target, inner, verb, owner)
      taken.push(lock)
      inner = lock.context
    }
  } catch (error) {
    await release()
    throw error
  }
  return { release, context: inner }
}

/** A network that is away for a moment takes no lock away: what it keeps from being written fails by itself. */
function quietly(act: () => void): void {
  try {
    act()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
  }
}
