// restore --in-place --delete: what would go, asked of restic first.
import { existsSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { shortId } from '../../format.ts'
import { guardUnknown, keptBack, leftOut, mounted } from '../../leftout.ts'
import { configDir } from '../../paths.ts'
import { held, type Job } from '../../restoring.ts'
import { isSecondStore } from '../../target.ts'
import { extract } from './extract.ts'
import { localRepository, resticEnv } from './tool.ts'

/** `args`: the restore's, as a preview. Gives the paths that would be deleted; Failure 'refused' when one must not be. */
export async function surplus(target: Target, args: readonly string[], job: Job, context: RunContext): Promise<string[]> {
  const found: string[] = []
  await extract(target, args, context, {
    action: `see what a restore of '${target.name}' would delete`,
    onDeleted: (path) => found.push(path),
  })
  const reasonOf = await leftOut(target, localRepository(target), resticEnv(target, context.secrets))
  for (const path of found) {
    const reason = reasonOf(path) ?? (target.env.ONE_FILE_SYSTEM === 'no' ? undefined : mounted(path, held(job)))
    if (reason) throw keptBack(path, reason)
  }
  const doubt = found.length > 0 && doubtOf(target, Date.parse(job.snapshot.time))
  if (doubt) guardUnknown(shortId(job.snapshot.id), doubt, context)
  return found
}

/** restic does not note what exclude files leave out: why those of today may not be those by which a snapshot was made. */
function doubtOf(target: Target, time: number): string | undefined {
  if (isSecondStore(target)) return 'another target made it, whose exclude files are not known here'
  const folders = [target.dir, configDir()]
  const files = folders.flatMap((folder) =>
    ['exclude', folder === target.dir ? 'target.env' : 'defaults.env'].map((name) => join(folder, name)),
  )
  // Of a file that is not there the folder says when it may have gone.
  const changed = files.map((file) => (existsSync(file) ? file : dirname(file))).find((file) => Math.floor(statSync(file).mtimeMs) > time)
  return changed && `'${changed}', which may say what is left out, was changed since`
}
