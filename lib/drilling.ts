// A drill as every engine does it: a random sample is restored into scratch space, and compared with the snapshot and with the source.
import { hostname } from 'node:os'
import { join, resolve } from 'node:path'
import type { RunContext, Target, Verbs } from './contract.ts'
import { Failure } from './failure.ts'
import { many, shortId } from './format.ts'
import { checkSpace } from './place.ts'
import { compareWithSource, type Sampled, wrongIn } from './proof.ts'
import type { Drilled, Snapshot } from './rows.ts'
import type { Limits } from './sample.ts'
import { withScratch } from './scratch.ts'

type Options = Verbs['drill']['options']

const usual = 20
// With --bytes alone: empty files fit without end.
const most = 10_000
const recorded = 100

export const countOf = ({ count, bytes }: Options): number => count ?? (bytes === undefined ? usual : most)

/** What an engine does of it. */
export type Hand<F extends Sampled> = {
  /** A random sample of the snapshot's regular files, for that folder; `unnamed`: how many have names that cannot be told. */
  readonly draw: (snapshot: Snapshot, limits: Limits, folder: string) => Promise<{ files: F[]; unnamed: number }>
  /** Restores them below the folder. */
  readonly bring: (snapshot: Snapshot, files: readonly F[], folder: string, action: string) => Promise<void>
  /** What is wrong with the content of a file that came back; 'unknown' where nothing in the store vouches for it. */
  readonly content: (file: F, folder: string) => Promise<string | undefined>
  /** Whether the source may be on this host. */
  readonly local: boolean
}

export const unknown = 'unknown'

/** `snapshots`: what is drilled. Failure 'damaged' names what came back different, once all were looked at. */
export function drilling<F extends Sampled>(
  target: Target,
  snapshots: readonly Snapshot[],
  options: Options,
  hand: Hand<F>,
  context: RunContext,
): AsyncGenerator<Drilled> {
  const place = {
    target: target.name,
    kind: 'drill',
    run: context.run,
    ...(options.scratch !== undefined && { elsewhere: resolve(options.scratch) }),
  }
  return withScratch(place, context.log, async function* (folder) {
    const damaged: Failure[] = []
    for (const [i, snapshot] of snapshots.entries()) {
      try {
        yield await drillOne(target, snapshot, join(folder, String(i)), options, hand, context)
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

async function drillOne<F extends Sampled>(
  target: Target,
  snapshot: Snapshot,
  folder: string,
  options: Options,
  hand: Hand<F>,
  context: RunContext,
): Promise<Drilled> {
  const began = performance.now()
  const short = shortId(snapshot.id)
  const { files, unnamed } = await hand.draw(
    snapshot,
    { count: countOf(options), bytes: options.bytes ?? Number.POSITIVE_INFINITY },
    folder,
  )
  if (unnamed > 0)
    context.log(
      `snapshot ${short}: ${many(unnamed, 'file has a name that is', 'files have names that are')} not UTF-8, and left out of the sample`,
    )
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
  await hand.bring(snapshot, files, folder, `restore a sample of snapshot '${short}' of '${target.name}'`)
  const wrong: string[] = []
  const unproven: F[] = []
  for (const file of files) {
    const what = (await wrongIn(file, folder)) ?? (await hand.content(file, folder))
    if (what === unknown) unproven.push(file)
    else if (what) wrong.push(`'${file.path}': ${what}`)
  }
  const here = hand.local && !snapshot.stream && snapshot.host === (target.env.HOST || hostname())
  const { same, differ } = here && wrong.length === 0 ? await compareWithSource(files, folder, context) : { same: [], differ: [] }
  wrong.push(...differ.map((path) => `'${path}': it differs from the source, which is unchanged`))
  if (wrong.length > 0)
    throw new Failure(
      'damaged',
      `the drill of snapshot '${short}' of '${target.name}' failed: ${wrong.slice(0, 10).join('; ')}${wrong.length > 10 ? ` and ${wrong.length - 10} more` : ''}`,
      {
        hint: `the store or the source has rotted: kedge check --read-data ${target.name}, and look at the file itself`,
      },
    )
  const matching = new Set(same)
  const times = unproven.filter(({ path }) => !matching.has(path)).length
  if (times > 0) context.warn(`snapshot ${short}: ${times} files of the sample have no known hash: compared by size, mode and time only`)
  return {
    kind: 'drilled',
    target: target.name,
    snapshot: snapshot.id,
    files: files.length,
    bytes,
    source: same.length,
    hashes: files.length - same.length - times,
    ...(times > 0 && { times }),
    seconds: Math.round((performance.now() - began) / 100) / 10,
    sample: files.slice(0, recorded).map(({ path }) => path),
  }
}
