import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clockJump, type Facts, guards, judge } from '../lib/guard.ts'

const now = new Date('2026-11-20T12:00:00Z')
const minutes = (n: number) => new Date(now.getTime() + n * 60_000)
const well: Facts = {
  target: 'web1',
  verb: 'backup',
  pinned: 'c0ffee0123456789',
  canary: { path: '/srv/.canary', there: true },
  paths: { present: ['/srv'], missing: [] },
  others: 0,
  now,
  damaged: undefined,
  lastRun: minutes(-60),
}

test('guards judge facts: what is well, what warns, what blocks, and with which class', () => {
  const cases: [string, Partial<Facts>, Record<string, string>][] = [
    ['all is well', {}, { pin: 'ok', canary: 'ok', sources: 'ok' }],
    ['no pin', { pinned: undefined }, { pin: 'blocked refused', canary: 'ok', sources: 'ok' }],
    ['the canary is gone', { canary: { path: '/c', there: false } }, { pin: 'ok', canary: 'blocked vanished', sources: 'ok' }],
    ['no canary is asked for', { canary: undefined }, { pin: 'ok', sources: 'ok' }],
    ['one path missing', { paths: { present: ['/a'], missing: ['/b'] } }, { pin: 'ok', canary: 'ok', sources: 'warning partial' }],
    ['all missing', { paths: { present: [], missing: ['/a', '/b'] } }, { pin: 'ok', canary: 'ok', sources: 'blocked vanished' }],
    [
      'all missing, but there are streams',
      { paths: { present: [], missing: ['/a'] }, others: 2 },
      { pin: 'ok', canary: 'ok', sources: 'blocked vanished' },
    ],
    ['nothing to save', { paths: { present: [], missing: [] } }, { pin: 'ok', canary: 'ok', sources: 'blocked config' }],
    ['streams only', { paths: { present: [], missing: [] }, others: 1 }, { pin: 'ok', canary: 'ok', sources: 'ok' }],
    ['a check writes nothing', { verb: 'check', pinned: undefined, canary: undefined, paths: undefined }, {}],
    ['prune, not pinned', { verb: 'prune', pinned: undefined, canary: undefined, paths: undefined }, { pin: 'blocked refused' }],
    [
      'prune, the clock far behind',
      { verb: 'prune', canary: undefined, paths: undefined, lastRun: minutes(11) },
      { pin: 'ok', clock: 'blocked refused' },
    ],
    ['prune, the clock a little behind', { verb: 'prune', canary: undefined, paths: undefined, lastRun: minutes(10) }, { pin: 'ok' }],
    ['prune, no run yet', { verb: 'prune', canary: undefined, paths: undefined, lastRun: undefined }, { pin: 'ok' }],
    [
      'prune of a damaged store',
      { verb: 'prune', canary: undefined, paths: undefined, lastRun: undefined, damaged: { verb: 'check', message: 'pack 1a2b is gone' } },
      { pin: 'ok', damage: 'blocked refused' },
    ],
    [
      'a backup into a damaged store',
      { damaged: { verb: 'check', message: 'pack 1a2b is gone' } },
      { pin: 'ok', canary: 'ok', sources: 'ok', damage: 'warning damaged' },
    ],
    ['a backup does not mind the clock', { lastRun: minutes(60) }, { pin: 'ok', canary: 'ok', sources: 'ok' }],
    ...(['copy', 'forget', 'hold'] as const).map((verb): [string, Partial<Facts>, Record<string, string>] => [
      `${verb}, not pinned`,
      { verb, pinned: undefined, canary: undefined, paths: undefined },
      { pin: 'blocked refused' },
    ]),
  ]
  for (const [name, facts, expected] of cases) {
    const verdicts = judge({ ...well, ...facts })
    const said = verdicts.map(({ guard, level, class: kind }) => [guard, level === 'ok' ? level : `${level} ${kind}`])
    assert.deepEqual(Object.fromEntries(said), expected, name)
    for (const { guard, level, message } of verdicts) {
      assert.ok(Object.hasOwn(guards, guard), guard)
      assert.match(message, /^[^A-Z].*[^.]$/s, 'a message begins small and has no full stop')
      if (level === 'blocked') assert.match(message, /'web1'/, name)
    }
  }
})

test('what blocks says which paths, and what to do', () => {
  const [, , sources] = judge({ ...well, paths: { present: [], missing: ['/a b', '/c'] } })
  assert.match(sources?.message ?? '', /'\/a b', '\/c'/)
  assert.match(sources?.hint ?? '', /mounted/)
  const [pin] = judge({ ...well, pinned: undefined })
  assert.match(pin?.hint ?? '', /kedge init web1/)
})

test('a clock that jumped shows in the times of the snapshots', () => {
  const days = (...ago: number[]) => ago.map((n) => new Date(now.getTime() - n * 86_400_000))
  const cases: [string, Date[], RegExp | undefined][] = [
    ['none', [], undefined],
    ['one', days(0), undefined],
    ['daily', days(0, 1, 2, 3, 4, 5), undefined],
    ['in any order', days(3, 0, 2, 1, 4), undefined],
    ['one from the future', days(-1, 0, 1, 2), /from the future, 2026-11-21/],
    ['clocks that differ a little', [minutes(9), ...days(1, 2, 3)], undefined],
    ['a year after the others', days(0, 365, 366, 367, 368), /365 days after the one before/],
    ['a year, but only two before', days(0, 365, 366), undefined],
    ['a pause of two months', days(0, 60, 61, 62, 63), undefined],
    ['yearly ones', days(0, 365, 730, 1095, 1460), undefined],
    ['an old gap is no jump', days(0, 1, 2, 400, 401, 402), undefined],
  ]
  for (const [name, times, reason] of cases) {
    const said = clockJump(times, now)
    if (reason) assert.match(said ?? '', reason, name)
    else assert.equal(said, undefined, name)
  }
})

test('damage that a drill found is cleared by a drill, and the hint says so', () => {
  const hint = (verb: 'check' | 'drill') =>
    judge({ ...well, verb: 'prune', damaged: { verb, message: 'rot' } }).find(({ guard }) => guard === 'damage')?.hint ?? ''
  assert.match(hint('drill'), /then kedge drill web1$/)
  assert.match(hint('check'), /then kedge check web1$/)
})
