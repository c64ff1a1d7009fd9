// prune, forget, hold and unlock of an rsync store.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Stored } from '../../lib/engine/rsync/snapshots.ts'
import type { Row } from '../../lib/rows.ts'
import { makeSnapshot, makeStore, storeId } from '../handmade.ts'
import { done, fake, kedge, type Machine, machine, type NewRsyncTarget, newRsyncTarget, newTarget } from '../harness.ts'
import { smallFs } from '../smallfs.ts'

type House = { m: Machine; target: NewRsyncTarget; source: string; at: (id: string, name?: string) => string }

const idOf = (day: number) => `2026-01-${String(day).padStart(2, '0')}T020000Z`

/** `days` snapshots, each linked to the one before; a file of each day of its own, 100 KiB that all share. */
function house(t: TestContext, env: Record<string, string>, days: number, more: (day: number) => Partial<Stored> = () => ({})): House {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(path.join(source, 'folder'), { recursive: true })
  fs.writeFileSync(path.join(source, 'folder', 'shared'), 'x'.repeat(100 << 10))
  const target = newRsyncTarget(m, 'web1', { env: { STORE_ID: storeId, ...env }, paths: [source] })
  makeStore(target)
  for (let day = 1; day <= days; day++) {
    for (const old of fs.readdirSync(source)) if (old.startsWith('day')) fs.rmSync(path.join(source, old))
    fs.writeFileSync(path.join(source, `day ${day}`), 'y'.repeat(50 << 10))
    makeSnapshot(target, source, idOf(day), { ...(day > 1 && { base: idOf(day - 1) }), ...more(day) })
  }
  return { m, target, source, at: (id, name = '') => path.join(target.root, 'snapshots', id, name) }
}

const ids = ({ target }: House): string[] => fs.readdirSync(path.join(target.root, 'snapshots')).sort()

const audit = ({ target }: House): Record<string, string>[] =>
  fs
    .readFileSync(path.join(target.root, 'audit.ndjson'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))

const plans = (rows: readonly Row[]): string[] =>
  rows.flatMap((row) => (row.kind === 'plan' ? `${row.action} ${row.id}: ${row.reasons.join('; ')}` : []))

const prunedIn = (rows: readonly Row[]) => rows.find((row) => row.kind === 'pruned')

/** Bytes on the disk, each inode once. */
const du = (...places: string[]): number =>
  Number(
    /^(\d+)/.exec(
      execFileSync('du', ['-skc', ...places], { encoding: 'utf8' })
        .split('\n')
        .at(-2) ?? '',
    )?.[1],
  ) * 1024

test('a plan names each snapshot with its reason and changes nothing; its digest deletes exactly those, with an audit', async (t) => {
  const all = house(t, { KEEP_LAST: '2' }, 5)
  const { m, target } = all
  const snapshots = path.join(target.root, 'snapshots')
  const before = du(snapshots)
  const plan = await done(m, ['prune', '-n', '--json', 'web1'])
  assert.deepEqual(plans(plan.rows), [
    `keep ${idOf(5)}: last, 1 of 2; newest good`,
    `keep ${idOf(4)}: last, 2 of 2`,
    ...[3, 2, 1].map((day) => `delete ${idOf(day)}: no keep rule holds it`),
  ])
  const pruned = prunedIn(plan.rows)
  assert.ok(pruned && pruned.deleted === 3 && pruned.kept === 2 && pruned.dryRun)
  assert.equal(ids(all).length, 5)
  const [row] = (await done(m, ['prune', '--json', '--apply', pruned.digest, 'web1'])).rows.slice(-1)
  assert.deepEqual(row, { kind: 'pruned', target: 'web1', later: 0, digest: pruned.digest, deleted: 3, kept: 2, freed: pruned.freed })
  assert.deepEqual(ids(all), [idOf(4), idOf(5)])
  assert.deepEqual(fs.readdirSync(path.join(target.root, 'deleting')), [])
  // What du counts besides: the folder snapshots/ itself.
  assert.ok(Math.abs(before - du(snapshots) - (pruned.freed ?? 0)) <= 4 << 10, `${before} - ${du(snapshots)} is ${pruned.freed}`)
  assert.ok((pruned.freed ?? 0) < 3 * (100 << 10), 'what later snapshots share is not freed')
  assert.deepEqual(
    audit(all).map(({ id, action, reason, path }) => ({ id, action, reason, path })),
    [1, 2, 3].map((day) => ({
      id: idOf(day),
      action: 'prune',
      reason: 'no keep rule holds it',
      path: `web1/snapshots/${idOf(day)}`,
    })),
  )
  for (const { by, run, time } of audit(all)) assert.ok(/^\w+@\S+$/.test(by ?? '') && run && !Number.isNaN(Date.parse(time ?? '')))
  assert.equal(fs.readFileSync(all.at(idOf(4), 'tree/folder/shared'), 'utf8'), 'x'.repeat(100 << 10))
  await done(m, ['check', '--read-data', 'web1'])
})

test('the figure of a plan is repeated only where nothing else changed in the store since', async (t) => {
  const all = house(t, { KEEP_LAST: '2' }, 5)
  const { m } = all
  await done(m, ['hold', 'web1', idOf(2)])
  const plan = prunedIn((await done(m, ['prune', '-n', '--json', 'web1'])).rows)
  assert.ok(plan?.freed !== undefined && plan.deleted === 2)
  await done(m, ['hold', '--release', 'web1', idOf(2)])
  await done(m, ['forget', 'web1', idOf(2)])
  const applied = prunedIn((await done(m, ['prune', '--json', '--apply', plan.digest, 'web1'])).rows)
  assert.ok(applied?.deleted === 2 && applied.freed === undefined, JSON.stringify(applied))
})

test('a user without a name is written down by the number', async (t) => {
  if (process.geteuid?.() !== 0) return t.skip('only root becomes somebody else')
  const { m, target } = house(t, { KEEP_LAST: '1' }, 3)
  fs.chmodSync(m.dir, 0o755)
  execFileSync('chown', ['-R', '54321:54321', m.config, m.state, m.cache, m.home, target.store])
  await done(m, ['prune', 'web1'], { uid: 54321 })
  const lines = fs.readFileSync(path.join(target.root, 'audit.ndjson'), 'utf8')
  assert.match(lines, /"by":"uid:54321@/)
})

test('a file counts as freed only where all of its names go: the shared one once the last snapshot that has it is among them', async (t) => {
  const { m, source, target, at } = house(t, { KEEP_LAST: '1' }, 3)
  const freed = async () => prunedIn((await done(m, ['prune', '-n', '--json', 'web1'])).rows)?.freed ?? 0
  const before = await freed()
  // The newest gets a copy of its own.
  fs.rmSync(at(idOf(3), 'tree/folder/shared'))
  fs.copyFileSync(path.join(source, 'folder/shared'), at(idOf(3), 'tree/folder/shared'))
  const after = await freed()
  assert.equal(after - before, fs.statSync(at(idOf(1), 'tree/folder/shared')).blocks * 512)
  assert.ok(fs.existsSync(target.root))
})

test('without a digest a run deletes PRUNE_MAX_DELETE, the oldest first; the next one takes the rest', async (t) => {
  const all = house(t, { KEEP_LAST: '1', PRUNE_MAX_DELETE: '2' }, 4)
  const first = await done(all.m, ['prune', '--json', 'web1'])
  assert.deepEqual(plans(first.rows), [
    `later ${idOf(3)}: no keep rule holds it; more than 2 to delete, the oldest go first`,
    `delete ${idOf(2)}: no keep rule holds it`,
    `delete ${idOf(1)}: no keep rule holds it`,
  ])
  assert.deepEqual(ids(all), [idOf(3), idOf(4)])
  await done(all.m, ['prune', 'web1'])
  assert.deepEqual(ids(all), [idOf(4)])
})

test('what is made by hand has keep rules of its own, and KEEP_BASES keeps what a kept one was made from', async (t) => {
  const manual = (day: number): Partial<Stored> => (day % 2 ? { tags: ['kedge:web1', 'kedge:manual'] } : {})
  const all = house(t, { KEEP_LAST: '1', KEEP_MANUAL: '2', KEEP_BASES: 'yes' }, 7, (day) => ({
    ...manual(day),
    base: day === 6 ? idOf(2) : null,
  }))
  const plan = plans((await done(all.m, ['prune', '-n', '--json', 'web1'])).rows)
  assert.deepEqual(plan.sort(), [
    `delete ${idOf(1)}: no keep rule holds it`,
    `delete ${idOf(3)}: no keep rule holds it`,
    `delete ${idOf(4)}: no keep rule holds it`,
    `keep ${idOf(2)}: base of ${idOf(6)}`,
    `keep ${idOf(5)}: last, 2 of 2`,
    `keep ${idOf(6)}: last, 1 of 1; newest good`,
    `keep ${idOf(7)}: last, 1 of 2; newest good`,
  ])
})

test('a held snapshot stays until it is released; the newest good one is not forgotten without force', async (t) => {
  const all = house(t, { KEEP_LAST: '1' }, 3)
  const { m, at } = all
  await done(m, ['hold', 'web1', idOf(1)])
  assert.ok(fs.existsSync(at(idOf(1), 'hold')))
  await done(m, ['prune', 'web1'])
  assert.deepEqual(ids(all), [idOf(1), idOf(3)])
  const refused = await kedge(m, ['forget', 'web1', idOf(1)])
  assert.equal(refused.status, 15)
  assert.match(refused.stderr, /it is held/)
  assert.equal((await kedge(m, ['forget', 'web1', idOf(3)])).status, 15)
  const would = await done(m, ['hold', '-n', '--json', '--release', 'web1', idOf(1)])
  assert.deepEqual(would.rows, [{ kind: 'marked', target: 'web1', action: 'would release', id: idOf(1), dryRun: true }])
  await done(m, ['hold', '--release', 'web1', idOf(1)])
  await done(m, ['forget', '--force=newest', 'web1', idOf(3)])
  assert.deepEqual(ids(all), [idOf(1)])
  assert.equal(fs.readlinkSync(path.join(all.target.root, 'latest')), `snapshots/${idOf(1)}`)
  assert.deepEqual(
    audit(all)
      .map(({ id, action, reason }) => [id, action, reason])
      .at(-1),
    [idOf(3), 'forget', 'named by the operator'],
  )
})

test('a suspect snapshot keeps the older ones from being pruned until it is accepted', async (t) => {
  const all = house(t, { KEEP_LAST: '1' }, 3)
  const { m } = all
  fs.mkdirSync(path.join(m.state, 'web1'), { recursive: true })
  fs.writeFileSync(path.join(m.state, 'web1', 'marks.json'), JSON.stringify({ suspects: { [idOf(3)]: 'it shrank' }, accepted: [] }))
  const refused = await kedge(m, ['prune', 'web1'])
  assert.equal(refused.status, 15)
  assert.match(refused.stderr, new RegExp(`snapshot ${idOf(3)} is suspect: it shrank`))
  assert.equal(ids(all).length, 3)
  await done(m, ['accept', 'web1', idOf(3)])
  await done(m, ['prune', 'web1'])
  assert.deepEqual(ids(all), [idOf(3)])
})

test('an unfinished tree is shown by -n, is left by prune, and goes when forget names it', async (t) => {
  const all = house(t, { KEEP_LAST: '1' }, 2)
  const { m, target } = all
  const unfinished = path.join(target.root, 'incomplete', idOf(9), 'tree')
  fs.mkdirSync(unfinished, { recursive: true })
  fs.writeFileSync(path.join(unfinished, 'big'), 'z'.repeat(200 << 10))
  fs.linkSync(all.at(idOf(2), 'tree/folder/shared'), path.join(unfinished, 'shared'))
  const [row] = (await done(m, ['prune', '-n', '--json', 'web1'])).rows.filter(({ kind }) => kind === 'incomplete')
  assert.ok(row?.kind === 'incomplete' && row.id === `incomplete/${idOf(9)}` && row.time === '2026-01-09T02:00:00.000Z' && row.files === 2)
  assert.ok(row.bytes >= 200 << 10 && row.bytes < 300 << 10, `${row.bytes}: without what a snapshot shares`)
  await done(m, ['prune', 'web1'])
  assert.ok(fs.existsSync(unfinished))
  assert.equal((await kedge(m, ['forget', 'web1', 'incomplete/2026-02-01T000000Z'])).status, 1)
  await done(m, ['forget', 'web1', row.id])
  assert.ok(!fs.existsSync(unfinished))
  assert.equal(audit(all).at(-1)?.path, `web1/incomplete/${idOf(9)}`)
  assert.equal(fs.readFileSync(all.at(idOf(2), 'tree/folder/shared'), 'utf8').length, 100 << 10)
})

test('what prune and forget print with --explain does the same in plain sh', async (t) => {
  const all = house(t, { KEEP_LAST: '2' }, 4)
  const { m } = all
  const by = async (...args: string[]) => execFileSync('/bin/sh', ['-c', (await done(m, args)).stdout], { env: m.env })
  await by('prune', '--explain', 'web1')
  assert.deepEqual(ids(all), [idOf(3), idOf(4)])
  assert.deepEqual(fs.readdirSync(path.join(all.target.root, 'deleting')), [])
  await by('hold', '--explain', 'web1', idOf(3))
  assert.ok(fs.existsSync(all.at(idOf(3), 'hold')))
  await by('forget', '--explain', 'web1', idOf(4))
  assert.deepEqual(ids(all), [idOf(3)])
  assert.equal(fs.readlinkSync(path.join(all.target.root, 'latest')), `snapshots/${idOf(3)}`)
  await done(m, ['check', 'web1'])
})

test('what a killed prune has set aside is removed by the next one, and no snapshot is half there', async (t) => {
  const all = house(t, { KEEP_LAST: '1' }, 3)
  const { m, target } = all
  fake(m.bin, 'rm', 'kill -9 $PPID; sleep 5')
  const killed = await kedge(m, ['prune', 'web1'])
  assert.notEqual(killed.status, 0)
  assert.deepEqual(ids(all), [idOf(3)])
  assert.deepEqual(fs.readdirSync(path.join(target.root, 'deleting')).sort(), [idOf(1), idOf(2)])
  fs.rmSync(path.join(m.bin, 'rm'))
  // The tool that it had started dies with it, and holds the locks until then.
  await done(m, ['prune', '--wait=30', 'web1'])
  assert.deepEqual(fs.readdirSync(path.join(target.root, 'deleting')), [])
  await done(m, ['check', 'web1'])
})

test('a tree is removed by two processes, whatever its names; what these cannot remove, the rm after them does', async (t) => {
  const all = house(t, {}, 4)
  const { m, at } = all
  const calls = path.join(m.dir, 'calls')
  const real = execFileSync('sh', ['-c', 'command -v rm'], { encoding: 'utf8' }).trim()
  for (const [day, script] of [`exec ${real} "$@"`, `case $# in 3) exec ${real} "$@" ;; esac; exit 1`].entries()) {
    const tree = path.join(at(idOf(day + 1)), 'tree')
    for (let n = 0; n < 700; n++) fs.mkdirSync(path.join(tree, 'only', `${n}-${'x'.repeat(200)}`), { recursive: true })
    fs.writeFileSync(path.join(tree, 'only', '-rf *'), '')
    fs.mkdirSync(Buffer.concat([Buffer.from(path.join(tree, 'only/')), Buffer.from([0xff, 0x2f, 0x61])]), { recursive: true })
    for (const name of fs.readdirSync(tree)) if (name !== 'only') fs.renameSync(path.join(tree, name), path.join(tree, 'only', name))
    fs.rmSync(calls, { force: true })
    fake(m.bin, 'rm', `echo $# >>'${calls}'; ${script}`)
    await done(m, ['forget', 'web1', idOf(day + 1)])
    fs.rmSync(path.join(m.bin, 'rm'))
    assert.equal(fs.existsSync(path.join(all.target.root, 'deleting', idOf(day + 1))), false)
    const counts = fs.readFileSync(calls, 'utf8').trim().split('\n').map(Number)
    const [last, ...before] = counts.toReversed()
    assert.equal(last, 3)
    assert.ok(before.length > 2 && before.every((n) => n > 50 && n < 400), `${counts}`)
  }
})

test('a torn last line of the audit is survived', async (t) => {
  const all = house(t, { KEEP_LAST: '1' }, 2)
  fs.writeFileSync(path.join(all.target.root, 'audit.ndjson'), '{"time":"2026-01-01T00:00:00Z","id":"2025-')
  await done(all.m, ['prune', 'web1'])
  const [torn, whole] = fs.readFileSync(path.join(all.target.root, 'audit.ndjson'), 'utf8').trimEnd().split('\n')
  assert.equal(torn, '{"time":"2026-01-01T00:00:00Z","id":"2025-')
  assert.equal(JSON.parse(whole ?? '').id, idOf(1))
  const removed = await done(all.m, ['list', '--removed', '--json', 'web1'])
  assert.deepEqual(
    removed.rows.map((row) => row.kind === 'removed' && [row.id, row.action]),
    [[idOf(1), 'prune']],
  )
  assert.match(removed.stderr, /a torn line/)
})

test('restic has no audit, and list --removed says where to look', async (t) => {
  const m = machine(t)
  newTarget(m, 'db')
  const { status, stderr } = await kedge(m, ['list', '--removed', 'db'])
  assert.equal(status, 2)
  assert.match(stderr, /restic keeps no record of the snapshots that were removed/)
  assert.match(stderr, /kedge history --verb=prune db/)
})

test('the lock of another host stops prune, and unlock takes it away only by force', async (t) => {
  const all = house(t, { KEEP_LAST: '1', LOCK_WAIT: '0s' }, 2)
  const { m, target } = all
  const lock = path.join(target.root, 'lock')
  fs.mkdirSync(lock)
  const holder = {
    run: 'R9',
    verb: 'backup',
    at: '2026-01-01T00:00:00.000Z',
    pid: 4321,
    host: 'elsewhere',
    boot: 'b',
    namespace: '',
    started: 1,
    uptime: 2,
  }
  fs.writeFileSync(path.join(lock, 'write.3'), `${JSON.stringify(holder)}\n`)
  const past = new Date(Date.now() - 3_600_000)
  fs.utimesSync(path.join(lock, 'write.3'), past, past)
  const locked = await kedge(m, ['prune', 'web1'])
  assert.equal(locked.status, 11)
  assert.match(
    locked.stderr,
    /held by run R9 \(backup, pid 4321 on host elsewhere, since 2026-01-01T00:00:00.000Z, last sign of life 3\d\d\d s ago\)/,
  )
  assert.equal(ids(all).length, 2)
  const shown = (await done(m, ['unlock', '--json', 'web1'])).rows
  assert.deepEqual(
    shown.map((row) => row.kind === 'lock' && [row.of, row.id, row.host, row.pid, row.alive, row.action]),
    [['store', 'web1/lock/write.3', 'elsewhere', 4321, 'unknown', 'kept']],
  )
  const forced = (await done(m, ['unlock', '--force', '--json', 'web1'])).rows
  assert.deepEqual(
    forced.map((row) => row.kind === 'lock' && row.action),
    ['removed'],
  )
  await done(m, ['prune', 'web1'])
  assert.deepEqual(ids(all), [idOf(2)])
})

test('a disk that is full, of bytes or of inodes, is no reason not to prune', {
  skip: process.getuid?.() !== 0 && 'only root can mount a small file system for all to see',
}, async (t) => {
  const m = machine(t)
  const small = await smallFs(t, { bytes: 8 << 20, inodes: 256 })
  const store = path.join(small.dir, 'store')
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'file'), 'x')
  const target = newRsyncTarget(m, 'web1', { env: { STORE: store, STORE_ID: storeId, KEEP_LAST: '1' }, paths: [source] })
  const on = (script: string) => execFileSync('/bin/sh', ['-c', script])
  makeStore(target)
  for (const day of [1, 2, 3]) makeSnapshot(target, source, idOf(day))
  await done(m, ['hold', 'web1', idOf(3)])
  on(
    `cd ${store} && for size in 64k 1k 1k 1k; do dd if=/dev/zero of=zeros bs=$size oflag=append conv=notrunc,fsync; done 2>/dev/null; true`,
  )
  assert.throws(() => fs.writeFileSync(path.join(store, 'more'), 'x'.repeat(4096)), { code: 'ENOSPC' })
  const result = await done(m, ['prune', '--max-delete=1', 'web1'])
  assert.match(result.stderr, new RegExp(`pruned ${idOf(1)}`))
  fs.rmSync(path.join(store, 'zeros'))
  fs.rmSync(path.join(store, 'more'), { force: true })
  await done(m, ['hold', 'web1', idOf(3)])
  on(`cd ${store} && i=0; while touch n$i; do i=$((i+1)); done 2>/dev/null; true`)
  assert.throws(() => fs.writeFileSync(path.join(store, 'more'), ''), { code: 'ENOSPC' })
  await done(m, ['prune', 'web1'])
  assert.deepEqual(fs.readdirSync(path.join(target.root, 'snapshots')), [idOf(3)])
})

test('an ordinary user prunes trees with folders that he may not write to, and no other snapshot changes its modes', {
  skip: process.getuid?.() !== 0 && 'only root can become another user',
}, async (t) => {
  const all = house(t, { KEEP_LAST: '1' }, 2)
  const { m, target } = all
  for (const day of [1, 2]) {
    fs.chmodSync(all.at(idOf(day), 'tree/folder/shared'), 0o400)
    fs.chmodSync(all.at(idOf(day), 'tree/folder'), 0o555)
  }
  execFileSync('chown', ['-hR', '65534:65534', m.dir])
  const result = await kedge(m, ['prune', 'web1'], { uid: 65534 })
  assert.equal(result.status, 0, result.stderr)
  assert.deepEqual(ids(all), [idOf(2)])
  assert.deepEqual(fs.readdirSync(path.join(target.root, 'deleting')), [])
  assert.equal(fs.statSync(all.at(idOf(2), 'tree/folder/shared')).mode & 0o7777, 0o400)
  assert.equal(fs.statSync(all.at(idOf(2), 'tree/folder')).mode & 0o7777, 0o555)
})

test('what a snapshot itself says of its suspicion stops prune without any note of kedge, until it is accepted', async (t) => {
  const all = house(t, { KEEP_LAST: '1' }, 3, (day) => (day === 3 ? { suspect: 'it shrank' } : {}))
  const { m } = all
  const refused = await kedge(m, ['prune', 'web1'])
  assert.deepEqual([refused.status, ids(all).length], [15, 3])
  assert.match(refused.stderr, new RegExp(`snapshot ${idOf(3)} is suspect: it shrank`))
  assert.deepEqual((await done(m, ['accept', 'web1'])).lines, [`${idOf(3)}\tsuspect\tweb1\tit shrank`])
  assert.equal((await kedge(m, ['forget', 'web1', idOf(2)])).status, 15, 'the newest good one')
  await done(m, ['accept', 'web1', idOf(3)])
  assert.equal((await done(m, ['accept', 'web1'])).stdout, '')
  await done(m, ['prune', 'web1'])
  assert.deepEqual(ids(all), [idOf(3)])
})

test('a snapshot whose snapshot.json is damaged goes when forget names it by its whole id, unless it is held', async (t) => {
  const all = house(t, {}, 3)
  const { m, at } = all
  fs.writeFileSync(at(idOf(1), 'snapshot.json'), '{ torn')
  fs.writeFileSync(at(idOf(1), 'hold'), '')
  const held = await kedge(m, ['forget', 'web1', idOf(1)])
  assert.deepEqual([held.status, /it is held\n.*rm .*hold/.test(held.stderr)], [15, true], held.stderr)
  fs.rmSync(at(idOf(1), 'hold'))
  assert.equal((await kedge(m, ['forget', 'web1', '2026-01-01'])).status, 1)
  assert.deepEqual((await done(m, ['forget', '-n', 'web1', idOf(1)])).lines, [`${idOf(1)}\twould forget\tweb1`])
  assert.match((await done(m, ['forget', '--explain', 'web1', idOf(1)])).stdout, new RegExp(`^mv .*snapshots/${idOf(1)} `, 'm'))
  assert.equal(ids(all).length, 3)
  await done(m, ['forget', 'web1', idOf(1)])
  assert.deepEqual(ids(all), [idOf(2), idOf(3)])
  const [last] = audit(all).slice(-1)
  assert.deepEqual([last?.id, last?.action, last?.reason], [idOf(1), 'forget', 'its snapshot.json is damaged, named by the operator'])
  await done(m, ['list', 'web1'])
})
