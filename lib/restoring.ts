// A restore as every engine does it: planned, refused before anything is written where it must not be, counted, and only then done.
import { resolve } from 'node:path'
import type { RunContext, Target, Verbs } from './contract.ts'
import { type Class, Failure } from './failure.ts'
import { field, many, shortId } from './format.ts'
import { checkSpace, freeSpace } from './place.ts'
import type { Restored, Snapshot } from './rows.ts'
import { type Choice, choose, holds, overlap } from './selection.ts'
import { groupOf, pick } from './snapshots.ts'

type Options = Verbs['restore']['options']
/** `to`: '/' for a restore to where the files were. */
export type How = Choice & { to: string; verify: boolean; delete: boolean }
export type Job = { snapshot: Snapshot; path: string | undefined; how: How; action: string }

/**
 * The paths to which a restore keeps: the one that was asked for. With --delete what of it was saved: of a folder above, the snapshot has
 * no more than the way to that, and all else in it would be surplus.
 */
function limits(options: Options, path = '/', saved: readonly string[]): readonly string[] {
  if (!options.delete) return path === '/' ? [] : [path]
  const within = savedOf(path, saved)
  if (within.length > 0) return within
  throw new Failure('refused', `refusing to delete in '${path}': it is none of the saved paths, nor in one, nor above one`, {
    hint: 'restore without --delete',
  })
}

/** Of a path what was saved: all of it, or the saved paths that lie in it. */
const savedOf = (path: string, saved: readonly string[]): readonly string[] =>
  saved.some((each) => holds(each, path)) ? [path] : saved.filter((each) => holds(path, each))

export function howTo(options: Options, path: string | undefined, saved: readonly string[]): How {
  const choice: Choice = choose(limits(options, path, saved), options.include, options.exclude)
  return { ...choice, to: options.to === undefined ? '/' : resolve(options.to), verify: options.verify, delete: options.delete }
}

/** With --delete a second snapshot would delete what the first restored. */
export function checkSingle(options: Options): void {
  if (options.delete && options.what.length > 1)
    throw new Failure('misuse', '--delete takes one snapshot: a second would delete what the first restored')
}

/** What is to be done. `snapshots`: the newest first. Failure 'misuse' where two hold the same paths, or one has no place of its own. */
export function planRestore(target: Target, options: Options, snapshots: readonly Snapshot[]): Job[] {
  const jobs = options.what.map(({ snapshot: name, path }): Job => {
    const snapshot = pick(snapshots, target, name, path)
    const inPlace = options.to === undefined
    if (inPlace && snapshot.stream)
      throw new Failure(
        'misuse',
        `snapshot '${shortId(snapshot.id)}' holds the stream '${snapshot.stream}', which has no place of its own`,
        {
          hint: `restore it with --to, or kedge cat ${target.name} ${name}:/${snapshot.stream}`,
        },
      )
    const short = snapshot.partial
      ? 'some of what was there could not be saved'
      : groupOf(snapshot) === 'names'
        ? 'it holds a list of names only'
        : ''
    if (options.delete && short)
      throw new Failure('refused', `refusing to delete what snapshot '${shortId(snapshot.id)}' does not have: ${short}`, {
        hint: 'restore without --delete, or another snapshot',
      })
    const how = howTo(options, path, snapshot.paths)
    const what = `'${target.name}' ${shortId(snapshot.id)}${path === undefined ? '' : `:${path}`}`
    return { snapshot, path, how, action: `restore ${what}${inPlace ? '' : ` to '${how.to}'`}` }
  })
  jobs.forEach((job, i) => {
    const other = jobs.slice(0, i).find((each) => overlap(held(each), held(job)))
    if (other)
      throw new Failure('misuse', `'${nameOf(options, jobs.indexOf(other))}' and '${nameOf(options, i)}' hold the same paths`, {
        hint: 'the second would overwrite the first: restore them to two places',
      })
  })
  return jobs
}

/** The paths that a job restores. */
export const held = ({ snapshot, path = '/', how }: Job): readonly string[] =>
  how.delete ? savedOf(path, snapshot.paths) : path === '/' ? snapshot.paths : [path]
const nameOf = ({ what }: Options, i: number) => `${what[i]?.snapshot}${what[i]?.path === undefined ? '' : `:${what[i]?.path}`}`

/** `files`: all but folders; `entries`: folders too; `bytes`: hard links counted each time; `foreign`: entries of other owners. */
export type Tally = { files: number; bytes: number; entries: number; foreign: number }

export async function tally(entries: AsyncIterable<readonly { type: string; size?: number; uid: number; gid: number }[]>): Promise<Tally> {
  const counted: Tally = { files: 0, bytes: 0, entries: 0, foreign: 0 }
  const [uid, groups] = [process.geteuid?.(), new Set([process.getegid?.(), ...(process.getgroups?.() ?? [])])]
  for await (const batch of entries) {
    for (const { type, size = 0, uid: owner, gid } of batch) {
      counted.entries++
      if (type !== 'dir') counted.files++
      if (type === 'file') counted.bytes += size
      if (owner !== uid || !groups.has(gid)) counted.foreign++
    }
  }
  return counted
}

/** What an engine does of it. */
export type Hand<J extends Job> = {
  readonly count: (job: J) => Promise<Tally>
  /** Hard links counted once, as they lie on a disk. */
  readonly bytesOnDisk: (job: J) => Promise<number>
  /** With --delete: what would go. Failure 'refused' where that must not. */
  readonly surplus: (job: J) => Promise<readonly string[]>
  /** Gives how many entries were deleted. */
  readonly bring: (job: J, counted: Tally) => Promise<number>
}

/** `jobs` of planRestore, in their order. */
export async function* restoring<J extends Job>(
  target: Target,
  options: Options,
  jobs: readonly J[],
  hand: Hand<J>,
  context: RunContext,
): AsyncGenerator<Restored> {
  const counts: Tally[] = []
  for (const job of jobs) counts.push(await count(target, job, hand))
  if (options.to !== undefined) await checkRoom(target, resolve(options.to), jobs, counts, hand)
  const foreign = counts.reduce((sum, each) => sum + each.foreign, 0)
  if (foreign > 0 && process.geteuid?.() !== 0)
    context.warn(
      `${many(foreign, 'entry belongs to another: it', 'entries belong to others: they')} will be yours, since only root can give files away`,
    )
  const rehearsed = context.mode === 'dry-run'
  for (const [i, job] of jobs.entries()) {
    const counted = counts[i] as Tally
    const doomed = job.how.delete ? await hand.surplus(job) : undefined
    for (const path of doomed ?? []) context.log(`${rehearsed ? 'would delete' : 'deleting'} '${field(path)}'`)
    const row = {
      kind: 'restored',
      target: target.name,
      snapshot: job.snapshot.id,
      to: job.how.to,
      files: counted.files,
      bytes: counted.bytes,
      verified: job.how.verify,
      action: 'restored',
    } as const
    if (rehearsed) {
      yield { ...row, verified: false, ...(doomed && { deleted: doomed.length }), action: 'would restore', dryRun: true }
      continue
    }
    const deleted = await bring(job, counted, hand, context)
    yield { ...row, ...(job.how.delete && { deleted }) }
  }
}

async function count<J extends Job>(target: Target, job: J, hand: Hand<J>): Promise<Tally> {
  const counted = await hand.count(job)
  if (counted.entries === 0)
    throw new Failure('empty', `cannot ${job.action}: nothing in the snapshot matches`, {
      hint: `kedge files ${target.name} ${shortId(job.snapshot.id)} lists it`,
    })
  return counted
}

/** Failure 'space' where the files do not fit. Hard links, counted each time, get a second look before anything is refused. */
async function checkRoom<J extends Job>(
  target: Target,
  to: string,
  jobs: readonly J[],
  counts: readonly Tally[],
  hand: Hand<J>,
): Promise<void> {
  if (counts.reduce((sum, { bytes }) => sum + bytes, 0) <= (await freeSpace(to))) return
  let needed = 0
  for (const job of jobs) needed += await hand.bytesOnDisk(job)
  await checkSpace(to, needed, `restore '${target.name}' to '${to}'`, 'name a place with more space, or restore less with --include')
}

async function bring<J extends Job>(job: J, counted: Tally, hand: Hand<J>, context: RunContext): Promise<number> {
  let whole = false
  try {
    const deleted = await hand.bring(job, counted)
    whole = true
    return deleted
  } finally {
    if (!whole)
      context.log(
        job.how.to === '/'
          ? 'the restore is incomplete: files may be old, new, or half written'
          : `what lies in '${job.how.to}' is incomplete`,
      )
  }
}

const shownItems = 10

/** Entries that failed, the first of them by name, each with its cause. `hint`: a better one than that of the class. */
export function incomplete(action: string, failed: ReadonlyMap<string, string>, kind: Class, hint?: string): Failure {
  const named = [...failed].slice(0, shownItems).map(([item, cause]) => `'${field(item)}'${cause ? `: ${cause}` : ''}`)
  const more = failed.size > shownItems ? ` and ${failed.size - shownItems} more` : ''
  const message = `cannot ${action}: ${failed.size === 1 ? '1 entry' : `${failed.size} entries`} failed: ${named.join('; ')}${more}`
  return new Failure(kind, message, { hint: hint ?? hintFor(kind) })
}

const hints: Partial<Record<Class, string>> = {
  damaged: 'kedge check --read-data shows how much of the store is damaged; another snapshot, or a copy, may have it whole',
  space: 'restore to a place with more space, or less of it with --include',
  permission: 'run as the user who owns the place, or as root',
}

export const hintFor = (kind: Class): string | undefined => hints[kind]
