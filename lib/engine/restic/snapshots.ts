// The snapshots of a target: those with its tag. Their ids, and what `latest` means.
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { readMarks } from '../../marks.ts'
import type { Snapshot } from '../../rows.ts'
import { targetTags } from '../../target.ts'
import { askRestic, repository } from './tool.ts'

/** A snapshot as restic prints it (0.14 has no program_version, before 0.17 no summary). */
export type ResticSnapshot = {
  id: string
  time: string
  hostname: string
  paths: readonly string[]
  tags?: readonly string[]
  tree: string
  original?: string
  program_version?: string
  summary?: { total_files_processed?: number; total_bytes_processed?: number }
}

export const holdTag = 'kedge:hold'
/** The backup left something out: a missing path, a file that could not be read. */
export const partialTag = 'kedge:partial'
/** A backup of a list of names, in place of the target's paths. */
export const namesTag = 'kedge:names'
/** These begin as the tag of a target does, and are none. */
export const marks = [holdTag, partialTag, namesTag]
const streamTag = /^stream:(.+)$/

/** `all`: whatever the repository holds, not only this target's. */
export function snapshotsArgs(target: Target, options: { all?: boolean } = {}): string[] {
  return ['snapshots', '--json', '--no-lock', ...(options.all ? [] : targetTags(target).flatMap((tag) => ['--tag', tag]))]
}

export function toSnapshot(target: string, raw: ResticSnapshot, suspects: Readonly<Record<string, string>> = {}): Snapshot {
  const tags = raw.tags ?? []
  const stream = tags.map((tag) => streamTag.exec(tag)?.[1]).find(Boolean)
  const suspect = Object.entries(suspects).find(([id]) => raw.id.startsWith(id) || raw.original?.startsWith(id))?.[1]
  return {
    kind: 'snapshot',
    target,
    id: raw.id,
    time: new Date(raw.time).toISOString(),
    host: raw.hostname,
    paths: raw.paths,
    tags,
    ...(stream && { stream }),
    ...(raw.summary?.total_bytes_processed !== undefined && { size: raw.summary.total_bytes_processed }),
    ...(raw.summary?.total_files_processed !== undefined && { files: raw.summary.total_files_processed }),
    ...(tags.includes(holdTag) && { held: true }),
    ...(suspect && { suspect }),
    ...(tags.includes(partialTag) && { partial: true as const }),
    ...(raw.original && { original: raw.original }),
  }
}

/** A target's snapshots, the newest first. */
export async function snapshotsOf(target: Target, context: RunContext, options: { all?: boolean } = {}): Promise<Snapshot[]> {
  const text = await askRestic(target, snapshotsArgs(target, options), context, {
    action: `list the snapshots in '${repository(target)}'`,
    timeout: 3600,
  })
  const raw = JSON.parse(text || '[]') as ResticSnapshot[] | null
  const { suspects } = await readMarks(target.name)
  return (raw ?? []).map((each) => toSnapshot(target.name, each, suspects)).sort((a, b) => (a.time < b.time ? 1 : a.time > b.time ? -1 : 0))
}

/** The group of a snapshot in keep rules and in `latest`: its stream, the paths, or the lists of names. */
export const groupOf = (snapshot: Snapshot): string =>
  snapshot.stream ? `stream:${snapshot.stream}` : snapshot.tags.includes(namesTag) ? 'names' : 'paths'

/** The newest of the paths and of each stream; that of the names only where there is nothing else. `snapshots`: the newest first. */
export function newestOfEach(snapshots: readonly Snapshot[]): Snapshot[] {
  const found = new Map<string, Snapshot>()
  for (const snapshot of snapshots) if (!found.has(groupOf(snapshot))) found.set(groupOf(snapshot), snapshot)
  if (found.size > 1) found.delete('names')
  return [...found.values()]
}

/** The other targets whose tag a snapshot has as well. */
export function othersOf(target: Target, snapshot: Pick<Snapshot, 'tags'>): string[] {
  const known = [...marks, `kedge:${target.name}`, ...targetTags(target)]
  return snapshot.tags.filter((tag) => tag.startsWith('kedge:') && !known.includes(tag)).map((tag) => tag.slice('kedge:'.length))
}

/**
 * The one snapshot that an operator names: an id or its beginning, `latest`, or `latest-N`. `latest` is the newest of the paths;
 * of a stream when the path asked for is that stream's file (`latest:/app.sql`), or when the target saves streams only. A list of
 * names is `latest` only where there is nothing else.
 */
export function pick(snapshots: readonly Snapshot[], target: string, name: string, path?: string): Snapshot {
  if (snapshots.length === 0) throw new Failure('empty', `target '${target}' has no snapshot`, { hint: `kedge backup ${target} takes one` })
  const [, back] = /^latest(?:-(\d+))?$/.exec(name) ?? [undefined, undefined]
  if (name === 'latest' || back !== undefined) {
    const streamed = path === undefined ? [] : snapshots.filter((each) => each.stream && path === `/${each.stream}`)
    const saved = snapshots.filter((each) => groupOf(each) === 'paths')
    const whole = snapshots.filter((each) => groupOf(each) !== 'names')
    const from = [streamed, saved, whole].find((each) => each.length > 0) ?? snapshots
    const found = from[Number(back ?? 0)]
    if (found) return found
    throw new Failure('empty', `target '${target}' has no snapshot '${name}': there are ${from.length}`)
  }
  if (!/^[0-9a-f]{2,64}$/.test(name))
    throw new Failure('misuse', `not a snapshot: '${name}'`, { hint: "an id, its beginning, 'latest' or 'latest-1'" })
  const matches = snapshots.filter((each) => each.id.startsWith(name) || each.original?.startsWith(name))
  const exact = matches.filter((each) => each.id.startsWith(name))
  const [found, second] = exact.length > 0 ? exact : matches
  if (!found) throw new Failure('empty', `target '${target}' has no snapshot '${name}'`, { hint: `kedge list ${target} lists them` })
  if (second) throw new Failure('misuse', `several snapshots of target '${target}' begin with '${name}'`, { hint: 'give more of the id' })
  return found
}
