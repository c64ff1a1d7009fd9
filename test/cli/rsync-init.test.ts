import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import type { StoreRow } from '../../lib/rows.ts'
import { done, kedge, type Machine, machine, type NewRsyncTarget, newRsyncTarget, startProgram } from '../harness.ts'

const root = process.geteuid?.() === 0

function made(t: TestContext, env: Record<string, string> = {}): { m: Machine; web1: NewRsyncTarget } {
  const m = machine(t)
  return { m, web1: newRsyncTarget(m, 'web1', { env }) }
}

const envOf = (target: NewRsyncTarget) => fs.readFileSync(path.join(target.dir, 'target.env'), 'utf8')
const pinOf = (target: NewRsyncTarget) => /^STORE_ID='?([0-9a-f]+)/m.exec(envOf(target))?.[1]
const unpin = (target: NewRsyncTarget) =>
  fs.writeFileSync(path.join(target.dir, 'target.env'), envOf(target).replace(/^STORE_ID=.*\n/m, ''))
const modeOf = (file: string) => (fs.statSync(file).mode & 0o777).toString(8)
const idIn = (store: string) => (JSON.parse(fs.readFileSync(path.join(store, 'kedge-store.json'), 'utf8')) as { id: string }).id

test('init makes the store and the folder of the target, closed to others, and pins it; a second time it does nothing', async (t) => {
  const { m, web1 } = made(t)
  const [dry] = (await done(m, ['init', '-n', '--json', 'web1'])).rows as StoreRow[]
  assert.deepEqual([dry?.created, dry?.dryRun, fs.existsSync(web1.store), pinOf(web1)], [true, true, false, undefined])
  const [row] = (await done(m, ['init', '--json', 'web1'])).rows as StoreRow[]
  assert.deepEqual([row?.created, row?.store, row?.id], [true, web1.store, idIn(web1.store)])
  assert.match(row?.id ?? '', /^[0-9a-f]{64}$/)
  assert.equal(pinOf(web1), row?.id)
  assert.deepEqual([modeOf(web1.store), modeOf(web1.root)], ['700', '700'])
  assert.deepEqual(fs.readdirSync(web1.store).sort(), ['kedge-store.json', 'web1'])
  const again = await done(m, ['init', 'web1', '--json'])
  assert.match(again.stderr, /exists and is pinned: nothing to do/)
  assert.deepEqual((again.rows as StoreRow[])[0], { ...row, created: false })
  assert.equal((await done(m, ['list', 'web1'])).stdout, '')
})

test('what --explain prints makes and pins a store that kedge takes for its own', async (t) => {
  const { m, web1 } = made(t)
  const { stdout } = await done(m, ['init', '--explain', 'web1'])
  const byHand = await startProgram(m, '/bin/sh', ['-e'], { input: stdout }).result
  assert.equal(byHand.status, 0, byHand.stderr)
  assert.equal(pinOf(web1), idIn(web1.store))
  assert.equal(modeOf(web1.root), '700')
  for (const args of [
    ['init', 'web1'],
    ['init', '--explain', 'web1'],
  ]) {
    const { stdout: said, stderr } = await done(m, args)
    assert.match(stderr, /exists and is pinned: nothing to do/)
    assert.doesNotMatch(said, /mkdir|printf|ln /)
  }
  newRsyncTarget(m, 'web2', { env: { STORE: web1.store } })
  const second = await startProgram(m, '/bin/sh', ['-e'], { input: (await done(m, ['init', '--adopt', '--explain', 'web2'])).stdout })
    .result
  assert.equal(second.status, 0, second.stderr)
  assert.ok(fs.statSync(path.join(web1.store, 'web2')).isDirectory())
  assert.match((await done(m, ['init', 'web2'])).stderr, /nothing to do/)
  const third = await startProgram(m, '/bin/sh', ['-e'], { input: stdout }).result
  assert.notEqual(third.status, 0)
  assert.equal(idIn(web1.store), pinOf(web1))
})

test('a path whose parent is not there, a file, and a folder with something else in it are refused, and nothing is made there', async (t) => {
  const { m } = made(t)
  const at = (name: string) => path.join(m.dir, name)
  fs.writeFileSync(at('file'), 'x')
  fs.mkdirSync(at('photos'))
  fs.writeFileSync(path.join(at('photos'), 'a.jpg'), 'x')
  const cases: [string, string, RegExp][] = [
    ['mistyped', at('mnt/usb/store'), /refusing to create a store in '.*': there is no '.*mnt\/usb'.*\n.*is the disk mounted\?/],
    ['file', at('file'), /refusing to create a store in '.*': it is not a folder/],
    ['below', at('file/store'), /refusing to create a store in '.*': it is not a folder/],
    ['photos', at('photos'), /refusing to create a store in '.*': the folder holds something else: a\.jpg/],
  ]
  for (const [name, store, said] of cases) {
    newRsyncTarget({ ...m, dir: at('x') }, name, { env: { STORE: at('x') } })
    const file = path.join(m.config, 'targets', name, 'target.env')
    fs.writeFileSync(file, `ENGINE=rsync\nSTORE=${store}\n`)
    const before = execFileSync('find', [m.dir, '-path', m.state, '-prune', '-o', '-path', m.config, '-prune', '-o', '-print']).toString()
    for (const args of [
      ['init', name],
      ['init', '-n', name],
    ]) {
      const result = await kedge(m, args)
      assert.equal(result.status, 15, `${name}: ${result.stderr}`)
      assert.match(result.stderr, said)
    }
    const after = execFileSync('find', [m.dir, '-path', m.state, '-prune', '-o', '-path', m.config, '-prune', '-o', '-print']).toString()
    assert.equal(after, before)
  }
})

test('the lost+found of a new disk, and what a killed init left, keep no store from being made', async (t) => {
  const { m, web1 } = made(t)
  for (const folder of ['lost+found', '.kedge-init/half', 'web1']) fs.mkdirSync(path.join(web1.store, folder), { recursive: true })
  await done(m, ['init', 'web1'])
  assert.deepEqual(fs.readdirSync(web1.store).sort(), ['kedge-store.json', 'lost+found', 'web1'])
})

test('a store that is there is refused until --adopt pins it; a pin to what is not there, or to another, is never followed', async (t) => {
  const { m, web1 } = made(t)
  await done(m, ['init', 'web1'])
  const pinned = envOf(web1)
  unpin(web1)
  const refused = await kedge(m, ['init', 'web1'])
  assert.deepEqual([refused.status, /a store exists there\n.*kedge init --adopt web1/.test(refused.stderr)], [15, true])
  const [row] = (await done(m, ['init', '--adopt', '--json', 'web1'])).rows as StoreRow[]
  assert.deepEqual([row?.created, row?.adopted, pinOf(web1)], [false, 0, idIn(web1.store)])
  fs.writeFileSync(path.join(web1.dir, 'target.env'), pinned.replace(/^STORE_ID=.*/m, `STORE_ID=${'b'.repeat(64)}`))
  for (const args of [
    ['init', 'web1'],
    ['init', '--adopt', 'web1'],
  ]) {
    const other = await kedge(m, args)
    assert.equal(other.status, 15, other.stderr)
    assert.match(other.stderr, /another store lies in '.*': its id is [0-9a-f]{10}, pinned is bbbbbbbbbb/)
  }
  fs.renameSync(web1.store, `${web1.store}.away`)
  const away = await kedge(m, ['init', 'web1'])
  assert.equal(away.status, 15)
  assert.match(away.stderr, /refusing to create a store in '.*': the target is pinned to bbbbbbbbbb, which is not there/)
  assert.ok(!fs.existsSync(web1.store))
  unpin(web1)
  const missing = await kedge(m, ['init', '--adopt', 'web1'])
  assert.equal(missing.status, 10, missing.stderr)
})

test('options that say nothing to this engine are misuse: --tag, --like, --host without --from', async (t) => {
  const { m } = made(t)
  newRsyncTarget(m, 'web2')
  await done(m, ['init', 'web1'])
  const cases: [string[], RegExp][] = [
    [['init', '--adopt', '--tag', 'kedge:web2', 'web1'], /--tag kedge:web2 is for restic.*\n.*SNAPSHOTS_OF/],
    [['init', '--adopt', '--host', 'h', 'web1'], /--host and --path go with --from/],
    [['init', '--like', 'web1', 'web2'], /--like is for restic/],
  ]
  for (const [args, said] of cases) {
    const result = await kedge(m, args)
    assert.equal(result.status, 2, result.stderr)
    assert.match(result.stderr, said)
  }
})

test('a file system without hard links is refused by what it is, and the folder that init made is gone again', async (t) => {
  const { m, web1 } = made(t)
  const preload = path.join(m.dir, 'nolinks.cjs')
  fs.writeFileSync(
    preload,
    "require('fs').promises.link = async () => { throw Object.assign(new Error('EPERM: operation not permitted, link'), { code: 'EPERM', syscall: 'link' }) }",
  )
  const result = await kedge(m, ['init', 'web1'], { env: { NODE_OPTIONS: `--require ${preload}` } })
  assert.equal(result.status, 15, result.stderr)
  assert.match(result.stderr, /refusing to create a store in '.*': its file system.* has no hard links/)
  assert.ok(!fs.existsSync(web1.store))
  assert.equal(pinOf(web1), undefined)
})

test('the store of an ordinary user needs extended attributes: a file system without them is refused by its name', async (t) => {
  if (!root) return t.skip('only root can mount a ramfs')
  let bare = ''
  t.after(() => spawnSync('umount', ['-l', bare])) // before the folder is removed
  const { m, web1 } = made(t)
  bare = path.join(m.dir, 'bare')
  fs.mkdirSync(bare)
  execFileSync('mount', ['-t', 'ramfs', 'none', bare])
  fs.chownSync(bare, 65534, 65534)
  const file = path.join(web1.dir, 'target.env')
  fs.writeFileSync(file, `ENGINE=rsync\nSTORE=${bare}/store\n`)
  execFileSync('chown', ['-R', '65534:65534', m.config, m.state, m.cache, m.home])
  fs.chmodSync(m.dir, 0o755)
  const result = await kedge(m, ['init', 'web1'], { uid: 65534 })
  assert.equal(result.status, 15, result.stderr)
  assert.match(result.stderr, /its file system \(ramfs\) keeps no extended attributes/)
  assert.deepEqual(fs.readdirSync(bare), [])
  fs.writeFileSync(file, `ENGINE=rsync\nSTORE=${m.home}/store\n`)
  await done(m, ['init', 'web1'], { uid: 65534 })
  assert.equal(fs.statSync(path.join(m.home, 'store/web1')).uid, 65534)
})

test('two targets share a store: the second is pinned by --adopt, and what the first has there is left out by name', async (t) => {
  const { m, web1 } = made(t)
  await done(m, ['init', 'web1'])
  const old = path.join(m.dir, 'old')
  fs.mkdirSync(path.join(old, '2026-11-18/etc'), { recursive: true })
  await done(m, ['init', '--adopt', '--from', old, 'web1'])
  const web2 = newRsyncTarget(m, 'web2', { env: { STORE: web1.store } })
  for (const args of [['-n'], []]) {
    const result = await done(m, ['init', '--adopt', '--json', 'web2', ...args])
    assert.equal((result.rows as StoreRow[])[0]?.adopted, 0)
    assert.match(result.stderr, /1 snapshot is left out: of 'web1'; SNAPSHOTS_OF='web2 web1' shows them/)
  }
  assert.equal(modeOf(path.join(web1.store, 'web2')), '700')
  assert.equal((await done(m, ['list', 'web2'])).stdout, '')
  fs.appendFileSync(path.join(web2.dir, 'target.env'), "SNAPSHOTS_OF='web2 web1'\n")
  const both = await done(m, ['init', '--adopt', '--json', 'web2'])
  assert.deepEqual([(both.rows as StoreRow[])[0]?.adopted, both.stderr], [1, ''])
  assert.equal((await done(m, ['list', 'web2', '-q'])).lines.length, 1)
  newRsyncTarget(m, 'web3', { env: { STORE: web1.store } })
  newRsyncTarget(m, 'web0', { env: { STORE: web1.store } })
  fs.mkdirSync(path.join(old, '2026-11-17/etc'), { recursive: true })
  await done(m, ['init', '--adopt', '--from', old, 'web0'])
  const several = await done(m, ['init', '--adopt', 'web3'])
  assert.match(several.stderr, /2 snapshots are left out: of 'web0', 'web1'; SNAPSHOTS_OF='web3 web0 web1' shows them/)
})

test('a name that a renamed target left is not taken over in its store, and its snapshots stay its own', async (t) => {
  const m = machine(t)
  const [old, fresh] = ['old', 'fresh'].map((name) => path.join(m.dir, name)) as [string, string]
  for (const source of [old, fresh]) {
    fs.mkdirSync(source)
    fs.writeFileSync(path.join(source, 'f'), source)
  }
  const e = newRsyncTarget(m, 'e', { paths: [old], env: { RESERVE: '0', KEEP_LAST: '1' } })
  await done(m, ['init', 'e'])
  await done(m, ['backup', 'e'])
  await done(m, ['rename', 'e', 'e2'])
  const id = idIn(e.store)
  const again = newRsyncTarget(m, 'e', { paths: [fresh], env: { STORE: e.store, RESERVE: '0', KEEP_LAST: '1' } })
  for (const args of [
    ['init', '--adopt', 'e'],
    ['init', '--adopt', '-n', 'e'],
    ['init', 'e'],
  ]) {
    const refused = await kedge(m, args)
    assert.equal(refused.status, 15, refused.stderr)
    assert.match(refused.stderr, /refusing to use '.*\/e': what lies there is of target 'e2', as its SNAPSHOTS_OF says/)
  }
  assert.equal(pinOf(again), undefined)
  // Where it was pinned by hand, its keep rules are not those of e2.
  fs.appendFileSync(path.join(again.dir, 'target.env'), `STORE_ID=${id}\n`)
  await done(m, ['backup', 'e'])
  await done(m, ['backup', 'e2'])
  const before = (await done(m, ['list', 'e2', '-q'])).lines
  assert.equal(before.length, 3)
  const dry = await done(m, ['prune', '-n', 'e2'])
  assert.match(dry.stderr, /the snapshots of 'e' are left alone: it is a target of its own/)
  assert.deepEqual(
    dry.lines.filter((line) => /delete/.test(line)),
    [],
  )
  await done(m, ['prune', 'e2'])
  assert.deepEqual((await done(m, ['list', 'e2', '-q'])).lines, before)
})

test('a store that is away while the target is pinned: no hint to make one', async (t) => {
  const { m, web1 } = made(t)
  const unmade = await kedge(m, ['list', 'web1'])
  assert.deepEqual([unmade.status, /kedge init web1 creates one/.test(unmade.stderr)], [10, true])
  await done(m, ['init', 'web1'])
  fs.renameSync(web1.store, `${web1.store}.away`)
  const away = await kedge(m, ['list', 'web1'])
  assert.deepEqual(
    [away.status, /is the disk mounted\?/.test(away.stderr), /creates one/.test(away.stderr)],
    [10, true, false],
    away.stderr,
  )
})
