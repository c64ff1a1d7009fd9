// What is particular to backup, beside the contract of engines (test/engine/contract.ts).
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { pathsArgs, streamArgs } from '../../lib/engine/restic/backup.ts'
import type { Version } from '../../lib/engine/restic/version.ts'
import type { RunRow, Snapshot, Summary } from '../../lib/rows.ts'
import { dist, done, fake, kedge, machine, newTarget, restic, startProgram, type TargetOptions } from '../harness.ts'
import { makeStore } from '../store.ts'

/** A machine with a source of ten files, a target for it, and its repository. */
async function house(t: TestContext, options: TargetOptions = {}) {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  for (let i = 0; i < 10; i++) fs.writeFileSync(path.join(source, `file ${i}`), `${i}`.repeat(1000))
  const web1 = newTarget(m, 'web1', { paths: [source], ...options })
  await makeStore(m, web1)
  const snapshots = async () => (await done(m, ['list', 'web1', '--json'])).rows as Snapshot[]
  const last = () => JSON.parse(fs.readFileSync(path.join(m.state, 'web1/runs.ndjson'), 'utf8').trim().split('\n').at(-1) ?? '') as RunRow
  const inStore = () => fs.readdirSync(path.join(web1.repository, 'snapshots')).length
  return { m, source, web1, snapshots, last, inStore }
}

test('the arguments of restic: tags, host, limits of version, excludes, and paths after --', () => {
  const target = {
    name: 'web1',
    engine: 'restic',
    dir: '/etc/kedge/targets/web1',
    env: {
      HOST: 'h',
      TAGS: 'a b',
      LOCK_WAIT: '1m',
      BACKUP_ARGS: '--exclude-larger-than 1G  --exclude=/x/a,b',
      RESTIC_REPOSITORY: '/srv/backup [1]',
    },
    origin: {},
    paths: ['/srv', '-x'],
    excludes: ['/etc/kedge/exclude'],
    streams: [],
    hooks: [],
    secret: 'none',
  } as const
  const head = ['backup', '--json', '--tag', 'kedge:web1', '--tag', 'a', '--tag', 'b', '--tag', 'once', '--host', 'h']
  const options = { tags: ['once'] }
  const old: Version = [0, 14, 0]
  const args = (dryRun: boolean, version: Version, paths: Parameters<typeof pathsArgs>[2] = target.paths) =>
    pathsArgs(target, options, paths, dryRun, version)
  const tail = [
    '--exclude-caches',
    '--one-file-system',
    '--exclude-file',
    '/etc/kedge/exclude',
    '--exclude',
    '/srv/backup \\[1]',
    '--exclude-larger-than',
    '1G',
    '--exclude=/x/a,b',
  ]
  assert.deepEqual(args(false, [0, 19, 1]), [...head, '--retry-lock', '60s', ...tail, '--', '/srv', '-x'])
  assert.deepEqual(args(true, old), [...head, '--dry-run', ...tail, '--', '/srv', '-x'])
  assert.deepEqual(args(false, old, { from: '/names' }).slice(-2), ['--files-from-raw', '/names'])
  const marked = pathsArgs(target, { names: ['/srv/a', '/gone'] }, { from: '/names' }, false, old, true)
  assert.deepEqual(marked.slice(2, 8), ['--tag', 'kedge:web1', '--tag', 'kedge:names', '--tag', 'kedge:partial'])
  const open = {
    ...target,
    env: { ...target.env, ONE_FILE_SYSTEM: 'no', EXCLUDE_CACHES: 'no', BACKUP_ARGS: '', RESTIC_REPOSITORY: 'sftp:x:/r' },
    excludes: [],
  }
  assert.deepEqual(pathsArgs(open, {}, ['/srv'], false, old).slice(6), ['--tag', 'b', '--host', 'h', '--', '/srv'])
  assert.deepEqual(streamArgs(target, options, 'app.sql', false, old), [
    ...head,
    ...['--tag', 'stream:app.sql', '--stdin', '--stdin-filename', 'app.sql'],
  ])
})

test('a backup that shrank is kept, warned of with status 0, and marked as suspect', async (t) => {
  const { m, source, snapshots, last } = await house(t)
  for (let i = 0; i < 3; i++) await done(m, ['backup', 'web1'])
  for (let i = 1; i < 10; i++) fs.rmSync(path.join(source, `file ${i}`))
  const { status, stderr, rows } = await kedge(m, ['backup', 'web1', '--json'])
  assert.equal(status, 0, stderr)
  assert.match(
    stderr,
    /^warning: snapshot \w{8} is suspect: it shrank: 1000 B, usually 9\.77 KiB; prune waits for 'kedge accept web1 \w{8}'\n$/,
  )
  const found = await snapshots()
  assert.deepEqual(
    found.map((each) => each.suspect),
    ['it shrank: 1000 B, usually 9.77 KiB', undefined, undefined, undefined],
  )
  assert.equal(found[0]?.id, (rows[0] as { snapshot?: string }).snapshot)
  assert.deepEqual([last().state, last().status, last().warnings?.length], ['warning', 0, 1])
  assert.equal((await done(m, ['cat', 'web1', `latest:${source}/file 0`])).stdout, '0'.repeat(1000))
  await done(m, ['accept', 'web1', found[0]?.id ?? ''])
  assert.equal((await done(m, ['backup', 'web1'])).stderr, '', 'what was accepted is the new usual')
})

test('what restic could not read is told by a tag, under the id that the snapshot has then; where that fails it is a warning', async (t) => {
  const { m, snapshots } = await house(t)
  const script = (tag: string) =>
    `case $1 in backup) '${m.restic.path}' "$@" && exit 3 ;; tag) ${tag} ;; esac\nexec '${m.restic.path}' "$@"`
  fake(m.bin, 'restic', script(':'))
  const tagged = await kedge(m, ['backup', 'web1', '--json'])
  fake(m.bin, 'restic', script('exit 1'))
  const failed = await kedge(m, ['backup', 'web1', '--json'])
  fake(m.bin, 'restic', script('exit 0'))
  const silent = await kedge(m, ['backup', 'web1', '--json'])
  const results = [silent, failed, tagged]
  assert.deepEqual(
    results.map(({ status }) => status),
    [3, 3, 3],
  )
  assert.deepEqual(
    (await snapshots()).map(({ id, partial }) => [id, partial]),
    results.map(({ rows }, i) => [(rows[0] as Summary).snapshot, i === 2 ? true : undefined]),
  )
  for (const { rows } of results) assert.equal((rows[0] as Summary).partial, true)
  for (const { stderr } of [failed, silent])
    assert.match(stderr, /cannot tag snapshot \w{8} as partial .*; prune will take it for a full one/)
  assert.doesNotMatch(tagged.stderr, /cannot tag/)
})

test("what init --adopt --explain prints takes in by plain sh what is no other target's, or what is asked for", async (t) => {
  const { m, source, web1, snapshots } = await house(t)
  await restic(m, web1, ['backup', '-q', source])
  await restic(m, web1, ['backup', '-q', '--tag', 'kedge:hold,mine', source])
  await restic(m, web1, ['backup', '-q', '--tag', 'kedge:db.1', '--tag', 'kedge:hold', source])
  await restic(m, web1, ['backup', '-q', '--tag', 'kedge:db.10', source])
  const byHand = async (...filter: string[]) => {
    const { stdout } = await done(m, ['init', '--adopt', '--explain', ...filter, 'web1'])
    const { status, stderr } = await startProgram(m, '/bin/sh', ['-ec', stdout], { env: { RESTIC_CACHE_DIR: m.cache } }).result
    assert.equal(status, 0, stderr)
    return (await snapshots()).map(({ tags }) => tags.filter((tag) => tag !== 'kedge:web1').join())
  }
  assert.deepEqual(await byHand('--tag', 'nothing'), [])
  const free = ['kedge:hold,mine', '']
  assert.deepEqual(await byHand(), free)
  assert.deepEqual(await byHand(), free)
  assert.deepEqual(await byHand('--tag', 'kedge:db.1'), ['kedge:db.1,kedge:hold', ...free])
})

test('a backup in which far more files changed than ever is suspect; with CHURN_LIMIT=0 it is not', async (t) => {
  const { m, source, web1, snapshots } = await house(t)
  for (let i = 10; i < 20; i++) fs.writeFileSync(path.join(source, `file ${i}`), 'x')
  for (let i = 0; i < 3; i++) await done(m, ['backup', 'web1'])
  const scramble = (text: string) => {
    for (let i = 0; i < 20; i++) fs.writeFileSync(path.join(source, `file ${i}`), text.repeat(500 + i))
  }
  scramble('other')
  const churned = await done(m, ['backup', 'web1'])
  assert.match(churned.stderr, /is suspect: 100 % of the files changed, at most 0 % before/)
  fs.appendFileSync(path.join(web1.dir, 'target.env'), 'CHURN_LIMIT=0\n')
  scramble('again')
  const calm = await done(m, ['backup', 'web1'])
  assert.equal(calm.stderr, '')
  assert.deepEqual(
    (await snapshots()).map((each) => each.suspect !== undefined),
    [false, true, false, false, false],
  )
})

test('when the canary is gone the status is 1 before anything is written, unless it is overridden by name', async (t) => {
  const { m, source, web1, last, inStore } = await house(t)
  const canary = path.join(source, 'canary')
  fs.appendFileSync(path.join(web1.dir, 'target.env'), `CANARY='${canary}'\n`)
  const started = path.join(m.dir, 'started')
  fake(m.bin, 'restic', `echo "$1" >>'${started}'; exec '${m.restic.path}' "$@"`)
  const gone = await kedge(m, ['backup', 'web1'])
  assert.equal(gone.status, 1)
  assert.match(gone.stderr, new RegExp(`^kedge: refusing to back up 'web1': the canary '${canary}' is gone\n {2}hint: `))
  assert.deepEqual([inStore(), fs.existsSync(started)], [0, false])
  assert.deepEqual([last().state, last().class], ['failed', 'vanished'])
  assert.equal((await kedge(m, ['backup', '-n', 'web1'])).status, 1, 'a dry run is no other')
  const forced = await done(m, ['backup', '--force=canary', 'web1'])
  assert.match(forced.stderr, /^warning: guard 'canary' overridden: /)
  assert.deepEqual([inStore(), last().state, last().forced], [1, 'warning', ['canary']])
  fs.writeFileSync(canary, '')
  assert.equal((await done(m, ['backup', 'web1'])).stderr, '')
})

test('--force with a name that is no guard is 2 and names the guards; nothing is saved', async (t) => {
  const { m, inStore } = await house(t)
  for (const guard of ['canery', 'all', 'constructor', '']) {
    const { status, stderr } = await kedge(m, ['backup', `--force=${guard}`, 'web1'])
    assert.equal(status, 2, guard)
    assert.match(stderr, /no guard '.*'\n {2}hint: the guards: pin, identity, canary/)
  }
  assert.equal(inStore(), 0)
})

test('a terminal sees the progress, a pipe does not', async (t) => {
  const { m } = await house(t)
  fs.symlinkSync(path.join(dist, 'kedge.cjs'), path.join(m.bin, 'kedge'))
  // A backup of ten files is over before restic says how far it is.
  const statusLine = JSON.stringify({
    message_type: 'status',
    percent_done: 0.5,
    total_files: 11,
    files_done: 4,
    total_bytes: 2048,
    bytes_done: 1024,
  })
  fake(m.bin, 'restic', `[ "$1" = backup ] && echo '${statusLine}'\nexec '${m.restic.path}' "$@"`)
  const piped = await done(m, ['backup', 'web1'])
  assert.equal(piped.stderr, '')
  assert.equal(piped.lines.length, 1)
  const env = { TERM: 'dumb', SHELL: '/bin/sh', NO_COLOR: '1' }
  const { status, stdout } = await startProgram(m, 'script', ['-q', '-e', '-c', 'kedge backup web1', '/dev/null'], { env }).result
  assert.equal(status, 0, stdout)
  assert.ok(stdout.includes('\r\x1b[K50%  1.00 KiB of 2.00 KiB  4 of 11 files'), JSON.stringify(stdout))
  const [, table = ''] = stdout.split(/.*\r\x1b\[K(?=TARGET)/s)
  assert.match(
    table,
    /^TARGET +SNAPSHOT +FILES +BYTES +ADDED +SECONDS\r\nweb1 +\w{8} +10 +9\.77 KiB +.*\r\n$/,
    'the line is wiped before the table',
  )
  const quiet = await startProgram(m, 'script', ['-q', '-e', '-c', 'kedge backup -q web1', '/dev/null'], { env }).result
  assert.equal(quiet.stdout, 'web1\r\n')
})

test('a stream sees what PASS_ENV and STREAM_SECRETS name, and nothing else of the caller or of the secrets', async (t) => {
  const { m, web1 } = await house(t, {
    env: { PASS_ENV: 'PGHOST MISSING', STREAM_SECRETS: 'PGPASSWORD' },
    secrets: { PGPASSWORD: 'for the stream', AWS_SECRET_ACCESS_KEY: 'for the store' },
    scripts: { 'streams/env': 'env' },
  })
  await done(m, ['backup', 'web1'], { env: { PGHOST: 'db', PGUSER: 'nobody', RESTIC_PASSWORD: 'stray' } })
  const lines = (await done(m, ['cat', 'web1', 'latest:/env'])).stdout.split('\n')
  for (const line of ['PGHOST=db', 'PGPASSWORD=for the stream', 'KEDGE_TARGET=web1', `HOME=${m.home}`])
    assert.ok(lines.includes(line), line)
  assert.deepEqual(
    lines.filter((line) => /^(PGUSER|RESTIC_|AWS_|KEDGE_(STATE|CONFIG|CACHE)|MISSING)/.test(line)),
    [],
  )
  fs.writeFileSync(
    path.join(web1.dir, 'target.env'),
    fs.readFileSync(path.join(web1.dir, 'target.env'), 'utf8').replace("'PGPASSWORD'", "'PGPASSWROD'"),
  )
  const unknown = await kedge(m, ['backup', 'web1'])
  assert.equal(unknown.status, 2)
  assert.match(unknown.stderr, /STREAM_SECRETS names 'PGPASSWROD'/)
})

test('all faults of a target are told at once with file, line and column, and nothing is executed', async (t) => {
  const { m, web1, inStore } = await house(t)
  const env = path.join(web1.dir, 'target.env')
  const touched = path.join(m.dir, 'touched')
  const good = fs.readFileSync(env, 'utf8')
  const at = good.split('\n').length
  fs.writeFileSync(
    env,
    `${good}HOST=$(touch ${touched})\nTAGS="\`touch ${touched}\`"\nKEEP_LAST=x\nNICEE=5\ntouch ${touched}\nTIMEOUT=5y; touch ${touched}\nNICE=20\n`,
  )
  fs.writeFileSync(path.join(web1.dir, 'paths'), 'relative\n/srv\n')
  fs.mkdirSync(path.join(web1.dir, 'streams'))
  fs.writeFileSync(path.join(web1.dir, 'streams/plain'), 'echo', { mode: 0o644 })
  const { status, stdout, stderr } = await kedge(m, ['backup', 'web1'])
  assert.deepEqual([status, stdout], [2, ''])
  const faults: RegExp[] = [
    new RegExp(`^  ${env}:${at}:6: unquoted '\\$\\('`),
    new RegExp(`^  ${env}:${at + 1}:7: '\`' in double quotes`),
    new RegExp(`^  ${env}:${at + 2}: KEEP_LAST: `),
    new RegExp(`^  ${env}:${at + 3}: NICEE: unknown key, did you mean NICE\\?$`),
    new RegExp(`^  ${env}:${at + 4}:1: not KEY=value$`),
    new RegExp(`^  ${env}:${at + 5}:11: unquoted ';'`),
    new RegExp(`^  ${env}:${at + 6}: NICE: not a number from 0 to 19`),
    new RegExp(`^  ${path.join(web1.dir, 'paths')}:1: not an absolute path: 'relative'$`),
    new RegExp(`^  ${path.join(web1.dir, 'streams/plain')}: it is not an executable file$`),
  ]
  for (const fault of faults)
    assert.ok(
      stderr.split('\n').some((line) => fault.test(line)),
      `${fault}\n${stderr}`,
    )
  assert.ok(!fs.existsSync(touched))
  assert.equal(inStore(), 0)
  assert.ok(!fs.existsSync(path.join(m.state, 'web1/runs.ndjson')), 'no run of a target that is not valid')
})

test('a target that lies in several paths is saved once, and further tags go into the snapshot', async (t) => {
  const { m, source, web1, snapshots } = await house(t)
  fs.writeFileSync(path.join(web1.dir, 'paths'), `# what to save\n${source}/\n${source}\n\n`)
  for (const tag of ['kedge:hold', 'stream:x', 'a,kedge:hold'])
    assert.equal((await kedge(m, ['backup', '--tag', 'fine', '--tag', tag, 'web1'])).status, 2, tag)
  assert.deepEqual(await snapshots(), [])
  await done(m, ['backup', '--tag', 'before-upgrade', '--tag=1e5', 'web1'])
  const [snapshot] = await snapshots()
  assert.deepEqual([...(snapshot?.tags ?? [])].sort(), ['1e5', 'before-upgrade', 'kedge:web1'])
  assert.deepEqual(snapshot?.paths, [source])
  const out = path.join(m.dir, 'out')
  await restic(m, web1, ['restore', 'latest', '--target', out])
  for (let i = 0; i < 10; i++) assert.equal(fs.readFileSync(path.join(out, source, `file ${i}`), 'utf8'), `${i}`.repeat(1000))
})

test('--files-from needs one target, -0 needs --files-from', async (t) => {
  const m = machine(t)
  newTarget(m, 'a')
  newTarget(m, 'b')
  const run = async (from: string, input?: string) => {
    const { status, stderr } = await kedge(m, ['backup', '--files-from', from, 'a'], input === undefined ? {} : { input })
    assert.equal(status, 2, stderr)
    return stderr
  }
  assert.match(await run('-', '/etc/a\0/etc/b'), /cannot read names from '-': a name holds a NUL\n {2}hint: is -0 missing\?/)
  assert.match(await run('/no/such'), /cannot read names from '\/no\/such': no such file$/m)
  assert.match(await run('/etc'), /cannot read names from '\/etc': it is a folder$/m)
  for (const args of [
    ['--files-from', '-'],
    ['--files-from', '-', 'a', 'b'],
    ['-0', 'a'],
    ['--files-from', '/no/such', 'a'],
  ])
    assert.equal((await kedge(m, ['backup', ...args], { input: '/etc\n' })).status, 2, args.join(' '))
})
