// diff --live and the reading verbs over snapshots that kedge itself made: as root, as an ordinary user, and pulled from another host.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { changedSince } from '../../lib/engine/rsync/live.ts'
import type { Compared, Entry } from '../../lib/rows.ts'
import { done, kedge, type Machine, machine, type NewRsyncTarget, newRsyncTarget, type RunOptions, startProgram } from '../harness.ts'
import { changesIn } from '../rsyncstore.ts'
import { startSshd } from '../sshd.ts'

type Made = { m: Machine; target: NewRsyncTarget; source: string; as: RunOptions }

async function saved(t: TestContext, env: Record<string, string> = {}, as: RunOptions = {}, m: Machine = machine(t)): Promise<Made> {
  const source = path.join(m.dir, 'source')
  const target = newRsyncTarget(m, 'web1', { paths: [source, path.join(m.dir, 'none')], exclude: ['*.tmp'], env })
  for (const [name, text] of Object.entries({
    'etc/hosts': 'some hosts',
    'etc/kept': 'kept',
    'etc/touched': 'touched',
    'etc/mode': 'mode',
    'etc/same second': 'one',
    'db/new/table "1"\n': randomBytes(7000),
    'cache/file': 'in a cache later',
    what: 'what',
  })) {
    fs.mkdirSync(path.dirname(path.join(source, name)), { recursive: true })
    fs.writeFileSync(path.join(source, name), text)
  }
  fs.writeFileSync(Buffer.concat([Buffer.from(`${source}/`), Buffer.from('caf\xe9', 'latin1')]), 'coffee')
  fs.symlinkSync('kept', path.join(source, 'etc/link'))
  fs.linkSync(path.join(source, 'etc/kept'), path.join(source, 'etc/second name'))
  execFileSync('mkfifo', [path.join(source, 'fifo')])
  fs.utimesSync(path.join(source, 'etc/same second'), 1_000_000, 1_000_000)
  if (as.uid) execFileSync('chown', ['-R', `${as.uid}:${as.uid}`, m.dir])
  await done(m, ['init', 'web1'], as)
  const backup = await kedge(m, ['backup', 'web1'], as)
  assert.ok([0, 3].includes(backup.status ?? -1), backup.stderr) // one of its paths is not there
  return { m, target, source, as }
}

/** What the store holds, and when each of it changed last. */
const store = ({ target }: Made) =>
  execFileSync('find', [target.store, '-printf', '%p %T@ %C@ %s\\n'], { encoding: 'utf8' }).split('\n').sort().join('\n')

async function live(made: Made): Promise<void> {
  const { m, source, as } = made
  const before = store(made)
  const same = await done(m, ['diff', '--live', 'web1', '--json'], as)
  assert.deepEqual(changesIn(source, same.rows), [])
  fs.writeFileSync(path.join(source, 'etc/hosts'), 'now')
  fs.mkdirSync(path.join(source, 'fresh'))
  fs.writeFileSync(path.join(source, 'fresh/file'), randomBytes(900))
  fs.symlinkSync('file', path.join(source, 'fresh/link'))
  fs.writeFileSync(path.join(source, 'fresh/left out.tmp'), 'x')
  fs.rmSync(path.join(source, 'db'), { recursive: true })
  fs.rmSync(Buffer.concat([Buffer.from(`${source}/`), Buffer.from('caf\xe9', 'latin1')]))
  fs.utimesSync(path.join(source, 'etc/touched'), 1, 1)
  fs.chmodSync(path.join(source, 'etc/mode'), 0o600)
  fs.writeFileSync(path.join(source, 'etc/same second'), 'two')
  fs.utimesSync(path.join(source, 'etc/same second'), 1_000_000, 1_000_000.5)
  fs.rmSync(path.join(source, 'etc/link'))
  fs.symlinkSync('hosts', path.join(source, 'etc/link'))
  fs.writeFileSync(path.join(source, 'cache/CACHEDIR.TAG'), 'Signature: 8a477f597d28d172789f06886806bc55')
  fs.rmSync(path.join(source, 'what'))
  fs.mkdirSync(path.join(source, 'what'))
  if (as.uid) execFileSync('chown', ['-hR', `${as.uid}:${as.uid}`, source])
  const result = await done(m, ['diff', '--live', 'web1', '--json'], as)
  assert.deepEqual(changesIn(source, result.rows), [
    ['+', 'cache/CACHEDIR.TAG', undefined, 43],
    ['-', 'caf\ufffd', 6, undefined],
    ['-', 'db/', undefined, undefined],
    ['-', 'db/new/', undefined, undefined],
    ['-', 'db/new/table "1"\n', 7000, undefined],
    ['M', 'etc/hosts', 10, 3],
    ['M', 'etc/link', undefined, undefined],
    ['U', 'etc/mode', 4, 4],
    ['M', 'etc/same second', 3, 3],
    ['M', 'etc/touched', 7, 7],
    ['+', 'fresh/', undefined, undefined],
    ['+', 'fresh/file', undefined, 900],
    ['+', 'fresh/link', undefined, undefined],
    ['T', 'what/', 4, undefined],
  ])
  const { old, newer, addedBytes, removedBytes, stored = 0 } = result.rows.at(-1) as Compared
  const [id] = (await done(m, ['list', 'web1', '-q'], as)).lines
  assert.deepEqual([old, newer, addedBytes, removedBytes], [id, 'live', 43 + 3 + 3 + 7 + 900, 6 + 7000 + 10 + 3 + 7 + 4])
  assert.ok(stored >= 43 + 3 + 3 + 7 + 900 && stored < 1000, String(stored))
  assert.equal(store(made), before)
}

test('root: diff --live names what the next backup would save and what is gone, and writes nothing', async (t) => {
  const made = await saved(t)
  const { m, source } = made
  await live(made)
  const { stdout } = await done(m, ['diff', '--live', 'web1', '--explain'])
  const before = store(made)
  const byHand = await startProgram(m, '/bin/sh', [], { input: stdout, env: { LC_ALL: 'C' } }).result
  assert.equal(store(made), before, stdout)
  for (const line of ['>f.st\\S* .*etc/hosts', '\\*deleting .*db/new/', '\\*deleting .*caf', 'cd\\+* .*fresh/'])
    assert.match(byHand.stdout, new RegExp(`^${line}`, 'm'), byHand.stderr)
  assert.doesNotMatch(byHand.stdout, /left out/)
  fs.renameSync(source, `${source}.away`)
  const gone = await done(m, ['diff', '--live', 'web1', '--json'])
  const all = (await done(m, ['files', 'web1', '--json'])).rows as Entry[]
  assert.equal(changesIn(source, gone.rows).length, all.filter((each) => each.path.startsWith(`${source}/`)).length)
  assert.ok(changesIn(source, gone.rows).every(([change]) => change === '-'))
})

test('an ordinary user: the same, and the owners in the store are those that were saved', async (t) => {
  const made = await saved(t, {}, { uid: 65534 })
  await live(made)
  const { m, source, as } = made
  const entries = (await done(m, ['files', 'web1', source, '--json'], as)).rows as Entry[]
  assert.deepEqual(
    entries.filter(({ type }) => type === 'fifo').map(({ path, uid }) => [path, uid]),
    [[`${source}/fifo`, 65534]],
  )
  assert.match((await kedge(m, ['cat', 'web1', `latest:${source}/fifo`], as)).stderr, /it is no file or folder, but a fifo/)
  const closed = path.join(source, 'closed')
  fs.mkdirSync(closed, { mode: 0 })
  execFileSync('chown', ['65534:65534', closed])
  const part = await kedge(m, ['diff', '--live', 'web1'], as)
  assert.deepEqual([part.status, part.stderr.includes(`cannot read '${closed}'`)], [3, true], part.stderr)
})

test('another host: the same, over ssh', async (t) => {
  const m = machine(t)
  const server = await startSshd(t)
  const made = await saved(t, server.pulled(m), {}, m)
  await live(made)
  fs.appendFileSync(path.join(made.target.dir, 'exclude'), 'kept\n')
  const rows = changesIn(made.source, (await done(m, ['diff', '--live', 'web1', '--json'])).rows)
  assert.ok(!rows.some(([, name]) => name === 'etc/kept'), 'what is left out now is not gone')
  server.authorize('')
  assert.equal((await kedge(m, ['diff', '--live', 'web1'])).status, 12)
})

test('a stream has no live source', async (t) => {
  const m = machine(t)
  newRsyncTarget(m, 'db', { scripts: { 'streams/app.sql': 'echo select 1' } })
  await done(m, ['init', 'db'])
  await done(m, ['backup', 'db'])
  assert.equal((await done(m, ['cat', 'db', 'latest:/app.sql'])).stdout, 'select 1\n')
  assert.equal((await kedge(m, ['diff', '--live', 'db'])).status, 2)
})

test('between two real backups what rsync linked is the same, and what it saved again is told', async (t) => {
  const { m, source } = await saved(t)
  fs.writeFileSync(path.join(source, 'etc/hosts'), 'other hosts')
  fs.rmSync(path.join(source, 'what'))
  assert.equal((await kedge(m, ['backup', 'web1'])).status, 3)
  const result = await done(m, ['diff', 'web1', '--json'])
  assert.deepEqual(changesIn(source, result.rows), [
    ['M', 'etc/hosts', 10, 11],
    ['-', 'what', 4, undefined],
  ])
  assert.equal((result.rows.at(-1) as Compared).stored, 11)
  const files = (await done(m, ['files', 'web1', source, '-q'])).lines
  assert.equal(files.length, execFileSync('find', [source, '-printf', '.'], { encoding: 'utf8' }).length)
})

const line = { path: 'f', type: 'f', mode: 0o644, uid: 0, gid: 0, size: 3, mtime: 5, how: '=', hash: '', link: '' } as const
test('an entry of a snapshot beside the source', () => {
  const told = (old: object, now: object) => changedSince({ ...line, ...old }, { ...line, ...now }, '/none', true)
  assert.equal(told({}, {}), undefined)
  assert.equal(told({}, { how: '>' }), 'M')
  assert.equal(told({}, { how: '>', mode: 0o600 }), 'U')
  assert.equal(told({}, { how: '>', mtime: 6 }), 'M')
  assert.equal(told({ type: 'c' }, { type: 'b' }), undefined)
  assert.equal(told({ type: 's' }, { type: 'p' }), undefined)
  assert.equal(told({ type: 'p' }, { type: 'b' }), 'T')
  assert.equal(told({ type: 'd' }, { type: 'd', mtime: 6 }), undefined)
  assert.equal(told({ type: 'd' }, { type: 'd', uid: 6 }), 'U')
})
