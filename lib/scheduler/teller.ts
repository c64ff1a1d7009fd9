// Tells of runs that could not tell of themselves, as OnFailure= of a unit does: each by a `kedge notify missed` of its own, beside --jobs.
import { answer } from '../child.ts'
import type { Context } from '../contract.ts'
import type { Told } from '../rows/house.ts'
import { grace as crewGrace, killGroup, meaningOf } from './crew.ts'
import { type Duty, labelOf } from './duty.ts'

export type Teller = {
  /** Whether something is still to be told. */
  readonly busy: boolean
  /** What has told of itself is not told of again: `missed` knows. */
  tell: (duty: Duty) => void
  /** Begins nothing any more; what is being told is told, where that takes no longer than a run may take to end. */
  end: () => void
  /** Ends that as well, without waiting. */
  kill: () => void
}

/** So many at a time: after a fault in defaults.env there is something to tell of every target. */
const together = 4
/**
 * Seconds. Each message may take three times NOTIFY_TIMEOUT, 90 by default, and what others left is sent before: this ends what hangs. From
 * then on there are ten for the message that is being sent, and ten for the next.
 */
export const limits = { timeout: 600, grace: 25 } as const

/** `kedge`: the command that starts it. `onEnd`: called after each end. */
export function createTeller(kedge: readonly string[], { log, report }: Pick<Context, 'log' | 'report'>, onEnd: () => void): Teller {
  const waiting = new Map<string, Duty>()
  const running = new Set<string>()
  const groups = new Map<string, number>()
  let over = false

  function next(): void {
    for (const [key, duty] of waiting) {
      if (running.size >= together) return
      if (running.has(key)) continue
      waiting.delete(key)
      running.add(key)
      void one(duty)
    }
  }

  async function one(duty: Duty): Promise<void> {
    const { key, verb, target } = duty
    try {
      const why = await troubleWith([...kedge, 'notify', 'missed', '--json', verb, target], (group) => groups.set(key, group))
      if (why !== undefined) log(`kedge: ${labelOf(duty)}: not told of over all channels: ${why}`)
    } catch (error) {
      report(error, `${labelOf(duty)}: not told of`)
    }
    running.delete(key)
    groups.delete(key)
    next()
    onEnd()
  }

  const kill = () => {
    for (const group of groups.values()) killGroup(group)
  }

  return {
    get busy() {
      return running.size + waiting.size > 0
    },
    tell(duty) {
      if (over || duty.target === '') return
      waiting.set(duty.key, duty)
      next()
    },
    end() {
      over = true
      waiting.clear()
      setTimeout(kill, crewGrace * 1000).unref()
    },
    kill,
  }
}

/** Why not everybody was told, in a line. */
async function troubleWith(command: readonly string[], onGroup: (group: number) => void): Promise<string | undefined> {
  const { status, stdout } = await answer(command, { ...limits, onGroup })
  // 2 is also that of a target that does not load, which has been said.
  if (status === 0) return undefined
  const failed = whole(stdout).flatMap(({ state, message }) => (state === 'failed' ? [message ?? ''] : []))
  if (failed.length > 0) return failed.join('; ').replaceAll('\n', ' ')
  return status === 2 ? undefined : `status ${status}: ${meaningOf(status)}`
}

/** The rows; what one that was killed wrote half is none. */
const whole = (text: string): Told[] =>
  text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Told)
