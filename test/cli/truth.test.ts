// What kedge calls done: nothing saved, nothing readable and nothing writable are said, with the status that fits.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Snapshot } from '../../lib/rows.ts'
import { dist, done, fake, kedge, type Machine, machine, newTarget, type Restic, restic, restics } from '../harness.ts'
import { makeStore } from '../store.ts'

async function house(t: TestContext, version?: Restic, env?: Record<string, string>) {
  const m = machine(t, version)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'file'), 'some bytes\n'.repeat(30_000))
  const web1 = newTarget(m, 'web1', { paths: [source], ...(env && { env }) })
  await makeStore(m, web1)
  return { m, source, web1 }
}

const listed = async (m: Machine) =>
  (await done(m, ['list', 'web1', '--json'])).rows.filter((row): row is Snapshot => row.kind === 'snapshot')

for (const version of restics()) {
  test(`restic ${version.version}: a stream without output fails, and leaves no snapshot that passes for a good one`, async (t) => {
    const { m, web1 } = await house(t, version)
    const db = fake(web1.dir, 'streams/db', 'echo rows')
    await done(m, ['backup', 'web1'])
    assert.equal((await listed(m)).length, 2)
    fs.writeFileSync(db, '#!/bin/sh\n')
    const empty = await kedge(m, ['backup', 'web1'])
    assert.equal(empty.status, 1, empty.stderr)
    assert.match(empty.stderr, /cannot save stream 'db': its output was empty/)
    assert.equal((await listed(m)).length, 3)
    assert.equal((await done(m, ['cat', 'web1', 'latest:/db'])).stdout, 'rows\n')
  })

  test(`restic ${version.version}: what cannot be read is damage, a full reader, a link; only what is absent is not in the snapshot`, async (t) => {
    const { m, source, web1 } = await house(t, version)
    fs.symlinkSync('file', path.join(source, 'link'))
    await done(m, ['backup', 'web1'])
    const cat = (name: string) => kedge(m, ['cat', 'web1', `latest:${source}/${name}`])
    const [absent, link] = [await cat('absent'), await cat('link')]
    assert.deepEqual([absent.status, link.status], [1, 1])
    assert.match(absent.stderr, /not in the snapshot/)
    assert.match(link.stderr, /it is no file or folder, but a symlink/)
    const command = `exec "${process.execPath}" "${dist}/kedge.cjs" cat web1 "latest:${source}/file" >/dev/full`
    const full = fake(m.bin, 'full', command)
    if (fs.existsSync('/dev/full')) assert.throws(() => execFileSync(full, { env: m.env, stdio: 'pipe' }), /no space left on device/i)
    const data = path.join(web1.repository, 'data')
    for (const name of fs.readdirSync(data, { recursive: true }) as string[]) {
      const file = path.join(data, name)
      if (!fs.statSync(file).isFile()) continue
      const bytes = fs.readFileSync(file)
      fs.chmodSync(file, 0o600)
      fs.writeFileSync(file, bytes.fill(0x41, 0, Math.min(200, bytes.length - 100)))
    }
    assert.equal((await cat('file')).status, 14)
  })

  test(`restic ${version.version}: a store that can only be read fails a backup at once, and a restore works`, async (t) => {
    if (process.geteuid?.() !== 0) return t.skip('only root can mount')
    const { m, source, web1 } = await house(t, version)
    await done(m, ['backup', 'web1'])
    execFileSync('mount', ['--bind', web1.repository, web1.repository])
    try {
      execFileSync('mount', ['-o', 'remount,ro,bind', web1.repository])
      const refused = await kedge(m, ['backup', 'web1'], { timeout: 30 })
      assert.equal(refused.status, 1, refused.stderr)
      assert.match(refused.stderr, /read-only file system/i)
      await done(m, ['restore', 'web1', 'latest', '--to', path.join(m.dir, 'out')])
      assert.deepEqual(fs.readFileSync(path.join(m.dir, 'out', source, 'file')), fs.readFileSync(path.join(source, 'file')))
    } finally {
      execFileSync('umount', [web1.repository])
    }
  })

  test(`restic ${version.version}: a store on a full disk is restored without a lock`, async (t) => {
    if (process.geteuid?.() !== 0) return t.skip('only root can mount')
    const { m, source, web1 } = await house(t, version)
    await done(m, ['backup', 'web1'])
    const locks = path.join(web1.repository, 'locks')
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4k', 'tmpfs', locks])
    try {
      fs.writeFileSync(path.join(m.dir, 'zeros'), Buffer.alloc(4096))
      fs.copyFileSync(path.join(m.dir, 'zeros'), path.join(locks, 'zeros-tmp-1'))
      const restored = await done(m, ['restore', 'web1', 'latest', '--to', path.join(m.dir, 'out')], { timeout: 60 })
      assert.match(restored.stderr, /no space left on device; trying without a lock/)
      assert.deepEqual(fs.readFileSync(path.join(m.dir, 'out', source, 'file')), fs.readFileSync(path.join(source, 'file')))
    } finally {
      execFileSync('umount', [locks])
    }
  })
}

test('a path that is a link, and a backup without a file, are 3 and said', async (t) => {
  const { m, source, web1 } = await house(t)
  const link = path.join(m.dir, 'link')
  fs.symlinkSync(source, link)
  fs.writeFileSync(path.join(web1.dir, 'paths'), `${link}\n`)
  const result = await kedge(m, ['backup', 'web1'])
  assert.equal(result.status, 3, result.stderr)
  assert.ok(result.stderr.includes(`'${link}' is a link: only the link is saved, name what it points to`), result.stderr)
  assert.match(result.stderr, /nothing was saved: 0 files/)
})

test('a forced backup of which no path is there fails, for it saves nothing', async (t) => {
  const { m, source } = await house(t)
  fs.rmSync(source, { recursive: true })
  const result = await kedge(m, ['backup', 'web1', '--force=sources'])
  assert.equal(result.status, 1, result.stderr)
  assert.match(result.stderr, /nothing to back up in 'web1'/)
  assert.equal((await listed(m)).length, 0)
})

test('what a failed backup left in the store is given back by the next prune, which deletes nothing', async (t) => {
  const { m, web1 } = await house(t, undefined, { KEEP_LAST: '5' })
  const packs = () =>
    (fs.readdirSync(path.join(web1.repository, 'data'), { recursive: true }) as string[]).filter((name) => name.length > 60)
  await done(m, ['backup', 'web1'])
  const before = packs().sort()
  fake(web1.dir, 'streams/db', 'head -c 60000000 /dev/urandom; exit 1')
  assert.equal((await kedge(m, ['backup', 'web1'])).status, 1)
  assert.ok(packs().length > before.length + 1, 'a pack of no snapshot is left')
  fs.rmSync(path.join(web1.dir, 'streams'), { recursive: true })
  await done(m, ['prune', 'web1'])
  const { stdout } = await restic(m, web1, ['check', '--read-data'])
  assert.match(stdout, /no errors were found/)
  assert.ok(packs().length <= before.length + 1, `${before.length} packs, then ${packs().length}`)
  assert.ok(!fs.existsSync(path.join(m.state, 'web1', 'unpruned.json')))
})
