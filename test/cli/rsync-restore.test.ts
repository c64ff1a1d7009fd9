import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Restored, RunRow } from '../../lib/rows.ts'
import { receivedByUser } from '../fakesuper.ts'
import { hardTree } from '../hardtree.ts'
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
  sameTree,
  startProgram,
} from '../harness.ts'
import { keepsFromLinks } from '../inplacecases.ts'
import { snapshotByHand } from '../rsyncstore.ts'
import { treeFacts } from '../tree.ts'

type Place = { m: Machine; web1: NewRsyncTarget; source: string; snapshot: string; fresh: () => string }
const newest = rsyncs().at(-1) as Rsync

/** A store with two linked snapshots of a tree, one of a stream, and one of another target. */
async function place(t: TestContext, rsync: Rsync = newest, grow: (dir: string) => void = growTree): Promise<Place> {
  const m = machine(t, undefined, rsync)
  const source = path.join(m.dir, 'source [x]*')
  const web1 = newRsyncTarget(m, 'web1', { paths: [source], exclude: ['*.cache'], scripts: { 'streams/app.sql': 'echo dump' } })
  fs.mkdirSync(source)
  grow(source)
  fs.chmodSync(m.dir, 0o755)
  snapshotByHand(web1.root, '2026-11-18T021500Z', [source])
  const snapshot = snapshotByHand(web1.root, '2026-11-19T021500Z', [source], {}, '2026-11-18T021500Z')
  const dump = path.join(m.dir, 'dump')
  fs.mkdirSync(dump)
  fs.writeFileSync(path.join(dump, 'app.sql'), 'a dump\n')
  snapshotByHand(web1.root, '2026-11-20T021500Z', [`${dump}/./app.sql`], { stream: 'app.sql', paths: ['/app.sql'] })
  fs.writeFileSync(path.join(m.dir, 'foreign'), 'of another target\n')
  snapshotByHand(path.join(web1.store, 'other'), '2026-11-21T021500Z', [path.join(m.dir, 'foreign')])
  let n = 0
  return { m, web1, source, snapshot, fresh: () => path.join(m.dir, `to${n++}`) }
}

/** The same in two folders, which themselves are of different times. */
function sameBelow(one: string, other: string): void {
  assert.deepEqual(fs.readdirSync(one), fs.readdirSync(other))
  for (const name of fs.readdirSync(one)) sameTree(path.join(one, name), path.join(other, name))
}

/** Files of a snapshot are linked with those of others: their restored copies are not. */
const withoutLinks = (facts: Record<string, string>) =>
  Object.fromEntries(Object.entries(facts).map(([name, text]) => [name, text.replace(/, linked with [^,]*/, '')]))

/** What is in the store, inodes too: a restore that links or writes there would change it. */
function storeFacts(store: string): Record<string, string> {
  const facts = treeFacts(store)
  for (const name of Object.keys(facts)) {
    const { ino, nlink, ctimeNs } = fs.lstatSync(Buffer.from(`${Buffer.from(store).toString('latin1')}/${name}`, 'latin1'), {
      bigint: true,
    })
    facts[name] += `, inode ${ino}, links ${nlink}, ctime ${ctimeNs}`
  }
  return facts
}

function onDisk(dir: string): { files: number; bytes: number } {
  const all = fs.readdirSync(dir, { recursive: true, withFileTypes: true }).filter((entry) => !entry.isDirectory())
  const bytes = all.filter((entry) => entry.isFile()).map((entry) => fs.statSync(path.join(entry.parentPath, entry.name)).size)
  return { files: all.length, bytes: bytes.reduce((sum, size) => sum + size, 0) }
}

const counts = ({ files, bytes }: Restored) => ({ files, bytes })
const literal = (text: string) => text.replace(/[\\*?[]/g, '\\$&')

async function byHand(m: Machine, args: readonly string[]): Promise<void> {
  const { stdout } = await done(m, ['restore', 'web1', '--explain', ...args])
  const result = await startProgram(m, '/bin/sh', ['-ec', stdout]).result
  assert.equal(result.status, 0, `${stdout}${result.stdout}${result.stderr}`)
}

for (const rsync of rsyncs()) {
  const last = rsync.version === newest.version
  test(`restore with rsync ${rsync.version}`, { concurrency: 1 }, async (t) => {
    const { m, web1, source, snapshot, fresh } = await place(t, rsync)
    const before = storeFacts(web1.store)
    const run = async (...args: string[]) => (await done(m, ['restore', 'web1', '--json', ...args])).rows as Restored[]

    await t.test('a tree comes back as it was, and its row tells how much that is', async () => {
      const to = fresh()
      const [row] = await run('--to', to, '--verify')
      sameTree(path.join(to, source), source)
      assert.deepEqual(row && counts(row), onDisk(to))
      assert.equal(row?.verified, true)
      assert.equal(row?.snapshot, '2026-11-19T021500Z')
      assert.equal(fs.statSync(to).mode & 0o777, 0o700)
      const last = JSON.parse(fs.readFileSync(path.join(m.state, 'web1', 'last.json'), 'utf8')).restore.last as RunRow
      assert.equal(last.state, 'success')
      assert.deepEqual(last.results, [row])
    })

    await t.test('patterns: a dry run counts what the restore then brings, and writes nothing; by hand the same comes back', async () => {
      const cases: string[][] = [
        ['latest', '--exclude', 'deep', '--exclude', '*star[[]*', '--exclude', '!deep/er'],
        ['latest', '--include', '**/na?es/[^a-m]*', '--include', 'l[!i]nks', '--include', 'deep/**', '--exclude', '*line'],
        ['latest', '--include', `${literal(source)}/**/*e*`, '--include', '**/s[e-u]?[a-z]*', '--include', '!big.bin'],
        [`latest:${source}`, '--include', '*t*', '--exclude', 'hard'],
        [`latest:${source}/names/ünï$dollar\`tick\\back*star[x]`],
        [`latest:${source}/names`, `latest:${source}/deep/er`],
        ['latest-1', 'latest:/app.sql'],
      ]
      for (const args of cases) {
        const [to, hand] = [fresh(), fresh()]
        const planned = await run('-n', '--to', to, ...args)
        assert.equal(fs.existsSync(to), false, args.join(' '))
        const rows = await run('--to', to, ...args)
        const sum = rows.reduce((all, { files, bytes }) => ({ files: all.files + files, bytes: all.bytes + bytes }), { files: 0, bytes: 0 })
        assert.deepEqual(sum, onDisk(to), args.join(' '))
        assert.ok(sum.files > 0)
        assert.deepEqual(
          planned,
          rows.map((row) => ({ ...row, action: 'would restore', dryRun: true })),
          args.join(' '),
        )
        if (!last) continue
        await byHand(m, ['--to', hand, '--verify', ...args])
        sameBelow(hand, to)
      }
    })

    await t.test('folders above a restored path are made as the snapshot has them', async () => {
      const to = fresh()
      await run('--to', to, `latest:${source}/deep/er/three.txt`)
      for (const folder of ['', 'deep', 'deep/er']) {
        const [came, was] = [to, ''].map((root) => fs.statSync(path.join(root, source, folder)))
        assert.deepEqual([came?.mode, came?.mtimeMs], [was?.mode, was?.mtimeMs], folder)
      }
      assert.deepEqual(fs.readdirSync(path.join(to, source)), ['deep'])
    })

    await t.test('what --explain prints restores the same by hand', async () => {
      for (const what of ['latest', `latest:${source}/names`]) {
        const [to, hand] = [fresh(), fresh()]
        await run('--to', to, what)
        await byHand(m, ['--to', hand, '--verify', what])
        sameBelow(hand, to)
      }
    })

    await t.test('a restore in place brings the bytes back as new files, and leaves what else is there', async () => {
      const file = path.join(source, 'deep/er/three.txt')
      const stat = fs.statSync(file)
      fs.writeFileSync(file, 'THREE\n') // as long as before, and of the same time
      fs.utimesSync(file, stat.atime, 1_000_000_000.5)
      fs.rmSync(path.join(source, 'links/soft'))
      fs.mkdirSync(path.join(source, 'links/soft'))
      fs.writeFileSync(path.join(source, 'deep/er/mine'), 'new since\n')
      // A copy of the snapshot by links is the operator's: its files are the snapshot's, and not to be written to.
      fs.rmSync(path.join(source, 'a.txt'))
      fs.linkSync(path.join(snapshot, 'tree', source, 'a.txt'), path.join(source, 'a.txt'))
      fs.chmodSync(m.dir, 0o711)
      const [row] = await run('--in-place')
      assert.equal(fs.readFileSync(file, 'utf8'), 'three\n')
      assert.equal(fs.statSync(m.dir).mode & 0o777, 0o711, 'a folder above what was saved is not the snapshot’s')
      fs.chmodSync(m.dir, 0o755)
      assert.equal(fs.readFileSync(path.join(source, 'deep/er/mine'), 'utf8'), 'new since\n')
      fs.rmSync(path.join(source, 'deep/er/mine'))
      assert.deepEqual(row && counts(row), onDisk(source))
      assert.notEqual(fs.statSync(path.join(source, 'a.txt')).ino, fs.statSync(path.join(snapshot, 'tree', source, 'a.txt')).ino)
    })

    await t.test('in place one folder comes back, those above keep their modes, and those that are missing get theirs', async () => {
      const deep = path.join(source, 'deep')
      const facts = treeFacts(path.join(snapshot, 'tree', deep))
      fs.rmSync(deep, { recursive: true })
      fs.chmodSync(source, 0o700)
      for (const [i, args] of [[`latest:${deep}/er`], [`latest:${deep}`, '--include', 'three*']].entries()) {
        await run('--in-place', ...args)
        assert.equal(fs.statSync(source).mode & 0o777, 0o700)
        assert.equal(treeFacts(deep)['er/three.txt'], facts['er/three.txt']?.replace(/, linked with .*/, ''))
        for (const folder of ['.', 'er'])
          assert.deepEqual(treeFacts(deep)[folder]?.split(', ').slice(0, 2), facts[folder]?.split(', ').slice(0, 2), `${i} ${folder}`)
        fs.rmSync(deep, { recursive: true })
      }
      await byHand(m, ['--in-place', `latest:${deep}`])
      assert.deepEqual(withoutLinks(treeFacts(deep)), withoutLinks(facts))
      fs.chmodSync(source, 0o755)
    })

    await t.test('--delete takes away what the snapshot does not have, within its paths, and nothing that backups leave out', async () => {
      const surplus = path.join(source, 'deep/surplus')
      const beside = path.join(m.dir, 'beside')
      const excluded = path.join(source, 'kept.cache')
      const make = () => {
        fs.mkdirSync(surplus)
        fs.writeFileSync(path.join(surplus, 'line\nfeed'), 'x')
        fs.writeFileSync(Buffer.concat([Buffer.from(`${surplus}/`), Buffer.from([0xff])]), 'x')
      }
      make()
      fs.writeFileSync(beside, 'not of this target\n')
      const planned = await done(m, ['restore', 'web1', '--in-place', '--delete', '-n', '--json'])
      assert.match(planned.stderr, /would delete '.*deep\/surplus'/)
      assert.equal((planned.rows[0] as Restored).deleted, 3)
      assert.ok(fs.existsSync(surplus))
      fs.writeFileSync(excluded, 'left out of every backup\n')
      const refused = await kedge(m, ['restore', 'web1', '--in-place', '--delete'])
      assert.equal(refused.status, 15, refused.stderr)
      assert.match(refused.stderr, /refusing to delete '.*kept\.cache': the backup leaves it out/)
      const none = await done(m, ['restore', 'web1', '--in-place', '--delete', '--explain', `latest:${source}/names`])
      assert.match(none.stdout, /^# --delete: all that lies there now is in the snapshot$/m)
      assert.ok(fs.existsSync(surplus))
      const deleted = await done(m, ['restore', 'web1', '--in-place', '--delete', '--exclude', '*.cache', '--json'])
      assert.equal((deleted.rows[0] as Restored).deleted, 3)
      assert.match(deleted.stderr, /^deleting '.*deep\/surplus'$/m)
      assert.equal(fs.existsSync(surplus), false)
      assert.ok(fs.existsSync(excluded) && fs.existsSync(beside))
      make()
      await byHand(m, ['--in-place', '--delete', `latest:${source}/deep`])
      assert.equal(fs.existsSync(surplus), false)
      fs.rmSync(excluded)
      const full = path.join(source, 'secret')
      fs.rmSync(full)
      fs.mkdirSync(full)
      fs.writeFileSync(path.join(full, 'mine'), 'in the place of a file\n')
      const kept = await kedge(m, ['restore', 'web1', '--in-place', `latest:${full}`])
      assert.equal(kept.status, 1, kept.stderr)
      assert.match(kept.stderr, /source \[x\]\*\/secret/)
      assert.ok(fs.existsSync(path.join(full, 'mine')))
      await run('--in-place', '--delete')
      assert.equal(fs.readFileSync(full, 'utf8'), 'not for all\n')
    })

    await t.test('after all of that the store is what it was, to the inode', () =>
      assert.deepEqual(storeFacts(web1.store), withLink(before, web1)),
    )

    await t.test('a byte that flipped in a snapshot is found by --verify: status 14, and the file is named', async () => {
      const file = path.join(snapshot, 'tree', source, 'deep/big.bin')
      const { mtime, atime } = fs.statSync(file)
      const at = fs.openSync(file, 'r+')
      fs.writeSync(at, Buffer.from([0x55]), 0, 1, 1_234_567)
      fs.closeSync(at)
      fs.utimesSync(file, atime, mtime)
      const result = await kedge(m, ['restore', 'web1', '--to', fresh(), '--json', '--verify', `latest:${source}/deep`])
      assert.equal(result.status, 14, result.stderr)
      assert.match(result.stderr, /deep\/big\.bin': its content is not what was saved/)
      assert.match(result.stderr, /is incomplete/)
      assert.equal(result.stdout, '')
      const explained = await done(m, ['restore', 'web1', '--to', fresh(), '--verify', '--explain', `latest:${source}/deep`])
      assert.notEqual((await startProgram(m, '/bin/sh', ['-ec', explained.stdout]).result).status, 0)
    })

    await t.test('a file that is gone from a snapshot is status 14, and named', async () => {
      fs.rmSync(path.join(snapshot, 'tree', source, 'names/-rf'))
      for (const args of [['latest'], ['latest', '--include', '*-rf'], [`latest:${source}/names/-rf`]]) {
        const result = await kedge(m, ['restore', 'web1', '--to', fresh(), ...args])
        assert.equal(result.status, 14, `${args.join(' ')}: ${result.stderr}`)
        assert.match(result.stderr, /names\/-rf/)
      }
    })
  })
}

/** The link that a test made and a restore took away has changed the ctime of one inode, and nothing else. */
function withLink(before: Record<string, string>, { store, root }: NewRsyncTarget): Record<string, string> {
  const after = storeFacts(store)
  const ctime = /, ctime \d+$/
  const linked = Object.keys(before).filter((name) => /\/a\.txt$|\/links\/hard$/.test(name) && name.startsWith(path.basename(root)))
  assert.ok(linked.length >= 2)
  for (const name of linked) before[name] = before[name]?.replace(ctime, ctime.exec(after[name] ?? '')?.[0] ?? '') ?? ''
  return before
}

const cacheTag = 'Signature: 8a477f597d28d172789f06886806bc55\n'

test('what caches hold stays with --delete and is named, in a cache that is saved and in one that is not', async (t) => {
  const { m, source, snapshot } = await place(t, newest, (dir) => {
    growTree(dir)
    fs.mkdirSync(path.join(dir, 'cache'))
    fs.writeFileSync(path.join(dir, 'cache/CACHEDIR.TAG'), cacheTag)
  })
  const held = ['cache', 'surplus/cache', 'untagged'].map((name) => path.join(source, name, 'held'))
  for (const file of held) {
    fs.mkdirSync(path.dirname(file), { recursive: true })
    fs.writeFileSync(file, 'cached\n')
  }
  fs.writeFileSync(path.join(source, 'surplus/cache/CACHEDIR.TAG'), cacheTag)
  fs.writeFileSync(path.join(source, 'untagged/CACHEDIR.TAG'), 'no signature\n')
  const args = ['restore', 'web1', '--in-place', '--delete', '--json']
  const explained = await done(m, [...args.slice(0, -1), '--explain'])
  assert.match(explained.stdout, /^# left, being a cache: '.*\/cache'$/m)
  assert.doesNotMatch(explained.stdout, /^rm.*\/cache/m)
  for (const mode of [['-n'], []]) {
    const { stderr, rows } = await done(m, [...args, ...mode])
    assert.equal(stderr.match(/^left '.*\/cache': a cache, which the backup leaves out$/gm)?.length, 2, stderr)
    assert.equal((rows[0] as Restored).deleted, 3, 'what only has the name of the tag goes')
  }
  assert.deepEqual(held.map(fs.existsSync), [true, true, false])
  const env = fs.readFileSync(path.join(m.config, 'targets/web1/target.env'), 'utf8')
  fs.writeFileSync(path.join(m.config, 'targets/web1/target.env'), `${env}EXCLUDE_CACHES=no\n`)
  await done(m, args)
  assert.deepEqual(held.map(fs.existsSync), [true, true, false], 'the backup left it out')
  const stored = path.join(snapshot, 'snapshot.json')
  fs.writeFileSync(stored, fs.readFileSync(stored, 'utf8').replace('"caches": true', '"caches": false'))
  await done(m, args)
  assert.deepEqual(held.map(fs.existsSync), [false, false, false], 'what no backup leaves out is surplus')
})

test('--delete is refused where options of the backup choose files, on another file system, and through a link', async (t) => {
  const { m, web1, source } = await place(t)
  const env = path.join(web1.dir, 'target.env')
  const text = fs.readFileSync(env, 'utf8')
  const mine = path.join(source, 'deep/mine')
  fs.writeFileSync(mine, 'in no snapshot\n')
  const refused = async (pattern: RegExp, ...what: string[]) => {
    for (const mode of [[], ['-n'], ['--explain']]) {
      const result = await kedge(m, ['restore', 'web1', '--in-place', '--delete', ...mode, ...what])
      assert.equal(result.status, 15, result.stderr)
      assert.match(result.stderr, pattern)
      assert.ok(fs.existsSync(mine))
    }
  }
  for (const words of ['--exclude=mine', '--filter merge', '--max-size=1k', '-z -C', '--bwlimit=9 -f x', '-zx']) {
    fs.writeFileSync(env, `${text}BACKUP_ARGS='${words}'\n`)
    await refused(/BACKUP_ARGS holds '-.*', which may leave files out/)
  }
  fs.writeFileSync(env, `${text}BACKUP_ARGS='--bwlimit 9 -z --checksum --insecure-links'\n`)
  const names = path.join(source, 'names')
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', names])
  try {
    fs.writeFileSync(path.join(names, 'other'), 'of another file system\n')
    await refused(/another file system is mounted at '.*names'/, `latest:${names}`)
    assert.ok(fs.existsSync(path.join(names, 'other')))
  } finally {
    execFileSync('umount', [names])
  }
  await t.test('a folder that became a link is named, with the way out, also without --delete', async () => {
    const [deep, moved] = [path.join(source, 'deep'), path.join(m.dir, 'moved')]
    fs.cpSync(path.join(deep, 'er'), path.join(moved, 'er'), { recursive: true })
    fs.writeFileSync(path.join(moved, 'er/other'), 'of another folder\n')
    fs.renameSync(deep, path.join(m.dir, 'aside'))
    fs.symlinkSync(moved, deep)
    const result = await kedge(m, ['restore', 'web1', '--in-place', '--delete', `latest:${deep}/er`])
    assert.equal(result.status, 15, result.stderr)
    assert.match(result.stderr, /'.*\/deep' is a link to a folder/)
    assert.ok(fs.existsSync(path.join(moved, 'er/other')))
    fs.rmSync(path.join(moved, 'er'), { recursive: true })
    const plain = await kedge(m, ['restore', 'web1', '--in-place', `latest:${deep}/er`])
    assert.equal(plain.status, 15, plain.stderr)
    assert.match(plain.stderr, /'.*\/deep' is a link to a folder/)
    assert.match(plain.stderr, /hint: restore with --to, and move it from there/)
    fs.rmSync(deep)
    fs.renameSync(path.join(m.dir, 'aside'), deep)
  })
  await done(m, ['restore', 'web1', '--in-place', '--delete'])
  assert.equal(fs.existsSync(mine), false)
})

test('a snapshot without its manifest comes back by the rsync that the hint names', async (t) => {
  const { m, source, snapshot, fresh } = await place(t)
  fs.rmSync(path.join(snapshot, 'manifest'))
  const result = await kedge(m, ['restore', 'web1', '--to', fresh()])
  assert.equal(result.status, 14, result.stderr)
  const [, command = ''] = /hint: .*: (rsync .*) NEW-FOLDER\/$/m.exec(result.stderr) ?? []
  const to = fresh()
  execFileSync('/bin/sh', ['-c', `${command} ${to}/`])
  const facts = (dir: string) => Object.entries(treeFacts(dir)).map(([name, text]) => [name, text.replace(/mtime \d+/, '')])
  assert.deepEqual(facts(path.join(to, source)), facts(source))
})

test('what a restore refuses, and what it tells', async (t) => {
  const { m, web1, source, fresh } = await place(t)
  const before = storeFacts(web1.store)
  const run = async (...args: string[]) => (await done(m, ['restore', 'web1', '--json', ...args])).rows as Restored[]

  await t.test('nothing that matches is status 1, and nothing is written', async () => {
    for (const args of [['latest:/nothing/here'], [`latest:${source}`, '--include', 'deep', '--exclude', '*']]) {
      const to = fresh()
      const result = await kedge(m, ['restore', 'web1', '--to', to, ...args])
      assert.equal(result.status, 1, args.join(' '))
      assert.match(result.stderr, /nothing in the snapshot matches/)
      assert.equal(fs.existsSync(to), false)
    }
  })

  await t.test('a place that is not empty, or that lies in the store, is refused', async () => {
    const to = fresh()
    fs.mkdirSync(path.join(to, 'lost+found'), { recursive: true })
    await run('--to', to, `latest:${source}/deep/er`)
    const facts = onDisk(to)
    const result = await kedge(m, ['restore', 'web1', '--to', to])
    assert.equal(result.status, 15)
    assert.match(result.stderr, /it is not empty/)
    assert.deepEqual(onDisk(to), facts)
    const link = fresh()
    fs.symlinkSync(web1.store, link)
    for (const place of [path.join(web1.root, 'snapshots/2026-11-19T021500Z/tree/new'), path.join(link, 'new')]) {
      const result = await kedge(m, ['restore', 'web1', '--to', place])
      assert.equal(result.status, 15, result.stderr)
      assert.match(result.stderr, /it lies in the store/)
    }
  })

  await t.test('misuse is status 2', async () => {
    const cases: [RegExp, ...string[]][] = [
      [/takes one snapshot/, '--in-place', '--delete', `latest:${source}/deep`, `latest:${source}/names`],
      [/hold the same paths/, '--to', fresh(), 'latest', `latest:${source}/deep`],
      [/hold the same paths/, '--to', fresh(), 'latest', 'latest-1'],
      [/not a pattern/, '--to', fresh(), '--include', '[x'],
      [/lies outside/, '--to', fresh(), `latest:${source}`, '--include', '/etc/passwd'],
      [/holds the stream 'app.sql'/, '--in-place', 'latest:/app.sql'],
    ]
    for (const [pattern, ...args] of cases) {
      const result = await kedge(m, ['restore', 'web1', ...args])
      assert.equal(result.status, 2, `${args.join(' ')}: ${result.stderr}`)
      assert.match(result.stderr, pattern)
    }
  })

  await t.test("latest is the target's own, and that of a stream where its file is asked for", async () => {
    const to = fresh()
    const [row] = await run('--to', to, '--verify', 'latest:/app.sql')
    assert.equal(fs.readFileSync(path.join(to, 'app.sql'), 'utf8'), 'a dump\n')
    assert.deepEqual(row && counts(row), { files: 1, bytes: 7 })
    const other = await kedge(m, ['restore', 'web1', '--to', fresh(), `latest:${m.dir}/foreign`])
    assert.equal(other.status, 1)
  })

  await t.test('what does not fit is refused before anything is written; hard links count once', async () => {
    const small = path.join(m.dir, 'small')
    fs.mkdirSync(small)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'none', small])
    try {
      const linked = path.join(m.dir, 'linked')
      fs.mkdirSync(linked)
      fs.writeFileSync(path.join(linked, 'a'), Buffer.alloc(5 << 20, 7))
      fs.linkSync(path.join(linked, 'a'), path.join(linked, 'b'))
      const target = newRsyncTarget(m, 'links', { paths: [linked] })
      const dir = snapshotByHand(target.root, '2026-11-20T021500Z', [linked])
      const manifest = path.join(dir, 'manifest')
      const lines = fs.readFileSync(manifest, 'latin1').split('\n')
      const second = lines.findIndex((line) => line.startsWith(`${linked.slice(1)}/b\t`))
      lines[second] = lines[second]?.replace(/\t-$/, `\t=> ${linked.slice(1)}/a`) ?? ''
      fs.writeFileSync(manifest, lines.join('\n'), 'latin1')
      await done(m, ['restore', 'links', '--to', path.join(small, 'fits')])
      sameTree(path.join(small, 'fits', linked), linked)
      fs.rmSync(path.join(small, 'fits'), { recursive: true })
      fs.writeFileSync(path.join(small, 'full'), Buffer.alloc(4 << 20))
      const result = await kedge(m, ['restore', 'links', '--to', path.join(small, 'not')])
      assert.equal(result.status, 1)
      assert.match(result.stderr, /it needs 5\.00 MiB, and .* are free/)
      assert.equal(fs.existsSync(path.join(small, 'not')), false)
    } finally {
      execFileSync('umount', [small])
    }
  })

  await t.test('a full disk is named as such, and what lies there is said to be incomplete', async () => {
    fake(
      m.bin,
      'rsync',
      `case " $* " in *" --version "*) exec ${newest.path} "$@" ;; esac
      echo 'rsync: [receiver] write failed on "/x/big.bin": No space left on device (28)' >&2
      echo 'rsync error: error in file IO (code 11) at receiver.c(1) [receiver=3.5.0]' >&2; exit 11`,
    )
    const to = fresh()
    const result = await kedge(m, ['restore', 'web1', '--to', to])
    fs.rmSync(path.join(m.bin, 'rsync'))
    assert.equal(result.status, 1)
    assert.match(result.stderr, /1 entry failed: '\/x\/big\.bin': .*No space left/)
    assert.match(result.stderr, /what lies in '.*' is incomplete/)
    assert.match(result.stderr, /restore to a place with more space/)
  })

  await t.test('an rsync that ends well and leaves something out is no success', async () => {
    fake(m.bin, 'rsync', `case " $* " in *" --version "*) exec ${newest.path} "$@" ;; esac; exec ${newest.path} --exclude=suid "$@"`)
    const result = await kedge(m, ['restore', 'web1', '--to', fresh()])
    fs.rmSync(path.join(m.bin, 'rsync'))
    assert.equal(result.status, 1)
    assert.match(result.stderr, /1 entry failed: '.*\/suid': it is not there/)
  })

  await t.test('an rsync without ACLs and xattrs, as OpenBSD has, is not asked for them', async () => {
    const asked = path.join(m.dir, 'asked')
    fake(
      m.bin,
      'rsync',
      `case " $* " in *" --version "*) ${newest.path} "$@" | sed 's/ ACLs,/ no ACLs,/; s/ xattrs,/ no xattrs,/' ;;
      *) echo "$1" >>'${asked}'; exec ${newest.path} "$@" ;; esac`,
    )
    const to = fresh()
    await run('--to', to)
    fs.rmSync(path.join(m.bin, 'rsync'))
    assert.equal(fs.readFileSync(asked, 'utf8'), '--no-human-readable\n')
    assert.ok(fs.existsSync(path.join(to, source, 'suid')))
  })

  await t.test('to the files of another host nothing is restored in place; --explain prints the rsync that brings them there', async () => {
    const there = path.join(m.dir, 'there')
    fs.mkdirSync(there)
    const far = newRsyncTarget(m, 'far', { paths: [source], env: { STORE: web1.store, SOURCE_HOST: 'root@far', SNAPSHOTS_OF: 'web1' } })
    const result = await kedge(m, ['restore', far.name, '--in-place', `latest:${source}/deep`])
    assert.equal(result.status, 15)
    assert.match(result.stderr, /the files of 'far' were on root@far/)
    const both = await kedge(m, ['restore', far.name, '--in-place', '--delete', '--explain'])
    assert.equal(both.status, 15)
    const { stdout } = await done(m, ['restore', far.name, '--in-place', '--explain', `latest:${source}/deep`])
    fake(m.bin, 'ssh', `while [ "$1" != root@far ]; do shift; done; shift; echo "$*" | sed 's# /$# ${there}/#' | sh -`)
    fake(
      m.bin,
      'ssh',
      `while [ "$1" != -l ] && [ "$1" != far ]; do shift; done; [ "$1" = -l ] && shift 3 || shift; cd '${there}'; eval "$(echo "$*" | sed 's# /$# ./#')"`,
    )
    const pushed = await startProgram(m, '/bin/sh', ['-ec', stdout]).result
    assert.equal(pushed.status, 0, `${stdout}${pushed.stderr}`)
    sameTree(path.join(there, source, 'deep'), path.join(source, 'deep'))
  })

  await t.test('the store is what it was', () => {
    const after = storeFacts(web1.store)
    assert.deepEqual(after, before)
  })
})

for (const rsync of rsyncs())
  test(`what an ordinary user has saved comes back as root with owners, devices and setuid, and to the user as his own: rsync ${rsync.version}`, async (t) => {
    assert.equal(process.geteuid?.(), 0, 'this test is run as root')
    const { m, web1, source, fresh } = await place(t, rsync, (dir) => {
      hardTree(dir)
      // rsync --fake-super loses the ACL of a folder that has another xattr: 3.2.7 and 3.5.0.
      execFileSync('setfattr', ['-x', 'user.dir', path.join(dir, 'acl')])
    })
    // rsync leaves the fractions of a copy that is made within the second of its own time.
    await new Promise((resolve) => setTimeout(resolve, 1000 - (Date.now() % 1000)))
    const fakeSnapshot = snapshotByHand(web1.root, '2026-11-19T031500Z', [source], { fake: true })
    receivedByUser(m, { snapshot: fakeSnapshot, rsync })
    const held = fs.lstatSync(path.join(fakeSnapshot, 'tree', source, 'dev/c'))
    assert.ok(held.isFile() && held.uid === 65534, 'the snapshot holds a plain file in the place of the device')

    await t.test('root has all of it, verified; by hand as well', async () => {
      const [to, hand] = [fresh(), fresh()]
      await done(m, ['restore', 'web1', '--to', to, '--verify'])
      sameTree(path.join(to, source), source)
      await byHand(m, ['--to', hand])
      sameTree(path.join(hand, source), source)
      const some = fresh()
      await done(m, ['restore', 'web1', '--to', some, '--include', 'dev', '--include', 'owners'])
      sameTree(path.join(some, source, 'dev'), path.join(source, 'dev'))
      sameTree(path.join(some, source, 'owners'), path.join(source, 'owners'))
    })

    await t.test('an rsync without xattrs cannot restore it, and says so', async () => {
      fake(
        m.bin,
        'rsync',
        `case " $* " in *" --version "*) ${rsync.path} "$@" | sed 's/ xattrs,/ no xattrs,/' ;; *) exec ${rsync.path} "$@" ;; esac`,
      )
      const result = await kedge(m, ['restore', 'web1', '--to', fresh()])
      fs.rmSync(path.join(m.bin, 'rsync'))
      assert.equal(result.status, 1, result.stderr)
      assert.match(result.stderr, /its owners and modes lie in xattrs, and this rsync was built without/)
    })

    await t.test('the user has the bytes, and is told of owners and devices that only root can give: status 3', async () => {
      const home = fs.mkdtempSync('/tmp/kedge-user-')
      t.after(() => fs.rmSync(home, { recursive: true, force: true }))
      execFileSync('chown', ['-R', '65534', home, m.bin, m.home, m.config, m.state, m.cache])
      const to = path.join(home, 'to')
      const as = (args: string[]) =>
        startProgram(m, 'setpriv', [
          '--reuid=65534',
          '--regid=65534',
          '--clear-groups',
          process.execPath,
          path.join(dist, 'kedge.cjs'),
          ...args,
        ]).result
      const result = await as(['restore', 'web1', '--to', to, '--verify'])
      assert.equal(result.status, 3, result.stderr)
      assert.equal(result.stderr.match(/only root can give files away/g)?.length, 1)
      assert.match(result.stderr, /2 entries were not looked at again: their modes keep you out/)
      assert.match(result.stderr, /4 devices are left out: only root can make them/)
      for (const name of ['owners/folder/file', 'modes/closed/file', 'deep/er/three.txt']) {
        assert.deepEqual(fs.readFileSync(path.join(to, source, name)), fs.readFileSync(path.join(source, name)))
        assert.equal(fs.statSync(path.join(to, source, name)).uid, 65534)
      }
      assert.equal(fs.existsSync(path.join(to, source, 'dev/c')), false)
      const printed = await as(['restore', 'web1', '--to', path.join(home, 'hand'), '--explain', `latest:${source}/owners`])
      assert.match(printed.stdout, /rsync -aHAXS --numeric-ids --fake-super .* localhost:/)
    })
  })

for (const rsync of rsyncs())
  test(`in place nothing is written through a link where a folder was saved: rsync ${rsync.version}`, async (t) => {
    const m = machine(t, undefined, rsync)
    await keepsFromLinks(m, async (name, paths) => {
      newRsyncTarget(m, name, { paths: [...paths] })
      await done(m, ['init', name])
      await done(m, ['backup', name])
    })
  })

test('of a path that was saved through a link nothing is restored in place', async (t) => {
  const m = machine(t)
  const real = path.join(m.dir, 'real')
  const saved = path.join(m.dir, 'link/saved')
  fs.mkdirSync(path.join(real, 'saved'), { recursive: true })
  fs.symlinkSync('real', path.join(m.dir, 'link'))
  fs.writeFileSync(path.join(saved, 'f'), 'saved\n')
  newRsyncTarget(m, 'web1', { paths: [saved] })
  await done(m, ['init', 'web1'])
  await done(m, ['backup', 'web1'])
  fs.writeFileSync(path.join(saved, 'f'), 'newer\n')
  for (const what of ['latest', `latest:${m.dir}`, `latest:${saved}`, `latest:${saved}/f`]) {
    const result = await kedge(m, ['restore', 'web1', '--in-place', what])
    assert.equal(result.status, 15, `${what}: ${result.stderr}`)
    assert.match(result.stderr, /'.*\/link' is a link to a folder/)
  }
  assert.equal(fs.readFileSync(path.join(saved, 'f'), 'utf8'), 'newer\n')
})
