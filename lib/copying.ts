// Who copies where: COPY_TO of the targets.
import type { Target } from './contract.ts'
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
