// From when a scheduler counts each duty's due times: from the last attempt, its own or anybody's (last.json), and for a duty that was
// never tried from when it was first seen. Kept in STATE/.scheduler/since.json, so that a reboot, or `--once` from cron, counts on from there.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { Failure } from '../failure.ts'
import { readJson, readLast, replaceFile } from '../ledger.ts'
import { stateDir } from '../paths.ts'
import type { Complaints } from './complaints.ts'
import { type Duty, latestOf } from './duty.ts'

export type Attempts = {
  /** Milliseconds. */
  since: (duty: Duty, now: number) => Promise<number>
  /** An attempt begins: whether it leaves a record or not, the same due time is not tried again. */
  begin: (duty: Duty, now: number) => void
  /** Writes what is new; forgets what is not `kept`. Trouble is said once: the schedule goes on without. */
  save: (kept: (key: string) => boolean) => Promise<void>
}

export const schedulerDir = (): string => stateDir('.scheduler')
const file = () => join(schedulerDir(), 'since.json')

export async function readAttempts(complaints: Complaints): Promise<Attempts> {
  const read = Object.entries((await readJson<Record<string, unknown>>(file())) ?? {})
  const known = new Map(read.filter((entry): entry is [string, number] => Number.isFinite(entry[1])))
  let changed = false
  const note = (key: string, at: number) => {
    known.set(key, at)
    changed = true
  }
  return {
    async since(duty, now) {
      const found = latestOf([known.get(duty.key), await lastOf(duty)], now)
      if (found === undefined) note(duty.key, now)
      return found ?? now
    },
    begin: (duty, now) => note(duty.key, now),
    async save(kept) {
      for (const key of known.keys()) if (!kept(key)) changed = known.delete(key)
      if (!changed) return
      changed = false
      try {
        mkdirSync(schedulerDir(), { recursive: true, mode: 0o700 })
        await replaceFile(file(), JSON.stringify(Object.fromEntries(known)), 0o640, false)
        complaints.settle(file())
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === undefined) throw error
        const text = `cannot note in '${file()}' what was tried: ${(error as Error).message}`
        complaints.make(file(), new Failure('tool', text, { cause: error }))
      }
    },
  }
}

/** When the verb ran for the last time, whoever started it and however it ended. */
async function lastOf({ target, verb }: Duty): Promise<number | undefined> {
  const run = target ? (await readLast(stateDir(target)))[verb]?.last : undefined
  const at = Date.parse(run?.start ?? '')
  return Number.isNaN(at) ? undefined : at
}
