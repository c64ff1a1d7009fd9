// The paths as one snapshot: attempts until one is whole, each in a fresh folder that is linked to what the last one saved.
import { readdirSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { basename, join, relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import type { Summary } from '../../rows.ts'
import { manualTag, namesTag, partialTag } from '../../snapshots.ts'
import { type Both, backupArgs } from './argv.ts'
import { note } from './audit.ts'
import { type Bases, basesOf } from './bases.ts'
import { cachesOf } from './caches.ts'
import { failureOf, isTransient } from './errors.ts'
import type { Counts } from './hashes.ts'
import { salvage, sweep } from './parts.ts'
import { begin, publish } from './publish.ts'
import { setAside } from './removal.ts'
import { type Rule, rulesFile } from './rules.ts'
import { transfer } from './save.ts'
import { type Found, manifestOf, type Stored, treeOf } from './snapshots.ts'
import type { Source } from './source.ts'
import { storeOf } from './store.ts'
import type { Trouble } from './trouble.ts'

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
  readonly common: Pick<Stored, 'format' | 'target' | 'host' | 'tools'> & { tags: readonly string[] }
}

/** A link that was cut, and the like: the next attempt may go well. */
const transient = new WeakSet<Error>()
export const markTransient = (failure: Failure): Failure => {
  transient.add(failure)
  return failure
}

/** Seconds before each further attempt. */
const pauses = [2, 10, 30, 60]

/** Does the work again where it was cut off, RETRIES times, with growing pauses. */
export async function retrying<T>(target: Target, context: RunContext, work: () => Promise<T>): Promise<T> {
  const retries = Number(target.env.RETRIES ?? 0)
  for (let attempt = 0; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof Failure) || !transient.has(error) || attempt >= retries) throw error
      const seconds = pauses[Math.min(attempt, pauses.length - 1)] ?? 60
      context.log(`${error.message}; again in ${seconds} s (${attempt + 1} of ${retries})`)
      await sleep(seconds * 1000, undefined, { signal: context.signal }).catch(() => context.signal.throwIfAborted())
    }
  }
}

export async function savePaths(target: Target, job: Job, context: RunContext): Promise<Summary> {
  let caches: Rule[] | undefined
  let { both } = job.source
  return retrying(target, context, async () => {
    for (;;) {
      const bases = basesOf(job.root, job.found, job.suspects)
      const started = new Date()
      const { id, dir } = await begin(job.root, started)
      const { paths, patterns, control } = job.source
      caches ??= await cachesOf(target, both, { sources: paths, patterns, dir, control }, context)
      const made = await salvage(target, bases.unfinished, dir, context)
      const work = workOf(target, job, both, bases, [...caches, ...job.source.rules], dir, made.length > 0)
      const { exit, trouble, finish, discard } = await transfer(target, work, context)
      const again = [...trouble.lacks].filter((letter) => !both.without.has(letter))
      if (again.length > 0 && ![0, 23, 24].includes(exit.status)) {
        discard()
        for (const letter of again)
          context.warn(`${letter === 'A' ? 'ACLs' : 'extended attributes'} are not saved: one side's rsync lacks them`)
        both = { ...both, without: new Set([...both.without, ...again]) }
        await dropEmpty(dir)
        continue
      }
      try {
        judge(target, job, exit, trouble)
      } catch (error) {
        discard()
        // The part of a file for which there was no room would only keep it from other files.
        if (error instanceof Failure && error.class === 'space') await sweep(target, dir, made, context)
        await dropEmpty(dir)
        throw error
      }
      const counts = await finish()
      if (exit.status !== 0 || made.length > 0) await sweep(target, dir, made, context)
      for (const file of ['output', 'rules', 'names']) await rm(join(dir, file), { force: true })
      const { summary, stored } = told(target, job, { id, started, bases, counts, trouble, both }, context)
      await publish(target, job.root, dir, stored, context)
      await useUp(job.root, target, bases.unfinished, id, context)
      return summary
    }
  })
}

export function workOf(
  target: Target,
  job: Job,
  both: Both,
  bases: Bases,
  rules: readonly Rule[],
  dir: string,
  resume: boolean,
  dryRun = false,
) {
  const { source, names } = job
  const files = { rules: rules.length > 0 ? join(dir, 'rules') : undefined, from: names ? join(dir, 'names') : undefined }
  if (files.rules) writeFileSync(files.rules, rulesFile(rules), { mode: 0o600 })
  if (files.from) writeFileSync(files.from, source.paths.map((path) => `${path}\0`).join(''), { mode: 0o600 })
  const [base] = bases.snapshots
  const command = backupArgs(target, {
    ...both,
    ...files,
    bases: [...bases.snapshots.map(treeOf), ...bases.unfinished.map((each) => join(each, 'tree'))],
    sources: source.paths,
    to: join(dir, 'tree/'),
    resume,
    dryRun,
    control: source.control,
  })
  return {
    dir,
    command,
    remote: both.there !== undefined,
    manifests: bases.snapshots.map(manifestOf),
    unfinished: bases.unfinished,
    sources: source.paths,
    fake: !both.root && !both.without.has('X'),
    expected: base?.counts,
    dryRun,
  }
}

/** Throws where there is nothing to publish. */
export function judge(
  target: Target,
  job: Job,
  exit: { status: number; signal: NodeJS.Signals | null; stderr: string },
  trouble: Trouble,
): void {
  const remote = job.source.both.there !== undefined
  const action = `back up '${target.name}'`
  if (trouble.full)
    throw new Failure('space', `cannot ${action}: ${trouble.full} on '${storeOf(target)}'`, {
      hint: 'free some space, or kedge prune; what came is kept, and the next run goes on from it',
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
}

type Result = { id: string; started: Date; bases: Bases; counts: Counts; trouble: Trouble; both: Both }

const shownErrors = 20

/** At most so many by name. */
export function tell(what: string, paths: readonly (readonly [path: string, why: string])[], context: RunContext): void {
  for (const [path, why] of paths.slice(0, shownErrors)) context.warn(`${what} '${path}': ${why}`, 'partial')
  if (paths.length > shownErrors) context.warn(`${what} ${paths.length - shownErrors} more`, 'partial')
}

/** Says what is to be said of a transfer, and makes its summary and its snapshot.json. */
function told(
  target: Target,
  job: Job,
  { id, started, bases, counts, trouble, both }: Result,
  context: RunContext,
): { summary: Summary; stored: Stored } {
  const { paths } = job.source
  const missing = paths.filter((path) => trouble.missing.has(path))
  const vanished = trouble.vanished + trouble.missing.size - missing.length
  if (missing.length > 0) context.warn(`missing: ${missing.map((path) => `'${path}'`).join(', ')}`, 'partial')
  const unread = [...trouble.unreadable]
  tell('cannot read', unread, context)
  tell('cannot keep in full', [...trouble.unkept], context)
  for (const line of trouble.said.slice(0, shownErrors)) context.warn(`rsync: ${line}`)
  if (vanished > 0) context.warn(`${vanished} ${vanished === 1 ? 'file' : 'files'} vanished while the source was read`)
  if (trouble.crowded > 0) context.warn(`${trouble.crowded} files have as many links as the file system allows: they were copied`)
  if (both.there && !job.names)
    for (const link of counts.links) context.warn(`'/${link}' is a link: only the link is saved, name what it points to`, 'partial')
  const nothing = counts.files === 0 && !job.names
  if (nothing) context.warn('nothing was saved: 0 files', 'partial')
  const partial = job.short || missing.length > 0 || unread.length + trouble.unkept.size > 0 || nothing
  const suspect = suspicion(bases, counts, trouble)
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
    bases: [...bases.snapshots.map((each) => each.id), ...bases.unfinished.map((dir) => basename(dir))],
    counts: {
      ...{ files, folders, bytes, transferred, added, linked, new: counts.new, changed: counts.changed },
      ...{ unreadable: unread.length, vanished },
    },
    consistency: vanished > 0 ? 'vanished' : 'live',
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
  const again = counts.unlinked - trouble.crowded
  const unchanged = counts.linked + counts.unlinked
  if (!base || again < 10 || again * 20 <= unchanged) return undefined
  return `${again} of ${unchanged} unchanged files were saved again, and not linked to ${base.id}`
}

/** Unfinished trees whose files are in a snapshot now: renamed aside; the caller removes what lies there. */
async function useUp(root: string, target: Target, unfinished: readonly string[], id: string, context: RunContext): Promise<void> {
  for (const dir of unfinished) {
    note(
      root,
      { id: basename(dir), action: 'forget', reason: `unfinished, and taken up by ${id}`, path: relative(storeOf(target), dir) },
      context,
    )
    await setAside(root, dir)
  }
}

/** An unfinished tree in which nothing is: the next run could make no use of it. */
async function dropEmpty(dir: string): Promise<void> {
  if (!holdsFile(Buffer.from(join(dir, 'tree')))) await rm(dir, { recursive: true, force: true })
}

function holdsFile(folder: Buffer): boolean {
  for (const entry of readdirSync(folder, { withFileTypes: true, encoding: 'buffer' }))
    if (!entry.isDirectory() || holdsFile(Buffer.concat([folder, Buffer.from('/'), entry.name]))) return true
  return false
}
