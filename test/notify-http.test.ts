// Posts, pings and the operator's own command, against a server and an executable that take them.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { test } from 'node:test'
import { Failure } from '../lib/failure.ts'
import type { How } from '../lib/notify/attempts.ts'
import { shown as commandShown, send as runCommand } from '../lib/notify/command.ts'
import type { Notice } from '../lib/notify/notice.ts'
import { begin, send as ping, ridOf } from '../lib/notify/ping.ts'
import { settingsOf } from '../lib/notify/settings.ts'
import { keepPending, sendKept } from '../lib/notify/telling.ts'
import { send as post, shown as postShown } from '../lib/notify/webhook.ts'
import type { RunRow } from '../lib/rows.ts'
import { fake, scratch } from './harness.ts'
import { certificate } from './smtp.ts'
import { webServer } from './webhooks.ts'

const record: RunRow = {
  kind: 'run',
  target: 'web1',
  run: 'r1',
  verb: 'backup',
  state: 'failed',
  status: 1,
  start: '2026-11-20T01:59:59.000Z',
  seconds: 1,
  message: 'm',
}
const notice: Notice = {
  event: 'failure',
  target: 'web1',
  verb: 'backup',
  id: 'r1',
  time: '2026-11-20T02:00:00.000Z',
  host: 'h',
  subject: 'kedge: backup of web1 failed: m',
  body: 'The backup of web1 failed.\n\nThe end of the log:\n  one\n',
  record,
  outcome: 'bad',
  log: 'one\ntwo\n',
}
const settings = (env: Record<string, string>, secrets: Record<string, string> = {}) => settingsOf({ name: 'web1', env }, secrets)

/** Three attempts without a pause; the pauses that were wanted are kept. */
function attempts(seconds = 5): How & { pauses: number[] } {
  const pauses: number[] = []
  const pause = async (wait: number) => void pauses.push(wait)
  return { signal: new AbortController().signal, seconds, attempts: 3, pause, pauses }
}

test('a record is posted as it is, with its token', async (t) => {
  const { asked, url } = await webServer(t)
  await post(notice, settings({ WEBHOOK_URL: `${url}/hook/a?b=c` }, { WEBHOOK_TOKEN: 'tk_1' }), attempts())
  assert.equal(asked.length, 1)
  const [{ method, path, headers, body }] = asked as [(typeof asked)[number]]
  assert.deepEqual([method, path, headers.authorization], ['POST', '/hook/a?b=c', 'Bearer tk_1'])
  assert.equal(body, JSON.stringify(record))
})

test('a login in the address is sent as one', async (t) => {
  const { asked, url } = await webServer(t)
  await post(notice, settings({ WEBHOOK_URL: url.replace('//', '//me:a%20b@') }), attempts())
  assert.equal(asked[0]?.headers.authorization, `Basic ${Buffer.from('me:a b').toString('base64')}`)
})

test('a server that is busy or broken is asked again, one that says no is not', async (t) => {
  const cases: [number, number, string][] = [
    [500, 3, 'unreachable'],
    [503, 3, 'unreachable'],
    [429, 3, 'unreachable'],
    [400, 1, 'tool'],
    [404, 1, 'tool'],
    [401, 1, 'auth'],
    [403, 1, 'auth'],
  ]
  for (const [status, times, kind] of cases) {
    const { asked, url } = await webServer(t, () => ({ status, body: 'no\nway' }))
    const how = attempts()
    await assert.rejects(post(notice, settings({ WEBHOOK_URL: `${url}/secret-path` }), how), {
      class: kind,
      message: `'${url}' answered ${status}: no way`,
    })
    assert.equal(asked.length, times, String(status))
    assert.deepEqual(how.pauses, times === 3 ? [1, 4] : [], String(status))
  }
})

test('a server that recovers gets the same message once it answers', async (t) => {
  const { asked, url } = await webServer(t, (_, times) => ({ status: times < 3 ? 502 : 200 }))
  await post(notice, settings({ WEBHOOK_URL: url }), attempts())
  assert.deepEqual(new Set(asked.map(({ body }) => body)).size, 1)
  assert.equal(asked.length, 3)
})

test('Retry-After is honoured up to the limit, and told beyond it', async (t) => {
  const busy = (value: string) => webServer(t, (_, times) => (times === 1 ? { status: 429, headers: { 'retry-after': value } } : {}))
  const short = attempts()
  await post(notice, settings({ WEBHOOK_URL: (await busy('3')).url }), short)
  assert.deepEqual(short.pauses, [3])
  const dated = attempts()
  await post(notice, settings({ WEBHOOK_URL: (await busy(new Date(Date.now() - 60_000).toUTCString())).url }), dated)
  assert.deepEqual(dated.pauses, [0])
  const { asked, url } = await busy('3600')
  await assert.rejects(post(notice, settings({ WEBHOOK_URL: url }), attempts()), {
    message: `'${url}' answered 429: ok; it asks to wait 1 h`,
  })
  assert.equal(asked.length, 1)
})

test('a server that never answers, or stops half way, is given up after the limit', async (t) => {
  for (const silence of [{ never: true }, { half: true }]) {
    const { asked, url } = await webServer(t, () => silence)
    await assert.rejects(post(notice, settings({ WEBHOOK_URL: url }), attempts(0.1)), {
      class: 'unreachable',
      message: `'${url}' did not answer within 0.1 s`,
    })
    assert.equal(asked.length, 3)
  }
})

test('when the time for all attempts is over there is no further one', async (t) => {
  const controller = new AbortController()
  const { asked, url } = await webServer(t, () => {
    controller.abort()
    return { never: true }
  })
  await assert.rejects(post(notice, settings({ WEBHOOK_URL: url }), { ...attempts(), signal: controller.signal }), { class: 'unreachable' })
  assert.equal(asked.length, 1)
})

test('nobody at the other end is unreachable, three times', async (t) => {
  const { url: gone, close } = await webServer(t)
  await close()
  const how = attempts()
  await assert.rejects(post(notice, settings({ WEBHOOK_URL: `${gone}/T0/B0/long-token-of-slack` }), how), {
    class: 'unreachable',
    message: `cannot reach '${gone}': connection refused`,
  })
  assert.deepEqual(how.pauses, [1, 4])
})

test('a redirect is not followed, and its token stays at home', async (t) => {
  const thief = await webServer(t)
  const { asked, url } = await webServer(t, () => ({ status: 307, headers: { location: `${thief.url}/steal/path` } }))
  await assert.rejects(post(notice, settings({ WEBHOOK_URL: url }, { WEBHOOK_TOKEN: 'tk_1' }), attempts()), (error) => {
    assert.ok(error instanceof Failure)
    assert.equal(error.message, `'${url}' answered 307: it sends elsewhere ('${thief.url}')`)
    return true
  })
  assert.deepEqual([asked.length, thief.asked.length], [1, 0])
})

test('an answer that repeats the address does not tell its path', async (t) => {
  const { url } = await webServer(t, ({ path }) => ({ status: 404, body: `cannot POST ${path}: no T123ABC there` }))
  await assert.rejects(post(notice, settings({ WEBHOOK_URL: `${url}/services/T123ABC?key=quite-secret` }), attempts()), (error) => {
    assert.ok(error instanceof Failure)
    assert.doesNotMatch(error.message, /T123ABC|quite-secret|services/)
    assert.match(error.message, /answered 404: cannot POST \*\*\*: no \*\*\* there$/)
    return true
  })
})

test('a certificate that nobody trusts is refused, at once', async (t) => {
  const server = https.createServer(certificate(scratch(t)), (_, response) => response.end())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  const url = `https://localhost:${(server.address() as AddressInfo).port}`
  const how = attempts()
  await assert.rejects(post(notice, settings({ WEBHOOK_URL: url }), how), {
    class: 'unreachable',
    message: `cannot reach '${url}': self-signed certificate`,
  })
  assert.deepEqual(how.pauses, [])
})

test('a run pings its start and its end as one run, the failure with the end of the log', async (t) => {
  const { asked, url } = await webServer(t)
  const at = settings({ PING_URL: `${url}/uuid` })
  await begin(notice, at, attempts())
  await ping(notice, at, attempts())
  await ping({ ...notice, outcome: 'good' }, at, attempts())
  const rid = ridOf(notice)
  assert.deepEqual(
    asked.map(({ method, path }) => `${method} ${path}`),
    [`POST /uuid/start?rid=${rid}`, `POST /uuid/fail?rid=${rid}`, `POST /uuid?rid=${rid}`],
  )
  assert.equal(asked[0]?.body, '')
  assert.equal(asked[1]?.body, 'kedge: backup of web1 failed: m\n\nThe backup of web1 failed.\n\none\ntwo\n')
})

test('a verb whose check it is not does not ping its start', async (t) => {
  const { asked, url } = await webServer(t)
  await begin({ ...notice, verb: 'prune' }, settings({ PING_URL: `${url}/uuid` }), attempts())
  assert.equal(asked.length, 0)
  await begin({ ...notice, verb: 'prune' }, settings({ PING_URL: `${url}/uuid-{verb}` }), attempts())
  assert.match(asked[0]?.path ?? '', /^\/uuid-prune\/start\?/)
})

test('of a long log its end is pinged, within 10 kB and whole lines', async (t) => {
  const { asked, url } = await webServer(t)
  const log = Array.from({ length: 2000 }, (_, i) => `line ${i} ü\n`).join('')
  await ping({ ...notice, log }, settings({ PING_URL: url }), attempts())
  const body = asked[0]?.body ?? ''
  assert.ok(Buffer.byteLength(body) <= 10_000 && Buffer.byteLength(body) > 9_900, String(Buffer.byteLength(body)))
  assert.match(body, /^kedge: backup of web1 failed: m\n\nThe backup of web1 failed\.\n\nline \d+ ü\n/)
  assert.ok(body.endsWith('line 1999 ü\n'))
})

test('the command gets the record on stdin and the run in its environment, through no shell', async (t) => {
  const dir = scratch(t)
  const file = fake(dir, 'a command; with $odd name', `cat >${dir}/stdin; env | grep ^KEDGE_ | sort >${dir}/env; pwd >${dir}/cwd`)
  await runCommand({ ...notice, subject: 'a $(touch x) `y` "z"' }, settings({ NOTIFY_COMMAND: file }), attempts())
  assert.equal(fs.readFileSync(path.join(dir, 'stdin'), 'utf8'), `${JSON.stringify(record)}\n`)
  assert.equal(fs.readFileSync(path.join(dir, 'cwd'), 'utf8'), '/\n')
  const env = fs.readFileSync(path.join(dir, 'env'), 'utf8')
  for (const line of ['KEDGE_EVENT=failure', 'KEDGE_TARGET=web1', 'KEDGE_RUN_ID=r1', 'KEDGE_RUN_STATUS=1', 'KEDGE_RUN_MESSAGE=m'])
    assert.ok(env.split('\n').includes(line), `${line} in ${env}`)
  assert.ok(env.includes('KEDGE_SUBJECT=a $(touch x) `y` "z"\n'))
})

test('a command that fails says its last words, and is not repeated', async (t) => {
  const dir = scratch(t)
  const file = fake(dir, 'command', `echo x >>${dir}/runs; echo first >&2; echo 'no luck' >&2; exit 4`)
  await assert.rejects(runCommand(notice, settings({ NOTIFY_COMMAND: file }), attempts()), {
    class: 'tool',
    message: `'${file}' ended with status 4: no luck`,
  })
  assert.equal(fs.readFileSync(path.join(dir, 'runs'), 'utf8'), 'x\n')
})

test('a command that hangs is ended at the limit', async (t) => {
  const file = fake(scratch(t), 'command', 'sleep 60')
  await assert.rejects(runCommand(notice, settings({ NOTIFY_COMMAND: file }), attempts(0.1)), {
    class: 'timeout',
    message: `'${file}' did not end within 0.1 s`,
  })
})

test('a command that others may write, or that is none, is not run', async (t) => {
  const dir = scratch(t)
  const [open, shut, mine] = ['open', 'shut', 'mine'].map((name) => fake(dir, name, `touch ${dir}/ran`)) as [string, string, string]
  fs.chmodSync(open, 0o777)
  fs.chmodSync(shut, 0o600)
  const cases: [string, string][] = [
    [open, 'everybody may write it'],
    [shut, 'it is not an executable file'],
    [dir, 'it is not an executable file'],
    [`${dir}/none`, 'it is not an executable file'],
    ['mine', 'it is not an absolute path'],
    [`${mine} --option`, 'it is not an executable file'],
  ]
  for (const [file, why] of cases)
    await assert.rejects(runCommand(notice, settings({ NOTIFY_COMMAND: file }), attempts()), {
      class: 'config',
      message: `cannot run '${file}': ${why}`,
    })
  assert.ok(!fs.existsSync(path.join(dir, 'ran')))
})

test('what --explain prints names no secret', () => {
  const env = { WEBHOOK_URL: 'https://example.org/T1/hidden', NOTIFY_COMMAND: '/x y' }
  const line = postShown(notice, settings(env, { WEBHOOK_TOKEN: 'tk_hidden' }))
  assert.doesNotMatch(line, /hidden/)
  assert.match(line, /^printf 'url = "%s"\\nheader = "Authorization: Bearer %s"\\n' "\$WEBHOOK_URL" "\$WEBHOOK_TOKEN" \| curl /)
  assert.match(commandShown(notice, settings(env)), /^printf '%s\\n' '\{.*\}' \| KEDGE_EVENT=failure .* '\/x y'$/)
})

test('what cannot be kept is sent all the same', async (t) => {
  const { asked, url } = await webServer(t)
  const before = process.env.KEDGE_STATE_DIR
  process.env.KEDGE_STATE_DIR = '/dev/null/no-folder'
  t.after(() => {
    if (before === undefined) delete process.env.KEDGE_STATE_DIR
    else process.env.KEDGE_STATE_DIR = before
  })
  const said: unknown[] = []
  const report = (error: unknown, prefix?: string) => said.push(`${prefix}: ${(error as NodeJS.ErrnoException).code}`)
  const context = { log: () => undefined, signal: new AbortController().signal, report }
  const telling = { record, event: 'failure', channels: ['webhook'] } as const
  assert.equal(await keepPending(telling, context), false)
  const sent = await sendKept(telling, settings({ NOTIFY: 'webhook', WEBHOOK_URL: url }), context)
  assert.deepEqual(
    sent.map(({ channel, failure }) => [channel, failure]),
    [['webhook', undefined]],
    'what could not be noted was told all the same',
  )
  assert.deepEqual(
    [said, asked.length],
    [["cannot keep what is to be told of 'web1': ENOTDIR", "cannot note what was told of 'web1': ENOTDIR"], 1],
  )
})
