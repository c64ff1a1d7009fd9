// What is known of the targets as Prometheus text: base units, one HELP and TYPE a metric, its samples together. Pure.
// The format: https://prometheus.io/docs/instrumenting/exposition_formats/

import type { KeptLag } from './lag.ts'
import type { Live, Overview } from './overview.ts'
import type { RunRow } from './rows.ts'

export type Facts = {
  target: string
  overview: Pick<Overview, 'last' | 'sizes'> & Partial<Pick<Overview, 'channels'>>
  live: readonly Live[]
}

const metrics = {
  kedge_config_error: ['gauge', 'Whether the configuration of the target cannot be read (1).'],
  kedge_last_success_timestamp_seconds: ['gauge', 'When the last good run began.'],
  kedge_last_failure_timestamp_seconds: ['gauge', 'When the last run began that failed, in part too.'],
  kedge_last_duration_seconds: ['gauge', 'How long the last run took.'],
  kedge_last_status: ['gauge', 'The exit status of the last run.'],
  kedge_damaged: ['gauge', 'Whether the last check or drill that could tell found damage (1).'],
  kedge_runs_total: ['counter', 'Runs by how they ended.'],
  kedge_backup_files: ['gauge', 'Files in the last good backup.'],
  kedge_backup_size_bytes: ['gauge', 'Size of what the last good backup saved.'],
  kedge_backup_added_bytes: ['gauge', 'What the last good backup added to the store.'],
  kedge_snapshots: ['gauge', 'Snapshots in the store, when it was last measured.'],
  kedge_restore_size_bytes: ['gauge', 'Size of a restore of the latest snapshots.'],
  kedge_store_size_bytes: ['gauge', 'What the snapshots take in the store.'],
  kedge_store_free_bytes: ['gauge', 'Free space for the store, where it lies on this machine.'],
  kedge_store_growth_bytes_per_second: ['gauge', 'What the backups of the last 30 days added.'],
  kedge_deduplication_ratio: ['gauge', 'Size of all snapshots against what is stored of them.'],
  kedge_compression_ratio: ['gauge', 'Uncompressed against compressed size.'],
  kedge_sizes_timestamp_seconds: ['gauge', 'When the store was last measured.'],
  kedge_oldest_verified_timestamp_seconds: ['gauge', 'When the data that is unread for longest was read by a check.'],
  kedge_running: ['gauge', 'Whether a run is in progress (1).'],
  kedge_crashed: ['gauge', 'Runs that died and that no later run has recorded yet.'],
  kedge_lock_age_seconds: ['gauge', 'How long a run has held a lock of the target.'],
  kedge_notify_failed: ['gauge', 'Whether the channel could not be used when it was last tried (1).'],
  kedge_copy_lag_seconds: ['gauge', 'How old the oldest backup is of which something is missing in a second store; 0: nothing is.'],
} as const
type Name = keyof typeof metrics

const families = Object.keys(metrics) as Name[]
const places = Object.fromEntries(families.map((name, index) => [name, index])) as Record<Name, number>

/** A target's samples, one text a metric in the order of the table: what is kept prepared (prepared.ts) and joined by the thousand. */
export type Samples = readonly string[]

export function samplesOf(facts: Facts, now: Date): Samples {
  const texts: string[] = families.map(() => '')
  const target = `{target="${escaped(facts.target)}"`
  const add: Add = (name, value, labels = '') => {
    if (typeof value === 'number' && !Number.isNaN(value)) texts[places[name]] += `${name}${target}${labels}} ${value}\n`
  }
  addRuns(facts, add)
  addSizes(facts, add)
  addLive(facts, add, now)
  for (const [channel, { failed }] of Object.entries(facts.overview.channels ?? {}))
    add('kedge_notify_failed', failed ? 1 : 0, `,channel="${escaped(channel)}"`)
  return texts
}

/** What only the moment of asking tells: whether its configuration can be read. */
export const validity = (target: string, valid: boolean): string => `kedge_config_error{target="${escaped(target)}"} ${valid ? 0 : 1}\n`

/** As validity: time goes on after the samples were prepared. `now` in milliseconds. */
export function lagText(target: string, lags: readonly KeptLag[], now: number): string {
  let text = ''
  for (const { store, since } of lags) {
    const seconds = since === 0 ? 0 : Math.max(0, Math.floor((now - since) / 1000))
    text += `kedge_copy_lag_seconds{target="${escaped(target)}",store="${escaped(store)}"} ${seconds}\n`
  }
  return text
}

/** The whole text, ending in a line feed: each metric with its help and type, and its samples of all targets together. */
export function metricsText(all: Iterable<{ valid: string; lag?: string; samples: Samples }>): string {
  const texts = families.map(() => '')
  for (const { valid, lag, samples } of all) {
    texts[0] = (texts[0] ?? '') + valid
    if (lag) texts[places.kedge_copy_lag_seconds] += lag
    for (let index = 1; index < samples.length; index++) if (samples[index] !== '') texts[index] = (texts[index] ?? '') + samples[index]
  }
  const heads = families.map((name) => `# HELP ${name} ${metrics[name][1]}\n# TYPE ${name} ${metrics[name][0]}\n`)
  return texts.map((text, index) => (text === '' ? '' : heads[index] + text)).join('')
}

type Add = (name: Name, value: number | null | undefined, labels?: string) => void

function addRuns({ overview: { last }, live }: Facts, add: Add): void {
  for (const verb in last) {
    const known = last[verb]
    if (!known) continue
    const label = `,verb="${escaped(verb)}"`
    add('kedge_last_success_timestamp_seconds', began(known.good), label)
    add('kedge_last_failure_timestamp_seconds', began(known.bad), label)
    add('kedge_last_duration_seconds', known.last.seconds, label)
    add('kedge_last_status', known.last.status, label)
    if (verb === 'check' || verb === 'drill') add('kedge_damaged', known.damaged ? 1 : 0, label)
    for (const state in known.counts) add('kedge_runs_total', known.counts[state], `${label},state="${escaped(state)}"`)
    // 0 where it does not run now, so that the line does not end.
    add('kedge_running', runs(live, verb) ? 1 : 0, label)
  }
  const saved = (last.backup?.good?.results ?? []).filter((row) => row.kind === 'summary')
  if (saved.length > 0) {
    const sum = (key: 'files' | 'bytes' | 'added') => saved.reduce((total, row) => total + row[key], 0)
    add('kedge_backup_files', sum('files'))
    add('kedge_backup_size_bytes', sum('bytes'))
    add('kedge_backup_added_bytes', sum('added'))
  }
  const checked = last.check?.good?.results?.find((row) => row.kind === 'checked')
  if (checked?.oldestVerified) add('kedge_oldest_verified_timestamp_seconds', seconds(checked.oldestVerified))
}

function addSizes({ overview: { sizes } }: Facts, add: Add): void {
  if (!sizes) return
  add('kedge_snapshots', sizes.snapshots)
  add('kedge_restore_size_bytes', sizes.restore)
  add('kedge_store_size_bytes', sizes.raw)
  add('kedge_store_free_bytes', sizes.free)
  add('kedge_store_growth_bytes_per_second', sizes.perDay === null ? null : sizes.perDay / 86_400)
  add('kedge_deduplication_ratio', sizes.dedup)
  add('kedge_compression_ratio', sizes.compression)
  add('kedge_sizes_timestamp_seconds', seconds(sizes.time))
}

function addLive({ overview: { last }, live }: Facts, add: Add, now: Date): void {
  const living = live.filter(({ alive }) => alive !== 'no')
  add('kedge_crashed', live.length - living.length)
  for (const verb of new Set(living.map(({ verb }) => verb))) if (!last[verb]) add('kedge_running', 1, `,verb="${escaped(verb)}"`)
  for (const { lock, start } of living)
    if (lock) add('kedge_lock_age_seconds', Math.max(0, now.getTime() / 1000 - seconds(start)), `,lock="${escaped(lock)}"`)
}

const runs = (live: readonly Live[], verb: string): boolean => live.some((each) => each.verb === verb && each.alive !== 'no')
// Whole seconds: fractions cost more to print than they tell.
const seconds = (time: string): number => Math.floor(Date.parse(time) / 1000)
const began = (run: RunRow | undefined): number | undefined => run && seconds(run.start)

/** The value of a label: backslash, quote and line feed are escaped. */
export const escaped = (text: string): string =>
  /[\\"\n]/.test(text) ? text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n') : text
