// What rsync says on stderr while it saves, line by line: what could not be read, what is gone, what stands in the way of the whole.

import { tidy } from './errors.ts'
import { pathBytes } from './manifest.ts'

export type Trouble = {
  /** Paths that could not be read, and why. */
  readonly unreadable: Map<string, string>
  /** Paths of the new tree that are not as they were at the source, and why. */
  readonly unkept: Map<string, string>
  /** Sources that are not there. */
  readonly missing: Set<string>
  vanished: number
  /** The store's file system is full. */
  full: string | undefined
  /** Files that had as many names as the file system lets them have. */
  crowded: number
  /** Bases that rsync did not find. */
  readonly lost: Set<string>
  /** Options that one side does not know. */
  readonly lacks: Set<'A' | 'X'>
  /** What it said besides. */
  readonly said: string[]
}

export const noTrouble = (): Trouble => ({
  unreadable: new Map(),
  unkept: new Map(),
  missing: new Set(),
  vanished: 0,
  full: undefined,
  crowded: 0,
  lost: new Set(),
  lacks: new Set(),
  said: [],
})

/** Where rsync tells a path, and why: 'rsync: [sender] opendir "/x" failed: Permission denied (13)'. */
const told = /^rsync: (?:\[(\w+)\] )?([^"]*)"([^"]*)"(.*?): ([^:]*?)(?: \((\d+)\))?$/
/** OpenBSD's: 'openrsync: /x: openat: Permission denied', or with the words the other way round. */
const openrsync = /^openrsync(?:\[\d+\])?: (?:error: |warning: )?(?:(\/[^:]*): \w+|\w+: (\/[^:]*)): ([^:]+)$/

const noise =
  /^(?:rsync error: |rsync warning: |IO error encountered -- skipping|rsync: \[\w+\] (?:write|read) error: |rsync: connection unexpectedly closed|Killed by signal|skipping non-regular|Warning: Permanently added|\s*$)/

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
  const [, role, action = '', path, , why = '', code] = told.exec(line) ?? []
  if (path !== undefined) {
    if (code === '28' || code === '122' || /no space left|quota exceeded/i.test(why)) trouble.full ??= why
    else if (/too many links/i.test(why)) trouble.crowded++
    else if (/link_stat/.test(action) && code === '2') trouble.missing.add(shown(path))
    else if (role !== undefined && role !== 'sender') keep(trouble.unkept, path, `${tidy(action).trim()}: ${why}`)
    else keep(trouble.unreadable, path, why)
    return
  }
  const [, first, second, cause] = openrsync.exec(line) ?? []
  if (cause !== undefined) {
    if (/no such file/i.test(cause)) trouble.missing.add(shown(first ?? second ?? ''))
    else keep(trouble.unreadable, first ?? second ?? '', cause)
    return
  }
  if (/no space left on device|quota exceeded/i.test(line)) trouble.full ??= tidy(line)
  if (!noise.test(line)) trouble.said.push(tidy(line))
}

/** A folder is told of by several. */
function keep(paths: Map<string, string>, path: string, why: string): void {
  const name = shown(path)
  if (!paths.has(name)) paths.set(name, why.charAt(0).toLowerCase() + why.slice(1))
}
