// Who copies where: COPY_TO of the targets.
import { join } from 'node:path'
import type { Target, Verbs } from './contract.ts'
import { Failure } from './failure.ts'
import { words } from './keys.ts'
import { loadTarget, targetNames } from './target.ts'

/** The targets whose COPY_TO names this one. A target that does not load is left out: it copies nowhere. */
export async function copiersTo(name: string): Promise<Target[]> {
  const found: Target[] = []
  for (const each of await targetNames()) {
    if (each === name) continue
    const target = await loadTarget(each).catch((error) => {
      if (error instanceof Failure) return undefined
      throw error
    })
    if (target && words(target.env.COPY_TO).includes(name)) found.push(target)
  }
  return found
}

/**
 * The targets to whose stores `target` copies: those of COPY_TO, or of them the `wanted` ones. One that does not load keeps the others
 * from nothing: it is a fault; thrown where no other is left.
 */
export async function copiesOf(target: Target, wanted: readonly string[]): Promise<Verbs['copy']['options']> {
  const named = words(target.env.COPY_TO)
  const hint = `COPY_TO= in ${join(target.dir, 'target.env')} names the targets to whose stores it may copy`
  if (named.length === 0) throw new Failure('config', `target '${target.name}' has no COPY_TO`, { hint })
  if (named.includes(target.name)) throw new Failure('config', `COPY_TO of target '${target.name}' names itself`, { hint })
  const unknown = wanted.find((name) => !named.includes(name))
  if (unknown !== undefined) throw new Failure('misuse', `COPY_TO of target '${target.name}' does not name '${unknown}'`, { hint })
  const to: Target[] = []
  const faults: { store: string; error: Failure }[] = []
  for (const store of wanted.length > 0 ? new Set(wanted) : new Set(named)) {
    try {
      const second = await loadTarget(store)
      if (second.engine !== target.engine)
        throw new Failure('config', `cannot copy '${target.name}' to '${store}': ${target.engine} does not copy to ${second.engine}`)
      to.push(second)
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      faults.push({ store, error })
    }
  }
  const [fault] = faults
  if (fault && to.length === 0) throw fault.error
  return { to, faults }
}
