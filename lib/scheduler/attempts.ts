// From when a scheduler counts each duty's due times: from the last attempt, its own or anybody's (last.json), and for a duty that was
// never tried from when it was first seen. Kept in STATE/.scheduler/since.json, each with its schedule, so that a reboot, or `--once` from
// cron, counts on from there, and what a target had scheduled is known while it does not load.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { Failure } from '../failure.ts'
import { readJson, readLast, replaceFile } from '../ledger.ts'
import { stateDir } from '../paths.ts'
import type { Schedule } from '../schedule/verbs.ts'
import type { Complaints } from './complaints.ts'
import { type Duty, dutyFrom, latestOf } from './duty.ts'

/** `since`: milliseconds; absent where the runs on record tell. */
type Known = { readonly since?: number; readonly schedule: Schedule }

export type Attempts = {
  /** Milliseconds. */
  since: (duty: Duty, now: number) => Promise<number>
  /** An attempt begins: whether it leaves a record or not, the same due time is not tried again. */
  begin: (duty: Duty, now: number) => void
  /** What is known of, as it was scheduled when it was last seen. */
  remembered: () => Duty[]
  /** Writes what is new; forgets what is not `kept`. Trouble is said once: the schedule goes on without. */
  save: (kept: (key: string) => boolean) => Promise<void>
}

export const schedulerDir = (): string => stateDir('.scheduler')
const file = () => join(schedulerDir(), 'since.json')

export async function readAttempts(complaints: Complaints): Promise<Attempts> {
  const read = Object.entries((await readJson<Record<string, unknown>>(file())) ?? {})
  const known = new Map(read.filter((entry): entry is [string, Known] => isKnown(entry[1])))
  let changed = false
  const note = (key: string, what: Known) => {
    known.set(key, what)
    changed = true
  }
  return {
    async since({ key, schedule, ...duty }, now) {
      const before = known.get(key)
      const found = latestOf([before?.since, await lastOf(duty)], now)
      if (found === undefined) note(key, { since: now, schedule })
      else if (!isDeepStrictEqual(before?.schedule, schedule)) note(key, { ...before, schedule })
      return found ?? now
    },
    begin: ({ key, schedule }, now) => note(key, { since: now, schedule }),
    remembered: () => [...known].flatMap(([key, { schedule }]) => dutyFrom(key, schedule) ?? []),
    async save(kept) {
      for (const key of known.keys()) if (!kept(key)) changed = known.delete(key)
      if (!changed) return
      try {
        mkdirSync(schedulerDir(), { recursive: true, mode: 0o700 })
        await replaceFile(file(), JSON.stringify(Object.fromEntries(known)), 0o640, false)
        changed = false
        complaints.settle(file())
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === undefined) throw error
        const text = `cannot note in '${file()}' what was tried: ${(error as Error).message}`
        complaints.make(file(), new Failure('tool', text, { cause: error }))
      }
    },
  }
}

function isKnown(value: unknown): value is Known {
  const { since, schedule } = (value ?? {}) as { since?: unknown; schedule?: Record<string, unknown> | null }
  const { expression, zone, seed, offsetSeconds } = schedule ?? {}
  const isTime = since === undefined || Number.isFinite(since)
  return isTime && [expression, zone, seed].every((text) => typeof text === 'string') && Number.isFinite(offsetSeconds)
}

/** When the verb ran for the last time, whoever started it and however it ended. */
async function lastOf({ target, verb }: Pick<Duty, 'target' | 'verb'>): Promise<number | undefined> {
  const run = target ? (await readLast(stateDir(target)))[verb]?.last : undefined
  const at = Date.parse(run?.start ?? '')
  return Number.isNaN(at) ? undefined : at
}
