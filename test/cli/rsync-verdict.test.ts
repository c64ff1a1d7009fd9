// What an rsync backup is taken for: whose hash a linked file has, when linking has failed, and when nothing may be published.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { hear, noTrouble } from '../../lib/engine/rsync/trouble.ts'
import type { RunRow, Summary } from '../../lib/rows.ts'
import { done, fake, kedge, type Machine, type Rsync, rsyncs, scratch } from '../harness.ts'
import { made } from '../rsyncmade.ts'

const isRoot = process.geteuid?.() === 0
const newest = rsyncs().at(-1) as Rsync

async function backup(m: Machine): Promise<Summary> {
  const result = await kedge(m, ['backup', 'web1', '--json'])
  assert.ok(result.status === 0 || result.status === 3, result.stderr)
  return result.rows[0] as Summary
}

const treeOf = (root: string, id: string): string => path.join(root, 'snapshots', id, 'tree')
const inode = (file: string): number => fs.lstatSync(file).ino
const md5 = (text: string): string => createHash('md5').update(text).digest('hex')

/** `how` and hash of a file. */
function noted(root: string, id: string, file: string): string[] {
  const lines = fs.readFileSync(path.join(root, 'snapshots', id, 'manifest'), 'latin1').split('\n')
  const cells = lines.find((line) => line.startsWith(`${file.slice(1)}\t`))?.split('\t') ?? []
  return [cells[7] ?? '', cells[8] ?? '']
}

async function warnings(m: Machine): Promise<string> {
  const { rows } = await done(m, ['history', 'web1', '--json'])
  return ((rows[0] as RunRow).warnings ?? []).join('\n')
}

/** Makes the whole second of a file's time the same as ever, and its fraction another. */
function stamp(file: string, fraction: number): void {
  execFileSync('touch', ['-d', `2026-11-20T10:00:00.${fraction}Z`, file])
}

test('a file that is linked to an unfinished tree has the hash of its content, not that of the base of the same second', async (t) => {
  const { m, root, source } = await made(t)
  const file = path.join(source, 'file')
  const twin = path.join(source, 'twin')
  fs.writeFileSync(file, 'AAAA')
  stamp(file, 111)
  fs.writeFileSync(path.join(source, 'kept'), 'kept')
  const first = await backup(m)
  fs.writeFileSync(file, 'BBBB')
  stamp(file, 222)
  fs.linkSync(file, twin)
  // What a run that was killed leaves: the tree, and what rsync said of it.
  const left = path.join(root, 'incomplete', '2026-11-20T110000Z')
  const place = path.join(left, 'tree')
  fs.mkdirSync(place, { recursive: true })
  const output = execFileSync(
    'rsync',
    [
      ...['-aHAXSR', '--numeric-ids', '--modify-window=-1', `--link-dest=${treeOf(root, first.snapshot)}`, '-ii'],
      ...['--out-format=%n//%i %B %U %G %l %M %C%L', '--checksum-choice=md5', '--', source, `${place}/`],
    ],
    { env: { ...process.env, TZ: 'UTC' } },
  )
  fs.writeFileSync(path.join(left, 'output'), output)
  fs.writeFileSync(path.join(left, 'bases'), JSON.stringify([path.relative(left, treeOf(root, first.snapshot))]))
  const second = await backup(m)
  assert.equal(fs.readFileSync(path.join(treeOf(root, second.snapshot), file), 'utf8'), 'BBBB')
  assert.deepEqual(noted(root, second.snapshot, file), ['>', md5('BBBB')])
  assert.equal(noted(root, second.snapshot, twin)[1], md5('BBBB'))
  assert.deepEqual(noted(root, second.snapshot, path.join(source, 'kept')), ['=', md5('kept')])
  await done(m, ['check', 'web1', '--read-data'])
})

test('another content of the same second, and another ACL or attribute, are changes and no reason to suspect', async (t) => {
  const { m, root, source } = await made(t)
  const files = Array.from({ length: 20 }, (_, i) => path.join(source, `f${i}`))
  for (const file of files) {
    fs.writeFileSync(file, 'AAAA')
    stamp(file, 111)
  }
  await backup(m)
  for (const file of files) {
    fs.writeFileSync(file, 'BBBB')
    stamp(file, 222)
  }
  assert.equal((await backup(m)).suspect, undefined)
  for (const file of files) execFileSync('setfacl', ['-m', 'u:65534:r', file])
  // Its mask shows in the mode: as it was.
  for (const file of files) execFileSync('setfacl', ['-m', 'm::r', file])
  const touched = await backup(m)
  assert.equal(touched.suspect, undefined)
  for (const file of files) execFileSync('setfacl', ['-m', 'u:65533:r', file])
  const again = await backup(m)
  assert.equal(again.suspect, undefined)
  const last = await backup(m)
  const [file = ''] = files
  assert.equal(inode(path.join(treeOf(root, last.snapshot), file)), inode(path.join(treeOf(root, again.snapshot), file)))
})

test('half of the bytes saved again are a reason to suspect, be it one file; and less of few files is none', async (t) => {
  const { m, root, source } = await made(t)
  const sizes = { image: 2 << 20, small: 10 } as const
  for (const [name, size] of Object.entries(sizes)) fs.writeFileSync(path.join(source, name), Buffer.alloc(size, 'x'))
  const { snapshot } = await backup(m)
  // The base loses the file, though its manifest has it.
  const lose = (id: string, name: string) => fs.rmSync(path.join(treeOf(root, id), source, name))
  lose(snapshot, 'small')
  const second = await backup(m)
  assert.equal(second.suspect, undefined)
  lose(second.snapshot, 'image')
  const third = await backup(m)
  assert.match(third.suspect ?? '', /^1 of 2 unchanged files were saved again/)
})

/** An ext4 of its own, mounted until the test is over. */
function ext4(t: TestContext, ...options: string[]): string {
  let place = ''
  t.after(() => execFileSync('umount', ['-l', place])) // before the folder is removed, which comes next
  const dir = scratch(t)
  const file = path.join(dir, 'file')
  place = path.join(dir, 'place')
  fs.mkdirSync(place)
  fs.writeFileSync(file, '')
  fs.truncateSync(file, 64 << 20)
  execFileSync('mkfs.ext4', ['-q', '-m', '0', '-O', '^has_journal', ...options, file], { stdio: 'ignore' })
  execFileSync('mount', ['-o', 'loop', file, place])
  return place
}
const canMount = isRoot && fs.existsSync('/dev/loop-control')

for (const rsync of rsyncs())
  test(`rsync ${rsync.version}: a file with as many links as there can be is copied, which is said and counted`, async (t) => {
    if (!canMount) return t.skip('only root can mount')
    const store = path.join(ext4(t), 'store')
    const { m, root, source } = await made(t, { env: { STORE: store } }, rsync)
    const file = path.join(source, 'file')
    fs.writeFileSync(file, Buffer.alloc(2 << 20, 'x'))
    fs.writeFileSync(path.join(source, 'other'), 'other')
    const first = await backup(m)
    const saved = path.join(treeOf(root, first.snapshot), file)
    fs.mkdirSync(path.join(store, '.links'))
    for (let i = 1; i < 65_000; i++) fs.linkSync(saved, path.join(store, '.links', String(i)))
    const second = await backup(m)
    assert.match(await warnings(m), /1 file could not be linked: too many links; copied/)
    assert.equal(second.suspect, undefined)
    assert.deepEqual([second.added, second.linked], [2 << 20, 1])
    assert.deepEqual(noted(root, second.snapshot, file), ['>', noted(root, first.snapshot, file)[1]])
    const third = await backup(m)
    assert.deepEqual([third.added, third.linked], [0, 2])
    assert.ok(!fs.existsSync(path.join(root, 'snapshots', third.snapshot, 'link')))
  })

test('a store that keeps whole seconds only is linked to all the same', async (t) => {
  if (!canMount) return t.skip('only root can mount')
  const store = path.join(ext4(t, '-I', '128'), 'store')
  const { m, root, source } = await made(t, { env: { STORE: store } })
  fs.writeFileSync(path.join(source, 'file'), 'content')
  stamp(path.join(source, 'file'), 123)
  const [first, second] = [await backup(m), await backup(m)]
  assert.deepEqual([second.linked, second.added], [1, 0])
  const [a, b] = [first, second].map(({ snapshot }) => inode(path.join(treeOf(root, snapshot), source, 'file')))
  assert.equal(a, b)
})

test('a whole source that is gone or shut is no snapshot, whatever its name', async (t) => {
  const { m, root, source, dir } = await made(t)
  const published = () => (fs.existsSync(path.join(root, 'snapshots')) ? fs.readdirSync(path.join(root, 'snapshots')) : [])
  const quoted = path.join(source, 'sub"dir')
  // Each is there when kedge looks, and gone when rsync does.
  const real = newest.path
  for (const [script, before] of [
    [`rm -rf '${quoted}'`, () => fs.mkdirSync(quoted)],
    [`rm -rf '${quoted}'; rmdir '${source}'; : > '${source}'`, () => fs.mkdirSync(quoted)],
  ] as const) {
    before()
    fs.writeFileSync(path.join(dir, 'paths'), `${quoted}\n`)
    fake(m.bin, 'rsync', `case "$*" in *--link-dest*|*--partial-dir*) ${script} ;; esac; exec ${real} "$@"`)
    const gone = await kedge(m, ['backup', 'web1'])
    assert.match(gone.stderr, /all paths are missing/)
    assert.equal(gone.status, 1, gone.stderr)
    assert.deepEqual(published(), [])
  }
})

test('rsync’s words about a name with quotes, a parent that is a file, and a source that is shut', () => {
  const trouble = noTrouble()
  for (const line of [
    'rsync: [sender] send_files failed to open "/s/a"b": Permission denied (13)',
    'rsync: [sender] send_files failed to open "/s/a"c": Permission denied (13)',
    'rsync: [sender] link_stat "/s/x"y" failed: No such file or directory (2)',
    'rsync: [sender] link_stat "/s/file/below" failed: Not a directory (20)',
    'rsync: [receiver] rename "/t/.a.X1y2Z3" -> "s/a" failed: Permission denied (13)',
  ])
    hear(trouble, line)
  assert.deepEqual([...trouble.unreadable.keys()], ['/s/a"b', '/s/a"c'])
  assert.deepEqual([...trouble.missing], ['/s/x"y', '/s/file/below'])
  assert.deepEqual([...trouble.unkept.keys()], ['/t/.a.X1y2Z3'])
})

test('a source that may not be read at all is status 1 and no snapshot; one of two is a partial one', async (t) => {
  if (!isRoot) return t.skip('only root can become another user')
  const { m, source, root, dir } = await made(t)
  const [shut, open] = [path.join(m.dir, 'shut'), path.join(source, 'open')]
  fs.mkdirSync(shut, { mode: 0o700 })
  fs.writeFileSync(open, 'open')
  // rsync alone is the ordinary user's: what it writes belongs to root.
  fs.writeFileSync(path.join(dir, 'paths'), `${shut}\n`)
  execFileSync('chmod', ['-R', 'a+rX', m.dir])
  fs.chmodSync(shut, 0o700)
  fake(
    m.bin,
    'rsync',
    `case "$*" in *--partial-dir*) exec setpriv --bounding-set -dac_override,-dac_read_search --inh-caps -dac_override,-dac_read_search ${newest.path} "$@" ;; esac; exec ${newest.path} "$@"`,
  )
  fs.chownSync(shut, 65534, 65534)
  const refused = await kedge(m, ['backup', 'web1'])
  assert.match(refused.stderr, /nothing can be read: '.*shut': permission denied/)
  assert.equal(refused.status, 1)
  assert.equal(fs.readdirSync(path.join(root, 'snapshots')).length, 0)
  fs.writeFileSync(path.join(dir, 'paths'), `${shut}\n${source}\n`)
  assert.equal((await backup(m)).partial, true)
})

test('a backup of no file at all is suspect where there were some', async (t) => {
  const { m, source } = await made(t)
  for (const name of ['a', 'b']) fs.writeFileSync(path.join(source, name), name)
  await backup(m)
  for (const name of ['a', 'b']) fs.rmSync(path.join(source, name))
  assert.equal((await backup(m)).suspect, 'no file at all, 2 before')
})

test('a backup by hand ends where a command fails, and leaves nothing that looks whole', async (t) => {
  const { m, source, root } = await made(t)
  fs.writeFileSync(path.join(source, 'a'), 'a')
  const { stdout } = await done(m, ['backup', '--explain', 'web1'])
  const run = (bin: string) => spawnSync('sh', ['-c', stdout], { env: { ...process.env, PATH: `${bin}:${process.env.PATH}` } })
  const broken = path.join(m.dir, 'broken')
  fake(broken, 'rsync', 'exit 12')
  run(broken)
  assert.deepEqual(fs.readdirSync(path.join(root, 'by-hand')), [])
  assert.equal(run(m.bin).status, 0)
  assert.equal(fs.readdirSync(path.join(root, 'by-hand')).length, 1)
})
