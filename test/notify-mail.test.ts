// Mail: to a real server over TLS, and through a sendmail.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import type { How } from '../lib/notify/attempts.ts'
import { send, shown, to } from '../lib/notify/mail.ts'
import type { Notice } from '../lib/notify/notice.ts'
import { settingsOf } from '../lib/notify/settings.ts'
import { fake, scratch } from './harness.ts'
import { certificate, type MailServer, mailServer } from './smtp.ts'

const notice: Notice = {
  event: 'failure',
  target: 'web1',
  verb: 'backup',
  id: 'r1',
  time: '2026-11-20T02:00:00.000Z',
  host: 'h',
  subject: 'kedge: backup of web1 failed: no größe',
  body: 'The backup of web1 failed.\n\n.\n.dots\n  größe\nFrom here on\n',
  record: { kind: 'run' },
  outcome: 'bad',
  log: '',
}

function attempts(seconds = 5): How & { pauses: number[] } {
  const pauses: number[] = []
  const pause = async (wait: number) => void pauses.push(wait)
  return { signal: new AbortController().signal, seconds, attempts: 3, pause, pauses }
}

const mail = { MAIL_TO: 'root ops@example.org', MAIL_FROM: 'Backups <kedge@web1.example.org>' }
const settings = (env: Record<string, string>, secrets: Record<string, string> = {}) =>
  settingsOf({ name: 'web1', env: { ...mail, ...env } }, secrets)
const at = (server: MailServer, scheme = 'smtp', user = '') => `${scheme}://${user && `${user}@`}localhost:${server.port}`

/** What the reader reads: quoted-printable or base64 undone. */
function textOf(letter: string): string {
  const [head = '', ...rest] = letter.split('\n\n')
  const body = rest.join('\n\n')
  if (/^Content-Transfer-Encoding: base64$/im.test(head)) return Buffer.from(body, 'base64').toString('utf8')
  if (!/^Content-Transfer-Encoding: quoted-printable$/im.test(head)) return body
  const bytes = body.replace(/=\n/g, '').replace(/=([0-9A-F]{2})/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)))
  return Buffer.from(bytes, 'latin1').toString('utf8')
}

const headerOf = (letter: string, name: string) =>
  new RegExp(`^${name}: (.*(?:\\n[ \\t].*)*)`, 'im').exec(letter.split('\n\n')[0] ?? '')?.[1]

test('mail goes over STARTTLS with a login, and arrives as it was written', async (t) => {
  const signed = certificate(scratch(t))
  const server = await mailServer(t, { tls: 'starttls', certificate: signed, login: 'me:pass word' })
  const env = { SMTP_URL: at(server, 'smtp', 'me'), SMTP_CA: signed.file }
  await send(notice, settings(env, { SMTP_PASSWORD: 'pass word' }), attempts())
  assert.equal(server.letters.length, 1)
  const [letter] = server.letters as [MailServer['letters'][number]]
  assert.deepEqual([letter.tls, letter.login, letter.from, letter.to], [true, 'me', 'kedge@web1.example.org', ['root', 'ops@example.org']])
  assert.equal(textOf(letter.text), notice.body)
  assert.equal(headerOf(letter.text, 'From'), 'Backups <kedge@web1.example.org>')
  assert.equal(headerOf(letter.text, 'To'), '<root>, ops@example.org')
  assert.equal(headerOf(letter.text, 'Auto-Submitted'), 'auto-generated')
  assert.equal(headerOf(letter.text, 'Date'), 'Fri, 20 Nov 2026 02:00:00 +0000')
  assert.match(headerOf(letter.text, 'Subject') ?? '', /^=\?UTF-8\?Q\?kedge=3A_backup_of_web1|^kedge: backup of web1 failed: no =\?UTF-8\?/)
})

test('mail goes over TLS from the first byte', async (t) => {
  const signed = certificate(scratch(t))
  const server = await mailServer(t, { tls: 'implicit', certificate: signed, login: 'me:pw1234' })
  const env = { SMTP_URL: at(server, 'smtps', 'me'), SMTP_CA: signed.file }
  await send(notice, settings(env, { SMTP_PASSWORD: 'pw1234' }), attempts())
  assert.deepEqual(
    server.letters.map((letter) => [letter.tls, letter.login, textOf(letter.text)]),
    [[true, 'me', notice.body]],
  )
})

test('a certificate that is not trusted, or of another name, is refused before anything is said', async (t) => {
  const dir = scratch(t)
  const [own, other] = [certificate(dir), certificate(dir, 'other.example.org')]
  for (const tls of ['starttls', 'implicit'] as const) {
    const scheme = tls === 'implicit' ? 'smtps' : 'smtp'
    const untrusted = await mailServer(t, { tls, certificate: own, login: 'me:pw1234' })
    const misnamed = await mailServer(t, { tls, certificate: other, login: 'me:pw1234' })
    const cases: [MailServer, Record<string, string>, RegExp][] = [
      [untrusted, {}, /is not trusted: self-signed certificate$/],
      [misnamed, { SMTP_CA: other.file }, /is not trusted: .*altnames/],
    ]
    for (const [server, env, message] of cases) {
      const how = attempts()
      const wanted = settings({ SMTP_URL: at(server, scheme, 'me'), ...env }, { SMTP_PASSWORD: 'pw1234' })
      await assert.rejects(send(notice, wanted, how), { class: 'unreachable', message })
      assert.deepEqual([how.pauses, server.letters, server.lines.filter((line) => /AUTH|MAIL/.test(line))], [[], [], []], tls)
    }
  }
})

test('a password is not sent to a server without TLS', async (t) => {
  const server = await mailServer(t, { tls: 'none', login: 'me:pw1234' })
  await assert.rejects(send(notice, settings({ SMTP_URL: at(server, 'smtp', 'me') }, { SMTP_PASSWORD: 'pw1234' }), attempts()), {
    class: 'unreachable',
  })
  assert.deepEqual(
    server.lines.filter((line) => /AUTH|MAIL/.test(line)),
    [],
  )
})

/** This machine, by an address that is not known to be it. */
const elsewhere = (server: MailServer) => `smtp://0.0.0.0:${server.port}`

test('nothing is said to another machine without TLS, also where STARTTLS was taken out of what it offers', async (t) => {
  for (const answer of ['502 5.5.1 not implemented', '454 4.7.0 not now']) {
    const server = await mailServer(t, { tls: 'none', answer: (command) => (command === 'STARTTLS' ? answer : undefined) })
    await assert.rejects(send(notice, settings({ SMTP_URL: elsewhere(server) }), attempts()), {
      class: 'unreachable',
      message: `cannot speak TLS with 'smtp://0.0.0.0:${server.port}': ${answer}`,
      hint: /^only to a mail system of this machine/,
    })
    const said = server.lines.filter((line) => !/^(EHLO|STARTTLS)/.test(line))
    assert.deepEqual([said, server.letters], [[], []], answer)
  }
})

test('another machine needs no login for TLS', async (t) => {
  const signed = certificate(scratch(t), '0.0.0.0')
  const server = await mailServer(t, { tls: 'starttls', certificate: signed })
  await send(notice, settings({ SMTP_URL: elsewhere(server), SMTP_CA: signed.file }), attempts())
  assert.deepEqual(
    server.letters.map(({ tls, text }) => [tls, textOf(text)]),
    [[true, notice.body]],
  )
})

test('the mail system of this machine needs no TLS, and no certificate that anybody signed', async (t) => {
  for (const tls of ['none', 'starttls'] as const) {
    const server = await mailServer(t, { tls, certificate: certificate(scratch(t)) })
    for (const host of ['localhost', '127.0.0.1']) await send(notice, settings({ SMTP_URL: `smtp://${host}:${server.port}` }), attempts())
    assert.deepEqual(
      server.letters.map(({ tls, text }) => [tls, textOf(text)]),
      [
        [false, notice.body],
        [false, notice.body],
      ],
      tls,
    )
  }
})

test('a wrong password is said as that, once, and nothing of it is shown', async (t) => {
  const signed = certificate(scratch(t))
  const server = await mailServer(t, { tls: 'starttls', certificate: signed, login: 'me:right-one' })
  const how = attempts()
  const env = { SMTP_URL: at(server, 'smtp', 'me'), SMTP_CA: signed.file }
  await assert.rejects(send(notice, settings(env, { SMTP_PASSWORD: 'wrong-one' }), how), {
    class: 'auth',
    message: `'smtp://localhost:${server.port}' refuses the login: 535 5.7.8 wrong user or password`,
  })
  assert.deepEqual(how.pauses, [])
})

test('a server that wants to be asked later is asked later, one that refuses is not', async (t) => {
  const busy = await mailServer(t, { answer: (command, times) => (command === 'MAIL' && times < 3 ? '451 later' : undefined) })
  const how = attempts()
  await send(notice, settings({ SMTP_URL: at(busy) }), how)
  assert.deepEqual([how.pauses, busy.letters.length], [[1, 4], 1])
  const never = await mailServer(t, { answer: (command) => (command === 'DATA' ? '554 5.7.1 looks like spam' : undefined) })
  const once = attempts()
  await assert.rejects(send(notice, settings({ SMTP_URL: at(never) }), once), {
    class: 'tool',
    message: `'smtp://localhost:${never.port}' refuses the mail: 554 5.7.1 looks like spam`,
  })
  assert.deepEqual(once.pauses, [])
})

test('each attempt is the same letter: its id does not change', async (t) => {
  const ids: (string | undefined)[] = []
  for (let i = 0; i < 2; i++) {
    const server = await mailServer(t)
    await send(notice, settings({ SMTP_URL: at(server) }), attempts())
    ids.push(headerOf(server.letters[0]?.text ?? '', 'Message-ID'))
  }
  assert.match(ids[0] ?? '', /^<r1\.failure\.web1@kedge\./)
  assert.equal(ids[0], ids[1])
})

test('a recipient who is refused is named, though the others got it', async (t) => {
  const server = await mailServer(t, { answer: (command, times) => (command === 'RCPT' && times === 1 ? '550 nobody' : undefined) })
  await assert.rejects(send(notice, settings({ SMTP_URL: at(server) }), attempts()), {
    class: 'tool',
    message: `'smtp://localhost:${server.port}' refuses the recipient root; the others got it`,
  })
  assert.deepEqual(server.letters[0]?.to, ['ops@example.org'])
})

test('a server that is not there, or says nothing, is unreachable', async (t) => {
  const mute = await mailServer(t, { mute: true })
  const how = attempts(0.2)
  await assert.rejects(send(notice, settings({ SMTP_URL: at(mute) }), how), { class: 'unreachable' })
  assert.deepEqual([how.pauses, mute.connections()], [[1, 4], 3])
  await assert.rejects(send(notice, settings({ SMTP_URL: 'smtp://127.0.0.1:1' }), attempts()), {
    class: 'unreachable',
    message: /^cannot reach 'smtp:\/\/127\.0\.0\.1:1': .*ECONNREFUSED/,
  })
})

test('no text of a target makes another header or recipient', async (t) => {
  const server = await mailServer(t)
  const wild = { ...notice, subject: 'x\r\nBcc: evil@example.org\n\nbody', id: 'r1\r\nBcc: evil@example.org', target: 'a\nBcc: b' }
  await send(wild, settings({ SMTP_URL: at(server) }), attempts())
  const [letter] = server.letters as [MailServer['letters'][number]]
  assert.deepEqual(letter.to, ['root', 'ops@example.org'])
  assert.doesNotMatch(letter.text, /^Bcc:/im)
  for (const env of [
    { MAIL_FROM: 'a@b\nBcc: c@d' },
    { MAIL_FROM: 'a@b, c@d' },
    { MAIL_TO: 'a<b@c>' },
    { MAIL_TO: '-oQ/tmp' },
    { MAIL_TO: '' },
  ])
    await assert.rejects(send(notice, settings({ SMTP_URL: at(server), ...env }), attempts()), { class: 'config' }, JSON.stringify(env))
})

test('what is missing is named, and an address never shows its user', () => {
  const env = { SMTP_URL: 'smtps://user:pw@mail.example.org/x' }
  assert.equal(to(settings(env)), 'root, ops@example.org (smtps://mail.example.org)')
  assert.equal(to(settings({})), 'root, ops@example.org (sendmail)')
  assert.throws(() => to(settings({ SMTP_URL: 'mail.example.org' })), { class: 'config' })
})

test('a login without its password is not tried', async () => {
  const wanted = settingsOf({ name: 'web1', env: { ...mail, SMTP_URL: 'smtp://me@localhost:1' } }, undefined)
  await assert.rejects(send(notice, wanted, attempts()), {
    class: 'auth',
    message: "SMTP_PASSWORD is not in target.env, and the secrets of 'web1' are not open",
  })
})

test('--explain sends by curl or sendmail, and names no password', () => {
  const line = shown(notice, settings({ SMTP_URL: 'smtp://me@mail.example.org:587' }, { SMTP_PASSWORD: 'hidden' }))
  assert.doesNotMatch(line, /hidden/)
  const plain = (url: string) => !shown(notice, settings({ SMTP_URL: url })).includes('--ssl-reqd')
  assert.deepEqual(['smtp://localhost', 'smtp://[::1]:25', 'smtp://relay.example.org'].map(plain), [true, true, false])
  assert.match(line, /printf 'url = "smtp:\/\/mail\.example\.org:587"\\nuser = "me:%s"\\n' "\$SMTP_PASSWORD" \| curl -fsS -K - --ssl-reqd /)
})

test('the local sendmail gets the letter on stdin, with its recipients in it', async (t) => {
  const dir = scratch(t)
  fake(dir, 'sendmail', `echo "$@" >${dir}/args; cat >${dir}/letter`)
  const before = process.env.PATH
  process.env.PATH = `${dir}:${before}`
  t.after(() => {
    process.env.PATH = before
  })
  await send(notice, settings({}), attempts())
  assert.equal(fs.readFileSync(path.join(dir, 'args'), 'utf8'), '-t -oi\n')
  const letter = fs.readFileSync(path.join(dir, 'letter'), 'utf8')
  assert.doesNotMatch(letter, /\r/)
  assert.equal(headerOf(letter, 'To'), '<root>, ops@example.org')
  assert.equal(textOf(letter), notice.body)
  fake(
    dir,
    'sendmail',
    `n=$(cat ${dir}/times 2>/dev/null || echo 0); echo $((n+1)) >${dir}/times; echo 'queue full' >&2; [ $n = 2 ] || exit 75`,
  )
  const how = attempts()
  await send(notice, settings({}), how)
  assert.deepEqual(how.pauses, [1, 4])
  fake(dir, 'sendmail', "echo 'no such user' >&2; exit 67")
  await assert.rejects(send(notice, settings({}), attempts()), {
    class: 'tool',
    message: `'${dir}/sendmail' ended with status 67: no such user`,
  })
})
