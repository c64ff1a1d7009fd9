// Snapshots as every engine has them: the tags that mark them, the groups that they form, and what an operator calls them. Pure.
import type { RunContext, Target } from './contract.ts'
import { Failure } from './failure.ts'
import { fromFuture } from './guard.ts'
import type { EngineName, Snapshot } from './rows.ts'
import { targetTags } from './target.ts'

export const holdTag = 'kedge:hold'
/** The backup left something out: a missing path, a file that could not be read. */
export const partialTag = 'kedge:partial'
/** A backup of a list of names, in place of the target's paths. */
export const namesTag = 'kedge:names'
/** Made by hand, beside the chain of the scheduled ones. */
export const manualTag = 'kedge:manual'
/** These begin as the tag of a target does, and are none. */
export const marks = [holdTag, partialTag, namesTag, manualTag]

type Named = Pick<Target, 'name' | 'engine'>

/**
 * The ids of each engine, or how one begins. rsync's are the time, with a number behind a point where a second has several; before that of
 * another target's, in a store that shows several, stands its name: web1/2026-11-20T021500Z.
 */
const ids: Readonly<Record<EngineName, RegExp>> = {
  restic: /^[0-9a-f]{2,64}$/,
  rsync: /^([A-Za-z0-9][\w.-]*\/)?\d{4}-[\d-]*(T[\d.]*Z?)?$/,
}

/** What a beginning needs, in words. */
export const leastOfId: Readonly<Record<EngineName, string>> = {
  restic: 'a beginning has two characters at least',
  rsync: "a beginning has the year and the hyphen at least, as in '2026-'",
}

export const isId = (engine: EngineName, text: string): boolean => ids[engine].test(text)

/** The group of a snapshot in keep rules and in `latest`: its stream, the paths, those made by hand, or the lists of names. */
export function groupOf({ stream, tags }: Pick<Snapshot, 'stream' | 'tags'>): string {
  if (stream) return `stream:${stream}`
  if (tags.includes(namesTag)) return 'names'
  return tags.includes(manualTag) ? 'manual' : 'paths'
}

const ofPaths = (snapshot: Snapshot): boolean => ['paths', 'manual'].includes(groupOf(snapshot))

/** The newest of the paths and of each stream; that of the names only where there is nothing else. `snapshots`: the newest first. */
export function newestOfEach(snapshots: readonly Snapshot[]): Snapshot[] {
  const found = new Map<string, Snapshot>()
  for (const snapshot of snapshots) {
    const group = ofPaths(snapshot) ? 'paths' : groupOf(snapshot)
    if (!found.has(group)) found.set(group, snapshot)
  }
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
 * names is `latest` only where there is nothing else. `snapshots`: the newest first.
 */
export function pick(snapshots: readonly Snapshot[], target: Named, name: string, path?: string): Snapshot {
  if (snapshots.length === 0)
    throw new Failure('empty', `target '${target.name}' has no snapshot`, { hint: `kedge backup ${target.name} takes one` })
  const [, back] = /^latest(?:-(\d+))?$/.exec(name) ?? [undefined, undefined]
  if (name === 'latest' || back !== undefined) {
    const streamed = path === undefined ? [] : snapshots.filter((each) => each.stream && path === `/${each.stream}`)
    const saved = snapshots.filter(ofPaths)
    const whole = snapshots.filter((each) => groupOf(each) !== 'names')
    const from = [streamed, saved, whole].find((each) => each.length > 0) ?? snapshots
    const found = from[Number(back ?? 0)]
    if (found) return found
    throw new Failure('empty', `target '${target.name}' has no snapshot '${name}': there are ${from.length}`)
  }
  if (!isId(target.engine, name))
    throw new Failure('misuse', `not a snapshot: '${name}'`, {
      hint: `an id, its beginning, 'latest' or 'latest-1'; ${leastOfId[target.engine]}`,
    })
  const begins = [
    ({ id }: Snapshot) => id.startsWith(name),
    ({ id }: Snapshot) => id.slice(id.indexOf('/') + 1).startsWith(name),
    ({ original }: Snapshot) => original?.startsWith(name) === true,
  ]
  const [found, second] = begins.map((test) => snapshots.filter(test)).find((each) => each.length > 0) ?? []
  if (!found)
    throw new Failure('empty', `target '${target.name}' has no snapshot '${name}'`, { hint: `kedge list ${target.name} lists them` })
  if (second)
    throw new Failure('misuse', `several snapshots of target '${target.name}' begin with '${name}'`, { hint: 'give more of the id' })
  return found
}

/**
 * Warns where one of the words for snapshots counts from the newest (as none does), and that is of a time to come: what is saved until
 * then is older. `snapshots`: the newest first.
 */
export function heedFuture(
  snapshots: readonly Pick<Snapshot, 'time'>[],
  names: readonly (string | undefined)[],
  context: Pick<RunContext, 'warn'>,
): void {
  const [newest] = snapshots
  if (!newest || !names.some((name) => name === undefined || name.startsWith('latest'))) return
  const time = new Date(newest.time)
  if (fromFuture(time, new Date()))
    context.warn(`the newest snapshot is from the future, ${time.toISOString()}: what was saved last may be an older one`)
}

/** The two to compare: those named; the named one and the newest of its kind; the last two of the paths (else of a stream). */
export function pair(snapshots: readonly Snapshot[], target: Named, old?: string, newer?: string): [Snapshot, Snapshot] {
  if (old !== undefined && newer !== undefined) return [pick(snapshots, target, old), pick(snapshots, target, newer)]
  const first = old === undefined ? pick(snapshots, target, 'latest') : pick(snapshots, target, old)
  const kin = snapshots.filter((each) => groupOf(each) === groupOf(first))
  const [newest, before] = kin
  if (!newest || !before) {
    throw new Failure('empty', `target '${target.name}' has one snapshot: nothing to compare it with`, {
      hint: `kedge diff --live ${target.name}`,
    })
  }
  if (old === undefined) return [before, newest]
  if (first.id !== newest.id) return [first, newest]
  throw new Failure('empty', `no snapshot is newer than '${old}'`, {
    hint: `kedge diff --live ${target.name} ${old} compares it with the source`,
  })
}

/** What is drilled: the snapshot that is named, or the newest of the paths and of each stream. */
export function toDrill(snapshots: readonly Snapshot[], target: Named, name: string | undefined): Snapshot[] {
  if (name !== undefined) return [pick(snapshots, target, name)]
  if (snapshots.length === 0) pick(snapshots, target, 'latest')
  return newestOfEach(snapshots)
}

/** What `list` is asked for; where a stream has no snapshot, the streams that have some are named. `snapshots`: the newest first. */
export function listed(
  snapshots: readonly Snapshot[],
  target: Named,
  { latest, stream }: { latest?: number; stream?: string },
  log: (message: string) => void,
): readonly Snapshot[] {
  const wanted = stream === undefined ? snapshots : snapshots.filter((each) => each.stream === stream)
  if (stream !== undefined && wanted.length === 0) {
    const names = [...new Set(snapshots.flatMap((each) => each.stream ?? []))].sort()
    const there = names.length > 0 ? `: there are ${names.map((name) => `'${name}'`).join(', ')}` : ''
    log(`'${target.name}' has no snapshot of a stream '${stream}'${there}`)
  }
  return latest === undefined ? wanted : wanted.slice(0, latest)
}
