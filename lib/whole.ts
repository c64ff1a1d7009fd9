// A target held whole: no run of any kind goes on beside the work. For what changes the target itself.
import type { Context, Target } from './contract.ts'
import { type Lock, take } from './lock.ts'
import { recover } from './record.ts'
import { lockDir } from './running.ts'

/**
 * Takes all locks of the state that lies under `target.name`, and returns what releases them. What crashed runs left there is
 * recorded, since nobody else will learn of it. Failure 'locked'.
 */
export async function holdWhole(target: Target, verb: string, context: Context): Promise<() => Promise<void>> {
  const held: Lock[] = []
  const release = async () => {
    for (const lock of held.toReversed()) await lock.release()
  }
  const onWait = () => context.log(`waiting for the lock of target '${target.name}'`)
  try {
    for (const name of ['write', 'check', 'drill']) {
      const holder = { run: `${verb}-${process.pid}`, verb }
      const lock = await take(lockDir(target.name), name, holder, { wait: context.wait, signal: context.signal, onWait })
      held.push(lock)
      if (lock.crashed.length > 0) await recover(target, lock.crashed, context)
    }
    return release
  } catch (error) {
    await release()
    throw error
  }
}
