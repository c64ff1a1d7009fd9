// The scheduler, with real runs. What is to run is overdue from the beginning: no test waits for a time of day.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Ended, Upcoming } from '../../lib/rows/house.ts'
import type { RunRow } from '../../lib/rows.ts'
import { done, fake, growTree, kedge, type Machine, machine, newTarget, restic, sameTree, start, startProgram } from '../harness.ts'
import { makeStore } from '../store.ts'

const day = 86_400_000
/** Due in January only: a test that runs at midnight of New Year may see one run more. */
const yearly = '0 0 1 1 *'
const stateOf = (m: Machine, name: string, file: string) => path.join(m.state, name, file)

/** The target's last run of the verb seems to be so many days ago. */
function age(m: Machine, name: string, verb: string, days: number): void {
  const at = new Date(Date.now() - days * day).toISOString()
  const file = stateOf(m, name, 'last.json')
  fs.mkdirSync(path.dirname(file), { recursive: true })
  const last = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : {}
  const blank = { last: { kind: 'run', target: name, run: 'seeded', verb, state: 'success', status: 0, seconds: 1 }, counts: {} }
  const known = last[verb] ?? blank
  for (const row of [known.last, known.good, known.bad]) if (row) row.start = at
  fs.writeFileSync(file, JSON.stringify({ ...last, [verb]: known }))
}

const seenFile = (m: Machine) => stateOf(m, '.scheduler', 'since.json')
const seen = (m: Machine) => JSON.parse(fs.readFileSync(seenFile(m), 'utf8')) as Record<string, { since: number }>
const sinceOf = (m: Machine, key: string) => seen(m)[key]?.since ?? Number.NaN

/** The scheduler's own attempt seems to be so many days ago. */
function ageSeen(m: Machine, key: string, days: number): void {
  const all = seen(m)
  assert.ok(all[key], key)
  fs.writeFileSync(seenFile(m), JSON.stringify({ ...all, [key]: { ...all[key], since: Date.now() - days * day } }))
}

function runsOf(m: Machine, name: string): RunRow[] {
  const file = stateOf(m, name, 'runs.ndjson')
  const text = fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim() : ''
  return text === '' ? [] : text.split('\n').map((line) => JSON.parse(line) as RunRow)
}

/** A target whose backups are overdue, and end with 75 when their hook has run. */
function skipping(m: Machine, name: string, script: string, env: Record<string, string> = {}): void {
  newTarget(m, name, {
    paths: [m.home],
    env: { SCHEDULE_BACKUP: yearly, ...env },
    scripts: { 'hooks/before-backup': `${script}\nexit 77` },
  })
  age(m, name, 'backup', 800)
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 600; i++) {
    if (holds()) return
    await sleep(50)
  }
  assert.fail(`it did not come about: ${what}`)
}

test('--once makes up for what was missed, once, restores the same bytes, and lets a broken target not stop the others', async (t) => {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  growTree(source)
  const web1 = newTarget(m, 'web1', { paths: [source], env: { SCHEDULE_BACKUP: '@daily', SCHEDULE_CHECK: '@daily' } })
  await makeStore(m, web1)
  await done(m, ['backup', 'web1'])
  age(m, 'web1', 'backup', 3)
  newTarget(m, 'broken', { env: { SCHEDULE_BACKUP: '@daily', NO_SUCH_KEY: 'x' } })
  const first = await kedge(m, ['scheduler', '--once', '--json'])
  assert.equal(first.status, 2, first.stderr)
  assert.match(first.stderr, /target 'broken' is not valid/)
  const [row, ...more] = first.rows as Ended[]
  assert.deepEqual([row?.target, row?.verb, row?.status, more], ['web1', 'backup', 0, []], 'one backup for three nights, no check')
  assert.deepEqual(
    runsOf(m, 'web1').map(({ verb, state }) => `${verb} ${state}`),
    ['backup success', 'backup success'],
  )
  fs.rmSync(path.join(m.config, 'targets', 'broken'), { recursive: true })
  const second = await done(m, ['scheduler', '--once'])
  assert.deepEqual([second.stdout, second.stderr], ['', ''], 'nothing is due, nothing is said')
  // The check was first seen by the first call; it counts on from there.
  assert.ok(Date.now() - sinceOf(m, 'web1 check') < 120_000)
  ageSeen(m, 'web1 check', 2)
  assert.equal((await done(m, ['scheduler', '--once'])).stdout.split('\t').slice(0, 3).join(' '), 'web1 check 0')
  const to = path.join(m.dir, 'to')
  await done(m, ['restore', 'web1', 'latest', '--to', to])
  sameTree(source, path.join(to, source))
})

test('--once ends with the worst status, and says of each run that ended badly which and why', async (t) => {
  const m = machine(t)
  skipping(m, 'a', 'echo told >&2')
  const wrong = newTarget(m, 'web1', { paths: [m.home], env: { SCHEDULE_BACKUP: yearly } })
  await makeStore(m, wrong)
  fs.rmSync(path.join(wrong.dir, 'secret.env'))
  fs.writeFileSync(path.join(wrong.dir, 'secret.env'), "RESTIC_PASSWORD='another'\n", { mode: 0o400 })
  age(m, 'web1', 'backup', 800)
  const { status, stderr, lines } = await kedge(m, ['scheduler', '--once'])
  assert.equal(status, 12, stderr)
  assert.match(stderr, /^kedge: a: backup ended with status 75: skipped/m)
  assert.match(stderr, /^kedge: web1: backup ended with status 12: wrong or missing secret$/m)
  assert.match(stderr, /^web1: kedge: .*wrong password/m, "the run's own words come with the target's name")
  assert.deepEqual(lines.map((line) => line.split('\t').slice(0, 3).join(' ')).sort(), ['a backup 75', 'web1 backup 12'])
  const none = machine(t)
  assert.equal((await kedge(none, ['scheduler', '--once'])).status, 2, 'no target')
})

/** Settings by which each message is a line in a file: the target, the verb, the state, and the message's first line. */
function telling(m: Machine): { env: Record<string, string>; told: () => string[] } {
  const file = path.join(m.dir, 'told')
  const script = `echo "$KEDGE_TARGET $KEDGE_VERB $KEDGE_RUN_STATE $KEDGE_RUN_MESSAGE" | head -n 1 >>${file}`
  return {
    env: { NOTIFY: 'command', NOTIFY_ON: 'failure', NOTIFY_COMMAND: fake(m.bin, 'tell', script) },
    told: () => (fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim().split('\n') : []),
  }
}

test('a run that was killed is told of once; one that ended on record has told of itself, and one that was skipped is nothing to tell', async (t) => {
  const m = machine(t)
  const { env, told } = telling(m)
  skipping(m, 'killed', 'kill -9 $PPID', env)
  skipping(m, 'skipped', ':', env)
  skipping(m, 'failed', 'exit 9', env)
  // Nobody hears of this one: that is said, and the schedule goes on.
  skipping(m, 'mute', 'kill -9 $PPID', { ...env, NOTIFY_COMMAND: '/nowhere/tell' })
  const { status, stderr, lines } = await kedge(m, ['scheduler', '--once', '--jobs', '4'])
  assert.equal(status, 137, stderr)
  assert.deepEqual(lines.map((line) => line.split('\t').slice(0, 3).join(' ')).sort(), [
    'failed backup 1',
    'killed backup 137',
    'mute backup 137',
    'skipped backup 75',
  ])
  const heard = told().sort()
  assert.equal(heard.length, 2, `${heard}`)
  assert.match(heard[0] ?? '', /^failed backup failed hook '.*' failed: status 9/)
  // Its hook may live on for a moment: whether the run is dead already is not known then.
  assert.match(heard[1] ?? '', /^killed backup crashed (its process \d+ ended without a record|the backup left no record)/)
  assert.equal(stderr.match(/^kedge: mute: backup: .*told.*$/gm)?.length, 1, stderr)
  assert.match(stderr, /^kedge: mute: backup: not told of over all channels: .*cannot run '\/nowhere\/tell'/m)
})

test('a target that stopped loading is told of when it is due, once for each due time', async (t) => {
  const m = machine(t)
  const { env, told } = telling(m)
  const { dir } = newTarget(m, 'web1', { paths: [m.home], env: { SCHEDULE_BACKUP: yearly, ...env } })
  age(m, 'web1', 'backup', 1)
  await done(m, ['scheduler', '--once'])
  fs.appendFileSync(path.join(dir, 'target.env'), 'NO_SUCH_KEY=1\n')
  assert.equal((await kedge(m, ['scheduler', '--once'])).stdout, '', 'it is not due')
  assert.deepEqual(told(), [])
  age(m, 'web1', 'backup', 800)
  ageSeen(m, 'web1 backup', 800)
  const { status, lines } = await kedge(m, ['scheduler', '--once'])
  assert.deepEqual([status, lines.map((line) => line.split('\t').slice(0, 3))], [2, [['web1', 'backup', '2']]])
  assert.equal(told().length, 1)
  assert.match(told()[0] ?? '', /^web1 backup crashed the backup left no record/)
  assert.equal((await kedge(m, ['scheduler', '--once'])).stdout, '', 'not again at the same due time')
  assert.equal(told().length, 1)
})

test('a digest that came due while the machine was off is sent once', async (t) => {
  const m = machine(t)
  const { env, told } = telling(m)
  newTarget(m, 'web1', { paths: [m.home], env: { ...env, NOTIFY_ON: 'digest', SCHEDULE_DIGEST: '0 7 * * *' } })
  await done(m, ['scheduler', '--once'])
  assert.deepEqual(told(), [], 'its first one is due at seven')
  const [key = ''] = Object.keys(seen(m))
  ageSeen(m, key, 5)
  assert.equal((await done(m, ['scheduler', '--once'])).stdout.split('\t').slice(0, 3).join(' '), ' digest 0')
  assert.equal((await done(m, ['scheduler', '--once'])).stdout, '')
  assert.equal(told().length, 1)
})

test('no more runs at a time than --jobs, and of one target never more than one', async (t) => {
  const m = machine(t)
  const log = path.join(m.dir, 'log')
  // The first stays until there was a second; each stays so long that a third would come.
  const script = (name: string) => `echo "+ ${name}" >>${log}; i=0
    until [ "$(grep -c '^+' ${log})" -ge 2 ] || [ $i -ge 300 ]; do i=$((i+1)); sleep 0.1; done
    sleep 0.4; echo "- ${name}" >>${log}`
  for (const name of ['a', 'b', 'c', 'd']) skipping(m, name, script(name))
  const prune = path.join(m.config, 'targets', 'a')
  fake(prune, 'hooks/before-prune', `${script('a')}\nexit 77`)
  fs.appendFileSync(path.join(prune, 'target.env'), `SCHEDULE_PRUNE='${yearly}'\n`)
  age(m, 'a', 'prune', 800)
  assert.equal((await kedge(m, ['scheduler', '--once', '--jobs', '2'])).status, 75)
  const events = fs.readFileSync(log, 'utf8').trim().split('\n')
  assert.equal(events.length, 10)
  const open: string[] = []
  let most = 0
  for (const event of events) {
    const [sign, name = ''] = event.split(' ')
    if (sign === '+') {
      assert.ok(!open.includes(name), `two runs of ${name}: ${events}`)
      open.push(name)
    } else open.splice(open.indexOf(name), 1)
    most = Math.max(most, open.length)
  }
  assert.equal(most, 2, `${events}`)
  assert.equal(runsOf(m, 'a')[0]?.verb, 'backup', 'the backup before the prune of the same time')
  const misuse = await kedge(m, ['scheduler', '--jobs', '0'])
  assert.equal(misuse.status, 2)
})

test('the daemon catches up, reloads on SIGHUP, survives a broken target and a reader that went away, and stops with 0', async (t) => {
  const m = machine(t)
  skipping(m, 'web1', ':')
  const { child, result, until: said } = start(m, ['scheduler'])
  await said(/^kedge: scheduler: 1 target, 1 schedule$/m)
  await said(/^web1\tbackup\t75\t/m)
  child.stdout?.destroy()
  newTarget(m, 'broken', { env: { NO_SUCH_KEY: 'x' } })
  skipping(m, 'web2', ':')
  child.kill('SIGHUP')
  await said(/scheduler: 2 of 3 targets load, 2 schedules/)
  await said(/web2: backup ended with status 75/)
  child.kill('SIGHUP')
  await said(/(?:2 of 3 targets load[\s\S]*){2}/)
  newTarget(m, 'broken', {})
  child.kill('SIGHUP')
  await said(/broken loads again/)
  child.kill('SIGTERM')
  const { status, stderr } = await result
  assert.equal(status, 0, stderr)
  assert.equal(stderr.match(/target 'broken' is not valid/g)?.length, 1, 'what is wrong is said once')
  assert.deepEqual([runsOf(m, 'web1').length, runsOf(m, 'web2').length], [1, 1])
})

/** A target with a store whose backup saves a stream that lasts until it is ended. */
async function lasting(m: Machine, script: string): Promise<{ pid: () => number }> {
  const file = path.join(m.dir, 'pid')
  const web1 = newTarget(m, 'web1', { env: { SCHEDULE_BACKUP: yearly }, scripts: { 'streams/app.sql': `echo $$ >${file}\n${script}` } })
  await makeStore(m, web1)
  age(m, 'web1', 'backup', 800)
  return { pid: () => (fs.existsSync(file) ? Number(fs.readFileSync(file, 'utf8')) : 0) }
}

const lives = (pid: number) => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

test('SIGTERM ends the runs as each ends cleanly and waits for them: recorded, no lock left, no half a snapshot', async (t) => {
  const m = machine(t)
  const { pid } = await lasting(m, 'echo half; exec sleep 1000')
  const { child, result } = start(m, ['scheduler'])
  await until('the stream runs', () => pid() > 0)
  child.kill('SIGTERM')
  const { status, stderr } = await result
  assert.equal(status, 0, stderr)
  assert.match(stderr, /kedge: scheduler: ending web1/)
  assert.deepEqual(
    runsOf(m, 'web1').map(({ state, status }) => [state, status]),
    [['cancelled', 143]],
  )
  assert.ok(!lives(pid()), 'the stream is over')
  const web1 = { name: 'web1', dir: '', repository: path.join(m.dir, 'repositories', 'web1'), password: 'a password for web1' }
  assert.equal((await restic(m, web1, ['list', 'locks', '--no-lock'])).stdout, '')
  assert.equal((await restic(m, web1, ['list', 'snapshots', '--no-lock'])).stdout, '')
})

test('a second signal hurries: a run that does not end is killed', async (t) => {
  const m = machine(t)
  const { pid } = await lasting(m, "trap '' TERM INT; while :; do sleep 1; done")
  const { child, result, until: said } = start(m, ['scheduler'])
  await until('the stream runs', () => pid() > 0)
  const stream = pid()
  t.after(() => lives(stream) && process.kill(stream, 'SIGKILL'))
  child.kill('SIGTERM')
  await said(/ending web1/)
  child.kill('SIGTERM')
  const { status, stderr } = await result
  assert.equal(status, 0, stderr)
  assert.match(stderr, /web1: backup ended with status 137: ended by signal 9/)
  assert.deepEqual(runsOf(m, 'web1'), [], 'killed: the next run records it as crashed')
})

test('a second scheduler on the same state is status 11, and after the first was killed the next one works', async (t) => {
  const m = machine(t)
  newTarget(m, 'web1', { env: { SCHEDULE_BACKUP: yearly } })
  const first = start(m, ['scheduler'])
  await first.until(/1 target, 1 schedule/)
  for (const args of [['scheduler'], ['scheduler', '--once']]) {
    const second = await kedge(m, args)
    assert.equal(second.status, 11, second.stderr)
    assert.match(second.stderr, new RegExp(`another scheduler works on the state in '${m.state}/?': pid ${first.child.pid} `))
  }
  first.child.kill('SIGKILL')
  await first.result
  await done(m, ['scheduler', '--once'])
})

test('-n lists what would start in the next 24 hours and changes nothing; --explain gives lines for at(1) that sh runs', async (t) => {
  const m = machine(t)
  newTarget(m, 'web1', { paths: [m.home], env: { SCHEDULE_BACKUP: '30 2 * * *', SCHEDULE_PRUNE: yearly } })
  age(m, 'web1', 'backup', 2)
  age(m, 'web1', 'prune', 1)
  const rows = (await done(m, ['scheduler', '-n', '--json'])).rows as Upcoming[]
  assert.deepEqual(
    rows.map(({ target, verb }) => [target, verb]),
    [
      ['web1', 'backup'],
      ['web1', 'backup'],
    ],
  )
  const [missed, next] = rows
  assert.ok(missed && next && missed.due < missed.time, 'the missed one starts now')
  assert.match(next.time, /T02:30:00/)
  assert.equal(next.due, next.time)
  assert.ok(!fs.existsSync(path.join(m.state, '.scheduler')), 'nothing is written')
  const heard = path.join(m.dir, 'heard')
  fake(m.bin, 'at', `echo "$TZ $* $(cat)" >>${heard}`)
  const { stdout } = await done(m, ['scheduler', '--explain'])
  const { status, stderr } = await startProgram(m, '/bin/sh', ['-eu'], { input: stdout }).result
  assert.equal(status, 0, stderr)
  const time = next.time.replace(/^(\d+)-(\d+)-(\d+)T(\d+):(\d+):(\d+).*/, '$1$2$3$4$5.$6')
  assert.equal(fs.readFileSync(heard, 'utf8').trim().split('\n').at(-1), `UTC0 -t ${time} kedge backup --wait=1h web1`)
  assert.equal((await done(m, ['scheduler', '--once', '--explain'])).stdout, 'kedge backup --wait=1h web1\n')
})
