// What every engine owes its users, shown on the built commands: each test ends with bytes compared, or with nothing changed.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Drilled, PlanLine, Sizes, Snapshot, Summary } from '../../lib/rows.ts'
import { done, kedge, type Machine, sameTree, start } from '../harness.ts'
import { asNobody, type Bench, houseOf, type Made, rows, runs, snapshots } from './bench.ts'

export function contract<T extends Made>(bench: Bench<T>): void {
  const { locks, place, sharing, target: newTarget } = bench
  const it = (sentence: string, body: (t: TestContext) => Promise<void>) => test(`${bench.name}: ${sentence}`, body)
  const house = houseOf(bench)

  it('what was saved is restored with bytes, modes, owners, times, links and xattrs', async (t) => {
    const { machine, source } = await house(t, { tree: true })
    const [summary] = rows<Summary>(await done(machine, ['backup', 'web1', '--json']))
    assert.equal(summary?.kind, 'summary')
    assert.ok((summary?.files ?? 0) > 3)
    const to = path.join(machine.dir, 'restored')
    await done(machine, ['restore', 'web1', '--to', to, '--verify'])
    sameTree(path.join(to, source), source)
    const [again] = rows<Summary>(await done(machine, ['backup', 'web1', '--json']))
    assert.equal(again?.new, 0)
    assert.equal(again?.changed, 0)
    assert.equal((await snapshots(machine, 'web1')).length, 2)
  })

  const unreadable = 'a file that cannot be read is named, the rest is saved, and the status is 3'
  const local = bench.elsewhere ? () => undefined : it
  local(unreadable, async (t) => {
    const { machine, source } = await house(t)
    const secret = path.join(source, 'unreadable')
    fs.writeFileSync(secret, 'x', { mode: 0o000 })
    const as = process.geteuid?.() === 0 ? asNobody(machine, secret) : {}
    const result = await kedge(machine, ['backup', 'web1', '--json'], as)
    assert.equal(result.status, 3, result.stderr)
    assert.match(result.stderr, /cannot read '.*unreadable'/)
    const list = rows<Snapshot>(await kedge(machine, ['list', 'web1', '--json'], as))
    assert.deepEqual(
      list.map(({ id, partial, tags }) => [id, partial, [...tags].sort()]),
      [[rows<Summary>(result)[0]?.snapshot, true, ['kedge:partial', 'kedge:web1']]],
    )
    assert.equal((await kedge(machine, ['cat', 'web1', `latest:${source}/file`], as)).stdout, 'some bytes\n')
  })

  it('one missing path of several is named and the status is 3; when all are missing nothing is written and it is 1', async (t) => {
    const { machine, source, target } = await house(t)
    const gone = path.join(machine.dir, 'gone')
    fs.writeFileSync(path.join(target.dir, 'paths'), `${source}\n${gone}\n`)
    const some = await kedge(machine, ['backup', 'web1'])
    assert.equal(some.status, 3)
    assert.ok(some.stderr.includes(`'${gone}'`), some.stderr)
    assert.equal((await done(machine, ['cat', 'web1', `latest:${source}/file`])).stdout, 'some bytes\n')
    fs.writeFileSync(path.join(target.dir, 'paths'), `${gone}\n`)
    const none = await kedge(machine, ['backup', 'web1'])
    assert.equal(none.status, 1)
    assert.equal((await snapshots(machine, 'web1')).length, 1)
    const [last, before] = await runs(machine, 'web1')
    assert.deepEqual([last?.state, last?.class, before?.state, before?.status], ['failed', 'vanished', 'warning', 3])
  })

  it('a stream is saved as a file of its name, byte for byte, also when it is large', async (t) => {
    const script = 'i=0; while [ $i -lt 40 ]; do head -c 500000 /dev/zero; echo block $i; i=$((i+1)); done'
    const { machine, target } = await house(t, { scripts: { 'streams/app.sql': script } })
    assert.equal((await done(machine, ['backup', 'web1'])).lines.length, 2)
    const saved = await done(machine, ['cat', 'web1', 'latest:/app.sql'])
    const made = execFileSync(path.join(target.dir, 'streams/app.sql'), { maxBuffer: 1 << 30 })
    assert.ok(Buffer.compare(saved.bytes, made) === 0)
  })

  it('a stream whose producer fails leaves no snapshot of its half output and no lock, and the other sources are saved', async (t) => {
    const { machine, source, target } = await house(t, {
      scripts: {
        'streams/a-bad.sql': 'head -c 3000000 /dev/urandom; echo lost connection >&2; exit 7',
        'streams/b-good.sql': 'echo all well',
      },
    })
    const result = await kedge(machine, ['backup', 'web1'])
    assert.equal(result.status, 1)
    assert.match(result.stderr, /a-bad\.sql.*status 7.*lost connection/s)
    const found = await snapshots(machine, 'web1')
    assert.deepEqual(found.map((each) => each.stream ?? 'paths').sort(), ['b-good.sql', 'paths'])
    assert.equal((await done(machine, ['cat', 'web1', 'latest:/b-good.sql'])).stdout, 'all well\n')
    assert.equal((await done(machine, ['cat', 'web1', `latest:${source}/file`])).stdout, 'some bytes\n')
    assert.equal(await locks(machine, target), 0)
  })

  it(`${Object.entries(bench.faults)
    .map(([what, { status }]) => `${what} is ${status}`)
    .join(', ')}, and nothing is created`, async (t) => {
    const { machine, source, target } = await house(t)
    for (const [i, { status, options }] of Object.values(bench.faults).entries()) {
      const { dir } = newTarget(machine, `faulty${i}`, { paths: [source], ...options(machine, target) })
      const before = fs.readdirSync(machine.dir)
      assert.equal((await kedge(machine, ['backup', path.basename(dir)])).status, status)
      assert.deepEqual(fs.readdirSync(machine.dir), before)
    }
    assert.equal((await snapshots(machine, 'web1')).length, 0)
  })

  it('another store in the place of the pinned one is refused with 15, and keeps no snapshot', async (t) => {
    const { machine, source, target } = await house(t)
    const { secrets } = sharing(target)
    const other = newTarget(machine, 'other', { paths: [source], ...(secrets && { secrets }) })
    await bench.store(machine, other)
    fs.renameSync(place(target), `${place(target)}.away`)
    fs.renameSync(place(other), place(target))
    const result = await kedge(machine, ['backup', 'web1'])
    assert.equal(result.status, 15, result.stderr)
    assert.match(result.stderr, /another store lies in/)
    // Each in its place again: neither has got anything.
    fs.renameSync(place(target), place(other))
    fs.renameSync(`${place(target)}.away`, place(target))
    for (const name of ['web1', 'other']) assert.deepEqual(rows<Snapshot>(await done(machine, ['list', '--all', name, '--json'])), [], name)
  })

  it('a target without a pin is refused with 15, and init refuses a store that exists', async (t) => {
    const { machine, source, target } = await house(t)
    newTarget(machine, 'twin', { paths: [source], ...sharing(target) })
    assert.deepEqual(await statuses(machine, ['twin'], 'backup'), [15])
    const init = await kedge(machine, ['init', 'twin'])
    assert.equal(init.status, 15)
    assert.match(init.stderr, /--adopt/)
  })

  it(`a store that is locked is 11 for a ${bench.held.verb}, and no damage`, async (t) => {
    const { machine, target } = await house(t, { env: { LOCK_WAIT: '1s' } })
    await done(machine, ['backup', 'web1'])
    await bench.held.hold(machine, target)
    const result = await kedge(machine, [bench.held.verb, 'web1'])
    assert.equal(result.status, 11, result.stderr)
    assert.equal((await snapshots(machine, 'web1')).length, 1)
  })

  it('a dry run saves nothing, and says what it would save', async (t) => {
    const { machine } = await house(t, { scripts: { 'streams/s': 'echo x' } })
    const summaries = rows<Summary>(await done(machine, ['backup', '-n', 'web1', '--json']))
    assert.deepEqual(
      summaries.map((each) => [each.dryRun, each.stream, each.bytes]),
      [
        [true, undefined, 11],
        [true, 's', 2],
      ],
    )
    assert.equal((await snapshots(machine, 'web1')).length, 0)
    assert.equal((await runs(machine, 'web1')).filter((each) => each.verb === 'backup').length, 0)
  })

  it("'latest' is the target's own in a store that several share", async (t) => {
    const { machine, target } = await house(t)
    const elsewhere = path.join(machine.dir, 'elsewhere')
    fs.mkdirSync(elsewhere)
    fs.writeFileSync(path.join(elsewhere, 'file'), 'of another\n')
    newTarget(machine, 'db1', { paths: [elsewhere], ...sharing(target) })
    await done(machine, ['init', '--adopt', 'db1'])
    await done(machine, ['backup', 'web1'])
    await done(machine, ['backup', 'db1'])
    const to = path.join(machine.dir, 'out')
    await done(machine, ['restore', 'web1', '--to', to])
    assert.ok(!fs.existsSync(path.join(to, elsewhere)))
    assert.equal((await snapshots(machine, 'web1')).length, 1)
  })

  it('prune, forget and hold of one target of a shared store leave what is of another as it is', async (t) => {
    const { machine, source, target } = await house(t)
    await done(machine, ['backup', 'web1'])
    const { env, ...shared } = sharing(target)
    newTarget(machine, 'web2', { paths: [source], ...shared, env: { ...env, KEEP_LAST: '1' } })
    await done(machine, ['init', '--adopt', 'web2'])
    for (let i = 0; i < 3; i++) await done(machine, ['backup', 'web2'])
    const [own] = await snapshots(machine, 'web1')
    assert.equal((await snapshots(machine, 'web2')).length, 3)
    await done(machine, ['prune', 'web2'])
    assert.equal((await snapshots(machine, 'web2')).length, 1)
    for (const verb of ['forget', 'hold'])
      assert.equal((await kedge(machine, [verb, '--force=newest', 'web2', own?.id ?? ''])).status, 1, 'it has no such snapshot')
    assert.deepEqual(await snapshots(machine, 'web1'), [own])
    const cat = await done(machine, ['cat', 'web1', `${own?.id}:${source}/file`])
    assert.equal(cat.stdout, 'some bytes\n')
  })

  it('a backup in part does not count as the newest good one', async (t) => {
    const { machine, source, target } = await house(t, { env: { KEEP_LAST: '1' } })
    await done(machine, ['backup', 'web1'])
    await done(machine, ['backup', 'web1'])
    fs.writeFileSync(path.join(target.dir, 'paths'), `${source}\n${machine.dir}/gone\n`)
    assert.equal((await kedge(machine, ['backup', 'web1'])).status, 3)
    assert.equal((await kedge(machine, ['backup', 'web1'])).status, 3)
    const [last, before, good, old] = await snapshots(machine, 'web1')
    assert.deepEqual([last?.partial, before?.partial, good?.partial, old?.partial], [true, true, undefined, undefined])
    const kept = rows<PlanLine>(await done(machine, ['prune', '-n', '--json', 'web1'])).filter(({ kind }) => kind === 'plan')
    assert.deepEqual(
      kept.map(({ id, action, reasons }) => [id, action, reasons.join('; ')]),
      [
        [last?.id, 'keep', 'last, 1 of 1; partial'],
        [before?.id, 'delete', 'no keep rule holds it; partial'],
        [good?.id, 'keep', 'newest good'],
        [old?.id, 'delete', 'no keep rule holds it'],
      ],
    )
    await done(machine, ['prune', 'web1'])
    assert.equal((await kedge(machine, ['forget', 'web1', good?.id ?? ''])).status, 15)
    assert.equal((await done(machine, ['cat', 'web1', `${good?.id}:${source}/file`])).stdout, 'some bytes\n')
  })

  it('a backup of a list of names stands apart: it is not latest, no full one goes for it, and it is never suspect', async (t) => {
    const { machine, source } = await house(t, { env: { KEEP_LAST: '1' } })
    fs.writeFileSync(path.join(source, 'large'), 'x'.repeat(100_000))
    const one = path.join(source, 'file')
    const names = async () => {
      const result = await done(machine, ['backup', '--files-from', '-', '--json', 'web1'], { input: `${one}\n` })
      assert.equal(result.stderr, '')
      const [summary] = rows<Summary>(result)
      assert.equal(summary?.subset, true)
      return summary?.snapshot
    }
    await names()
    const only = await done(machine, ['files', 'web1', '-q'])
    assert.ok(only.lines.includes(one), 'where there is nothing else')
    for (let i = 0; i < 3; i++) await done(machine, ['backup', 'web1'])
    const [full] = await snapshots(machine, 'web1')
    await names()
    const newest = await names()
    const list = await snapshots(machine, 'web1')
    assert.deepEqual([list.length, list[0]?.id.startsWith(newest ?? '?'), list[0]?.tags.includes('kedge:names')], [6, true, true])
    assert.ok((await done(machine, ['files', 'web1', '-q'])).lines.includes(`${source}/large`))
    assert.equal((await done(machine, ['cat', 'web1', `latest:${source}/large`])).stdout.length, 100_000)
    assert.deepEqual(
      rows<Drilled>(await done(machine, ['drill', 'web1', '--json'])).map(({ snapshot }) => snapshot),
      [full?.id],
    )
    const [sizes] = rows<Sizes>(await done(machine, ['stats', 'web1', '--json']))
    assert.ok((sizes?.restore ?? 0) < 101_000, String(sizes?.restore))
    await done(machine, ['prune', 'web1'])
    const left = await snapshots(machine, 'web1')
    assert.deepEqual(
      left.map(({ id }) => id),
      [list[0]?.id, full?.id],
    )
    // Nor do they make a full one look odd.
    assert.equal((await done(machine, ['backup', 'web1'])).stderr, '')
  })

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`${signal} ends the run and its children, and leaves no lock, no snapshot and no temporary file`, async (t) => {
      const { machine, target } = await house(t, { scripts: { 'streams/slow': `echo begun >&2; head -c 200000 /dev/urandom; ${nap(47)}` } })
      fs.writeFileSync(path.join(target.dir, 'paths'), '')
      const run = start(machine, ['backup', '-v', 'web1'])
      await childOf(run, nap(47))
      run.child.kill(signal)
      const result = await run.result
      assert.equal(result.status, signal === 'SIGINT' ? 130 : 143, result.stderr)
      assert.equal(processes(nap(47)), 0)
      assert.equal(await locks(machine, target), 0)
      assert.equal((await snapshots(machine, 'web1')).length, 0)
      const [last] = await runs(machine, 'web1')
      assert.equal(last?.state, 'cancelled')
      assert.deepEqual(leftovers(machine), [])
      fs.writeFileSync(path.join(target.dir, 'streams/slow'), '#!/bin/sh\necho well\n')
      await done(machine, ['backup', 'web1'])
    })
  }

  it('a run that takes longer than TIMEOUT is ended with 124 and leaves no lock', async (t) => {
    const { machine, target } = await house(t, { scripts: { 'streams/slow': `head -c 1000 /dev/zero; ${nap(48)}` } })
    fs.appendFileSync(path.join(target.dir, 'target.env'), 'TIMEOUT=4s\n')
    fs.writeFileSync(path.join(target.dir, 'paths'), '')
    const result = await kedge(machine, ['backup', 'web1'])
    assert.equal(result.status, 124, result.stderr)
    assert.equal(processes(nap(48)), 0)
    assert.equal(await locks(machine, target), 0)
    assert.equal((await runs(machine, 'web1'))[0]?.class, 'timeout')
  })

  it('kill -9 ends the children too; the next run recovers, and records the dead one as crashed', async (t) => {
    const { machine, target } = await house(t, { scripts: { 'streams/slow': `head -c 1000 /dev/zero; ${nap(49)}` } })
    fs.writeFileSync(path.join(target.dir, 'paths'), '')
    const run = start(machine, ['backup', 'web1'])
    await childOf(run, nap(49))
    run.child.kill('SIGKILL')
    await run.result
    fs.writeFileSync(path.join(target.dir, 'streams/slow'), '#!/bin/sh\necho well\n')
    await done(machine, ['backup', 'web1', '--wait', '60s'])
    assert.equal(processes(nap(49)), 0)
    const [now, before] = await runs(machine, 'web1')
    assert.deepEqual([now?.state, before?.state], ['success', 'crashed'])
    assert.equal(await locks(machine, target), 0)
    assert.equal((await done(machine, ['cat', 'web1', 'latest:/slow'])).stdout, 'well\n')
    await done(machine, ['check', 'web1'])
  })

  it('kill -9 at any moment leaves a state from which the next run recovers by itself, and every dead run is recorded', async (t) => {
    const { machine, source, target } = await house(t, { scripts: { 'streams/app.sql': 'head -c 300000 /dev/urandom' } })
    // Eight: where kedge is slow each is killed before it records the one before, and a lock carries on no more (lib/lock.ts).
    for (let i = 0; i < 8; i++) {
      fs.writeFileSync(path.join(source, 'file'), `round ${i}\n`)
      const run = start(machine, ['backup', 'web1'])
      await new Promise((resolve) => setTimeout(resolve, 60 + i * 115))
      run.child.kill('SIGKILL')
      await run.result
    }
    await done(machine, ['backup', 'web1', '--wait', '60s'])
    assert.equal((await done(machine, ['cat', 'web1', `latest:${source}/file`])).stdout, 'round 7\n')
    await done(machine, ['prune', 'web1', '--wait', '60s'])
    await done(machine, ['check', 'web1', '--read-data'])
    assert.equal(await locks(machine, target), 0)
    assert.deepEqual(leftovers(machine), [])
    const ids = (await runs(machine, 'web1')).map((each) => each.run)
    assert.equal(new Set(ids).size, ids.length, 'no run is recorded twice')
    const logs = fs.readdirSync(path.join(machine.state, 'web1/logs')).map((name) => name.replace('.log', ''))
    assert.deepEqual(
      logs.filter((id) => !ids.includes(id)),
      [],
      'each run that began is recorded',
    )
  })

  it('names from stdin are saved, one a line or ended by NUL, and a missing one is 3', async (t) => {
    const { machine, source } = await house(t)
    const odd = path.join(source, 'line\nbreak * [x]')
    fs.writeFileSync(odd, 'odd\n')
    await done(machine, ['backup', 'web1', '--files-from', '-'], { input: `${source}/file\n` })
    assert.deepEqual(await filesOf(machine), [`${source}/file`])
    await done(machine, ['backup', 'web1', '--files-from', '-', '-0'], { input: `${odd}\0` })
    assert.deepEqual(await filesOf(machine), [odd])
    const missing = await kedge(machine, ['backup', 'web1', '--files-from', '-'], { input: `${source}/file\n${source}/no\n` })
    assert.equal(missing.status, 3)
    assert.match(missing.stderr, /missing: '.*\/no'/)
    const empty = await kedge(machine, ['backup', 'web1', '--files-from', '-'], { input: '' })
    assert.equal(empty.status, 2)
  })

  it('excluded files, caches and the store itself stay out; tags and host go in', async (t) => {
    const { machine, source, target } = await house(t, { exclude: ['*.tmp'], env: { TAGS: 'nightly,disk', HOST: 'elsewhere' } })
    fs.writeFileSync(path.join(source, 'a.tmp'), 'x')
    fs.mkdirSync(path.join(source, 'cache'))
    fs.writeFileSync(path.join(source, 'cache/CACHEDIR.TAG'), 'Signature: 8a477f597d28d172789f06886806bc55\n')
    fs.writeFileSync(path.join(source, 'cache/b'), 'x')
    if (!bench.elsewhere) {
      const within = path.join(source, 'store [1]*')
      fs.renameSync(place(target), within)
      const env = fs.readFileSync(path.join(target.dir, 'target.env'), 'utf8')
      assert.ok(env.includes(`='${place(target)}'`))
      fs.writeFileSync(path.join(target.dir, 'target.env'), env.replace(`='${place(target)}'`, `='${within}'`))
    }
    await done(machine, ['backup', 'web1'])
    assert.deepEqual(await filesOf(machine), [`${source}/cache/CACHEDIR.TAG`, `${source}/file`])
    const [snapshot] = await snapshots(machine, 'web1')
    assert.equal(snapshot?.host, 'elsewhere')
    assert.deepEqual([...(snapshot?.tags ?? [])].sort(), ['disk', 'kedge:web1', 'nightly'])
  })

  async function filesOf(machine: Machine): Promise<string[]> {
    const entries = rows<{ path: string; type: string }>(await done(machine, ['files', 'web1', '--json']))
    return entries.filter(({ type }) => type === 'file').map((entry) => entry.path)
  }
}

async function statuses(machine: Machine, names: readonly string[], verb: string): Promise<(number | null)[]> {
  const found = []
  for (const name of names) found.push((await kedge(machine, [verb, name])).status)
  return found
}

/** Waits until a process with these arguments runs. */
async function childOf(run: ReturnType<typeof start>, args: string): Promise<void> {
  for (let i = 0; i < 300; i++) {
    if (processes(args) > 0) return
    if (run.child.exitCode !== null) throw new Error(`kedge ended before '${args}' ran: ${(await run.result).stderr}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`no '${args}' was started`)
}

/** A sleep that no other test file has: several engines run this contract at once. */
const nap = (seconds: number) => `sleep ${seconds}.${process.pid}`

function processes(args: string): number {
  const text = execFileSync('ps', ['-A', '-o', 'stat=,args=']).toString()
  return text.split('\n').filter((line) => line.endsWith(args) && !line.startsWith('Z')).length
}

/** Temporary files in the state and cache folders. */
function leftovers(machine: Machine): string[] {
  const all = [machine.state, machine.cache].flatMap((dir) => fs.readdirSync(dir, { recursive: true }).map(String))
  return all.filter((name) => /\.new$|names-|@.*json$|scratch\/./.test(name))
}
