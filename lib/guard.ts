// Facts -> go, warn or refuse: pure. A guard stops a run before it does harm; --force=GUARD overrides one by name.
import type { Class } from './failure.ts'

export const guards = {
  pin: 'the target has no pinned store (STORE_ID)',
  identity: 'another store lies where the pinned one should be',
  canary: 'the canary file is gone',
  sources: 'all paths are missing',
  suspect: 'a suspicious snapshot was not accepted',
  clock: 'the clock jumped',
  damage: 'the last check or drill found damage',
  newest: 'it is the newest good snapshot of its source',
  shared: 'another target opens the store with the same password',
  excludes: 'what was left out of the snapshot cannot be told from what is new',
  chunker: 'the second store cuts files in other places, so that copies share nothing with its own backups',
} as const
export type Guard = keyof typeof guards

export type Facts = {
  target: string
  verb: string
  pinned: string | undefined
  canary: { path: string; there: boolean } | undefined
  /** Only asked for where paths are saved. */
  paths: { present: readonly string[]; missing: readonly string[] } | undefined
  /** Sources other than paths: streams. */
  others: number
  now: Date
  /** What a check or a drill found damaged since its last good run: its message. */
  damaged: { readonly verb: 'check' | 'drill'; readonly message: string } | undefined
  /** When the newest run in the ledger began. */
  lastRun: Date | undefined
}
export type Verdict = { guard: Guard; level: 'ok' | 'warning' | 'blocked'; class: Class; message: string; hint?: string }

const writing = new Set(['backup', 'prune', 'copy', 'forget', 'hold', 'rotate'])

/** Every guard that the facts bear on, the good ones too: doctor shows them all. */
export function judge(facts: Facts): Verdict[] {
  const { target, verb } = facts
  const verdicts: Verdict[] = []
  const add = (guard: Guard, level: Verdict['level'], kind: Class, message: string, hint?: string) =>
    verdicts.push({ guard, level, class: kind, message, ...(hint && { hint }) })
  if (writing.has(verb)) {
    if (facts.pinned) add('pin', 'ok', 'refused', `the store is pinned: ${facts.pinned.slice(0, 10)}`)
    else
      add(
        'pin',
        'blocked',
        'refused',
        `refusing to ${verb} '${target}': its store is not pinned`,
        `kedge init ${target}, or kedge init --adopt ${target} where it exists`,
      )
  }
  if (facts.canary) {
    const { path, there } = facts.canary
    if (there) add('canary', 'ok', 'vanished', `the canary is there: ${path}`)
    else
      add('canary', 'blocked', 'vanished', `refusing to back up '${target}': the canary '${path}' is gone`, 'is the file system mounted?')
  }
  if (facts.paths) {
    const { present, missing } = facts.paths
    const list = missing.map((path) => `'${path}'`).join(', ')
    if (missing.length === 0 && present.length + facts.others === 0)
      add(
        'sources',
        'blocked',
        'config',
        `target '${target}' has nothing to save: no paths, no streams`,
        'write absolute paths into its file paths',
      )
    else if (missing.length === 0) add('sources', 'ok', 'vanished', `all ${present.length + facts.others} sources are there`)
    else if (present.length === 0)
      add('sources', 'blocked', 'vanished', `cannot back up '${target}': all paths are missing: ${list}`, 'is the disk mounted?')
    else add('sources', 'warning', 'partial', `missing: ${list}`)
  }
  if (facts.damaged !== undefined && verb === 'prune')
    add(
      'damage',
      'blocked',
      'refused',
      `refusing to prune '${target}': its store is damaged: ${facts.damaged.message}`,
      `mend it first, as kedge-check(1) says; then kedge ${facts.damaged.verb} ${target}`,
    )
  if (facts.damaged !== undefined && verb === 'backup')
    add('damage', 'warning', 'damaged', `the store of '${target}' is damaged, what is saved now may lean on it: ${facts.damaged.message}`)
  if (verb === 'prune' && facts.lastRun && fromFuture(facts.lastRun, facts.now))
    add(
      'clock',
      'blocked',
      'refused',
      `refusing to prune '${target}': the clock is behind the last run, ${facts.lastRun.toISOString()}`,
      'set the clock',
    )
  return verdicts
}

const day = 86_400_000

/** Clocks that differ by less are no trouble. */
export const fromFuture = (time: Date, now: Date): boolean => time.getTime() - now.getTime() > 600_000

/**
 * What is odd about the times of a store's snapshots (any order): one from the future, or the newest far away from the rest, as after
 * a clock that ran wrong. Spans such as KEEP_WITHIN count from the newest, so that one wrong snapshot would condemn all others.
 */
export function clockJump(times: readonly Date[], now: Date): string | undefined {
  const sorted = times.map((time) => time.getTime()).sort((a, b) => b - a)
  const [newest, before] = sorted
  if (newest === undefined) return undefined
  if (fromFuture(new Date(newest), now)) return `a snapshot is from the future, ${new Date(newest).toISOString()}`
  if (before === undefined || sorted.length < 4) return undefined
  const gaps = sorted.slice(1, 31).flatMap((time, i, all) => (i === 0 ? [] : [(all[i - 1] ?? time) - time]))
  const usual = gaps.sort((a, b) => a - b)[Math.floor(gaps.length / 2)] ?? 0
  const gap = newest - before
  if (gap > 90 * day && gap > 20 * usual) return `the newest snapshot is ${Math.round(gap / day)} days after the one before it`
  return undefined
}
