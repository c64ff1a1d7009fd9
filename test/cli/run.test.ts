// A command in the context of a target, and of many at once.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { after, test } from 'node:test'
import type { Outcome } from '../../lib/rows/house.ts'
import type { Row } from '../../lib/rows.ts'
import { dist, done, fake, kedge, type Machine, machine, type NewTarget, newTarget, restic, start, startProgram } from '../harness.ts'
import { terminal } from '../pty.ts'
import { makeStore } from '../store.ts'

const password = 'the password of all'

/** A target with a store and one snapshot of one file; all stores are copies of one. */
async function stored(m: Machine, name: string, env: Record<string, string> = {}): Promise<NewTarget> {
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source, { recursive: true })
  fs.writeFileSync(path.join(source, 'file'), 'some bytes\n')
  const target = newTarget(m, name, { paths: [source], env, secrets: { RESTIC_PASSWORD: password } })
  await makeStore(m, { ...target, name: 'model' })
  await restic(m, target, ['backup', '-q', '--tag', `kedge:${name}`, source])
  return target
}

/** The environment that a command found. */
const seen = (stdout: string) =>
  Object.fromEntries(
    stdout
      .trim()
      .split('\n')
      .map((line) => line.split(/=(.*)/s).slice(0, 2)),
  ) as Record<string, string | undefined>

/** A target without a store, for commands that need none. */
const plain = (m: Machine, name: string, env: Record<string, string> = {}, secrets: Record<string, string> = {}) =>
  newTarget(m, name, { env, secrets })

const outcomes = (rows: readonly Row[]) => rows.filter((row): row is Outcome => row.kind === 'outcome')

const limit = { timeout: 60_000 }

test('a verb gets the target as its first operand, a program runs as it is, and both read what kedge reads', async (t) => {
  const m = machine(t)
  await stored(m, 'web1')
  const direct = await done(m, ['list', 'web1', '--json'])
  assert.equal((await done(m, ['run', 'web1', 'list', '--json'])).stdout, direct.stdout)
  assert.equal((await done(m, ['run', 'web1', '--', 'list', '--json'])).stdout, direct.stdout)
  assert.equal((await done(m, ['run', '--json', 'web1', 'list'])).stdout, direct.stdout)
  assert.match((await done(m, ['run', 'web1', 'find', 'fi?e'])).stdout, /source\/file/)
  const ids = (JSON.parse((await done(m, ['run', 'web1', 'restic', 'snapshots', '--json'])).stdout) as { id: string }[]).map(({ id }) => id)
  assert.deepEqual(
    ids,
    direct.rows.map((row) => (row.kind === 'snapshot' ? row.id : '')),
  )
  assert.equal((await done(m, ['run', 'web1', 'restic', 'dump', 'latest', `${m.dir}/source/file`])).stdout, 'some bytes\n')
  assert.equal((await kedge(m, ['run', 'web1', 'cat'])).status, 2) // kedge's own, which wants a snapshot
  assert.equal((await done(m, ['run', 'web1', '/bin/cat'], { input: 'by stdin' })).stdout, 'by stdin')
})

test('the environment is clean: the target’s own, its secrets, and of the caller a short list; strays decide nothing', async (t) => {
  const m = machine(t)
  const web1 = plain(
    m,
    'web1',
    { AWS_DEFAULT_REGION: 'eu', KEEP_DAILY: '3', PASS_ENV: 'WANTED' },
    { AWS_SECRET_ACCESS_KEY: 'k y', SMTP_PASSWORD: 'post' },
  )
  const strays = {
    RESTIC_REPOSITORY: '/stray',
    RESTIC_PASSWORD: 'stray',
    RESTIC_PASSWORD_COMMAND: 'echo stray',
    AWS_ACCESS_KEY_ID: 'stray',
    AWS_DEFAULT_REGION: 'stray',
    B2_ACCOUNT_KEY: 'stray',
    LD_PRELOAD: '',
    KEDGE_CONTEXT: 'web2',
    KEDGE_CONTEXT_KEYS: 'RESTIC_PASSWORD',
    WANTED: 'wanted',
    OTHER: 'other',
    USER: 'ann',
    SHELL: '/bin/sh',
  }
  const { PWD: _, ...env } = seen((await done(m, ['run', 'web1', 'env'], { env: strays })).stdout)
  assert.deepEqual(env, {
    ...m.env,
    WANTED: 'wanted',
    USER: 'ann',
    SHELL: '/bin/sh',
    RESTIC_REPOSITORY: web1.repository,
    RESTIC_PASSWORD: web1.password,
    RESTIC_CACHE_DIR: path.join(m.cache, 'web1', 'restic'),
    AWS_DEFAULT_REGION: 'eu',
    AWS_SECRET_ACCESS_KEY: 'k y',
    SMTP_PASSWORD: 'post',
    KEDGE_CONTEXT: 'web1',
    KEDGE_CONTEXT_DIR: web1.dir,
    KEDGE_CONTEXT_KEYS: 'RESTIC_PASSWORD AWS_SECRET_ACCESS_KEY SMTP_PASSWORD',
    KEDGE_CONTEXT_SETTINGS: 'RESTIC_REPOSITORY AWS_DEFAULT_REGION RESTIC_CACHE_DIR',
  })
  assert.equal(fs.statSync(path.join(m.cache, 'web1', 'restic')).mode & 0o777, 0o700)
})

/** web1, whose secrets a command gives that notes each call. */
async function counted(m: Machine, name = 'web1'): Promise<() => number> {
  const calls = path.join(m.dir, `calls-${name}`)
  const give = fake(m.dir, `give-${name}`, `echo x >>${calls}; echo "RESTIC_PASSWORD='${password}'"; echo B2_ACCOUNT_KEY=key-of-${name}`)
  await stored(m, name, { SECRET: 'command', SECRET_COMMAND: give })
  return () => (fs.existsSync(calls) ? fs.readFileSync(calls, 'utf8').length / 2 : 0)
}

test('in its context a target’s secrets are opened once; another target’s are opened as usual, and see nothing of the first', async (t) => {
  const m = machine(t)
  const calls = await counted(m)
  const other = await counted(m, 'web2')
  const script = ['list web1', 'stats web1', 'list web2', 'run web2 env']
  const inside = fake(m.dir, 'inside', script.map((line) => `${process.execPath} ${dist}/kedge.cjs ${line} || exit`).join('\n'))
  const { stdout } = await done(m, ['run', 'web1', inside])
  assert.deepEqual([calls(), other()], [1, 2])
  assert.ok(stdout.includes('B2_ACCOUNT_KEY=key-of-web2'))
  assert.ok(!stdout.includes('key-of-web1'))
  // Where something of the context was taken away it is opened anew.
  const without = fake(m.dir, 'without', `unset RESTIC_PASSWORD; ${process.execPath} ${dist}/kedge.cjs list web1`)
  await done(m, ['run', 'web1', without])
  assert.equal(calls(), 3)
})

test('a context of another configuration’s target of the same name decides nothing', async (t) => {
  const m = machine(t)
  const calls = await counted(m)
  const stray = { KEDGE_CONTEXT: 'web1', KEDGE_CONTEXT_KEYS: 'RESTIC_PASSWORD', RESTIC_PASSWORD: 'stray' }
  await done(m, ['list', 'web1'], { env: { ...stray, KEDGE_CONTEXT_DIR: '/elsewhere/targets/web1' } })
  await done(m, ['list', 'web1'], { env: stray })
  assert.equal(calls(), 2)
  const believed = await kedge(m, ['list', 'web1'], { env: { ...stray, KEDGE_CONTEXT_DIR: path.join(m.config, 'targets/web1') } })
  assert.equal(believed.status, 12, believed.stderr)
})

test('the status is the command’s, 128+n for a signal, and 1 for what cannot be started', async (t) => {
  const m = machine(t)
  plain(m, 'web1')
  const status = async (...words: string[]) => (await kedge(m, ['run', 'web1', ...words])).status
  assert.equal(await status('sh', '-c', 'exit 42'), 42)
  assert.equal(await status('sh', '-c', 'kill -9 $$'), 137)
  assert.equal(await status('list', '--nonsense'), 2)
  const missing = await kedge(m, ['run', 'web1', 'no-such-program'])
  assert.equal(missing.status, 1)
  assert.match(missing.stderr, /^kedge: cannot start 'no-such-program': not found in PATH\n$/)
})

for (const name of ['../web1', 'a/b', 'web1\n', '\x1b[2J', '', '..']) {
  test(`the name ${JSON.stringify(name)} is refused, and nothing runs`, async (t) => {
    const m = machine(t)
    plain(m, 'web1')
    const ran = path.join(m.dir, 'ran')
    const result = await kedge(m, ['run', name, 'touch', ran])
    assert.equal(result.status, 2)
    assert.match(result.stderr, /^kedge: not a target's name: '/)
    assert.doesNotMatch(result.stderr.trimEnd(), /[\x00-\x09\x0b-\x1f]/)
    assert.ok(!fs.existsSync(ran))
  })
}

const misuse: readonly (readonly [string, readonly string[], RegExp])[] = [
  ['no target', [], /operand missing: target/],
  ['--jobs for one target', ['-j', '2', 'web1', 'true'], /--jobs and --grouped go with/],
  ['an option behind the target', ['web1', '--all', 'true'], /not a command: '--all'/],
  ['no command for many', ['--all'], /operand missing: command/],
  ['--all and --group', ['--all', '--group', 'x', 'true'], /--all goes without/],
  ['no job at a time', ['--all', '-j', '0', 'true'], /at least one/],
  ['a group that is not there', ['--group', 'dbb', 'true'], /no target is in group 'dbb'\n {2}hint: the groups: db, www/],
  [
    'a pattern that nothing matches',
    ['--match', 'x*', 'true'],
    /no target's name matches 'x\*'\n {2}hint: kedge targets -q lists the names/,
  ],
]
test('what cannot be meant is misuse, and says what there is', async (t) => {
  const m = machine(t)
  plain(m, 'web1', { GROUP: 'www' })
  plain(m, 'web2', { GROUP: 'www db' })
  for (const [what, words, message] of misuse) {
    const result = await kedge(m, ['run', ...words])
    assert.equal(result.status, 2, what)
    assert.match(result.stderr, message, what)
  }
})

test('--explain prints the environment and the command as sh runs them, and nothing runs', async (t) => {
  const m = machine(t)
  const web1 = await stored(m, 'web1')
  const { lines } = await done(m, ['run', '--explain', 'web1', 'restic', 'cat', 'config'])
  const secrets = `. ${web1.dir}/target.env; . ${web1.dir}/secret.env`
  assert.deepEqual(lines, [`set -a; ${secrets}; set +a`, `RESTIC_CACHE_DIR=${m.cache}/web1/restic restic cat config`])
  assert.ok(!fs.existsSync(path.join(m.cache, 'web1')))
  const byHand = await startProgram(m, '/bin/sh', ['-c', lines.join('\n')]).result
  assert.equal(byHand.stdout, (await done(m, ['run', 'web1', 'restic', 'cat', 'config'])).stdout)
  assert.deepEqual((await done(m, ['run', '--explain', '--all', 'list', '-q'])).lines, [
    '(',
    `set -a; ${secrets}; set +a`,
    'kedge list web1 -q',
    ')',
  ])
})

test('a user has a cache of his own, where another’s is named', async (t) => {
  if (process.geteuid?.() !== 0) return t.skip('only root can become another user')
  const m = machine(t)
  const web1 = plain(m, 'web1')
  const uid = 4321
  fs.chmodSync(m.dir, 0o755)
  for (const folder of [m.config, path.dirname(web1.dir), m.home, m.state]) fs.chownSync(folder, uid, uid)
  execFileSync('chown', ['-R', `${uid}:${uid}`, web1.dir])
  fs.chmodSync(m.cache, 0o777)
  const env = seen((await done(m, ['run', 'web1', 'env'], { uid })).stdout)
  assert.equal(env.RESTIC_CACHE_DIR, path.join(m.home, '.cache/kedge/web1/restic'))
  assert.equal(env.KEDGE_CACHE_DIR, path.join(m.home, '.cache/kedge'))
  assert.equal(fs.statSync(env.RESTIC_CACHE_DIR ?? '').uid, uid)
  // And root, sent to a user's cache by his environment, leaves nothing of root's there.
  fs.chownSync(m.cache, uid, uid)
  fs.chownSync(path.join(web1.dir, 'target.env'), 0, 0)
  const { stdout } = await done(m, ['run', '--explain', 'web1', 'true'])
  assert.match(stdout, /^RESTIC_CACHE_DIR=\/var\/cache\/kedge\/web1\/restic true$/m)
})

test('SIGTERM, and SIGINT where there is no terminal, reach the program, and the status is its own', limit, async (t) => {
  const m = machine(t)
  plain(m, 'web1')
  for (const signal of ['SIGTERM', 'SIGHUP', 'SIGINT'] as const) {
    const script = `trap 'echo got; exit 5' ${signal.slice(3)}; echo ready; while :; do sleep 0.1; done`
    // detached is setsid: no terminal, whoever runs the tests.
    const child = spawn(process.execPath, [`${dist}/kedge.cjs`, 'run', 'web1', 'sh', '-c', script], {
      env: m.env,
      detached: true,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.after(() => child.kill('SIGKILL'))
    let out = ''
    child.stdout.on('data', (text) => {
      out += text
      if (String(text).includes('ready')) child.kill(signal)
    })
    const status = await new Promise((resolve) => child.on('close', resolve))
    assert.deepEqual([out, status], ['ready\ngot\n', 5], signal)
  }
})

test('^C on a terminal goes to the program, and kedge waits for what it does then', limit, async (t) => {
  const m = machine(t)
  plain(m, 'web1')
  const tty = terminal(m, dist, [
    `kedge run web1 sh -c 'trap "sleep 0.3; echo cleaned; exit 7" INT; echo rea""dy; while :; do sleep 0.1; done'`,
    'echo "status $?"',
  ])
  await tty.until('ready')
  tty.type('\x03')
  assert.match(await tty.end(), /cleaned\nstatus 7\n/)
})

const found = (name: string) => execFileSync('sh', ['-c', `command -v ${name} || true`], { encoding: 'utf8' }).trim()
for (const name of ['sh', 'bash', 'mksh', 'ksh93', 'zsh', 'fish']) {
  test(`${name} as a shell in the context: its prompt names the target, and no start file sets anything`, limit, async (t) => {
    const shell = found(name)
    if (!shell) return t.skip(`no ${name} here`)
    const m = machine(t)
    const web1 = plain(m, 'web1')
    for (const file of ['.bashrc', '.profile', '.bash_profile', '.mkshrc', '.kshrc', '.zshrc', '.zshenv', '.config/fish/config.fish']) {
      fs.mkdirSync(path.dirname(path.join(m.home, file)), { recursive: true })
      fs.writeFileSync(path.join(m.home, file), name === 'fish' ? 'set -gx RESTIC_REPOSITORY stray\n' : 'export RESTIC_REPOSITORY=stray\n')
    }
    const tty = terminal(m, dist, ['kedge run web1', 'echo "status $?, then ${RESTIC_PASSWORD-none}"'], { SHELL: shell })
    await tty.until(process.geteuid?.() === 0 ? 'kedge web1# ' : 'kedge web1$ ')
    tty.type('echo "<$RESTIC_REPOSITORY>"; exit 3\r')
    const screen = await tty.end()
    assert.ok(screen.includes(`<${web1.repository}>`), screen)
    assert.match(screen, /a shell in the context of 'web1': its secrets end with it/)
    assert.match(screen, /status 3, then none\n/)
  })
}

// --- many targets

test('a fleet: each line with its target, a table with the worst first, and the worst status', async (t) => {
  const m = machine(t)
  for (const name of ['a', 'b', 'c', 'd']) plain(m, name, { GROUP: name < 'c' ? 'first' : 'second' })
  fs.writeFileSync(path.join(m.config, 'targets/c/target.env'), 'NONSENSE=1\n')
  fs.rmSync(path.join(m.config, 'targets/d/secret.env'))
  const script = 'echo "one of $KEDGE_CONTEXT"; [ $KEDGE_CONTEXT = a ] && { echo "kedge: it went wrong" >&2; exit 3; }; echo two'
  const result = await kedge(m, ['run', '--all', '--', 'sh', '-c', script])
  assert.equal(result.status, 12)
  assert.deepEqual(result.lines.filter((line) => /\t(one|two)/.test(line)).sort(), ['a\tone of a', 'b\tone of b', 'b\ttwo'])
  assert.match(result.stderr, /^a: kedge: it went wrong$/m)
  assert.match(result.stderr, /^kedge: c: target 'c' is not valid:/m)
  const ended = result.lines.slice(-4).map((line) => line.split('\t'))
  assert.deepEqual(
    ended.map(([name, status]) => `${name} ${status}`),
    ['d 12', 'c 2', 'a 3', 'b 0'],
  )
  assert.match(ended[0]?.[3] ?? '', /secret\.env': no such file/)
  assert.equal(ended[2]?.[3], 'it went wrong')
  const matched = await kedge(m, ['run', '--match', '[ab]', '-q', '--', 'sh', '-c', 'echo $KEDGE_CONTEXT'])
  assert.deepEqual([matched.status, matched.lines.sort()], [0, ['a', 'b']])
  // Of a target that does not load nobody knows the group.
  const grouped = await kedge(m, ['run', '--json', '--group', 'first', '--', 'true'])
  assert.deepEqual(
    outcomes(grouped.rows).map(({ target, status }) => `${target} ${status}`),
    ['c 2', 'a 0', 'b 0'],
  )
})

test('a verb on a fleet with --json: the rows of all carry their targets, and what is no JSON is an output row', async (t) => {
  const m = machine(t)
  await stored(m, 'a')
  const b = await stored(m, 'b')
  const { rows } = await done(m, ['run', '--all', '--json', '--', 'check'])
  assert.deepEqual(rows.map((row) => `${row.kind} ${'target' in row ? row.target : ''}`).sort(), [
    'checked a',
    'checked b',
    'outcome a',
    'outcome b',
  ])
  const files = await done(m, ['run', '--all', '--json', '--', 'files'])
  const entries = files.rows.filter((row) => row.kind === 'entry') as unknown as { target: string; path: string }[]
  assert.deepEqual([...new Set(entries.map(({ target }) => target))].sort(), ['a', 'b'])
  const text = await done(m, ['run', '--match', 'a', '--json', '--', 'sh', '-c', 'echo plain; echo "{\\"x\\":1}"'])
  assert.deepEqual(text.lines.slice(0, 2), ['{"kind":"output","target":"a","line":"plain"}', '{"x":1,"target":"a"}'])
  fs.rmSync(path.join(b.repository, 'config'))
  const broken = await kedge(m, ['run', '--all', '--json', '--', 'list'])
  assert.equal(broken.status, 10)
  assert.deepEqual(
    outcomes(broken.rows).map(({ target, status }) => `${target} ${status}`),
    ['b 10', 'a 0'],
  )
  const said = broken.stderr.split('\n').find((line) => line.startsWith('{'))
  assert.equal((JSON.parse(said ?? '{}') as { target?: string }).target, 'b')
})

test('no more run at a time than --jobs says, four without', limit, async (t) => {
  const m = machine(t)
  for (let i = 0; i < 6; i++) plain(m, `web${i}`)
  const running = path.join(m.dir, 'running')
  fs.mkdirSync(running)
  // Each stays until as many as may run have met, and then so long that one too many would come, and says how many it met.
  const most = async (wanted: number, ...options: string[]) => {
    const met = path.join(m.dir, `met${wanted}`)
    const script = `mkdir ${running}/$KEDGE_CONTEXT; i=0
      until [ -e ${met} ] || [ $i -ge 300 ]; do [ $(ls ${running} | wc -l) -lt ${wanted} ] || : >${met}; i=$((i+1)); sleep 0.1; done
      sleep 0.3; ls ${running} | wc -l; rmdir ${running}/$KEDGE_CONTEXT`
    const { lines } = await done(m, ['run', '--all', '-q', ...options, '--', 'sh', '-c', script])
    assert.equal(lines.length, 6)
    return Math.max(...lines.map(Number))
  }
  assert.equal(await most(2, '-j', '2'), 2)
  assert.equal(await most(4), 4)
  assert.equal(await most(1, '--jobs=1'), 1)
})

test('--grouped prints each target’s output as a whole, from a file that has no name left', limit, async (t) => {
  const m = machine(t)
  for (const name of ['a', 'b', 'c']) plain(m, name)
  const script = 'i=0; while [ $i -lt 30 ]; do echo $i; i=$((i+1)); sleep 0.01; done; printf unended'
  const tmp = path.join(m.dir, 'tmp')
  fs.mkdirSync(tmp)
  const { lines } = await done(m, ['run', '--all', '--grouped', '--', 'sh', '-c', script], { env: { TMPDIR: tmp } })
  const names = lines.slice(0, -3).map((line) => line.split('\t')[0])
  assert.equal(names.filter((name, i) => name !== names[i - 1]).length, 3)
  for (const name of ['a', 'b', 'c']) {
    const own = lines.slice(0, -3).flatMap((line) => (line.startsWith(`${name}\t`) ? [line.slice(2)] : []))
    assert.deepEqual(own, [...Array.from({ length: 30 }, (_, i) => String(i)), 'unended'])
  }
  assert.deepEqual(fs.readdirSync(tmp), [])
})

test('^C ends all children, and tells of those that were begun', limit, async (t) => {
  const m = machine(t)
  for (const name of ['a', 'b', 'c', 'd']) plain(m, name)
  const pids = path.join(m.dir, 'pids')
  const script = `trap 'echo cleaned; exit 1' INT; echo $$ >>${pids}; echo up; while :; do sleep 0.1; done`
  const running = start(m, ['run', '--all', '--json', '-j', '2', '--', 'sh', '-c', script])
  await running.until(/up(.|\n)*up/)
  running.child.kill('SIGINT')
  const result = await running.result
  assert.equal(result.status, 130)
  assert.deepEqual(
    outcomes(result.rows).map(({ target, status, message }) => [target, status, message]),
    [
      ['a', 130, 'stopped'],
      ['b', 130, 'stopped'],
    ],
  )
  assert.equal(result.lines.filter((line) => line.includes('cleaned')).length, 2)
  assert.match(result.stderr, /2 of 4 targets were not begun/)
  for (const pid of fs.readFileSync(pids, 'utf8').trim().split('\n')) assert.throws(() => process.kill(Number(pid), 0), /ESRCH/)
})

test('a reader that goes away ends what only prints, as in any pipe, and no backup', limit, async (t) => {
  const m = machine(t)
  const program = `${process.execPath} ${dist}/kedge.cjs`
  for (const name of ['a', 'b', 'c']) {
    const target = newTarget(m, name, { paths: [m.home] })
    await makeStore(m, target)
  }
  const endless = await startProgram(m, '/bin/sh', ['-c', `${program} run --all -- yes | head -n 1; echo over`]).result
  assert.match(endless.stdout, /^[abc]\ty\nover\n$/)
  const saving = `(sleep 0.2; ${program} run --all -j 1 -- backup) | true; echo over`
  assert.equal((await startProgram(m, '/bin/sh', ['-c', saving]).result).stdout, 'over\n')
  for (const name of ['a', 'b', 'c']) assert.equal((await done(m, ['list', name, '-q'])).lines.length, 1, name)
})

// --- passphrases

// A short path: the agent's sockets lie in it where there is no /run/user.
const gnupg = fs.mkdtempSync('/tmp/kg-')
after(() => {
  execFileSync('gpgconf', ['--kill', 'all'], { env: { ...process.env, GNUPGHOME: gnupg } })
  fs.rmSync(gnupg, { recursive: true, force: true, maxRetries: 5 })
})

/** A target whose secrets gpg encrypted to a passphrase. */
function sealed(m: Machine, name: string, passphrase: string): void {
  seal(plain(m, name, { SECRET: 'gpg' }), passphrase)
}

function seal({ dir, password }: NewTarget, passphrase: string): void {
  fs.rmSync(path.join(dir, 'secret.env'))
  const args = ['--batch', '--quiet', '--pinentry-mode', 'loopback', '--passphrase', passphrase, '--s2k-mode', '1']
  execFileSync('gpg', [...args, '--symmetric', '--output', path.join(dir, 'secret.env.gpg')], {
    input: `RESTIC_PASSWORD='${password}'\n`,
    env: { ...process.env, GNUPGHOME: gnupg },
  })
}

const tell = `sh -c 'echo "<$KEDGE_CONTEXT $RESTIC_PASSWORD>"'`

test('one question serves all targets that share a passphrase; another is asked for once more, three times at most', limit, async (t) => {
  const m = machine(t)
  for (const name of ['a', 'b', 'c']) sealed(m, name, 'the common one')
  sealed(m, 'd', 'another')
  sealed(m, 'e', 'forgotten')
  sealed(m, 'f', 'the common one')
  const tty = terminal(m, dist, [`kedge run --all -- ${tell}`, 'echo "status $?"'])
  const asked = 'passphrase for '
  await tty.until(asked)
  tty.type('a mistake\r')
  await tty.until(asked, 2)
  tty.type('the common one\r')
  await tty.until(`${asked}'${m.config}/targets/d`)
  tty.type('another\r')
  for (let time = 1; time <= 3; time++) {
    await tty.until(`${asked}'${m.config}/targets/e`, time)
    tty.type('no idea\r')
  }
  const screen = await tty.end()
  for (const name of ['a', 'b', 'c', 'd', 'f']) assert.ok(screen.includes(`${name}: <${name} a password for ${name}>`), screen)
  assert.equal(screen.split(asked).length - 1, 6, screen)
  assert.equal(screen.split('wrong passphrase; passphrase for').length - 1, 3, screen)
  assert.match(screen, /kedge: e: cannot open '.*\/e\/secret\.env\.gpg': wrong passphrase\n/)
  assert.match(screen, /status 12\n/)
  assert.ok(!screen.includes('the common one') && !screen.includes('another'), screen)
})

test('^C at the question calls off what was not begun, and ends what was', limit, async (t) => {
  const m = machine(t)
  plain(m, 'a')
  sealed(m, 'b', 'secret')
  plain(m, 'c')
  const script = `trap "echo ended; exit 0" INT; echo ready; while :; do sleep 0.1; done`
  const tty = terminal(m, dist, [`kedge run --all -j 2 -- sh -c '${script}'`, 'echo "status $?"'])
  await tty.until('a: ready')
  await tty.until('passphrase for ')
  tty.type('\x03')
  const screen = await tty.end()
  assert.match(screen, /a: ended\n/)
  assert.match(screen, /2 of 3 targets were not begun/)
  assert.match(screen, /status 130\n/)
})

test('with --passphrase-fd nobody is asked: its passphrase is tried on each file', limit, async (t) => {
  const m = machine(t)
  for (const name of ['a', 'b']) sealed(m, name, 'the common one')
  sealed(m, 'c', 'another')
  const result = await kedge(m, ['run', '--passphrase-fd', '0', '--all', '--json', '--', 'true'], { input: 'the common one\n' })
  assert.deepEqual(
    outcomes(result.rows).map(({ target, status }) => `${target} ${status}`),
    ['c 12', 'a 0', 'b 0'],
  )
  assert.equal(result.status, 12)
})

test('a second store whose secrets a passphrase opens is asked for by kedge run, once for all who copy there', {
  timeout: 120_000,
}, async (t) => {
  const m = machine(t)
  const web1 = await stored(m, 'web1', { COPY_TO: 'vault', COPY_AFTER_BACKUP: 'yes' })
  await stored(m, 'web2', { COPY_TO: 'vault lost', COPY_AFTER_BACKUP: 'no' })
  const vault = newTarget(m, 'vault', { env: { SECRET: 'gpg', SNAPSHOTS_OF: 'web1 web2' } })
  await makeStore(m, vault, web1)
  seal(vault, 'of the vault')
  const copied = async () => {
    const { stdout } = await restic(m, vault, ['snapshots', '--json', '--no-lock'])
    return (JSON.parse(stdout) as { tags: string[] }[]).map(({ tags }) => tags[0]).sort()
  }
  const tty = terminal(m, dist, ["kedge run --match 'web*' -- copy --wait 60s --to vault", 'echo "status $?"'])
  await tty.until('passphrase for ')
  tty.type('of the vault\r')
  const screen = await tty.end()
  assert.match(screen, /status 0\n/)
  assert.equal(screen.split('passphrase for ').length - 1, 1, screen)
  assert.deepEqual(await copied(), ['kedge:web1', 'kedge:web2'])
  const run = ['run', '--passphrase-fd', '0', '--json', '--match', 'web*', '--']
  const saved = await kedge(m, [...run, 'backup'], { input: 'of the vault\n' })
  assert.equal(saved.status, 0, saved.stderr)
  assert.deepEqual(await copied(), ['kedge:web1', 'kedge:web1', 'kedge:web2'])
  // What does not open fails where it is used; the others are copied to.
  const part = await kedge(m, [...run, 'copy', '--wait', '60s'], { input: 'of the vault\n' })
  assert.deepEqual(
    outcomes(part.rows).map(({ target, status }) => `${target} ${status}`),
    ['web2 3', 'web1 0'],
  )
  const wrong = await kedge(m, [...run, 'copy', '--to=vault'], { input: 'no idea\n' })
  assert.notEqual(wrong.status, 0)
  assert.match(wrong.stderr, /^web1: .*vault.*: wrong passphrase/m)
  // No program gets what only a copy wants.
  assert.ok(!(await done(m, [...run, 'env'], { input: 'of the vault\n' })).stdout.includes(vault.password))
})
