// Hold: an empty file `hold` in the snapshot's folder keeps it for ever.
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { VerbOf } from '../../contract.ts'
import { toDisk } from '../../inplace.ts'
import { checkIds, pickAll, refuseShared } from '../../named.ts'
import { snapshotsOf } from './snapshots.ts'
import { verifyIdentity } from './store.ts'
import { takeStoreLocks } from './storelock.ts'
import { explain } from './tool.ts'

const hold: VerbOf<'hold'> = async function* (target, { ids, release }, context) {
  const verb = release ? 'release' : 'hold'
  checkIds(target.engine, ids, verb)
  const choose = async () => {
    const { rows, of } = await snapshotsOf(target, context)
    return pickAll(rows, target, ids).map((snapshot) => ({ snapshot, dir: of(snapshot).dir }))
  }
  if (context.mode === 'explain') {
    const files = (await choose()).map(({ dir }) => join(dir, 'hold'))
    yield explain(target, release ? ['rm', '-f', ...files] : ['touch', ...files])
    return
  }
  verifyIdentity(target, context, verb)
  const dryRun = context.mode === 'dry-run'
  const lock = dryRun ? undefined : await takeStoreLocks(target, context, verb)
  try {
    const chosen = await choose()
    refuseShared(
      target,
      chosen.map(({ snapshot }) => snapshot),
      verb,
    )
    const [done, would] = release ? (['released', 'would release'] as const) : (['held', 'would hold'] as const)
    for (const { snapshot, dir } of chosen) {
      if (!dryRun && (snapshot.held === true) === release) {
        if (release) rmSync(join(dir, 'hold'))
        else writeFileSync(join(dir, 'hold'), '', { mode: 0o600 })
        await toDisk(dir)
      }
      yield { kind: 'marked', target: target.name, action: dryRun ? would : done, id: snapshot.id, ...(dryRun && { dryRun }) }
    }
  } finally {
    await lock?.release()
  }
}
export default hold
