// A backup that left something out says so by a tag. What could not be read is known only when the snapshot is made.
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { partialTag } from '../../snapshots.ts'
import { waitArgs, withoutOwnDeadLocks } from './deadlock.ts'
import { snapshotsOf } from './snapshots.ts'
import { askRestic, repository, version } from './tool.ts'

export const partialArgs = (id: string, wait: readonly string[] = []): string[] => ['tag', ...wait, '--add', partialTag, id]

/**
 * Tags a snapshot that was just made. Returns the id that it has then; the one it had, with a warning, where it could not be tagged:
 * the snapshot itself is saved.
 */
export async function markPartial(target: Target, id: string, context: RunContext): Promise<string> {
  const action = `tag snapshot ${id.slice(0, 8)} as partial in '${repository(target)}'`
  try {
    const args = partialArgs(id, waitArgs(target, await version(target)))
    await withoutOwnDeadLocks(target, context, () => askRestic(target, args, context, { action }))
    const after = await snapshotsOf(target, context, { all: true })
    const found = after.find((each) => each.partial && each.original?.startsWith(id))
    // An append-only store takes the new one, keeps the old one, and restic says 0.
    if (!found || after.some((each) => each.id.startsWith(id)))
      throw new Failure('tool', `cannot ${action}: restic left the old one as it was`)
    return found.id
  } catch (error) {
    if (!(error instanceof Failure) || context.signal.aborted) throw error
    context.warn(`${error.message}; prune will take it for a full one`, 'partial')
    return id
  }
}
