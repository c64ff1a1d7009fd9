// Check as every engine does it: which part of the data is read, and what is known of the rest. What was read is in verified.json.
import { join } from 'node:path'
import type { Target, Verbs } from './contract.ts'
import { Failure } from './failure.ts'
import { readJson, replaceFile } from './ledger.ts'
import { stateDir } from './paths.ts'
import type { Checked } from './rows.ts'
import { isVerified, oldestRead, planSlices, type SlicePlan, shareRead, unread, type Verified, withPace, withSlice } from './slices.ts'
import { zoneOf } from './target.ts'

type Options = Verbs['check']['options']
/** What one reading looks at: no data, all of it, or the slice number n (from 1) of so many. */
export type Part = 'structure' | 'all' | { n: number; of: number }
/** Reads a part; whether it is whole. `what`: as progress tells it. */
export type Reader = (part: Part, what?: string) => Promise<boolean>
export type Done = Options & { readonly verified: Verified; readonly slices?: number }

const seconds = (): number => Math.floor(Date.now() / 1000)

const verifiedFile = (target: Target): string => join(stateDir(target.name), 'verified.json')

/** Failure 'misuse' for options that contradict each other. */
export function judgeOptions({ readData, within }: Options): void {
  if (readData && within !== undefined) throw new Failure('misuse', '--read-data reads all: it goes without --within')
  if (within === 0) throw new Failure('misuse', '--within needs a span of more than nothing')
}

/** What was read of this store; undefined where nothing is known of it. Without an id: of whichever store it was. */
async function readVerified(target: Target, store: string | undefined): Promise<Verified | undefined> {
  const known = await readJson<unknown>(verifiedFile(target))
  return isVerified(known) && (store === undefined || known.store === store) ? known : undefined
}

/** The slices that are due by SCHEDULE_CHECK, so that each is read within so many seconds. */
async function planned(target: Target, verified: Verified, within: number): Promise<SlicePlan> {
  const now = seconds()
  const expression = target.env.SCHEDULE_CHECK
  const { interval } = await import('./schedule.ts')
  const every = expression ? await interval(expression, { zone: zoneOf(target), seed: target.name, now: new Date(now * 1000) }) : 86_400
  return planSlices(verified, { within, interval: every, now })
}

/** The parts of the data that a run would read now, for --explain; none where only the structure is asked for. */
export async function partsNow(target: Target, { readData, within }: Options): Promise<Part[]> {
  if (readData) return ['all']
  if (within === undefined) return []
  const known = await readVerified(target, target.env.STORE_ID)
  const { of, slices } = await planned(target, known ?? unread('', seconds()), within)
  return slices.map((n) => ({ n, of }))
}

/** Reads what the options ask for, all data or the slices that are due, and notes what was whole. */
export async function readAll(target: Target, store: string, { readData = false, within }: Options, read: Reader): Promise<Done> {
  let verified = (await readVerified(target, store)) ?? unread(store, seconds())
  const keep = async (next: Verified) => {
    verified = next
    await replaceFile(verifiedFile(target), JSON.stringify(next))
  }
  if (readData) {
    const at = seconds()
    if (await read('all')) await keep(withPace(withSlice(verified, 1, 1, at), at))
    return { readData, verified }
  }
  if (within === undefined) return { verified }
  const plan = await planned(target, verified, within)
  let last = seconds()
  for (const [index, n] of plan.slices.entries()) {
    last = seconds()
    // Damage in one slice must not keep the others from being read: it is the oldest from now on, and would come first each time.
    if (await read({ n, of: plan.of }, `slice ${index + 1} of ${plan.slices.length}`)) await keep(withSlice(verified, n, plan.of, last))
  }
  await keep(withPace(verified, last))
  return { within, verified, slices: plan.slices.length }
}

export function checked(target: Target, { verified, readData, within, slices }: Done): Checked {
  const oldest = oldestRead(verified)
  const share = shareRead(verified, within === undefined ? 0 : seconds() - within)
  return {
    kind: 'checked',
    target: target.name,
    structure: 'ok',
    read: readData ? 'all' : slices === undefined ? 'none' : 'slices',
    ...(slices !== undefined && { slices }),
    verified: Math.round(share * 1000) / 1000,
    oldestVerified: oldest === null ? null : new Date(oldest * 1000).toISOString(),
  }
}
