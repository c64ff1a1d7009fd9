// What machines do to a backup: full disks, files of others, tools that hang, processes that are killed.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { RunRow } from '../../lib/rows.ts'
import { dist, done, fake, kedge, machine, newTarget, start, startProgram } from '../harness.ts'
import { makeStore } from '../store.ts'

async function house(t: TestContext) {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'file'), 'some bytes\n')
  const web1 = newTarget(m, 'web1', { paths: [source] })
  await makeStore(m, web1)
  const env = path.join(web1.dir, 'target.env')
  return { m, source, web1, env }
}

test('a secret in a target.env that others can read is refused with 2 before restic starts, and shown nowhere', async (t) => {
  const { m, env } = await house(t)
  fs.appendFileSync(env, 'AWS_SECRET_ACCESS_KEY=notforeveryone\n')
  fs.chmodSync(env, 0o644)
  const refused = await kedge(m, ['backup', 'web1'])
  assert.equal(refused.status, 2)
  assert.match(refused.stderr, /target\.env: AWS_SECRET_ACCESS_KEY: a secret in a file that others can read/)
  fs.chmodSync(env, 0o600)
  const result = await done(m, ['backup', 'web1', '-v'])
  assert.ok(!(refused.stderr + result.stderr + result.stdout).includes('notforeveryone'))
})

test('a target.env of another user is refused with 2: it says what is executed', async (t) => {
  if (process.geteuid?.() !== 0) return t.skip('only root can give files away')
  const { m, env } = await house(t)
  fs.chownSync(env, 65534, 65534)
  const result = await kedge(m, ['backup', 'web1'])
  assert.equal(result.status, 2)
  assert.match(result.stderr, /it belongs to user 65534/)
})

test('a configuration folder that is a file is status 2, not a bug', async (t) => {
  const { m } = await house(t)
  const file = path.join(m.dir, 'file')
  fs.writeFileSync(file, '')
  assert.equal((await kedge(m, ['targets'], { env: { KEDGE_CONFIG_DIR: file } })).status, 2)
  assert.equal((await kedge(m, ['backup', 'web1'], { env: { KEDGE_CONFIG_DIR: file } })).status, 2)
})

test('init keeps the mode of target.env, and writes to the file that a link points to', async (t) => {
  const m = machine(t)
  const web1 = newTarget(m, 'web1', { paths: [m.dir] })
  const [file, real] = [path.join(web1.dir, 'target.env'), path.join(m.dir, 'elsewhere.env')]
  fs.renameSync(file, real)
  fs.symlinkSync(real, file)
  fs.chmodSync(real, 0o640)
  await done(m, ['init', 'web1'])
  assert.ok(fs.lstatSync(file).isSymbolicLink())
  assert.equal(fs.statSync(real).mode & 0o777, 0o640)
  assert.match(fs.readFileSync(real, 'utf8'), /^STORE_ID=[0-9a-f]{64}$/m)
})

test('a restic that hangs is ended by TIMEOUT in reading verbs and dry runs too, with 124', async (t) => {
  const { m, env } = await house(t)
  await done(m, ['backup', 'web1'])
  fs.appendFileSync(env, 'TIMEOUT=1s\n')
  fake(m.bin, 'restic', 'case "$*" in version) echo restic 0.19.1 ;; *) exec sleep 51 ;; esac')
  for (const args of [
    ['files', 'web1'],
    ['backup', '-n', 'web1'],
    ['list', 'web1'],
  ]) {
    const result = await kedge(m, args)
    assert.equal(result.status, 124, `${args.join(' ')}: ${result.stderr}`)
  }
})

test('a disk of the state that fills up during a backup does not end it; the run says that it is not on record, and is 3', async (t) => {
  if (process.geteuid?.() !== 0) return t.skip('only root can mount')
  const { m, source, web1 } = await house(t)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', m.state])
  try {
    fake(web1.dir, 'streams/fill', `cat /dev/zero >'${m.state}/fill' 2>/dev/null; echo full`)
    const full = await kedge(m, ['backup', 'web1'])
    assert.equal(full.status, 3, full.stderr)
    assert.match(full.stderr, /cannot record the run: .*ENOSPC/)
    fs.rmSync(path.join(m.state, 'fill'))
    assert.equal((await done(m, ['cat', 'web1', 'latest:/fill'])).stdout, 'full\n')
    assert.equal((await done(m, ['cat', 'web1', `latest:${source}/file`])).stdout, 'some bytes\n')
    fs.rmSync(path.join(web1.dir, 'streams'), { recursive: true })
    await done(m, ['backup', 'web1'])
  } finally {
    execFileSync('umount', ['-l', m.state]) // before the folder is removed
  }
})

test('where the state of running runs cannot be shown, the run goes on', async (t) => {
  const { m } = await house(t)
  fs.writeFileSync(path.join(m.state, '.running'), 'in the way')
  const unseen = await done(m, ['backup', 'web1'])
  assert.match(unseen.stderr, /cannot show how far the run is/)
})

test('a cache folder that cannot be written costs the cache, not the backup', async (t) => {
  const { m, source } = await house(t)
  fs.rmSync(m.cache, { recursive: true })
  fs.writeFileSync(m.cache, 'in the way')
  const result = await kedge(m, ['backup', 'web1'])
  assert.equal(result.status, 0, result.stderr)
  assert.equal((await done(m, ['cat', 'web1', `latest:${source}/file`])).stdout, 'some bytes\n')
})

test('a restore that was killed is recorded as crashed by the next run, and its children are gone', async (t) => {
  const { m } = await house(t)
  await done(m, ['backup', 'web1'])
  const real = m.restic.path
  fake(m.bin, 'restic', `case " $* " in *" restore "*) exec sleep 52 ;; *) exec ${real} "$@" ;; esac`)
  const restore = start(m, ['restore', 'web1', '--to', path.join(m.dir, 'out'), '-v'])
  await restore.until(/running: restic restore/)
  await sleep(300)
  restore.child.kill('SIGKILL')
  await restore.result
  fs.rmSync(path.join(m.bin, 'restic'))
  await done(m, ['backup', 'web1'])
  const runs = (await done(m, ['history', 'web1', '--json'])).rows as RunRow[]
  assert.deepEqual(
    runs.map(({ verb, state }) => `${verb} ${state}`),
    ['backup success', 'restore crashed', 'backup success'],
  )
  assert.deepEqual(fs.readdirSync(path.join(m.state, '.running')), [])
})

test('an output that cannot be written is said in one line with status 1, and a backup has finished its work', async (t) => {
  const { m } = await house(t)
  const sh = (words: string) =>
    startProgram(m, '/bin/sh', ['-c', `"${process.execPath}" "${path.join(dist, 'kedge.cjs')}" ${words} >/dev/full`]).result
  const saved = await sh('backup web1')
  assert.equal(saved.status, 1)
  assert.match(saved.stderr, /^kedge: cannot write the output: ENOSPC/m)
  assert.equal((await done(m, ['list', 'web1', '-q'])).lines.length, 1)
  for (const words of ['list web1', 'list --help', 'targets --json']) {
    const result = await sh(words)
    assert.equal(result.status, 1, words)
    assert.doesNotMatch(result.stderr, /\n\s+at /, words)
  }
})

test('a state folder that may not be read is status 1 and no bug, for an agent too', async (t) => {
  if (process.geteuid?.() !== 0) return t.skip('only root can become another user')
  const { m } = await house(t)
  await done(m, ['backup', 'web1'])
  fs.chmodSync(m.dir, 0o755)
  fs.chmodSync(m.config, 0o755)
  for (const args of [['status'], ['history', 'web1'], ['stats', '--prometheus'], ['targets']]) {
    const result = await kedge(m, args, { uid: 65534 })
    assert.ok(result.status !== 70 && result.status !== 0, `${args.join(' ')}: ${result.status} ${result.stderr}`)
    assert.doesNotMatch(result.stderr, /bug in kedge/)
  }
})

test('damage that a check found stands until one is good: misuse and locks do not hide it, prune is refused, a backup is 3', async (t) => {
  const { m, web1, env } = await house(t)
  fs.appendFileSync(env, 'KEEP_LAST=1\nLOCK_WAIT=1s\n')
  await done(m, ['backup', 'web1'])
  const packs = path.join(web1.repository, 'data')
  const pack =
    fs
      .readdirSync(packs, { recursive: true })
      .map(String)
      .find((name) => fs.statSync(path.join(packs, name)).isFile()) ?? ''
  fs.renameSync(path.join(packs, pack), path.join(m.dir, 'pack'))
  assert.equal((await kedge(m, ['check', 'web1'])).status, 14)
  assert.equal((await kedge(m, ['check', 'web1', '--read-data', '--within', '30d'])).status, 2)
  const metrics = async () => (await done(m, ['stats', '--prometheus'])).stdout
  assert.match(await metrics(), /^kedge_damaged\{target="web1",verb="check"\} 1$/m)
  const refused = await kedge(m, ['prune', 'web1'])
  assert.equal(refused.status, 15, refused.stderr)
  const saved = await kedge(m, ['backup', 'web1'])
  assert.equal(saved.status, 3, saved.stderr)
  assert.match(saved.stderr, /the store of 'web1' is damaged/)
  fs.renameSync(path.join(m.dir, 'pack'), path.join(packs, pack))
  await done(m, ['check', 'web1'])
  assert.match(await metrics(), /^kedge_damaged\{target="web1",verb="check"\} 0$/m)
  await done(m, ['prune', 'web1'])
})
