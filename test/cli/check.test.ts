import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { after, type TestContext } from 'node:test'
import { readLast } from '../../lib/ledger.ts'
import type { Checked } from '../../lib/rows.ts'
import {
  done,
  kedge,
  type Machine,
  machine,
  type NewTarget,
  newTarget,
  type Restic,
  type Result,
  restics,
  startProgram,
} from '../harness.ts'
import { makeStore } from '../store.ts'

// One repository, made by the oldest restic, copied for each test.
const original = fs.mkdtempSync(path.join(tmpdir(), 'kedge-check-'))
after(() => fs.rmSync(original, { recursive: true, force: true }))
let made: Promise<string> | undefined

async function make(t: TestContext): Promise<string> {
  const m = machine(t, restics()[0])
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'a'), randomBytes(600_000))
  const target = newTarget(m, 'web1', { paths: [source] })
  await makeStore(m, target)
  await done(m, ['backup', 'web1'])
  fs.cpSync(target.repository, original, { recursive: true })
  return /STORE_ID=(\w+)/.exec(fs.readFileSync(path.join(target.dir, 'target.env'), 'utf8'))?.[1] ?? ''
}

type Made = { m: Machine; target: NewTarget; pack: string }

/** A machine with a copy of the repository, and its largest pack, which holds the data. */
async function saved(t: TestContext, tool?: Restic): Promise<Made> {
  made ??= make(t)
  const env = { STORE_ID: await made, LOCK_WAIT: '0' }
  const m = machine(t, tool)
  const target = newTarget(m, 'web1', { paths: [m.home], env })
  fs.cpSync(original, target.repository, { recursive: true })
  const data = path.join(target.repository, 'data')
  const files = fs.readdirSync(data, { recursive: true, encoding: 'utf8' }).map((name) => path.join(data, name))
  const pack = files.reduce((a, b) => (fs.statSync(a).size > fs.statSync(b).size ? a : b))
  fs.chmodSync(pack, 0o600)
  return { m, target, pack }
}

function flip(file: string): void {
  const bytes = fs.readFileSync(file)
  bytes[5000] = (bytes[5000] ?? 0) ^ 0x55
  fs.writeFileSync(file, bytes)
}

const row = (result: Result) => result.rows.find((each) => each.kind === 'checked') as Checked
type Said = { status: number; class: string; message: string; hint: string }
const errorOf = (result: Result) =>
  JSON.parse(result.stderr.split('\n').findLast((line) => line.startsWith('{"error"')) ?? '{}').error as Said

for (const tool of restics()) {
  test(`restic ${tool.version}: damage is status 14, found where it can be seen: a cut or missing pack always, a flipped byte by reading`, async (t) => {
    const { m, target, pack } = await saved(t, tool)
    const bytes = fs.readFileSync(pack)
    const id = path.basename(pack)

    flip(pack)
    assert.equal(row(await done(m, ['check', 'web1', '--json'])).read, 'none')
    const flipped = await kedge(m, ['check', 'web1', '--read-data', '--json'])
    assert.equal(flipped.status, 14, flipped.stderr)
    assert.deepEqual(flipped.rows, [])
    assert.equal(errorOf(flipped).class, 'damaged')
    assert.ok(errorOf(flipped).message.includes(id), errorOf(flipped).message)
    assert.ok(errorOf(flipped).hint.includes(`restic repair packs ${id}`), errorOf(flipped).hint)

    // Two slices: odd and even first bytes. The first one is whole unless the pack is in it.
    const even = Number.parseInt(id.slice(0, 2), 16) % 2 === 0
    const first = await kedge(m, ['check', 'web1', '--within', '2d', '--json'])
    assert.equal(first.status, even ? 14 : 0, first.stderr)
    if (!even) {
      assert.deepEqual(row(first), {
        kind: 'checked',
        target: 'web1',
        structure: 'ok',
        read: 'slices',
        slices: 1,
        verified: 0.5,
        oldestVerified: null,
      })
      const second = await kedge(m, ['check', 'web1', '--within', '2d', '--json'])
      assert.equal(second.status, 14, second.stderr)
      assert.ok(errorOf(second).message.includes(id))
    }

    // 503 bytes of it: no message about a server.
    fs.truncateSync(pack, 503)
    const cut = await kedge(m, ['check', 'web1', '--json'])
    assert.equal(cut.status, 14, cut.stderr)
    assert.match(errorOf(cut).message, /unexpected file size: got 503/)
    fs.rmSync(pack)
    const gone = await kedge(m, ['check', 'web1', '--json'])
    assert.equal(gone.status, 14, gone.stderr)
    assert.match(errorOf(gone).message, /does not exist/)
    assert.match(errorOf(gone).hint, /'restic repair index'/)

    fs.writeFileSync(pack, bytes)
    const env = { RESTIC_REPOSITORY: target.repository, RESTIC_PASSWORD: target.password, RESTIC_CACHE_DIR: m.cache }
    const holder = startProgram(m, '/bin/sh', ['-c', 'mkfifo open && exec restic backup --stdin -q <>open'], { env })
    const locks = path.join(target.repository, 'locks')
    while (fs.readdirSync(locks).length === 0) await new Promise((resolve) => setTimeout(resolve, 50))
    const locked = await kedge(m, ['check', 'web1', '--json'])
    holder.child.kill('SIGKILL')
    assert.equal(locked.status, 11, locked.stderr)
    assert.equal(errorOf(locked).class, 'locked')

    const { check } = await readLast(path.join(m.state, 'web1'))
    assert.deepEqual([check?.last.class, check?.bad?.class, check?.good?.status], ['locked', 'locked', 0])
  })
}

test('what was read is remembered by slice, resumed after an interruption, and forgotten with another store', async (t) => {
  const { m } = await saved(t)
  const state = path.join(m.state, 'web1', 'verified.json')
  const all = row(await done(m, ['check', 'web1', '--read-data', '--json']))
  assert.equal(all.verified, 1)
  assert.ok(Math.abs(Date.parse(all.oldestVerified ?? '') - Date.now()) < 60_000)

  // Three days without a check, of which one slice was read before the power went: two are left of the three that were due.
  const known = JSON.parse(fs.readFileSync(state, 'utf8'))
  const now = Math.floor(Date.now() / 1000)
  const day = 86_400
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => now - (byte % 10 === 4 ? 60 : (3 + (byte % 10 < 4 ? byte % 10 : 9 - (byte % 10) + 0.1)) * day),
  )
  fs.writeFileSync(state, JSON.stringify({ ...known, since: now - 90 * day, paced: now - 3 * day, bytes: bytes.map(Math.floor) }))
  const explained = (await done(m, ['check', 'web1', '--within', '10d', '--explain'])).stdout
  assert.deepEqual(explained.match(/--read-data-subset=\S+/g), ['--read-data-subset=6/10', '--read-data-subset=7/10'])
  const resumed = row(await done(m, ['check', 'web1', '--within', '10d', '--json']))
  assert.equal(resumed.slices, 2)
  const after = JSON.parse(fs.readFileSync(state, 'utf8'))
  for (const [byte, at] of (after.bytes as number[]).entries()) assert.equal(at >= now - 1, [5, 6].includes(byte % 10), `byte ${byte}`)
  assert.ok(after.paced >= now - 1)

  fs.writeFileSync(state, JSON.stringify({ ...after, store: 'another' }))
  const other = row(await done(m, ['check', 'web1', '--within', '10d', '--json']))
  assert.deepEqual([other.slices, other.verified, other.oldestVerified], [1, 0.102, null])
  assert.equal(JSON.parse(fs.readFileSync(state, 'utf8')).store, (await made) as string)
})

test('a wrong password is 12, a missing repository 10, another store 15, and contradicting options 2: none of them damage', async (t) => {
  const { m, target } = await saved(t)
  const status = async (...args: string[]) => (await kedge(m, ['check', 'web1', ...args])).status
  assert.equal(await status('--read-data', '--within', '3d'), 2)
  assert.equal(await status('--within', 'soon'), 2)
  newTarget(m, 'web1', { secrets: { RESTIC_PASSWORD: 'wrong' }, env: { RESTIC_REPOSITORY: target.repository } })
  assert.equal(await status(), 12)
  newTarget(m, 'web1', { secrets: { RESTIC_PASSWORD: target.password }, env: { RESTIC_REPOSITORY: `${target.repository}-not` } })
  assert.equal(await status(), 10)
  newTarget(m, 'web1', {
    secrets: { RESTIC_PASSWORD: target.password },
    env: { RESTIC_REPOSITORY: target.repository, STORE_ID: 'f'.repeat(64) },
  })
  assert.equal(await status(), 15)
  assert.match((await done(m, ['check', 'web1', '--force', 'identity'])).stderr, /another store/)
})

test('--explain prints what restic runs, and a check of one target goes on when another fails', async (t) => {
  const { m } = await saved(t)
  const text = (await done(m, ['check', 'web1', '--read-data', '--explain'])).stdout
  const sh = startProgram(m, '/bin/sh', ['-c', text])
  assert.match((await sh.result).stdout, /no errors were found/)
  const both = await kedge(m, ['check', 'nosuch', 'web1', '-q'])
  assert.deepEqual([both.status, both.stdout], [2, 'web1\n'])
})
