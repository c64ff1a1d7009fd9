// Why a backup is not to be trusted, as the target's own history has it.
import type { Target } from './contract.ts'
import { newest } from './ledger.ts'
import { type Marks, readMarks } from './marks.ts'
import { stateDir } from './paths.ts'
import type { Summary } from './rows.ts'
import { suspicious } from './suspicion.ts'

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

/** In words; undefined: it is to be trusted. What an engine has found comes first. The run itself is not in the ledger yet. */
export async function suspicionOf(target: Target, summary: Summary): Promise<string | undefined> {
  if (summary.suspect) return summary.suspect
  const history = await historyOf(target, summary, await readMarks(target.name))
  const percent = (key: string) => Number(target.env[key] || 0)
  return suspicious(summary, history, { shrink: percent('SHRINK_LIMIT'), churn: percent('CHURN_LIMIT') })
}
