import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Stored } from '../../lib/engine/rsync/snapshots.ts'
import type { RunRow, StatusRow, Summary } from '../../lib/rows.ts'
import { done, fake, kedge, type Machine, machine, newRsyncTarget, type Rsync, rsyncs, start } from '../harness.ts'
import { hostDropped, type Made, made } from '../rsyncmade.ts'
import { smallFs } from '../smallfs.ts'
import { growTree, treeFacts } from '../tree.ts'

const latest = rsyncs().at(-1) as Rsync

/** What a file shares with other snapshots is no link of its tree. */
function sameTree(actual: string, expected: string): void {
  const alone = (tree: string) =>
    Object.fromEntries(Object.entries(treeFacts(tree)).map(([name, facts]) => [name, facts.replace(`, linked with ${name}`, '')]))
  assert.deepEqual(alone(actual), alone(expected))
}

async function backup(m: Machine, ...args: string[]): Promise<Summary> {
  const { rows } = await done(m, ['backup', 'web1', '--json', ...args])
  return rows[0] as Summary
}

const tree = (root: string, id: string, source: string): string => path.join(root, 'snapshots', id, 'tree', source)
const storedIn = (root: string, id: string): Stored =>
  JSON.parse(fs.readFileSync(path.join(root, 'snapshots', id, 'snapshot.json'), 'utf8'))
const manifest = (root: string, id: string): string => fs.readFileSync(path.join(root, 'snapshots', id, 'manifest'), 'latin1')
const below = (root: string, kind: string): string[] => (fs.existsSync(path.join(root, kind)) ? fs.readdirSync(path.join(root, kind)) : [])
const inode = (file: string): string => `${fs.lstatSync(file).dev}:${fs.lstatSync(file).ino}`
const warnings = async (m: Machine): Promise<readonly string[]> => {
  const { rows } = await done(m, ['history', 'web1', '--json'])
  return (rows[0] as RunRow).warnings ?? []
}

for (const rsync of rsyncs()) {
  test(`rsync ${rsync.version}: a tree comes out equal, and what did not change is one file in both snapshots`, async (t) => {
    const { m, root, source } = await made(t, {}, rsync)
    growTree(source)
    const first = await backup(m)
    sameTree(tree(root, first.snapshot, source), source)
    fs.writeFileSync(path.join(source, 'fresh'), 'fresh')
    const before = treeFacts(path.join(root, 'snapshots', first.snapshot))
    const second = await backup(m)
    sameTree(tree(root, second.snapshot, source), source)
    assert.deepEqual(treeFacts(path.join(root, 'snapshots', first.snapshot)), before)
    assert.equal(second.new, 1)
    assert.equal(second.changed, 0)
    assert.equal(second.added, 5)
    for (const name of fs.readdirSync(source)) {
      const [old, now] = [first, second].map(({ snapshot }) => path.join(tree(root, snapshot, source), name)) as [string, string]
      if (fs.lstatSync(now).isFile() && name !== 'fresh') assert.equal(inode(now), inode(old), name)
    }
    assert.equal(storedIn(root, second.snapshot).base, first.snapshot)
    assert.equal(fs.readlinkSync(path.join(root, 'latest')), `snapshots/${second.snapshot}`)
    const hashless = manifest(root, second.snapshot)
      .split('\n')
      .filter((line) => line.split('\t')[1] === 'f' && line.split('\t')[8] === '-')
    assert.deepEqual(hashless, [])
    assert.deepEqual(below(root, 'incomplete'), [])
  })

  test(`rsync ${rsync.version}: a mode that changed at the source changes in no older snapshot`, async (t) => {
    const { m, root, source } = await made(t, {}, rsync)
    fs.writeFileSync(path.join(source, 'f'), 'same', { mode: 0o644 })
    const first = await backup(m)
    fs.chmodSync(path.join(source, 'f'), 0o600)
    const second = await backup(m)
    assert.equal(fs.statSync(path.join(tree(root, first.snapshot, source), 'f')).mode & 0o777, 0o644)
    assert.equal(fs.statSync(path.join(tree(root, second.snapshot, source), 'f')).mode & 0o777, 0o600)
    assert.match(manifest(root, second.snapshot), /\/f\tf\t0600\t.*\t51037a4a37730f52c8732586d3aaa316\t-$/m)
  })

  test(`rsync ${rsync.version}: a change within the second that keeps the size is saved`, async (t) => {
    const { m, root, source } = await made(t, {}, rsync)
    const file = path.join(source, 'f')
    fs.writeFileSync(file, 'one')
    fs.utimesSync(file, 1000, 1000.25)
    await backup(m)
    fs.writeFileSync(file, 'two')
    fs.utimesSync(file, 1000, 1000.75)
    const { snapshot } = await backup(m)
    assert.equal(fs.readFileSync(path.join(tree(root, snapshot, source), 'f'), 'utf8'), 'two')
  })

  test(`rsync ${rsync.version}: a backup that was ended within a file goes on from there, and alters no older snapshot`, async (t) => {
    const log = path.join(fs.mkdtempSync(path.join(tmpdir(), 'kedge-')), 'log')
    t.after(() => fs.rmSync(path.dirname(log), { recursive: true }))
    const env = { LIMIT_UP: '20M', BACKUP_ARGS: `--log-file=${log} --log-file-format=%n:%b` }
    const { m, root, source } = await made(t, { env }, rsync)
    fs.writeFileSync(path.join(source, 'a'), 'a')
    const first = await backup(m)
    const before = treeFacts(path.join(root, 'snapshots', first.snapshot))
    const big = path.join(source, 'deep/er/big')
    fs.mkdirSync(path.dirname(big), { recursive: true })
    execFileSync('dd', ['if=/dev/urandom', `of=${big}`, 'bs=1M', 'count=40'], { stdio: 'ignore' })
    const run = start(m, ['backup', 'web1'])
    await waitFor(() => below(root, 'incomplete').length > 0 && sizeBelow(path.join(root, 'incomplete')) > 8 << 20)
    run.child.kill('SIGTERM')
    assert.equal((await run.result).status, 143)
    assert.deepEqual(below(root, 'snapshots'), [first.snapshot])
    const second = await backup(m)
    const sent = Number(/er\/big:(\d+)$/m.exec(fs.readFileSync(log, 'utf8'))?.[1])
    assert.ok(sent < 35 << 20, `${sent} bytes were sent again`)
    sameTree(tree(root, second.snapshot, source), source)
    assert.deepEqual(treeFacts(path.join(root, 'snapshots', first.snapshot)), before)
    assert.deepEqual([below(root, 'incomplete'), below(root, 'deleting')], [[], []])
    assert.deepEqual(storedIn(root, second.snapshot).bases, [first.snapshot])
    assert.match(fs.readFileSync(path.join(root, 'audit.ndjson'), 'utf8'), /taken up by/)
    const { snapshot } = await backup(m)
    assert.equal(
      inode(path.join(tree(root, snapshot, source), 'deep/er/big')),
      inode(path.join(tree(root, second.snapshot, source), 'deep/er/big')),
    )
  })
}

function sizeBelow(folder: string): number {
  const entries = fs.readdirSync(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter((each) => each.isFile())
    .reduce((sum, each) => sum + (fs.statSync(path.join(each.parentPath, each.name), { throwIfNoEntry: false })?.size ?? 0), 0)
}

async function waitFor(there: () => boolean): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    try {
      if (there()) return
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error // it changed while it was looked at
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  assert.fail('it did not come')
}

test('an ordinary user keeps owners, modes and devices in xattrs, and links as root does', async (t) => {
  if (process.geteuid?.() !== 0) return t.skip('only root can become another user')
  const m = machine(t, undefined, latest)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'f'), 'f', { mode: 0o644 })
  fs.chownSync(path.join(source, 'f'), 12, 34)
  fs.chmodSync(path.join(source, 'f'), 0o4755)
  execFileSync('mkfifo', [path.join(source, 'p')])
  fs.mkdirSync(path.join(source, 'closed'), { mode: 0o700 })
  const { root, store } = newRsyncTarget(m, 'web1', { paths: [source], env: { RESERVE: '0' } })
  execFileSync('chown', ['-R', '65534:65534', m.dir])
  for (const name of ['f', 'closed']) fs.chownSync(path.join(source, name), 12, 34)
  fs.chmodSync(path.join(source, 'f'), 0o4755)
  const uid = 65534
  await done(m, ['init', 'web1'], { uid })
  const first = await kedge(m, ['backup', 'web1', '--json'], { uid })
  assert.equal(first.status, 3, first.stderr)
  assert.match(first.stderr, new RegExp(`cannot read '${source}/closed': permission denied`))
  const [{ snapshot }] = first.rows as [Summary]
  const file = path.join(tree(root, snapshot, source), 'f')
  const xattr = execFileSync('getfattr', ['--only-values', '-n', 'user.rsync.%stat', file]).toString()
  assert.equal(xattr, '104755 0,0 12:34')
  assert.match(manifest(root, snapshot), /\/f\tf\t4755\t12\t34\t/)
  assert.match(manifest(root, snapshot), /\/p\tp\t/)
  assert.equal(storedIn(root, snapshot).fake, true)
  const second = await kedge(m, ['backup', 'web1', '--json'], { uid })
  assert.equal(second.status, 3, second.stderr)
  assert.equal(inode(path.join(tree(root, (second.rows[0] as Summary).snapshot, source), 'f')), inode(file))
  assert.ok(fs.existsSync(store))
})

test('one missing path of several is named, and the rest is saved', async (t) => {
  const { m, root, source, dir } = await made(t)
  fs.writeFileSync(path.join(source, 'f'), 'f')
  fs.writeFileSync(path.join(dir, 'paths'), `${source}\n${source}/none\n`)
  const result = await kedge(m, ['backup', 'web1', '--json'])
  assert.equal(result.status, 3)
  assert.match(result.stderr, /missing: '.*\/source\/none'/)
  const { snapshot, partial } = result.rows[0] as Summary
  assert.equal(partial, true)
  assert.deepEqual(storedIn(root, snapshot).tags, ['kedge:web1', 'kedge:partial'])
  fs.rmSync(source, { recursive: true })
  const gone = await kedge(m, ['backup', 'web1'])
  assert.equal(gone.status, 1)
  assert.match(gone.stderr, /all paths are missing/)
  assert.deepEqual(below(root, 'snapshots'), [snapshot])
})

test('a source in which nothing is gives a snapshot that is called partial', async (t) => {
  const { m } = await made(t)
  const result = await kedge(m, ['backup', 'web1', '--json'])
  assert.equal(result.status, 3)
  assert.match(result.stderr, /nothing was saved: 0 files/)
})

test('files that are saved again though they did not change make a snapshot suspect, and it is no base', async (t) => {
  const { m, root, source } = await made(t)
  for (let i = 0; i < 30; i++) fs.writeFileSync(path.join(source, `f${i}`), `content ${i}`)
  const first = await backup(m)
  for (let i = 0; i < 20; i++) fs.rmSync(path.join(tree(root, first.snapshot, source), `f${i}`))
  const second = await backup(m)
  assert.match(second.suspect ?? '', /^20 of 30 unchanged files were saved again, and not linked to /)
  assert.match((await warnings(m)).join(), /is suspect: 20 of 30/)
  const message = async () => ((await done(m, ['status', 'web1', '--json'])).rows as StatusRow[])[0]?.message
  assert.match((await message()) ?? '', /^snapshot \S+ is suspect: 20 of 30/)
  const third = await backup(m)
  assert.equal(storedIn(root, third.snapshot).base, first.snapshot)
  await done(m, ['accept', 'web1', third.snapshot])
  assert.equal(await message(), undefined)
})

test('a base without a tree makes the next snapshot suspect', async (t) => {
  const { m, root, source } = await made(t)
  fs.writeFileSync(path.join(source, 'f'), 'f')
  const first = await backup(m)
  fs.renameSync(path.join(root, 'snapshots', first.snapshot, 'tree'), path.join(root, 'elsewhere'))
  const second = await backup(m)
  assert.equal(second.suspect, `its base ${first.snapshot} has no tree: nothing can be linked to it`)
})

test('manual snapshots stand beside the chain: they link to it, and it does not link to them', async (t) => {
  const { m, root, source } = await made(t)
  fs.writeFileSync(path.join(source, 'f'), 'f')
  const first = await backup(m)
  const manual = await backup(m, '--manual')
  assert.equal(manual.manual, true)
  assert.deepEqual(storedIn(root, manual.snapshot).tags, ['kedge:web1', 'kedge:manual'])
  const next = await backup(m)
  assert.deepEqual(
    [manual, next].map(({ snapshot }) => storedIn(root, snapshot).base),
    [first.snapshot, first.snapshot],
  )
})

test('a list of names is saved, folders with what is in them, and stands apart', async (t) => {
  const { m, root, source } = await made(t)
  fs.mkdirSync(path.join(source, 'd'))
  for (const name of ['d/in', 'odd\nname', 'other']) fs.writeFileSync(path.join(source, name), name)
  const input = `${source}/d\0${source}/odd\nname\0`
  const { rows } = await done(m, ['backup', 'web1', '--files-from', '-', '-0', '--json'], { input })
  const { snapshot, files, subset } = rows[0] as Summary
  assert.deepEqual([files, subset], [2, true])
  assert.deepEqual(fs.readdirSync(tree(root, snapshot, source)).sort(), ['d', 'odd\nname'])
  assert.deepEqual(storedIn(root, snapshot).tags, ['kedge:web1', 'kedge:names'])
})

test('exclude files, caches and the store itself stay out; a tag without the signature is no cache', async (t) => {
  const { m, root, source } = await made(t, { exclude: ['*.o', '!keep.o'] })
  const signature = 'Signature: 8a477f597d28d172789f06886806bc55\n'
  for (const folder of ['cache', 'no-cache', 'c[1]*']) fs.mkdirSync(path.join(source, folder))
  for (const name of ['a.o', 'keep.o', 'cache/x', 'no-cache/x', 'c[1]*/x']) fs.writeFileSync(path.join(source, name), name)
  fs.writeFileSync(path.join(source, 'cache/CACHEDIR.TAG'), signature)
  fs.writeFileSync(path.join(source, 'c[1]*/CACHEDIR.TAG'), signature)
  fs.writeFileSync(path.join(source, 'no-cache/CACHEDIR.TAG'), 'no signature')
  fs.writeFileSync(path.join(m.config, 'targets/web1/paths'), `${m.dir}\n`)
  const { snapshot } = await backup(m)
  const saved = (name: string) => fs.existsSync(path.join(tree(root, snapshot, source), name))
  const table = {
    'a.o': false,
    'keep.o': true,
    'cache/x': false,
    'cache/CACHEDIR.TAG': true,
    'no-cache/x': true,
    'c[1]*/x': false,
    'c[1]*': true,
  }
  for (const [name, there] of Object.entries(table)) assert.equal(saved(name), there, name)
  assert.equal(fs.existsSync(path.join(root, 'snapshots', snapshot, 'tree', path.dirname(root))), false)
})

test('a stream is a snapshot of its own; one that fails, or writes nothing, leaves nothing, and the others are saved', async (t) => {
  const scripts = {
    'streams/a.sql': 'echo dump of $KEDGE_TARGET',
    'streams/b.sql': 'echo half; exit 7',
    'streams/c.sql': ':',
    'streams/d.sql': 'echo d',
  }
  const { m, root } = await made(t, { paths: [], scripts })
  const result = await kedge(m, ['backup', 'web1', '--json'])
  assert.equal(result.status, 1)
  assert.match(result.stderr, /2 streams failed: cannot save stream 'b\.sql': .* ended with status 7/)
  const rows = result.rows as Summary[]
  assert.deepEqual(
    rows.map(({ stream }) => stream),
    ['a.sql', 'd.sql'],
  )
  const [{ snapshot }] = rows as [Summary]
  assert.equal(fs.readFileSync(path.join(root, 'snapshots', snapshot, 'tree/a.sql'), 'utf8'), 'dump of web1\n')
  assert.match(manifest(root, snapshot), /^a\.sql\tf\t0600\t.*\t[0-9a-f]{32}\t-$/m)
  assert.equal(below(root, 'snapshots').length, 2)
  assert.deepEqual(below(root, 'incomplete'), [])
})

test('a store that is too full is not written to, and nothing is pruned to make room', async (t) => {
  const { m, root, source } = await made(t)
  fs.writeFileSync(path.join(source, 'f'), 'f')
  const { snapshot } = await backup(m)
  for (const RESERVE of ['900000T', '0 99999999999']) {
    newRsyncTarget(m, 'web1', { paths: [source], env: { RESERVE, STORE: path.dirname(root), STORE_ID: idOf(root) } })
    const result = await kedge(m, ['backup', 'web1'])
    assert.equal(result.status, 1)
    assert.match(result.stderr, /are free, and RESERVE wants/)
  }
  assert.deepEqual([below(root, 'snapshots'), below(root, 'incomplete')], [[snapshot], []])
})

const idOf = (root: string): string => JSON.parse(fs.readFileSync(path.join(path.dirname(root), 'kedge-store.json'), 'utf8')).id

test('a store that fills up keeps its snapshots, and what came serves the next backup', async (t) => {
  if (process.geteuid?.() !== 0) return t.skip('only root can mount')
  const small = await smallFs(t, { bytes: 24 << 20, inodes: 2000 })
  const { m, root, source } = await made(t, { env: { STORE: path.join(small.dir, 'store') } })
  fs.writeFileSync(path.join(source, 'a'), Buffer.alloc(4 << 20, 'a'))
  const first = await backup(m)
  const before = treeFacts(path.join(root, 'snapshots', first.snapshot))
  fs.writeFileSync(path.join(source, 'b'), Buffer.alloc(4 << 20, 'b'))
  fs.writeFileSync(path.join(source, 'c'), Buffer.alloc(30 << 20, 'c'))
  const full = await kedge(m, ['backup', 'web1'])
  assert.equal(full.status, 1)
  assert.match(full.stderr, /No space left on device/)
  assert.deepEqual(below(root, 'snapshots'), [first.snapshot])
  assert.equal(below(root, 'incomplete').length, 1)
  fs.rmSync(path.join(source, 'c'))
  const second = await backup(m)
  assert.equal(second.added, 4 << 20, 'b came before the disk was full, and is new to the snapshots')
  sameTree(tree(root, second.snapshot, source), source)
  assert.deepEqual(treeFacts(path.join(root, 'snapshots', first.snapshot)), before)
})

test('a backup by hand, as --explain prints it, gives the same tree', async (t) => {
  const { m, root, source } = await made(t, { exclude: ['*.o', "it's 100%", 'ä?'], scripts: { 'streams/a.sql': 'echo dump' } })
  for (const name of ['a', 'b.o', "it's 100%", 'äö', 'äöü']) fs.writeFileSync(path.join(source, name), name)
  const { snapshot } = await backup(m)
  const { stdout } = await done(m, ['backup', '--explain', 'web1'])
  execFileSync('/bin/sh', ['-e', '-c', stdout], { env: m.env, stdio: ['ignore', 'pipe', 'pipe'] })
  const [mine = '', stream = ''] = below(root, 'by-hand').sort()
  sameTree(path.join(root, 'by-hand', mine, 'tree', source), tree(root, snapshot, source))
  assert.deepEqual(fs.readdirSync(tree(root, snapshot, source)).sort(), ['a', 'äöü'])
  assert.equal(fs.readFileSync(path.join(root, 'by-hand', stream, 'tree/a.sql'), 'utf8'), 'dump\n')
})

test('a dry run tells what would come, and changes nothing; a store that is not ready is said', async (t) => {
  const { m, root, source } = await made(t)
  fs.writeFileSync(path.join(source, 'f'), 'four')
  await backup(m)
  fs.writeFileSync(path.join(source, 'g'), 'seventy')
  const before = treeFacts(path.dirname(root))
  const { rows } = await done(m, ['backup', '-n', 'web1', '--json'])
  const { files, bytes, added, snapshot, dryRun } = rows[0] as Summary
  assert.deepEqual([files, bytes, added, snapshot, dryRun], [2, 11, 7, '', true])
  assert.deepEqual(treeFacts(path.dirname(root)), before)
  fs.renameSync(path.dirname(root), `${path.dirname(root)}.away`)
  const away = await kedge(m, ['backup', '-n', 'web1', '--json'])
  assert.equal(away.status, 3)
  assert.match(away.stderr, /not ready: no store in/)
  assert.equal((away.rows[0] as Summary).added, 11)
})

test('another store in the place of the pinned one is not written to', async (t) => {
  const { m, root, source } = await made(t)
  fs.writeFileSync(path.join(source, 'f'), 'f')
  fs.writeFileSync(path.join(path.dirname(root), 'kedge-store.json'), '{"id":"0123456789abcdef"}')
  const result = await kedge(m, ['backup', 'web1'])
  assert.equal(result.status, 15)
  assert.deepEqual(below(root, 'snapshots'), [])
})

function farTarget(t: TestContext, ssh: string, env: Record<string, string> = {}): Promise<Made> {
  return made(t, { env: { SOURCE_HOST: 'web', ...env } }).then((it) => {
    fake(it.m.bin, 'ssh', `${hostDropped}\n${ssh}`)
    return it
  })
}

test('a pull brings names that a shell would read otherwise, and names what is missing there', async (t) => {
  const { m, root, source, dir } = await farTarget(t, 'exec sh -c "$*"')
  const odd = path.join(source, "it's $x * \\ y")
  fs.mkdirSync(odd)
  growTree(path.join(odd, 'tree'))
  fs.writeFileSync(path.join(dir, 'paths'), `${odd}\n${source}/none\n`)
  const result = await kedge(m, ['backup', 'web1', '--json'])
  assert.equal(result.status, 3, result.stderr)
  assert.match(result.stderr, /missing: '.*none'/)
  const [{ snapshot }] = result.rows as [Summary]
  sameTree(tree(root, snapshot, odd), odd)
  assert.equal(storedIn(root, snapshot).host, 'web')
  assert.match(storedIn(root, snapshot).tools.remote ?? '', /^rsync /)
  fs.writeFileSync(path.join(dir, 'paths'), `${source}/none\n`)
  const gone = await kedge(m, ['backup', 'web1'])
  assert.equal(gone.status, 1)
  assert.match(gone.stderr, /all paths are missing: '.*none'/)
  assert.deepEqual([below(root, 'snapshots'), below(root, 'incomplete')], [[snapshot], []])
})

test('a host that is this machine does not send the store to itself; a folder of that name on another host is saved', async (t) => {
  const { m, root, source, dir } = await farTarget(t, 'exec sh -c "$*"')
  fs.writeFileSync(path.join(source, 'f'), 'f')
  fs.writeFileSync(path.join(dir, 'paths'), `${m.dir}/stores\n${source}\n`)
  const store = path.dirname(root)
  const { snapshot } = await backup(m)
  assert.equal(fs.existsSync(tree(root, snapshot, store)), false)
  const elsewhere = `sed 's/"id"/"ID"/' ${store}/kedge-store.json > $HOME/kedge-store.json
case $* in *--sender*kedge-store.json) set -- "$(echo "$*" | sed "s|[^ ]*/kedge-store.json|$HOME/kedge-store.json|")" ;; esac`
  fake(m.bin, 'ssh', `${hostDropped}\n${elsewhere}\nexec sh -c "$*"`)
  const other = await backup(m)
  assert.equal(fs.existsSync(tree(root, other.snapshot, `${store}/kedge-store.json`)), true)
})

test('caches on another host stay out too', async (t) => {
  const { m, root, source } = await farTarget(t, 'exec sh -c "$*"')
  fs.mkdirSync(path.join(source, 'cache'))
  fs.writeFileSync(path.join(source, 'cache/CACHEDIR.TAG'), 'Signature: 8a477f597d28d172789f06886806bc55\n')
  fs.writeFileSync(path.join(source, 'cache/x'), 'x')
  const { snapshot } = await backup(m)
  assert.deepEqual(fs.readdirSync(path.join(tree(root, snapshot, source), 'cache')), ['CACHEDIR.TAG'])
})

test('a canary that is gone on the host stops the backup before anything is written', async (t) => {
  const { m, root, source } = await farTarget(t, 'exec sh -c "$*"')
  fs.writeFileSync(path.join(source, 'f'), 'f')
  fs.appendFileSync(path.join(m.config, 'targets/web1/target.env'), `CANARY='${source}/alive'\n`)
  const result = await kedge(m, ['backup', 'web1'])
  assert.equal(result.status, 1)
  assert.match(result.stderr, /the canary '.*alive' is gone/)
  assert.equal(fs.existsSync(path.join(root, 'incomplete')) && below(root, 'incomplete').length > 0, false)
  await done(m, ['backup', 'web1', '--force=canary'])
  fs.writeFileSync(path.join(source, 'alive'), '')
  await done(m, ['backup', 'web1'])
})

test('a link that is cut once is taken up again, and the snapshot is whole', async (t) => {
  const cut = `case $* in *--sender*/source*) if mkdir "$HOME/cut" 2>/dev/null; then sh -c "$*" | { dd bs=32k count=60 2>/dev/null; kill -KILL $$; }; fi ;; esac\nexec sh -c "$*"`
  const { m, root, source } = await farTarget(t, cut, { RETRIES: '1', EXCLUDE_CACHES: 'no' })
  fs.writeFileSync(path.join(source, 'a'), 'a')
  execFileSync('dd', ['if=/dev/urandom', `of=${source}/big`, 'bs=1M', 'count=8'], { stdio: 'ignore' })
  const result = await done(m, ['backup', 'web1', '--json'])
  assert.match(result.stderr, /again in 2 s \(1 of 1\)/)
  const { snapshot } = result.rows[0] as Summary
  sameTree(tree(root, snapshot, source), source)
  assert.deepEqual(below(root, 'incomplete'), [])
})

test('without retries a link that is cut is status 13, and nothing is published', async (t) => {
  const cut = `case $* in *--sender*/source*) sh -c "$*" | { dd bs=32k count=60 2>/dev/null; kill -KILL $$; } ;; esac\nexec sh -c "$*"`
  const { m, root, source } = await farTarget(t, cut, { RETRIES: '0', EXCLUDE_CACHES: 'no' })
  execFileSync('dd', ['if=/dev/urandom', `of=${source}/big`, 'bs=1M', 'count=8'], { stdio: 'ignore' })
  const result = await kedge(m, ['backup', 'web1'])
  assert.equal(result.status, 13, result.stderr)
  assert.deepEqual(below(root, 'snapshots'), [])
})

test('a base that was deleted by hand makes the next snapshot suspect, in the store too; the notes lost, it is still no base', async (t) => {
  const { m, root, source } = await made(t)
  fs.writeFileSync(path.join(source, 'f'), 'f')
  const first = await backup(m)
  const second = await backup(m)
  fs.rmSync(path.join(root, 'snapshots', second.snapshot), { recursive: true })
  const third = await backup(m)
  assert.match(third.suspect ?? '', new RegExp(`^the base is gone: ${second.snapshot} of the last good backup is not in the store`))
  assert.match((await warnings(m)).join(), /is suspect: the base is gone/)
  assert.equal(storedIn(root, third.snapshot).suspect, third.suspect)
  fs.rmSync(path.join(m.state, 'web1', 'marks.json'))
  const fourth = await backup(m)
  assert.deepEqual([fourth.suspect, storedIn(root, fourth.snapshot).base], [undefined, first.snapshot])
  await done(m, ['forget', 'web1', fourth.snapshot, '--force=newest'])
  assert.equal((await backup(m)).suspect, undefined)
})

test('a backup that shrank is suspect in the store before kedge has noted it, a stream too', async (t) => {
  const { m, root, source, dir } = await made(t, { env: { SHRINK_LIMIT: '50' } })
  const stream = (size: number) => fake(dir, 'streams/db', `head -c ${size} /dev/zero`)
  for (let i = 0; i < 3; i++) {
    fs.writeFileSync(path.join(source, 'f'), 'x'.repeat(100_000 + i))
    stream(100_000)
    await done(m, ['backup', 'web1'])
  }
  fs.writeFileSync(path.join(source, 'f'), 'tiny')
  stream(4)
  const { rows } = await done(m, ['backup', 'web1', '--json'])
  const small = rows.filter((row) => row.kind === 'summary')
  assert.equal(small.length, 2)
  for (const { snapshot, suspect } of small) {
    assert.match(suspect ?? '', /^it shrank: 4 B/)
    assert.equal(storedIn(root, snapshot).suspect, suspect)
  }
  fs.rmSync(path.join(m.state, 'web1'), { recursive: true })
  fs.appendFileSync(path.join(dir, 'target.env'), "KEEP_LAST='1'\n")
  const refused = await kedge(m, ['prune', 'web1'])
  assert.deepEqual([refused.status, refused.stderr.match(/is suspect: it shrank/g)?.length], [15, 2], refused.stderr)
})
