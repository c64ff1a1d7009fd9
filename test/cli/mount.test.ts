import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { mountArgs, noMount } from '../../lib/engine/restic/mount.ts'
import {
  done,
  fake,
  kedge,
  type Machine,
  machine,
  type NewTarget,
  newTarget,
  type Restic,
  restic,
  restics,
  start,
  startProgram,
} from '../harness.ts'
import { makeStore } from '../store.ts'

type Made = { m: Machine; target: NewTarget; file: string; at: string }

async function saved(t: TestContext, tool?: Restic): Promise<Made> {
  let at = ''
  // Before the folder is removed, which comes next.
  t.after(() => spawnSync('umount', ['-l', at]))
  const m = machine(t, tool)
  const file = path.join(m.dir, 'source', 'file')
  fs.mkdirSync(path.dirname(file))
  fs.writeFileSync(file, randomBytes(300_000))
  const target = newTarget(m, 'web1', { paths: [path.dirname(file)] })
  await makeStore(m, target)
  await done(m, ['backup', 'web1'])
  at = path.join(m.dir, 'mnt')
  fs.mkdirSync(at)
  return { m, target, file, at }
}

const mounted = (at: string) => fs.readFileSync('/proc/self/mounts', 'utf8').includes(` ${at} `)

for (const tool of restics()) {
  test(`restic ${tool.version}: the bytes of a mounted snapshot, the target's own only; SIGTERM unmounts, status 0`, async (t) => {
    const { m, target, file, at } = await saved(t, tool)
    await restic(m, target, ['backup', '-q', '--tag', 'kedge:other', '/etc/hostname'])
    const mount = start(m, ['mount', 'web1', at])
    await mount.until(/^.*mnt\tweb1$/m)
    assert.deepEqual(fs.readFileSync(path.join(at, 'snapshots/latest', file)), fs.readFileSync(file))
    const [id = ''] = (await done(m, ['list', 'web1', '-q'])).lines
    assert.deepEqual(fs.readdirSync(path.join(at, 'ids')), [id.slice(0, 8)])
    mount.child.kill('SIGTERM')
    const { status, stderr, lines } = await mount.result
    assert.equal(status, 0, stderr)
    assert.deepEqual(lines, [`${at}\tweb1`])
    assert.match(stderr, /SIGTERM\) or umount ends it/)
    assert.ok(!mounted(at))
    assert.deepEqual(fs.readdirSync(at), [])
    assert.deepEqual(fs.readdirSync(path.join(target.repository, 'locks')), [])
  })
}

test('what can go wrong with a mount', async (t) => {
  const { m, file, at } = await saved(t)
  await t.test('a folder that is missing, no folder, or not empty is status 2', async () => {
    for (const dir of [path.join(m.dir, 'none'), file, path.dirname(file)]) {
      const result = await kedge(m, ['mount', 'web1', dir])
      assert.equal(result.status, 2, result.stderr)
      assert.match(result.stderr, /cannot mount at '.*': (there is no such folder|it is not a folder|it is not empty)/)
    }
  })
  await t.test('umount from elsewhere ends it with 0', async () => {
    const mount = start(m, ['mount', 'web1', at])
    await mount.until(/mnt\tweb1/)
    assert.equal((await startProgram(m, 'umount', [at]).result).status, 0)
    assert.equal((await mount.result).status, 0, (await mount.result).stderr)
    assert.ok(!mounted(at))
  })
  await t.test('a folder in use cannot be unmounted: status 1, and it says so', async () => {
    const mount = start(m, ['mount', 'web1', at])
    await mount.until(/mnt\tweb1/)
    const user = startProgram(m, 'sleep', ['100'], { cwd: path.join(at, 'ids') })
    mount.child.kill('SIGINT')
    const { status, stderr } = await mount.result
    user.child.kill('SIGKILL')
    await user.result
    await startProgram(m, 'umount', ['-l', at]).result
    assert.equal(status, 1, stderr)
    assert.match(stderr, /cannot unmount '.*mnt': something uses it/)
  })
  await t.test('a restic without mount is status 2, and names what to use in its place', async () => {
    fake(
      m.bin,
      'restic',
      `case " $* " in *" mount "*) echo 'unknown command "mount" for "restic"' >&2; exit 1;; *) exec ${m.restic.path} "$@";; esac`,
    )
    const result = await kedge(m, ['mount', 'web1', at])
    fs.rmSync(path.join(m.bin, 'restic'))
    assert.equal(result.status, 2, result.stderr)
    assert.match(result.stderr, /kedge files .*kedge cat .*kedge restore/)
  })
  await t.test('a wrong password is status 12', async () => {
    const { repository } = newTarget(m, 'wrong', { env: { RESTIC_REPOSITORY: path.join(m.dir, 'repositories/web1') } })
    assert.ok(repository)
    assert.equal((await kedge(m, ['mount', 'wrong', at])).status, 12)
  })
  await t.test('--explain prints the command', async () => {
    assert.match((await done(m, ['mount', 'web1', at, '--explain'])).stdout, /^restic mount --tag kedge:web1 -- \/.*mnt$/m)
  })
})

test('where restic has no FUSE it is status 2 with files, cat and restore named; elsewhere nothing stands in the way', () => {
  for (const system of ['openbsd', 'netbsd', 'sunos', 'win32']) {
    const failure = noMount(system, true)
    assert.equal(failure?.class, 'misuse')
    assert.match(failure.message, new RegExp(system))
    for (const verb of ['files', 'cat', 'restore']) assert.ok(failure.hint?.includes(`kedge ${verb}`))
  }
  assert.match(noMount('linux', false)?.hint ?? '', /kedge files/)
  for (const system of ['linux', 'freebsd', 'darwin']) assert.equal(noMount(system, true), undefined)
})

test('of several names in SNAPSHOTS_OF each is mounted', () => {
  const env = { SNAPSHOTS_OF: 'web1 web2' }
  const target = {
    name: 'off',
    engine: 'restic' as const,
    dir: '/',
    env,
    origin: {},
    paths: [],
    excludes: [],
    streams: [],
    hooks: [],
    secret: 'none' as const,
  }
  assert.deepEqual(mountArgs(target, '/mnt'), ['mount', '--tag', 'kedge:web1', '--tag', 'kedge:web2', '--', '/mnt'])
})
