// The snapshots of a target, the newest first.
import type { Target, VerbOf, Verbs } from '../../contract.ts'
import type { CommandLine } from '../../rows.ts'
import { quote } from '../../shell.ts'
import { targetTags } from '../../target.ts'
import { eachSnapshot } from './byhand.ts'
import { snapshotsOf } from './snapshots.ts'
import { explain } from './tool.ts'

const list: VerbOf<'list'> = async function* (target, options, context) {
  const { latest, stream, all } = options
  if (context.mode === 'explain') {
    yield byHand(target, options)
    return
  }
  const snapshots = await snapshotsOf(target, context, { ...(all && { all }) })
  const wanted = stream === undefined ? snapshots : snapshots.filter((each) => each.stream === stream)
  if (stream !== undefined && wanted.length === 0) {
    const names = [...new Set(snapshots.flatMap((each) => each.stream ?? []))].sort()
    const there = names.length > 0 ? `: there are ${names.map((name) => `'${name}'`).join(', ')}` : ''
    context.log(`'${target.name}' has no snapshot of a stream '${stream}'${there}`)
  }
  yield latest === undefined ? wanted : wanted.slice(0, latest)
}
export default list

/** restic's own --latest counts each set of paths and each host apart. */
function byHand(target: Target, { latest, stream, all }: Verbs['list']['options']): CommandLine {
  const ofStream = stream === undefined ? [] : [`stream:${stream}`]
  const tags = all ? ofStream : targetTags(target).map((tag) => [tag, ...ofStream].join(','))
  const { command } = explain(target, ['snapshots', '--no-lock', '--compact', ...tags.flatMap((tag) => ['--tag', tag])])
  if (latest === undefined) return { kind: 'command', command }
  return { kind: 'command', command: `${command} | awk ${quote(eachSnapshot('print'))} | tail -n ${latest}` }
}
