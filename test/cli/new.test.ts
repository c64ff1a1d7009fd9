// kedge new: what it writes, from options and from questions, and that nothing is written where something is wrong.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { cheapen } from '../cheap.ts'
import { dist, done, envText, growTree, kedge, type Machine, machine, newest, restic, sameTree, startProgram } from '../harness.ts'

const program = path.join(dist, 'kedge.cjs')
const folder = (m: Machine, name: string) => path.join(m.config, 'targets', name)
const read = (m: Machine, name: string, file: string) => fs.readFileSync(path.join(folder(m, name), file), 'utf8')
const passwordIn = (text: string) => /^RESTIC_PASSWORD='?([^'\n]+)/m.exec(text)?.[1] ?? assert.fail('no password')

/** Runs kedge with descriptors 3 and 4 open on these texts. */
function giving(m: Machine, args: readonly string[], texts: readonly string[]) {
  const files = texts.map((text, i) => {
    const file = path.join(m.dir, `fd${i + 3}`)
    fs.writeFileSync(file, text)
    return `${i + 3}<${file}`
  })
  return startProgram(m, '/bin/sh', ['-c', `exec "$@" ${files.join(' ')}`, 'sh', process.execPath, program, ...args]).result
}

/** A home for gpg; a short path, since the agent's sockets lie in it. Gives what runs gpg there. */
function gpgHome(t: TestContext, m: Machine) {
  const home = fs.mkdtempSync('/tmp/kn-')
  m.env.GNUPGHOME = home
  const env = { ...process.env, GNUPGHOME: home }
  t.after(() => {
    execFileSync('gpgconf', ['--kill', 'all'], { env })
    fs.rmSync(home, { recursive: true, force: true, maxRetries: 5 })
  })
  return (args: readonly string[]) => execFileSync('gpg', ['--batch', '--quiet', ...args], { env, stdio: 'ignore' })
}

test('a new target is closed to others, has a password of its own and a sheet, and can be saved to and restored from at once', async (t) => {
  const m = machine(t)
  const tree = path.join(m.dir, 'tree')
  fs.mkdirSync(tree)
  growTree(tree)
  fs.writeFileSync(path.join(tree, 'left.out'), 'not saved\n')
  const repository = path.join(m.dir, 'r')
  const args = [
    'new',
    'web1',
    '--path',
    tree,
    '--repo',
    repository,
    '--secret',
    'file',
    '--exclude',
    '*.out',
    '--keep',
    'last=3,within-daily=14d',
  ]
  const result = await done(m, args)
  const files = ['exclude', 'paths', 'recovery.txt', 'secret.env', 'target.env']
  assert.deepEqual(fs.readdirSync(folder(m, 'web1')).sort(), files)
  assert.deepEqual(result.lines.map((line) => path.basename(line.split('\t')[0] ?? '')).sort(), files)
  assert.equal(fs.statSync(folder(m, 'web1')).mode & 0o777, 0o700)
  assert.equal(fs.statSync(path.join(folder(m, 'web1'), 'secret.env')).mode & 0o777, 0o400)
  assert.equal(fs.statSync(path.join(folder(m, 'web1'), 'target.env')).mode & 0o777, 0o600)
  assert.deepEqual(fs.readdirSync(path.join(m.config, 'targets')), ['web1'])
  const password = passwordIn(read(m, 'web1', 'secret.env'))
  assert.ok(password.length > 30)
  assert.ok(!`${result.stdout}${result.stderr}${read(m, 'web1', 'recovery.txt')}`.includes(password), 'the password is shown nowhere')
  assert.match(result.stderr, /keep a copy on another machine, with the recovery sheet/)
  assert.match(read(m, 'web1', 'target.env'), /^KEEP_LAST=3\nKEEP_WITHIN_DAILY=14d\n/m)

  await done(m, ['init', 'web1'])
  cheapen(repository, password)
  await done(m, ['backup', 'web1'])
  const to = path.join(m.dir, 'out')
  await restic(m, { name: 'web1', dir: '', repository, password }, ['restore', 'latest', '--target', to])
  fs.rmSync(path.join(tree, 'left.out'))
  fs.utimesSync(tree, 1_100_000_000, 1_100_000_000.25)
  fs.utimesSync(path.join(to, tree), 1_100_000_000, 1_100_000_000.25)
  sameTree(path.join(to, tree), tree)
})

test('two targets never get the same password', async (t) => {
  const m = machine(t)
  for (const name of ['a', 'b']) await done(m, ['new', name, '--path', m.home, '--repo', `/srv/${name}`, '--secret', 'file'])
  assert.notEqual(passwordIn(read(m, 'a', 'secret.env')), passwordIn(read(m, 'b', 'secret.env')))
})

test('a target that exists is not touched', async (t) => {
  const m = machine(t)
  const args = ['new', 'web1', '--path', m.home, '--repo', '/srv/r', '--secret', 'file']
  await done(m, args)
  const before = fs.readdirSync(folder(m, 'web1')).map((file) => read(m, 'web1', file))
  const again = await kedge(m, [...args, '--keep', 'last=1'])
  assert.equal(again.status, 2)
  assert.match(again.stderr, /target 'web1' exists/)
  assert.deepEqual(
    fs.readdirSync(folder(m, 'web1')).map((file) => read(m, 'web1', file)),
    before,
  )
})

test('what is wrong or missing is misuse, is named, and leaves nothing behind', async (t) => {
  const m = machine(t)
  const whole = ['--path', '/etc', '--repo', '/srv/r', '--secret', 'file']
  const cases: [string[], RegExp][] = [
    [['--repo', '/srv/r', '--secret', 'file'], /option missing: --path/],
    [['--path', '/etc', '--secret', 'file'], /option missing: --repo/],
    [['--path', '/etc', '--repo', '/srv/r'], /option missing: --secret/],
    [['--path', '/etc', '--repo', '/srv/r', '--secret', 'gpg'], /option missing: --passphrase-fd or --recipient/],
    [['--path', '/etc', '--repo', '/srv/r', '--secret', 'vault'], /option '--secret': not one of gpg/],
    [['--path', '/etc', '--repo', '/srv/r', '--secret', 'none'], /needs --set RESTIC_PASSWORD_FILE/],
    [['--path', '/etc', '--repo', '/srv/r', '--secret', 'command'], /option missing: --set SECRET_COMMAND/],
    [[...whole, '--existing'], /option missing: --password-fd/],
    [[...whole, '--password-fd', '3'], /'--password-fd' needs --existing/],
    [[...whole, '--recipient', 'me'], /'--recipient' is for --secret gpg/],
    [[...whole, '--keep', 'dayly=7'], /'--keep': not a rule: 'dayly=7'/],
    [[...whole, '--keep', 'daily=7,daily=8'], /'daily' is given twice/],
    [[...whole, '--keep', 'daily=many'], /KEEP_DAILY: 'many' is not a whole number/],
    [[...whole, '--schedule', '99 * * * *'], /'--schedule': minute '99'/],
    [[...whole, '--set', 'KEEP_DAYLY=7'], /targets\/web1\/target\.env:\d+: KEEP_DAYLY: unknown key, did you mean KEEP_DAILY/],
    [[...whole, '--set', 'TZ=Mars/Olympus'], /TZ: not a time zone/],
    [[...whole, '--set', 'SECRET=none'], /SECRET is --secret/],
    [[...whole, '--set', 'AWS_SECRET_ACCESS_KEY=hush'], /refusing AWS_SECRET_ACCESS_KEY/],
    [[...whole, '--exclude', 'two\nlines'], /not a pattern of one line/],
    [['--path', '/a\nb', '--repo', '/srv/r', '--secret', 'file'], /line end does not fit/],
    [['--path', '/etc', '--repo', 'rest:https://me:hush@host/', '--secret', 'file'], /it holds a password/],
    [['--path', '/etc', '--repo', 'stfp:host:/r', '--secret', 'file'], /not a repository: 'stfp:host:\/r'/],
    [[...whole, '--engine', 'rsnyc'], /option '--engine': not one of restic, rsync: 'rsnyc'/],
    [[...whole, '--engine', 'rsync'], /option '--repo' is for --engine restic/],
    [[...whole, '--source-host', 'h'], /option '--source-host' is for --engine rsync/],
    [[...whole, '--set', 'ENGINE=rsync'], /ENGINE is --engine/],
    [[...whole, '--set', 'STORE=/srv'], /STORE is --store/],
    [['--path', '/etc', '--store', '/srv', '--repo', '/srv/r', '--secret', 'file'], /option '--store' is for --engine rsync/],
    [['--path', '/etc', '--engine', 'rsync'], /option missing: --store/],
    [['--path', '/etc', '--store', 'me@host:/srv'], /not a folder of this machine: 'me@host:\/srv'/],
    [['--path', '/etc', '--store', '/srv', '--secret', 'file'], /option '--secret file' needs --secrets-fd/],
    [['--path', '/etc', '--store', '/srv', '--existing', '--password-fd', '3'], /'--password-fd': the store has no password/],
    [['--path', '/etc', '--store', '/srv', '--source-port', '22'], /'--source-port' needs --source-host/],
    [['--path', 'etc', '--store', '/srv', '--source-host', 'h'], /not an absolute path: 'etc'/],
    [['--path', '/etc', '--store', '/srv', '--set', 'RESTIC_COMPRESSION=max'], /target\.env:\d+: RESTIC_COMPRESSION: unknown key/],
    [
      ['--path', '/etc', '--store', '/srv', '--source-host', 'root@host:/x'],
      /'--source-host': a host has no path and no port: 'root@host:\/x'/,
    ],
    [['--path', '/etc', '--store', '/srv', '--source-host', 'host:x'], /'--source-host': a host has no path/],
    [['--path', '/etc', '--store', '/srv', '--source-host=-oProxyCommand=x'], /'--source-host': not a host/],
    [['--copy-of', 'nobody', '--repo', '/srv/r', '--secret', 'file'], /no target 'nobody'/],
  ]
  for (const [args, message] of cases) {
    const result = await kedge(m, ['new', 'web1', ...args])
    assert.equal(result.status, 2, `${args.join(' ')}: ${result.status}\n${result.stderr}`)
    assert.match(result.stderr, message)
    assert.ok(!result.stderr.includes('hush'), 'a secret is not repeated')
    assert.deepEqual(fs.existsSync(path.join(m.config, 'targets')) ? fs.readdirSync(path.join(m.config, 'targets')) : [], [])
  }
})

test('a path that is missing, and a repository inside the paths, are said and allowed', async (t) => {
  const m = machine(t)
  const result = await done(m, ['new', 'web1', '--path', m.home, '--path', '/no/such', '--repo', `${m.home}/r`, '--secret', 'file'])
  assert.match(result.stderr, /the path '\/no\/such' is not there now/)
  assert.match(result.stderr, /the store lies in '.*home'.*leaves the store itself out/)
})

test('what defaults.env says already is not written again', async (t) => {
  const m = machine(t)
  fs.writeFileSync(path.join(m.config, 'defaults.env'), envText({ KEEP_WEEKLY: '9', SCHEDULE_BACKUP: '@daily', SECRET: 'file' }))
  await done(m, ['new', 'web1', '--path', m.home, '--repo', '/srv/r'])
  assert.doesNotMatch(read(m, 'web1', 'target.env'), /^(KEEP_|SCHEDULE_)/m)
  assert.match((await done(m, ['config', 'web1', 'KEEP_WEEKLY'])).stdout, /^KEEP_WEEKLY\t9\t.*defaults\.env:1$/m)
})

test('with a passphrase the secrets are such that gpg opens them, and kedge too', async (t) => {
  const m = machine(t)
  gpgHome(t, m)
  const result = await giving(m, ['new', 'web1', '--path', m.home, '--repo', '/srv/r', '--passphrase-fd', '3'], ['open sesame\n'])
  assert.equal(result.status, 0, result.stderr)
  const args = [
    '--batch',
    '--pinentry-mode',
    'loopback',
    '--passphrase',
    'open sesame',
    '--decrypt',
    path.join(folder(m, 'web1'), 'secret.env.gpg'),
  ]
  const opened = await startProgram(m, 'gpg', args).result
  assert.ok(passwordIn(opened.stdout).length > 30, opened.stderr)
  const listed = await giving(m, ['config', 'web1', '--secrets', 'RESTIC_PASSWORD', '--passphrase-fd', '3'], ['open sesame\n'])
  assert.equal(listed.stdout, 'RESTIC_PASSWORD\t(secret)\tSECRET=gpg\n')
})

test('with a recipient the secrets are encrypted to that key', async (t) => {
  const m = machine(t)
  const key = 'new@example.org'
  gpgHome(t, m)(['--pinentry-mode', 'loopback', '--passphrase', '', '--quick-gen-key', key, 'default', 'default', 'never'])
  await done(m, ['new', 'web1', '--path', m.home, '--repo', '/srv/r', '--recipient', key])
  const opened = await startProgram(m, 'gpg', ['--batch', '--decrypt', path.join(folder(m, 'web1'), 'secret.env.gpg')]).result
  assert.ok(passwordIn(opened.stdout).length > 30, opened.stderr)
})

test('an existing repository keeps its password, and further secrets come from a descriptor', async (t) => {
  const m = machine(t)
  const args = [
    'new',
    'web1',
    '--path',
    m.home,
    '--repo',
    's3:https://s3.example/b',
    '--secret',
    'file',
    '--existing',
    '--password-fd',
    '3',
  ]
  const secrets = "AWS_ACCESS_KEY_ID=AKIA1\nAWS_SECRET_ACCESS_KEY='it'\\''s a key'\n"
  const result = await giving(m, [...args, '--secrets-fd', '4'], ["the old word's\n", secrets])
  assert.equal(result.status, 0, result.stderr)
  assert.match(result.stderr, /next: kedge init --adopt web1;/)
  assert.equal(read(m, 'web1', 'secret.env'), `RESTIC_PASSWORD='the old word'\\''s'\n${secrets}`)
})

test('a secret command gets what it has to give printed once, and with --existing is asked for it', async (t) => {
  const m = machine(t)
  const vault = path.join(m.dir, 'vault')
  const args = ['--path', m.home, '--repo', '/srv/r', '--secret', 'command', '--set', `SECRET_COMMAND=cat ${vault}`]
  const missing = await kedge(m, ['new', 'web0', ...args, '--existing'])
  assert.equal(missing.status, 12)
  assert.ok(!fs.existsSync(folder(m, 'web0')))
  const result = await done(m, ['new', 'web1', ...args])
  fs.writeFileSync(vault, `${result.lines.find((line) => line.startsWith('RESTIC_PASSWORD='))}\n`)
  assert.ok(!result.stderr.includes(passwordIn(result.stdout)))
  assert.equal((await done(m, ['config', 'web1', '--secrets', 'RESTIC_PASSWORD'])).stdout, 'RESTIC_PASSWORD\t(secret)\tSECRET=command\n')
  const second = await done(m, ['new', 'web2', ...args, '--existing'])
  assert.doesNotMatch(second.stdout, /RESTIC_PASSWORD/)
})

test('a second store holds the snapshots of the first, which names it, comments and all', async (t) => {
  const m = machine(t)
  await done(m, ['new', 'web1', '--path', m.home, '--repo', '/srv/r', '--secret', 'file'])
  const env = path.join(folder(m, 'web1'), 'target.env')
  fs.appendFileSync(env, "# of old\nCOPY_TO=tape # and more\nTAGS='a b'\n")
  const before = fs.readFileSync(env, 'utf8')
  await done(m, ['new', 'off', '--copy-of', 'web1', '--repo', '/srv/off', '--secret', 'file'])
  assert.equal(fs.readFileSync(env, 'utf8'), before.replace('COPY_TO=tape #', "COPY_TO='tape off' #"))
  assert.equal((await done(m, ['config', 'off', 'SNAPSHOTS_OF'])).lines[0]?.split('\t')[1], 'web1')
  assert.ok(!fs.existsSync(path.join(folder(m, 'off'), 'paths')))
  const wrong = await kedge(m, ['new', 'off2', '--copy-of', 'web1', '--path', '/etc', '--repo', '/srv/o', '--secret', 'file'])
  assert.equal(wrong.status, 2)
  assert.match(wrong.stderr, /'--path' does not go with --copy-of/)
})

test('a dry run writes nothing, and what --explain prints makes the same target by plain sh', async (t) => {
  const m = machine(t)
  const args = ['new', 'web1', '--path', `${m.home}/it's`, '--repo', `${m.dir}/r`, '--secret', 'file', '--set', "TAGS=a 'b' $c"]
  const dry = await done(m, [...args, '-n'])
  assert.deepEqual(
    dry.lines.map((line) => line.split('\t')[1]),
    ['would write', 'would write', 'would write', 'would write'],
  )
  const { stdout } = await done(m, [...args, '--explain'])
  assert.deepEqual(fs.readdirSync(m.config), [])
  const shell = await startProgram(m, '/bin/sh', ['-e'], { input: stdout }).result
  assert.equal(shell.status, 0, shell.stderr)
  const byHand = await done(m, ['config', 'web1'])
  const plain = ['paths', 'target.env'].map((file) => read(m, 'web1', file))
  assert.ok(passwordIn(read(m, 'web1', 'secret.env')).length > 30)
  fs.rmSync(folder(m, 'web1'), { recursive: true })
  await done(m, args)
  assert.equal((await done(m, ['config', 'web1'])).stdout, byHand.stdout)
  assert.deepEqual(
    ['paths', 'target.env'].map((file) => read(m, 'web1', file)),
    plain,
  )
})

/** On a terminal of its own: each question answered in turn. */
async function onTerminal(m: Machine, args: readonly string[], answers: readonly (readonly [string, string])[]): Promise<string> {
  const line = [process.execPath, program, ...args].map((word) => `'${word}'`).join(' ')
  const child = spawn('script', ['-q', '-e', '-c', line, '/dev/null'], { env: { ...m.env, TERM: 'dumb', SHELL: '/bin/sh' }, stdio: 'pipe' })
  m.t.after(() => child.kill('SIGKILL'))
  let screen = ''
  let from = 0
  let look = () => {}
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    screen += text
    look()
  })
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve))
  for (const [question, answer] of answers) {
    await new Promise<void>((resolve, reject) => {
      look = () => {
        const at = screen.indexOf(question, from)
        if (at < 0) return
        from = at + question.length
        resolve()
      }
      look()
      ended.then(() => reject(new Error(`no '${question}' in:\n${screen}`)))
    })
    child.stdin.write(`${answer}\r`)
  }
  assert.equal(await ended, 0, screen)
  return screen
}

test('on a terminal it asks for what is missing, shows the defaults, and the passphrase nowhere', { timeout: 30_000 }, async (t) => {
  const m = machine(t, newest())
  gpgHome(t, m)
  const screen = await onTerminal(
    m,
    ['new', 'web1'],
    [
      ['rsync (plain folders with hard links) [restic]:', ''],
      ['a folder or file to save:', '/etc'],
      ['another folder or file to save [none]:', m.home],
      ['another folder or file to save [none]:', ''],
      ['the repository', 'sftp:me@host:/srv/r'],
      ['a pattern to leave out [none]:', ''],
      ['what prune keeps [daily=7,weekly=5,monthly=12,yearly=3]:', 'daily=2'],
      ['when a backup is due (cron) [H H(1-5) * * *]:', ''],
      ['none [gpg]:', ''],
      ['[none: a passphrase]:', ''],
      ['a new passphrase', 'open sesame'],
      ['the same again', 'open sesame'],
    ],
  )
  assert.ok(!screen.includes('sesame'))
  assert.match(read(m, 'web1', 'paths'), new RegExp(`^/etc\n${m.home}\n$`, 'm'))
  const settings = (await done(m, ['config', 'web1', 'RESTIC_REPOSITORY', 'KEEP_DAILY', 'SCHEDULE_BACKUP', 'SECRET'])).lines
  assert.deepEqual(
    settings.map((line) => line.split('\t')[1]),
    ['sftp:me@host:/srv/r', '2', 'H H(1-5) * * *', 'gpg'],
  )
  const listed = await giving(m, ['config', 'web1', '--secrets', 'RESTIC_PASSWORD', '--passphrase-fd', '3'], ['open sesame\n'])
  assert.equal(listed.status, 0, listed.stderr)
})

test('a target of rsync has a store, a host to pull from, no password, and can be saved to and restored from at once', async (t) => {
  const m = machine(t)
  const tree = path.join(m.dir, 'tree')
  fs.mkdirSync(tree)
  growTree(tree)
  const store = path.join(m.dir, 'store')
  // What the house has for restic's targets is not this one's.
  fs.writeFileSync(path.join(m.config, 'defaults.env'), envText({ SECRET: 'gpg', RESTIC_COMPRESSION: 'max' }))
  const args = ['new', 'web1', '--path', tree, '--store', store, '--keep', 'last=3', '--schedule', '@daily']
  const { stderr } = await done(m, args)
  assert.deepEqual(fs.readdirSync(folder(m, 'web1')).sort(), ['paths', 'recovery.txt', 'target.env'])
  assert.doesNotMatch(stderr, /password/)
  assert.match(stderr, /nothing encrypts the snapshots/)
  assert.match(stderr, /next: kedge init web1; kedge backup web1; kedge doctor web1/)
  assert.match(read(m, 'web1', 'target.env'), new RegExp(`^ENGINE=rsync\nSTORE=${store}\nSECRET=none$`, 'm'))
  await done(m, ['init', 'web1'])
  await done(m, ['backup', 'web1'])
  const to = path.join(m.dir, 'out')
  await done(m, ['restore', 'web1', 'latest', '--to', to])
  sameTree(path.join(to, tree), tree)

  const pulled = await done(m, [
    'new',
    'web2',
    '--path',
    '/srv/www',
    '--store',
    store,
    '--source-host',
    'root@web2',
    '--source-port',
    '2222',
  ])
  assert.match(pulled.stderr, /next: kedge key web2; kedge init web2/)
  assert.doesNotMatch(pulled.stderr, /is not there now/)
  assert.match(read(m, 'web2', 'target.env'), /^SOURCE_HOST=root@web2\nSOURCE_PORT=2222$/m)

  await done(m, ['new', 'off', '--copy-of', 'web1', '--store', path.join(m.dir, 'off')])
  const settings = (await done(m, ['config', 'off', 'ENGINE', 'SNAPSHOTS_OF', 'STORE'])).lines.map((line) => line.split('\t')[1])
  assert.deepEqual(settings, ['rsync', 'web1', path.join(m.dir, 'off')])
})

test('a target of rsync may have secrets of its own, which hold no password of a store', async (t) => {
  const m = machine(t)
  const args = ['new', 'web1', '--path', m.home, '--store', '/srv/store', '--secret', 'file', '--secrets-fd', '3']
  const result = await giving(m, args, ["SMTP_PASSWORD='hush'\n"])
  assert.equal(result.status, 0, result.stderr)
  assert.equal(read(m, 'web1', 'secret.env'), 'SMTP_PASSWORD=hush\n')
  assert.match(result.stderr, /the target's secrets are in plain text/)
})

test('what --explain prints for a target of rsync makes the same one by plain sh', async (t) => {
  const m = machine(t)
  const args = ['new', 'web1', '--path', m.home, '--store', `${m.dir}/my store`, '--source-host', 'web1']
  const { stdout } = await done(m, [...args, '--explain'])
  const byHand = await startProgram(m, '/bin/sh', ['-e'], { input: stdout }).result
  assert.equal(byHand.status, 0, byHand.stderr)
  const files = ['paths', 'target.env'].map((file) => read(m, 'web1', file))
  fs.rmSync(folder(m, 'web1'), { recursive: true })
  await done(m, args)
  assert.deepEqual(
    ['paths', 'target.env'].map((file) => read(m, 'web1', file)),
    files,
  )
})

test('on a terminal the engine is asked for, and for rsync the host and the folder, and no secret', { timeout: 30_000 }, async (t) => {
  const m = machine(t)
  await onTerminal(
    m,
    ['new', 'web1'],
    [
      ['rsync (plain folders with hard links) [restic]:', 'rsync'],
      ['[this machine]:', 'root@web1'],
      ['a folder or file to save:', '/etc'],
      ['another folder or file to save [none]:', ''],
      ['the folder that is to hold the snapshots', '/srv/store'],
      ['a pattern to leave out [none]:', '*.o'],
      ['a pattern to leave out [none]:', ''],
      ['what prune keeps', ''],
      ['when a backup is due (cron)', ''],
    ],
  )
  const settings = (await done(m, ['config', 'web1', 'ENGINE', 'STORE', 'SOURCE_HOST', 'SECRET'])).lines.map((line) => line.split('\t')[1])
  assert.deepEqual(settings, ['rsync', '/srv/store', 'root@web1', 'none'])
})

test('the file that marks a store is no name for a target of rsync, new or renamed', async (t) => {
  const m = machine(t)
  const store = path.join(m.dir, 'store')
  const result = await kedge(m, ['new', 'kedge-store.json', '--path', '/etc', '--store', store])
  assert.deepEqual([result.status, /'kedge-store.json' marks the store/.test(result.stderr)], [2, true], result.stderr)
  await done(m, ['new', 'web1', '--path', '/etc', '--store', store, '--source-host', 'root@::1'])
  assert.equal((await kedge(m, ['rename', 'web1', 'kedge-store.json'])).status, 2)
})
