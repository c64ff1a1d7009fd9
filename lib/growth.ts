// How fast a target's store grows, and when its disk is full: from what its backups added. Pure.
import type { RunRow } from './rows.ts'

const day = 86_400
/** Seconds of the past that count. */
export const growthWindow = 30 * day

/** When good backups began, in seconds since 1970, and the bytes that they added. */
export function additions(runs: Iterable<RunRow>): { at: number; added: number }[] {
  const found: { at: number; added: number }[] = []
  for (const run of runs) {
    if (run.verb !== 'backup') continue
    let added: number | undefined
    for (const row of run.results ?? []) if (row.kind === 'summary' && !row.dryRun) added = (added ?? 0) + row.added
    if (added !== undefined) found.push({ at: Date.parse(run.start) / 1000, added })
  }
  return found
}

/**
 * Bytes a day, from the first to the last of these backups; what the first itself added came before. null where they span less than a
 * day. What prune takes away again is not in it: it is what comes, not what stays.
 */
export function growthPerDay(backups: readonly { at: number; added: number }[]): number | null {
  const sorted = backups.toSorted((a, b) => a.at - b.at)
  const span = (sorted.at(-1)?.at ?? 0) - (sorted[0]?.at ?? 0)
  if (span < day) return null
  return Math.round((sorted.slice(1).reduce((sum, { added }) => sum + added, 0) / span) * day)
}

/** Seconds until `free` bytes are used up; null where nothing grows or the space is not known. */
export function fullIn(free: number | null, perDay: number | null): number | null {
  return free === null || perDay === null || perDay <= 0 ? null : Math.round((free / perDay) * day)
}
