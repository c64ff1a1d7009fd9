import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { hostname } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Judged, judgeLock, parseSeen, planUnlock } from '../../lib/engine/restic/locks.ts'
import type { LockRow, RunRow } from '../../lib/rows.ts'
import {
  done,
  fake,
  kedge,
  type Machine,
  machine,
  type NewTarget,
  newTarget,
  type Restic,
  type Result,
  restics,
  type Started,
  start,
  startProgram,
} from '../harness.ts'
import { makeStore } from '../store.ts'

type Made = { m: Machine; target: NewTarget }

async function made(t: TestContext, tool?: Restic): Promise<Made> {
  const m = machine(t, tool)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'file'), 'bytes')
  const target = newTarget(m, 'web1', { paths: [source], env: { LOCK_WAIT: '0' } })
  await makeStore(m, target)
  return { m, target }
}

const rows = (result: Result) => result.rows.filter((row): row is LockRow => row.kind === 'lock')
const facts = (result: Result) => rows(result).map(({ of, alive, action }) => [of, alive, action])
const locksIn = (target: NewTarget) => fs.readdirSync(path.join(target.repository, 'locks'))
const records = (m: Machine) =>
  fs
    .readFileSync(path.join(m.state, 'web1', 'runs.ndjson'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as RunRow)

/** Waits for a state of things; fails after half a minute. */
async function until(state: () => boolean, what: string): Promise<void> {
  for (let i = 0; !state(); i++) {
    assert.ok(i < 1500, `waited for ${what}`)
    await sleep(20)
  }
}

/** A restic that holds its lock until it is killed: it waits for its stdin. `through` starts it. */
async function holder({ m, target }: Made, through: readonly string[] = []): Promise<Started> {
  const before = locksIn(target).length
  const env = { RESTIC_REPOSITORY: target.repository, RESTIC_PASSWORD: target.password, RESTIC_CACHE_DIR: m.cache }
  // Its stdin is a fifo that it holds open itself.
  const script = `[ -p ${m.dir}/fifo ] || mkfifo ${m.dir}/fifo; exec ${through.join(' ')} ${m.restic.path} backup -q --stdin 0<>${m.dir}/fifo`
  const held = startProgram(m, '/bin/sh', ['-c', script], { env })
  await until(() => locksIn(target).length > before, "restic's lock")
  return held
}

/** Ends all of it, as a power cut would. */
async function kill(row: LockRow | undefined): Promise<void> {
  assert.ok(row)
  process.kill(row.pid, 'SIGKILL')
  const { pid } = row
  const gone = () => {
    try {
      process.kill(pid, 0)
      return false
    } catch {
      return true
    }
  }
  await until(gone, `the end of process ${pid}`)
}

for (const tool of restics()) {
  test(`restic ${tool.version}: a live lock is shown and stays, a dead one is removed`, async (t) => {
    const place = await made(t, tool)
    const { m, target } = place
    assert.deepEqual(rows(await done(m, ['unlock', 'web1', '--json'])), [])
    await holder(place)
    const live = await done(m, ['unlock', 'web1', '--json'])
    assert.deepEqual(facts(live), [['restic', 'yes', 'kept']])
    const [row] = rows(live)
    assert.deepEqual([row?.host, row?.exclusive, row?.target, row?.id], [hostname(), false, 'web1', locksIn(target)[0]])
    assert.ok(row && row.age >= 0 && row.age < 60 && Math.abs(Date.parse(row.time) - Date.now()) < 60_000)
    await kill(row)
    assert.deepEqual(facts(await done(m, ['unlock', '-n', 'web1', '--json'])), [['restic', 'no', 'would remove']])
    assert.equal(locksIn(target).length, 1)
    assert.deepEqual(facts(await done(m, ['unlock', 'web1', '--json'])), [['restic', 'no', 'removed']])
    assert.deepEqual(locksIn(target), [])
    assert.deepEqual([records(m).at(-1)?.verb, records(m).at(-1)?.state], ['unlock', 'success'])
    await done(m, ['backup', 'web1'])
  })
}

test('a lock of another host is unknown and stays, its dead neighbour goes; --force removes what is left', async (t) => {
  const place = await made(t)
  const { m, target } = place
  const other = await holder(place, ['unshare', '--uts', 'sh', '-c', `'hostname elsewhere; exec "$@"'`, 'sh'])
  const [first] = rows(await done(m, ['unlock', 'web1', '--json']))
  assert.deepEqual([first?.host, first?.alive, first?.action], ['elsewhere', 'unknown', 'kept'])
  const own = await holder(place)
  const found = rows(await done(m, ['unlock', '-n', 'web1', '--json']))
  await kill(found.find(({ host }) => host === hostname()))
  const result = await done(m, ['unlock', 'web1', '--json'])
  assert.deepEqual(facts(result).sort(), [
    ['restic', 'no', 'removed'],
    ['restic', 'unknown', 'kept'],
  ])
  assert.deepEqual(locksIn(target), [first?.id])
  assert.deepEqual(facts(await done(m, ['unlock', 'web1', '--force', '--json'])), [['restic', 'unknown', 'removed']])
  assert.deepEqual(locksIn(target), [])
  await kill(first)
  for (const each of [own, other]) each.child.kill('SIGKILL')
})

test("kedge's own: a run that lives is 11 and all locks stay, --force breaks it; one that was killed is removed and recorded", async (t) => {
  const { m, target } = await made(t)
  fake(path.join(target.dir, 'streams'), 'slow', `echo $$ > ${m.dir}/began; exec sleep 100`)
  const begin = async () => {
    fs.rmSync(path.join(m.dir, 'began'), { force: true })
    const run = start(m, ['backup', 'web1'])
    let ended = ''
    void run.result.then(({ stderr }) => {
      ended = `the backup ended: ${stderr}`
    })
    await until(() => {
      assert.equal(ended, '')
      return fs.existsSync(path.join(m.dir, 'began')) && locksIn(target).length > 0
    }, 'the stream')
    return run
  }
  const run = await begin()
  for (const options of [[], ['-n']]) {
    const held = await kedge(m, ['unlock', 'web1', '--json', ...options])
    assert.equal(held.status, 11, held.stderr)
    assert.match(held.stderr, /locked by run .* \(backup, pid \d+ on host/)
    assert.deepEqual(facts(held), [
      ['kedge', 'yes', 'kept'],
      ['restic', 'yes', 'kept'],
    ])
    assert.equal(rows(held)[0]?.pid, run.child.pid)
  }
  run.child.kill('SIGKILL')
  await run.result
  // The leash ends its children; restic takes its own lock with it, if it is given the time.
  let dead = await kedge(m, ['unlock', 'web1', '--json'])
  for (let i = 0; dead.status === 11 && i < 50; i++) dead = await kedge(m, ['unlock', 'web1', '--json'])
  assert.equal(dead.status, 0, dead.stderr)
  assert.deepEqual(facts(dead)[0], ['kedge', 'no', 'removed'])
  for (const row of rows(dead)) assert.deepEqual([row.alive, row.action], ['no', 'removed'])
  assert.deepEqual(locksIn(target), [])
  const ledger = records(m).map(({ verb, state }) => [verb, state])
  assert.deepEqual(ledger, [
    ['backup', 'crashed'],
    ['unlock', 'success'],
  ])
  const second = await begin()
  const forced = await done(m, ['unlock', 'web1', '--force', '--json'])
  assert.deepEqual(facts(forced), [
    ['kedge', 'yes', 'removed'],
    ['restic', 'yes', 'removed'],
  ])
  assert.match(forced.stderr, /broke the lock of run/)
  assert.deepEqual(locksIn(target), [])
  second.child.kill('SIGTERM')
  await second.result
  assert.deepEqual(rows(await done(m, ['unlock', 'web1', '--json'])), [])
})

const now = 1_800_000_000
const lock = (more: { age?: number; hostname?: string; pid?: number }) => ({
  id: 'f'.repeat(64),
  time: new Date((now - (more.age ?? 100)) * 1000).toISOString(),
  exclusive: false,
  hostname: more.hostname ?? 'here',
  username: 'root',
  pid: more.pid ?? 77,
})
const seen = (started: number | undefined, command = 'restic', zombie = false) => ({ started, command, zombie })

test('a lock is judged by the process that wrote it', () => {
  const before = now - 105
  const cases: [string, Parameters<typeof lock>[0], Partial<Parameters<typeof judgeLock>[1]>, [Judged['alive'], boolean, boolean]][] = [
    ['its process', {}, { met: 'process', seen: seen(before) }, ['yes', false, false]],
    ['nothing there', {}, { met: 'nothing' }, ['no', true, false]],
    ['a zombie', {}, { met: 'process', seen: seen(before, 'restic', true) }, ['no', false, false]],
    ['another program that began later', {}, { met: 'process', seen: seen(now - 50, 'nginx') }, ['no', false, true]],
    ['another restic that began later, the lock not yet due', {}, { met: 'process', seen: seen(now - 50) }, ['unknown', false, false]],
    ['another restic that began later, the lock overdue', { age: 900 }, { met: 'process', seen: seen(now - 50) }, ['no', false, false]],
    ['another program that began before: of a container', {}, { met: 'process', seen: seen(before, 'nginx') }, ['unknown', false, true]],
    ['a process that ps does not show', {}, { met: 'process' }, ['unknown', false, true]],
    ["another user's restic, which restic takes for dead", {}, { met: 'denied', seen: seen(before) }, ['yes', true, false]],
    ['another host', { hostname: 'there' }, { met: 'nothing' }, ['unknown', false, false]],
    ['another host, 31 min old: stale to restic', { hostname: 'there', age: 1860 }, { met: 'nothing' }, ['unknown', true, false]],
    ['a process that is stopped for an hour', { age: 3600 }, { met: 'process', seen: seen(now - 4000) }, ['yes', true, false]],
  ]
  for (const [name, of, here, expected] of cases) {
    const { alive, plain, stray } = judgeLock(lock(of), { host: 'here', now, met: 'nothing', seen: undefined, ...here })
    assert.deepEqual([alive, plain, stray], expected, name)
  }
})

test('restic removes what it calls stale or all: the way that removes the dead ones and no other', () => {
  const dead = { alive: 'no', plain: true, stray: false } as const
  const reused = { alive: 'no', plain: false, stray: true } as const
  const live = { alive: 'yes', plain: false, stray: false } as const
  const remote = { alive: 'unknown', plain: false, stray: false } as const
  const aged = { alive: 'unknown', plain: true, stray: false } as const
  const cases: [
    string,
    Pick<Judged, 'alive' | 'plain' | 'stray'>[],
    { unreadable?: number; force?: boolean },
    string,
    number,
    RegExp | undefined,
  ][] = [
    ['none', [], {}, 'none', 0, undefined],
    ['none, by force', [], { force: true }, 'none', 0, undefined],
    ['a dead one', [dead], {}, 'plain', 1, undefined],
    ['a dead and a live one', [dead, live], {}, 'plain', 1, undefined],
    ['a dead one and a remote one', [dead, remote], {}, 'plain', 1, undefined],
    ['a dead one beside one that only restic calls stale', [dead, aged], {}, 'none', 0, /would also take lock ffffffff/],
    ['a dead one whose number another program has', [reused], {}, 'all', 1, undefined],
    ['the same beside a live one', [reused, live], {}, 'none', 0, /would send SIGHUP to process 77/],
    ['the same beside one that cannot be read', [reused], { unreadable: 1 }, 'none', 0, /SIGHUP/],
    ['a zombie beside a live one', [{ ...dead, plain: false }, live], {}, 'none', 0, /only with the living ones/],
    ['a zombie and a dead one beside a live one', [{ ...dead, plain: false }, dead, live], {}, 'plain', 1, /1 dead lock stays/],
    ['live ones', [live, remote, aged], {}, 'none', 0, undefined],
    ['live ones, by force', [live, remote], { force: true }, 'all', 2, undefined],
    ['dead ones, by force', [dead], { force: true }, 'plain', 1, undefined],
    ['one that cannot be read, by force', [], { unreadable: 1, force: true }, 'all', 0, undefined],
  ]
  for (const [name, locks, { unreadable = 0, force = false }, how, removes, why] of cases) {
    const plan = planUnlock(
      locks.map((each) => ({ lock: lock({}), age: 100, ...each })),
      unreadable,
      force,
    )
    assert.deepEqual([plan.how, plan.removes.length], [how, removes], name)
    if (why) assert.match(plan.why ?? '', why, name)
    else assert.equal(plan.why, undefined, name)
  }
})

test('a line of ps', () => {
  const at = Date.parse('2026-11-20T08:00:01Z') / 1000
  assert.deepEqual(parseSeen('Ssl  Fri Nov 20 08:00:01 2026 restic\n'), seen(at))
  assert.deepEqual(parseSeen('Z    Fri Nov  6 08:00:01 2026 restic <defunct>\n'), seen(at - 14 * 86400, 'restic <defunct>', true))
  assert.deepEqual(parseSeen('I - nfsd\n'), seen(undefined, 'nfsd'))
  assert.equal(parseSeen(''), undefined)
})
