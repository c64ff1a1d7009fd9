// The runs that a scheduler has started: each a kedge of its own, in a group of its own.
import { type Child, start } from '../child.ts'
import type { Context } from '../contract.ts'
import { exitStatuses } from '../failure.ts'
import type { Ended } from '../rows/house.ts'
import { type Duty, labelOf } from './duty.ts'

export type Crew = {
  /** The targets of which something runs. */
  readonly busy: ReadonlySet<string>
  start: (duty: Duty) => void
  /** What ended since the last call. */
  ended: () => Ended[]
  /** Tells all of them to end, each as it ends cleanly. */
  end: () => void
  /** Ends them without waiting: the leash of each ends its tools. */
  kill: () => void
}

/** Seconds: kedge gives its tools 20 to end; then it writes its record, calls hooks and tells of the end, for 10 each. */
export const grace = 90

/** `kedge`: the command that starts it. `onEnd`: called after each end. */
export function createCrew(kedge: readonly string[], context: Context, onEnd: (duty: Duty, status: number) => void): Crew {
  const running = new Map<string, Child>()
  let over: Ended[] = []

  async function follow(duty: Duty): Promise<void> {
    const label = labelOf(duty)
    const prefix = duty.target || duty.verb
    const from = performance.now()
    let status: number
    try {
      const child = start([...kedge, ...duty.command], { stdout: 'ignore', grace, onStderr: (line) => context.log(`${prefix}: ${line}`) })
      running.set(duty.target, child)
      status = (await child.done).status
      if (status !== 0) context.log(`kedge: ${label} ended with status ${status}: ${meaningOf(status)}`)
    } catch (error) {
      status = context.report(error, label) // whatever the system refused, or a bug: the other duties go on
    }
    const seconds = Math.round((performance.now() - from) / 100) / 10
    over.push({ kind: 'ended', target: duty.target, verb: duty.verb, status, seconds })
    running.delete(duty.target)
    onEnd(duty, status)
  }

  return {
    get busy() {
      return new Set(running.keys())
    },
    start(duty) {
      void follow(duty)
    },
    ended() {
      const rows = over
      over = []
      return rows
    },
    end() {
      for (const child of running.values()) child.end()
    },
    kill() {
      for (const { pid } of running.values()) if (pid > 0) killGroup(pid) // 0: it has not started
    },
  }
}

/** A status in words. */
export const meaningOf = (status: number): string =>
  status > 128 ? `ended by signal ${status - 128}` : (exitStatuses.find(([known]) => known === status)?.[1] ?? 'unknown')

/** `pid`: a group's; one that is gone is none to end. */
export function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
