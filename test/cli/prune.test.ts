import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Target } from '../../lib/contract.ts'
import { allDead, type ResticLock } from '../../lib/engine/restic/deadlock.ts'
import { policyArgs } from '../../lib/engine/restic/policy.ts'
import { parseKeep } from '../../lib/keeprules.ts'
import { sourceOf } from '../../lib/kept.ts'
import type { PlanLine, Pruned, RunRow, SimulatedDay, Snapshot } from '../../lib/rows.ts'
import { othersOf } from '../../lib/snapshots.ts'
import { done, kedge, type Machine, machine, type NewTarget, newest, newTarget, type Restic, restic, restics, start } from '../harness.ts'
import { initStore } from '../store.ts'

type Made = { repository: string; source: string; store: string; ids: Record<string, string> }
type Place = { m: Machine; web1: NewTarget }

const days = ['04', '06', '01', '03', '05', '02']
const oldest = restics()[0] as Restic
const noteOf = (day: string) => Buffer.from(`the note of day ${day}\n${day.repeat(30_000)}\n`)

/** A snapshot of each of six days, written in another order than that of the days, the second held; and one of another target. */
async function template(t: TestContext): Promise<Made> {
  const m = machine(t, oldest)
  const web1 = newTarget(m, 'web1')
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  const store = await initStore(m, web1)
  for (const day of days) {
    fs.writeFileSync(path.join(source, 'note'), noteOf(day))
    await restic(m, web1, ['backup', '-q', '--tag', 'kedge:web1', '--time', `2024-03-${day} 10:00:00`, source])
  }
  await restic(m, web1, ['backup', '-q', '--tag', 'kedge:other', '--time', '2024-03-01 09:00:00', source])
  const listed = async () => {
    const text = (await restic(m, web1, ['snapshots', '--json'])).stdout
    const all = JSON.parse(text) as { id: string; time: string; tags: string[] }[]
    return Object.fromEntries(all.map(({ id, time, tags }) => [tags[0] === 'kedge:web1' ? time.slice(8, 10) : 'other', id]))
  }
  await restic(m, web1, ['tag', '-q', '--add', 'kedge:hold', (await listed())['02'] as string])
  return { repository: web1.repository, source, store, ids: await listed() }
}

const inStore = (target: NewTarget) => fs.readdirSync(path.join(target.repository, 'snapshots')).sort()
const summary = (rows: readonly unknown[]) => rows.find((row) => (row as Pruned).kind === 'pruned') as Pruned
const plansOf = (rows: readonly unknown[]) => rows.filter((row): row is PlanLine => (row as PlanLine).kind === 'plan')
const record = (m: Machine) => JSON.parse(fs.readFileSync(path.join(m.state, 'web1', 'last.json'), 'utf8')).prune.last as RunRow
/** Gives a setting of a target's another value. */
const set = (target: NewTarget, key: string, value: string) => {
  const file = path.join(target.dir, 'target.env')
  const others = fs
    .readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line && !line.startsWith(`${key}=`))
  fs.writeFileSync(file, `${[...others, `${key}='${value}'`].join('\n')}\n`)
}
const suspect = ({ m }: Place, id: string) => {
  fs.mkdirSync(path.join(m.state, 'web1'), { recursive: true })
  fs.writeFileSync(path.join(m.state, 'web1', 'marks.json'), JSON.stringify({ suspects: { [id]: 'it shrank: 1 B' }, accepted: [] }))
}

test('prune', { concurrency: 2 }, async (t) => {
  const made = await template(t)
  const { ids } = made
  const all = Object.values(ids).sort()
  const without = (...gone: string[]) => all.filter((id) => !gone.some((day) => ids[day] === id))
  const place = (t: TestContext, env: Record<string, string | undefined> = {}, tool: Restic = newest()): Place => {
    const m = machine(t, tool)
    const web1 = newTarget(m, 'web1', { env: { STORE_ID: made.store, LOCK_WAIT: '0s', ...env } })
    fs.cpSync(made.repository, web1.repository, { recursive: true })
    return { m, web1 }
  }

  const cases: Record<string, (t: TestContext) => Promise<void>> = {}

  for (const tool of restics()) {
    cases[`restic ${tool.version}: a digest deletes exactly its plan, a held snapshot survives, and the kept bytes are whole`] = async (
      t,
    ) => {
      const { m, web1 } = place(t, { KEEP_DAILY: '2' }, tool)
      const planned = (await done(m, ['prune', '-n', '--json', 'web1'])).rows
      assert.deepEqual(
        plansOf(planned).map(({ id, action }) => [id, action]),
        ['06', '05', '04', '03', '02', '01'].map((day) => [ids[day], day > '04' || day === '02' ? 'keep' : 'delete']),
      )
      assert.deepEqual(plansOf(planned)[4]?.reasons, ['held'])
      const { digest, ...counts } = summary(planned)
      assert.deepEqual(counts, { kind: 'pruned', target: 'web1', deleted: 3, kept: 3, later: 0, dryRun: true })
      assert.deepEqual(inStore(web1), all, 'a dry run deletes nothing')

      await restic(m, web1, ['tag', '--add', 'kedge:hold', ids['03'] as string])
      const data = () => fs.readdirSync(path.join(web1.repository, 'data'), { recursive: true }).join()
      const before = data()
      const applied = await done(m, ['prune', '--apply', digest, '--json', 'web1'])
      assert.deepEqual(summary(applied.rows), { kind: 'pruned', target: 'web1', later: 0, digest, deleted: 2, kept: 4 })
      assert.deepEqual(
        plansOf(applied.rows).map(({ id }) => id),
        ['04', '01'].map((day) => ids[day]),
      )
      assert.match(applied.stderr, new RegExp(`snapshot ${ids['03']?.slice(0, 8)} of the plan is not there any more`))
      const left = inStore(web1)
      const held = left.filter((id) => !all.includes(id))
      assert.equal(held.length, 1)
      assert.deepEqual(left, [...without('01', '03', '04'), ...held].sort())
      assert.notEqual(data(), before, "the repository's own prune ran")
      assert.equal(fs.existsSync(path.join(m.state, 'web1', 'unpruned.json')), false)
      for (const [id, day] of [
        [ids['06'], '06'],
        [ids['02'], '02'],
        [held[0], '03'],
      ] as const)
        assert.deepEqual((await restic(m, web1, ['dump', id as string, `${made.source}/note`])).bytes, noteOf(day))
      await restic(m, web1, ['check', '--read-data', '-q'])
    }
  }

  cases['without a digest it deletes at most PRUNE_MAX_DELETE, the oldest first, and names the rest'] = async (t) => {
    const { m, web1 } = place(t, { KEEP_LAST: '1', PRUNE_MAX_DELETE: '2' })
    const { rows, stderr } = await done(m, ['prune', '--json', 'web1'])
    assert.deepEqual(
      plansOf(rows).map(({ id, action }) => [id, action]),
      [
        ['05', 'later'],
        ['04', 'later'],
        ['03', 'delete'],
        ['01', 'delete'],
      ].map(([day, action]) => [ids[day as string], action]),
    )
    const { deleted, kept, later } = summary(rows)
    assert.deepEqual({ deleted, kept, later }, { deleted: 2, kept: 2, later: 2 })
    assert.match(stderr, /2 more could go/)
    assert.deepEqual(inStore(web1), without('01', '03'))
    const more = await done(m, ['prune', '--max-delete', '1', '--json', 'web1'])
    assert.deepEqual(inStore(web1), without('01', '03', '04'))
    assert.equal(summary(more.rows).later, 1)
    assert.equal(record(m).state, 'success')
  }

  cases['a digest of another plan or of another store is refused, and nothing is deleted'] = async (t) => {
    const { m, web1 } = place(t, { KEEP_LAST: '1' })
    const none = await kedge(m, ['prune', '--apply', '0123456789ab', 'web1'])
    assert.equal(none.status, 15)
    assert.match(none.stderr, /no plan is saved/)
    const { digest } = summary((await done(m, ['prune', '-n', '--json', 'web1'])).rows)
    const wrong = await kedge(m, ['prune', '--apply', digest.replace(/./g, '0'), 'web1'])
    assert.equal(wrong.status, 15)
    const file = path.join(m.state, 'web1', 'plan.json')
    const plan = fs.readFileSync(file, 'utf8')
    fs.writeFileSync(file, plan.replace(ids['01'] as string, ids['06'] as string))
    const forged = await kedge(m, ['prune', '--apply', digest, 'web1'])
    assert.equal(forged.status, 15)
    assert.match(forged.stderr, /the saved plan was changed/)
    fs.writeFileSync(file, plan)
    set(web1, 'STORE_ID', 'f'.repeat(64))
    const other = await kedge(m, ['prune', '--apply', digest, 'web1'])
    assert.equal(other.status, 15)
    assert.match(other.stderr, /it was made for another store/)
    // Without a digest the store itself is asked.
    const elsewhere = await kedge(m, ['prune', 'web1'])
    assert.equal(elsewhere.status, 15)
    assert.match(elsewhere.stderr, /another store lies in/)
    assert.deepEqual(inStore(web1), all)
  }

  cases['an empty value switches a default off, 0.14 included: without a rule nothing is deleted, and that is said'] = async (t) => {
    const { m, web1 } = place(t, { KEEP_LAST: '', KEEP_DAILY: '0' }, oldest)
    fs.writeFileSync(path.join(m.config, 'defaults.env'), 'KEEP_LAST=1\nKEEP_DAILY=1\n')
    const { rows, stderr } = await done(m, ['prune', '--json', 'web1'])
    assert.deepEqual(summary(rows).deleted, 0)
    assert.match(stderr, /no keep rules: nothing is deleted/)
    assert.deepEqual(inStore(web1), all)
    // The same target with the default in force deletes four.
    set(web1, 'KEEP_LAST', '1')
    assert.equal(summary((await done(m, ['prune', '-n', '--json', 'web1'])).rows).deleted, 4)
  }

  cases['a tag that no snapshot has leaves the newest, with restic 0.14 too, which alone would delete all'] = async (t) => {
    const { m, web1 } = place(t, { KEEP_TAGS: 'nosuch', KEEP_MIN: '3' }, oldest)
    await done(m, ['prune', 'web1'])
    assert.deepEqual(inStore(web1), without('01', '03', '04'))
  }

  cases['a snapshot from after a clock jump condemns no other'] = async (t) => {
    const { m, web1 } = place(t, { KEEP_WITHIN: '10d' })
    await restic(m, web1, ['backup', '-q', '--tag', 'kedge:web1', '--time', '2025-06-01 10:00:00', m.home])
    const there = inStore(web1)
    const refused = await kedge(m, ['prune', 'web1'])
    assert.equal(refused.status, 15)
    assert.match(refused.stderr, /the newest snapshot is 452 days after the one before it/)
    assert.deepEqual(inStore(web1), there)
    assert.equal(record(m).class, 'refused')
    const forced = await done(m, ['prune', '-n', '--force=clock', '--json', 'web1'])
    assert.equal(summary(forced.rows).deleted, 5)
  }

  cases['a suspect snapshot stops prune until it is accepted'] = async (t) => {
    const here = place(t, { KEEP_LAST: '1' })
    const { m } = here
    suspect(here, (ids['06'] as string).slice(0, 8))
    const refused = await kedge(m, ['prune', 'web1'])
    assert.equal(refused.status, 15)
    assert.match(refused.stderr, new RegExp(`snapshot ${ids['06']?.slice(0, 8)} is suspect: it shrank: 1 B`))
    const forced = await done(m, ['prune', '-n', '--force=suspect', '--json', 'web1'])
    const kept = plansOf(forced.rows).filter(({ action }) => action === 'keep')
    assert.deepEqual(
      kept.map(({ id }) => id),
      [ids['06'], ids['05'], ids['02']],
      'the newest good one stays besides the suspect one',
    )
    const unknown = await kedge(m, ['accept', 'web1', 'abcdef'])
    assert.equal(unknown.status, 1)
    assert.match((await done(m, ['accept', 'web1'])).stdout, /^[0-9a-f]{8}\tsuspect\tweb1\tit shrank: 1 B\n$/)
    await done(m, ['accept', '-n', 'web1', ids['06'] as string])
    await done(m, ['accept', 'web1', ids['06'] as string])
    await done(m, ['accept', 'web1', ids['06'] as string])
    assert.equal((await done(m, ['accept', 'web1'])).stdout, '')
    assert.equal(summary((await done(m, ['prune', '-n', '--json', 'web1'])).rows).deleted, 4)
  }

  cases['a store that says 0 and keeps its snapshots is a failure, and the next prune finishes'] = async (t) => {
    const { m, web1 } = place(t, { KEEP_LAST: '1' })
    const log = path.join(m.dir, 'called')
    const script = `echo "$1" >> '${log}'; [ "$1" = forget ] && [ ! -e '${m.dir}/well' ] && exit 0; exec '${m.restic.path}' "$@"`
    fs.writeFileSync(path.join(m.bin, 'restic'), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    const failed = await kedge(m, ['prune', 'web1'])
    assert.equal(failed.status, 1)
    assert.match(failed.stderr, /restic left all 4 snapshots there/)
    assert.deepEqual(inStore(web1), all)
    await restic(m, web1, ['forget', '-q', ...['01', '03', '04', '05'].map((day) => ids[day] as string)])
    fs.writeFileSync(path.join(m.dir, 'well'), '')
    fs.rmSync(log)
    assert.equal(summary((await done(m, ['prune', '--json', 'web1'])).rows).deleted, 0)
    assert.deepEqual(
      fs
        .readFileSync(log, 'utf8')
        .split('\n')
        .filter((verb) => verb === 'prune'),
      ['prune'],
    )
    fs.rmSync(log)
    await done(m, ['prune', 'web1'])
    assert.doesNotMatch(fs.readFileSync(log, 'utf8'), /prune/, 'with nothing to give back restic prune does not run')
  }

  for (const tool of [oldest, newest()]) {
    cases[`restic ${tool.version}: a living lock is status 11 and stays; the lock of a run that was killed is removed`] = async (t) => {
      const { m, web1 } = place(t, { KEEP_LAST: '1' }, tool)
      const stream = path.join(web1.dir, 'streams', 'slow')
      fs.mkdirSync(path.dirname(stream))
      fs.writeFileSync(stream, '#!/bin/sh\necho begun\nexec sleep 60\n', { mode: 0o755 })
      // Without what restic is just writing.
      const locks = () => fs.readdirSync(path.join(web1.repository, 'locks')).filter((name) => !name.includes('-tmp-'))
      const backup = start(m, ['backup', 'web1'])
      while (locks().length === 0) await sleep(50)
      const [lock] = locks()
      const { pid } = JSON.parse((await restic(m, web1, ['cat', 'lock', lock as string, '--no-lock'])).stdout) as ResticLock
      const busy = await kedge(m, ['prune', 'web1'])
      assert.equal(busy.status, 11)
      // The leash would end restic cleanly: both die at once here, as in a crash of the machine's memory.
      backup.child.kill('SIGSTOP')
      process.kill(pid, 'SIGKILL')
      backup.child.kill('SIGKILL')
      await backup.result
      assert.deepEqual(locks(), [lock])
      while (isThere(pid)) await sleep(50)
      const after = await done(m, ['prune', 'web1', '--wait', '30'])
      assert.match(after.stderr, /removed the lock that the crashed run left/)
      assert.deepEqual(locks(), [])
      assert.deepEqual(inStore(web1), without('01', '03', '04', '05'))
    }
  }

  cases['--simulate shows each day ahead, and needs a schedule'] = async (t) => {
    const { m, web1 } = place(t, { KEEP_DAILY: '3', SCHEDULE_BACKUP: '0 3 * * *', TZ: 'Europe/Berlin' })
    const rows = (await done(m, ['prune', '--simulate', '5', '--json', 'web1'])).rows as SimulatedDay[]
    assert.equal(rows.length, 5)
    const last = rows.at(-1) as SimulatedDay
    assert.equal(last.snapshots, 4, 'three days and the held one')
    assert.match(last.times[0] ?? '', /T0[12]:00:00\.000Z$/)
    set(web1, 'SCHEDULE_BACKUP', '')
    assert.equal((await kedge(m, ['prune', '--simulate', '5', 'web1'])).status, 2)
  }

  cases['--explain prints what an operator would type, and sh runs it to the same end'] = async (t) => {
    const { m, web1 } = place(t, { KEEP_DAILY: '2', KEEP_TAGS: 'release', TZ: 'UTC' })
    const { lines, stdout } = await done(m, ['prune', '--explain', 'web1'])
    assert.equal(
      lines.at(-1),
      "restic forget --tag kedge:web1 --group-by '' --keep-daily 2 --keep-tag kedge:hold --keep-tag release --prune",
    )
    const { startProgram } = await import('../harness.ts')
    const ran = await startProgram(m, '/bin/sh', ['-ec', stdout], { env: { RESTIC_CACHE_DIR: m.cache } }).result
    assert.equal(ran.status, 0, ran.stderr)
    assert.deepEqual(inStore(web1), without('01', '03', '04'))
  }

  await Promise.all(Object.entries(cases).map(([name, run]) => t.test(name, run)))
})

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

test('only locks of this host, of a dead group of the run, are dead', () => {
  const lock = (pid: number, hostname = 'here'): ResticLock => ({ id: 'a', time: '', exclusive: true, hostname, username: 'root', pid })
  const here = { host: 'here', exists: (pid: number) => pid === 7 }
  const table: [string, (ResticLock | undefined)[], number[], boolean][] = [
    ['ours', [lock(5)], [5], true],
    ['both ours', [lock(5), lock(6)], [5, 6], true],
    ['none', [], [5], false],
    ['another host', [lock(5, 'there')], [5], false],
    ['not a group of the dead run', [lock(5)], [6], false],
    ['a pid that lives', [lock(7)], [7], false],
    ['one of another beside ours', [lock(5), lock(6)], [5], false],
    ['one that went away while it was read', [lock(5), undefined], [5], false],
  ]
  for (const [name, locks, dead, expected] of table) assert.equal(allDead(locks, dead, here), expected, name)
})

test('the sources of a store are its paths and each stream, apart for each target that it holds', () => {
  const target = (env: Record<string, string>): Target => ({
    name: 'web1',
    engine: 'restic',
    dir: '/t',
    env,
    origin: {},
    paths: [],
    excludes: [],
    streams: [],
    hooks: [],
    secret: 'none',
  })
  const of = (...tags: string[]): Snapshot => {
    const stream = tags.find((tag) => tag.startsWith('stream:'))?.slice(7)
    return { kind: 'snapshot', target: 'web1', id: 'a', time: '', host: 'h', paths: [], tags, ...(stream && { stream }) }
  }
  assert.equal(sourceOf(target({}), of('kedge:web1')), 'paths')
  assert.equal(sourceOf(target({}), of('kedge:web1', 'stream:db.sql')), 'stream:db.sql')
  assert.equal(sourceOf(target({}), of('kedge:web1', 'kedge:names')), 'names')
  const owners: [string[], Record<string, string>, string[]][] = [
    [['kedge:web1', 'kedge:hold', 'kedge:partial', 'kedge:names', 'web2'], {}, []],
    [['kedge:web1', 'kedge:web2'], {}, ['web2']],
    [['kedge:web1', 'kedge:old'], { SNAPSHOTS_OF: 'web1 old' }, []],
    [['kedge:db1'], { SNAPSHOTS_OF: 'db1' }, []],
    [['kedge:db1', 'kedge:db2'], { SNAPSHOTS_OF: 'db1' }, ['db2']],
  ]
  for (const [tags, env, expected] of owners) assert.deepEqual(othersOf(target(env), of(...tags)), expected, tags.join())
  const both = target({ SNAPSHOTS_OF: 'web1 web2' })
  assert.notEqual(sourceOf(both, of('kedge:web1')), sourceOf(both, of('kedge:web2')))
  const { rules } = parseKeep({ KEEP_LAST: 'unlimited', KEEP_WITHIN_DAILY: '7d' })
  const policy = ['--keep-last', 'unlimited', '--keep-within-daily', '7d', '--keep-tag', 'kedge:hold']
  assert.deepEqual(policyArgs(both, rules), [
    ['forget', '--tag', 'kedge:web1', '--group-by', '', ...policy],
    ['forget', '--tag', 'kedge:web2', '--group-by', '', ...policy, '--prune'],
  ])
})
