// The state files of living runs: STATE/.running/TARGET@PLACE.json, from which anyone can read how far a run is. All targets' lie in one
// folder, so that an agent sees with one look that of a thousand targets nothing runs. PLACE is the run's lock, or verb-RUN without one.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Progress } from './contract.ts'
import { isAbsent } from './ledger.ts'
import { say } from './log.ts'
import { stateDir } from './paths.ts'

export type Running = { run: string; verb: string; pid: number; start: string; progress?: Progress; groups?: readonly number[] }

export const lockDir = (target: string): string => join(stateDir(target), 'lock')

const folder = (state: string) => join(dirname(state), '.running')
const file = (state: string, place: string) => join(folder(state), `${basename(state)}@${place}.json`)

/** Whether a place is the name of a lock; the others have the run's id in them. */
export const isLock = (place: string): boolean => /^\w+$/.test(place)

let written = 0
let unwritable = false

/**
 * At most once a second where it is progress; in one rename, so that a reader never sees a part. `state`: the target's folder. A disk
 * that is full must not end the backup that is stored elsewhere: it is said once, and the run goes on unseen.
 */
export function showRunning(state: string, place: string, running: Running): void {
  const now = Date.now()
  if (unwritable || (running.progress && now - written < 1000)) return
  written = now
  const name = file(state, place)
  try {
    if (!running.progress) mkdirSync(folder(state), { recursive: true, mode: 0o700 })
    writeFileSync(`${name}.new`, JSON.stringify(running), { mode: 0o640 })
    renameSync(`${name}.new`, name)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === undefined) throw error
    unwritable = true
    if (code === 'ENOSPC' || code === 'EDQUOT') for (const left of [`${name}.new`, name]) rmSync(left, { force: true })
    say(`kedge: cannot show how far the run is: ${message}`)
  }
}

/** Takes a dead run's state file away; false when another did so first. */
export function claimRunning(state: string, place: string): boolean {
  try {
    rmSync(file(state, place))
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

export function clearRunning(state: string, place: string): void {
  if (!unwritable) rmSync(file(state, place), { force: true })
}

/**
 * The state files that lie there, by target and place: of living runs, and of dead ones. The lock tells which (lock.ts, holders).
 * `states`: the folder of all targets' state.
 */
export function allRunning(states: string): Map<string, Map<string, Running>> {
  const found = new Map<string, Map<string, Running>>()
  for (const name of namesIn(join(states, '.running'))) {
    const [, target, place] = /^(.+)@([\w-]+)\.json$/.exec(name) ?? []
    if (target === undefined || place === undefined) continue
    const running = read(join(states, '.running', name))
    if (running) found.set(target, (found.get(target) ?? new Map<string, Running>()).set(place, running))
  }
  return found
}

/** Those of one target. */
export const runningOf = (target: string): ReadonlyMap<string, Running> => allRunning(dirname(stateDir(target))).get(target) ?? new Map()

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir)
  } catch (error) {
    if (!isAbsent(error)) throw error
    return []
  }
}

function read(name: string): Running | undefined {
  try {
    return JSON.parse(readFileSync(name, 'utf8')) as Running
  } catch (error) {
    // Gone meanwhile, or written by a foreign hand.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' && !(error instanceof SyntaxError)) throw error
    return undefined
  }
}
