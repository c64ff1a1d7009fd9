import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '../lib/failure.ts'
import { blockOf, crontabLine, withBlock, withoutBlock } from '../lib/schedule/crontab.ts'
import { nextTimes } from '../lib/schedule.ts'
import { startedBy, lineFor as written } from '../lib/timer/crontab.ts'

const minute = 60_000
const seed = 'web1'

const table: [expression: string, jitterSeconds: number, when: string, waitSeconds: number][] = [
  ['30 2 * * *', 0, '30 2 * * *', 0],
  ['@daily', 0, '0 0 * * *', 0],
  ['@weekly', 0, '0 0 * * 0', 0],
  ['@hourly', 0, '0 * * * *', 0],
  ['* * * * *', 0, '* * * * *', 0],
  ['* 2 * * *', 0, '0-59 2 * * *', 0],
  ['*/15 */6 * JAN,jul MON-fri', 0, '0,15,30,45 0,6,12,18 * 1,7 1-5', 0],
  ['0 0 * * 7', 0, '0 0 * * 0', 0],
  ['0 0 * * 5-7', 0, '0 0 * * 0,5-6', 0],
  ['0 0 1,15 * 5', 0, '0 0 1,15 * 5', 0],
  ['0 0 ? * 5', 0, '0 0 * * 5', 0],
  ['0 0 */2 * 5', 0, '0 0 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31 * 5', 0],
  ['0 0 1 * */2', 0, '0 0 1 * 0,2,4,6', 0],
  ['0 0 1 * 0-6', 0, '0 0 * * *', 0],
  ['0 0 */1 * 1', 0, '0 0 * * *', 0],
  ['0 0-23 * * 1', 0, '0 * * * 1', 0],
  ['H H * * *', 0, '46 5 * * *', 0],
  ['30 2 * * *', 437, '37 2 * * *', 17],
  ['30 2 * * 1', 3 * 3600, '30 5 * * 1', 0],
  ['50 23 * * *', 900, '5 0 * * *', 0],
  ['50 23 * * 1', 900, '50 23 * * 1', 900],
  ['50 23 * 3 *', 900, '50 23 * 3 *', 900],
  ['0,50 2 * * *', 900, '0,50 2 * * *', 900],
  ['*/15 * * * *', 330, '5,20,35,50 * * * *', 30],
  ['@hourly', 5400, '30 * * * *', 0],
  ['@hourly', 59, '0 * * * *', 59],
]
test('a schedule is written in numbers that every cron reads alike, shifted where the fields can say it', async () => {
  for (const [expression, jitterSeconds, when, waitSeconds] of table)
    assert.deepEqual(await crontabLine(expression, { zone: 'local', seed, jitterSeconds }), { when, waitSeconds }, expression)
})

async function withZone<T>(zone: string, work: () => Promise<T>): Promise<T> {
  const before = process.env.TZ
  try {
    process.env.TZ = zone
    return await work()
  } finally {
    if (before === undefined) delete process.env.TZ
    else process.env.TZ = before
  }
}

const refused: [expression: string, zone: string, why: RegExp][] = [
  ['0 0 L * *', 'local', /^cron cannot keep '0 0 L \* \*': it does not know 'L'; it runs under kedge scheduler$/],
  ['0 0 * * 5L', 'local', /'L'/],
  ['0 0 * * 1#2', 'local', /'#'/],
  ['0 0 * * *', 'America/New_York', /this machine's time zone, not in America\/New_York; it runs under kedge scheduler$/],
]
test('what cron cannot say is refused by name', async () => {
  await withZone('Europe/Berlin', async () => {
    for (const [expression, zone, why] of refused) {
      const found = await crontabLine(expression, { zone, seed })
      assert.match('refused' in found ? found.refused : found.when, why)
    }
    assert.deepEqual(await crontabLine('0 3 * * *', { zone: 'Europe/Berlin', seed }), { when: '0 3 * * *', waitSeconds: 0 })
  })
  await assert.rejects(crontabLine('0 0 30 2 *', { zone: 'local', seed }), Failure)
})

// From here: the fields as the two families of cron read them, after their sources (entry.c and cron.c; crond.c).

type Clock = { minute: number; hour: number; date: number; month: number; weekday: number }
const read = (wall: number): Clock => {
  const date = new Date(wall)
  const [month, weekday] = [date.getUTCMonth() + 1, date.getUTCDay()]
  return { minute: date.getUTCMinutes(), hour: date.getUTCHours(), date: date.getUTCDate(), month, weekday }
}
type Line = { wildcard: boolean; matches: (clock: Clock) => boolean }

function numbers(text: string, low: number, high: number): Set<number> {
  const found = new Set<number>()
  for (const part of text === '*' ? [`${low}-${high}`] : text.split(',')) {
    assert.match(part, /^\d+(-\d+)?$/)
    const [first = 0, last = first] = part.split('-').map(Number)
    assert.ok(first >= low && last <= high && first <= last, text)
    for (let value = first; value <= last; value++) found.add(value)
  }
  return found
}

/** A field that begins with `*` joins days by "and"; such an hour or minute makes the line follow the clock. */
function vixie(when: string): Line {
  const fields = when.split(' ')
  const [minutes, hours, dates, months, weekdays] = fields
  assert.ok(minutes && hours && dates && months && weekdays && fields.length === 5, when)
  const [m, h, d, n, w] = [
    numbers(minutes, 0, 59),
    numbers(hours, 0, 23),
    numbers(dates, 1, 31),
    numbers(months, 1, 12),
    numbers(weekdays, 0, 7),
  ]
  const and = dates.startsWith('*') || weekdays.startsWith('*')
  return {
    wildcard: minutes.startsWith('*') || hours.startsWith('*'),
    matches: ({ minute, hour, date, month, weekday }) =>
      m.has(minute) && h.has(hour) && n.has(month) && (and ? d.has(date) && w.has(weekday) : d.has(date) || w.has(weekday)),
  }
}

/** Of days and weekdays the one that has all is emptied where the other has not; then "or". Days have a place 0, which only `*` fills. */
function busybox(when: string): Line {
  const [minutes = '', hours = '', dates = '', months = '', weekdays = ''] = when.split(' ')
  let [d, w] = [dates === '*' ? numbers('0-31', 0, 31) : numbers(dates, 1, 31), numbers(weekdays, 0, 6)]
  const [daysUsed, weekUsed] = [d.size < 32, w.size < 7]
  if (daysUsed !== weekUsed) [d, w] = weekUsed ? [new Set(), w] : [d, new Set()]
  const [m, h, n] = [numbers(minutes, 0, 59), numbers(hours, 0, 23), numbers(months, 1, 12)]
  return {
    wildcard: true,
    matches: ({ minute, hour, date, month, weekday }) => m.has(minute) && h.has(hour) && n.has(month) && (d.has(date) || w.has(weekday)),
  }
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
const draw = random(19870721)
const pick = (...from: readonly string[]): string => from[draw(from.length)] ?? ''
const drawn = () =>
  [
    pick('*', '0', '*/20', '5,35', '10-14', 'H', '59', 'H/30'),
    pick('*', '2', '1,2,3', '*/2', '0-6', 'H', '8-18/2', '0-23', '2,3'),
    pick('*', '*', '1', '*/2', '1-31', '25-31', 'H', '?', '13'),
    pick('*', '*', '*', 'mar,Oct', '*/3', '10'),
    pick('*', '*', '1-5', 'SUN', '7', '*/2', '0-6', 'fri-7', 'H'),
  ].join(' ')

/** For every minute what the clock shows, and what is due with it that was not shown: what the clock jumps over. `seen`: shown before. */
function* walk(zone: string, from: number, until: number): Generator<{ time: number; shown: Clock; seen: boolean; jumped: Clock[] }> {
  const format = new Intl.DateTimeFormat('sv-SE', { timeZone: zone, dateStyle: 'short', timeStyle: 'medium' })
  let high = Number.NaN
  for (let time = from; time <= until; time += minute) {
    const wall = Date.parse(`${format.format(time).replace(' ', 'T')}Z`)
    const jumped: Clock[] = []
    for (let missing = high + minute; missing < wall; missing += minute) jumped.push(read(missing))
    yield { time, shown: read(wall), seen: wall <= high, jumped }
    high = Number.isNaN(high) ? wall : Math.max(high, wall)
  }
}

async function lineFor(expression: string): Promise<string> {
  const found = await crontabLine(expression, { zone: 'local', seed })
  assert.ok('when' in found, expression)
  return found.when
}
const due = async (expression: string, from: number, until: number) =>
  (await nextTimes(expression, { zone: 'local', seed, from: new Date(from), until: new Date(until) })).map((time) => time.getTime())

test("random schedules come due as Vixie's cron runs their lines, also where clocks change", async () => {
  const spans: [zone: string, start: string, days: number][] = [
    ['Europe/Berlin', '2026-03-27T12:00:00Z', 6],
    ['Europe/Berlin', '2026-10-23T12:00:00Z', 12],
    ['America/New_York', '2026-10-30T12:00:00Z', 4],
    ['UTC', '2026-02-20T12:00:00Z', 40],
  ]
  let compared = 0
  for (const [zone, start, days] of spans) {
    const from = Date.parse(start)
    const until = from + days * 24 * 60 * minute
    const minutes = [...walk(zone, from, until)].slice(1)
    await withZone(zone, async () => {
      for (let round = 0; round < 60; round++) {
        const expression = drawn()
        const { wildcard, matches } = vixie(await lineFor(expression))
        const runs = minutes.filter(({ shown, seen, jumped }) =>
          wildcard ? matches(shown) : (!seen && matches(shown)) || jumped.some(matches),
        )
        assert.deepEqual(
          await due(expression, from, until),
          runs.map(({ time }) => time),
          `${expression} in ${zone}`,
        )
        compared += runs.length
      }
    })
  }
  assert.ok(compared > 20_000, `only ${compared} times were compared`)
})

test("random schedules come due as busybox's cron runs their lines, where no clock changes", async () => {
  const from = Date.parse('2026-02-20T12:00:00Z')
  const until = from + 40 * 24 * 60 * minute
  const minutes = [...walk('UTC', from, until)].slice(1)
  await withZone('UTC', async () => {
    for (let round = 0; round < 100; round++) {
      const expression = drawn()
      const { matches } = busybox(await lineFor(expression))
      const runs = minutes.filter(({ shown }) => matches(shown)).map(({ time }) => time)
      assert.deepEqual(await due(expression, from, until), runs, expression)
    }
  })
})

test('a shifted line and its wait come to the due time and the shift', async () => {
  const from = Date.parse('2026-02-20T12:00:00Z')
  const until = from + 20 * 24 * 60 * minute
  const minutes = [...walk('UTC', from, until + 24 * 60 * minute)].slice(1)
  await withZone('UTC', async () => {
    for (let round = 0; round < 100; round++) {
      const expression = drawn()
      const jitterSeconds = draw(4 * 3600)
      const found = await crontabLine(expression, { zone: 'local', seed, jitterSeconds })
      assert.ok('when' in found)
      const { matches } = vixie(found.when)
      const runs = minutes.filter(({ shown }) => matches(shown)).map(({ time }) => time + found.waitSeconds * 1000)
      const expected = (await due(expression, from, until)).map((time) => time + jitterSeconds * 1000)
      // The first of the lines may belong to due times before.
      const within = runs.filter((time) => time >= (expected[0] ?? until) && time <= (expected.at(-1) ?? 0))
      assert.deepEqual(within, expected, `${expression} later by ${jitterSeconds}: ${found.when} and ${found.waitSeconds}`)
    }
  })
})

// From here: the block.

const lines = ['30 2 * * * /usr/local/bin/kedge backup web1', '# a comment']
const block = `# kedge: begin schedule\n${lines.join('\n')}\n# kedge: end\n`
const texts: [name: string, text: string][] = [
  ['nothing', ''],
  ['one line', '0 0 * * * true\n'],
  ['no final line feed', '0 0 * * * true'],
  ['only a line feed', '\n'],
  ['empty lines at the end', 'a\n\n\n'],
  ['CRLF', '0 0 * * * true\r\nMAILTO=x\r\n'],
  ['CRLF without a final one', 'a\r\nb'],
  ['a carriage return at the end', 'a\r'],
  ['NUL and bytes that are no UTF-8', 'a\0b\xff\xfe\n\0'],
  ['words that look like marks', '# kedge: beginning\n# kedge: ends\n #  kedge: end\n'],
  ['the block of another', 'x\n# kedge: begin digest\ny\n# kedge: end\nz'],
]
test('a block put in and taken out leaves every byte as it was, and putting it in again changes nothing', () => {
  for (const [name, text] of texts) {
    const put = withBlock(text, lines)
    assert.ok(put.startsWith(text), name)
    assert.deepEqual(blockOf(put), lines, name)
    assert.equal(withBlock(put, lines), put, name)
    assert.equal(withoutBlock(put), text, name)
    assert.equal(withoutBlock(text), text, name)
    const other = withBlock(put, ['@daily x'])
    assert.deepEqual(blockOf(other), ['@daily x'])
    assert.equal(withBlock(other, lines), put, name)
    assert.equal(withoutBlock(other), text, name)
    assert.equal(withBlock(put, []), text, name)
  }
  assert.deepEqual(blockOf('x\n'), [])
})

test('a block stays where it is when text comes before and after it', () => {
  const text = `before\n${block}after`
  assert.equal(withBlock(text, ['x']), 'before\n# kedge: begin schedule\nx\n# kedge: end\nafter')
  assert.equal(withoutBlock(text), 'before\nafter')
  assert.deepEqual(blockOf(text.replaceAll('\n', '\r\n')).length, 2)
  assert.equal(withoutBlock(text.replaceAll('\n', '\r\n')), 'before\r\nafter')
  assert.equal(withoutBlock(text.replace('\nafter', '')), 'before\n')
  // What was added after a block that brought the line feed keeps its line.
  const added = `${withBlock('bare', lines)}more\n`
  assert.equal(withoutBlock(added), 'bare\nmore\n')
  const two = withBlock(withBlock('bare', lines), ['y'], 'digest')
  assert.deepEqual(blockOf(two, 'digest'), ['y'])
  assert.equal(withoutBlock(withoutBlock(two, 'digest')), 'bare')
})

const damaged: [text: string, wrong: RegExp][] = [
  ['a\n# kedge: begin schedule\nx\n', /line 2: a block begins and has no end/],
  ['# kedge: begin schedule', /line 1/],
  ['a\nx\n# kedge: end\n', /line 3: '# kedge: end' without a beginning/],
  [`${block}${block}`, /line 5: '# kedge: begin schedule' a second time/],
  ['# kedge: begin schedule\n# kedge: begin schedule\n# kedge: end\n', /line 2: .* before the end of the block that begins in line 1/],
  ['# kedge: begin digest\nx\n', /line 1: a block begins and has no end/],
  [`${block}# kedge: end\n`, /line 5: '# kedge: end' without a beginning/],
]
test('damaged marks are a failure that names the line, whatever was to be done', () => {
  for (const [text, wrong] of damaged)
    for (const work of [() => withBlock(text, lines), () => withoutBlock(text), () => blockOf(text)])
      assert.throws(work, (error) => error instanceof Failure && error.class === 'config' && wrong.test(error.message), text)
})

test('what is not one line never gets into a crontab', () => {
  for (const line of ['a\nb', 'a\0']) assert.throws(() => withBlock('', [line]), /not one line/)
})

test('a line tells what it starts, and by which file, whatever the path of kedge is', () => {
  const paths = ['/usr/local/bin/kedge', '/x/my home/.local/bin/kedge', '/x/50% off/kedge', '/x/~/kedge', "/x/it's/kedge"]
  const commands = [...paths.map((path) => [path]), ['/usr/bin/node', '/x/a b/dist/kedge.cjs'], ['/usr/bin/node', '/x/dist/kedge.cjs']]
  const wanted = { command: ['backup', '--wait=1h', 'web1'], target: 'web1', verb: 'backup' as const }
  for (const command of commands) {
    const text = withBlock('', [written(wanted, '30 2 * * *', 0, { command, env: { PATH: '/bin' } })])
    const asked: string[] = []
    const isThere = (file: string) => asked.push(file) > 0
    assert.deepEqual([...startedBy(text, isThere).started], ['backup web1'], command.join(' '))
    for (const file of asked) assert.equal(file, command.at(-1))
    const { started, gone } = startedBy(text, () => false)
    if (asked.length > 0) assert.deepEqual([[...started], [...gone]], [[], [command.at(-1)]])
  }
})
