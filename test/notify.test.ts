// What is told of a run, to whom, and in which words: the pure parts.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { conceal } from '../lib/log.ts'
import { limited } from '../lib/notify/attempts.ts'
import { digestText, isWell, type TargetFacts } from '../lib/notify/digesttext.ts'
import { type Event, eventOf, isTold, outcomeOf } from '../lib/notify/event.ts'
import { judge, parseMissed } from '../lib/notify/missed.ts'
import { cut, type Notice, oneLine, sealed, tail } from '../lib/notify/notice.ts'
import { pingUrl, ridOf, signalOf } from '../lib/notify/ping.ts'
import { runText } from '../lib/notify/runtext.ts'
import { addressKey, mayNeedSecrets, settingsOf } from '../lib/notify/settings.ts'
import { forms, posted } from '../lib/notify/webhook.ts'
import type { RunRow, RunState, StatusRow } from '../lib/rows.ts'

const run = (more: Partial<RunRow> = {}): RunRow => ({
  kind: 'run',
  target: 'web1',
  run: '20261120T020000Z-1a2b3c',
  verb: 'backup',
  state: 'failed',
  status: 12,
  start: '2026-11-20T02:00:00.000Z',
  seconds: 190,
  class: 'auth',
  message: "cannot open repository 'sftp:b1:/srv': wrong password",
  ...more,
})
const ended = (state: RunState, status: number): RunRow => run({ state, status })
const all = ['failure', 'warning', 'recovery', 'success']

test('each end of a run is one event, or none', () => {
  const cases: [RunRow, RunRow | undefined, Event | undefined][] = [
    [ended('failed', 1), undefined, 'failure'],
    [ended('crashed', 1), ended('success', 0), 'failure'],
    [ended('cancelled', 143), ended('success', 0), 'failure'],
    [ended('warning', 3), undefined, 'warning'],
    [ended('warning', 0), undefined, 'warning'],
    [ended('warning', 3), ended('failed', 1), 'warning'],
    [ended('success', 0), undefined, 'success'],
    [ended('success', 0), ended('success', 0), 'success'],
    [ended('success', 0), ended('warning', 0), 'success'],
    [ended('success', 0), ended('warning', 3), 'recovery'],
    [ended('success', 0), ended('failed', 13), 'recovery'],
    [ended('success', 0), ended('crashed', 1), 'recovery'],
    [ended('warning', 0), ended('cancelled', 130), 'recovery'],
    [ended('success', 0), ended('skipped', 75), 'success'],
    [ended('skipped', 75), ended('failed', 1), undefined],
    [ended('running', 0), undefined, undefined],
  ]
  for (const [record, before, event] of cases)
    assert.equal(eventOf(record, before, all), event, `${record.state} ${record.status} after ${before?.state} ${before?.status}`)
})

test('a run is told as the event that is asked for: a recovery is a success too', () => {
  const [good, bad] = [ended('success', 0), ended('failed', 1)]
  assert.equal(eventOf(good, bad, ['success']), 'success')
  assert.equal(eventOf(good, bad, ['failure', 'warning', 'recovery']), 'recovery')
  assert.equal(eventOf(good, bad, ['failure']), undefined)
  assert.equal(eventOf(ended('warning', 0), bad, ['warning']), 'warning')
  assert.equal(eventOf(bad, undefined, ['success', 'digest']), undefined)
})

test('a backup of names from a list recovers nothing, and no check hears that the backup ran', () => {
  const summary = { kind: 'summary', target: 'web1', snapshot: 'x', files: 1, bytes: 1, added: 1, seconds: 1, subset: true } as const
  const subset = { ...ended('success', 0), results: [summary] }
  assert.equal(eventOf(subset, ended('failed', 1), all), 'success')
  assert.equal(outcomeOf(subset), 'neither')
})

test('verbs that save, prove and thin out are told of, of others a crash only; a mistyped option never', () => {
  for (const verb of ['backup', 'prune', 'copy', 'check', 'drill', 'rotate']) assert.ok(isTold(run({ verb })), verb)
  for (const verb of ['restore', 'init', 'hold', 'unlock', 'stats']) {
    assert.ok(!isTold(run({ verb })), verb)
    assert.ok(isTold(run({ verb, state: 'crashed' })), `${verb} that crashed`)
  }
  assert.ok(!isTold(run({ class: 'misuse' })))
})

const facts = { host: 'web1.example.org', good: '2026-11-19T02:00:10.000Z', log: '' }

test('the message of a failed run says what, when, where, why, and what to do', () => {
  const record = run({ hint: 'kedge secret edit web1', warnings: ['path /srv/a is missing', 'two\nlines'], forced: ['canary'] })
  const log = '2026-11-20T02:00:00.100Z begin\n2026-11-20T02:03:10.000Z end\n'
  const { subject, body } = runText({ ...facts, record, event: 'failure', log })
  assert.equal(subject, "kedge: backup of web1 failed: cannot open repository 'sftp:b1:/srv': wrong password")
  assert.equal(
    body,
    `The backup of web1 failed.

  host       web1.example.org
  began      2026-11-20 02:00:00 UTC, took 3 min 10 s
  status     12 (auth): wrong or missing secret
  message    cannot open repository 'sftp:b1:/srv': wrong password
  hint       kedge secret edit web1
  last good  2026-11-19 02:00:10 UTC, 23 h 59 min before
  forced     canary
  run        20261120T020000Z-1a2b3c

Warnings:
  - path /srv/a is missing
  - two
    lines

To look further, on web1.example.org:
  kedge log web1 20261120T020000Z-1a2b3c
  kedge status --all web1

The end of the log:
  2026-11-20T02:00:00.100Z begin
  2026-11-20T02:03:10.000Z end
`,
  )
})

test('subjects tell the ends apart', () => {
  const { message: _, class: __, ...plain } = run()
  const cases: [Partial<RunRow>, Event, string][] = [
    [{ state: 'success', status: 0 }, 'success', 'kedge: backup of web1 is done'],
    [{ state: 'success', status: 0 }, 'recovery', 'kedge: backup of web1 is good again'],
    [{ state: 'warning', status: 3, warnings: ['a', 'b'] }, 'warning', 'kedge: backup of web1 was done in part: a'],
    [{ state: 'warning', status: 0, warnings: ['a'] }, 'warning', 'kedge: backup of web1 has warnings: a'],
    [{ state: 'crashed', status: 1, message: 'm' }, 'failure', 'kedge: backup of web1 crashed: m'],
    [{ state: 'cancelled', status: 143, message: 'by SIGTERM' }, 'failure', 'kedge: backup of web1 was cancelled: by SIGTERM'],
  ]
  for (const [more, event, subject] of cases) assert.equal(runText({ ...facts, record: { ...plain, ...more }, event }).subject, subject)
})

test('a first run that fails says that there never was a good one; a signal is named', () => {
  const { body } = runText({ ...facts, good: undefined, record: run({ status: 143 }), event: 'failure' })
  assert.match(body, /^ {2}last good {2}never$/m)
  assert.match(body, /^ {2}status {5}143 \(auth\): stopped by signal 15$/m)
})

test('a message of a run that did its work says what it did', () => {
  const results = [
    { kind: 'summary', target: 'web1', snapshot: '1a2b3c4d5e6f', files: 200, bytes: 4096, added: 1024, seconds: 1 },
    { kind: 'summary', target: 'web1', snapshot: '99999999aaaa', stream: 'app.sql', files: 1, bytes: 10, added: 10, seconds: 1 },
  ] as const
  const { body } = runText({ ...facts, record: run({ state: 'success', status: 0, results }), event: 'success' })
  assert.match(
    body,
    /done +snapshot 1a2b3c4d: 200 files, 4\.00 KiB, 1\.00 KiB new to the store\n +stream app\.sql: snapshot 99999999: 1 files/,
  )
})

test('a line feed in a message stays out of the subject, and a long one is cut', () => {
  const { subject } = runText({ ...facts, record: run({ message: 'a\r\nBcc: all@example.org\n\nb' }), event: 'failure' })
  assert.equal(subject, 'kedge: backup of web1 failed: a Bcc: all@example.org b')
  assert.equal(oneLine('x\u2028y\u0085z\u001b[31m'), 'x y z [31m')
  assert.equal(oneLine('x'.repeat(300)).length, 200)
  assert.equal(oneLine(`${'x'.repeat(196)}😀😀😀`), `${'x'.repeat(196)}...`)
})

const notice = (more: Partial<Notice> = {}): Notice => ({
  event: 'failure',
  target: 'web1',
  verb: 'backup',
  id: '20261120T020000Z-1a2b3c',
  time: '2026-11-20T02:03:10.000Z',
  host: 'web1.example.org',
  subject: 'kedge: backup of web1 failed: it',
  body: 'The backup of web1 failed.\n\nline 2\n',
  record: { ...run() },
  outcome: 'bad',
  log: 'log line\n',
  ...more,
})

test('no secret leaves, wherever it stands, nor the password of an address', () => {
  const secret = 'pass"word\\with\'all'
  conceal(secret)
  const record = run({
    message: `bad ${secret}`,
    hint: `use ${secret}`,
    warnings: [`w ${secret}`],
    results: [{ kind: 'text', text: secret }],
  })
  const log = `line ${secret}\nhttps://user:hunter2@example.org/x\n`
  const text = runText({ record, event: 'failure', host: 'h', log })
  const clean = sealed(notice({ ...text, record, log }))
  const told = Object.values(forms).map((form) => form(clean, undefined))
  for (const each of [clean, ...told]) {
    const out = JSON.stringify(each)
    // Written as JSON it would not be found as it is.
    for (const form of [secret, JSON.stringify(secret).slice(1, -1), 'hunter2', "with'all"])
      assert.ok(!out.includes(form), `${form} in ${out}`)
  }
  assert.match(JSON.stringify(clean), /bad \*\*\*.*https:\/\/user:\*\*\*@example\.org/)
})

test('control characters do not reach a terminal through a message', () => {
  assert.equal(sealed(notice({ body: 'a\u001b[31mb\tc\nd' })).body, 'a\\x1b[31mb\tc\nd')
  assert.equal(sealed(notice({ subject: 'a\u001b[31m\r\nb' })).subject, 'a [31m b')
})

test('a text is cut at whole lines and within its bytes', () => {
  assert.equal(cut('abc\ndef\n', 100), 'abc\ndef\n')
  assert.equal(cut('abcdefgh\nijkl\nmnop', 16), 'abcdefgh\n...')
  assert.ok(Buffer.byteLength(cut('äöü'.repeat(100), 50)) <= 50)
  assert.equal(tail('abc\ndef\nghi\n', 7), 'ghi\n')
  assert.equal(tail('abcdefghijkl', 5), '', 'half a line may hold half a secret')
})

test('each service gets the form that it takes', () => {
  const body = 'The backup of web1 failed.\n\nline 2\n'
  const wanted = {
    json: { method: 'POST', path: '', type: 'application/json', body: JSON.stringify(run()) },
    ntfy: { method: 'POST', path: '', type: 'text/plain; charset=utf-8', body },
    slack: {
      method: 'POST',
      path: '',
      type: 'application/json',
      body: JSON.stringify({ text: `*kedge: backup of web1 failed: it*\n\`\`\`\n${body}\`\`\`` }),
    },
    discord: {
      method: 'POST',
      path: '',
      type: 'application/json',
      body: JSON.stringify({ content: `**kedge: backup of web1 failed: it**\n\`\`\`\n${body}\`\`\``, allowed_mentions: { parse: [] } }),
    },
    gotify: {
      method: 'POST',
      path: '/message',
      type: 'application/json',
      body: JSON.stringify({ title: 'kedge: backup of web1 failed: it', message: body, priority: 8 }),
    },
    matrix: {
      method: 'PUT',
      path: '/send/m.room.message/kedge-web1-20261120T020000Z-1a2b3c-failure',
      type: 'application/json',
      body: JSON.stringify({ msgtype: 'm.text', body: `kedge: backup of web1 failed: it\n\n${body}` }),
    },
  }
  for (const [name, form] of Object.entries(forms)) {
    const { method, path, headers, body } = form(notice(), 'tk_1')
    assert.deepEqual({ method, path, type: headers['Content-Type'], body }, wanted[name as keyof typeof wanted], name)
    if (name === 'gotify') assert.equal(headers['X-Gotify-Key'], 'tk_1')
    else assert.equal(headers.Authorization, 'Bearer tk_1', name)
    assert.equal(form(notice(), undefined).headers.Authorization, undefined, name)
  }
  assert.equal(forms.json(notice(), undefined).headers['Kedge-Event'], 'failure')
})

test('the markup of a service in a message is text, and nobody is called by it', () => {
  const wild = notice({ subject: 'a <!channel> & *b*', body: '``` <@U1> @everyone\n' })
  const { text } = JSON.parse(forms.slack(wild, undefined).body)
  assert.equal(text, "*a &lt;!channel&gt; &amp; *b**\n```\n''' &lt;@U1&gt; @everyone\n```")
  const discord = JSON.parse(forms.discord(wild, undefined).body)
  assert.equal(discord.content, "**a <!channel> & \\*b\\***\n```\n''' <@U1> @everyone\n```")
  assert.deepEqual(discord.allowed_mentions, { parse: [] })
})

test('a message that is long fits the service', () => {
  const long = notice({ subject: 's'.repeat(200), body: 'an ordinary line <&>\n'.repeat(5000) })
  assert.ok(JSON.parse(forms.discord(long, undefined).body).content.length <= 2000)
  assert.ok(JSON.parse(forms.slack(long, undefined).body).text.length <= 40_000)
  assert.ok(Buffer.byteLength(forms.ntfy(long, undefined).body) <= 4096)
  assert.ok(Buffer.byteLength(forms.matrix(long, undefined).body) <= 60_000)
})

test('a title that is not ASCII is encoded for the header of ntfy', () => {
  const { headers } = forms.ntfy(notice({ subject: 'kedge: größer' }), undefined)
  assert.equal(headers.Title, `=?UTF-8?B?${Buffer.from('kedge: größer').toString('base64')}?=`)
  assert.doesNotThrow(() => new Headers(headers))
})

const target = (env: Record<string, string>) => ({ name: 'web1', env: { NOTIFY_ON: 'failure', ...env } })

test('the address of a post is completed where its form wants that', () => {
  const post = (form: string, url: string) =>
    posted(notice(), settingsOf(target({ WEBHOOK_URL: url, WEBHOOK_AS: form }), { WEBHOOK_TOKEN: 'tk_1' })).url.href
  assert.equal(post('json', 'https://example.org'), 'https://example.org/')
  assert.equal(post('json', 'https://example.org/a/b?c=d'), 'https://example.org/a/b?c=d')
  assert.equal(post('gotify', 'https://example.org/gotify/'), 'https://example.org/gotify/message')
  assert.equal(
    post('matrix', 'https://example.org/_matrix/client/v3/rooms/!r:example.org'),
    'https://example.org/_matrix/client/v3/rooms/!r:example.org/send/m.room.message/kedge-web1-20261120T020000Z-1a2b3c-failure',
  )
})

test('a value of the secrets wins, and other secrets are no settings', () => {
  const plain = target({ WEBHOOK_URL: 'https://plain.example.org', MAIL_TO: 'a' })
  const { env, open } = settingsOf(plain, { WEBHOOK_URL: 'https://secret.example.org', RESTIC_PASSWORD: 'x', MAIL_TO: 'b' })
  assert.deepEqual([env.WEBHOOK_URL, env.RESTIC_PASSWORD, env.MAIL_TO, open], ['https://secret.example.org', undefined, 'a', true])
  assert.equal(settingsOf(plain, undefined).env.WEBHOOK_URL, 'https://plain.example.org')
})

test('what is missing or wrong is said by its key, without the value of an address', () => {
  const cases: [Record<string, string>, Record<string, string> | undefined, RegExp][] = [
    [{}, {}, /^WEBHOOK_URL is not set$/],
    [{}, undefined, /^WEBHOOK_URL is not in target\.env, and the secrets of 'web1' are not open$/],
    [{ WEBHOOK_URL: 'ftp://hidden.example.org/token' }, {}, /^WEBHOOK_URL is not an address that begins with https:\/\/ or http:\/\/$/],
    [{ WEBHOOK_URL: 'https://example.org', WEBHOOK_AS: 'gotify' }, {}, /^WEBHOOK_TOKEN is not set$/],
    [{ WEBHOOK_URL: 'https://example.org', WEBHOOK_TOKEN: 'a\nb' }, {}, /^WEBHOOK_TOKEN has a character that no header can hold$/],
  ]
  for (const [env, secrets, message] of cases) assert.throws(() => posted(notice(), settingsOf(target(env), secrets)), { message })
})

test('a ping tells start, success, failure, and nothing of what is neither', () => {
  const at = (env: Record<string, string>) => settingsOf(target({ PING_URL: 'https://hc-ping.com/1234', ...env }), {})
  const own = { PING_URL: 'https://hc-ping.com/key/{target}-{verb}?create=1' }
  const cases: [Partial<Notice>, Record<string, string>, string][] = [
    [{ outcome: 'good' }, {}, ''],
    [{ outcome: 'bad' }, {}, '/fail'],
    [{ outcome: 'neither' }, {}, '/log'],
    [{ outcome: 'good', verb: 'prune' }, {}, '/log'],
    [{ outcome: 'bad', verb: 'prune' }, {}, '/fail'],
    [{ outcome: 'good', verb: 'prune' }, own, ''],
    [{ outcome: 'good', verb: 'digest', event: 'digest' }, {}, ''],
    [{ outcome: 'good', verb: 'test', event: 'test' }, {}, '/log'],
  ]
  for (const [more, env, signal] of cases) assert.equal(signalOf(notice(more), at(env)), signal, JSON.stringify([more, env]))
  const rid = ridOf(notice())
  assert.match(rid, /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  assert.notEqual(rid, ridOf(notice({ target: 'web2' })))
  assert.equal(pingUrl('/start', notice(), at({})).href, `https://hc-ping.com/1234/start?rid=${rid}`)
  assert.equal(pingUrl('', notice({ verb: 'check' }), at(own)).href, `https://hc-ping.com/key/web1-check?create=1&rid=${rid}`)
})

test('secrets are opened for a digest only where a channel may need them', () => {
  const cases: [Record<string, string>, boolean][] = [
    [{ NOTIFY: 'command' }, false],
    [{ NOTIFY: 'mail' }, true],
    [{ NOTIFY: 'mail', SMTP_URL: 'smtp://relay.example.org' }, false],
    [{ NOTIFY: 'mail', SMTP_URL: 'smtps://u@relay.example.org' }, true],
    [{ NOTIFY: 'ping', PING_URL: 'https://hc-ping.com/1' }, false],
    [{ NOTIFY: 'ping' }, true],
    [{ NOTIFY: 'webhook', WEBHOOK_URL: 'https://example.org' }, true],
  ]
  for (const [env, needed] of cases) {
    assert.equal(mayNeedSecrets({ secret: 'file' }, settingsOf(target(env), undefined)), needed, JSON.stringify(env))
    assert.equal(mayNeedSecrets({ secret: 'none' }, settingsOf(target(env), undefined)), false)
  }
})

test('targets share a digest where all of the address is the same', () => {
  const key = (env: Record<string, string>, name = 'web1') => addressKey('mail', settingsOf({ name, env }, undefined))
  assert.equal(key({ MAIL_TO: 'a' }), key({ MAIL_TO: 'a', WEBHOOK_URL: 'https://x' }, 'db1'))
  assert.notEqual(key({ MAIL_TO: 'a' }), key({ MAIL_TO: 'b' }))
  assert.notEqual(key({ MAIL_TO: 'a' }), key({ MAIL_TO: 'a', SMTP_URL: 'smtp://x' }))
  const ping = (name: string) => addressKey('ping', settingsOf({ name, env: { PING_URL: 'https://x/{target}' } }, undefined))
  assert.notEqual(ping('web1'), ping('db1'))
})

const row = (more: Partial<StatusRow>): StatusRow => ({
  kind: 'status',
  target: 'web1',
  verb: 'backup',
  state: 'ok',
  good: '2026-11-20T02:00:00.000Z',
  failed: null,
  due: null,
  age: 18000,
  ...more,
})
const sizes = {
  kind: 'sizes',
  target: 'web1',
  time: '2026-11-19T05:00:00.000Z',
  snapshots: 45,
  restore: 1,
  files: 1,
  raw: 12 * 2 ** 30,
  dedup: null,
  compression: null,
  perDay: 2 ** 30,
  free: 20 * 2 ** 30,
  fullIn: 20 * 86_400,
} as const
const now = new Date('2026-11-20T07:00:00.000Z')

test('the digest begins with what is not well, and says what did not run at all', () => {
  const all: TargetFacts[] = [
    { target: 'web1', rows: [row({})], sizes, skipped: [], troubles: [] },
    {
      target: 'db1',
      rows: [
        row({ target: 'db1', state: 'never', good: null }),
        row({ target: 'db1', verb: 'check', state: 'failed', failed: '2026-11-20T03:00:00.000Z', message: 'bad data' }),
      ],
      skipped: [run({ target: 'db1', verb: 'prune', state: 'skipped', message: 'on battery' })],
      troubles: ['mail fails since 2026-11-20T03:00Z: no route'],
    },
    { target: 'old', rows: [], skipped: [], troubles: [] },
  ]
  const { subject, body } = digestText(all, 'h1', now)
  assert.equal(subject, 'kedge digest of h1: 2 of 3 targets not well: db1 (backup DID NOT RUN AT ALL), old (nothing ran)')
  assert.equal(
    body,
    `Backups of h1, 2026-11-20 07:00:00 UTC: 2 of 3 targets not well.

db1: NOT WELL
  ! mail fails since 2026-11-20T03:00Z: no route
  ! backup: DID NOT RUN AT ALL; never well
  ! check: FAILED; last well 2026-11-20 02:00:00 UTC, 5 h ago
      failed 2026-11-20 03:00:00 UTC
      bad data
  - prune was skipped 2026-11-20 02:00:00 UTC: on battery

old: NOT WELL
  ! nothing is scheduled, and nothing ran

web1: ok
  - backup: ok; last well 2026-11-20 02:00:00 UTC, 5 h ago
  - store: 45 snapshots, 12.0 GiB, 1.00 GiB more a day, 20.0 GiB free, full in 20 d (measured 2026-11-19 05:00:00 UTC)
`,
  )
  assert.deepEqual(all.map(isWell), [true, false, false])
  assert.equal(digestText(all.slice(0, 1), 'h1', now).subject, 'kedge digest of h1: all is well with 1 target')
})

test('what a unit names is a verb and a target', () => {
  const wanted = { verb: 'backup', target: 'web-1.x' }
  for (const words of [['backup', 'web-1.x'], ['backup:web-1.x'], ['kedge-backup:web-1.x'], ['kedge-backup@web-1.x.service']])
    assert.deepEqual(parseMissed(words), wanted, words.join(' '))
  for (const words of [
    ['bakcup', 'web1'],
    [],
    ['backup'],
    ['kedge-backup'],
    ['a', 'b', 'c'],
    ['backup', '../x'],
    ['kedge-backup:a/b'],
    ['x;y', 'web1'],
  ])
    assert.throws(() => parseMissed(words), { name: 'Failure', class: 'misuse' }, words.join(' '))
})

const what = { verb: 'backup', target: 'web1' }
const unknown: Parameters<typeof judge>[1] = { dead: [], bad: undefined, refused: [], tellings: [], loads: true, unit: false, now }
/** What is told for a unit that failed at seven: the message of a run without a record, `untold` for one with, or nothing. */
function judged(known: Partial<typeof unknown>): string {
  const found = judge(what, { ...unknown, ...known })
  return 'missed' in found ? (found.missed.message ?? '') : 'untold' in found ? `untold: ${found.over ?? 'all'}` : 'nothing'
}

test('a run that died is told of once, whatever else is on record', () => {
  const dead = [{ run: 'r1', start: '2026-11-20T06:00:00.000Z', pid: 4 }]
  const died = 'its process 4 ended without a record'
  assert.equal(judged({ dead }), died)
  assert.equal(judged({ dead, bad: run({ start: '2026-11-20T06:59:00.000Z' }) }), died)
  assert.equal(judged({ dead, tellings: [{ run: 'r0', at: '2026-11-20T06:59:00.000Z' }] }), died)
  assert.equal(judged({ dead, tellings: [{ run: 'r1', at: '2026-11-20T06:59:00.000Z' }] }), 'nothing')
  assert.match(
    judged({ dead, tellings: [{ run: 'r1', at: '2026-11-20T06:00:00.000Z' }] }),
    /^the backup left no record/,
    'that is long ago',
  )
})

test('the journal of its unit is named to a unit only', () => {
  const hintOf = (unit: boolean) => {
    const found = judge(what, { ...unknown, unit })
    return 'missed' in found ? found.missed.hint : undefined
  }
  assert.equal(hintOf(true), 'try it by hand: kedge backup web1; journalctl -u kedge-backup@web1 has what it said')
  assert.equal(hintOf(false), "try it by hand: kedge backup web1; what started it has what it said: cron's mail, the scheduler's log")
})

test('a run on record is told of where it could not do so itself', () => {
  const bad = run({ run: 'r2', start: '2026-11-20T06:40:00.000Z', seconds: 1170 }) // it ended half a minute ago
  const told = { run: 'r2', at: '2026-11-20T06:59:40.000Z' }
  assert.equal(judged({ bad }), 'untold: all', 'it was killed before it began to tell')
  assert.equal(judged({ bad, tellings: [told] }), 'nothing')
  assert.equal(judged({ bad, tellings: [told], refused: ['mail'] }), 'untold: mail')
  const slow = run({ run: 'r2', start: '2026-11-20T06:40:00.000Z', seconds: 600 })
  assert.equal(judged({ bad: slow, tellings: [told] }), 'nothing', 'its channels took long')
})

test('a record is of the run that failed only where it can be', () => {
  const none = /^the backup left no record/
  assert.match(judged({}), none)
  const told = { run: 'r2', at: '2026-11-20T06:55:01.000Z' }
  const earlier = run({ run: 'r2', start: '2026-11-20T06:55:00.000Z', seconds: 1 })
  assert.match(judged({ bad: earlier, tellings: [told] }), none, 'that of a timer of five minutes is another run')
  const now = run({ run: 'r2', start: '2026-11-20T06:59:58.000Z', seconds: 1 })
  assert.match(judged({ bad: now, tellings: [{ ...told, at: now.start }], loads: false }), none, 'no run of a target that does not load')
  const missed = { run: 'r3', at: '2026-11-20T06:59:59.000Z' }
  assert.equal(judged({ bad: earlier, tellings: [told, missed], loads: false }), 'nothing', 'what left no record is told of once')
})

test('from a cancel on there are ten seconds in all to tell, however long an attempt may take', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const cancel = new AbortController()
  const [before, after] = [limited(3600, cancel.signal), limited(1, cancel.signal)]
  t.mock.timers.tick(2000)
  assert.deepEqual([before.signal.aborted, before.seconds, after.signal.aborted], [false, 3600, false])
  cancel.abort()
  assert.deepEqual([before.seconds, after.seconds], [8, 1])
  const late = limited(3600, cancel.signal)
  t.mock.timers.tick(1000)
  assert.deepEqual(
    [before, after, late].map(({ signal }) => signal.aborted),
    [false, true, false],
  )
  t.mock.timers.tick(7000)
  assert.deepEqual(
    [before, late].map(({ signal }) => signal.aborted),
    [true, true],
  )
})
