// The words of rsync for a backup. Pure: what is known of both sides goes in, words come out.

import type { Target } from '../../contract.ts'
import { parseSize } from '../../format.ts'
import { byBlanks } from '../../keys.ts'
import { hostWord, remoteShell, rsyncHost } from '../../source/ssh.ts'
import { namesFiles, readsRules } from './args.ts'
import { unchecked } from './detour.ts'
import type { Probe } from './probe.ts'
import { older, type Version } from './version.ts'

/** A line an entry, for manifest.ts: the name ends in '//', which no path holds; the checksum has 32 characters, or as many blanks. */
export const outFormat = '%n//%i %B %U %G %l %M %C%L'

/** Bases that rsync takes at most. */
export const mostBases = 20

/** Seconds without a byte after which a transfer is given up. */
const silence = 600

export type Both = {
  readonly here: Version
  /** The host's; undefined: the source is on this machine. */
  readonly there: Probe | undefined
  /** Only root can give files to others: anyone else keeps owners, modes and devices in xattrs. */
  readonly root: boolean
  /** Options that one side turned out to lack. */
  readonly without: ReadonlySet<string>
}
export type Plan = Both & {
  /** Trees to link to, absolute. */
  readonly bases: readonly string[]
  /** File with the rules; undefined: none. */
  readonly rules: string | undefined
  /** A file of names that end in NUL, in place of sources. */
  readonly from?: string | undefined
  readonly sources: readonly string[]
  /** The new tree. */
  readonly to: string
  /** Name of the folders for files that were cut off; undefined: none are kept. */
  readonly partial?: string | undefined
  /** Files that were cut off lie in it. */
  readonly resume: boolean
  readonly dryRun: boolean
  /** The store keeps fractions of a second. */
  readonly fine: boolean
  /** Whoever runs it looks for detours afterwards: rsync's own checks, which cost half of the time, may be left out. */
  readonly unchecked?: true
  readonly control?: string | undefined
}

/** Whether file times can be compared to the nanosecond: since 3.1.3 here, and protocol 31 there. */
export const hasNanoseconds = ({ here, there }: Pick<Both, 'here' | 'there'>): boolean =>
  !older(here.numbers, [3, 1, 3]) && (!there || there.protocol >= 31)

/** What a host's rsync is known to lack: openrsync has neither ACLs nor xattrs. */
export const lackingOf = (there: Probe | undefined): string[] => (there?.flavour === 'openrsync' ? ['A', 'X'] : [])

/** Without root the source is read as if it lay on another host: rsync's own local copy would take the fake owners of both sides. */
export const isPulled = ({ there, root, without }: Both): boolean => there !== undefined || (!root && !without.has('X'))

/** Takes the host's name away, and runs the rest here. rsync parts its words at blanks, and knows quotes. */
export const loopback = `sh -c 'shift; eval "$*"' sh`

/** The flags that say what is kept of each file: the same for the transfer and for what goes before it. */
export function keepFlags(target: Pick<Target, 'env'>, both: Both): string[] {
  const letters = [...'aHAXS'].filter((letter) => !both.without.has(letter)).join('')
  return [
    `-${letters}R`,
    '--numeric-ids',
    ...(target.env.ONE_FILE_SYSTEM === 'no' ? [] : ['--one-file-system']),
    ...(both.root || both.without.has('X') ? [] : ['--fake-super']),
  ]
}

/** How the other side is reached, and limited. */
export function wayFlags(target: Target, both: Both, control?: string): string[] {
  const { env } = target
  const pulled = isPulled(both)
  const limits = [env.LIMIT_UP, both.there ? env.LIMIT_DOWN : undefined].flatMap((value) => (value && parseSize(value)) || [])
  const limit = Math.min(...limits)
  return [
    ...(pulled && !older(both.here.numbers, [3, 2, 4]) ? ['--old-args'] : []),
    ...(pulled ? ['-e', both.there ? remoteShell(target, control) : loopback] : []),
    ...(both.there && env.SOURCE_RSYNC ? [`--rsync-path=${env.SOURCE_RSYNC}`] : []),
    ...(both.there ? [`--timeout=${silence}`] : []),
    ...(limits.length > 0 ? [`--bwlimit=${Math.max(1, Math.round(limit / 1024))}`] : []),
  ]
}

/** The sources as operands. The host's shell reads them, since rsync is told to leave them as they are: with a backslash before what it would act upon. */
export function operands(target: Target, both: Both, paths: readonly string[]): string[] {
  if (!isPulled(both)) return [...paths]
  const host = both.there ? rsyncHost(target) : 'localhost'
  return paths.map((path, i) => `${i === 0 ? host : ''}:${hostWord(path)}`)
}

/**
 * The folders lie beside the place of each file: a path of its own fails with 3.2.7-1+deb12u1 and 3.4.0. rsync leaves out folders of that
 * name itself, and tells the name to the other host, but takes a link: 3.2.7 goes through it to a file elsewhere, and moves that into the
 * new tree. Since 3.2.5 it ends where a host sends what it was told to leave out.
 */
const partialFlags = (name: string): string[] => [`--partial-dir=${name}`, `--exclude=${name}`]

export function backupArgs(target: Target, plan: Plan): string[] {
  const more = byBlanks(target.env.BACKUP_ARGS)
  // The operator's rules come behind kedge's, of which the first that fits decides; a list of names is read at the end.
  const lines = (plan.rules || plan.from) && readsRules(more)
  return [
    // Its list of checksums has the one that the manifest holds; since 3.2 there are others.
    'env',
    'RSYNC_CHECKSUM_LIST=md5',
    'rsync',
    ...keepFlags(target, plan),
    ...(plan.fine && hasNanoseconds(plan) ? ['--modify-window=-1'] : []),
    ...(plan.partial ? partialFlags(plan.partial) : []),
    // A local copy writes whole files, and would not go on from a part.
    ...(plan.resume && !isPulled(plan) ? ['--no-whole-file'] : []),
    ...plan.bases.slice(0, mostBases).map((base) => `--link-dest=${base}`),
    ...(plan.unchecked && !plan.there && !namesFiles(more) ? unchecked(plan.here) : []),
    // In this order: rsync reads a file of rules as soon as it is named.
    ...(plan.rules || plan.from ? ['--from0'] : []),
    ...(plan.rules ? [`--exclude-from=${plan.rules}`] : []),
    ...(plan.from ? ['--recursive', `--files-from=${plan.from}`] : []),
    ...wayFlags(target, plan, plan.control),
    ...['--8-bit-output', '--no-human-readable', '-ii', `--out-format=${outFormat}`],
    ...(plan.dryRun ? ['--dry-run'] : []),
    ...(lines ? ['--no-from0', ...more, '--from0'] : more),
    '--',
    ...operands(target, plan, plan.from ? ['/'] : plan.sources),
    plan.to,
  ]
}
