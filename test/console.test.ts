// The pure parts of `kedge run` and `kedge prime`, and what callers' variables decide.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keygrip, parseKeyInfo, parseLimits } from '../lib/agent.ts'
import { createChannel, createTurns } from '../lib/console/channel.ts'
import { globPattern } from '../lib/console/choice.ts'
import { shellFor, withTarget } from '../lib/console/command.ts'
import { contextEnv } from '../lib/console/context.ts'
import { bounded, byGravity, errorLine, lastWords, outputRow } from '../lib/console/output.ts'
import { secondsOf } from '../lib/console/seconds.ts'
import type { Target } from '../lib/contract.ts'
import restic from '../lib/engine/restic/traits.ts'
import { callerEnv } from '../lib/env.ts'
import { Failure, worst } from '../lib/failure.ts'
import { handedSecrets, handing } from '../lib/handed.ts'

const target = (name: string, env: Record<string, string> = {}): Target => ({
  name,
  engine: 'restic',
  dir: `/etc/kedge/targets/${name}`,
  env,
  origin: {},
  paths: [],
  excludes: [],
  streams: [],
  hooks: [],
  secret: 'file',
})

const globs: readonly (readonly [string, readonly string[], readonly string[]])[] = [
  ['*', ['web1', 'a.b'], []],
  ['web?', ['web1', 'webx'], ['web', 'web10']],
  ['web*', ['web', 'web10'], ['xweb']],
  ['w*1', ['w1', 'web1', 'w1.1'], ['web2']],
  ['web[12]', ['web1', 'web2'], ['web3', 'web[12]']],
  ['web[!1-3]', ['web4'], ['web1', 'web3']],
  ['web[^1]', ['web2', 'web^'], ['web1']],
  ['a.b', ['a.b'], ['axb']],
  ['a+b$', ['a+b$'], ['aab']],
  ['a[', ['a['], ['a']],
  ['[]a]', [']', 'a'], ['b']],
  ['[\\d]', ['d', '\\'], ['1']],
]
for (const [glob, yes, no] of globs) {
  test(`the pattern ${glob} matches ${yes.join(', ')}${no.length > 0 ? ` and not ${no.join(', ')}` : ''}`, () => {
    const pattern = globPattern(glob)
    for (const name of yes) assert.ok(pattern.test(name), name)
    for (const name of no) assert.ok(!pattern.test(name), name)
  })
}

test('a pattern whose range is upside down is misuse', () => {
  assert.throws(
    () => globPattern('web[9-1]'),
    (error) => error instanceof Failure && error.class === 'misuse',
  )
})

const places: readonly (readonly [string, readonly string[], readonly string[]])[] = [
  ['target [target ...]', ['--json'], ['web1', '--json']],
  ['[target ...]', [], ['web1']],
  ['target pattern ...', ['*.pem'], ['web1', '*.pem']],
  ['action target', ['edit', '--x'], ['edit', 'web1', '--x']],
  ['test|digest|missed [target ...]', ['test'], ['test', 'web1']],
  ['[list | install | remove] [target ...]', ['install', '-n'], ['install', 'web1', '-n']],
  ['[list | install | remove] [target ...]', ['--by', 'systemd'], ['web1', '--by', 'systemd']],
  ['[list | install | remove] [target ...]', [], ['web1']],
  ['old new', ['web2'], ['web1', 'web2']],
  ['', ['-q'], ['-q']],
]
for (const [operands, rest, all] of places) {
  test(`a verb of '${operands}' gets the target in its place`, () => assert.deepEqual(withTarget(operands, rest, 'web1'), all))
}

const shells: readonly (readonly [string | undefined, readonly string[], Record<string, string>])[] = [
  ['/bin/bash', ['/bin/bash', '--norc', '--noprofile'], { PS1: 'kedge web1$ ' }],
  ['/usr/bin/zsh', ['/usr/bin/zsh', '-f'], { PS1: 'kedge web1$ ' }],
  ['/usr/bin/fish', ['/usr/bin/fish', '--no-config', '--init-command', "function fish_prompt; echo -n 'kedge web1$ '; end"], {}],
  ['/bin/ksh', ['/bin/ksh'], { PS1: 'kedge web1$ ', ENV: '/dev/null' }],
  ['/usr/sbin/nologin', ['/bin/sh'], { PS1: 'kedge web1$ ', ENV: '/dev/null' }],
  ['bash', ['/bin/sh'], { PS1: 'kedge web1$ ', ENV: '/dev/null' }],
  [undefined, ['/bin/sh'], { PS1: 'kedge web1$ ', ENV: '/dev/null' }],
]
for (const [shell, words, env] of shells) {
  test(`the shell for SHELL=${shell ?? ''}`, () => {
    const command = shellFor(target('web1'), shell, false)
    assert.deepEqual([command.words, command.env], [words, env])
  })
}
test('the prompt of root has a #', () => assert.equal(shellFor(target('web1'), '/bin/sh', true).env?.PS1, 'kedge web1# '))

test('a line is a row with its target: for people, for programs, bare, and as JSON, which keeps a target of its own', () => {
  assert.deepEqual(outputRow('web1', 'a\tb', 'people'), { kind: 'text', text: 'web1: a\tb' })
  assert.deepEqual(outputRow('web1', 'a\tb', 'programs'), { kind: 'text', text: 'web1\ta\tb' })
  assert.deepEqual(outputRow('web1', 'a\tb', 'bare'), { kind: 'text', text: 'a\tb' })
  assert.deepEqual(outputRow('web1', '{"kind":"entry"}', 'json'), { kind: 'entry', target: 'web1' })
  assert.deepEqual(outputRow('web1', '{"kind":"run","target":"web2"}', 'json'), { kind: 'run', target: 'web2' })
  for (const line of ['plain', '[1]', '{torn', ''])
    assert.deepEqual(outputRow('web1', line, 'json'), { kind: 'output', target: 'web1', line })
  assert.equal(errorLine('web1', 'kedge: oh', 'people'), 'web1: kedge: oh')
  assert.equal(errorLine('web1', '{"error":{"status":1}}', 'json'), '{"error":{"status":1},"target":"web1"}')
  assert.equal(errorLine('web1', 'restic says', 'json'), 'web1: restic says')
})

const copying: readonly (readonly [Record<string, string>, readonly string[], readonly string[]])[] = [
  [{ COPY_TO: 'a b a' }, ['copy'], ['a', 'b']],
  [{ COPY_TO: 'a b' }, ['copy', '--wait', '1h', '--to', 'b'], ['b']],
  [{ COPY_TO: 'a b' }, ['copy', '--to=a', '--to', 'b'], ['a', 'b']],
  [{ COPY_TO: 'a b' }, ['copy', '--to', 'c'], []],
  [{ COPY_TO: 'a b' }, ['backup'], []],
  [{ COPY_TO: 'a b', COPY_AFTER_BACKUP: 'yes' }, ['backup', '-v'], ['a', 'b']],
  [{ COPY_TO: 'a b', COPY_AFTER_BACKUP: 'yes' }, ['list'], []],
  [{}, ['copy'], []],
]
test('the second stores whose secrets a command wants are those that it copies to', () => {
  for (const [env, words, names] of copying) assert.deepEqual(secondsOf(env, words), names, words.join(' '))
})

test('the secrets of second stores are found by name and folder, whatever else the variable may hold', (t) => {
  t.after(() => delete process.env.KEDGE_CONTEXT_SECONDS)
  const secrets = { RESTIC_PASSWORD: "it's a 'word'\n of two lines" }
  const { name, dir } = target('vault')
  Object.assign(process.env, handing([{ name, dir, secrets }]))
  assert.deepEqual(handedSecrets({ name, dir }), secrets)
  assert.equal(handedSecrets({ name, dir: '/elsewhere/vault' }), undefined)
  assert.equal(handedSecrets({ name: 'web1', dir }), undefined)
  assert.deepEqual(
    Object.keys(callerEnv()).filter((key) => key.startsWith('KEDGE')),
    [],
  )
  for (const stray of ['{torn', '{}', '7']) {
    process.env.KEDGE_CONTEXT_SECONDS = stray
    assert.equal(handedSecrets({ name, dir }), undefined)
  }
  assert.deepEqual(handing([]), {})
})

const last: readonly (readonly [string, string])[] = [
  ['warning: x\nkedge: cannot open it: no\n  hint: try\nmore\n', 'cannot open it: no'],
  ['one\n\ntwo\n\n', 'two'],
  ['{"error":{"status":12,"message":"wrong password"}}\n', 'wrong password'],
  ['', ''],
]
for (const [stderr, message] of last) {
  test(`of ${JSON.stringify(stderr)} the last words are '${message}'`, () => assert.equal(lastWords(stderr), message))
}

test('outcomes are sorted worst first, and by name where they are as bad', () => {
  const of = (name: string, status: number) => ({ kind: 'outcome' as const, target: name, status, seconds: 0, message: '' })
  const sorted = byGravity([of('f', 0), of('e', 3), of('b', 1), of('a', 5), of('d', 75), of('c', 14), of('g', 130), of('a0', 0)], worst)
  assert.deepEqual(
    sorted.map(({ target, status }) => `${target}${status}`),
    ['g130', 'c14', 'a5', 'b1', 'e3', 'd75', 'a00', 'f0'],
  )
})

test('a line without an end is cut, so that memory stays flat, and no byte is lost', async () => {
  async function* endless() {
    for (let i = 0; i < 40; i++) yield Buffer.alloc(1 << 16, 120)
    yield Buffer.from('x\nshort\n')
  }
  let text = ''
  for await (const chunk of bounded(endless())) text += chunk
  const lines = text.split('\n')
  assert.ok(Math.max(...lines.map(({ length }) => length)) <= (1 << 20) + (1 << 16))
  assert.equal(text.replaceAll('\n', '').length, 40 * (1 << 16) + 1 + 'short'.length)
  assert.deepEqual(lines.slice(-2), ['short', ''])
})

test('a writer waits until its value was taken, and no longer once nobody reads', async () => {
  const channel = createChannel<number>()
  const done: number[] = []
  for (const n of [1, 2, 3]) channel.push(n).then(() => done.push(n))
  const values = channel.values()
  assert.equal((await values.next()).value, 1)
  await new Promise(setImmediate)
  assert.deepEqual(done, [])
  assert.equal((await values.next()).value, 2)
  await new Promise(setImmediate)
  assert.deepEqual(done, [1])
  await values.return()
  await channel.push(4)
  assert.deepEqual(done, [1, 2, 3])
})

test('what takes turns does not overlap, and one that fails does not stop the next', async () => {
  const turn = createTurns()
  const log: string[] = []
  const work = (name: string) => async () => {
    log.push(`${name} begins`)
    await new Promise(setImmediate)
    log.push(`${name} ends`)
    if (name === 'a') throw new Error(name)
  }
  await Promise.allSettled([turn(work('a')), turn(work('b'))])
  assert.deepEqual(log, ['a begins', 'a ends', 'b begins', 'b ends'])
})

/** With these variables in the environment of this process. */
function calledWith<T>(env: Record<string, string>, look: () => T): T {
  const before = { ...process.env }
  Object.assign(process.env, env)
  try {
    return look()
  } finally {
    for (const key of Object.keys(env)) {
      delete process.env[key]
      if (before[key] !== undefined) process.env[key] = before[key]
    }
  }
}

const inside = {
  KEDGE_CONTEXT: 'web1',
  KEDGE_CONTEXT_DIR: '/etc/kedge/targets/web1',
  KEDGE_CONTEXT_KEYS: 'RESTIC_PASSWORD AWS_SECRET_ACCESS_KEY',
  KEDGE_CONTEXT_SETTINGS: 'AWS_PROFILE',
  RESTIC_PASSWORD: 'one',
  AWS_SECRET_ACCESS_KEY: 'two words',
  AWS_PROFILE: 'first',
}
test('secrets are taken from the environment for exactly the target of the context', () => {
  const secrets = { RESTIC_PASSWORD: 'one', AWS_SECRET_ACCESS_KEY: 'two words' }
  calledWith(inside, () => {
    assert.deepEqual(handedSecrets(target('web1')), secrets)
    assert.equal(handedSecrets(target('web2')), undefined)
    assert.equal(handedSecrets({ ...target('web1'), dir: '/home/me/.config/kedge/targets/web1' }), undefined)
  })
  calledWith({ ...inside, KEDGE_CONTEXT_KEYS: 'RESTIC_PASSWORD B2_ACCOUNT_KEY' }, () =>
    assert.equal(handedSecrets(target('web1')), undefined),
  )
  assert.equal(
    calledWith({ KEDGE_CONTEXT: 'web1', RESTIC_PASSWORD: 'stray' }, () => handedSecrets(target('web1'))),
    undefined,
  )
})

test('in the context of one target nothing of it reaches the tools of another, PASS_ENV or not', () => {
  const asking = target('web2', { PASS_ENV: 'AWS_PROFILE AWS_SECRET_ACCESS_KEY RESTIC_PASSWORD OTHER' })
  const cache = { all: '/c', own: { RESTIC_CACHE_DIR: '/c/web2/restic' } }
  const env = calledWith({ ...inside, OTHER: 'passed' }, () => contextEnv(asking, { RESTIC_PASSWORD: 'web2s' }, cache, restic))
  assert.equal(env.OTHER, 'passed')
  assert.equal(env.RESTIC_PASSWORD, 'web2s')
  assert.equal(env.AWS_PROFILE, undefined)
  assert.equal(env.AWS_SECRET_ACCESS_KEY, undefined)
  assert.deepEqual([env.KEDGE_CONTEXT, env.KEDGE_CONTEXT_KEYS], ['web2', 'RESTIC_PASSWORD'])
  assert.deepEqual(
    calledWith({ ...inside, OTHER: 'passed' }, () => callerEnv(['AWS_PROFILE', 'RESTIC_PASSWORD', 'OTHER']).OTHER),
    'passed',
  )
  assert.equal(
    calledWith(inside, () => callerEnv(['AWS_PROFILE', 'RESTIC_PASSWORD']).AWS_PROFILE),
    undefined,
  )
})

test('a password among the secrets wins over a password command of target.env, as it does in a run', () => {
  const own = target('web1', { RESTIC_PASSWORD_COMMAND: 'false', RESTIC_PASSWORD_FILE: '/x', RESTIC_REPOSITORY: '/r' })
  const cache = { all: '/c', own: { RESTIC_CACHE_DIR: '/c/web1/restic' } }
  const env = contextEnv(own, { RESTIC_PASSWORD: 'x' }, cache, restic)
  assert.deepEqual([env.RESTIC_PASSWORD, env.RESTIC_PASSWORD_COMMAND, env.RESTIC_PASSWORD_FILE], ['x', undefined, undefined])
  assert.equal(contextEnv(own, {}, cache, restic).RESTIC_PASSWORD_COMMAND, 'false')
})

// Lines of gpg 2.2.40.
const options = (value: string) => `default-cache-ttl:24:0:expire cached PINs after N seconds:3:3:N:600::${value}
default-cache-ttl-ssh:24:1:expire SSH keys after N seconds:3:3:N:1800::
max-cache-ttl:24:2:set maximum PIN cache lifetime to N seconds:3:3:N:7200::
`
test("how long gpg-agent holds a key is read from gpgconf: what is set, else gpg's default", () => {
  assert.deepEqual(parseLimits(options('')), { idle: 600, longest: 7200 })
  assert.deepEqual(parseLimits(options('77')), { idle: 77, longest: 7200 })
  assert.deepEqual(parseLimits(options('0')), { idle: 0, longest: 7200 })
  assert.throws(() => parseLimits('max-cache-ttl:24:2:x:3:3:N:7200::\n'), /gpgconf does not give default-cache-ttl/)
})

const states = [
  ['S KEYINFO 86C89334CB28DE519696D3DAE8B66EF36B1D5384 D - - - P - - -\nOK\n', 'asked'],
  ['S KEYINFO 86C89334CB28DE519696D3DAE8B66EF36B1D5384 D - - 1 P - - -\nOK\n', 'held'],
  ['S KEYINFO 86C89334CB28DE519696D3DAE8B66EF36B1D5384 D - - - C - - -\nOK\n', 'none'],
  ['S KEYINFO 86C89334CB28DE519696D3DAE8B66EF36B1D5384 T D2760001240103040006123456780000 OPENPGP.2 - - - - -\nOK\n', 'card'],
  ['ERR 67108891 Not found <GPG Agent>\n', 'unknown'],
] as const
for (const [text, state] of states) test(`KEYINFO ${text.slice(50, 70)}: ${state}`, () => assert.equal(parseKeyInfo(text), state))

test('the keygrip of a subkey is the one that follows its fingerprint', () => {
  const listing = `sec:u:3072:1:3FE3141CD4BF7FA8:1795172298:::u:::scESC:::+:::23::0:
fpr:::::::::BD549E04C0E64137648CA9BF3FE3141CD4BF7FA8:
grp:::::::::55336A6D64D80DF767194154A3017F779110A1FC:
ssb:u:3072:1:EF7480CB0BB65F5A:1795172298::::::e:::+:::23:
fpr:::::::::4D57FFF1F8B925D6818146F2EF7480CB0BB65F5A:
grp:::::::::7512621296102BE0EDEAD3A41E312D14D8DFBAB4:
`
  assert.equal(keygrip(listing, 'EF7480CB0BB65F5A'), '7512621296102BE0EDEAD3A41E312D14D8DFBAB4')
  assert.equal(keygrip(listing, 'BD549E04C0E64137648CA9BF3FE3141CD4BF7FA8'), '55336A6D64D80DF767194154A3017F779110A1FC')
  assert.equal(keygrip(listing, '0123456789ABCDEF'), undefined)
})
