import assert from 'node:assert/strict'
import test from 'node:test'
import type { Target } from '../lib/contract.ts'
import { lagsIn, ofStore } from '../lib/lag.ts'
import { lagText, metricsText } from '../lib/metrics.ts'
import type { Copied, RunRow, Summary } from '../lib/rows.ts'
import { standing } from '../lib/standing.ts'

const at = (hour: number) => new Date(Date.UTC(2026, 10, 20, hour)).toISOString()
const run = (hour: number, more: Partial<RunRow>): RunRow => ({
  kind: 'run',
  target: 'web1',
  run: `${at(hour)}`,
  verb: 'backup',
  state: 'success',
  status: 0,
  start: at(hour),
  seconds: 60,
  ...more,
})
const summary: Summary = { kind: 'summary', target: 'web1', snapshot: 'a', files: 1, bytes: 1, added: 1, seconds: 1 }
const backup = (hour: number, more: Partial<RunRow> = {}) => run(hour, { results: [summary], ...more })
const copied = (to: string): Copied => ({ kind: 'copied', target: 'web1', to, copied: 1, present: 0 })
const copy = (hour: number, to: readonly string[], more: Partial<RunRow> = {}) =>
  run(hour, { verb: 'copy', results: to.map(copied), ...more })
const inPart = { state: 'warning', status: 3, class: 'partial' } as const

test('what a second store lacks follows from the runs: all that was saved since the last copy that filled it', async () => {
  type Expected = { copied: number | null; since: number | null; behind: number | null; failed?: [number, string] }
  const cases: [what: string, runs: RunRow[], expected: Expected, saves?: boolean][] = [
    ['no run', [], { copied: null, since: null, behind: 0 }],
    ['no run of a target that saves nothing', [], { copied: null, since: null, behind: null }, false],
    ['a copy of a target that saves nothing', [copy(3, ['off'])], { copied: 3, since: null, behind: null }, false],
    ['never copied', [backup(1), backup(2)], { copied: null, since: 1, behind: 2 }],
    ['all there', [backup(1), copy(2, ['off'])], { copied: 2, since: null, behind: 0 }],
    ['saved since, the oldest counts', [backup(1), copy(2, ['off']), backup(3), backup(4)], { copied: 2, since: 3, behind: 2 }],
    ['paths and streams', [copy(2, ['off']), backup(3, { results: [summary, summary] })], { copied: 2, since: 3, behind: 2 }],
    ['saved in part', [copy(2, ['off']), backup(3, inPart)], { copied: 2, since: 3, behind: 1 }],
    ['a backup that failed at last', [copy(2, ['off']), backup(3, { state: 'failed', status: 1 })], { copied: 2, since: 3, behind: 1 }],
    ['a backup that saved nothing', [copy(2, ['off']), run(3, { state: 'failed', status: 13 })], { copied: 2, since: null, behind: 0 }],
    ['another store was filled', [backup(1), copy(2, ['other'])], { copied: null, since: 1, behind: 1 }],
    ['other verbs', [backup(1), copy(2, ['off']), run(3, { verb: 'check' })], { copied: 2, since: null, behind: 0 }],
    [
      'filled, although another one failed',
      [backup(1), copy(2, ['off'], { ...inPart, warnings: [`${ofStore('other')}no route`] })],
      { copied: 2, since: null, behind: 0 },
    ],
    [
      'one snapshot could not be copied',
      [
        backup(1),
        copy(3, [], { ...inPart, warnings: [`${ofStore('off')}damaged`], results: [{ ...copied('off'), left: 1, since: at(1) }] }),
        backup(4),
      ],
      { copied: 3, since: 1, behind: 2, failed: [3, 'damaged'] },
    ],
    [
      'it failed beside another one',
      [backup(1), copy(2, ['other'], { ...inPart, warnings: ['the clock', `${ofStore('off')}no route`] })],
      { copied: null, since: 1, behind: 1, failed: [2, 'no route'] },
    ],
    [
      'another one failed, asked for alone',
      [backup(1), copy(2, [], { ...inPart, warnings: [`${ofStore('other')}no route`] })],
      { copied: null, since: 1, behind: 1 },
    ],
    [
      'the first store did not open',
      [copy(1, ['off']), backup(2), run(3, { verb: 'copy', state: 'failed', status: 13, message: 'no route' })],
      { copied: 1, since: 2, behind: 1, failed: [3, 'no route'] },
    ],
    ['skipped', [copy(1, ['off']), run(3, { verb: 'copy', state: 'skipped', status: 75 })], { copied: 1, since: null, behind: 0 }],
    [
      'the last failure of two',
      [1, 2].map((hour) => run(hour, { verb: 'copy', state: 'failed', status: 13, message: `try ${hour}` })),
      { copied: null, since: null, behind: 0, failed: [2, 'try 2'] },
    ],
    [
      'well again',
      [run(1, { verb: 'copy', state: 'failed', status: 13, message: 'no route' }), copy(2, ['off'])],
      { copied: 2, since: null, behind: 0 },
    ],
  ]
  const time = (hour: number | null) => (hour === null ? null : at(hour))
  for (const [what, runs, expected, saves = true] of cases) {
    const failed = expected.failed ? { start: at(expected.failed[0]), message: expected.failed[1] } : null
    assert.deepEqual(
      await lagsIn(runs.toReversed(), ['off'], saves),
      [{ store: 'off', copied: time(expected.copied), since: time(expected.since), behind: expected.behind, failed }],
      what,
    )
  }
})

test('the ledger is read no further than to the last copy to each store', async () => {
  let read = 0
  function* runs() {
    for (const each of [backup(4), copy(3, ['a']), backup(2), copy(1, ['b']), backup(0), backup(0)]) {
      read++
      yield each
    }
  }
  const lags = await lagsIn(runs(), ['a', 'b'], true)
  assert.deepEqual(
    lags.map(({ store, behind }) => [store, behind]),
    [
      ['a', 1],
      ['b', 2],
    ],
  )
  assert.equal(read, 5)
})

test('a second store is late by COPY_MAX_LAG, else by the schedule of its copies or of the backups that they follow', async () => {
  const now = new Date(at(12))
  const target = (env: Record<string, string>, paths = ['/etc']) =>
    ({ name: 'web1', env: { TZ: 'UTC', COPY_TO: 'off', ...env }, paths, streams: [] }) as unknown as Target
  const filled = [backup(-24), copy(-23, ['off'])]
  const failed = run(3, { verb: 'copy', state: 'failed', status: 13, message: 'no route' })
  const after = { COPY_AFTER_BACKUP: 'yes' }
  const [hasAll, lacks] = ["store 'off' has all", "store 'off' lacks 1 snapshot, for"]
  const cases: [what: string, env: Record<string, string>, runs: RunRow[], state: string, message: string, paths?: string[]][] = [
    ['never', {}, [], 'never', "store 'off' has no copy"],
    ['never, and something to copy', {}, [backup(2)], 'never', `${lacks} 10 h`],
    ['never, and late', { SCHEDULE_COPY: '0 6 * * *' }, [backup(2)], 'never', `${lacks} 10 h`],
    ['all there', {}, filled, 'ok', hasAll],
    ['by hand, however long', {}, [copy(-900, ['off']), backup(-800)], 'ok', `${lacks} 33 d 20 h`],
    ['COPY_MAX_LAG kept', { COPY_MAX_LAG: '11h' }, [...filled, backup(2)], 'ok', `${lacks} 10 h`],
    ['COPY_MAX_LAG over', { COPY_MAX_LAG: '9h' }, [...filled, backup(2)], 'stale', `${lacks} 10 h: longer than 9 h`],
    ['COPY_MAX_LAG before the schedule', { COPY_MAX_LAG: '2d', SCHEDULE_COPY: '@hourly' }, [...filled, backup(2)], 'ok', `${lacks} 10 h`],
    ['the schedule not yet', { SCHEDULE_COPY: '0 13 * * *' }, [...filled, backup(2)], 'ok', `${lacks} 10 h`],
    ['the schedule, just missed', { SCHEDULE_COPY: '0 11 * * *' }, [...filled, backup(2)], 'ok', `${lacks} 10 h`],
    [
      'the schedule missed',
      { SCHEDULE_COPY: '0 6 * * *' },
      [...filled, backup(2)],
      'stale',
      `${lacks} 10 h: it was due 2026-11-20T06:00:00.000Z`,
    ],
    ['the schedule missed, and nothing to copy', { SCHEDULE_COPY: '0 6 * * *' }, filled, 'ok', hasAll],
    ['a late timer', { SCHEDULE_COPY: '0 6 * * *', SCHEDULE_JITTER: '5h' }, [...filled, backup(2)], 'ok', `${lacks} 10 h`],
    ['after the backup', { ...after, SCHEDULE_BACKUP: '0 2 * * *' }, [...filled, backup(2)], 'ok', `${lacks} 10 h`],
    [
      'after the backup, missed twice',
      { ...after, SCHEDULE_BACKUP: '0 2 * * *' },
      [copy(-30, ['off']), backup(-22), backup(2)],
      'stale',
      "store 'off' lacks 2 snapshots, the oldest for 1 d 10 h: it was due 2026-11-20T02:00:00.000Z",
    ],
    ['after the backup, by MAX_AGE', { ...after, MAX_AGE: '9h' }, [...filled, backup(2)], 'stale', `${lacks} 10 h: longer than 9 h`],
    ['after the backup, by 26 hours', after, [copy(-30, ['off']), backup(-15)], 'stale', `${lacks} 1 d 3 h: longer than 1 d 2 h`],
    ['failed', {}, [...filled, backup(2), failed], 'failed', `${lacks} 10 h: no route`],
    ['failed and late', { COPY_MAX_LAG: '1h' }, [...filled, backup(2), failed], 'stale', `${lacks} 10 h: no route`],
    ['no sources, in time', { COPY_MAX_LAG: '2d' }, [copy(-23, ['off'])], 'ok', "store 'off' got the last copy", []],
    ['no sources, late', { COPY_MAX_LAG: '1d' }, [copy(-23, ['off'])], 'stale', "store 'off' got the last copy: longer than 1 d", []],
  ]
  for (const [what, env, runs, state, message, paths] of cases) {
    const of = target(env, paths)
    const lags = await lagsIn(runs.toReversed(), ['off'], of.paths.length > 0)
    const rows = await standing(of, { last: {}, live: [], lags }, { now })
    const row = rows.find(({ verb }) => verb === 'copy')
    assert.deepEqual([row?.state, row?.message], [state, message], what)
    assert.equal(row?.store, 'off')
  }
  const lags = await lagsIn([backup(2)], ['a', 'b'], true)
  const live = [{ run: 'x', verb: 'copy', pid: 1, start: at(11), alive: 'yes' as const }]
  const rows = await standing(target({ SCHEDULE_COPY: '0 18 * * *' }), { last: {}, live, lags }, { now })
  assert.deepEqual(
    rows.slice(1).map(({ store, state, lag, behind, due }) => ({ store, state, lag, behind, due })),
    ['a', 'b'].map((store) => ({ store, state: 'running', lag: 36_000, behind: 1, due: at(18) })),
  )
  assert.deepEqual(
    (await standing(target({}), { last: {}, live: [], lags: [] }, { now })).map(({ verb }) => verb),
    ['backup'],
    'a target without second stores has no row for them',
  )
})

test('the metric of a store goes on growing after it was prepared', () => {
  const kept = [
    { store: 'off', since: Date.parse(at(2)) },
    { store: 'odd"', since: 0 },
  ]
  const lag = lagText('web1', kept, Date.parse(at(12)))
  const text = metricsText([{ valid: '', lag, samples: [] }])
  assert.equal(
    text,
    `# HELP kedge_copy_lag_seconds How old the oldest backup is of which something is missing in a second store; 0: nothing is.
# TYPE kedge_copy_lag_seconds gauge
kedge_copy_lag_seconds{target="web1",store="off"} 36000
kedge_copy_lag_seconds{target="web1",store="odd\\""} 0
`,
  )
})
