// A new password for a repository: whatever is cut off, the target opens, nothing is lost, and the next call goes on.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { build } from 'esbuild'
import type { Finding, Rotated } from '../../lib/rows/house.ts'
import type { RunRow } from '../../lib/rows.ts'
import {
  done,
  fake,
  growTree,
  kedge,
  type Machine,
  machine,
  type NewTarget,
  newest,
  newTarget,
  type Restic,
  type Result,
  restics,
  root,
  sameTree,
  scratch,
  startProgram,
  type TargetOptions,
} from '../harness.ts'
import { keyring } from '../keyring.ts'
import { makeStore } from '../store.ts'

const rotateArgs = ['secret', 'rotate-password', 'web1']
const first = 'the first password'

type House = { m: Machine; target: NewTarget; tree: string }

/** A target with one snapshot of a tree. Without a version it is the newest, with a `key add` of the test's own, which takes no time. */
async function house(t: TestContext, options: TargetOptions = {}, restic?: Restic): Promise<House> {
  const m = machine(t, await cheapRestic(t, restic))
  const tree = path.join(m.dir, 'tree')
  fs.mkdirSync(tree)
  growTree(tree)
  const target = newTarget(m, 'web1', { paths: [tree], secrets: { RESTIC_PASSWORD: first }, ...options })
  await makeStore(m, target)
  await done(m, ['backup', 'web1'])
  return { m, target, tree }
}

/**
 * restic, but for `key add`: it tries for seconds how much work a key may be, and each call costs a part of it from then on. With a
 * version the key is restic's own, from the same pipe, and made cheap afterwards.
 */
async function cheapRestic(t: TestContext, own?: Restic): Promise<Restic> {
  const { version, path: real } = own ?? newest()
  const dir = scratch(t)
  const contents = `
    import fs from 'node:fs'
    import { addCheap, cheapen } from './test/cheap.ts'
    const line = (from) => fs.readFileSync(from, 'utf8').replace(/\\n$/, '')
    const [, , how, file] = process.argv
    if (how === 'add') addCheap(process.env.RESTIC_REPOSITORY, line(7), line(file))
    else cheapen(process.env.RESTIC_REPOSITORY, line(7))`
  const file = path.join(dir, 'cheap.mjs')
  await build({ stdin: { contents, resolveDir: root }, outfile: file, bundle: true, platform: 'node', format: 'esm' })
  const node = (how: string, password: string) => `'${process.execPath}' '${file}' ${how} "$pipe" 7<<END\n$${password}\nEND\n`
  const ownKey = `new=$(cat "$pipe"); echo "$new" >"$pipe" & '${real}' "$@" || exit\n${node('cheapen', 'new')}`
  const current = 'if [ "$RESTIC_PASSWORD_COMMAND" ]; then eval "$RESTIC_PASSWORD_COMMAND"; else echo "$RESTIC_PASSWORD"; fi'
  const cheapKey = `old=$(${current})\n${node('add', 'old')}`
  const script = `case "$*" in 'key add'*) ;; *) exec '${real}' "$@";; esac\nfor pipe; do :; done\n${own ? ownKey : cheapKey}`
  return { version, path: fake(dir, 'restic', script) }
}

/** restic by hand, with this password. */
const byHand = (m: Machine, target: NewTarget, password: string, args: readonly string[]): Promise<Result> =>
  startProgram(m, m.restic.path, args[0] === 'key' ? args : ['--no-cache', ...args], {
    env: { RESTIC_REPOSITORY: target.repository, RESTIC_PASSWORD: password },
  }).result

const opens = async (m: Machine, target: NewTarget, password: string) =>
  (await byHand(m, target, password, ['cat', 'config', '--no-lock'])).status === 0

const secretsOf = (target: NewTarget) => fs.readFileSync(path.join(target.dir, 'secret.env'), 'utf8')
const settingIn = (text: string, key: string) => new RegExp(`^${key}='?([^'\\n]*)'?$`, 'm').exec(text)?.[1]
const steps = (result: Result) => (result.rows as Rotated[]).map(({ step }) => step)

/** One key, which the new password opens and the old one does not; what was saved is there. */
async function rotated({ m, target, tree }: House, old: string, now: string | undefined): Promise<void> {
  assert.ok(now && now !== old, `another password: ${now}`)
  assert.ok(await opens(m, target, now), 'the new password opens the repository')
  assert.ok(!(await opens(m, target, old)), 'the old password opens it no more')
  assert.equal(fs.readdirSync(path.join(target.repository, 'keys')).length, 1)
  const to = fs.mkdtempSync(path.join(m.dir, 'restored-'))
  await done(m, ['restore', 'web1', '--to', to])
  sameTree(path.join(to, tree), tree)
}

for (const restic of restics()) {
  test(`restic ${restic.version}: the password is another one, the old one opens nothing, and the bytes are the same`, async (t) => {
    const at = await house(t, {}, restic)
    const { m, target } = at
    const file = path.join(target.dir, 'secret.env')
    fs.chmodSync(file, 0o600)
    fs.writeFileSync(file, `# of the first web server\nRESTIC_PASSWORD='${first}' # by hand\nAWS_NOTE=stays\n`)
    fs.chmodSync(file, 0o400)
    await done(m, ['recovery', 'web1', '--noted'])
    const result = await done(m, [...rotateArgs, '--json'])
    assert.deepEqual(steps(result), ['begun', 'added', 'proven', 'stored', 'checked', 'removed', 'done'])
    const text = secretsOf(target)
    assert.match(text, /^# of the first web server\nRESTIC_PASSWORD=[\w-]+ # by hand\nAWS_NOTE=stays\n$/)
    assert.equal(fs.statSync(file).mode & 0o777, 0o400)
    await rotated(at, first, settingIn(text.replace(' # by hand', ''), 'RESTIC_PASSWORD'))
    assert.match(result.stderr, /master key is the same as before/)
    const runs = (await done(m, ['history', 'web1', '--json'])).rows as RunRow[]
    assert.equal(runs.find(({ verb }) => verb === 'rotate')?.state, 'success')
    const doctor = (await kedge(m, ['doctor', 'web1', '--json'])).rows as Finding[]
    assert.equal(doctor.find(({ check }) => check === 'recovery')?.level, 'warning', 'the sheet that was noted is void')
    assert.match((await done(m, ['secret', 'check', 'web1'])).stdout, /^password\tok\trotated .* ago/m)
    await done(m, ['backup', 'web1'])
  })
}

// --- cut off

/** A program that kills kedge, its parent, and its own group, at the call that the file `armed` names: 'before 3', 'after 3'. */
function killer(m: Machine, tool: string, real: string): { arm: (at: string) => void; calls: () => string[] } {
  const [armed, calls] = [path.join(m.dir, `${tool}.armed`), path.join(m.dir, `${tool}.calls`)]
  fake(
    m.bin,
    tool,
    `[ "$1" = version ] && exec '${real}' "$@"
[ -f '${armed}' ] || exec '${real}' "$@"
echo "$*" >>'${calls}'
n=$(wc -l <'${calls}'); at=$(cat '${armed}')
[ "$at" = "before $((n))" ] && { rm '${armed}'; kill -9 $PPID 0; }
'${real}' "$@"; status=$?
[ "$at" = "after $((n))" ] && { rm '${armed}'; kill -9 $PPID 0; }
exit $status`,
  )
  return {
    arm: (at) => {
      fs.writeFileSync(calls, '')
      fs.writeFileSync(armed, at)
    },
    calls: () => fs.readFileSync(calls, 'utf8').split('\n').slice(0, -1),
  }
}

/** The same house on a machine of its own, down to the keys of gpg, which are the same ones. */
function copyOf(t: TestContext, { m, target, tree }: House): House {
  const copy = machine(t, m.restic)
  if (m.env.GNUPGHOME) copy.env.GNUPGHOME = m.env.GNUPGHOME
  const dir = path.join(copy.config, 'targets', target.name)
  const repository = path.join(copy.dir, 'repository')
  fs.cpSync(target.repository, repository, { recursive: true })
  fs.cpSync(target.dir, dir, { recursive: true })
  const env = path.join(dir, 'target.env')
  fs.writeFileSync(env, fs.readFileSync(env, 'utf8').replace(target.repository, repository))
  return { m: copy, target: { ...target, dir, repository }, tree }
}

type Killing = {
  tool: string
  real: string
  /** Calls that change something: a rotation is killed after them too. */
  changing: RegExp
  secretText: (target: NewTarget) => string
}

/**
 * Rotates to the end once, for the calls that there are, and then, each time from the same beginning, is cut off before each of them,
 * and after those that change something. Three at a time: much of it is waiting until a dead holder of the lock is known to be dead.
 */
async function cutOffEverywhere(t: TestContext, from: House, { tool, real, changing, secretText }: Killing): Promise<void> {
  const whole = copyOf(t, from)
  const counting = killer(whole.m, tool, real)
  counting.arm('never')
  await done(whole.m, rotateArgs)
  const all = counting.calls()
  assert.ok(all.filter((call) => changing.test(call)).length >= 2, all.join('\n'))
  const points = all.flatMap((call, i) => [`before ${i + 1}`, ...(changing.test(call) ? [`after ${i + 1}`] : [])])
  const passwordOf = (target: NewTarget) => settingIn(secretText(target), 'RESTIC_PASSWORD') ?? ''
  const cutOffAt = async (point: string) => {
    const what = `cut off ${point} of ${all.join('; ')}`
    const { m, target } = copyOf(t, from)
    killer(m, tool, real).arm(point)
    const cut = await kedge(m, rotateArgs)
    assert.equal(cut.signal, 'SIGKILL', `${what}: ${cut.stderr}`)
    assert.equal(await snapshotsOf(m, target, passwordOf(target)), 1, `${what}: the target opens`)
    await done(m, [...rotateArgs, '--wait', '20s'])
    assert.doesNotMatch(secretText(target), /KEDGE_/, what)
    assert.notEqual(passwordOf(target), first, what)
    assert.equal(await snapshotsOf(m, target, passwordOf(target)), 1, what)
    assert.ok(!(await opens(m, target, first)), `${what}: the old password opens nothing`)
    assert.equal(fs.readdirSync(path.join(target.repository, 'keys')).length, 1, what)
    left(m, what)
  }
  const worker = async () => {
    for (let point = points.shift(); point !== undefined; point = points.shift()) await cutOffAt(point)
  }
  await Promise.all(Array.from({ length: 3 }, worker))
  await rotated(whole, first, passwordOf(whole.target))
}

/** How many snapshots restic lists by hand. */
async function snapshotsOf(m: Machine, target: NewTarget, password: string): Promise<number> {
  const { status, stdout, stderr } = await byHand(m, target, password, ['snapshots', '--json', '--no-lock'])
  assert.equal(status, 0, stderr)
  return (JSON.parse(stdout) as unknown[]).length
}

/** Nothing of a killed call lies about. */
function left(m: Machine, what: string): void {
  const target = fs.readdirSync(path.join(m.config, 'targets/web1')).filter((name) => name.startsWith('.'))
  const scratches = fs.readdirSync(path.join(m.state, 'web1/scratch'))
  assert.deepEqual([target, scratches], [[], []], what)
}

test('a rotation that is killed before or after any call of restic loses nothing, and the next call ends it', async (t) => {
  const at = await house(t)
  await cutOffEverywhere(t, at, { tool: 'restic', real: at.m.restic.path, changing: /^key (add|remove)/, secretText: secretsOf })
})

test('a rotation that is killed before or after any call of gpg, which seals each step, loses nothing', async (t) => {
  const at = await house(t)
  const gpg = keyring(at.m, 'me')
  await done(at.m, ['secret', 'seal', 'web1', '--recipient', 'me@example.org'])
  const secretText = ({ dir }: NewTarget) => gpg(['--decrypt', path.join(dir, 'secret.env.gpg')])
  await cutOffEverywhere(t, at, { tool: 'gpg', real: '/usr/bin/gpg', changing: /--encrypt/, secretText })
})

test('a link to the sealed secrets stays one, and their owner, group and mode stay', async (t) => {
  const { m, target } = await house(t)
  const gpg = keyring(m, 'me')
  await done(m, ['secret', 'seal', 'web1', '--recipient', 'me@example.org'])
  const [file, real] = [path.join(target.dir, 'secret.env.gpg'), path.join(m.dir, 'web1.gpg')]
  fs.renameSync(file, real)
  fs.symlinkSync(real, file)
  fs.chmodSync(real, 0o640)
  if (process.geteuid?.() === 0) fs.chownSync(real, 0, 4321)
  const { uid, gid } = fs.statSync(real)
  await done(m, rotateArgs)
  assert.notEqual(settingIn(gpg(['--decrypt', real]), 'RESTIC_PASSWORD'), first)
  assert.equal(fs.readlinkSync(file), real)
  const now = fs.statSync(real)
  assert.deepEqual([now.uid, now.gid, now.mode & 0o7777], [uid, gid, 0o640])
})

// --- what goes wrong on the way

test('where the check finds damage, or the key cannot be removed, the old key stays, and the next call goes on', async (t) => {
  const at = await house(t)
  const { m, target } = at
  const failing = (verb: string, text: string) =>
    fake(m.bin, 'restic', `case "$*" in '${verb}'*) echo 'Fatal: ${text}' >&2; exit 1;; esac\nexec '${m.restic.path}' "$@"`)
  failing('key add', 'unable to save the key: 403 Forbidden')
  assert.equal((await kedge(m, rotateArgs)).status, 12)
  const next = settingIn(secretsOf(target), 'KEDGE_NEXT_PASSWORD')
  assert.ok(next && !(await opens(m, target, next)))
  failing('check', 'repository contains errors')
  const damaged = await kedge(m, rotateArgs)
  assert.equal(damaged.status, 14, damaged.stderr)
  assert.equal(settingIn(secretsOf(target), 'RESTIC_PASSWORD'), next, 'the password that was written down first is the one')
  assert.ok(await opens(m, target, first))
  failing('key remove', 'append-only: operation not permitted')
  assert.equal((await kedge(m, rotateArgs)).status, 1)
  assert.match(secretsOf(target), /^KEDGE_OLD_PASSWORD='the first password'$/m)
  assert.ok((await opens(m, target, first)) && (await opens(m, target, next)))
  assert.match((await done(m, ['secret', 'check', 'web1'])).stdout, /^rotation\twarning\tone is under way \(KEDGE_OLD_PASSWORD\)/m)
  // It is the key that stays that counts, and not restic's status.
  fake(m.bin, 'restic', `case "$*" in 'key remove'*) exit 0;; esac\nexec '${m.restic.path}' "$@"`)
  const kept = await kedge(m, rotateArgs)
  assert.equal(kept.status, 1)
  assert.match(kept.stderr, /cannot remove the key [0-9a-f]{8} from .*: it is still there/)
  fs.rmSync(path.join(m.bin, 'restic'))
  assert.deepEqual(steps(await done(m, [...rotateArgs, '--json'])), ['checked', 'removed', 'done'])
  await rotated(at, first, next)
})

test('a new password that does not open the repository never comes into force', async (t) => {
  const { m, target } = await house(t)
  // Whatever is to become the password, restic is told another.
  fake(
    m.bin,
    'restic',
    `case "$*" in 'key add'*) cat "$5" >/dev/null; echo other >'${m.dir}/other'
    exec '${m.restic.path}' key add --new-password-file '${m.dir}/other';; esac\nexec '${m.restic.path}' "$@"`,
  )
  const result = await kedge(m, rotateArgs)
  assert.equal(result.status, 1, result.stderr)
  assert.match(result.stderr, /cannot open '.*' with the new password: the old one stays in force/)
  assert.equal(settingIn(secretsOf(target), 'RESTIC_PASSWORD'), first)
  await done(m, ['backup', 'web1'])
})

test('keys of others stay, and a second key with the old password goes too', async (t) => {
  const at = await house(t)
  const { m, target } = at
  const file = path.join(m.dir, 'theirs')
  for (const password of ['theirs', first]) {
    fs.writeFileSync(file, `${password}\n`)
    assert.equal((await byHand(m, target, first, ['key', 'add', '--new-password-file', file])).status, 0)
  }
  assert.equal(steps(await done(m, [...rotateArgs, '--json'])).filter((step) => step === 'removed').length, 2)
  assert.ok(!(await opens(m, target, first)))
  assert.ok(await opens(m, target, 'theirs'))
  assert.equal(fs.readdirSync(path.join(target.repository, 'keys')).length, 2)
})

test('secrets from a command: kedge says line by line what the operator has to store, and goes on when it is there', async (t) => {
  const at = await house(t)
  const { m, target } = at
  const vault = path.join(m.dir, 'vault')
  fs.renameSync(path.join(target.dir, 'secret.env'), vault)
  fs.chmodSync(vault, 0o600)
  const env = path.join(target.dir, 'target.env')
  fs.writeFileSync(env, `${fs.readFileSync(env, 'utf8').replace("SECRET='file'", 'SECRET=command')}SECRET_COMMAND='cat ${vault}'\n`)
  const one = await kedge(m, rotateArgs)
  assert.equal(one.status, 3, one.stderr)
  const [line = ''] = one.lines
  assert.match(line, /^KEDGE_NEXT_PASSWORD=[\w-]{48}$/)
  const next = line.slice(line.indexOf('=') + 1)
  assert.ok(!(await opens(m, target, next)), 'no key is made before the password is stored')
  assert.equal(fs.readdirSync(path.join(target.repository, 'keys')).length, 1)
  fs.appendFileSync(vault, `${line}\n`)
  const two = await kedge(m, rotateArgs)
  assert.equal(two.status, 3, two.stderr)
  assert.match(
    two.stderr,
    /rename in what SECRET_COMMAND prints: RESTIC_PASSWORD to KEDGE_OLD_PASSWORD, KEDGE_NEXT_PASSWORD to RESTIC_PASSWORD/,
  )
  assert.ok((await opens(m, target, first)) && (await opens(m, target, next)))
  await done(m, ['list', 'web1'])
  fs.writeFileSync(
    vault,
    fs.readFileSync(vault, 'utf8').replace('RESTIC_PASSWORD', 'KEDGE_OLD_PASSWORD').replace('KEDGE_NEXT_PASSWORD', 'RESTIC_PASSWORD'),
  )
  const three = await done(m, rotateArgs)
  assert.match(three.stderr, /take KEDGE_OLD_PASSWORD out of what SECRET_COMMAND prints/)
  await rotated(at, first, next)
  assert.ok(![one, two, three].some(({ stderr }) => stderr.includes(next) || stderr.includes(first)))
})

test('no password is in an argument, a message, a log, a record, a hook or a stream, at whatever step', async (t) => {
  const scripts = { 'streams/app.sql': 'env', 'hooks/before-rotate': 'env; cat', 'hooks/after-rotate': 'env; cat' }
  const { m, target } = await house(t, { scripts, env: { HOOK_SECRETS: 'KEDGE_NEXT_PASSWORD KEDGE_OLD_PASSWORD' } })
  const seen = path.join(m.dir, 'seen')
  fake(
    m.bin,
    'restic',
    `{ printf 'argv %s\\n' "$@"; env; ps -A -o args=; } >>'${seen}'
case "$*" in 'key remove'*) exit 1;; esac\nexec '${m.restic.path}' "$@"`,
  )
  // Within kedge run it is kedge itself that has the old password in its environment.
  const mkfifo = fake(m.bin, 'mkfifo', `env >>'${seen}'; PATH=$(getconf PATH) exec mkfifo "$@"`)
  const results = [await kedge(m, ['run', 'web1', ...rotateArgs.slice(0, -1), '-v'])]
  fs.rmSync(mkfifo)
  const old = secretsOf(target)
  const now = settingIn(old, 'RESTIC_PASSWORD') ?? ''
  assert.match(old, /KEDGE_OLD_PASSWORD/)
  results.push(
    await done(m, ['backup', 'web1', '-v']),
    await done(m, ['cat', 'web1', 'latest:/app.sql']),
    await done(m, ['recovery', 'web1']),
  )
  assert.doesNotMatch((await done(m, ['recovery', 'web1', '--with-secret'])).stdout, /KEDGE_/)
  fake(m.bin, 'restic', `{ printf 'argv %s\\n' "$@"; env; ps -A -o args=; } >>'${seen}'\nexec '${m.restic.path}' "$@"`)
  results.push(
    await done(m, [...rotateArgs, '-v']),
    await done(m, ['secret', 'show-keys', 'web1']),
    await done(m, ['secret', 'check', 'web1']),
  )
  const places: Record<string, string> = { 'argv, environment and ps': fs.readFileSync(seen, 'utf8') }
  assert.match(places['argv, environment and ps'] ?? '', /^argv --new-password-file$/m)
  results.forEach(({ stdout, stderr }, i) => {
    places[`result ${i}`] = stdout + stderr
  })
  for (const entry of fs.readdirSync(m.state, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) places[entry.name] = fs.readFileSync(path.join(entry.parentPath, entry.name), 'latin1')
  assert.ok(Object.keys(places).some((name) => name.endsWith('.log')))
  for (const [place, text] of Object.entries(places)) {
    assert.ok(!text.includes(first), `the old password is in: ${place}`)
    assert.ok(!text.includes(now), `the new password is in: ${place}`)
  }
})

test('another target with the same store and password is not locked out unasked; a copy elsewhere is nobody of that kind', async (t) => {
  const at = await house(t)
  const { m, target } = at
  const pin = /^STORE_ID=.*$/m.exec(fs.readFileSync(path.join(target.dir, 'target.env'), 'utf8'))?.[0]?.slice(9) ?? ''
  const env = { RESTIC_REPOSITORY: target.repository, STORE_ID: pin }
  newTarget(m, 'other', { paths: [at.tree], secrets: { RESTIC_PASSWORD: 'another' }, env })
  newTarget(m, 'twin', { paths: [at.tree], secrets: { RESTIC_PASSWORD: first }, env })
  newTarget(m, 'away', { secrets: { RESTIC_PASSWORD: first }, env: { STORE_ID: 'f'.repeat(64), SNAPSHOTS_OF: 'web1' } })
  const refused = await kedge(m, rotateArgs)
  assert.equal(refused.status, 15)
  assert.match(refused.stderr, /refusing to rotate the password of 'web1': 'twin' opens the store/)
  assert.equal(settingIn(secretsOf(target), 'RESTIC_PASSWORD'), first)
  await done(m, [...rotateArgs, '--force', 'shared'])
  await rotated(at, first, settingIn(secretsOf(target), 'RESTIC_PASSWORD'))
})

test('-n names the steps and changes nothing; what --explain prints is run by sh to the same end', async (t) => {
  const at = await house(t)
  const { m, target } = at
  const before = secretsOf(target)
  const dry = await done(m, [...rotateArgs, '-n', '--json'])
  assert.deepEqual(steps(dry), ['begun', 'added', 'proven', 'stored', 'checked', 'removed', 'done'])
  assert.equal(secretsOf(target), before)
  assert.equal(fs.readdirSync(path.join(target.repository, 'keys')).length, 1)
  const { stdout } = await done(m, [...rotateArgs, '--explain'])
  assert.equal(secretsOf(target), before)
  const run = await startProgram(m, '/bin/sh', ['-c', stdout]).result
  assert.equal(run.status, 0, run.stderr)
  await rotated(at, first, settingIn(secretsOf(target), 'RESTIC_PASSWORD'))
})

test('no password to rotate, no pin, or a provider that has none, is refused before anything is done', async (t) => {
  const { m, target } = await house(t)
  const env = fs.readFileSync(path.join(target.dir, 'target.env'), 'utf8')
  const password = path.join(m.dir, 'password')
  fs.writeFileSync(password, first)
  fs.writeFileSync(path.join(target.dir, 'target.env'), env.replace(/^STORE_ID=.*\n/m, ''))
  assert.equal((await kedge(m, rotateArgs)).status, 15)
  fs.writeFileSync(path.join(target.dir, 'target.env'), `${env}RESTIC_PASSWORD_FILE=${password}\n`.replace("SECRET='file'", 'SECRET=none'))
  assert.equal((await kedge(m, rotateArgs)).status, 2)
  const file = path.join(target.dir, 'secret.env')
  fs.rmSync(file)
  fs.writeFileSync(file, 'AWS_NOTE=x\n', { mode: 0o400 })
  fs.writeFileSync(path.join(target.dir, 'target.env'), `${env}RESTIC_PASSWORD_FILE=${password}\n`)
  const none = await kedge(m, rotateArgs)
  assert.equal(none.status, 12)
  assert.match(none.stderr, /its secrets have no RESTIC_PASSWORD/)
  fs.rmSync(file)
  fs.writeFileSync(file, `RESTIC_PASSWORD='${first}'\nKEDGE_NEXT_PASSWORD=a\nKEDGE_OLD_PASSWORD=b\n`, { mode: 0o400 })
  assert.equal((await kedge(m, rotateArgs)).status, 2)
  assert.equal(fs.readdirSync(path.join(target.repository, 'keys')).length, 1)
})
