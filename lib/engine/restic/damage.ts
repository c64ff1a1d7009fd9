// What an unsuccessful `restic check` means: damage, or that something stood in its way. Pure. facts: check of 0.14.0, 0.18.0 and 0.19.1 on
// packs flipped, cut and removed, on flipped trees, indexes, snapshots and keys.
import type { Exit } from '../../child.ts'
import { Failure } from '../../failure.ts'
import { classOf, failureOf } from './errors.ts'

const advice =
  /^(?:The repository |These damaged files|Damaged pack files can|restic repair |You must run|the `unlock` command|Fatal: (?:repository contains errors|LoadIndex returned errors)|\s*$)/
const retried = /^Load\(.*\) (?:returned error, retrying|failed:|operation successful)/
const harm =
  /^pack [0-9a-f]{64}(?:: | contains )|^pack id does not match|verification failed|not found in (?:repository|index)|invalid data|hash mismatch|unexpected EOF|too short|no such file/i
const hindrances: ReadonlySet<string> = new Set(['unreachable', 'auth', 'permission', 'space', 'locked'])

/** The errors among the lines of stderr: without advice and retries, continued lines joined. */
export function errorsIn(lines: readonly string[]): string[] {
  const errors: string[] = []
  for (const line of lines) {
    if (/^\s+\S/.test(line) && errors.length > 0) errors.push(`${errors.pop()} ${line.trim()}`)
    else if (!advice.test(line) && !retried.test(line)) errors.push(line.replace(/^error: /, ''))
  }
  return [...new Set(errors)]
}

/**
 * The damage that a check found, named; empty where it found none. Throws the Failure of what kept it from its work: a lock, a wrong
 * password, a network that failed between the reads.
 */
export function damageOf(action: string, exit: Exit, lines: readonly string[]): string[] {
  if (exit.status === 0) return []
  if (exit.status !== 1 || !/repository contains errors|LoadIndex returned errors/.test(exit.stderr)) throw failureOf(action, exit)
  const errors = errorsIn(lines)
  const hindrance = (error: string) => !harm.test(error) && hindrances.has(classOf(1, error))
  const damage = errors.filter((error) => !hindrance(error))
  const [first] = errors
  if (damage.length === 0 && first !== undefined) throw new Failure(classOf(1, first), `cannot ${action}: ${first}`)
  return damage.length > 0 ? damage : ['restic calls it damaged and names nothing']
}

/** restic's own repair commands for these errors, and what comes before them. */
export function repairHint(target: string, errors: readonly string[]): string {
  const ids = (pattern: RegExp) => [...new Set(errors.flatMap((error) => pattern.exec(error)?.slice(1).find(Boolean) ?? []))]
  const packs = ids(
    /^pack ([0-9a-f]{64})(?: contains|: unexpected file size| failed to download)|^Pack ID does not match, want ([0-9a-f]{64})/i,
  )
  const named = packs.length > 5 ? [...packs.slice(0, 5), '...'] : packs
  const first = packs.length > 0 ? `restic repair packs ${named.join(' ')}` : 'restic repair index'
  return (
    `do not prune; save a copy of the repository; then, with restic 0.17 or later, '${first}' and 'restic repair snapshots --forget', ` +
    `then 'kedge backup ${target}', which stores again what is still there ('kedge check ${target} --explain' prints the environment)`
  )
}

/** The failure that names the damage: the first errors in the message, all of them in the log. */
export function damaged(target: string, repository: string, errors: readonly string[]): Failure {
  const shown = errors.slice(0, 3).map((error) => (error.length > 240 ? `${error.slice(0, 240)}…` : error))
  const more = errors.length > 3 ? `; and ${errors.length - 3} more` : ''
  return new Failure('damaged', `repository '${repository}' is damaged: ${shown.join('; ')}${more}`, { hint: repairHint(target, errors) })
}
