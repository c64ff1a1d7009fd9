// What a restore brings: operands, --include and --exclude -> the patterns for restic. Pure.
// restic takes either includes or excludes; an exclude beside includes becomes a negated include, which 0.14 knows as well.
import { Failure } from './failure.ts'
import { literal } from './pattern.ts'

export type Choice = { include: readonly string[]; exclude: readonly string[] }

/** A path and all below it, as a pattern; of '/' only what lies in it can be named. */
const whole = (path: string): string => (path === '/' ? '/*' : literal(path))

/**
 * `within`: only these paths and what lies below them; empty: everything. Patterns see the full path in the snapshot; a relative one
 * looks anywhere below `within`, an absolute one has to lie in it.
 */
export function choose(within: readonly string[], include: readonly string[], exclude: readonly string[]): Choice {
  const nothing = [...include, ...exclude].find((pattern) => pattern === '' || pattern === '!')
  if (nothing !== undefined) throw new Failure('misuse', `not a pattern: '${nothing}'`)
  const included =
    within.length === 0 ? include : include.length === 0 ? within.map(whole) : include.flatMap((pattern) => below(within, pattern))
  if (included.length === 0) return { include: [], exclude }
  const twice = exclude.find((pattern) => pattern.startsWith('!'))
  if (twice)
    throw new Failure('misuse', `cannot take '${twice}' out of the excludes where something is included`, {
      hint: 'name it with --include',
    })
  return { include: [...included, ...exclude.map((pattern) => `!${pattern}`)], exclude: [] }
}

function below(within: readonly string[], pattern: string): string[] {
  const [sign, body] = pattern.startsWith('!') ? ['!', pattern.slice(1)] : ['', pattern]
  const folders = within.map((path) => (path === '/' ? '/' : `${path}/`))
  if (!body.startsWith('/')) return folders.map((folder) => `${sign}${literal(folder)}**/${body}`)
  const inside = folders.some((folder) => [folder, literal(folder)].some((start) => `${body}/`.startsWith(start)))
  if (!inside) throw new Failure('misuse', `the pattern '${pattern}' lies outside of ${within.map((path) => `'${path}'`).join(', ')}`)
  return [pattern]
}

/** Whether a path is another, or a folder above it. */
export const holds = (a: string, b: string): boolean => a === '/' || a === b || b.startsWith(`${a}/`)

/** Two sets of paths of which one holds a path of the other, or the same. */
export function overlap(one: readonly string[], other: readonly string[]): boolean {
  return one.some((a) => other.some((b) => holds(a, b) || holds(b, a)))
}
