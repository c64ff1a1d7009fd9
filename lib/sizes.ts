// The sizes of a target's store, from what its engine measured: with growth and forecast, and kept for metrics and status.
import type { RunContext } from './contract.ts'
import { additions, fullIn, growthPerDay, growthWindow } from './growth.ts'
import { newest } from './ledger.ts'
import { stateDir } from './paths.ts'
import { writeSizes } from './prepared.ts'
import type { RunRow, Sizes } from './rows.ts'

type Measured = Pick<Sizes, 'target' | 'snapshots' | 'restore' | 'files' | 'raw' | 'free'> & {
  /** What all snapshots together would restore. */
  all: number
  /** Of `raw`; undefined where nothing tells, or nothing is compressed. */
  uncompressed?: number | undefined
}

export async function sizesOf({ all, uncompressed, ...measured }: Measured, context: RunContext): Promise<Sizes> {
  const { target, raw, free } = measured
  const perDay = growthPerDay(additions(await recentRuns(target)))
  const row: Sizes = {
    kind: 'sizes',
    time: new Date().toISOString(),
    ...measured,
    dedup: ratio(all, uncompressed ?? raw),
    compression: uncompressed === undefined ? null : ratio(uncompressed, raw),
    perDay,
    fullIn: fullIn(free, perDay),
  }
  await writeSizes(row, context)
  return row
}

const ratio = (part: number, whole: number): number | null => (whole > 0 ? Math.round((part / whole) * 1000) / 1000 : null)

async function recentRuns(target: string): Promise<RunRow[]> {
  const oldest = Date.now() - growthWindow * 1000
  const runs: RunRow[] = []
  for await (const run of newest(stateDir(target))) {
    if (Date.parse(run.start) < oldest) break
    if (run.verb === 'backup') runs.push(run)
  }
  return runs
}
