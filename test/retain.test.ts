import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { Failure } from '../lib/failure.ts'
import { parseKeep, type Rules } from '../lib/keeprules.ts'
import { digest, type Kept, plan, simulate } from '../lib/retain.ts'
import { instantOf, offsetIn } from '../lib/zone.ts'
import { cheapen } from './cheap.ts'

/** The restics to compare with: $RESTIC, or each version that was fetched for the tests, or the one in PATH. */
function restics(): string[] {
  if (process.env.RESTIC) return [process.env.RESTIC]
  const tools = process.env.KEDGE_TEST_TOOLS ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'kedge-test')
  const found = existsSync(tools) ? readdirSync(tools).filter((name) => /^restic-0\.\d+\.\d+$/.test(name)) : []
  return found.length > 0 ? found.sort().map((name) => join(tools, name, 'usr', 'bin', 'restic')) : ['restic']
}

const now = new Date('2026-11-20T12:00:00Z')

function rulesOf(env: Record<string, string>): Rules {
  const { rules, faults } = parseKeep(env)
  assert.deepEqual(faults, [])
  return rules
}

function shot(time: string, more: Partial<Kept> = {}): Kept {
  return { id: time, time, group: 'paths', tags: [], ...more }
}

/** The plan as lines: `keep 2026-01-02T00:00:00Z: daily, 1 of 7; newest good`. */
function lines(snapshots: readonly Kept[], env: Record<string, string>, zone = 'UTC', maxDelete?: number): string[] {
  return plan(snapshots, rulesOf(env), { zone, now, maxDelete }).map((row) => `${row.action} ${row.id}: ${row.reasons.join('; ')}`)
}

function keptIds(snapshots: readonly Kept[], env: Record<string, string>, zone = 'UTC'): string[] {
  const rows = plan(snapshots, rulesOf({ KEEP_MIN: '0', ...env }), { zone, now })
  return rows.filter((row) => row.action === 'keep').map((row) => row.id)
}

/** A small generator of pseudo-random numbers (mulberry32), so that a failure can be repeated. */
function seeded(seed: number) {
  let state = seed
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number) => Math.floor(next() * limit)
  const pick = <T>(...choices: T[]): T => {
    const choice = choices[below(choices.length)]
    assert.ok(choice !== undefined)
    return choice
  }
  return { next, below, pick }
}

type Random = ReturnType<typeof seeded>

function randomKeep({ next, below, pick }: Random): Record<string, string> {
  const env: Record<string, string> = {}
  for (const name of ['LAST', 'HOURLY', 'DAILY', 'WEEKLY', 'MONTHLY', 'YEARLY']) {
    if (next() < 0.35) env[`KEEP_${name}`] = pick('1', '2', '3', '5', '8', '0', 'unlimited')
    if (name !== 'LAST' && next() < 0.25) env[`KEEP_WITHIN_${name}`] = randomSpan(below, pick)
  }
  if (next() < 0.25) env.KEEP_WITHIN = randomSpan(below, pick)
  if (next() < 0.3) env.KEEP_TAGS = pick('gold', 'gold,silver', 'silver')
  // A policy of tags alone, or of none, is where kedge means to differ.
  if (!Object.entries(env).some(([key, value]) => key !== 'KEEP_TAGS' && value !== '0')) env.KEEP_LAST = '2'
  return env
}

function randomSpan(below: Random['below'], pick: Random['pick']): string {
  return pick(`${1 + below(60)}d`, `${1 + below(14)}m`, `1y${below(5)}m`, `${1 + below(90)}h`, `2m${below(40)}d${below(30)}h`)
}

describe('keep settings', () => {
  test('a setting becomes a rule, and an empty value or 0 switches it off', () => {
    const none = { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 }
    const cases: [Record<string, string>, Rules][] = [
      [{}, { counts: none, within: {}, tags: [], min: 1 }],
      [
        { KEEP_DAILY: '7', KEEP_LAST: 'unlimited' },
        { counts: { ...none, daily: 7, last: Infinity }, within: {}, tags: [], min: 1 },
      ],
      [
        { KEEP_DAILY: '', KEEP_LAST: '0', KEEP_WITHIN: '', KEEP_WITHIN_DAILY: '0', KEEP_WITHIN_WEEKLY: '0d', KEEP_TAGS: '', KEEP_MIN: '' },
        { counts: none, within: {}, tags: [], min: 0 },
      ],
      [
        { KEEP_WITHIN: '1y5m7d2h', KEEP_WITHIN_YEARLY: '3y' },
        {
          counts: none,
          within: { all: { text: '1y5m7d2h', months: 17, days: 7, hours: 2 }, yearly: { text: '3y', months: 36, days: 0, hours: 0 } },
          tags: [],
          min: 1,
        },
      ],
      [
        { KEEP_TAGS: 'release, audit,,', KEEP_MIN: '3' },
        { counts: none, within: {}, tags: ['release', 'audit'], min: 3 },
      ],
    ]
    for (const [env, rules] of cases) assert.deepEqual(rulesOf(env), rules)
  })

  test('what is made by hand has rules of its own, which keep all of it where none is set', () => {
    const none = { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 }
    const week = { text: '7d', months: 0, days: 7, hours: 0 }
    const cases: [Record<string, string>, Partial<Rules>][] = [
      [
        { KEEP_LAST: '3', KEEP_TAGS: 'release', KEEP_MIN: '2' },
        { counts: { ...none, last: Infinity }, min: 2 },
      ],
      [{ KEEP_MANUAL: '2' }, { counts: { ...none, last: 2 } }],
      [
        { KEEP_MANUAL: '0', KEEP_MANUAL_WITHIN: '7d' },
        { counts: none, within: { all: week } },
      ],
    ]
    for (const [env, manual] of cases) assert.deepEqual(parseKeep(env).manual, { within: {}, tags: [], min: 1, ...manual })
    const { faults } = parseKeep({ KEEP_MANUAL: 'some', KEEP_MANUAL_WITHIN: '7' })
    assert.deepEqual(
      faults.map(({ key }) => key),
      ['KEEP_MANUAL_WITHIN', 'KEEP_MANUAL'],
    )
  })

  test('all faults are told at once, each with its key', () => {
    const { faults } = parseKeep({
      KEEP_LAST: '-1',
      KEEP_DAILY: 'seven',
      KEEP_WITHIN: '30',
      KEEP_WITHIN_DAILY: '7d1y',
      KEEP_MIN: 'unlimited',
    })
    assert.deepEqual(faults, [
      { key: 'KEEP_LAST', message: "'-1' is not a whole number or 'unlimited'" },
      { key: 'KEEP_WITHIN', message: "'30' is not a duration such as 1y5m7d2h" },
      { key: 'KEEP_DAILY', message: "'seven' is not a whole number or 'unlimited'" },
      { key: 'KEEP_WITHIN_DAILY', message: "'7d1y' is not a duration such as 1y5m7d2h" },
      { key: 'KEEP_MIN', message: "'unlimited' is not a whole number" },
    ])
  })
})

describe('the plan', () => {
  test('every snapshot has its reasons, the newest first', () => {
    const times = ['2026-01-31T02:00:00Z', '2026-02-01T02:00:00Z', '2026-02-02T02:00:00Z', '2026-02-02T14:00:00Z', '2026-02-03T02:00:00Z']
    const snapshots = [
      shot('2026-01-30T02:00:00Z'),
      ...times.map((time) => shot(time, time.includes('01T') ? { tags: ['release'], held: true } : {})),
    ]
    assert.deepEqual(lines(snapshots, { KEEP_DAILY: '2', KEEP_MONTHLY: '12', KEEP_WITHIN: '14h', KEEP_TAGS: 'release' }), [
      'keep 2026-02-03T02:00:00Z: within 14h of the newest; daily, 1 of 2; monthly, 1 of 12; newest good',
      'keep 2026-02-02T14:00:00Z: within 14h of the newest; daily, 2 of 2',
      'delete 2026-02-02T02:00:00Z: no keep rule holds it',
      'keep 2026-02-01T02:00:00Z: held; tag release',
      'keep 2026-01-31T02:00:00Z: monthly, 2 of 12',
      'keep 2026-01-30T02:00:00Z: oldest monthly',
    ])
  })

  test('nanoseconds and offsets decide the order and the edge of a within rule', () => {
    const snapshots = [
      shot('2026-02-01T12:00:00.000000001Z'),
      shot('2026-02-02T13:00:00.000000001+01:00'),
      shot('2026-02-01T12:00:00.000000002Z'),
      shot('2026-02-02T13:00:00+01:00'),
      shot('2026-02-01T12:00:00.5Z'),
    ]
    assert.deepEqual(keptIds(snapshots, { KEEP_WITHIN: '1d' }), [
      '2026-02-02T13:00:00.000000001+01:00',
      '2026-02-02T13:00:00+01:00',
      '2026-02-01T12:00:00.5Z',
      '2026-02-01T12:00:00.000000002Z',
    ])
  })

  test('within goes back by the calendar', () => {
    const cases: [string, string, string, boolean][] = [
      ['2026-03-31T12:00:00Z', '1m', '2026-03-03T12:00:01Z', true],
      ['2026-03-31T12:00:00Z', '1m', '2026-03-03T12:00:00Z', false],
      ['2024-02-29T12:00:00Z', '1y', '2023-03-01T12:00:01Z', true],
      ['2024-02-29T12:00:00Z', '1y', '2023-02-28T12:00:01Z', false],
      ['2026-01-10T12:00:00Z', '1y1m10d36h', '2024-11-28T23:59:59Z', false],
      ['2026-01-10T12:00:00Z', '1y1m10d36h', '2024-11-29T00:00:01Z', true],
      ['2026-01-10T12:00:00Z', '999999999y', '0001-01-01T00:00:00Z', true],
    ]
    for (const [newest, within, old, kept] of cases) {
      assert.equal(keptIds([shot(newest), shot(old)], { KEEP_WITHIN: within }).includes(old), kept, `${within} before ${newest}: ${old}`)
    }
  })

  test('a snapshot from the future does not push the others out of a within rule', () => {
    const snapshots = [shot('2126-01-01T00:00:00Z'), shot('2026-11-19T00:00:00Z'), shot('2026-11-01T00:00:00Z')]
    assert.deepEqual(keptIds(snapshots, { KEEP_WITHIN: '7d' }), ['2126-01-01T00:00:00Z', '2026-11-19T00:00:00Z'])
  })

  test('without any rule everything is kept', () => {
    assert.deepEqual(lines([shot('2026-01-01T00:00:00Z'), shot('2026-01-02T00:00:00Z')], { KEEP_DAILY: '' }), [
      'keep 2026-01-02T00:00:00Z: no keep rules; newest good',
      'keep 2026-01-01T00:00:00Z: no keep rules',
    ])
  })

  test('the newest good snapshot stays when the rules keep only a suspect one, or none', () => {
    const snapshots = [shot('2026-01-03T00:00:00Z', { suspect: true }), shot('2026-01-02T00:00:00Z'), shot('2026-01-01T00:00:00Z')]
    assert.deepEqual(lines(snapshots, { KEEP_LAST: '1' }), [
      'keep 2026-01-03T00:00:00Z: last, 1 of 1',
      'keep 2026-01-02T00:00:00Z: newest good',
      'delete 2026-01-01T00:00:00Z: no keep rule holds it',
    ])
    assert.deepEqual(keptIds(snapshots, { KEEP_TAGS: 'missing' }), ['2026-01-02T00:00:00Z'])
    assert.deepEqual(lines([shot('2026-01-03T00:00:00Z', { suspect: true })], { KEEP_TAGS: 'missing', KEEP_MIN: '0' }), [
      'keep 2026-01-03T00:00:00Z: newest, and none is good',
    ])
  })

  test('a partial snapshot is not good, says so, and fills KEEP_MIN last; what is of another target too stays', () => {
    const snapshots = [
      shot('2026-01-05T00:00:00Z', { partial: true }),
      shot('2026-01-04T00:00:00Z', { partial: true }),
      shot('2026-01-03T00:00:00Z'),
      shot('2026-01-02T00:00:00Z'),
      shot('2026-01-01T00:00:00Z', { others: ['web1'] }),
    ]
    assert.deepEqual(lines(snapshots, { KEEP_LAST: '1', KEEP_MIN: '4' }), [
      'keep 2026-01-05T00:00:00Z: last, 1 of 1; partial',
      'delete 2026-01-04T00:00:00Z: no keep rule holds it; partial',
      'keep 2026-01-03T00:00:00Z: newest good',
      'keep 2026-01-02T00:00:00Z: KEEP_MIN 4',
      "keep 2026-01-01T00:00:00Z: also of target 'web1'",
    ])
    assert.deepEqual(lines(snapshots.slice(0, 2), { KEEP_LAST: '1', KEEP_MIN: '0' }), [
      'keep 2026-01-05T00:00:00Z: last, 1 of 1; newest, and none is good; partial',
      'delete 2026-01-04T00:00:00Z: no keep rule holds it; partial',
    ])
  })

  test('KEEP_MIN holds for each group, and good snapshots fill it before suspect ones', () => {
    const group = (name: string) => [
      shot(`${name} 3`, { time: '2026-01-03T00:00:00Z', group: name }),
      shot(`${name} 2`, { time: '2026-01-02T00:00:00Z', group: name, suspect: true }),
      shot(`${name} 1`, { time: '2026-01-01T00:00:00Z', group: name }),
    ]
    assert.deepEqual(lines([...group('a'), ...group('b')], { KEEP_LAST: '1', KEEP_MIN: '2' }).slice(0, 4), [
      'keep a 3: last, 1 of 1; newest good',
      'delete a 2: no keep rule holds it',
      'keep a 1: KEEP_MIN 2',
      'keep b 3: last, 1 of 1; newest good',
    ])
    assert.deepEqual(keptIds(group('a'), { KEEP_LAST: '1', KEEP_MIN: '9' }), ['a 3', 'a 2', 'a 1'])
  })

  test('groups may have rules of their own', () => {
    const { rules, manual } = parseKeep({ KEEP_LAST: '1', KEEP_MANUAL: '2' })
    const snapshots = ['01', '02', '03', '04', '05', '06'].map((day) =>
      shot(day, { time: `2026-01-${day}T00:00:00Z`, group: Number(day) % 2 ? 'manual' : 'paths' }),
    )
    const rows = plan(snapshots, (group) => (group === 'manual' ? manual : rules), { zone: 'UTC', now })
    assert.deepEqual(
      rows.map(({ id, action, reasons }) => `${action} ${id}: ${reasons.join('; ')}`),
      [
        'keep 05: last, 1 of 2; newest good',
        'keep 03: last, 2 of 2',
        'delete 01: no keep rule holds it',
        'keep 06: last, 1 of 1; newest good',
        'delete 04: no keep rule holds it',
        'delete 02: no keep rule holds it',
      ],
    )
  })

  test('where bases are asked for, what a kept snapshot was made from stays, across groups, and no further back', () => {
    const snapshots = [
      shot('5', { time: '2026-01-05T00:00:00Z', base: '3', group: 'manual' }),
      shot('4', { time: '2026-01-04T00:00:00Z', base: '2' }),
      shot('3', { time: '2026-01-03T00:00:00Z', base: '1' }),
      shot('2', { time: '2026-01-02T00:00:00Z', base: '1' }),
      shot('1', { time: '2026-01-01T00:00:00Z', base: 'gone' }),
    ]
    const actions = (bases: boolean) =>
      plan(snapshots, rulesOf({ KEEP_LAST: '1' }), { zone: 'UTC', now, bases }).map(
        (row) => `${row.action} ${row.id}: ${row.reasons.at(-1)}`,
      )
    const unheld = 'no keep rule holds it'
    assert.deepEqual(actions(true), [
      'keep 5: newest good',
      'keep 4: newest good',
      'keep 3: base of 5',
      'keep 2: base of 4',
      `delete 1: ${unheld}`,
    ])
    assert.deepEqual(
      actions(false).filter((line) => line.startsWith('delete')),
      ['3', '2', '1'].map((id) => `delete ${id}: ${unheld}`),
    )
  })

  test('above the limit the oldest of all groups are deleted, and the rest comes later', () => {
    const snapshots = ['01', '02', '03', '04', '05', '06'].map((day) =>
      shot(day, { time: `2026-01-${day}T00:00:00Z`, group: Number(day) % 2 ? 'odd' : 'even' }),
    )
    const row = (id: string, action: string) =>
      `${action} ${id}: no keep rule holds it${action === 'later' ? '; more than 3 to delete, the oldest go first' : ''}`
    assert.deepEqual(lines(snapshots, { KEEP_LAST: '1' }, 'UTC', 3), [
      'keep 05: last, 1 of 1; newest good',
      row('03', 'delete'),
      row('01', 'delete'),
      'keep 06: last, 1 of 1; newest good',
      row('04', 'later'),
      row('02', 'delete'),
    ])
    assert.equal(lines(snapshots, { KEEP_LAST: '1' }, 'UTC', 0).filter((line) => line.startsWith('later')).length, 4)
    assert.equal(lines(snapshots, { KEEP_LAST: '1' }, 'UTC', 4).filter((line) => line.startsWith('delete')).length, 4)
  })

  test('a time that cannot be read stops the plan', () => {
    for (const time of ['', 'yesterday', '2026-01-01', '2026-01-01 00:00:00', '2026-13-01T00:00:00Z', '2026-01-01T00:00:00']) {
      assert.throws(
        () => lines([shot('2026-01-02T00:00:00Z'), shot(time, { id: 'bad' })], {}),
        (error) => error instanceof Failure && /'bad'/.test(error.message),
      )
    }
  })

  test('whatever the rules, nothing precious is deleted, each line has a reason, and a second plan finds nothing more', () => {
    const random = seeded(20261120)
    for (let round = 0; round < 400; round++) {
      const env: Record<string, string> = { ...randomKeep(random), KEEP_MIN: String(random.below(5)) }
      if (random.next() < 0.2) env.KEEP_LAST = '0'
      const snapshots = Array.from({ length: random.below(40) }, (_, index) =>
        shot(new Date(now.getTime() - random.below(800 * 24) * 3_600_000 - index).toISOString(), {
          id: `${round}-${index}`,
          group: random.pick('paths', 'app.sql'),
          tags: random.next() < 0.2 ? ['gold'] : [],
          held: random.next() < 0.1,
          suspect: random.next() < 0.2,
        }),
      )
      const maxDelete = random.pick(0, 1, 5, 100)
      const zone = random.pick('UTC', 'Europe/Berlin', 'Australia/Lord_Howe')
      const rows = plan(snapshots, rulesOf(env), { zone, now, maxDelete })
      const told = `round ${round}: ${JSON.stringify(env)}`
      assert.equal(rows.length, snapshots.length, told)
      assert.ok(
        rows.every((row) => row.reasons.length > 0),
        told,
      )
      const byId = new Map(snapshots.map((snapshot) => [snapshot.id, snapshot]))
      const gone = rows.filter((row) => row.action !== 'keep')
      const deleted = rows.filter((row) => row.action === 'delete')
      assert.ok(
        gone.every((row) => !byId.get(row.id)?.held),
        told,
      )
      assert.equal(deleted.length, Math.min(gone.length, maxDelete), told)
      const youngest =
        deleted
          .map((row) => row.time)
          .sort()
          .at(-1) ?? ''
      assert.ok(
        gone.every((row) => row.action === 'delete' || row.time >= youngest),
        told,
      )
      for (const group of ['paths', 'app.sql']) {
        const mine = snapshots.filter((snapshot) => snapshot.group === group).sort((a, b) => (a.time < b.time ? 1 : -1))
        const kept = new Set(rows.filter((row) => row.group === group && row.action === 'keep').map((row) => row.id))
        const good = mine.find((snapshot) => !snapshot.suspect) ?? mine[0]
        assert.ok(!good || kept.has(good.id), told)
        assert.ok(kept.size >= Math.min(mine.length, Number(env.KEEP_MIN)), told)
      }
      const left = snapshots.filter((snapshot) => !gone.some((row) => row.id === snapshot.id))
      assert.ok(
        plan(left, rulesOf(env), { zone, now }).every((row) => row.action === 'keep'),
        told,
      )
    }
  })
})

describe('the calendar', () => {
  test('hours, days, weeks, months and years are those of the zone', () => {
    const cases: [string, string, string, string, boolean][] = [
      // zone, rule, older, newer, whether they share the hour, day …
      ['UTC', 'DAILY', '2026-03-28T22:30:00Z', '2026-03-28T23:30:00Z', true],
      ['Europe/Berlin', 'DAILY', '2026-03-28T22:30:00Z', '2026-03-28T23:30:00Z', false],
      ['Europe/Berlin', 'DAILY', '2026-03-28T23:00:00Z', '2026-03-29T21:59:59Z', true],
      ['Europe/Berlin', 'DAILY', '2026-03-29T21:59:59Z', '2026-03-29T22:00:00Z', false],
      ['Europe/Berlin', 'DAILY', '2026-10-24T22:00:00Z', '2026-10-25T22:59:59Z', true],
      ['Europe/Berlin', 'HOURLY', '2026-03-29T00:59:00Z', '2026-03-29T01:00:00Z', false],
      ['Europe/Berlin', 'HOURLY', '2026-10-25T00:30:00Z', '2026-10-25T01:30:00Z', true],
      ['Europe/Berlin', 'WEEKLY', '2026-10-25T22:59:59Z', '2026-10-25T23:00:00Z', false],
      ['Europe/Berlin', 'MONTHLY', '2026-10-31T22:59:59Z', '2026-10-31T23:00:00Z', false],
      ['America/New_York', 'DAILY', '2026-03-08T05:00:00Z', '2026-03-09T03:59:59Z', true],
      ['America/New_York', 'DAILY', '2026-03-09T03:59:59Z', '2026-03-09T04:00:00Z', false],
      ['America/New_York', 'DAILY', '2026-11-01T04:00:00Z', '2026-11-02T04:59:59Z', true],
      ['America/New_York', 'YEARLY', '2026-01-01T04:59:59Z', '2026-01-01T05:00:00Z', false],
      ['Pacific/Apia', 'DAILY', '2011-12-30T09:59:59Z', '2011-12-30T10:00:00Z', false],
      ['Pacific/Apia', 'DAILY', '2011-12-30T10:00:00Z', '2011-12-31T09:59:59Z', true],
      ['Pacific/Apia', 'WEEKLY', '2011-12-30T09:59:59Z', '2011-12-31T09:59:59Z', true],
      ['Pacific/Apia', 'YEARLY', '2011-12-31T09:59:59Z', '2011-12-31T10:00:00Z', false],
      ['Asia/Kolkata', 'HOURLY', '2026-01-01T10:29:59Z', '2026-01-01T10:30:00Z', false],
      ['Asia/Kolkata', 'HOURLY', '2026-01-01T10:30:00Z', '2026-01-01T11:29:59Z', true],
      ['Asia/Kathmandu', 'DAILY', '2026-01-01T18:14:59Z', '2026-01-01T18:15:00Z', false],
      ['Australia/Lord_Howe', 'HOURLY', '2026-04-04T14:10:00Z', '2026-04-04T15:10:00Z', true],
      ['Australia/Lord_Howe', 'HOURLY', '2026-04-04T15:10:00Z', '2026-04-04T15:40:00Z', false],
      ['UTC', 'WEEKLY', '2026-12-28T00:00:00Z', '2027-01-03T23:59:59Z', true],
      ['UTC', 'WEEKLY', '2027-01-03T23:59:59Z', '2027-01-04T00:00:00Z', false],
      ['UTC', 'WEEKLY', '2021-01-03T00:00:00Z', '2020-12-28T00:00:00Z', true],
      ['UTC', 'MONTHLY', '2025-03-01T00:00:00Z', '2026-03-01T00:00:00Z', false],
    ]
    for (const [zone, rule, older, newer, same] of cases) {
      // A much older snapshot of the same rule takes the place of the oldest, which is kept in any case.
      const kept = keptIds([shot('1999-01-01T00:00:00Z'), shot(older), shot(newer)], { [`KEEP_${rule}`]: 'unlimited' }, zone)
      assert.equal(kept.length, same ? 2 : 3, `${zone} ${rule} ${older} ${newer}`)
    }
  })

  test('a day back is a day by the clock across daylight saving and over a day that does not exist', () => {
    const cases: [string, string, string, string][] = [
      // zone, newest, the span, the first second that is inside
      ['Europe/Berlin', '2026-03-29T10:00:00Z', '1d', '2026-03-28T11:00:01Z'],
      ['Europe/Berlin', '2026-03-29T10:00:00Z', '24h', '2026-03-28T10:00:01Z'],
      ['Europe/Berlin', '2026-10-25T11:00:00Z', '1d', '2026-10-24T10:00:01Z'],
      ['Europe/Berlin', '2026-03-30T00:30:00Z', '1d', '2026-03-29T00:30:01Z'],
      ['Europe/Berlin', '2026-10-26T01:30:00Z', '1d', '2026-10-25T00:30:01Z'],
      ['America/New_York', '2025-12-02T17:00:00Z', '1m', '2025-11-02T17:00:01Z'],
      ['America/New_York', '2025-12-01T17:00:00Z', '1m', '2025-11-01T16:00:01Z'],
      ['Pacific/Apia', '2011-12-31T02:00:00Z', '1d', '2011-12-30T02:00:01Z'],
      ['Pacific/Apia', '2011-12-31T02:00:00Z', '2d', '2011-12-30T02:00:01Z'],
    ]
    for (const [zone, newest, within, first] of cases) {
      const edge = new Date(Date.parse(first) - 1000).toISOString()
      assert.deepEqual(
        keptIds([shot(newest), shot(first), shot(edge)], { KEEP_WITHIN: within }, zone),
        [newest, first],
        `${zone} ${within} before ${newest}`,
      )
    }
  })

  test('offsets are what Intl says, before, at and after every change, in any order of asking', () => {
    const zones = ['UTC', 'Europe/Berlin', 'America/New_York', 'America/St_Johns', 'Pacific/Apia', 'Asia/Kolkata', 'Asia/Kathmandu']
    const random = seeded(7)
    for (const zone of [
      ...zones,
      'Australia/Lord_Howe',
      'Africa/Casablanca',
      'Asia/Gaza',
      'America/Sao_Paulo',
      'Antarctica/Troll',
      'Africa/Monrovia',
    ]) {
      const offset = offsetIn(zone)
      const fields = new Intl.DateTimeFormat('en-US', {
        timeZone: zone,
        hourCycle: 'h23',
        year: 'numeric',
        month: 'numeric',
        day: 'numeric',
        hour: 'numeric',
        minute: 'numeric',
        second: 'numeric',
      })
      const said = (instant: number) => {
        const part = Object.fromEntries(fields.formatToParts(instant).map(({ type, value }) => [type, Number(value)]))
        return (
          Date.UTC(part.year ?? 0, (part.month ?? 1) - 1, part.day, part.hour, part.minute, part.second) - Math.floor(instant / 1000) * 1000
        )
      }
      let last = 0
      for (let instant = Date.UTC(1970, 0, 2); instant < Date.UTC(2040, 0, 1); instant += 8 * 86_400_000) {
        const asked = instant + random.below(8 * 86_400_000)
        assert.equal(offset(asked), said(asked), `${zone} ${new Date(asked).toISOString()}`)
        if (last && offset(asked) !== offset(last)) {
          let [low, high] = [last, asked]
          while (high - low > 1) {
            const middle = Math.floor((low + high) / 2)
            if (said(middle) === said(last)) low = middle
            else high = middle
          }
          for (const at of [low, high, low - 1000, high + 1000]) assert.equal(offset(at), said(at), `${zone} ${new Date(at).toISOString()}`)
        }
        last = asked
        const local = asked + offset(asked)
        assert.equal(instantOf(local, offset) + offset(instantOf(local, offset)), local, `${zone} ${new Date(asked).toISOString()}`)
      }
    }
  })

  test('an unknown time zone is a fault of the configuration', () => {
    assert.throws(
      () => offsetIn('Europe/Atlantis'),
      (error) => error instanceof Failure && error.class === 'config' && /'Europe\/Atlantis'/.test(error.message),
    )
  })
})

describe('the digest', () => {
  test('it names the store and the set of ids, not their order', () => {
    const one = digest('5a3c', ['b', 'a'])
    assert.match(one, /^[0-9a-f]{12}$/)
    assert.equal(digest('5a3c', ['a', 'b']), one)
    for (const other of [digest('5a3d', ['a', 'b']), digest('5a3c', ['a']), digest('5a3c', ['ab']), digest('5a3c', ['a,b'])])
      assert.notEqual(other, one)
  })
})

describe('the simulation', () => {
  /** Times at which a clock in the zone shows the hour, day by day. */
  const daily = (zone: string, from: string, days: number, hour: number) => {
    const offset = offsetIn(zone)
    return Array.from(
      { length: days },
      (_, day) => new Date(instantOf(Date.parse(`${from}T00:00:00Z`) + day * 86_400_000 + hour * 3_600_000, offset)),
    )
  }

  test('400 daily runs fill the daily, weekly and monthly rules', () => {
    const zone = 'Europe/Berlin'
    const rules = rulesOf({ KEEP_DAILY: '7', KEEP_WEEKLY: '5', KEEP_MONTHLY: '12' })
    const start = new Date('2026-01-01T00:00:00+01:00')
    const days = simulate([], daily(zone, '2026-01-01', 400, 2), rules, { zone, days: 400, now: start })
    assert.equal(days.length, 400)
    const last = days.at(-1)
    assert.ok(last)
    assert.equal(last.date, '2027-02-04')
    const end = plan(
      last.times.map((time) => shot(time)),
      rules,
      { zone, now: new Date('2027-02-05T00:00:00+01:00') },
    )
    const filled = (name: string) => end.filter((row) => row.reasons.some((reason) => reason.startsWith(`${name}, `))).length
    assert.deepEqual({ daily: filled('daily'), weekly: filled('weekly'), monthly: filled('monthly') }, { daily: 7, weekly: 5, monthly: 12 })
    assert.equal(last.oldest, '2026-03-31T00:00:00.000Z')
    assert.deepEqual(days.map((day) => day.snapshots - day.deleted >= 0 && day.times.length === day.snapshots).includes(false), false)
    assert.equal(days.reduce((sum, day) => sum + day.deleted, 0) + last.snapshots, 400)
  })

  test('existing snapshots, held ones and tags are taken along, and each group gets the backups', () => {
    const existing = [
      shot('2026-01-01T01:00:00Z', { held: true }),
      shot('2026-01-02T01:00:00Z'),
      shot('2026-01-03T01:00:00Z', { group: 'app.sql', tags: ['gold'] }),
    ]
    const backups = [new Date('2026-01-06T01:00:00Z'), new Date('2026-01-05T01:00:00Z')]
    const rules = rulesOf({ KEEP_LAST: '1', KEEP_TAGS: 'gold' })
    const listed = [shot('2026-01-01T01:00:00Z', { group: 'names', subset: true })]
    assert.deepEqual(
      simulate(listed, backups, rules, { zone: 'UTC', days: 2, now: new Date('2026-01-05T12:00:00Z') }).map(({ times }) => times),
      [
        ['2026-01-05T01:00:00.000Z', '2026-01-01T01:00:00Z'],
        ['2026-01-06T01:00:00.000Z', '2026-01-01T01:00:00Z'],
      ],
      'a list of names gets none',
    )
    assert.deepEqual(simulate(existing, backups, rules, { zone: 'UTC', days: 3, now: new Date('2026-01-04T12:00:00Z') }), [
      {
        date: '2026-01-04',
        snapshots: 3,
        deleted: 0,
        oldest: '2026-01-01T01:00:00Z',
        times: ['2026-01-03T01:00:00Z', '2026-01-02T01:00:00Z', '2026-01-01T01:00:00Z'],
      },
      {
        date: '2026-01-05',
        snapshots: 4,
        deleted: 1,
        oldest: '2026-01-01T01:00:00Z',
        times: ['2026-01-05T01:00:00.000Z', '2026-01-05T01:00:00.000Z', '2026-01-03T01:00:00Z', '2026-01-01T01:00:00Z'],
      },
      {
        date: '2026-01-06',
        snapshots: 4,
        deleted: 2,
        oldest: '2026-01-01T01:00:00Z',
        times: ['2026-01-06T01:00:00.000Z', '2026-01-06T01:00:00.000Z', '2026-01-03T01:00:00Z', '2026-01-01T01:00:00Z'],
      },
    ])
  })

  test('days are those of the zone, and one that it skipped has no row', () => {
    const zone = 'Pacific/Apia'
    const backups = [new Date('2011-12-30T09:00:00Z'), new Date('2011-12-30T11:00:00Z')]
    const days = simulate([], backups, rulesOf({ KEEP_LAST: '9' }), { zone, days: 4, now: new Date('2011-12-29T12:00:00Z') })
    assert.deepEqual(
      days.map((day) => [day.date, day.snapshots]),
      [
        ['2011-12-29', 1],
        ['2011-12-31', 2],
        ['2012-01-01', 2],
      ],
    )
    const night = simulate([], [new Date('2026-03-28T23:30:00Z')], rulesOf({ KEEP_LAST: '9' }), {
      zone: 'Europe/Berlin',
      days: 2,
      now: new Date('2026-03-28T12:00:00Z'),
    })
    assert.deepEqual(
      night.map((day) => [day.date, day.snapshots, day.oldest]),
      [
        ['2026-03-28', 0, ''],
        ['2026-03-29', 1, '2026-03-28T23:30:00.000Z'],
      ],
    )
  })
})

describe('compared with restic', () => {
  type Listed = { id: string; time: string; hostname: string; tags?: string[] }
  type Forgotten = { host: string; keep: { id: string }[] | null; remove: { id: string }[] | null }
  const folder = mkdtempSync(join(tmpdir(), 'kedge-retain-'))
  const run = promisify(execFile)
  const zones: Record<string, string> = { utc: 'UTC', berlin: 'Europe/Berlin', ahead: 'UTC' }
  const restic = async (command: string, args: readonly string[], zone = 'Europe/Berlin') => {
    const env = { PATH: process.env.PATH, HOME: folder, TZ: zone, RESTIC_PASSWORD: 'x', RESTIC_REPOSITORY: join(folder, 'repository') }
    return (await run(command, ['--no-cache', ...args], { env, cwd: folder, maxBuffer: 1 << 26 })).stdout
  }
  /** Two at a time: much of it is waiting. */
  const pairwise = async (jobs: readonly (() => Promise<void>)[]) => {
    const queue = [...jobs]
    const work = async () => {
      for (let job = queue.shift(); job; job = queue.shift()) await job()
    }
    await Promise.all([work(), work()])
  }
  let listed: Listed[] = []

  before(async () => {
    const [command = 'restic'] = restics()
    writeFileSync(join(folder, 'file'), 'content')
    await restic(command, ['init', '-q'])
    cheapen(join(folder, 'repository'), 'x')
    const { below } = seeded(14)
    const stamp = (time: number) => new Date(time).toISOString().slice(0, 19).replace('T', ' ')
    const base = Date.parse('2026-06-10T10:30:00Z')
    const spread = [0, 20, 90, 600, 1300, 1500, 2900, 4000, 20_000, 60_000, 200_000, 500_000, 900_000]
    const berlin = [
      '03-30 01:30',
      '03-30 03:10',
      '03-29 23:40',
      '03-30 00:10',
      '10-26 01:40',
      '10-26 03:20',
      '10-26 00:05',
      '10-25 23:50',
      '10-31 23:30',
      '11-01 00:30',
    ]
    const backups: [string, string][] = [
      ...spread.map((minutes): [string, string] => ['utc', stamp(base - (minutes + below(50)) * 60_000)]),
      ...berlin.map((time): [string, string] => ['berlin', `2025-${time}:00`]),
      ['berlin', '2025-11-02 10:00:00'],
      ['berlin', '2025-11-02 09:40:00'],
      ['ahead', '2099-01-01 00:00:00'],
      ['ahead', '2026-02-01 00:00:00'],
      ['ahead', '2026-01-31 23:00:00'],
      ['ahead', '2025-12-30 23:00:00'],
    ]
    await pairwise(
      backups.map(([host, time], index) => async () => {
        const tags = [index % 5 === 3 ? ['--tag', 'gold'] : [], index % 7 === 4 ? ['--tag', 'silver'] : []].flat()
        await restic(command, ['backup', '-q', '--host', host, '--time', time, ...tags, 'file'], zones[host])
      }),
    )
    listed = JSON.parse(await restic(command, ['snapshots', '--json']))
    assert.equal(listed.length, backups.length)
    // Without the zones' data restic would silently work in UTC.
    assert.ok(listed.some((snapshot) => snapshot.time.endsWith('+02:00')))
  })
  after(() => rmSync(folder, { recursive: true, force: true }))

  const commands = restics()
  const rounds = Math.ceil(24 / commands.length)
  for (const [turn, command] of commands.entries()) {
    test(`random policies plan what forget --dry-run of ${command.match(/restic-[\d.]+/)?.[0] ?? 'restic'} plans`, async () => {
      const old = / 0\.14\./.test((await run(command, ['version'])).stdout)
      const random = seeded(100 + turn)
      await pairwise(
        Array.from({ length: rounds }, () => randomKeep(random)).map((env) => async () => {
          const args = Object.entries(env).flatMap(([key, value]) => {
            if (key === 'KEEP_TAGS') return value.split(',').flatMap((tag) => ['--keep-tag', tag])
            return [`--${key.toLowerCase().replaceAll('_', '-')}`, old && value === 'unlimited' ? '1000' : value]
          })
          const groups: Forgotten[] = JSON.parse(
            await restic(command, ['forget', '--dry-run', '--no-lock', '--json', '--group-by', 'host', ...args]),
          )
          for (const { host, keep, remove } of groups) {
            const snapshots = listed
              .filter((snapshot) => snapshot.hostname === host)
              .map(({ id, time, tags = [] }) => ({ id, time, group: host, tags }))
            const rows = plan(snapshots, rulesOf({ KEEP_MIN: '0', ...env }), { zone: zones[host] ?? '', now: new Date() })
            const mine = rows.filter(({ reasons }) =>
              reasons.some(
                (reason) => reason !== 'newest good' && reason !== 'no keep rule holds it' && !(old && reason.startsWith('oldest ')),
              ),
            )
            assert.deepEqual(mine.map((row) => row.id).sort(), (keep ?? []).map(({ id }) => id).sort(), `${host}: ${args.join(' ')}`)
            assert.equal((keep ?? []).length + (remove ?? []).length, snapshots.length)
          }
          assert.equal(groups.length, 3)
        }),
      )
    })
  }
})
