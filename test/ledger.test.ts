import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { build } from 'esbuild'
import { append, expire, isGood, logFile, makeState, newest, readLast, replaceFile, runId } from '../lib/ledger.ts'
import type { RunRow } from '../lib/rows.ts'
import { root, scratch } from './harness.ts'

const at = (seconds: number) => new Date(Date.UTC(2026, 0, 1) + seconds * 1000)

function run(seconds: number, more: Partial<RunRow> = {}): RunRow {
  const start = at(seconds)
  const id = runId(start, String(seconds).padStart(6, '0'))
  return {
    kind: 'run',
    target: 'web1',
    run: id,
    verb: 'backup',
    state: 'success',
    status: 0,
    start: start.toISOString(),
    seconds: 1,
    ...more,
  }
}

function house(t: TestContext) {
  const state = path.join(scratch(t), 'web1')
  makeState(state)
  return { state, file: path.join(state, 'runs.ndjson') }
}

async function all(state: string): Promise<{ runs: RunRow[]; torn: string[] }> {
  const [runs, torn]: [RunRow[], string[]] = [[], []]
  for await (const row of newest(state, (line) => torn.push(line))) runs.push(row)
  return { runs, torn }
}

test('what was appended is read back whole, the newest first', async (t) => {
  const { state, file } = house(t)
  const written = [run(1, { warnings: ['a\nline', 'ünï'] }), run(2, { state: 'failed', status: 1, message: 'no' }), run(3)]
  for (const each of written) await append(state, each)
  assert.deepEqual(await all(state), { runs: written.toReversed(), torn: [] })
  assert.equal(fs.readFileSync(file, 'utf8'), written.map((each) => `${JSON.stringify(each)}\n`).join(''))
})

test('a target without a ledger has no runs', async (t) => {
  assert.deepEqual(await all(path.join(scratch(t), 'never')), { runs: [], torn: [] })
  assert.deepEqual(await readLast(path.join(scratch(t), 'never')), {})
})

test('a torn line is skipped and reported, wherever it stands, and the others are read', async (t) => {
  const { state, file } = house(t)
  const line = (row: RunRow) => JSON.stringify(row)
  const half = line(run(9)).slice(0, 40)
  fs.writeFileSync(file, [half, line(run(1)), '{"kind":"run"}', '[]', 'null', '', line(run(2)), half, ''].join('\n'))
  assert.deepEqual(await all(state), { runs: [run(2), run(1)], torn: [half, 'null', '[]', '{"kind":"run"}', half] })
})

test('after a torn end without a line feed the next run stands on a line of its own', async (t) => {
  const { state, file } = house(t)
  await append(state, run(1))
  const half = JSON.stringify(run(2)).slice(0, 50)
  fs.appendFileSync(file, half)
  await append(state, run(3))
  assert.deepEqual(await all(state), { runs: [run(3), run(1)], torn: [half] })
})

test('a whole last line without a line feed is a run', async (t) => {
  const { state, file } = house(t)
  fs.writeFileSync(file, `${JSON.stringify(run(1))}\n${JSON.stringify(run(2))}`)
  assert.deepEqual(await all(state), { runs: [run(2), run(1)], torn: [] })
})

test('a ledger of several blocks is read whole, with characters of several bytes across the borders', async (t) => {
  const { state, file } = house(t)
  const many = (shift: number) => Array.from({ length: 600 }, (_, i) => run(i, { message: 'x'.repeat(shift) + '€'.repeat(100) }))
  for (const shift of [0, 1, 2]) {
    const runs = many(shift)
    const text = runs.map((each) => `${JSON.stringify(each)}\n`).join('')
    assert.ok(Buffer.byteLength(text) > 3 * 65_536)
    fs.writeFileSync(file, text)
    assert.deepEqual(await all(state), { runs: runs.toReversed(), torn: [] })
  }
})

test('a record longer than the blocks in which the ledger is read is read whole, at the end of the file too', async (t) => {
  const { state, file } = house(t)
  const runs = [run(1), run(2, { message: '€'.repeat(100_000) }), run(3), run(4, { message: '€'.repeat(70_000) })]
  const text = runs.map((each) => JSON.stringify(each)).join('\n')
  for (const end of ['', '\n']) {
    fs.writeFileSync(file, text + end)
    const read = await all(state)
    const facts = (rows: readonly RunRow[]) => rows.map((each) => [each.run, each.message?.length])
    assert.deepEqual(facts(read.runs), facts(runs.toReversed()))
    assert.deepEqual(read.torn, [])
  }
})

test('reading stops where the reader does: the beginning of a long ledger is not opened', async (t) => {
  const { state, file } = house(t)
  const text = Array.from({ length: 2000 }, (_, i) => `${JSON.stringify(run(i))}\n`).join('')
  fs.writeFileSync(file, `not a run\n${text}`)
  const torn: string[] = []
  for await (const each of newest(state, (line) => torn.push(line))) {
    assert.deepEqual(each, run(1999))
    break
  }
  assert.deepEqual(torn, [])
})

test('last.json has the last run, the last good and the last bad one of each verb, and counts of the states', async (t) => {
  const { state } = house(t)
  const rows = [
    run(1),
    run(2, { state: 'failed', status: 1 }),
    run(3, { state: 'warning', status: 0 }),
    run(4, { state: 'warning', status: 3 }),
    run(5, { state: 'skipped', status: 75 }),
    run(6, { verb: 'check', state: 'crashed', status: 1 }),
    run(7, { verb: 'check' }),
  ]
  for (const each of rows) await append(state, each)
  assert.deepEqual(await readLast(state), {
    backup: { last: rows[4], good: rows[2], bad: rows[3], counts: { success: 1, failed: 1, warning: 2, skipped: 1 } },
    check: { last: rows[6], good: rows[6], bad: rows[5], counts: { crashed: 1, success: 1 } },
  })
  assert.deepEqual(
    rows.map((each) => isGood(each)),
    [true, false, true, false, false, false, true],
  )
})

test('a last.json that a foreign hand broke is written anew by the next run', async (t) => {
  const { state } = house(t)
  await append(state, run(1))
  fs.writeFileSync(path.join(state, 'last.json'), '{"backup":')
  assert.deepEqual(await readLast(state), {})
  await append(state, run(2))
  assert.deepEqual((await readLast(state)).backup?.last, run(2))
})

test('twenty processes that append at once lose no run and no count', async (t) => {
  const { state } = house(t)
  const program = path.join(state, 'append.mjs')
  await build({
    stdin: {
      contents: `
        import { append } from './lib/ledger.ts'
        import { take } from './lib/lock.ts'
        const [, , state, from] = process.argv
        for (let i = 0; i < 5; i++) {
          const start = new Date(Date.UTC(2026, 0, 1) + (Number(from) * 5 + i) * 1000).toISOString()
          const lock = await take(state + '/lock', 'ledger', { run: from, verb: 'record' }, { wait: 60 })
          await append(state, { kind: 'run', target: 'web1', run: from + '-' + i, verb: 'backup', state: 'success', status: 0, start, seconds: 1 })
          await lock.release()
        }`,
      resolveDir: root,
    },
    outfile: program,
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'error',
  })
  const statuses = Array.from({ length: 20 }, (_, i) => {
    const child = spawn(process.execPath, [program, state, String(i)], { stdio: ['ignore', 'inherit', 'inherit'] })
    return new Promise((resolve) => child.on('exit', resolve))
  })
  assert.deepEqual(await Promise.all(statuses), Array(20).fill(0))
  const { runs, torn } = await all(state)
  assert.deepEqual(torn, [])
  assert.equal(new Set(runs.map((each) => each.run)).size, 100)
  assert.equal(runs.length, 100)
  assert.deepEqual((await readLast(state)).backup?.counts, { success: 100 })
})

test('expire drops the records and logs of old runs and keeps the young, in order; last.json stays', async (t) => {
  const { state, file } = house(t)
  const rows = [1, 2, 3, 4].map((n) => run(n * 1000))
  for (const each of rows) {
    await append(state, each)
    fs.writeFileSync(logFile(state, each.run), 'said\n')
  }
  const last = await readLast(state)
  await expire(state, at(3000))
  assert.equal(
    fs.readFileSync(file, 'utf8'),
    rows
      .slice(2)
      .map((each) => `${JSON.stringify(each)}\n`)
      .join(''),
  )
  assert.deepEqual(
    fs.readdirSync(path.join(state, 'logs')).sort(),
    rows.slice(2).map((each) => `${each.run}.log`),
  )
  assert.deepEqual(await readLast(state), last)
  const before = fs.statSync(file).ino
  await expire(state, at(3000))
  assert.equal(fs.statSync(file).ino, before, 'where nothing is old nothing is written')
})

test('expire keeps torn lines, and sweeps what killed runs left half written a day ago', async (t) => {
  const { state, file } = house(t)
  await append(state, run(1000))
  fs.appendFileSync(file, '{"torn\n')
  await append(state, run(4000))
  const [old, young] = ['last.json.123.new', 'last.json.124.new'].map((name) => path.join(state, name)) as [string, string]
  for (const name of [old, young]) fs.writeFileSync(name, '')
  fs.utimesSync(old, new Date(0), new Date(0))
  await expire(state, at(3000))
  assert.equal(fs.readFileSync(file, 'utf8'), `{"torn\n${JSON.stringify(run(4000))}\n`)
  assert.deepEqual([fs.existsSync(old), fs.existsSync(young)], [false, true])
})

test('last.json has no warnings, but the first one as the message of a run in part', async (t) => {
  const { state } = house(t)
  await append(state, run(1, { state: 'warning', status: 3, warnings: ['first', 'second'] }))
  await append(state, run(2, { verb: 'check', state: 'failed', status: 1, message: 'no', warnings: ['first'] }))
  await append(state, run(3, { verb: 'copy', state: 'warning', status: 0, warnings: ['a notice'] }))
  const last = await readLast(state)
  assert.deepEqual(
    ['backup', 'check', 'copy'].map((verb) => [last[verb]?.last.message, last[verb]?.last.warnings]),
    [
      ['first', undefined],
      ['no', undefined],
      [undefined, undefined],
    ],
  )
})

test('a file that cannot be replaced leaves nothing half written, and what was there', async (t) => {
  const dir = scratch(t)
  const file = path.join(dir, 'last.json')
  fs.mkdirSync(file) // nothing can be renamed over a folder
  await assert.rejects(replaceFile(file, '{}'), { code: 'EISDIR' })
  assert.deepEqual(fs.readdirSync(dir), ['last.json'])
})
