// Forget as every engine does it: what it refuses.
import type { RunContext, Target } from './contract.ts'
import { Failure } from './failure.ts'
import { shortId } from './format.ts'
import { sourceOf } from './kept.ts'
import { refuseShared } from './named.ts'
import { newestGood } from './pruning.ts'
import type { Snapshot } from './rows.ts'

/** Failure 'refused' for one that is another target's too, that is held, or (unless it is overridden) the newest good one of its source. */
export function refuseForget(
  target: Target,
  snapshots: readonly Snapshot[],
  doomed: readonly Snapshot[],
  context: Pick<RunContext, 'forced' | 'warn'>,
): void {
  refuseShared(target, doomed, 'forget')
  const held = doomed.find((snapshot) => snapshot.held)
  if (held)
    throw new Failure('refused', `refusing to forget snapshot ${shortId(held.id)} of '${target.name}': it is held`, {
      hint: `kedge hold --release ${target.name} ${shortId(held.id)}`,
    })
  for (const newest of newestGood(target, snapshots, doomed)) {
    const message = `refusing to forget snapshot ${shortId(newest.id)} of '${target.name}': it is the newest good one of ${sourceOf(target, newest)}`
    if (!context.forced.has('newest')) throw new Failure('refused', message, { hint: '--force=newest where that is meant' })
    context.warn(`guard 'newest' overridden: ${message}`)
  }
}
