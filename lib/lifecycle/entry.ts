// What stands before the work of a run: its lock, its time limit, its guards, and power.
import type { Context, RunContext, Target } from '../contract.ts'
import { Failure } from '../failure.ts'
import { parseDuration } from '../format.ts'
import { type Guard, judge } from '../guard.ts'
import { makeState } from '../ledger.ts'
import { type Holder, type Lock, take } from '../lock.ts'
import { stateDir } from '../paths.ts'
import { gather } from '../preflight.ts'
import { lockDir } from '../running.ts'

export const takeLock = (verb: string, target: Target, context: Context, name: string, run: string): Promise<Lock> => {
  makeStateOf(target)
  return take(lockDir(target.name), name, { run, verb }, { wait: context.wait, signal: context.signal, onWait: waiting(context) })
}

const waiting = (context: Context) => (holder: Holder | undefined) =>
  context.log(`waiting for the lock${holder ? `: ${holder.verb}, pid ${holder.pid}, since ${holder.at}` : ''}`)

/** The target's state folder. Failure `permission` or `space` where it cannot be made. */
export function makeStateOf(target: Target): void {
  const state = stateDir(target.name)
  try {
    makeState(state)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === undefined) throw error
    throw new Failure(
      code === 'ENOSPC' || code === 'EDQUOT' ? 'space' : 'permission',
      `cannot write state in '${state}': ${(error as Error).message}`,
      {
        hint: 'run as the user who owns it; KEDGE_STATE_DIR names another place',
        cause: error,
      },
    )
  }
}

/** Aborts when the caller does, or with Failure 'timeout' when TIMEOUT is over. */
export function timeLimit(target: Target, signal: AbortSignal): { signal: AbortSignal; clear: () => void } {
  const seconds = parseDuration(target.env.TIMEOUT ?? '') ?? 0
  if (!seconds) return { signal, clear: () => undefined }
  const controller = new AbortController()
  const late = () =>
    controller.abort(new Failure('timeout', `timed out after ${target.env.TIMEOUT}`, { hint: `TIMEOUT in target.env sets the limit` }))
  const timer = setTimeout(late, Math.min(seconds * 1000, 2 ** 31 - 1))
  return { signal: AbortSignal.any([signal, controller.signal]), clear: () => clearTimeout(timer) }
}

/** What a dry run tells although the guard would stop the run: what would be saved before there is a store, and the plan of a prune. */
const toldAnyway: Readonly<Partial<Record<Guard, string>>> = { pin: 'backup', damage: 'prune' }

/** Judges the facts: what warns is warned of, what blocks is thrown, unless it was overridden by name. */
export async function guard(
  verb: string,
  target: Target,
  context: Context,
  warn: RunContext['warn'],
  names: readonly string[] | undefined,
): Promise<void> {
  for (const verdict of judge(await gather(verb, target, { names }))) {
    if (verdict.level === 'ok') continue
    if (context.forced.has(verdict.guard)) warn(`guard '${verdict.guard}' overridden: ${verdict.message}`)
    else if (verdict.level === 'warning') warn(verdict.message, verdict.class)
    else if (context.mode === 'dry-run' && toldAnyway[verdict.guard] === verb) warn(verdict.message)
    else throw new Failure(verdict.class, verdict.message, { hint: verdict.hint })
  }
}

/** SKIP_ON_BATTERY: Failure `skipped` while the machine runs on its battery. */
export async function wantPower(target: Target, context: Context): Promise<void> {
  if (target.env.SKIP_ON_BATTERY !== 'yes') return
  const { onBattery } = await import('../power.ts')
  if (await onBattery(context.signal))
    throw new Failure('skipped', 'the machine runs on its battery', { hint: 'SKIP_ON_BATTERY=yes says so' })
}
