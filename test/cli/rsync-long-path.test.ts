// Paths that fit at the source and not below a store's folders: rsync makes them all the same, and nobody can look at them by their path.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { isTooLong } from '../../lib/engine/rsync/entry.ts'
import { readManifest } from '../../lib/engine/rsync/manifest.ts'
import type { Snapshot } from '../../lib/rows.ts'
import { done, kedge, machine, newRsyncTarget } from '../harness.ts'
import { snapshotByHand } from '../rsyncstore.ts'

/** The longest path that the system takes. */
const longest = (() => {
  let length = 901
  while (!isTooLong(`${'/x'.repeat(length)}`.slice(0, length + 1))) length++
  return length
})()

/** Folders of one letter below a folder, until the path has so many bytes. Gives it. */
function deep(folder: string, length: number, letter: string): string {
  let at = folder
  while (at.length < length) {
    const rest = length - at.length
    at += `/${letter.repeat(rest <= 201 ? rest - 1 : rest === 202 ? 199 : 200)}`
  }
  fs.mkdirSync(at, { recursive: true })
  return at
}

const id = '2026-11-19T021500Z'
const [next, third] = ['2026-11-20T021500Z', '2026-11-21T021500Z']

/** A source with paths of any length, the longest one a file's; node's own removal would not pass them. */
function house(t: TestContext) {
  let dir = ''
  t.after(() => execFileSync('rm', ['-rf', dir]))
  const m = machine(t)
  dir = m.dir
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'normal'), 'as ever\n')
  const long = path.join(deep(source, longest - 20, 'd'), 'file')
  fs.writeFileSync(long, 'it is deep\n')
  return { m, source, long }
}

/** All files below a folder, by find, which changes folders as rsync does. */
const namesIn = (folder: string): string[] =>
  execFileSync('find', ['.', '-type', 'f'], { cwd: folder }).toString().trim().split('\n').sort()

async function namedIn(dir: string): Promise<string[]> {
  const names: string[] = []
  for await (const lines of readManifest(path.join(dir, 'manifest'))) names.push(...lines.map((line) => `/${line.path}`))
  return names
}

test('a snapshot whose tree holds what nobody can name is checked, read, restored, drilled and removed as any', async (t) => {
  const { m, source, long } = house(t)
  const web1 = newRsyncTarget(m, 'web1', { paths: [source] })
  await done(m, ['init', 'web1'])
  const dir = snapshotByHand(web1.root, id, [source])
  assert.ok(isTooLong(path.join(dir, 'tree', long)))
  assert.ok(
    namesIn(path.join(dir, 'tree')).some((name) => name.endsWith('/file')),
    'rsync made it',
  )
  assert.ok(!(await namedIn(dir)).includes(long))
  fs.writeFileSync(path.join(source, 'normal'), 'another\n')
  snapshotByHand(web1.root, next, [source], {}, id)
  fs.symlinkSync(`snapshots/${next}`, path.join(web1.root, 'latest'))
  for (const more of [[], ['--read-data']]) assert.equal((await done(m, ['check', 'web1', ...more])).stderr, '')
  assert.equal(((await done(m, ['list', 'web1', '--json'])).rows as Snapshot[]).length, 2)
  await done(m, ['files', 'web1', 'latest'])
  assert.match((await done(m, ['diff', 'web1', id, next])).stdout, /M.*normal/)
  assert.match((await done(m, ['find', 'web1', 'normal'])).stdout, /normal/)
  assert.equal((await kedge(m, ['find', 'web1', 'file'])).status, 1)
  await done(m, ['stats', 'web1'])
  await done(m, ['drill', 'web1'])
  assert.equal((await done(m, ['mount', 'web1'])).stdout.trim(), `${web1.root}/snapshots\tweb1`)
  const to = path.join(m.dir, 'to')
  await done(m, ['restore', 'web1', 'latest', '--to', to, '--verify'])
  assert.equal(fs.readFileSync(path.join(to, source, 'normal'), 'utf8'), 'another\n')
  fs.writeFileSync(path.join(source, 'surplus'), '')
  await done(m, ['restore', 'web1', 'latest', '--in-place', '--delete'])
  assert.deepEqual([fs.existsSync(path.join(source, 'surplus')), fs.readFileSync(long, 'utf8')], [false, 'it is deep\n'])
  await done(m, ['forget', 'web1', id])
  assert.deepEqual(fs.readdirSync(path.join(web1.root, 'deleting')), [])
  await done(m, ['check', 'web1', '--read-data'])
})

test('what is restored to too long a path is not looked at, and said to be so', async (t) => {
  const { m, source } = house(t)
  const short = deep(path.join(m.dir, 'short'), longest - 150, 's')
  fs.writeFileSync(path.join(short, 'fits'), 'in the store\n')
  const web1 = newRsyncTarget(m, 'web1', { paths: [path.join(m.dir, 'short')] })
  await done(m, ['init', 'web1'])
  snapshotByHand(web1.root, id, [path.join(m.dir, 'short')])
  fs.symlinkSync(`snapshots/${id}`, path.join(web1.root, 'latest'))
  await done(m, ['check', 'web1'])
  const to = deep(path.join(m.dir, 'to'), 400, 't')
  const result = await kedge(m, ['restore', 'web1', 'latest', '--to', to, '--verify'])
  assert.equal(result.status, 3, result.stderr)
  assert.match(result.stderr, /3 entries were not looked at again: too long a path below/)
  assert.ok(namesIn(to).some((name) => name.endsWith('/fits')))
  await done(m, ['restore', 'web1', 'latest', '--to', deep(path.join(m.dir, 'to2'), 400, 't')])
  assert.ok(fs.existsSync(source))
  const drill = await kedge(m, ['drill', 'web1', '--scratch', to])
  assert.equal(drill.status, 1, drill.stderr)
  assert.match(drill.stderr, /1 file has too long a path for '.*': left out of the sample/)
})

test('init --adopt takes in what can be named, and says what it left out', async (t) => {
  const { m, source } = house(t)
  const web1 = newRsyncTarget(m, 'web1', { paths: [source] })
  await done(m, ['init', 'web1'])
  const old = path.join(m.dir, 'old')
  // To the byte: adopting/, where it is looked at, is shorter than snapshots/.
  const above = `${web1.root}/snapshots/${id}/tree`.length
  const tip = deep(path.join(m.dir, 'edge'), longest - above, 'e')
  for (const day of ['2026-11-18', '2026-11-19']) {
    fs.mkdirSync(path.join(old, day), { recursive: true })
    execFileSync('rsync', ['-aHAXSR', source, path.join(m.dir, 'edge'), `${path.join(old, day)}/`])
  }
  fs.mkdirSync(`${tip}f`)
  execFileSync('rsync', ['-aHAXSR', path.join(m.dir, 'edge'), `${path.join(old, '2026-11-19')}/`])
  const result = await kedge(m, ['init', '--adopt', '--from', old, 'web1'])
  assert.equal(result.status, 3, result.stderr)
  assert.match(result.stderr, /snapshot 2026-11-18T000000Z: cannot keep in full '\/.*d\/d.*': its path is too long for the store '/)
  const rows = (await done(m, ['list', 'web1', '--json'])).rows as Snapshot[]
  assert.deepEqual(
    rows.map(({ partial }) => partial),
    [true, true],
  )
  const named = await namedIn(path.join(web1.root, 'snapshots/2026-11-19T000000Z'))
  assert.deepEqual([named.includes(tip), named.includes(`${tip}f`), named.includes(path.join(source, 'normal'))], [true, false, true])
  await done(m, ['check', 'web1', '--read-data'])
  assert.equal((await done(m, ['init', '--adopt', 'web1'])).status, 0)
  // In a store with a shorter path some is too long no more, and nothing is damaged for that.
  const store = path.join(m.dir, 's')
  fs.renameSync(web1.store, store)
  const env = path.join(web1.dir, 'target.env')
  fs.writeFileSync(env, `${fs.readFileSync(env, 'utf8').replace(web1.store, store)}COPY_TO=off\n`)
  newRsyncTarget(m, 'off', { env: { SNAPSHOTS_OF: 'web1', STORE: path.join(m.dir, 'o') } })
  await done(m, ['init', 'off'])
  await done(m, ['check', 'web1'])
  assert.equal((await kedge(m, ['copy', 'web1'])).status, 3, 'one is too long still')
  await done(m, ['check', 'off'])
})

test('copies: what is too long in the first store is left out, what is in the second is not looked at', async (t) => {
  const { m, source, long } = house(t)
  const web1 = newRsyncTarget(m, 'web1', {
    paths: [source],
    env: { COPY_TO: 'deeper shorter', STORE: path.join(m.dir, 'stores/middle-long-name') },
  })
  const deeper = newRsyncTarget(m, 'deeper', { env: { SNAPSHOTS_OF: 'web1', STORE: path.join(m.dir, 'stores', 'x'.repeat(100)) } })
  const shorter = newRsyncTarget(m, 'shorter', { env: { SNAPSHOTS_OF: 'web1', STORE: path.join(m.dir, 's') } })
  for (const name of ['web1', 'deeper', 'shorter']) await done(m, ['init', name])
  const above = `${web1.root}/snapshots/${id}/tree`.length
  const edge = path.join(m.dir, 'edge')
  const fits = deep(edge, longest - above, 'e')
  fs.mkdirSync(`${fits}f`) // a byte too long, and not so in the shorter store
  for (const char of ['*', '\\']) fs.mkdirSync(`${fits.slice(0, -1)}${char}f`)
  const other = path.join(path.dirname(fits), '[e]')
  fs.writeFileSync(other, 'as long as the others\n')
  for (const each of [id, next, third]) snapshotByHand(web1.root, each, [source, edge], {}, each === id ? undefined : id)
  const [first] = [path.join(web1.root, 'snapshots', id)]
  const named = await namedIn(first)
  assert.deepEqual(
    [fits, `${fits}f`, long].map((each) => named.includes(each)),
    [true, false, false],
  )
  fs.symlinkSync(`snapshots/${third}`, path.join(web1.root, 'latest'))
  await done(m, ['check', 'web1'])
  const result = await kedge(m, ['copy', 'web1', '--json'])
  assert.equal(result.status, 3, result.stderr)
  assert.match(result.stderr, new RegExp(`snapshot ${id}: cannot keep in full '/.*': its path is too long for the store '`))
  for (const { root } of [deeper, shorter]) {
    const dir = path.join(root.replace(/[^/]*$/, 'web1'), 'snapshots')
    assert.deepEqual(fs.readdirSync(dir).sort(), [id, next, third])
    assert.deepEqual(fs.readFileSync(path.join(dir, id, 'manifest')), fs.readFileSync(path.join(first, 'manifest')))
  }
  await done(m, ['check', 'shorter', '--read-data'])
  const check = await kedge(m, ['check', 'deeper', '--read-data'])
  assert.equal(check.status, 3, check.stderr)
  assert.match(check.stderr, /entries were not looked at, as the path is too long for this store: 2026-11-19T021500Z: /)
  assert.deepEqual(fs.readdirSync(path.join(deeper.store, 'web1/incomplete')), [])
  // What is not looked at is there all the same.
  const to = path.join(m.dir, 'to')
  await done(m, ['restore', 'deeper', 'latest', '--to', to, '--verify'])
  assert.ok(fs.existsSync(path.join(to, fits)))
  assert.equal((await done(m, ['copy', 'web1'])).status, 0)
  // A copy of the copy has all of it.
  fs.appendFileSync(path.join(deeper.dir, 'target.env'), 'COPY_TO=last\n')
  newRsyncTarget(m, 'last', { env: { SNAPSHOTS_OF: 'web1', STORE: path.join(m.dir, 'l') } })
  await done(m, ['init', 'last'])
  await done(m, ['copy', 'deeper'])
  await done(m, ['check', 'last', '--read-data'])
})

test('a backup names what is too long for the store, is partial, and saves the rest each time', async (t) => {
  const { m, source, long } = house(t)
  deep(source, longest - 40, 'e')
  const web1 = newRsyncTarget(m, 'web1', { paths: [source], env: { RESERVE: '0' } })
  await done(m, ['init', 'web1'])
  for (let i = 0; i < 2; i++) {
    fs.writeFileSync(path.join(source, 'normal'), `${i}\n`)
    const result = await kedge(m, ['backup', 'web1'])
    assert.equal(result.status, 3, result.stderr)
    assert.match(result.stderr, /cannot keep in full '.*': its path is too long for the store/)
    assert.equal(fs.readFileSync(path.join(web1.root, 'latest/tree', source, 'normal'), 'utf8'), `${i}\n`)
    assert.ok(!(await namedIn(path.join(web1.root, 'latest'))).includes(long))
    await done(m, ['check', 'web1', '--read-data'])
    assert.deepEqual(fs.readdirSync(path.join(web1.root, 'incomplete')), [])
  }
})

test('where a path fits into a snapshot and not into an unfinished one nothing is called damaged', async (t) => {
  const { m, source } = house(t)
  const web1 = newRsyncTarget(m, 'web1', { paths: [source], env: { RESERVE: '0' } })
  await done(m, ['init', 'web1'])
  const beside = path.join(web1.root, 'incomplete', id, 'tree').length
  for (const more of [-1, 0, 1, 2]) deep(path.join(source, `b${more}`), longest - beside + more, 'b')
  assert.equal((await kedge(m, ['backup', 'web1'])).status, 3)
  await done(m, ['check', 'web1', '--read-data'])
})
