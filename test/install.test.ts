// ./setup --system and its kin, below a prefix of the test's own; install-SHELL.test.ts under the shells that they must run under.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { fake, newTarget, startProgram } from './harness.ts'
import { done, type Fitted, fitted, house, kedge, listing, setup, version } from './houses.ts'

test('what the operator changed is left and named, by an update and by --uninstall, and all else goes', async (t) => {
  const at = fitted(t)
  const first = house(at, '0.8.0')
  await done(setup(at, first, ['--system', '--prefix', at.prefix]))
  const changed = ['share/man/man1/kedge.1', 'bin/kedge', 'lib/kedge/0.8.0/systemd/kedge-backup@.service']
  for (const file of changed) fs.appendFileSync(path.join(at.prefix, file), '\n# mine\n')
  fs.writeFileSync(path.join(at.prefix, 'lib/kedge/release.pub'), 'my key\n')
  const kept = () => [...changed, 'lib/kedge/release.pub'].map((file) => fs.readFileSync(path.join(at.prefix, file), 'utf8'))
  const before = kept()
  // The same version again does not touch the folder with the change in it: it gets one beside.
  for (const again of [first, house(at, '0.9.0', { later: true })]) {
    const updated = await done(setup(at, again, ['--update', '--prefix', at.prefix]))
    for (const file of changed.slice(0, 2)) assert.ok(updated.stdout.includes(`${at.prefix}/${file}: changed since`), updated.stdout)
  }
  assert.deepEqual(
    fs
      .readdirSync(path.join(at.prefix, 'lib/kedge'))
      .filter((name) => /^\d/.test(name))
      .sort(),
    ['0.8.0', '0.8.0-2', '0.9.0'],
  )
  assert.equal(await version(at), 'kedge 0.9.0', 'what the operator wrote starts the version in use')
  const removed = await done(setup(at, first, ['--uninstall', '--prefix', at.prefix]))
  for (const file of changed) assert.ok(removed.stdout.includes(`${at.prefix}/${file}: changed since`), removed.stdout)
  assert.deepEqual(kept(), before)
  const left = Object.entries(listing(at.prefix)).filter(([, what]) => !what.startsWith('folder'))
  assert.deepEqual(left.map(([name]) => name).sort(), [...changed, 'lib/kedge/release.pub'].sort())
})

test("a kedge of somebody else's is not replaced; one that ./setup without --system linked is taken over", async (t) => {
  const at = fitted(t)
  const first = house(at, '0.8.0')
  const bin = path.join(at.prefix, 'bin')
  fake(bin, 'kedge', 'echo another kedge')
  const before = listing(at.prefix)
  const refused = await setup(at, first, ['--system', '--prefix', at.prefix])
  assert.equal(refused.status, 1)
  assert.match(refused.stderr, /not from setup: move it away/)
  assert.deepEqual(listing(at.prefix), before)

  fs.writeFileSync(path.join(bin, 'kedge'), `#!/bin/sh\nexec '/usr/bin/node' '/home/me/kedge/dist/kedge.cjs' "$@"\n`)
  fs.symlinkSync('kedge', path.join(bin, 'kedge-backup'))
  fs.symlinkSync('elsewhere', path.join(bin, 'kedge-list'))
  const installed = await done(setup(at, first, ['--system', '--prefix', at.prefix]))
  assert.ok(installed.stdout.includes(`${bin}/kedge-list: changed since, or not from setup`), installed.stdout)
  assert.equal(await version(at), 'kedge 0.8.0')
  // And ./setup without --system leaves the one for the whole machine in its place.
  const wrapper = fs.readFileSync(path.join(bin, 'kedge'))
  const plain = await done(setup(at, path.join(at.prefix, 'lib/kedge/current'), []))
  assert.match(plain.stdout, /^SKIPPED {2}link: .* installed for the whole machine$/m)
  assert.deepEqual(fs.readFileSync(path.join(bin, 'kedge')), wrapper)
  await done(setup(at, first, ['--uninstall', '--prefix', at.prefix]))
  assert.deepEqual(Object.keys(listing(at.prefix)), ['bin', 'bin/kedge-list'])
})

test('a backup that runs while kedge is updated goes on with its own files', async (t) => {
  const at = fitted(t)
  await done(setup(at, house(at, '0.8.0'), ['--system', '--prefix', at.prefix]))
  const open = path.join(at.dir, 'open')
  execFileSync('mkfifo', [open])
  newTarget(at, 'web1', { scripts: { 'streams/data': `read line <'${open}'; echo "$line"` } })
  await done(kedge(at, ['init', 'web1']))
  const running = startProgram(at, path.join(at.prefix, 'bin/kedge'), ['backup', 'web1', '-v'])
  await running.until(/running: restic backup/)
  await done(setup(at, house(at, '0.9.0'), ['--update', '--prefix', at.prefix]))
  fs.writeFileSync(open, 'the data\n')
  await done(running.result)
  const cat = await done(kedge(at, ['cat', 'web1', 'latest:/data']))
  assert.equal(cat.stdout, 'the data\n')
})

test('a version that does not start is not switched to; an older one, or none to go back to, is refused', async (t) => {
  const at = fitted(t)
  const none = await setup(at, house(at, '0.8.0'), ['--update', '--prefix', at.prefix])
  assert.equal(none.status, 2)
  assert.match(none.stderr, /no kedge is installed in .*: \.\/setup --system installs one/)
  await done(setup(at, house(at, '0.8.0'), ['--system', '--prefix', at.prefix]))
  const alone = await setup(at, house(at, '0.8.0'), ['--rollback', '--prefix', at.prefix])
  assert.equal(alone.status, 2)
  assert.match(alone.stderr, /no version in .* to go back to/)

  const broken = house(at, '0.9.0')
  fs.writeFileSync(path.join(broken, 'dist/bin/backup.cjs'), 'throw new Error("torn in two")')
  const failed = await setup(at, broken, ['--update', '--prefix', at.prefix])
  assert.equal(failed.status, 1)
  assert.match(failed.stdout, /^FAILED {3}start: /m)
  assert.match(failed.stderr, /torn in two/)
  assert.equal(await version(at), 'kedge 0.8.0')
  // The log that the failure named is there.
  fs.readFileSync(/details are in (.*)\n/.exec(failed.stderr)?.[1] ?? '')

  const older = await setup(at, house(at, '0.7.12'), ['--update', '--prefix', at.prefix])
  assert.equal(older.status, 2)
  assert.match(older.stderr, /kedge 0\.7\.12 is older than 0\.8\.0, which is installed: --rollback/)
  await done(setup(at, house(at, '0.7.12'), ['--system', '--prefix', at.prefix]))
  assert.equal(await version(at), 'kedge 0.7.12', '--system installs it all the same')
})

test('an installation that was cut off is gone on with: what was half written is whole, and known to --uninstall', async (t) => {
  const at = fitted(t)
  const first = house(at, '0.8.0')
  await done(setup(at, first, ['--system', '--prefix', at.prefix]))
  const whole = listing(at.prefix)
  const lib = path.join(at.prefix, 'lib/kedge')
  for (const name of ['current', '0.8.0/setup', '0.8.0/dist/core.cjs']) fs.rmSync(path.join(lib, name))
  fs.rmSync(path.join(at.prefix, 'share/man'), { recursive: true })
  await done(setup(at, first, ['--system', '--prefix', at.prefix]))
  assert.deepEqual(listing(at.prefix), whole)
  await done(setup(at, first, ['--uninstall', '--prefix', at.prefix]))
  assert.deepEqual(listing(at.prefix), {})
})

test('the manifest holds the checksum of every file, and nothing that setup did not write', async (t) => {
  const at = fitted(t)
  await done(setup(at, house(at, '0.8.0'), ['--system', '--prefix', at.prefix]))
  const manifest = fs.readFileSync(path.join(at.prefix, 'lib/kedge/manifest'), 'utf8').trimEnd().split('\n')
  const files = manifest.filter((line) => line.startsWith('f ')).map((line) => line.split(' '))
  for (const [, sum, name = ''] of files)
    assert.equal(
      sum,
      createHash('sha256')
        .update(fs.readFileSync(path.join(at.prefix, name)))
        .digest('hex'),
      name,
    )
  const all = Object.entries(listing(at.prefix)).filter(([, what]) => what.startsWith('file'))
  assert.deepEqual(
    files.map(([, , name]) => name).sort(),
    all
      .map(([name]) => name)
      .filter((name) => name !== 'lib/kedge/manifest')
      .sort(),
  )
})

test('where the node of setup itself is used, it is installed too', async (t) => {
  const at = fitted(t)
  const first = house(at, '0.8.0')
  fake(at.bin, 'node', 'echo "too old" >&2; exit 1')
  fs.mkdirSync(path.join(first, '.node/node_modules/node/bin'), { recursive: true })
  fs.symlinkSync(process.execPath, path.join(first, '.node/node_modules/node/bin/node'))
  await done(setup(at, first, ['--system', '--prefix', at.prefix]))
  fs.rmSync(path.join(first, '.node'), { recursive: true })
  assert.equal(await version(at), 'kedge 0.8.0')
  // Another checkout without a node of its own finds it.
  await done(setup(at, house(at, '0.9.0'), ['--update', '--prefix', at.prefix]))
  assert.equal(await version(at), 'kedge 0.9.0')
  await done(setup(at, path.join(at.prefix, 'lib/kedge/current'), ['--uninstall']))
  assert.deepEqual(listing(at.prefix), {})
})

test("systemd's units start the command that is installed, are the version's in use, and a systemd that runs reads them", async (t) => {
  const at = fitted(t)
  const units = path.join(at.prefix, 'lib/systemd/system')
  const first = house(at, '0.8.0')
  const quiet = await done(setup(at, first, ['--system', '--prefix', at.prefix]))
  assert.doesNotMatch(quiet.stdout, /daemon-reload/, 'no systemd runs here')
  const names = ['kedge-backup@web1.service', 'kedge-notify@web1.service', 'kedge-digest.service']
  const env = { ...process.env, SYSTEMD_UNIT_PATH: `${units}:` }
  const verify = () => spawnSync('systemd-analyze', ['verify', '--man=no', ...names], { encoding: 'utf8', env, cwd: units }).stderr
  assert.equal(verify(), '')
  const started = /^ExecStart=\/bin\/sh -c "exec \\"\$\$0\\" \\"\$\$@\\"" "(.*)" backup --wait=1h %i$/m
  assert.equal(started.exec(fs.readFileSync(path.join(units, 'kedge-backup@.service'), 'utf8'))?.[1], `${at.prefix}/bin/kedge`)
  const second = house(at, '0.9.0')
  fs.appendFileSync(path.join(second, 'systemd/kedge-backup@.service'), '# newer\n')
  fs.rmSync(path.join(second, 'systemd/kedge-prune@.service'))
  // A systemd that runs, as far as setup can see: /run is this test's own.
  const systemctl = fake(at.bin, 'systemctl', `echo "$*" >>'${at.dir}/told'`)
  const running = (from: string, ...args: string[]) => {
    // setup puts the folder of node first in PATH, and the machine's own systemctl may lie there.
    const script = `set -e
mount -t tmpfs none /run; mkdir -p /run/systemd/system
[ ! -e /usr/bin/systemctl ] || mount --bind '${systemctl}' /usr/bin/systemctl
exec sh "$@"`
    const words = [path.join(from, 'setup'), ...args, '--prefix', at.prefix]
    return done(startProgram(at, 'unshare', [process.geteuid?.() === 0 ? '-m' : '-rm', 'sh', '-c', script, 'sh', ...words]).result)
  }
  const updated = await running(second, '--update')
  assert.match(updated.stdout, /^OK {7}systemd: daemon-reload$/m)
  assert.match(fs.readFileSync(path.join(units, 'kedge-backup@.service'), 'utf8'), /# newer/)
  assert.ok(!fs.existsSync(path.join(units, 'kedge-prune@.service')))
  await running(second, '--update')
  assert.equal(fs.readFileSync(path.join(at.dir, 'told'), 'utf8'), 'daemon-reload\n', 'not where nothing changed')
  await running(second, '--rollback')
  assert.doesNotMatch(fs.readFileSync(path.join(units, 'kedge-backup@.service'), 'utf8'), /# newer/)
  await running(second, '--uninstall')
  assert.equal(fs.readFileSync(path.join(at.dir, 'told'), 'utf8'), 'daemon-reload\n'.repeat(3))
  assert.deepEqual(listing(at.prefix), {})
})

test('two setups do not work below one prefix at a time; one that died does not keep the next away', async (t) => {
  const at = fitted(t)
  const first = house(at, '0.8.0')
  const lock = path.join(at.prefix, '.kedge-setup')
  fs.symlinkSync(`${process.pid}`, lock)
  const refused = await setup(at, first, ['--system', '--prefix', at.prefix])
  assert.equal(refused.status, 1)
  assert.match(refused.stderr, new RegExp(`another setup is at work: process ${process.pid}`))
  assert.deepEqual(Object.keys(listing(at.prefix)), ['.kedge-setup'])
  const { pid } = spawnSync('true')
  fs.rmSync(lock)
  fs.symlinkSync(`${pid}`, lock)
  await done(setup(at, first, ['--system', '--prefix', at.prefix]))
  assert.deepEqual(
    fs.readdirSync(at.prefix).filter((name) => name.startsWith('.')),
    [],
  )
  fs.symlinkSync(`${process.pid}`, lock)
  for (const mode of ['--update', '--rollback', '--uninstall'])
    assert.equal((await setup(at, first, [mode, '--prefix', at.prefix])).status, 1)
  assert.equal(await version(at), 'kedge 0.8.0')
})

/** A crontab of the test's own, in the file `table`. */
function fakeCrontab(t: TestContext, at: Fitted): string {
  const table = path.join(at.dir, 'table')
  fs.writeFileSync(table, '# of the operator\n')
  fake(at.bin, 'crontab', `case $1 in -l) cat '${table}' ;; *) cat "$1" >'${table}' ;; esac`)
  t.after(() => fs.rmSync(table, { force: true }))
  return table
}

test('schedules are written anew by an update where they are installed, taken away by --uninstall, and never installed by setup', async (t) => {
  const at = fitted(t)
  const table = fakeCrontab(t, at)
  newTarget(at, 'web1', { env: { SCHEDULE_BACKUP: '0 3 * * *', STORE_ID: 'x' }, paths: [at.home] })
  const first = await done(setup(at, house(at, '0.8.0'), ['--system', '--prefix', at.prefix]))
  const second = await done(setup(at, house(at, '0.9.0'), ['--update', '--prefix', at.prefix]))
  assert.doesNotMatch(first.stdout + second.stdout, /schedules/)
  assert.equal(fs.readFileSync(table, 'utf8'), '# of the operator\n')

  await done(kedge(at, ['schedule', 'install', '--by', 'crontab']))
  const third = await done(setup(at, house(at, '0.10.0'), ['--update', '--prefix', at.prefix]))
  assert.match(third.stdout, /^OK {7}schedules: by crontab$/m)
  const listed = await done(kedge(at, ['schedule']))
  assert.equal(listed.lines[0]?.split('\t')[4], 'crontab', 'the version in use knows the line as its own')
  assert.match(fs.readFileSync(table, 'utf8'), /^# of the operator\n[\s\S]* backup /)

  const removed = await done(setup(at, path.join(at.prefix, 'lib/kedge/current'), ['--uninstall']))
  assert.match(removed.stdout, /^OK {7}schedules: removed$/m)
  assert.equal(fs.readFileSync(table, 'utf8'), '# of the operator\n')
})

test('options that contradict each other, and a user who is not root without a prefix, are status 2, and nothing is written', async (t) => {
  const at = fitted(t)
  const first = house(at, '0.8.0')
  fake(at.bin, 'id', 'echo 1000')
  const cases: [string[], RegExp][] = [
    [['--system'], /not root: run as root, or give a folder of your own with --prefix DIR/],
    [['--system', '--update'], /--system and --update do not go together/],
    [['--system', '/etc'], /--system takes no PATH/],
    [['--from', 'x.tar.gz', '/etc'], /--from takes no PATH/],
    [['--from', 'x.tar.gz', '--rollback'], /--rollback and --from do not go together/],
    [['--from', 'kedge-1.tar.gz', '--prefix', at.prefix], /no such file/],
    [['--from', path.join(first, 'setup'), '--prefix', at.prefix], /a release is named kedge-VERSION\.tar\.gz/],
    [['--from=x', '--unsigned', '--key=y'], /--key and --unsigned do not go together/],
    [['--system', '--unsigned'], /--key and --unsigned go with --from/],
    [['--prefix', at.prefix, '/etc'], /--prefix goes with/],
    [['--prefix'], /option '--prefix' needs a value/],
    [['--uninstall', '--prefix', at.prefix], /no kedge is installed in/],
  ]
  for (const [args, message] of cases) {
    const result = await setup(at, first, args)
    assert.equal(result.status, 2, `${args}: ${result.stdout}${result.stderr}`)
    assert.match(result.stderr, message)
  }
  assert.deepEqual(listing(at.prefix), {})
  assert.deepEqual(listing(at.tmp), {})
})

test('--verbose shows what the steps say; without it a step that is done is one line', async (t) => {
  const at = fitted(t)
  const quiet = await done(setup(at, house(at, '0.8.0'), ['--system', '--prefix', at.prefix]))
  assert.equal(quiet.stderr, '')
  const loud = await done(setup(at, house(at, '0.8.0'), ['--system', '-v', '--prefix', at.prefix]))
  assert.match(loud.stderr, /^ +== proved 0\.8\.0\n +0\.8\.0\n +usage: kedge command/m)
  assert.match(loud.stderr, /^ +unchanged$/m)
})
