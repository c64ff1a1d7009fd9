import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import type { Target } from '../../lib/contract.ts'
import { append, readLast } from '../../lib/ledger.ts'
import type { RunRow, StatusRow } from '../../lib/rows.ts'
import { nagios, standing } from '../../lib/standing.ts'
import { done, fake, kedge, type Machine, machine, newTarget, start, startProgram } from '../harness.ts'

const hour = 3_600_000
const day = 24 * hour
let unique = 0
const id = (at: number) => `${new Date(at).toISOString().replace(/[-:]|\.\d+/g, '')}-${String(++unique).padStart(6, '0')}`
function run(at: number, more: Partial<RunRow> = {}): RunRow {
  return {
    kind: 'run',
    target: 'web1',
    run: id(at),
    verb: 'backup',
    state: 'success',
    status: 0,
    start: new Date(at).toISOString(),
    seconds: 60,
    ...more,
  }
}
const failedAt = (at: number, more: Partial<RunRow> = {}) =>
  run(at, { state: 'failed', status: 13, class: 'unreachable', message: 'no route', ...more })
const stateOf = (m: Machine, name: string) => path.join(m.state, name)

test('how a verb stands follows from its runs, its schedule and the hour', async () => {
  // A Friday, 12:00 in UTC.
  const now = new Date('2026-11-20T12:00:00Z')
  const ago = (hours: number) => now.getTime() - hours * hour
  const target = (env: Record<string, string>) =>
    ({ name: 'web1', env: { TZ: 'UTC', ...env }, paths: ['/etc'], streams: [] }) as unknown as Target
  const daily = { SCHEDULE_BACKUP: '0 2 * * *' }
  type Case = [what: string, env: Record<string, string>, runs: RunRow[], expected: string[], maxAge?: number]
  const live: Record<string, { verb: string; alive: 'yes' | 'no' | 'unknown' }[]> = {
    'a first backup in progress': [{ verb: 'backup', alive: 'yes' }],
    'a run that died': [{ verb: 'backup', alive: 'no' }],
    'late, although one runs': [{ verb: 'backup', alive: 'yes' }],
    'a run on another host': [{ verb: 'backup', alive: 'unknown' }],
  }
  const cases: Case[] = [
    ['no run', {}, [], ['backup never']],
    ['a good one in time', {}, [run(ago(25))], ['backup ok']],
    [
      'one that crashed in the same second as the good one after it began',
      {},
      [
        { ...failedAt(ago(2)), run: '20261120T100000Z-ffffff' },
        { ...run(ago(2) + 300), run: '20261120T100000Z-000000' },
      ],
      ['backup ok'],
    ],
    ['26 hours without a schedule', {}, [run(ago(27))], ['backup stale']],
    ['MAX_AGE', { MAX_AGE: '2d' }, [run(ago(47))], ['backup ok']],
    ['MAX_AGE over', { MAX_AGE: '2d' }, [run(ago(49))], ['backup stale']],
    ['--max-age', { MAX_AGE: '2d' }, [run(ago(3))], ['backup stale'], 2 * 3600],
    ['the schedule kept', daily, [run(ago(10))], ['backup ok']],
    ['the schedule missed', daily, [run(ago(34))], ['backup stale']],
    ['MAX_AGE counts more than the schedule', { ...daily, MAX_AGE: '3d' }, [run(ago(34))], ['backup ok']],
    ['a little late', { SCHEDULE_BACKUP: '30 10 * * *' }, [run(ago(25.5))], ['backup ok']],
    ['a failure after a good one', {}, [run(ago(10)), failedAt(ago(2))], ['backup failed']],
    ['a good one after a failure', {}, [failedAt(ago(10)), run(ago(2))], ['backup ok']],
    ['skipped is no failure', {}, [run(ago(10)), run(ago(2), { state: 'skipped', status: 75 })], ['backup ok']],
    ['saved in part', {}, [run(ago(10)), run(ago(2), { state: 'warning', status: 3 })], ['backup failed']],
    ['a notice', {}, [run(ago(2), { state: 'warning', status: 0 })], ['backup ok']],
    ['a first backup in progress', {}, [], ['backup running']],
    ['a run that died', {}, [run(ago(10))], ['backup crashed']],
    ['late, although one runs', {}, [run(ago(40))], ['backup stale']],
    ['a run on another host', {}, [run(ago(1))], ['backup running']],
    ['a recorded crash', {}, [run(ago(10)), run(ago(2), { state: 'crashed', status: 1 })], ['backup crashed']],
    [
      'damage found by hand',
      {},
      [run(ago(2)), failedAt(ago(1), { verb: 'check', status: 14, class: 'damaged' })],
      ['backup ok', 'check failed'],
    ],
    ['a good check by hand', {}, [run(ago(2)), run(ago(1), { verb: 'check' })], ['backup ok']],
    ['a weekly check not yet due', { SCHEDULE_CHECK: '0 3 * * 0' }, [run(ago(2))], ['backup ok', 'check ok']],
    ['a weekly check never run', { SCHEDULE_CHECK: '0 3 * * 0' }, [run(ago(24 * 9)), run(ago(2))], ['backup ok', 'check never']],
    [
      'a weekly check missed',
      { SCHEDULE_CHECK: '0 3 * * 0' },
      [run(ago(24 * 13), { verb: 'check' }), run(ago(2))],
      ['backup ok', 'check stale'],
    ],
  ]
  for (const [what, env, runs, expected, maxAge] of cases) {
    const state = fs.mkdtempSync(path.join(tmpdir(), 'kedge-'))
    for (const each of runs) await append(state, each)
    const last = await readLast(state)
    // A first run that is long ago is known from the ledger's first lines only through what last.json keeps of other verbs.
    if (what === 'a weekly check never run') last.init = { last: run(ago(24 * 9), { verb: 'init' }), counts: {} }
    fs.rmSync(state, { recursive: true })
    const open = (live[what] ?? []).map((each) => ({ run: id(now.getTime()), pid: 1, start: now.toISOString(), ...each }))
    const rows = await standing(target(env), { last, live: open }, { now, maxAge })
    assert.deepEqual(
      rows.map(({ verb, state }) => `${verb} ${state}`),
      expected,
      what,
    )
  }
  const [row] = await standing(
    target(daily),
    { last: { backup: { last: run(ago(10)), good: run(ago(10)), counts: {} } }, live: [] },
    { now },
  )
  assert.deepEqual([row?.due, row?.age, row?.good], ['2026-11-21T02:00:00.000Z', 36_000, new Date(ago(10)).toISOString()])
})

test('a plugin line has one word, what is wrong, and performance data', () => {
  const row = (target: string, more: Partial<StatusRow> = {}): StatusRow => ({
    kind: 'status',
    target,
    verb: 'backup',
    state: 'ok',
    good: 'x',
    failed: null,
    due: null,
    age: 60,
    ...more,
  })
  const cases: [StatusRow[], string[], number, string][] = [
    [[row('a'), row('b')], [], 0, "KEDGE OK - 2 targets as they should be | 'a_age'=60s;;;0 'b_age'=60s;;;0"],
    [[row('a', { state: 'running' })], [], 0, "KEDGE OK - 1 target as they should be | 'a_age'=60s;;;0"],
    [
      [row('a', { verb: 'prune', state: 'failed', message: 'no\nroom | left' })],
      [],
      1,
      "KEDGE WARNING - a: prune failed (no room / left) | 'a_age'=60s;;;0",
    ],
    [[row('a', { state: 'never', age: null })], ['cannot load b'], 2, 'KEDGE CRITICAL - a: backup never; cannot load b'],
    [[], ['cannot load b'], 3, 'KEDGE UNKNOWN - cannot load b'],
  ]
  for (const [rows, unknown, status, text] of cases) assert.deepEqual(nagios(rows, unknown), { status, text })
})

test('status is one line a target and 16 when one is late; a target that does not load is named and hides no other', async (t) => {
  const m = machine(t)
  const now = Date.now()
  for (const name of ['fresh', 'late', 'new']) newTarget(m, name, { paths: [m.home] })
  await append(stateOf(m, 'fresh'), run(now - hour, { target: 'fresh' }))
  await append(stateOf(m, 'late'), run(now - 3 * day, { target: 'late' }))
  const all = await kedge(m, ['status'])
  assert.equal(all.status, 16)
  assert.deepEqual(
    all.lines.map((line) => line.split('\t').slice(0, 3).join(' ')),
    ['fresh ok backup', 'late stale backup', 'new never backup'],
  )
  const fresh = await done(m, ['status', 'fresh', '--json'])
  assert.deepEqual(fresh.rows, [
    {
      kind: 'status',
      target: 'fresh',
      verb: 'backup',
      good: new Date(now - hour).toISOString(),
      failed: null,
      due: null,
      age: (fresh.rows[0] as StatusRow).age,
      state: 'ok',
    },
  ])
  assert.equal((await kedge(m, ['status', 'fresh', '--max-age', '30m'])).status, 16)
  assert.equal((await kedge(m, ['status', 'late', '--max-age', '4d'])).status, 0)

  fs.appendFileSync(path.join(m.config, 'targets/late/target.env'), 'WRONG=$(x)\n')
  const bad = await kedge(m, ['status'])
  assert.equal(bad.status, 2)
  assert.deepEqual(
    bad.lines.map((line) => line.split('\t')[0]),
    ['fresh', 'new'],
  )
  assert.match(bad.stderr, /late: target 'late' is not valid/)
  const plugin = await kedge(m, ['status', '--nagios'])
  assert.deepEqual([plugin.status, plugin.lines.length], [2, 1])
  assert.match(plugin.stdout, /^KEDGE CRITICAL - new: backup never; target 'late' is not valid.* \| 'fresh_age'=36\d\ds;;;0\n$/)
  assert.equal((await kedge(m, ['status', 'fresh', '--nagios'])).status, 0)
  assert.deepEqual(
    [(await kedge(m, ['status', 'late', '--nagios'])).status, (await kedge(m, ['status', 'nosuch', '--nagios'])).status],
    [3, 3],
  )
  const byHand = (await done(m, ['status', 'fresh', '--explain'])).stdout
  assert.match(byHand, /^cat \S+\/fresh\/last\.json/)
  const ran = await startProgram(m, '/bin/sh', ['-e', '-c', byHand]).result
  assert.deepEqual([ran.status, ran.stderr, ran.stdout !== ''], [0, '', true], 'it has no sizes.json')
})

test('history lists the newest first, leaves out torn lines aloud, and takes a target that does not load', async (t) => {
  const m = machine(t)
  const { dir } = newTarget(m, 'web1')
  const state = stateOf(m, 'web1')
  const runs = [run(1e12, { verb: 'init' }), run(1e12 + day), failedAt(1e12 + 2 * day), run(1e12 + 3 * day, { verb: 'prune' })]
  for (const each of runs) await append(state, each)
  fs.appendFileSync(path.join(state, 'runs.ndjson'), '{"kind":"run","target":"we')
  await append(state, run(1e12 + 4 * day, { run: '20010913T014640Z-last' }))
  fs.writeFileSync(path.join(dir, 'target.env'), 'not valid')
  const ids = (...args: string[]) => done(m, ['history', 'web1', '-q', ...args]).then((result) => result.lines)
  const newest = ['20010913T014640Z-last', ...runs.map((each) => each.run).reverse()]
  assert.deepEqual(await ids(), newest)
  assert.deepEqual(await ids('--last', '2'), newest.slice(0, 2))
  assert.deepEqual(await ids('--last', '0'), [])
  assert.deepEqual(await ids('--verb', 'prune'), [runs[3]?.run])
  assert.deepEqual(await ids('--failed'), [runs[2]?.run])
  const whole = await done(m, ['history', 'web1', '--json'])
  assert.deepEqual(whole.rows.at(-1), runs[0])
  assert.match(whole.stderr, /a torn line in '.*runs\.ndjson' is left out: \{"kind":"run","target":"we/)
  const explained = await done(m, ['history', 'web1', '--last', '1', '--explain'])
  const byHand = await startProgram(m, '/bin/sh', ['-c', explained.stdout]).result
  assert.equal(JSON.parse(byHand.stdout).run, newest[0])
  const other = await kedge(m, ['history', 'web2'])
  assert.equal(other.status, 2)
  assert.match(other.stderr, /did you mean 'web1'/)
})

test('a run that was killed is shown as crashed until the next one records it, a living one as running', async (t) => {
  const m = machine(t)
  newTarget(m, 'web1', { paths: [m.home], env: { STORE_ID: 'a'.repeat(64) } })
  fake(m.bin, 'restic', 'case "$1" in version) echo "restic 0.19.1 compiled with go" ;; *) echo started >&2; exec sleep 60 ;; esac')
  const backup = start(m, ['check', 'web1', '-v'])
  await backup.until(/running: restic/)
  assert.match((await kedge(m, ['history', 'web1', '--last', '1'])).stdout, /\tcheck\trunning\t/)
  const metrics = (await done(m, ['stats', '--prometheus'])).stdout
  assert.match(metrics, /^kedge_running\{target="web1",verb="check"\} 1$/m)
  assert.match(metrics, /^kedge_lock_age_seconds\{target="web1",lock="check"\} \d/m)
  backup.child.kill('SIGKILL')
  await backup.result
  // The leash ends restic; while its group lives the lock is held.
  let history = ''
  for (const until = Date.now() + 20_000; Date.now() < until && !history.includes('crashed'); )
    history = (await done(m, ['history', 'web1'])).stdout
  assert.match(history, /\tcheck\tcrashed\t1\t/)
  const status = await kedge(m, ['status', 'web1', '--all'])
  assert.deepEqual(
    [status.status, status.lines.map((line) => line.split('\t').slice(1, 3).join(' '))],
    [16, ['never backup', 'crashed check']],
  )
  assert.match((await done(m, ['stats', '--prometheus'])).stdout, /^kedge_crashed\{target="web1"\} 1$/m)
  fake(
    m.bin,
    'restic',
    'case "$1" in version) echo "restic 0.19.1 compiled with go" ;; *) echo "Fatal: wrong password or no key found" >&2; exit 12 ;; esac',
  )
  assert.equal((await kedge(m, ['check', 'web1'])).status, 12)
  const after = (await done(m, ['history', 'web1'])).lines.map((line) => line.split('\t')[2])
  assert.deepEqual(after, ['failed', 'crashed'])
  assert.match((await done(m, ['stats', '--prometheus'])).stdout, /^kedge_crashed\{target="web1"\} 0$/m)
})

test("log prints a run's log, the last one's without an id", async (t) => {
  const m = machine(t)
  newTarget(m, 'web1')
  const state = stateOf(m, 'web1')
  const runs = [run(1e12), run(1e12 + day)]
  for (const each of runs) await append(state, each)
  const text = 'first line\n\ttabbed \\ "quoted"\nlast line\n'
  fs.writeFileSync(path.join(state, 'logs', `${runs[1]?.run}.log`), text)
  fs.writeFileSync(path.join(state, 'logs', `${runs[0]?.run}.log`), 'older\n')
  assert.equal((await done(m, ['log', 'web1'])).stdout, text)
  assert.equal((await done(m, ['log', 'web1', runs[0]?.run.slice(0, 8) ?? ''])).stdout, 'older\n')
  const explained = (await done(m, ['log', 'web1', '--explain'])).stdout
  assert.equal((await startProgram(m, '/bin/sh', ['-c', explained]).result).stdout, text)
  assert.equal((await kedge(m, ['log', 'web1', '2'])).status, 2, 'two begin so')
  const none = await kedge(m, ['log', 'web1', '3'])
  assert.deepEqual([none.status, none.stdout], [1, ''])
  fs.rmSync(path.join(state, 'logs', `${runs[1]?.run}.log`))
  assert.match((await kedge(m, ['log', 'web1'])).stderr, /has no log/)
})
