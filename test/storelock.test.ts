// The lock of a target's folder in a store, between processes and between hosts.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import { hostname } from 'node:os'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { RunContext, Target } from '../lib/contract.ts'
import { takeStoreLock, takeStoreLocks } from '../lib/engine/rsync/storelock.ts'
import { Failure } from '../lib/failure.ts'
import { breakLock, holders } from '../lib/lock.ts'
import { identity } from '../lib/process.ts'
import { scratch } from './harness.ts'

const [, self = '', role, ...words] = process.argv
const targetIn = (store: string, env: Record<string, string> = {}): Target => ({
  name: 'web1',
  engine: 'rsync',
  dir: '/nowhere',
  env: { STORE: store, LOCK_WAIT: '0', ...env },
  origin: {},
  paths: [],
  excludes: [],
  streams: [],
  hooks: [],
  secret: 'none',
})

function contextOf(more: Partial<RunContext> = {}): RunContext {
  const nothing = () => undefined
  return {
    signal: new AbortController().signal,
    log: nothing,
    detail: nothing,
    progress: nothing,
    mode: 'act',
    forced: new Set(),
    wait: 0,
    ask: undefined,
    passphraseFd: undefined,
    report: () => 1,
    output: 1,
    run: `R${process.pid}`,
    secrets: {},
    dead: [],
    buried: async () => undefined,
    warn: nothing,
    group: nothing,
    ...more,
  }
}

/** Holds the lock with a child in a group of its own, says the group, and stays. */
async function hold(store: string): Promise<void> {
  const lock = await takeStoreLock(targetIn(store), contextOf(), 'backup')
  const child = spawn('sleep', ['60'], { detached: true, stdio: 'ignore' })
  lock.context.group(child.pid ?? 0)
  console.log(child.pid)
  setInterval(() => undefined, 1000)
}

/** Adds one to a counter three times, each time under the lock; tells where another does so meanwhile. */
async function count(store: string): Promise<void> {
  const [counter, marker] = ['counter', 'marker'].map((name) => path.join(store, name)) as [string, string]
  for (let round = 0; round < 3; round++) {
    const lock = await takeStoreLock(targetIn(store, { LOCK_WAIT: '60' }), contextOf(), 'backup')
    fs.writeFileSync(marker, '', { flag: 'wx' })
    const before = fs.readFileSync(counter, 'utf8')
    await sleep(Math.random() * 3)
    fs.writeFileSync(counter, `${before}x`)
    fs.rmSync(marker)
    await lock.release()
  }
}

function storeIn(t: TestContext): string {
  const store = scratch(t)
  fs.writeFileSync(path.join(store, 'kedge-store.json'), JSON.stringify({ id: 'a'.repeat(64), created: '' }))
  return store
}

const children = new Set<ChildProcess>()

function child(role: string, store: string): ChildProcess {
  const started = spawn(process.execPath, [self, role, store], { stdio: ['ignore', 'pipe', 'inherit'] })
  children.add(started)
  return started
}

/** A holder, once it holds the lock; and the group of its child. */
async function holder(t: TestContext, store: string): Promise<{ process: ChildProcess; group: number }> {
  const process_ = child('hold', store)
  const [text] = (await once(process_.stdout as NodeJS.ReadableStream, 'data')) as [Buffer]
  const group = Number(text.toString().trim())
  t.after(() => {
    for (const pid of [process_.pid ?? 0, -group])
      try {
        process.kill(pid, 'SIGKILL')
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ESRCH')
      }
  })
  return { process: process_, group }
}

const isLocked = (store: string) =>
  takeStoreLock(targetIn(store), contextOf(), 'prune').then(
    (lock) => lock.release().then(() => undefined),
    (error) => {
      if (error instanceof Failure && error.class === 'locked') return error
      throw error
    },
  )

/** A lock as another machine wrote it; `age`: seconds since it was renewed. */
function foreign(store: string, more: object, age = 0): string {
  const dir = path.join(store, 'web1', 'lock')
  fs.mkdirSync(dir, { recursive: true })
  const file = path.join(dir, 'write.1')
  fs.writeFileSync(file, `${JSON.stringify({ ...identity(), run: 'R9', verb: 'backup', at: '2026-01-01T00:00:00.000Z', ...more })}\n`)
  const time = Date.now() / 1000 - age
  fs.utimesSync(file, time, time)
  return file
}

function tests(): void {
  test('a store that is not there has no lock: none is made in its place', async (t) => {
    const store = path.join(scratch(t), 'store')
    await assert.rejects(takeStoreLock(targetIn(store), contextOf(), 'backup'), { class: 'missing' })
    assert.ok(!fs.existsSync(store))
  })

  test('while one process holds the lock another is refused, told who holds it, and comes in after the release', async (t) => {
    const store = storeIn(t)
    const lock = await takeStoreLock(targetIn(store), contextOf({ run: 'R1' }), 'backup')
    const refused = await isLocked(store)
    assert.match(
      refused?.message ?? '',
      new RegExp(
        `^cannot lock 'web1' in store '${store}' for prune: held by run R1 \\(backup, pid ${process.pid} on host ${hostname()}, since `,
      ),
    )
    assert.match(refused?.hint ?? '', /kedge unlock web1/)
    await lock.release()
    assert.equal(await isLocked(store), undefined)
  })

  test('a holder that was killed is no holder once its children are gone too', async (t) => {
    const store = storeIn(t)
    const { process: killed, group } = await holder(t, store)
    assert.ok(await isLocked(store))
    killed.kill('SIGKILL')
    await once(killed, 'exit')
    assert.match((await isLocked(store))?.message ?? '', new RegExp(`process group ${group}`))
    process.kill(-group, 'SIGKILL')
    for (let tries = 0; (await isLocked(store)) !== undefined; tries++) {
      assert.ok(tries < 50, 'its child is gone')
      await sleep(100)
    }
  })

  test("another host's lock is never taken, however old; with a name like ours neither while it is renewed", async (t) => {
    const cases: [string, object, number, boolean][] = [
      ['another host', { host: 'elsewhere', boot: 'b' }, 86_400, true],
      ['another host that lives', { host: 'elsewhere', boot: 'b' }, 1, true],
      ['this machine before it was started again', { boot: 'b' }, 120, false],
      ['a machine of the same name', { boot: 'b' }, 5, true],
      ['a dead process of this machine', { pid: 2 ** 22 + 1 }, 0, false],
      ['a container of this machine', { namespace: 'pid:[1]' }, 3600, identity().namespace !== ''],
    ]
    for (const [what, more, age, held] of cases) {
      const store = storeIn(t)
      foreign(store, more, age)
      assert.equal((await isLocked(store)) !== undefined, held, what)
    }
    const store = storeIn(t)
    fs.truncateSync(foreign(store, {}, 3600), 0)
    assert.match((await isLocked(store))?.message ?? '', /cannot be read/, 'a torn one may be anybody’s')
  })

  test('unlock tells a foreign holder that renews its lock from one that does not, and breaks just the one it was told', async (t) => {
    const store = storeIn(t)
    foreign(store, { host: 'elsewhere', boot: 'b' }, 5)
    const dir = path.join(store, 'web1', 'lock')
    assert.deepEqual(
      (await holders(dir, true)).map(({ alive }) => alive),
      ['yes'],
    )
    foreign(store, { host: 'elsewhere', boot: 'b' }, 3600)
    assert.deepEqual(
      (await holders(dir, true)).map(({ alive }) => alive),
      ['unknown'],
    )
    assert.equal(await breakLock(dir, 'write', 2), false)
    assert.equal(await breakLock(dir, 'write', 1), true)
    assert.equal(await isLocked(store), undefined)
  })

  test('waiting for LOCK_WAIT says whom it waits for, and comes in once the lock is free', async (t) => {
    const store = storeIn(t)
    const lock = await takeStoreLock(targetIn(store), contextOf(), 'backup')
    const said: string[] = []
    const waiting = takeStoreLock(targetIn(store, { LOCK_WAIT: '30s' }), contextOf({ log: (line) => void said.push(line) }), 'prune')
    while (said.length === 0) await sleep(10)
    await lock.release()
    await (await waiting).release()
    assert.match(said.join('\n'), /^waiting for the lock of 'web1' in store '.*': backup, pid \d+ on /)
  })

  test('the locks of all owners are taken, those without a folder excepted; what is refused leaves none', async (t) => {
    const store = storeIn(t)
    fs.mkdirSync(path.join(store, 'old'))
    const target = targetIn(store, { SNAPSHOTS_OF: 'web1 old gone' })
    const groups: number[] = []
    const lock = await takeStoreLocks(target, contextOf({ group: (pgid) => void groups.push(pgid) }), 'prune')
    lock.context.group(4242)
    assert.deepEqual(groups, [4242], 'the run is told once')
    for (const owner of ['old', 'web1']) {
      const [held] = await holders(path.join(store, owner, 'lock'), true)
      assert.deepEqual(
        held?.holder?.groups.map(({ pgid }) => pgid),
        [4242],
      )
    }
    assert.ok(!fs.existsSync(path.join(store, 'gone')))
    await lock.release()
    const web1 = await takeStoreLock(target, contextOf(), 'backup')
    await assert.rejects(takeStoreLocks(target, contextOf(), 'prune'), { class: 'locked' })
    assert.deepEqual(await holders(path.join(store, 'old', 'lock'), true), [])
    await web1.release()
  })

  test('thirty processes at one lock: one at a time, and none is lost', { timeout: 120_000 }, async (t) => {
    const store = storeIn(t)
    fs.writeFileSync(path.join(store, 'counter'), '')
    const all = Array.from({ length: 30 }, () => child('count', store))
    const statuses = await Promise.all(all.map(async (each) => (await once(each, 'exit'))[0] as number))
    assert.deepEqual(new Set(statuses), new Set([0]))
    assert.equal(fs.readFileSync(path.join(store, 'counter'), 'utf8').length, 90)
    assert.deepEqual(fs.readdirSync(path.join(store, 'web1', 'lock')).sort(), ['.spare', 'write.90'])
  })
}

if (role === 'hold') await hold(words[0] ?? '')
else if (role === 'count') await count(words[0] ?? '')
else tests()
