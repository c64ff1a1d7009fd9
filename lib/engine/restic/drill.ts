// drill: a restore rehearsed. A random sample goes through `restic restore --verify` into scratch space, and is compared.
import { hostname } from 'node:os'
import { join, resolve } from 'node:path'
import type { RunContext, Target, VerbOf, Verbs } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { literal } from '../../pattern.ts'
import { checkSpace } from '../../place.ts'
import type { Drilled, Snapshot } from '../../rows.ts'
import { sampler } from '../../sample.ts'
import { withScratch } from '../../scratch.ts'
import { toDrill } from '../../snapshots.ts'
import { withoutOwnDeadLocks } from './deadlock.ts'
import { extract, type How, onlyReadable, restoreArgs } from './extract.ts'
import { compareWithSource, parts, type Sampled, wrongIn } from './proof.ts'
import { rehearsed } from './rehearsal.ts'
import { snapshotsOf } from './snapshots.ts'
import { chosen } from './tally.ts'
import { version } from './tool.ts'

type Options = Verbs['drill']['options']

const usual = 20
// With --bytes alone: empty files fit without end.
const most = 10_000
const recorded = 100
const countOf = ({ count, bytes }: Options): number => count ?? (bytes === undefined ? usual : most)

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
  const snapshots = toDrill(await snapshotsOf(target, context), target, options.snapshot)
  const place = {
    target: target.name,
    kind: 'drill',
    run: context.run,
    ...(options.scratch !== undefined && { elsewhere: resolve(options.scratch) }),
  }
  yield* withScratch(place, context.log, async function* (folder) {
    const damaged: Failure[] = []
    for (const [i, snapshot] of snapshots.entries()) {
      try {
        yield await drillOne(target, snapshot, join(folder, String(i)), options, context)
      } catch (error) {
        // The stream's snapshot is worth a look although that of the paths is damaged.
        if (!(error instanceof Failure) || error.class !== 'damaged') throw error
        damaged.push(error)
      }
    }
    if (damaged[0])
      throw damaged.length === 1
        ? damaged[0]
        : new Failure('damaged', damaged.map(({ message }) => message).join('; '), { hint: damaged[0].hint })
  })
}
export default drill

async function drillOne(target: Target, snapshot: Snapshot, folder: string, options: Options, context: RunContext): Promise<Drilled> {
  const began = performance.now()
  const short = snapshot.id.slice(0, 8)
  const { files, unnamed } = await draw(target, snapshot, options, context)
  if (unnamed > 0) context.log(`snapshot ${short}: ${unnamed} files have names that are not UTF-8, and are left out of the sample`)
  if (files.length === 0)
    throw new Failure(
      'empty',
      `cannot drill snapshot '${short}' of '${target.name}': ${options.bytes === undefined ? 'it holds no file' : 'no file of it fits in --bytes'}`,
      {
        hint: 'a backup without files proves nothing: look at its paths and excludes',
      },
    )
  const bytes = files.reduce((sum, { size }) => sum + size, 0)
  await checkSpace(
    folder,
    bytes,
    `restore a sample of '${target.name}' to '${folder}'`,
    '--scratch names another place; --count and --bytes make the sample smaller',
  )
  const restic = await version(target)
  const action = `restore a sample of snapshot '${short}' of '${target.name}'`
  const unlocked = await onlyReadable(target)
  for (const how of hows(files, folder)) {
    const args = restoreArgs(target, snapshot.id, { ...how, unlocked }, restic)
    await withoutOwnDeadLocks(target, context, () => extract(target, args, context, { action, total: bytes }))
  }
  const wrong: string[] = []
  for (const file of files) {
    const what = await wrongIn(file, folder)
    if (what) wrong.push(`'${file.path}': ${what}`)
  }
  const here = !snapshot.stream && snapshot.host === (target.env.HOST || hostname())
  const { same, differ } = here && wrong.length === 0 ? await compareWithSource(files, folder, context) : { same: 0, differ: [] }
  wrong.push(...differ.map((path) => `'${path}': it differs from the source, which is unchanged`))
  if (wrong.length > 0)
    throw new Failure(
      'damaged',
      `the drill of snapshot '${short}' of '${target.name}' failed: ${wrong.slice(0, 10).join('; ')}${wrong.length > 10 ? ` and ${wrong.length - 10} more` : ''}`,
      {
        hint: `the store or the source has rotted: kedge check --read-data ${target.name}, and look at the file itself`,
      },
    )
  return {
    kind: 'drilled',
    target: target.name,
    snapshot: snapshot.id,
    files: files.length,
    bytes,
    source: same,
    hashes: files.length - same,
    seconds: Math.round((performance.now() - began) / 100) / 10,
    sample: files.slice(0, recorded).map(({ path }) => path),
  }
}

/** A sample of the snapshot's regular files. restic prints names that are not UTF-8 with U+FFFD, which no pattern finds again. */
async function draw(
  target: Target,
  { id }: Snapshot,
  options: Options,
  context: RunContext,
): Promise<{ files: Sampled[]; unnamed: number }> {
  const sample = sampler<Sampled>({ count: countOf(options), bytes: options.bytes ?? Number.POSITIVE_INFINITY })
  let unnamed = 0
  for await (const nodes of chosen(target, id, { include: [], exclude: [] }, undefined, context)) {
    for (const { type, path, size = 0, mode = 0, mtime, ctime } of nodes) {
      if (type !== 'file') continue
      if (path.includes('\ufffd')) unnamed++
      else sample.add({ path, size, mode, mtime, ctime })
    }
  }
  return { files: sample.taken(), unnamed }
}
