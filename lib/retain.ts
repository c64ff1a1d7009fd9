// Which snapshots stay: keep rules, and a plan with the reason for each snapshot. Pure.
//
// The rules are restic's (internal/data/snapshot_policy.go of 0.18 and 0.19, which decide alike), with these differences:
// - Hours, days, ISO weeks, months and years are those of the target's zone, not of the offset in which a snapshot was written.
// - A group keeps its newest good snapshot, the held ones, those that are another target's too, and KEEP_MIN of them, whatever the rules say. restic 0.14 deletes
//   everything when no snapshot has the tag of --keep-tag; later versions refuse; here the newest good one stays.
// - restic 0.14 knows no 'unlimited' (its -1 keeps nothing), and does not keep the oldest snapshot while a rule has counts left.
import { createHash } from 'node:crypto'
import { Failure } from './failure.ts'
import { periods, type Rules } from './keeprules.ts'
import { back, calendarIn, DAY, dateOf, instantOf, type Offset, offsetIn, type Span } from './zone.ts'

/** A snapshot as the rules see it; `time` is RFC 3339, with as many digits as nanoseconds have. */
export type Kept = {
  readonly id: string
  readonly time: string
  readonly group: string
  readonly tags: readonly string[]
  readonly held?: boolean
  readonly suspect?: boolean
  /** Made by a backup that left something out. */
  readonly partial?: boolean
  /** Of a list of names, or made by hand: no scheduled backup adds to its group. */
  readonly subset?: boolean
  /** The id of the snapshot that it was made from. */
  readonly base?: string
  /** Other targets that it belongs to as well: then it is kept. */
  readonly others?: readonly string[]
}
/** The rules of a group, where they differ. */
export type RulesOf = Rules | ((group: string) => Rules)
export type Planned = {
  readonly id: string
  readonly time: string
  readonly group: string
  readonly action: 'keep' | 'delete' | 'later'
  readonly reasons: readonly string[]
}
export type Day = {
  readonly date: string
  readonly snapshots: number
  readonly deleted: number
  readonly oldest: string
  readonly times: readonly string[]
}

/** The instant in whole milliseconds, and the nanoseconds below them. */
type Item = { readonly snapshot: Kept; readonly at: number; readonly nano: number }

/**
 * What becomes of each snapshot, group by group, each with the newest first. `maxDelete` is the most that one run may delete
 * over all groups: the oldest go first, and the rest is 'later'. Snapshots dated after `now` do not stretch a within rule. `bases`: what a
 * snapshot that stays was made from stays as well, but not what that one was made from: that would be all there ever were.
 * Throws a Failure when a time cannot be read, since a wrong age could delete the wrong snapshot.
 */
export function plan(
  snapshots: readonly Kept[],
  rules: RulesOf,
  options: { readonly zone: string; readonly now: Date; readonly maxDelete?: number | undefined; readonly bases?: boolean },
): Planned[] {
  const offset = offsetIn(options.zone)
  const groups = [...groupsOf(snapshots.map(itemOf))].map(([group, items]) => ({
    items,
    holds: reasonsOf(items, ofGroup(rules, group), offset, options.now.getTime()),
  }))
  if (options.bases) holdBases(groups)
  const limit = options.maxDelete ?? Infinity
  const oldest = (items: readonly Item[]) => items.slice(Math.max(0, items.length - limit))
  const doomed = groups.flatMap(({ items, holds }) => oldest(items.filter((_, index) => !holds[index])))
  const deletable = new Set(oldest(doomed.sort(newestFirst)))
  const unheld = ['no keep rule holds it']
  const postponed = [...unheld, `more than ${limit} to delete, the oldest go first`]
  return groups.flatMap(({ items, holds }) =>
    items.map((item, index): Planned => {
      const { id, time, group, partial } = item.snapshot
      const held = holds[index]
      const [action, reasons] = held
        ? (['keep', held] as const)
        : deletable.has(item)
          ? (['delete', unheld] as const)
          : (['later', postponed] as const)
      return { id, time, group, action, reasons: partial ? [...reasons, 'partial'] : reasons }
    }),
  )
}

/** Names a set of snapshots to delete from a store, in any order: 12 hexadecimal digits. */
export function digest(store: string, ids: readonly string[]): string {
  return createHash('sha256')
    .update(JSON.stringify([store, ...[...ids].sort()]))
    .digest('hex')
    .slice(0, 12)
}

/**
 * What would exist at the end of each of the next `days` local days, today (the day of `now`) included, if the backups ran
 * when `backups` says and each day ended with a prune without a limit. A backup adds a snapshot, made from the newest, to every group but
 * lists of names and what is made by hand.
 * `times` and `oldest` are RFC 3339, the newest first; a day that the zone skips has no row.
 */
export function simulate(
  existing: readonly Kept[],
  backups: readonly Date[],
  rules: RulesOf,
  options: { readonly zone: string; readonly days: number; readonly now: Date; readonly bases?: boolean },
): Day[] {
  const offset = offsetIn(options.zone)
  const dayOf = (instant: number) => Math.floor((instant + offset(instant)) / DAY)
  const groups = groupsOf(existing.map(itemOf))
  const grows = (items: readonly Item[]) => !items.some(({ snapshot }) => snapshot.subset)
  if (![...groups.values()].some(grows)) groups.set('', [])
  const coming = backups.map((date) => date.getTime()).sort((a, b) => a - b)
  const first = dayOf(options.now.getTime())
  const result: Day[] = []
  let next = 0
  for (let day = first; day < first + options.days; day++) {
    const end = instantOf((day + 1) * DAY, offset)
    if (dayOf(end - 1) !== day) continue
    let deleted = 0
    const started = next
    while (next < coming.length && (coming[next] ?? end) < end) next++
    const judged = [...groups].map(([group, items]) => {
      let base = items[0]?.snapshot.id
      for (const at of grows(items) ? coming.slice(started, next) : []) {
        const time = new Date(at).toISOString()
        const id = `${group} ${time}`
        items.push({ snapshot: { id, time, group, tags: [], ...(base !== undefined && { base }) }, at, nano: 0 })
        base = id
      }
      items.sort(newestFirst)
      return { group, items, holds: reasonsOf(items, ofGroup(rules, group), offset, end) }
    })
    if (options.bases) holdBases(judged)
    for (const { group, items, holds } of judged) {
      const left = items.filter((_, index) => holds[index] !== undefined)
      deleted += items.length - left.length
      groups.set(group, left)
    }
    const times = [...groups.values()].flat().sort(newestFirst)
    result.push({
      date: dateOf(day),
      snapshots: times.length,
      deleted,
      oldest: times.at(-1)?.snapshot.time ?? '',
      times: times.map((item) => item.snapshot.time),
    })
  }
  return result
}

const ofGroup = (rules: RulesOf, group: string): Rules => (typeof rules === 'function' ? rules(group) : rules)

/** Adds a reason for what a held item was made from, whatever group that is in. */
function holdBases(groups: readonly { items: readonly Item[]; holds: (string[] | undefined)[] }[]): void {
  const staying = groups.flatMap(({ items, holds }) => items.filter((_, index) => holds[index]))
  const needed = new Map(staying.flatMap(({ snapshot: { id, base } }) => (base === undefined ? [] : [[base, id] as const])))
  for (const { items, holds } of groups)
    for (const [index, { snapshot }] of items.entries()) {
      const by = needed.get(snapshot.id)
      if (by !== undefined) holds[index] = [...(holds[index] ?? []), `base of ${by}`]
    }
}

/** Why each item of one group (the newest first) stays; an item without reasons may go. */
function reasonsOf(items: readonly Item[], rules: Rules, offset: Offset, now: number): (string[] | undefined)[] {
  const holds = ruleReasons(items, rules, offset, now)
  const keep = (index: number, reason: string) => {
    holds[index] = [...(holds[index] ?? []), reason]
  }
  const good = items.findIndex(isGood)
  if (good >= 0) keep(good, 'newest good')
  else if (items.length > 0) keep(0, 'newest, and none is good')
  let short = rules.min
  for (const reasons of holds) if (reasons) short--
  for (const wanted of [true, false]) {
    for (const [index, item] of items.entries()) {
      if (short <= 0) break
      if (holds[index] || isGood(item) !== wanted) continue
      keep(index, `KEEP_MIN ${rules.min}`)
      short--
    }
  }
  return holds
}

const isGood = ({ snapshot }: Item): boolean => !snapshot.suspect && !snapshot.partial

/** What the rules alone say, as restic would. */
function ruleReasons(items: readonly Item[], rules: Rules, offset: Offset, now: number): (string[] | undefined)[] {
  const newest = items.find((item) => item.at < now)
  const since = (span: Span) => (newest ? back(newest.at, span, offset) : -Infinity)
  const counted = (['last', ...periods] as const)
    .filter((name) => rules.counts[name] > 0)
    .map((name) => ({
      name,
      size: rules.counts[name],
      of: rules.counts[name] === Infinity ? 'unlimited' : rules.counts[name],
      taken: 0,
      bucket: NaN,
    }))
  const windows = periods.flatMap((name) => {
    const span = rules.within[name]
    return span ? [{ name, since: since(span), text: `within ${span.text} of the newest`, bucket: NaN }] : []
  })
  const { all } = rules.within
  const window = all && { since: since(all), text: `within ${all.text} of the newest` }
  const off = !window && counted.length + windows.length + rules.tags.length === 0
  const calendar = calendarIn(offset)
  // `nano` breaks the tie at the edge, since going back by the calendar keeps the part below a millisecond.
  const inside = (item: Item, edge: number) => item.at > edge || (item.at === edge && item.nano > (newest?.nano ?? 0))
  return items.map((item, index) => {
    const { tags, held, others = [] } = item.snapshot
    const reasons: string[] = []
    if (off) reasons.push('no keep rules')
    if (held) reasons.push('held')
    for (const other of others) reasons.push(`also of target '${other}'`)
    for (const tag of rules.tags) if (tags.includes(tag)) reasons.push(`tag ${tag}`)
    if (window && inside(item, window.since)) reasons.push(window.text)
    const oldest = index === items.length - 1
    const buckets = { last: index, ...calendar(item.at) }
    for (const rule of counted) {
      const repeated = buckets[rule.name] === rule.bucket
      if (rule.taken === rule.size || (repeated && !oldest)) continue
      rule.bucket = buckets[rule.name]
      rule.taken++
      reasons.push(repeated ? `oldest ${rule.name}` : `${rule.name}, ${rule.taken} of ${rule.of}`)
    }
    for (const rule of windows) {
      const repeated = buckets[rule.name] === rule.bucket
      if (!inside(item, rule.since) || (repeated && !oldest)) continue
      rule.bucket = buckets[rule.name]
      reasons.push(`${repeated ? 'oldest ' : ''}${rule.name} ${rule.text}`)
    }
    return reasons.length > 0 ? reasons : undefined
  })
}

function groupsOf(items: readonly Item[]): Map<string, Item[]> {
  const groups = new Map<string, Item[]>()
  for (const item of items) {
    const group = groups.get(item.snapshot.group)
    if (group) group.push(item)
    else groups.set(item.snapshot.group, [item])
  }
  for (const group of groups.values()) group.sort(newestFirst)
  return groups
}

function newestFirst(a: Item, b: Item): number {
  return b.at - a.at || b.nano - a.nano || (a.snapshot.id < b.snapshot.id ? -1 : 1)
}

const rfc3339 = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)$/
const nanos = /^\.\d{3}(\d{1,6})/

function itemOf(snapshot: Kept): Item {
  const { id, time } = snapshot
  const at = rfc3339.test(time) ? Date.parse(time) : NaN
  if (Number.isNaN(at)) throw new Failure('tool', `cannot plan for snapshot '${id}': its time '${time}' is not RFC 3339`)
  return { snapshot, at, nano: Number((nanos.exec(time.slice(19))?.[1] ?? '').padEnd(6, '0')) }
}
