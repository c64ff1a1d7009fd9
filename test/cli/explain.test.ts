// What --explain prints is run by sh, in a repository that two targets share, and does what kedge does.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Match, Snapshot } from '../../lib/rows.ts'
import {
  done,
  envText,
  fake,
  kedge,
  type Machine,
  machine,
  type NewTarget,
  newest,
  newTarget,
  type Restic,
  restic,
  restics,
  startProgram,
} from '../harness.ts'
import { initStore, makeStore } from '../store.ts'

const odd = 'a "b" \\ * [x] ü & $(y).txt'
const stream = 'app.sql'

type House = { m: Machine; web1: NewTarget; source: string; file: string }

/** web1: two snapshots of paths, then a stream's and one of a list of names; web2 has the newest of all, of the same path. */
async function house(t: TestContext, version: Restic): Promise<House> {
  const m = machine(t, version)
  const source = path.join(m.dir, 'source')
  const file = path.join(source, 'deep', odd)
  fs.mkdirSync(path.dirname(file), { recursive: true })
  const web1 = newTarget(m, 'web1', { paths: [source], scripts: { [`streams/${stream}`]: 'echo select 2' } })
  await makeStore(m, web1)
  newTarget(m, 'web2', { paths: [source], env: { RESTIC_REPOSITORY: web1.repository }, secrets: { RESTIC_PASSWORD: web1.password } })
  const save = async (tags: readonly string[], args: readonly string[], input = '') =>
    await restic(m, web1, ['backup', '-q', ...tags.flatMap((tag) => ['--tag', tag]), ...args], { input })
  fs.writeFileSync(file, 'first')
  fs.writeFileSync(path.join(source, 'gone'), 'gone')
  await save(['kedge:web1'], [source])
  fs.writeFileSync(file, 'second')
  fs.rmSync(path.join(source, 'gone'))
  await save(['kedge:web1'], [source])
  await save(['kedge:web1', `stream:${stream}`], ['--stdin', '--stdin-filename', stream], 'select 2\n')
  await save(['kedge:web1', 'kedge:names'], [file])
  fs.writeFileSync(path.join(source, 'foreign'), 'foreign')
  await save(['kedge:web2'], [source])
  fs.rmSync(path.join(source, 'foreign'))
  return { m, web1, source, file }
}

const sh = async (m: Machine, text: string) =>
  await startProgram(m, '/bin/sh', ['-c', text], { env: { RESTIC_CACHE_DIR: path.join(m.cache, 'by-hand') } }).result

/** What the printed commands write when sh runs them. */
async function byHand(m: Machine, args: readonly string[]): Promise<string> {
  const { stdout } = await done(m, [...args, '--explain'])
  const ran = await sh(m, stdout)
  assert.equal(ran.status, 0, `${stdout}\n${ran.stderr}`)
  return ran.stdout
}

// Between these two restic prints what is read here in the same way.
for (const version of [restics()[0] as Restic, newest()]) {
  test(`restic ${version.version}: reading by hand is reading by kedge, where two targets share a repository`, async (t) => {
    const { m, source, file } = await house(t, version)
    const paths = (text: string) => text.split('\n').filter((line) => line.startsWith('/'))
    for (const what of ['latest', 'latest-1', `latest:${source}/deep`, `latest:/${stream}`]) {
      const wanted = (await done(m, ['files', 'web1', what, '--json'])).rows.map((row) => (row.kind === 'entry' ? row.path : ''))
      assert.deepEqual(paths(await byHand(m, ['files', 'web1', what])), wanted, what)
    }
    assert.ok(!(await byHand(m, ['files', 'web1'])).includes('foreign'))
    const texts: [string, string][] = [
      [`latest:${file}`, 'second'],
      [`latest-1:${file}`, 'first'],
      [`latest:/${stream}`, 'select 2\n'],
    ]
    for (const [what, text] of texts) {
      assert.equal((await done(m, ['cat', 'web1', what])).stdout, text, what)
      assert.equal(await byHand(m, ['cat', 'web1', what]), text, what)
    }
    const ids = (text: string) => text.split('\n').flatMap((line) => /^[0-9a-f]{8}(?= )/.exec(line) ?? [])
    for (const args of [
      [],
      ['--latest', '1'],
      ['--latest', '2'],
      ['--latest', '3'],
      ['--all'],
      ['--all', '--latest', '2'],
      ['--stream', stream],
    ]) {
      const rows = (await done(m, ['list', 'web1', ...args, '--json'])).rows as Snapshot[]
      assert.deepEqual(ids(await byHand(m, ['list', 'web1', ...args])), rows.map(({ id }) => id.slice(0, 8)).reverse(), args.join(' '))
    }
    for (const args of [[], ['--snapshot', 'latest'], ['--snapshot', 'latest-1']]) {
      const rows = (await done(m, ['find', 'web1', 'a*', ...args, '--json'])).rows as Match[]
      const found = [...new Set(ids((await byHand(m, ['find', 'web1', 'a*', ...args])).replace(/.*snapshot ([0-9a-f]{8})/g, '$1 ')))]
      assert.deepEqual(found.sort(), [...new Set(rows.map(({ snapshot }) => snapshot.slice(0, 8)))].sort(), args.join(' '))
    }
    const changed = (text: string) => text.split('\n').filter((line) => /^[-+M] /.test(line)).sort() // biome-ignore format: one line
    assert.deepEqual(changed(await byHand(m, ['diff', 'web1'])), [`-    ${path.join(source, 'gone')}`, `M    ${file}`])
    assert.deepEqual(await byHand(m, ['diff', 'web1', 'latest-1', 'latest']), await byHand(m, ['diff', 'web1']))
    const to = path.join(m.dir, 'to')
    await byHand(m, ['restore', 'web1', '--to', to, 'latest-1'])
    assert.equal(fs.readFileSync(path.join(to, file), 'utf8'), 'first')
    const none = await sh(m, (await done(m, ['files', 'web1', 'latest-7', '--explain'])).stdout)
    assert.notEqual(none.status, 0)
    assert.match(none.stderr, /no such snapshot/)
    assert.equal(none.stdout, '')
  })

  test(`restic ${version.version}: a drill by hand restores a random sample, and tells a file that has rotted`, async (t) => {
    const { m, source, file } = await house(t, version)
    for (let i = 0; i < 30; i++) fs.writeFileSync(path.join(source, `f${i}`), `${i}`.repeat(100))
    fs.chmodSync(path.join(source, 'f1'), 0o4755)
    await done(m, ['backup', 'web1'])
    fake(m.bin, 'cmp', `echo "$1" >> ${m.dir}/compared; exec /usr/bin/cmp "$@"`)
    const compared = async (...args: string[]) => {
      fs.rmSync(path.join(m.dir, 'compared'), { force: true })
      await byHand(m, ['drill', 'web1', ...args])
      return fs.readFileSync(path.join(m.dir, 'compared'), 'utf8').trim().split('\n')
    }
    const all = await compared('--count', '100')
    assert.equal(all.length, 31)
    assert.ok(all.includes(file) && all.includes(path.join(source, 'f1')))
    assert.equal((await compared()).length, 20)
    const few = (await compared('--count', '5', 'latest')).length
    assert.equal(few, 5)
    const inBytes = await compared('--bytes', '450', '--scratch', m.dir)
    assert.ok(inBytes.length >= 2 && inBytes.length <= 5, String(inBytes.length))
    assert.deepEqual(
      [path.join(m.state, 'web1/scratch'), m.dir].flatMap((folder) => fs.readdirSync(folder).filter((name) => name.startsWith('drill.'))),
      [],
    )
    // A Date is rounded to milliseconds, and up would be newer.
    const { atime, mtimeMs } = fs.statSync(file)
    fs.writeFileSync(file, 'rotten')
    fs.utimesSync(file, atime, Math.floor(mtimeMs) / 1000)
    const { stdout } = await done(m, ['drill', 'web1', '--count', '100', '--explain'])
    const rotten = await sh(m, stdout)
    assert.equal(rotten.status, 1, rotten.stderr)
    assert.match(rotten.stdout, /differ/)
  })
}

test('init by hand makes a repository and pins it; of a pinned target nothing is pinned anew', async (t) => {
  const m = machine(t)
  const { dir } = newTarget(m, 'web1', { paths: [m.home] })
  fs.writeFileSync(path.join(m.home, 'a'), 'a')
  const file = path.join(dir, 'target.env')
  fs.appendFileSync(file, '# the last line has no line feed')
  await byHand(m, ['init', 'web1'])
  const [{ id } = { id: '' }] = (await done(m, ['init', 'web1', '--json'])).rows as { id: string }[]
  assert.match(id, /^[0-9a-f]{64}$/)
  assert.match(fs.readFileSync(file, 'utf8'), new RegExp(`line feed\nSTORE_ID=${id}\n$`))
  assert.equal(fs.statSync(file).mode & 0o777, 0o600)
  await done(m, ['backup', 'web1'])
  const pinned = await done(m, ['init', 'web1', '--explain'])
  assert.match(pinned.stderr, /is pinned to .*nothing to do/)
  assert.doesNotMatch(pinned.stdout, /STORE_ID|restic init/)
})

test('adoption by hand takes in what kedge would: by the filter, and not what another target has', async (t) => {
  const m = machine(t)
  const web1 = newTarget(m, 'web.1', { paths: [m.home] })
  await initStore(m, web1)
  fs.writeFileSync(path.join(m.home, 'a'), 'a')
  const sets: [host: string, tags: string[]][] = [
    ['h', []],
    ['h', ['x', 'kedge:hold']],
    ['h', ['kedge:web.10']],
    ['h', ['x', 'kedge:web21']],
    ['other', []],
  ]
  for (const [host, tags] of sets) await restic(m, web1, ['backup', '-q', '--host', host, ...tags.flatMap((tag) => ['--tag', tag]), m.home])
  const args = ['init', '--adopt', 'web.1', '--host', 'h']
  const [row] = (await done(m, [...args, '-n', '--json'])).rows
  assert.equal(row?.kind === 'store' && row.adopted, 2)
  await byHand(m, args)
  const rows = (await done(m, ['list', 'web.1', '--json'])).rows as Snapshot[]
  assert.deepEqual(rows.map(({ host, tags }) => [host, ...tags.toSorted()]).sort(), [
    ['h', 'kedge:hold', 'kedge:web.1', 'x'],
    ['h', 'kedge:web.1'],
  ])
})

test('prune --explain says in comments what kedge does and restic does not', async (t) => {
  const m = machine(t)
  const { dir } = newTarget(m, 'web1', { env: { KEEP_DAILY: '2' } })
  const comments = async (...args: string[]) =>
    (await done(m, ['prune', 'web1', '--explain', ...args])).lines.filter((line) => line.startsWith('#')).join('\n')
  assert.match(await comments(), /at most 20 .*PRUNE_MAX_DELETE/)
  assert.match(await comments(), /pinned.*suspect.*clock.*guards/)
  assert.match(await comments('--max-delete', '7'), /at most 7 .*\(--max-delete\)/)
  assert.match(await comments(), /newest good[\s\S]*a held[\s\S]*another target's tag/)
  const forget = (await done(m, ['forget', 'web1', '0123abcd', '--explain'])).stdout
  assert.match(forget, /^# kedge refuses a held snapshot, the newest good one .* another target's tag: restic does not$/m)
  assert.match((await done(m, ['diff', 'web1', '--top', '3', '--explain'])).stdout, /^# with --top kedge groups by folder/m)
  fs.appendFileSync(path.join(dir, 'target.env'), envText({ PRUNE_MAX_DELETE: '' }))
  assert.match(await comments(), /PRUNE_MAX_DELETE is empty: there is no limit/)
})

test('a rename by hand seals the credential to the new name', async (t) => {
  const m = machine(t)
  // As systemd-creds, a credential opens only under the name that it was sealed to.
  fake(
    m.bin,
    'systemd-creds',
    `for word; do case $word in --name=*) name=\${word#--name=} ;; esac; done
case $1 in
  encrypt) echo "$name"; cat ;;
  decrypt) [ "$(head -n 1 "$3")" = "$name" ] || exit 1; tail -n +2 "$3" ;;
esac`,
  )
  await done(m, ['new', 'old', '--path', m.home, '--repo', '/srv/r', '--secret', 'credential'])
  const cred = (name: string) => fs.readFileSync(path.join(m.config, 'targets', name, 'secret.cred'), 'utf8')
  const [, sealed] = cred('old').split('kedge-old\n')
  await byHand(m, ['rename', 'old', 'new'])
  assert.equal(cred('new'), `kedge-new\n${sealed}`)
  await done(m, ['config', 'new', '--secrets'])
})

test('a malformed pattern is status 2 and named', async (t) => {
  const m = machine(t)
  newTarget(m, 'web1')
  for (const pattern of ['[', 'a[b', 'x\\']) {
    const result = await kedge(m, ['find', 'web1', 'fine', pattern])
    assert.equal(result.status, 2, result.stderr)
    assert.ok(result.stderr.includes(`'${pattern}'`), result.stderr)
  }
})

test('a backup in part leaves its first warning as the message of status', async (t) => {
  const m = machine(t)
  const web1 = newTarget(m, 'web1', { paths: [m.home, path.join(m.dir, 'missing')] })
  await makeStore(m, web1)
  const result = await kedge(m, ['backup', 'web1'])
  assert.equal(result.status, 3, result.stderr)
  const status = await kedge(m, ['status', 'web1', '--json'])
  const [row] = status.rows
  assert.ok(row?.kind === 'status' && row.state === 'failed')
  assert.match(row.message ?? '', /missing/)
})
