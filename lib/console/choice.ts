// Which targets `kedge run` is for: all, those of a group, those whose names match a pattern.
import type { Context } from '../contract.ts'
import { Failure } from '../failure.ts'
import { words } from '../keys.ts'
import { loadTarget, targetNames } from '../target.ts'

export type Choice = { readonly all: boolean; readonly group: readonly string[]; readonly match: readonly string[] }

/**
 * Their names, sorted: those that any of the options names. A target that does not load is in every group, so that nobody misses it.
 * Failure 'misuse' where there is none, with the groups that there are.
 */
export async function chosen({ all, group, match }: Choice, context: Pick<Context, 'signal'>): Promise<string[]> {
  const names = await targetNames()
  if (names.length === 0) throw new Failure('misuse', 'there is no target', { hint: 'kedge new NAME makes one' })
  if (all) return names
  const patterns = match.map(globPattern)
  const groups = group.length > 0 ? await groupsOf(names, context) : new Map<string, readonly string[] | undefined>()
  const isMeant = (name: string) => {
    const own = groups.get(name)
    return patterns.some((pattern) => pattern.test(name)) || (groups.has(name) && (!own || group.some((each) => own.includes(each))))
  }
  const unknown = group.find((each) => ![...groups.values()].some((own) => own?.includes(each)))
  const found = names.filter(isMeant)
  if (unknown === undefined && found.length > 0) return found
  if (unknown === undefined)
    throw new Failure('misuse', `no target's name matches '${match.join("' or '")}'`, { hint: 'kedge targets -q lists the names' })
  throw new Failure('misuse', `no target is in group '${unknown}'`, { hint: knownGroups(groups) })
}

function knownGroups(groups: ReadonlyMap<string, readonly string[] | undefined>): string {
  const listed = [...new Set([...groups.values()].flatMap((own) => own ?? []))].sort().join(', ')
  const broken = [...groups].filter(([, own]) => !own).map(([name]) => name)
  const rest = broken.length > 0 ? `; not known of ${broken.join(', ')}, which does not load` : ''
  return `${listed ? `the groups: ${listed}` : 'no target has a group (GROUP)'}${rest}`
}

/** The groups of each target; undefined for one that does not load. */
async function groupsOf(
  names: readonly string[],
  { signal }: Pick<Context, 'signal'>,
): Promise<Map<string, readonly string[] | undefined>> {
  const groups = new Map<string, readonly string[] | undefined>()
  for (const name of names) {
    signal.throwIfAborted()
    try {
      groups.set(name, words((await loadTarget(name)).env.GROUP))
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      groups.set(name, undefined)
    }
  }
  return groups
}

/** A shell's pattern for names: *, ?, [a-z], [!a-z]; a [ that is not closed is itself. Pure. */
export function globPattern(glob: string): RegExp {
  const parts = glob.match(/\*+|\?|\[[!^]?\]?[^\]]*\]|[^*?[]+|\[/g) ?? []
  const text = parts.map((part) => {
    if (part.startsWith('*')) return '.*'
    if (part === '?') return '.'
    const [, not, inside] = /^\[([!^]?)(\]?[^\]]*)\]$/.exec(part) ?? []
    if (inside !== undefined) return `[${not ? '^' : ''}${inside.replace(/[\\\]^[]/g, '\\$&')}]`
    return part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  })
  try {
    return new RegExp(`^${text.join('')}$`, 's')
  } catch (error) {
    throw new Failure('misuse', `not a pattern: '${glob}'`, { hint: 'as in sh: *, ? and [a-z]', cause: error })
  }
}
