// What a new snapshot is judged by besides itself: the ledger says what runs made, the store and its audit what became of that.
import type { Target } from '../../contract.ts'
import { newest, readLast } from '../../ledger.ts'
import { stateDir } from '../../paths.ts'
import type { RunRow, Summary } from '../../rows.ts'
import { suspicionOf } from '../../suspects.ts'
import { readAudit } from './audit.ts'
import { idsIn, type Stored } from './snapshots.ts'
import { openStore, ownersOf, rootOf } from './store.ts'

type Judged = { readonly summary: Summary; readonly stored: Stored }

/** Both with the reason why the snapshot is not to be trusted, where there is one: the store has to say it from its first moment. */
export async function judged(target: Target, { summary, stored }: Judged): Promise<Judged> {
  if (summary.subset) return { summary, stored }
  const suspect = summary.suspect ?? (await lostBase(target, summary)) ?? (await suspicionOf(target, summary))
  return suspect ? { summary: { ...summary, suspect }, stored: { ...stored, suspect } } : { summary, stored }
}

/** The snapshots of earlier runs that are gone though neither prune nor forget took them, the newest first. */
export async function lostOf(target: Target): Promise<string[]> {
  const made = new Set<string>()
  const begin = await beginOf(target)
  for await (const run of newest(stateDir(target.name)))
    if (run.verb === 'backup' && Date.parse(run.start) >= begin) for (const { snapshot } of summariesOf(run)) made.add(snapshot)
  return await goneAmong(target, [...made])
}

async function lostBase(target: Target, { stream }: Summary): Promise<string | undefined> {
  if (stream) return undefined
  const good = (await readLast(stateDir(target.name))).backup?.good
  if (!good || Date.parse(good.start) < (await beginOf(target))) return undefined
  const bases = summariesOf(good).filter((row) => !row.stream && !row.subset && !row.manual)
  const [lost] = await goneAmong(
    target,
    bases.map(({ snapshot }) => snapshot),
  )
  return lost && `the base is gone: ${lost} of the last good backup is not in the store, and neither prune nor forget took it`
}

const summariesOf = ({ results = [] }: RunRow): Summary[] => results.filter((row) => row.kind === 'summary')

/** Milliseconds: when the target began to use this store. Runs before that filled another. */
async function beginOf(target: Target): Promise<number> {
  const created = Date.parse(openStore(target).created) || 0
  const init = (await readLast(stateDir(target.name))).init?.good
  const pinned = init?.results?.some((row) => row.kind === 'store' && row.adopted !== undefined)
  return Math.max(created, init && pinned ? Date.parse(init.start) : 0)
}

async function goneAmong(target: Target, ids: readonly string[]): Promise<string[]> {
  const known = new Set<string>()
  for (const owner of ownersOf(target)) {
    const root = rootOf(target, owner)
    for (const id of idsIn(root)) known.add(id)
    // A snapshot of another owner's has its name before the id; what was unfinished was none.
    for (const { id } of await readAudit(root, () => undefined)) if (!id.startsWith('incomplete/')) known.add(id.replace(/^.*\//, ''))
  }
  return ids.filter((id) => !known.has(id))
}
