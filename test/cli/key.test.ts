// kedge key against a real sshd: the key, the keys of the host, and what the account there permits.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import type { Finding, HostKeyRow } from '../../lib/rows/house.ts'
import type { Row } from '../../lib/rows.ts'
import { fingerprint } from '../../lib/source/hostkeys.ts'
import {
  dist,
  done,
  kedge,
  type Machine,
  machine,
  type NewRsyncTarget,
  newRsyncTarget,
  newTarget,
  root,
  start,
  startProgram,
} from '../harness.ts'
import { terminal } from '../pty.ts'
import { type Sshd, startSshd } from '../sshd.ts'
import { sameTree } from '../tree.ts'

const script = path.join(root, 'ssh/kedge-rsync-only')
const hostPrint = (host: Sshd) => fingerprint({ key: host.known().split(' ')[2] ?? '' })
const authorized = (rows: readonly Row[]) => rows.find((row) => row.kind === 'authorized')?.line ?? ''
const findings = (rows: readonly Row[]) => rows.filter((row): row is Finding => row.kind === 'finding')
/** The printed line, with the forced command where it lies in this tree. */
const here = (line: string) => line.replace('/usr/local/bin/kedge-rsync-only', `sh ${script}`)

/** A machine, a host that it does not know, and a target that has no key yet. */
async function pulling(t: TestContext, env: Record<string, string | undefined> = {}, options: { PATH?: string } = {}) {
  const m = machine(t)
  m.env.TMPDIR = path.join(m.dir, 'tmp')
  fs.mkdirSync(m.env.TMPDIR)
  const tree = path.join(m.dir, 'tree of web1')
  fs.mkdirSync(tree)
  fs.writeFileSync(path.join(tree, 'file'), 'on the host')
  const host = await startSshd(t, options)
  const settings = { SOURCE_HOST: `${host.user}@127.0.0.1`, SOURCE_PORT: String(host.port), CONNECT_TIMEOUT: '10s', ...env }
  const target = newRsyncTarget(m, 'web1', { paths: [tree], env: settings })
  return { m, host, target, tree, known: path.join(m.config, 'known_hosts'), key: path.join(target.dir, 'ssh_key') }
}

/** The same, with the host confirmed, the key made, and let in by its line. */
async function letIn(t: TestContext) {
  const all = await pulling(t)
  const { rows } = await done(all.m, ['key', 'web1', '--json', '--fingerprint', hostPrint(all.host)])
  all.host.authorize(here(authorized(rows)))
  return { ...all, line: authorized(rows) }
}

const leftovers = (m: Machine) => fs.readdirSync(m.env.TMPDIR ?? '')

test('the way from a new target to a key that reads and does nothing else', { timeout: 120_000 }, async (t) => {
  const { m, host, target, tree, known, key } = await pulling(t)

  await t.test('without a terminal and without a fingerprint the key is made, and the host is not trusted', async () => {
    const result = await kedge(m, ['key', 'web1', '--json'])
    assert.equal(result.status, 2, result.stderr)
    assert.match(result.stderr, /no terminal.*--fingerprint/)
    assert.ok(!fs.existsSync(known))
    assert.equal(fs.statSync(key).mode & 0o777, 0o600)
    assert.match(authorized(result.rows), /^restrict,command="\/usr\/local\/bin\/kedge-rsync-only" ssh-ed25519 \S+ kedge:web1$/)
    const shown = result.rows.filter((row): row is HostKeyRow => row.kind === 'hostkey')
    assert.deepEqual(
      shown.map(({ fingerprint: print, action }) => [print, action]),
      [[hostPrint(host), 'shown']],
    )
  })

  const made = fs.readFileSync(key)

  await t.test('a fingerprint that the host does not have is status 12, and a dry run of the right one writes nothing', async () => {
    const wrong = await kedge(m, ['key', 'web1', '--fingerprint', `SHA256:${'A'.repeat(43)}`])
    assert.equal(wrong.status, 12)
    assert.match(wrong.stderr, /shows no key SHA256:AAA/)
    const dry = await done(m, ['key', 'web1', '-n', '--json', '--fingerprint', hostPrint(host)])
    assert.ok(dry.rows.some((row) => row.kind === 'hostkey' && row.action === 'would trust'))
    assert.ok(!fs.existsSync(known))
  })

  await t.test('with its fingerprint the host is trusted, the key is the one that was there, and a second call asks nothing', async () => {
    fs.writeFileSync(known, '# mine\nother.example ssh-ed25519 AAAA\n', { mode: 0o600 })
    await done(m, ['key', 'web1', '--fingerprint', hostPrint(host)])
    assert.equal(fs.readFileSync(known, 'utf8'), `# mine\nother.example ssh-ed25519 AAAA\n${host.known()}\n`)
    assert.equal(fs.statSync(known).mode & 0o777, 0o600)
    const again = await done(m, ['key', 'web1', '--json'])
    assert.ok(again.rows.some((row) => row.kind === 'hostkey' && row.action === 'known'))
    assert.deepEqual(fs.readFileSync(key), made)
  })

  await t.test('a key that is not let in yet is status 12, and its hint names the line', async () => {
    const result = await kedge(m, ['key', 'web1', '--test'])
    assert.equal(result.status, 12)
    assert.match(result.stderr, /the key is not let in\n.*hint: .*authorized_keys/s)
  })

  const { rows } = await done(m, ['key', 'web1', '--json'])
  const line = here(authorized(rows))

  await t.test('--test: the forced command permits reading, and refuses the rest', async () => {
    host.authorize(line)
    const result = await done(m, ['key', 'web1', '--test', '--json'])
    assert.deepEqual(
      findings(result.rows).map(({ check, level }) => [check, level]),
      ['login', 'rsync', 'read', 'root', 'command', 'write', 'remove', 'hidden options', 'terminal', 'forwarding'].map((check) => [
        check,
        'ok',
      ]),
    )
  })

  await t.test('--test finds each line that permits too much', async () => {
    const free = line.replace(/.*ssh-ed25519/, 'ssh-ed25519')
    const cases: readonly (readonly [line: string, as: string, blocked: readonly string[]])[] = [
      [free, 'command', ['command', 'write', 'remove', 'hidden options', 'terminal', 'forwarding']],
      [`restrict ${free}`, 'plain', []],
      [line.replace('restrict,', 'restrict,pty,'), 'command', ['terminal']],
      [line.replace('restrict,', 'restrict,port-forwarding,'), 'command', ['forwarding']],
      [line.replace(/command="[^"]*"/, 'command="rrsync -ro /"'), 'rrsync', []],
      [line.replace(/command="[^"]*"/, 'command="rrsync /"'), 'rrsync', ['write', 'remove']],
    ]
    for (const [text, as, blocked] of cases) {
      host.authorize(text)
      const result = await kedge(m, ['key', 'web1', '--test', '--as', as, '--json'])
      const found = findings(result.rows).filter(({ level }) => level === 'blocked')
      assert.deepEqual(
        found.map(({ check }) => check),
        blocked,
        `${text}\n${result.stdout}${result.stderr}`,
      )
      assert.equal(result.status, blocked.length > 0 ? 15 : 0)
      assert.ok(found.every(({ remedy }) => remedy))
    }
  })

  await t.test('--test as sudo and as doas wants root to read', { skip: process.geteuid?.() !== 0 }, async () => {
    const ordinary = line.replace('command="', 'command="setpriv --reuid=65534 --regid=65534 --clear-groups ')
    fs.chmodSync(m.dir, 0o755)
    for (const [text, as, level] of [
      [line, 'sudo', 'ok'],
      [line, 'doas', 'ok'],
      [ordinary, 'sudo', 'blocked'],
      [ordinary, 'doas', 'blocked'],
      [ordinary, 'command', 'ok'],
    ] as const) {
      host.authorize(text)
      const result = await kedge(m, ['key', 'web1', '--test', '--as', as, '--json'])
      const found = findings(result.rows).filter((row) => row.check === 'root')
      assert.deepEqual(
        found.map((row) => row.level),
        [level],
        `${text}\n${result.stdout}${result.stderr}`,
      )
      assert.equal(/as root/.test(found[0]?.text ?? ''), text === line)
      assert.equal(result.status, level === 'blocked' ? 1 : 0, result.stderr)
      assert.ok(level === 'ok' || found[0]?.remedy?.includes(`--as ${as}`))
    }
  })

  await t.test('--test with a path that is not there names it', async () => {
    host.authorize(line)
    fs.writeFileSync(path.join(target.dir, 'paths'), `${tree}\n${tree}/not there\n`)
    const result = await kedge(m, ['key', 'web1', '--test', '--json'])
    assert.equal(result.status, 1)
    const read = findings(result.rows).filter(({ check }) => check === 'read')
    assert.deepEqual(
      read.map(({ level }) => level),
      ['ok', 'blocked'],
    )
    assert.match(read[1]?.text ?? '', /not there' is not there/)
  })

  assert.deepEqual(leftovers(m), [])
})

test('what --explain prints makes the same key, trusts the same host, and prints the same line', async (t) => {
  const { m, host, known, key } = await pulling(t)
  const { stdout } = await done(m, ['key', 'web1', '--explain', '--fingerprint', hostPrint(host)])
  assert.ok(!fs.existsSync(key) && !fs.existsSync(known))
  const result = await startProgram(m, '/bin/sh', ['-c', stdout]).result
  assert.equal(result.status, 0, stdout + result.stderr)
  assert.equal(fs.readFileSync(known, 'utf8'), `${host.known()}\n`)
  const line = result.lines.find((each) => each.startsWith('restrict')) ?? ''
  const own = await done(m, ['key', 'web1', '--json'])
  assert.equal(authorized(own.rows), line)
  host.authorize(here(line))
  const proofs = await done(m, ['key', 'web1', '--test', '--explain'])
  const first = await startProgram(m, '/bin/sh', ['-c', proofs.lines.find((each) => each.includes('--sender')) ?? '']).result
  assert.match(first.stdout, /^[\x1e-\x21]\0\0\0/)
})

test('on the terminal nothing but a yes trusts the host', async (t) => {
  const { m, host, known } = await pulling(t)
  const session = terminal(m, dist, ['kedge key web1; echo first $?', 'kedge key web1 --host; echo second $?'])
  await session.until('(yes or no)')
  session.type('y\n')
  await session.until('first 15')
  assert.ok(!fs.existsSync(known))
  await session.until('(yes or no)', 2)
  session.type('yes\n')
  const screen = await session.end()
  assert.match(screen, /second 0/)
  assert.ok(screen.includes(`${hostPrint(host)} (ssh-ed25519)`))
  assert.equal(fs.readFileSync(known, 'utf8'), `${host.known()}\n`)
})

test('a host that shows another key than before is refused aloud, until --host and its fingerprint say that it is well', async (t) => {
  const { m, host, known } = await letIn(t)
  const other = await startSshd(t)
  const old = `[127.0.0.1]:${host.port} ${other.known().split(' ').slice(1).join(' ')}`
  fs.writeFileSync(known, `${old}\nother.example ssh-ed25519 AAAA\n`)
  for (const args of [
    ['key', 'web1'],
    ['key', 'web1', '--test'],
    ['key', 'web1', '--fingerprint', hostPrint(host)],
  ]) {
    const result = await kedge(m, args)
    assert.equal(result.status, 12, args.join(' '))
    assert.match(result.stderr, /ANOTHER/)
    assert.match(result.stderr, /kedge key web1 --host/)
  }
  assert.equal(fs.readFileSync(known, 'utf8'), `${old}\nother.example ssh-ed25519 AAAA\n`)
  await done(m, ['key', 'web1', '--host', '--fingerprint', hostPrint(host)])
  assert.equal(fs.readFileSync(known, 'utf8'), `other.example ssh-ed25519 AAAA\n${host.known()}\n`)
  await done(m, ['key', 'web1', '--test'])
})

test('an unknown host, a closed port, a host that says nothing: each has its status, and nothing is left behind', async (t) => {
  const { m, known, target, host } = await letIn(t)
  fs.writeFileSync(known, '')
  const unknown = await kedge(m, ['key', 'web1', '--test'])
  assert.equal(unknown.status, 12)
  assert.match(unknown.stderr, /its host key is not known\n.*kedge key web1 --host/s)

  const silent = net.createServer((socket) => void socket.on('error', () => {}).resume()).listen(0, '127.0.0.1')
  await new Promise((resolve) => silent.once('listening', resolve))
  const { port } = silent.address() as net.AddressInfo
  const env = path.join(target.dir, 'target.env')
  const at = (to: number) =>
    fs.writeFileSync(
      env,
      fs
        .readFileSync(env, 'utf8')
        .replace(/SOURCE_PORT='\d+'/, `SOURCE_PORT='${to}'`)
        .replace("'10s'", "'2s'"),
    )
  at(port)
  const mute = await kedge(m, ['key', 'web1', '--test'])
  assert.equal(mute.status, 13, mute.stderr)
  assert.match(mute.stderr, /no answer in time/)
  // Killed while it waits, so that no line of its own runs any more.
  const met = new Promise((resolve) => silent.once('connection', resolve))
  const waiting = start(m, ['key', 'web1', '--test', '-v'])
  await waiting.until(/running: ssh/)
  await met
  assert.equal(leftovers(m).length, 1)
  waiting.child.kill('SIGKILL')
  await new Promise<void>((resolve) => {
    const watcher = fs.watch(m.env.TMPDIR ?? '', look)
    function look() {
      if (leftovers(m).length > 0) return
      watcher.close()
      resolve()
    }
    look()
  })
  await new Promise((resolve) => silent.close(resolve)) // all connections to it are gone: so is ssh
  const closed = await kedge(m, ['key', 'web1', '--test'])
  assert.equal(closed.status, 13)
  assert.match(closed.stderr, /connection refused/)
  const scanned = await kedge(m, ['key', 'web1', '--host', '--fingerprint', hostPrint(host)])
  assert.equal(scanned.status, 13)
  assert.match(scanned.stderr, /shows no host key/)
  assert.deepEqual(leftovers(m), [])
})

test('--new: the other key takes the place of the first only when the host lets it in, whatever else may log in', async (t) => {
  const { m, host, key } = await letIn(t)
  const first = fs.readFileSync(key)
  const early = await kedge(m, ['key', 'web1', '--new', '--json'])
  assert.equal(early.status, 12, early.stderr)
  assert.match(early.stderr, /the new key is not in use yet/)
  assert.deepEqual(fs.readFileSync(key), first)
  const fresh = fs.readFileSync(`${key}.new`)
  // ssh may have another key that is let in: no proof of the new one.
  fs.appendFileSync(path.join(m.config, 'targets/web1/target.env'), `SSH_ARGS='-oIdentityFile=${host.key}'\n`)
  host.authorize()
  assert.equal((await kedge(m, ['key', 'web1', '--new'])).status, 12)
  assert.deepEqual(fs.readFileSync(key), first)
  host.authorize(here(authorized(early.rows)))
  const result = await done(m, ['key', 'web1', '--new'])
  assert.match(result.stderr, /take the line with the old key, SHA256:/)
  assert.deepEqual(fs.readFileSync(key), fresh)
  assert.ok(!fs.existsSync(`${key}.new`))
  assert.equal(fs.statSync(key).mode & 0o777, 0o600)
  await done(m, ['key', 'web1', '--test'])

  // The same by hand.
  const { stdout } = await done(m, ['key', 'web1', '--new', '--explain'])
  const byHand = () => startProgram(m, '/bin/sh', ['-c', stdout.replace(`-oIdentityFile=${host.key}`, '')]).result
  const before = await byHand()
  assert.notEqual(before.status, 0)
  assert.deepEqual(fs.readFileSync(key), fresh)
  const third = fs.readFileSync(`${key}.new`)
  host.authorize(here(before.lines.find((each) => each.startsWith('restrict')) ?? ''))
  const after = await byHand()
  assert.equal(after.status, 0, after.stderr)
  assert.deepEqual(fs.readFileSync(key), third)
})

test('through the forced command files come as they are, and what attacks it changes nothing on the host', {
  timeout: 60_000,
}, async (t) => {
  const { m, host, tree, key, known } = await letIn(t)
  for (const name of ["it's", 'semi;colon', 'größe', '$HOME', '*', '-n']) fs.writeFileSync(path.join(tree, name), `in ${name}`)
  const ssh = `ssh -p ${host.port} -i ${key} -o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile=${known}`
  const rsync = (...args: string[]) => startProgram(m, 'rsync', ['-e', ssh, ...args]).result
  const at = `${host.user}@127.0.0.1:`
  const pulled = path.join(m.dir, 'pulled')
  const result = await rsync('-aHAXS', '--numeric-ids', '--modify-window=-1', '--old-args', `${at}'${tree}/'`, pulled)
  assert.equal(result.status, 0, result.stderr)
  sameTree(pulled, tree)
  const names = await rsync('-aHAXSR', '--from0', '--files-from=-', '--old-args', `${at}/`, path.join(m.dir, 'listed'))
  assert.equal(names.status, 0, names.stderr)

  const before = fs.readdirSync(tree)
  const evil = path.join(m.dir, 'evil')
  fs.mkdirSync(evil)
  const tries: readonly (readonly string[])[] = [
    ['-a', `${evil}/`, `${at}${tree}/`],
    ['-a', '--delete', `${evil}/`, `${at}'${tree}/'`],
    ['-a', '--remove-source-files', '--old-args', `${at}'${tree}/'`, path.join(m.dir, 'stolen')],
    ['-as', `${at}${tree}/`, path.join(m.dir, 'stolen')],
    ['-a', '-M--log-file=/tmp/kedge-evil', '--old-args', `${at}'${tree}/'`, path.join(m.dir, 'stolen')],
    ['-a', '-M--remove-source-files', '--old-args', `${at}'${tree}/'`, path.join(m.dir, 'stolen')],
    ['-a', `--rsync-path=touch ${evil}/there; rsync`, `${at}${tree}/`, path.join(m.dir, 'stolen')],
    ['-a', '--old-args', `${at}'${tree}/'; touch ${evil}/there`, path.join(m.dir, 'stolen')],
    ['-a', '--old-args', `${at}$(touch ${evil}/there)`, path.join(m.dir, 'stolen')],
  ]
  for (const args of tries) {
    const { status, stderr } = await rsync(...args)
    assert.equal(status, 12, `${args.join(' ')}\n${stderr}`)
    assert.match(stderr, /kedge-rsync-only: refused: /)
  }
  const direct = ['id', `touch ${evil}/there`, 'sh -i', `${'rsync --server --sender -e.L . /'}; touch ${evil}/there`, '']
  for (const command of direct) {
    const words = ['-p', String(host.port), '-i', key, '-o', `UserKnownHostsFile=${known}`, `${host.user}@127.0.0.1`]
    const { status, stdout, stderr } = await startProgram(m, 'ssh', [...words, ...(command ? [command] : [])], {
      input: `touch ${evil}/there\n`,
    }).result
    assert.equal(status, 1, command)
    assert.equal(stdout, '')
    assert.match(stderr, /kedge-rsync-only: refused: /)
  }
  assert.deepEqual(fs.readdirSync(tree), before)
  assert.deepEqual(fs.readdirSync(evil), [])
  assert.ok(!fs.existsSync(path.join(m.dir, 'stolen', 'file')) && !fs.existsSync('/tmp/kedge-evil'))
})

test('the script that is printed is the one that is tested', async (t) => {
  const { m } = await pulling(t)
  assert.equal((await done(m, ['key', 'web1', '--script'])).stdout, fs.readFileSync(script, 'utf8'))
})

test('what kedge key cannot do is misuse, and a key of somebody else’s is left alone', async (t) => {
  const { m, key, target, host } = await pulling(t)
  const local: NewRsyncTarget = newRsyncTarget(m, 'local', { paths: [m.home] })
  newTarget(m, 'other', { paths: [m.home] })
  const cases: readonly (readonly [args: readonly string[], status: number, text: RegExp])[] = [
    [['key', 'local'], 2, /reads no other host.*SOURCE_HOST/s],
    [['key', 'other'], 2, /reads no other host.*engine is restic/s],
    [['key', 'web1', '--as', 'root'], 2, /no variant 'root'/],
    [['key', 'web1', '--test', '--new'], 2, /--new and --test do not go together/],
    [['key', 'web1', '--test', '--fingerprint', 'SHA256:x'], 2, /asks for none/],
    [['key', 'web1', '--host', '--as', 'sudo'], 2, /does nothing with --host/],
    [['key', 'web1', '--test'], 2, /has no key/],
  ]
  for (const [args, status, text] of cases) {
    const result = await kedge(m, args)
    assert.equal(result.status, status, `${args.join(' ')}\n${result.stderr}`)
    assert.match(result.stderr, text)
  }
  assert.ok(!fs.existsSync(path.join(local.dir, 'ssh_key')) && !fs.existsSync(key))
  fs.appendFileSync(path.join(target.dir, 'target.env'), `SSH_KEY='${host.key}'\n`)
  const before = fs.readFileSync(host.key)
  const { rows } = await done(m, ['key', 'web1', '--json', '--fingerprint', hostPrint(host)])
  assert.ok(authorized(rows).includes(host.publicKey))
  assert.equal((await kedge(m, ['key', 'web1', '--new'])).status, 2)
  assert.deepEqual(fs.readFileSync(host.key), before)
  assert.ok(!fs.existsSync(key))
})
