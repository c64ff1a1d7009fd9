// The recovery sheet: plain sh and restic follow it, without kedge, to the same bytes.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import type { Target } from '../../lib/contract.ts'
import { recoverySheet } from '../../lib/engine/restic/recovery.ts'
import { cheapen } from '../cheap.ts'
import { asNobody } from '../engine/bench.ts'
import { hardTree } from '../hardtree.ts'
import {
  done,
  fake,
  growTree,
  kedge,
  type Machine,
  machine,
  newRsyncTarget,
  newTarget,
  restics,
  rsyncs,
  sameTree,
  scratch,
  startProgram,
} from '../harness.ts'
import { startSshd } from '../sshd.ts'

/** Runs a sheet in an empty folder as an operator would: with restic and the home alone. Returns the folder. */
async function follow(m: Machine, sheet: string, shell = '/bin/sh', said = ''): Promise<string> {
  const cwd = fs.mkdtempSync(path.join(m.dir, 'fresh-'))
  fs.writeFileSync(path.join(cwd, 'recovery.txt'), sheet)
  const env = { KEDGE_CONFIG_DIR: undefined, KEDGE_STATE_DIR: undefined, KEDGE_CACHE_DIR: undefined }
  const result = await startProgram(m, shell, ['-e', 'recovery.txt'], { cwd, env }).result
  assert.equal(result.status, 0, `${sheet}\n${result.stdout}${result.stderr}`)
  assert.ok(result.stderr.includes(said), result.stderr)
  return cwd
}

for (const restic of restics()) {
  test(`with restic ${restic.version} sh follows the sheet to the same files, and to what the streams wrote`, async (t) => {
    const m = machine(t, restic)
    const tree = path.join(m.dir, "a 'tree'")
    fs.mkdirSync(tree)
    growTree(tree)
    const { dir, repository, password } = newTarget(m, 'web1', {
      paths: [tree, '/no/such/path'],
      secrets: { RESTIC_PASSWORD: "it's $HOME `a` password" },
      scripts: { 'streams/app.sql': 'echo the dump' },
    })
    await done(m, ['init', 'web1'])
    cheapen(repository, password)
    assert.equal((await kedge(m, ['backup', 'web1'])).status, 3)
    // A stream that was never saved stops nothing, and leaves nothing behind.
    fake(path.join(dir, 'streams'), 'a.sql', 'echo new')
    const sheet = (await done(m, ['recovery', 'web1', '--with-secret'])).stdout
    assert.ok(sheet.includes(`restic ${restic.version}`))
    const restored = path.join(await follow(m, sheet, '/bin/sh', 'missing: the stream a.sql'), 'restored-web1')
    sameTree(path.join(restored, tree), tree)
    assert.deepEqual(
      fs.readdirSync(restored).filter((name) => name.endsWith('.sql') || name.endsWith('.part')),
      ['app.sql'],
    )
    assert.equal(fs.readFileSync(path.join(restored, 'app.sql'), 'utf8'), 'the dump\n')
  })
}

test('without the secret on it the sheet gets it from the file of each provider, and never shows it', async (t) => {
  const m = machine(t)
  const home = fs.mkdtempSync('/tmp/kr-')
  m.env.GNUPGHOME = home
  const gpg = (args: readonly string[], input?: string) =>
    execFileSync('gpg', ['--batch', '--quiet', '--pinentry-mode', 'loopback', '--passphrase', '', ...args], {
      env: { ...process.env, GNUPGHOME: home },
      input,
      stdio: ['pipe', 'pipe', 'ignore'],
    })
  t.after(() => {
    execFileSync('gpgconf', ['--kill', 'all'], { env: { ...process.env, GNUPGHOME: home } })
    fs.rmSync(home, { recursive: true, force: true, maxRetries: 5 })
  })
  gpg(['--quick-gen-key', 'me@example.org', 'default', 'default', 'never'])
  const tree = path.join(m.dir, 'tree')
  fs.mkdirSync(tree)
  growTree(tree)
  const { dir, repository, password } = newTarget(m, 'web1', { paths: [tree] })
  await done(m, ['init', 'web1'])
  cheapen(repository, password)
  await done(m, ['backup', 'web1'])
  const secrets = fs.readFileSync(path.join(dir, 'secret.env'), 'utf8')
  gpg(['--encrypt', '--recipient', 'me@example.org', '--output', path.join(dir, 'secret.env.gpg')], secrets)
  const vault = path.join(m.dir, 'vault')
  fs.writeFileSync(vault, secrets)
  const file = path.join(m.dir, 'password')
  fs.writeFileSync(file, `${password}\n`)
  const env = fs.readFileSync(path.join(dir, 'target.env'), 'utf8')
  const cases: Record<string, string> = {
    file: '',
    gpg: '',
    command: `SECRET_COMMAND='cat "${vault}"'\n`,
    none: `RESTIC_PASSWORD_FILE=${file}\n`,
  }
  for (const [provider, more] of Object.entries(cases)) {
    fs.writeFileSync(path.join(dir, 'target.env'), env.replace("SECRET='file'", `SECRET=${provider}`) + more)
    const sheet = (await done(m, ['recovery', 'web1'])).stdout
    assert.ok(!sheet.includes(password), provider)
    sameTree(path.join(await follow(m, sheet), 'restored-web1', tree), tree)
  }
  fs.writeFileSync(path.join(dir, 'target.env'), env)

  // Encrypted, the whole of it, and read again by gpg.
  const to = path.join(m.dir, 'sheet.asc')
  const written = await done(m, ['recovery', 'web1', '--with-secret', '--recipient', 'me@example.org', '--to', to])
  assert.equal(written.stdout, `${to}\twritten\tweb1\n`)
  assert.equal(fs.statSync(to).mode & 0o777, 0o600)
  assert.ok(!fs.readFileSync(to, 'utf8').includes(password))
  assert.ok(gpg(['--decrypt', to]).toString().includes(password))
})

test('a sheet replaces an older sheet and nothing else, and a dry run not even that', async (t) => {
  const m = machine(t)
  newTarget(m, 'web1', { paths: ['/etc'] })
  const to = path.join(m.dir, 'sheet')
  await done(m, ['recovery', 'web1', '--to', to, '-n'])
  assert.ok(!fs.existsSync(to))
  await done(m, ['recovery', 'web1', '--to', to])
  await done(m, ['recovery', 'web1', '--to', to, '--with-secret'])
  assert.ok(fs.readFileSync(to, 'utf8').includes('a password for web1'))
  fs.writeFileSync(to, 'my own notes\n')
  const refused = await kedge(m, ['recovery', 'web1', '--to', to])
  assert.equal(refused.status, 2)
  assert.match(refused.stderr, /it exists, and is no recovery sheet/)
  assert.equal(fs.readFileSync(to, 'utf8'), 'my own notes\n')
  const nowhere = await kedge(m, ['recovery', 'web1', '--to', path.join(m.dir, 'no/such')])
  assert.equal(nowhere.status, 1)
  assert.equal((await kedge(m, ['recovery', 'web1', '--noted', '--to', to])).status, 2)
})

const target = (env: Record<string, string>, more: Partial<Target> = {}): Target => ({
  name: 'web1',
  engine: 'restic',
  dir: '/etc/kedge/targets/web1',
  env,
  origin: {},
  paths: ['/etc'],
  excludes: [],
  streams: [],
  hooks: [],
  secret: 'gpg',
  ...more,
})
const sheetOf = (env: Record<string, string>, more: Partial<Target> = {}, secrets?: Record<string, string>) =>
  recoverySheet({ target: target(env, more), host: 'h', date: new Date(0), tool: undefined, secrets })

test('the sheet names what each store needs beside the password', () => {
  const cases: [string, RegExp][] = [
    ['s3:https://s3.example/b', /AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY/],
    ['b2:bucket:path', /B2_ACCOUNT_ID, B2_ACCOUNT_KEY/],
    ['rest:https://h/r', /RESTIC_REST_USERNAME, RESTIC_REST_PASSWORD/],
    ['sftp:me@h:/r', /ssh must reach that host/],
    ['rclone:remote:r', /rclone config file/],
    ['/srv/r', /where its disk is mounted elsewhere/],
  ]
  for (const [repository, pattern] of cases) assert.match(sheetOf({ RESTIC_REPOSITORY: repository }), pattern)
})

test('settings that restic needs are on the sheet, secret ones only when asked for, and no name can become a command', (t) => {
  const env = {
    RESTIC_REPOSITORY: 's3:x',
    AWS_DEFAULT_REGION: 'eu 1',
    AWS_SECRET_ACCESS_KEY: 'hush',
    KEEP_DAILY: '7',
    RESTIC_CACHE_DIR: '/c',
  }
  const plain = sheetOf(env)
  assert.match(plain, /^export AWS_DEFAULT_REGION='eu 1'$/m)
  assert.doesNotMatch(plain, /hush|KEEP_DAILY|RESTIC_CACHE_DIR/)
  assert.match(sheetOf(env, {}, { RESTIC_PASSWORD: 'p' }), /^export AWS_SECRET_ACCESS_KEY=hush$/m)
  const odd = sheetOf({}, { paths: ['/a\nrm -rf ./x'], streams: [{ name: "b'; touch y", file: '/s' }] })
  const cwd = scratch(t)
  fs.writeFileSync(path.join(cwd, 'x'), 'stays\n')
  execFileSync('/bin/sh', ['-c', `restic() { :; }; gpg() { :; }\n${odd}`], { cwd })
  assert.deepEqual(fs.readdirSync(cwd).sort(), ['restored-web1', 'x'])
  assert.match(
    odd,
    /restic dump latest --tag 'kedge:web1,stream:b'\\''; touch y' '\/b'\\''; touch y' > 'restored-web1\/\.b'\\''; touch y\.part'/,
  )
})

for (const version of rsyncs()) {
  test(`for rsync ${version.version} sh follows the sheet to the same files, after a rename too, and to what the streams wrote`, async (t) => {
    const m = machine(t, undefined, version)
    const tree = path.join(m.dir, "a 'tree'")
    fs.mkdirSync(tree)
    hardTree(tree)
    const stores = path.join(m.dir, "the 'stores'")
    fs.mkdirSync(stores)
    const { dir } = newRsyncTarget(m, 'web1', {
      paths: [tree],
      env: { STORE: path.join(stores, '$HOME `a`') },
      scripts: { 'streams/app "a".sql': 'echo the dump' },
    })
    await done(m, ['init', 'web1'])
    await done(m, ['backup', 'web1'])
    fs.writeFileSync(path.join(tree, 'later'), 'later\n')
    await done(m, ['backup', 'web1'])
    // A list of names and a stream that was never saved stop nothing, and are not taken for the newest state.
    await done(m, ['backup', 'web1', '--files-from', '-'], { input: `${tree}/later\n` })
    fake(path.join(dir, 'streams'), 'b.sql', 'echo new')
    const sheet = (await done(m, ['recovery', 'web1'])).stdout
    assert.match(sheet, new RegExp(`^# Written .* rsync ${version.version}`, 'm'))
    assert.match(sheet, /^# A folder on \S+, which was mounted on \//m)
    const missing = 'missing: the stream b.sql'
    const restored = path.join(await follow(m, sheet, '/bin/sh', missing), 'restored-web1')
    sameTree(path.join(restored, tree), tree)
    assert.equal(fs.readFileSync(path.join(restored, 'app "a".sql'), 'utf8'), 'the dump\n')
    assert.deepEqual(
      fs.readdirSync(restored).filter((name) => /sql|part/.test(name)),
      ['app "a".sql'],
    )
    await done(m, ['rename', 'web1', 'web2'])
    const renamed = (await done(m, ['recovery', 'web2'])).stdout
    sameTree(path.join(await follow(m, renamed, '/bin/sh', missing), 'restored-web2', tree), tree)
  })
}

test('what an ordinary user pulled by rsync gets its owners, setuid bits and devices back from the sheet, as root', async (t) => {
  assert.equal(process.geteuid?.(), 0, 'only root can give files away')
  const server = await startSshd(t)
  const m = machine(t)
  const key = path.join(m.dir, 'key')
  fs.copyFileSync(server.key, key)
  fs.chmodSync(key, 0o600)
  const tree = path.join(m.dir, 'tree')
  fs.mkdirSync(tree)
  hardTree(tree)
  // Of a folder that has both, rsync --fake-super (3.2.7, 3.5.0) saves its own attributes, and not its ACL.
  execFileSync('setfattr', ['-x', 'user.dir', path.join(tree, 'acl')])
  newRsyncTarget(m, 'web1', { paths: [tree], env: { ...server.pulled(m), SSH_KEY: key } })
  const as = asNobody(m, tree)
  await done(m, ['init', 'web1'], as)
  await done(m, ['backup', 'web1'], as)
  const sheet = (await done(m, ['recovery', 'web1'], as)).stdout
  sameTree(path.join(await follow(m, sheet), 'restored-web1', tree), tree)
})

test("a file that is not what the manifest says is named at the sheet's end, and the page fails", async (t) => {
  const m = machine(t)
  const tree = path.join(m.dir, 'tree')
  fs.mkdirSync(tree)
  for (const name of ['a', 'b']) fs.writeFileSync(path.join(tree, name), 'as it was\n')
  const { root } = newRsyncTarget(m, 'web1', { paths: [tree] })
  await done(m, ['init', 'web1'])
  await done(m, ['backup', 'web1'])
  // As in an adopted snapshot: the hash of one is not in the manifest, and a check writes it down beside it.
  const manifest = path.join(root, 'latest/manifest')
  fs.writeFileSync(manifest, fs.readFileSync(manifest, 'utf8').replace(/(\/tree\/b\t.*\t)[0-9a-f]{32}\t/, '$1-\t'))
  await done(m, ['check', 'web1', '--read-data'])
  assert.ok(fs.existsSync(path.join(root, 'latest/hashes')))
  const sheet = (await done(m, ['recovery', 'web1'])).stdout
  await follow(m, sheet)
  const [id = ''] = fs.readdirSync(path.join(root, 'snapshots'))
  for (const name of ['a', 'b']) fs.writeFileSync(path.join(root, 'snapshots', id, 'tree', tree, name), 'as it is!\n')
  const cwd = scratch(t)
  const result = await startProgram(m, '/bin/sh', ['-e'], { cwd, input: sheet }).result
  assert.equal(result.status, 1)
  for (const name of ['a', 'b']) assert.match(result.stdout, new RegExp(`tree/${name}: FAILED`))
})

test('a sealed credential, which dies with its machine, is told from what can be kept', () => {
  assert.match(sheetOf({}, { secret: 'credential' }), /Only the machine that sealed this file opens it/)
  assert.doesNotMatch(sheetOf({}, { secret: 'credential' }, { RESTIC_PASSWORD: 'p' }), /systemd-creds/)
})
