// Backups that are judged by the target's own history as they come.
import type { RunContext, Target } from '../contract.ts'
import { shortId } from '../format.ts'
import { readMarks, writeMarks } from '../marks.ts'
import type { Summary } from '../rows.ts'
import { suspicionOf } from '../suspects.ts'

/** Marks a backup that shrank or changed far beyond the usual: prune then waits for `accept`. */
export async function suspect(target: Target, summary: Summary, warn: RunContext['warn']): Promise<void> {
  const reason = await suspicionOf(target, summary)
  if (!reason) return
  const marks = await readMarks(target.name)
  await writeMarks(target.name, { ...marks, suspects: { ...marks.suspects, [summary.snapshot]: reason } })
  warn(
    `snapshot ${shortId(summary.snapshot)} is suspect: ${reason}; prune waits for 'kedge accept ${target.name} ${shortId(summary.snapshot)}'`,
  )
}
