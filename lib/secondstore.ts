// A second store while a copy fills it: judged before, and its target held meanwhile.
import type { RunContext, Target } from './contract.ts'
import { Failure } from './failure.ts'
import { words } from './keys.ts'
import { ofStore } from './lag.ts'
import { take } from './lock.ts'
import { bury, recover } from './record.ts'
import { lockDir } from './running.ts'
import { targetTags } from './target.ts'

/** What fails with one store is told, and keeps the others from nothing; what is not a Failure is thrown. */
export const tellOf = (context: RunContext) => (store: string, error: unknown) => {
  if (!(error instanceof Failure) || context.signal.aborted) throw error
  context.warn(`${ofStore(store)}${error.message}${error.hint ? ` (${error.hint})` : ''}`, 'partial')
}

/** Failure `refused` for a store that is not pinned; warns of one whose target does not show the copies. `made`: the command that makes it. */
export function judgeSecond(target: Target, to: Target, context: RunContext, made: string): void {
  if (!to.env.STORE_ID) {
    const hint = `${made}, or kedge init --adopt ${to.name} where it exists`
    overridable(context, 'pin', `refusing to copy to '${to.name}': its store is not pinned`, hint)
  }
  if (targetTags(target).every((tag) => targetTags(to).includes(tag))) return
  const names = [...new Set([...words(to.env.SNAPSHOTS_OF), ...targetTags(target).map((tag) => tag.slice('kedge:'.length))])]
  context.warn(`'${to.name}' does not show the copies: set SNAPSHOTS_OF='${names.join(' ')}' in its target.env`)
}

export function overridable(context: RunContext, guard: string, message: string, hint: string): void {
  if (!context.forced.has(guard)) throw new Failure('refused', message, { hint })
  context.warn(`guard '${guard}' overridden: ${message}`)
}

/** Works under the second target's lock, so that no prune runs there meanwhile; with its secrets, and with what crashed runs of it left. */
export async function holding<T>(
  of: Target,
  to: Target,
  secrets: Readonly<Record<string, string>>,
  context: RunContext,
  work: (there: RunContext) => Promise<T>,
): Promise<T> {
  const holder = { run: context.run, verb: 'copy', of: of.name }
  const lock = await take(lockDir(to.name), 'write', holder, { wait: context.wait, signal: context.signal })
  try {
    const dead = await recover(to, lock.crashed, context)
    return await work({
      ...context,
      secrets,
      dead,
      buried: async () => {
        dead.length = 0
        bury(to)
      },
      group(pgid) {
        context.group(pgid)
        lock.note(pgid).catch((error: Error) => context.log(`kedge: cannot note a child in the lock: ${error.message}`))
      },
    })
  } finally {
    await lock.release()
  }
}
