// The keep rules as an operator would give them to restic by hand, and where the two differ: what prune --explain prints. Pure.
import type { Target } from '../../contract.ts'
import { isOff, type Rules } from '../../keeprules.ts'
import type { CommandLine } from '../../rows.ts'
import { comment } from '../../shell.ts'
import { holdTag } from '../../snapshots.ts'
import { targetTags, zoneOf } from '../../target.ts'
import { explain } from './tool.ts'

/** One `restic forget` for each tag of the target's; the last one prunes. */
export function policyArgs(target: Target, rules: Rules): string[][] {
  const count = (name: string, n: number) => (n === 0 ? [] : [`--keep-${name}`, n === Infinity ? 'unlimited' : String(n)])
  const policy = [
    ...Object.entries(rules.counts).flatMap(([name, n]) => count(name, n)),
    ...Object.entries(rules.within).flatMap(([name, span]) =>
      span ? [`--keep-within${name === 'all' ? '' : `-${name}`}`, span.text] : [],
    ),
    ...[holdTag, ...rules.tags].flatMap((tag) => ['--keep-tag', tag]),
  ]
  // By paths a stream's snapshots are apart; without streams a target's snapshots are one group, whatever its paths were.
  const group = target.streams.length > 0 ? 'paths' : ''
  const tags = targetTags(target)
  return tags.map((tag, index) => [
    'forget',
    '--tag',
    tag,
    '--group-by',
    group,
    ...policy,
    ...(index === tags.length - 1 ? ['--prune'] : []),
  ])
}

/** What kedge looks at before it deletes anything, and restic does not. */
export const guardsByHand = (): CommandLine =>
  comment('kedge first looks whether the store is the pinned one, a snapshot is suspect, the clock jumped (its guards): restic does not')

/** What kedge deletes for nobody, and restic does. */
export const refusalsByHand = (): CommandLine =>
  comment("kedge refuses a held snapshot, the newest good one of a source and one with another target's tag: restic does not")

/** `limit`: the most that one run deletes, which `limitOf` names. */
export function* byHand(target: Target, rules: Rules, limit: number | undefined, limitOf = 'PRUNE_MAX_DELETE'): Generator<CommandLine> {
  if (isOff(rules)) {
    yield comment('no keep rules: nothing is deleted')
    return
  }
  yield comment(`kedge deletes by id; it counts hours, days and weeks in the zone ${zoneOf(target)}, restic in that of each snapshot`)
  yield comment(`kedge also keeps the newest good snapshot of each source${rules.min > 1 ? `, and ${rules.min} of it (KEEP_MIN)` : ''}`)
  yield comment(`kedge never deletes a held snapshot: here that is --keep-tag ${holdTag}`)
  yield comment("kedge keeps what has another target's tag as well, and counts what --files-from saved by itself")
  if (target.streams.length > 0) yield comment('where the paths of the target changed, restic takes the old ones for another group')
  if (Object.values(rules.counts).includes(Infinity)) yield comment("restic 0.14 does not know 'unlimited': give it a large number")
  yield guardsByHand()
  if (limit === undefined) yield comment('PRUNE_MAX_DELETE is empty: there is no limit to what a run deletes')
  else yield comment(`kedge deletes at most ${limit} in a run, the oldest first (${limitOf}): restic has no such limit`)
  for (const args of policyArgs(target, rules)) yield explain(target, args)
}
