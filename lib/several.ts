// The same work on several targets, one after the other: the failure of one does not stop the next.
import type { Context, Rows, Target } from './contract.ts'
import { Cancelled, Failure, worst } from './failure.ts'
import { loadTarget, targetNames } from './target.ts'

/** `names` empty: all targets, but those that `leave` names. Returns the worst status. */
export async function* several(
  names: readonly string[],
  context: Context,
  one: (target: Target) => AsyncGenerator<Rows, number>,
  leave: (target: Target) => boolean = () => false,
): AsyncGenerator<Rows, number> {
  // A name given twice is one target.
  const wanted = names.length > 0 ? [...new Set(names)] : await targetNames()
  if (wanted.length === 0) throw new Failure('misuse', 'there is no target', { hint: 'kedge new NAME makes one' })
  if (names.length > 0 && wanted.length === 1) return yield* one(await loadTarget(wanted[0] ?? ''))
  const statuses: number[] = []
  for (const name of wanted) {
    try {
      const target = await loadTarget(name)
      if (names.length === 0 && leave(target)) continue
      // By hand each in a shell of its own: what one target sets must not reach the next.
      if (context.mode === 'explain') yield { kind: 'command', command: '(' }
      statuses.push(yield* one(target))
      if (context.mode === 'explain') yield { kind: 'command', command: ')' }
    } catch (error) {
      if (error instanceof Cancelled || context.signal.aborted) throw error
      statuses.push(context.report(error, name))
    }
  }
  return worst(statuses)
}
