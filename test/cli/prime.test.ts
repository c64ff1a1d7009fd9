// gpg-agent made to hold the keys of secrets: a real gpg and agent, with a pinentry that asks on the terminal that it is told.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { after, type TestContext, test } from 'node:test'
import type { Primed } from '../../lib/rows/house.ts'
import { dist, done, fake, kedge, type Machine, machine, newTarget, startProgram } from '../harness.ts'
import { terminal } from '../pty.ts'

// A short path: the agent's sockets lie in it where there is no /run/user.
const gnupg = fs.mkdtempSync('/tmp/kg-')
const gpg = (args: readonly string[], input = '') =>
  execFileSync('gpg', ['--batch', '--quiet', '--pinentry-mode', 'loopback', ...args], {
    env: { ...process.env, GNUPGHOME: gnupg },
    input,
    encoding: 'utf8',
  })
const pin = 'the pin of the key'
const asks = 'PIN PLEASE:'
/** Asks on the terminal named by ttyname; an empty answer is Cancel. */
const pinentry = fake(
  gnupg,
  'pinentry',
  `echo OK
while read -r word rest; do
  case $word in
  OPTION) case $rest in ttyname=*) tty=\${rest#ttyname=} ;; esac; echo OK ;;
  GETPIN) printf '%s ' '${asks}' >"$tty"; stty -echo <"$tty"; read -r pin <"$tty"; stty echo <"$tty"; echo >"$tty"
    if [ "$pin" ]; then printf 'D %s\\nOK\\n' "$pin"; else echo 'ERR 83886179 Operation cancelled'; fi ;;
  BYE) echo OK; exit ;;
  *) echo OK ;;
  esac
done`,
)
const settings = (idle: number) =>
  fs.writeFileSync(path.join(gnupg, 'gpg-agent.conf'), `pinentry-program ${pinentry}\ndefault-cache-ttl ${idle}\n`)
settings(77)
const make = (name: string, passphrase: string) => {
  gpg(['--passphrase', passphrase, '--quick-gen-key', name, 'future-default', 'default', 'never'])
  return /^fpr:+(\w+):/m.exec(gpg(['--with-colons', '--list-keys', name]))?.[1] ?? ''
}
const locked = make('locked@example.org', pin)
const open = make('open@example.org', '')
const forget = () => execFileSync('gpgconf', ['--kill', 'all'], { env: { ...process.env, GNUPGHOME: gnupg } })
after(() => {
  forget()
  fs.rmSync(gnupg, { recursive: true, force: true, maxRetries: 5 })
})

function house(t: TestContext): Machine {
  forget()
  const m = machine(t)
  m.env.GNUPGHOME = gnupg
  return m
}

/** A target whose secrets gpg encrypted: to these keys, or with --symmetric. */
function sealed(m: Machine, name: string, ...how: readonly string[]): string {
  const { dir, password } = newTarget(m, name, { env: { SECRET: 'gpg' } })
  fs.rmSync(path.join(dir, 'secret.env'))
  const file = path.join(dir, 'secret.env.gpg')
  gpg([...how, '--output', file], `RESTIC_PASSWORD='${password}'\n`)
  return file
}
const to = (...keys: readonly string[]) => ['--encrypt', ...keys.flatMap((key) => ['--recipient', key])]

const limit = { timeout: 60_000 }
const primed = (screen: string) =>
  screen
    .split('\n')
    .filter((line) => line.startsWith('{"kind":"primed"'))
    .map((line) => JSON.parse(line) as Primed)

for (const stdin of ['', ' </dev/null']) {
  test(`one question on the terminal for all files of a key${stdin}, then the agent holds it as long as is said`, limit, async (t) => {
    const m = house(t)
    for (const name of ['c', 'a', 'b']) sealed(m, name, ...to(locked))
    assert.equal((await kedge(m, ['run', 'a', 'true'])).status, 12, 'nobody to ask yet')
    const before = Date.now()
    const tty = terminal(m, dist, [`kedge prime --json --all${stdin}`, 'echo "status $?"'])
    await tty.until(asks)
    tty.type(`${pin}\r`)
    const screen = await tty.end()
    assert.equal(screen.split(asks).length - 1, 1, screen)
    assert.match(screen, /status 0\n/)
    const [row, ...more] = primed(screen)
    assert.deepEqual([row?.key, row?.targets, more], [locked, ['a', 'b', 'c'], []])
    const until = Date.parse(row?.until ?? '')
    assert.ok(until >= before + 77_000 && until <= Date.now() + 77_000, row?.until ?? '')
    assert.ok(!screen.includes('a password for'), screen)
    const { stdout } = await done(m, ['run', '--all', '-q', '--', 'sh', '-c', 'echo $RESTIC_PASSWORD'])
    assert.deepEqual(stdout.trim().split('\n').sort(), ['a password for a', 'a password for b', 'a password for c'])
  })
}

test('a key that is held already is not asked for, and it is said that it may go earlier', limit, async (t) => {
  const m = house(t)
  sealed(m, 'a', ...to(locked))
  const tty = terminal(m, dist, ['kedge prime a', 'kedge prime a', 'echo "status $?"'])
  await tty.until(asks)
  tty.type(`${pin}\r`)
  const screen = await tty.end()
  assert.equal(screen.split(asks).length - 1, 1)
  assert.equal(screen.split('was held before: it may go earlier, 2 h after its passphrase was typed').length - 1, 1, screen)
  assert.match(screen, /status 0\n/)
})

test('a key without a passphrase has no end; what no agent holds is told; the rest goes on', limit, async (t) => {
  const m = house(t)
  sealed(m, 'open', ...to(open))
  sealed(m, 'both', ...to(open, locked)) // gpg takes the one that needs no question
  sealed(m, 'word', '--passphrase', 'x', '--symmetric')
  newTarget(m, 'plain')
  const { rows, stderr } = await done(m, ['prime', '--all', '--json'])
  assert.deepEqual(rows, [{ kind: 'primed', key: open, targets: ['both', 'open'], until: null }])
  assert.match(stderr, /key \w+ has no passphrase/)
  assert.match(stderr, /^word: a passphrase opens its secrets, which no agent holds: kedge run asks for it once$/m)
  assert.match(stderr, /^plain: SECRET=file: no key of gpg's to hold$/m)
})

test('a key that is not here, and a question called off, are status 12, and the other keys are held', limit, async (t) => {
  const m = house(t)
  const stranger = make('stranger@example.org', '')
  sealed(m, 'a', ...to(locked))
  sealed(m, 'b', ...to(open))
  sealed(m, 'c', ...to(stranger))
  gpg(['--yes', '--delete-secret-keys', stranger])
  const tty = terminal(m, dist, ['kedge prime --json --all', 'echo "status $?"'])
  await tty.until(asks)
  tty.type('\r')
  const screen = await tty.end()
  assert.match(screen, /status 12\n/)
  assert.match(screen, /"message":"a: cannot open '.*\/a\/secret\.env\.gpg': gpg ended with status 2"/)
  assert.match(screen, /"message":"c: cannot open '.*\/c\/secret\.env\.gpg': no secret key \w{16}"/)
  assert.deepEqual(
    primed(screen).map(({ targets }) => targets),
    [['b']],
  )
})

test('an agent that keeps nothing is a failure, not a promise', limit, async (t) => {
  settings(0)
  t.after(() => settings(77))
  const m = house(t)
  sealed(m, 'a', ...to(locked))
  const tty = terminal(m, dist, ['kedge prime a', 'echo "status $?"'])
  await tty.until(asks)
  tty.type(`${pin}\r`)
  const screen = await tty.end()
  assert.match(screen, new RegExp(`kedge: a: gpg-agent does not hold key ${locked}\n {2}hint: default-cache-ttl`))
  assert.match(screen, /status 12\n/)
})

test('targets or --all, not both and not neither; --explain prints what sh runs', async (t) => {
  const m = house(t)
  const file = sealed(m, 'a', ...to(open))
  for (const args of [[], ['--all', 'a']]) assert.equal((await kedge(m, ['prime', ...args])).status, 2)
  assert.equal((await kedge(m, ['prime', '../a'])).status, 2)
  const { stdout } = await done(m, ['prime', 'a', '--explain'])
  assert.equal(stdout, `gpg --decrypt -- ${file} >/dev/null\n`)
  assert.equal((await startProgram(m, '/bin/sh', ['-c', stdout]).result).status, 0)
})
