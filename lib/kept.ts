// A target's snapshots as the keep rules see them: source by source. Pure.
import type { Target } from './contract.ts'
import { parseKeep } from './keeprules.ts'
import type { Kept, RulesOf } from './retain.ts'
import type { Snapshot } from './rows.ts'
import { groupOf, othersOf } from './snapshots.ts'
import { targetTags } from './target.ts'

/** The source of a snapshot; in a store that holds several targets' snapshots, within its target. */
export function sourceOf(target: Target, snapshot: Snapshot): string {
  const tags = targetTags(target)
  const owner = tags.length > 1 ? tags.find((tag) => snapshot.tags.includes(tag)) : undefined
  return owner ? `${owner} ${groupOf(snapshot)}` : groupOf(snapshot)
}

export const toKept = (target: Target, snapshot: Snapshot): Kept => ({
  id: snapshot.id,
  time: snapshot.time,
  group: sourceOf(target, snapshot),
  tags: snapshot.tags,
  held: snapshot.held === true,
  suspect: snapshot.suspect !== undefined,
  partial: snapshot.partial === true,
  subset: ['names', 'manual'].includes(groupOf(snapshot)),
  others: othersOf(target, snapshot),
  ...(snapshot.base && { base: snapshot.base }),
})

/** The target's keep rules: what is made by hand has its own. */
export function rulesOf(target: Target): RulesOf {
  const { rules, manual } = parseKeep(target.env)
  return (source) => (source.split(' ').at(-1) === 'manual' ? manual : rules)
}

/** Good to be the only one left: neither suspect nor partial. */
export const isGood = (snapshot: Snapshot): boolean => snapshot.suspect === undefined && !snapshot.partial

/** The snapshots of each source, in the order given. */
export function bySource(target: Target, snapshots: readonly Snapshot[]): Map<string, Snapshot[]> {
  const sources = new Map<string, Snapshot[]>()
  for (const snapshot of snapshots) {
    const source = sourceOf(target, snapshot)
    const of = sources.get(source)
    if (of) of.push(snapshot)
    else sources.set(source, [snapshot])
  }
  return sources
}
