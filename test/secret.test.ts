import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import test, { after, type TestContext } from 'node:test'
import { build } from 'esbuild'
import type { Provider, Target } from '../lib/contract.ts'
import { type Class, Failure } from '../lib/failure.ts'
import { redact } from '../lib/log.ts'
import { header } from '../lib/openpgp.ts'
import { sealSecrets } from '../lib/seal.ts'
import { newPassword, openSecrets } from '../lib/secret.ts'
import { fake, root, scratch } from './harness.ts'

const passphrase = 'ein Wort, and ünïcode  with spaces €'
const values = { RESTIC_PASSWORD: "it's a 'secret'", AWS_SECRET_ACCESS_KEY: 'wJalrXUtnFEMI', NOTE: 'two\nlines of grün' }
const text = `RESTIC_PASSWORD='it'\\''s a '\\''secret'\\'''\nAWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI\nNOTE='two\nlines of grün'\n`

// A short path: the agent's sockets lie in it where there is no /run/user. The environment is the caller's, as for a command.
const gnupg = fs.mkdtempSync('/tmp/kg-')
process.env.GNUPGHOME = gnupg
const systemPath = process.env.PATH ?? ''
const key = 'kedge test <kedge@example.org>'
execFileSync(
  'gpg',
  ['--batch', '--quiet', '--pinentry-mode', 'loopback', '--passphrase', '', '--quick-gen-key', key, 'default', 'default', 'never'],
  {
    stdio: 'ignore',
  },
)
after(() => {
  execFileSync('gpgconf', ['--kill', 'all'])
  fs.rmSync(gnupg, { recursive: true, force: true, maxRetries: 5 })
})

const signal = new AbortController().signal
const nobody = { signal, ask: undefined, passphraseFd: undefined }

/** A descriptor with this text; it stays open, since kedge reads a descriptor once. */
function descriptor(t: TestContext, content: string | Uint8Array): number {
  const file = path.join(scratch(t), 'passphrase')
  fs.writeFileSync(file, content)
  return fs.openSync(file, 'r')
}
const giving = (t: TestContext, line = `${passphrase}\n`) => ({ ...nobody, passphraseFd: descriptor(t, line) })

function target(dir: string, secret: Provider, env: Record<string, string> = {}): Target {
  return { name: path.basename(dir), engine: 'restic', dir, env, origin: {}, paths: [], excludes: [], streams: [], hooks: [], secret }
}

/** A target's folder whose secret.env.gpg gpg made. */
function sealedByGpg(t: TestContext, args: readonly string[]): Target {
  const dir = scratch(t)
  const input = path.join(dir, 'plain')
  fs.writeFileSync(input, text)
  const run = spawnSync(
    'gpg',
    [
      '--batch',
      '--quiet',
      '--pinentry-mode',
      'loopback',
      '--passphrase-fd',
      '0',
      '--output',
      path.join(dir, 'secret.env.gpg'),
      ...args,
      input,
    ],
    {
      input: `${passphrase}\n`,
      encoding: 'utf8',
    },
  )
  assert.equal(run.status, 0, run.stderr)
  fs.rmSync(input)
  return target(dir, 'gpg')
}

/** A gpg first in PATH that notes how it was called. Gives the notes. */
function spyOn(t: TestContext, tool: string, more = ''): () => string {
  const dir = scratch(t)
  const notes = path.join(dir, 'notes')
  const real = execFileSync('sh', ['-c', `command -v ${tool}`], { encoding: 'utf8', env: { PATH: systemPath } }).trim()
  fake(dir, tool, `{ printf '%s\\n' "$@"; env; } >>${notes}\n${more}\nexec ${real} "$@"`)
  process.env.PATH = `${dir}:${systemPath}`
  t.after(() => {
    process.env.PATH = systemPath
  })
  return () => (fs.existsSync(notes) ? fs.readFileSync(notes, 'utf8') : '')
}

function free(notes: string): void {
  assert.notEqual(notes, '')
  for (const secret of [passphrase, ...Object.values(values)]) assert.ok(!notes.includes(secret), notes)
}

const failure = (kind: Class, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Failure, String(error))
  assert.equal(error.class, kind, error.message)
  assert.match(error.message, message)
  for (const secret of [passphrase, ...Object.values(values)]) assert.ok(!`${error.message}${error.hint}`.includes(secret), error.message)
  return true
}

const inMemory: Record<string, readonly string[]> = {
  'its defaults': ['--symmetric'],
  armor: ['--symmetric', '--armor'],
  'AES256, SHA512 and the highest count': [
    '--symmetric',
    '--cipher-algo',
    'AES256',
    '--s2k-digest-algo',
    'SHA512',
    '--s2k-count',
    '65011712',
  ],
  'a low count': ['--symmetric', '--s2k-count', '1024', '--s2k-digest-algo', 'SHA1'],
  'salted keys': ['--symmetric', '--s2k-mode', '1'],
  Twofish: ['--symmetric', '--cipher-algo', 'TWOFISH'],
  '3DES': ['--symmetric', '--cipher-algo', '3DES'],
  bzip2: ['--symmetric', '--compress-algo', 'bzip2'],
  'no compression': ['--symmetric', '-z', '0'],
  'a key as well': ['--symmetric', '--encrypt', '--recipient', key],
}
for (const [what, args] of Object.entries(inMemory)) {
  test(`a symmetric file that gpg made with ${what} opens in memory, without gpg, and only with its passphrase`, async (t) => {
    const sealed = sealedByGpg(t, args)
    const notes = spyOn(t, 'gpg')
    assert.deepEqual(await openSecrets(sealed, giving(t)), values)
    await assert.rejects(
      openSecrets(sealed, giving(t, 'wrong\n')),
      failure('auth', /^cannot open '\/.*\/secret\.env\.gpg': wrong passphrase$/),
    )
    assert.equal(notes(), '')
  })
}

for (const cipher of ['CAMELLIA256', 'IDEA']) {
  test(`what OpenPGP.js does not know (${cipher}) goes to gpg, which gets the passphrase on a descriptor`, async (t) => {
    const sealed = sealedByGpg(t, ['--symmetric', '--cipher-algo', cipher])
    const notes = spyOn(t, 'gpg')
    assert.deepEqual(await openSecrets(sealed, giving(t)), values)
    free(notes())
    await assert.rejects(openSecrets(sealed, giving(t, 'wrong\n')), failure('auth', /secret\.env\.gpg': wrong passphrase$/))
  })
}

test('a file without protection against changes is refused, though its passphrase is right', async (t) => {
  const sealed = sealedByGpg(t, ['--symmetric', '--rfc2440'])
  await assert.rejects(openSecrets(sealed, giving(t)), failure('auth', /secret\.env\.gpg': decryption forced to fail/))
})

// Made by gpg 2.4.7 with --symmetric --force-aead (OCB), passphrase 'pass wörd'.
const ocb =
  'jE0FCQIDCjyb2glTJ+Sx/5WW6rTJEyXAq/lGiEIipFUSQg5Uic7j19LrY9089zszOwd+w+vEk+Qd8GLX5SGP1WSPP1n19Q6R1O+tuuOnIdRhAQkCEOo3K2oKznOPS5kpXRyG' +
  'sxQaNx9jFmQi2cg6O9La+qmRIove9X6uFKloJTUsg9ZuyhQ7QRMF9qM6Em8legIWPaAyN53anUil4kBzx5sFD9YGGSNsMUo32kHlNwYVbQ=='
test("gpg 2.4's OCB opens in memory, and only with its passphrase", async (t) => {
  const dir = scratch(t)
  fs.writeFileSync(path.join(dir, 'secret.env.gpg'), Buffer.from(ocb, 'base64'))
  assert.deepEqual(await openSecrets(target(dir, 'gpg'), giving(t, 'pass wörd')), { RESTIC_PASSWORD: 'made-by-gpg-2.4' })
  await assert.rejects(openSecrets(target(dir, 'gpg'), giving(t, 'pass word')), failure('auth', /wrong passphrase/))
})

test('a symmetric file that sq made opens in memory', async (t) => {
  const dir = scratch(t)
  fs.writeFileSync(path.join(dir, 'plain'), text)
  // sq asks for the passphrase, twice, on a terminal only.
  const command = `sq encrypt --symmetric --output ${dir}/secret.env.gpg ${dir}/plain`
  const run = spawnSync('script', ['-q', '-e', '-c', command, '/dev/null'], {
    input: `${passphrase}\n${passphrase}\n`,
    encoding: 'utf8',
    timeout: 30_000,
  })
  assert.equal(run.status, 0, run.stdout)
  assert.deepEqual(await openSecrets(target(dir, 'gpg'), giving(t)), values)
})

for (const armor of [[], ['--armor']]) {
  test(`a file encrypted to a key goes through gpg and its agent ${armor.join('')}`, async (t) => {
    const sealed = sealedByGpg(t, ['--encrypt', '--recipient', key, ...armor])
    const notes = spyOn(t, 'gpg')
    assert.deepEqual(await openSecrets(sealed, nobody), values)
    free(notes())
  })
}

test('a file to a key and a passphrase goes to gpg where there is no passphrase', async (t) => {
  assert.deepEqual(await openSecrets(sealedByGpg(t, inMemory['a key as well'] ?? []), nobody), values)
})

test('a file to a key that is not here says which', async (t) => {
  const sealed = sealedByGpg(t, ['--encrypt', '--recipient', key])
  const empty = fs.mkdtempSync('/tmp/kg-')
  process.env.GNUPGHOME = empty
  t.after(() => {
    execFileSync('gpgconf', ['--kill', 'all'])
    process.env.GNUPGHOME = gnupg
    fs.rmSync(empty, { recursive: true, force: true, maxRetries: 5 })
  })
  await assert.rejects(openSecrets(sealed, nobody), failure('auth', /no secret key [0-9A-F]{16}$/))
})

test('where nobody is there and no descriptor is given the failure names both ways', async (t) => {
  const sealed = sealedByGpg(t, ['--symmetric'])
  await assert.rejects(openSecrets(sealed, nobody), (error) => {
    assert.ok(failure('auth', /no passphrase and nobody to ask$/)(error))
    assert.match((error as Failure).hint ?? '', /--passphrase-fd N .*KEDGE_PASSPHRASE_FD.*terminal/)
    return true
  })
})

test('the terminal is asked for the passphrase, hidden, and not again for what it opens', async (t) => {
  const sealed = sealedByGpg(t, ['--symmetric'])
  await assert.rejects(openSecrets(sealed, { ...nobody, ask: async () => '' }), failure('auth', /the passphrase is empty/))
  const asked: unknown[] = []
  const ask = async (...question: unknown[]) => {
    asked.push(question)
    return passphrase
  }
  assert.deepEqual(await openSecrets(sealed, { ...nobody, ask }), values)
  assert.deepEqual(asked, [[`passphrase for '${sealed.dir}/secret.env.gpg':`, { hidden: true }]])
  assert.equal(redact(`x ${passphrase} x`), 'x *** x')
  assert.deepEqual(await openSecrets(sealedByGpg(t, ['--symmetric']), { ...nobody, ask }), values)
  assert.equal(asked.length, 1)
})

const program = `
  import { openSecrets } from './lib/secret.ts'
  const aborting = new AbortController()
  process.on('SIGTERM', () => aborting.abort(new Error('called off')))
  const [, , target, fd] = process.argv
  const context = { signal: aborting.signal, ask: undefined, passphraseFd: fd ? Number(fd) : undefined }
  try {
    const twice = [await openSecrets(JSON.parse(target), context), await openSecrets(JSON.parse(target), context)]
    console.log(JSON.stringify(twice))
  } catch (error) {
    console.log(error.class, error.message)
  }
  process.exit()
`
test('a passphrase comes from a pipe or a file on a descriptor, once for all targets; other descriptors are refused', async (t) => {
  const sealed = sealedByGpg(t, ['--symmetric'])
  const dir = scratch(t)
  const file = path.join(dir, 'opening.mjs')
  await build({ stdin: { contents: program, resolveDir: root }, outfile: file, bundle: true, platform: 'node', format: 'esm' })
  fs.writeFileSync(path.join(dir, 'line'), `${passphrase}\nsomething else\n`)
  fs.writeFileSync(path.join(dir, 'latin1'), Buffer.from('w\xf6rd', 'latin1'))
  fs.writeFileSync(path.join(dir, 'empty'), '')
  const opening = (script: string, env: Record<string, string> = {}) =>
    spawnSync('sh', ['-c', script, 'sh', JSON.stringify(sealed)], {
      cwd: dir,
      env: { PATH: systemPath, HOME: dir, node: process.execPath, ...env },
      encoding: 'utf8',
      timeout: 30_000,
    }).stdout
  const opened = `${JSON.stringify([values, values])}\n`
  assert.equal(opening('cat line | $node opening.mjs "$1" 3 3<&0'), opened)
  assert.equal(opening('printf %s "$(head -n 1 line)" | $node opening.mjs "$1" 0'), opened)
  assert.equal(opening('$node opening.mjs "$1" 7 7<line'), opened)
  assert.equal(opening('$node opening.mjs "$1" 7<line', { KEDGE_PASSPHRASE_FD: '7' }), opened)
  const refused: readonly (readonly [string, RegExp])[] = [
    ['$node opening.mjs "$1" 7 7<latin1', /^auth cannot read the passphrase from descriptor 7: it is not UTF-8\n/],
    ['$node opening.mjs "$1" 7 7<empty', /^auth cannot read the passphrase from descriptor 7: it is empty\n/],
    ['$node opening.mjs "$1" 0 </dev/null', /^auth cannot read the passphrase from descriptor 0: it is empty\n/],
    ['$node opening.mjs "$1" 7 7<.', /^misuse cannot read the passphrase from descriptor 7: neither a file nor a pipe\n/],
    ['$node opening.mjs "$1" 99', /^misuse cannot read the passphrase from descriptor 99: it is not open\n/],
    [
      'KEDGE_PASSPHRASE_FD=three $node opening.mjs "$1"',
      /^misuse cannot use KEDGE_PASSPHRASE_FD='three': not the number of a descriptor\n/,
    ],
  ]
  for (const [script, message] of refused) assert.match(opening(script), message)
  // Node's own pipes: their numbers are open, and to read them would wait for ever.
  for (const fd of [3, 4, 5, 6, 11, 12]) assert.match(opening(`$node opening.mjs "$1" ${fd}`), /^misuse cannot read the passphrase/)
})

test('a damaged or truncated file, and one that is no OpenPGP message, are failures', async (t) => {
  const sealed = sealedByGpg(t, ['--symmetric'])
  const file = path.join(sealed.dir, 'secret.env.gpg')
  const whole = fs.readFileSync(file)
  const flipped = Buffer.from(whole)
  flipped[whole.length - 30] = (flipped[whole.length - 30] ?? 0) ^ 1
  for (const damaged of [flipped, whole.subarray(0, whole.length - 7), whole.subarray(0, 40)]) {
    fs.writeFileSync(file, damaged)
    await assert.rejects(openSecrets(sealed, giving(t)), failure('auth', /wrong passphrase$/))
  }
  for (const other of ['', 'RESTIC_PASSWORD=x\n', whole.subarray(0, 5), '-----BEGIN PGP MESSAGE-----\n']) {
    fs.writeFileSync(file, other)
    await assert.rejects(openSecrets(sealed, giving(t)), failure('config', /not an encrypted OpenPGP message$/))
  }
  fs.rmSync(file)
  await assert.rejects(openSecrets(sealed, giving(t)), failure('auth', /no such file$/))
})

const headers: readonly (readonly [string, string, ReturnType<typeof header>])[] = [
  ['an old-format session key for a passphrase, then protected data', '8c0404090001d205', { keys: [], passphrases: 1, openable: true }],
  ['a cipher that OpenPGP.js does not know', '8c04040b0001d205', { keys: [], passphrases: 1, openable: false }],
  ['data without protection', '8c0404090001a405', { keys: [], passphrases: 1, openable: false }],
  ['version 6 names the cipher third', 'c305060a09000bd205', { keys: [], passphrases: 1, openable: true }],
  [
    'a key, a marker, a passphrase',
    'c10a030123456789abcdef01ca03504750c30404090001d2e5',
    { keys: ['0123456789ABCDEF'], passphrases: 1, openable: true },
  ],
  ['a key of version 6', 'c1080605060011223301d205', { keys: ['00112233'], passphrases: 0, openable: true }],
  ['a hidden key', 'c10a03000000000000000001d205', { keys: ['0000000000000000'], passphrases: 0, openable: true }],
  ['literal data', 'cb0162', undefined],
  ['no data after the session key', '8c0404090001', undefined],
  ['a length beyond the end', '8c7f04090001', undefined],
]
for (const [what, bytes, expected] of headers) {
  test(`the header of a message: ${what}`, () => assert.deepEqual(header(Buffer.from(bytes, 'hex')), expected))
}

test('SECRET_COMMAND gives an env file, sees the target and the short environment, and its failure is in its own words', async (t) => {
  const dir = scratch(t)
  process.env.KEDGE_STRAY = 'stray'
  t.after(() => delete process.env.KEDGE_STRAY)
  const opens = (command: string) => openSecrets(target(dir, 'command', { SECRET_COMMAND: command }), nobody)
  fs.writeFileSync(path.join(dir, 'text'), text)
  assert.deepEqual(await opens(`cat '${dir}/text'`), values)
  assert.deepEqual(await opens('echo "TARGET_SEEN=$KEDGE_TARGET" STRAY_SEEN=$KEDGE_STRAY | tr " " "\\n"'), {
    TARGET_SEEN: path.basename(dir),
    STRAY_SEEN: '',
  })
  await assert.rejects(
    opens('echo vault is sealed >&2; echo more >&2; exit 3'),
    failure('auth', /SECRET_COMMAND ended with status 3: vault is sealed$/),
  )
  await assert.rejects(opens('no-such-program show x'), failure('auth', /SECRET_COMMAND cannot run: .*no-such-program/))
  await assert.rejects(opens('true'), failure('auth', /SECRET_COMMAND printed nothing$/))
  await assert.rejects(
    opens('echo A=1; echo "B=$"; echo " C"'),
    failure('config', /\n {2}SECRET_COMMAND:2:3: .*\n {2}SECRET_COMMAND:3:2: /),
  )
})

test('a plain file must be 0400 or 0600, and the own user’s', async (t) => {
  const dir = scratch(t)
  const file = path.join(dir, 'secret.env')
  const opens = () => openSecrets(target(dir, 'file'), nobody)
  await assert.rejects(opens(), failure('auth', /no such file$/))
  fs.writeFileSync(file, text)
  for (const mode of [0o400, 0o600]) {
    fs.chmodSync(file, mode)
    assert.deepEqual(await opens(), values)
  }
  for (const mode of [0o440, 0o604, 0o640, 0o700, 0o4400]) {
    fs.chmodSync(file, mode)
    await assert.rejects(opens(), failure('config', new RegExp(`its mode is ${mode.toString(8).padStart(4, '0')}, not 0400 or 0600`)))
  }
  fs.rmSync(file)
  if (process.geteuid?.() === 0) {
    fs.writeFileSync(file, text, { mode: 0o400 })
    fs.chownSync(file, 4321, 4321)
  } else fs.symlinkSync('/etc/passwd', file)
  await assert.rejects(opens(), failure('config', /it belongs to user \d+, not to \d+/))
  fs.rmSync(file)
  execFileSync('mkfifo', ['-m', '600', file])
  await assert.rejects(opens(), failure('config', /it is not a plain file/))
})

test('faults in secrets are told all at once with file, line and column; an empty password is refused', async (t) => {
  const dir = scratch(t)
  const file = path.join(dir, 'secret.env')
  fs.writeFileSync(file, 'A=$HOME\nB=fine\nC="`id`"\n', { mode: 0o600 })
  await assert.rejects(
    openSecrets(target(dir, 'file'), nobody),
    failure('config', /\n {2}\/.*secret\.env:1:3: .*\n {2}\/.*secret\.env:3:4: /),
  )
  fs.writeFileSync(file, "A=1\nRESTIC_PASSWORD=''\n")
  await assert.rejects(openSecrets(target(dir, 'file'), nobody), failure('auth', /secret\.env:2\): RESTIC_PASSWORD is empty$/))
  fs.writeFileSync(file, Buffer.from('A=w\xf6rd\n', 'latin1'))
  await assert.rejects(openSecrets(target(dir, 'file'), nobody), failure('config', /it is not UTF-8$/))
})

test('secrets are struck out of messages from then on', async (t) => {
  const dir = scratch(t)
  const lines = {
    B2_ACCOUNT_KEY: 'k3y5',
    SOMETHING: 'rather long',
    SHORT: 'short',
    PEM: 'begin-of-it\nmiddle-of-it',
    RESTIC_REPOSITORY: 'rest:https://ann:hunter2hunter2@backup.example/',
  }
  fs.writeFileSync(
    path.join(dir, 'secret.env'),
    Object.entries(lines)
      .map(([name, value]) => `${name}='${value}'\n`)
      .join(''),
    { mode: 0o600 },
  )
  await openSecrets(target(dir, 'file', { RESTIC_REPOSITORY: 'rest:http://bob:pass@other/' }), nobody)
  assert.equal(redact('k3y5 rather long short'), '*** *** short')
  assert.equal(redact('at middle-of-it'), 'at ***')
  assert.equal(redact(lines.RESTIC_REPOSITORY), 'rest:https://***@backup.example/')
  assert.equal(redact('login hunter2hunter2'), 'login ***')
  assert.equal(redact('rest:http://bob:pass@other/'), 'rest:http://***@other/')
})

test('what systemd gives a unit is used: kedge-NAME first, then secret.env', async (t) => {
  const dir = scratch(t)
  const given = scratch(t)
  process.env.CREDENTIALS_DIRECTORY = given
  t.after(() => delete process.env.CREDENTIALS_DIRECTORY)
  fs.writeFileSync(path.join(given, 'secret.env'), 'A=general\n')
  assert.deepEqual(await openSecrets(target(dir, 'credential'), nobody), { A: 'general' })
  fs.writeFileSync(path.join(given, `kedge-${path.basename(dir)}`), 'A=own\n')
  assert.deepEqual(await openSecrets(target(dir, 'credential'), nobody), { A: 'own' })
})

test('a credential is sealed and opened by systemd-creds, and is bound to the target’s name', async (t) => {
  const dir = scratch(t)
  // A host key of its own: the test leaves nothing on the machine.
  const notes = spyOn(t, 'systemd-creds', `export SYSTEMD_CREDENTIAL_SECRET=${scratch(t)}/host`)
  const file = path.join(dir, 'secret.cred')
  assert.deepEqual(await sealSecrets(dir, 'credential', values), { file })
  assert.ok(!fs.readFileSync(file, 'latin1').includes('wJalrXUtnFEMI'))
  assert.deepEqual(await openSecrets(target(dir, 'credential'), nobody), values)
  free(notes())
  const other = scratch(t)
  fs.copyFileSync(file, path.join(other, 'secret.cred'))
  await assert.rejects(openSecrets(target(other, 'credential'), nobody), failure('auth', /cannot open '.*secret\.cred': .*name/))
})

test('what kedge seals with a passphrase opens with gpg and with kedge, to the same bytes', async (t) => {
  const dir = scratch(t)
  const file = path.join(dir, 'secret.env.gpg')
  fs.writeFileSync(file, 'what was there before', { mode: 0o640 })
  const notes = spyOn(t, 'gpg')
  assert.deepEqual(await sealSecrets(dir, 'gpg', values, { passphrase }), { file })
  assert.equal(notes(), '')
  assert.equal(fs.statSync(file).mode & 0o7777, 0o640)
  assert.deepEqual(fs.readdirSync(dir), ['secret.env.gpg'])
  const byGpg = spawnSync(
    'gpg',
    ['--batch', '--quiet', '--no-symkey-cache', '--pinentry-mode', 'loopback', '--passphrase-fd', '0', '--decrypt', file],
    {
      input: `${passphrase}\n`,
      encoding: 'utf8',
    },
  )
  assert.equal(byGpg.stdout, text, byGpg.stderr)
  assert.deepEqual(await openSecrets(target(dir, 'gpg'), giving(t)), values)
  await assert.rejects(openSecrets(target(dir, 'gpg'), giving(t, `${passphrase} \n`)), failure('auth', /wrong passphrase$/))
})

test('what kedge seals to a key opens through the agent, and no secret is in argv or environment', async (t) => {
  const dir = scratch(t)
  const notes = spyOn(t, 'gpg')
  const file = path.join(dir, 'secret.env.gpg')
  assert.deepEqual(await sealSecrets(dir, 'gpg', values, { recipient: 'kedge@example.org' }), { file })
  free(notes())
  assert.deepEqual(await openSecrets(target(dir, 'gpg'), nobody), values)
})

test('the provider file is 0400; for a command the operator gets the text', async (t) => {
  const dir = scratch(t)
  const file = path.join(dir, 'secret.env')
  for (const secrets of [{ A: '1' }, values]) assert.deepEqual(await sealSecrets(dir, 'file', secrets), { file })
  assert.equal(fs.statSync(file).mode & 0o7777, 0o400)
  assert.equal(fs.readFileSync(file, 'utf8'), text)
  assert.deepEqual(await sealSecrets(dir, 'command', values), { text })
  assert.deepEqual(fs.readdirSync(dir), ['secret.env'])
})

test('what cannot be sealed, or does not open again, leaves what was there', async (t) => {
  const dir = scratch(t)
  const file = path.join(dir, 'secret.env.gpg')
  fs.writeFileSync(file, 'before')
  await assert.rejects(
    sealSecrets(dir, 'gpg', values, { recipient: 'nobody@example.org' }),
    failure('auth', /cannot seal .* to 'nobody@example\.org': .*No public key/),
  )
  await assert.rejects(sealSecrets(dir, 'gpg', values, {}), failure('misuse', /the passphrase is empty$/))
  await assert.rejects(sealSecrets(dir, 'gpg', values, { passphrase: 'two\nlines' }), failure('misuse', /line feed/))
  await assert.rejects(sealSecrets(dir, 'gpg', values, { passphrase, recipient: key }), failure('misuse', /one of them$/))
  await assert.rejects(sealSecrets(dir, 'gpg', { RESTIC_PASSWORD: '' }, { passphrase }), failure('auth', /RESTIC_PASSWORD is empty$/))
  await assert.rejects(sealSecrets(dir, 'none', values), failure('misuse', /SECRET is none$/))
  // A key whose secret half is not here: what is sealed to it would be lost to this machine.
  const lost = path.join(gnupg, 'private-keys-v1.d')
  fs.renameSync(lost, `${lost}.away`)
  execFileSync('gpgconf', ['--kill', 'all'])
  t.after(() => {
    execFileSync('gpgconf', ['--kill', 'all'])
    fs.rmSync(lost, { recursive: true, force: true })
    fs.renameSync(`${lost}.away`, lost)
  })
  await assert.rejects(
    sealSecrets(dir, 'gpg', values, { recipient: 'kedge@example.org' }),
    failure('auth', /^cannot seal '.*secret\.env\.gpg': what was written does not open: no secret key [0-9A-F]{16}$/),
  )
  assert.equal(fs.readFileSync(file, 'utf8'), 'before')
  assert.deepEqual(fs.readdirSync(dir), ['secret.env.gpg'])
})

test('no secrets where there are none', async (t) => {
  assert.deepEqual(await openSecrets(target(scratch(t), 'none'), nobody), {})
})

test('a new password has 197 bits in groups that can be typed, and never comes twice', () => {
  const made = Array.from({ length: 500 }, newPassword)
  for (const one of made) assert.match(one, /^[abcdefghjkmnpqrstuvwxyz347]{6}(-[abcdefghjkmnpqrstuvwxyz347]{6}){6}$/)
  assert.ok(42 * Math.log2(26) > 190)
  assert.equal(new Set(made).size, 500)
  assert.equal(new Set(made.join('').replaceAll('-', '')).size, 26)
})
