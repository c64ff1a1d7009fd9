// kedge doctor: it finds what is wrong, says what to do, changes nothing, and judges as backup does.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import * as fs from 'node:fs'
import { hostname } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { node } from '../../lib/doctor/house.ts'
import { installedUnit, mayWrite, sandboxOf } from '../../lib/doctor/unit.ts'
import type { Finding } from '../../lib/rows/house.ts'
import type { Row } from '../../lib/rows.ts'
import { cheapen } from '../cheap.ts'
import {
  dist,
  done,
  envText,
  fake,
  growTree,
  kedge,
  type Machine,
  machine,
  type NewTarget,
  newTarget,
  restic,
  restics,
  scratch,
  startProgram,
} from '../harness.ts'
import { treeFacts } from '../tree.ts'

const findings = (rows: readonly Row[], check?: string) =>
  rows.filter((row): row is Finding => row.kind === 'finding' && (check === undefined || row.check === check))
const doctor = (m: Machine, ...args: string[]) => kedge(m, ['doctor', '--json', ...args])

/** A target that is in order: initialised, pinned, saved once. */
async function healthy(t: TestContext, which = restics().at(-1)): Promise<{ m: Machine; target: NewTarget; tree: string }> {
  const m = machine(t, which)
  const tree = path.join(m.dir, 'tree')
  fs.mkdirSync(tree)
  growTree(tree)
  const target = newTarget(m, 'web1', { paths: [tree] })
  await done(m, ['init', 'web1'])
  cheapen(target.repository, target.password)
  await done(m, ['backup', 'web1'])
  return { m, target, tree }
}

for (const each of restics()) {
  test(`with restic ${each.version} a target in order gives no more than warnings, and nothing on the machine is changed`, async (t) => {
    const { m } = await healthy(t, each)
    const before = treeFacts(m.dir)
    const result = await doctor(m)
    assert.equal(result.status, 0, result.stdout + result.stderr)
    assert.deepEqual(treeFacts(m.dir), before)
    const found = findings(result.rows)
    assert.deepEqual(
      found.filter(({ level }) => level === 'blocked'),
      [],
    )
    assert.ok(
      found.every(({ level, remedy }) => level === 'ok' || remedy),
      'each warning has a remedy',
    )
    assert.deepEqual([...new Set(found.map(({ target }) => target))], ['-', 'web1'])
    const old = each.version === '0.14.0'
    assert.equal(findings(result.rows, 'restic')[0]?.level, old ? 'warning' : 'ok')
    for (const check of ['store', 'pin', 'sources', 'clock', 'cache', 'state'])
      assert.equal(findings(result.rows, check)[0]?.level, 'ok', check)
    for (const check of ['secrets', 'store place', 'recovery']) assert.equal(findings(result.rows, check)[0]?.level, 'warning', check)
    assert.match(findings(result.rows, 'secrets')[0]?.text ?? '', /plain text/)
  })
}

test('a target that was in order', { timeout: 60_000 }, async (t) => {
  const { m, target, tree } = await healthy(t)

  await t.test('each fault is found, has its class in the status, and a remedy', async () => {
    const env = path.join(target.dir, 'target.env')
    const plain = fs.readFileSync(env, 'utf8')
    const secret = path.join(target.dir, 'secret.env')
    const put = (text: string) => {
      fs.rmSync(secret, { force: true })
      fs.writeFileSync(secret, text, { mode: 0o400 })
    }
    const whole = fs.readFileSync(secret, 'utf8')
    const cases: [string, number, RegExp, () => void, () => void][] = [
      ['store', 12, /wrong password/, () => put(envText({ RESTIC_PASSWORD: 'another' })), () => put(whole)],
      ['secrets', 2, /its mode is 0644/, () => fs.chmodSync(secret, 0o644), () => fs.chmodSync(secret, 0o400)],
      [
        'store',
        10,
        /cannot open repository/,
        () => fs.renameSync(target.repository, `${target.repository}.off`),
        () => fs.renameSync(`${target.repository}.off`, target.repository),
      ],
      [
        'store',
        15,
        /another store lies in/,
        () => fs.writeFileSync(env, plain.replace(/STORE_ID=\w/, 'STORE_ID=x')),
        () => fs.writeFileSync(env, plain),
      ],
      [
        'pin',
        15,
        /its store is not pinned/,
        () => fs.writeFileSync(env, plain.replace(/STORE_ID=.*\n/, '')),
        () => fs.writeFileSync(env, plain),
      ],
      ['configuration', 2, /KEEP_DALY: unknown key/, () => fs.appendFileSync(env, 'KEEP_DALY=1\n'), () => fs.writeFileSync(env, plain)],
      ['configuration', 2, /everybody may write/, () => fs.chmodSync(target.dir, 0o777), () => fs.chmodSync(target.dir, 0o700)],
      ['canary', 1, /the canary '.*' is gone/, () => fs.appendFileSync(env, `CANARY=${tree}/gone\n`), () => fs.writeFileSync(env, plain)],
      ['sources', 1, /all paths are missing/, () => fs.renameSync(tree, `${tree}.off`), () => fs.renameSync(`${tree}.off`, tree)],
    ]
    for (const [check, status, text, spoil, mend] of cases) {
      spoil()
      const result = await doctor(m, 'web1')
      mend()
      assert.equal(result.status, status, `${text}: ${result.stdout}`)
      const bad = findings(result.rows, check).filter(({ level }) => level === 'blocked')
      assert.match(bad[0]?.text ?? '', text)
    }
    assert.equal((await doctor(m, 'web1')).status, 0, 'all of it was mended')
  })
  await t.test('what --explain prints runs as plain sh and changes nothing', async () => {
    const { stdout } = await done(m, ['doctor', 'web1', '--explain'])
    const result = await startProgram(m, '/bin/sh', ['-e'], { input: stdout }).result
    assert.equal(result.status, 0, result.stderr)
    const { stdout: config } = await restic(m, target, ['cat', 'config', '--no-lock'])
    assert.ok(result.stdout.includes(config.trim()))
  })
  await t.test('nobody is asked for a passphrase; with a descriptor the store is looked at', async () => {
    const passphrase = path.join(m.dir, 'passphrase')
    fs.writeFileSync(passphrase, 'open sesame\n')
    const program = path.join(dist, 'kedge.cjs')
    const giving = (...args: string[]) =>
      startProgram(m, '/bin/sh', ['-c', `exec "$@" 3<${passphrase} 4<${m.dir}/word`, 'sh', process.execPath, program, ...args]).result
    fs.writeFileSync(path.join(m.dir, 'word'), `${target.password}\n`)
    const made = await giving(
      'new',
      'web2',
      '--path',
      m.home,
      '--repo',
      target.repository,
      '--passphrase-fd',
      '3',
      '--existing',
      '--password-fd',
      '4',
    )
    assert.equal(made.status, 0, made.stderr)
    fs.appendFileSync(
      path.join(m.config, 'targets/web2/target.env'),
      /STORE_ID=.*\n/.exec(fs.readFileSync(path.join(target.dir, 'target.env'), 'utf8'))?.[0] ?? '',
    )
    const silent = await doctor(m, 'web2')
    assert.equal(silent.status, 0, silent.stdout)
    assert.match(findings(silent.rows, 'secrets')[0]?.text ?? '', /not tried: a passphrase is needed/)
    const told = await giving('doctor', 'web2', '--json', '--passphrase-fd', '3')
    assert.equal(findings(told.rows, 'secrets')[0]?.level, 'ok')
    assert.match(findings(told.rows, 'store')[0]?.text ?? '', /the pinned one/)
  })
  await t.test('after the operator noted where the key is kept doctor is content, until the secrets change', async () => {
    const level = async () => findings((await doctor(m, 'web1')).rows, 'recovery')[0]?.level
    assert.equal(await level(), 'warning')
    await done(m, ['recovery', 'web1', '--noted', '-n'])
    assert.equal(await level(), 'warning')
    await done(m, ['recovery', 'web1', '--noted'])
    assert.equal(await level(), 'ok')
    const later = new Date(Date.now() + 5000)
    fs.utimesSync(path.join(target.dir, 'secret.env'), later, later)
    assert.equal(await level(), 'warning')
  })
  await t.test('locks of the dead are found, in kedge and in the repository', async () => {
    const gone = startProgram(m, '/bin/sh', ['-c', 'exit 0'])
    await gone.result
    const pid = gone.child.pid
    const holder = {
      run: 'r',
      verb: 'backup',
      at: new Date().toISOString(),
      pid,
      host: hostname(),
      boot: '',
      namespace: '',
      started: 1,
      uptime: 1,
    }
    fs.writeFileSync(path.join(m.state, 'web1/lock/write.99'), `${JSON.stringify({ ...holder, crashed: [] })}\n`)
    const env = { ...m.env, RESTIC_REPOSITORY: target.repository, RESTIC_PASSWORD: target.password, RESTIC_CACHE_DIR: m.cache }
    const saving = spawn(m.restic.path, ['backup', '--stdin'], { env, stdio: ['pipe', 'ignore', 'ignore'] })
    const ended = new Promise((resolve) => saving.on('close', resolve))
    const locks = path.join(target.repository, 'locks')
    // Under another name at first: killed then, restic leaves no lock.
    const isLocked = () => fs.readdirSync(locks).some((name) => /^[0-9a-f]{64}$/.test(name))
    while (!isLocked()) await setTimeout(20, undefined, { signal: t.signal })
    saving.kill('SIGKILL')
    await ended
    const dead = findings((await doctor(m, 'web1')).rows, 'locks')
    fs.rmSync(path.join(m.state, 'web1/lock/write.99'))
    for (const name of fs.readdirSync(locks)) fs.rmSync(path.join(locks, name))
    assert.deepEqual(dead.map(({ text }) => text.split(' is ')[0]).sort(), ['kedge', 'the store'])
    for (const { text, remedy } of dead) assert.match(`${text} ${remedy}`, /which is dead.*kedge unlock web1/)
  })

  await t.test('what doctor says of the sources is what backup says', async () => {
    fs.appendFileSync(path.join(target.dir, 'target.env'), `CANARY=${tree}/gone\n`)
    const [canary] = findings((await doctor(m, 'web1')).rows, 'canary')
    const backup = await kedge(m, ['backup', 'web1'])
    assert.equal(backup.status, 1)
    assert.ok(backup.stderr.includes(canary?.text ?? '?'), `${backup.stderr}\n${canary?.text}`)
  })
})

test('a machine without restic, and a clock that went back, are blocked in the house', async (t) => {
  const m = machine(t)
  newTarget(m, 'web1')
  m.env.PATH = [m.bin, path.dirname(process.execPath), '/bin'].join(':')
  fake(m.bin, 'gpg', ':')
  const late = new Date(Date.now() + 86_400_000)
  fs.utimesSync(path.join(m.config, 'targets/web1/target.env'), late, late)
  const { rows, status } = await doctor(m)
  assert.notEqual(status, 0)
  if (!fs.existsSync('/bin/restic')) assert.match(findings(rows, 'restic')[0]?.text ?? '', /no restic in PATH/)
  assert.match(findings(rows, 'clock')[0]?.text ?? '', /'target\.env' was written/)
  fs.mkdirSync(path.join(m.config, 'targets/.new-abc'))
  assert.match(
    findings((await doctor(m)).rows, 'configuration').find(({ level }) => level === 'warning')?.text ?? '',
    /cut off, and may hold a password/,
  )
})

test('the oldest node', () => {
  const cases: [string, string][] = [
    ['18.20.4', 'blocked'],
    ['20.18.3', 'blocked'],
    ['20.19.0', 'ok'],
    ['22.1.0', 'ok'],
  ]
  for (const [version, level] of cases) assert.equal(node(version).level, level, version)
})

test('where a unit may write', () => {
  const strict = 'ProtectSystem=strict\nProtectHome=yes\nStateDirectory=kedge\nCacheDirectory=kedge:other'
  const cases: [string, string, boolean][] = [
    ['', '/srv/r', true],
    [strict, '/srv/r', false],
    [strict, '/var/lib/kedge/web1', true],
    [strict, '/var/cache/kedge/web1', true],
    [strict, '/var/cache/kedges', false],
    [`${strict}\nReadWritePaths=-/srv /mnt/b`, '/srv/r', true],
    [`${strict}\nReadWritePaths=/srv\nReadWritePaths=`, '/srv/r', false],
    [`${strict}\nReadWritePaths=/srv \\\n  /mnt/b`, '/mnt/b', true],
    ['ProtectSystem=full', '/etc/kedge', false],
    ['ProtectSystem=full', '/srv', true],
    ['ProtectHome=yes', '/home/me/r', false],
    ['ProtectHome=yes\nReadWritePaths=/home/me/r', '/home/me/r', true],
    ['# ProtectSystem=strict', '/srv', true],
  ]
  for (const [text, folder, may] of cases) assert.equal(mayWrite(sandboxOf(`[Service]\n${text}\n`), folder), may, `${text} ${folder}`)
})

test('a unit is read with its drop-ins, those for one target too', async (t) => {
  const dir = scratch(t)
  const write = (name: string, text: string) => {
    fs.mkdirSync(path.dirname(path.join(dir, name)), { recursive: true })
    fs.writeFileSync(path.join(dir, name), text)
  }
  assert.equal(await installedUnit('backup', 'web1', [dir]), undefined)
  write('kedge-backup@.service', '[Service]\nProtectSystem=strict\n')
  write('kedge-.service.d/20.conf', '[Service]\nReadWritePaths=/opt\n')
  write('kedge-backup@.service.d/10.conf', '[Service]\nReadWritePaths=/srv\n')
  write('kedge-backup@web1.service.d/20.conf', '[Service]\nReadWritePaths="/mnt/two words"\n')
  const writable = async (verb: string, target: string) => (await installedUnit(verb, target, [dir]))?.sandbox.writable
  // Of one name the nearest to the unit counts, as systemd 257 shows (DropInPaths).
  assert.deepEqual(await writable('backup', 'web1'), ['/srv', '/mnt/two words'])
  assert.deepEqual(await writable('backup', 'web2'), ['/srv', '/opt'])
  assert.deepEqual(await writable('check', 'web1'), undefined)
})
