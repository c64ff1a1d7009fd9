// How far the second stores of a target are behind, from what ran: no store is opened.
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Target } from './contract.ts'
import { words } from './keys.ts'
import { isGood, newest, replaceFile } from './ledger.ts'
import { stateDir } from './paths.ts'
import type { RunRow } from './rows.ts'

export type Lag = {
  store: string
  /** When the last copy began that left nothing missing there but what it told of; null: none is on record. */
  copied: string | null
  /** When the oldest backup began of which something is missing there; null where nothing is. */
  since: string | null
  /** How many snapshots are missing there; null for a target that saves nothing itself: its ledger does not tell. */
  behind: number | null
  /** The last copy to it, where that failed. */
  failed: { start: string; message: string } | null
}

/** What the metrics keep of it (copies.json): `since` in milliseconds, 0 where nothing is missing. */
export type KeptLag = { store: string; since: number }

/** How a warning begins that tells of one second store. */
export const ofStore = (name: string): string => `store '${name}': `

/** From the runs, the newest first; read no further than to the last copy to each store. */
export async function lagsIn(runs: AsyncIterable<RunRow> | Iterable<RunRow>, stores: readonly string[], saves: boolean): Promise<Lag[]> {
  const lags = stores.map((store): Lag => ({ store, copied: null, since: null, behind: saves ? 0 : null, failed: null }))
  const open = new Set(lags)
  for await (const run of runs) {
    if (open.size === 0) break
    const saved = run.verb === 'backup' ? (run.results ?? []).filter(({ kind }) => kind === 'summary').length : 0
    for (const lag of open) {
      if (saved > 0) {
        lag.since = run.start
        lag.behind = (lag.behind ?? 0) + saved
      }
      if (run.verb !== 'copy') continue
      // A run that failed later may have filled this store before.
      const row = run.results?.find((row) => row.kind === 'copied' && row.to === lag.store)
      if (row?.kind === 'copied') {
        lag.copied = run.start
        open.delete(lag)
        if (!row.left) continue
        lag.failed ??= troubleOf(run, lag.store)
        lag.since = row.since ?? lag.since
        lag.behind = lag.behind === null ? null : lag.behind + row.left
      } else lag.failed ??= troubleOf(run, lag.store)
    }
  }
  return lags
}

/** Null where the run was not for this store, or did not begin its work. */
function troubleOf(run: RunRow, store: string): Lag['failed'] {
  if (isGood(run) || run.state === 'skipped') return null
  const own = ofStore(store)
  const warning = run.warnings?.find((each) => each.startsWith(own))?.slice(own.length)
  const message = run.state === 'warning' ? warning : (warning ?? run.message)
  return message === undefined ? null : { start: run.start, message }
}

/** Of each store that COPY_TO names. */
export async function lagsOf(target: Target): Promise<Lag[]> {
  const stores = [...new Set(words(target.env.COPY_TO))]
  if (stores.length === 0) return []
  return await lagsIn(newest(stateDir(target.name)), stores, target.paths.length + target.streams.length > 0)
}

/** For the metrics, which know no settings. The caller holds the ledger's lock. */
export async function keepLags(target: Target): Promise<void> {
  const file = join(stateDir(target.name), 'copies.json')
  const lags = await lagsOf(target)
  if (lags.length === 0) return await rm(file, { force: true })
  const kept = lags.flatMap(({ store, since, behind }): KeptLag[] =>
    behind === null ? [] : [{ store, since: since === null ? 0 : Date.parse(since) }],
  )
  await replaceFile(file, JSON.stringify(kept), 0o640, false) // made anew with each run
}
