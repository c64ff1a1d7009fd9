// What rsync says on stderr while it saves, line by line: what could not be read, what is gone, what stands in the way of the whole.

import { tidy } from './errors.ts'
import { pathBytes } from './manifest.ts'

export type Trouble = {
  /** Paths that could not be read, and why. */
  readonly unreadable: Map<string, string>
  /** Paths of the new tree that are not as they were at the source, and why. */
  readonly unkept: Map<string, string>
  /** A folder that is not empty stands where the source has something else now. */
  blocked: boolean
  /** Sources that are not there. */
  readonly missing: Set<string>
  vanished: number
  /** Files that became shorter while they were read: rsync sends them again. */
  readonly shrunk: Set<string>
  /** The store's file system is full. */
  full: string | undefined
  /** Files that had as many names as the file system lets them have. */
  crowded: number
  /** Bases that rsync did not find. */
  readonly lost: Set<string>
  /** Options that one side does not know. */
  readonly lacks: Set<'A' | 'X'>
  /** What it said besides; `left`: what it left out without the name of a path. */
  readonly said: string[]
  readonly left: string[]
}

export const noTrouble = (): Trouble => ({
  unreadable: new Map(),
  unkept: new Map(),
  blocked: false,
  missing: new Set(),
  vanished: 0,
  shrunk: new Set(),
  full: undefined,
  crowded: 0,
  lost: new Set(),
  lacks: new Set(),
  said: [],
  left: [],
})

/** What rsync leaves out, told otherwise than as an operation that failed. The path is the first group, or joined of two. */
const leftOut: readonly (readonly [RegExp, why: string])[] = [
  [/filename overflows max-path len by \d+: (.*)$/, 'the path is too long'],
  [/skipping overly long name: (.*)$/, 'the path is too long'],
  [/(?:path|temporary filename) too long: (.*)$/, 'the path is too long'],
  [/cannot add local filter rules in long-named directory: (.*)$/, 'the path is too long'],
  [/cannot convert (?:filename|symlink data for): (.*) \(.*\)$/, 'its name cannot be converted'],
  [/skipping non-regular file "(.*)"$/, 'it is no file, and devices cannot be kept'],
  [/skipping (?:file with bogus \(zero\) st_mode|symlink with 0-length value|directory): (.*)$/, 'rsync skips it'],
  [/skipping socket \(creation unsupported here\): (.*)$/, 'sockets cannot be made here'],
  [/skipped diminished file: (.*)$/, 'it became shorter'],
  [/ERROR: (.*) failed verification -- update .*$/, 'it changed while it was read, twice'],
  [/Unable to create partial-dir for (.*) -- discarding .*$/, 'there is no folder for its part'],
  [/ERROR: rejecting excluded file-list name: (.*)$/, 'rsync rejects its name'],
  [/ABORTING due to .*: (.*)$/, 'rsync rejects its name'],
]

/** Words of a message about something that was left out and that nobody has seen yet. */
const leaving =
  /\b(?:skipp(?:ed|ing)|ignoring|discard(?:ed|ing)|overflow\w*|too long|rejecting|excluded|could not be|unsafe|not sent|failed)\b/i

/** Where rsync tells a path, and why: 'rsync: [sender] opendir "/x" failed: Permission denied (13)'. */
const told = /^rsync: (?:\[(\w+)\] )?([^"]*)"(.*)"([^"]*): ([^:"]*?)(?: \((\d+)\))?$/
/** Behind the first path, where it tells two: 'rename "/x" -> "/y"'. */
const second = /" [-=]> ".*$/
/** OpenBSD's: 'openrsync: /x: openat: Permission denied', or with the words the other way round. */
const openrsync = /^openrsync(?:\[\d+\])?: (?:error: |warning: )?(?:(\/[^:]*): \w+|\w+: (\/[^:]*)): ([^:]+)$/

const noise =
  /^(?:rsync error: |rsync warning: |IO error encountered -- skipping file deletion|rsync: \[\w+\] (?:write|read) error: |rsync: connection unexpectedly closed|Killed by signal|WARNING: .* failed verification -- update .*will try again|Warning: Permanently added|\s*$)/

const shown = (escaped: string): string => pathBytes(escaped).toString('utf8')

export function hear(trouble: Trouble, line: string): void {
  const [, gone] = /^(?:file|directory) has vanished: "(.*)"(?: \(in .*\))?$/.exec(line) ?? []
  if (gone !== undefined) {
    trouble.vanished++
    return
  }
  const [, lost] = /^--link-dest arg does not exist: (.*)$/.exec(line) ?? []
  if (lost !== undefined) {
    trouble.lost.add(lost)
    return
  }
  if (/ACLs are not supported on this|(?:server|client|side) .*ACLs/i.test(line)) trouble.lacks.add('A')
  if (/extended attributes are not supported on this|(?:server|client|side) .*xattrs/i.test(line)) trouble.lacks.add('X')
  if (hearAside(trouble, line)) return
  const [, role, action = '', named, , why = '', code] = told.exec(line) ?? []
  if (named !== undefined) {
    const path = named.replace(second, '')
    if (code === '28' || code === '122' || /no space left|quota exceeded/i.test(why)) trouble.full ??= why
    else if (/too many links/i.test(why)) trouble.crowded++
    else if (/^read errors mapping/.test(action) && /no data available/i.test(why)) trouble.shrunk.add(shown(path))
    else if (/link_stat/.test(action) && (code === '2' || /not a directory/i.test(why))) trouble.missing.add(shown(path))
    else if (role !== undefined && role !== 'sender') keep(trouble.unkept, path, `${tidy(action).trim()}: ${why}`)
    else keep(trouble.unreadable, path, why)
    return
  }
  const [, first, other, cause] = openrsync.exec(line) ?? []
  if (cause !== undefined) {
    if (/no such file|not a directory/i.test(cause)) trouble.missing.add(shown(first ?? other ?? ''))
    else keep(trouble.unreadable, first ?? other ?? '', cause)
    return
  }
  if (/no space left on device|quota exceeded/i.test(line)) trouble.full ??= tidy(line)
  if (noise.test(line)) return
  if (leaving.test(line)) trouble.left.push(tidy(line))
  else trouble.said.push(tidy(line))
}

/** rsync says some of it on stdout, among the entries. */
export function hearAside(trouble: Trouble, line: string): boolean {
  if (/^(?:rsync: \[\w+\] )?link .* failed: Too many links/.test(line)) {
    trouble.crowded++
    return true
  }
  const [, blocked] = /^could not make way for new [\w ]+: (.*)$/.exec(line) ?? []
  if (blocked !== undefined) {
    trouble.blocked = true
    keep(trouble.unkept, blocked, 'something else is in its place')
    return true
  }
  for (const [pattern, why] of leftOut) {
    const path = pattern.exec(line)?.[1]
    if (path === undefined) continue
    keep(trouble.unreadable, path, why)
    return true
  }
  return false
}

/** A folder is told of by several. */
function keep(paths: Map<string, string>, path: string, why: string): void {
  const name = shown(path)
  if (!paths.has(name)) paths.set(name, why.charAt(0).toLowerCase() + why.slice(1))
}
