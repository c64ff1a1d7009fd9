import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { judged } from '../../lib/engine/rsync/diff.ts'
import type { Line } from '../../lib/engine/rsync/manifest.ts'
import { bindCommands, noBind } from '../../lib/engine/rsync/mount.ts'
import type { Change, Compared, Sizes } from '../../lib/rows.ts'
import { done, kedge, type Machine, machine, type NewRsyncTarget, newRsyncTarget, start, startProgram } from '../harness.ts'
import { changesIn, markStore, snapshotByHand } from '../rsyncstore.ts'

const [old, newer] = ['2026-01-01T020000Z', '2026-01-02T020000Z']
type Made = { m: Machine; target: NewRsyncTarget; source: string; write: (name: string, bytes: number | string) => void }

/** Two snapshots of a tree that changed in every way. */
function saved(t: TestContext): Made {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  const target = newRsyncTarget(m, 'web1', { paths: [source] })
  const write = (name: string, bytes: number | string) => {
    fs.mkdirSync(path.dirname(path.join(source, name)), { recursive: true })
    fs.writeFileSync(path.join(source, name), typeof bytes === 'number' ? randomBytes(bytes) : bytes)
  }
  write('etc/hosts', 100)
  write('etc/kept', 100)
  write('etc/same second', 'one')
  write('etc/touched', 'x')
  write('log/old', 5000)
  write('log/mode', 10)
  write('what', 7)
  write('was folder/in it', 9)
  fs.symlinkSync('hosts', path.join(source, 'etc/link'))
  fs.symlinkSync('hosts', path.join(source, 'etc/turned'))
  fs.utimesSync(path.join(source, 'etc/same second'), 1_000_000, 1_000_000)
  snapshotByHand(target.root, old, [source])
  write('etc/hosts', 130)
  write('etc/same second', 'two')
  fs.utimesSync(path.join(source, 'etc/same second'), 1_000_000, 1_000_000.5)
  fs.utimesSync(path.join(source, 'etc/touched'), 1_000_000, 1_000_000)
  write('db/new/table "1"\n', 70_000)
  fs.rmSync(path.join(source, 'log/old'))
  fs.rmSync(path.join(source, 'etc/link'))
  fs.rmSync(path.join(source, 'etc/turned'))
  fs.symlinkSync('kept', path.join(source, 'etc/turned'))
  fs.chmodSync(path.join(source, 'log/mode'), 0o600)
  fs.rmSync(path.join(source, 'what'))
  fs.symlinkSync('etc', path.join(source, 'what'))
  fs.rmSync(path.join(source, 'was folder'), { recursive: true })
  write('was folder', 4)
  snapshotByHand(target.root, newer, [source], {}, old)
  return { m, target, source, write }
}

test('diff: each change between two snapshots with its sizes; --top names the folder that grew; sh finds the same', async (t) => {
  const { m, target, source, write } = saved(t)
  const result = await done(m, ['diff', 'web1', '--json'])
  assert.deepEqual(changesIn(source, result.rows), [
    ['+', 'db/', undefined, undefined],
    ['+', 'db/new/', undefined, undefined],
    ['+', 'db/new/table "1"\n', undefined, 70_000],
    ['M', 'etc/hosts', 100, 130],
    ['-', 'etc/link', undefined, undefined],
    ['M', 'etc/same second', 3, 3],
    ['M', 'etc/turned', undefined, undefined],
    ['-', 'log/old', 5000, undefined],
    ['T', 'was folder', undefined, 4],
    ['-', 'was folder/in it', 9, undefined],
    ['T', 'what', 7, undefined],
  ])
  const { added, removed, changed, addedBytes, removedBytes, stored, ...sums } = result.rows.at(-1) as Compared
  assert.deepEqual([sums.old, sums.newer, added, removed, changed], [old, newer, 3, 3, 5])
  assert.deepEqual([addedBytes, removedBytes], [70_000 + 130 + 3 + 4, 100 + 3 + 5000 + 9 + 7])
  assert.equal(stored, 70_000 + 130 + 3 + 4 + 1 + 10, 'with what was touched, and the other mode')
  assert.match(result.stderr, /from 2026-01-01T020000Z of 2026-01-01T02:00:00.000Z to 2026-01-02T020000Z of/)
  const metadata = await done(m, ['diff', 'web1', '--metadata', '--json'])
  assert.deepEqual(
    changesIn(source, metadata.rows).filter(([change, name]) => change === 'U' && !String(name).endsWith('/')),
    [
      ['U', 'etc/touched', 1, 1],
      ['U', 'log/mode', 10, 10],
    ],
  )
  assert.deepEqual((await done(m, ['diff', 'web1', '--top', '2'])).lines[0], `70000\t70000\t1\t${source}/db/new`)
  for (const more of [[], ['--metadata']]) {
    const shown = (await done(m, ['diff', 'web1', ...more, '--json'])).rows.filter((row): row is Change => row.kind === 'change')
    const { stdout } = await done(m, ['diff', 'web1', ...more, '--explain'])
    const byHand = await startProgram(m, '/bin/sh', ['-e'], { input: stdout }).result
    assert.deepEqual(
      byHand.lines.sort(),
      shown.map(({ change, path }) => `${change} ${path.slice(1).replace(/\/$/, '').replaceAll('\n', '\\#012')}`).sort(),
      byHand.stderr,
    )
  }
  await t.test('another content with all else the same, to the nanosecond, is status 14', () => silent({ m, target, source, write }))
})

async function silent({ m, target, source, write }: Made): Promise<void> {
  const file = path.join(source, 'etc/kept')
  const { atime, mtime } = fs.statSync(file)
  fs.utimesSync(file, atime, mtime) // to the millisecond, which can be set again
  snapshotByHand(target.root, '2026-01-03T020000Z', [source])
  write('etc/kept', 100)
  fs.utimesSync(file, atime, mtime)
  snapshotByHand(target.root, '2026-01-04T020000Z', [source])
  const result = await kedge(m, ['diff', 'web1', '--json'])
  assert.deepEqual([result.status, changesIn(source, result.rows)], [14, [['?', 'etc/kept', 100, 100]]], result.stderr)
  assert.match(result.stderr, /the content of 1 files changed, and nothing else about them/)
}

const line = (more: Partial<Line> = {}): Line => ({
  path: 'f',
  type: 'f',
  mode: 0o644,
  uid: 0,
  gid: 0,
  size: 3,
  mtime: 5,
  how: '=',
  hash: 'a',
  link: '',
  ...more,
})
const cases: readonly (readonly [string, Partial<Line>, Partial<Line>, Change['change'] | undefined])[] = [
  ['the same', {}, {}, undefined],
  ['another hash', {}, { hash: 'b', mtime: 6 }, 'M'],
  ['another hash and nothing else', {}, { hash: 'b' }, '?'],
  ['the same hash at another time', {}, { mtime: 6, how: '>' }, 'U'],
  ['no hash, another time', { hash: '' }, { mtime: 6 }, 'M'],
  ['no hash, another size', { hash: '' }, { size: 4 }, 'M'],
  ['no hash, size and time the same', { hash: '' }, {}, undefined],
  ['another owner', {}, { uid: 1 }, 'U'],
  ['another type', {}, { type: 'd' }, 'T'],
  ['a link that leads elsewhere', { type: 'l', hash: '', link: '-> a' }, { type: 'l', hash: '', link: '-> b' }, 'M'],
  ['another name of a file', {}, { link: '=> g' }, undefined],
]
for (const [what, one, other, expected] of cases)
  test(`two lines of manifests: ${what}`, () => {
    assert.equal(judged(line(one), line(other), true), expected)
    assert.equal(judged(line(one), line(other), false), expected === 'U' ? undefined : expected)
  })

test('stats: what is linked counts once on disk; the sizes are kept for the metrics', async (t) => {
  const { m, target, source } = saved(t)
  const [row] = (await done(m, ['stats', 'web1', '--json'])).rows as Sizes[]
  const { snapshots, restore, files, raw, dedup, compression, free } = row as Sizes
  const du = Number(execFileSync('du', ['-sk', path.join(target.root, 'snapshots')], { encoding: 'utf8' }).split('\t')[0])
  const listed = execFileSync('find', [source, '!', '-type', 'd', '-printf', '%y %s\n'], { encoding: 'utf8' }).trim().split('\n')
  const regular = listed.flatMap((each) => (each.startsWith('f') ? Number(each.slice(2)) : []))
  const bytes = regular.reduce((sum, size) => sum + size, 0)
  assert.deepEqual([snapshots, restore, files, raw, compression], [2, bytes, listed.length, du * 1024, null])
  const all = bytes + 100 + 100 + 3 + 1 + 5000 + 10 + 7 + 9
  assert.equal(dedup, Math.round((all / raw) * 1000) / 1000)
  assert.ok((free ?? 0) > 0)
  assert.match((await done(m, ['stats', '--prometheus'])).stdout, new RegExp(`kedge_store_bytes\\{target="web1".*\\} ${raw}$|${raw}`, 'm'))
  const { stdout } = await done(m, ['stats', 'web1', '--explain'])
  const byHand = await startProgram(m, '/bin/sh', ['-e'], { input: stdout }).result
  assert.deepEqual(
    [byHand.lines[0], byHand.lines[1]?.split('\t')[0]],
    [`${bytes} bytes in ${regular.length} files`, String(du)],
    byHand.stderr,
  )
  const empty = newRsyncTarget(m, 'empty', { paths: [source] })
  markStore(empty.store)
  const [none] = (await done(m, ['stats', 'empty', '--json'])).rows as Sizes[]
  assert.deepEqual([none?.snapshots, none?.restore, none?.raw, none?.dedup], [0, 0, 0, null])
})

const mounted = (at: string) => fs.readFileSync('/proc/self/mounts', 'utf8').includes(` ${at} `)

test('mount prints where the snapshots lie; with a folder root sees them there, read-only, until a signal or umount ends it', async (t) => {
  let at = ''
  t.after(() => spawnSync('umount', ['-l', at]))
  const { m, target, source } = saved(t)
  at = path.join(m.dir, 'mnt')
  fs.mkdirSync(at)
  const folder = path.join(target.root, 'snapshots')
  assert.deepEqual((await done(m, ['mount', 'web1'])).lines, [`${folder}\tweb1`])
  for (const end of ['SIGTERM', 'SIGINT', 'umount', 'SIGKILL']) {
    const mount = start(m, ['mount', 'web1', at])
    await mount.until(/^.*mnt\tweb1$/m)
    assert.deepEqual(fs.readFileSync(path.join(at, newer, 'tree', source, 'etc/hosts')), fs.readFileSync(path.join(source, 'etc/hosts')))
    assert.throws(() => fs.writeFileSync(path.join(at, newer, 'tree', source, 'etc/hosts'), 'x'), { code: 'EROFS' })
    if (end === 'umount') execFileSync('umount', [at])
    else mount.child.kill(end as NodeJS.Signals)
    const { status, signal, stderr, lines } = await mount.result
    if (end === 'SIGKILL') {
      assert.equal(signal, end)
      for (let i = 0; i < 100 && mounted(at); i++) await new Promise((resolve) => setTimeout(resolve, 50))
    } else assert.deepEqual([status, lines], [0, [`${at}\tweb1`]], stderr)
    assert.ok(!mounted(at), end)
  }
  await t.test('what is used cannot be unmounted: status 1, and it says so', async () => {
    const mount = start(m, ['mount', 'web1', at])
    await mount.until(/mnt\tweb1/)
    const user = startProgram(m, 'sleep', ['100'], { cwd: path.join(at, newer) })
    mount.child.kill('SIGINT')
    const { status, stderr } = await mount.result
    user.child.kill('SIGKILL')
    await user.result
    execFileSync('umount', [at])
    assert.equal(status, 1, stderr)
    assert.match(stderr, /cannot unmount '.*mnt': something uses it/)
  })
  await t.test('where it cannot be mounted the path is in the hint', async () => {
    const full = await kedge(m, ['mount', 'web1', source])
    assert.deepEqual([full.status, /cannot mount at '.*': it is not empty/.test(full.stderr)], [2, true], full.stderr)
    execFileSync('chown', ['-R', '65534:65534', m.dir])
    const result = await kedge(m, ['mount', 'web1', at], { uid: 65534 })
    assert.equal(result.status, 2, result.stderr)
    assert.ok(/: only root may\n/.test(result.stderr) && result.stderr.includes(`they are plain files: ${folder}`), result.stderr)
    assert.deepEqual((await done(m, ['mount', 'web1', '-q'], { uid: 65534 })).lines, [folder])
  })
})

test('several targets lie in several folders; a store or snapshots that are not there are told', async (t) => {
  const { m, target, source } = saved(t)
  const both = newRsyncTarget(m, 'both', { env: { STORE: target.store, SNAPSHOTS_OF: 'web1 web2' } })
  snapshotByHand(path.join(both.store, 'web2'), newer, [source])
  const folders = ['web1', 'web2'].map((name) => path.join(target.store, name, 'snapshots'))
  assert.deepEqual((await done(m, ['mount', 'both', '-q'])).lines, folders)
  fs.mkdirSync(path.join(m.dir, 'mnt'))
  const result = await kedge(m, ['mount', 'both', path.join(m.dir, 'mnt')])
  assert.deepEqual([result.status, folders.every((folder) => result.stderr.includes(folder))], [2, true], result.stderr)
  const explained = await kedge(m, ['mount', 'both', path.join(m.dir, 'mnt'), '--explain'])
  assert.deepEqual([explained.status, /mount --bind/.test(explained.stdout)], [2, false], explained.stdout)
  assert.equal(explained.stderr, result.stderr)
  // Snapshots of two targets may have one id: each is its own.
  fs.writeFileSync(path.join(source, 'etc/hosts'), 'later')
  snapshotByHand(path.join(both.store, 'web2'), '2026-01-05T020000Z', [source])
  snapshotByHand(path.join(both.store, 'web1'), '2026-01-05T020000Z', [path.join(source, 'log')])
  const newest = (await done(m, ['files', 'both', '-q'])).lines
  const first = JSON.parse((await done(m, ['list', 'both', '--latest', '1', '--json'])).stdout) as { paths: string[] }
  assert.deepEqual(newest.includes(`${source}/etc/hosts`), first.paths[0] === source)
  fs.rmSync(path.join(target.root, 'snapshots'), { recursive: true })
  assert.equal((await kedge(m, ['mount', 'web1'])).status, 1)
  fs.rmSync(path.join(target.store, 'kedge-store.json'))
  assert.equal((await kedge(m, ['mount', 'web1'])).status, 10)
})

test('mount: the commands, and where there are none', async (t) => {
  const { m, target } = saved(t)
  const { lines } = await done(m, ['mount', 'web1', '/mnt', '--explain'])
  const folder = path.join(target.root, 'snapshots')
  assert.deepEqual(lines.slice(1), [`mount --bind ${folder} /mnt`, 'mount -o remount,bind,ro,nosuid,nodev /mnt', '# umount /mnt ends it'])
  assert.equal(bindCommands('/a', '/b').length, 2)
  assert.deepEqual(
    [noBind('linux', true), noBind('linux', false), noBind('openbsd', true)],
    [undefined, 'only root may', 'openbsd has no bind mounts'],
  )
})
