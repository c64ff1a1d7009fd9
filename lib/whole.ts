// A target held whole: no run of any kind goes on beside the work. For what changes the target itself.
import type { Context } from './contract.ts'
import { type Lock, take } from './lock.ts'
import { lockDir } from './running.ts'

/** Takes all locks of the state that lies under `name`, and returns what releases them. Failure 'locked'. */
export async function holdWhole(name: string, verb: string, context: Context): Promise<() => Promise<void>> {
  const held: Lock[] = []
  const release = async () => {
    for (const lock of held.toReversed()) await lock.release()
  }
  try {
    for (const lock of ['write', 'check', 'drill', 'ledger']) {
      const onWait = () => context.log(`waiting for the lock of target '${name}'`)
      held.push(
        await take(lockDir(name), lock, { run: `${verb}-${process.pid}`, verb }, { wait: context.wait, signal: context.signal, onWait }),
      )
    }
    return release
  } catch (error) {
    await release()
    throw error
  }
}
