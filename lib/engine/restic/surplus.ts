// restore --in-place --delete: what would go, asked of restic first.
import type { RunContext, Target } from '../../contract.ts'
import { keptBack, leftOut, mounted } from '../../leftout.ts'
import { extract } from './extract.ts'
import { localRepository, resticEnv } from './tool.ts'

/** `args`: the restore's, as a preview; `roots`: the paths that the snapshot holds. Gives the paths that would be deleted; Failure 'refused' when one must not be. */
export async function surplus(target: Target, args: readonly string[], roots: readonly string[], context: RunContext): Promise<string[]> {
  const found: string[] = []
  await extract(target, args, context, {
    action: `see what a restore of '${target.name}' would delete`,
    onDeleted: (path) => found.push(path),
  })
  const reasonOf = await leftOut(target, localRepository(target), resticEnv(target, context.secrets))
  for (const path of found) {
    const reason = reasonOf(path) ?? (target.env.ONE_FILE_SYSTEM === 'no' ? undefined : mounted(path, roots))
    if (reason) throw keptBack(path, reason)
  }
  return found
}
