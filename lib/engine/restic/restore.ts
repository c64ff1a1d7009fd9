// restore: snapshots, or paths of them, into a new place or back to where they were.
import { resolve } from 'node:path'
import type { RunContext, Target, VerbOf, Verbs } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { checkEmpty, checkSpace, freeSpace } from '../../place.ts'
import type { Snapshot } from '../../rows.ts'
import { type Choice, choose, overlap } from '../../selection.ts'
import { pick } from '../../snapshots.ts'
import { onSnapshot } from './byhand.ts'
import { type Extracted, extract, type How, onlyReadable, restoreArgs } from './extract.ts'
import { snapshotsOf } from './snapshots.ts'
import { surplus } from './surplus.ts'
import { arrived, bytesOnDisk, chosen, type Tally, tally } from './tally.ts'
import { version } from './tool.ts'
import { has, type Version } from './version.ts'

type Options = Verbs['restore']['options']
type Wanted = Options['what'][number]
type Job = { snapshot: Snapshot; path: string | undefined; how: How; action: string }

/** The paths to which a restore keeps: the one that was asked for; with --delete the snapshot's own, or restic would clear the rest of '/'. */
const limits = (options: Options, path: string | undefined, saved: readonly string[]): readonly string[] =>
  path !== undefined && path !== '/' ? [path] : options.delete ? saved : []

function howTo(options: Options, path: string | undefined, saved: readonly string[]): How {
  const choice: Choice = choose(limits(options, path, saved), options.include, options.exclude)
  return { ...choice, to: options.to === undefined ? '/' : resolve(options.to), verify: options.verify, delete: options.delete }
}

/** What is to be done, refused before anything is written where it must not be. */
function plan(target: Target, options: Options, snapshots: readonly Snapshot[]): Job[] {
  const jobs = options.what.map(({ snapshot: name, path }): Job => {
    const snapshot = pick(snapshots, target, name, path)
    const inPlace = options.to === undefined
    if (inPlace && snapshot.stream)
      throw new Failure(
        'misuse',
        `snapshot '${snapshot.id.slice(0, 8)}' holds the stream '${snapshot.stream}', which has no place of its own`,
        {
          hint: `restore it with --to, or kedge cat ${target.name} ${name}:/${snapshot.stream}`,
        },
      )
    const how = howTo(options, path, snapshot.paths)
    const what = `'${target.name}' ${snapshot.id.slice(0, 8)}${path === undefined ? '' : `:${path}`}`
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

const held = ({ snapshot, path }: Job) => (path === undefined || path === '/' ? snapshot.paths : [path])
const nameOf = ({ what }: Options, i: number) => `${what[i]?.snapshot}${what[i]?.path === undefined ? '' : `:${what[i]?.path}`}`

const restore: VerbOf<'restore'> = async function* (target, options, context) {
  const restic = await version(target)
  if (options.delete && !has(restic, 'restoreDryRun'))
    throw new Failure('misuse', `--delete needs restic 0.17 or later: this is ${restic.join('.')}`, {
      hint: 'restore to a new folder, and compare',
    })
  if (options.delete && options.what.length > 1)
    throw new Failure('misuse', '--delete takes one snapshot: a second would delete what the first restored')
  if (context.mode === 'explain') {
    for (const wanted of options.what) yield* explained(target, wanted, howTo(options, wanted.path, target.paths), restic)
    return
  }
  if (options.to !== undefined) await checkEmpty(resolve(options.to))
  const unlocked = await onlyReadable(target)
  if (unlocked) context.log('the repository can only be read: restoring without a lock')
  const jobs = plan(target, options, await snapshotsOf(target, context)).map((job) => ({ ...job, how: { ...job.how, unlocked } }))
  const counts: Tally[] = []
  for (const job of jobs) counts.push(await count(target, job, context))
  if (options.to !== undefined) await checkRoom(target, resolve(options.to), jobs, counts, context)
  const foreign = counts.reduce((sum, each) => sum + each.foreign, 0)
  if (foreign > 0 && process.geteuid?.() !== 0)
    context.warn(`${foreign} entries belong to others: they will be yours, since only root can give files away`)
  for (const [i, job] of jobs.entries()) {
    const { files, bytes, entries } = counts[i] as Tally
    const doomed = job.how.delete
      ? await surplus(target, restoreArgs(target, job.snapshot.id, { ...job.how, preview: true }, restic), held(job), context)
      : undefined
    for (const path of doomed ?? [])
      (context.mode === 'dry-run' ? context.log : context.detail)(`${context.mode === 'dry-run' ? 'would delete' : 'deleting'} '${path}'`)
    const row = {
      kind: 'restored',
      target: target.name,
      snapshot: job.snapshot.id,
      to: job.how.to,
      files,
      bytes,
      verified: job.how.verify,
      action: 'restored',
    } as const
    if (context.mode === 'dry-run') {
      yield { ...row, verified: false, ...(doomed && { deleted: doomed.length }), action: 'would restore', dryRun: true }
      continue
    }
    const { deleted } = await bring(target, job, { bytes, entries }, restic, context)
    yield { ...row, ...(job.how.delete && { deleted }) }
  }
}
export default restore

async function count(target: Target, job: Job, context: RunContext): Promise<Tally> {
  const counted = await tally(chosen(target, job.snapshot.id, job.how, job.path, context))
  if (counted.entries === 0)
    throw new Failure('empty', `cannot ${job.action}: nothing in the snapshot matches`, {
      hint: `kedge files ${target.name} ${job.snapshot.id.slice(0, 8)} lists it`,
    })
  return counted
}

/** Failure 'space' where the files do not fit. Hard links, counted each time, get a second look before anything is refused. */
async function checkRoom(target: Target, to: string, jobs: readonly Job[], counts: readonly Tally[], context: RunContext): Promise<void> {
  if (counts.reduce((sum, { bytes }) => sum + bytes, 0) <= (await freeSpace(to))) return
  let needed = 0
  for (const job of jobs) needed += await bytesOnDisk(chosen(target, job.snapshot.id, job.how, job.path, context))
  await checkSpace(to, needed, `restore '${target.name}' to '${to}'`, 'name a place with more space, or restore less with --include')
}

async function bring(
  target: Target,
  job: Job,
  { bytes, entries }: { bytes: number; entries: number },
  restic: Version,
  context: RunContext,
): Promise<Extracted> {
  let whole = false
  try {
    const result = await extract(target, restoreArgs(target, job.snapshot.id, job.how, restic), context, {
      action: job.action,
      total: bytes,
    })
    if (!has(restic, 'restoreDryRun')) await arrived(chosen(target, job.snapshot.id, job.how, job.path, context), job.how.to, job.action)
    else if (result.entries !== undefined && result.entries < entries)
      throw new Failure('tool', `cannot ${job.action}: restic brought ${result.entries} of ${entries} entries, and called that success`)
    whole = true
    return result
  } finally {
    if (!whole)
      context.log(
        job.how.to === '/'
          ? 'the restore is incomplete: files may be old, new, or half written'
          : `what lies in '${job.how.to}' is incomplete`,
      )
  }
}

/** The same by hand. */
const explained = (target: Target, wanted: Wanted, how: How, restic: Version) =>
  onSnapshot(target, wanted, (id) => restoreArgs(target, id, how, restic))
