// Snapshots that an operator names one by one to change them: by id only.
import type { Target } from './contract.ts'
import { Failure } from './failure.ts'
import { shortId } from './format.ts'
import type { EngineName, Snapshot } from './rows.ts'
import { isId, leastOfId, othersOf, pick } from './snapshots.ts'

/** 'latest' is another one after each backup: what changes a snapshot takes ids. */
export function checkIds(engine: EngineName, ids: readonly string[], verb: string): void {
  const wrong = ids.find((id) => !isId(engine, id))
  if (wrong !== undefined)
    throw new Failure('misuse', `cannot ${verb} '${wrong}': not an id`, { hint: `kedge list -q prints the ids; ${leastOfId[engine]}` })
}

/** Each snapshot once, in the order of the ids. */
export const pickAll = (snapshots: readonly Snapshot[], target: Target, ids: readonly string[]): Snapshot[] => [
  ...new Set(ids.map((id) => pick(snapshots, target, id))),
]

/** What is another target's as well is not this one's to change: Failure 'refused'. */
export function refuseShared(target: Target, snapshots: readonly Snapshot[], verb: string): void {
  for (const snapshot of snapshots) {
    const [other] = othersOf(target, snapshot)
    if (other === undefined) continue
    const message = `refusing to ${verb} snapshot ${shortId(snapshot.id)} of '${target.name}': it is also of target '${other}'`
    throw new Failure('refused', message, { hint: `where both are this target: add '${other}' to SNAPSHOTS_OF in its target.env` })
  }
}
