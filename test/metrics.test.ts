import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import test from 'node:test'
import { additions, fullIn, growthPerDay } from '../lib/growth.ts'
import { escaped, type Facts, metricsText, samplesOf, validity } from '../lib/metrics.ts'
import type { RunRow, Sizes, Summary } from '../lib/rows.ts'
import { promtool } from './harness.ts'

const summary = (added: number, more: Partial<Summary> = {}): Summary => ({
  kind: 'summary',
  target: 'web1',
  snapshot: 'a'.repeat(64),
  files: 20,
  bytes: 3000,
  added,
  seconds: 2,
  ...more,
})
const run = (more: Partial<RunRow>): RunRow => ({
  kind: 'run',
  target: 'web1',
  run: '20261120T010000Z-aaaaaa',
  verb: 'backup',
  state: 'success',
  status: 0,
  start: '2026-11-20T01:00:00.000Z',
  seconds: 12.5,
  ...more,
})
const sizes: Sizes = {
  kind: 'sizes',
  target: 'web1',
  time: '2026-11-20T02:00:00.000Z',
  snapshots: 30,
  restore: 3000,
  files: 20,
  raw: 1500,
  dedup: 12.5,
  compression: null,
  perDay: 86_400,
  free: 0,
  fullIn: 0,
}
const now = new Date('2026-11-20T03:00:00Z')
const good = run({ results: [summary(7), summary(5, { stream: 'app.sql', bytes: 1000, files: 1 })] })
const bad = run({ run: '20261119T010000Z-bbbbbb', state: 'failed', status: 12, start: '2026-11-19T01:00:00.000Z' })
const web1: Facts = {
  target: 'web1',
  overview: {
    last: {
      backup: { last: good, good, bad, counts: { success: 41, failed: 2 } },
      check: {
        last: run({ verb: 'check', state: 'failed', status: 14 }),
        good: run({
          verb: 'check',
          results: [
            { kind: 'checked', target: 'web1', structure: 'ok', read: 'slices', verified: 1, oldestVerified: '2026-11-01T00:00:00.000Z' },
          ],
        }),
        counts: { success: 1, failed: 1 },
      },
    },
    sizes,
  },
  live: [
    { run: 'x', verb: 'backup', pid: 1, start: '2026-11-20T02:58:30.000Z', alive: 'yes', lock: 'write' },
    { run: 'y', verb: 'check', pid: 1, start: '2026-11-20T02:00:00.000Z', alive: 'no' },
  ],
}
const empty: Facts = { target: 'odd "name"\\\n', overview: { last: {}, sizes: undefined }, live: [] }

const textOf = (all: readonly Facts[]) =>
  metricsText(all.map((facts) => ({ valid: validity(facts.target, facts !== empty), samples: samplesOf(facts, now) })))

test('the text has each metric once with its help and type, and its samples together', async () => {
  const text = textOf([web1, empty])
  const lines = text.split('\n')
  const samples = lines.filter((line) => line && !line.startsWith('#'))
  for (const sample of [
    'kedge_config_error{target="web1"} 0',
    'kedge_config_error{target="odd \\"name\\"\\\\\\n"} 1',
    `kedge_last_success_timestamp_seconds{target="web1",verb="backup"} ${Date.parse(good.start) / 1000}`,
    `kedge_last_failure_timestamp_seconds{target="web1",verb="backup"} ${Date.parse(bad.start) / 1000}`,
    'kedge_last_duration_seconds{target="web1",verb="backup"} 12.5',
    'kedge_last_status{target="web1",verb="check"} 14',
    'kedge_runs_total{target="web1",verb="backup",state="success"} 41',
    'kedge_backup_files{target="web1"} 21',
    'kedge_backup_size_bytes{target="web1"} 4000',
    'kedge_backup_added_bytes{target="web1"} 12',
    'kedge_snapshots{target="web1"} 30',
    'kedge_store_size_bytes{target="web1"} 1500',
    'kedge_store_free_bytes{target="web1"} 0',
    'kedge_store_growth_bytes_per_second{target="web1"} 1',
    `kedge_oldest_verified_timestamp_seconds{target="web1"} ${Date.parse('2026-11-01') / 1000}`,
    'kedge_running{target="web1",verb="backup"} 1',
    'kedge_running{target="web1",verb="check"} 0',
    'kedge_crashed{target="web1"} 1',
    'kedge_lock_age_seconds{target="web1",lock="write"} 90',
  ])
    assert.ok(samples.includes(sample), `${sample}\n${text}`)
  assert.ok(!text.includes('kedge_compression_ratio'), 'what is not known is left out')
  const names = lines.filter((line) => line.startsWith('# TYPE')).map((line) => line.split(' ')[2] ?? '')
  assert.deepEqual(names, [...new Set(names)])
  let current = ''
  for (const line of lines.filter(Boolean)) {
    const [, kind, name] = /^# (HELP|TYPE) (\S+)/.exec(line) ?? []
    if (kind === 'HELP') current = name ?? ''
    assert.equal(name ?? /^\w+/.exec(line)?.[0], current, line)
  }
})

test('promtool finds nothing to complain about', async () => {
  for (const facts of [[web1, empty], [web1], []]) execFileSync(promtool, ['check', 'metrics'], { input: textOf(facts) })
  assert.throws(
    () => execFileSync(promtool, ['check', 'metrics'], { input: 'kedge_bad_total 1\n', stdio: 'pipe' }),
    'promtool does complain',
  )
})

test('labels escape backslash, quote and line feed, and nothing else', () => {
  assert.equal(escaped('a\\b"c\nd\té'), 'a\\\\b\\"c\\nd\té')
})

test('growth counts what came after the first backup, and needs a day', () => {
  const day = 86_400
  const cases: [string, { at: number; added: number }[], number | null][] = [
    ['nothing', [], null],
    ['one', [{ at: 0, added: 9 }], null],
    [
      'less than a day',
      [
        { at: 0, added: 9 },
        { at: day - 1, added: 9 },
      ],
      null,
    ],
    [
      'the first does not count',
      [
        { at: 0, added: 1e9 },
        { at: 2 * day, added: 10 },
      ],
      5,
    ],
    [
      'any order',
      [
        { at: 4 * day, added: 10 },
        { at: 0, added: 1e9 },
        { at: day, added: 10 },
      ],
      5,
    ],
  ]
  for (const [name, backups, expected] of cases) assert.equal(growthPerDay(backups), expected, name)
  assert.equal(fullIn(1000, 100), 10 * day)
  for (const [free, perDay] of [
    [null, 1],
    [1, null],
    [1, 0],
    [1, -1],
  ] as const)
    assert.equal(fullIn(free, perDay), null)
})

test('what a run added is the sum of its snapshots; runs without one and other verbs do not count', () => {
  const runs = [
    good,
    run({ state: 'failed', results: [] }),
    run({ verb: 'prune', results: [summary(9)] }),
    run({ results: [summary(9, { dryRun: true })] }),
  ]
  assert.deepEqual(additions(runs), [{ at: Date.parse(good.start) / 1000, added: 12 }])
})
