// What runs tell, by the built commands: real failures, recoveries, cancels and kills, to real servers.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Memory } from '../../lib/notify/memory.ts'
import type { Told } from '../../lib/rows/house.ts'
import type { RunRow, StatusRow } from '../../lib/rows.ts'
import { dist, done, fake, kedge, type Machine, machine, newTarget, start, startProgram, type TargetOptions } from '../harness.ts'
import { certificate, mailServer } from '../smtp.ts'
import { makeStore } from '../store.ts'
import { type Asked, webServer } from '../webhooks.ts'

/** A target with one path, whose repository is not there: its backup fails at once. */
function target(m: Machine, name: string, env: Record<string, string>, more: TargetOptions = {}) {
  const source = path.join(m.dir, `source-${name}`)
  fs.mkdirSync(source, { recursive: true })
  fs.writeFileSync(path.join(source, 'file'), 'content\n')
  return newTarget(m, name, { paths: [source], ...more, env: { ...env, ...more.env } })
}

/** The same with a repository: its backup is good. */
async function stored(m: Machine, name: string, env: Record<string, string>, more: TargetOptions = {}) {
  const made = target(m, name, env, more)
  await makeStore(m, made)
  return made
}

const recordOf = ({ body }: Asked) => JSON.parse(body) as RunRow
const summary = (asked: readonly Asked[]) => asked.map((each) => [each.headers['kedge-event'], recordOf(each).verb, recordOf(each).state])

test('failure and recovery are told, a success only where NOTIFY_ON asks, and the status stays what it is', async (t) => {
  const m = machine(t)
  const { asked, url } = await webServer(t)
  const web1 = target(m, 'web1', { NOTIFY: 'webhook', WEBHOOK_URL: url })
  target(m, 'web3', {})
  const [told, silent] = [await kedge(m, ['backup', 'web1']), await kedge(m, ['backup', 'web3'])]
  assert.equal(told.status, silent.status)
  assert.notEqual(told.status, 0)
  assert.deepEqual(summary(asked), [['failure', 'backup', 'failed']])
  await makeStore(m, web1)
  await done(m, ['backup', 'web1'])
  await done(m, ['backup', 'web1'])
  assert.deepEqual(summary(asked.slice(1)), [['recovery', 'backup', 'success']])
  const { target: name, status, run } = recordOf(asked[0] as Asked)
  assert.deepEqual([name, status], ['web1', told.status])
  assert.equal(JSON.parse(fs.readFileSync(path.join(m.state, 'web1/runs.ndjson'), 'utf8').split('\n')[0] ?? '').run, run)
})

test('a failure reaches a mail server over TLS, and nothing secret is in it', async (t) => {
  const m = machine(t)
  const signed = certificate(m.dir)
  const server = await mailServer(t, { tls: 'starttls', certificate: signed, login: 'kedge:smtp-password' })
  const { asked, url } = await webServer(t)
  const token = 'a-token-in-the-path-of-the-hook'
  const password = 'the password of "sealed"'
  await stored(
    m,
    'sealed',
    {
      NOTIFY: 'mail webhook ping command',
      MAIL_TO: 'root@example.org',
      SMTP_URL: `smtp://kedge@localhost:${server.port}`,
      SMTP_CA: signed.file,
      PING_URL: `${url}/ping`,
      NOTIFY_COMMAND: fake(m.bin, 'tell', `cat >${m.dir}/told; env >>${m.dir}/told`),
      STREAM_SECRETS: 'RESTIC_PASSWORD WEBHOOK_URL',
    },
    {
      secrets: { RESTIC_PASSWORD: password, SMTP_PASSWORD: 'smtp-password', WEBHOOK_URL: `${url}/${token}`, WEBHOOK_TOKEN: 'tk_webhook' },
      scripts: { 'streams/app.sql': 'echo "cannot use $RESTIC_PASSWORD at $WEBHOOK_URL" >&2; exit 3' },
    },
  )
  const { status, stderr } = await kedge(m, ['backup', 'sealed'])
  assert.equal(status, 1)
  assert.doesNotMatch(stderr, /cannot notify/)
  const [letter] = server.letters
  assert.deepEqual([letter?.tls, letter?.login, letter?.to], [true, 'kedge', ['root@example.org']])
  assert.match(letter?.text ?? '', /^Subject: kedge: backup of sealed failed: /m)
  assert.deepEqual(asked.map(({ path }) => path.replace(/\?.*/, '')).sort(), [`/${token}`, '/ping/fail', '/ping/start'].sort())
  const everything = [letter?.text, fs.readFileSync(path.join(m.dir, 'told'), 'utf8'), ...asked.map(({ body }) => body)]
  for (const text of everything) {
    assert.doesNotMatch(text ?? '', /the password of|smtp-password|tk_webhook|a-token-in/)
  }
  assert.match(asked.find(({ path }) => path.startsWith('/ping/fail'))?.body ?? '', /cannot use \*\*\* at \*\*\*/, 'the log has the line')
})

test('a run pings its start and its end as one run', async (t) => {
  const m = machine(t)
  const { asked, url } = await webServer(t)
  await stored(m, 'web1', { NOTIFY: 'ping', PING_URL: `${url}/uuid`, NOTIFY_ON: '' })
  await done(m, ['backup', 'web1'])
  await done(m, ['check', 'web1'])
  const [begun, ended, checked] = asked.map(({ path }) => new URL(path, url))
  assert.deepEqual([begun?.pathname, ended?.pathname, checked?.pathname], ['/uuid/start', '/uuid', '/uuid/log'])
  assert.equal(begun?.search, ended?.search)
  assert.notEqual(ended?.search, checked?.search)
})

test('a channel that is down changes no result, and is told by status, doctor and the metrics until it works', async (t) => {
  const m = machine(t)
  let up = false
  const { url } = await webServer(t, () => ({ status: up ? 200 : 404, body: 'gone' }))
  await stored(m, 'web1', { NOTIFY: 'webhook', NOTIFY_ON: 'success', WEBHOOK_URL: `${url}/hook/of/web1` })
  const { stderr } = await done(m, ['backup', 'web1'])
  assert.match(stderr, /^kedge: cannot notify of 'web1' by webhook: 'http:\/\/127\.0\.0\.1:\d+' answered 404: gone$/m)
  const status = async () => (await done(m, ['status', 'web1', '--json'])).rows[0] as StatusRow
  const metric = async () => (await done(m, ['stats', '--prometheus'])).stdout.match(/^kedge_notify_failed\{.*\} (\d)$/m)?.[1]
  const finding = async () => (await kedge(m, ['doctor', 'web1'])).lines.find((line) => line.includes('notify webhook'))
  assert.match((await status()).message ?? '', /^webhook fails since .*: 'http:.* answered 404: gone$/)
  assert.equal((await status()).state, 'ok')
  assert.equal(await metric(), '1')
  assert.match((await finding()) ?? '', /\twarning\tit fails since .* answered 404: gone/)
  up = true
  await done(m, ['backup', 'web1'])
  assert.deepEqual([(await status()).message, await metric()], [undefined, '0'])
  assert.match((await finding()) ?? '', /\tok\tto http:/)
  const log = fs.readdirSync(path.join(m.state, 'web1/logs')).map((name) => fs.readFileSync(path.join(m.state, 'web1/logs', name), 'utf8'))
  assert.equal(log.filter((text) => text.includes('cannot notify')).length, 1, 'it is in the log of its run')
})

test('a cancelled run tells of itself', async (t) => {
  const m = machine(t)
  const { asked, url } = await webServer(t)
  await stored(
    m,
    'web1',
    { NOTIFY: 'webhook ping', WEBHOOK_URL: `${url}/hook`, PING_URL: `${url}/ping` },
    { scripts: { 'streams/slow': 'sleep 60' } },
  )
  const { child, result } = start(m, ['backup', 'web1'])
  for (const running = path.join(m.state, '.running/web1@write.json'); ; ) {
    if (fs.existsSync(running) && fs.readFileSync(running, 'utf8').includes('"groups"')) break
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  child.kill('SIGTERM')
  assert.equal((await result).status, 143)
  const hook = asked.filter(({ path }) => path === '/hook')
  assert.deepEqual(summary(hook), [['failure', 'backup', 'cancelled']])
  assert.match(asked.at(-1)?.path ?? asked[0]?.path ?? '', /^\/(ping\/fail|hook)/)
  assert.equal(asked.filter(({ path }) => path.startsWith('/ping/fail?')).length, 1)
})

test('a run that was killed is told of by its unit, once, and not again by the next run', async (t) => {
  const m = machine(t)
  const { asked, url } = await webServer(t)
  // It outlives kedge: a run whose children are still ending is dead all the same.
  const script = { 'streams/slow': `trap '' TERM; until [ -e ${m.dir}/quick ]; do sleep 0.1; done; echo x` }
  await stored(m, 'web1', { NOTIFY: 'webhook', WEBHOOK_URL: url }, { scripts: script })
  const { child, result } = start(m, ['backup', 'web1'])
  for (const running = path.join(m.state, '.running/web1@write.json'); ; ) {
    if (fs.existsSync(running) && fs.readFileSync(running, 'utf8').includes('"groups"')) break
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  child.kill('SIGKILL')
  await result
  const [first, second] = [
    await done(m, ['notify', 'missed', 'kedge-backup:web1', '--json']),
    await done(m, ['notify', 'missed', 'backup', 'web1']),
  ]
  assert.deepEqual(
    (first.rows as Told[]).map(({ channel, state, to }) => [channel, state, to]),
    [['webhook', 'sent', url]],
  )
  assert.match(second.stderr, /^nothing to tell: the run \S+ was told of /)
  assert.deepEqual(second.lines, [])
  assert.deepEqual(summary(asked), [['failure', 'backup', 'crashed']])
  fs.writeFileSync(path.join(m.dir, 'quick'), '')
  await kedge(m, ['backup', '--wait', '60s', 'web1'])
  assert.equal(asked.filter((each) => recordOf(each).state === 'crashed').length, 1, 'the next run records it, and does not tell again')
})

test('a run that is on record is told of by its unit only where it could not tell itself', async (t) => {
  const m = machine(t)
  let up = false
  const [open, sandboxed] = [await webServer(t), await webServer(t, () => ({ status: up ? 200 : 403 }))]
  target(m, 'web1', { NOTIFY: 'webhook ping', WEBHOOK_URL: open.url, PING_URL: sandboxed.url })
  await kedge(m, ['backup', 'web1'])
  up = true
  const missed = () => done(m, ['notify', 'missed', 'backup', 'web1'])
  assert.deepEqual((await missed()).lines, [`web1\tping\t${sandboxed.url}\tsent\t`])
  const { lines, stderr } = await missed()
  assert.deepEqual(lines, [])
  assert.match(stderr, /^nothing to tell: the run \S+ is on record \(failed\) and has told of itself$/m)
  assert.deepEqual(summary(open.asked), [['failure', 'backup', 'failed']])
  const ends = sandboxed.asked.filter(({ path }) => path.startsWith('/fail?'))
  assert.deepEqual([ends.length, new Set(ends.map(({ path }) => path)).size], [2, 1], 'as the same run')
})

/** A server that answers only from `answers()` on; `first` is when it was first asked. */
async function slowServer(t: TestContext) {
  let waits = true
  let begun = () => undefined as unknown
  const first = new Promise<void>((resolve) => {
    begun = () => resolve()
  })
  const { asked, url } = await webServer(t, () => {
    begun()
    return { never: waits }
  })
  const answers = () => {
    waits = false
  }
  return { asked, url, first, answers }
}

test('a run that could not start is told of, however good the one before it was', async (t) => {
  const m = machine(t)
  const { asked, url } = await webServer(t)
  fs.writeFileSync(path.join(m.config, 'defaults.env'), `NOTIFY=webhook\nWEBHOOK_URL=${url}\n`, { mode: 0o600 })
  const { dir } = await stored(m, 'web1', {})
  await done(m, ['backup', 'web1'])
  const sent = [`web1\twebhook\t${url}\tsent\t`]
  const unit = { env: { INVOCATION_ID: '1234' } }
  assert.deepEqual((await done(m, ['notify', 'missed', 'backup:web1'], unit)).lines, sent)
  assert.deepEqual((await done(m, ['notify', 'missed', 'backup:web1'])).lines, [], 'once')
  fs.rmSync(path.join(m.state, 'web1/notify.json'))
  fs.appendFileSync(path.join(dir, 'target.env'), 'KEEP_DAYLY=7\n')
  assert.equal((await kedge(m, ['backup', 'web1'])).status, 2)
  const { status, lines } = await kedge(m, ['notify', 'missed', 'backup:web1'])
  assert.deepEqual([status, lines], [2, sent])
  const crash = ['failure', 'backup', 'crashed']
  assert.deepEqual(summary(asked), [crash, crash])
  assert.match(recordOf(asked[1] as Asked).message ?? '', /KEEP_DAYLY: unknown key/)
  assert.deepEqual(
    asked.map((each) => /journalctl -u kedge-backup@web1/.test(recordOf(each).hint ?? '')),
    [true, false],
    'the journal of the unit is named to the unit',
  )
})

test('a run that is killed while it tells is told of by its unit, once', async (t) => {
  const m = machine(t)
  const { asked, url, first, answers } = await slowServer(t)
  target(m, 'web1', { NOTIFY: 'webhook', WEBHOOK_URL: url })
  const { child, result } = start(m, ['backup', 'web1'])
  await first
  child.kill('SIGKILL')
  await result
  answers()
  const shown = await done(m, ['notify', 'missed', '-n', 'backup', 'web1'])
  assert.match(shown.stdout, /^web1\twebhook\thttp:\S+\twould send\t\nSubject: kedge: backup of web1 failed: /)
  assert.equal(asked.length, 1)
  for (const told of [['web1'], []]) {
    const { lines, stderr } = await done(m, ['notify', 'missed', '-q', 'backup', 'web1'])
    assert.deepEqual([lines, stderr], [told, ''])
  }
  assert.deepEqual(summary(asked), [
    ['failure', 'backup', 'failed'],
    ['failure', 'backup', 'failed'],
  ])
  assert.equal(new Set(asked.map((each) => recordOf(each).run)).size, 1)
})

test('what a run was killed or cancelled over is told by the next one, before its own, once', async (t) => {
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    const m = machine(t)
    const { asked, url, first, answers } = await slowServer(t)
    const web1 = target(m, 'web1', { NOTIFY: 'webhook', WEBHOOK_URL: url, NOTIFY_TIMEOUT: '1' })
    const { child, result } = start(m, ['backup', 'web1'])
    await first
    child.kill(signal)
    await result
    answers()
    const sent = asked.length
    await makeStore(m, web1)
    await done(m, ['backup', 'web1'])
    await done(m, ['backup', 'web1'])
    assert.deepEqual(
      summary(asked.slice(sent)),
      [
        ['failure', 'backup', 'failed'],
        ['recovery', 'backup', 'success'],
      ],
      signal,
    )
  }
})

const memoryOf = (m: Machine, name: string) =>
  JSON.parse(fs.readFileSync(path.join(m.state, name, 'notify.json'), 'utf8')) as Required<Memory>

/** A target of which a backup was killed while it told of its failure, to a server that answers from now on. */
async function leaving(t: TestContext, m: Machine) {
  const { asked, url, first, answers } = await slowServer(t)
  const web1 = target(m, 'web1', { NOTIFY: 'webhook', WEBHOOK_URL: url })
  const { child, result } = start(m, ['backup', 'web1'])
  await first
  child.kill('SIGKILL')
  await result
  const sent = asked.length
  return { web1, answers, asked: () => asked.slice(sent) }
}

test('where nothing can be noted a failure is told all the same, and what waits is not sent again by every run', async (t) => {
  const m = machine(t)
  const { asked, answers } = await leaving(t, m)
  answers()
  // Too long to be written again under the limit, under which the other files stay.
  const file = path.join(m.state, 'web1/notify.json')
  fs.writeFileSync(file, JSON.stringify({ ...memoryOf(m, 'web1'), tellings: [], long: 'x'.repeat(400_000) }))
  const before = memoryOf(m, 'web1')
  const limited = (...args: string[]) =>
    startProgram(m, '/bin/sh', ['-c', 'ulimit -f 256; exec "$@"', 'sh', process.execPath, path.join(dist, 'kedge.cjs'), ...args]).result
  for (const nth of ['first', 'second']) {
    const { status, stderr } = await limited('backup', 'web1')
    assert.notEqual(status, 0)
    assert.match(stderr, /cannot keep what is to be told of 'web1'/, nth)
  }
  assert.deepEqual(summary(asked()), [
    ['failure', 'backup', 'failed'],
    ['failure', 'backup', 'failed'],
  ])
  const [waits] = before.pending
  assert.ok(asked().every((each) => recordOf(each).run !== waits?.record.run))
  const missed = await limited('notify', 'missed', 'check', 'web1', '--json')
  assert.deepEqual([missed.status, missed.rows.length], [0, 1], missed.stderr)
  assert.deepEqual(summary(asked().slice(2)), [['failure', 'check', 'crashed']])
  assert.match(recordOf(asked()[2] as Asked).hint ?? '', /cron's mail, the scheduler's log$/)
  assert.deepEqual(memoryOf(m, 'web1'), before)
})

test('who is killed while it sends what was left keeps what it found itself', async (t) => {
  const m = machine(t)
  const { asked, answers } = await leaving(t, m)
  const { child, result } = start(m, ['notify', 'missed', 'check', 'web1'])
  while (asked().length === 0) await new Promise((resolve) => setTimeout(resolve, 20))
  child.kill('SIGKILL')
  await result
  assert.deepEqual(
    memoryOf(m, 'web1').pending.map(({ record: { verb, state } }) => [verb, state]),
    [
      ['check', 'crashed'],
      ['backup', 'failed'],
    ],
  )
  answers()
  assert.equal((await done(m, ['notify', 'missed', '-q', 'check', 'web1'])).lines.length, 2)
  assert.deepEqual(summary(asked().slice(1)).sort(), [
    ['failure', 'backup', 'failed'],
    ['failure', 'check', 'crashed'],
  ])
})

test('a target that does not load is told of through what its files say', async (t) => {
  const m = machine(t)
  const { asked, url } = await webServer(t)
  fs.writeFileSync(path.join(m.config, 'defaults.env'), `NOTIFY=webhook\nWEBHOOK_URL=${url}\n`, { mode: 0o600 })
  const { dir } = target(m, 'web1', {})
  fs.appendFileSync(path.join(dir, 'target.env'), 'KEEP_DAYLY=7\n')
  const { status, stderr } = await kedge(m, ['notify', 'missed', 'backup', 'web1'])
  assert.equal(status, 2)
  assert.match(stderr, /KEEP_DAYLY: unknown key/)
  assert.equal(asked.length, 1)
  assert.match(recordOf(asked[0] as Asked).message ?? '', /^the backup left no record.*KEEP_DAYLY: unknown key/s)
})

test('notify test proves each channel, and says which fails', async (t) => {
  const m = machine(t)
  const { asked, url } = await webServer(t)
  const gone = await webServer(t)
  await gone.close()
  target(m, 'web1', {
    NOTIFY: 'webhook ping command',
    WEBHOOK_URL: `${url}/hook`,
    PING_URL: `${url}/uuid`,
    NOTIFY_COMMAND: fake(m.bin, 'tell', 'exit 0'),
  })
  const { rows } = await done(m, ['notify', 'test', 'web1', '--json'])
  assert.deepEqual(rows, [
    { kind: 'told', target: 'web1', channel: 'webhook', to: url, state: 'sent' },
    { kind: 'told', target: 'web1', channel: 'ping', to: url, state: 'sent' },
    { kind: 'told', target: 'web1', channel: 'command', to: path.join(m.bin, 'tell'), state: 'sent' },
  ])
  assert.deepEqual(asked.map(({ path }) => path.replace(/\?.*/, '')).sort(), ['/hook', '/uuid/log'])
  await done(m, ['notify', 'test', 'web1', '--on', 'webhook'])
  assert.equal(asked.length, 3)
  const shown = await done(m, ['notify', 'test', '-n', 'web1'])
  assert.match(shown.stdout, /^web1\twebhook\thttp:\S+\twould send\t$/m)
  assert.match(shown.stdout, /^Subject: kedge: test of web1 on /m)
  assert.equal(asked.length, 3)

  target(m, 'web2', { NOTIFY: 'webhook command', WEBHOOK_URL: `${gone.url}/hook`, NOTIFY_COMMAND: '/nowhere/tell', NOTIFY_TIMEOUT: '1' })
  const failed = await kedge(m, ['notify', 'test', 'web2', '--on', 'command'])
  assert.deepEqual(
    [failed.status, failed.lines],
    [2, ["web2\tcommand\t/nowhere/tell\tfailed\tcannot run '/nowhere/tell': it is not an executable file"]],
  )
  target(m, 'web3', {})
  const unset = await kedge(m, ['notify', 'test', 'web3'])
  assert.equal(unset.status, 2)
  assert.match(unset.stderr, /notifies nobody: NOTIFY is not set\n {2}hint: NOTIFY=mail/)
  for (const words of [
    ['notify', 'test'],
    ['notify', 'tset', 'web1'],
    ['notify', 'test', 'web1', '--on', 'fax'],
    ['notify', 'digest', '--on', 'mail'],
  ])
    assert.equal((await kedge(m, words)).status, 2, words.join(' '))
})

test('who cancels a test does not wait for it, and the channel is not called broken', async (t) => {
  const m = machine(t)
  const { url, first } = await slowServer(t)
  target(m, 'web1', { NOTIFY: 'webhook', WEBHOOK_URL: url, NOTIFY_TIMEOUT: '1h' })
  const { child, result } = start(m, ['notify', 'test', 'web1'])
  await first
  child.kill('SIGINT')
  assert.equal((await result).status, 130)
  assert.ok(!fs.existsSync(path.join(m.state, 'web1/notify.json')))
})

test('doctor says where nobody would be told', async (t) => {
  const m = machine(t)
  const units = path.join(m.dir, 'units')
  const found = async (name: string) => {
    const { lines } = await kedge(m, ['doctor', name], { env: { SYSTEMD_UNIT_PATH: units } })
    return lines.filter((line) => line.split('\t')[1]?.startsWith('notify')).map((line) => line.split('\t').slice(1, 4))
  }
  target(m, 'silent', {})
  target(m, 'alone', { SCHEDULE_BACKUP: '@daily' })
  target(m, 'shut', { NOTIFY: 'webhook', SECRET: 'file' }, { secrets: { WEBHOOK_URL: 'https://example.org/T1/hidden' } })
  target(m, 'wrong', {
    NOTIFY: 'mail command webhook',
    NOTIFY_COMMAND: '/nowhere',
    WEBHOOK_URL: 'example.org/hidden',
    SMTP_URL: 'smtp://relay',
  })
  assert.deepEqual(await found('silent'), [])
  assert.deepEqual(await found('alone'), [['notify', 'warning', 'it runs by itself, and nobody is told when it fails']])
  assert.deepEqual(await found('shut'), [
    ['notify webhook', 'ok', 'to https://example.org, never used'],
    ['notify', 'warning', 'every channel needs the secrets: when they do not open, nobody is told'],
  ])
  assert.deepEqual(await found('wrong'), [
    ['notify mail', 'blocked', 'MAIL_TO is not set'],
    ['notify webhook', 'blocked', 'WEBHOOK_URL is not an address that begins with https:// or http://'],
    ['notify command', 'blocked', "cannot run '/nowhere': it is not an executable file"],
  ])
  fs.mkdirSync(units)
  fs.writeFileSync(path.join(units, 'kedge-backup@.service'), '[Service]\nProtectSystem=strict\n')
  fake(m.bin, 'sendmail', 'exit 0')
  target(m, 'sandboxed', { NOTIFY: 'mail', MAIL_TO: 'root' })
  assert.deepEqual(await found('sandboxed'), [
    ['notify mail', 'ok', 'to root (sendmail), never used'],
    ['notify mail', 'warning', `'${units}/kedge-backup@.service' keeps sendmail from writing its queue`],
  ])
})

test('a channel that cannot be reached is status 13', async (t) => {
  const m = machine(t)
  const gone = await webServer(t)
  await gone.close()
  target(m, 'web1', { NOTIFY: 'webhook', WEBHOOK_URL: `${gone.url}/hook`, NOTIFY_TIMEOUT: '1' })
  const { status, lines } = await kedge(m, ['notify', 'test', 'web1'])
  assert.equal(status, 13)
  assert.deepEqual(lines, [`web1\twebhook\t${gone.url}\tfailed\tcannot reach '${gone.url}': connection refused`])
})

test('what --explain prints sends the same, and holds no secret', async (t) => {
  const m = machine(t)
  const { asked, url } = await webServer(t)
  const secrets = { WEBHOOK_URL: `${url}/hidden/path`, WEBHOOK_TOKEN: 'tk_hidden' }
  target(m, 'web1', { NOTIFY: 'webhook ping', PING_URL: `${url}/uuid`, WEBHOOK_AS: 'gotify' }, { secrets })
  const { stdout } = await done(m, ['notify', 'test', '--explain', 'web1'])
  assert.doesNotMatch(stdout, /hidden/)
  assert.equal(asked.length, 0)
  const { status, stderr } = await startProgram(m, '/bin/sh', ['-ec', stdout]).result
  assert.equal(status, 0, stderr)
  await done(m, ['notify', 'test', 'web1'])
  const [byHand, bySelf] = [asked.slice(0, 2), asked.slice(2)].map((some) => some.toSorted((a, b) => (a.path < b.path ? -1 : 1)))
  assert.deepEqual(
    byHand?.map(({ method, path, headers }) => [method, path.replace(/\?.*/, ''), headers['x-gotify-key']]),
    [
      ['POST', '/hidden/path/message', 'tk_hidden'],
      ['POST', '/uuid/log', undefined],
    ],
  )
  assert.deepEqual(
    byHand?.map(({ body }) => body),
    bySelf?.map(({ body }) => body),
  )
  const digest = await done(m, ['notify', 'digest', '--explain', 'web1'])
  assert.doesNotMatch(digest.stdout, /hidden/)
  assert.equal((await startProgram(m, '/bin/sh', ['-ec', digest.stdout]).result).status, 0)
  assert.match(asked.at(-2)?.body ?? '', /DID NOT RUN AT ALL/)
})

test('the digest lists every target in one message an address, what did not run at all first', async (t) => {
  const m = machine(t)
  const [one, two] = [await webServer(t), await webServer(t)]
  const common = { NOTIFY: 'webhook', NOTIFY_ON: 'failure digest' }
  await stored(m, 'web1', { ...common, WEBHOOK_URL: one.url })
  target(m, 'zero', { ...common, WEBHOOK_URL: one.url })
  await stored(m, 'yonder', { ...common, WEBHOOK_URL: two.url })
  target(m, 'silent', { NOTIFY: 'webhook', WEBHOOK_URL: two.url })
  for (const name of ['web1', 'yonder']) await done(m, ['backup', name])
  const { rows } = await done(m, ['notify', 'digest', '--json'])
  assert.deepEqual(
    (rows as Told[]).map(({ target, to, state }) => [target, to, state]),
    [
      ['web1,zero', one.url, 'sent'],
      ['yonder', two.url, 'sent'],
    ],
  )
  const [first, second] = [one, two].map(({ asked }) => JSON.parse(asked[0]?.body ?? ''))
  assert.deepEqual(
    first.targets.map((each: { target: string; well: boolean; rows: StatusRow[] }) => [each.target, each.well, each.rows[0]?.state]),
    [
      ['web1', true, 'ok'],
      ['zero', false, 'never'],
    ],
  )
  assert.deepEqual([first.well, second.well, one.asked.length, two.asked.length], [false, true, 1, 1])
  const shown = await done(m, ['notify', 'digest', '-n', 'zero', 'web1'])
  assert.match(shown.stdout, /^zero: NOT WELL\n {2}! backup: DID NOT RUN AT ALL; never well$/m)
  assert.ok(shown.stdout.indexOf('zero: NOT WELL') < shown.stdout.indexOf('web1: ok'))
})

test('the digest tells of targets that do not load and of secrets that do not open', async (t) => {
  const m = machine(t)
  const { asked, url } = await webServer(t)
  const env = { NOTIFY: 'webhook', NOTIFY_ON: 'digest', WEBHOOK_URL: url, MAX_AGE: '1h' }
  const shut = target(m, 'shut', { ...env, SECRET: 'gpg' })
  fs.writeFileSync(path.join(shut.dir, 'secret.env.gpg'), 'no message')
  const one = await kedge(m, ['notify', 'digest'])
  assert.equal(one.status, 3)
  assert.match(one.stderr, /shut: cannot open '.*secret\.env\.gpg'/)
  assert.match(asked[0]?.body ?? '', /"troubles":\["cannot open '.*secret\.env\.gpg'/)
  const broken = target(m, 'broken', {})
  fs.appendFileSync(path.join(broken.dir, 'target.env'), 'KEEP_DAYLY=7\n')
  const two = await kedge(m, ['notify', 'digest'])
  assert.equal(two.status, 2)
  assert.deepEqual(
    JSON.parse(asked[1]?.body ?? '').targets.map((each: { target: string; well: boolean }) => [each.target, each.well]),
    [
      ['broken', false],
      ['shut', false],
    ],
  )
})

test('a digest that nobody asked for is misuse', async (t) => {
  const m = machine(t)
  target(m, 'web1', { NOTIFY: 'command', NOTIFY_COMMAND: '/bin/true' })
  assert.equal((await kedge(m, ['notify', 'digest'])).status, 2)
  target(m, 'web2', {})
  const { status, stderr } = await kedge(m, ['notify', 'digest', 'web2'])
  assert.equal(status, 2)
  assert.match(stderr, /notifies nobody/)
})
