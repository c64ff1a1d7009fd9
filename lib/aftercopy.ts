// A backup and, where COPY_AFTER_BACKUP says so, the copies after it: a run of their own, once the backup's lock is free again.
import type { Context, Rows, Target, Verbs } from './contract.ts'
import { copiesOf } from './copying.ts'
import { Failure, statusOf, worst } from './failure.ts'
import { words } from './keys.ts'
import { run } from './lifecycle.ts'
import { isSecondStore } from './target.ts'

/** The status is the worse of both; copies that failed are a part that was not done, whatever their own record says. */
export async function* backUp(target: Target, options: Verbs['backup']['options'], context: Context): AsyncGenerator<Rows, number> {
  if (!options.names && isSecondStore(target))
    throw new Failure(
      'misuse',
      `'${target.name}' has no sources of its own: it holds copies of ${words(target.env.SNAPSHOTS_OF).join(', ')}`,
      {
        hint: 'kedge copy brings them there',
      },
    )
  const backup = run('backup', target, options, context)
  if (!isWanted(target)) return yield* backup
  let saved = context.mode === 'explain'
  let status = 0
  let failure: Failure | undefined
  try {
    for (;;) {
      const { done, value } = await backup.next()
      if (done) {
        status = value
        break
      }
      saved ||= [value].flat().some(({ kind }) => kind === 'summary')
      yield value
    }
  } catch (error) {
    // What one source could save is to be copied although another one failed.
    if (!(error instanceof Failure) || !saved || context.signal.aborted) throw error
    failure = error
  } finally {
    await backup.return(0)
  }
  const copied = saved ? yield* copies(target, context) : 0
  if (failure) throw failure
  return worst([status, copied])
}

/** Without COPY_TO: not where a default of the house says so, since a second store has none; a target that says so itself is told. */
function isWanted({ dir, env, origin }: Target): boolean {
  if (env.COPY_AFTER_BACKUP !== 'yes') return false
  return words(env.COPY_TO).length > 0 || origin.COPY_AFTER_BACKUP?.file.startsWith(`${dir}/`) === true
}

async function* copies(target: Target, context: Context): AsyncGenerator<Rows, number> {
  if (context.mode === 'dry-run') context.log('the copies are counted without what this backup would save')
  try {
    // A guard was overridden for the backup: a second store that was replaced is another matter.
    return yield* run('copy', target, await copiesOf(target, []), { ...context, forced: new Set() })
  } catch (error) {
    if (!(error instanceof Failure) || context.signal.aborted) throw error
    const said = context.report(error, `copy of '${target.name}'`)
    return error.class === 'skipped' ? said : statusOf.partial
  }
}
