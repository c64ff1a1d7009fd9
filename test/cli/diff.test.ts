import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { cover, diffArgs, sizesArgs } from '../../lib/engine/restic/diff.ts'
import type { Change, Compared, Row, Snapshot } from '../../lib/rows.ts'
import { pair } from '../../lib/snapshots.ts'
import {
  done,
  fake,
  kedge,
  type Machine,
  machine,
  type NewTarget,
  newTarget,
  type Restic,
  type Result,
  restic,
  restics,
  startProgram,
} from '../harness.ts'
import { makeStore } from '../store.ts'

type Made = { m: Machine; target: NewTarget; source: string; ids: [string, string] }

/** Two snapshots of a tree that changed in every way. */
async function saved(t: TestContext, tool?: Restic): Promise<Made> {
  const m = machine(t, tool)
  const source = path.join(m.dir, 'source')
  const target = newTarget(m, 'web1', { paths: [source] })
  await makeStore(m, target)
  const write = (name: string, bytes: number) => {
    fs.mkdirSync(path.dirname(path.join(source, name)), { recursive: true })
    fs.writeFileSync(path.join(source, name), randomBytes(bytes))
  }
  write('etc/hosts', 100)
  write('etc/kept', 100)
  write('log/old', 5000)
  write('log/mode', 10)
  write('what', 7)
  fs.symlinkSync('hosts', path.join(source, 'etc/link'))
  await done(m, ['backup', 'web1'])
  write('etc/hosts', 130)
  write('db/new/table "1"\n', 70_000)
  fs.rmSync(path.join(source, 'log/old'))
  fs.rmSync(path.join(source, 'etc/link'))
  fs.chmodSync(path.join(source, 'log/mode'), 0o600)
  fs.rmSync(path.join(source, 'what'))
  fs.symlinkSync('etc', path.join(source, 'what'))
  await done(m, ['backup', 'web1'])
  const [newer = '', old = ''] = (await done(m, ['list', 'web1', '-q'])).lines
  return { m, target, source, ids: [old, newer] }
}

/** The change rows in short, without the folders above the source. */
function changes(rows: readonly Row[], source: string): unknown[][] {
  const found = rows.filter((row): row is Change => row.kind === 'change' && row.path.startsWith(`${source}/`) && row.path !== `${source}/`)
  return found.map(({ change, path, before, after }) => [change, path.slice(source.length + 1), before, after])
}
const sums = (result: Result) => result.rows.at(-1) as Compared
const store = (target: NewTarget) =>
  fs
    .readdirSync(target.repository, { recursive: true, encoding: 'utf8' })
    .filter((name) => !name.startsWith('locks'))
    .sort()

for (const tool of restics()) {
  test(`restic ${tool.version}: the last two snapshots, each change with its sizes; --top names the folder that grew`, async (t) => {
    const { m, target, source, ids } = await saved(t, tool)
    const result = await done(m, ['diff', 'web1', '--json'])
    const expected = [
      ['+', 'db/', undefined, undefined],
      ['+', 'db/new/', undefined, undefined],
      ['+', 'db/new/table "1"\n', undefined, 70_000],
      ['M', 'etc/hosts', 100, 130],
      ['-', 'etc/link', undefined, undefined],
      ['-', 'log/old', 5000, undefined],
      ['T', 'what', 7, undefined],
    ]
    assert.deepEqual(changes(result.rows, source), expected)
    const { old, newer, added, removed, changed, addedBytes, removedBytes, stored = 0 } = sums(result)
    assert.deepEqual([old, newer, added, removed, changed], [...ids, 3, 2, 2])
    const size = async (id: string) => JSON.parse((await restic(m, target, ['stats', '--json', id])).stdout).total_size as number
    assert.equal(addedBytes - removedBytes, (await size(ids[1])) - (await size(ids[0])))
    assert.ok(stored > 70_000 && stored < 90_000, String(stored))
    const metadata = await done(m, ['diff', 'web1', '--metadata', '--json'])
    assert.deepEqual(
      changes(metadata.rows, source).filter(([change, name]) => change === 'U' && !String(name).endsWith('/')),
      [['U', 'log/mode', 10, 10]],
    )
    const top = await done(m, ['diff', 'web1', '--top', '1'])
    assert.deepEqual(top.lines, [`65023\t70130\t5\t${source}`])
    assert.deepEqual((await done(m, ['diff', 'web1', '--top', '2'])).lines[0], `70000\t70000\t1\t${source}/db/new`)
    await t.test('--live names what the next backup would save and what is gone, and writes nothing', () =>
      live({ m, target, source, ids }),
    )
  })
}

async function live({ m, target, source, ids }: Made): Promise<void> {
  const before = store(target)
  const same = await done(m, ['diff', '--live', 'web1', '--json'])
  assert.deepEqual(changes(same.rows, source), [])
  fs.writeFileSync(path.join(source, 'etc/hosts'), 'now')
  fs.mkdirSync(path.join(source, 'fresh'))
  fs.writeFileSync(path.join(source, 'fresh/file'), randomBytes(900))
  fs.rmSync(path.join(source, 'db'), { recursive: true })
  fs.utimesSync(path.join(source, 'etc/kept'), 1, 1)
  fs.rmSync(path.join(source, 'what'))
  fs.writeFileSync(path.join(source, 'what'), 'a file again')
  const result = await done(m, ['diff', '--live', 'web1', '--json'])
  assert.deepEqual(changes(result.rows, source), [
    ['-', 'db/', undefined, undefined],
    ['-', 'db/new/', undefined, undefined],
    ['-', 'db/new/table "1"\n', 70_000, undefined],
    ['M', 'etc/hosts', 130, 3],
    ['U', 'etc/kept', 100, 100],
    ['+', 'fresh/', undefined, undefined],
    ['+', 'fresh/file', undefined, 900],
    ['T', 'what', undefined, 12],
  ])
  assert.deepEqual(
    [sums(result).old, sums(result).newer, sums(result).addedBytes, sums(result).removedBytes],
    [ids[1], 'live', 915, 70_130],
  )
  const older = await done(m, ['diff', '--live', 'web1', ids[0], '--json'])
  assert.ok(changes(older.rows, source).some(([change, name]) => change === '-' && name === 'log/old'))
  fs.renameSync(source, `${source}.away`)
  const gone = await done(m, ['diff', '--live', 'web1', '--json'])
  assert.deepEqual(
    changes(gone.rows, source).length,
    (await done(m, ['files', 'web1', 'latest', '-q'])).lines.filter((line) => line.startsWith(`${source}/`)).length,
  )
  assert.deepEqual(store(target), before)
}

test('one name means the newest after it; the newest itself and a single snapshot have no partner', async (t) => {
  const made = await saved(t)
  const { m, source, ids } = made
  await t.test('bit rot is status 14, after the rows', () => bitRot(made))
  await t.test('what --explain prints, sh runs: the same changes', () => byHand(made))
  fs.writeFileSync(path.join(source, 'third'), '3')
  await done(m, ['backup', 'web1'])
  const [newest = ''] = (await done(m, ['list', 'web1', '-q'])).lines
  assert.deepEqual([sums(await done(m, ['diff', 'web1', ids[0].slice(0, 8), '--json'])).newer], [newest])
  assert.deepEqual(changes((await done(m, ['diff', 'web1', 'latest-1', 'latest', '--json'])).rows, source), [['+', 'third', undefined, 1]])
  const last = await kedge(m, ['diff', 'web1', 'latest'])
  assert.deepEqual([last.status, last.stdout], [1, ''])
  assert.match(last.stderr, /no snapshot is newer than 'latest'/)
  assert.equal((await kedge(m, ['diff', 'web1', '--live', ids[0], ids[1]])).status, 2)
  assert.equal((await kedge(m, ['diff', 'web1', '--top', '0'])).status, 2)
})

async function bitRot({ m, source, ids }: Made): Promise<void> {
  // restic finds it by equal metadata, ctime included, which no program can set.
  const change = JSON.stringify({ message_type: 'change', path: `${source}/etc/kept`, modifier: 'M?' })
  fake(m.bin, 'restic', `case " $* " in *" diff "*) echo '${change}';; *) exec ${m.restic.path} "$@";; esac`)
  const result = await kedge(m, ['diff', 'web1', '--json'])
  assert.equal(result.status, 14, result.stderr)
  assert.deepEqual(changes(result.rows, source), [['?', 'etc/kept', 100, 100]])
  assert.deepEqual([sums(result).old, sums(result).newer], ids)
  fake(m.bin, 'restic', `case " $* " in *" diff "*) echo '${change.replace('M?', 'X')}';; *) exec ${m.restic.path} "$@";; esac`)
  assert.equal((await kedge(m, ['diff', 'web1'])).status, 1)
  fs.rmSync(path.join(m.bin, 'restic'))
}

async function byHand({ m, source }: Made): Promise<void> {
  const { stdout } = await done(m, ['diff', 'web1', '--explain'])
  const result = await startProgram(m, '/bin/sh', ['-e'], { input: stdout, env: { RESTIC_CACHE_DIR: m.cache } }).result
  assert.equal(result.status, 0, result.stderr)
  assert.ok(
    result.lines.some((line) => line.startsWith('M ') && line.endsWith(`${source}/etc/hosts`)),
    result.stdout,
  )
}

const snapshot = (id: string, stream?: string): Snapshot => ({
  kind: 'snapshot',
  target: 'web1',
  id,
  time: `2026-01-01T00:00:${id.slice(0, 2)}.000Z`,
  host: 'h',
  paths: [],
  tags: [],
  ...(stream && { stream }),
})

test('the pair: of the paths, or of the stream where only streams are saved', () => {
  const mixed = [snapshot('09', 's'), snapshot('08'), snapshot('07', 's'), snapshot('06'), snapshot('05')]
  const ids = (...names: [string?, string?]) => pair(mixed, { name: 'web1', engine: 'restic' }, ...names).map(({ id }) => id)
  assert.deepEqual(ids(), ['06', '08'])
  assert.deepEqual(ids('05'), ['05', '08'])
  assert.deepEqual(ids('07'), ['07', '09'])
  assert.deepEqual(ids('08', '05'), ['08', '05'])
  assert.deepEqual(
    pair([snapshot('09', 'a'), snapshot('08', 'b'), snapshot('07', 'a')], { name: 'web1', engine: 'restic' }).map(({ id }) => id),
    ['07', '09'],
  )
  assert.throws(() => pair([snapshot('09')], { name: 'web1', engine: 'restic' }), /one snapshot: nothing to compare/)
})

test('sizes are asked of as few folders as hold the changes', () => {
  assert.deepEqual(cover(['/a/b/c', '/a/b/d', '/e'], 3), { folders: ['/a/b', '/'], below: false })
  assert.deepEqual(cover(['/a/b/1/x', '/a/b/2/x', '/a/c/3/x'], 2), { folders: ['/a/b', '/a/c'], below: true })
  assert.deepEqual(cover(['/a/1', '/b/1', '/c/1'], 2), { folders: [], below: true })
  assert.deepEqual(cover(['/a/\ufffd/x'], 9), { folders: [], below: true })
  assert.deepEqual(sizesArgs('id', { folders: ['/a'], below: false }), ['ls', '--json', '--no-lock', '--', 'id', '/a'])
  assert.deepEqual(sizesArgs('id', { folders: ['/a'], below: true }), ['ls', '--json', '--no-lock', '--recursive', '--', 'id', '/a'])
  assert.deepEqual(diffArgs('a', 'b'), ['diff', '--json', '--no-lock', 'a', 'b'])
})
