// Backups that are judged by the target's own history as they come.
import type { RunContext, Target } from '../contract.ts'
import { shortId } from '../format.ts'
import { newest } from '../ledger.ts'
import { type Marks, readMarks, writeMarks } from '../marks.ts'
import { stateDir } from '../paths.ts'
import type { Summary } from '../rows.ts'
import { suspicious } from '../suspicion.ts'

/** The last good backups of the same source, the newest first. What was accepted is the new usual: what was before it counts no more. */
async function historyOf(target: Target, summary: Summary, marks: Marks): Promise<Summary[]> {
  const found: Summary[] = []
  for await (const run of newest(stateDir(target.name))) {
    if (run.verb !== 'backup' || (run.state !== 'success' && run.state !== 'warning')) continue
    for (const row of run.results ?? []) {
      if (row.kind !== 'summary' || row.subset || row.stream !== summary.stream || marks.suspects[row.snapshot]) continue
      found.push(row)
      if (found.length >= 10 || marks.accepted.some((id) => row.snapshot.startsWith(id) || id.startsWith(row.snapshot))) return found
    }
  }
  return found
}

/** Marks a backup that shrank or changed far beyond the usual: prune then waits for `accept`. */
export async function suspect(target: Target, summary: Summary, warn: RunContext['warn']): Promise<void> {
  const marks = await readMarks(target.name)
  const history = await historyOf(target, summary, marks)
  const percent = (key: string) => Number(target.env[key] || 0)
  const reason = summary.suspect ?? suspicious(summary, history, { shrink: percent('SHRINK_LIMIT'), churn: percent('CHURN_LIMIT') })
  if (!reason) return
  await writeMarks(target.name, { ...marks, suspects: { ...marks.suspects, [summary.snapshot]: reason } })
  warn(
    `snapshot ${shortId(summary.snapshot)} is suspect: ${reason}; prune waits for 'kedge accept ${target.name} ${shortId(summary.snapshot)}'`,
  )
}
