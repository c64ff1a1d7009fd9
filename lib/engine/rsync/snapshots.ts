// The snapshots of an rsync target: folders below snapshots/, each complete, with what is known of it in its snapshot.json.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import type { Exclusion } from '../../leftout.ts'
import { type Marks, readMarks } from '../../marks.ts'
import type { Snapshot } from '../../rows.ts'
import { heedFuture, holdTag, partialTag, pick } from '../../snapshots.ts'
import { ownersOf, pinnedStore, rootOf } from './store.ts'

/** snapshot.json: never changed once it is published. Times RFC 3339 with milliseconds, sizes bytes, spans seconds. */
export type Stored = {
  readonly format: 1
  readonly id: string
  readonly target: string
  /** When the run began to read the source. */
  readonly time: string
  readonly host: string
  readonly paths: readonly string[]
  readonly tags: readonly string[]
  readonly stream?: string
  /** The snapshot to which what did not change is linked; null: none. */
  readonly base: string | null
  /** All that were offered to rsync, unfinished ones too. */
  readonly bases: readonly string[]
  readonly counts: {
    /** All but folders. */
    readonly files: number
    readonly folders: number
    readonly bytes: number
    /** Files that were transferred, their bytes, and those that are hard links to the base. */
    readonly transferred: number
    readonly added: number
    readonly linked: number
    readonly new: number
    readonly changed: number
    readonly unreadable: number
    readonly vanished: number
  }
  /**
   * `live`: read while it was in use, and nothing changed meanwhile; `vanished`: something went; `changed`: files were written to while they
   * were read; `producer`: a stream; `unknown`: adopted.
   */
  readonly consistency: 'live' | 'vanished' | 'changed' | 'producer' | 'unknown'
  /** Missing: a stream, or adopted. */
  readonly excluded?: Exclusion
  readonly tools: { readonly kedge: string; readonly rsync?: string; readonly remote?: string }
  /** Owners, modes and devices lie in xattrs (rsync --fake-super), since no root wrote it. */
  readonly fake?: true
  /** Of another tool's tree: where it lay. */
  readonly adopted?: string
  /** Why it is not to be trusted, until it is accepted. */
  readonly suspect?: string
  readonly seconds: number
}
/** `dir`: its folder; `held`: a file `hold` lies in it. */
export type Found = Stored & { readonly dir: string; readonly held: boolean }

export const idPattern = /^\d{4}-\d\d-\d\dT\d{6}(\.\d+)?Z$/

/** '2026-11-20T021500Z' for a time; with a number behind a point where a second has several. */
export const idOf = (time: Date, number = 0): string =>
  `${time.toISOString().slice(0, 19).replaceAll(':', '')}${number === 0 ? '' : `.${number}`}Z`

export const treeOf = ({ dir }: Pick<Found, 'dir'>): string => join(dir, 'tree')
export const manifestOf = ({ dir }: Pick<Found, 'dir'>): string => join(dir, 'manifest')

/** Ids below snapshots/ of a target's folder; none where there is no such folder. */
export function idsIn(root: string): string[] {
  try {
    return readdirSync(join(root, 'snapshots')).filter((name) => idPattern.test(name))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** One snapshot by its folder. Failure `damaged` where its snapshot.json is missing or cannot be read; undefined where the folder is gone. */
export function readStored(dir: string): Found | undefined {
  const file = join(dir, 'snapshot.json')
  try {
    const stored = JSON.parse(readFileSync(file, 'utf8')) as Stored
    const { format, id } = stored
    if (format === 1 && dir.endsWith(`/${id}`)) return { ...stored, dir, held: existsSync(join(dir, 'hold')) }
    if (format === 1 && idPattern.test(id))
      throw new Failure('damaged', `'${dir}' is a copy of snapshot '${id}', as its snapshot.json says, and no snapshot of its own`, {
        hint: 'move it out of snapshots; kedge hold keeps a snapshot, kedge copy brings it to another store',
      })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' && !existsSync(dir)) return undefined // another host's prune was faster
    if (code !== 'ENOENT' && !(error instanceof SyntaxError)) throw error
  }
  throw new Failure('damaged', `snapshot '${dir}' has no snapshot.json that tells what it is`, { hint: 'its files are in its folder tree' })
}

/** What reading asks of a run. */
export type Reading = Pick<RunContext, 'warn' | 'forced'>

/** All snapshots that are the target's, the newest first. A damaged one is warned of and left out. Failures as of `pinnedStore`. */
export function storedOf(target: Target, context: Reading, owners = ownersOf(target)): Found[] {
  pinnedStore(target, context)
  const found: Found[] = []
  for (const owner of owners) {
    const root = rootOf(target, owner)
    for (const id of idsIn(root)) {
      try {
        const stored = readStored(join(root, 'snapshots', id))
        if (stored) found.push(stored)
      } catch (error) {
        if (!(error instanceof Failure)) throw error
        context.warn(error.message, 'damaged')
      }
    }
  }
  return found.sort(newestFirst)
}

export const newestFirst = (a: Pick<Snapshot, 'id' | 'time'>, b: Pick<Snapshot, 'id' | 'time'>): number =>
  a.time === b.time ? (a.id < b.id ? 1 : -1) : a.time < b.time ? 1 : -1

/** Whose it is: STORE/OWNER/snapshots/ID. */
export const ownerOf = ({ dir }: Pick<Found, 'dir'>): string => basename(dirname(dirname(dir)))

const unnoted: Marks = { suspects: {}, accepted: [] }

/** Why a snapshot is not to be trusted. The store says it to whoever has no note of it. `id`: as rows show it. */
export function suspicionIn(stored: Found, { suspects, accepted }: Marks, id = stored.id): string | undefined {
  const noted = suspects[stored.id] ?? suspects[id]
  return noted ?? (accepted.includes(id) || accepted.includes(stored.id) ? undefined : stored.suspect)
}

/** Those that are no base, by what is stored of them. */
export const suspectsAmong = (found: readonly Found[], marks: Marks): Record<string, string> =>
  Object.fromEntries(
    found
      .flatMap((each) => [[each.id, suspicionIn(each, marks)] as const])
      .filter((pair): pair is [string, string] => pair[1] !== undefined),
  )

export function toSnapshot(target: string, stored: Found, marks = unnoted, id = stored.id): Snapshot {
  const { time, host, paths, tags, stream, counts, held, base } = stored
  const suspect = suspicionIn(stored, marks, id)
  return {
    kind: 'snapshot',
    target,
    id,
    time,
    host,
    paths,
    tags: held ? [...tags, holdTag] : tags,
    ...(stream && { stream }),
    size: counts.bytes,
    files: counts.files,
    ...(held && { held }),
    ...(suspect && { suspect }),
    ...(tags.includes(partialTag) && { partial: true as const }),
    ...(base && { base }),
  }
}

/** A target's snapshots as rows, the newest first, and what is stored of each. Two targets may have one id: theirs have the name before it. */
export async function snapshotsOf(
  target: Target,
  context: Reading,
  owners?: string[],
): Promise<{ rows: Snapshot[]; of: (row: Snapshot) => Found }> {
  const stored = storedOf(target, context, owners)
  const marks = await readMarks(target.name)
  const shared = (owners ?? ownersOf(target)).length > 1
  const idOfRow = (each: Found) => (shared && ownerOf(each) !== target.name ? `${ownerOf(each)}/${each.id}` : each.id)
  // A base is the owner's own, or, after a rename, of the name before.
  const baseOf = (each: Found): Found | undefined => {
    const fitting = stored.filter(({ id }) => id === each.base)
    return fitting.find((base) => ownerOf(base) === ownerOf(each)) ?? fitting[0]
  }
  const rows = stored.map((each) => {
    const base = shared ? baseOf(each) : undefined
    return { ...toSnapshot(target.name, each, marks, idOfRow(each)), ...(base && { base: idOfRow(base) }) }
  })
  const byId = new Map(rows.map(({ id }, i) => [id, stored[i] as Found]))
  return { rows, of: ({ id }) => byId.get(id) as Found }
}

/** The reasons of those that are not to be trusted, by their ids as rows have them. */
export async function suspectsOf(target: Target, context: Reading): Promise<Record<string, string>> {
  const { rows } = await snapshotsOf(target, context)
  return Object.fromEntries(rows.flatMap(({ id, suspect }) => (suspect === undefined ? [] : [[id, suspect]])))
}

/** The snapshot that an operator names, as it is stored; `path`: as for `pick`. */
export async function chosen(target: Target, name: string, context: RunContext, path?: string): Promise<Found> {
  const { rows, of } = await snapshotsOf(target, context)
  heedFuture(rows, [name], context)
  return of(pick(rows, target, name, path))
}
