import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Failure } from '../lib/failure.ts'
import { breakLock, holders, type Lock, take } from '../lib/lock.ts'
import { type Group, type Identity, identity, judge, type Process, parse } from '../lib/process.ts'

const rounds = 3
const children = new Set<ChildProcess>()
const [, self = '', role, ...words] = process.argv
if (role === 'hold') await hold(words[0] ?? '')
else if (role === 'compete') await compete(words[0] ?? '', Number(words[1]))
else if (role === 'break') await breakStale()
else tests()

// What the other processes of these tests do.

/** Takes the lock with a child in a group of its own, says so, and stays. */
async function hold(dir: string) {
  const lock = await take(dir, 'write', { run: 'R1', verb: 'backup' })
  const child = spawn('sleep', ['60'], { detached: true, stdio: 'ignore' })
  await lock.note(child.pid ?? 0)
  console.log(child.pid)
  setInterval(() => undefined, 1000)
}

/**
 * Adds one to a counter, several times, each time under the lock; with a fatal round it kills itself somewhere in that one. Each
 * addition is told in the log; one whose process died before it could say so is told by the next holder, who finds the marker.
 */
async function compete(folder: string, fatal: number) {
  const [counter, log, marker] = ['counter', 'log', 'marker'].map((name) => join(folder, name)) as [string, string, string]
  const bad = (what: string) => appendFileSync(join(folder, 'bad'), `${process.pid}: ${what}\n`)
  const die = (round: number, chance: number) => {
    if (round === fatal && Math.random() < chance) process.kill(process.pid, 'SIGKILL')
  }
  const count = () => readFileSync(counter, 'utf8').length
  for (let round = 1; round <= rounds; round++) {
    const lock = await take(join(folder, 'web1', 'lock'), 'write', { run: `${process.pid}`, verb: 'backup' }, { wait: 60 })
    die(round, 0.2)
    const left = readIfThere(marker)
    if (left !== undefined) {
      const [pid, reached] = left.split(' ')
      if (reached) {
        if (lock.crashed.every((holder) => `${holder.pid}` !== pid)) bad(`the marker of ${pid}, who did not crash`)
        if (count() === Number(reached) && numbersIn(log).at(-1) !== reached) appendFileSync(log, `${reached} ${pid}\n`)
      }
      rmSync(marker)
    }
    const before = count()
    try {
      writeFileSync(marker, `${process.pid} ${before + 1} `, { flag: 'wx' })
    } catch {
      bad('another holder')
    }
    die(round, 0.3)
    await sleep(Math.random() * 3)
    if (count() !== before) bad('somebody counted meanwhile')
    writeFileSync(counter, 'x'.repeat(before + 1), { flag: 'r+' })
    die(round, 0.5)
    appendFileSync(log, `${before + 1} ${process.pid}\n`)
    die(round, 0.5)
    rmSync(marker)
    die(round, 1)
    await lock.release()
  }
}

/** Tries the stale lock of each folder at the moment that it is told it. */
async function breakStale() {
  console.log('ready')
  for await (const dir of createInterface(process.stdin)) {
    const result = await attempt(dir)
    console.log(result instanceof Failure ? result.class : `taken ${result.crashed.map(({ run }) => run)}`)
  }
}

function numbersIn(log: string): (string | undefined)[] {
  return readFileSync(log, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => line.split(' ')[0])
}

function readIfThere(file: string): string | undefined {
  return statSync(file, { throwIfNoEntry: false }) && readFileSync(file, 'utf8')
}

async function attempt(dir: string, name = 'write', wait = 0): Promise<Lock | Failure> {
  try {
    return await take(dir, name, { run: 'R2', verb: 'check' }, { wait })
  } catch (error) {
    if (error instanceof Failure) return error
    throw error
  }
}

function taken(result: Lock | Failure): Lock {
  assert.ok(!(result instanceof Failure), `not taken: ${result instanceof Failure && result.message}`)
  return result
}

function refused(result: Lock | Failure): Failure {
  assert.ok(result instanceof Failure, 'taken, though it is held')
  assert.equal(result.class, 'locked')
  return result
}

function another(...words: string[]): ChildProcess {
  const child = spawn(process.execPath, [self, ...words], { stdio: ['pipe', 'pipe', 'inherit'] })
  children.add(child)
  return child
}

async function said(child: ChildProcess): Promise<string> {
  const [chunk] = await once(child.stdout ?? assert.fail(), 'data')
  return String(chunk).trim()
}

async function killed(child: ChildProcess) {
  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
}

async function place(parent = tmpdir()): Promise<{ folder: string; dir: string; [Symbol.asyncDispose]: () => Promise<void> }> {
  const folder = await mkdtemp(join(parent, 'kedge-lock-'))
  const dir = join(folder, 'web1', 'lock')
  mkdirSync(dir, { recursive: true })
  return {
    folder,
    dir,
    [Symbol.asyncDispose]: async () => {
      for (const child of children) child.kill('SIGKILL')
      children.clear()
      await rm(folder, { recursive: true })
    },
  }
}

/** Writes the lock of a holder that is not this process. */
function leave(dir: string, change: Partial<Identity & { groups: Group[] }> = {}, n = 1) {
  const { groups = [], ...rest } = change
  const me = identity()
  const holder = { run: 'R1', verb: 'backup', at: '2026-01-01T00:00:00.000Z', ...me, uptime: me.uptime - 10, ...rest }
  mkdirSync(dir, { recursive: true })
  writeFileSync(
    join(dir, `write.${n}`),
    [holder, ...groups.map((group) => ({ group }))].map((line) => `${JSON.stringify(line)}\n`).join('\n'),
  )
}

/** A pid that nobody has. */
async function deadPid(): Promise<number> {
  const child = spawn('true')
  await once(child, 'exit')
  return child.pid ?? assert.fail()
}

function tests() {
  const here: Identity = { pid: 50, host: 'h', boot: 'b', namespace: 'pid:[1]', started: 990, uptime: 1000 }
  const left: Identity = { pid: 40, host: 'h', boot: 'b', namespace: 'pid:[1]', started: 100, uptime: 101 }
  const row = (pid: number, started: number | undefined, more: Partial<Process> = {}): Process => ({
    pid,
    pgid: pid,
    zombie: false,
    started,
    ...more,
  })
  const me = row(50, 990.4)
  const child = { pgid: 41, started: 105 }
  type Case = {
    is: string
    left?: Partial<Identity>
    here?: Partial<Identity>
    groups?: Group[]
    exist?: number[]
    ps?: Process[]
    verdict: string
  }
  const cases: Case[] = [
    { is: 'a pid that nobody has', verdict: 'no' },
    { is: 'a pid that somebody has, before ps is asked', exist: [40], verdict: 'ask' },
    { is: 'a pid with the start that was recorded', exist: [40], ps: [me, row(40, 102.9)], verdict: 'yes' },
    { is: 'a pid that was used again', exist: [40], ps: [me, row(40, 500)], verdict: 'no' },
    { is: 'a pid with an earlier start: another boot', exist: [40], ps: [me, row(40, 20)], verdict: 'no' },
    { is: 'a zombie', exist: [40], ps: [me, row(40, 100, { zombie: true })], verdict: 'no' },
    { is: 'a pid that ps does not show', exist: [40], ps: [me], verdict: 'unknown' },
    { is: 'a pid that ended while ps ran', ps: [me, row(40, 100)], verdict: 'no' },
    { is: 'no ps', exist: [40], ps: [], verdict: 'unknown' },
    { is: 'a ps that misjudges this very process', exist: [40], ps: [row(50, 5000), row(40, 4100)], verdict: 'unknown' },
    { is: 'a ps without start times', exist: [40], ps: [row(50, undefined), row(40, undefined)], verdict: 'unknown' },
    { is: 'our own pid and start', left: { pid: 50, started: 990 }, verdict: 'yes' },
    { is: 'our own pid with another start', left: { pid: 50 }, exist: [50], verdict: 'no' },
    { is: 'another host', left: { host: 'other' }, verdict: 'unknown' },
    { is: 'another host and boot', left: { host: 'other', boot: 'c' }, verdict: 'unknown' },
    { is: 'another boot', left: { boot: 'c' }, groups: [child], exist: [40, -41], verdict: 'no' },
    { is: 'another boot in another namespace', left: { boot: 'c', namespace: 'pid:[2]' }, exist: [40], verdict: 'no' },
    { is: 'another namespace, where pids mean nothing', left: { namespace: 'pid:[2]' }, verdict: 'unknown' },
    { is: 'a boot that cannot be read', here: { boot: '' }, exist: [40], verdict: 'ask' },
    { is: 'no boot ids, and an uptime that went back', left: { boot: '', uptime: 2000 }, here: { boot: '' }, exist: [40], verdict: 'no' },
    {
      is: 'no boot ids, and uptimes that differ by rounding',
      left: { boot: '', uptime: 1001 },
      here: { boot: '' },
      exist: [40],
      verdict: 'ask',
    },
    { is: 'a dead holder with a group that is gone', groups: [child], verdict: 'no' },
    { is: 'a dead holder with a group, before ps is asked', groups: [child], exist: [-41], verdict: 'ask' },
    { is: 'a dead holder with a living group', groups: [child], exist: [-41], ps: [me, row(41, 104)], verdict: 'yes' },
    {
      is: 'the second of two groups alive',
      groups: [{ pgid: 30, started: 103 }, child],
      exist: [-41],
      ps: [me, row(41, 104)],
      verdict: 'yes',
    },
    { is: 'a group whose leader is gone', groups: [child], exist: [-41], ps: [me, row(60, 900, { pgid: 41 })], verdict: 'yes' },
    { is: 'a group noted late', groups: [child], exist: [-41], ps: [me, row(41, 50)], verdict: 'yes' },
    { is: 'a group number that was used again', groups: [child], exist: [-41], ps: [me, row(41, 300)], verdict: 'no' },
    {
      is: 'a younger leader, where ps is not to be trusted',
      groups: [child],
      exist: [-41],
      ps: [row(50, 5000), row(41, 300)],
      verdict: 'yes',
    },
    { is: 'a group of zombies', groups: [child], exist: [-41], ps: [me, row(41, 104, { zombie: true })], verdict: 'no' },
    {
      is: 'a group whose leader is a zombie',
      groups: [child],
      exist: [-41],
      ps: [me, row(41, 104, { zombie: true }), row(60, 106, { pgid: 41 })],
      verdict: 'yes',
    },
    { is: 'a group that ps does not show', groups: [child], exist: [-41], ps: [me], verdict: 'unknown' },
    { is: 'a reused pid with a living group', groups: [child], exist: [40, -41], ps: [me, row(40, 500), row(41, 104)], verdict: 'yes' },
  ]
  for (const { is, verdict, ps, exist = [], groups = [], ...change } of cases) {
    test(`alive? ${is}: ${verdict}`, () => {
      const exists = (pid: number) => exist.includes(pid)
      assert.equal(judge({ ...left, ...change.left }, groups, { ...here, ...change.here }, exists, ps), verdict)
    })
  }

  test('the lines of ps are read, of procps and of OpenBSD, with zombies and without start times', () => {
    const text = `
      1       0 S Fri Nov 20 07:44:11 2026
  81235   81230 I    Sat Nov 21 07:44:12 2026
    912     900 Z -
  PID PGID STAT STARTED
     77 77 R/0 Sun Nov  1 00:00:00 2026    \n`
    assert.deepEqual(parse(text, Date.UTC(2026, 10, 20, 7, 44, 10) / 1000), [
      { pid: 1, pgid: 0, zombie: false, started: 1 },
      { pid: 81235, pgid: 81230, zombie: false, started: 86402 },
      { pid: 912, pgid: 900, zombie: true, started: undefined },
      { pid: 77, pgid: 77, zombie: false, started: -1669450 },
    ])
  })

  test('a lock that is held is refused with the holder and a hint, in the same process too, and free after its release', async () => {
    await using at = await place()
    const lock = await take(at.dir, 'write', { run: 'R1', verb: 'backup' })
    const { message, hint } = refused(await attempt(at.dir))
    assert.match(
      message,
      new RegExp(`^cannot lock target 'web1' for check: held by run R1 \\(backup, pid ${process.pid} on host \\S+, since \\S+Z\\)$`),
    )
    assert.match(hint ?? '', /--wait.*kedge unlock web1/)
    await lock.release()
    await lock.release()
    const next = taken(await attempt(at.dir))
    assert.deepEqual(next.crashed, [])
    refused(await attempt(at.dir))
  })

  test('locks of other names do not meet', async () => {
    await using at = await place()
    taken(await attempt(at.dir, 'write'))
    taken(await attempt(at.dir, 'check'))
    refused(await attempt(at.dir, 'check'))
    assert.deepEqual(
      (await holders(at.dir)).map(({ name, n, alive, holder }) => [name, n, alive, holder?.run]),
      [
        ['check', 1, 'yes', 'R2'],
        ['write', 1, 'yes', 'R2'],
      ],
    )
  })

  test('one file is left of many takings', async () => {
    await using at = await place()
    for (let i = 0; i < 5; i++) await taken(await attempt(at.dir)).release()
    assert.deepEqual(readdirSync(at.dir), ['write.5'])
    assert.deepEqual(await holders(at.dir), [])
  })

  test('waiting ends when the holder releases, and says once for whom it waits', async () => {
    await using at = await place()
    const lock = await take(at.dir, 'write', { run: 'R1', verb: 'backup' })
    const waitedFor: (string | undefined)[] = []
    const waiting = take(at.dir, 'write', { run: 'R2', verb: 'prune' }, { wait: 30, onWait: (holder) => waitedFor.push(holder?.run) })
    await sleep(300)
    await lock.release()
    await (await waiting).release()
    assert.deepEqual(waitedFor, ['R1'])
  })

  test('waiting ends with the reason of the signal', async () => {
    await using at = await place()
    await take(at.dir, 'write', { run: 'R1', verb: 'backup' })
    const controller = new AbortController()
    const reason = new Error('enough')
    const waiting = take(at.dir, 'write', { run: 'R2', verb: 'prune' }, { wait: 30, signal: controller.signal })
    setTimeout(() => controller.abort(reason), 100)
    await assert.rejects(waiting, (error) => error === reason)
  })

  test('the lock of a dead pid is taken over, and the dead holder is named with its groups', async () => {
    await using at = await place()
    const group = { pgid: await deadPid(), started: identity().uptime }
    leave(at.dir, { pid: await deadPid(), groups: [group] })
    assert.deepEqual(
      (await holders(at.dir)).map(({ alive }) => alive),
      ['no'],
    )
    const [crashed, ...more] = taken(await attempt(at.dir)).crashed
    assert.deepEqual([crashed?.run, crashed?.groups, more], ['R1', [group], []])
  })

  test('a holder that dies before it released hands on the dead that it had found', async () => {
    await using at = await place()
    const group = { pgid: await deadPid(), started: identity().uptime }
    leave(at.dir, { pid: await deadPid(), groups: [group] })
    const second = another('hold', at.dir)
    process.kill(-Number(await said(second)), 'SIGKILL')
    await killed(second)
    const { crashed } = taken(await attempt(at.dir, 'write', 10))
    assert.deepEqual([crashed.length, crashed[0]?.pid, crashed[1]?.groups], [2, second.pid, [group]])
  })

  test('the lock of a pid that was used again is stale, that of the process itself is not', async () => {
    await using at = await place()
    const child = spawn('sleep', ['60'])
    children.add(child)
    const started = identity().uptime
    leave(at.dir, { pid: child.pid ?? 0, started })
    refused(await attempt(at.dir))
    leave(at.dir, { pid: child.pid ?? 0, started: started - 100 })
    assert.equal(taken(await attempt(at.dir)).crashed.length, 1)
  })

  test('a lock from before a reboot is stale though its pid lives', async () => {
    await using at = await place()
    leave(at.dir, { pid: process.ppid, boot: 'another' })
    const known = identity().boot !== ''
    if (known) taken(await attempt(at.dir))
    leave(at.dir, { pid: process.ppid, boot: '', uptime: identity().uptime + 1000 }, 7)
    taken(await attempt(at.dir))
  })

  test('a lock of another host is held as far as one can tell', async () => {
    await using at = await place()
    leave(at.dir, { host: 'elsewhere.example', pid: await deadPid() })
    assert.match(refused(await attempt(at.dir)).message, /on host elsewhere\.example/)
    assert.deepEqual(
      (await holders(at.dir)).map(({ alive }) => alive),
      ['unknown'],
    )
  })

  test('a killed holder whose child lives still holds, until the child is gone', async () => {
    await using at = await place()
    const holder = another('hold', at.dir)
    const pgid = Number(await said(holder))
    await killed(holder)
    assert.match(
      refused(await attempt(at.dir)).message,
      new RegExp(`held by process group ${pgid}, left by run R1 \\(backup, pid ${holder.pid}, `),
    )
    process.kill(-pgid, 'SIGKILL')
    const [crashed] = taken(await attempt(at.dir, 'write', 10)).crashed
    assert.deepEqual([crashed?.pid, crashed?.groups.map((group) => group.pgid)], [holder.pid, [pgid]])
  })

  test('a killed holder that nobody has reaped is dead', async () => {
    await using at = await place()
    const parent = spawn('/bin/sh', ['-c', '"$@" & exec sleep 60', 'sh', process.execPath, self, 'hold', at.dir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    children.add(parent)
    const pgid = Number(await said(parent))
    const pid = (await holders(at.dir))[0]?.holder?.pid ?? assert.fail()
    process.kill(pid, 'SIGKILL')
    process.kill(-pgid, 'SIGKILL')
    const lock = taken(await attempt(at.dir, 'write', 10))
    assert.equal(process.kill(pid, 0), true, 'it was reaped: the test shows nothing')
    assert.equal(lock.crashed[0]?.pid, pid)
  })

  for (const [what, text] of [
    ['empty', ''],
    ['torn', '{"run":"R1","ve'],
    ['damaged', '{"run":"R1","host":"h","pid":-1}\n'],
  ] as const) {
    test(`a lock whose file is ${what} is held while young and stale after that`, async () => {
      await using at = await place()
      writeFileSync(join(at.dir, 'write.3'), text)
      assert.match(refused(await attempt(at.dir)).message, /a run whose lock cannot be read$/)
      const old = Date.now() / 1000 - 10
      utimesSync(join(at.dir, 'write.3'), old, old)
      assert.deepEqual(taken(await attempt(at.dir)).crashed, [])
      assert.deepEqual(readdirSync(at.dir), ['write.4'])
    })
  }

  test('a line that a full disk cut short does not hide the release after it', async () => {
    await using at = await place()
    const lock = taken(await attempt(at.dir))
    appendFileSync(join(at.dir, 'write.1'), '\n{"group":{"pg')
    await lock.release()
    taken(await attempt(at.dir))
  })

  test('who took a number on an old view of the folder gives up, and nobody else is harmed', async () => {
    await using at = await place()
    const { add } = await import('../lib/generation.ts')
    const live = taken(await attempt(at.dir))
    await live.release()
    taken(await attempt(at.dir))
    assert.equal(add(at.dir, 'write', 1, { run: 'late' }), undefined, 'number 1 is free again, and 2 is held')
    assert.deepEqual(readdirSync(at.dir), ['write.2'])
  })

  test('a lock is broken by its number, and only while it is the current one', async () => {
    await using at = await place()
    const lock = taken(await attempt(at.dir))
    assert.equal(await breakLock(at.dir, 'write', 2), false)
    assert.equal(await breakLock(at.dir, 'write', 1), true)
    assert.equal(await breakLock(at.dir, 'write', 1), false)
    assert.deepEqual(await holders(at.dir), [])
    const next = taken(await attempt(at.dir))
    assert.deepEqual(next.crashed, [], 'its holder lives')
    await lock.note(4_000_000)
    await lock.release()
    refused(await attempt(at.dir))
    assert.equal(await breakLock(at.dir, 'write', 1), false)
    refused(await attempt(at.dir))
  })

  test('a folder that cannot be written is a failure of permission', async () => {
    await using at = await place()
    chmodSync(at.folder, 0o500)
    const root = process.geteuid?.() === 0
    if (root) process.seteuid?.(65534)
    try {
      await assert.rejects(take(join(at.folder, 'web2', 'lock'), 'write', { run: 'R1', verb: 'backup' }), (error) => {
        assert.ok(error instanceof Failure)
        assert.equal(error.class, 'permission')
        assert.match(error.message, /^cannot lock target 'web2' for backup: EACCES/)
        return true
      })
    } finally {
      if (root) process.seteuid?.(0)
      chmodSync(at.folder, 0o700)
    }
  })

  test('a group that was noted while its holder was judged is judged too', async () => {
    await using at = await place()
    const [reused, group] = [spawn('sleep', ['60']), spawn('sleep', ['60'], { detached: true })]
    for (const child of [reused, group]) children.add(child)
    const started = identity().uptime
    leave(at.dir, { pid: reused.pid ?? 0, started: started - 100 })
    const taking = attempt(at.dir)
    appendFileSync(join(at.dir, 'write.1'), `${JSON.stringify({ group: { pgid: group.pid, started } })}\n`)
    refused(await taking)
  })

  // The disk, and memory where the system shows it as a folder.
  const folders = [tmpdir(), '/dev/shm'].filter((folder) => statSync(folder, { throwIfNoEntry: false })?.isDirectory())
  for (const folder of folders) {
    test(`fifty processes that compete, some of them killed, are never two in the lock: ${folder}`, async () => {
      await using at = await place(folder)
      for (const name of ['counter', 'log']) writeFileSync(join(at.folder, name), '')
      const runners = Array.from({ length: 50 }, (_, i) => {
        const fatal = i < 12 ? 1 + (i % rounds) : 0
        return { child: another('compete', at.folder, `${fatal}`), fatal, shot: false }
      })
      const exits = runners.map(({ child }) => once(child, 'exit'))
      for (const runner of runners.slice(12, 18)) {
        setTimeout(
          () => {
            runner.shot = runner.child.exitCode === null
            runner.child.kill('SIGKILL')
          },
          700 + Math.random() * 2500,
        )
      }
      await Promise.all(exits)
      assert.equal(readIfThere(join(at.folder, 'bad')), undefined)
      // The last may have died within: the next holder tells its addition.
      const count = readFileSync(join(at.folder, 'counter'), 'utf8').length
      const told = readFileSync(join(at.folder, 'log'), 'utf8').trim().split('\n')
      if (told.length === count - 1) told.push(`${count} untold`)
      assert.deepEqual(
        told.map((line) => line.split(' ')[0]),
        Array.from({ length: count }, (_, i) => `${i + 1}`),
      )
      for (const { child, fatal, shot } of runners) {
        if (fatal) assert.equal(child.signalCode, 'SIGKILL')
        else if (!shot) {
          assert.equal(child.exitCode, 0)
          assert.equal(told.filter((line) => line.endsWith(` ${child.pid}`)).length, rounds)
        }
      }
      taken(await attempt(at.dir, 'write', 10))
    })
  }

  test('a stale lock that fifty processes find at the same moment gets exactly one holder', async () => {
    await using disk = await place()
    await using memory = await place(folders.at(-1))
    const runners = Array.from({ length: 50 }, () => another('break'))
    await Promise.all(runners.map(said))
    const pid = await deadPid()
    for (let i = 1; i <= 6; i++) {
      const dir = join((i % 2 ? disk : memory).folder, `t${i}`, 'lock')
      leave(dir, { pid }, i)
      const answers = Promise.all(runners.map(said))
      for (const { stdin } of runners) stdin?.write(`${dir}\n`)
      assert.deepEqual(
        (await answers).filter((answer) => answer !== 'locked'),
        ['taken R1'],
      )
    }
  })

  test('a draft of a killed process is swept, a young one is not', async () => {
    await using at = await place()
    const old = Date.now() / 1000 - 100
    for (const name of ['.write.1.old', '.write.2.young']) writeFileSync(join(at.dir, name), '')
    utimesSync(join(at.dir, '.write.1.old'), old, old)
    taken(await attempt(at.dir))
    assert.deepEqual(readdirSync(at.dir).sort(), ['.write.2.young', 'write.1'])
  })
}
