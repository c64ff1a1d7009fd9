import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { seeker } from '../../lib/engine/rsync/hashes.ts'
import { beside, readManifest } from '../../lib/engine/rsync/manifest.ts'
import type { Stored } from '../../lib/engine/rsync/snapshots.ts'
import type { Summary } from '../../lib/rows.ts'
import { done, fake, kedge, machine, rsyncs, start } from '../harness.ts'
import { made, plainSsh } from '../rsyncmade.ts'

const snapshotsIn = (root: string): string[] => fs.readdirSync(path.join(root, 'snapshots')).sort()
const tree = (root: string, id: string, source: string): string => path.join(root, 'snapshots', id, 'tree', source)
const storedIn = (root: string, id: string): Stored =>
  JSON.parse(fs.readFileSync(path.join(root, 'snapshots', id, 'snapshot.json'), 'utf8'))
const cellsOf = (root: string, id: string, name: string): string[] =>
  fs
    .readFileSync(path.join(root, 'snapshots', id, 'manifest'), 'latin1')
    .split('\n')
    .find((line) => line.split('\t')[0]?.endsWith(name))
    ?.split('\t') ?? []

async function waitFor(there: () => boolean): Promise<void> {
  for (let i = 0; i < 1500; i++) {
    if (there()) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  assert.fail('it did not come')
}

/** Whether a run has begun to write its first file, so that its list is made. */
function isUnderWay(root: string): boolean {
  const folder = path.join(root, 'incomplete')
  try {
    return fs.readdirSync(folder, { recursive: true }).some((name) => path.basename(String(name)).startsWith('.0'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error // it changes while it is looked at
    return false
  }
}

for (const rsync of rsyncs())
  for (const way of ['copied', 'pulled'] as const)
    test(`rsync ${rsync.version}: of files that are written to while they are ${way} the manifest says what lies there`, async (t) => {
      const env = { LIMIT_UP: '4M', ...(way === 'pulled' && { SOURCE_HOST: 'web', LIMIT_DOWN: '4M' }) }
      const { m, root, source } = await made(t, { env }, rsync)
      if (way === 'pulled') fake(m.bin, 'ssh', plainSsh)
      fs.writeFileSync(path.join(source, '0'), Buffer.alloc(6 << 20, '0'))
      for (const name of ['cut', 'grown', 'rewritten', 'same']) fs.writeFileSync(path.join(source, name), Buffer.alloc(90_000, name))
      const run = start(m, ['backup', 'web1', '--json'])
      await waitFor(() => isUnderWay(root))
      fs.truncateSync(path.join(source, 'cut'), 1000)
      fs.appendFileSync(path.join(source, 'grown'), 'more')
      fs.writeFileSync(path.join(source, 'rewritten'), Buffer.alloc(90_000, 'x'))
      const result = await run.result
      assert.equal(result.status, 0, result.stderr)
      assert.match(result.stderr, /2 files changed while they were read/)
      const [id = ''] = snapshotsIn(root)
      assert.equal(storedIn(root, id).consistency, 'changed')
      for (const name of ['cut', 'grown', 'rewritten', 'same']) {
        const file = path.join(tree(root, id, source), name)
        const { size, mtimeMs } = fs.statSync(file)
        const md5 = createHash('md5').update(fs.readFileSync(file)).digest('hex')
        const [, , , , , told, mtime, , hash] = cellsOf(root, id, `/${name}`)
        assert.deepEqual([told, mtime, hash], [`${size}`, `${Math.floor(mtimeMs / 1000)}`, md5], name)
      }
      await done(m, ['check', 'web1'])
      const again = await done(m, ['backup', 'web1', '--json'])
      const [next] = again.rows as [Summary]
      for (const name of ['cut', 'grown', 'rewritten'])
        assert.deepEqual(
          fs.readFileSync(path.join(tree(root, next.snapshot, source), name)),
          fs.readFileSync(path.join(source, name)),
          name,
        )
    })

test('a file that is cut within its transfer is sent again, and the snapshot is in full', async (t) => {
  const { m, root, source } = await made(t, { env: { LIMIT_UP: '4M' } })
  const file = path.join(source, '0')
  fs.writeFileSync(file, Buffer.alloc(8 << 20, 'content'))
  const run = start(m, ['backup', 'web1', '--json'])
  await waitFor(() => isUnderWay(root))
  fs.truncateSync(file, 7 << 20)
  const result = await run.result
  assert.equal(result.status, 0, result.stderr)
  assert.match(result.stderr, /1 file changed while they were read/)
  const [id = ''] = snapshotsIn(root)
  assert.deepEqual(fs.readFileSync(path.join(tree(root, id, source), '0')), fs.readFileSync(file))
  await done(m, ['check', 'web1', '--read-data'])
})

test('a path that is too long for rsync is named, and the snapshot is partial', async (t) => {
  const { m, root, source } = await made(t)
  fs.writeFileSync(path.join(source, 'f'), 'f')
  // Step by step, from within: no call takes the whole path.
  const script = `const n = '7'.repeat(200); for (let i = 0; i < 24; i++) { fs.mkdirSync(n); process.chdir(n) } fs.writeFileSync('f', 'deep')`
  execFileSync(process.execPath, ['-e', script], { cwd: source })
  try {
    const result = await kedge(m, ['backup', 'web1', '--json'])
    assert.equal(result.status, 3, result.stderr)
    assert.match(result.stderr, /cannot read '.*7.*': the path is too long/)
    const [{ snapshot, partial }] = result.rows as [Summary]
    assert.equal(partial, true)
    assert.ok(storedIn(root, snapshot).tags.includes('kedge:partial'))
  } finally {
    execFileSync('rm', ['-rf', source, path.dirname(root)]) // node cannot
  }
})

test('a path through a link is saved, and the path to write is named', async (t) => {
  const { m, source, dir } = await made(t)
  fs.mkdirSync(path.join(source, 'real'))
  fs.writeFileSync(path.join(source, 'real/x'), 'x')
  fs.symlinkSync('real', path.join(source, 'lnk'))
  fs.writeFileSync(path.join(dir, 'paths'), `${source}/lnk/x\n${source}/real/\n`)
  const { stderr, rows } = await done(m, ['backup', 'web1', '--json'])
  const real = fs.realpathSync(source)
  assert.match(stderr, new RegExp(`'${source}/lnk/x' is reached through a link, .*: write '${real}/real/x' into paths`))
  assert.doesNotMatch(stderr, /real\/' is reached/)
  assert.equal((rows[0] as Summary).files, 2)
})

test('by hand caches stay out too, whatever they are called', async (t) => {
  const { m, root, source } = await made(t)
  const names = ['plain', "it's *[1]?", 'a\\b', 'line\n']
  for (const name of [...names, 'none']) {
    fs.mkdirSync(path.join(source, name))
    fs.writeFileSync(path.join(source, name, 'x'), name)
    const text = name === 'none' ? 'Signature: 0' : 'Signature: 8a477f597d28d172789f06886806bc55\n'
    fs.writeFileSync(path.join(source, name, 'CACHEDIR.TAG'), text)
  }
  const { rows } = await done(m, ['backup', 'web1', '--json'])
  const { stdout } = await done(m, ['backup', '--explain', 'web1'])
  execFileSync('/bin/sh', ['-e', '-c', stdout], { env: m.env, stdio: ['ignore', 'pipe', 'pipe'] })
  const [mine = ''] = fs.readdirSync(path.join(root, 'by-hand'))
  const list = (folder: string) => fs.readdirSync(folder, { recursive: true }).map(String).sort()
  const byHand = list(path.join(root, 'by-hand', mine, 'tree', source))
  assert.deepEqual(byHand, list(tree(root, (rows[0] as Summary).snapshot, source)))
  assert.deepEqual(
    byHand.filter((name) => name.endsWith('/x')),
    ['none/x'],
  )
})

test('rules of the operator’s own stand behind the exclude file’s', async (t) => {
  const { m, root, source, dir } = await made(t, { exclude: ['*.o'] })
  for (const name of ['a.o', 'b.log', 'c', 'big']) fs.writeFileSync(path.join(source, name), name === 'big' ? Buffer.alloc(9000) : name)
  const mine = path.join(dir, 'mine')
  fs.writeFileSync(mine, '+ *.o\n- *.log\n')
  fs.appendFileSync(path.join(dir, 'target.env'), `BACKUP_ARGS='--exclude-from=${mine} --max-size=5k'\n`)
  const { rows } = await done(m, ['backup', 'web1', '--json'])
  assert.deepEqual(fs.readdirSync(tree(root, (rows[0] as Summary).snapshot, source)), ['c'])
  const env = path.join(dir, 'target.env')
  fs.writeFileSync(env, fs.readFileSync(env, 'utf8').replace(/^BACKUP_ARGS=.*$/m, 'BACKUP_ARGS=--inplace'))
  const refused = await kedge(m, ['backup', 'web1'])
  assert.equal(refused.status, 2, refused.stderr)
  assert.match(refused.stderr, /BACKUP_ARGS holds '--inplace', which kedge does not hand on to rsync/)
})

test('manifests that are left before their end are closed', async (t) => {
  const { dir } = machine(t)
  const line = (name: string) => `${name}\tf\t0600\t0\t0\t1\t1\t=\t-\t-\n`
  const [a, b] = ['a', 'b'].map((name) => path.join(dir, name)) as [string, string]
  for (const file of [a, b]) fs.writeFileSync(file, Array.from({ length: 3000 }, (_, i) => line(`${10_000 + i}`)).join(''))
  const lines = readManifest(a)
  const { seek, end } = seeker(lines, () => undefined)
  assert.equal((await seek('10001'))?.path, '10001')
  await end()
  assert.equal((await lines.next()).done, true)
  const [old, newer] = [readManifest(a), readManifest(b)]
  for await (const _ of beside(old, newer)) break
  assert.deepEqual([(await old.next()).done, (await newer.next()).done], [true, true])
})
