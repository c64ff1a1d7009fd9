// Exclude files, in the patterns of restic, as rules of rsync's filter. Pure. What rsync cannot say is a Failure, never another meaning.
//
// restic looks at a path and at the folders above it, and the last pattern that fits decides; rsync looks at the path alone, and the first
// rule decides. So the order is turned round, and a '!' brings back what lies below as well. Both leave out a folder with all that is in it.
import { posix } from 'node:path'
import { Failure } from '../../failure.ts'
import { judge, parsePattern } from '../../pattern.ts'

/** A rule as rsync reads it, '- /var/cache/*.deb': a character a byte (latin1), since a '?' of restic's may stand for several bytes. */
export type Rule = string

/** What one character may be, in bytes: ASCII, or anything that is no UTF-8; then UTF-8's sequences. */
const sequences = ['[\xc2-\xdf][\x80-\xbf]', '[\xe0-\xef][\x80-\xbf][\x80-\xbf]', '[\xf0-\xf4][\x80-\xbf][\x80-\xbf][\x80-\xbf]']

/** One pattern may become so many rules. */
const most = 256

type Names = Readonly<Record<string, string | undefined>>

/** The patterns of an exclude file: blank lines and comments left out, `$NAME`, `${NAME}` and `$$` replaced as restic does. */
export function patternsIn(text: string, file: string, names: Names): string[] {
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/)
  return lines
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) =>
      line.replace(/\$(?:\$|\{(\w+)\}|(\w+))/g, (whole, braced?: string, bare?: string) => {
        if (whole === '$$') return '$'
        const name = braced ?? bare ?? ''
        const value = names[name]
        if (value !== undefined) return value
        throw new Failure('config', `cannot read '${file}': '${line}' names ${name}, which is not set`, { hint: "'$$' stands for a '$'" })
      }),
    )
}

/**
 * The rules for patterns, the one that decides first before the others. Failure `config` for what rsync cannot say. A source that a pattern
 * fits is saved, being named itself; what lies in it is not, as with restic since 0.19.
 */
export function rulesOf(patterns: readonly string[], sources: readonly string[] = []): Rule[] {
  const named = patterns.length === 0 ? [] : sources.filter((source) => source !== '/' && isExcluded(patterns, source))
  const below = (pattern: string) => named.filter((source) => isExcluded([pattern], source)).map((source) => `- ${beneath(source, '/**')}`)
  return [
    ...folderRules(named).map((rule) => rule.replace('-', '+')),
    ...patterns.toReversed().flatMap((pattern) => [...rulesFor(pattern), ...below(pattern)]),
  ]
}

/** A path as it is, and what lies beneath it. */
const beneath = (path: string, what: string): string =>
  written([
    { text: bytes(path), wild: false },
    { text: what, wild: true },
  ])

/** Whether the patterns leave a path out that is named itself, or a folder above it. */
export function isExcluded(patterns: readonly string[], path: string): boolean {
  return judge(patterns.map(parsed), path)[0]
}

function parsed(pattern: string) {
  try {
    return parsePattern(pattern)
  } catch (error) {
    if (error instanceof Failure) throw new Failure('config', `cannot exclude '${pattern}': ${error.message}`, { hint: error.hint })
    throw error
  }
}

function rulesFor(pattern: string): Rule[] {
  const { negated } = parsed(pattern)
  const body = posix.normalize(negated ? pattern.slice(1) : pattern)
  const cleaned = body.length > 1 ? body.replace(/\/$/, '') : body
  if (cleaned === '/') throw new Failure('config', `cannot exclude '${pattern}': nothing would be left`)
  const parts = cleaned.split('/')
  if (parts.includes('..')) return [] // no path has such a part: it fits nothing
  const depths = depthsOf(parts)
  const bodies = [...new Set(depths.flatMap((each) => spelled(each, pattern)))]
  if (bodies.length > most)
    throw new Failure('config', `cannot exclude '${pattern}': rsync would need ${bodies.length} rules for it`, {
      hint: "fewer of '?' and '[^…]', or a '*' in their place",
    })
  return negated ? bodies.flatMap((each) => [`+ ${each}`, `+ ${each}/**`]) : bodies.map((each) => `- ${each}`)
}

/** '**' as a part stands for any number of folders, none too: rsync's for one at least. */
function depthsOf(parts: readonly string[]): string[][] {
  const rooted = parts[0] === ''
  let found: string[][] = [[]]
  for (const [i, part] of parts.entries()) {
    // At the end it fits what stands before it, and so all that is below; at the beginning of one without root any place is as good.
    const needless = i === parts.length - 1 || (i === 0 && !rooted)
    if (part !== '**') found = found.map((each) => [...each, part])
    else if (!needless) found = found.flatMap((each) => (each.at(-1) === '**' ? [each] : [each, [...each, '**']]))
  }
  return found.filter((each) => each.some((part) => part !== ''))
}

type Token = { text: string; wild: boolean }

/** All ways to write it with rsync's wildcards, which fit bytes. */
function spelled(parts: readonly string[], pattern: string): Rule[] {
  let found: Token[][] = [[]]
  for (const [i, part] of parts.entries()) {
    const slash: Token[] = i === 0 ? [] : [{ text: '/', wild: false }]
    const ways = part === '**' ? [[{ text: '**', wild: true }]] : waysOf(part, pattern)
    found = found.flatMap((each) => ways.map((way) => [...each, ...slash, ...way]))
    if (found.length > most * 4) throw new Failure('config', `cannot exclude '${pattern}': rsync would need too many rules for it`)
  }
  return found.map(written)
}

/** A backslash escapes only in a pattern that has one of *?[ in it, be it escaped. */
function written(tokens: readonly Token[]): Rule {
  const plain = tokens.every(({ text, wild }) => !wild && !/[*?[]/.test(text))
  if (plain) return tokens.map(({ text }) => text).join('')
  return tokens.map(({ text, wild }) => (wild ? text : text.replace(/[\\*?[\]]/g, '\\$&'))).join('')
}

const bytes = (text: string): string => Buffer.from(text).toString('latin1')

function waysOf(part: string, pattern: string): Token[][] {
  const chars = [...part]
  let found: Token[][] = [[]]
  const add = (...ways: Token[]) => {
    found = found.flatMap((each) => ways.map((way) => [...each, way]))
    if (found.length > most * 4) throw new Failure('config', `cannot exclude '${pattern}': rsync would need too many rules for it`)
  }
  for (let i = 0; i < chars.length; i++) {
    const char = chars[i] ?? ''
    if (char === '*') {
      while (chars[i + 1] === '*') i++ // two of them would pass a slash
      add({ text: '*', wild: true })
    } else if (char === '?') add(...['?', ...sequences].map((text) => ({ text, wild: true })))
    else if (char === '[') {
      const { end, ways } = classAt(chars, i, pattern)
      add(...ways)
      i = end
    } else if (char === '\\') add({ text: bytes(chars[++i] ?? ''), wild: false })
    else add({ text: bytes(char), wild: false })
  }
  return found
}

/** A class, '[a-z]' or '[^a-z]', which parsePattern has found to be well; characters beyond ASCII become ways of their own. */
function classAt(chars: readonly string[], start: number, pattern: string): { end: number; ways: Token[] } {
  let i = start + 1
  const not = chars[i] === '^'
  if (not) i++
  const next = () => {
    if (chars[i] === '\\') i++
    return chars[i++] ?? ''
  }
  let set = ''
  const others: string[] = []
  do {
    const low = next()
    let high = low
    if (chars[i] === '-') {
      i++
      high = next()
    }
    if (low > high) continue // Go's takes it for nothing
    const wide = [low, high].some((char) => (char.codePointAt(0) ?? 0) > 127)
    if (wide && (not || low !== high))
      throw new Failure('config', `cannot exclude '${pattern}': rsync compares bytes, and '${low}' to '${high}' are several`, {
        hint: 'a class of ASCII characters can be said, or single ones beside them',
      })
    if (wide) others.push(low)
    else set += low === high ? escaped(low) : `${escaped(low)}-${escaped(high)}`
  } while (chars[i] !== ']' && i < chars.length)
  const ways: Token[] = set === '' ? [] : [{ text: `[${not ? '^' : ''}${set}]`, wild: true }]
  if (not && set === '') ways.push({ text: '?', wild: true })
  if (not) ways.push(...sequences.map((text) => ({ text, wild: true })))
  return { end: i, ways: [...ways, ...others.map((char) => ({ text: bytes(char), wild: false }))] }
}

const escaped = (char: string): string => (/[\w.,:;@%+=~ ]/.test(char) ? char : `\\${char}`)

/** What a folder with a CACHEDIR.TAG holds; the tag itself stays where `keep` says so. `folder`: its path, a character a byte. */
export function cacheRules(folder: string, keep: boolean): Rule[] {
  const literal = folder.replace(/[\\*?[\]]/g, '\\$&')
  const plain = !/[*?[]/.test(folder) // then a backslash is one, and not before another
  return [...(keep ? [`+ ${plain ? folder : literal}/CACHEDIR.TAG`] : []), `- ${literal}/*`]
}

/** Folders that stay out whatever the patterns say. */
export const folderRules = (folders: readonly string[]): Rule[] =>
  folders.map((folder) => `- ${written([{ text: bytes(folder), wild: false }])}`)

/**
 * A path of any bytes below the top of a transfer. What rsync reads more into is a '?', so that a rule is no longer than its path: rsync
 * drops one that is longer than a path may be. So it may leave out others of the same length.
 */
export const placeRule = (path: Buffer): Rule => `- /${path.toString('latin1').replace(/[\\*?[\]]/g, '?')}`

/** The file that rsync reads with --exclude-from and -0. */
export const rulesFile = (rules: readonly Rule[]): Buffer => Buffer.from(rules.map((rule) => `${rule}\0`).join(''), 'latin1')
