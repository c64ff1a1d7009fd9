// The runs of a target, whatever its configuration is like: from the ledger, and those that are not over.
import { existsSync } from 'node:fs'
import { Failure } from './failure.ts'
import { isGood, newest } from './ledger.ts'
import { liveRow, liveRuns } from './live.ts'
import { nearest } from './nearest.ts'
import { stateDir } from './paths.ts'
import type { RunRow } from './rows.ts'
import { checkName, targetNames } from './target.ts'

/** The state folder of a target that exists, or whose state is left; Failure 'misuse' for another name. */
export async function knownState(target: string): Promise<string> {
  const state = stateDir(checkName(target))
  if (existsSync(state)) return state
  const names = await targetNames()
  if (names.includes(target)) return state
  const like = nearest(target, names)
  throw new Failure('misuse', `no target '${target}'`, { hint: like ? `did you mean '${like}'?` : 'kedge targets lists them' })
}

/** Newest first. Runs that died and were not recorded yet are in it as crashed. Torn lines of the ledger go to `onTorn`. */
export async function* runsOf(target: string, onTorn: (line: string) => void): AsyncGenerator<RunRow> {
  const live = await liveRuns(target)
  const open = new Map(live.map((each) => [each.run, liveRow(target, each, new Date())]))
  for await (const run of newest(stateDir(target), onTorn)) {
    open.delete(run.run)
    for (const [id, row] of open) {
      // One that lives beside a later one that is over: in its place by time.
      if (id < run.run) continue
      open.delete(id)
      yield row
    }
    yield run
  }
  yield* open.values()
}

/** Whether a run did all that was asked; what is not over has not failed. */
export const failed = (run: RunRow): boolean => run.state !== 'running' && run.state !== 'skipped' && !isGood(run)

/** The run that an operator names by its id or the beginning of it; the newest without. */
export async function pickRun(target: string, name: string | undefined): Promise<RunRow> {
  const found: RunRow[] = []
  for await (const run of runsOf(target, () => undefined)) {
    if (name === undefined || run.run === name) return run
    if (run.run.startsWith(name)) found.push(run)
  }
  const [first, second] = found
  if (!first)
    throw new Failure('empty', name === undefined ? `target '${target}' has no run` : `target '${target}' has no run '${name}'`, {
      hint: `kedge history ${target} lists them`,
    })
  if (second) throw new Failure('misuse', `several runs of target '${target}' begin with '${name}'`, { hint: 'give more of the id' })
  return first
}
