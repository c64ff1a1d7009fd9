import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { copyArgs, missingIn } from '../../lib/engine/restic/copy.ts'
import type { Copied, RunRow } from '../../lib/rows.ts'
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

type Made = { m: Machine; web1: NewTarget; off: NewTarget; source: string }

/** Two snapshots of web1, and the empty store of off beside it, made with the same chunker parameters. */
async function saved(t: TestContext, tool?: Restic): Promise<Made> {
  const m = machine(t, tool)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  // Passwords that no other test file has: a test here looks at the arguments of all processes.
  const secrets = (name: string) => ({ RESTIC_PASSWORD: `what copies open of ${name}` })
  const web1 = newTarget(m, 'web1', { paths: [source], secrets: secrets('web1'), env: { COPY_TO: 'off', LOCK_WAIT: '0' } })
  const off = newTarget(m, 'off', { secrets: secrets('off'), env: { SNAPSHOTS_OF: 'web1', LOCK_WAIT: '0' } })
  // The oldest restic makes both stores: every version opens them.
  const maker = { ...m, restic: restics()[0] as Restic }
  await makeStore(maker, web1)
  await makeStore(maker, off, web1)
  for (const name of ['first', 'second']) {
    fs.writeFileSync(path.join(source, name), randomBytes(50_000))
    await done(m, ['backup', 'web1'])
  }
  return { m, web1, off, source }
}

const copied = (rows: readonly { kind: string }[]) => rows.filter((row): row is Copied => row.kind === 'copied')
const counts = (rows: readonly { kind: string }[]) => copied(rows).map(({ target, to, copied, present }) => [target, to, copied, present])

/** The bytes of a file in the newest snapshot, read by restic itself. */
const dump = async (m: Machine, target: NewTarget, file: string) => (await restic(m, target, ['dump', 'latest', file])).bytes

const setKey = (target: NewTarget, line: string) => fs.appendFileSync(path.join(target.dir, 'target.env'), `${line}\n`)
const lastRun = (m: Machine, target: string) =>
  JSON.parse(
    fs
      .readFileSync(path.join(m.state, target, 'runs.ndjson'), 'utf8')
      .trim()
      .split('\n')
      .at(-1) ?? '',
  ) as RunRow

for (const tool of restics()) {
  test(`restic ${tool.version}: what is missing is copied, and nothing twice, not even after a tag; no password is in sight`, async (t) => {
    const { m, web1, off, source } = await saved(t, tool)
    fake(m.bin, 'restic', `{ echo "$*"; env; ps -A -o args; } >> ${m.dir}/seen; exec ${tool.path} "$@"`)
    assert.deepEqual(counts((await done(m, ['copy', '-n', 'web1', '--json'])).rows), [['web1', 'off', 2, 0]])
    assert.equal((await done(m, ['list', 'off'])).stdout, '')
    assert.deepEqual(counts((await done(m, ['copy', 'web1', '--json'])).rows), [['web1', 'off', 2, 0]])
    const seen = fs.readFileSync(path.join(m.dir, 'seen'), 'utf8')
    assert.ok(seen.includes(`RESTIC_FROM_REPOSITORY=${web1.repository}`))
    for (const { password } of [web1, off]) assert.ok(!seen.includes(password))
    fs.rmSync(path.join(m.bin, 'restic'))
    const files = ['first', 'second'].map((name) => path.join(source, name))
    for (const file of files) assert.deepEqual(await dump(m, off, file), fs.readFileSync(file))
    const [newest = ''] = (await done(m, ['list', 'web1', '-q'])).lines
    await restic(m, web1, ['tag', '--add', 'important', newest])
    assert.deepEqual(counts((await done(m, ['copy', 'web1', '--json'])).rows), [['web1', 'off', 0, 2]])
    fs.writeFileSync(path.join(source, 'third'), 'three')
    await done(m, ['backup', 'web1'])
    assert.deepEqual((await done(m, ['copy', 'web1'])).lines, ['web1\toff\t1\t2'])
    assert.deepEqual(await dump(m, off, path.join(source, 'third')), Buffer.from('three'))
    assert.equal((await done(m, ['list', 'off', '-q'])).lines.length, 3)
    assert.deepEqual(fs.readdirSync(path.join(off.repository, 'locks')), [])
    const { state, results } = lastRun(m, 'web1')
    assert.deepEqual([state, counts(results ?? [])], ['success', [['web1', 'off', 1, 2]]])
  })
}

test('second stores that fail are named, status 3, and do not keep the others from their copies', async (t) => {
  const { m, web1, off } = await saved(t)
  await t.test('a wrong password; --to picks one', async () => {
    const bad = newTarget(m, 'bad', { env: { RESTIC_REPOSITORY: off.repository, STORE_ID: 'a'.repeat(64), SNAPSHOTS_OF: 'web1' } })
    setKey(web1, '')
    fs.writeFileSync(
      path.join(web1.dir, 'target.env'),
      fs.readFileSync(path.join(web1.dir, 'target.env'), 'utf8').replace("'off'", "'bad off'"),
    )
    const result = await kedge(m, ['copy', 'web1', '--json'])
    assert.equal(result.status, 3, result.stderr)
    assert.match(result.stderr, /store 'bad': cannot open repository .*: wrong password/)
    assert.deepEqual(counts(result.rows), [['web1', 'off', 2, 0]])
    assert.deepEqual([lastRun(m, 'web1').state, lastRun(m, 'web1').status], ['warning', 3])
    assert.equal((await kedge(m, ['copy', 'web1', '--to', 'bad'])).status, 3)
    assert.equal((await kedge(m, ['copy', 'web1', '--to', 'off'])).status, 0)
    const unnamed = await kedge(m, ['copy', 'web1', '--to', 'web2'])
    assert.equal(unnamed.status, 2, unnamed.stderr)
    fs.rmSync(bad.dir, { recursive: true })
    const gone = await kedge(m, ['copy', 'web1', '--json'])
    assert.deepEqual([gone.status, counts(gone.rows)], [3, [['web1', 'off', 0, 2]]])
    assert.match(gone.stderr, /store 'bad': no target 'bad'/)
    assert.equal((await kedge(m, ['copy', 'web1', '--to', 'bad'])).status, 2)
    assert.equal((await kedge(m, ['copy', 'web1', '--explain'])).status, 2)
    fs.writeFileSync(
      path.join(web1.dir, 'target.env'),
      fs.readFileSync(path.join(web1.dir, 'target.env'), 'utf8').replace("'bad off'", "'off'"),
    )
  })
  await t.test('another store in the place of the pinned one, and one without a pin', async () => {
    const file = path.join(off.dir, 'target.env')
    const text = fs.readFileSync(file, 'utf8')
    fs.writeFileSync(file, text.replace(/STORE_ID=\w+/, `STORE_ID=${'b'.repeat(64)}`))
    const other = await kedge(m, ['copy', 'web1'])
    assert.equal(other.status, 3, other.stderr)
    assert.match(other.stderr, /store 'off': refusing to write: another store lies in/)
    fs.writeFileSync(file, text.replace(/STORE_ID=\w+\n/, ''))
    const unpinned = await kedge(m, ['copy', 'web1'])
    assert.equal(unpinned.status, 3, unpinned.stderr)
    assert.match(unpinned.stderr, /store 'off': refusing to copy to 'off': its store is not pinned/)
    fs.writeFileSync(file, text)
  })
  await t.test('the second target is locked by a run of its own; one that was killed there is recorded', async () => {
    const slow = path.join(off.dir, 'streams', 'slow')
    fake(path.dirname(slow), 'slow', `echo > ${m.dir}/began; exec sleep 100`)
    const backup = start(m, ['backup', 'off'])
    for (let i = 0; !fs.existsSync(path.join(m.dir, 'began')); i++) {
      assert.ok(i < 500, 'the stream did not begin')
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    const result = await kedge(m, ['copy', 'web1'])
    backup.child.kill('SIGKILL')
    await backup.result
    assert.equal(result.status, 3, result.stderr)
    assert.match(result.stderr, /store 'off': cannot lock target 'off' for copy/)
    fs.rmSync(slow)
    await done(m, ['copy', 'web1', '--wait', '60'])
    assert.deepEqual([lastRun(m, 'off').verb, lastRun(m, 'off').state], ['backup', 'crashed'])
  })
  await t.test('a copy that is killed there is a crash of its own target, and none of the second store', async () => {
    await done(m, ['backup', 'web1', '--wait', '60'])
    fake(m.bin, 'restic', `case " $* " in *' copy '*) kill -9 $PPID; exit 1;; esac; exec ${m.restic.path} "$@"`)
    assert.equal((await kedge(m, ['copy', 'web1'])).signal, 'SIGKILL')
    fs.rmSync(path.join(m.bin, 'restic'))
    const crashed = async (name: string) =>
      (await kedge(m, ['status', '--json', name])).rows.some(
        (row) => row.kind === 'status' && row.verb === 'copy' && row.state === 'crashed',
      )
    // The group of its child may look alive for a moment.
    for (const until = Date.now() + 20_000; !(await crashed('web1')) && Date.now() < until; );
    assert.deepEqual([await crashed('web1'), await crashed('off')], [true, false])
    await done(m, ['copy', 'web1', '--wait', '60'])
    assert.deepEqual([await crashed('web1'), await crashed('off')], [false, false])
  })
  await t.test('other chunker parameters, unless forced; and a store that does not show the copies says so', async () => {
    const own = newTarget(m, 'own')
    await makeStore(m, own)
    const file = path.join(web1.dir, 'target.env')
    fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace("'off'", "'own'"))
    const refused = await kedge(m, ['copy', 'web1'])
    assert.equal(refused.status, 3, refused.stderr)
    assert.match(refused.stderr, /store 'own': refusing to copy to 'own': its store has other chunker parameters/)
    const forced = await done(m, ['copy', 'web1', '--force=chunker', '--json'])
    assert.deepEqual(counts(forced.rows), [['web1', 'own', 3, 0]])
    assert.match(forced.stderr, /guard 'chunker' overridden/)
    assert.match(forced.stderr, /set SNAPSHOTS_OF='web1'/)
  })
})

test('clashing credentials and a missing COPY_TO are status 2 before anything is opened; --explain runs by hand', async (t) => {
  const { m, web1, off, source } = await saved(t)
  const { stdout } = await done(m, ['copy', 'web1', '--explain'])
  const byHand = await startProgram(m, '/bin/sh', ['-e'], { input: stdout, env: { RESTIC_CACHE_DIR: m.cache } }).result
  assert.equal(byHand.status, 0, byHand.stderr)
  assert.deepEqual(await dump(m, off, path.join(source, 'second')), fs.readFileSync(path.join(source, 'second')))
  assert.deepEqual(counts((await done(m, ['copy', 'web1', '--json'])).rows), [['web1', 'off', 0, 2]])
  setKey(web1, "AWS_ACCESS_KEY_ID='AKIAFIRST'\nAWS_DEFAULT_REGION=eu")
  setKey(off, "AWS_ACCESS_KEY_ID='AKIASECOND'\nAWS_DEFAULT_REGION=eu")
  fake(m.bin, 'restic', `case "$*" in version) exec ${m.restic.path} version;; *) touch ${m.dir}/opened; exit 1;; esac`)
  const clash = await kedge(m, ['copy', 'web1'])
  assert.equal(clash.status, 2, clash.stderr)
  assert.match(clash.stderr, /AWS_ACCESS_KEY_ID/)
  assert.doesNotMatch(clash.stderr, /AKIA|AWS_DEFAULT_REGION/)
  const none = await kedge(m, ['copy', 'off'])
  assert.equal(none.status, 2, none.stderr)
  assert.match(none.stderr, /target 'off' has no COPY_TO/)
  assert.ok(!fs.existsSync(path.join(m.dir, 'opened')))
})

test('a copy is known by the id it names, by its own id, or by time and tree', () => {
  const known = (id: string, original?: string, time = id, tree = id) => ({ id, time, tree, ...(original && { original }) })
  const cases: [string, ReturnType<typeof known>, ReturnType<typeof known>[], boolean][] = [
    ['nothing there', known('a'), [], true],
    ['a copy', known('a'), [known('x', 'a')], false],
    ['a copy made before it was tagged', known('b', 'a'), [known('x', 'a')], false],
    ['itself, in a store that was mirrored', known('a'), [known('a')], false],
    ['the one it was copied from', known('b', 'a'), [known('a')], false],
    ['a copy of which the id was lost', known('a', undefined, 't', 'tree'), [known('x', undefined, 't', 'tree')], false],
    ['another tree of that time', known('a', undefined, 't', 'tree'), [known('x', undefined, 't', 'other')], true],
    ['the same tree of another time', known('a', undefined, 't', 'tree'), [known('x', undefined, 'u', 'tree')], true],
  ]
  for (const [name, own, there, missing] of cases) assert.equal(missingIn([own], there).length === 1, missing, name)
})

test('the arguments of restic copy: by id, or by the tags', (t) => {
  const m = machine(t)
  const target = (name: string, env: Record<string, string>) => ({
    name,
    engine: 'restic' as const,
    dir: m.dir,
    env,
    origin: {},
    paths: [],
    excludes: [],
    streams: [],
    hooks: [],
    secret: 'none' as const,
  })
  const [web1, off] = [target('web1', { LOCK_WAIT: '5s' }), target('off', { LOCK_WAIT: '90s' })]
  assert.deepEqual(copyArgs(web1, off, ['a', 'b'], [0, 19, 1]), ['copy', '--retry-lock', '90s', 'a', 'b'])
  assert.deepEqual(copyArgs(web1, off, undefined, [0, 14, 0]), ['copy', '--tag', 'kedge:web1'])
})
