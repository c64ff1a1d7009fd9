// Another tool's trees become snapshots by renaming: no byte is copied, and no file is changed. Each goes to adopting/ID/tree first, with
// the note adopting/ID.json beside it; what a killed call left there the next one brings to its end.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync, utimesSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { toDisk } from '../../inplace.ts'
import { replaceFile } from '../../ledger.ts'
import { partialTag } from '../../snapshots.ts'
import { shownPath } from './manifest.ts'
import { tellTooLong } from './overlong.ts'
import { publish } from './publish.ts'
import { type Found, idsIn, readStored, treeOf } from './snapshots.ts'
import { rootOf, storeOf } from './store.ts'
import { writeManifest } from './walk.ts'

declare const KEDGE_VERSION: string

/** The note. `at`: where the root of the tree lay; `stamp`: the folder whose mtime (seconds) is the time of the trees in it. */
export type Moving = {
  readonly from: string
  readonly at: string
  readonly time: string
  readonly host: string
  readonly paths: readonly string[]
  readonly tags: readonly string[]
  readonly stamp?: { readonly folder: string; readonly mtime: number }
}
export type Step = { readonly id: string; readonly moving: Moving }

export const adoptingOf = (target: Target, owner = target.name): string => join(rootOf(target, owner), 'adopting')

/** Where the tree goes. */
export const placeOf = (target: Target, { id, moving }: Step): string => join(adoptingOf(target), id, 'tree', moving.at).replace(/\/$/, '')

const noteOf = (target: Target, id: string): string => join(adoptingOf(target), `${id}.json`)

/** The ids of what a killed call left. */
export const idsMoving = (target: Target, owner = target.name): string[] => {
  try {
    const names = readdirSync(adoptingOf(target, owner)).filter((name) => name.endsWith('.json'))
    return names.map((name) => name.slice(0, -'.json'.length)).sort()
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return []
    throw error
  }
}

const readNote = (folder: string, id: string): Moving => JSON.parse(readFileSync(join(folder, `${id}.json`), 'utf8')) as Moving

/** What a killed call had renamed and not brought to its end. */
export const begun = (target: Target): Step[] =>
  idsMoving(target)
    .map((id) => ({ id, moving: readNote(adoptingOf(target), id) }))
    .filter((step) => existsSync(placeOf(target, step)))

/** Brings to its end what a killed call began; what it had not renamed is where it was. The caller holds the store's lock. */
export async function goOn(target: Target, context: RunContext): Promise<Found[]> {
  restoreTimes(target)
  clean(target)
  const found: Found[] = []
  for (const step of begun(target)) found.push(await finish(target, step, context))
  for (const id of idsMoving(target)) forget(target, { id, moving: readNote(adoptingOf(target), id) })
  return found
}

/** What sort(1) and a half-written note left. */
function clean(target: Target): void {
  const folder = adoptingOf(target)
  if (!existsSync(folder)) return
  for (const each of readdirSync(folder, { withFileTypes: true }))
    if (!each.isDirectory() && !each.name.endsWith('.json')) rmSync(join(folder, each.name))
}

/** adopting/, where nothing of an operator's own lies in it. */
export function removeEmpty(target: Target): void {
  const folder = adoptingOf(target)
  if (existsSync(folder) && readdirSync(folder).length === 0) rmdirSync(folder)
}

/** Takes in one tree. The caller holds the store's lock. */
export async function adoptTree(target: Target, step: Step, context: RunContext): Promise<Found> {
  const { id, moving } = step
  const place = placeOf(target, step)
  context.signal.throwIfAborted()
  mkdirSync(adoptingOf(target), { recursive: true, mode: 0o700 })
  await replaceFile(noteOf(target, id), `${JSON.stringify(moving)}\n`, 0o600)
  mkdirSync(join(adoptingOf(target), id), { mode: 0o700 })
  mkdirSync(dirname(place), { recursive: true, mode: 0o755 })
  await toDisk(adoptingOf(target))
  context.detail(`renaming '${moving.from}' to '${place}'`)
  try {
    renameSync(moving.from, place)
  } catch (error) {
    forget(target, step)
    // A mount point, or a file system that lies in two places: the numbers of the devices do not tell.
    if (!['EXDEV', 'EBUSY'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    throw new Failure('refused', `cannot rename '${moving.from}' into the store '${storeOf(target)}': ${(error as Error).message}`, {
      hint: 'it lies on a mount of its own: what is taken in is renamed, and never copied',
      cause: error,
    })
  }
  restoreTime(moving)
  return await finish(target, step, context)
}

/** Looks at the tree, and publishes it. */
async function finish(target: Target, { id, moving }: Step, context: RunContext): Promise<Found> {
  const begin = performance.now()
  const root = rootOf(target)
  const dir = join(adoptingOf(target), id)
  const older = newestBefore(root, moving.time)
  mkdirSync(join(root, 'snapshots'), { recursive: true, mode: 0o700 })
  const left: string[] = []
  const trees = {
    tree: join(dir, 'tree'),
    place: join(root, 'snapshots', id, 'tree'),
    older: older && treeOf(older),
    work: adoptingOf(target),
    tooLong: (path: string) => left.push(shownPath(path)),
  }
  const counts = await writeManifest(target, join(dir, 'manifest'), trees, context)
  tellTooLong(storeOf(target), id, left, context)
  const { from, time, host, paths } = moving
  const tags = [...moving.tags, ...(left.length > 0 ? [partialTag] : [])]
  const base = older && counts.linked > 0 ? older.id : null
  const found = await publish(
    target,
    root,
    dir,
    {
      format: 1,
      id,
      target: target.name,
      time,
      host,
      paths,
      tags,
      base,
      bases: base === null ? [] : [base],
      counts,
      consistency: 'unknown',
      tools: { kedge: KEDGE_VERSION },
      adopted: from,
      seconds: Math.round((performance.now() - begin) / 1000),
    },
    context,
  )
  rmSync(noteOf(target, id))
  return found
}

/** The snapshot of paths that was made last before a time. */
function newestBefore(root: string, time: string): Found | undefined {
  const all = idsIn(root).flatMap((id) => readStored(join(root, 'snapshots', id)) ?? [])
  return all.filter((each) => each.time < time && each.stream === undefined).sort((a, b) => (a.time < b.time ? 1 : -1))[0]
}

/** A rename changes the time of the folder that it leaves, by which other hosts' trees are dated: also of those whom other targets took. */
function restoreTimes(target: Target): void {
  for (const owner of readdirSync(storeOf(target)))
    for (const id of idsMoving(target, owner)) restoreTime(readNote(adoptingOf(target, owner), id))
}

function restoreTime({ stamp }: Moving): void {
  if (stamp && existsSync(stamp.folder)) utimesSync(stamp.folder, stamp.mtime, stamp.mtime)
}

/** What was not renamed has empty folders only; what is published has none. */
function forget(target: Target, step: Step): void {
  const top = adoptingOf(target)
  for (let folder = dirname(placeOf(target, step)); folder !== top; folder = dirname(folder)) if (existsSync(folder)) rmdirSync(folder)
  rmSync(noteOf(target, step.id))
}
