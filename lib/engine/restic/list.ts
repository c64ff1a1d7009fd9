// The snapshots of a target, the newest first.
import type { VerbOf } from '../../contract.ts'
import { snapshotsArgs, snapshotsOf } from './snapshots.ts'
import { explain } from './tool.ts'

const list: VerbOf<'list'> = async function* (target, { latest, stream, all }, context) {
  if (context.mode === 'explain') {
    yield explain(target, snapshotsArgs(target, { ...(all && { all }) }))
    return
  }
  const snapshots = await snapshotsOf(target, context, { ...(all && { all }) })
  const wanted = stream === undefined ? snapshots : snapshots.filter((each) => each.stream === stream)
  yield latest === undefined ? wanted : wanted.slice(0, latest)
}
export default list
