// A target's samples for the metrics, prepared when a run or a measurement ends: an agent asks for a thousand targets every 15 seconds.
import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { Context } from './contract.ts'
import { Failure } from './failure.ts'
import type { KeptLag } from './lag.ts'
import { makeState, replaceFile } from './ledger.ts'
import { take } from './lock.ts'
import { type Samples, samplesOf } from './metrics.ts'
import { overviewOf } from './overview.ts'
import { stateDir } from './paths.ts'
import type { Sizes } from './rows.ts'
import { lockDir } from './running.ts'

type Prepared = {
  format: string
  target: string
  /** When the newest run began, in milliseconds. */
  at: number
  lags: readonly KeptLag[]
  samples: Samples
}

// Another kedge may know other metrics.
declare const KEDGE_VERSION: string
const file = (state: string) => join(state, 'metrics.json')

/** `state`: the target's folder. The caller holds the ledger's lock. */
export async function prepare(state: string): Promise<void> {
  const target = basename(state)
  const overview = overviewOf(state, new Map())
  const starts = Object.values(overview.last).map(({ last }) => Date.parse(last.start))
  const samples = samplesOf({ target, overview, live: [] }, new Date())
  const prepared: Prepared = { format: KEDGE_VERSION, target, at: Math.max(0, ...starts), lags: overview.lags, samples }
  await replaceFile(file(state), JSON.stringify(prepared), 0o640, false) // made anew with each run
}

/** What is prepared for a target; undefined where that is not so: no run yet, another version's, or made under another name. */
export function prepared(state: string, target: string): Prepared | undefined {
  try {
    const found = JSON.parse(readFileSync(`${state}/metrics.json`, 'utf8')) as Prepared
    return found.format === KEDGE_VERSION && found.target === target ? found : undefined
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' && !(error instanceof SyntaxError)) throw error
    return undefined
  }
}

/** Keeps sizes for the metrics; who may not write there has seen them, and the metrics keep the older ones. */
export async function writeSizes(sizes: Sizes, context: Pick<Context, 'log' | 'signal'>): Promise<void> {
  const state = stateDir(sizes.target)
  try {
    makeState(state)
    const lock = await take(lockDir(sizes.target), 'ledger', { run: 'stats', verb: 'stats' }, { wait: 30, signal: context.signal })
    try {
      await replaceFile(join(state, 'sizes.json'), JSON.stringify(sizes))
      await prepare(state)
    } finally {
      await lock.release()
    }
  } catch (error) {
    const code = error instanceof Failure ? error.class : (error as NodeJS.ErrnoException).code
    if (!['EACCES', 'EPERM', 'EROFS', 'permission'].includes(code ?? '')) throw error
    context.log(`the sizes are not kept for the metrics: ${(error as Error).message}`)
  }
}
