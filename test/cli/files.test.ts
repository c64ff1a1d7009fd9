import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { toEntry } from '../../lib/engine/restic/files.ts'
import { done, kedge, type Machine, machine, type NewTarget, newTarget, type Restic, restic, restics } from '../harness.ts'
import { makeStore } from '../store.ts'

/** web1 has a snapshot of paths and then one of a stream; another target has the newest of all. */
async function house(t: TestContext, version: Restic) {
  const m = machine(t, version)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(path.join(source, 'deep'), { recursive: true })
  fs.writeFileSync(path.join(source, 'deep', 'a "b" \\ ü & <c>.txt'), 'text')
  const target = newTarget(m, 'web1', { paths: [source] })
  await makeStore(m, target)
  const save = async (tags: readonly string[], args: readonly string[], input = '') => {
    const tagged = tags.flatMap((tag) => ['--tag', tag])
    return await restic(m, target, ['backup', '-q', ...tagged, ...args], { input })
  }
  await save(['kedge:web1'], [source])
  await save(['kedge:web1', 'stream:app.sql'], ['--stdin', '--stdin-filename', 'app.sql'], 'select 1')
  await save(['kedge:web2'], ['--stdin', '--stdin-filename', 'foreign'], 'x')
  return { m, target, source, ids: await idsOf(m, target) }
}

async function idsOf(m: Machine, target: NewTarget): Promise<Record<string, string>> {
  const all = JSON.parse((await restic(m, target, ['snapshots', '--json'])).stdout) as { id: string; tags: string[] }[]
  return Object.fromEntries(all.map(({ id, tags }) => [tags.join(' '), id]))
}

for (const version of restics()) {
  test(`restic ${version.version}: files lists the snapshot that is meant, by whatever name, and no other target's`, async (t) => {
    const { m, source, ids } = await house(t, version)
    const file = path.join(source, 'deep', 'a "b" \\ ü & <c>.txt')
    const paths = async (...words: string[]) =>
      (await done(m, ['files', 'web1', ...words, '--json'])).rows.map((row) => (row.kind === 'entry' ? row.path : row.kind))
    assert.ok((await paths()).includes(file), 'latest, where a stream is newer')
    assert.ok((await paths((ids['kedge:web1'] as string).slice(0, 12))).includes(file), 'a part of its id')
    assert.deepEqual(await paths(path.join(source, 'deep')), [path.join(source, 'deep'), file])
    assert.deepEqual(await paths('latest:/app.sql'), ['/app.sql'])
    assert.deepEqual(await paths(ids['kedge:web1 stream:app.sql'] as string), ['/app.sql'])
    const foreign = await kedge(m, ['files', 'web1', (ids['kedge:web2'] as string).slice(0, 12)])
    assert.equal(foreign.status, 1)
    assert.match(foreign.stderr, /target 'web1' has no snapshot '/)
    const absent = await kedge(m, ['files', 'web1', 'latest:/no/such'])
    assert.equal(absent.status, 1)
    assert.match(absent.stderr, /snapshot '[0-9a-f]{8}' has no '\/no\/such'/)
  })
}

const usual =
  '{"name":"f","type":"file","path":"/a/f","uid":1,"gid":2,"size":3,"mode":420,"permissions":"-rw-r--r--","mtime":"2026-11-20T08:29:25.9641608Z","atime":"x"}'
const entry = { kind: 'entry', path: '/a/f', type: 'file', size: 3, mode: '0644', uid: 1, gid: 2, mtime: '2026-11-20T08:29:25.9641608Z' }
const cases: readonly (readonly [string, string, object | undefined])[] = [
  ['as it is mostly', usual, entry],
  ['as 0.14 writes it', usual.replace('"permissions":"-rw-r--r--",', ''), entry],
  ['in another order', usual.replace('"uid":1,"gid":2', '"gid":2,"uid":1'), entry],
  ['a name with escapes', usual.replaceAll('f",', '\\"\\u003c\\\\ü",'), { ...entry, path: '/a/"<\\ü' }],
  ['a name that looks like a line', usual.replace('"/a/f"', '"/a/\\",\\"uid\\":9"'), { ...entry, path: '/a/","uid":9' }],
  [
    'a folder, which has no size',
    usual.replace('"size":3,', '').replace('"file"', '"dir"').replace('420', '2147484141'),
    { ...entry, type: 'dir', size: 0, mode: '0755' },
  ],
  ['no mode', usual.replace('"mode":420,', ''), { ...entry, mode: '0000' }],
  [
    'a time of another zone',
    usual.replace('25.9641608Z', '25.9641608+01:00').replace('T08', 'T09'),
    { ...entry, mtime: '2026-11-20T08:29:25.9641608Z' },
  ],
  ['the snapshot', '{"time":"2026-11-20T08:29:25Z","tree":"ab","paths":["/a"],"id":"cd"}', undefined],
  ['no JSON', 'created new cache', undefined],
]
for (const [what, line, expected] of cases)
  test(`a line of restic ls: ${what}`, () => {
    assert.deepEqual(toEntry(line), expected)
  })
