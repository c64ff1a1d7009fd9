// What a transfer was: nothing to publish, a snapshot in full or in part, or one that is not to be trusted; in words, and in figures.
import type { Exit } from '../../child.ts'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { field, many } from '../../format.ts'
import type { Summary } from '../../rows.ts'
import { manualTag, namesTag, partialTag } from '../../snapshots.ts'
import type { Both } from './argv.ts'
import type { Bases } from './bases.ts'
import type { Counts } from './counts.ts'
import { failureOf, isTransient } from './errors.ts'
import { shownPath } from './manifest.ts'
import { markTransient } from './retry.ts'
import type { Rule } from './rules.ts'
import type { Found, Stored } from './snapshots.ts'
import type { Source } from './source.ts'
import { storeOf } from './store.ts'
import type { Trouble } from './trouble.ts'

/** Whether all that makes rsync end with 23, some files were not transferred, is told. */
const explained = ({ unreadable, unkept, missing, shrunk, left, crowded }: Trouble): boolean =>
  unreadable.size + unkept.size + missing.size + shrunk.size + left.length + crowded > 0

export type Job = {
  readonly root: string
  readonly source: Source
  /** A list of names in place of the target's paths. */
  readonly names: boolean
  readonly manual: boolean
  /** Some are missing, as is known before. */
  readonly short: boolean
  /** The newest first. */
  readonly found: readonly Found[]
  readonly suspects: Readonly<Record<string, string>>
  /** The rules for caches, where they are looked for already. */
  readonly caches: Promise<Rule[]> | undefined
  readonly common: Pick<Stored, 'format' | 'target' | 'host' | 'tools'> & { tags: readonly string[] }
}

/** Throws where there is nothing to publish. */
export function judge(target: Target, job: Job, exit: Exit, trouble: Trouble): void {
  const remote = job.source.both.there !== undefined
  const action = `back up '${target.name}'`
  if (trouble.full)
    throw new Failure('space', `cannot ${action}: ${trouble.full} on '${storeOf(target)}'`, {
      hint: 'free some space, or kedge prune; the files that came whole are kept, and the next run goes on from them',
    })
  if (![0, 23, 24].includes(exit.status)) {
    const failure = failureOf(action, exit, { remote })
    throw isTransient(exit, { remote }) ? markTransient(failure) : failure
  }
  const { paths } = job.source
  if (paths.length > 0 && paths.every((path) => trouble.missing.has(path))) {
    const list = paths.map((path) => `'${path}'`).join(', ')
    throw new Failure('vanished', `cannot ${action}: all paths are missing: ${list}`, { hint: 'is the disk mounted?' })
  }
  const shut = paths.map((path) => trouble.unreadable.get(path.replace(/(?<=.)\/+$/, '')))
  if (shut.some((why) => why) && paths.every((path, i) => shut[i] || trouble.missing.has(path))) {
    const list = paths.map((path, i) => `'${path}': ${shut[i] ?? 'it is missing'}`).join(', ')
    const denied = shut.some((why) => why && /denied|not permitted/i.test(why))
    throw new Failure(denied ? 'permission' : 'tool', `cannot ${action}: nothing can be read: ${list}`)
  }
}

type Result = { exit: Exit; id: string; started: Date; bases: Bases; counts: Counts; trouble: Trouble; both: Both }

const shownErrors = 20

/** At most so many by name. */
export function tell(what: string, paths: readonly (readonly [path: string, why: string])[], context: RunContext): void {
  for (const [path, why] of paths.slice(0, shownErrors)) context.warn(`${what} '${field(path)}': ${why}`, 'partial')
  if (paths.length > shownErrors) context.warn(`${what} ${paths.length - shownErrors} more`, 'partial')
}

/** Whether a path of the tree is told of, which rsync names as it lies in the store. */
const knows = (told: ReadonlyMap<string, string>, path: string): boolean => [...told.keys()].some((name) => name.endsWith(path))

/** Says what is to be said of a transfer, and makes its summary and its snapshot.json. */
export function told(
  target: Target,
  job: Job,
  { exit, id, started, bases, counts, trouble, both }: Result,
  context: RunContext,
): { summary: Summary; stored: Stored } {
  const { paths } = job.source
  const missing = paths.filter((path) => trouble.missing.has(path))
  const vanished = trouble.vanished + trouble.missing.size - missing.length
  if (missing.length > 0) context.warn(`missing: ${missing.map((path) => `'${path}'`).join(', ')}`, 'partial')
  const unread = [...trouble.unreadable]
  for (const [path, why] of counts.lost) if (!knows(trouble.unkept, shownPath(path))) trouble.unkept.set(shownPath(path), why)
  tell('cannot read', unread, context)
  tell('cannot keep in full', [...trouble.unkept], context)
  for (const line of trouble.left.slice(0, shownErrors)) context.warn(`rsync: ${line}`, 'partial')
  for (const line of trouble.said.slice(0, shownErrors)) context.warn(`rsync: ${line}`)
  const unexplained = exit.status === 23 && !explained(trouble)
  if (unexplained) context.warn('rsync ended with status 23, and did not say what it left out', 'partial')
  const { altered } = counts
  if (altered > 0) context.warn(`${many(altered, 'file', 'files')} changed while they were read`)
  if (vanished > 0) context.warn(`${many(vanished, 'file', 'files')} vanished while the source was read`)
  const crowded = Math.max(trouble.crowded, counts.crowded)
  if (crowded > 0) context.warn(`${many(crowded, 'file', 'files')} could not be linked: too many links; copied`)
  if (both.there && !job.names)
    for (const link of counts.links) context.warn(`'/${link}' is a link: only the link is saved, name what it points to`, 'partial')
  const nothing = counts.files === 0 && !job.names
  if (nothing) context.warn('nothing was saved: 0 files', 'partial')
  const partial = job.short || missing.length > 0 || unread.length + trouble.unkept.size + trouble.left.length > 0 || unexplained || nothing
  const before = bases.snapshots[0]?.counts.files ?? 0
  const suspect = suspicion(bases, counts, trouble) ?? (nothing && before > 0 ? `no file at all, ${before} before` : undefined)
  const [base] = bases.snapshots
  const seconds = Math.round((Date.now() - started.getTime()) / 100) / 10
  const { files, folders, bytes, transferred, added, linked } = counts
  const marks = [...(job.names ? [namesTag] : []), ...(job.manual ? [manualTag] : []), ...(partial ? [partialTag] : [])]
  const [own = '', ...others] = job.common.tags
  const stored: Stored = {
    ...job.common,
    id,
    time: started.toISOString(),
    paths: paths.filter((path) => !missing.includes(path)),
    tags: [own, ...marks, ...others],
    base: base?.id ?? null,
    bases: bases.snapshots.map((each) => each.id),
    counts: {
      ...{ files, folders, bytes, transferred, added, linked, new: counts.new, changed: counts.changed },
      ...{ unreadable: unread.length, vanished },
    },
    excluded: job.source.excluded,
    consistency: altered > 0 ? 'changed' : vanished > 0 ? 'vanished' : 'live',
    ...(!both.root && !both.without.has('X') && { fake: true as const }),
    seconds,
  }
  const summary: Summary = {
    kind: 'summary',
    target: target.name,
    snapshot: id,
    ...{ files, bytes, added, seconds, new: counts.new, changed: counts.changed },
    linked,
    ...(unread.length > 0 && { unreadable: unread.length }),
    ...(partial && { partial }),
    ...(job.names && { subset: true as const }),
    ...(job.manual && { manual: true as const }),
    ...(suspect && { suspect }),
  }
  return { summary, stored }
}

/** rsync ends well where it could not link. Why the new tree is not to be trusted, in words. */
function suspicion({ snapshots: [base], wrong }: Bases, counts: Counts, trouble: Trouble): string | undefined {
  if (wrong) return wrong
  if (trouble.lost.size > 0) return `rsync did not find its base: ${[...trouble.lost].map((path) => `'${path}'`).join(', ')}`
  const again = counts.unlinked
  const unchanged = counts.linked + again
  const many = again >= 10 && again * 20 > unchanged
  const large = counts.unlinkedBytes >= 1 << 20 && counts.unlinkedBytes >= counts.linkedBytes
  if (!base || !(many || large)) return undefined
  return `${again} of ${unchanged} unchanged files were saved again, and not linked to ${base.id}`
}
