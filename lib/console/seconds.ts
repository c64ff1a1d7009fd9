// The second stores of a target whose command copies: their secrets are opened beside its own, for a child has nobody to ask.
import type { Context, Target } from '../contract.ts'
import { Failure } from '../failure.ts'
import type { Handed } from '../handed.ts'
import { words as listed } from '../keys.ts'
import { openSecrets } from '../secret.ts'
import { loadTarget } from '../target.ts'

/** `words`: a verb of kedge's and what follows it. What cannot be opened is said, and left to the verb, which goes on without it. */
export async function openSeconds(target: Target, words: readonly string[], context: Context): Promise<Handed[]> {
  const found: Handed[] = []
  for (const name of secondsOf(target.env, words)) {
    try {
      const second = await loadTarget(name)
      found.push({ name, dir: second.dir, secrets: await openSecrets(second, context) })
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      context.log(`${target.name}: ${error.message}`)
    }
  }
  return found
}

/** The names of those that a verb copies to. Pure. */
export function secondsOf(env: Readonly<Record<string, string | undefined>>, [verb, ...rest]: readonly string[]): string[] {
  const named = [...new Set(listed(env.COPY_TO))]
  if (verb === 'backup') return env.COPY_AFTER_BACKUP === 'yes' ? named : []
  if (verb !== 'copy') return []
  const wanted = rest.flatMap((word, at) => (word.startsWith('--to=') ? word.slice('--to='.length) : rest[at - 1] === '--to' ? word : []))
  return wanted.length > 0 ? named.filter((name) => wanted.includes(name)) : named
}
