// The state files of living runs: running-LOCK.json, from which anyone can read how far a run is.
import { readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Progress } from './contract.ts'
import { readJson } from './ledger.ts'
import { stateDir } from './paths.ts'

export type Running = { run: string; verb: string; pid: number; start: string; progress?: Progress }

export const lockDir = (target: string): string => join(stateDir(target), 'lock')
const file = (state: string, place: string) => join(state, `running-${place}.json`)

let written = 0

/** At most once a second where it is progress; in one rename, so that a reader never sees a part. */
export function showRunning(state: string, place: string, running: Running): void {
  const now = Date.now()
  if (running.progress && now - written < 1000) return
  written = now
  const temporary = `${file(state, place)}.new`
  writeFileSync(temporary, JSON.stringify(running), { mode: 0o640 })
  renameSync(temporary, file(state, place))
}

export function clearRunning(state: string, place: string): void {
  rmSync(file(state, place), { force: true })
}

/** The state files that lie there: of living runs, and of dead ones. The lock tells which (lock.ts, holders). */
export async function readRunning(target: string): Promise<Running[]> {
  const state = stateDir(target)
  let names: string[]
  try {
    names = readdirSync(state)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
  const found: Running[] = []
  for (const name of names.filter((each) => /^running-.*\.json$/.test(each))) {
    const running = await readJson<Running>(join(state, name))
    if (running) found.push(running)
  }
  return found
}
