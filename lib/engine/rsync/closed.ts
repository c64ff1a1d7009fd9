// What a check could not look at, since only another user may: told by name, and trouble at the end where there is nothing worse.
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { many } from '../../format.ts'
import type { Found } from './snapshots.ts'
import { storeOf } from './store.ts'

/** So many are told: the first ones say what is the matter. */
const mostTold = 20

export type Closed = {
  readonly add: (found: Pick<Found, 'id'>, what: string) => void
  /** Failure 'permission' where anything was added. */
  readonly judge: (target: Target) => void
}

export function closedIn(context: Pick<RunContext, 'log' | 'detail'>): Closed {
  const first = new Set<string>()
  let count = 0
  return {
    add({ id }, what) {
      const said = `snapshot ${id}: ${what}`
      if (first.has(said)) return
      count++
      if (first.size < mostTold) {
        first.add(said)
        context.log(said)
      } else context.detail(said)
    },
    judge(target) {
      if (count === 0) return
      throw new Failure(
        'permission',
        `cannot check store '${storeOf(target)}': ${many(count, 'entry', 'entries')} cannot be read: ${[...first][0]}`,
        {
          hint: 'everything else is whole; check as root, or as the user to whom the store belongs',
        },
      )
    },
  }
}
