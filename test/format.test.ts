import assert from 'node:assert/strict'
import { test } from 'node:test'
import { align, bytes, duration, field, harmless, localTime, many, parseDuration, parseSize, plain, pretty } from '../lib/format.ts'

test('a number has the words that go with it', () => {
  const said = [0, 1, 2].map((n) => many(n, 'file has', 'files have'))
  assert.deepEqual(said, ['0 files have', '1 file has', '2 files have'])
})

test('bytes are said in the largest unit that gives at least 1, with three digits', () => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [1, '1 B'],
    [1023, '1023 B'],
    [1024, '1.00 KiB'],
    [1536, '1.50 KiB'],
    [1023.7, '1.00 KiB'],
    [10_234, '9.99 KiB'],
    [10_235, '10.0 KiB'],
    [102_350, '100 KiB'],
    [1_048_063, '1023 KiB'],
    [1_048_064, '1.00 MiB'],
    [1_048_575, '1.00 MiB'],
    [1024 ** 3 - 1, '1.00 GiB'],
    [1024 ** 2, '1.00 MiB'],
    [10 * 1024, '10.0 KiB'],
    [123_456_789, '118 MiB'],
    [5 * 1024 ** 3, '5.00 GiB'],
    [2 * 1024 ** 4, '2.00 TiB'],
    [3000 * 1024 ** 5, '3000 PiB'],
    [-1536, '-1.50 KiB'],
  ]
  for (const [n, text] of cases) assert.equal(bytes(n), text)
})

test('durations are said in their two largest units', () => {
  const cases: [number, string][] = [
    [0, '0 s'],
    [0.04, '0 s'],
    [3.24, '3.2 s'],
    [42.4, '42 s'],
    [60, '1 min'],
    [250, '4 min 10 s'],
    [3600, '1 h'],
    [3601, '1 h'],
    [7500, '2 h 5 min'],
    [86_400, '1 d'],
    [273_600, '3 d 4 h'],
    [86_460, '1 d'],
  ]
  for (const [seconds, text] of cases) assert.equal(duration(seconds), text, String(seconds))
})

test('durations are read as seconds, with units, and in sums; what is none of these is refused', () => {
  const cases: [string, number | undefined][] = [
    ['90', 90],
    ['0', 0],
    ['30s', 30],
    ['10m', 600],
    ['10min', 600],
    ['12h', 43_200],
    ['30d', 2_592_000],
    ['2w', 1_209_600],
    ['1d12h', 129_600],
    ['1h30m5s', 5405],
    ['', undefined],
    ['h', undefined],
    ['-5', undefined],
    ['-5s', undefined],
    ['1.5h', undefined],
    ['1h 30m', undefined],
    ['10mi', undefined],
    ['30sec', undefined],
    ['1y', undefined],
    ['1e3', undefined],
    [' 5s', undefined],
    ['5s\n', undefined],
  ]
  for (const [text, seconds] of cases) assert.equal(parseDuration(text), seconds, JSON.stringify(text))
})

test('sizes are read in powers of 1024; what is no size is refused', () => {
  const cases: [string, number | undefined][] = [
    ['0', 0],
    ['500', 500],
    ['500B', 500],
    ['64K', 65_536],
    ['64k', 65_536],
    ['1.5M', 1_572_864],
    ['1MB', 1_048_576],
    ['2GiB', 2 * 1024 ** 3],
    ['2 GiB', 2 * 1024 ** 3],
    ['1T', 1024 ** 4],
    ['1P', 1024 ** 5],
    ['', undefined],
    ['K', undefined],
    ['.5M', undefined],
    ['1.M', undefined],
    ['-1', undefined],
    ['1e3', undefined],
    ['1X', undefined],
    ['1 M 2', undefined],
    ['0x10', undefined],
  ]
  for (const [text, size] of cases) assert.equal(parseSize(text), size, JSON.stringify(text))
})

test('times are shown in the local zone, and what is no time as it is', (t) => {
  const before = process.env.TZ
  t.after(() => {
    if (before === undefined) delete process.env.TZ
    else process.env.TZ = before
  })
  process.env.TZ = 'America/New_York'
  assert.equal(localTime('2026-07-01T02:03:04.567Z'), '2026-06-30 22:03:04')
  assert.equal(localTime('2026-01-01T02:03:04Z'), '2025-12-31 21:03:04')
  process.env.TZ = 'UTC'
  assert.equal(localTime('2026-07-01T02:03:04Z'), '2026-07-01 02:03:04')
  assert.equal(localTime('yesterday'), 'yesterday')
})

test('a cell for people has sizes, times, spans and ratios in words, and short ids', () => {
  const cases: [string, unknown, string][] = [
    ['size', 2048, '2.00 KiB'],
    ['age', 7500, '2 h 5 min'],
    ['dedup', 2.345, '2.35x'],
    ['files', 2048, '2048'],
    ['good', null, '-'],
    ['size', undefined, '-'],
    ['oldestVerified', null, 'never'],
    ['id', 'ab'.repeat(32), 'abababab'],
    ['id', 'ab'.repeat(31), 'ab'.repeat(31)],
    ['paths', ['/etc', '/srv'], '/etc, /srv'],
    ['tags', [], ''],
    ['exclusive', true, 'true'],
  ]
  for (const [name, value, text] of cases) assert.equal(pretty(name, value), text, name)
})

test('a cell for programs is exact', () => {
  const cases: [unknown, string][] = [
    [2048, '2048'],
    [null, ''],
    [undefined, ''],
    [['/etc', '/srv'], '/etc,/srv'],
    ['ab'.repeat(32), 'ab'.repeat(32)],
    [false, 'false'],
    [1e21, '1e+21'],
  ]
  for (const [value, text] of cases) assert.equal(plain(value), text)
})

test('a field cannot break a tab-separated line, and its escapes can be undone', () => {
  const back: Record<string, string> = { t: '\t', n: '\n', r: '\r', '\\': '\\' }
  for (const text of ['plain', 'a\tb', 'a\nb\n', '\r', 'back\\slash', '\\n', '\\\n', 'ünï', '']) {
    const written = field(text)
    assert.doesNotMatch(written, /[\t\n\r]/)
    assert.equal(
      written.replace(/\\(.)/g, (_, c: string) => back[c] ?? c),
      text,
    )
  }
  assert.equal(field('a\tb\\c\nd'), 'a\\tb\\\\c\\nd')
})

test('no control character reaches the terminal', () => {
  const cases: [string, string][] = [
    ['plain ünï 日本', 'plain ünï 日本'],
    ['\x1b[31mred', '\\x1b[31mred'],
    ['bell\x07', 'bell\\x07'],
    ['a\nb\rc', 'a\\x0ab\\x0dc'],
    ['\x7f\x9b', '\\x7f\\x9b'],
    ['\0', '\\x00'],
  ]
  for (const [text, shown] of cases) assert.equal(harmless(text), shown)
  for (let code = 0; code < 0xa0; code++) {
    const shown = harmless(String.fromCharCode(code))
    if (code !== 9) assert.ok(!/\p{Cc}/u.test(shown), `U+${code.toString(16)}`)
  }
})

test('cells are padded to widths, numbers to the right, and the last is left as it is', () => {
  assert.equal(align(['a', '12', 'end'], [3, 4, 9], [false, true, false]).join('  '), 'a      12  end')
  assert.equal(align(['longer', '12345', '7'], [3, 4, 3], [false, true, true]).join('  '), 'longer  12345    7')
})
