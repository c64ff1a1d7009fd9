// kedge config, targets, rename, remove: a target shown and changed, and never its data.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import * as fs from 'node:fs'
import { hostname } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import { editsOf, namesAfter } from '../../lib/rename.ts'
import type { Row } from '../../lib/rows.ts'
import { cheapen } from '../cheap.ts'
import { dist, done, envText, fake, growTree, kedge, type Machine, machine, newTarget, sameTree, startProgram } from '../harness.ts'
import { treeFacts } from '../tree.ts'

const envFile = (m: Machine, name: string) => path.join(m.config, 'targets', name, 'target.env')
const settings = (rows: readonly Row[]) =>
  Object.fromEntries(rows.flatMap((row) => (row.kind === 'setting' ? [[row.key, [row.value, row.from]]] : [])))
const names = (m: Machine) => fs.readdirSync(path.join(m.config, 'targets')).sort()

test('each setting in force comes with the file and line that set it, a secret without its value', async (t) => {
  const m = machine(t)
  const target = newTarget(m, 'web1', {
    env: { KEEP_DAILY: '7', TAGS: 'a b', AWS_SECRET_ACCESS_KEY: 'in the wrong place', RESTIC_REPOSITORY: 'rest:https://me@h/r' },
    paths: ['/etc'],
    secrets: { RESTIC_PASSWORD: 'the password', AWS_ACCESS_KEY_ID: 'AKIA1' },
  })
  const house = path.join(m.config, 'defaults.env')
  fs.writeFileSync(house, '# for all\nKEEP_DAILY=1\nKEEP_WEEKLY=4\n')
  const result = await done(m, ['config', 'web1', '--json'])
  const found = settings(result.rows)
  assert.deepEqual(found.KEEP_DAILY, ['7', `${envFile(m, 'web1')}:4`])
  assert.deepEqual(found.KEEP_WEEKLY, ['4', `${house}:3`])
  assert.deepEqual(found.PRUNE_MAX_DELETE, ['20', 'default'])
  assert.deepEqual(found.paths, ['/etc', path.join(target.dir, 'paths')])
  assert.deepEqual(found.RESTIC_REPOSITORY, ['rest:https://me@h/r', `${envFile(m, 'web1')}:2`])
  assert.deepEqual(found.AWS_SECRET_ACCESS_KEY?.[0], '(secret)')
  assert.deepEqual(found.RESTIC_PASSWORD, ['(secret)', `${path.join(target.dir, 'secret.env')}:1`])
  assert.deepEqual(found.AWS_ACCESS_KEY_ID, ['(secret)', `${path.join(target.dir, 'secret.env')}:2`])
  assert.doesNotMatch(result.stdout + result.stderr, /the password|wrong place|AKIA1/)
})

test("a password in a repository's address and a tag of kedge's own are faults, which do not show the password", async (t) => {
  const m = machine(t)
  const remedy = ': use RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD in the secrets'
  const cases: [Record<string, string>, string | undefined][] = [
    [{ RESTIC_REPOSITORY: 'rest:https://me:hush@h/r' }, `RESTIC_REPOSITORY: a password in a plain address${remedy}\n`],
    [{ RESTIC_REPOSITORY: 'sftp://me:hush@h/r' }, 'RESTIC_REPOSITORY: a password in a plain address\n'],
    [{ RESTIC_REPOSITORY: 'sftp://me@h:22/r' }, undefined],
    [{ RESTIC_REPOSITORY: 's3:http://h:9000/b/x@y' }, undefined],
    [{ TAGS: 'a kedge:hold' }, "TAGS: tags that begin with 'kedge:' or 'stream:' are kedge's own marks: 'kedge:hold'\n"],
    [{ TAGS: 'stream:x' }, "marks: 'stream:x'\n"],
    [{ TAGS: 'a,b downstream:x' }, undefined],
  ]
  for (const [index, [env, fault]] of cases.entries()) {
    newTarget(m, `t${index}`, { env })
    const result = await kedge(m, ['config', `t${index}`])
    assert.equal(result.status, fault === undefined ? 0 : 2, JSON.stringify(env))
    assert.ok(result.stderr.includes(fault ?? ''), result.stderr)
    assert.doesNotMatch(result.stdout + result.stderr, /hush/)
  }
})

test('single keys are shown, one that is not set too, and one that does not exist is misuse', async (t) => {
  const m = machine(t)
  newTarget(m, 'web1', { env: { KEEP_DAILY: '7' } })
  assert.equal(
    (await done(m, ['config', 'web1', 'KEEP_DAILY', 'CANARY'])).stdout,
    `KEEP_DAILY\t7\t${envFile(m, 'web1')}:4\nCANARY\t\tnot set\n`,
  )
  const wrong = await kedge(m, ['config', 'web1', 'KEEP_DAYLY'])
  assert.equal(wrong.status, 2)
  assert.match(wrong.stderr, /no key 'KEEP_DAYLY'\n {2}hint: did you mean KEEP_DAILY\?/)
})

test('targets lists all of them, by group too; one that does not load is listed with its fault, and the status is 2', async (t) => {
  const m = machine(t)
  assert.equal((await done(m, ['targets'])).stdout, '')
  newTarget(m, 'b', { env: { GROUP: 'web big', RESTIC_REPOSITORY: 'rest:https://me@h/r' } })
  newTarget(m, 'a', { env: { RESTIC_REPOSITORY: '/srv/a' } })
  fs.mkdirSync(path.join(m.config, 'targets', '.new-x', 'c'), { recursive: true })
  assert.equal((await done(m, ['targets'])).stdout, 'a\trestic\t/srv/a\t\nb\trestic\trest:https://me@h/r\tweb,big\n')
  assert.equal((await done(m, ['targets', '-q', '--group', 'big'])).stdout, 'b\n')
  fs.appendFileSync(envFile(m, 'a'), 'KEEP_DALY=3\n')
  const result = await kedge(m, ['targets', '-q'])
  assert.equal(result.stdout, 'a\nb\n')
  assert.equal(result.status, 2)
  assert.match(result.stderr, /target 'a' is not valid:\n.*target\.env:4: KEEP_DALY: unknown key, did you mean KEEP_DAILY/)
})

test('the names whose snapshots belong to a renamed target', () => {
  const cases: [string | undefined, string[]][] = [
    [undefined, ['new', 'old']],
    ['', ['new', 'old']],
    ['old older', ['new', 'old', 'older']],
    ['new old', ['new', 'old']],
    ['first second', ['first', 'second']],
  ]
  for (const [before, after] of cases) assert.deepEqual(namesAfter(before, 'old', 'new'), after)
})

test('what other targets say of a renamed one', () => {
  const edits = (env: Record<string, string>) =>
    editsOf(
      { name: 'x', engine: 'restic', dir: '/t/x', env, origin: {}, paths: [], excludes: [], streams: [], hooks: [], secret: 'none' },
      'old',
      'new',
    )
  assert.deepEqual(edits({}), [])
  assert.deepEqual(edits({ COPY_TO: 'older,old' }), [{ file: '/t/x/target.env', key: 'COPY_TO', value: 'older new' }])
  assert.deepEqual(edits({ SNAPSHOTS_OF: 'old' }), [{ file: '/t/x/target.env', key: 'SNAPSHOTS_OF', value: 'new old' }])
  assert.deepEqual(edits({ SNAPSHOTS_OF: 'new old', COPY_TO: 'new' }), [])
})

test('a renamed target keeps its snapshots, history and cache, and goes on with a second store that follows', async (t) => {
  const m = machine(t)
  const tree = path.join(m.dir, 'tree')
  fs.mkdirSync(tree)
  growTree(tree)
  const { repository, password } = newTarget(m, 'old', { paths: [tree], env: { COPY_TO: 'off' } })
  newTarget(m, 'off', { env: { SNAPSHOTS_OF: 'old' } })
  await done(m, ['recovery', 'old', '--to', path.join(m.config, 'targets/old/recovery.txt')])
  await done(m, ['init', 'old'])
  cheapen(repository, password)
  await done(m, ['backup', 'old'])
  const [id] = (await done(m, ['list', 'old', '-q'])).lines
  const dry = treeFacts(m.config)
  await done(m, ['rename', 'old', 'new', '-n'])
  assert.deepEqual(treeFacts(m.config), dry)
  assert.match((await done(m, ['rename', 'old', 'new', '--explain'])).stdout, /^mv .*targets\/old .*targets\/new$/m)

  await done(m, ['rename', 'old', 'new'])
  assert.deepEqual(names(m), ['new', 'off'])
  assert.ok(!fs.existsSync(path.join(m.state, 'old')) && !fs.existsSync(path.join(m.cache, 'old')))
  assert.match(fs.readFileSync(path.join(m.state, 'new/runs.ndjson'), 'utf8'), /"verb":"backup"/)
  assert.equal((await done(m, ['config', 'off', 'SNAPSHOTS_OF'])).lines[0]?.split('\t')[1], 'new old')
  assert.match(fs.readFileSync(path.join(m.config, 'targets/new/recovery.txt'), 'utf8'), /restore latest --tag kedge:new --tag kedge:old/)
  assert.deepEqual((await done(m, ['list', 'new', '-q'])).lines, [id])
  await done(m, ['backup', 'new'])
  assert.equal((await done(m, ['list', 'new', '-q'])).lines.length, 2)
  await done(m, ['restore', 'new', String(id), '--to', path.join(m.dir, 'out')])
  sameTree(path.join(m.dir, 'out', tree), tree)
  const again = await kedge(m, ['rename', 'old', 'older'])
  assert.equal(again.status, 2)
  assert.match(again.stderr, /no target 'old'/)
})

test('a rename that was cut off after any of its steps is finished by the same call', async (t) => {
  const steps: ((m: Machine) => void)[] = [
    (m) => fs.appendFileSync(envFile(m, 'old'), "SNAPSHOTS_OF='new old'\n"),
    (m) => fs.writeFileSync(envFile(m, 'first'), envText({ RESTIC_REPOSITORY: '/r', COPY_TO: 'new' })),
    (m) => fs.renameSync(path.join(m.state, 'old'), path.join(m.state, 'new')),
    (m) => fs.renameSync(path.join(m.cache, 'old'), path.join(m.cache, 'new')),
    (m) => fs.renameSync(path.join(m.config, 'targets/old'), path.join(m.config, 'targets/new')),
  ]
  for (let cut = 0; cut <= steps.length; cut++) {
    const m = machine(t)
    newTarget(m, 'old')
    newTarget(m, 'first', { env: { RESTIC_REPOSITORY: '/r', COPY_TO: 'old' } })
    for (const place of [m.state, m.cache]) {
      fs.mkdirSync(path.join(place, 'old'))
      fs.writeFileSync(path.join(place, 'old', 'mark'), `${cut}`)
    }
    for (const step of steps.slice(0, cut)) step(m)
    await done(m, ['rename', 'old', 'new'])
    assert.deepEqual(names(m), ['first', 'new'])
    for (const place of [m.state, m.cache]) {
      assert.deepEqual(
        fs.readdirSync(place).filter((name) => !name.startsWith('.')),
        ['new'],
        `cut off after step ${cut}`,
      )
      assert.equal(fs.readFileSync(path.join(place, 'new', 'mark'), 'utf8'), `${cut}`)
    }
    assert.equal((await done(m, ['config', 'new', 'SNAPSHOTS_OF'])).lines[0]?.split('\t')[1], 'new old')
    assert.equal((await done(m, ['config', 'first', 'COPY_TO'])).lines[0]?.split('\t')[1], 'new')
  }
})

// What systemd-creds does to names: a credential opens only under the one that it was sealed to. The real one needs root and a host key.
const creds = `
for word; do case $word in --name=*) name=\${word#--name=} ;; esac; done
case $1 in
  encrypt) echo "$name"; cat ;;
  decrypt) [ "$(head -n 1 "$3")" = "$name" ] || { echo 'Embedded credential name does not match' >&2; exit 1; }; tail -n +2 "$3" ;;
esac`

test('a credential is sealed again to the new name, once, and a run that crashed under the old name is recorded', async (t) => {
  const m = machine(t)
  fake(m.bin, 'systemd-creds', creds)
  const cred = (name: string) => path.join(m.config, 'targets', name, 'secret.cred')
  await done(m, ['new', 'old', '--path', m.home, '--repo', '/srv/r', '--secret', 'credential'])
  const [, sealed] = fs.readFileSync(cred('old'), 'utf8').split('kedge-old\n')
  const gone = startProgram(m, '/bin/sh', ['-c', 'exit 0'])
  await gone.result
  const holder = {
    run: '20260101T000000Z-a',
    verb: 'backup',
    at: '2026-01-01T00:00:00.000Z',
    pid: gone.child.pid,
    host: hostname(),
    boot: '',
    namespace: '',
  }
  fs.mkdirSync(path.join(m.state, 'old/lock'), { recursive: true })
  fs.writeFileSync(path.join(m.state, 'old/lock/write.1'), `${JSON.stringify({ ...holder, started: 1, uptime: 1, crashed: [] })}\n`)
  await done(m, ['rename', 'old', 'new'])
  assert.equal(fs.readFileSync(cred('new'), 'utf8'), `kedge-new\n${sealed}`)
  assert.deepEqual(names(m), ['new'])
  await done(m, ['config', 'new', '--secrets'])
  assert.match(fs.readFileSync(path.join(m.state, 'new/runs.ndjson'), 'utf8'), /"run":"20260101T000000Z-a".*"state":"crashed"/)
  // Cut off between the sealing and the last step: the folder is back under the old name.
  fs.renameSync(path.join(m.config, 'targets/new'), path.join(m.config, 'targets/old'))
  await done(m, ['rename', 'old', 'new'])
  assert.equal(fs.readFileSync(cred('new'), 'utf8'), `kedge-new\n${sealed}`)
})

test('no target is renamed over another one, over its state, or while it runs', async (t) => {
  const m = machine(t)
  newTarget(m, 'a', { scripts: { 'streams/slow': `touch ${m.dir}/begun; exec sleep 60` }, env: { STORE_ID: 'x' } })
  newTarget(m, 'b')
  const taken = await kedge(m, ['rename', 'a', 'b'])
  assert.equal(taken.status, 2)
  assert.match(taken.stderr, /target 'b' exists/)
  fs.mkdirSync(path.join(m.state, 'c'))
  fs.mkdirSync(path.join(m.state, 'a'), { recursive: true })
  const state = await kedge(m, ['rename', 'a', 'c'])
  assert.equal(state.status, 2)
  assert.match(state.stderr, /state\/c' exists/)
  // A lock that lives: its holder is this very test.
  const holder = {
    run: 'r',
    verb: 'backup',
    at: new Date().toISOString(),
    pid: process.pid,
    host: 'elsewhere',
    boot: '',
    namespace: '',
    started: 1,
    uptime: 1,
    groups: [],
  }
  fs.mkdirSync(path.join(m.state, 'a/lock'))
  fs.writeFileSync(path.join(m.state, 'a/lock', 'write.1'), `${JSON.stringify({ ...holder, crashed: [] })}\n`)
  for (const args of [
    ['rename', 'a', 'd'],
    ['remove', 'a', '--yes'],
  ]) {
    const locked = await kedge(m, args)
    assert.equal(locked.status, 11, locked.stderr)
  }
  assert.deepEqual(names(m), ['a', 'b'])
})

test('a removed target is packed with all its secrets and history, and the archive puts every byte back', async (t) => {
  const m = machine(t)
  newTarget(m, 'web1', { paths: ['/etc'], scripts: { 'streams/app.sql': 'echo dump', 'hooks/after-backup': ':' } })
  newTarget(m, 'first', { env: { COPY_TO: 'web1' } })
  fs.mkdirSync(path.join(m.state, 'web1/logs'), { recursive: true })
  fs.mkdirSync(path.join(m.cache, 'web1'))
  fs.writeFileSync(path.join(m.state, 'web1/runs.ndjson'), '{}\n')
  fs.linkSync(path.join(m.state, 'web1/runs.ndjson'), path.join(m.state, 'web1/logs/same'))
  fs.mkdirSync(path.join(m.dir, 'repositories/web1'), { recursive: true })
  const dir = path.join(m.config, 'targets/web1')
  const before = [treeFacts(dir), treeFacts(path.join(m.state, 'web1'))]
  const untold = await kedge(m, ['remove', 'web1'])
  assert.equal(untold.status, 2)
  assert.match(untold.stderr, /option missing: --yes/)
  await done(m, ['remove', 'web1', '-n'])
  assert.deepEqual([treeFacts(dir), treeFacts(path.join(m.state, 'web1'))], before)

  const result = await done(m, ['remove', 'web1', '--yes'])
  assert.deepEqual(names(m), ['first'])
  assert.ok(!fs.existsSync(path.join(m.state, 'web1')) && !fs.existsSync(path.join(m.cache, 'web1')))
  assert.ok(fs.existsSync(path.join(m.dir, 'repositories/web1')), 'the data is untouched')
  assert.match(result.stderr, /warning: COPY_TO \(.*first\/target\.env:\d\) still names 'web1'/)
  const [archive = ''] = result.lines[0]?.split('\t') ?? []
  assert.equal(path.dirname(archive), path.join(m.state, '.removed'))
  assert.equal(fs.statSync(archive).mode & 0o777, 0o600)
  const back = await startProgram(m, 'tar', ['-xzpf', archive, '-C', '/']).result
  assert.equal(back.status, 0, back.stderr)
  const without = (facts: Record<string, string>) =>
    Object.fromEntries(
      Object.entries(facts).map(([name, fact]) => [name, fact.replace(/, mtime \d+/, '').replace(/mtime (\d+)\d{9}/, '$1')]),
    )
  assert.deepEqual([treeFacts(dir), treeFacts(path.join(m.state, 'web1'))].map(without), before.map(without))
  await done(m, ['config', 'web1'])
})

test('on a terminal remove asks, and takes nothing but yes or y for an answer', async (t) => {
  for (const [answer, status] of [
    ['n', 2],
    ['y', 0],
    ['yes', 0],
  ] as const) {
    const m = machine(t)
    newTarget(m, 'web1')
    const line = `'${process.execPath}' '${path.join(dist, 'kedge.cjs')}' remove web1`
    const child = spawn('script', ['-q', '-e', '-c', line, '/dev/null'], {
      env: { ...m.env, TERM: 'dumb', SHELL: '/bin/sh' },
      stdio: 'pipe',
    })
    t.after(() => child.kill('SIGKILL'))
    child.stdout.setEncoding('utf8').on('data', (text: string) => text.includes('(yes/no):') && child.stdin.write(`${answer}\r`))
    assert.equal(await new Promise((resolve) => child.on('close', resolve)), status)
    assert.deepEqual(names(m), status === 0 ? [] : ['web1'])
  }
})
