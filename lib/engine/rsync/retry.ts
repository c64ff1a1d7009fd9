// Work that is done again where a link was cut: RETRIES times, with growing pauses.
import { setTimeout as sleep } from 'node:timers/promises'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'

/** A link that was cut, and the like: the next attempt may go well. */
const transient = new WeakSet<Error>()
export const markTransient = (failure: Failure): Failure => {
  transient.add(failure)
  return failure
}

/** Seconds before each further attempt. */
const pauses = [2, 10, 30, 60]

/** Does the work again where it was cut off, RETRIES times, with growing pauses. */
export async function retrying<T>(target: Target, context: RunContext, work: () => Promise<T>): Promise<T> {
  const retries = Number(target.env.RETRIES ?? 0)
  for (let attempt = 0; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof Failure) || !transient.has(error) || attempt >= retries) throw error
      const seconds = pauses[Math.min(attempt, pauses.length - 1)] ?? 60
      context.log(`${error.message}; again in ${seconds} s (${attempt + 1} of ${retries})`)
      await sleep(seconds * 1000, undefined, { signal: context.signal }).catch(() => context.signal.throwIfAborted())
    }
  }
}
