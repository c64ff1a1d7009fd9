// restore: snapshots, or paths of them, into a new place or back to where they were.
import { resolve } from 'node:path'
import type { RunContext, Target, VerbOf, Verbs } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { checkEmpty } from '../../place.ts'
import { checkSingle, type Hand, howTo, type Job, planRestore, restoring, type Tally, tally } from '../../restoring.ts'
import { heedFuture } from '../../snapshots.ts'
import { checkedLinks, checkLinks } from '../../throughlinks.ts'
import { onSnapshot } from './byhand.ts'
import { extract, type How, onlyReadable, restoreArgs } from './extract.ts'
import { snapshotsOf } from './snapshots.ts'
import { surplus } from './surplus.ts'
import { arrived, bytesOnDisk, chosen } from './tally.ts'
import { version } from './tool.ts'
import { has, type Version } from './version.ts'

type Options = Verbs['restore']['options']
type Planned = Job & { how: How }

const restore: VerbOf<'restore'> = async function* (target, options, context) {
  const restic = await version(target)
  if (options.delete && !has(restic, 'restoreDryRun'))
    throw new Failure('misuse', `--delete needs restic 0.17 or later: this is ${restic.join('.')}`, {
      hint: 'restore to a new folder, and compare',
    })
  checkSingle(options)
  if (context.mode === 'explain') {
    for (const wanted of options.what) yield* explained(target, wanted, howTo(options, wanted.path, target.paths), restic)
    return
  }
  if (options.to !== undefined) await checkEmpty(resolve(options.to))
  const unlocked = await onlyReadable(target)
  if (unlocked) context.log('the repository can only be read: restoring without a lock')
  const snapshots = await snapshotsOf(target, context)
  heedFuture(
    snapshots,
    options.what.map((each) => each.snapshot),
    context,
  )
  const jobs = planRestore(target, options, snapshots).map((job) => ({ ...job, how: { ...job.how, unlocked } }))
  if (options.to === undefined) for (const job of jobs) checkLinks(job, job.how.delete)
  yield* restoring(target, options, jobs, handOf(target, restic, context), context)
}
export default restore

function handOf(target: Target, restic: Version, context: RunContext): Hand<Planned> {
  const entries = ({ snapshot, how, path }: Planned) => chosen(target, snapshot.id, how, path, context)
  return {
    count: (job) => tally(job.how.to === '/' ? checkedLinks(entries(job), job, has(restic, 'restoreDryRun')) : entries(job)),
    bytesOnDisk: (job) => bytesOnDisk(entries(job)),
    surplus: (job) => surplus(target, restoreArgs(target, job.snapshot.id, { ...job.how, preview: true }, restic), job, context),
    async bring(job, counted: Tally) {
      const args = restoreArgs(target, job.snapshot.id, job.how, restic)
      const result = await extract(target, args, context, { action: job.action, total: counted.bytes })
      if (!has(restic, 'restoreDryRun')) await arrived(entries(job), job.how.to, job.action)
      else if (result.entries !== undefined && result.entries < counted.entries)
        throw new Failure(
          'tool',
          `cannot ${job.action}: restic brought ${result.entries} of ${counted.entries} entries, and called that success`,
        )
      return result.deleted
    },
  }
}

/** The same by hand. */
const explained = (target: Target, wanted: Options['what'][number], how: How, restic: Version) =>
  onSnapshot(target, wanted, (id) => restoreArgs(target, id, how, restic))
