import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { successor } from '../../lib/engine/restic/hold.ts'
import type { Marked, Snapshot } from '../../lib/rows.ts'
import { done, kedge, type Machine, machine, type NewTarget, newest, newTarget, type Restic, restic, restics } from '../harness.ts'
import { initStore } from '../store.ts'

type Raw = { id: string; time: string; tags: string[]; original?: string }

const listed = async (m: Machine, target: NewTarget) => JSON.parse((await restic(m, target, ['snapshots', '--json'])).stdout) as Raw[]
const inStore = (target: NewTarget) => fs.readdirSync(path.join(target.repository, 'snapshots')).sort()
const marks = (m: Machine) => path.join(m.state, 'web1', 'marks.json')

type Made = { m: Machine; web1: NewTarget; source: string; store: string }
type Place = { m: Machine; web1: NewTarget; source: string; ids: readonly [string, string, string] }

/** A repository with a snapshot of three days. */
async function template(t: TestContext): Promise<Made> {
  const m = machine(t, restics()[0])
  const web1 = newTarget(m, 'web1')
  const store = await initStore(m, web1)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  for (const day of ['1', '2', '3']) {
    fs.writeFileSync(path.join(source, 'note'), `day ${day}\n`)
    await restic(m, web1, ['backup', '-q', '--tag', 'kedge:web1', '--time', `2024-03-0${day} 10:00:00`, source])
  }
  return { m, web1, source, store }
}

/** A machine with a copy of it; the oldest comes first in `ids`. */
async function place(t: TestContext, made: Made, tool: Restic, env: Record<string, string> = {}): Promise<Place> {
  const m = machine(t, tool)
  const web1 = newTarget(m, 'web1', { env: { LOCK_WAIT: '0s', STORE_ID: made.store, ...env } })
  fs.cpSync(made.web1.repository, web1.repository, { recursive: true })
  const ids = (await listed(m, web1)).sort((a, b) => (a.time < b.time ? -1 : 1)).map((each) => each.id)
  return { m, web1, source: made.source, ids: ids as [string, string, string] }
}

const cases: Record<string, (t: TestContext, made: Made) => Promise<void>> = {}

for (const tool of restics()) {
  cases[`restic ${tool.version}: a held snapshot outlives the keep rules and forget, until it is released`] = async (t, made) => {
    const { m, web1, source, ids } = await place(t, made, tool, { KEEP_LAST: '1' })
    const first = await done(m, ['hold', '--json', 'web1', ids[0].slice(0, 10)])
    const [held] = first.rows as Marked[]
    assert.deepEqual(held, { kind: 'marked', target: 'web1', action: 'held', id: held?.id, original: ids[0] })
    const id = held?.id as string
    assert.notEqual(id, ids[0])
    assert.deepEqual(
      (await listed(m, web1)).filter(({ tags }) => tags.includes('kedge:hold')).map((each) => each.id),
      [id],
    )
    // Again, by the old id: nothing changes.
    const again = await done(m, ['hold', '--json', 'web1', ids[0]])
    assert.deepEqual(again.rows, [{ kind: 'marked', target: 'web1', action: 'held', id }])

    const refused = await kedge(m, ['forget', '--force=newest', 'web1', id])
    assert.equal(refused.status, 15)
    assert.match(refused.stderr, /it is held\n.*kedge hold --release web1/)
    await done(m, ['prune', 'web1'])
    assert.deepEqual(inStore(web1), [id, ids[2]].sort())
    assert.equal((await restic(m, web1, ['dump', id, `${source}/note`])).stdout, 'day 1\n')

    const [released] = (await done(m, ['hold', '--release', '--json', 'web1', id])).rows as Marked[]
    assert.deepEqual([released?.action, released?.original], ['released', id])
    const forgotten = await done(m, ['forget', '--json', 'web1', released?.id as string])
    assert.deepEqual(forgotten.rows, [{ kind: 'marked', target: 'web1', action: 'forgotten', id: released?.id }])
    assert.match(forgotten.stderr, /kedge prune web1 gives the space back/)
    assert.deepEqual(inStore(web1), [ids[2]])
  }
}

cases['forget takes ids only, and the newest good snapshot only with --force=newest'] = async (t, made) => {
  const { m, web1, ids } = await place(t, made, newest())
  const there = inStore(web1)
  const latest = await kedge(m, ['forget', 'web1', 'latest'])
  assert.equal(latest.status, 2)
  assert.equal((await kedge(m, ['forget', 'web1'])).status, 2)
  assert.equal((await kedge(m, ['forget', 'web1', ids[0], 'abcdef0123'])).status, 1)
  const refused = await kedge(m, ['forget', 'web1', ids[0], ids[2]])
  assert.equal(refused.status, 15)
  assert.match(refused.stderr, new RegExp(`snapshot ${ids[2].slice(0, 8)} of 'web1': it is the newest good one of paths`))
  const dry = await done(m, ['forget', '-n', '--json', 'web1', ids[0]])
  assert.deepEqual(dry.rows, [{ kind: 'marked', target: 'web1', action: 'would forget', id: ids[0], dryRun: true }])
  assert.deepEqual(inStore(web1), there)
  assert.deepEqual((await done(m, ['forget', '--explain', 'web1', ids[0]])).lines.at(-1), `restic forget ${ids[0]}`)

  // A suspect one is not good: it may go, and its mark goes with it; the one before it may not.
  fs.writeFileSync(marks(m), JSON.stringify({ suspects: { [ids[2]]: 'it shrank' }, accepted: [] }))
  assert.equal((await kedge(m, ['forget', 'web1', ids[1]])).status, 15)
  await done(m, ['forget', 'web1', ids[2]])
  assert.deepEqual(JSON.parse(fs.readFileSync(marks(m), 'utf8')).suspects, {})
  await done(m, ['forget', '--force=newest', 'web1', ids[1]])
  assert.deepEqual(inStore(web1), [ids[0]])
}

cases['a suspect snapshot that is held is still suspect, under its new id'] = async (t, made) => {
  const { m, ids } = await place(t, made, newest(), { KEEP_LAST: '1' })
  await done(m, ['hold', '-n', 'web1', ids[1]])
  assert.equal(fs.existsSync(marks(m)), false)
  fs.mkdirSync(path.dirname(marks(m)), { recursive: true })
  // restic 0.14 names a new snapshot by eight characters only.
  fs.writeFileSync(marks(m), JSON.stringify({ suspects: { [ids[1].slice(0, 8)]: 'it shrank' }, accepted: [] }))
  const [held] = (await done(m, ['hold', '--json', 'web1', ids[1]])).rows as Marked[]
  assert.equal((await kedge(m, ['prune', 'web1'])).status, 15)
  const accepted = await done(m, ['accept', '--json', 'web1', held?.id.slice(0, 12) as string])
  assert.deepEqual(accepted.rows, [{ kind: 'marked', target: 'web1', action: 'accepted', id: held?.id, reason: 'it shrank' }])
  const runs = fs
    .readFileSync(path.join(m.state, 'web1', 'runs.ndjson'), 'utf8')
    .trim()
    .split('\n')
  assert.equal(JSON.parse(runs.at(-1) as string).verb, 'accept')
  await done(m, ['prune', 'web1'])
}

test('hold, forget and accept', { concurrency: 2 }, async (t) => {
  const made = await template(t)
  await Promise.all(Object.entries(cases).map(([name, run]) => t.test(name, (t) => run(t, made))))
})

test('the successor of a retagged snapshot is the new one with its first id and its time', () => {
  const at = (id: string, original?: string, time = 't'): Snapshot => ({
    kind: 'snapshot',
    target: 'web1',
    id,
    time,
    host: 'h',
    paths: [],
    tags: [],
    ...(original && { original }),
  })
  const table: [string, Snapshot[], Snapshot, Snapshot[], string | undefined][] = [
    ['its first change', [at('a')], at('a'), [at('b', 'a')], 'b'],
    ['a later change', [at('b', 'a')], at('b', 'a'), [at('c', 'a')], 'c'],
    ['not changed', [at('a')], at('a'), [at('a')], undefined],
    ['a copy that was there before', [at('a'), at('x', 'a')], at('a'), [at('x', 'a')], undefined],
    ['another one of that time', [at('a')], at('a'), [at('z')], undefined],
  ]
  for (const [name, before, old, after, expected] of table) assert.equal(successor(before, after, old)?.id, expected, name)
})
