// Which slices of a repository's data a check reads, so that all of it has been read every so often. Pure.
//
// restic's --read-data-subset=n/t reads the packs whose id begins with a byte b for which b % t == n - 1; t is 256 at most (restic's
// selectPacksByBucket, and 0.14.0, 0.18.0 and 0.19.1 run). So a date for each first byte outlives any change of t.
// Times are seconds since 1970, spans seconds.

export type Verified = {
  /** The id of the store that was read; the dates of another are worthless. */
  readonly store: string
  /** When the counting began. */
  readonly since: number
  /** When the last whole plan was done: what was read later belongs to a plan that was interrupted. */
  readonly paced: number
  /** For each first byte of a pack's id, when the reading of all such packs began; null: never. */
  readonly bytes: readonly (number | null)[]
}
export type SlicePlan = {
  /** How many slices there are: restic's t. */
  readonly of: number
  /** The numbers to read, from 1, the longest unread first. */
  readonly slices: readonly number[]
}

const most = 256
// Timers wander: the next check may come so much later than the schedule says.
const slack = 1.25

export const unread = (store: string, now: number): Verified => ({ store, since: now, paced: now, bytes: new Array<null>(most).fill(null) })

/**
 * What is to be read now. Each check reads what keeps the pace, at least one slice, and all that would grow older than `within` before
 * the next one: so when checks come at their interval, and up to a quarter of it late, every byte is read in time.
 */
export function planSlices(verified: Verified, { within, interval, now }: { within: number; interval: number; now: number }): SlicePlan {
  const of = Math.max(1, Math.min(most, Math.floor(within / interval)))
  const elapsed = Math.max(0, now - verified.paced)
  const slices = Array.from({ length: of }, (_, index) => ({ n: index + 1, read: readAt(verified, index + 1, of) }))
  slices.sort((a, b) => (a.read ?? -1) - (b.read ?? -1) || a.n - b.n)
  const read = slices.filter((slice) => slice.read !== null && slice.read > verified.paced).length
  // Rounded up, but a check that is a little late need not read twice as much.
  const pace = Math.max(1, Math.ceil((of * elapsed) / within - (slack - 1)) - read)
  const next = now + Math.max(interval * slack, Math.min(elapsed, 2 * interval))
  const due = (slice: { read: number | null }) => (slice.read ?? verified.since) + within < next
  return { of, slices: slices.filter((slice, index) => index < pace || due(slice)).map(({ n }) => n) }
}

/** A slice was read; `at`: when its reading began. */
export function withSlice(verified: Verified, n: number, of: number, at: number): Verified {
  return { ...verified, bytes: verified.bytes.map((before, byte) => (byte % of === n - 1 ? at : before)) }
}

/** A plan, or all the data, was read to the end. */
export const withPace = (verified: Verified, at: number): Verified => ({ ...verified, paced: at })

/** When the part that is unread for longest was read; null where something never was. */
export const oldestRead = (verified: Verified): number | null => readAt(verified, 1, 1)

/** The share of the data, 0 to 1, that was read at or after a time. */
export const shareRead = ({ bytes }: Verified, after: number): number => bytes.filter((at) => at !== null && at >= after).length / most

function readAt({ bytes }: Verified, n: number, of: number): number | null {
  let oldest = Number.POSITIVE_INFINITY
  for (let byte = n - 1; byte < most; byte += of) {
    const at = bytes[byte] ?? null
    if (at === null) return null
    oldest = Math.min(oldest, at)
  }
  return oldest
}

/** Whether a value from a file is one of these. */
export function isVerified(value: unknown): value is Verified {
  if (typeof value !== 'object' || value === null) return false
  const { store, since, paced, bytes } = value as Partial<Verified>
  if (typeof store !== 'string' || !Number.isFinite(since) || !Number.isFinite(paced)) return false
  return Array.isArray(bytes) && bytes.length === most && bytes.every((at) => at === null || Number.isFinite(at))
}
