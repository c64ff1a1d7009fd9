// Cron expressions against systemd's own reading of their translations, and against cron-parser.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { CronExpressionParser } from 'cron-parser'
import { Failure } from '../lib/failure.ts'
import { onCalendar } from '../lib/schedule/oncalendar.ts'
import { nextTimes } from '../lib/schedule.ts'

const now = new Date('2026-01-01T00:00:00Z')
const seed = 'web1'
const translate = (expression: string, zone: string) => onCalendar(expression, { zone, seed, now })

const table: [expression: string, zone: string, calendars: string[]][] = [
  ['30 2 * * *', 'UTC', ['*-*-* 02:30:00 UTC']],
  ['30 2 * * *', 'Europe/Berlin', ['*-*-* 02:30:00 Europe/Berlin', 'Sun *-03-25..31 03:00:00 Europe/Berlin']],
  ['30 3 * * *', 'Europe/Berlin', ['*-*-* 03:30:00 Europe/Berlin']],
  ['30 2 * * 1-6', 'Europe/Berlin', ['Mon..Sat *-*-* 02:30:00 Europe/Berlin']],
  ['30 2 29 * *', 'Europe/Berlin', ['*-*-29 02:30:00 Europe/Berlin', 'Sun *-03-29 03:00:00 Europe/Berlin']],
  ['0 2,3 * * *', 'Europe/Berlin', ['*-*-* 02,03:00:00 Europe/Berlin']],
  ['0 0 * * *', 'America/Havana', ['*-*-* 00:00:00 America/Havana', 'Sun *-03-08..14 01:00:00 America/Havana']],
  ['30 23 * * *', 'America/Nuuk', ['*-*-* 23:30:00 America/Nuuk', 'Sun *-03-25..31 00:00:00 America/Nuuk']],
  ['15 2 * * *', 'Australia/Lord_Howe', ['*-*-* 02:15:00 Australia/Lord_Howe', 'Sun *-10-01..07 02:30:00 Australia/Lord_Howe']],
  ['30 1 * * *', 'Europe/Dublin', ['*-*-* 01:30:00 Europe/London', 'Sun *-03-25..31 02:00:00 Europe/London']],
  ['@hourly', 'Europe/Berlin', ['*-*-* *:00:00 UTC']],
  ['7 * * * *', 'Australia/Adelaide', ['*-*-* *:37:00 UTC']],
  ['@hourly', 'Asia/Kathmandu', ['*-*-* *:00:00 Asia/Kathmandu']],
  ['0 * * * 1-5', 'Europe/Berlin', ['Mon..Fri *-*-* *:00:00 Europe/Berlin']],
  ['*/15 8-18 * * *', 'UTC', ['*-*-* 08..18:00..45/15:00 UTC']],
  ['* * * * *', 'UTC', ['*-*-* *:*:00 UTC']],
  ['0 0 1,15 * FRI', 'UTC', ['*-*-01,15 00:00:00 UTC', 'Fri *-*-* 00:00:00 UTC']],
  ['0 0 1,L * 5L', 'UTC', ['*-*-01 00:00:00 UTC', '*-*~01 00:00:00 UTC', 'Fri *-*~07/1 00:00:00 UTC']],
  ['0 0 * 1-3,12 7', 'UTC', ['Sun *-01..03,12-* 00:00:00 UTC']],
  ['0 0 * * 0,5,6', 'UTC', ['Fri..Sun *-*-* 00:00:00 UTC']],
  [
    '0 1,2 L * *',
    'Europe/Berlin',
    ['*-01,03,05,07,08,10,12-31 01,02', '*-04,06,09,11-30 01,02', '*-02~01 01,02', 'Sun *-03-31 03'].map(
      (day) => `${day}:00:00 Europe/Berlin`,
    ),
  ],
  ['0 0 30,31 2 1', 'UTC', ['Mon *-02-* 00:00:00 UTC']],
  ['0 0 * * 2#5', 'UTC', ['Tue *-*-29..31 00:00:00 UTC']],
  ['0 3 * * *', 'europe/berlin', ['*-*-* 03:00:00 Europe/Berlin']],
  ['0 3 * * *', 'Asia/Kolkata', ['*-*-* 03:00:00 Asia/Kolkata']],
]
test('a schedule is written as systemd has it, with a line of its own for what a gap would swallow', async () => {
  for (const [expression, zone, calendars] of table)
    assert.deepEqual(await translate(expression, zone), { calendars }, `${expression} in ${zone}`)
})

const refused: [expression: string, zone: string, why: RegExp][] = [
  ['0 * * * 0', 'Europe/Berlin', /^systemd cannot keep '0 \* \* \* 0' in Europe\/Berlin: it leaves out the hour that comes twice/],
  ['45 * * * *', 'Australia/Lord_Howe', /comes twice/],
  ['0 3 * * *', 'Pacific/Chatham', /loses times/],
  ['50 3 * * *', 'Pacific/Chatham', /loses times/],
  ['50 * 24-30 9 *', 'Pacific/Chatham', /loses times/],
]
test('what systemd cannot keep is refused with the reason, and with what runs it instead', async () => {
  for (const [expression, zone, why] of refused) {
    const found = await translate(expression, zone)
    assert.ok('refused' in found, `${expression} in ${zone}`)
    assert.match(found.refused, why)
    assert.match(found.refused, /; it runs under kedge scheduler or from a crontab$/)
  }
  assert.ok('calendars' in (await translate('30 4 * * *', 'Africa/Casablanca')))
})

test('a wrong expression or zone is a failure of the configuration', async () => {
  const isConfig = (error: unknown) => error instanceof Failure && error.class === 'config'
  await assert.rejects(translate('0 0 30 2 *', 'UTC'), isConfig)
  await assert.rejects(translate('0 0 * * *', 'Europe/Atlantis'), isConfig)
})

// From here: what systemd makes of it.

/** The first `count` elapses of each value after a moment, in milliseconds. `local`: the zone of values that name none. */
function elapses(calendars: readonly string[], from: number, count: number, local: string): number[][] {
  const base = `${new Date(from).toISOString().slice(0, 19).replace('T', ' ')} UTC`
  const text = execFileSync('systemd-analyze', ['calendar', `--base-time=${base}`, `--iterations=${count}`, ...calendars], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, TZ: local, LC_ALL: 'C' },
    maxBuffer: 1 << 28,
  })
  const [, ...blocks] = text.split('Normalized form: ')
  assert.equal(blocks.length, calendars.length)
  // Where the zone is not UTC each time is followed by the same in UTC.
  return blocks.map((block) =>
    [...block.matchAll(/: \w{3} (\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d) UTC$/gm)].map(([, d, t]) => Date.parse(`${d}T${t}Z`)),
  )
}

function withZone<T>(zone: string, work: () => Promise<T>): Promise<T> {
  const before = process.env.TZ
  process.env.TZ = zone
  return work().finally(() => {
    if (before === undefined) delete process.env.TZ
    else process.env.TZ = before
  })
}

type Found = { compared: number; refused: string[] }

/** Compares the times of schedules with their translations' elapses, `count` of each line, after a moment. */
async function compare(expressions: readonly string[], zone: string, local: string, start: string, count: number): Promise<Found> {
  const from = Date.parse(start)
  const said: { expression: string; calendars: readonly string[] }[] = []
  const found: Found = { compared: 0, refused: [] }
  for (const expression of expressions) {
    const translated = await translate(expression, zone)
    if ('refused' in translated) found.refused.push(expression)
    else said.push({ expression, calendars: translated.calendars })
  }
  if (said.length === 0) return found
  const all = elapses(
    said.flatMap(({ calendars }) => calendars),
    from,
    count,
    local,
  )
  let index = 0
  for (const { expression, calendars } of said) {
    const lines = all.slice(index, index + calendars.length)
    index += calendars.length
    // All lines together are known up to where the first of them ends; systemd ends with a day in 2199.
    const ends = lines.map((line) => (line.length === count ? line.at(-1) : undefined) ?? Date.UTC(2199))
    const until = Math.min(...ends)
    for (const line of lines) assert.ok(line.length > 0, `${calendars.join(' | ')} elapses never`)
    const merged = [...new Set(lines.flat())].filter((time) => time <= until).sort((a, b) => a - b)
    const expected = await nextTimes(expression, { zone, seed, from: new Date(from), until: new Date(until) })
    const iso = (times: readonly (number | Date)[]) => times.map((time) => new Date(time).toISOString())
    assert.deepEqual(iso(merged), iso(expected), `${expression} in ${zone} (${local}) after ${start}: ${calendars.join(' | ')}`)
    found.compared += expected.length
  }
  return found
}

/** mulberry32: a plain linear generator repeats pairs of draws. */
function random(start: number) {
  let state = start
  return (limit: number) => {
    state = (state + 0x6d2b79f5) | 0
    let value = Math.imul(state ^ (state >>> 15), 1 | state)
    value ^= value + Math.imul(value ^ (value >>> 7), 61 | value)
    return Math.floor((((value ^ (value >>> 14)) >>> 0) / 2 ** 32) * limit)
  }
}
const draw = random(20261025)
const pick = (...from: readonly string[]): string => from[draw(from.length)] ?? ''

/** A random expression; `near`: the hours at which clocks change. */
function drawn(near: readonly number[]): string {
  const minute = pick('0', '30', '*/15', '*/20', '5,35,50', '59', '10-40/10', 'H', 'H/30', '45', '*/7')
  const hour = pick(...near.map(String), ...near.map(String), near.join(), '*', '*', '*/2', '*/3', '0-6', '1-23/2', 'H', 'H(0-5)', '4', '0')
  const date = pick('*', '*', '*', '*', '1', '1,15', 'L', '*/2', '25-31', '1-7', 'H', '29', '31')
  const month = pick('*', '*', '*', '*', '*', '3,4,10,11', 'mar-Nov', '*/2', 'JAN,apr,Oct')
  const weekday = pick('*', '*', '*', '*', '0', 'SUN', '1-5', 'sat,Sun', '7', '0L', '0#1', '5L', 'MON#2', '?', '*/2', 'H')
  return [minute, hour, date, month, weekday].join(' ')
}

const changing: [zone: string, near: number[], moments: string[]][] = [
  ['Europe/Berlin', [1, 2, 3], ['2026-03-28T20:00:00Z', '2026-10-24T20:00:00Z']],
  ['America/New_York', [1, 2, 3], ['2026-03-08T03:00:00Z', '2026-11-01T02:00:00Z']],
  ['Australia/Lord_Howe', [1, 2, 3], ['2026-10-03T11:00:00Z', '2026-04-04T11:00:00Z']],
  ['Europe/Dublin', [0, 1, 2], ['2026-03-28T21:00:00Z', '2026-10-24T21:00:00Z']],
  ['America/Havana', [23, 0, 1], ['2026-03-08T01:00:00Z', '2026-11-01T01:00:00Z']],
  ['America/Santiago', [22, 23, 0], ['2026-09-06T01:00:00Z', '2026-04-05T00:00:00Z']],
  ['America/Nuuk', [22, 23, 0], ['2026-03-28T21:00:00Z', '2026-10-24T21:00:00Z']],
  ['Antarctica/Troll', [0, 1, 2], ['2026-03-28T21:00:00Z', '2026-10-24T21:00:00Z']],
  ['Australia/Adelaide', [1, 2, 3], ['2026-10-03T12:00:00Z', '2026-04-04T12:00:00Z']],
  ['Pacific/Chatham', [2, 3, 4], ['2026-09-26T08:00:00Z', '2026-04-04T08:00:00Z']],
]
test('random schedules elapse in systemd when kedge says so, over both changes of the clocks', async () => {
  let compared = 0
  for (const [zone, near, moments] of changing) {
    const expressions = Array.from({ length: 24 }, () => drawn(near))
    for (const start of moments) {
      // As the machine's zone, which costs systemd no process a time; then some of them by name.
      const found = await withZone(zone, () => compare(expressions, 'local', zone, start, 20))
      const named = await compare(expressions.slice(0, 5), zone, 'UTC', start, 12)
      const most = zone === 'Pacific/Chatham' ? 30 : 8
      assert.ok(found.refused.length <= most, `${zone}: too many are refused: ${found.refused.join('; ')}`)
      compared += found.compared + named.compared
    }
  }
  assert.ok(compared > 7_000, `only ${compared} times were compared`)
})

const common = [
  '30 2 * * *',
  '0 2 * * 0',
  '15 2 1-7 * 7',
  '@daily',
  '@weekly',
  '@monthly',
  'H H * * *',
  'H H(1-4) * * H',
  '0 */2 * * *',
  '0 0 L * *',
]
test('the schedules that people write elapse on each day of two years, by the name of the zone', async () => {
  for (const zone of ['Europe/Berlin', 'America/New_York', 'Europe/Dublin']) {
    const found = await compare(common.slice(0, 1), zone, 'UTC', '2026-01-01T12:00:00Z', 740)
    assert.deepEqual(found.refused, [])
    assert.ok(found.compared >= 735)
    const others = await withZone(zone, () => compare([...common, '@yearly', '0 0 29 2 *'], 'local', zone, '2026-01-01T12:00:00Z', 250))
    assert.deepEqual(others.refused, [])
  }
})

const hourly = ['@hourly', '*/15 * * * *', 'H * * * *', '5 * * * 1-6', '0 * * 1-11 *']
test('a schedule of every hour elapses in every real hour', async () => {
  for (const zone of ['Europe/Berlin', 'America/New_York', 'UTC', 'Asia/Kathmandu']) {
    const start = zone === 'America/New_York' ? '2026-10-31T12:00:00Z' : '2026-10-24T12:00:00Z'
    const found = await compare(hourly.slice(0, 3), zone, 'UTC', start, 60)
    assert.deepEqual(found.refused, [])
    assert.ok(found.compared >= 180)
    const from = new Date(start)
    const times = await nextTimes('@hourly', { zone, seed, from, count: 48 })
    for (const [index, time] of times.entries()) assert.equal(time.getTime() - (times[0]?.getTime() ?? 0), index * 3_600_000, zone)
  }
})

const fields = {
  minute: ['0', '*/10', '7,8,9,30', '5-59/9', '*'],
  hour: ['*', '3', '*/4', '8-18/2', '0,12'],
  date: ['*', '1', '10-20', '*/5', 'L', '31'],
  month: ['*', 'jan,Jul', '*/3', '2'],
  weekday: ['*', 'mon-FRI', '0', '7', '2,4,6', '3L', '1#3', '*/2'],
}
test('combinations of fields elapse when kedge and cron-parser say so, away from changes of the clocks', async () => {
  const expressions: string[] = []
  for (let index = 0; index < 240; index++)
    expressions.push(
      Object.values(fields)
        .map((list) => list[draw(list.length)])
        .join(' '),
    )
  const possible = [...new Set(expressions)].filter((expression) => !/ 31 2 \*$/.test(expression))
  assert.ok(possible.length > 200)
  const start = '2026-05-20T10:17:00Z'
  // cron-parser takes `*/2` for days as kedge does, and five fields; H is kedge's own.
  const end = Date.parse('2026-09-01T00:00:00Z')
  let compared = 0
  for (const zone of ['UTC', 'America/New_York']) {
    const found = await withZone(zone, () => compare(possible, 'local', zone, start, 20))
    assert.ok(found.refused.length <= possible.length / 10, `${found.refused.length} are refused`)
    for (const expression of possible) {
      const theirs = CronExpressionParser.parse(expression, { tz: zone, currentDate: start }).take(20)
      const times = theirs.map((time) => time.getTime()).filter((time) => time < end)
      const ours = await nextTimes(expression, { zone, seed, from: new Date(start), count: times.length })
      assert.deepEqual(
        ours.map((time) => time.getTime()),
        times,
        `${expression} in ${zone}`,
      )
      compared += times.length
    }
  }
  assert.ok(compared > 3000, `only ${compared} times were compared with cron-parser`)
})
