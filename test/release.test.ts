// npm run release, and ./setup --from with what it makes: real signatures by gpg and signify, and everything that must be refused.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { create, list } from 'tar'
import { fake, type Result, root, startProgram } from './harness.ts'
import { type Fitted, fitted, listing, setup } from './houses.ts'

type Signed = Fitted & { out: string; release: string; openpgp: string; signify: string; others: { openpgp: string; signify: string } }

/** A checkout of this tree in its present state, as a commit of 2026-01-02. */
function checkout(at: Fitted, name: string): string {
  const folder = path.join(at.dir, name)
  const skipped = new Set(['.git', 'node_modules', 'dist', '.build', '.node'])
  fs.cpSync(root, folder, { recursive: true, filter: (source) => path.dirname(source) !== root || !skipped.has(path.basename(source)) })
  fs.symlinkSync(path.join(root, 'node_modules'), path.join(folder, 'node_modules'))
  const env = { ...process.env, GIT_COMMITTER_DATE: '2026-01-02T03:04:05Z', GIT_CONFIG_GLOBAL: '/dev/null' }
  const git = (...args: string[]) => execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@b.c', ...args], { cwd: folder, env })
  git('init', '-q')
  fs.appendFileSync(path.join(folder, '.git/info/exclude'), 'node_modules\n')
  git('add', '-A')
  git('commit', '-q', '-m', 'all of it')
  return folder
}

function release(at: Fitted, folder: string, args: readonly string[], umask = '022'): Promise<Result> {
  return startProgram(at, 'sh', ['-c', `umask ${umask}; cd "$0" && exec "$@"`, folder, process.execPath, 'install/release.mjs', ...args])
    .result
}

async function done(run: Promise<Result>): Promise<Result> {
  const result = await run
  assert.equal(result.status, 0, result.stdout + result.stderr)
  return result
}

function gpg(at: Fitted, home: string, ...args: string[]): Buffer {
  const homedir = path.join(at.dir, home)
  fs.mkdirSync(homedir, { recursive: true, mode: 0o700 })
  at.t.after(() => execFileSync('gpgconf', ['--homedir', homedir, '--kill', 'all']))
  return execFileSync('gpg', ['--homedir', homedir, '--batch', '--quiet', '--pinentry-mode', 'loopback', '--passphrase', '', ...args])
}

/** A key of gpg; returns the file of its public part. */
function openpgpKey(at: Fitted, home: string): string {
  gpg(at, home, '--quick-gen-key', 'releaser@example.org', 'ed25519', 'sign')
  const file = path.join(at.dir, `${home}.asc`)
  fs.writeFileSync(file, gpg(at, home, '--armor', '--export'))
  return file
}

function signifyKey(at: Fitted, name: string): string {
  const file = path.join(at.dir, `${name}.pub`)
  execFileSync('signify-openbsd', ['-G', '-n', '-p', file, '-s', path.join(at.dir, `${name}.sec`)])
  return file
}

test('a release is the same bytes from another folder and under another umask; its members are sorted, of root, dated by the commit', async (t) => {
  const at = fitted(t)
  const folders = [checkout(at, 'one'), checkout(at, 'the other')]
  const files: Buffer[] = []
  for (const [i, folder] of folders.entries()) {
    const out = path.join(at.dir, `out${i}`)
    const { lines } = await done(release(at, folder, ['--out', out], i === 0 ? '022' : '077'))
    files.push(fs.readFileSync(lines.at(-1) ?? ''))
    const sum = createHash('sha256')
      .update(files[i] as Buffer)
      .digest('hex')
    assert.equal(fs.readFileSync(path.join(out, 'SHA256SUMS'), 'utf8'), `${sum}  ${path.basename(lines.at(-1) ?? '')}\n`)
    assert.deepEqual(
      fs.readdirSync(out).filter((name) => /\.(asc|sig)$/.test(name)),
      [],
      'without a key there is no signature',
    )
  }
  assert.ok(files[0]?.equals(files[1] as Buffer))
  const members: string[] = []
  const file = path.join(at.dir, 'out0', fs.readdirSync(path.join(at.dir, 'out0')).find((name) => name.endsWith('.gz')) ?? '')
  await list({
    file,
    onReadEntry: ({ path: name, type, mode = 0, uid, gid, uname, mtime }) => {
      members.push(name)
      assert.ok(type === 'Directory' ? mode === 0o755 : mode === 0o644 || mode === 0o755, name)
      assert.ok(!uid && !gid && !uname, name)
      if (type === 'File') assert.equal(mtime?.toISOString(), '2026-01-02T03:04:05.000Z')
    },
  })
  const bare = members.map((name) => name.replace(/\/$/, ''))
  assert.deepEqual(bare, [...bare].sort())
  assert.ok(members.some((name) => name.endsWith('/dist/completions/kedge.fish')))

  fs.appendFileSync(path.join(folders[0] ?? '', 'README.md'), 'not in the commit\n')
  const refused = await release(at, folders[0] ?? '', [])
  assert.equal(refused.status, 1)
  assert.match(refused.stderr, /not as in the commit:\n M README\.md/)
})

/** A release with both signatures, and keys of others. Made once: each test works on a copy of its files. */
async function signed(t: TestContext): Promise<Signed> {
  const at = fitted(t)
  const [openpgp, signify] = [openpgpKey(at, 'gnupg'), signifyKey(at, 'release')]
  const others = { openpgp: openpgpKey(at, 'gnupg2'), signify: signifyKey(at, 'another') }
  at.env.GNUPGHOME = path.join(at.dir, 'gnupg')
  const out = path.join(at.dir, 'out')
  const made = await done(
    release(at, checkout(at, 'checkout'), [
      '--out',
      out,
      '--gpg-key',
      'releaser@example.org',
      '--signify-key',
      path.join(at.dir, 'release.sec'),
    ]),
  )
  delete at.env.GNUPGHOME
  fake(at.bin, 'npm', `echo "npm $*" >>'${at.dir}/calls'; exit 1`)
  return { ...at, out, release: made.lines.at(-1) ?? '', openpgp, signify, others }
}

/** What --from makes of a changed copy of the release. */
async function from(at: Signed, args: readonly string[], change: (folder: string) => void = () => {}): Promise<Result> {
  const folder = fs.mkdtempSync(path.join(at.dir, 'downloaded-'))
  fs.cpSync(at.out, folder, { recursive: true })
  change(folder)
  // From the unpacked folder of an older release: nothing of npm, and no build.
  return await setup(at, path.join(at.dir, 'house'), [
    '--from',
    path.join(folder, path.basename(at.release)),
    '--prefix',
    at.prefix,
    ...args,
  ])
}

/** SHA256SUMS written anew for what lies in the folder, and signed by the releaser. */
function signAnew(at: Signed, folder: string): void {
  const name = path.basename(at.release)
  const sums = path.join(folder, 'SHA256SUMS')
  fs.writeFileSync(
    sums,
    `${createHash('sha256')
      .update(fs.readFileSync(path.join(folder, name)))
      .digest('hex')}  ${name}\n`,
  )
  execFileSync('signify-openbsd', ['-S', '-s', path.join(at.dir, 'release.sec'), '-m', sums, '-x', `${sums}.sig`])
}

test('a signed release is installed and updated from; everything that is not as it was signed is refused, and nothing unpacked', async (t) => {
  const at = await signed(t)
  const name = path.basename(at.release)
  execFileSync('tar', ['-xzf', at.release, '-C', at.dir])
  const version = /kedge-(.*)\.tar\.gz/.exec(name)?.[1] ?? ''
  fs.renameSync(path.join(at.dir, `kedge-${version}`), path.join(at.dir, 'house'))

  const flip = (file: string) => (folder: string) => {
    const bytes = fs.readFileSync(path.join(folder, file))
    const last = bytes.length - 20
    bytes[last] = (bytes[last] ?? 0) ^ 1
    fs.writeFileSync(path.join(folder, file), bytes)
  }
  const remove = (file: string) => (folder: string) => fs.rmSync(path.join(folder, file))
  const evil = (members: readonly string[], how: (folder: string) => void) => (folder: string) => {
    const work = path.join(folder, 'work')
    fs.mkdirSync(path.join(work, `kedge-${version}`), { recursive: true })
    fs.writeFileSync(path.join(work, `kedge-${version}`, 'setup'), '#!/bin/sh\necho evil\n', { mode: 0o755 })
    fs.writeFileSync(path.join(folder, 'evil'), 'evil\n')
    how(work)
    create({ file: path.join(folder, name), cwd: work, gzip: true, sync: true, preservePaths: true }, [...members])
    signAnew(at, folder)
  }
  const keys = { openpgp: ['--key', at.openpgp], signify: ['--key', at.signify] }
  const cases: [string, string[], ((folder: string) => void) | undefined, RegExp][] = [
    ['no key', [], undefined, /no key to verify .* --key FILE names it.*--unsigned goes without/],
    ['a key that is not there', ['--key', '/nowhere'], undefined, /no key to verify/],
    ['a tampered tarball', keys.openpgp, flip(name), /SHA256SUMS does not have it/],
    ['a tampered tarball (signify)', keys.signify, flip(name), /SHA256SUMS does not have it/],
    ['a tampered tarball, unsigned', ['--unsigned'], flip(name), /SHA256SUMS does not have it/],
    ['changed SHA256SUMS', keys.openpgp, flip('SHA256SUMS'), /FAILED {3}signature: SHA256SUMS\.asc/],
    ['changed SHA256SUMS (signify)', keys.signify, flip('SHA256SUMS'), /FAILED {3}signature: SHA256SUMS\.sig/],
    ["another's key", ['--key', at.others.openpgp], undefined, /FAILED {3}signature/],
    ["another's key (signify)", ['--key', at.others.signify], undefined, /FAILED {3}signature/],
    ['no signature', keys.openpgp, remove('SHA256SUMS.asc'), /FAILED {3}tarball[\s\S]*SHA256SUMS\.asc/],
    ['no SHA256SUMS', keys.signify, remove('SHA256SUMS'), /FAILED {3}tarball[\s\S]*SHA256SUMS/],
    [
      'a key that is none',
      ['--key', path.join(at.dir, 'calls')],
      () => fs.writeFileSync(path.join(at.dir, 'calls'), 'x'),
      /FAILED {3}signature/,
    ],
    ['a member above', keys.signify, evil([`kedge-${version}`, '../evil'], () => {}), /'\.\.\/evil' is not in kedge-/],
    ['an absolute member', keys.signify, evil(['/etc/hostname'], () => {}), /'\/etc\/hostname' is not in kedge-/],
    [
      'a link',
      keys.signify,
      evil([`kedge-${version}`], (work) => fs.symlinkSync('/etc', path.join(work, `kedge-${version}/etc`))),
      /etc' is a SymbolicLink/,
    ],
    ['another top folder', keys.signify, evil(['other'], (work) => fs.mkdirSync(path.join(work, 'other'))), /'other\/' is not in kedge-/],
    [
      'torn in half',
      ['--unsigned'],
      (folder) => {
        fs.truncateSync(path.join(folder, name), 100_000)
        fs.rmSync(path.join(folder, 'SHA256SUMS'))
      },
      /FAILED {3}unpack/,
    ],
  ]
  for (const [what, args, change, message] of cases) {
    const refused = await from(at, args, change)
    assert.ok(refused.status === 1 || refused.status === 2, `${what}: ${refused.status} ${refused.stdout}${refused.stderr}`)
    assert.match(refused.stdout + refused.stderr, message, what)
    assert.doesNotMatch(refused.stdout, /OK {7}unpack/, what)
    assert.deepEqual(listing(at.prefix), {}, what)
    // The log of the failure stays, and nothing else.
    for (const file of fs.readdirSync(at.tmp)) assert.ok(fs.statSync(path.join(at.tmp, file)).isFile(), `${what}: ${file}`)
  }
  fs.rmSync(path.join(at.dir, 'calls'), { force: true })

  const kedge = async (...args: string[]) => (await done(startProgram(at, path.join(at.prefix, 'bin/kedge'), args).result)).stdout
  const installed = await done(from(at, keys.openpgp))
  assert.match(installed.stdout, /^OK {7}signature: SHA256SUMS\.asc by .*\nOK {7}checksum\nOK {7}unpack\n[\s\S]*OK {7}files: /m)
  assert.equal(await kedge('--version'), `kedge ${version}\n`)
  const whole = listing(at.prefix)
  fs.copyFileSync(at.signify, path.join(at.prefix, 'lib/kedge/release.pub'))
  const again = await done(from(at, []))
  assert.match(again.stdout, /^OK {7}signature: SHA256SUMS\.sig by .*release\.pub$/m)
  fs.rmSync(path.join(at.prefix, 'lib/kedge/release.pub'))
  assert.deepEqual(listing(at.prefix), whole)
  const withoutSums = (folder: string) => {
    for (const each of ['SHA256SUMS', 'SHA256SUMS.asc']) fs.rmSync(path.join(folder, each))
  }
  const unsigned = await done(from(at, ['--unsigned', '--update'], withoutSums))
  assert.match(unsigned.stdout, /^SKIPPED {2}signature: --unsigned\nSKIPPED {2}checksum/m)
  // Where a newer one is installed, an older one is not taken for an update: a signature does not say that it is the newest.
  const newer = path.join(at.prefix, 'lib/kedge/current/dist/kedge.cjs')
  fs.writeFileSync(newer, fs.readFileSync(newer, 'utf8').replaceAll(version, '9.0.0'))
  const older = await from(at, keys.signify)
  assert.equal(older.status, 2)
  assert.match(older.stderr, /is older than/)
  assert.ok(!fs.existsSync(path.join(at.dir, 'calls')), 'npm was never called')
  assert.deepEqual(
    fs.readdirSync(at.tmp).filter((file) => fs.statSync(path.join(at.tmp, file)).isDirectory()),
    [],
  )
})

test('a signature by a key that has expired or was revoked is refused', async (t) => {
  const at = await signed(t)
  execFileSync('tar', ['-xzf', at.release, '-C', at.dir])
  fs.renameSync(path.join(at.dir, path.basename(at.release, '.tar.gz')), path.join(at.dir, 'house'))
  const fingerprint = /^fpr:+(\w+):$/m.exec(gpg(at, 'gnupg', '--with-colons', '--list-keys').toString())?.[1] ?? ''
  const revocation = path.join(at.dir, 'gnupg/openpgp-revocs.d', `${fingerprint}.rev`)
  fs.writeFileSync(revocation, fs.readFileSync(revocation, 'utf8').replace(/^:-----BEGIN/m, '-----BEGIN'))
  gpg(at, 'gnupg', '--import', revocation)
  const revoked = path.join(at.dir, 'revoked.asc')
  fs.writeFileSync(revoked, gpg(at, 'gnupg', '--armor', '--export'))
  const refused = await from(at, ['--key', revoked])
  assert.equal(refused.status, 1)
  assert.match(refused.stdout, /^FAILED {3}signature/m)
  assert.deepEqual(listing(at.prefix), {})

  // Signed while the key was good, which it is no more.
  gpg(at, 'old', '--faked-system-time', '20200101T000000', '--quick-gen-key', 'old@example.org', 'ed25519', 'sign', '1d')
  const expired = path.join(at.dir, 'expired.asc')
  fs.writeFileSync(expired, gpg(at, 'old', '--armor', '--export'))
  const late = await from(at, ['--key', expired], (folder) => {
    const sums = path.join(folder, 'SHA256SUMS')
    fs.rmSync(`${sums}.asc`)
    gpg(at, 'old', '--faked-system-time', '20200101T000100', '--armor', '--output', `${sums}.asc`, '--detach-sign', sums)
  })
  assert.equal(late.status, 1)
  assert.match(late.stdout, /^FAILED {3}signature/m)
  assert.match(late.stderr, /EXPKEYSIG/)
  assert.deepEqual(listing(at.prefix), {})
})
