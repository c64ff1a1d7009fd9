// A link in a base, where the source has a folder now: rsync looks behind it, and would link the new snapshot to what lies there.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { done, fake, kedge, machine, newRsyncTarget, type Rsync, rsyncs, sameTree } from '../harness.ts'

const newest = rsyncs().at(-1) as Rsync
type Way = { name: string; rsync: Rsync; uid?: number; env?: Record<string, string> }
const ways: Way[] = [
  ...rsyncs().map((rsync) => ({ name: `rsync ${rsync.version}`, rsync })),
  { name: 'an ordinary user', rsync: newest, uid: 65534 },
  { name: 'pulled', rsync: newest, env: { SOURCE_HOST: 'web' } },
]

/** An ssh that drops the host and runs the rest here; the shared connection only has to be there. */
const plainSsh = `for word do case $word in LocalCommand=*) local=\${word#LocalCommand=} ;; -N) master=1 ;; esac; done
if [ "$master" ]; then sh -c "$local"; exec sleep 600; fi
while [ "$1" != web ]; do shift; done; shift; exec sh -c "$*"`

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
