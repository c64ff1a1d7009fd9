// unlock: restic's locks, each with the process that wrote it; the dead ones are removed, all of them by force.
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import type { LockRow } from '../../rows.ts'
import { locksOf, type ResticLock } from './deadlock.ts'
import { verifyIdentity } from './identity.ts'
import { type Judged, judgeLocks, planUnlock } from './locks.ts'
import { askRestic, explain, repository } from './tool.ts'

export const unlockArgs = (all: boolean): string[] => ['unlock', ...(all ? ['--remove-all'] : [])]

const unlock: VerbOf<'unlock'> = async function* (target, { force }, context) {
  if (context.mode === 'explain') {
    yield explain(target, ['list', 'locks', '--no-lock'])
    yield explain(target, unlockArgs(force))
    return
  }
  const { locks, unreadable } = await read(target, context)
  const judged = await judgeLocks(locks)
  const plan = planUnlock(judged, unreadable, force)
  const removes = new Set(plan.removes)
  const rows = (action: (each: Judged) => LockRow['action']) => judged.map((each) => rowOf(target, each, action(each)))
  if (unreadable > 0 && !force)
    context.warn(`${unreadable} locks in '${repository(target)}' cannot be read: only --force removes them`, 'partial')
  if (plan.why) context.warn(`${plan.why}; --force removes all of them`, 'partial')
  if (context.mode === 'dry-run' || plan.how === 'none') {
    yield rows((each) => (removes.has(each) ? 'would remove' : 'kept'))
    return
  }
  await verifyIdentity(target, context)
  await askRestic(target, unlockArgs(plan.how === 'all'), context, { action: `remove locks from '${repository(target)}'`, timeout: 600 })
  const left = new Set((await read(target, context)).locks.map(({ id }) => id))
  const gone = ({ lock }: Judged) => !left.has(lock.id)
  yield rows((each) => (gone(each) ? 'removed' : 'kept'))
  const stuck = plan.removes.filter((each) => !gone(each))
  if (stuck.length > 0) context.warn(`restic did not remove ${stuck.map(({ lock }) => lock.id.slice(0, 8)).join(', ')}`, 'partial')
}
export default unlock

/** One that went away between the list and the reading is read again, and then not listed any more. */
async function read(target: Target, context: RunContext): Promise<{ locks: ResticLock[]; unreadable: number }> {
  let found = await locksOf(target, context)
  if (found.includes(undefined)) found = await locksOf(target, context)
  const locks = found.filter((each) => each !== undefined)
  return { locks, unreadable: found.length - locks.length }
}

const rowOf = (target: Target, { lock, age, alive }: Judged, action: LockRow['action']): LockRow => ({
  kind: 'lock',
  target: target.name,
  of: 'restic',
  id: lock.id,
  host: lock.hostname,
  pid: lock.pid,
  time: new Date(lock.time).toISOString(),
  age,
  alive,
  exclusive: lock.exclusive ?? false,
  action,
})
