// The folders in which rsync keeps files that were cut off: a source cannot steer rsync to others by a name, or have its own left out.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { done, fake, kedge, machine, newRsyncTarget, type Rsync, rsyncs, sameTree } from '../harness.ts'
import { cutOff, plainSsh } from '../rsyncmade.ts'
import { treeFacts } from '../tree.ts'

type Way = { name: string; rsync: Rsync; env: Record<string, string> }
const ways: Way[] = rsyncs().flatMap((rsync) => [
  { name: `rsync ${rsync.version}, local`, rsync, env: {} },
  { name: `rsync ${rsync.version}, pulled`, rsync, env: { SOURCE_HOST: 'web' } },
])
const partial = '.kedge-partial'

/** A source, and files elsewhere that are none of its business. */
function made(t: TestContext, { rsync, env }: Way) {
  const m = machine(t, undefined, rsync)
  fake(m.bin, 'ssh', plainSsh)
  const [source, foreign] = [path.join(m.dir, 'source'), path.join(m.dir, 'foreign')]
  for (const folder of [source, foreign]) fs.mkdirSync(folder)
  fs.writeFileSync(path.join(foreign, 'keys'), 'foreign\n'.repeat(300_000))
  fs.writeFileSync(path.join(source, 'keys'), 'own\n'.repeat(400_000))
  const web1 = newRsyncTarget(m, 'web1', { paths: [source], env: { RESERVE: '0', ...env } })
  return { m, source, foreign, web1, saved: path.join(web1.root, 'latest/tree', source) }
}

/** What rsync and kedge leave of a run, in the folder of its snapshot. */
const besideTree = (root: string): string[] => fs.readdirSync(fs.realpathSync(path.join(root, 'latest'))).sort()

for (const way of ways) {
  test(`${way.name}: a link ${partial} is saved as a link, and what lies behind it stays`, async (t) => {
    const { m, source, foreign, web1, saved } = made(t, way)
    fs.symlinkSync(foreign, path.join(source, partial))
    const before = treeFacts(foreign)
    await done(m, ['init', 'web1'])
    const result = await done(m, ['backup', 'web1'])
    assert.deepEqual(treeFacts(foreign), before)
    sameTree(saved, source)
    assert.equal(fs.readlinkSync(path.join(saved, partial)), foreign)
    assert.equal(result.stderr, '')
    assert.deepEqual(besideTree(web1.root), ['manifest', 'snapshot.json', 'tree'])
    await done(m, ['check', 'web1', '--read-data'])
  })

  test(`${way.name}: the published snapshot of another target is not altered through a link`, async (t) => {
    const { m, source, foreign, web1, saved } = made(t, way)
    const db1 = newRsyncTarget(m, 'db1', { paths: [foreign], env: { RESERVE: '0', STORE: web1.store } })
    await done(m, ['init', 'db1'])
    await done(m, ['backup', 'db1'])
    const published = path.join(db1.root, 'snapshots')
    const before = treeFacts(published)
    fs.symlinkSync(path.join(db1.root, 'latest/tree', foreign), path.join(source, partial))
    await done(m, ['init', 'web1', '--adopt'])
    await done(m, ['backup', 'web1'])
    assert.deepEqual(treeFacts(published), before)
    sameTree(saved, source)
    await done(m, ['check', 'db1', '--read-data'])
  })

  test(`${way.name}: a link of the name that a running rsync was given is left out`, async (t) => {
    const { m, source, foreign, saved } = made(t, way)
    const before = treeFacts(foreign)
    // Other users see the words of a process, the other host is told the name.
    const seen = path.join(m.dir, 'seen')
    fake(
      m.bin,
      'rsync',
      `for word do case $word in --partial-dir=*) name=\${word#*=}; echo "$name" >> ${seen}; ln -s ${foreign} ${source}/"$name" ;; esac; done
exec ${way.rsync.path} "$@"`,
    )
    await done(m, ['init', 'web1'])
    await done(m, ['backup', 'web1'])
    await done(m, ['backup', 'web1'])
    assert.deepEqual(treeFacts(foreign), before)
    const names = fs.readFileSync(seen, 'utf8').trim().split('\n')
    assert.equal(new Set(names).size, 2, 'each run has a name of its own')
    for (const name of names) assert.match(name, /^\.kedge-partial-[0-9a-f]{12}$/)
    assert.deepEqual(fs.readdirSync(saved).sort(), [names[0], 'keys'], 'the name of the first run means nothing to the second')
  })

  test(`${way.name}: a folder ${partial} is saved, and a run that was cut off goes on from its part`, { timeout: 120_000 }, async (t) => {
    const { m, source, web1, saved } = made(t, way)
    fs.mkdirSync(path.join(source, 'sub', partial), { recursive: true })
    // No part of theirs: the run that goes on must leave them where they are.
    for (const name of ['big', 'other']) fs.writeFileSync(path.join(source, 'sub', partial, name), `${name}\n`)
    const content = Buffer.alloc(12 << 20)
    for (let at = 0; at < content.length; at += 4) content.writeUInt32LE(Math.imul(at, 2_654_435_761) >>> 0, at)
    fs.writeFileSync(path.join(source, 'sub/big'), content)
    // Names like those of rsync's temporary files, of files that have none.
    for (const name of ['...X1y2Z3', '....X1y2Z3']) {
      fs.mkdirSync(path.join(source, 'odd', name), { recursive: true })
      fs.writeFileSync(path.join(source, 'odd', name, name), name.repeat(200_000))
    }
    await done(m, ['init', 'web1'])
    await cutOff({ m, ...web1 })
    const [id = ''] = fs.readdirSync(path.join(web1.root, 'incomplete'))
    const unfinished = path.join(web1.root, 'incomplete', id)
    assert.equal(fs.statSync(path.join(unfinished, 'partial')).mode & 0o777, 0o600)
    const all = fs.readdirSync(unfinished, { recursive: true }) as string[]
    const [part = ''] = all.filter((name) => /sub\/(\.kedge-partial-\w+\/big|\.big\.\w{6})$/.test(name))
    const name = fs.readFileSync(path.join(unfinished, 'partial'), 'utf8').trim()
    // Both that rsync may leave: its temporary file, and the part.
    const folder = path.join(unfinished, 'tree', source, 'sub')
    const left = path.join(folder, way.env.SOURCE_HOST ? path.join(name, 'big') : '.big.X1y2Z3')
    fs.mkdirSync(path.dirname(left), { recursive: true })
    fs.renameSync(path.join(unfinished, part), left)
    const { ino } = fs.statSync(left)
    // The part is the same file, and lies now where rsync looks for it.
    const seen = path.join(m.dir, 'seen')
    const word = `for word do case $word in --partial-dir=*) find ${web1.root}/incomplete -path "*/sub/\${word#*=}/big" -printf '%i\\n' >> ${seen} ;; esac; done`
    fake(m.bin, 'rsync', `${word}\nexec ${way.rsync.path} "$@"`)
    await done(m, ['backup', 'web1'])
    assert.equal(fs.readFileSync(seen, 'utf8'), `${ino}\n`)
    sameTree(saved, source)
    assert.deepEqual(besideTree(web1.root), ['manifest', 'snapshot.json', 'tree'])
    assert.deepEqual(fs.readdirSync(path.join(web1.root, 'incomplete')), [])
    const check = await kedge(m, ['check', 'web1', '--read-data'])
    assert.equal(check.status, 0, check.stderr)
  })
}

test('a stream leaves nothing of parts beside its snapshot', async (t) => {
  const { m, web1 } = made(t, ways[0] as Way)
  const streams = path.join(web1.dir, 'streams')
  fs.mkdirSync(streams, { recursive: true })
  fake(streams, 'dump', 'echo dump')
  await done(m, ['init', 'web1'])
  await done(m, ['backup', 'web1'])
  const all = fs.readdirSync(path.join(web1.root, 'snapshots'), { recursive: true }) as string[]
  assert.ok(
    all.some((name) => name.endsWith('/tree/dump')),
    all.join(),
  )
  assert.deepEqual(
    all.filter((name) => /^[^/]+\/partial$/.test(name)),
    [],
  )
})

for (const [what, place] of [
  ['a link', (at: string) => fs.symlinkSync('/nowhere', at)],
  ['a file', (at: string) => fs.writeFileSync(at, 'a file\n')],
] as const)
  test(`a folder that holds the part of a file, and is ${what} by then, does not keep that from being saved`, async (t) => {
    const { m, source, web1, saved } = made(t, ways[0] as Way)
    const sub = path.join(source, 'sub')
    fs.mkdirSync(sub)
    fs.writeFileSync(path.join(sub, 'big'), Buffer.alloc(12 << 20, 'x'))
    await done(m, ['init', 'web1'])
    await cutOff({ m, ...web1 })
    fs.rmSync(sub, { recursive: true })
    place(sub)
    await done(m, ['backup', 'web1'])
    sameTree(saved, source)
    assert.deepEqual(fs.readdirSync(path.join(web1.root, 'incomplete')), [])
    await done(m, ['check', 'web1', '--read-data'])
  })
