// Hold: a tag that keeps a snapshot for ever. restic writes a snapshot anew when its tags change, so it gets another id.
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { type Marks, readMarks, remarked, writeMarks } from '../../marks.ts'
import { checkIds, pickAll, refuseShared } from '../../named.ts'
import type { Snapshot } from '../../rows.ts'
import { holdTag } from '../../snapshots.ts'
import { waitArgs, withoutOwnDeadLocks } from './deadlock.ts'
import { verifyIdentity } from './identity.ts'
import { snapshotsOf } from './snapshots.ts'
import { askRestic, explain, repository, version } from './tool.ts'

export const holdArgs = (ids: readonly string[], release: boolean, wait: readonly string[] = []): string[] => [
  'tag',
  ...wait,
  release ? '--remove' : '--add',
  holdTag,
  ...ids,
]

/** The snapshot that another one became: the id of the first of all is kept in `original` through every change of tags. */
export function successor(before: readonly Snapshot[], after: readonly Snapshot[], old: Snapshot): Snapshot | undefined {
  const known = new Set(before.map(({ id }) => id))
  return after.find((each) => !known.has(each.id) && each.original === (old.original ?? old.id) && each.time === old.time)
}

const hold: VerbOf<'hold'> = async function* (target, { ids, release }, context) {
  checkIds(target.engine, ids, release ? 'release' : 'hold')
  if (context.mode === 'explain') {
    yield explain(target, holdArgs(ids, release))
    return
  }
  await verifyIdentity(target, context)
  const before = await snapshotsOf(target, context)
  const chosen = pickAll(before, target, ids)
  refuseShared(target, chosen, release ? 'release' : 'hold')
  const dryRun = context.mode === 'dry-run'
  const changing = chosen.filter((snapshot) => (snapshot.held === true) === release)
  const changed = dryRun || changing.length === 0 ? new Map<Snapshot, Snapshot>() : await retag(target, before, changing, release, context)
  const [done, would] = release ? (['released', 'would release'] as const) : (['held', 'would hold'] as const)
  for (const snapshot of chosen) {
    const now = changed.get(snapshot)
    yield {
      kind: 'marked',
      target: target.name,
      action: dryRun ? would : done,
      id: (now ?? snapshot).id,
      ...(now && { original: snapshot.id }),
      ...(dryRun && { dryRun }),
    }
  }
}
export default hold

/** restic says 0 for an id that it does not find: the listing afterwards tells. */
async function retag(target: Target, before: readonly Snapshot[], changing: readonly Snapshot[], release: boolean, context: RunContext) {
  const ids = changing.map(({ id }) => id)
  const args = holdArgs(ids, release, waitArgs(target, await version(target)))
  const action = `change the tags of ${ids.length} snapshots in '${repository(target)}'`
  await withoutOwnDeadLocks(target, context, () => askRestic(target, args, context, { action }))
  const after = await snapshotsOf(target, context)
  const changed = new Map<Snapshot, Snapshot>()
  const found: Marks = await readMarks(target.name)
  let marks = found
  for (const old of changing) {
    const now = successor(before, after, old)
    if (!now || (now.held === true) === release)
      throw new Failure('tool', `cannot ${action}: restic left snapshot ${old.id.slice(0, 8)} as it was`)
    changed.set(old, now)
    marks = remarked(marks, old.id, now.id)
  }
  if (marks !== found) await writeMarks(target.name, marks)
  return changed
}
