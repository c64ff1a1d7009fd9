// restic's patterns: Go's filepath.Match for each part of a path, ** for any depth, a leading ! takes out again. Pure.
// They are evaluated here too, so that what a restore would bring can be counted with a restic that has no dry run (before 0.17);
// restic's internal/filter, unchanged in this since 0.13.
import { posix } from 'node:path'
import { Failure } from './failure.ts'

/** A path as a pattern that matches nothing but it, and what lies below. */
export const literal = (path: string): string => path.replace(/[\\*?[]/g, '\\$&')

/** null stands for **. The root of an absolute pattern is the part ''. */
type Part = string | RegExp | null
export type Pattern = { negated: boolean; parts: readonly Part[] }

/** Failure 'misuse' for what restic would refuse. */
export function parsePattern(text: string): Pattern {
  const negated = text.startsWith('!')
  const body = negated ? text.slice(1) : text
  if (body === '') throw new Failure('misuse', `not a pattern: '${text}'`)
  const cleaned = posix.normalize(body)
  const parts = (cleaned.length > 1 ? cleaned.replace(/\/$/, '') : cleaned).split('/')
  return { negated, parts: parts.map((part) => parsePart(part, text)) }
}

function parsePart(part: string, whole: string): Part {
  if (part === '**') return null
  if (!/[\\[\]*?]/.test(part)) return part
  const chars = [...part]
  const bad = () => new Failure('misuse', `not a pattern: '${whole}'`, { hint: "'[' and '\\' stand for themselves after a '\\'" })
  let i = 0
  const next = (): string => {
    if (chars[i] === '\\') i++
    const char = chars[i++]
    if (char === undefined) throw bad()
    return char
  }
  const escaped = (char: string) => char.replace(/[\\^$.*+?()[\]{}|/]/, '\\$&')
  const inSet = (char: string) => char.replace(/[\\^[\]-]/, '\\$&')
  let source = ''
  while (i < chars.length) {
    if (chars[i] === '*') {
      source += '.*'
      i++
    } else if (chars[i] === '?') {
      source += '.'
      i++
    } else if (chars[i] === '[') {
      i++
      const not = chars[i] === '^'
      if (not) i++
      let set = ''
      do {
        if (chars[i] === '-' || chars[i] === ']') throw bad()
        const low = next()
        let high = low
        if (chars[i] === '-') {
          i++
          if (chars[i] === '-' || chars[i] === ']') throw bad()
          high = next()
        }
        if (low <= high) set += `${inSet(low)}-${inSet(high)}`
        if (i >= chars.length) throw bad()
      } while (chars[i] !== ']')
      i++
      source += set === '' ? (not ? '.' : '(?!)') : `[${not ? '^' : ''}${set}]`
    } else source += escaped(next())
  }
  return new RegExp(`^${source}$`, 'su')
}

function matches(parts: readonly Part[], names: readonly string[]): boolean {
  const deep = parts.indexOf(null)
  if (deep >= 0) {
    for (let i = 0; i <= names.length - parts.length + 1; i++) {
      const any = Array.from({ length: i }, () => /^.*$/s)
      if (matches([...parts.slice(0, deep), ...any, ...parts.slice(deep + 1)], names)) return true
    }
    return false
  }
  if (parts.length === 0) return names.length === 0
  const last = parts[0] === '' ? 0 : names.length - parts.length
  for (let offset = last; offset >= (parts[0] === '' ? 0 : 1); offset--) {
    if (offset + parts.length > names.length) continue
    if (parts.every((part, i) => (part instanceof RegExp ? part.test(names[offset + i] ?? '') : part === names[offset + i]))) return true
  }
  return false
}

/** Whether something below a folder may match. */
function mayMatchBelow({ parts }: Pattern, names: readonly string[]): boolean {
  if (parts[0] !== '') return true
  const deep = parts.indexOf(null)
  const cut = deep >= 0 && names.length >= deep ? names.slice(0, deep) : names
  return matches(parts.slice(0, cut.length), cut)
}

/** restic's judgement of a list: [the path matches, something below it may]. The order counts where a pattern is negated. */
export function judge(patterns: readonly Pattern[], path: string): [boolean, boolean] {
  const names = path.split('/')
  let matched = false
  let below = false
  for (const pattern of patterns) {
    const match = matches(pattern.parts, names)
    if (pattern.negated) {
      matched &&= !match
      below &&= !match
    } else {
      matched ||= match
      below ||= mayMatchBelow(pattern, names)
    }
  }
  return [matched, below]
}

/** Whether `find` lists a path for one of the patterns: what lies below a folder that matches is listed too, and a ! counts for nothing. */
export const finds = (patterns: readonly Pattern[], path: string): boolean => patterns.some(({ parts }) => matches(parts, path.split('/')))

/** No snapshot of the target has what was looked for. */
export const nothingFound = (target: string, patterns: readonly string[]): Failure =>
  new Failure('empty', `nothing found in the snapshots of '${target}': ${patterns.map((each) => `'${each}'`).join(', ')}`)

/**
 * Says of each path, a folder before what is in it, whether `restic restore` with these patterns brings it. Either list may be empty,
 * one has to be. What is in a folder need not follow at once: among sorted bytes 'a-b' comes between 'a' and 'a/b'.
 */
export function selection(include: readonly string[], exclude: readonly string[]): (path: string, folder: boolean) => boolean {
  const patterns = (include.length > 0 ? include : exclude).filter(Boolean).map(parsePattern)
  let closed: string[] = []
  return (path, folder) => {
    closed = closed.filter((each) => path.startsWith(each))
    if (closed.some((each) => path[each.length] === '/')) return false
    if (patterns.length === 0) return true
    const [matched, below] = judge(patterns, path)
    const selected = include.length > 0 ? matched : !matched
    if (folder && !(include.length > 0 ? below : selected)) closed.push(path)
    return selected
  }
}
