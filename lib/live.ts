// Runs that are not over: which of them live, and which died without a word.

import { highest } from './generation.ts'
import { holders } from './lock.ts'
import type { Live } from './overview.ts'
import { exists, type Identity, identity, judge } from './process.ts'
import type { RunRow } from './rows.ts'
import { isLock, lockDir, type Running, runningOf } from './running.ts'

let here: Identity | undefined

/**
 * Whether a run lives, without asking ps: a process whose number was given to another counts as alive, and children that outlive kedge by
 * some seconds do not count, since their zombies look the same. `place`: as in running.ts.
 */
export function glance(target: string, place: string, running: Running): Live {
  if (!isLock(place)) return { ...running, alive: exists(running.pid) ? 'yes' : 'no' }
  const found = highest(lockDir(target), place)
  // Released, or taken by another since: the file was left behind.
  if (!found?.holder || found.end || found.holder.run !== running.run) return { ...running, alive: 'no' }
  here ??= identity()
  const verdict = judge(found.holder, [], here, exists)
  return { ...running, alive: verdict === 'ask' ? 'yes' : verdict, lock: place }
}

/** All runs of a target that are not over, the newest first; ps is asked where it is needed. */
export async function liveRuns(target: string): Promise<Live[]> {
  const found = new Map<string, Live>()
  for (const { name, holder, alive } of await holders(lockDir(target))) {
    if (!holder || name === 'ledger') continue
    if (holder.of !== undefined && alive === 'no') continue // its own target tells that it crashed
    found.set(holder.run, { run: holder.run, verb: holder.verb, pid: holder.pid, start: holder.at, alive, lock: name })
  }
  for (const running of runningOf(target).values()) {
    const held = found.get(running.run)
    // Only restore has no lock: its pid alone tells.
    const alive = running.verb === 'restore' && exists(running.pid) ? 'yes' : 'no'
    found.set(running.run, held ? { ...running, alive: held.alive, ...(held.lock && { lock: held.lock }) } : { ...running, alive })
  }
  return [...found.values()].sort((a, b) => (a.run < b.run ? 1 : -1))
}

/** A run that is not over, as a record: running, or crashed. */
export function liveRow(target: string, { run, verb, start, pid, alive }: Live, now: Date): RunRow {
  const base = { kind: 'run', target, run, verb, start } as const
  if (alive === 'no')
    return { ...base, state: 'crashed', status: 1, seconds: 0, class: 'tool', message: `its process ${pid} ended without a word` }
  return { ...base, state: 'running', status: 0, seconds: Math.max(0, Math.round((now.getTime() - Date.parse(start)) / 1000)) }
}
