// A link in a base, where the source has a folder now: rsync looks behind it, and would link the new snapshot to what lies there.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Summary } from '../../lib/rows.ts'
import { dist, done, fake, kedge, machine, newRsyncTarget, type Rsync, rsyncs, sameTree, startProgram } from '../harness.ts'
import { plainSsh } from '../rsyncmade.ts'

const newest = rsyncs().at(-1) as Rsync
type Way = { name: string; rsync: Rsync; uid?: number; env?: Record<string, string> }
const ways: Way[] = [
  ...rsyncs().map((rsync) => ({ name: `rsync ${rsync.version}`, rsync })),
  { name: 'an ordinary user', rsync: newest, uid: 65534 },
  { name: 'pulled', rsync: newest, env: { SOURCE_HOST: 'web' } },
]

/** The folders of the snapshots of web1 in a store, the oldest first: of two in one second the ids do not tell. */
function snapshotsIn(store: string): string[] {
  const folder = path.join(store, 'web1/snapshots')
  const timeOf = (dir: string) => JSON.parse(fs.readFileSync(path.join(dir, 'snapshot.json'), 'utf8')).time as string
  const dirs = fs.readdirSync(folder).map((id) => path.join(folder, id))
  return dirs.sort((a, b) => (timeOf(a) < timeOf(b) ? -1 : 1))
}

/** Two snapshots, between which two links became folders: `current` led to the source, `out` led out of it. */
async function turned(t: TestContext, { rsync, uid, env = {} }: Way) {
  const m = machine(t, undefined, rsync)
  fake(m.bin, 'ssh', plainSsh)
  const [source, foreign] = [path.join(m.dir, 'source'), path.join(m.dir, 'foreign')]
  for (const folder of ['source/releases/5', 'source/after', 'source/before', 'foreign'])
    fs.mkdirSync(path.join(m.dir, folder), { recursive: true })
  fs.writeFileSync(path.join(source, 'releases/5/page'), 'version 5\n')
  fs.writeFileSync(path.join(source, 'releases/5/\u00fc\n\x01'), 'an odd name\n')
  fs.writeFileSync(path.join(source, 'after/same'), 'unchanged\n')
  fs.writeFileSync(path.join(foreign, 'secret'), 'not yours\n')
  const [current, out] = [path.join(source, 'current'), path.join(source, 'out')]
  fs.symlinkSync(path.join(source, 'releases/5'), current)
  fs.symlinkSync(foreign, out)
  const web1 = newRsyncTarget(m, 'web1', { paths: [source], env: { RESERVE: '0', ...env } })
  if (uid !== undefined) execFileSync('chown', ['-hR', `${uid}:${uid}`, m.dir])
  const as = uid === undefined ? {} : { uid }
  await done(m, ['init', 'web1'], as)
  await done(m, ['backup', 'web1'], as)
  fs.unlinkSync(current)
  execFileSync('cp', ['-a', path.join(source, 'releases/5'), current])
  // Other names of a file in it: before it and behind it in the order of names.
  for (const folder of ['before', 'after']) fs.linkSync(path.join(current, 'page'), path.join(source, folder, 'page'))
  fs.unlinkSync(out)
  fs.mkdirSync(out, { mode: 0o555 })
  fs.writeFileSync(path.join(out, 'secret'), 'it is mine\n'.slice(0, 10))
  const { atime, mtime } = fs.statSync(path.join(foreign, 'secret'))
  fs.utimesSync(path.join(out, 'secret'), atime, mtime)
  fs.utimesSync(path.join(foreign, 'secret'), atime, mtime)
  if (uid !== undefined) execFileSync('chown', ['-hR', `${uid}:${uid}`, source])
  return { m, web1, source, foreign, as }
}

/** Device and inode of each file below a folder. */
const inodes = (...folders: string[]): string[] =>
  execFileSync('find', [...folders, '-type', 'f', '-printf', '%D:%i\\n'])
    .toString()
    .trim()
    .split('\n')

for (const way of ways)
  test(`${way.name}: where a link became a folder nothing behind the link comes into the snapshot`, async (t) => {
    if (way.uid !== undefined && process.geteuid?.() !== 0) return t.skip('only root can become another user')
    const { m, web1, source, foreign, as } = await turned(t, way)
    const result = await done(m, ['backup', 'web1', '--json'], as)
    const tree = path.join(web1.root, 'latest/tree')
    const alien = new Set(inodes(source, foreign))
    assert.deepEqual(
      inodes(tree).filter((inode) => alien.has(inode)),
      [],
      'the snapshot shares no file with what is alive',
    )
    assert.equal(fs.readFileSync(path.join(tree, source, 'out/secret'), 'utf8'), 'it is mine')
    if (way.uid === undefined) sameTree(path.join(tree, source), source)
    const [first] = snapshotsIn(web1.store)
    const kept = path.join(first as string, 'tree', source, 'after/same')
    assert.equal(fs.statSync(path.join(tree, source, 'after/same')).ino, fs.statSync(kept).ino, 'the rest is linked all the same')
    assert.deepEqual(fs.readdirSync(path.join(web1.root, 'incomplete')), [])
    assert.equal(result.stderr, '')
    await done(m, ['check', 'web1', '--read-data'], as)
    await done(m, ['drill', 'web1'], as)
    const [next] = (await done(m, ['backup', 'web1', '--json'], as)).rows as { linked: number; files: number; added: number }[]
    assert.deepEqual([next?.added, next?.linked], [0, next?.files], 'the next one is linked to it')
  })

for (const rsync of rsyncs())
  test(`rsync ${rsync.version}: a copy holds nothing from behind a link either`, async (t) => {
    const { m, web1, source, foreign } = await turned(t, { name: 'copy', rsync })
    const off = newRsyncTarget(m, 'off', { env: { SNAPSHOTS_OF: 'web1' } })
    fs.appendFileSync(path.join(web1.dir, 'target.env'), 'COPY_TO=off\n')
    await done(m, ['init', 'off'])
    await done(m, ['copy', 'web1'])
    await done(m, ['backup', 'web1'])
    await done(m, ['copy', 'web1'])
    const [first, second] = snapshotsIn(off.store).map((dir) => path.join(dir, 'tree', source)) as [string, string]
    const [, original] = snapshotsIn(web1.store).map((dir) => path.join(dir, 'tree', source)) as [string, string]
    const alien = new Set(inodes(source, foreign, web1.store))
    assert.deepEqual(
      inodes(off.store).filter((inode) => alien.has(inode)),
      [],
    )
    sameTree(second, original)
    assert.equal(fs.statSync(`${second}/after/same`).ino, fs.statSync(`${first}/after/same`).ino)
    assert.deepEqual(fs.readdirSync(path.join(off.store, 'web1/incomplete')), [])
    await done(m, ['check', 'off', '--read-data'])
  })

test('folders that a list names are looked at as well', async (t) => {
  const { m, web1, source, foreign } = await turned(t, { name: 'names', rsync: newest })
  const list = path.join(m.dir, 'list')
  fs.writeFileSync(list, `${path.join(source, 'out')}\n`)
  const result = await kedge(m, ['backup', 'web1', '--files-from', list])
  assert.equal(result.status, 0, result.stderr)
  const [, second] = snapshotsIn(web1.store)
  const file = path.join(second as string, 'tree', source, 'out/secret')
  assert.equal(fs.readFileSync(file, 'utf8'), 'it is mine')
  assert.ok(!inodes(source, foreign).includes(inodes(file)[0] as string))
  assert.deepEqual(fs.readdirSync(path.join(web1.root, 'incomplete')), [])
})

/** What a run left that was killed dies within moments. */
const wait = '--wait=60s'

/** Ends the run with SIGKILL once rsync's child has ended, before kedge looks at what came: a fake rsync kills its parent's parent. */
function killedAfterTransfer(bin: string): void {
  const real = execFileSync('sh', ['-c', 'command -v rsync'], { encoding: 'utf8' }).trim()
  const watched = `case "$*" in *--out-format*) ;; *) exec ${real} "$@" ;; esac`
  fake(bin, 'rsync', `${watched}\n${real} "$@"\nkill -9 "$(ps -o ppid= -p $$ | tr -d ' ')"; sleep 9`)
}

test('what a killed run brought from behind a link comes into no later snapshot', async (t) => {
  const { m, web1, source, foreign } = await turned(t, { name: 'killed', rsync: newest })
  const current = path.join(source, 'current')
  killedAfterTransfer(m.bin)
  await kedge(m, ['backup', 'web1'])
  fs.rmSync(path.join(m.bin, 'rsync'))
  const [cut] = fs.readdirSync(path.join(web1.root, 'incomplete'))
  assert.ok(
    cut && fs.existsSync(path.join(web1.root, 'incomplete', cut, 'tree', source, 'current/page')),
    'it was killed behind the transfer',
  )
  // Another name outside of the folder, which is a link again.
  fs.rmSync(current, { recursive: true })
  fs.symlinkSync(path.join(source, 'releases/5'), current)
  await done(m, ['backup', 'web1', wait])
  const alien = new Set(inodes(source, foreign))
  assert.deepEqual(
    inodes(path.join(web1.root, 'latest/tree')).filter((inode) => alien.has(inode)),
    [],
  )
  assert.deepEqual(fs.readdirSync(path.join(web1.root, 'incomplete')), [])
  const audit = fs.readFileSync(path.join(web1.root, 'audit.ndjson'), 'utf8')
  assert.match(audit, /"action":"backup","reason":"unfinished, and not linked to by /)
  await done(m, ['check', 'web1', '--read-data'])
})

test('an unfinished tree whose base is gone is linked to by nobody', async (t) => {
  const { m, web1, source, foreign } = await turned(t, { name: 'gone', rsync: newest })
  killedAfterTransfer(m.bin)
  await kedge(m, ['backup', 'web1'])
  fs.rmSync(path.join(m.bin, 'rsync'))
  const [first] = fs.readdirSync(path.join(web1.root, 'snapshots'))
  await done(m, ['forget', 'web1', first as string, '--force=newest', wait])
  await done(m, ['backup', 'web1', wait])
  const alien = new Set(inodes(source, foreign))
  assert.deepEqual(
    inodes(path.join(web1.root, 'latest/tree')).filter((inode) => alien.has(inode)),
    [],
  )
  assert.equal(fs.readFileSync(path.join(web1.root, 'latest/tree', source, 'out/secret'), 'utf8'), 'it is mine')
})

test('while the last good snapshot has the link, and newer ones are partial, each run is linked to the newest', async (t) => {
  const { m, web1, source } = await turned(t, { name: 'partial', rsync: newest })
  fs.writeFileSync(path.join(web1.dir, 'paths'), `${source}\n${path.join(m.dir, 'none')}\n`)
  const rows = []
  for (let i = 0; i < 3; i++) {
    const result = await kedge(m, ['backup', 'web1', '--json', '-v'])
    assert.equal(result.status, 3, result.stderr)
    rows.push({ ...(result.rows[0] as Summary), transfers: result.stderr.match(/--out-format/g)?.length })
  }
  assert.deepEqual(
    rows.map(({ transfers, suspect }) => [transfers, suspect]),
    [
      [2, undefined],
      [1, undefined],
      [1, undefined],
    ],
  )
  assert.deepEqual(
    rows.slice(1).map(({ added, changed }) => [added, changed]),
    [
      [0, 0],
      [0, 0],
    ],
  )
})

for (const way of ['with a link that became a folder', 'after a run that was killed'])
  test(`files that were all rewritten make a snapshot suspect ${way} too`, async (t) => {
    const { m, source } = await turned(t, { name: way, rsync: newest })
    fs.rmSync(path.join(source, 'current'), { recursive: true })
    fs.symlinkSync(path.join(source, 'releases/5'), path.join(source, 'current'))
    const file = (i: number) => path.join(source, `file-${i}`)
    for (let i = 0; i < 300; i++) fs.writeFileSync(file(i), `${i}`)
    for (let i = 0; i < 6; i++) {
      fs.writeFileSync(file(0), `round ${i}`)
      await done(m, ['backup', 'web1'])
    }
    for (let i = 0; i < 290; i++) fs.writeFileSync(file(i), `encrypted ${i}`)
    if (way.startsWith('with')) {
      fs.rmSync(path.join(source, 'current'))
      fs.mkdirSync(path.join(source, 'current'))
    } else {
      killedAfterTransfer(m.bin)
      await kedge(m, ['backup', 'web1'])
      fs.rmSync(path.join(m.bin, 'rsync'))
    }
    const result = await kedge(m, ['backup', 'web1', '--json', wait])
    const [summary] = result.rows as Summary[]
    assert.ok((summary?.changed ?? 0) >= 290, JSON.stringify(summary))
    assert.match(`${summary?.suspect}`, /changed/)
  })

test('a source in which links become folders in every run is given up after some, and leaves nothing from behind them', async (t) => {
  const { m, web1, source, foreign } = await turned(t, { name: 'unsteady', rsync: newest })
  const real = execFileSync('sh', ['-c', 'command -v rsync'], { encoding: 'utf8' }).trim()
  for (let i = 1; i < 6; i++) fs.symlinkSync(foreign, path.join(source, `link-${i}`))
  await done(m, ['backup', 'web1'])
  const turn = `n=$(($(cat '${m.dir}/n') + 1)); echo $n > '${m.dir}/n'; rm '${source}'/link-$n; cp -a '${foreign}' '${source}'/link-$n`
  fs.writeFileSync(path.join(m.dir, 'n'), '0\n')
  fake(m.bin, 'rsync', `case "$*" in *--out-format*) ${turn} ;; esac\nexec ${real} "$@"`)
  const result = await kedge(m, ['backup', 'web1'])
  assert.equal(result.status, 1, result.stderr)
  assert.match(result.stderr, /cannot back up 'web1': at each of 4 looks folders were links before, as '.*link-4'/)
  const alien = new Set(inodes(source, foreign))
  assert.deepEqual(
    inodes(web1.store).filter((inode) => alien.has(inode)),
    [],
  )
  fs.rmSync(path.join(m.bin, 'rsync'))
  await done(m, ['backup', 'web1'])
  sameTree(path.join(web1.root, 'latest/tree', source), source)
  assert.deepEqual(fs.readdirSync(path.join(web1.root, 'incomplete')), [])
})

test('two names of one file that became two files are two in the snapshot, also where another name leads than before', async (t) => {
  const { m, web1, source } = await turned(t, { name: 'joined', rsync: newest })
  await done(m, ['backup', 'web1'])
  const at = (name: string) => path.join(source, name)
  fs.writeFileSync(at('one'), 'one file\n')
  for (const name of ['two', 'three', 'four']) fs.linkSync(at('one'), at(name))
  fs.writeFileSync(at('a'), 'another\n')
  fs.linkSync(at('a'), at('before/a'))
  await done(m, ['backup', 'web1'])
  for (const name of ['two', 'three']) {
    execFileSync('cp', ['-a', at(name), at('copy')])
    fs.renameSync(at('copy'), at(name))
  }
  const [summary] = (await done(m, ['backup', 'web1', '--json'])).rows as Summary[]
  assert.equal(summary?.suspect, undefined)
  const tree = path.join(web1.root, 'latest/tree')
  sameTree(path.join(tree, source), source)
  assert.equal(new Set(['one', 'two', 'three'].map((name) => fs.statSync(path.join(tree, at(name))).ino)).size, 3)
  assert.equal(fs.statSync(path.join(tree, at('one'))).ino, fs.statSync(path.join(tree, at('four'))).ino)
  await done(m, ['check', 'web1', '--read-data'])
  const [next] = (await done(m, ['backup', 'web1', '--json', '-v'])).rows as Summary[]
  assert.deepEqual([next?.added, next?.changed], [0, 0])
})

test('a source that lost its fractions of a second is saved once more, and the next snapshot is linked to that', async (t) => {
  const { m, source } = await turned(t, { name: 'fractions', rsync: newest })
  for (let i = 0; i < 30; i++) {
    fs.writeFileSync(path.join(source, `file-${i}`), `${i}`)
    execFileSync('touch', ['-d', '2026-11-20T10:00:00.7Z', path.join(source, `file-${i}`)])
  }
  await done(m, ['backup', 'web1'])
  for (let i = 0; i < 30; i++) execFileSync('touch', ['-d', '2026-11-20T10:00:00Z', path.join(source, `file-${i}`)])
  const sums = []
  for (let i = 0; i < 2; i++) sums.push((await done(m, ['backup', 'web1', '--json'])).rows[0] as Summary)
  assert.deepEqual(
    sums.map(({ suspect }) => suspect),
    [undefined, undefined],
  )
  assert.ok((sums[0]?.added ?? 0) > 0)
  assert.equal(sums[1]?.added, 0)
})

/** Two stores that have the first snapshot; the second one, where the links are folders, lies in the first store. */
async function toCopy(t: TestContext, rsync: Rsync) {
  const all = await turned(t, { name: 'copy', rsync })
  const { m, web1, source, foreign } = all
  const off = newRsyncTarget(m, 'off', { env: { SNAPSHOTS_OF: 'web1' } })
  fs.appendFileSync(path.join(web1.dir, 'target.env'), 'COPY_TO=off\n')
  await done(m, ['init', 'off'])
  await done(m, ['copy', 'web1'])
  await done(m, ['backup', 'web1'])
  /** Looked up each time: the number of a file that is gone may be given to another. */
  const aliens = () => {
    const alien = new Set(inodes(source, foreign, path.join(web1.root, 'snapshots')))
    return inodes(path.join(off.store, 'web1')).filter((inode) => alien.has(inode))
  }
  return { ...all, off, aliens }
}

for (const rsync of rsyncs())
  test(`rsync ${rsync.version}: a copy that was killed after its first transfer holds nothing from behind a link`, async (t) => {
    const { m, web1, off, source, aliens } = await toCopy(t, rsync)
    // As rsync ends, kedge dies, of which nobody hears.
    const pid = path.join(m.dir, 'pid')
    const real = rsync.path
    const script = `case "$*" in *out-format*) ;; *) exec ${real} "$@" ;; esac\n${real} "$@"\nkill -9 "$(cat ${pid})"`
    fake(m.bin, 'rsync', script)
    const program = `echo $$ > ${pid}; exec "$@"`
    const killed = await startProgram(m, '/bin/sh', ['-c', program, 'sh', process.execPath, path.join(dist, 'kedge.cjs'), 'copy', 'web1'])
      .result
    assert.notEqual(killed.status, 0)
    fs.rmSync(path.join(m.bin, 'rsync'))
    const [cut] = fs.readdirSync(path.join(off.store, 'web1/incomplete'))
    const begun = path.join(off.store, 'web1/incomplete', cut as string, 'tree', source)
    assert.ok(fs.existsSync(path.join(begun, 'after/same')))
    assert.deepEqual([fs.existsSync(path.join(begun, 'current')), fs.existsSync(path.join(begun, 'out'))], [false, false])
    assert.deepEqual(aliens(), [])
    // With the older copies gone nobody could tell any more that it was a link.
    const [first, second] = snapshotsIn(web1.store).map((dir) => path.basename(dir)) as [string, string]
    await done(m, ['forget', 'web1', first, '--wait=30']) // the dead run's processes end
    await done(m, ['forget', 'off', first, '--force=newest'])
    await done(m, ['copy', 'web1'])
    assert.deepEqual(aliens(), [])
    sameTree(path.join(off.store, 'web1/snapshots', second, 'tree', source), path.join(web1.root, 'snapshots', second, 'tree', source))
    assert.deepEqual(fs.readdirSync(path.join(off.store, 'web1/incomplete')), [])
    await done(m, ['check', 'off', '--read-data'])
  })

/** Names that rsync, sh or printf would read more into. */
const odd = ['*', '[x]', 'a\\b', 'a?b', ' blank ', "it's", '%s', '-n', 'line\nfeed', '\u00fc', '@NEW@', '$x']

test('folders of any name that were links', async (t) => {
  const { m, web1, source, foreign, off, aliens } = await toCopy(t, newest)
  for (const name of odd) fs.symlinkSync(foreign, path.join(source, name))
  fs.mkdirSync(path.join(source, 'axb'))
  fs.symlinkSync(foreign, Buffer.concat([Buffer.from(`${source}/`), Buffer.from('fffe', 'hex')]))
  await done(m, ['backup', 'web1'])
  await done(m, ['copy', 'web1'])
  const { atime, mtime } = fs.statSync(path.join(foreign, 'secret'))
  for (const name of fs.readdirSync(source, { encoding: 'buffer' })) {
    const at = Buffer.concat([Buffer.from(`${source}/`), name])
    if (!fs.lstatSync(at).isSymbolicLink()) continue
    fs.unlinkSync(at)
    fs.mkdirSync(at)
    const copy = Buffer.concat([at, Buffer.from('/secret')])
    fs.copyFileSync(path.join(foreign, 'secret'), copy)
    fs.utimesSync(copy, atime, mtime)
  }
  await done(m, ['backup', 'web1'])
  await done(m, ['copy', 'web1'])
  assert.deepEqual(aliens(), [])
  const trees = [off, web1].map(({ store }) => path.join(snapshotsIn(store).at(-1) as string, 'tree', source))
  sameTree(trees[0] as string, trees[1] as string)
  await done(m, ['check', 'off', '--read-data'])
})

test('what --explain prints publishes nothing where a link became a folder, and names it', async (t) => {
  const { m, web1, source, foreign } = await turned(t, { name: 'by hand', rsync: newest })
  // No folder in the new tree: what a link leads to.
  fs.mkdirSync(path.join(foreign, 'inner'))
  fs.mkdirSync(path.join(source, 'turned'))
  fs.symlinkSync(foreign, path.join(source, 'turned/inner'))
  fs.symlinkSync(foreign, path.join(source, "it's\n$x"))
  await done(m, ['backup', 'web1'])
  fs.rmSync(path.join(source, 'turned'), { recursive: true })
  fs.symlinkSync(foreign, path.join(source, 'turned'))
  const byHand = () => path.join(web1.root, 'by-hand')
  const run = async (shell: string) => {
    const { stdout } = await done(m, ['backup', 'web1', '--explain'])
    return startProgram(m, shell, ['-e'], { input: stdout }).result
  }
  // To the newest snapshot, and to the one before it, in which they are links.
  const good = await run('/bin/sh')
  assert.equal(good.status, 0, good.stderr)
  assert.equal(fs.readdirSync(byHand()).length, 1)
  fs.unlinkSync(path.join(source, "it's\n$x"))
  fs.mkdirSync(path.join(source, "it's\n$x"))
  for (const shell of ['dash', 'mksh', 'bash'].filter((name) => execFileSync('sh', ['-c', `command -v ${name} || :`]).length > 0)) {
    await sleep(1100) // its folder is named by the second
    const bad = await run(shell)
    assert.notEqual(bad.status, 0, shell)
    assert.match(bad.stderr, /^\.\/.*\/it's\n\$x is a folder now, and a link in \/.*\/tree$/m)
    assert.doesNotMatch(bad.stderr, /turned/)
    assert.equal(fs.readdirSync(byHand()).length, 1, shell)
  }
  // What was begun is no base of kedge's own backup.
  await done(m, ['backup', 'web1'])
  const alien = new Set(inodes(source, foreign))
  assert.deepEqual(
    inodes(path.join(web1.root, 'latest/tree')).filter((inode) => alien.has(inode)),
    [],
  )
})
