// What a run that was cut off leaves, who goes on from it, and what of it is removed; and names of which a backup must make the right thing.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import type { Removal } from '../../lib/engine/rsync/audit.ts'
import type { Summary } from '../../lib/rows.ts'
import { done, fake, kedge, type Machine, machine, newRsyncTarget, rsyncs } from '../harness.ts'
import { cutOff as cutOffRun, type Made, made, plainSsh } from '../rsyncmade.ts'
import { smallFs } from '../smallfs.ts'

const tree = (root: string, id: string, source: string): string => path.join(root, 'snapshots', id, 'tree', source)
const below = (root: string, kind: string): string[] => fs.readdirSync(path.join(root, kind))
/** The part of a file, or, where rsync was killed, its temporary file. */
const partsIn = (root: string): string[] => {
  const names = fs.readdirSync(path.join(root, 'incomplete'), { recursive: true }) as string[]
  return names.filter((name) => /\.kedge-partial-\w+\/.|\/\.big\.\w{6}$/.test(name))
}

async function backup(m: Machine, ...args: string[]): Promise<Summary> {
  const { rows } = await done(m, ['backup', 'web1', '--json', ...args])
  return rows[0] as Summary
}

/** With one part, of the one large file. */
async function cutOff(here: Made): Promise<void> {
  await cutOffRun(here)
  assert.equal(partsIn(here.root).length, 1, execFileSync('find', [path.join(here.root, 'incomplete')], { encoding: 'utf8' }))
}

const old = (...paths: string[]): void => paths.forEach((each) => void fs.utimesSync(each, 1, 1))

function store(source: string): string {
  const bin = path.join(source, 'pkg/bin')
  fs.mkdirSync(bin, { recursive: true })
  for (const name of ['aa', 'zz']) fs.writeFileSync(path.join(bin, name), name)
  execFileSync('dd', ['if=/dev/urandom', `of=${path.join(bin, 'big')}`, 'bs=1M', 'count=12'], { stdio: 'ignore' })
  old(...['aa', 'zz', 'big'].map((name) => path.join(bin, name)), bin, path.dirname(bin))
  return bin
}

test('folders of the time 1 in which a file was cut off are whole in the next snapshot', async (t) => {
  const here = await made(t)
  const { m, root, source } = here
  const bin = store(source)
  await cutOff(here)
  const { snapshot } = await backup(m)
  const saved = tree(root, snapshot, bin)
  assert.deepEqual(fs.readdirSync(saved).sort(), ['aa', 'big', 'zz'])
  assert.ok(fs.readFileSync(path.join(saved, 'big')).equals(fs.readFileSync(path.join(bin, 'big'))))
  for (const folder of [saved, path.dirname(saved)]) assert.equal(fs.statSync(folder).mtimeMs, 1000)
  await done(m, ['check', 'web1'])
})

test('a folder that is gone at the source is not there because a file in it was cut off, and the one above keeps its time', async (t) => {
  const here = await made(t)
  const { m, root, source } = here
  const bin = store(source)
  await cutOff(here)
  fs.rmSync(bin, { recursive: true })
  fs.mkdirSync(path.join(source, 'pkg/empty'))
  fs.writeFileSync(path.join(source, 'file'), 'file')
  old(path.join(source, 'pkg/empty'), path.join(source, 'pkg'))
  const { snapshot } = await backup(m)
  const saved = tree(root, snapshot, path.join(source, 'pkg'))
  assert.deepEqual(fs.readdirSync(saved), ['empty'])
  assert.equal(fs.statSync(saved).mtimeMs, 1000)
  await done(m, ['check', 'web1'])
})

test('a list of names, and a run that misses a path, leave an unfinished tree and its part to the one that has all', async (t) => {
  const here = await made(t)
  const { m, root, source, dir } = here
  const [other, kept] = [path.join(m.dir, 'other'), path.join(m.dir, 'kept')]
  fs.mkdirSync(other)
  fs.writeFileSync(path.join(dir, 'paths'), `${source}\n${other}\n`)
  fs.writeFileSync(path.join(source, 'file'), 'file')
  store(other)
  await cutOff(here)
  const unfinished = below(root, 'incomplete')
  const parts = partsIn(root)
  const names = path.join(m.dir, 'names')
  fs.writeFileSync(names, `${path.join(source, 'file')}\n`)
  await backup(m, '--files-from', names)
  assert.deepEqual([below(root, 'incomplete'), partsIn(root)], [unfinished, parts])
  fs.renameSync(other, kept)
  assert.equal((await kedge(m, ['backup', 'web1'])).status, 3)
  assert.deepEqual([below(root, 'incomplete'), partsIn(root)], [unfinished, parts])
  fs.renameSync(kept, other)
  const { snapshot } = await backup(m)
  assert.deepEqual(below(root, 'incomplete'), [])
  assert.ok(fs.readFileSync(path.join(tree(root, snapshot, other), 'pkg/bin/big')).equals(fs.readFileSync(path.join(other, 'pkg/bin/big'))))
})

const auditIn = (root: string): Removal[] => {
  const file = path.join(root, 'audit.ndjson')
  if (!fs.existsSync(file)) return []
  const lines = fs.readFileSync(file, 'utf8').trim().split('\n')
  return lines.map((line) => JSON.parse(line) as Removal)
}

test('a store that is full: what came is kept where a run can begin beside it; else it is removed, said and noted', async (t) => {
  if (process.geteuid?.() !== 0) return t.skip('only root can mount')
  const small = await smallFs(t, { bytes: 16 << 20, inodes: 200 })
  const { m, root, source } = await made(t, { env: { STORE: path.join(small.dir, 'store') } })
  fs.writeFileSync(path.join(source, 'aa'), 'aa')
  fs.writeFileSync(path.join(source, 'big'), Buffer.alloc(20 << 20, 'b'))
  const full = await kedge(m, ['backup', 'web1'])
  assert.match(full.stderr, /the files that came whole are kept, and the next run goes on from them/)
  const [unfinished = ''] = below(root, 'incomplete')
  assert.deepEqual(fs.readdirSync(path.join(root, 'incomplete', unfinished, 'tree', source)), ['aa'])
  assert.deepEqual(auditIn(root), [])
  fs.rmSync(path.join(source, 'big'))
  for (let i = 0; i < 300; i++) fs.writeFileSync(path.join(source, `f${i}`), '')
  const used = await kedge(m, ['backup', 'web1'])
  assert.equal(used.status, full.status)
  assert.match(used.stderr, /what came had to be removed: no run could have begun beside it/)
  assert.doesNotMatch(used.stderr, /is kept/)
  assert.deepEqual(below(root, 'incomplete'), [unfinished])
  const [removal] = auditIn(root)
  assert.match(`${removal?.id} ${removal?.reason}`, /^incomplete\/\S+ unfinished, and it filled the store/)
  for (let i = 0; i < 280; i++) fs.rmSync(path.join(source, `f${i}`))
  await backup(m)
})

for (const way of ['copied', 'pulled'] as const)
  test(`a FIFO named as a cache's tag, and a link to a tag, make no cache when they are ${way}`, { timeout: 60_000 }, async (t) => {
    const { m, root, source } = await made(t, { env: way === 'pulled' ? { SOURCE_HOST: 'web' } : {} })
    if (way === 'pulled') fake(m.bin, 'ssh', plainSsh)
    for (const name of ['fifo', 'linked', 'cache']) {
      fs.mkdirSync(path.join(source, name))
      fs.writeFileSync(path.join(source, name, 'file'), name)
    }
    execFileSync('mkfifo', [path.join(source, 'fifo/CACHEDIR.TAG')])
    fs.writeFileSync(path.join(source, 'cache/CACHEDIR.TAG'), 'Signature: 8a477f597d28d172789f06886806bc55\n')
    fs.symlinkSync(path.join(source, 'cache/CACHEDIR.TAG'), path.join(source, 'linked/CACHEDIR.TAG'))
    const { snapshot } = await backup(m)
    const saved = tree(root, snapshot, source)
    const names = ['fifo', 'linked', 'cache'].map((name) => fs.readdirSync(path.join(saved, name)).sort())
    assert.deepEqual(names, [['CACHEDIR.TAG', 'file'], ['CACHEDIR.TAG', 'file'], ['CACHEDIR.TAG']])
  })

test('the tag of a cache is kept whatever is in the name of its folder', async (t) => {
  const { m, root, source } = await made(t)
  const folders = ['b\\s', 'c]d', 'e[f', 'g*\\h']
  for (const name of folders) {
    fs.mkdirSync(path.join(source, name))
    fs.writeFileSync(path.join(source, name, 'CACHEDIR.TAG'), 'Signature: 8a477f597d28d172789f06886806bc55\n')
    fs.writeFileSync(path.join(source, name, 'file'), name)
  }
  const { snapshot } = await backup(m)
  const saved = tree(root, snapshot, source)
  for (const name of folders) assert.deepEqual(fs.readdirSync(path.join(saved, name)), ['CACHEDIR.TAG'], name)
})

test('a store that lies in what is saved is not saved into itself, whatever link leads to either', async (t) => {
  const m = machine(t, undefined, rsyncs().at(-1))
  const source = path.join(m.dir, 'real/source')
  fs.mkdirSync(path.join(source, 'stores'), { recursive: true })
  fs.writeFileSync(path.join(source, 'file'), 'file')
  fs.symlinkSync(path.join(source, 'stores'), path.join(m.dir, 'to-store'))
  fs.symlinkSync(path.join(m.dir, 'real'), path.join(m.dir, 'to-source'))
  const through = path.join(m.dir, 'to-source/source')
  const { root, dir } = newRsyncTarget(m, 'web1', {
    paths: [source],
    env: { RESERVE: '0', STORE: path.join(m.dir, 'to-store/own') },
  })
  await done(m, ['init', 'web1'])
  for (const from of [source, through]) {
    fs.writeFileSync(path.join(dir, 'paths'), `${from}\n`)
    const { snapshot } = await backup(m)
    assert.deepEqual(fs.readdirSync(path.join(tree(root, snapshot, from), 'stores')), [], from)
    assert.equal(fs.readFileSync(path.join(tree(root, snapshot, from), 'file'), 'utf8'), 'file')
  }
})

test('names lie in the snapshot where they lie at the source, however they are written', async (t) => {
  const { m, root, source } = await made(t)
  fs.mkdirSync(path.join(source, 'a'))
  for (const name of ['b', 'c']) fs.writeFileSync(path.join(source, 'a', name), name)
  const names = path.join(m.dir, 'names')
  fs.writeFileSync(names, `${source}/./a/./b\n${source}//a/../a/c\n${source}/a/c\n`)
  const { snapshot, files } = await backup(m, '--files-from', names)
  assert.equal(files, 2)
  assert.deepEqual(fs.readdirSync(path.join(root, 'snapshots', snapshot, 'tree')), [source.split('/')[1]])
  assert.deepEqual(fs.readdirSync(path.join(tree(root, snapshot, source), 'a')), ['b', 'c'])
})
