// Where a name occurs in the snapshots of a target: their manifests searched, the newest first.
import type { Target, VerbOf, Verbs } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { finds, nothingFound, type Pattern, parsePattern } from '../../pattern.ts'
import type { CommandLine, Match, Snapshot } from '../../rows.ts'
import { quote } from '../../shell.ts'
import { heedFuture, pick } from '../../snapshots.ts'
import { pathOf } from './located.ts'
import { escapePath, readManifest, shownPath, toEntry } from './manifest.ts'
import { type Found, manifestOf, snapshotsOf } from './snapshots.ts'
import { ownersOf, rootOf } from './store.ts'

type Options = Verbs['find']['options']

const find: VerbOf<'find'> = async function* (target, options, context) {
  const patterns = options.patterns.map((pattern) => parsePattern(options.ignoreCase ? pattern.toLowerCase() : pattern))
  const { rows, of } = await snapshotsOf(target, context)
  heedFuture(rows, [options.snapshot ?? ''], context)
  const one = options.snapshot === undefined ? undefined : pick(rows, target, options.snapshot)
  if (context.mode === 'explain') {
    yield byHand(target, patterns, options, one && of(one))
    return
  }
  let any = false
  for (const row of one ? [one] : rows) {
    try {
      for await (const found of matchesIn(target, row, of(row), patterns, options)) {
        context.signal.throwIfAborted()
        any ||= found.length > 0
        if (found.length > 0) yield found
      }
    } catch (error) {
      // The others may have it.
      if (!(error instanceof Failure) || error.class !== 'damaged' || one) throw error
      context.warn(error.message, 'damaged')
    }
  }
  if (!any) throw nothingFound(target.name, options.patterns)
}
export default find

async function* matchesIn(
  { name }: Target,
  { id, time }: Snapshot,
  stored: Found,
  patterns: readonly Pattern[],
  { ignoreCase }: Options,
): AsyncGenerator<Match[]> {
  const isMeant = (text: string): boolean => {
    const escaped = pathOf(text)
    if (escaped === '.') return false
    const path = shownPath(escaped)
    return finds(patterns, ignoreCase ? path.toLowerCase() : path)
  }
  for await (const lines of readManifest(manifestOf(stored), isMeant))
    yield lines.map((line) => {
      const { path, type, size, mtime } = toEntry(line)
      return { kind: 'match', target: name, snapshot: id, time, path, type, size, mtime }
    })
}

/** The lines of the manifests, each behind the name of its manifest. */
function byHand(target: Target, patterns: readonly Pattern[], { ignoreCase }: Options, one: Found | undefined): CommandLine {
  const files = one ? quote(manifestOf(one)) : ownersOf(target).map((owner) => `${quote(rootOf(target, owner))}/snapshots/*/manifest`)
  const like = quote(patterns.map(expression).join('|'))
  const path = ignoreCase ? 'tolower($1)' : '$1'
  const program = quote(`FNR > 1 && ${path} ~ ENVIRON["like"] { print FILENAME ": " $0 }`)
  return { kind: 'command', command: `like=${like} awk -F '\\t' ${program} ${[files].flat().join(' ')}` }
}

/** A pattern as a regular expression of awk's, over the paths of a manifest, which have no slash in front. */
export function expression({ parts }: Pattern): string {
  const absolute = parts[0] === ''
  const names = absolute ? parts.slice(1) : [...parts]
  while (names.at(-1) === null) names.pop() // what lies below is found anyway
  const start = absolute ? '^' : '(^|/)'
  if (names.length === 0) return start
  const part = (name: (typeof names)[number]) =>
    name === null ? '([^/]*/)*' : `${name instanceof RegExp ? nameLike(name) : literally(name)}/`
  return `${start}${names.map(part).join('').slice(0, -1)}(/|$)`
}

const literally = (name: string): string =>
  Buffer.from(escapePath(Buffer.from(name)), 'latin1')
    .toString('utf8')
    .replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')

/** The source that pattern.ts makes, where nothing matches a slash: names are matched one by one there. A manifest has '\#012' for a line feed. */
const nameLike = ({ source }: RegExp): string =>
  source
    .slice(1, -1)
    .replaceAll('(?!)', '//')
    .replace(/\\n|\\[\s\S]|\[(?:\\[\s\S]|[^\]\\])*\]|[.\x00-\x1f\x7f]/g, (token) => {
      if (token === '.') return '(\\\\#[0-7][0-7][0-7]|[^/])'
      if (token === '\\n') return literally('\n') // as a RegExp's source shows it
      return /^[\x00-\x1f\x7f]/.test(token) ? literally(token) : token.replace(/^\[\^/, '[^/')
    })
