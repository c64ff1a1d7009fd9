// diff: what changed between two snapshots. Its memory follows the changes, not the tree.
import { compared } from '../../comparison.ts'
import type { RunContext, Target, VerbOf, Verbs } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import type { Change, CommandLine, Snapshot } from '../../rows.ts'
import { comment } from '../../shell.ts'
import { heedFuture, pair, pick } from '../../snapshots.ts'
import { lookup, onSnapshot } from './byhand.ts'
import { type Changed, type Changes, liveArgs, liveChanges } from './live.ts'
import { snapshotsOf } from './snapshots.ts'
import { explain, jsonLine, resticLines, version } from './tool.ts'

type Options = Verbs['diff']['options']

export const diffArgs = (old: string, newer: string, metadata = false): string[] => [
  'diff',
  '--json',
  '--no-lock',
  ...(metadata ? ['--metadata'] : []),
  old,
  newer,
]

/** What lies in these folders; `below`: and all below them. No folder: everything. */
export const sizesArgs = (snapshot: string, { folders, below }: Cover): string[] => [
  'ls',
  '--json',
  '--no-lock',
  ...(below && folders.length > 0 ? ['--recursive'] : []),
  '--',
  snapshot,
  ...folders,
]

const diff: VerbOf<'diff'> = async function* (target, options, context) {
  if (context.mode === 'explain') {
    yield* explained(target, options)
    return
  }
  const snapshots = await snapshotsOf(target, context)
  heedFuture(snapshots, [options.old, options.newer ?? options.old], context)
  if (options.live) {
    const old = pick(snapshots, target, options.old ?? 'latest')
    const live = await liveChanges(target, old, context)
    yield* compared({ target: target.name, old, newer: undefined, top: options.top }, batched(live.rows), () => live.stored, context)
    return
  }
  const [old, newer] = pair(snapshots, target, options.old, options.newer)
  const { rows, stored } = await changesBetween(target, old, newer, options.metadata === true, context)
  yield* compared({ target: target.name, old, newer, top: options.top }, batched(rows), () => stored, context)
}
export default diff

const byChange: Readonly<Record<string, Change['change']>> = { '+': '+', '-': '-', M: 'M', T: 'T', U: 'U' }

async function changesBetween(target: Target, old: Snapshot, newer: Snapshot, metadata: boolean, context: RunContext): Promise<Changes> {
  const rows = new Map<string, Changed>()
  let stored = 0
  const action = `compare the snapshots '${old.id.slice(0, 8)}' and '${newer.id.slice(0, 8)}'`
  for await (const lines of resticLines(target, diffArgs(old.id, newer.id, metadata), context, { action })) {
    for (const line of lines) {
      const message = jsonLine<{ message_type: string; path: string; modifier: string; added?: { bytes?: number } }>(line)
      if (message?.message_type === 'statistics') stored = message.added?.bytes ?? 0
      if (message?.message_type !== 'change') continue
      // 'M?' is bit rot, 'TU' a type with other metadata.
      const change = message.modifier.includes('?') ? '?' : byChange[message.modifier.slice(0, 1)]
      if (!change)
        throw new Failure('tool', `cannot ${action}: restic calls '${message.path}' '${message.modifier}', which kedge does not know`)
      rows.set(message.path, { change })
    }
  }
  await addSizes(target, old, rows, 'before', context)
  await addSizes(target, newer, rows, 'after', context)
  return { rows, stored }
}

async function addSizes(
  target: Target,
  snapshot: Snapshot,
  rows: Map<string, Changed>,
  side: 'before' | 'after',
  context: RunContext,
): Promise<void> {
  const absent = side === 'before' ? '+' : '-'
  const paths = [...rows].flatMap(([path, { change }]) => (path.endsWith('/') || change === absent ? [] : [path]))
  if (paths.length === 0) return
  const action = `list the files of snapshot '${snapshot.id.slice(0, 8)}'`
  for await (const lines of resticLines(target, sizesArgs(snapshot.id, cover(paths, 64)), context, { action })) {
    for (const line of lines) {
      const node = jsonLine<{ path?: string; type?: string; size?: number }>(line)
      const changed = node?.path === undefined ? undefined : rows.get(node.path)
      if (changed && node?.type === 'file') changed[side] = node.size ?? 0
    }
  }
}

export type Cover = { folders: readonly string[]; below: boolean }

/** At most `most` folders that hold all paths: restic skips what lies elsewhere. No folder: everything. */
export function cover(paths: readonly string[], most: number): Cover {
  // A name that is no UTF-8 cannot be asked for.
  if (paths.some((path) => path.includes('\ufffd'))) return { folders: [], below: true }
  const parents = new Set(paths.map((path) => path.slice(0, path.lastIndexOf('/')) || '/'))
  if (parents.size <= most) return { folders: [...parents], below: false }
  const names = [...parents].map((path) => path.split('/'))
  for (let depth = Math.max(...names.map(({ length }) => length)) - 1; depth > 1; depth--) {
    const folders = new Set(names.map((each) => each.slice(0, depth).join('/') || '/'))
    if (folders.size <= most) return { folders: [...folders], below: true }
  }
  return { folders: [], below: true }
}

function* batched(rows: ReadonlyMap<string, Changed>): Generator<Change[]> {
  let pending: Change[] = []
  for (const [path, changed] of rows) {
    pending.push({ kind: 'change', path, ...changed })
    if (pending.length < 1000) continue
    yield pending
    pending = []
  }
  yield pending
}

async function* explained(target: Target, { old, newer, live, metadata, top }: Options): AsyncGenerator<CommandLine> {
  if (top !== undefined) yield comment('with --top kedge groups by folder the sizes that restic ls gives: restic itself lists each file')
  if (live) {
    const restic = await version(target)
    yield* onSnapshot(target, { snapshot: old ?? 'latest' }, (id) => liveArgs(target, target.paths, id, restic))
    return
  }
  const [before, after] = [lookup(target, old ?? 'latest-1', 'old'), lookup(target, newer ?? 'latest', 'newer')]
  yield* [...before.lines, ...after.lines]
  const args = ['diff', '--no-lock', ...(metadata ? ['--metadata'] : [])]
  yield { kind: 'command', command: `${explain(target, args).command} ${before.word} ${after.word}` }
}
