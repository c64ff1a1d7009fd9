import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CronExpressionParser } from 'cron-parser'
import type { Target } from '../lib/contract.ts'
import { Failure } from '../lib/failure.ts'
import type { Last } from '../lib/ledger.ts'
import type { RunRow } from '../lib/rows.ts'
import { scheduledVerbs, scheduleOf } from '../lib/schedule/verbs.ts'
import { due, interval, jitter, nextTimes, previousTime, validate, validZone } from '../lib/schedule.ts'
import { standing } from '../lib/standing.ts'

const minute = 60_000
const day = 24 * 60 * minute
const iso = (date: Date | undefined) => date?.toISOString().replace(':00.000Z', 'Z')
const at = (text: string) => new Date(text)

const valid = [
  '0 3 * * *',
  '  15   2  *  *  1-5 ',
  '*/15 * * * *',
  '0 0 1 jan,JUL *',
  '0 0 * * mon-FRI',
  '0 0 * * THU',
  '0 0 1 MAR *',
  '0 0 * * 7',
  '0 0 L * *',
  '0 0 * * 5L',
  '0 0 * * 1#2',
  '0 0 29 2 *',
  '0 0 31 2 1',
  'H H * * *',
  'H H(1-5) H * *',
  'H/20 * * * H',
  '0 0 H H *',
  '0 0 H 2 *',
  '@hourly',
  '@daily',
  '@weekly',
  '@monthly',
  '@yearly',
]
test('valid expressions are valid', async () => {
  for (const expression of valid) assert.equal(await validate(expression), undefined, expression)
})

const invalid: [expression: string, wrong: RegExp][] = [
  ['', /empty/],
  ['   ', /empty/],
  ['0 3 * *', /4 fields and needs five: minute, hour, day of month, month, day of week/],
  ['5', /1 field and needs five/],
  ['0 0 3 * * *', /six fields.*seconds/],
  ['0 0 3 * * * 2026', /7 fields/],
  ['@reboot', /unknown name '@reboot': known are @hourly/],
  ['@secondly', /unknown name/],
  ['60 * * * *', /^minute '60': got value 60 expected range 0-59$/],
  ['* 24 * * *', /^hour '24'/],
  ['* * 0 * *', /^day of month '0'/],
  ['* * * 13 *', /^month '13'/],
  ['* * * * 8', /^day of week '8'/],
  ['* * * foo *', /^month 'foo': cannot resolve alias/],
  ['x * * * *', /^minute 'x': invalid characters/],
  ['5-1 * * * *', /^minute '5-1'/],
  ['1- * * * *', /^minute '1-': not a number/],
  ['1,,2 * * * *', /^minute/],
  ['*/0 * * * *', /^minute/],
  ['*/90 * * * *', /^minute '\*\/90': the step 90 is wider than the field$/],
  ['0 */25 * * *', /^hour/],
  ['0 0 * * L', /^day of week 'L'/],
  ['0 0 30 2 *', /never comes due/],
  ['0 0 31 4,6,9,11 *', /never comes due/],
  ['0 0 30-31 feb *', /never comes due/],
  ['0 0 30 H *', /for some targets it never comes due/],
  ['0,H * * * *', /H stands alone/],
  ['H(5-99) * * * *', /H draws from 0 to 59/],
  ['H(9-5) * * * *', /^minute 'H\(9-5\)'/],
  ['0 0 H(20-31) * *', /H draws from 1 to 28/],
]
test('what is wrong with an expression is said in words', async () => {
  for (const [expression, wrong] of invalid) assert.match((await validate(expression)) ?? 'valid', wrong, expression)
})

test('a wrong expression or zone is a failure of the configuration', async () => {
  const from = at('2026-01-01T00:00:00Z')
  const isConfig = (error: unknown) => error instanceof Failure && error.class === 'config'
  await assert.rejects(nextTimes('0 0 30 2 *', { zone: 'UTC', seed: 'web1', from }), isConfig)
  await assert.rejects(interval('0 0 3 * * *', { zone: 'UTC', seed: 'web1', now: from }), isConfig)
  await assert.rejects(nextTimes('0 0 * * *', { zone: 'Europe/Atlantis', seed: 'web1', from }), isConfig)
  await assert.rejects(nextTimes('0 0 * * *', { zone: 'UTC', seed: 'web1', from: new Date(Number.NaN) }), RangeError)
})

test('zones are names', () => {
  for (const zone of ['local', 'UTC', 'Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe']) assert.equal(validZone(zone), true, zone)
  for (const zone of ['', 'default', 'system', 'Europe/Atlantis', '+01:00', ':Europe/Berlin', 'CET-1CEST'])
    assert.equal(validZone(zone), false, zone)
})

// Berlin: 02:00 to 03:00 is missing on 2026-03-29 and comes twice on 2026-10-25; New York: on 2026-03-08, and 01:00 to 02:00 on 2026-11-01;
// Lord Howe: 02:00 to 02:30 is missing on 2026-10-04, 01:30 to 02:00 comes twice on 2026-04-05.
// In St. John's the clock went back from 00:01 to 23:01 on 2010-11-07. Apia had no 2011-12-30; Havana had no 00:00 to 01:00 on 2026-03-08.
const times: [zone: string, expression: string, from: string, next: string[]][] = [
  ['UTC', '0 3 * * *', '2026-01-01T03:00:00Z', ['2026-01-02T03:00Z', '2026-01-03T03:00Z']],
  ['UTC', '0 3 * * *', '2026-01-01T02:59:59.999Z', ['2026-01-01T03:00Z', '2026-01-02T03:00Z']],
  ['UTC', '@hourly', '2026-12-31T22:30:00Z', ['2026-12-31T23:00Z', '2027-01-01T00:00Z', '2027-01-01T01:00Z']],
  ['UTC', '@weekly', '2026-01-01T00:00:00Z', ['2026-01-04T00:00Z', '2026-01-11T00:00Z']],
  ['UTC', '@monthly', '2026-01-01T00:00:00Z', ['2026-02-01T00:00Z', '2026-03-01T00:00Z']],
  ['UTC', '@yearly', '2026-01-01T00:00:00Z', ['2027-01-01T00:00Z', '2028-01-01T00:00Z']],
  ['UTC', '30 1 L * *', '2028-01-31T02:00:00Z', ['2028-02-29T01:30Z', '2028-03-31T01:30Z', '2028-04-30T01:30Z']],
  ['UTC', '0 0 * * 5L', '2026-01-01T00:00:00Z', ['2026-01-30T00:00Z', '2026-02-27T00:00Z']],
  ['UTC', '0 0 * * 1#2', '2026-01-01T00:00:00Z', ['2026-01-12T00:00Z', '2026-02-09T00:00Z']],
  ['UTC', '0 0 13 * FRI', '2026-01-01T00:00:00Z', ['2026-01-02T00:00Z', '2026-01-09T00:00Z', '2026-01-13T00:00Z']],
  ['UTC', '0 0 29 2 *', '2096-03-01T00:00:00Z', ['2104-02-29T00:00Z']],
  ['UTC', '0 0 * 2 1#5', '2026-01-01T00:00:00Z', ['2044-02-29T00:00Z', '2072-02-29T00:00Z']],
  ['Europe/Berlin', '30 2 * * *', '2026-03-28T00:00:00Z', ['2026-03-28T01:30Z', '2026-03-29T01:00Z', '2026-03-30T00:30Z']],
  [
    'Europe/Berlin',
    '*/20 2,3 * * *',
    '2026-03-28T23:00:00Z',
    ['2026-03-29T01:00Z', '2026-03-29T01:20Z', '2026-03-29T01:40Z', '2026-03-30T00:00Z'],
  ],
  ['Europe/Berlin', '@hourly', '2026-03-28T23:30:00Z', ['2026-03-29T00:00Z', '2026-03-29T01:00Z', '2026-03-29T02:00Z']],
  ['Europe/Berlin', '30 2 * * *', '2026-10-24T12:00:00Z', ['2026-10-25T00:30Z', '2026-10-26T01:30Z']],
  ['Europe/Berlin', '30 2 * * *', '2026-10-25T00:45:00Z', ['2026-10-26T01:30Z']],
  ['Europe/Berlin', '@hourly', '2026-10-24T23:30:00Z', ['2026-10-25T00:00Z', '2026-10-25T01:00Z', '2026-10-25T02:00Z']],
  ['Europe/Berlin', '0 0-23 * * 0', '2026-10-24T23:30:00Z', ['2026-10-25T00:00Z', '2026-10-25T01:00Z', '2026-10-25T02:00Z']],
  ['Europe/Berlin', '0 */2 * * *', '2026-10-24T21:30:00Z', ['2026-10-24T22:00Z', '2026-10-25T00:00Z', '2026-10-25T03:00Z']],
  ['Europe/Berlin', '0 */2 * * *', '2026-03-28T22:30:00Z', ['2026-03-28T23:00Z', '2026-03-29T01:00Z', '2026-03-29T02:00Z']],
  ['Australia/Lord_Howe', '15 * * * *', '2026-10-03T14:00:00Z', ['2026-10-03T14:45Z', '2026-10-03T16:15Z', '2026-10-03T17:15Z']],
  ['Australia/Lord_Howe', '45 * * * *', '2026-04-04T14:00:00Z', ['2026-04-04T14:45Z', '2026-04-04T15:15Z', '2026-04-04T16:15Z']],
  ['America/New_York', '15 2 * * *', '2026-03-07T12:00:00Z', ['2026-03-08T07:00Z', '2026-03-09T06:15Z']],
  ['America/New_York', '30 1 * * *', '2026-11-01T00:00:00Z', ['2026-11-01T05:30Z', '2026-11-02T06:30Z']],
  ['Australia/Lord_Howe', '15 2 * * *', '2026-10-02T00:00:00Z', ['2026-10-02T15:45Z', '2026-10-03T15:30Z', '2026-10-04T15:15Z']],
  ['Australia/Lord_Howe', '45 1 * * *', '2026-04-04T00:00:00Z', ['2026-04-04T14:45Z', '2026-04-05T15:15Z']],
  ['America/Havana', '30 0 * * *', '2026-03-07T12:00:00Z', ['2026-03-08T05:00Z', '2026-03-09T04:30Z']],
  ['America/St_Johns', '15 * * * 6', '2010-11-07T02:30:30Z', ['2010-11-07T02:45Z', '2010-11-13T03:45Z']],
  ['Pacific/Apia', '0 12 * * *', '2011-12-29T00:00:00Z', ['2011-12-29T22:00Z', '2011-12-30T10:00Z', '2011-12-30T22:00Z']],
  ['Pacific/Apia', '0 12 30 * *', '2011-12-30T09:00:00Z', ['2011-12-30T10:00Z', '2012-01-29T22:00Z']],
]
test('the next times, also where clocks change', async () => {
  for (const [zone, expression, from, next] of times) {
    const found = await nextTimes(expression, { zone, seed: 'web1', from: at(from), count: next.length })
    assert.deepEqual(found.map(iso), next, `${expression} in ${zone} after ${from}`)
  }
})

test('previous times are the next times read backwards', async () => {
  for (const [zone, expression, , next] of times) {
    for (const [index, time] of next.entries()) {
      const earlier = next[index - 1]
      if (earlier === undefined) continue
      const before = at(time.replace('Z', ':00Z'))
      assert.equal(iso(await previousTime(expression, { zone, seed: 'web1', before })), earlier, `${expression} in ${zone} before ${time}`)
    }
  }
  // At 00:01 the clock went back to 23:01 of the day before.
  const secondTime = { zone: 'America/St_Johns', seed: 'web1', before: at('2010-11-07T02:50:00Z') }
  assert.equal(iso(await previousTime('@daily', secondTime)), '2010-11-07T02:30Z')
  assert.equal(await previousTime('@yearly', { zone: 'UTC', seed: '', before: new Date(0) }), undefined)
})

test('count and until end the list, whichever comes first', async () => {
  const options = { zone: 'UTC', seed: 'web1', from: at('2026-01-01T00:00:00Z') }
  assert.equal((await nextTimes('@hourly', options)).length, 1)
  assert.equal((await nextTimes('@hourly', { ...options, count: 0 })).length, 0)
  const until = at('2026-01-01T03:00:00Z')
  assert.deepEqual((await nextTimes('@hourly', { ...options, until })).map(iso), [
    '2026-01-01T01:00Z',
    '2026-01-01T02:00Z',
    '2026-01-01T03:00Z',
  ])
  assert.equal((await nextTimes('@hourly', { ...options, until, count: 2 })).length, 2)
  assert.equal((await nextTimes('@hourly', { ...options, until, count: 9 })).length, 3)
})

test("local is the system's zone", async () => {
  const before = process.env.TZ
  try {
    process.env.TZ = 'Australia/Lord_Howe'
    const options = { seed: 'web1', from: at('2026-10-01T00:00:00Z'), count: 9 }
    const local = await nextTimes('15 2 * * *', { ...options, zone: 'local' })
    assert.deepEqual(local, await nextTimes('15 2 * * *', { ...options, zone: 'Australia/Lord_Howe' }))
  } finally {
    if (before === undefined) delete process.env.TZ
    else process.env.TZ = before
  }
})

test('the same target has the same H, and different targets spread over the hour, the day, the week and the month', async () => {
  const from = at('2026-01-01T00:00:00Z')
  const drawn = async (expression: string, seed: string) => {
    const [time] = await nextTimes(expression, { zone: 'UTC', seed, from })
    assert.ok(time)
    return time
  }
  const minutes = new Map<number, number>()
  const [hours, days, weekdays] = [new Set<number>(), new Set<number>(), new Map<number, number>()]
  for (let index = 0; index < 400; index++) {
    const seed = `web${index}`
    const time = await drawn('H H * * *', seed)
    minutes.set(time.getUTCMinutes(), (minutes.get(time.getUTCMinutes()) ?? 0) + 1)
    hours.add(time.getUTCHours())
    if (index < 10) assert.deepEqual(await drawn('H H * * *', seed), time)
    days.add((await drawn('0 12 H * *', seed)).getUTCDate())
    const weekday = (await drawn('0 12 * * H', seed)).getUTCDay()
    weekdays.set(weekday, (weekdays.get(weekday) ?? 0) + 1)
  }
  assert.equal(minutes.size, 60)
  assert.ok(Math.max(...minutes.values()) <= 16, 'no minute is crowded')
  assert.equal(hours.size, 24)
  assert.deepEqual(
    [...days].sort((a, b) => a - b),
    Array.from({ length: 28 }, (_, index) => index + 1),
  )
  assert.equal(weekdays.size, 7)
  assert.ok(Math.max(...weekdays.values()) < 80, 'no weekday is drawn twice as often')
  assert.deepEqual(await drawn('H * * * *', ''), await drawn('H * * * *', ''), 'an empty seed is stable too')
})

const gaps: [expression: string, zone: string, now: string, seconds: number][] = [
  ['* * * * *', 'UTC', '2026-01-01T00:00:00Z', 60],
  ['@daily', 'UTC', '2026-01-01T00:00:00Z', 86400],
  ['0 3 * * *', 'Europe/Berlin', '2026-10-01T00:00:00Z', 25 * 3600],
  ['@hourly', 'Europe/Berlin', '2026-10-01T00:00:00Z', 3600],
  ['0 */2 * * *', 'Europe/Berlin', '2026-10-01T00:00:00Z', 3 * 3600],
  ['0 3 * * 1-5', 'UTC', '2026-01-01T00:00:00Z', 3 * 86400],
  ['0 8,20 * * *', 'UTC', '2026-01-01T00:00:00Z', 12 * 3600],
  ['@weekly', 'UTC', '2026-01-01T00:00:00Z', 7 * 86400],
  ['@monthly', 'UTC', '2026-01-15T00:00:00Z', 31 * 86400],
  ['@yearly', 'UTC', '2026-01-15T00:00:00Z', 366 * 86400],
  ['0 0 1-6 1 *', 'UTC', '2026-12-31T00:00:00Z', 360 * 86400],
]
test('the interval is the longest gap', async () => {
  for (const [expression, zone, now, seconds] of gaps) {
    assert.equal(await interval(expression, { zone, seed: 'web1', now: at(now) }), seconds, `${expression} in ${zone}`)
  }
})

const dues: [lastGood: string | undefined, now: string, grace: number, overdue: boolean, since?: string][] = [
  ['2026-01-10T03:00:05Z', '2026-01-11T02:00:00Z', 0, false],
  ['2026-01-10T03:00:05Z', '2026-01-11T03:00:00Z', 0, false],
  ['2026-01-10T03:00:05Z', '2026-01-11T03:00:01Z', 0, true, '2026-01-11T03:00Z'],
  ['2026-01-10T03:00:05Z', '2026-01-11T04:00:00Z', 3600, false],
  ['2026-01-10T03:00:05Z', '2026-01-11T04:00:01Z', 3600, true, '2026-01-11T03:00Z'],
  ['2026-01-08T03:00:05Z', '2026-01-11T12:00:00Z', 3600, true, '2026-01-09T03:00Z'],
  ['2026-01-12T03:00:05Z', '2026-01-11T12:00:00Z', 0, false],
  [undefined, '2026-01-11T12:00:00Z', 3600, true, '2026-01-11T03:00Z'],
  [undefined, '2026-01-11T03:30:00Z', 3600, true, '2026-01-10T03:00Z'],
]
test('a run is overdue when a due time has passed since the last good one by more than the grace', async () => {
  for (const [lastGood, now, graceSeconds, overdue, since] of dues) {
    const options = { zone: 'UTC', seed: 'web1', lastGood: lastGood === undefined ? undefined : at(lastGood), now: at(now), graceSeconds }
    const found = await due('0 3 * * *', options)
    assert.deepEqual([found.overdue, iso(found.since)], [overdue, since], `${lastGood} ${now} ${graceSeconds}`)
    assert.deepEqual([found.next], await nextTimes('0 3 * * *', { zone: 'UTC', seed: 'web1', from: at(now) }))
  }
})

test('jitter is stable, whole, below its limit and spread', () => {
  const seeds = Array.from({ length: 1000 }, (_, index) => `web${index}`)
  const drawn = seeds.map((seed) => jitter(60, seed))
  assert.deepEqual(
    drawn,
    seeds.map((seed) => jitter(60, seed)),
  )
  assert.equal(new Set(drawn).size, 60)
  assert.ok(drawn.every((value) => Number.isInteger(value) && value >= 0 && value < 60))
  assert.equal(jitter(0, 'web1'), 0)
})

test('a target and verb is shifted always by the same, each by another, and by less than SCHEDULE_JITTER', () => {
  const scheduled = Object.fromEntries(scheduledVerbs.map((verb) => [`SCHEDULE_${verb.toUpperCase()}`, '@daily']))
  const target = (name: string, env: Record<string, string>) => ({ name, env, paths: ['/etc'], streams: [] }) as unknown as Target
  const offsets = (name: string, env = {}) =>
    scheduledVerbs.map((verb) => scheduleOf(target(name, { ...scheduled, ...env }), verb)?.offsetSeconds)
  assert.deepEqual(offsets('web1'), [0, 0, 0, 0, 0])
  const [web1, web2] = [offsets('web1', { SCHEDULE_JITTER: '2h' }), offsets('web2', { SCHEDULE_JITTER: '2h' })]
  assert.deepEqual(web1, offsets('web1', { SCHEDULE_JITTER: '7200' }))
  assert.equal(new Set([...web1, ...web2]).size, 10)
  for (const offset of [...web1, ...web2]) assert.ok(offset !== undefined && offset >= 0 && offset < 7200)
  const env = { SCHEDULE_CHECK: 'H 3 * * 0', TZ: 'Europe/Berlin' }
  assert.deepEqual(scheduleOf(target('web1', env), 'check'), {
    expression: 'H 3 * * 0',
    zone: 'Europe/Berlin',
    seed: 'web1',
    offsetSeconds: 0,
  })
  for (const verb of ['backup', 'drill'] as const) assert.equal(scheduleOf(target('web1', { ...env, SCHEDULE_DRILL: '' }), verb), undefined)
  // As defaults.env has it for all targets.
  const second = { name: 'second', env: { ...scheduled, SNAPSHOTS_OF: 'web1' }, paths: [], streams: [] } as unknown as Target
  assert.deepEqual(
    scheduledVerbs.filter((verb) => scheduleOf(second, verb)),
    ['prune', 'check', 'drill', 'copy'],
  )
})

test('a run that SCHEDULE_JITTER shifts is due by its own time, and late only after every shift that systemd may draw', async () => {
  const env = { SCHEDULE_BACKUP: '0 3 * * *', SCHEDULE_JITTER: '12h', TZ: 'UTC' }
  const target = { name: 'web1', env, paths: ['/etc'], streams: [] } as unknown as Target
  const shift = (scheduleOf(target, 'backup')?.offsetSeconds ?? 0) * 1000
  assert.ok(shift > minute)
  const today = at('2026-01-11T03:00:00Z').getTime()
  const good = { run: 'r1', start: new Date(today - day + minute).toISOString(), seconds: 60, state: 'success' } as RunRow
  const known = { last: { backup: { last: good, good } } as unknown as Last, live: [] }
  const stands = async (now: number) => (await standing(target, known, { now: new Date(now) }))[0]
  const before = await stands(today + shift - minute)
  assert.deepEqual([before?.state, before?.due], ['ok', new Date(today + shift).toISOString()])
  const later = await stands(today + (12 + 2) * 60 * minute)
  assert.deepEqual([later?.state, later?.due], ['ok', new Date(today + shift + day).toISOString()])
  const late = await stands(today + (12 + 2) * 60 * minute + 2 * minute)
  assert.deepEqual([late?.state, late?.message], ['stale', 'it was due 2026-01-11T03:00:00.000Z'])
})

// From here: random expressions against a walker that looks at every minute and knows nothing of cron-parser.

function random(seed: number) {
  let state = seed
  return (limit: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * limit)
  }
}
type Draw = ReturnType<typeof random>
type Clock = { minute: number; hour: number; date: number; month: number; weekday: number; last: number }
type Part = { text: string; all: boolean; has: (value: number, clock: Clock) => boolean }

const monthNames = ['jan', 'Feb', 'MAR', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec']
const dayNames = ['sun', 'Mon', 'TUE', 'wed', 'thu', 'fri', 'sat']

function drawPart(draw: Draw, low: number, high: number, name: (value: number) => string = String): Part {
  const size = high - low + 1
  const any = low + draw(size)
  const part = (text: string, has: (value: number) => boolean): Part => ({ text, all: false, has })
  switch (draw(6)) {
    case 0:
    case 1:
      return { text: '*', all: true, has: () => true }
    case 2: {
      const step = 1 + draw(size - 1)
      return part(`*/${step}`, (value) => (value - low) % step === 0)
    }
    case 3: {
      const end = any + draw(high - any + 1)
      const step = 1 + draw(4)
      return part(`${name(any)}-${name(end)}/${step}`, (value) => value >= any && value <= end && (value - any) % step === 0)
    }
    case 4: {
      const list = new Set([any, low + draw(size), low + draw(size)])
      return part([...list].map(name).join(','), (value) => list.has(value))
    }
    default:
      return part(name(any), (value) => value === any)
  }
}

function drawExpression(draw: Draw): { text: string; everyHour: boolean; matches: (clock: Clock) => boolean } {
  const minutes = drawPart(draw, 0, 59)
  const hours = drawPart(draw, 0, 23)
  const months = drawPart(draw, 1, 12, (value) => (draw(2) ? String(value) : (monthNames[value - 1] ?? '')))
  let dates = drawPart(draw, 1, 28)
  let weekdays = drawPart(draw, 0, 6, (value) => (draw(2) ? String(value) : (dayNames[value] ?? '')))
  if (weekdays.all && draw(2)) weekdays = { ...weekdays, text: '?' }
  if (draw(5) === 0) dates = { text: 'L', all: false, has: (date, { last }) => date === last }
  const weekday = draw(7)
  if (draw(6) === 0) weekdays = { text: `${weekday}L`, all: false, has: (value, { date, last }) => value === weekday && date + 7 > last }
  if (draw(6) === 0) weekdays = { text: `${weekday}#2`, all: false, has: (value, { date }) => value === weekday && date > 7 && date <= 14 }
  return {
    text: [minutes, hours, dates, months, weekdays].map(({ text }) => text).join(' '),
    everyHour: Array.from({ length: 24 }, (_, hour) => hour).every((hour) => hours.has(hour, read(0))),
    matches: (clock) => {
      if (!minutes.has(clock.minute, clock) || !hours.has(clock.hour, clock) || !months.has(clock.month, clock)) return false
      const [date, weekday] = [dates.has(clock.date, clock), weekdays.has(clock.weekday, clock)]
      return dates.all || weekdays.all ? date && weekday : date || weekday
    },
  }
}

const read = (wall: number): Clock => {
  const date = new Date(wall)
  const last = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate()
  const [month, weekday] = [date.getUTCMonth() + 1, date.getUTCDay()]
  return { minute: date.getUTCMinutes(), hour: date.getUTCHours(), date: date.getUTCDate(), month, weekday, last }
}

/** For every minute what the clock shows, and the times that fall due with it: none if shown before, all that are missing if it jumps. */
function* walk(zone: string, from: number, until: number): Generator<[time: number, shown: Clock, clocks: Clock[]]> {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone: zone,
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
  })
  let high: number | undefined
  for (let time = from - day; time <= until; time += minute) {
    const shown = Object.fromEntries(format.formatToParts(time).map(({ type, value }) => [type, Number(value)]))
    const wall = Date.UTC(shown.year ?? 0, (shown.month ?? 0) - 1, shown.day, shown.hour, shown.minute)
    const clocks: Clock[] = []
    for (let missing = (high ?? wall - minute) + minute; missing <= wall; missing += minute) clocks.push(read(missing))
    high = Math.max(high ?? wall, wall)
    if (time > from) yield [time, read(wall), clocks]
  }
}

const windows: [zone: string, from: string, days: number][] = [
  ['Europe/Berlin', '2026-03-27T20:17:00Z', 4],
  ['Europe/Berlin', '2026-10-23T20:17:00Z', 8],
  ['America/New_York', '2026-03-06T12:00:00Z', 4],
  ['America/New_York', '2026-10-30T12:00:00Z', 4],
  ['Australia/Lord_Howe', '2026-04-03T00:00:00Z', 4],
  ['Australia/Lord_Howe', '2026-10-02T00:00:00Z', 4],
  ['Pacific/Apia', '2011-12-28T00:00:00Z', 5],
  ['America/St_Johns', '2010-11-06T12:00:00Z', 3],
  ['Asia/Kathmandu', '2028-02-26T00:00:00Z', 20],
]
test('random expressions come due when a walker through every minute says so', async () => {
  const draw = random(20260329)
  let compared = 0
  for (const [zone, start, days] of windows) {
    const from = at(start)
    const until = new Date(from.getTime() + days * day)
    const minutes = [...walk(zone, from.getTime(), until.getTime())]
    for (let round = 0; round < 50; round++) {
      const { text, everyHour, matches } = drawExpression(draw)
      const expected = minutes.filter(([, shown, clocks]) => (everyHour ? matches(shown) : clocks.some(matches))).map(([time]) => time)
      const found = (await nextTimes(text, { zone, seed: 'web1', from, until })).map((time) => time.getTime())
      assert.deepEqual(found, expected, `${text} in ${zone} after ${start}`)
      for (let index = 1; index < expected.length && index < 5; index++) {
        const before = new Date(expected[index] ?? 0)
        assert.equal((await previousTime(text, { zone, seed: 'web1', before }))?.getTime(), expected[index - 1], `${text} in ${zone} back`)
      }
      compared += expected.length
    }
  }
  assert.ok(compared > 10_000, `only ${compared} times were compared`)
})

test('what is taken for well without cron-parser is well to cron-parser too', () => {
  for (const minute of ['0', '07', '59', 'H', '*'])
    for (const hour of ['0', '09', '23', 'H', '*', 'H(1-5)', 'H(5-6)'])
      for (const days of ['* * *', '1 * *', '28 * 0', '* * 7']) {
        const expression = `${minute} ${hour} ${days}`
        assert.doesNotThrow(() => CronExpressionParser.parse(expression, { hashSeed: 'a' }), expression)
      }
})

test('a draw from nothing, and a day that some months lack, are left to cron-parser', async () => {
  for (const expression of ['H H(5-1) * * *', 'H H(5-5) 30 2 *', '0 24 * * *', '60 1 * * *'])
    assert.ok(await validate(expression), expression)
})
