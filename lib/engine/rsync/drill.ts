// drill: a restore rehearsed. A random sample goes through rsync into scratch space, and is compared.
import { join } from 'node:path'
import type { RunContext, VerbOf } from '../../contract.ts'
import { countOf, drilling, type Hand, unknown } from '../../drilling.ts'
import { many, timeText } from '../../format.ts'
import type { Sampled } from '../../proof.ts'
import type { Snapshot } from '../../rows.ts'
import { type Limits, sampler } from '../../sample.ts'
import { heedFuture, toDrill } from '../../snapshots.ts'
import { isRemote } from '../../source/ssh.ts'
import { bring, listArgs, makeRoom, moveOf } from './bring.ts'
import { drilledByHand, type Rehearsed } from './byhand.ts'
import { entryAt, isTooLong } from './entry.ts'
import { type Line, pathBytes, readManifest, shownPath } from './manifest.ts'
import { md5Of } from './md5.ts'
import { type Found, manifestOf, snapshotsOf } from './snapshots.ts'

type Drawn = Sampled & { readonly name: Buffer; readonly hash: string }

const drill: VerbOf<'drill'> = async function* (target, options, context) {
  const { rows, of } = await snapshotsOf(target, context)
  heedFuture(rows, [options.snapshot], context)
  const snapshots = toDrill(rows, target, options.snapshot)
  const local = !isRemote(target)
  if (context.mode === 'explain') {
    const drilled: Rehearsed[] = []
    for (const row of snapshots) drilled.push({ found: of(row), move: await moveOf(of(row), ''), local: local && !row.stream })
    yield* drilledByHand(target, options, countOf(options), drilled)
    return
  }
  const hand: Hand<Drawn> = {
    draw: (snapshot, limits, folder) => draw(of(snapshot), snapshot, limits, folder, context),
    async bring(snapshot, files, folder, action) {
      const move = await moveOf(of(snapshot), folder)
      await makeRoom(move)
      const total = files.reduce((sum, { size }) => sum + size, 0)
      await bring(target, listArgs(move), context, { action, total, list: namesOf(files) })
    },
    async content({ path, hash }, folder) {
      if (hash === '') return unknown
      return (await md5Of(join(folder, path))) === hash ? undefined : 'its content is not what was saved'
    },
    local,
  }
  yield* drilling(target, snapshots, options, hand, context)
}
export default drill

const nul = Buffer.from([0])
async function* namesOf(files: readonly Drawn[]): AsyncGenerator<Buffer> {
  for (const { name } of files) yield Buffer.concat([name, nul])
}

/** Names that are not UTF-8 cannot be shown in the record of the run; what has too long a path in the folder cannot be looked at there. */
async function draw(
  found: Found,
  { time }: Snapshot,
  limits: Limits,
  folder: string,
  context: RunContext,
): Promise<{ files: Drawn[]; unnamed: number }> {
  const sample = sampler<Line>(limits)
  let [unnamed, long] = [0, 0]
  for await (const lines of readManifest(manifestOf(found), (text) => text.includes('\tf\t'))) {
    context.signal.throwIfAborted()
    for (const line of lines) {
      if (line.type !== 'f') continue
      if (shownPath(line.path).includes('\ufffd')) unnamed++
      else if (isTooLong(entryAt(folder, line.path))) long++
      else sample.add(line)
    }
  }
  if (long > 0) context.log(`${many(long, 'file has', 'files have')} too long a path for '${folder}': left out of the sample`)
  return { files: sample.taken().map((line) => drawn(line, time)), unnamed }
}

/** `time`: when the run began to read: what was written before is in the snapshot. */
const drawn = ({ path, size, mode, uid, gid, mtime, hash }: Line, time: string): Drawn => ({
  path: shownPath(path),
  name: pathBytes(path),
  size,
  mode,
  owner: { uid, gid },
  mtime: timeText(mtime),
  coarse: true,
  ctime: { before: time },
  hash,
})
