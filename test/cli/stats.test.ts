import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { append } from '../../lib/ledger.ts'
import type { RunRow, Sizes } from '../../lib/rows.ts'
import { done, fake, kedge, machine, newTarget, promtool, restics, startProgram } from '../harness.ts'
import { makeStore } from '../store.ts'

const day = 86_400_000

for (const [index, tool] of restics().entries()) {
  test(`restic ${tool.version}: stats are what was saved, what it takes, and how it grows`, async (t) => {
    const m = machine(t, tool)
    const source = path.join(m.dir, 'source')
    fs.mkdirSync(source)
    // Noise does not compress; twice the same is stored once.
    const noise = randomBytes(700_000)
    for (const name of ['a', 'b']) fs.writeFileSync(path.join(source, name), noise)
    fs.writeFileSync(path.join(source, 'zeros'), 'z'.repeat(400_000))
    const target = newTarget(m, 'web1', { paths: [source], scripts: { 'streams/app.sql': 'printf "insert %s;\\n" 1 2 3' } })
    await makeStore(m, target)
    await done(m, ['backup', 'web1'])
    // Another target's snapshot in the same repository is not counted.
    const env = { RESTIC_REPOSITORY: target.repository, RESTIC_PASSWORD: target.password, RESTIC_CACHE_DIR: m.cache }
    if (index === 0) {
      const foreign = path.join(m.dir, 'foreign')
      fs.writeFileSync(foreign, randomBytes(300_000))
      assert.equal((await startProgram(m, tool.path, ['backup', '-q', '--tag', 'kedge:web2', foreign], { env }).result).status, 0)
    }
    const state = path.join(m.state, 'web1')
    const ledger = JSON.parse(fs.readFileSync(path.join(state, 'runs.ndjson'), 'utf8').trim().split('\n').at(-1) ?? '') as RunRow
    // A backup of four days ago: what the one of today added is the growth of four days.
    await append(state, { ...ledger, run: '20000101T000000Z-000000', start: new Date(Date.parse(ledger.start) - 4 * day).toISOString() })
    const lines = fs.readFileSync(path.join(state, 'runs.ndjson'), 'utf8').trim().split('\n')
    fs.writeFileSync(path.join(state, 'runs.ndjson'), `${[lines.at(-1), ...lines.slice(0, -1)].join('\n')}\n`)
    const added = (ledger.results ?? []).reduce((sum, row) => sum + (row.kind === 'summary' ? row.added : 0), 0)
    const [row] = (await done(m, ['stats', 'web1', '--json'])).rows as Sizes[]
    assert.ok(row)
    // restic 0.14 counts the folders on the way to the source too.
    const old = tool.version.startsWith('0.14')
    const folders = source.split('/').length - 1
    assert.deepEqual([row.snapshots, row.restore, row.files], [2, 1_800_030, old ? 4 + folders : 4])
    // Four days and the seconds that the test has taken.
    assert.ok(Math.abs((row.perDay ?? 0) - added / 4) < added / 1000, `${row.perDay} of ${added}`)
    assert.ok(row.raw > 700_000 && row.raw < 760_000, String(row.raw))
    assert.ok((row.free ?? 0) > 0)
    assert.equal(row.fullIn, Math.round(((row.free ?? 0) / (row.perDay ?? 1)) * 86_400))
    if (old) {
      assert.equal(row.compression, null)
      assert.ok((row.dedup ?? 0) > 2.3, 'compression is in it')
    } else {
      assert.ok((row.compression ?? 0) > 1.4 && (row.compression ?? 0) < 1.6, String(row.compression))
      assert.ok((row.dedup ?? 0) > 1.55 && (row.dedup ?? 0) < 1.7, String(row.dedup))
    }
    assert.deepEqual(JSON.parse(fs.readFileSync(path.join(state, 'sizes.json'), 'utf8')), row)
    const table = await done(m, ['stats', 'web1'])
    assert.deepEqual(table.lines[0]?.split('\t').slice(0, 4), ['web1', '2', '1800030', String(row.files)])
    if (index > 0) return
    const explained = (await done(m, ['stats', 'web1', '--explain'])).stdout
    const byHand = await startProgram(m, '/bin/sh', ['-c', explained]).result
    assert.equal(byHand.status, 0, byHand.stderr)
    assert.equal(JSON.parse(byHand.lines.at(-1) ?? '').total_size, row.raw)
  })
}

test('metrics come from files alone: no tool is started, no secret opened, and a bad target hides no other', async (t) => {
  const m = machine(t)
  fake(m.bin, 'restic', 'echo "$@" >> "$HOME/called"; exit 1')
  for (const name of ['web1', 'web2', 'web3'])
    newTarget(m, name, { env: { SECRET: 'command', SECRET_COMMAND: 'echo opened >> "$HOME/called"' } })
  fs.writeFileSync(path.join(m.config, 'targets/web2/target.env'), 'ENGINE=$(restic)\n')
  fs.mkdirSync(path.join(m.config, 'targets/not a name'))
  fs.mkdirSync(path.join(m.config, 'targets/empty'))
  const start = new Date(1e12)
  const run: RunRow = {
    kind: 'run',
    target: 'web1',
    run: 'r1',
    verb: 'backup',
    state: 'success',
    status: 0,
    start: start.toISOString(),
    seconds: 3,
  }
  await append(path.join(m.state, 'web1'), run)
  await append(path.join(m.state, 'web2'), { ...run, target: 'web2', state: 'failed', status: 13 })
  const printed = await done(m, ['stats', '--prometheus'])
  execFileSync(promtool, ['check', 'metrics'], { input: printed.stdout })
  for (const line of [
    'kedge_config_error{target="web1"} 0',
    'kedge_config_error{target="web2"} 1',
    'kedge_config_error{target="not a name"} 1',
    'kedge_config_error{target="empty"} 1',
    'kedge_last_success_timestamp_seconds{target="web1",verb="backup"} 1000000000',
    'kedge_last_failure_timestamp_seconds{target="web2",verb="backup"} 1000000000',
    'kedge_runs_total{target="web1",verb="backup",state="success"} 1',
  ])
    assert.ok(printed.lines.includes(line), `${line}\n${printed.stdout}`)
  const one = (await done(m, ['stats', '--prometheus', 'web1'])).stdout
  assert.ok(one.includes('"web1"') && !one.includes('"web2"'))

  const file = path.join(m.dir, 'kedge.prom')
  fs.writeFileSync(file, '# HELP kedge_old\n', { mode: 0o600 })
  const before = fs.statSync(file).ino
  assert.equal((await done(m, ['stats', `--prometheus=${file}`])).stdout, '')
  assert.equal(fs.readFileSync(file, 'utf8'), printed.stdout)
  assert.deepEqual([fs.statSync(file).mode & 0o777, fs.statSync(file).ino === before], [0o644, false])
  assert.deepEqual(
    fs.readdirSync(m.dir).filter((name) => name.startsWith('kedge.prom')),
    ['kedge.prom'],
  )
  assert.equal(fs.existsSync(path.join(m.home, 'called')), false)

  // What is no file of metrics stays what it is.
  const notes = path.join(m.dir, 'notes')
  fs.writeFileSync(notes, 'my notes\n')
  const refused = await kedge(m, ['stats', `--prometheus=${notes}`])
  assert.deepEqual([refused.status, fs.readFileSync(notes, 'utf8')], [2, 'my notes\n'])
  assert.ok(refused.stderr.includes(`cannot write metrics to '${notes}': it exists, and holds something else`), refused.stderr)
  assert.equal((await kedge(m, ['stats', `--prometheus=${m.dir}`])).status, 2)
  fs.writeFileSync(notes, '')
  const link = path.join(m.dir, 'link')
  fs.symlinkSync(notes, link)
  await done(m, ['stats', `--prometheus=${link}`])
  assert.deepEqual([fs.readlinkSync(link), fs.readFileSync(notes, 'utf8')], [notes, printed.stdout])
  const fifo = path.join(m.dir, 'fifo')
  execFileSync('mkfifo', [fifo])
  const toFifo = path.join(m.dir, 'to-fifo')
  fs.symlinkSync(fifo, toFifo)
  for (const name of [fifo, toFifo]) {
    const reader = startProgram(m, 'cat', [fifo])
    await done(m, ['stats', `--prometheus=${name}`])
    assert.equal((await reader.result).stdout, printed.stdout)
  }
  assert.ok(fs.statSync(fifo).isFIFO() && fs.lstatSync(toFifo).isSymbolicLink())

  const nowhere = await kedge(m, ['stats', `--prometheus=${m.dir}/nowhere/kedge.prom`])
  assert.deepEqual([nowhere.status, nowhere.stderr.includes(`is there a folder '${m.dir}/nowhere'?`)], [2, true])
  assert.equal((await kedge(m, ['stats', '--prometheus', 'nosuch'])).status, 2)
  assert.equal((await kedge(m, ['stats', '--refresh', 'web1'])).status, 2)
  // Asked to, it measures first: what cannot be measured gives the status, and the metrics all the same.
  const refreshed = await kedge(m, ['stats', '--prometheus', '--refresh', 'web1'])
  assert.equal(refreshed.status, 12)
  assert.equal(refreshed.stdout, one)
  assert.equal(fs.existsSync(path.join(m.home, 'called')), true)
})

test('a target without snapshots has sizes of nothing', async (t) => {
  const m = machine(t)
  await makeStore(m, newTarget(m, 'web1', { paths: [m.home] }))
  const [row] = (await done(m, ['stats', 'web1', '--json'])).rows as Sizes[]
  const { snapshots, restore, files, raw, dedup, compression, perDay, fullIn } = row as Sizes
  assert.deepEqual([snapshots, restore, files, raw, dedup, compression, perDay, fullIn], [0, 0, 0, 0, null, null, null, null])
})
