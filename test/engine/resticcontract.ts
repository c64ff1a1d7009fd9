// The contract of engines on restic, and what restic alone has: snapshots of several targets in one repository.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { test } from 'node:test'
import type { PlanLine, StoreRow } from '../../lib/rows.ts'
import { cheapen } from '../cheap.ts'
import { done, kedge, machine, type NewTarget, newTarget, type Restic, restic } from '../harness.ts'
import { makeStore } from '../store.ts'
import { type Bench, houseOf, rows, snapshots } from './bench.ts'
import { contract } from './contract.ts'

export function resticContract(version: Restic): void {
  const bench: Bench<NewTarget> = {
    name: `restic ${version.version}`,
    machine: (t) => machine(t, version),
    target: newTarget,
    place: ({ repository }) => repository,
    sharing: ({ repository, password }) => ({ env: { RESTIC_REPOSITORY: repository }, secrets: { RESTIC_PASSWORD: password } }),
    locks: async (house, target) => (await restic(house, target, ['list', 'locks', '--no-lock'])).lines.length,
    store: makeStore,
    quicken: ({ repository, password }) => cheapen(repository, password),
    held: {
      verb: 'check',
      // A backup that waits for stdin holds a shared lock, which keeps the exclusive one of a check out.
      async hold(house, target) {
        const env = { RESTIC_REPOSITORY: target.repository, RESTIC_PASSWORD: target.password, RESTIC_CACHE_DIR: house.cache }
        const holder = spawn(version.path, ['backup', '--stdin'], { env, stdio: ['pipe', 'ignore', 'ignore'] })
        house.t.after(() => holder.kill('SIGKILL'))
        for (let i = 0; i < 100; i++) {
          if ((await restic(house, target, ['list', 'locks', '--no-lock'])).lines.length > 0) return
        }
        throw new Error('the lock was not taken')
      },
    },
    faults: {
      'a wrong password': {
        status: 12,
        options: (_, { repository }) => ({ env: { RESTIC_REPOSITORY: repository, STORE_ID: 'x' } }),
      },
      'a missing store': {
        status: 10,
        options: ({ dir }) => ({ env: { RESTIC_REPOSITORY: `${dir}/missing`, STORE_ID: 'x' } }),
      },
      'an unreachable one': {
        status: 13,
        options: () => ({ env: { RESTIC_REPOSITORY: 'rest:http://127.0.0.1:9/', STORE_ID: 'x', CONNECT_TIMEOUT: '1s' } }),
      },
    },
  }
  contract(bench)
  adoption(bench)
}

function adoption(bench: Bench<NewTarget>): void {
  const house = houseOf(bench)
  const sentence = 'what belongs to another target is not adopted unless it is named, and then no prune, forget or hold touches it'
  test(`${bench.name}: ${sentence}`, async (t) => {
    const { machine, source, target } = await house(t)
    const shared = { paths: [source], secrets: { RESTIC_PASSWORD: target.password } }
    await done(machine, ['backup', 'web1'])
    newTarget(machine, 'web2', { ...shared, env: { RESTIC_REPOSITORY: target.repository, KEEP_LAST: '1' } })
    const dry = await done(machine, ['init', '--adopt', '-n', '--json', 'web2'])
    const adopted = await done(machine, ['init', '--adopt', '--json', 'web2'])
    for (const { rows, stderr } of [dry, adopted]) {
      assert.equal((rows as StoreRow[])[0]?.adopted, 0)
      assert.match(stderr, /1 snapshot is left out: of 'web1'/)
    }
    assert.equal((await snapshots(machine, 'web2')).length, 0)
    await done(machine, ['backup', 'web2'])
    await done(machine, ['backup', 'web2'])
    const [own] = await snapshots(machine, 'web1')
    await done(machine, ['prune', 'web2'])
    assert.deepEqual(
      (await snapshots(machine, 'web1')).map(({ id }) => id),
      [own?.id],
    )

    const [row] = rows<StoreRow>(await done(machine, ['init', '--adopt', '--tag', 'kedge:web1', '--json', 'web2']))
    assert.equal(row?.adopted, 1)
    const [both] = await snapshots(machine, 'web1')
    const id = both?.id ?? ''
    const plan = rows<PlanLine>(await done(machine, ['prune', '-n', '--json', 'web2'])).find((line) => line.id === id)
    assert.deepEqual([plan?.action, plan?.reasons.includes("also of target 'web1'")], ['keep', true])
    await done(machine, ['prune', 'web2'])
    for (const verb of ['forget', 'hold'])
      for (const name of ['web1', 'web2']) {
        const refused = await kedge(machine, [verb, '--force=newest', name, id])
        assert.equal(refused.status, 15, refused.stderr)
        assert.match(refused.stderr, new RegExp(`snapshot ${id.slice(0, 8)}.*also of target '${name === 'web1' ? 'web2' : 'web1'}'`))
      }
    assert.equal((await done(machine, ['cat', 'web1', `${id}:${source}/file`])).stdout, 'some bytes\n')
  })
}
