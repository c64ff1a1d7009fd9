// Everything outside of the engine on a target of rsync: no command asks for what only restic has, and both engines live in one house.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import type { Finding } from '../../lib/rows/house.ts'
import { cheapen } from '../cheap.ts'
import { done, envText, fake, growTree, kedge, type Machine, machine, newRsyncTarget, newTarget, sameTree } from '../harness.ts'
import { smallFs } from '../smallfs.ts'

const findings = async (m: Machine, args: readonly string[]) => (await kedge(m, [...args, '--json'])).rows as Finding[]
const of = (rows: readonly Finding[], check: string) => rows.filter((row) => row.check === check)

/** A machine with the target web1 of rsync, its store made, and a tree to save. */
async function house(t: test.TestContext, env: Record<string, string> = {}, secrets?: Record<string, string>) {
  const m = machine(t)
  const tree = path.join(m.dir, 'tree')
  fs.mkdirSync(tree)
  fs.writeFileSync(path.join(tree, 'a'), 'one\n')
  const target = newRsyncTarget(m, 'web1', { paths: [tree], env, ...(secrets && { secrets }) })
  await done(m, ['init', 'web1'])
  return { m, tree, ...target }
}

test('every command that looks at a target or changes its settings works on one of rsync', async (t) => {
  const { m, tree, store } = await house(t, { SCHEDULE_BACKUP: '@daily', NOTIFY: 'command', NOTIFY_COMMAND: '/bin/true' })
  await done(m, ['backup', 'web1'])
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [['targets'], new RegExp(`^web1\trsync\t${store}\t`)],
    [['config', 'web1', 'STORE'], new RegExp(`^STORE\t${store}\t`)],
    [['status'], /^web1\tok\tbackup\t/],
    [['history', 'web1'], /\tbackup\tsuccess\t0\t/],
    [['log', 'web1'], / rsync -aHAXS/],
    [['list', 'web1'], /\tweb1\t/],
    [['stats', 'web1'], /^web1\t1\t/],
    [['schedule', 'list', 'web1'], /^web1\tbackup\t@daily\t/],
    [['recovery', 'web1'], /^rsync|&& rsync -aHAXS/m],
    [['secret', 'check', 'web1'], /^store\tok\tit opens/m],
    [['notify', 'test', 'web1'], /^web1\tcommand\t/],
    [['run', 'web1', 'list'], /\tweb1\t/],
    [['run', '--all', 'list'], /\tweb1\t/],
    [['accept', 'web1'], /^$/],
    [['unlock', 'web1'], /^$/],
  ]
  for (const [args, pattern] of cases) {
    const { stdout, stderr } = await done(m, args)
    assert.match(stdout, pattern, args.join(' '))
    assert.doesNotMatch(`${stdout}${stderr}`, /RESTIC|restic|repository/, args.join(' '))
  }
  const metrics = await done(m, ['stats', '--prometheus'])
  assert.match(metrics.stdout, /target="web1"/)
  assert.match((await done(m, ['doctor', 'web1', '--explain'])).stdout, new RegExp(`^cat ${store}/kedge-store.json;`, 'm'))
  assert.ok(fs.existsSync(path.join(tree, 'a')))
})

test('what has no password is asked for none: secrets may be none, or those of notices alone, and rotate says what there is instead', async (t) => {
  const none = await house(t)
  const rows = await findings(none.m, ['secret', 'check', 'web1'])
  assert.deepEqual([...new Set(rows.map(({ level }) => level))], ['ok'])
  assert.deepEqual(
    of(rows, 'keys').map(({ text }) => text),
    ['none opens the store: it has no password'],
  )
  assert.deepEqual([...of(rows, 'rotation'), ...of(rows, 'password')], [])
  const rotate = await kedge(none.m, ['secret', 'rotate-password', 'web1'])
  assert.deepEqual([rotate.status, /a store of rsync has no password/.test(rotate.stderr)], [2, true])

  const { m, dir } = await house(t, {}, { SMTP_PASSWORD: 'hush' })
  assert.deepEqual(
    of(await findings(m, ['secret', 'check', 'web1']), 'keys').map(({ level }) => level),
    ['ok'],
  )
  assert.deepEqual(
    (await done(m, ['secret', 'show-keys', 'web1'])).lines.map((line) => line.split('\t')[0]),
    ['SMTP_PASSWORD'],
  )
  assert.match(of(await findings(m, ['doctor', 'web1']), 'secrets')[0]?.text ?? '', /^they lie in plain text/)
  const editor = fake(m.bin, 'editor', `sed -i s/hush/other/ "$1"`)
  await done(m, ['secret', 'edit', 'web1'], { env: { EDITOR: editor } })
  assert.equal(fs.readFileSync(path.join(dir, 'secret.env'), 'utf8'), "SMTP_PASSWORD='other'\n")
})

test('doctor wants the tools of the engines that are used, and of a store without a password only that its disk is guarded', async (t) => {
  const { m, store } = await house(t)
  fs.writeFileSync(path.join(m.bin, 'restic'), 'not a program\n')
  // A folder of its own: the system's may have a restic.
  const system = path.join(m.dir, 'system')
  fs.mkdirSync(system)
  for (const tool of ['sh', 'rsync', 'df']) fs.symlinkSync(`/usr/bin/${tool}`, path.join(system, tool))
  const env = { PATH: `${m.bin}:${system}` }
  const rows = (await kedge(m, ['doctor', '--json'], { env })).rows as Finding[]
  assert.deepEqual(of(rows, 'restic'), [])
  assert.deepEqual(of(rows, 'fuse'), [])
  assert.match(of(rows, 'rsync')[0]?.text ?? '', /^rsync \d.* at '.*\/system\/rsync'$/)
  const [recovery] = of(rows, 'recovery')
  assert.equal(recovery?.level, 'ok')
  assert.match(
    recovery?.text ?? '',
    new RegExp(`no secret opens the store '${store}': whoever has its disk reads the snapshots, so guard it`),
  )
  assert.deepEqual(
    of(rows, 'store').map(({ level }) => level),
    ['ok'],
  )
  assert.equal(of(rows, 'store place')[0]?.level, 'warning', 'the store lies on the file system of what it saves')

  fake(m.bin, 'rsync', 'echo "openrsync: protocol version 27"')
  const odd = (await kedge(m, ['doctor', '--json'], { env })).rows as Finding[]
  assert.deepEqual(
    of(odd, 'rsync')
      .filter(({ target }) => target === '-')
      .map(({ level, text }) => [level, /is openrsync/.test(text)]),
    [['blocked', true]],
  )

  // What lies on another host is on none of these disks.
  fs.appendFileSync(path.join(m.config, 'targets/web1/target.env'), 'SOURCE_HOST=web1.example.org\n')
  assert.deepEqual(of(await findings(m, ['doctor', 'web1']), 'store place'), [])
})

test('both engines live in one house: each target takes its own of what defaults.env says', async (t) => {
  const m = machine(t)
  fs.writeFileSync(
    path.join(m.config, 'defaults.env'),
    envText({
      STORE: path.join(m.dir, 'store'),
      RESERVE: '0',
      RESTIC_COMPRESSION: 'max',
      AWS_DEFAULT_REGION: 'eu',
      RESTIC_PASSWORD_FILE: '/no/such',
    }),
  )
  fs.writeFileSync(path.join(m.home, 'a'), 'one\n')
  const { repository, password } = newTarget(m, 'db', { paths: [m.home] })
  newRsyncTarget(m, 'web1', { paths: [m.home], env: { STORE: undefined } })
  assert.deepEqual((await done(m, ['targets'])).lines, [`db\trestic\t${m.dir}/repositories/db\t`, `web1\trsync\t${m.dir}/store\t`])
  const keysOf = async (name: string) => (await done(m, ['config', name])).lines.map((line) => line.split('\t')[0] ?? '')
  assert.deepEqual(
    (await keysOf('web1')).filter((key) => /^(RESTIC|AWS)_/.test(key)),
    [],
  )
  assert.deepEqual(
    (await keysOf('db')).filter((key) => ['STORE', 'RESERVE', 'RETRIES', 'KEEP_MANUAL'].includes(key)),
    [],
  )
  const variables = async (name: string) => {
    const env = (await done(m, ['run', name, 'env'])).lines.map((line) => line.split('=')[0] ?? '')
    return env.filter((key) => /^(RESTIC_|AWS_|STORE|KEDGE_SNAPSHOTS)/.test(key)).sort()
  }
  assert.deepEqual(await variables('web1'), ['KEDGE_SNAPSHOTS', 'STORE'])
  assert.deepEqual(await variables('db'), [
    'AWS_DEFAULT_REGION',
    'RESTIC_CACHE_DIR',
    'RESTIC_COMPRESSION',
    'RESTIC_PASSWORD',
    'RESTIC_REPOSITORY',
  ])
  await done(m, ['init', 'db'])
  cheapen(repository, password)
  await done(m, ['init', 'web1'])
  await done(m, ['backup'])
  assert.deepEqual((await done(m, ['list', '--json'])).rows.map((row) => 'target' in row && row.target).sort(), ['db', 'web1'])
})

test('an engine that is mistyped is named with the nearest, and nothing else is said of its settings', async (t) => {
  const m = machine(t)
  newRsyncTarget(m, 'web1', { paths: ['/etc'], env: { ENGINE: 'rsnyc', RSYNC_MAX_ALLOC: '1G' } })
  const { status, stderr } = await kedge(m, ['list', 'web1'])
  assert.equal(status, 2)
  assert.match(stderr, /ENGINE: not an engine \(did you mean rsync\?\): 'rsnyc'\n$/)
  assert.equal((stderr.match(/target\.env:\d/g) ?? []).length, 1, stderr)
  assert.equal((await kedge(m, ['targets'])).stdout, 'web1\t\t\t\n')
})

test('a command in the context of a target finds the store and its snapshots, and --explain sets the same', async (t) => {
  const { m, store } = await house(t)
  const say = ['/bin/sh', '-c', 'echo "$STORE $KEDGE_SNAPSHOTS"']
  const { stdout } = await done(m, ['run', 'web1', ...say])
  assert.equal(stdout, `${store} ${store}/web1/snapshots\n`)
  const explained = await done(m, ['run', '--explain', 'web1', ...say])
  const byHand = execFileSync('/bin/sh', ['-c', explained.stdout], { env: { PATH: '/usr/bin:/bin' } }).toString()
  assert.equal(byHand, stdout)
  assert.doesNotMatch(explained.stdout, /RESTIC/)
})

test('a target that is renamed has its snapshots of before, and goes on from them', async (t) => {
  const { m, tree, store } = await house(t)
  growTree(path.join(tree, 'more'))
  await done(m, ['backup', 'web1'])
  const renamed = await done(m, ['rename', 'web1', 'web2'])
  assert.match(renamed.stderr, new RegExp(`the snapshots keep the folder '${store}/web1': SNAPSHOTS_OF='web2 web1' takes them in`))
  fs.writeFileSync(path.join(tree, 'b'), 'two\n')
  const [saved] = (await done(m, ['backup', 'web2', '--json'])).rows
  assert.ok(saved?.kind === 'summary' && (saved.linked ?? 0) > 0, JSON.stringify(saved))
  assert.deepEqual([fs.readdirSync(`${store}/web1/snapshots`).length, fs.readdirSync(`${store}/web2/snapshots`).length], [1, 1])
  assert.equal((await done(m, ['list', 'web2'])).lines.length, 2)
  const to = path.join(m.dir, 'out')
  await done(m, ['restore', 'web2', 'latest', '--to', to])
  sameTree(path.join(to, tree), tree)
  fs.rmSync(path.join(tree, 'b'))
  const old = path.join(m.dir, 'old')
  await done(m, ['restore', 'web2', 'latest-1', '--to', old])
  assert.deepEqual(fs.readdirSync(path.join(old, tree)).sort(), ['a', 'more'])
})

test('after a rename a base is known by the name of before', async (t) => {
  const { m } = await house(t)
  await done(m, ['backup', 'web1'])
  await done(m, ['backup', 'web1'])
  await done(m, ['rename', 'web1', 'web2'])
  await done(m, ['backup', 'web2'])
  fs.appendFileSync(path.join(m.config, 'targets/web2/target.env'), 'KEEP_LAST=1\nKEEP_BASES=yes\n')
  const plan = (await done(m, ['prune', '-n', 'web2', '--json'])).rows.flatMap((row) => (row.kind === 'plan' ? [row] : []))
  const [newer, older] = plan.filter(({ id }) => id.startsWith('web1/'))
  assert.deepEqual([older?.action, older?.reasons], ['keep', [`base of ${newer?.id}`]])
})

test('of a second store that is renamed no folder is told that is not there', async (t) => {
  const { m } = await house(t)
  newRsyncTarget(m, 'off', { env: { SNAPSHOTS_OF: 'web1' } })
  await done(m, ['init', 'off'])
  assert.doesNotMatch((await done(m, ['rename', 'off', 'far'])).stderr, /the snapshots keep/)
})

test('a target that is removed is packed with its key of SSH, and its store stays', async (t) => {
  const { m, dir, store } = await house(t)
  fs.writeFileSync(path.join(dir, 'ssh_key'), 'PRIVATE\n', { mode: 0o600 })
  const { stdout, stderr } = await done(m, ['remove', 'web1', '--yes'])
  assert.match(stderr, /the store is untouched; the target, with its secrets and keys, is in/)
  const archive = stdout.split('\t')[0] ?? ''
  execFileSync('tar', ['-xzpf', archive, '-C', m.dir])
  assert.equal(fs.readFileSync(path.join(m.dir, dir, 'ssh_key'), 'utf8'), 'PRIVATE\n')
  assert.equal(fs.statSync(path.join(m.dir, dir, 'ssh_key')).mode & 0o777, 0o600)
  assert.ok(fs.existsSync(path.join(store, 'kedge-store.json')))
})

test('a service of systemd whose store keeps owners may write there, and give files away; one that checks may not', async (t) => {
  const { m, store } = await house(t, { SCHEDULE_BACKUP: '@daily', SCHEDULE_CHECK: '@weekly' })
  const units = path.join(m.dir, 'units')
  fs.mkdirSync(units)
  const { stdout } = await done(m, ['schedule', 'install', '-n', '--by', 'systemd'], { env: { SYSTEMD_UNIT_PATH: units } })
  const dropIn = (verb: string) => stdout.slice(stdout.indexOf(`kedge-${verb}@web1.service.d/50-target.conf`)).split('\n\n')[0] ?? ''
  assert.match(
    dropIn('backup'),
    new RegExp(`^ReadWritePaths=-${store}\nCapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_CHOWN .*CAP_MKNOD$`, 'm'),
  )
  assert.match(dropIn('backup'), /^RestrictSUIDSGID=no$/m)
  assert.match(dropIn('check'), new RegExp(`^ReadWritePaths=-${store}$`, 'm'))
  assert.doesNotMatch(dropIn('check'), /CapabilityBoundingSet|RestrictSUIDSGID/)
})

test('reading notices another store in the place of the pinned one; a target that is not pinned may read', async (t) => {
  const { m, store, dir, root } = await house(t)
  await done(m, ['backup', 'web1'])
  fs.writeFileSync(path.join(store, 'kedge-store.json'), '{"id":"0123456789abcdef"}')
  const reading = [['list'], ['list', '--removed'], ['list', '--all'], ['files'], ['find', 'a'], ['stats'], ['diff'], ['mount'], ['unlock']]
  for (const [verb = '', ...args] of reading) {
    const result = await kedge(m, [verb, 'web1', ...args])
    assert.equal(result.status, 15, `${verb} ${args}: ${result.stdout}${result.stderr}`)
    assert.match(result.stderr, /another store lies in '.*': its id is 0123456789, pinned is/)
    assert.equal(result.stdout, '')
  }
  const out = path.join(m.dir, 'out')
  assert.equal((await kedge(m, ['restore', 'web1', 'latest', '--to', out])).status, 15)
  assert.equal((await kedge(m, ['backup', '-n', 'web1'])).status, 3)
  const file = path.join(dir, 'target.env')
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace(/^STORE_ID=.*\n/m, ''))
  assert.equal((await done(m, ['list', 'web1'])).lines.length, fs.readdirSync(path.join(root, 'snapshots')).length)
})

test('a store that is mounted read-only is told in words, by doctor too', {
  skip: process.getuid?.() !== 0 && 'mount needs root',
}, async (t) => {
  const m = machine(t)
  const { dir } = await smallFs(t, { bytes: 16 << 20, inodes: 1000 })
  const tree = path.join(m.dir, 'tree')
  fs.mkdirSync(tree)
  newRsyncTarget(m, 'web1', { paths: [tree], env: { STORE: path.join(dir, 'store'), RESERVE: '0' } })
  await done(m, ['init', 'web1'])
  const written = of(await findings(m, ['doctor', 'web1']), 'store write')
  assert.deepEqual(
    written.map(({ level }) => level),
    ['ok'],
  )
  execFileSync('mount', ['-o', 'remount,ro', dir])
  for (const args of [
    ['backup', 'web1'],
    ['prune', 'web1'],
  ]) {
    const result = await kedge(m, args)
    assert.match(result.stderr, /cannot write to store '.*': it is mounted read-only\n.*dmesg/)
    assert.doesNotMatch(result.stderr, /EROFS/)
  }
  const [told] = of(await findings(m, ['doctor', 'web1']), 'store write')
  assert.deepEqual([told?.level, /cannot write to '.*': it is mounted read-only/.test(told?.text ?? '')], ['blocked', true])
})
