// What is known of a target without opening its store: its last runs, what runs now, its sizes. Read for thousands of targets at once,
// thus with few calls, none of them deferred (a promise a file costs more than the file), and few imports.
import { existsSync, readFileSync } from 'node:fs'
import type { KeptLag } from './lag.ts'
import { completed, type Last } from './ledger.ts'
import type { Memory } from './notify/memory.ts'
import type { Alive } from './process.ts'
import type { Sizes } from './rows.ts'
import type { Running } from './running.ts'

/** A run that is not over, as far as its files tell; `lock`: the one that it holds. */
export type Live = Running & { alive: Alive; lock?: string }
/** `running`: the state files of runs by their place (running.ts), of living and of dead ones. */
export type Overview = {
  readonly last: Last
  readonly sizes: Sizes | undefined
  /** What each second store lacks. */
  readonly lags: readonly KeptLag[]
  /** How the channels of NOTIFY did when they were last tried. */
  readonly channels: Memory['channels']
  readonly running: ReadonlyMap<string, Running>
}

/** `state`: the target's state folder; `running`: what running.ts found of it. */
export function overviewOf(state: string, running: ReadonlyMap<string, Running>): Overview {
  const [sizes, lags, notify] = [`${state}/sizes.json`, `${state}/copies.json`, `${state}/notify.json`]
  // To look first is a tenth of the cost of an error.
  return {
    last: completed(parsed<Last>(`${state}/last.json`)),
    sizes: existsSync(sizes) ? parsed<Sizes>(sizes) : undefined,
    lags: (existsSync(lags) ? parsed<KeptLag[]>(lags) : undefined) ?? [],
    channels: (existsSync(notify) ? parsed<Memory>(notify) : undefined)?.channels ?? {},
    running,
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
