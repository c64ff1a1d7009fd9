// What is known of a target without opening its store: its last runs, what runs now, its sizes. For status, history and metrics.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Context, RunRow, Sizes } from './contract.ts'
import { type Generation, highest } from './generation.ts'
import { type Last, makeState, replaceFile } from './ledger.ts'
import { holders } from './lock.ts'
import { stateDir } from './paths.ts'
import { type Alive, exists, type Identity, judge } from './process.ts'
import { lockDir, type Running, readRunning } from './running.ts'

/** A run that is not over, as far as its files tell; `lock`: the one that it holds. */
export type Live = Running & { alive: Alive; lock?: string }
export type Overview = { readonly last: Last; readonly live: readonly Live[]; readonly sizes: Sizes | undefined }

const sizesFile = (state: string) => join(state, 'sizes.json')

/** Keeps sizes for the metrics; who may not write there has seen them, and the metrics keep the older ones. */
export async function writeSizes(sizes: Sizes, context: Pick<Context, 'log'>): Promise<void> {
  const state = stateDir(sizes.target)
  try {
    makeState(state)
    await replaceFile(sizesFile(state), JSON.stringify(sizes))
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code !== 'EACCES' && code !== 'EPERM' && code !== 'EROFS') throw error
    context.log(`the sizes are not kept for the metrics: ${message}`)
  }
}

/**
 * Read for thousands of targets at once, thus with few calls, none of them deferred, and without asking ps: a process whose number was
 * given to another counts as alive.
 */
export function overviewOf(target: string, here: Identity): Overview {
  const state = stateDir(target)
  const names = namesIn(state)
  const read = <T>(name: string) => (names.includes(name) ? parsed<T>(join(state, name)) : undefined)
  const live = names.flatMap((name) => {
    const [, place] = /^running-(.+)\.json$/.exec(name) ?? []
    const running = place === undefined ? undefined : read<Running>(name)
    return place === undefined || !running ? [] : [glance(target, place, running, here)]
  })
  return { last: read<Last>('last.json') ?? {}, live, sizes: read<Sizes>('sizes.json') }
}

function glance(target: string, place: string, running: Running, here: Identity): Live {
  const locked = isLock(place) ? current(target, place, running.run) : undefined
  if (locked?.holder) {
    const verdict = judge(locked.holder, locked.holder.groups, here, exists)
    return { ...running, alive: verdict === 'ask' ? 'yes' : verdict, lock: place }
  }
  return { ...running, alive: !isLock(place) && exists(running.pid) ? 'yes' : 'no' }
}

// A run without a lock has its id in the place's name: running-restore-20261120T074449Z-1a2b3c.json.
const isLock = (place: string) => /^\w+$/.test(place)

function current(target: string, name: string, run: string): Generation | undefined {
  const found = highest(lockDir(target), name)
  return found && !found.end && found.holder?.run === run ? found : undefined
}

/** The same, with ps asked where it is needed: runs that live, and dead ones that nobody has recorded yet. */
export async function liveRuns(target: string): Promise<Live[]> {
  const held = await holders(lockDir(target))
  const running = await readRunning(target)
  const found = new Map<string, Live>()
  for (const { holder, alive } of held)
    if (holder && holder.verb !== 'record') found.set(holder.run, { run: holder.run, verb: holder.verb, pid: holder.pid, start: holder.at, alive })
  for (const each of running) {
    const lock = found.get(each.run)
    // Without a lock (restore) the pid alone tells; where it should have one, another run has taken it since.
    found.set(each.run, { ...each, alive: lock?.alive ?? (each.verb === 'restore' && exists(each.pid) ? 'yes' : 'no') })
  }
  return [...found.values()].sort((a, b) => (a.run < b.run ? 1 : -1))
}

/** A run that is not over, as a record: running, or crashed. */
export function liveRow(target: string, live: Live, now: Date): RunRow {
  const { run, verb, start } = live
  const base = { kind: 'run', target, run, verb, start } as const
  if (live.alive !== 'no') return { ...base, state: 'running', status: 0, seconds: Math.max(0, Math.round((now.getTime() - Date.parse(start)) / 1000)) }
  return { ...base, state: 'crashed', status: 1, seconds: 0, class: 'tool', message: `its process ${live.pid} ended without a word` }
}

function namesIn(state: string): string[] {
  try {
    return readdirSync(state)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return []
  }
}

function parsed<T>(file: string): T | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as T
  } catch (error) {
    // Gone meanwhile, or written by a foreign hand.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' && !(error instanceof SyntaxError)) throw error
    return undefined
  }
}
