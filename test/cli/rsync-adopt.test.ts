import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { type Line, readManifest } from '../../lib/engine/rsync/manifest.ts'
import type { Stored } from '../../lib/engine/rsync/snapshots.ts'
import type { Snapshot, StoreRow, Summary } from '../../lib/rows.ts'
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
  startProgram,
  tools,
} from '../harness.ts'
import { smallFs } from '../smallfs.ts'
import { treeFacts } from '../tree.ts'

type House = { m: Machine; web1: NewRsyncTarget; source: string; old: string }

/** A target with a store, a source, and a folder for another tool's snapshots on the same file system. */
async function house(t: TestContext, env: Record<string, string> = {}): Promise<House> {
  const m = machine(t)
  const [source, old] = [path.join(m.dir, 'source'), path.join(m.dir, 'old')]
  fs.mkdirSync(source)
  fs.mkdirSync(old)
  const web1 = newRsyncTarget(m, 'web1', { paths: [source], env })
  await done(m, ['init', 'web1'])
  return { m, web1, source, old }
}

const snapshots = async (m: Machine, name: string) => (await done(m, ['list', name, '--json'])).rows as Snapshot[]
const ids = async (m: Machine, name: string) => (await snapshots(m, name)).map(({ id }) => id)
const adoptedIn = ({ rows }: { rows: readonly unknown[] }) => (rows as StoreRow[])[0]?.adopted
const storedIn = (target: NewRsyncTarget, id: string) =>
  JSON.parse(fs.readFileSync(path.join(target.root, 'snapshots', id, 'snapshot.json'), 'utf8')) as Stored
const treeOf = (target: NewRsyncTarget, id: string) => path.join(target.root, 'snapshots', id, 'tree')
const at = (folder: string, time: string) => fs.utimesSync(folder, new Date(time), new Date(time))

async function manifestOf(target: NewRsyncTarget, id: string): Promise<Line[]> {
  const lines: Line[] = []
  for await (const batch of readManifest(path.join(target.root, 'snapshots', id, 'manifest'))) lines.push(...batch)
  return lines
}

/** Inodes of all files below a folder, sorted. */
function inodes(...folders: string[]): string {
  return execFileSync('find', [...folders, '!', '-type', 'd', '-printf', '%i\\n'])
    .toString()
    .split('\n')
    .sort()
    .join('\n')
}

/** Three snapshots by the real rsnapshot: of localhost with all that a tree can hold, and of another host. */
function rsnapshots({ m, source, old }: House): void {
  growTree(source)
  // rsync leaves a time alone that differs by less than a second, and kedge's does not.
  for (const name of ['links/soft', 'links/dangling', 'fifo']) fs.lutimesSync(path.join(source, name), 1_200_000_000, 1_200_000_000)
  const other = path.join(m.dir, 'other')
  fs.mkdirSync(other)
  const conf = path.join(m.dir, 'rsnapshot.conf')
  const lines = [
    ['config_version', '1.2'],
    ['snapshot_root', `${old}/`],
    ['cmd_rsync', '/usr/bin/rsync'],
    ['cmd_rm', '/bin/rm'],
    ['retain', 'alpha', '2'],
    ['retain', 'beta', '2'],
    ['link_dest', '1'],
    ['rsync_short_args', '-aHAX'],
    ['lockfile', path.join(m.dir, 'rsnapshot.pid')],
    ['backup', `${source}/`, 'localhost/'],
    ['backup', `${other}/`, 'db1/'],
  ]
  fs.writeFileSync(conf, lines.map((line) => `${line.join('\t')}\n`).join(''))
  const run = (interval: string) => execFileSync('perl', [path.join(tools, 'rsnapshot/usr/bin/rsnapshot'), '-c', conf, interval])
  run('alpha')
  fs.writeFileSync(path.join(source, 'a.txt.new'), 'second\n')
  fs.writeFileSync(path.join(source, 'none'), 'not empty now\n')
  run('alpha')
  run('beta')
  fs.rmSync(path.join(source, 'a.txt.new'))
  fs.writeFileSync(path.join(other, 'rows'), 'of db1\n')
  run('alpha')
  assert.deepEqual(fs.readdirSync(old).sort(), ['alpha.0', 'alpha.1', 'beta.0'])
  for (const [name, time] of [
    ['beta.0', '2026-11-17T10:00:00Z'],
    ['alpha.1', '2026-11-18T10:00:00Z'],
    ['alpha.0', '2026-11-19T10:00:05Z'],
  ] as const)
    at(path.join(old, name), time)
}

const wanted = ['2026-11-19T100005Z', '2026-11-18T100000Z', '2026-11-17T100000Z']
const intervals = ['alpha.0', 'alpha.1', 'beta.0']

test('snapshots of rsnapshot are taken in by renaming: the same inodes, bytes, links and times, no byte more on the disk', async (t) => {
  const home = await house(t)
  const { m, web1, source, old } = home
  rsnapshots(home)
  const several = await kedge(m, ['init', '--adopt', '--from', old, 'web1'])
  assert.equal(several.status, 2, several.stderr)
  assert.match(several.stderr, /holds snapshots of several: 'db1', 'localhost'\n.*--host db1/)
  for (const more of [['-n'], ['--explain'], []]) {
    const typo = await kedge(m, ['init', '--adopt', '--from', old, '--host', 'locahost', ...more, 'web1'])
    assert.equal(typo.status, 2, typo.stderr)
    assert.match(typo.stderr, /cannot take in '.*': there is no snapshot of host 'locahost'\n.*there are 'db1', 'localhost'/)
    assert.doesNotMatch(typo.stdout, /mv /)
  }
  const facts = intervals.map((name) => treeFacts(path.join(old, name, 'localhost')))
  const before = inodes(...intervals.map((name) => path.join(old, name, 'localhost')))
  const used = execFileSync('du', ['-sk', m.dir]).toString()

  const dry = await done(m, ['init', '-n', '--adopt', '--from', old, '--host', 'localhost', '--json', 'web1'])
  assert.equal(adoptedIn(dry), 3)
  assert.match(dry.stderr, /layout of rsnapshot in '.*': 3 snapshots, 2026-11-17 to 2026-11-19.*\n.*begin anew with a full copy/)
  assert.match(dry.stderr, /would take in '.*\/beta\.0\/localhost' as 2026-11-17T100000Z/)
  assert.deepEqual(await ids(m, 'web1'), [])

  const taken = await done(m, ['init', '--adopt', '--from', old, '--host', 'localhost', '--json', 'web1'])
  assert.equal(adoptedIn(taken), 3)
  assert.deepEqual(await ids(m, 'web1'), wanted)
  for (const [i, id] of wanted.entries()) assert.deepEqual(treeFacts(treeOf(web1, id)), facts[i], id)
  assert.equal(inodes(...wanted.map((id) => treeOf(web1, id))), before)
  const [kb, now] = [used, execFileSync('du', ['-sk', m.dir]).toString()].map((text) => Number.parseInt(text, 10))
  assert.ok((now ?? 0) - (kb ?? 0) < 500, `${kb} KiB before, ${now} after`)
  assert.equal(fs.readlinkSync(path.join(web1.root, 'latest')), `snapshots/${wanted[0]}`)
  assert.ok(!fs.existsSync(path.join(web1.root, 'adopting')))

  const stored = storedIn(web1, wanted[1] ?? '')
  assert.deepEqual([stored.base, stored.consistency, stored.adopted], [wanted[2], 'unknown', path.join(old, 'alpha.1/localhost')])
  assert.deepEqual([stored.paths, stored.tags, stored.tools.rsync], [[source], ['kedge:web1'], undefined])

  // The times of what other hosts have there are as they were.
  newRsyncTarget(m, 'db1', { env: { STORE: web1.store } })
  const second = await done(m, ['init', '--adopt', '--from', old, '--host', 'db1', '--json', 'db1'])
  assert.equal(adoptedIn(second), 3)
  assert.deepEqual(await ids(m, 'db1'), wanted)
  assert.deepEqual((await snapshots(m, 'db1'))[0]?.host, 'db1')

  const again = await done(m, ['init', '--adopt', '--from', old, '--host', 'localhost', '--json', 'web1'])
  assert.equal(adoptedIn(again), 0)
  assert.match(again.stderr, /there is no snapshot to take in/)
  newRsyncTarget(m, 'web2', { env: { STORE: web1.store } })
  const empty = await kedge(m, ['init', '--adopt', '--from', old, 'web2'])
  assert.equal(empty.status, 1, empty.stderr)
  assert.match(empty.stderr, /cannot take in '.*': the layout of rsnapshot has no snapshot/)
})

test('the manifest of what is taken in names all of the tree: links, hard links, what the older one shares, and names of any bytes', async (t) => {
  const home = await house(t)
  const { m, web1, source, old } = home
  rsnapshots(home)
  fs.writeFileSync(Buffer.concat([Buffer.from(`${old}/alpha.0/localhost${source}/tab\tand `), Buffer.from([0xff])]), 'odd\n')
  at(path.join(old, 'alpha.0'), '2026-11-19T10:00:05Z')
  await done(m, ['init', '--adopt', '--from', old, '--host', 'localhost', 'web1'])
  const lines = await manifestOf(web1, wanted[0] ?? '')
  const inside = (name: string) => lines.find(({ path: each }) => each === `${source.slice(1)}/${name}`)
  const listed = execFileSync('find', ['.', '-printf', '%y %m %U %G %s %p\\0'], { cwd: treeOf(web1, wanted[0] ?? ''), encoding: 'latin1' })
  assert.deepEqual(
    lines.map(({ type, mode, uid, gid, size, path: name }) => `${type} ${mode.toString(8)} ${uid} ${gid} ${size} ${name}`).sort(),
    listed
      .split('\0')
      .filter(Boolean)
      .map((line) => line.replace(/\.\/|(?<= )\.\/$/, '').replace(/[\n\t]/g, (char) => `\\#0${char === '\n' ? '12' : '11'}`))
      .sort(),
  )
  assert.deepEqual(
    lines.map(({ path: name }) => name),
    lines.map(({ path: name }) => name).sort((a, b) => (a < b ? -1 : 1)),
  )
  assert.equal(inside('links/hard')?.link, `=> ${source.slice(1)}/a.txt`)
  assert.equal(inside('a.txt')?.link, '')
  assert.equal(inside('links/soft')?.link, '-> ../a.txt')
  assert.deepEqual([inside('a.txt')?.how, inside('names/new\\#012line')?.how, inside('tab\\#011and \xff')?.how], ['=', '=', '>'])
  assert.deepEqual([inside('deep/er/three.txt')?.mtime, inside('a.txt')?.hash], [1_000_000_000, ''])
  const { counts } = storedIn(web1, wanted[0] ?? '')
  const entries = lines.filter(({ type }) => type !== 'd')
  const linked = lines.filter(({ type, how }) => type === 'f' && how === '=')
  assert.deepEqual(
    [counts.files, counts.folders, counts.linked, counts.transferred, counts.added, counts.new, counts.changed],
    [entries.length, lines.length - entries.length, linked.length, 1, 4, 1, 0],
  )
  // Of the first each file came once, whatever its names.
  const eldest = storedIn(web1, wanted[2] ?? '').counts
  const own = (await manifestOf(web1, wanted[2] ?? '')).filter(({ type, link }) => type === 'f' && link === '')
  assert.deepEqual([eldest.linked, eldest.transferred, eldest.added], [0, own.length, own.reduce((sum, { size }) => sum + size, 0)])
})

test('the next backup links to the newest that was taken in', async (t) => {
  const home = await house(t)
  const { m, web1, source } = home
  rsnapshots(home)
  await done(m, ['init', '--adopt', '--from', home.old, '--host', 'localhost', 'web1'])
  fs.writeFileSync(path.join(source, 'since'), 'new\n')
  const [summary] = (await done(m, ['backup', 'web1', '--json'])).rows as Summary[]
  assert.deepEqual([summary?.new, summary?.changed], [1, 0])
  const inode = (id: string) => fs.statSync(path.join(treeOf(web1, id), source, 'deep/big.bin')).ino
  assert.equal(inode(summary?.snapshot ?? ''), inode(wanted[0] ?? ''))
  assert.equal((await snapshots(m, 'web1'))[0]?.base, wanted[0])
})

test('what --explain prints does the same, kedge itself looking at the trees in the end', async (t) => {
  const home = await house(t)
  const { m, web1, old } = home
  rsnapshots(home)
  const before = inodes(...intervals.map((name) => path.join(old, name, 'localhost')))
  const { stdout } = await done(m, ['init', '--explain', '--adopt', '--from', old, '--host', 'localhost', 'web1'])
  assert.match(stdout, /^.*mv \S+\/beta\.0\/localhost \S+\/adopting\/2026-11-17T100000Z\/tree/m)
  fake(m.bin, 'kedge', `exec ${process.execPath} ${path.join(dist, 'kedge.cjs')} "$@"`)
  const byHand = await startProgram(m, '/bin/sh', ['-e'], { input: stdout }).result
  assert.equal(byHand.status, 0, byHand.stderr)
  assert.deepEqual(await ids(m, 'web1'), wanted)
  assert.equal(inodes(...wanted.map((id) => treeOf(web1, id))), before)
  assert.equal(fs.statSync(path.join(old, 'alpha.0')).mtime.toISOString(), '2026-11-19T10:00:05.000Z')
})

test('killed at any point, the next call goes on: nothing is lost, nothing copied, and each has its time', async (t) => {
  const home = await house(t)
  const { m, web1, old } = home
  rsnapshots(home)
  const trees = () => [old, path.join(web1.root, 'snapshots'), path.join(web1.root, 'adopting')].filter((folder) => fs.existsSync(folder))
  // Manifests and notes are new; what was there must stay.
  const all = inodes(old).split('\n')
  const whole = () => {
    const now = new Set(inodes(...trees()).split('\n'))
    assert.deepEqual(
      all.filter((inode) => !now.has(inode)),
      [],
    )
  }
  const args = ['init', '--adopt', '--from', old, '--host', 'localhost', '--json', '--wait', '30', 'web1']
  const adopting = path.join(web1.root, 'adopting')
  const note = (name: string, time: string) => ({
    from: path.join(old, name, 'localhost'),
    at: '/',
    time,
    host: 'h',
    paths: [home.source],
    tags: ['kedge:web1'],
    stamp: { folder: path.join(old, name), mtime: Date.parse(time) / 1000 },
  })
  // After the note was written, before the rename.
  fs.mkdirSync(path.join(adopting, '2026-11-17T100000Z'), { recursive: true })
  fs.writeFileSync(path.join(adopting, '2026-11-17T100000Z.json'), JSON.stringify(note('beta.0', '2026-11-17T10:00:00Z')))
  fs.writeFileSync(path.join(adopting, '2026-11-17T100000Z.json.77.new'), '{"fro')
  for (const tool of ['sort', 'sync']) {
    fake(m.bin, tool, 'kill -9 $PPID')
    const killed = await kedge(m, args)
    assert.equal(killed.signal, 'SIGKILL', killed.stderr)
    fs.rmSync(path.join(m.bin, tool))
    whole()
    assert.ok(fs.existsSync(path.join(adopting, '2026-11-17T100000Z/tree')), tool)
    assert.deepEqual(await ids(m, 'web1'), [])
  }
  // After the rename of the second, before the time of its folder was set again.
  fs.mkdirSync(path.join(adopting, '2026-11-18T100000Z'))
  fs.writeFileSync(path.join(adopting, '2026-11-18T100000Z.json'), JSON.stringify(note('alpha.1', '2026-11-18T10:00:00Z')))
  fs.renameSync(path.join(old, 'alpha.1/localhost'), path.join(adopting, '2026-11-18T100000Z/tree'))
  assert.notEqual(fs.statSync(path.join(old, 'alpha.1')).mtime.toISOString(), '2026-11-18T10:00:00.000Z')
  const last = await done(m, args)
  assert.equal(adoptedIn(last), 3)
  assert.deepEqual(await ids(m, 'web1'), wanted)
  whole()
  assert.ok(!fs.existsSync(adopting))
  assert.deepEqual(
    intervals.map((name) => fs.statSync(path.join(old, name)).mtime.toISOString().slice(0, 10)),
    ['2026-11-19', '2026-11-18', '2026-11-17'],
  )
  // After it was published, before the note was removed; a call without --from ends what is left to do.
  fs.mkdirSync(adopting)
  fs.writeFileSync(path.join(adopting, `${wanted[0]}.json`), JSON.stringify(note('alpha.0', '2026-11-19T10:00:05Z')))
  assert.equal(adoptedIn(await done(m, ['init', '--adopt', '--json', 'web1'])), 3)
  assert.ok(!fs.existsSync(adopting))
  whole()
})

test('folders of rsync-time-backup are dated by the local clock; --path says where the root lay; an unfinished one stays', async (t) => {
  const { m, web1, source, old } = await house(t, { TZ: 'Europe/Berlin' })
  for (const name of ['2026-07-01-021500', '2026-11-18-021500', '2026-11-19-021500']) {
    fs.mkdirSync(path.join(old, name, 'sub'), { recursive: true })
    fs.writeFileSync(path.join(old, name, 'sub/file'), name)
  }
  for (const name of ['backup.marker', 'backup.inprogress']) fs.writeFileSync(path.join(old, name), '')
  fs.symlinkSync('2026-11-18-021500', path.join(old, 'latest'))
  const refused = await kedge(m, ['init', '--adopt', '--from', old, 'web1'])
  assert.equal(refused.status, 15, refused.stderr)
  assert.match(refused.stderr, /it holds none of the paths of 'web1'\n.*--path says where its root lay, as in --path .*source/)
  const taken = await done(m, ['init', '--adopt', '--from', old, '--path', source, '--host', 'nas', '--json', 'web1'])
  assert.equal(adoptedIn(taken), 2)
  assert.match(taken.stderr, /left in '.*': 2026-11-19-021500: unfinished/)
  assert.match(taken.stderr, /layout of rsync-time-backup/)
  const list = await snapshots(m, 'web1')
  assert.deepEqual(
    list.map(({ id, host, paths }) => [id, host, paths]),
    [
      ['2026-11-18T011500Z', 'nas', [source]],
      ['2026-07-01T001500Z', 'nas', [source]],
    ],
  )
  assert.equal(fs.readFileSync(path.join(treeOf(web1, list[0]?.id ?? ''), source, 'sub/file'), 'utf8'), '2026-11-18-021500')
  assert.ok(fs.existsSync(path.join(old, '2026-11-19-021500/sub/file')))
})

test('of pobsync the scheduled and the manual ones are taken in, by their host; incomplete and failed ones stay', async (t) => {
  const { m, source, old } = await house(t)
  const make = (kind: string, name: string, status: string) => {
    const dir = path.join(old, 'web1.example.org', kind, name)
    fs.mkdirSync(path.join(dir, `data${source}`), { recursive: true })
    fs.mkdirSync(path.join(dir, 'meta'))
    fs.writeFileSync(path.join(dir, 'meta/meta.yaml'), `id: ${name}\nstatus: ${status}\n`)
    fs.writeFileSync(path.join(dir, `data${source}/file`), name)
  }
  make('scheduled', '20261118-021500Z__AAAA1111', 'success')
  make('scheduled', '20261119-021500Z__BBBB2222', 'failed')
  make('manual', '20261119-120000Z__CCCC3333', 'warning')
  make('.incomplete', '20261120-021500Z__DDDD4444', 'running')
  fs.mkdirSync(path.join(old, 'db1/scheduled'), { recursive: true })
  assert.equal((await kedge(m, ['init', '--adopt', '--from', old, 'web1'])).status, 2)
  const taken = await done(m, ['init', '--adopt', '--from', old, '--host', 'web1.example.org', '--json', 'web1'])
  assert.equal(adoptedIn(taken), 2)
  assert.match(taken.stderr, /left in '.*': \.incomplete: unfinished\n.*left in '.*': scheduled\/20261119-021500Z__BBBB2222: failed/)
  assert.deepEqual(
    (await snapshots(m, 'web1')).map(({ id, host, tags }) => [id, host, tags]),
    [
      ['2026-11-19T120000Z', 'web1.example.org', ['kedge:web1', 'kedge:manual']],
      ['2026-11-18T021500Z', 'web1.example.org', ['kedge:web1']],
    ],
  )
  assert.equal((await done(m, ['cat', 'web1', `2026-11-18:${source}/file`])).stdout, '20261118-021500Z__AAAA1111')
  assert.ok(fs.existsSync(path.join(old, 'web1.example.org/.incomplete')))
})

test('folders named after dates are taken in; what is unknown, one of kedge itself, or on another disk is refused, and stays as it is', async (t) => {
  const { m, web1, source, old } = await house(t)
  const names = ['2026-11-17', '2026-11-18T0215', '20261119T021530Z', 'notes']
  for (const name of names) fs.mkdirSync(path.join(old, name, source), { recursive: true })
  assert.equal(adoptedIn(await done(m, ['init', '--adopt', '--from', old, '--json', 'web1'])), 3)
  assert.deepEqual(await ids(m, 'web1'), ['2026-11-19T021530Z', '2026-11-18T021500Z', '2026-11-17T000000Z'])
  assert.deepEqual(fs.readdirSync(old), ['notes'])
  const small = await smallFs(t, { bytes: 4 << 20, inodes: 200 })
  if (small.enter.length === 0) fs.mkdirSync(path.join(small.dir, '2026-11-01', source), { recursive: true })
  const cases: [string[], number, RegExp][] = [
    [['--from', old], 15, /refusing to take in '.*old': no layout that kedge knows/],
    [['--from', web1.root], 2, /it is the folder of target 'web1' itself/],
    [['--from', web1.store], 15, /it is kedge's own\n.*SNAPSHOTS_OF/],
    [['--from', path.join(m.dir, 'gone')], 2, /there is no such folder/],
    [['--from', old, '--path', 'srv'], 2, /--path is an absolute path here: 'srv'/],
    ...(small.enter.length === 0
      ? [[['--from', small.dir], 15, /it lies on another file system than the store/] as [string[], number, RegExp]]
      : []),
  ]
  for (const [args, status, said] of cases)
    for (const mode of [['-n'], []]) {
      const result = await kedge(m, ['init', '--adopt', ...args, ...mode, 'web1'])
      assert.equal(result.status, status, result.stderr)
      assert.match(result.stderr, said)
    }
  assert.equal((await ids(m, 'web1')).length, 3)
  assert.deepEqual(fs.readdirSync(old), ['notes'])
})
