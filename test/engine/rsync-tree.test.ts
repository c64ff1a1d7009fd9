// A tree with everything comes back equal: saved by root, pulled by root, pulled by an ordinary user and restored by root.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { after, test } from 'node:test'
import type { Summary } from '../../lib/rows.ts'
import { hardTree } from '../hardtree.ts'
import { done, kedge, type Machine, machine, newRsyncTarget, type Rsync, rsyncs, sameTree, start } from '../harness.ts'
import { startSshd } from '../sshd.ts'
import { sameHoles } from '../tree.ts'
import { asNobody, rows } from './bench.ts'
import { bulk, reached, recovers, scene } from './crash.ts'
import { pulled } from './rsyncbench.ts'

const server = await startSshd({ after })
const asRoot = process.geteuid?.() === 0
const newest = rsyncs().at(-1) as Rsync

/** A machine with the hard tree, and a target for it. */
function withTree(m: Machine, env: Record<string, string> = {}) {
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  hardTree(source)
  const target = newRsyncTarget(m, 'web1', { paths: [source], env })
  return { source, target, to: path.join(m.dir, 'restored') }
}

/** Two backups, of which the second sends nothing; both are restored and are equal. */
async function andBack(m: Machine, source: string, to: string): Promise<void> {
  await done(m, ['backup', 'web1'])
  const [again] = rows<Summary>(await done(m, ['backup', 'web1', '--json']))
  assert.deepEqual([again?.new, again?.changed], [0, 0])
  for (const snapshot of ['latest-1', 'latest']) {
    fs.rmSync(to, { recursive: true, force: true })
    await done(m, ['restore', 'web1', snapshot, '--to', to, '--verify'])
    sameTree(path.join(to, source), source)
    sameHoles(path.join(to, source), source)
  }
  await done(m, ['check', 'web1', '--read-data'])
}

for (const version of rsyncs()) {
  test(`rsync ${version.version}: a tree with everything is saved and restored, and is equal`, async (t) => {
    const m = machine(t, undefined, version)
    const { source, to } = withTree(m)
    await done(m, ['init', 'web1'])
    await andBack(m, source, to)
  })

  test(`rsync ${version.version}: a tree with everything is pulled from a host and restored, and is equal`, async (t) => {
    const m = machine(t, undefined, version)
    const { source, to } = withTree(m, pulled(m, server, version))
    await done(m, ['init', 'web1'])
    await andBack(m, source, to)
  })
}

test('what an ordinary user pulls is restored by root with owners, devices and setuid; the user is told what is not', async (t) => {
  assert.ok(asRoot, 'only root can give files away')
  const m = machine(t, undefined, newest)
  const key = path.join(m.dir, 'key')
  fs.copyFileSync(server.key, key)
  fs.chmodSync(key, 0o600)
  const { source, to } = withTree(m, { ...pulled(m, server, newest), SSH_KEY: key })
  const as = asNobody(m, source)
  await done(m, ['init', 'web1'], as)
  await done(m, ['backup', 'web1'], as)
  const [again] = rows<Summary>(await done(m, ['backup', 'web1', '--json'], as))
  assert.deepEqual([again?.new, again?.changed], [0, 0])
  // Root reads nobody else's configuration.
  const folders = [m.config, m.state, m.cache]
  execFileSync('chown', ['-R', '0:0', ...folders])
  await done(m, ['restore', 'web1', '--to', to, '--verify'])
  sameTree(path.join(to, source), source)
  sameHoles(path.join(to, source), source)
  execFileSync('chown', ['-R', '65534:65534', ...folders])
  const own = path.join(m.dir, 'own')
  const result = await kedge(m, ['restore', 'web1', '--to', own], as)
  assert.equal(result.status, 3, result.stderr)
  assert.match(result.stderr, /4 devices are left out: only root can make them/)
  assert.match(result.stderr, /\d+ entries belong to others: they will be yours/)
  assert.equal(fs.readFileSync(path.join(own, source, 'owners/large'), 'utf8'), 'x\n')
})

test("an ordinary user's run that was killed is taken up again, and the snapshots before it stay as they were", async (t) => {
  const here = await scene(t, newest, { easy: true, nobody: asRoot })
  const run = start(here.machine, ['backup', 'web1'], here.as())
  assert.ok(await reached(here, run, bulk / 2))
  run.child.kill('SIGKILL')
  await run.result
  await recovers(here)
})
