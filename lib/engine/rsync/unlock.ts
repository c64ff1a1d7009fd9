// unlock: the locks in the store, each with who holds it; the dead ones are broken, all of them by force.
import { join } from 'node:path'
import type { Target, VerbOf } from '../../contract.ts'
import { breakLock, holders } from '../../lock.ts'
import type { LockRow } from '../../rows.ts'
import { quote } from '../../shell.ts'
import { ownersOf, pinnedStore, verifyIdentity } from './store.ts'
import { lockDirOf } from './storelock.ts'

type Held = Awaited<ReturnType<typeof holders>>[number] & { readonly dir: string; readonly owner: string }

const unlock: VerbOf<'unlock'> = async function* (target, { force }, context) {
  pinnedStore(target, context)
  const held = await heldOf(target)
  const goes = ({ alive }: Held) => alive === 'no' || force
  if (context.mode === 'explain') {
    yield {
      kind: 'command',
      command: `cat ${ownersOf(target)
        .map((owner) => `${quote(lockDirOf(target, owner))}/*`)
        .join(' ')}`,
    }
    for (const { dir, name, n } of held.filter(goes))
      yield {
        kind: 'command',
        command: `printf '\\n{"broken":"%s"}\\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>${quote(join(dir, `${name}.${n}`))}`,
      }
    return
  }
  if (context.mode === 'dry-run' || !held.some(goes)) {
    yield held.map((each) => rowOf(target, each, goes(each) ? 'would remove' : 'kept'))
    return
  }
  verifyIdentity(target, context, 'unlock')
  for (const each of held) {
    const broken = goes(each) && (await breakLock(each.dir, each.name, each.n))
    yield rowOf(target, each, broken ? 'removed' : 'kept')
  }
}
export default unlock

async function heldOf(target: Target): Promise<Held[]> {
  const found: Held[] = []
  for (const owner of ownersOf(target)) {
    const dir = lockDirOf(target, owner)
    for (const each of await holders(dir, true)) found.push({ ...each, dir, owner })
  }
  return found
}

function rowOf(target: Target, { owner, name, n, holder, alive }: Held, action: LockRow['action']): LockRow {
  return {
    kind: 'lock',
    target: target.name,
    of: 'store',
    id: `${owner}/lock/${name}.${n}`,
    host: holder?.host ?? '',
    pid: holder?.pid ?? 0,
    time: holder?.at ?? '',
    age: holder ? Math.max(0, Math.round((Date.now() - Date.parse(holder.at)) / 1000)) : 0,
    alive,
    exclusive: true,
    action,
  }
}
