// Shrink and churn: a backup far from the target's own history is kept, but called suspect. Pure.

import { bytes } from './format.ts'
import type { Summary } from './rows.ts'

const enough = 3

const median = (numbers: readonly number[]): number => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0

/** Why a backup is suspect, or undefined. `history`: earlier good summaries of the same source. Limits in percent, 0 is off. */
export function suspicious(summary: Summary, history: readonly Summary[], limits: { shrink: number; churn: number }): string | undefined {
  if (history.length < enough) return undefined
  const usual = { bytes: median(history.map((each) => each.bytes)), files: median(history.map((each) => each.files)) }
  if (limits.shrink > 0) {
    if (summary.bytes * 100 < usual.bytes * limits.shrink) return `it shrank: ${bytes(summary.bytes)}, usually ${bytes(usual.bytes)}`
    if (summary.files * 100 < usual.files * limits.shrink) return `it shrank: ${summary.files} files, usually ${usual.files}`
  }
  const share = (each: Summary) => (each.files > 0 ? (100 * (each.changed ?? 0)) / each.files : 0)
  const most = Math.max(...history.map(share))
  if (limits.churn > 0 && share(summary) > limits.churn && share(summary) > 2 * most && (summary.changed ?? 0) >= 10)
    return `${Math.round(share(summary))} % of the files changed, at most ${Math.round(most)} % before`
  return undefined
}
