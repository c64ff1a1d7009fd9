import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { copyArgs, kinOf } from '../../lib/engine/rsync/replica.ts'
import type { Found } from '../../lib/engine/rsync/snapshots.ts'
import { take } from '../../lib/lock.ts'
import type { Copied, RunRow, Snapshot } from '../../lib/rows.ts'
import {
  done,
  fake,
  growTree,
  kedge,
  type Machine,
  machine,
  type NewRsyncTarget,
  newRsyncTarget,
  newTarget,
  type Rsync,
  rsyncs,
  startProgram,
} from '../harness.ts'
import { smallFs } from '../smallfs.ts'
import { sameTree } from '../tree.ts'

type Made = { m: Machine; web1: NewRsyncTarget; off: NewRsyncTarget; source: string }

/** Two snapshots of web1 that share what did not change, and the empty store of off. */
async function saved(t: TestContext, rsync?: Rsync, env: Record<string, string> = {}): Promise<Made> {
  const m = machine(t, undefined, rsync)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  growTree(source)
  const web1 = newRsyncTarget(m, 'web1', { paths: [source], env: { COPY_TO: 'off', LOCK_WAIT: '0', ...env } })
  const off = newRsyncTarget(m, 'off', { env: { SNAPSHOTS_OF: 'web1', LOCK_WAIT: '0' } })
  for (const name of ['web1', 'off']) await done(m, ['init', name])
  await adopt(m, source, '2026-11-18')
  fs.writeFileSync(path.join(source, 'a.txt'), 'another\n')
  await adopt(m, source, '2026-11-19')
  return { m, web1, off, source }
}

/** A snapshot of the source by hand, linked to the newest, of which the target knows the time. */
async function adopt(m: Machine, source: string, date: string): Promise<void> {
  const old = path.join(m.dir, 'old')
  const latest = path.join(m.dir, 'stores/web1/web1/latest/tree')
  const to = path.join(old, date)
  fs.mkdirSync(to, { recursive: true })
  execFileSync('rsync', ['-aHAXSR', ...(fs.existsSync(latest) ? [`--link-dest=${latest}`] : []), source, `${to}/`])
  await done(m, ['init', '--adopt', '--from', old, 'web1'])
}

const ids = ['2026-11-18T000000Z', '2026-11-19T000000Z'] as const
const counts = ({ rows }: { rows: readonly { kind: string }[] }) =>
  rows
    .filter((row): row is Copied => row.kind === 'copied')
    .map(({ target, to, copied, present, dryRun }) => [target, to, copied, present, ...(dryRun ? ['dry'] : [])])
const dirIn = (store: NewRsyncTarget, id: string) => path.join(store.store, 'web1', 'snapshots', id)
const treeIn = (store: NewRsyncTarget, id: string) => path.join(dirIn(store, id), 'tree')
const list = async (m: Machine, name: string) => ((await done(m, ['list', name, '--json'])).rows as Snapshot[]).map(({ id }) => id)
const lastRun = async (m: Machine, name: string) => ((await done(m, ['history', name, '--json'])).rows as RunRow[])[0]

/** What of a tree's files has the same inode in another tree, by path. */
function shared(a: string, b: string): string[] {
  const numbers = (tree: string) =>
    new Map(
      execFileSync('find', ['.', '-type', 'f', '-printf', '%P\\t%i\\0'], { cwd: tree })
        .toString()
        .split('\0')
        .filter(Boolean)
        .map((line) => line.split('\t') as [string, string]),
    )
  const other = numbers(b)
  return [...numbers(a)].flatMap(([name, inode]) => (other.get(name) === inode ? [name] : [])).sort()
}

/** Both snapshots lie in the second store as they lie in the first, links and the files that tell of them too. */
function sameCopies(web1: NewRsyncTarget, off: NewRsyncTarget): void {
  for (const id of ids) {
    sameTree(treeIn(off, id), treeIn(web1, id))
    for (const name of ['manifest', 'snapshot.json'])
      assert.deepEqual(fs.readFileSync(path.join(dirIn(off, id), name)), fs.readFileSync(path.join(dirIn(web1, id), name)), name)
  }
  const links = shared(treeIn(web1, ids[0]), treeIn(web1, ids[1]))
  assert.ok(links.length > 5)
  assert.deepEqual(shared(treeIn(off, ids[0]), treeIn(off, ids[1])), links)
  assert.deepEqual(shared(treeIn(off, ids[0]), treeIn(web1, ids[0])), [])
  assert.deepEqual(fs.readdirSync(path.join(off.store, 'web1/incomplete')), [])
  assert.equal(fs.readlinkSync(path.join(off.store, 'web1/latest')), `snapshots/${ids[1]}`)
}

for (const rsync of rsyncs()) {
  test(`rsync ${rsync.version}: what is missing is copied, the oldest first, with all of its links, and nothing twice`, async (t) => {
    const { m, web1, off, source } = await saved(t, rsync)
    assert.deepEqual(counts(await done(m, ['copy', '-n', 'web1', '--json'])), [['web1', 'off', 2, 0, 'dry']])
    assert.deepEqual(fs.readdirSync(off.store).sort(), ['kedge-store.json', 'off'])
    const used = () => Number.parseInt(execFileSync('du', ['-sk', path.join(m.dir, 'stores')]).toString(), 10)
    const before = used()
    const first = await done(m, ['copy', 'web1', '--json'])
    assert.deepEqual(counts(first), [['web1', 'off', 2, 0]])
    assert.match(first.stderr, /copying 2 of 2 snapshots of 'web1' to 'off'/)
    sameCopies(web1, off)
    const once = Number.parseInt(execFileSync('du', ['-sk', web1.store]).toString(), 10)
    assert.ok(used() - before < once + 100, 'the copies share what the snapshots share')
    assert.deepEqual(await list(m, 'off'), [ids[1], ids[0]])
    assert.equal((await done(m, ['cat', 'off', `latest:${source}/a.txt`])).stdout, 'another\n')
    assert.deepEqual(counts(await done(m, ['copy', 'web1', '--json'])), [['web1', 'off', 0, 2]])
    assert.deepEqual([(await lastRun(m, 'web1'))?.verb, (await lastRun(m, 'web1'))?.state], ['copy', 'success'])
    // One that a prune of the second store deleted is linked to the one after it.
    fs.rmSync(dirIn(off, ids[0]), { recursive: true })
    assert.deepEqual((await done(m, ['copy', 'web1'])).lines, ['web1\toff\t1\t1'])
    sameCopies(web1, off)
  })
}

test('what --explain prints copies the same by hand', async (t) => {
  const { m, web1, off } = await saved(t)
  const { stdout } = await done(m, ['copy', 'web1', '--explain'])
  const byHand = await startProgram(m, '/bin/sh', ['-e'], { input: stdout }).result
  assert.equal(byHand.status, 0, byHand.stderr)
  sameCopies(web1, off)
  assert.deepEqual(counts(await done(m, ['copy', 'web1', '--json'])), [['web1', 'off', 0, 2]])
})

test('a copy that was cut off goes on: what came is linked to, and no snapshot that was there is touched', async (t) => {
  const { m, web1, off } = await saved(t)
  const real = execFileSync('sh', ['-c', 'command -v rsync']).toString().trim()
  fake(m.bin, 'rsync', `case "$*" in *version*) exec ${real} "$@";; esac; ${real} "$@"; kill -9 $PPID`)
  const killed = await kedge(m, ['copy', 'web1'])
  assert.equal(killed.signal, 'SIGKILL', killed.stderr)
  fs.rmSync(path.join(m.bin, 'rsync'))
  const partial = path.join(off.store, 'web1/incomplete', ids[0], 'tree')
  assert.ok(fs.existsSync(partial))
  const crashed = async (name: string) =>
    (await kedge(m, ['status', '--json', name])).rows.some((row) => row.kind === 'status' && row.state === 'crashed')
  // The group of its child may look alive for a moment.
  for (const until = Date.now() + 20_000; !(await crashed('web1')) && Date.now() < until; );
  assert.deepEqual([await crashed('web1'), await crashed('off')], [true, false])
  assert.deepEqual(await list(m, 'off'), [])
  const sent = execFileSync('find', [partial, '-name', 'big.bin', '-printf', '%i']).toString()
  await done(m, ['copy', 'web1', '--wait', '30'])
  assert.deepEqual([await crashed('web1'), await crashed('off')], [false, false])
  assert.deepEqual(
    [await lastRun(m, 'off')].flatMap((run) => (run?.state === 'crashed' ? run.verb : [])),
    [],
  )
  sameCopies(web1, off)
  assert.equal(execFileSync('find', [treeIn(off, ids[0]), '-name', 'big.bin', '-printf', '%i']).toString(), sent)
  assert.ok(!fs.existsSync(path.join(dirIn(off, ids[0]), 'cut-1')))
  assert.deepEqual(fs.readdirSync(path.join(off.store, 'web1/deleting')), [])
})

test('a second store that is full, another one, unpinned, or locked is named, status 3; nothing is published there', async (t) => {
  const { m, web1, off } = await saved(t)
  const file = path.join(off.dir, 'target.env')
  const text = fs.readFileSync(file, 'utf8')
  const copied = async (said: RegExp) => {
    const result = await kedge(m, ['copy', 'web1', '--json'])
    assert.equal(result.status, 3, result.stderr)
    assert.match(result.stderr, said)
    assert.deepEqual(counts(result), [])
    assert.equal((await lastRun(m, 'web1'))?.status, 3)
  }
  fs.writeFileSync(file, text.replace(/STORE_ID=.*/, `STORE_ID=${'b'.repeat(64)}`))
  await copied(/store 'off': refusing to write: another store lies in '.*': its id is [0-9a-f]{10}, pinned is bbbbbbbbbb/)
  fs.writeFileSync(file, text.replace(/STORE_ID=.*\n/, ''))
  await copied(/store 'off': refusing to copy to 'off': its store is not pinned \(kedge init off, or kedge init --adopt off/)
  fs.writeFileSync(file, text.replace(/^STORE=.*/m, `STORE='${web1.store}'`).replace(/STORE_ID=.*\n/, ''))
  await done(m, ['init', '--adopt', 'off'])
  await copied(/store 'off': cannot copy 'web1' to 'off': both have the store/)
  fs.writeFileSync(file, text)
  fs.renameSync(off.store, `${off.store}.away`)
  await copied(/store 'off': no store in '.*'/)
  fs.renameSync(`${off.store}.away`, off.store)
  const held = await take(path.join(off.store, 'web1/lock'), 'write', { run: 'x', verb: 'prune' })
  await copied(/store 'off': cannot lock 'web1' in store '.*off' for copy: held by .*prune/)
  await held.release()
  const small = await smallFs(t, { bytes: 2 << 20, inodes: 300 })
  if (small.enter.length === 0) {
    fs.writeFileSync(file, text.replace(/^STORE=.*/m, `STORE='${small.dir}'`).replace(/STORE_ID=.*\n/, ''))
    await done(m, ['init', 'off'])
    await copied(/store 'off': cannot copy snapshot 2026-11-18T000000Z to '.*': .*No space left on device/)
    assert.deepEqual(fs.readdirSync(path.join(small.dir, 'web1/snapshots')), [])
    fs.writeFileSync(file, text)
  }
  assert.deepEqual(counts(await done(m, ['copy', 'web1', '--json'])), [['web1', 'off', 2, 0]])
})

test('a target of another engine, and one that does not show the copies, are told in words', async (t) => {
  const { m, web1, off } = await saved(t)
  newTarget(m, 'cold')
  const file = path.join(web1.dir, 'target.env')
  const text = fs.readFileSync(file, 'utf8')
  fs.writeFileSync(file, text.replace("COPY_TO='off'", "COPY_TO='cold off'"))
  const both = await kedge(m, ['copy', 'web1', '--json'])
  assert.deepEqual([both.status, counts(both)], [3, [['web1', 'off', 2, 0]]])
  assert.match(both.stderr, /store 'cold': cannot copy 'web1' to 'cold': rsync does not copy to restic/)
  const only = await kedge(m, ['copy', 'web1', '--to', 'cold'])
  assert.equal(only.status, 2, only.stderr)
  const hidden = path.join(off.dir, 'target.env')
  fs.writeFileSync(hidden, fs.readFileSync(hidden, 'utf8').replace(/SNAPSHOTS_OF=.*\n/, ''))
  assert.match((await done(m, ['copy', 'web1', '--to', 'off'])).stderr, /'off' does not show the copies: set SNAPSHOTS_OF='web1'/)
})

test('a snapshot whose tree is not what its manifest names is not published as a copy; a held one is held there too', async (t) => {
  const { m, web1, off } = await saved(t)
  fs.writeFileSync(path.join(dirIn(web1, ids[0]), 'hold'), '')
  const [odd = ''] = execFileSync('find', [treeIn(web1, ids[1]), '-name', 'suid'])
    .toString()
    .trim()
    .split('\n')
  fs.rmSync(odd)
  const result = await kedge(m, ['copy', 'web1', '--json'])
  assert.equal(result.status, 3, result.stderr)
  assert.match(result.stderr, /cannot copy snapshot 2026-11-19T000000Z .*: its manifest names \d+ folders and \d+ files, its tree has/)
  assert.deepEqual(await list(m, 'off'), [ids[0]])
  assert.deepEqual(counts(result), [['web1', 'off', 1, 0]])
  assert.ok(fs.existsSync(path.join(dirIn(off, ids[0]), 'hold')))
})

test('a damaged snapshot keeps the newer ones from nothing: it is named, and nothing of it stays in the second store', async (t) => {
  const { m, web1, off } = await saved(t)
  const manifest = path.join(dirIn(web1, ids[0]), 'manifest')
  const text = fs.readFileSync(manifest)
  const real = execFileSync('sh', ['-c', 'command -v rsync']).toString().trim()
  const said = 'rsync: [sender] read errors mapping "/x": Input/output error (5)'
  const damages: readonly (readonly [() => void, RegExp])[] = [
    [() => fs.truncateSync(manifest, text.length - 5), /manifest': its last line is cut off/],
    [() => fs.rmSync(manifest), /manifest': it is gone/],
    [
      () => fake(m.bin, 'rsync', `case "$*" in *${ids[0]}/tree/\\ *) echo '${said}' >&2; exit 23;; esac; exec ${real} "$@"`),
      /cannot copy snapshot 2026-11-18T000000Z to '.*': read errors mapping "\/x": Input\/output error/,
    ],
  ]
  for (const [damage, told] of damages) {
    damage()
    const result = await kedge(m, ['copy', 'web1', '--json'])
    assert.equal(result.status, 3, result.stderr)
    assert.match(result.stderr, told)
    assert.match(result.stderr, /store 'off': .*2026-11-18T000000Z/)
    assert.deepEqual(counts(result), [['web1', 'off', 1, 0]])
    assert.deepEqual(await list(m, 'off'), [ids[1]])
    for (const folder of ['incomplete', 'deleting']) assert.deepEqual(fs.readdirSync(path.join(off.store, 'web1', folder)), [], folder)
    const status = (await kedge(m, ['status', '--json', 'web1'])).rows.find((row) => row.kind === 'status' && row.verb === 'copy')
    assert.ok(status?.kind === 'status' && status.state === 'failed' && status.behind === 1, JSON.stringify(status))
    fs.writeFileSync(manifest, text)
    fs.rmSync(dirIn(off, ids[1]), { recursive: true })
    fs.rmSync(path.join(m.bin, 'rsync'), { force: true })
  }
  await done(m, ['copy', 'web1'])
  sameCopies(web1, off)
})

test('another snapshot with the same id is told and never taken for a copy; the others are copied', async (t) => {
  const { m, web1, off } = await saved(t)
  await done(m, ['copy', 'web1'])
  fs.rmSync(dirIn(off, ids[1]), { recursive: true })
  const file = path.join(dirIn(off, ids[0]), 'snapshot.json')
  const others = fs.readFileSync(file, 'utf8').replace(/"host": ".*"/, '"host": "elsewhere"')
  fs.writeFileSync(file, others)
  assert.deepEqual(counts(await kedge(m, ['copy', '-n', 'web1', '--json'])), [['web1', 'off', 1, 0, 'dry']])
  const { stdout } = await done(m, ['copy', 'web1', '--explain'])
  assert.match(stdout, /^# another snapshot has the id 2026-11-18T000000Z/m)
  assert.doesNotMatch(stdout, new RegExp(`^mkdir .*${ids[0]}`, 'm'))
  const result = await kedge(m, ['copy', 'web1', '--json'])
  assert.equal(result.status, 3, result.stderr)
  assert.match(result.stderr, /store 'off': cannot copy snapshot 2026-11-18T000000Z to '.*': another snapshot has its id there/)
  assert.deepEqual(counts(result), [['web1', 'off', 1, 0]])
  assert.equal(fs.readFileSync(file, 'utf8'), others)
  sameTree(treeIn(off, ids[1]), treeIn(web1, ids[1]))
  assert.equal((await kedge(m, ['copy', 'web1'])).status, 3)
})

test('a snapshot that another host pruned meanwhile is no failure', async (t) => {
  const { m, web1, off } = await saved(t)
  const real = execFileSync('sh', ['-c', 'command -v rsync']).toString().trim()
  fake(m.bin, 'rsync', `case "$*" in *${ids[0]}/tree/\\ *) mv ${dirIn(web1, ids[0])} ${m.dir}/pruned;; esac; exec ${real} "$@"`)
  const result = await done(m, ['copy', 'web1', '--json'])
  assert.deepEqual(counts(result), [['web1', 'off', 1, 0]])
  assert.match(result.stderr, /snapshot 2026-11-18T000000Z was pruned meanwhile: it is not copied/)
  assert.deepEqual(await list(m, 'off'), [ids[1]])
  assert.deepEqual(fs.readdirSync(path.join(off.store, 'web1/incomplete')), [])
})

test('what a target shows of its old name is copied under that name, and shown in the order of time', async (t) => {
  const { m, web1, off, source } = await saved(t)
  const www = newRsyncTarget(m, 'www', { paths: [source], env: { STORE: web1.store, SNAPSHOTS_OF: 'www web1', COPY_TO: 'off' } })
  await done(m, ['init', '--adopt', 'www'])
  const old = path.join(m.dir, 'older')
  fs.mkdirSync(path.join(old, '2026-11-20', source), { recursive: true })
  await done(m, ['init', '--adopt', '--from', old, 'www'])
  fs.writeFileSync(
    path.join(off.dir, 'target.env'),
    fs.readFileSync(path.join(off.dir, 'target.env'), 'utf8').replace("'web1'", "'www web1'"),
  )
  assert.deepEqual(counts(await done(m, ['copy', 'www', '--json'])), [['www', 'off', 3, 0]])
  assert.deepEqual(fs.readdirSync(off.store).sort(), ['kedge-store.json', 'off', 'web1', 'www'])
  const before = ids.toReversed().map((id) => `web1/${id}`)
  assert.deepEqual(await list(m, 'off'), ['www/2026-11-20T000000Z', ...before])
  assert.deepEqual(await list(m, www.name), ['2026-11-20T000000Z', ...before])
})

test('what an ordinary user saved is copied as it lies there: owners and modes in attributes, by the user and by root', async (t) => {
  if (process.geteuid?.() !== 0) return t.skip('only root can make files of several users')
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  for (const [name, uid, mode] of [
    ['mine', 65534, 0o644],
    ['roots', 0, 0o4755],
    ['others', 1234, 0o664],
  ] as const) {
    fs.writeFileSync(path.join(source, name), name)
    fs.chownSync(path.join(source, name), uid, uid)
    fs.chmodSync(path.join(source, name), mode)
  }
  const web1 = newRsyncTarget(m, 'web1', { paths: [source], env: { COPY_TO: 'off far' } })
  const [off, far] = ['off', 'far'].map((name) => newRsyncTarget(m, name, { env: { SNAPSHOTS_OF: 'web1' } }))
  fs.chmodSync(m.dir, 0o755)
  execFileSync('chown', ['-R', '65534:65534', m.config, m.state, m.cache, m.home, path.join(m.dir, 'stores')])
  const nobody = { uid: 65534 }
  for (const name of ['web1', 'off', 'far']) await done(m, ['init', name], nobody)
  await done(m, ['backup', 'web1'], nobody)
  await done(m, ['copy', 'web1', '--to', 'off'], nobody)
  execFileSync('chown', ['-R', '0:0', m.config])
  await done(m, ['copy', 'web1', '--to', 'far'])
  const [id = ''] = await list(m, 'web1')
  const kept = execFileSync('getfattr', ['-R', '-d', '--absolute-names', '-m', 'user.rsync', treeIn(web1, id)]).toString()
  assert.match(kept, /user\.rsync\.%stat="104755 0,0 0:0"/)
  for (const store of [off, far]) if (store) sameTree(treeIn(store, id), treeIn(web1, id))
})

test('the arguments of a copy: attributes of a fake root literally, the bases that may share files, a limit', () => {
  const found = (id: string, more: Partial<Found> = {}) =>
    ({ id, dir: `/s/web1/snapshots/${id}`, base: null, bases: [], ...more }) as unknown as Found
  const to = (env: Record<string, string>) => ({ env: { STORE: '/nowhere', ...env } }) as unknown as Parameters<typeof copyArgs>[0]
  const version = (numbers: number[]) => ({ flavour: 'rsync' as const, numbers, protocol: 31, text: '' })
  const three = [found('a'), found('b', { stream: 's' }), found('c'), found('d', { base: 'x', bases: ['x', 'a'] }), found('e')]
  assert.deepEqual(kinOf(three[3] as Found, three), ['x', 'a', 'c', 'e'])
  assert.deepEqual(kinOf(three[1] as Found, three), [])
  assert.deepEqual(copyArgs(to({}), found('a'), '/t/tree', ['/b'], version([3, 1, 2])), [
    ...['rsync', '-aHAXS', '--numeric-ids', '--link-dest=/b', '--', '/s/web1/snapshots/a/tree/', '/t/tree/'],
  ])
  const fakeRoot = copyArgs(to({ LIMIT_UP: '1M' }), found('a', { fake: true }), '/t/tree', Array(30).fill('/b'), version([3, 2, 7]))
  assert.deepEqual(fakeRoot.slice(0, 5), ['rsync', '-aHASXX', '--numeric-ids', '--modify-window=-1', '--bwlimit=1024'])
  assert.equal(fakeRoot.filter((word) => word === '--link-dest=/b').length, 20)
})

test('a suspect snapshot is suspect in the second store too: prune waits there until it is accepted', async (t) => {
  const { m, web1, off } = await saved(t, undefined, { KEEP_LAST: '1' })
  fs.appendFileSync(path.join(off.dir, 'target.env'), "KEEP_LAST='1'\n")
  const file = path.join(dirIn(web1, ids[1]), 'snapshot.json')
  fs.writeFileSync(file, JSON.stringify({ ...JSON.parse(fs.readFileSync(file, 'utf8')), suspect: 'it shrank' }))
  await done(m, ['copy', 'web1'])
  const refused = await kedge(m, ['prune', 'off'])
  assert.deepEqual([refused.status, /is suspect: it shrank/.test(refused.stderr)], [15, true], refused.stderr)
  assert.deepEqual((await done(m, ['accept', 'off'])).lines, [`${ids[1]}\tsuspect\toff\tit shrank`])
  await done(m, ['accept', 'off', ids[1]])
  await done(m, ['prune', 'off'])
  assert.deepEqual(await list(m, 'off'), [ids[1]])
  assert.equal((await kedge(m, ['prune', 'web1'])).status, 15)
  await done(m, ['accept', 'web1', ids[1]])
  await done(m, ['prune', 'web1'])
})
