// What a snapshot holds: restic's ls, streamed in batches with flat memory.
import type { RunContext, Target, VerbOf, Verbs } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import type { Entry } from '../../rows.ts'
import { heedFuture, namesTag, pick } from '../../snapshots.ts'
import { targetTags } from '../../target.ts'
import { onSnapshot } from './byhand.ts'
import { type ResticSnapshot, snapshotsOf } from './snapshots.ts'
import { resticLines } from './tool.ts'

type Options = Verbs['files']['options']

/** `here`: only what lies directly in `path`; otherwise all below it. */
export function filesArgs(snapshot: string, path: string | undefined, here = false): string[] {
  if (path === undefined || path === '/') return ['ls', '--json', '--no-lock', snapshot, ...(here ? ['/'] : [])]
  return ['ls', '--json', '--no-lock', ...(here ? [] : ['--recursive']), snapshot, path]
}

type Node = { name?: string; type: Entry['type']; path: string; uid: number; gid: number; size?: number; mode?: number; mtime: string }

// What restic 0.14 to 0.19 write, in their order, where no name has an escape: a third of the time that JSON.parse takes.
const usual =
  /^\{"name":"[^"\\]*","type":"([a-z]+)","path":"([^"\\]*)","uid":(\d+),"gid":(\d+),(?:"size":(\d+),)?(?:"mode":(\d+),)?(?:"permissions":"[^"\\]*",)?"mtime":"([^"\\]+)"/

/** A line of `restic ls --json` -> Entry; undefined for the line about the snapshot itself. */
export function toEntry(line: string): Entry | undefined {
  if (!line.startsWith('{')) return undefined
  const [, type, path = '', uid, gid, size, mode, mtime = ''] = usual.exec(line) ?? []
  if (type !== undefined)
    return entry({
      type: type as Entry['type'],
      path,
      uid: Number(uid),
      gid: Number(gid),
      size: Number(size ?? 0),
      mode: Number(mode ?? 0),
      mtime,
    })
  const node = JSON.parse(line) as Node
  return node.name === undefined ? undefined : entry(node)
}

const entry = ({ path, type, size = 0, mode = 0, uid, gid, mtime }: Node): Entry => ({
  kind: 'entry',
  path,
  type,
  size,
  mode: permissions(mode),
  uid,
  gid,
  mtime: inUtc(mtime),
})

/** Go's time in UTC; JavaScript's dates would cut what is finer than milliseconds. */
function inUtc(time: string): string {
  if (time.endsWith('Z')) return time
  const [, fraction = ''] = /(\.\d+)[+-]/.exec(time) ?? []
  return `${new Date(time).toISOString().slice(0, 19)}${fraction}Z`
}

const known = new Map<number, string>()

/** Go's FileMode, which restic prints, is not st_mode: setuid, setgid and sticky lie at bits 23, 22 and 20. */
export function permissions(mode: number): string {
  let text = known.get(mode)
  if (text === undefined) {
    const special = (mode & (1 << 23) ? 0o4000 : 0) | (mode & (1 << 22) ? 0o2000 : 0) | (mode & (1 << 20) ? 0o1000 : 0)
    text = ((mode & 0o777) | special).toString(8).padStart(4, '0')
    known.set(mode, text)
  }
  return text
}

/**
 * What restic finds by itself, without the list of snapshots first: that saves one opening of the repository. The other names need the
 * list: `latest-1`, and `latest` with a path of one name, which may be a stream's file.
 */
function directArgs(target: Target, { snapshot, path, here }: Options): string[] | undefined {
  if (snapshot === 'latest' && (path === undefined || path.indexOf('/', 1) > 0))
    return [...filesArgs('latest', path, here), ...targetTags(target).flatMap((tag) => ['--tag', tag])]
  return /^[0-9a-f]{2,64}$/.test(snapshot) ? filesArgs(snapshot, path, here) : undefined
}

/** Is it the one that `pick` would choose? restic takes the id of a foreign snapshot too, and a stream's or a list of names as latest. */
function isMeant(target: Target, wanted: string, { tags = [] }: ResticSnapshot): boolean {
  const own = targetTags(target)
  return (
    tags.some((tag) => own.includes(tag)) && (wanted !== 'latest' || !tags.some((tag) => tag.startsWith('stream:') || tag === namesTag))
  )
}

const files: VerbOf<'files'> = async function* (target, options, context) {
  const { snapshot, path, here } = options
  if (context.mode === 'explain') {
    yield* onSnapshot(target, options, (id) => filesArgs(id, path, here))
    return
  }
  const direct = directArgs(target, options)
  if (direct && (yield* entries(target, options, context, direct))) return
  const snapshots = await snapshotsOf(target, context)
  heedFuture(snapshots, [snapshot], context)
  const { id } = pick(snapshots, target, snapshot, path)
  if (!(yield* entries(target, { ...options, snapshot: id }, context, filesArgs(id, path, here))))
    throw new Failure('empty', `snapshot '${id.slice(0, 8)}' is gone`)
}
export default files

/** Yields the entries; false, and none, where restic found no snapshot or another than is meant. */
async function* entries(target: Target, { snapshot, path, here }: Options, context: RunContext, args: string[]) {
  let id: string | undefined
  let count = 0
  try {
    for await (const lines of resticLines(target, args, context, {
      action: `list the files of snapshot '${snapshot.slice(0, 8)}'`,
      many: true,
    })) {
      const batch: Entry[] = []
      for (const line of lines) {
        if (id === undefined && line.startsWith('{')) {
          const found = JSON.parse(line) as ResticSnapshot
          if (!isMeant(target, snapshot, found)) return false
          id = found.id
          heedFuture([found], [snapshot], context)
          continue
        }
        const entry = toEntry(line)
        if (entry && !(here && entry.path === path)) batch.push(entry)
      }
      count += batch.length
      if (batch.length > 0) yield batch
    }
  } catch (error) {
    if (id === undefined && error instanceof Failure && error.class === 'empty') return false
    throw error
  }
  if (id === undefined) return false // 0.14 finds nothing with status 0
  if (count === 0 && path !== undefined && !here) throw new Failure('empty', `snapshot '${id.slice(0, 8)}' has no '${path}'`)
  return true
}
