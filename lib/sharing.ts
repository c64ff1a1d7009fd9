// Targets of this machine that have one store together, and open it with one password.
import type { Context, Target } from './contract.ts'
import { Failure } from './failure.ts'
import { openSecrets } from './secret.ts'
import { loadTarget, targetNames } from './target.ts'

/** The names of other targets that open the target's store with this password, as far as can be told without asking anybody. */
export async function sharers(target: Target, password: string, context: Context): Promise<string[]> {
  const found: string[] = []
  for (const name of await targetNames()) {
    if (name === target.name) continue
    const other = await loadTarget(name).catch(unlessFailure)
    if (!other?.env.STORE_ID || other.env.STORE_ID !== target.env.STORE_ID) continue
    const secrets = await openSecrets(other, { ...context, ask: undefined }).catch(unlessFailure)
    const theirs = secrets?.RESTIC_PASSWORD
    // What cannot be opened may have it.
    if (theirs === undefined || theirs === password) found.push(name)
  }
  return found
}

function unlessFailure(error: unknown): undefined {
  if (!(error instanceof Failure)) throw error
}
