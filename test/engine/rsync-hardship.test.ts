// Full disks, sources that vanish and links that are cut in the middle of a run: no published snapshot is altered, the next run completes.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { after, test } from 'node:test'
import type { Result } from '../harness.ts'
import { done, fake, kedge, type Rsync, rsyncs, start } from '../harness.ts'
import { startSshd } from '../sshd.ts'
import { runs } from './bench.ts'
import { bulk, published, reached, recovers, type Scene, scene, unaltered } from './crash.ts'

const newest = rsyncs().at(-1) as Rsync
const server = await startSshd({ after })

/** It failed for this reason, and nothing new was published. */
async function failed({ machine, target, before }: Scene, result: Result, kind: string, status = 1): Promise<void> {
  assert.equal(result.status, status, result.stderr)
  assert.equal((await runs(machine, 'web1'))[0]?.class, kind)
  assert.deepEqual(Object.keys(published(target)), Object.keys(before))
  unaltered(target, before)
}

const rooms = {
  'the disk is full': { room: { bytes: 2 << 20, inodes: 500 }, reserve: '4M' },
  'the inodes are used up': { room: { bytes: 20 << 20, inodes: 190 }, reserve: '0 200' },
}
for (const [what, { room, reserve }] of Object.entries(rooms)) {
  test(`${what} in the middle of a run: it fails for want of space, and the next one completes once there is room`, async (t) => {
    const here = await scene(t, newest, { easy: true, room, env: { RESERVE: '0' } })
    await failed(here, await kedge(here.machine, ['backup', 'web1']), 'space')
    for (let i = bulk / 4; i < bulk; i++) fs.rmSync(path.join(here.source, `bulk/f${i}`))
    await recovers(here)
  })

  test(`${what} but for the reserve: nothing is begun`, async (t) => {
    const here = await scene(t, newest, { easy: true, room, env: { RESERVE: '0' } })
    const settings = path.join(here.target.dir, 'target.env')
    fs.writeFileSync(settings, fs.readFileSync(settings, 'utf8').replace("RESERVE='0'", `RESERVE='${reserve}'`))
    await failed(here, await kedge(here.machine, ['backup', 'web1']), 'space')
    assert.deepEqual(fs.readdirSync(path.join(here.target.root, 'incomplete')), [])
  })
}

test('a source that vanishes in the middle of a run is no success, and the next run has all of it again', async (t) => {
  const here = await scene(t, newest)
  execFileSync('cp', ['-a', here.source, `${here.source}.kept`])
  const run = start(here.machine, ['backup', 'web1'])
  assert.ok(await reached(here, run, bulk / 2))
  fs.rmSync(here.source, { recursive: true })
  const result = await run.result
  assert.notEqual(result.status, 0, result.stdout)
  unaltered(here.target, here.before)
  execFileSync('cp', ['-a', `${here.source}.kept`, here.source])
  await recovers(here)
})

for (const count of [1, bulk / 2, bulk - 20]) {
  test(`a link that is cut when ${count} of ${bulk} files have come is taken up again in the same run`, async (t) => {
    const here = await scene(t, newest, { server })
    const run = start(here.machine, ['backup', 'web1'])
    assert.ok(await reached(here, run, count))
    assert.notEqual(server.cut(), 0)
    const result = await run.result
    assert.equal(result.status, 0, result.stderr)
    await recovers(here)
  })
}

test('with no retries it is 13, nothing is published, and the next run sends only what had not come', async (t) => {
  const here = await scene(t, newest, { server, env: { RETRIES: '0' } })
  const run = start(here.machine, ['backup', 'web1'])
  assert.ok(await reached(here, run, bulk / 2))
  assert.notEqual(server.cut(), 0)
  await failed(here, await run.result, 'unreachable', 13)
  await recovers(here)
  const { counts } = JSON.parse(fs.readFileSync(path.join(here.target.root, 'latest/snapshot.json'), 'utf8'))
  assert.ok(counts.transferred <= bulk / 2 + 10, `${counts.transferred} files were sent`)
})

for (const bytes of [0, 50, 5000, 100_000]) {
  test(`a link that lets ${bytes} bytes through and ends: nothing is published, and the next run completes`, async (t) => {
    const here = await scene(t, newest, { server, env: { RETRIES: '0' } })
    fake(here.machine.bin, 'ssh', `/usr/bin/ssh "$@" | { dd bs=1 count=${bytes} status=none; kill -9 $$; }`)
    const result = await kedge(here.machine, ['backup', 'web1'])
    assert.notEqual(result.status, 0)
    assert.deepEqual(Object.keys(published(here.target)), Object.keys(here.before))
    fs.rmSync(path.join(here.machine.bin, 'ssh'))
    await recovers(here)
    await done(here.machine, ['check', 'web1'])
  })
}
