// The secrets of a target: shown by name, edited in a private file, sealed and sealed anew, checked. What is cut off is ended.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FileRow, Finding } from '../../lib/rows/house.ts'
import {
  dist,
  done,
  fake,
  kedge,
  type Machine,
  machine,
  type NewTarget,
  newTarget,
  type RunOptions,
  start,
  startProgram,
} from '../harness.ts'
import { keyring } from '../keyring.ts'
import { makeStore } from '../store.ts'

const password = 'a password for web1'
const plain = `# the first\nRESTIC_PASSWORD='${password}'\nAWS_NOTE=some-token-value # not so secret\n`

function house(t: TestContext): { m: Machine; target: NewTarget; file: string } {
  const m = machine(t)
  // Memory of its own: another kedge of this user sweeps what it finds in /dev/shm.
  const memory = fs.mkdtempSync('/dev/shm/kedge-test-')
  t.after(() => fs.rmSync(memory, { recursive: true, force: true }))
  m.env.XDG_RUNTIME_DIR = memory
  const target = newTarget(m, 'web1', { paths: [m.home] })
  const file = path.join(target.dir, 'secret.env')
  fs.rmSync(file)
  fs.writeFileSync(file, plain, { mode: 0o400 })
  return { m, target, file }
}

const settings = (target: NewTarget) => fs.readFileSync(path.join(target.dir, 'target.env'), 'utf8')
const providerOf = (target: NewTarget) => /^SECRET='?(\w+)/m.exec(settings(target))?.[1]
const folder = (target: NewTarget) => fs.readdirSync(target.dir).sort()
const keysOf = async (m: Machine, options?: RunOptions) => (await done(m, ['secret', 'show-keys', 'web1', '-q'], options)).lines

/** Runs kedge with passphrases on descriptors: 3, 4 … */
function withFds(m: Machine, args: readonly string[], ...lines: string[]) {
  const files = lines.map((line, i) => {
    const file = path.join(m.dir, `fd${i + 3}`)
    fs.writeFileSync(file, `${line}\n`)
    return `${i + 3}<'${file}'`
  })
  const script = `exec '${process.execPath}' "$@" ${files.join(' ')}`
  return startProgram(m, '/bin/sh', ['-c', script, 'sh', kedgeFile, ...args]).result
}
const kedgeFile = path.join(dist, 'kedge.cjs')

// --- names

test('the names of the secrets are shown, each with its line, and never a value', async (t) => {
  const { m, target, file } = house(t)
  const result = await done(m, ['secret', 'show-keys', 'web1'])
  assert.equal(result.stdout, `RESTIC_PASSWORD\t${file}:2\tweb1\nAWS_NOTE\t${file}:3\tweb1\n`)
  const { stdout } = await done(m, ['secret', 'show-keys', 'web1', '--explain'])
  assert.equal((await startProgram(m, '/bin/sh', ['-c', stdout]).result).stdout, 'RESTIC_PASSWORD\nAWS_NOTE\n')
  fs.writeFileSync(
    path.join(target.dir, 'target.env'),
    settings(target).replace("SECRET='file'", "SECRET=command\nSECRET_COMMAND='echo A=1'"),
  )
  assert.equal((await done(m, ['secret', 'show-keys', 'web1'])).stdout, 'A\tSECRET_COMMAND:1\tweb1\n')
})

test('actions and options that make no sense are misuse', async (t) => {
  const { m, target } = house(t)
  const cases: [string[], RegExp][] = [
    [['sael', 'web1'], /no action 'sael'\n.*did you mean seal/],
    [['edit', 'web1', '--to', 'gpg'], /option '--to' is for seal and reseal/],
    [['seal', 'web1', '--to', 'file'], /option '--to': not one of gpg, credential: 'file'/],
    [['seal', 'web1', '--to', 'credential', '--recipient', 'me'], /option '--recipient' is for --to gpg/],
    [['seal', 'web1', '--recipient', 'me', '--new-passphrase-fd', '3'], /'--new-passphrase-fd' does not go with --recipient/],
    [['seal', 'web1'], /option missing: --new-passphrase-fd or --recipient/],
    [['reseal', 'web1'], /they lie in plain text.*\n.*kedge secret seal/],
  ]
  for (const [args, message] of cases) {
    const result = await kedge(m, ['secret', ...args])
    assert.equal(result.status, 2, `${args.join(' ')}: ${result.stderr}`)
    assert.match(result.stderr, message)
  }
  assert.deepEqual([providerOf(target), folder(target)], ['file', ['paths', 'secret.env', 'target.env']])
})

// --- edit

/** An editor that notes the file it was given and what lay in it, and then does what the script says with "$1". */
function editor(m: Machine, script: string): { env: Record<string, string>; seen: () => { file: string; mode: string; text: string } } {
  const notes = path.join(m.dir, 'edited')
  const file = fake(
    m.bin,
    'an-editor',
    `[ "$1" = --wait ] && shift\n{ echo "$1"; ls -ld "$1" "$(dirname "$1")" | cut -c 1-10; cat "$1"; } >'${notes}'\n${script}`,
  )
  const seen = () => {
    const [at = '', mode = '', dir = '', ...text] = fs.readFileSync(notes, 'utf8').split('\n')
    return { file: at, mode: `${mode} ${dir}`, text: text.join('\n') }
  }
  return { env: { EDITOR: `${file} --wait` }, seen }
}

async function goneSoon(file: string): Promise<void> {
  for (let i = 0; i < 200 && fs.existsSync(path.dirname(file)); i++) await sleep(50)
  assert.ok(!fs.existsSync(path.dirname(file)), `${file} is gone`)
}

test('what is edited lies in a private file in memory, is sealed with its comments, and is gone from there', async (t) => {
  const { m, target, file } = house(t)
  const { env, seen } = editor(m, `echo "NEW='it'\\\\''s new'" >>"$1"; cp "$1" "$1~"`)
  const [row] = (await done(m, ['secret', 'edit', 'web1', '--json'], { env })).rows as FileRow[]
  assert.deepEqual([row?.path, row?.action], [file, 'written'])
  assert.equal(fs.readFileSync(file, 'utf8'), `${plain}NEW='it'\\''s new'\n`)
  assert.equal(fs.statSync(file).mode & 0o777, 0o400)
  assert.equal(seen().text, plain)
  assert.match(seen().file, /^\/dev\/shm\/kedge-test-\w+\/kedge-secret-\w+\/secret\.env$/)
  assert.equal(seen().mode, 'drwx------ -rw-------')
  assert.ok(!fs.existsSync(path.dirname(seen().file)))
  assert.deepEqual(await keysOf(m), ['RESTIC_PASSWORD', 'AWS_NOTE', 'NEW'])
  await done(m, ['secret', 'edit', 'web1'], { env: { ...editor(m, ':').env, XDG_RUNTIME_DIR: undefined } })
  assert.match(seen().file, /^\/dev\/shm\/kedge-secret-\w+\/secret\.env$/)
  editor(m, `echo "NEW='it'\\\\''s new'" >>"$1"`)
  const { stdout } = await done(m, ['secret', 'edit', 'web1', '--explain'], { env })
  const byHand = await startProgram(m, '/bin/sh', ['-c', stdout], { env }).result
  assert.equal(byHand.status, 0, byHand.stderr)
  assert.equal(fs.readFileSync(file, 'utf8'), `${plain}${"NEW='it'\\''s new'\n".repeat(2)}`)
  fs.rmSync(file)
  fs.writeFileSync(file, plain, { mode: 0o400 })
  const dry = (await done(m, ['secret', 'edit', 'web1', '-n', '--json'], { env })).rows as FileRow[]
  assert.deepEqual([dry[0]?.action, fs.readFileSync(file, 'utf8')], ['would write', plain])
  assert.deepEqual(folder(target), ['paths', 'secret.env', 'target.env'])
})

test('what was not changed is not sealed; an editor that fails, and faults where nobody is there, keep nothing', async (t) => {
  const { m, file } = house(t)
  const cases: [string, number, RegExp][] = [
    [':', 0, /nothing was changed/],
    ['echo A=1 >>"$1"; exit 1', 1, /an-editor' ended with status 1: nothing was kept/],
    ['echo "A=$(echo \\$B)" >>"$1"', 2, /nothing was kept: .*not valid:\n.*secret\.env:4:3: /],
    [`echo "RESTIC_PASSWORD=''" >"$1"`, 12, /nothing was kept: .*RESTIC_PASSWORD is empty/],
    ['echo A=1 >"$1"', 12, /nothing was kept: .*have no RESTIC_PASSWORD any more/],
    ['rm "$1"', 1, /an-editor' left no file: nothing was kept/],
  ]
  for (const [script, status, message] of cases) {
    const before = fs.statSync(file)
    const { env, seen } = editor(m, script)
    const result = await kedge(m, ['secret', 'edit', 'web1'], { env })
    assert.equal(result.status, status, `${script}: ${result.stderr}`)
    assert.match(result.stderr, message)
    assert.equal(fs.readFileSync(file, 'utf8'), plain)
    assert.equal(fs.statSync(file).ino, before.ino, 'the file was not even replaced')
    assert.ok(!fs.existsSync(path.dirname(seen().file)))
  }
})

test('on a terminal faults are told, and the same text is edited again', async (t) => {
  const { m, file } = house(t)
  const { env } = editor(
    m,
    `if grep -q BAD "$1"; then sed 's/BAD=.*/GOOD=1/' "$1" >"$1.x" && mv "$1.x" "$1"; else echo 'BAD=\`id\`' >>"$1"; fi`,
  )
  const command = `'${process.execPath}' '${kedgeFile}' secret edit web1`
  const result = await startProgram(m, 'script', ['-q', '-e', '-c', command, '/dev/null'], { env, input: '\n' }).result
  assert.equal(result.status, 0, result.stdout)
  assert.match(result.stdout, /secret\.env:4:5: .*\r?\n.*edit it again\? \[yes\]:/s)
  assert.equal(fs.readFileSync(file, 'utf8'), `${plain}GOOD=1\n`)
})

test('the file is wiped when kedge is told to end, and when it is killed; what both left is swept by the next call', async (t) => {
  const { m, file } = house(t)
  const ready = path.join(m.dir, 'ready')
  const waiting = editor(m, `echo A=1 >>"$1"; touch '${ready}'; exec sleep 60`)
  const running = start(m, ['secret', 'edit', 'web1'], { env: waiting.env })
  while (!fs.existsSync(ready)) await sleep(20)
  running.child.kill('SIGTERM')
  const ended = await running.result
  assert.equal(ended.status, 143, ended.stderr)
  assert.ok(!fs.existsSync(path.dirname(waiting.seen().file)))

  const killing = editor(m, 'kill -9 $PPID')
  assert.equal((await kedge(m, ['secret', 'edit', 'web1'], { env: killing.env })).signal, 'SIGKILL')
  await goneSoon(killing.seen().file)

  const both = editor(
    m,
    `for pid in $(ps -A -o pid= -o args= | grep "$(dirname "$1")" | grep -v grep | awk '{ print $1 }'); do
    [ "$pid" = $$ ] || kill -9 "$pid"; done; kill -9 $PPID`,
  )
  assert.equal((await kedge(m, ['secret', 'edit', 'web1'], { env: both.env })).signal, 'SIGKILL')
  const left = path.dirname(both.seen().file)
  assert.equal(fs.readFileSync(both.seen().file, 'utf8'), plain, 'nobody was left to wipe it')
  const next = await done(m, ['secret', 'show-keys', 'web1'])
  assert.ok(next.stderr.includes(`removed what a killed call left in '${left}'`), next.stderr)
  assert.ok(!fs.existsSync(left))
  assert.equal(fs.readFileSync(file, 'utf8'), plain)
})

test('what was changed meanwhile, by a rotation say, is not replaced by what was edited', async (t) => {
  const { m, file } = house(t)
  const { env } = editor(m, `echo A=1 >>"$1"; chmod 600 '${file}'; echo B=2 >>'${file}'; chmod 400 '${file}'`)
  const result = await kedge(m, ['secret', 'edit', 'web1'], { env })
  assert.equal(result.status, 15, result.stderr)
  assert.match(result.stderr, /was changed meanwhile/)
  assert.equal(fs.readFileSync(file, 'utf8'), `${plain}B=2\n`)
})

// --- seal, reseal

test('plain secrets are sealed with a passphrase, and edited and sealed anew with it; then with another', async (t) => {
  const { m, target, file } = house(t)
  await done(m, ['recovery', 'web1', '--to', path.join(target.dir, 'recovery.txt')])
  const explained = await done(m, ['secret', 'seal', 'web1', '--explain'])
  assert.match(explained.stdout, /gpg --symmetric > .*secret\.env\.gpg\.new/)
  await done(m, ['secret', 'seal', 'web1', '-n'])
  assert.deepEqual(folder(target), ['paths', 'recovery.txt', 'secret.env', 'target.env'])
  const sealed = await withFds(m, ['secret', 'seal', 'web1', '--passphrase-fd', '3'], 'first words')
  assert.equal(sealed.status, 0, sealed.stderr)
  assert.equal(
    sealed.stdout.replaceAll(`${target.dir}/`, ''),
    'secret.env.gpg\twritten\tweb1\ntarget.env\twritten\tweb1\nsecret.env\tremoved\tweb1\n',
  )
  assert.match(sealed.stderr, /copies of the plain secrets may remain/)
  assert.deepEqual([providerOf(target), fs.existsSync(file)], ['gpg', false])
  assert.match(fs.readFileSync(path.join(target.dir, 'recovery.txt'), 'utf8'), /secret\.env\.gpg/)
  const { env } = editor(m, 'echo MORE=1 >>"$1"')
  m.env.EDITOR = env.EDITOR as string
  const edited = await withFds(m, ['secret', 'edit', 'web1', '--passphrase-fd', '3'], 'first words')
  assert.equal(edited.status, 0, edited.stderr)
  const resealed = await withFds(
    m,
    ['secret', 'reseal', 'web1', '--passphrase-fd', '3', '--new-passphrase-fd', '4'],
    'first words',
    'second words',
  )
  assert.equal(resealed.status, 0, resealed.stderr)
  const old = await withFds(m, ['secret', 'show-keys', 'web1', '--passphrase-fd', '3'], 'first words')
  assert.equal(old.status, 12, old.stderr)
  const now = await withFds(m, ['secret', 'show-keys', 'web1', '-q', '--passphrase-fd', '3'], 'second words')
  assert.deepEqual(now.lines, ['RESTIC_PASSWORD', 'AWS_NOTE', 'MORE'])
  // The old passphrase is never taken for the new one.
  const none = await withFds(m, ['secret', 'reseal', 'web1', '--passphrase-fd', '3'], 'second words')
  assert.equal(none.status, 2)
  assert.deepEqual(folder(target), ['paths', 'recovery.txt', 'secret.env.gpg', 'target.env'])
})

test('what is for several keys stays for all of them when it is edited, and changes hands with reseal', async (t) => {
  const { m, target } = house(t)
  const gpg = keyring(m, 'me', 'you')
  const file = path.join(target.dir, 'secret.env.gpg')
  const to = (...names: string[]) => names.flatMap((name) => ['--recipient', `${name}@example.org`])
  const recipients = () => gpg(['--list-packets', file]).match(/keyid (\w+)/g)?.length
  await done(m, ['secret', 'seal', 'web1', ...to('me', 'you')])
  assert.equal(gpg(['--decrypt', file]), plain)
  assert.equal(recipients(), 2)
  const { env } = editor(m, 'echo MORE=1 >>"$1"')
  await done(m, ['secret', 'edit', 'web1'], { env })
  assert.equal(gpg(['--decrypt', file]), `${plain}MORE=1\n`)
  assert.equal(recipients(), 2)
  await done(m, ['secret', 'reseal', 'web1', ...to('you')])
  assert.equal(recipients(), 1)
  assert.deepEqual(await keysOf(m), ['RESTIC_PASSWORD', 'AWS_NOTE', 'MORE'])
  // Whom the file is for is not known: it is not sealed for fewer.
  fs.rmSync(file)
  gpg(['--encrypt', '--hidden-recipient', 'me@example.org', '--output', file], plain)
  const hidden = await kedge(m, ['secret', 'edit', 'web1'], { env })
  assert.equal(hidden.status, 12)
  assert.match(hidden.stderr, /cannot seal '.*' as it was: it hides the keys/)
  const lost = await kedge(m, ['secret', 'reseal', 'web1', '--recipient', 'nobody@example.org'])
  assert.equal(lost.status, 12)
  assert.equal(gpg(['--decrypt', file]), plain)
  await done(m, ['secret', 'reseal', 'web1', '--to', 'file'])
  assert.equal(fs.readFileSync(path.join(target.dir, 'secret.env'), 'utf8'), plain)
  assert.deepEqual([providerOf(target), fs.existsSync(file)], ['file', false])
})

test('what is for a key and a passphrase stays so', async (t) => {
  const { m, target, file } = house(t)
  const gpg = keyring(m, 'me', 'you')
  fs.writeFileSync(path.join(m.env.GNUPGHOME as string, 'gpg.conf'), 's2k-count 65536\n') // else each opening takes long
  const sealed = path.join(target.dir, 'secret.env.gpg')
  execFileSync(
    'gpg',
    ['--batch', '-q', '--pinentry-mode', 'loopback', '--passphrase', 'words', '-c', '-e', '-r', 'me@example.org', '-o', sealed, file],
    {
      env: { ...process.env, GNUPGHOME: m.env.GNUPGHOME },
    },
  )
  fs.rmSync(file)
  fs.writeFileSync(path.join(target.dir, 'target.env'), settings(target).replace("SECRET='file'", 'SECRET=gpg'))
  m.env.EDITOR = editor(m, 'echo MORE=1 >>"$1"').env.EDITOR as string
  const unknown = await kedge(m, ['secret', 'edit', 'web1'])
  assert.equal(unknown.status, 12)
  assert.match(unknown.stderr, /it is for a passphrase as well, which nobody gave/)
  const edited = await withFds(m, ['secret', 'edit', 'web1', '--passphrase-fd', '3'], 'words')
  assert.equal(edited.status, 0, edited.stderr)
  assert.equal(gpg(['--decrypt', sealed]), `${plain}MORE=1\n`)
  assert.deepEqual((await withFds(m, ['secret', 'show-keys', 'web1', '-q', '--passphrase-fd', '3'], 'words')).lines.length, 3)
})

test('a credential is sealed, edited, and opens as before', async (t) => {
  const { m, target } = house(t)
  // A host key of its own: the test leaves nothing on the machine.
  fake(m.bin, 'systemd-creds', `export SYSTEMD_CREDENTIAL_SECRET='${m.dir}/host'\nexec /usr/bin/systemd-creds "$@"`)
  await done(m, ['secret', 'seal', 'web1', '--to', 'credential'])
  assert.deepEqual([providerOf(target), folder(target)], ['credential', ['paths', 'secret.cred', 'target.env']])
  const { env } = editor(m, 'echo MORE=1 >>"$1"')
  await done(m, ['secret', 'edit', 'web1'], { env })
  await done(m, ['secret', 'reseal', 'web1'])
  assert.deepEqual(await keysOf(m), ['RESTIC_PASSWORD', 'AWS_NOTE', 'MORE'])
})

test('sealing that is killed anywhere leaves a target that opens, and the next call ends it', async (t) => {
  const { m, target, file } = house(t)
  const count = path.join(m.dir, 'count')
  const killAt = (n: number | string) => {
    fs.writeFileSync(count, '')
    fake(
      m.bin,
      'systemd-creds',
      `export SYSTEMD_CREDENTIAL_SECRET='${m.dir}/host'
echo >>'${count}'; n=$(wc -l <'${count}')
[ "$((n))" = '${n}' ] && kill -9 $PPID 0
exec /usr/bin/systemd-creds "$@"`,
    )
  }
  const calls = () => fs.readFileSync(count, 'utf8').length
  killAt('never')
  await done(m, ['secret', 'seal', 'web1', '--to', 'credential'])
  const all = calls()
  assert.equal(all, 3, 'sealed, proven, opened where it lies')
  for (let n = 1; n <= all; n++) {
    killAt('never')
    await done(m, ['secret', 'reseal', 'web1', '--to', 'file'])
    killAt(n)
    assert.equal((await kedge(m, ['secret', 'seal', 'web1', '--to', 'credential'])).signal, 'SIGKILL')
    killAt('never')
    assert.equal(providerOf(target), 'file')
    assert.deepEqual(await keysOf(m), ['RESTIC_PASSWORD', 'AWS_NOTE'])
    await done(m, ['secret', 'seal', 'web1', '--to', 'credential'])
    assert.deepEqual([providerOf(target), folder(target)], ['credential', ['paths', 'secret.cred', 'target.env']], `killed at ${n}`)
    assert.deepEqual(await keysOf(m), ['RESTIC_PASSWORD', 'AWS_NOTE'])
  }
  // Killed between the switch and the removal of the plain file.
  fs.writeFileSync(file, plain, { mode: 0o400 })
  fs.writeFileSync(path.join(m.state, 'web1/reseal.json'), '{"from":"file","to":"credential"}')
  const check = await kedge(m, ['secret', 'check', 'web1'])
  assert.match(check.stdout, /secret\.env' is not in force .*kedge secret seal web1 ends what was cut off/)
  await done(m, ['secret', 'seal', 'web1', '--to', 'credential'])
  assert.deepEqual(folder(target), ['paths', 'secret.cred', 'target.env'])
})

test('where the new file does not open, or target.env cannot be written, all is as it was', async (t) => {
  const { m, target, file } = house(t)
  const as = () => [
    providerOf(target),
    folder(target),
    fs.readFileSync(file, 'utf8'),
    fs.existsSync(path.join(m.state, 'web1/reseal.json')),
  ]
  const before = as()
  fake(m.bin, 'systemd-creds', '[ "$1" = encrypt ] && { cat; exit; }; echo no such key >&2; exit 1')
  const sealed = await kedge(m, ['secret', 'seal', 'web1', '--to', 'credential'])
  assert.equal(sealed.status, 12)
  assert.match(sealed.stderr, /what was written does not open: no such key/)
  assert.deepEqual(as(), before)
  // A folder in the place of the file that is to replace target.env: nothing can be written there.
  fake(m.bin, 'systemd-creds', `cat "$3"; mkdir -p '${target.dir}/target.env.'$PPID.new`)
  const switched = await kedge(m, ['secret', 'seal', 'web1', '--to', 'credential'])
  assert.notEqual(switched.status, 0, switched.stdout)
  for (const name of fs.readdirSync(target.dir)) if (name.endsWith('.new')) fs.rmdirSync(path.join(target.dir, name))
  assert.deepEqual(as(), before)
})

test('what a killed call leaves half-written is not for git, by the .gitignore of the guide', async (t) => {
  const { m, target } = house(t)
  const guide = fs.readFileSync(path.join(path.dirname(dist), 'docs/fleet.md'), 'utf8')
  const [, ignored = ''] = /```text\n# targets\/\.gitignore\n([\s\S]*?)```/.exec(guide) ?? []
  const targets = path.dirname(target.dir)
  fs.writeFileSync(path.join(targets, '.gitignore'), ignored)
  // Killed when what was written is opened for the proof, before it has its name.
  fake(m.bin, 'systemd-creds', '[ "$1" = encrypt ] && { cat; exit; }; kill -9 $PPID')
  assert.equal((await kedge(m, ['secret', 'seal', 'web1', '--to', 'credential'])).signal, 'SIGKILL')
  const halves = folder(target).filter((name) => /^\.secret\.cred\.[0-9a-f]{12}$/.test(name))
  assert.equal(halves.length, 1, folder(target).join())
  fs.writeFileSync(path.join(target.dir, '.secret.env.0123456789ab'), plain)
  fs.writeFileSync(path.join(target.dir, 'secret.env.gpg'), '')
  const added = await startProgram(m, '/bin/sh', ['-ec', `cd '${targets}'; git init -q; git add -A; git ls-files`]).result
  assert.equal(added.stdout, '.gitignore\nweb1/paths\nweb1/secret.env.gpg\nweb1/target.env\n', added.stderr)
})

test('a file that is not in force is never replaced: it may be all that is left of something', async (t) => {
  const { m, target, file } = house(t)
  const other = path.join(target.dir, 'secret.cred')
  fs.writeFileSync(other, 'of another time')
  fake(m.bin, 'systemd-creds', 'exec /usr/bin/systemd-creds "$@"')
  const refused = await kedge(m, ['secret', 'seal', 'web1', '--to', 'credential'])
  assert.equal(refused.status, 2)
  assert.match(refused.stderr, /secret\.cred' exists, and is not in force/)
  assert.equal(fs.readFileSync(other, 'utf8'), 'of another time')
  fs.rmSync(other)
  // Another name of the plain file is not the operator's to lose, and is told.
  const twin = path.join(m.dir, 'twin')
  fs.linkSync(file, twin)
  keyring(m, 'me', 'you')
  const sealed = await kedge(m, ['secret', 'seal', 'web1', '--recipient', 'me@example.org'])
  assert.equal(sealed.status, 3, sealed.stderr)
  assert.match(sealed.stderr, /the secrets still lie in plain text under 1 further name of '.*secret\.env'/)
  assert.equal(fs.readFileSync(twin, 'utf8'), plain)
})

// --- links, owners, faults of the file system

/** The machine's folders given to a user who is not root. */
function asUser(m: Machine): RunOptions {
  execFileSync('chown', ['-R', `${uid}:${uid}`, m.dir])
  return { uid }
}
const uid = 4321
const isRoot = process.geteuid?.() === 0

/** Moves a file of the target's to a folder elsewhere, and leaves a link. */
function vaulted(m: Machine, file: string): { vault: string; real: string } {
  const vault = path.join(m.dir, 'vault')
  fs.mkdirSync(vault, { recursive: true, mode: 0o755 })
  const real = path.join(vault, `web1-${path.basename(file)}`)
  fs.renameSync(file, real)
  fs.symlinkSync(real, file)
  return { vault, real }
}

test('a link to the plain secrets: the file that it names is overwritten, and goes with the link', async (t) => {
  const { m, target, file } = house(t)
  keyring(m, 'me')
  const { vault, real } = vaulted(m, file)
  assert.match((await kedge(m, ['secret', 'check', 'web1'])).stdout, /^file\tok\t/m)
  const open = fs.openSync(real, 'r')
  const dry = await done(m, ['secret', 'seal', 'web1', '--recipient', 'me@example.org', '-n'])
  assert.match(dry.stdout, new RegExp(`^${real}\twould remove\tweb1\n${file}\twould remove\tweb1\n`, 'm'))
  const sealed = await done(m, ['secret', 'seal', 'web1', '--recipient', 'me@example.org'])
  assert.match(sealed.stdout, new RegExp(`^${real}\tremoved\tweb1\n${file}\tremoved\tweb1\n`, 'm'))
  assert.deepEqual([fs.readdirSync(vault), folder(target)], [[], ['paths', 'secret.env.gpg', 'target.env']])
  assert.ok(
    fs.readFileSync(open).every((byte) => byte === 0),
    'who has it open reads zeros',
  )
  fs.closeSync(open)
})

test('a file of secrets that another target has too stays, whichever of both is the link, and is told', async (t) => {
  const { m, target, file } = house(t)
  keyring(m, 'me')
  const other = newTarget(m, 'web2', { paths: [m.home] })
  const provide = (name: string) => {
    const env = path.join(other.dir, 'target.env')
    fs.writeFileSync(env, fs.readFileSync(env, 'utf8').replace(/^SECRET=.*$/m, `SECRET=${name}`))
  }
  const link = (to: string) => {
    fs.rmSync(path.join(other.dir, path.basename(file)), { force: true })
    fs.symlinkSync(to, path.join(other.dir, path.basename(to).replace('web1-', '')))
  }
  const opens = async () => assert.deepEqual((await done(m, ['secret', 'show-keys', 'web2', '-q'])).lines, ['RESTIC_PASSWORD', 'AWS_NOTE'])
  const sealing = ['secret', 'seal', 'web1', '--recipient', 'me@example.org']
  const { real } = vaulted(m, file)
  link(real)
  // Plain, both are links.
  const before = fs.statSync(real).ino
  const dry = await done(m, [...sealing, '-n'])
  assert.ok(dry.stderr.includes(`'${real}', to which '${file}' leads, stays: 'web2' has it too`), dry.stderr)
  const { stdout } = await done(m, [...sealing, '--explain'])
  assert.match(stdout, new RegExp(`^rm -f '?${file}'?$`, 'm'))
  const sealed = await kedge(m, sealing)
  assert.equal(sealed.status, 3, sealed.stderr)
  assert.ok(sealed.stderr.includes(`still lie in plain text: '${real}', to which '${file}' leads, stays: 'web2' has it too`), sealed.stderr)
  for (const [out, action] of [
    [dry.stdout, 'would remove'],
    [sealed.stdout, 'removed'],
  ])
    assert.match(out ?? '', new RegExp(`target\\.env\\t.*\n${file}\t${action}\tweb1\n$`))
  assert.deepEqual(
    [fs.readFileSync(real, 'utf8'), fs.statSync(real).ino, folder(target)],
    [plain, before, ['paths', 'secret.env.gpg', 'target.env']],
  )
  await opens()
  // Sealed, both are links.
  const gpgFile = path.join(target.dir, 'secret.env.gpg')
  const vault = vaulted(m, gpgFile).real
  link(vault)
  provide('gpg')
  const plainAgain = ['secret', 'reseal', 'web1', '--to', 'file']
  const moved = await done(m, plainAgain)
  assert.ok(moved.stderr.includes(`'${vault}', to which '${gpgFile}' leads, stays: 'web2' has it too`), moved.stderr)
  await opens()
  // The target's own file, to which the other leads: sealed, and plain.
  fs.renameSync(vault, gpgFile)
  fs.rmSync(file)
  fs.rmSync(path.join(other.dir, 'secret.env.gpg'))
  fs.writeFileSync(path.join(target.dir, 'target.env'), settings(target).replace(/^SECRET=.*$/m, 'SECRET=gpg'))
  link(gpgFile)
  const own = await kedge(m, plainAgain)
  assert.equal(own.status, 3, own.stderr)
  assert.ok(own.stderr.includes(`not in force any more, but not removed: '${gpgFile}' stays: 'web2' has it too`), own.stderr)
  await opens()
  fs.rmSync(gpgFile)
  link(file)
  provide('file')
  const kept = await kedge(m, sealing)
  assert.equal(kept.status, 3, kept.stderr)
  assert.ok(kept.stderr.includes(`still lie in plain text: '${file}' stays: 'web2' has it too`), kept.stderr)
  assert.equal(fs.readFileSync(file, 'utf8'), plain)
  await opens()
})

/** Why no file can be mounted here; undefined where it can. */
async function noMounts(m: Machine): Promise<string | undefined> {
  const { status, stderr } = await startProgram(m, 'unshare', [namespace, 'sh', '-c', 'echo >x; mount --bind x x']).result
  return status === 0 ? undefined : `NOT SHOWN: no file can be mounted here: ${stderr}`
}
const namespace = isRoot ? '-m' : '-rm'

test('where target.env or the sealed file is a mount of its own, all is as it was; one plain file mounted for two targets stays', async (t) => {
  const { m, target, file } = house(t)
  const cannot = await noMounts(m)
  if (cannot) return t.skip(cannot)
  keyring(m, 'me')
  const to = ['--recipient', 'me@example.org']
  const mounted = (files: readonly string[], args: readonly string[]) => {
    const script = `set -e; ${files.map((each) => `mount --bind '${each.split(' ')[0]}' '${each.split(' ')[1] ?? each}'`).join('; ')}; exec "$@"`
    return startProgram(m, 'unshare', [namespace, 'sh', '-c', script, 'sh', process.execPath, kedgeFile, ...args]).result
  }
  const env = path.join(target.dir, 'target.env')
  const refused = await mounted([env], ['secret', 'seal', 'web1', ...to])
  assert.equal(refused.status, 1, refused.stderr)
  assert.match(refused.stderr, /cannot write '.*target\.env': it is a mount of its own\n.*mount the folder/)
  assert.deepEqual([providerOf(target), folder(target)], ['file', ['paths', 'secret.env', 'target.env']])
  assert.equal(fs.readFileSync(file, 'utf8'), plain)
  const other = newTarget(m, 'web2', { paths: [m.home] })
  const twin = path.join(other.dir, 'secret.env')
  const both = await mounted([`${file} ${twin}`], ['secret', 'seal', 'web1', ...to])
  assert.equal(both.status, 3, both.stderr)
  assert.match(both.stderr, /secret\.env' stays: 'web2' has it too/)
  assert.equal(fs.readFileSync(file, 'utf8'), plain)
  fs.rmSync(file)
  const sealed = path.join(target.dir, 'secret.env.gpg')
  const before = fs.readFileSync(sealed)
  const kept = await mounted([sealed], ['secret', 'reseal', 'web1', ...to])
  assert.equal(kept.status, 1, kept.stderr)
  assert.match(kept.stderr, /cannot write '.*secret\.env\.gpg': it is a mount of its own/)
  assert.deepEqual([fs.readFileSync(sealed), folder(target)], [before, ['paths', 'secret.env.gpg', 'target.env']])
})

test('a link to plain secrets that have a further name, or cannot be removed, is told, and the run is one in part', async (t) => {
  const { m, target, file } = house(t)
  keyring(m, 'me')
  const { vault, real } = vaulted(m, file)
  const twin = path.join(m.dir, 'twin')
  fs.linkSync(real, twin)
  const sealing = ['secret', 'seal', 'web1', '--recipient', 'me@example.org']
  const sealed = await kedge(m, sealing)
  assert.equal(sealed.status, 3, sealed.stderr)
  assert.match(sealed.stderr, /under 1 further name of '.*web1-secret\.env', to which '.*\/web1\/secret\.env' leads/)
  assert.deepEqual([fs.readFileSync(twin, 'utf8'), fs.readdirSync(vault)], [plain, []])
  if (!isRoot) return t.diagnostic('NOT SHOWN: a folder that refuses, which needs root to become another user')
  await done(m, ['secret', 'reseal', 'web1', '--to', 'file'])
  const again = vaulted(m, file)
  const as = asUser(m)
  execFileSync('chown', ['-R', `${uid}:${uid}`, m.env.GNUPGHOME as string])
  fs.chownSync(m.env.XDG_RUNTIME_DIR as string, uid, uid)
  fs.chownSync(again.vault, 0, 0)
  const refused = await kedge(m, sealing, as)
  assert.equal(refused.status, 3, refused.stderr)
  assert.match(refused.stderr, /cannot wipe '.*web1-secret\.env', to which .* leads: permission denied: look whether it still holds/)
  assert.deepEqual([providerOf(target), folder(target)], ['gpg', ['paths', 'secret.env.gpg', 'target.env']])
})

test('a link to the sealed secrets stays one when they are edited and sealed anew, also by hand; where they move only the link goes', async (t) => {
  const { m, target } = house(t)
  const gpg = keyring(m, 'me')
  const to = ['--recipient', 'me@example.org']
  await done(m, ['secret', 'seal', 'web1', ...to])
  const file = path.join(target.dir, 'secret.env.gpg')
  const { vault, real } = vaulted(m, file)
  const env = vaulted(m, path.join(target.dir, 'target.env')).real
  await done(m, ['secret', 'edit', 'web1'], { env: editor(m, 'echo MORE=1 >>"$1"').env })
  assert.equal(gpg(['--decrypt', real]), `${plain}MORE=1\n`)
  fs.chmodSync(real, 0o640)
  await done(m, ['secret', 'reseal', 'web1', ...to])
  const { stdout } = await done(m, ['secret', 'reseal', 'web1', ...to, '--explain'])
  const byHand = await startProgram(m, '/bin/sh', ['-c', stdout], { env: { GNUPGHOME: m.env.GNUPGHOME } }).result
  assert.equal(byHand.status, 0, byHand.stderr)
  assert.equal(fs.readlinkSync(file), real)
  assert.equal(gpg(['--decrypt', real]), `${plain}MORE=1\n`)
  assert.equal(fs.statSync(real).mode & 0o777, 0o640)
  const sealed = fs.readFileSync(real)
  const [dry, moved] = [
    await done(m, ['secret', 'reseal', 'web1', '--to', 'file', '-n']),
    await done(m, ['secret', 'reseal', 'web1', '--to', 'file']),
  ]
  assert.match(dry.stdout, new RegExp(`^${file}\twould remove\t`, 'm'))
  for (const { stdout, stderr } of [dry, moved]) {
    assert.ok(!stdout.includes(real), stdout)
    assert.ok(stderr.includes(`'${real}', to which '${file}' leads, stays\n`), stderr)
  }
  assert.deepEqual(fs.readFileSync(real), sealed)
  assert.deepEqual(fs.readdirSync(vault).sort(), [path.basename(real), path.basename(env)].sort())
  assert.deepEqual(folder(target), ['paths', 'secret.env', 'target.env'])
  assert.equal(fs.readlinkSync(path.join(target.dir, 'target.env')), env)
  const back = await done(m, ['secret', 'seal', 'web1', ...to, '--explain'])
  const backByHand = await startProgram(m, '/bin/sh', ['-c', back.stdout]).result
  assert.equal(backByHand.status, 0, backByHand.stderr)
  assert.equal(fs.readlinkSync(path.join(target.dir, 'target.env')), env)
  assert.deepEqual([providerOf(target), folder(target)], ['gpg', ['paths', 'secret.env.gpg', 'target.env']])
})

test('owner, group and mode of the sealed secrets and of target.env stay; plain secrets never get more rights than 0600', async (t) => {
  if (!isRoot) return t.skip('only root can give a file to another group')
  const { m, target, file } = house(t)
  keyring(m, 'me')
  const to = ['--recipient', 'me@example.org']
  const env = path.join(target.dir, 'target.env')
  const sealed = path.join(target.dir, 'secret.env.gpg')
  const rights = (path: string) => {
    const { uid, gid, mode } = fs.statSync(path)
    return [uid, gid, mode & 0o7777]
  }
  const give = (path: string) => {
    fs.chownSync(path, 0, uid)
    fs.chmodSync(path, 0o640)
  }
  give(env)
  fs.chmodSync(file, 0o600)
  const { env: editing } = editor(m, 'echo "MORE$$=1" >>"$1"')
  await done(m, ['secret', 'edit', 'web1'], { env: editing })
  assert.equal(fs.statSync(file).mode & 0o7777, 0o600)
  await done(m, ['secret', 'seal', 'web1', ...to])
  assert.deepEqual(
    [rights(env), rights(sealed)],
    [
      [0, uid, 0o640],
      [0, 0, 0o600],
    ],
  )
  give(sealed)
  await done(m, ['secret', 'edit', 'web1'], { env: editing })
  await done(m, ['secret', 'reseal', 'web1', ...to])
  assert.deepEqual(rights(sealed), [0, uid, 0o640])
  // Who cannot keep them changes nothing.
  const as = asUser(m)
  execFileSync('chown', ['-R', `${uid}:${uid}`, m.env.GNUPGHOME as string])
  fs.chownSync(sealed, 0, uid)
  const before = fs.readFileSync(sealed)
  const refused = await kedge(m, ['secret', 'reseal', 'web1', ...to], { ...as, env: { XDG_RUNTIME_DIR: undefined } })
  assert.equal(refused.status, 1, refused.stderr)
  assert.match(refused.stderr, /cannot write '.*secret\.env\.gpg': its owner 0:4321 cannot be kept: operation not permitted/)
  assert.deepEqual(
    [fs.readFileSync(sealed), rights(sealed), folder(target)],
    [before, [0, uid, 0o640], ['paths', 'secret.env.gpg', 'target.env']],
  )
})

/** Options with which opening the folder fails in kedge, as on a disk that goes bad: from the time on when `when` is in the file. */
function failing(m: Machine, dir: string, file: string, when: string): RunOptions {
  const fault = path.join(m.dir, 'fault.cjs')
  fs.writeFileSync(
    fault,
    `const fs = require('node:fs'), promises = require('node:fs/promises'), { open } = promises
    promises.open = async (path, flags, ...more) => {
      if (path === ${JSON.stringify(dir)} && flags === 'r' && fs.readFileSync(${JSON.stringify(file)}, 'utf8').includes(${JSON.stringify(when)}))
        throw Object.assign(new Error('EIO: i/o error, open'), { code: 'EIO' })
      return await open(path, flags, ...more)
    }`,
  )
  return { env: { NODE_OPTIONS: `--require ${fault}` } }
}

test('a fault after SECRET was switched never takes the file in force; the next call ends the move', async (t) => {
  const { m, target, file } = house(t)
  const gpg = keyring(m, 'me')
  const sealing = ['secret', 'seal', 'web1', '--recipient', 'me@example.org']
  const env = path.join(target.dir, 'target.env')
  const failed = await kedge(m, sealing, failing(m, target.dir, env, 'SECRET=gpg'))
  assert.notEqual(failed.status, 0)
  assert.match(failed.stderr, /EIO/)
  assert.equal(providerOf(target), 'gpg')
  assert.equal(gpg(['--decrypt', path.join(target.dir, 'secret.env.gpg')]), plain)
  assert.deepEqual(await keysOf(m), ['RESTIC_PASSWORD', 'AWS_NOTE'])
  await done(m, sealing)
  assert.deepEqual([folder(target), fs.existsSync(file)], [['paths', 'secret.env.gpg', 'target.env'], false])
})

test('the note of a move lasts before anything is moved: where that fails, all is as it was', async (t) => {
  const { m, target, file } = house(t)
  keyring(m, 'me')
  const state = path.join(m.state, 'web1')
  const env = path.join(target.dir, 'target.env')
  const failed = await kedge(m, ['secret', 'seal', 'web1', '--recipient', 'me@example.org'], failing(m, state, env, 'SECRET='))
  assert.match(failed.stderr, /EIO/)
  assert.deepEqual(
    [providerOf(target), folder(target), fs.readFileSync(file, 'utf8')],
    ['file', ['paths', 'secret.env', 'target.env'], plain],
  )
  assert.ok(!fs.existsSync(path.join(state, 'reseal.json')))
})

test('secrets are edited in a memory folder that is nobody else’s: another user’s, or one open to others, is passed over', async (t) => {
  if (!isRoot) return t.skip('only root can give a folder to another user')
  const { m, file } = house(t)
  const runtime = m.env.XDG_RUNTIME_DIR as string
  const { env, seen } = editor(m, `echo "A$$=1" >>"$1"`)
  const at = async (options: RunOptions = {}) => {
    await done(m, ['secret', 'edit', 'web1'], { ...options, env })
    assert.ok(!fs.existsSync(path.dirname(seen().file)))
    return path.dirname(path.dirname(seen().file))
  }
  assert.equal(await at(), runtime)
  // A dead call's folder in a place that another could change is left alone, as all else there.
  const trap = path.join(runtime, 'kedge-secret-trap')
  fs.mkdirSync(trap)
  fs.writeFileSync(path.join(trap, 'secret.env'), 'not of kedge')
  fs.utimesSync(trap, 1, 1)
  for (const [owner, mode] of [
    [uid, 0o700],
    [0, 0o770],
    [0, 0o777],
  ] as const) {
    fs.chownSync(runtime, owner, 0)
    fs.chmodSync(runtime, mode)
    assert.equal(await at(), '/dev/shm', `${owner} ${mode.toString(8)}`)
  }
  const inside = path.join(runtime, 'inside')
  fs.mkdirSync(inside, { mode: 0o700 })
  m.env.XDG_RUNTIME_DIR = inside
  assert.equal(await at(), '/dev/shm', 'below a folder that others may change')
  assert.equal(fs.readFileSync(path.join(trap, 'secret.env'), 'utf8'), 'not of kedge')
  // And a user with root's variable, as after su.
  m.env.XDG_RUNTIME_DIR = runtime
  fs.chownSync(runtime, 0, 0)
  fs.chmodSync(runtime, 0o700)
  assert.equal(await at(asUser(m)), '/dev/shm')
  assert.ok(fs.readFileSync(file, 'utf8').startsWith(plain))
})

test('secrets that kedge cannot write are neither edited nor sealed', async (t) => {
  const { m, target } = house(t)
  const before = settings(target)
  for (const provider of ["SECRET=command\nSECRET_COMMAND='echo RESTIC_PASSWORD=x'", 'SECRET=none']) {
    fs.writeFileSync(path.join(target.dir, 'target.env'), before.replace("SECRET='file'", provider))
    for (const action of ['edit', 'seal', 'reseal']) {
      const result = await kedge(m, ['secret', action, 'web1'])
      assert.equal(result.status, 2, `${provider} ${action}: ${result.stderr}`)
    }
  }
})

// --- check

test('check says what is missing, what is open to others, and whether the password opens the store', async (t) => {
  const { m, target, file } = house(t)
  await makeStore(m, target)
  const findings = async (status: number) => {
    const result = await kedge(m, ['secret', 'check', 'web1', '--json'])
    assert.equal(result.status, status, result.stdout + result.stderr)
    return new Map((result.rows as Finding[]).map(({ check, level, text }) => [check, `${level}: ${text}`]))
  }
  const good = await findings(0)
  for (const [check, text] of Object.entries({
    secrets: /^ok: '.*secret\.env' opens \(SECRET=file\)/,
    keys: /^ok/,
    store: /^ok: it opens/,
    'plain text': /^warning/,
    rotation: /^ok/,
    password: /^ok: kedge never rotated it/,
  }))
    assert.match(good.get(check) ?? '', text, check)
  fs.chmodSync(file, 0o600)
  fs.writeFileSync(file, 'RESTIC_PASSWORD=wrong-one\n')
  assert.match((await findings(12)).get('store') ?? '', /^blocked: .*wrong password/)
  fs.writeFileSync(file, 'AWS_NOTE=1\n')
  assert.match((await findings(12)).get('keys') ?? '', /^blocked: RESTIC_PASSWORD is missing/)
  fs.writeFileSync(file, plain)
  fs.chmodSync(file, 0o644)
  assert.match((await findings(2)).get('file') ?? '', /^warning: others have rights/)
  const env = settings(target)
  fs.chmodSync(file, 0o600)
  fs.writeFileSync(
    path.join(target.dir, 'target.env'),
    env.replace(/^RESTIC_REPOSITORY=.*$/m, 'RESTIC_REPOSITORY=s3:http://127.0.0.1:9/x\nCONNECT_TIMEOUT=1s'),
  )
  assert.match((await kedge(m, ['secret', 'check', 'web1'])).stdout, /^keys\twarning\tnot set: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY/m)
})

test('check names the keys that a gpg file is for, and those that gpg does not know', async (t) => {
  const { m, target } = house(t)
  const gpg = keyring(m, 'me', 'you')
  await done(m, ['secret', 'seal', 'web1', '--recipient', 'me@example.org', '--recipient', 'you@example.org'])
  const line = async () => /^recipients\t.*$/m.exec((await kedge(m, ['secret', 'check', 'web1'])).stdout)?.[0] ?? ''
  assert.match(await line(), /^recipients\tok\tit is for key [0-9A-F]{16}, key [0-9A-F]{16}\t/)
  const print = /^fpr:+(\w+):/m.exec(gpg(['--with-colons', '--list-keys', 'you@example.org']))?.[1] ?? ''
  gpg(['--yes', '--delete-secret-and-public-key', print])
  assert.match(await line(), /^recipients\twarning\t.*; gpg does not know [0-9A-F]{16} here/)
  assert.ok(fs.existsSync(path.join(target.dir, 'secret.env.gpg')))
})
