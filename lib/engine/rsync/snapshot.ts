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
import { keepsFractions } from './fractions.ts'
import { judged } from './lost.ts'
import { giveBack, nothing, salvage, sweep } from './parts.ts'
import { begin, publish } from './publish.ts'
import { retrying } from './retry.ts'
import { type Rule, rulesFile } from './rules.ts'
import { transfer, type Work } from './save.ts'
import { manifestOf, treeOf } from './snapshots.ts'
import { goneSources } from './source.ts'
import { storeOf } from './store.ts'
import { dropEmpty, makeRoom, useUp } from './unfinished.ts'
import { type Job, judge, told } from './verdict.ts'

const removed = 'free some space, or kedge prune; what came had to be removed: no run could have begun beside it'

export async function savePaths(target: Target, job: Job, context: RunContext): Promise<Summary> {
  let caches: Rule[] | undefined
  let { both } = job.source
  return retrying(target, context, async () => {
    for (;;) {
      const bases = basesOf(job.root, job.found, job.suspects)
      const started = new Date()
      const { id, dir } = await begin(job.root, started)
      const { paths, patterns, control } = job.source
      caches ??= await (job.caches ?? cachesOf(target, both, { sources: paths, patterns, dir, control }, context))
      const parts = job.names ? nothing : await salvage(target, bases.unfinished, dir, context)
      const work = workOf(target, job, both, bases, [...caches, ...job.source.rules], dir, parts.moved.length > 0)
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
      const counts = await finish()
      const { summary, stored } = await judged(target, told(target, job, { exit, id, started, bases, counts, trouble, both }, context))
      // Only what the next snapshots link to has taken up what an unfinished tree holds.
      const whole = !job.names && !job.manual && !summary.partial && !summary.suspect
      if (!whole) giveBack(parts)
      if (exit.status !== 0 || parts.moved.length > 0) await sweep(target, dir, parts.made, context)
      for (const file of ['output', 'rules', 'names']) await rm(join(dir, file), { force: true })
      await publish(target, job.root, dir, stored, context)
      if (whole) await useUp(job.root, target, bases.unfinished, id, context)
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
): Work {
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
    fine: keepsFractions(storeOf(target)),
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
