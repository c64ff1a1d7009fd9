// Snapshots that an operator names one by one to change them: by id only.

import { Failure } from '../../failure.ts'
import type { Snapshot } from '../../rows.ts'
import { pick } from './snapshots.ts'

/** 'latest' is another one after each backup: what changes a snapshot takes ids. */
export function checkIds(ids: readonly string[], verb: string): void {
  const wrong = ids.find((id) => !/^[0-9a-f]{2,64}$/.test(id))
  if (wrong !== undefined) throw new Failure('misuse', `cannot ${verb} '${wrong}': not an id`, { hint: 'kedge list -q prints the ids' })
}

/** Each snapshot once, in the order of the ids. */
export const pickAll = (snapshots: readonly Snapshot[], target: string, ids: readonly string[]): Snapshot[] => [
  ...new Set(ids.map((id) => pick(snapshots, target, id))),
]
