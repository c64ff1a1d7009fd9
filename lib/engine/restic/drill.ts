// drill: a restore rehearsed. A random sample goes through `restic restore --verify` into scratch space, and is compared.
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { countOf, drilling, type Hand } from '../../drilling.ts'
import { literal } from '../../pattern.ts'
import { parts, type Sampled } from '../../proof.ts'
import type { Snapshot } from '../../rows.ts'
import { type Limits, sampler } from '../../sample.ts'
import { heedFuture, toDrill } from '../../snapshots.ts'
import { withoutOwnDeadLocks } from './deadlock.ts'
import { extract, type How, onlyReadable, restoreArgs } from './extract.ts'
import { permissions } from './files.ts'
import { rehearsed } from './rehearsal.ts'
import { snapshotsOf } from './snapshots.ts'
import { chosen } from './tally.ts'
import { version } from './tool.ts'

/** The restores of a sample: one, or several where the patterns are too long for one argument list. */
const hows = (files: readonly Sampled[], to: string): How[] =>
  [...parts(files, ({ path }) => literal(path).length + 12, 60_000)].map((part) => ({
    include: part.map(({ path }) => literal(path)),
    exclude: [],
    to,
    verify: true,
    delete: false,
  }))

const drill: VerbOf<'drill'> = async function* (target, options, context) {
  const restic = await version(target)
  if (context.mode === 'explain') {
    yield* rehearsed(target, options, countOf(options), restic)
    return
  }
  const hand: Hand<Sampled> = {
    draw: (snapshot, limits) => draw(target, snapshot, limits, context),
    async bring({ id }, files, folder, action) {
      const unlocked = await onlyReadable(target)
      const total = files.reduce((sum, { size }) => sum + size, 0)
      for (const how of hows(files, folder)) {
        const args = restoreArgs(target, id, { ...how, unlocked }, restic)
        await withoutOwnDeadLocks(target, context, () => extract(target, args, context, { action, total }))
      }
    },
    content: async () => undefined, // restic's --verify has read it again
    local: true,
  }
  const snapshots = await snapshotsOf(target, context)
  heedFuture(snapshots, [options.snapshot], context)
  yield* drilling(target, toDrill(snapshots, target, options.snapshot), options, hand, context)
}
export default drill

/** restic prints names that are not UTF-8 with U+FFFD, which no pattern finds again. */
async function draw(target: Target, { id }: Snapshot, limits: Limits, context: RunContext): Promise<{ files: Sampled[]; unnamed: number }> {
  const sample = sampler<Sampled>(limits)
  let unnamed = 0
  for await (const nodes of chosen(target, id, { include: [], exclude: [] }, undefined, context)) {
    for (const { type, path, size = 0, mode = 0, mtime, ctime } of nodes) {
      if (type !== 'file') continue
      if (path.includes('\ufffd')) unnamed++
      else sample.add({ path, size, mode: Number.parseInt(permissions(mode), 8), mtime, ctime })
    }
  }
  return { files: sample.taken(), unnamed }
}
