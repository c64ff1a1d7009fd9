import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { hostname } from 'node:os'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Drilled, RunRow } from '../../lib/rows.ts'
import { asNobody } from '../engine/bench.ts'
import {
  dist,
  done,
  fake,
  growTree,
  kedge,
  type Machine,
  machine,
  type NewRsyncTarget,
  newRsyncTarget,
  type Rsync,
  rsyncs,
  start,
  startProgram,
} from '../harness.ts'
import { snapshotByHand } from '../rsyncstore.ts'
import { treeFacts } from '../tree.ts'

type Place = { m: Machine; web1: NewRsyncTarget; source: string; snapshot: string; files: string[] }
const newest = rsyncs().at(-1) as Rsync

/** A store with a snapshot of a tree of odd names, made on this host now, and one of a stream. */
async function place(t: TestContext, rsync: Rsync = newest): Promise<Place> {
  const m = machine(t, undefined, rsync)
  const source = path.join(m.dir, 'source')
  const web1 = newRsyncTarget(m, 'web1', { paths: [source] })
  fs.mkdirSync(source)
  growTree(source)
  fs.writeFileSync(path.join(source, '-dash and "quotes" $(x)'), 'dash\n')
  const files = fs.readdirSync(source, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  const now = { host: hostname(), time: new Date(Date.now() + 1).toISOString() }
  const snapshot = snapshotByHand(web1.root, '2026-11-19T021500Z', [source], now)
  return { m, web1, source, snapshot, files: files.map((entry) => path.join(entry.parentPath, entry.name)).sort() }
}

function streamOf(m: Machine, { root }: NewRsyncTarget): void {
  const dump = path.join(m.dir, 'dump')
  fs.mkdirSync(dump)
  fs.writeFileSync(path.join(dump, 'app.sql'), 'a dump\n')
  snapshotByHand(root, '2026-11-20T021500Z', [`${dump}/./app.sql`], { stream: 'app.sql', paths: ['/app.sql'], host: hostname() })
}

const scratchOf = (m: Machine) => path.join(m.state, 'web1', 'scratch')
const left = (m: Machine) => (fs.existsSync(scratchOf(m)) ? fs.readdirSync(scratchOf(m)) : [])
const drill = async (m: Machine, ...args: string[]) => (await done(m, ['drill', 'web1', '--json', ...args])).rows as Drilled[]
/** The newest run. */
const record = (m: Machine) =>
  JSON.parse(
    fs
      .readFileSync(path.join(m.state, 'web1', 'runs.ndjson'), 'utf8')
      .trim()
      .split('\n')
      .at(-1) ?? '',
  ) as RunRow

/** One byte of a file becomes another, and its times stay. */
function flip(file: string, at: number): void {
  const { atime, mtime } = fs.statSync(file)
  const fd = fs.openSync(file, 'r+')
  const byte = Buffer.alloc(1)
  fs.readSync(fd, byte, 0, 1, at)
  fs.writeSync(fd, Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, at)
  fs.closeSync(fd)
  fs.utimesSync(file, atime, mtime)
}

/** The same manifest with lines changed. */
function rewrite(snapshot: string, change: (line: string) => string): void {
  const file = path.join(snapshot, 'manifest')
  fs.writeFileSync(file, fs.readFileSync(file, 'latin1').split('\n').map(change).join('\n'), 'latin1')
}

async function byHand(m: Machine, ...args: string[]): Promise<number | null> {
  const { stdout } = await done(m, ['drill', 'web1', '--explain', ...args])
  return (await startProgram(m, '/bin/sh', ['-c', stdout]).result).status
}

for (const rsync of rsyncs()) {
  test(`drill with rsync ${rsync.version}`, async (t) => {
    const { m, web1, source, snapshot, files } = await place(t, rsync)
    const before = treeFacts(web1.store)

    await t.test('every file, whatever its name, is restored and found the same as its source, and the record says so', async () => {
      const [row, ...more] = await drill(m, '--count', '100')
      assert.deepEqual(more, [])
      assert.deepEqual([...(row?.sample ?? [])].sort(), files)
      assert.deepEqual([row?.files, row?.source, row?.hashes, row?.times], [files.length, files.length, 0, undefined])
      assert.equal(
        row?.bytes,
        files.reduce((sum, file) => sum + fs.statSync(file).size, 0),
      )
      assert.deepEqual(record(m).results, [row])
      assert.deepEqual(left(m), [])
      assert.equal(await byHand(m, '--count', '100'), 0)
      assert.deepEqual(left(m), [])
    })

    await t.test('the newest snapshot of each stream is drilled as well, and nothing in the store is changed', async () => {
      assert.deepEqual(treeFacts(web1.store), before)
      streamOf(m, web1)
      const rows = await drill(m, '--count', '2')
      assert.deepEqual(rows.map((row) => [row.files, row.hashes, row.sample.includes('/app.sql')]).sort(), [
        [1, 1, true],
        [2, 0, false],
      ])
    })

    await t.test('a flipped byte in a snapshot is status 14, the file is named, and the scratch space is gone', async () => {
      flip(path.join(snapshot, 'tree', source, 'deep/big.bin'), 1_234_567)
      const result = await kedge(m, ['drill', 'web1', '--json', '--count', '100'])
      assert.equal(result.status, 14, result.stderr)
      assert.ok(result.stderr.includes(`'${source}/deep/big.bin': its content is not what was saved`), result.stderr)
      assert.deepEqual(
        (result.rows as Drilled[]).map(({ sample }) => sample),
        [['/app.sql']],
      )
      assert.equal(record(m).class, 'damaged')
      assert.deepEqual(left(m), [])
      assert.notEqual(await byHand(m, '--count', '100'), 0)
      flip(path.join(snapshot, 'tree', source, 'deep/big.bin'), 1_234_567)
    })

    await t.test('a file that is gone from a snapshot, or has another mode or owner, is status 14', async () => {
      const suid = path.join(snapshot, 'tree', source, 'suid')
      const drilled = async (pattern: RegExp) => {
        const result = await kedge(m, ['drill', 'web1', '--count', '100'])
        assert.equal(result.status, 14, result.stderr)
        assert.match(result.stderr, pattern)
      }
      fs.chmodSync(suid, 0o755)
      await drilled(/suid': it came back with mode 755, saved was 4755/)
      fs.chownSync(suid, 55, 66)
      fs.chmodSync(suid, 0o4755)
      await drilled(/suid': it came back with the owner 55:66, saved was 0:0/)
      fs.rmSync(suid)
      await drilled(/source\/suid/)
      assert.deepEqual(left(m), [])
    })
  })
}

test('what a drill compares with, and what it leaves', async (t) => {
  const { m, web1, source, snapshot, files } = await place(t)

  await t.test('a source that changed since is not compared: its hashes are', async () => {
    const [big, secret] = [path.join(source, 'deep/big.bin'), path.join(source, 'secret')]
    const saved = fs.readFileSync(big)
    execFileSync('touch', ['-r', secret, path.join(m.dir, 'time')])
    fs.appendFileSync(big, 'more')
    fs.writeFileSync(secret, 'NOT for all\n')
    execFileSync('touch', ['-r', path.join(m.dir, 'time'), secret]) // to the nanosecond: only its ctime tells
    fs.rmSync(path.join(source, 'none'))
    const [row] = await drill(m, '--count', '100')
    assert.deepEqual([row?.files, row?.hashes, row?.times], [files.length, 3, undefined])
    fs.writeFileSync(big, saved)
    fs.writeFileSync(path.join(source, 'none'), '')
  })

  await t.test('a difference from an unchanged source is status 14', async () => {
    const cmp = fake(m.bin, 'cmp', 'case "$*" in *three.txt*) exit 1 ;; esac')
    const result = await kedge(m, ['drill', 'web1', '--count', '100'])
    assert.equal(result.status, 14)
    assert.match(result.stderr, /three\.txt': it differs from the source, which is unchanged/)
    assert.doesNotMatch(result.stderr, /a\.txt'/)
    fs.rmSync(cmp)
  })

  await t.test('files without a known hash count as compared by size and time only, and that is said', async () => {
    const manifest = path.join(snapshot, 'manifest')
    const whole = fs.readFileSync(manifest)
    rewrite(snapshot, (line) => line.replace(/\t[0-9a-f]{32}\t/, '\t-\t'))
    fs.appendFileSync(path.join(source, 'suid'), 'changed since\n')
    const result = await done(m, ['drill', 'web1', '--json', '--count', '100'])
    const [row] = result.rows as Drilled[]
    assert.deepEqual([row?.hashes, row?.times], [0, files.length - (row?.source ?? 0)])
    assert.ok((row?.times ?? 0) > 0)
    assert.match(result.stderr, /\d+ files of the sample have no known hash: compared by size, mode and time only/)
    fs.writeFileSync(manifest, whole)
  })

  await t.test('without a source on this host only the hashes count', async () => {
    const file = path.join(web1.dir, 'target.env')
    const before = fs.readFileSync(file)
    for (const setting of ["HOST='elsewhere'\n", "SOURCE_HOST='root@far'\n"]) {
      fs.writeFileSync(file, Buffer.concat([before, Buffer.from(setting)]))
      const [row] = await drill(m, '--count', '5')
      assert.deepEqual([row?.files, row?.source, row?.hashes], [5, 0, 5])
    }
    fs.writeFileSync(file, before)
  })

  await t.test('--bytes takes as many as fit, and nothing that fits is no success', async () => {
    const [row] = await drill(m, '--bytes', '60')
    assert.ok(row && row.bytes <= 60 && row.files > 3, JSON.stringify(row))
    const empty = newRsyncTarget(m, 'empty')
    fs.mkdirSync(path.join(m.dir, 'nothing'))
    assert.equal((await kedge(m, ['drill', 'empty'])).status, 10)
    snapshotByHand(empty.root, '2026-11-20T021500Z', [path.join(m.dir, 'nothing')])
    const result = await kedge(m, ['drill', 'empty'])
    assert.equal(result.status, 1)
    assert.match(result.stderr, /it holds no file/)
  })

  await t.test('names that are not UTF-8 are left out of the sample, and counted aloud', async () => {
    const folder = path.join(m.dir, 'odd')
    fs.mkdirSync(folder)
    fs.writeFileSync(Buffer.concat([Buffer.from(`${folder}/caf`), Buffer.from([0xe9])]), 'latin1\n')
    fs.writeFileSync(path.join(folder, 'plain'), 'plain\n')
    const odd = newRsyncTarget(m, 'odd')
    snapshotByHand(odd.root, '2026-11-20T021500Z', [folder])
    const result = await done(m, ['drill', 'odd', '--json'])
    assert.deepEqual((result.rows[0] as Drilled).sample, [path.join(folder, 'plain')])
    assert.match(result.stderr, /1 files? .*not UTF-8/)
  })

  await t.test('an ordinary user drills what he has saved', async () => {
    const home = fs.mkdtempSync('/tmp/kedge-user-')
    t.after(() => fs.rmSync(home, { recursive: true, force: true }))
    const user = {
      ...m,
      ...Object.fromEntries(['config', 'state', 'cache', 'home'].map((name) => [name, path.join(home, name)])),
    } as Machine
    const env = { HOME: user.home, KEDGE_CONFIG_DIR: user.config, KEDGE_STATE_DIR: user.state, KEDGE_CACHE_DIR: user.cache }
    const theirs = path.join(home, 'source')
    fs.mkdirSync(path.join(theirs, 'closed'), { recursive: true })
    fs.writeFileSync(path.join(theirs, 'closed/file'), 'mine\n')
    fs.chmodSync(path.join(theirs, 'closed'), 0o555)
    const target = newRsyncTarget(user, 'web1', { paths: [theirs], env: { STORE: path.join(home, 'store') } })
    snapshotByHand(target.root, '2026-11-20T021500Z', [theirs], { host: hostname(), time: new Date(Date.now() + 1).toISOString() })
    for (const folder of [user.state, user.cache, user.home]) fs.mkdirSync(folder)
    fs.chmodSync(m.dir, 0o755)
    execFileSync('chown', ['-R', '65534:65534', home])
    const args = [
      '--reuid=65534',
      '--regid=65534',
      '--clear-groups',
      process.execPath,
      path.join(dist, 'kedge.cjs'),
      'drill',
      'web1',
      '--json',
    ]
    const result = await startProgram(m, 'setpriv', args, { env }).result
    assert.equal(result.status, 0, result.stderr)
    const [row] = result.rows as Drilled[]
    assert.deepEqual([row?.files, row?.source], [1, 1])
    assert.deepEqual(fs.readdirSync(path.join(user.state, 'web1/scratch')), [])
  })

  await t.test('SIGINT ends it with 130, and leaves no scratch space', async () => {
    const marker = path.join(m.dir, 'restored')
    fake(m.bin, 'rsync', `case " $* " in *" --version "*) exec ${newest.path} "$@" ;; esac; ${newest.path} "$@"; : >'${marker}'; sleep 60`)
    const run = start(m, ['drill', 'web1'])
    for (let i = 0; !fs.existsSync(marker); i++) {
      assert.ok(i < 600, 'rsync never came')
      await sleep(50)
    }
    assert.equal(left(m).length, 1)
    run.child.kill('SIGINT')
    assert.equal((await run.result).status, 130)
    assert.deepEqual(left(m), [])
    assert.equal(record(m).state, 'cancelled')
  })
})

test('an ordinary user: a restored folder that its owner may not write goes with the scratch folder, and so does much beside it', async (t) => {
  if (process.geteuid?.() !== 0) return t.skip('only root can become another user')
  const m = machine(t, undefined, newest)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(path.join(source, 'closed'), { recursive: true })
  fs.writeFileSync(path.join(source, 'closed/file'), 'x')
  for (let i = 0; i < 8; i++) {
    const folder = path.join(source, `${i}/a/b/c`)
    fs.mkdirSync(folder, { recursive: true })
    for (let j = 0; j < 200; j++) fs.writeFileSync(path.join(folder, `${j}`), 'x')
  }
  fs.chmodSync(path.join(source, 'closed'), 0o555)
  newRsyncTarget(m, 'web1', { paths: [source], env: { RESERVE: '0' } })
  const as = asNobody(m)
  await done(m, ['init', 'web1'], as)
  await done(m, ['backup', 'web1'], as)
  for (let i = 0; i < 3; i++) assert.equal((await done(m, ['drill', 'web1', '--count', '5000'], as)).stderr, '')
  assert.deepEqual(fs.readdirSync(path.join(m.state, 'web1/scratch')), [])
})
