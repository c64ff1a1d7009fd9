// Where a name occurs in the snapshots of a target.
import type { Target, VerbOf, Verbs } from '../../contract.ts'
import { nothingFound, parsePattern } from '../../pattern.ts'
import type { Match } from '../../rows.ts'
import { heedFuture, pick } from '../../snapshots.ts'
import { targetTags } from '../../target.ts'
import { onSnapshot } from './byhand.ts'
import { snapshotsOf } from './snapshots.ts'
import { askRestic, explain } from './tool.ts'

export function findArgs(target: Target, { patterns, ignoreCase, snapshot }: Verbs['find']['options']): string[] {
  const within = snapshot ? ['--snapshot', snapshot] : targetTags(target).flatMap((tag) => ['--tag', tag])
  return ['find', '--json', '--no-lock', ...(ignoreCase ? ['--ignore-case'] : []), ...within, '--', ...patterns]
}

type Found = { snapshot: string; matches: readonly { path: string; type: string; size?: number; mtime: string }[] | null }

const find: VerbOf<'find'> = async function* (target, options, context) {
  for (const pattern of options.patterns) parsePattern(pattern)
  if (context.mode === 'explain') {
    const { snapshot } = options
    if (snapshot === undefined)
      yield explain(
        target,
        findArgs(target, options).filter((arg) => arg !== '--json'),
      )
    else yield* onSnapshot(target, { snapshot }, (id) => findArgs(target, { ...options, snapshot: id }))
    return
  }
  const snapshots = await snapshotsOf(target, context)
  heedFuture(snapshots, [options.snapshot ?? ''], context)
  const one = options.snapshot === undefined ? undefined : pick(snapshots, target, options.snapshot)
  const args = findArgs(target, { ...options, ...(one && { snapshot: one.id }) })
  const text = await askRestic(target, args, context, { action: `search the snapshots of '${target.name}'` })
  const times = new Map(snapshots.map(({ id, time }) => [id, time]))
  const rows: Match[] = []
  for (const { snapshot, matches } of JSON.parse(text || '[]') as Found[]) {
    const time = times.get(snapshot) ?? ''
    for (const { path, type, size, mtime } of matches ?? [])
      rows.push({ kind: 'match', target: target.name, snapshot, time, path, type, size: size ?? 0, mtime: new Date(mtime).toISOString() })
  }
  if (rows.length === 0) throw nothingFound(target.name, options.patterns)
  yield rows.sort((a, b) => (a.time < b.time ? 1 : a.time > b.time ? -1 : a.path < b.path ? -1 : 1))
}
export default find
