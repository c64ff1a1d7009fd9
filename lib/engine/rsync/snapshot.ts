// The paths as one snapshot: attempts until one is whole, each in a fresh folder that is linked to what the last one saved.
import { writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import type { Summary } from '../../rows.ts'
import { type Both, backupArgs } from './argv.ts'
import { type Bases, basesOf } from './bases.ts'
import { cachesOf } from './caches.ts'
import { type Counts, withEarlier } from './counts.ts'
import { leadsAway, takeOut } from './detour.ts'
import { keepsFractions } from './fractions.ts'
import { judged } from './lost.ts'
import { shownPath } from './manifest.ts'
import { cleanBases, noteOrigin } from './origin.ts'
import { giveBack, nothing, partialOf, salvage, sweep } from './parts.ts'
import { begin, publish } from './publish.ts'
import { setAside } from './removal.ts'
import { retrying } from './retry.ts'
import { type Rule, rulesFile } from './rules.ts'
import { transfer, type Work } from './save.ts'
import { manifestOf, treeOf } from './snapshots.ts'
import { goneSources } from './source.ts'
import { storeOf } from './store.ts'
import type { Trouble } from './trouble.ts'
import { dropEmpty, makeRoom, useUp } from './unfinished.ts'
import { type Job, judge, told } from './verdict.ts'

const removed = 'free some space, or kedge prune; what came had to be removed: no run could have begun beside it'

/** Transfers that may be done again: a source in which links and folders change places all the time has no state to save. */
const mostAgain = 3

/** What the transfers of a run leave to its next one. */
type Before = {
  /** Trees that are of use to it alone. */
  readonly spent: string[]
  /** What it links to; undefined: the bases. */
  linked: readonly string[] | undefined
  /** A part of a file stood in the way of what is in the place of its folder now. */
  blocked: boolean
  /** Of the transfers that were linked to the bases themselves. */
  counts: Counts | undefined
  readonly lost: Set<string>
}

export async function savePaths(target: Target, job: Job, context: RunContext): Promise<Summary> {
  let caches: Rule[] | undefined
  let { both } = job.source
  return retrying(target, context, async () => {
    const before: Before = { spent: [], linked: undefined, blocked: false, counts: undefined, lost: new Set() }
    for (;;) {
      const bases = await cleanBases(target, basesOf(job.root, job.found, job.suspects), context)
      const started = new Date()
      const { id, dir } = await begin(job.root, started)
      const { paths, patterns, control } = job.source
      caches ??= await (job.caches ?? cachesOf(target, both, { sources: paths, patterns, dir, control }, context))
      const parts = job.names || before.blocked ? nothing : await salvage(target, bases.unfinished, dir, context)
      const rules = [...caches, ...job.source.rules]
      const work = workOf(target, { job, both, bases, rules, dir, resume: parts.moved.length > 0, linked: before.linked, dryRun: false })
      noteOrigin(dir, work.linked)
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
        if (!job.names && trouble.vanished + trouble.missing.size > 0) {
          for (const path of await goneSources(target, job.source, context)) trouble.missing.add(path)
          judge(target, job, exit, trouble)
        }
      } catch (error) {
        discard()
        // The part of a file for which there was no room would only keep it from other files.
        if (error instanceof Failure && error.class === 'space') {
          await sweep(target, dir, [], context)
          if (await makeRoom(job.root, target, dir, context)) throw new Failure('space', error.message, { hint: removed, cause: error })
        }
        await dropEmpty(dir)
        throw error
      }
      if (parts.moved.length > 0 && trouble.blocked) {
        discard()
        giveBack(parts)
        before.spent.push(dir)
        before.blocked = true
        continue
      }
      const counts = await finish()
      if (counts.detours.size + counts.joined.size > 0) {
        giveBack(parts)
        await beginAgain(target, work, { counts, trouble, before })
        continue
      }
      for (const each of before.lost) trouble.lost.add(each)
      const seen = before.counts ? withEarlier(counts, before.counts) : counts
      const { summary, stored } = await judged(
        target,
        told(target, job, { exit, id, started, bases, counts: seen, trouble, both }, context),
      )
      // Only what the next snapshots link to has taken up what an unfinished tree holds.
      const whole = !job.names && !job.manual && !summary.partial && !summary.suspect
      if (!whole) giveBack(parts)
      if (exit.status !== 0 || parts.moved.length > 0) await sweep(target, dir, parts.made, context)
      for (const file of ['output', 'rules', 'names', 'bases', 'partial']) await rm(join(dir, file), { force: true })
      await publish(target, job.root, dir, stored, context)
      if (whole) {
        const left = bases.unfinished.filter((each) => !before.spent.includes(each))
        await useUp(job.root, target, left, `taken up by ${id}`, context)
        await useUp(job.root, target, bases.useless, `not linked to by ${id}: it may hold what never was at the source`, context)
      }
      for (const each of before.spent) await setAside(job.root, each)
      return summary
    }
  })
}

/** Takes out of a tree what is not the source's, and leaves the rest to the next transfer to link to. */
async function beginAgain(
  target: Target,
  { dir, linked }: Work,
  { counts, trouble, before }: { counts: Counts; trouble: Trouble; before: Before },
): Promise<void> {
  const { detours, joined } = counts
  await takeOut(treeOf({ dir }), manifestOf({ dir }), new Set([...detours, ...joined]))
  await rm(manifestOf({ dir }))
  before.spent.push(dir)
  if (before.spent.length > mostAgain) throw unsteady(target, counts)
  const others = linked.filter((tree) => ![...detours].some((folder) => leadsAway([tree], folder)))
  before.linked = [treeOf({ dir }), ...(joined.size > 0 ? [] : others)]
  before.counts ??= counts
  for (const each of trouble.lost) before.lost.add(each)
}

const unsteady = (target: Target, { detours, joined }: Counts): Failure => {
  const some = [...detours, ...joined].slice(0, 3).map((path) => `'${shownPath(path)}'`)
  return new Failure(
    'tool',
    `cannot back up '${target.name}': at each of ${mostAgain + 1} looks folders were links before, as ${some.join(', ')}`,
    {
      hint: 'something changes links into folders, and back, while kedge reads: let it rest meanwhile, or exclude what it works on',
    },
  )
}

export type Attempt = {
  readonly job: Job
  readonly both: Both
  readonly bases: Bases
  readonly rules: readonly Rule[]
  readonly dir: string
  /** Files that were cut off lie in the tree. */
  readonly resume: boolean
  /** Trees to link to in place of the bases. */
  readonly linked: readonly string[] | undefined
  readonly dryRun: boolean
}

export function workOf(target: Target, { job, both, bases, rules, dir, resume, linked, dryRun }: Attempt): Work {
  const { source, names } = job
  const files = { rules: rules.length > 0 ? join(dir, 'rules') : undefined, from: names ? join(dir, 'names') : undefined }
  if (files.rules) writeFileSync(files.rules, rulesFile(rules), { mode: 0o600 })
  if (files.from) writeFileSync(files.from, source.paths.map((path) => `${path}\0`).join(''), { mode: 0o600 })
  const [base] = bases.snapshots
  const trees = [...bases.snapshots, ...bases.unfinished.map((each) => ({ dir: each }))].map(treeOf)
  const command = backupArgs(target, {
    ...both,
    ...files,
    bases: linked ?? trees,
    sources: source.paths,
    to: `${treeOf({ dir })}/`,
    partial: partialOf(dir),
    resume,
    dryRun,
    fine: keepsFractions(storeOf(target)),
    unchecked: true,
    control: source.control,
  })
  return {
    dir,
    command,
    remote: both.there !== undefined,
    manifests: bases.snapshots.map(manifestOf),
    unfinished: bases.unfinished,
    trees,
    linked: linked ?? trees,
    sources: source.paths,
    fake: !both.root && !both.without.has('X'),
    expected: base?.counts,
    dryRun,
  }
}
