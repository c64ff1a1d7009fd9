import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import type { Copied, RunRow, StatusRow } from '../../lib/rows.ts'
import { done, fake, kedge, type Machine, machine, newTarget, restic, startProgram } from '../harness.ts'
import { makeStore } from '../store.ts'

const runsOf = (m: Machine, target: string): RunRow[] =>
  fs
    .readFileSync(path.join(m.state, target, 'runs.ndjson'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as RunRow)
const copies = (rows: readonly { kind: string }[]) =>
  rows
    .filter((row): row is Copied => row.kind === 'copied')
    .map(({ to, copied, present, dryRun }) => [to, copied, present, dryRun === true])
const change = (file: string, from: string | RegExp, to: string) => fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace(from, to))
const stores = (rows: readonly { kind: string }[]) =>
  rows
    .filter((row): row is StatusRow => row.kind === 'status')
    .filter(({ verb }) => verb === 'copy')
    .map(({ store, state, lag, behind }) => [store, state, Math.floor((lag ?? -1) / 3600), behind])

test('after a backup the second stores get what they lack, in a run of its own; status and metrics say which one lags', async (t) => {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  const env = { COPY_TO: 'off', COPY_AFTER_BACKUP: 'yes', LOCK_WAIT: '0' }
  const web1 = newTarget(m, 'web1', { paths: [source], env })
  const off = newTarget(m, 'off', { env: { SNAPSHOTS_OF: 'web1', LOCK_WAIT: '0' } })
  await makeStore(m, web1)
  await makeStore(m, off, web1)
  const settings = path.join(web1.dir, 'target.env')
  const write = (name: string) => fs.writeFileSync(path.join(source, name), randomBytes(20_000))
  const sameThere = async (name: string) => {
    const { bytes } = await restic(m, off, ['dump', 'latest', path.join(source, name)])
    assert.deepEqual(bytes, fs.readFileSync(path.join(source, name)))
  }
  const metrics = async () =>
    (await done(m, ['stats', '--prometheus'])).lines
      .filter((line) => line.startsWith('kedge_copy_lag_seconds'))
      .map((line) => line.split(' '))

  await t.test('-n shows it and changes nothing; --explain runs by hand', async () => {
    write('first')
    const dry = await done(m, ['backup', '-n', 'web1', '--json'])
    assert.deepEqual([dry.rows[0]?.kind, copies(dry.rows)], ['summary', [['off', 0, 0, true]]])
    assert.ok(!fs.existsSync(path.join(m.state, 'web1', 'runs.ndjson')))
    assert.equal((await kedge(m, ['status', 'web1', '-a'])).lines[1]?.split('\t').at(-1), "store 'off' has no copy")
    const { stdout } = await done(m, ['backup', 'web1', '--explain'])
    const byHand = await startProgram(m, '/bin/sh', ['-e'], { input: stdout, env: { RESTIC_CACHE_DIR: m.cache } }).result
    assert.equal(byHand.status, 0, byHand.stderr)
    await sameThere('first')
  })

  await t.test('what was missing before is caught up with', async () => {
    change(settings, 'COPY_AFTER_BACKUP', 'COPY_AFTER_BACKUP=no\nMAX_AGE=1d #')
    write('second')
    assert.deepEqual(copies((await done(m, ['backup', 'web1', '--json'])).rows), [])
    const ledger = path.join(m.state, 'web1', 'runs.ndjson')
    change(ledger, /"start":"[^"]+"/, `"start":"${new Date(Date.now() - 7_200_000).toISOString()}"`)
    assert.deepEqual(stores((await kedge(m, ['status', 'web1', '-a', '--json'])).rows), [['off', 'never', 2, 1]])
    change(settings, 'COPY_AFTER_BACKUP=no', 'COPY_AFTER_BACKUP=yes')
    write('third')
    const result = await done(m, ['backup', 'web1', 'web1'])
    assert.deepEqual(
      result.lines.map((line) => line.split('\t').slice(0, 2)),
      [
        ['web1', result.lines[0]?.split('\t')[1]],
        ['web1', 'off'],
      ],
      'a name given twice is saved once',
    )
    assert.equal(result.lines[1], 'web1\toff\t2\t1')
    await sameThere('third')
    assert.deepEqual(
      runsOf(m, 'web1').map(({ verb, state }) => `${verb} ${state}`),
      ['backup success', 'backup success', 'copy success'],
    )
    assert.deepEqual(stores((await done(m, ['status', 'web1', '-a', '--json'])).rows), [['off', 'ok', 0, 0]])
    assert.deepEqual(await metrics(), [['kedge_copy_lag_seconds{target="web1",store="off"}', '0']])
  })

  await t.test('a backup of a second store is misuse, and no run that failed', async () => {
    const result = await kedge(m, ['backup', 'off'])
    assert.equal(result.status, 2, result.stderr)
    assert.match(result.stderr, /'off' has no sources of its own: it holds copies of web1\n.*kedge copy/)
    assert.deepEqual(
      (await done(m, ['history', 'off', '--json'])).rows.filter((row) => row.kind === 'run' && row.verb === 'backup'),
      [],
    )
  })

  await t.test('a store that fails is status 3, and neither the backup nor the other stores suffer', async () => {
    newTarget(m, 'bad', { env: { RESTIC_REPOSITORY: off.repository, STORE_ID: 'a'.repeat(64), SNAPSHOTS_OF: 'web1' } })
    change(settings, /COPY_TO='off'/, "COPY_TO='bad gone off'")
    write('fourth')
    const result = await kedge(m, ['backup', 'web1', '--json'])
    assert.equal(result.status, 3, result.stderr)
    assert.match(result.stderr, /store 'bad': cannot open repository .*: wrong password/)
    assert.match(result.stderr, /store 'gone': no target 'gone'/)
    assert.deepEqual(copies(result.rows), [['off', 1, 3, false]])
    await sameThere('fourth')
    assert.deepEqual(
      runsOf(m, 'web1')
        .slice(-2)
        .map(({ verb, state, status }) => [verb, state, status]),
      [
        ['backup', 'success', 0],
        ['copy', 'warning', 3],
      ],
    )
    const status = await kedge(m, ['status', 'web1', '-a', '--json'])
    assert.equal(status.status, 16)
    assert.deepEqual(stores(status.rows), [
      ['bad', 'failed', 2, 3],
      ['gone', 'failed', 2, 3],
      ['off', 'ok', 0, 0],
    ])
    const [bad, gone, good] = await metrics()
    assert.deepEqual([Number(bad?.[1]) >= 7200, Number(gone?.[1]) >= 7200, good?.[1]], [true, true, '0'])
    change(settings, "'bad gone off'", 'bad')
    const all = await kedge(m, ['backup', 'web1', '--json'])
    assert.equal(all.status, 3, all.stderr)
    change(settings, 'COPY_TO=bad', 'COPY_TO=gone')
    const none = await kedge(m, ['backup', 'web1'])
    assert.equal(none.status, 3, none.stderr)
    assert.match(none.stderr, /copy of 'web1': no target 'gone'/)
    assert.equal((await kedge(m, ['copy', 'web1'])).status, 2)
    change(settings, 'COPY_TO=gone', 'COPY_TO=off')
  })

  await t.test('a backup of which a part failed is copied too, and its own status stays', async () => {
    write('fifth')
    const stream = fake(path.join(web1.dir, 'streams'), 'broken', 'echo half; exit 1')
    const result = await kedge(m, ['backup', 'web1', '--json'])
    assert.equal(result.status, 1, result.stderr)
    await sameThere('fifth')
    assert.equal(copies(result.rows).length, 1)
    fs.rmSync(stream)
  })

  await t.test('as a default of the house it is for targets with COPY_TO; a target that asks for it without is told', async () => {
    const text = fs.readFileSync(settings, 'utf8')
    fs.writeFileSync(settings, text.replace(/^COPY_.*\n/gm, ''))
    fs.writeFileSync(path.join(m.config, 'defaults.env'), 'COPY_AFTER_BACKUP=yes\n')
    assert.deepEqual(copies((await done(m, ['backup', 'web1', '--json'])).rows), [])
    fs.appendFileSync(settings, 'COPY_AFTER_BACKUP=yes\n')
    const told = await kedge(m, ['backup', 'web1'])
    assert.equal(told.status, 3, told.stderr)
    assert.match(told.stderr, /copy of 'web1': target 'web1' has no COPY_TO/)
    fs.rmSync(path.join(m.config, 'defaults.env'))
    fs.writeFileSync(settings, text)
  })

  await t.test('where nothing was saved nothing is copied', async () => {
    fs.renameSync(source, `${source}.away`)
    const before = runsOf(m, 'web1').length
    const result = await kedge(m, ['backup', 'web1', '--json'])
    assert.deepEqual([result.status, copies(result.rows), runsOf(m, 'web1').length - before], [1, [], 1])
    fs.renameSync(`${source}.away`, source)
  })

  await t.test('a guard that was overridden for the backup is not overridden for the copies', async () => {
    change(path.join(off.dir, 'target.env'), /STORE_ID=\w+/, `STORE_ID=${'b'.repeat(64)}`)
    const result = await kedge(m, ['backup', 'web1', '--force=identity', '--json'])
    assert.equal(result.status, 3, result.stderr)
    assert.match(result.stderr, /store 'off': refusing to write: another store lies in/)
    assert.deepEqual(copies(result.rows), [])
  })
})
