// restore: snapshots, or paths of them, into a new place or back to where they were.
import { existsSync, realpathSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { RunContext, Target, VerbOf, Verbs } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { field, many } from '../../format.ts'
import { checkEmpty } from '../../place.ts'
import { checkSingle, type Hand, planRestore, restoring, tally } from '../../restoring.ts'
import { heedFuture } from '../../snapshots.ts'
import { isRemote } from '../../source/ssh.ts'
import { checkedLinks, checkLinks } from '../../throughlinks.ts'
import { bring, listArgs, makeRoom, moveOf, pathArgs } from './bring.ts'
import { restoredByHand } from './byhand.ts'
import { overlong } from './overlong.ts'
import { isDevice, proveRestored, proveWhole } from './proven.ts'
import { aboveArgs, listOf, type Planned, routeOf } from './route.ts'
import { bytesOnDisk, type Selected, selected } from './selected.ts'
import { snapshotsOf, treeOf } from './snapshots.ts'
import { storeOf } from './store.ts'
import { type Doomed, remove, surplus } from './surplus.ts'

type Options = Verbs['restore']['options']

const restore: VerbOf<'restore'> = async function* (target, options, context) {
  checkSingle(options)
  refuse(target, options, context)
  const { rows, of } = await snapshotsOf(target, context)
  heedFuture(
    rows,
    options.what.map((each) => each.snapshot),
    context,
  )
  const patterns = options.include.length + options.exclude.length > 0
  const jobs: Planned[] = []
  for (const job of planRestore(target, options, rows)) {
    const found = of(job.snapshot)
    if (job.how.to === '/' && !isRemote(target)) checkLinks(job, true)
    // rsync 3.5 does not look into folders with too long a path: what cannot be named is left out, and the rest is named.
    const long = await overlong(found, treeOf(found))
    const listed = patterns || long.unnamed.length + long.named.length > 0
    jobs.push({ ...job, found, route: routeOf(found, job, listed), move: await moveOf(found, job.how.to) })
  }
  if (context.mode === 'explain') {
    for (const job of jobs) yield* restoredByHand(target, job, context)
    return
  }
  if (options.to !== undefined) await checkEmpty(resolve(options.to))
  yield* restoring(target, options, jobs, handOf(target, context), context)
}
export default restore

/** What has no place here, or would change the snapshots. */
function refuse(target: Target, options: Options, { mode }: RunContext): void {
  const { to } = options
  if (to === undefined && isRemote(target)) {
    const message = `refusing to restore in place: the files of '${target.name}' were on ${target.env.SOURCE_HOST}`
    if (options.delete) throw new Failure('refused', message, { hint: 'what --delete would take there cannot be seen from here' })
    const hint = 'restore with --to; --in-place --explain prints the rsync that brings them there, for an account that may write'
    if (mode !== 'explain') throw new Failure('refused', message, { hint })
  }
  if (to !== undefined && inside(realPlace(resolve(to)), realPlace(storeOf(target))))
    throw new Failure('refused', `refusing to restore to '${to}': it lies in the store`, { hint: 'name a folder elsewhere' })
}

const inside = (path: string, folder: string): boolean => path === folder || path.startsWith(`${folder}/`)

/** A path without links, as far as it is there. */
function realPlace(path: string): string {
  let at = path
  while (!existsSync(at)) at = dirname(at)
  return realpathSync(at) + (at === '/' ? path.slice(1) : path.slice(at.length))
}

function handOf(target: Target, context: RunContext): Hand<Planned> {
  const doomed = new Map<Planned, readonly Doomed[]>()
  const entries = ({ found, how, path }: Planned) => selected(found, how, path)
  const listed = (job: Planned) => (job.move.inPlace && !job.route.paths ? checkedLinks(entries(job), job) : entries(job))
  return {
    async count(job) {
      let devices = 0
      const counted = await tally(counting(listed(job), (line) => (devices += isDevice(line) ? 1 : 0)))
      if (devices > 0 && process.geteuid?.() !== 0)
        context.warn(`${many(devices, 'device is', 'devices are')} left out: only root can make them`, 'permission')
      return counted
    },
    bytesOnDisk: (job) => bytesOnDisk(() => entries(job)),
    async surplus(job) {
      await proveWhole(entries(job), job.move.tree, job.action)
      const found = await surplus(target, job, context)
      doomed.set(job, found.doomed)
      for (const path of found.left) context.log(`left '${field(path)}': a cache, which the backup leaves out`)
      for (const path of found.long) context.warn(`left '${field(path)}': its path is too long to look at`)
      return found.doomed.map(({ shown }) => shown)
    },
    async bring(job, { bytes }) {
      const { move, route, how, action } = job
      if (!move.inPlace) await makeRoom(move)
      const deleted = await remove(doomed.get(job) ?? [])
      if (route.paths) {
        const above = aboveArgs(move, route.paths)
        if (above) await bring(target, above, context, { action, total: 0 })
        await bring(target, pathArgs(move, route.paths), context, { action, total: bytes })
      } else await bring(target, listArgs(move), context, { action, total: bytes, list: listOf(entries(job), move.inPlace) })
      await proveRestored(entries(job), { tree: move.tree, to: how.to, verify: how.verify, settled: !move.inPlace }, action, context)
      return deleted
    },
  }
}

async function* counting(
  entries: AsyncIterable<readonly Selected[]>,
  see: (line: Selected['line']) => void,
): AsyncGenerator<readonly Selected[]> {
  for await (const batch of entries) {
    for (const { line } of batch) see(line)
    yield batch
  }
}
