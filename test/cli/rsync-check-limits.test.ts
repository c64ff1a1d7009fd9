// check of an rsync store where it knows less than all: files without hashes, owners in xattrs, entries that cannot be read, odd times.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { refusalOf, wordsOf } from '../../lib/engine/rsync/refusal.ts'
import { receivedByUser } from '../fakesuper.ts'
import { makeSnapshot, makeStore, storeId, writeManifest } from '../handmade.ts'
import { done, kedge, type Machine, machine, type NewRsyncTarget, newRsyncTarget, rsyncs } from '../harness.ts'

const [first, second] = ['2026-01-01T020000Z', '2026-01-02T020000Z'] as const
const onlyRoot = { skip: process.getuid?.() !== 0 && 'only root can become another user' }

type House = { m: Machine; target: NewRsyncTarget; source: string; dir: (id: string, name?: string) => string }

/** Two snapshots; `a/x`, `b` and `same` are one inode in both, `b` has two names. */
function house(t: TestContext): House {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(path.join(source, 'a'), { recursive: true })
  for (const name of ['a/x', 'b', 'changes', 'same']) fs.writeFileSync(path.join(source, name), `content of ${name}`)
  fs.linkSync(path.join(source, 'b'), path.join(source, 'b-too'))
  const target = newRsyncTarget(m, 'web1', { env: { STORE_ID: storeId }, paths: [source] })
  makeStore(target)
  makeSnapshot(target, source, first)
  fs.writeFileSync(path.join(source, 'changes'), 'changed')
  makeSnapshot(target, source, second, { base: first })
  return { m, target, source, dir: (id, name = '.') => path.join(target.root, 'snapshots', id, name) }
}

/** Changes the bytes of a file and nothing else that can be seen. */
function flip(file: string): void {
  const { atime, mtime } = fs.statSync(file)
  const bytes = fs.readFileSync(file)
  bytes.writeUInt8(bytes.readUInt8(0) ^ 1, 0)
  fs.writeFileSync(file, bytes)
  fs.utimesSync(file, atime, mtime)
}

/** Takes the hashes out of a manifest, as that of a tree that was taken in has none. Gives the text. */
function bare(file: string): string {
  const text = fs.readFileSync(file, 'latin1').replace(/\t[0-9a-f]{32}\t/g, '\t-\t')
  fs.writeFileSync(file, text, 'latin1')
  return text
}

const faultsIn = (stderr: string): string[] => stderr.split('\n').filter((line) => line.startsWith('snapshot '))

test('files without a hash are told, and no row says that their content was verified', async (t) => {
  const { m, dir } = house(t)
  for (const id of [first, second]) bare(dir(id, 'manifest'))
  const { stderr, rows } = await done(m, ['check', 'web1', '--json'])
  assert.match(stderr, /10 files have no hash: their content is not compared: kedge check --read-data writes it down/)
  const [row] = rows
  assert.ok(row?.kind === 'checked' && row.unhashed === 10 && row.verified === 0, JSON.stringify(row))
})

test('--read-data writes down the hashes that are missing, beside a manifest that stays as it is, and compares with them from then on', async (t) => {
  const { m, dir } = house(t)
  const manifests = [first, second].map((id) => bare(dir(id, 'manifest')))
  const written = await done(m, ['check', 'web1', '--read-data', '--json'])
  assert.match(written.stderr, /10 files have no hash: it is written down now/)
  const [row] = written.rows
  assert.ok(row?.kind === 'checked' && row.read === 'all' && row.verified === 0 && row.unhashed === 10, JSON.stringify(row))
  for (const [i, id] of [first, second].entries()) {
    assert.equal(fs.readFileSync(dir(id, 'manifest'), 'latin1'), manifests[i])
    const hashes = execFileSync('sh', ['-c', 'md5sum a/x b b-too changes same | sed "s/\\(.*\\)  \\(.*\\)/\\2\t\\1/"'], {
      cwd: dir(id, 'tree'),
    })
    assert.equal(fs.readFileSync(dir(id, 'hashes'), 'utf8'), hashes.toString())
    assert.deepEqual(fs.readdirSync(dir(id)).sort(), ['hashes', 'manifest', 'snapshot.json', 'tree'])
  }
  const [again] = (await done(m, ['check', 'web1', '--read-data', '--json'])).rows
  assert.ok(again?.kind === 'checked' && again.verified === 1 && again.unhashed === undefined, JSON.stringify(again))
  const to = path.join(m.dir, 'whole')
  const restored = await done(m, ['restore', 'web1', '--to', to, '--verify'])
  assert.doesNotMatch(restored.stderr, /no known hash/)
  flip(dir(second, 'tree/changes'))
  const rotten = await kedge(m, ['check', 'web1', '--read-data'])
  assert.equal(rotten.status, 14)
  assert.match(faultsIn(rotten.stderr).join('\n'), new RegExp(`^snapshot ${second}: /changes: its content changed`))
  const verified = await kedge(m, ['restore', 'web1', '--to', path.join(m.dir, 'rotten'), '--verify'])
  assert.equal(verified.status, 14, verified.stderr)
  assert.match(verified.stderr, /changes': its content is not what was saved/)
  const drilled = await kedge(m, ['drill', 'web1'])
  assert.equal(drilled.status, 14, drilled.stderr)
})

test('where hashes cannot be written down that is said', onlyRoot, async (t) => {
  const { m, dir } = house(t)
  execFileSync('chown', ['-hR', '65534:65534', m.dir])
  for (const id of [first, second]) {
    bare(dir(id, 'manifest'))
    fs.chownSync(dir(id, '.'), 0, 0)
    fs.chmodSync(dir(id, '.'), 0o755)
  }
  const { stderr } = await kedge(m, ['check', 'web1', '--read-data'], { uid: 65534 })
  assert.ok(
    stderr.includes(
      `10 files have no hash: their content is not compared: they cannot be written to '${path.join(dir(first))}': permission denied`,
    ),
    stderr,
  )
})

test('a hash that was taken out of one manifest does not hide what another one knows of the same file', async (t) => {
  const { m, dir } = house(t)
  bare(dir(second, 'manifest'))
  flip(dir(first, 'tree/same'))
  const { status, stderr } = await kedge(m, ['check', 'web1', '--read-data'])
  assert.equal(status, 14, stderr)
  assert.match(stderr, new RegExp(`^snapshot ${first}: /same: its content changed`, 'm'))
  assert.match(
    (await kedge(m, ['check', 'web1', '--read-data'])).stderr,
    new RegExp(`/same: its content changed.*; the same file in ${second}`),
  )
})

test('the next backup takes over the hashes that a check wrote down', async (t) => {
  const { m, target, source } = house(t)
  fs.rmSync(target.store, { recursive: true })
  newRsyncTarget(m, 'web1', { paths: [source] })
  await done(m, ['init', 'web1'])
  await done(m, ['backup', 'web1'])
  const manifest = path.join(target.root, 'latest', 'manifest')
  bare(manifest)
  await done(m, ['check', 'web1', '--read-data'])
  fs.writeFileSync(path.join(source, 'new'), 'new')
  await done(m, ['backup', 'web1'])
  const text = fs.readFileSync(manifest, 'latin1')
  assert.match(text, /same\tf\t.*\t=\t[0-9a-f]{32}\t-$/m)
  assert.doesNotMatch(text, /\tf\t.*\t-\t[^\t]*$/m)
})

test('hashes that were written down and are no such file any more are damage', async (t) => {
  const { m, dir } = house(t)
  bare(dir(first, 'manifest'))
  await done(m, ['check', 'web1', '--read-data'])
  const text = fs.readFileSync(dir(first, 'hashes'), 'latin1')
  for (const [broken, why] of [
    [text.slice(0, -5), 'its last line is cut off'],
    [text.split('\n').reverse().slice(1).concat('').join('\n'), 'it is not sorted'],
    ['x\ty\n', "not a line of hashes: 'x\ty'"],
  ] as const) {
    fs.writeFileSync(dir(first, 'hashes'), broken)
    const { status, stderr } = await kedge(m, ['check', 'web1'])
    assert.equal(status, 14, why)
    assert.ok(stderr.includes(`cannot read '${dir(first, 'hashes')}': ${why}`), stderr)
  }
})

test(
  'owners, set-id bits and kinds that lie in xattrs are compared, and a file that its owner cannot read is told',
  onlyRoot,
  async (t) => {
    const m = machine(t)
    const source = path.join(m.dir, 'source')
    fs.mkdirSync(path.join(source, 'folder'), { recursive: true })
    for (const name of ['owned', 'setuid', 'shut', 'plain', 'folder/x']) fs.writeFileSync(path.join(source, name), name)
    fs.chownSync(path.join(source, 'owned'), 7, 8)
    fs.chmodSync(path.join(source, 'setuid'), 0o4755)
    fs.symlinkSync('owned', path.join(source, 'link'))
    execFileSync('mkfifo', [path.join(source, 'fifo')])
    const target = newRsyncTarget(m, 'web1', { env: { STORE_ID: storeId }, paths: [source] })
    makeStore(target)
    const dir = makeSnapshot(target, source, first, { fake: true })
    const [rsync] = rsyncs().slice(-1)
    assert.ok(rsync)
    receivedByUser(m, { snapshot: dir, rsync })
    assert.doesNotMatch((await done(m, ['check', 'web1', '--read-data'])).stderr, /snapshot/)
    const tree = (name: string) => path.join(dir, 'tree', name)
    assert.ok(fs.statSync(tree('fifo')).isFile(), 'a FIFO is a plain file there')
    for (const name of ['owned', 'setuid', 'fifo', 'link']) execFileSync('setfattr', ['-x', 'user.rsync.%stat', tree(name)])
    fs.chmodSync(tree('shut'), 0)
    const { status, stderr } = await kedge(m, ['check', 'web1'])
    assert.equal(status, 14, stderr)
    const told = faultsIn(stderr).join('\n')
    const there = 'by its xattr, in which rsync --fake-super keeps it,'
    for (const fault of [
      `/owned: ${there} its owner is 65534:65534, was 7:8`,
      `/setuid: ${there} its mode is 0755, was 4755`,
      `/fifo: ${there} it is a file, was a fifo`,
      `/link: ${there} it is a file, was a symlink`,
      '/shut: its mode in the store is 0000: its owner cannot read it',
    ])
      assert.ok(told.includes(fault), `${fault}\n${told}`)
    assert.doesNotMatch(told, /\/(plain|folder)/)
  },
)

test('what only another user may read is named, the rest is checked, and other damage counts for more', onlyRoot, async (t) => {
  const { m, dir } = house(t)
  execFileSync('chown', ['-hR', '65534:65534', m.dir])
  fs.chownSync(dir(second, 'tree/changes'), 0, 0)
  fs.chmodSync(dir(second, 'tree/changes'), 0)
  for (const id of [first, second]) writeManifest(dir(id, 'tree'), dir(id, 'manifest'))
  execFileSync('chown', ['-h', '65534:65534', dir(first, 'manifest'), dir(second, 'manifest')])
  const run = (...options: string[]) => kedge(m, ['check', 'web1', ...options], { uid: 65534 })
  const file = await run('--read-data')
  assert.equal(file.status, 1, file.stderr)
  assert.match(file.stderr, new RegExp(`^snapshot ${second}: /changes: cannot be read: permission denied$`, 'm'))
  assert.match(file.stderr, /cannot check store '.*': 1 entry cannot be read/)
  const { atime, mtime } = fs.statSync(dir(first, 'tree'))
  fs.chownSync(dir(first, 'tree/a'), 0, 0)
  fs.chmodSync(dir(first, 'tree/a'), 0o700)
  writeManifest(dir(first, 'tree'), dir(first, 'manifest'))
  execFileSync('chown', ['-h', '65534:65534', dir(first, 'manifest')])
  fs.utimesSync(dir(first, 'tree'), atime, mtime)
  const folder = await run()
  assert.equal(folder.status, 1, folder.stderr)
  assert.match(folder.stderr, new RegExp(`^snapshot ${first}: /a: cannot be read: permission denied$`, 'm'))
  assert.doesNotMatch(folder.stderr, /missing/)
  flip(dir(second, 'tree/same'))
  const damage = await run('--read-data')
  assert.equal(damage.status, 14, damage.stderr)
  assert.match(damage.stderr, /\/same: its content changed/)
})

test('what the system says of an entry is damage where the disk is meant, and permission where the user is', () => {
  const cases: [code: string, damaged: ReturnType<typeof refusalOf>][] = [
    ['EIO', 'damaged'],
    ['Unknown system error -117', 'damaged'],
    ['Unknown system error -74', 'damaged'],
    ['EACCES', 'permission'],
    ['EPERM', 'permission'],
    ['ENOENT', undefined],
    ['ESTALE', undefined],
  ]
  for (const [code, kind] of cases) assert.equal(refusalOf(Object.assign(new Error(code), { code })), kind, code)
  assert.equal(refusalOf(undefined), undefined)
  assert.equal(wordsOf(Object.assign(new Error("EIO: i/o error, open '/x, y'"), { code: 'EIO' })), 'i/o error')
})

test('times before the year 1000 and beyond what JavaScript counts are saved, listed, found, checked, restored and drilled', async (t) => {
  const shm = '/dev/shm'
  if (!fs.existsSync(shm)) return t.skip('no file system with such times')
  const m = machine(t)
  const place = fs.mkdtempSync(path.join(shm, 'kedge-test-'))
  t.after(() => fs.rmSync(place, { recursive: true }))
  const source = path.join(place, 'source')
  fs.mkdirSync(source)
  const times = { old: -36_000_000_000, 'before christ': -99_999_999_999, far: 9_999_999_999_999, usual: 1_700_000_000 }
  for (const [name, time] of Object.entries(times)) {
    fs.writeFileSync(path.join(source, name), name)
    execFileSync('touch', ['-d', `@${time}`, path.join(source, name)])
  }
  const target = newRsyncTarget(m, 'web1', { env: { STORE: path.join(place, 'store') }, paths: [source] })
  await done(m, ['init', 'web1'])
  await done(m, ['backup', 'web1'])
  const manifest = fs.readFileSync(path.join(target.root, 'latest', 'manifest'), 'latin1')
  for (const [name, time] of Object.entries(times))
    assert.ok(manifest.includes(`/${name}\tf\t0644\t0\t0\t${name.length}\t${time}\t`), manifest)
  const listed = (await done(m, ['files', 'web1', '--json'])).rows.flatMap((row) =>
    row.kind === 'entry' && row.type === 'file' ? row.mtime : [],
  )
  assert.deepEqual(listed, ['0000-01-01T00:00:00.000Z', '9999-12-31T23:59:59.000Z', '0829-03-16T08:00:00.000Z', '2023-11-14T22:13:20.000Z'])
  for (const words of [
    ['find', 'web1', 'far'],
    ['check', 'web1', '--read-data'],
    ['drill', 'web1', '--scratch', place],
    ['diff', 'web1', '--live'],
    ['backup', 'web1'],
  ])
    await done(m, words)
  const to = path.join(place, 'restored')
  await done(m, ['restore', 'web1', '--to', to, '--verify'])
  for (const [name, time] of Object.entries(times))
    assert.equal(fs.lstatSync(path.join(to, source, name), { bigint: true }).mtimeNs, BigInt(time) * 1_000_000_000n)
  for (const name of ['far', 'old']) fs.utimesSync(path.join(target.root, 'latest', 'tree', source, name), 0, 0)
  const { status, stderr } = await kedge(m, ['check', 'web1'])
  assert.equal(status, 14)
  assert.match(stderr, /far: its time is 1970-01-01T00:00:00Z, was 9999-12-31T23:59:59Z/)
})

test('a name with a line feed is one line of a message', async (t) => {
  const { m, target, source, dir } = house(t)
  const name = 'line\nfeed'
  fs.writeFileSync(path.join(source, name), 'x')
  const third = '2026-01-03T020000Z'
  makeSnapshot(target, source, third, { base: second })
  fs.chmodSync(dir(third, `tree/${name}`), 0o4711)
  flip(dir(third, `tree/${name}`))
  const { stderr } = await kedge(m, ['check', 'web1', '--read-data'])
  assert.match(stderr, /: \/line\\nfeed: its mode is 4711, was 0644$/m)
  assert.match(stderr, /: \/line\\nfeed: its content changed/)
  assert.doesNotMatch(stderr, /^feed/m)
})

test('a restore by hand of nothing but names with control characters has nothing to compare, and does not fail for it', async (t) => {
  const { m, target, source } = house(t)
  for (const name of fs.readdirSync(source)) fs.rmSync(path.join(source, name), { recursive: true })
  fs.writeFileSync(path.join(source, 'tab\there'), 'x')
  makeSnapshot(target, source, '2026-01-03T020000Z')
  const to = path.join(m.dir, 'to')
  const sh = (script: string) => execFileSync('/bin/sh', ['-ec', script], { encoding: 'utf8', stdio: 'pipe', env: m.env })
  for (const options of [[], ['--include', '*']]) {
    const { stdout } = await done(m, ['restore', 'web1', '--to', to, '--verify', '--explain', ...options])
    sh(stdout)
    assert.equal(fs.readFileSync(path.join(to, 'tab\there'), 'utf8'), 'x')
    fs.rmSync(to, { recursive: true })
  }
  fs.rmSync(path.join(target.root, 'snapshots', first), { recursive: true })
  fs.rmSync(path.join(target.root, 'snapshots', second), { recursive: true })
  sh((await done(m, ['check', 'web1', '--read-data', '--explain'])).stdout)
})
