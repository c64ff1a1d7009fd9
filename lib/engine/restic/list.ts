// The snapshots of a target, the newest first.
import type { Target, VerbOf, Verbs } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import type { CommandLine } from '../../rows.ts'
import { quote } from '../../shell.ts'
import { listed } from '../../snapshots.ts'
import { targetTags } from '../../target.ts'
import { eachSnapshot } from './byhand.ts'
import { snapshotsOf } from './snapshots.ts'
import { explain } from './tool.ts'

const list: VerbOf<'list'> = async function* (target, options, context) {
  if (options.removed)
    throw new Failure('misuse', 'restic keeps no record of the snapshots that were removed', {
      hint: `kedge history --verb=prune ${target.name} lists the runs that removed some, kedge log ${target.name} RUN what one of them did`,
    })
  if (context.mode === 'explain') {
    yield byHand(target, options)
    return
  }
  const { all } = options
  yield listed(await snapshotsOf(target, context, { ...(all && { all }) }), target, options, context.log)
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
