// Several attempts within a limit: a service that is restarting, or busy, is asked again; one that says no is not.
import { setTimeout as sleep } from 'node:timers/promises'
import { Failure } from '../failure.ts'
import { duration } from '../format.ts'

/** Why an attempt did not do; `again`: another may; `after`: seconds that the service asks to wait before. */
export type Trouble = { readonly failure: Failure; readonly again?: boolean; readonly after?: number | undefined }
export type How = {
  /** The end of it all. */
  readonly signal: AbortSignal
  /** Seconds for one attempt, and the longest pause that a service may ask for; fewer once the run is cancelled. */
  readonly seconds: number
  readonly attempts: number
  readonly pause: (seconds: number) => Promise<void>
}

const pauses = [1, 4]

/** Resolves when an attempt did; throws the Failure of the last. */
export async function persist(how: How, once: (signal: AbortSignal) => Promise<Trouble | undefined>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const trouble = await once(AbortSignal.any([how.signal, AbortSignal.timeout(how.seconds * 1000)]))
    if (!trouble) return
    const { failure, again, after } = trouble
    if (!again || attempt >= how.attempts || how.signal.aborted) throw failure
    if (after !== undefined && after > how.seconds)
      throw new Failure(failure.class, `${failure.message}; it asks to wait ${duration(after)}`, { hint: failure.hint })
    const wait = after ?? pauses[attempt - 1] ?? 0
    await how.pause(wait)
    if (how.signal.aborted) throw failure
  }
}

/**
 * Seconds that are left once a run is cancelled: who stops it waits for its end, and kills it where that does not come. A program that is
 * ended has two more, which makes ten.
 */
const hurriedLimit = 8

/**
 * Three attempts, of `seconds` each, and three times as long for all of it. Whoever cancels a run (`cancelled`) wants to hear of it as
 * well, but not to wait. `stop`: what is cancelled is the sending. `clear` when it is over.
 */
export function limited(seconds: number, cancelled: AbortSignal, stop = false): How & { clear: () => void } {
  const controller = new AbortController()
  const after = (limit: number) => setTimeout(() => controller.abort(), Math.min(limit * 1000, 2 ** 31 - 1))
  const short = Math.min(seconds, hurriedLimit)
  let timer = after(cancelled.aborted ? short : 3 * seconds)
  const hurry = () => {
    clearTimeout(timer)
    if (stop) controller.abort()
    else timer = after(short)
  }
  cancelled.addEventListener('abort', hurry, { once: true })
  return {
    signal: controller.signal,
    get seconds() {
      return cancelled.aborted ? short : seconds
    },
    attempts: 3,
    pause: (wait) => pause(wait, controller.signal),
    clear: () => {
      clearTimeout(timer)
      cancelled.removeEventListener('abort', hurry)
    },
  }
}

async function pause(seconds: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(seconds * 1000, undefined, { signal })
  } catch (error) {
    if ((error as Error).name !== 'AbortError') throw error
  }
}
