// kedge schedule: what it lists, and what it writes for systemd and cron. systemctl is a fake; systemd-analyze and crontab are real.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { done, fake, kedge, type Machine, machine, newTarget, ownKedge, root, startProgram, tools } from '../harness.ts'
import { webServer } from '../webhooks.ts'

type Row = Record<string, string | null>

/** A machine whose units lie in a folder of its own; what its systemctl is told is in `told`, its state in `systemctl/`. */
function house(t: TestContext) {
  const m = machine(t)
  const main = path.join(ownKedge(m), 'kedge.cjs')
  const units = path.join(m.dir, 'units')
  fs.mkdirSync(units)
  m.env.SYSTEMD_UNIT_PATH = `${units}:`
  const state = path.join(m.dir, 'systemctl')
  fs.mkdirSync(state)
  fake(
    m.bin,
    'systemctl',
    `cd '${state}'; [ "$1" != --user ] || shift
echo "$@" >>told
verb=$1; shift
for each; do case $each in
  *.timer) case $verb in
    enable) : >"$each" ;;
    disable) rm "$each" ;;
    show)
      if [ -e "$each" ]; then printf 'Id=%s\\nActiveState=active\\nUnitFileState=enabled\\nNextElapseUSecRealtime=Sat 2026-11-21 01:02:03 UTC\\n\\n' "$each"
      else printf 'NextElapseUSecRealtime=\\nId=%s\\nActiveState=inactive\\nUnitFileState=\\n\\n' "$each"; fi ;;
  esac ;;
esac; done`,
  )
  fake(m.bin, 'crontab', `case $1 in -l) echo 'no crontab for root' >&2; exit 1 ;; *) exit 9 ;; esac`)
  const told = () => {
    const file = path.join(state, 'told')
    const lines = fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim().split('\n') : []
    fs.rmSync(file, { force: true })
    return lines.filter((line) => !line.startsWith('show'))
  }
  return { m, units, told, main }
}

/** All files below a folder, by name. */
function tree(dir: string): Record<string, string> {
  const names = (fs.readdirSync(dir, { recursive: true }) as string[]).filter((name) => fs.statSync(path.join(dir, name)).isFile())
  return Object.fromEntries(names.sort().map((name) => [name, fs.readFileSync(path.join(dir, name), 'utf8')]))
}

/** systemd's own judgement of what was written, instances of the templates included. */
function verify(units: string, names: readonly string[], ...options: readonly string[]): string {
  const { stdout, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', ...options, ...names], {
    encoding: 'utf8',
    cwd: units,
    env: { ...process.env, SYSTEMD_UNIT_PATH: `${units}:`, XDG_RUNTIME_DIR: units },
  })
  return stdout + stderr
}

const rowsOf = (result: { rows: unknown[] }) => result.rows as Row[]
/** PrivateDevices= would hide the TPM from systemd-creds. */
const tpm = ['BindPaths=-/dev/tpmrm0', 'DeviceAllow=char-tpm rw']
const nightly = { SCHEDULE_BACKUP: '30 2 * * *', SCHEDULE_CHECK: 'H H(3-5) * * 0' }

test('what is scheduled is listed with its next time, and that nothing starts it', async (t) => {
  const { m } = house(t)
  newTarget(m, 'web1', { env: { ...nightly, SCHEDULE_JITTER: '1h' } })
  newTarget(m, 'web2', { env: { NOTIFY: 'command', NOTIFY_COMMAND: '/bin/true', NOTIFY_ON: 'digest', SCHEDULE_PRUNE: '@weekly' } })
  const rows = rowsOf(await done(m, ['schedule', '--json']))
  assert.deepEqual(
    rows.map(({ target, verb, schedule, by, good }) => [target, verb, schedule, by, good]),
    [
      ['-', 'digest', '0 7 * * *', '-', null],
      ['web1', 'backup', '30 2 * * *', '-', null],
      ['web1', 'check', 'H H(3-5) * * 0', '-', null],
      ['web2', 'prune', '@weekly', '-', null],
    ],
  )
  assert.deepEqual([rows[0]?.state, rows[1]?.state], ['-', 'never'])
  assert.match(rows[0]?.next ?? '', /T07:00:00.000Z$/)
  // Shifted by the target's own share of the jitter, always the same.
  const next = rows[1]?.next ?? ''
  assert.ok(next.slice(11) >= '02:30:00' && next.slice(11) < '03:30:00', next)
  assert.equal(rowsOf(await done(m, ['schedule', 'list', 'web1', '--json']))[0]?.next, next)
  assert.equal((await kedge(m, ['schedule', 'web3'])).status, 2)
  assert.equal((await kedge(m, ['schedule', '--by', 'crontab'])).status, 2)
})

test('install writes units that systemd takes, starts the timers, and a second time changes nothing', async (t) => {
  const { m, units, told, main } = house(t)
  newTarget(m, 'web1', { env: { ...nightly, SCHEDULE_DRILL: '@monthly', SCHEDULE_JITTER: '20m', TZ: 'Europe/Berlin' } })
  const before = tree(m.dir)
  const preview = await done(m, ['schedule', 'install', '--by', 'systemd', '-n'])
  assert.deepEqual(tree(m.dir), before, '-n writes nothing')
  assert.deepEqual(told(), [])
  const result = await done(m, ['schedule', 'install', '--by', 'systemd', '--json'])
  const files = tree(units)
  assert.deepEqual(
    rowsOf(result)
      .map((row) => row.path)
      .sort(),
    Object.keys(files).map((name) => path.join(units, name)),
  )
  for (const text of Object.values(files)) assert.ok(preview.stdout.includes(text), 'what -n prints is what is written')
  const timers = ['kedge-backup@web1.timer', 'kedge-check@web1.timer', 'kedge-drill@web1.timer']
  assert.deepEqual(told(), ['daemon-reload', `enable --now -- ${timers.join(' ')}`])
  const services = timers.map((name) => name.replace('timer', 'service'))
  assert.equal(verify(units, [...timers, ...services, 'kedge-prune@web1.service', 'kedge-copy@web1.service']), '')
  const timer = files['kedge-backup@web1.timer'] ?? ''
  assert.match(timer, /^OnCalendar=\*-\*-\* 02:30:00 Europe\/Berlin$/m)
  assert.match(timer, /^Persistent=yes\nRandomizedDelaySec=1200\nFixedRandomDelay=yes$/m)
  assert.match(files['kedge-backup@.service'] ?? '', new RegExp(`^ExecStart=${process.execPath} ${main} backup --wait=1h %i$`, 'm'))
  assert.match(files['kedge-.service.d/40-house.conf'] ?? '', new RegExp(`^Environment=KEDGE_CONFIG_DIR=${m.config}$`, 'm'))
  assert.match(files['kedge-.service.d/40-house.conf'] ?? '', /^Environment=PATH=\S*restic-0.19/m, 'restic is found')
  assert.ok(fs.statSync(path.join(units, 'kedge-backup@web1.timer')).mode & 0o004, 'others may read it')

  const again = await done(m, ['schedule', 'install', '--by', 'systemd', '--json'])
  assert.deepEqual([...new Set(rowsOf(again).map((row) => row.action))], ['unchanged'])
  assert.deepEqual(tree(units), files)
  assert.deepEqual(told(), [])
  const [row] = rowsOf(await done(m, ['schedule', '--json']))
  assert.deepEqual([row?.by, row?.next], ['systemd', '2026-11-21T01:02:03.000Z'], "systemd's own next time")
})

test('what --explain prints is what install does', async (t) => {
  const { m, units, told } = house(t)
  newTarget(m, 'web1', { env: nightly })
  const plain = await done(m, ['schedule', 'install', '--by', 'systemd', '--explain'])
  assert.deepEqual(tree(units), {})
  const run = await startProgram(m, '/bin/sh', ['-e', '-c', plain.stdout]).result
  assert.equal(run.status, 0, run.stderr)
  const byHand = tree(units)
  told()
  await done(m, ['schedule', 'install', '--by', 'systemd'])
  assert.deepEqual(tree(units), byHand)
  assert.deepEqual(told(), [], 'nothing was left to do')
  const back = await done(m, ['schedule', 'remove', '--explain'])
  assert.equal((await startProgram(m, '/bin/sh', ['-e', '-c', back.stdout]).result).status, 0)
  assert.deepEqual(fs.readdirSync(units), [])
})

test('a schedule that is gone, and a target that is gone, lose their timers; a target that does not load keeps them', async (t) => {
  const { m, units, told } = house(t)
  const web1 = newTarget(m, 'web1', { env: nightly })
  const web2 = newTarget(m, 'web2', { env: nightly })
  await done(m, ['schedule', 'install', '--by', 'systemd'])
  told()
  const timers = () => Object.keys(tree(units)).filter((name) => name.endsWith('.timer'))
  newTarget(m, 'web1', { env: { SCHEDULE_BACKUP: '0 4 * * *' } })
  fs.appendFileSync(path.join(web2.dir, 'target.env'), 'NO_SUCH_KEY=1\n')
  const broken = await kedge(m, ['schedule', 'install', '--by', 'systemd'])
  assert.equal(broken.status, 2)
  assert.deepEqual(timers(), ['kedge-backup@web1.timer', 'kedge-backup@web2.timer', 'kedge-check@web2.timer'])
  assert.deepEqual(told(), ['disable --now -- kedge-check@web1.timer', 'daemon-reload', 'restart -- kedge-backup@web1.timer'])
  assert.doesNotMatch((await kedge(m, ['schedule'])).stderr, /warning/)
  fs.rmSync(web2.dir, { recursive: true })
  assert.match(
    (await done(m, ['schedule'])).stderr,
    /^warning: backup web2 is started, and no target schedules it: kedge schedule install/m,
  )
  await done(m, ['schedule', 'install', '--by', 'systemd', 'web1'])
  assert.equal(timers().length, 3, 'an install of one leaves the others')
  await done(m, ['schedule', 'install', '--by', 'systemd'])
  assert.deepEqual(timers(), ['kedge-backup@web1.timer'])
  assert.ok(!Object.keys(tree(units)).some((name) => name.includes('web2')))
  assert.ok(fs.existsSync(web1.dir))
})

test('remove takes away what install wrote and nothing else', async (t) => {
  const { m, units, told } = house(t)
  newTarget(m, 'web1', { env: nightly })
  newTarget(m, 'web2', { env: nightly })
  fs.mkdirSync(path.join(units, 'kedge-backup@web1.service.d'))
  const own = {
    'kedge-backup@web1.service.d/override.conf': '[Service]\nNice=5\n',
    'kedge-other.service': '[Service]\nExecStart=/bin/true\n',
  }
  for (const [name, text] of Object.entries(own)) fs.writeFileSync(path.join(units, name), text)
  await done(m, ['schedule', 'install', '--by', 'systemd'])
  await done(m, ['schedule', 'remove', 'web1'])
  const left = Object.keys(tree(units))
  assert.deepEqual(
    left.filter((name) => name.includes('web1')),
    ['kedge-backup@web1.service.d/override.conf'],
  )
  assert.ok(left.includes('kedge-backup@web2.timer') && left.includes('kedge-backup@.service'))
  assert.ok(told().includes('disable --now -- kedge-backup@web1.timer kedge-check@web1.timer'))
  await done(m, ['schedule', 'remove'])
  assert.deepEqual(tree(units), own)
  assert.deepEqual(fs.readdirSync(units).sort(), ['kedge-backup@web1.service.d', 'kedge-other.service'], 'no empty folder is left')
})

test('a file of somebody else is not replaced, and nothing is written beside it', async (t) => {
  const { m, units, told } = house(t)
  newTarget(m, 'web1', { env: nightly })
  fs.writeFileSync(path.join(units, 'kedge-backup@.service'), '[Service]\nExecStart=/opt/mine %i\n')
  const before = tree(units)
  const result = await kedge(m, ['schedule', 'install', '--by', 'systemd'])
  assert.equal(result.status, 15)
  assert.match(result.stderr, /refusing to replace '.*kedge-backup@.service': kedge schedule install did not write it/)
  assert.deepEqual(tree(units), before)
  assert.deepEqual(told(), [])
})

test('each service may write what its verb writes, and gets the credentials that it opens', async (t) => {
  const { m, units } = house(t)
  const second = path.join(m.dir, 'second')
  newTarget(m, 'off1', { env: { RESTIC_REPOSITORY: second, SNAPSHOTS_OF: 'web1', SECRET: 'credential' } })
  const web1 = newTarget(m, 'web1', {
    env: {
      ...nightly,
      SCHEDULE_COPY: '@daily',
      COPY_TO: 'off1',
      SECRET: 'credential',
      RESTIC_REPOSITORY: '/srv/two words/50% "off"',
      NOTIFY: 'command',
      NOTIFY_COMMAND: '/bin/true',
      NOTIFY_ON: 'digest',
    },
  })
  for (const name of ['web1', 'off1']) fs.writeFileSync(path.join(m.config, 'targets', name, 'secret.cred'), 'sealed\n')
  await done(m, ['schedule', 'install', '--by', 'systemd'])
  const files = tree(units)
  const lines = (name: string) => (files[`${name}.service.d/50-target.conf`] ?? '').split('\n').slice(2, -1)
  const credential = (name: string) => `LoadCredentialEncrypted=kedge-${name}:${path.join(m.config, 'targets', name, 'secret.cred')}`
  const first = 'ReadWritePaths="-/srv/two words/50%% \\"off\\""'
  assert.deepEqual(lines('kedge-backup@web1'), [first, credential('web1')])
  // systemd starts no unit with a credential that does not open: what the unit can do without is opened by kedge, for which the TPM is there.
  assert.deepEqual(lines('kedge-copy@web1'), [first, `ReadWritePaths=-${second}`, credential('web1'), ...tpm])
  assert.deepEqual(lines('kedge-notify@copy:web1'), tpm)
  assert.deepEqual(lines('kedge-digest'), tpm)
  assert.match(files['kedge-digest.service'] ?? '', /^ExecStart=.*kedge.cjs notify digest$/m)
  assert.equal(verify(units, ['kedge-copy@web1.service', 'kedge-digest.service', 'kedge-digest.timer']), '')
  // systemd starts no unit whose credential is not there, and kedge could not say what is missing.
  fs.rmSync(path.join(web1.dir, 'secret.cred'))
  await done(m, ['schedule', 'install', '--by', 'systemd'])
  assert.deepEqual((tree(units)['kedge-backup@web1.service.d/50-target.conf'] ?? '').split('\n').slice(2, -1), [first, ...tpm])
})

test('what tells of a failure may ask gpg and its agent, as the backup may', async (t) => {
  const { m, units } = house(t)
  const env = { SCHEDULE_BACKUP: '@daily', NOTIFY: 'command', NOTIFY_COMMAND: '/bin/true', NOTIFY_ON: 'failure digest' }
  newTarget(m, 'web1', { env: { ...env, SECRET: 'gpg' } })
  newTarget(m, 'web2', { env: { ...env, SECRET: 'command', SECRET_COMMAND: 'pass show web2' } })
  newTarget(m, 'web3', { env: { ...env, SECRET: 'none', RESTIC_PASSWORD_FILE: '/etc/web3' } })
  await done(m, ['schedule', 'install', '--by', 'systemd'])
  const files = tree(units)
  for (const unit of ['kedge-backup@web1', 'kedge-notify@backup:web1', 'kedge-notify@backup:web2', 'kedge-digest'])
    assert.match(files[`${unit}.service.d/50-target.conf`] ?? '', new RegExp(`^ReadWritePaths=-${m.home}/.gnupg$`, 'm'), unit)
  assert.equal(files['kedge-notify@backup:web3.service.d/50-target.conf'], undefined)
})

test('digests at two times may both write to the queue of sendmail', async (t) => {
  const { m, units } = house(t)
  const env = { NOTIFY: 'mail', MAIL_TO: 'ops@example.org', NOTIFY_ON: 'digest' }
  newTarget(m, 'web1', { env: { ...env, SCHEDULE_DIGEST: '0 7 * * *' } })
  newTarget(m, 'web2', { env: { ...env, SCHEDULE_DIGEST: '0 8 * * *' } })
  await done(m, ['schedule', 'install', '--by', 'systemd'])
  const files = tree(units)
  assert.match(files['kedge-digest-2.service'] ?? '', /notify digest web2$/m)
  const queue = files['kedge-digest-2.service.d/30-system.conf'] ?? ''
  assert.match(queue, /^ReadWritePaths=.*\/var\/spool/m)
  assert.equal(queue, files['kedge-digest.service.d/30-system.conf'])
  newTarget(m, 'web2', { env: { SCHEDULE_BACKUP: '@daily' } })
  await done(m, ['schedule', 'install', '--by', 'systemd'])
  assert.deepEqual(
    Object.keys(tree(units)).filter((name) => name.startsWith('kedge-digest-2')),
    [],
  )
})

test('a line feed in a setting makes no second line in a unit or a crontab', async (t) => {
  const { m, units } = house(t)
  const file = fakeCrontab(m)
  const { dir } = newTarget(m, 'web1', { env: { RESTIC_REPOSITORY: '/srv/one' } })
  fs.appendFileSync(path.join(dir, 'target.env'), "SCHEDULE_BACKUP='0 2 *\n* *'\n")
  await done(m, ['schedule', 'install', '--by', 'systemd'])
  assert.match(tree(units)['kedge-backup@web1.timer'] ?? '', /^Description=kedge backup of web1 \(0 2 \* \* \*\)$/m)
  assert.equal(verify(units, ['kedge-backup@web1.timer']), '')
  await done(m, ['schedule', 'install', '--by', 'crontab'])
  assert.match(fs.readFileSync(file, 'utf8'), /^# kedge: begin schedule\n0 2 \* \* \* .* web1 >\/dev\/null\n# kedge: end\n$/)
  // What no unit and no crontab can say is refused, and nothing is written.
  await done(m, ['schedule', 'remove'])
  m.env.KEDGE_STATE_DIR = path.join(m.dir, 'two\nlines')
  for (const way of ['systemd', 'crontab']) {
    const refused = await kedge(m, ['schedule', 'install', '--by', way])
    assert.equal(refused.status, 2, refused.stderr)
    assert.match(refused.stderr, /it holds a line feed/)
  }
  assert.deepEqual([tree(units), fs.existsSync(file)], [{}, false])
})

test('a credential that does not open is told; that of a second store costs its copy, and not the backup', async (t) => {
  const { m } = house(t)
  const { asked, url } = await webServer(t)
  const env = { COPY_TO: 'off1', COPY_AFTER_BACKUP: 'yes' }
  newTarget(m, 'web1', { paths: [m.home], env })
  const off1 = newTarget(m, 'off1', { env: { SNAPSHOTS_OF: 'web1', SECRET: 'credential' } })
  fs.writeFileSync(path.join(off1.dir, 'secret.cred'), 'garbage\n')
  await done(m, ['init', 'web1'])
  const saved = await kedge(m, ['backup', 'web1'])
  assert.equal(saved.status, 3, saved.stderr)
  assert.match(saved.stderr, /off1.*secret\.cred/s)
  assert.equal((await done(m, ['list', 'web1'])).lines.length, 1)
  // The target's own: systemd does not start the backup, and no record is left.
  const web2 = newTarget(m, 'web2', { env: { SECRET: 'credential', NOTIFY: 'webhook', WEBHOOK_URL: url } })
  fs.writeFileSync(path.join(web2.dir, 'secret.cred'), 'garbage\n')
  const missed = await kedge(m, ['notify', 'missed', 'backup:web2'])
  assert.equal(missed.status, 12, missed.stderr)
  const { message } = JSON.parse(asked[0]?.body ?? '') as { message: string }
  assert.match(message, /^the backup left no record: .*: cannot open '.*\/web2\/secret\.cred': /)
})

test('after a backup that copies, the second store may be written too', async (t) => {
  const { m, units } = house(t)
  const off1 = newTarget(m, 'off1', { env: { RESTIC_REPOSITORY: '/srv/second', SNAPSHOTS_OF: 'web1', SECRET: 'credential' } })
  const env = { SCHEDULE_BACKUP: '@daily', COPY_TO: 'off1', COPY_AFTER_BACKUP: 'yes', RESTIC_REPOSITORY: '/srv/first' }
  const web1 = newTarget(m, 'web1', { env: { ...env, SECRET: 'credential' } })
  for (const { dir } of [off1, web1]) fs.writeFileSync(path.join(dir, 'secret.cred'), 'sealed\n')
  await done(m, ['schedule', 'install', '--by', 'systemd'])
  assert.deepEqual((tree(units)['kedge-backup@web1.service.d/50-target.conf'] ?? '').split('\n').slice(2, -1), [
    'ReadWritePaths=-/srv/first',
    'ReadWritePaths=-/srv/second',
    `LoadCredentialEncrypted=kedge-web1:${path.join(web1.dir, 'secret.cred')}`,
    ...tpm,
  ])
})

test('a schedule that systemd cannot keep is named, has no timer, and the status is 3', async (t) => {
  const { m, units } = house(t)
  newTarget(m, 'web1', { env: { SCHEDULE_BACKUP: '0 12 * * *', SCHEDULE_DRILL: '0 3 * * *' } })
  await done(m, ['schedule', 'install', '--by', 'systemd'])
  newTarget(m, 'web1', { env: { SCHEDULE_BACKUP: '0 12 * * *', SCHEDULE_DRILL: '0 * * * 0', TZ: 'Europe/Berlin' } })
  const result = await kedge(m, ['schedule', 'install', '--by', 'systemd'])
  assert.equal(result.status, 3)
  assert.match(result.stderr, /warning: web1: drill: systemd cannot keep '0 \* \* \* 0' in Europe\/Berlin: /)
  assert.deepEqual(
    Object.keys(tree(units)).filter((name) => name.endsWith('.timer')),
    ['kedge-backup@web1.timer'],
  )
})

test("a user's timers are for the user's own manager, without what only root's can do", async (t) => {
  const m = machine(t)
  const user = 12345
  newTarget(m, 'web1', { env: nightly })
  fs.cpSync(m.config, path.join(m.home, '.config/kedge'), { recursive: true })
  fake(
    m.bin,
    'systemctl',
    `echo "$@" >>'${m.home}/told'; case "$*" in *show*) printf 'Id=kedge-backup@web1.timer\\nActiveState=active\\nUnitFileState=enabled\\n\\nId=kedge-check@web1.timer\\nActiveState=active\\nUnitFileState=enabled\\n' ;; esac`,
  )
  spawnSync('chown', ['-R', `${user}:${user}`, m.home])
  fs.chmodSync(m.dir, 0o755)
  fs.chmodSync(m.bin, 0o755)
  const env = { KEDGE_CONFIG_DIR: undefined, KEDGE_STATE_DIR: undefined, KEDGE_CACHE_DIR: undefined }
  const result = await done(m, ['schedule', 'install', '--by', 'systemd'], { uid: user, env })
  assert.match(result.stderr, /loginctl enable-linger/)
  const units = path.join(m.home, '.config/systemd/user')
  const files = tree(units)
  assert.ok(!Object.keys(files).some((name) => name.endsWith('-system.conf')))
  assert.ok(files['kedge-.service.d/10-sandbox.conf'])
  assert.match(fs.readFileSync(path.join(m.home, 'told'), 'utf8'), /^--user daemon-reload$/m)
  assert.equal(verify(units, ['kedge-backup@web1.service', 'kedge-backup@web1.timer'], '--user'), '')
})

// --- crontab

/** A crontab(1) that keeps its bytes in a file. */
function fakeCrontab(m: Machine): string {
  const file = path.join(m.dir, 'tab')
  fake(
    m.bin,
    'crontab',
    `case $1 in
  -l) [ -f '${file}' ] || { echo 'no crontab for root' >&2; exit 1; }; cat '${file}' ;;
  -r) rm '${file}' ;;
  -) cat >'${file}.new'; mv '${file}.new' '${file}' ;;
esac`,
  )
  return file
}

// Latin-1, no line feed at the end, lines that look like marks.
const foreign = Buffer.from('# gr\xfcn\nMAILTO=me\n5 4 * * * /bin/echo 100\\%\n# kedge: beginning\n@daily /usr/bin/true', 'latin1')

test('the crontab gets a block of lines, and all else stays byte for byte', async (t) => {
  const { m, main } = house(t)
  const file = fakeCrontab(m)
  fs.writeFileSync(file, foreign)
  newTarget(m, 'web1', { env: { SCHEDULE_BACKUP: '30 2 * * *', SCHEDULE_JITTER: '10m' } })
  newTarget(m, 'web2', { env: { SCHEDULE_CHECK: '15 3 * * 1' } })
  m.env.KEDGE_STATE_DIR = path.join(m.dir, '50% ü')
  assert.equal((await done(m, ['schedule', 'install', '--by', 'crontab'])).stdout, 'crontab\twritten\t-\n')
  const bytes = fs.readFileSync(file)
  assert.equal(bytes.indexOf(foreign), 0)
  const lines = bytes.subarray(foreign.length).toString().trim().split('\n')
  const program = `${process.execPath} ${main}`
  assert.equal(lines.length, 4)
  assert.match(lines[1] ?? '', /^3\d 2 \* \* \* sleep \d+; export PATH=\S+restic-0.19.1\S+ /)
  assert.ok(lines[1]?.includes(` KEDGE_STATE_DIR='${m.dir}/50\\% ü' `), lines[1])
  const told = `${program} notify missed -q backup web1 >/dev/null`
  assert.ok(lines[1]?.endsWith(` ${program} backup --wait=1h web1 >/dev/null || ${told}`), lines[1])
  assert.match(lines[2] ?? '', /^15 3 \* \* 1 export PATH=.* check --wait=1h web2 >\/dev\/null \|\| /)
  assert.equal((await done(m, ['schedule', 'install', '--by', 'crontab'])).stdout, 'crontab\tunchanged\t-\n')
  assert.deepEqual(
    rowsOf(await done(m, ['schedule', '--json'])).map((row) => row.by),
    ['crontab', 'crontab'],
  )
  // The line as cron and sh read it starts kedge: `%` is escaped for the one, the rest quoted for the other.
  const command = (lines[2] ?? '').replace(/^(\S+ ){5}/, '').replaceAll('\\%', '%')
  const run = await startProgram(m, '/bin/sh', ['-c', command], { env: { PATH: '/usr/bin:/bin', KEDGE_STATE_DIR: undefined } }).result
  assert.match(run.stderr, /web2/)
  assert.ok(fs.existsSync(path.join(m.dir, '50% ü', 'web2')))
  await done(m, ['schedule', 'remove', 'web1'])
  assert.doesNotMatch(fs.readFileSync(file, 'latin1'), /backup --wait=1h web1/)
  await done(m, ['schedule', 'remove'])
  assert.deepEqual(fs.readFileSync(file), foreign)
})

test('a run that cron started and that was killed is told of, once; one that ended on record told of itself', async (t) => {
  const { m } = house(t)
  const file = fakeCrontab(m)
  const heard = path.join(m.dir, 'heard')
  const tell = fake(m.bin, 'tell', `echo "$KEDGE_TARGET $KEDGE_VERB $KEDGE_RUN_STATE" >>'${heard}'`)
  const env = { SCHEDULE_BACKUP: '30 2 * * *', NOTIFY: 'command', NOTIFY_COMMAND: tell, NOTIFY_ON: 'failure' }
  const hooks = { killed: 'kill -9 $PPID', failed: 'exit 1', skipped: 'exit 77' }
  for (const [name, script] of Object.entries(hooks))
    newTarget(m, name, { env, paths: [m.home], scripts: { 'hooks/before-backup': script } })
  await done(m, ['schedule', 'install', '--by', 'crontab'])
  const lines = fs.readFileSync(file, 'utf8').trim().split('\n').slice(1, -1)
  for (const line of lines) {
    const command = line.replace(/^(\S+ ){5}/, '').replaceAll('\\%', '%')
    const { stdout, stderr } = await startProgram(m, '/bin/sh', ['-c', command], { env: { PATH: '/usr/bin:/bin' } }).result
    assert.equal(stdout, '')
    assert.doesNotMatch(stderr, /nothing to tell/)
  }
  assert.deepEqual(fs.readFileSync(heard, 'utf8').trim().split('\n').sort(), ['failed backup failed', 'killed backup crashed'])
  // Lines of an earlier version are kedge's too.
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace(/ \|\| .*$/gm, ''))
  await done(m, ['schedule', 'remove', ...Object.keys(hooks)])
  assert.ok(!fs.existsSync(file))
})

test('a line whose kedge is gone starts nothing, and that is said', async (t) => {
  const { m, main } = house(t)
  const file = fakeCrontab(m)
  newTarget(m, 'web1', { env: { SCHEDULE_BACKUP: '30 2 * * *' } })
  await done(m, ['schedule', 'install', '--by', 'crontab'])
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replaceAll(main, '/opt/an older kedge/kedge.cjs'.replaceAll(' ', '-')))
  const result = await done(m, ['schedule', '--json'])
  assert.deepEqual(
    rowsOf(result).map((row) => row.by),
    ['-'],
  )
  assert.match(result.stderr, /the crontab starts '\/opt\/an-older-kedge\/kedge\.cjs', which is gone/)
})

test('a mistyped action is told from a target', async (t) => {
  const { m } = house(t)
  const typo = await kedge(m, ['schedule', 'instal'])
  assert.equal(typo.status, 2)
  assert.match(typo.stderr, /did you mean install\?/)
  newTarget(m, 'lists', { env: { SCHEDULE_BACKUP: '@daily' } })
  assert.equal((await done(m, ['schedule', 'lists'])).lines.length, 1)
})

test('-n and --explain show the whole crontab, and what is printed does the same', async (t) => {
  const { m } = house(t)
  const file = fakeCrontab(m)
  newTarget(m, 'web1', { env: nightly })
  const preview = await done(m, ['schedule', 'install', '--by', 'crontab', '-n'])
  const plain = await done(m, ['schedule', 'install', '--by', 'crontab', '--explain'])
  assert.ok(!fs.existsSync(file))
  assert.equal((await startProgram(m, '/bin/sh', ['-e', '-c', plain.stdout]).result).status, 0)
  const text = fs.readFileSync(file, 'utf8')
  assert.ok(preview.stdout.includes(text))
  assert.equal((await done(m, ['schedule', 'install', '--by', 'crontab'])).stdout, 'crontab\tunchanged\t-\n')
  await done(m, ['schedule', 'remove'])
  assert.ok(!fs.existsSync(file), 'where there was no crontab there is none')
})

test('a crontab that cannot be read is never replaced', async (t) => {
  const { m } = house(t)
  newTarget(m, 'web1', { env: nightly })
  const touched = path.join(m.dir, 'touched')
  const cases: [string, RegExp][] = [
    [`echo 'crontab: you are not allowed to use this program' >&2; exit 1`, /not allowed/],
    [`echo '5 4 * * * true'; echo 'no crontab for root' >&2; exit 1`, /no crontab/],
    ['exit 0 # as if empty, while the write is refused', /cannot write/],
    ['kill -9 $$', /137/],
  ]
  for (const [script, said] of cases) {
    fake(m.bin, 'crontab', `case $1 in -l) ${script}\n;; *) ${/write/.test(said.source) ? 'exit 1' : `: >'${touched}'`} ;; esac`)
    const result = await kedge(m, ['schedule', 'install', '--by', 'crontab'])
    assert.equal(result.status, 1, script)
    assert.match(result.stderr, said)
    assert.ok(!fs.existsSync(touched), script)
  }
  // A block without an end may be half of somebody's lines.
  const file = fakeCrontab(m)
  fs.writeFileSync(file, '# kedge: begin schedule\n5 4 * * * true\n')
  assert.equal((await kedge(m, ['schedule', 'install', '--by', 'crontab'])).status, 2)
  assert.equal(fs.readFileSync(file, 'utf8'), '# kedge: begin schedule\n5 4 * * * true\n')
})

test('what one way starts the other does no more', async (t) => {
  const { m, units } = house(t)
  const file = fakeCrontab(m)
  newTarget(m, 'web1', { env: { SCHEDULE_BACKUP: '0 1 * * *', SCHEDULE_DRILL: '0 3 L * *' } })
  const timers = () => Object.keys(tree(units)).filter((name) => name.endsWith('.timer'))
  await done(m, ['schedule', 'install', '--by', 'systemd'])
  assert.equal((await kedge(m, ['schedule', 'install', '--by', 'crontab'])).status, 3)
  assert.deepEqual(timers(), ['kedge-drill@web1.timer'], 'cron knows no L: systemd keeps that one')
  assert.match(fs.readFileSync(file, 'utf8'), / backup /)
  assert.deepEqual(
    rowsOf(await done(m, ['schedule', '--json'])).map((row) => row.by),
    ['crontab', 'systemd'],
  )
  await done(m, ['schedule', 'install', '--by', 'systemd'])
  assert.equal(timers().length, 2)
  assert.ok(!fs.existsSync(file))
})

test("cron's own crontab takes the lines and gives every byte back", async (t) => {
  const { m, main } = house(t)
  newTarget(m, 'web1', { env: { ...nightly, SCHEDULE_JITTER: '2h' } })
  fs.rmSync(path.join(m.bin, 'crontab'))
  fs.symlinkSync(path.join(tools, 'cron/usr/bin/crontab'), path.join(m.bin, 'crontab'))
  // Its spool is where it is: in a namespace of its own that is a folder of this test's.
  const script = `set -e
mount -t tmpfs none /var/spool; mkdir -p /var/spool/cron/crontabs
cp /etc/group group; echo 'crontab:x:0:' >>group; mount --bind group /etc/group
kedge() { '${process.execPath}' '${main}' schedule "$@"; }
printf '# gr\\374n\\n5 4 * * * /bin/echo 100\\\\%%\\n' >own
crontab own
kedge install --by crontab; crontab -l >with; kedge install --by crontab; kedge -q list
kedge remove; crontab -l | cmp - own
crontab -r; kedge install --by crontab; kedge remove; ! crontab -l`
  const namespace = process.geteuid?.() === 0 ? '-m' : '-rm'
  const result = await startProgram(m, 'unshare', [namespace, 'sh', '-c', script]).result
  assert.equal(result.status, 0, result.stderr)
  assert.equal(
    result.stdout.replaceAll('\t-', ''),
    'crontab\twritten\ncrontab\tunchanged\nweb1\nweb1\ncrontab\twritten\ncrontab\twritten\ncrontab\tremoved\n',
  )
  assert.match(fs.readFileSync(path.join(m.dir, 'with'), 'latin1'), /backup --wait=1h web1/)
})

// --- rc.d

test("on OpenBSD the daemon's script is put in its place, enabled and started, and taken away again", async (t) => {
  const { m, main } = house(t)
  newTarget(m, 'web1', { env: nightly })
  fake(
    m.bin,
    'rcctl',
    `echo "$*" >>'${m.dir}/told'; case $1 in check) [ -e '${m.dir}/runs' ] ;; start) : >'${m.dir}/runs' ;; stop) rm '${m.dir}/runs' ;; esac`,
  )
  fake(m.dir, 'kedge', `exec '${process.execPath}' '${main}' "$@"`)
  const preview = await done(m, ['schedule', 'install', '--by', 'rc.d', '-n'])
  assert.match(preview.stdout, /^\/etc\/rc.d\/kedged\twould write\t-\n#!\/bin\/ksh\n# Written by kedge schedule install/)
  assert.equal((await kedge(m, ['schedule', 'install', '--by', 'rc.d', 'web1'])).status, 2, 'it starts what all targets schedule')
  // /etc and /usr/local/bin are this test's own.
  const script = `set -e
mkdir system local; cp -a /etc/. system 2>/dev/null || :
mkdir -p system/rc.d; mount --bind system /etc; mount --bind local /usr/local/bin
! '${process.execPath}' '${main}' schedule install --by rc.d 2>why
cp kedge /usr/local/bin; : >told
kedge schedule install --by rc.d; kedge schedule install --by rc.d
cp /etc/rc.d/kedged written; chmod u+w /etc/rc.d/kedged; echo '# older' >>/etc/rc.d/kedged; kedge schedule install --by rc.d; ls -l /etc/rc.d/kedged | cut -c 1-10
kedge schedule remove --by rc.d; kedge schedule remove --by rc.d
cp '${path.join(root, 'openbsd/kedged')}' /etc/rc.d/kedged
kedge schedule install --by rc.d || echo $?; kedge schedule remove --by rc.d; ls /etc/rc.d`
  const namespace = process.geteuid?.() === 0 ? '-m' : '-rm'
  const env = { PATH: `/usr/local/bin:${m.env.PATH}` }
  const result = await startProgram(m, 'unshare', [namespace, 'sh', '-c', script], { env }).result
  assert.equal(result.status, 0, result.stderr)
  const row = '/etc/rc.d/kedged\t'
  assert.equal(result.stdout, `${row}written\t-\n${row}unchanged\t-\n${row}written\t-\n-r-xr-xr-x\n${row}removed\t-\n15\nkedged\n`)
  assert.match(fs.readFileSync(path.join(m.dir, 'why'), 'utf8'), /which is not this kedge/)
  assert.match(result.stderr, /refusing to replace '\/etc\/rc.d\/kedged'/)
  const told = fs.readFileSync(path.join(m.dir, 'told'), 'utf8').trim().split('\n')
  const begun = ['check kedged', 'enable kedged', 'start kedged', 'check kedged', 'check kedged', 'enable kedged', 'restart kedged']
  assert.deepEqual(told, [...begun, 'stop kedged', 'disable kedged'])
  const [first, second, ...rest] = fs.readFileSync(path.join(m.dir, 'written'), 'utf8').split('\n')
  assert.equal([first, ...rest].join('\n'), fs.readFileSync(path.join(root, 'openbsd/kedged'), 'utf8'))
  assert.match(second ?? '', /^# Written by kedge schedule install/)
})

// --- the rest

test('doctor says what nothing starts, and what the units no longer fit', async (t) => {
  const { m } = house(t)
  const web1 = newTarget(m, 'web1', { env: nightly })
  const findings = async () =>
    rowsOf(await kedge(m, ['doctor', 'web1', '--json']))
      .filter((row) => row.check === 'schedule')
      .map(({ level, text, remedy }) => `${level}: ${text}${remedy ? ` (${remedy})` : ''}`)
  assert.deepEqual(await findings(), [
    'warning: nothing on this machine starts what is scheduled: backup, check (kedge schedule install web1)',
  ])
  await done(m, ['schedule', 'install', '--by', 'systemd'])
  assert.deepEqual(await findings(), ['ok: backup is started by systemd', 'ok: check is started by systemd'])
  fs.appendFileSync(path.join(web1.dir, 'target.env'), "SCHEDULE_JITTER='5m'\n")
  assert.match(
    (await findings()).at(-1) ?? '',
    /^warning: systemd's units are not as the settings want them: '.*kedge-backup@web1.timer', /,
  )
})

test('the machine is kept awake while a run that systemd started goes on, and the lock is gone when it ends', async (t) => {
  const { m } = house(t)
  newTarget(m, 'web1', { paths: [m.home], scripts: { 'hooks/before-backup': `cat '${m.dir}/held' >&2; exit 77` } })
  fake(m.bin, 'systemd-inhibit', `echo "held: $*" >'${m.dir}/held'\nfor last; do :; done\n"$last"\necho freed >>'${m.dir}/held'`)
  fake(
    path.join(m.config, 'targets/web1'),
    'hooks/before-backup',
    `while ! [ -s '${m.dir}/held' ]; do sleep 0.1; done\ncat '${m.dir}/held' >&2; exit 77`,
  )
  const by = { env: { INVOCATION_ID: '1234' } }
  const result = await kedge(m, ['backup', '-v', 'web1'], by)
  assert.equal(result.status, 75)
  assert.match(result.stderr, /held: --what=sleep --mode=block --who=kedge --why=backup of web1 cat\n/)
  assert.doesNotMatch(result.stderr, /freed/)
  assert.match(fs.readFileSync(path.join(m.dir, 'held'), 'utf8'), /\nfreed\n$/)
  // Where it cannot be held the run goes on; by hand none is wanted.
  fake(path.join(m.config, 'targets/web1'), 'hooks/before-backup', 'sleep 1; exit 77')
  fake(m.bin, 'systemd-inhibit', "echo 'Failed to inhibit: Access denied' >&2; exit 1")
  const refused = await kedge(m, ['backup', '-v', 'web1'], by)
  assert.equal(refused.status, 75)
  assert.match(refused.stderr, /nothing keeps the machine awake: Failed to inhibit: Access denied/)
  assert.doesNotMatch((await kedge(m, ['backup', '-v', 'web1'])).stderr, /awake/)
})
