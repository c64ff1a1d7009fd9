// What a snapshot holds: restic's ls, streamed in batches with flat memory.
import type { Entry, VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { pick, snapshotsOf } from './snapshots.ts'
import { explain, resticLines } from './tool.ts'

/** `here`: only what lies directly in `path`; otherwise all below it. */
export function filesArgs(snapshot: string, path: string | undefined, here = false): string[] {
  if (path === undefined || path === '/') return ['ls', '--json', '--no-lock', snapshot, ...(here ? ['/'] : [])]
  return ['ls', '--json', '--no-lock', ...(here ? [] : ['--recursive']), snapshot, path]
}

type Node = { name?: string; type: Entry['type']; path: string; uid: number; gid: number; size?: number; mode?: number; mtime: string }

/** A line of `restic ls --json` -> Entry; undefined for the line about the snapshot itself. */
export function toEntry(line: string): Entry | undefined {
  if (!line.startsWith('{')) return undefined
  const node = JSON.parse(line) as Node
  if (node.name === undefined) return undefined
  return {
    kind: 'entry',
    path: node.path,
    type: node.type,
    size: node.size ?? 0,
    mode: permissions(node.mode ?? 0),
    uid: node.uid,
    gid: node.gid,
    mtime: inUtc(node.mtime),
  }
}

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

const files: VerbOf<'files'> = async function* (target, { snapshot, path, here }, context) {
  if (context.mode === 'explain') {
    yield explain(target, filesArgs(snapshot, path, here))
    return
  }
  const { id } = pick(await snapshotsOf(target, context), target.name, snapshot, path)
  const action = `list the files of snapshot '${id.slice(0, 8)}'`
  let count = 0
  for await (const lines of resticLines(target, filesArgs(id, path, here), context, { action })) {
    const entries: Entry[] = []
    for (const line of lines) {
      const entry = toEntry(line)
      if (entry && !(here && entry.path === path)) entries.push(entry)
    }
    count += entries.length
    if (entries.length > 0) yield entries
  }
  if (count === 0 && path !== undefined && !here) throw new Failure('empty', `snapshot '${id.slice(0, 8)}' has no '${path}'`)
}
export default files
