// Mail: to an SMTP server over TLS, or through the local sendmail. nodemailer writes the message and speaks SMTP; loaded when it is used.
import { readFile } from 'node:fs/promises'
import { answer } from '../child.ts'
import { callerEnv } from '../env.ts'
import { findInPath, isExecutable } from '../executable.ts'
import { Failure } from '../failure.ts'
import { words } from '../keys.ts'
import { quote } from '../shell.ts'
import { type How, persist, type Trouble } from './attempts.ts'
import { isCertificate } from './http.ts'
import { type Notice, oneLine, scrub } from './notice.ts'
import { addressOf, missing, type Settings, shownAddress, tryDecode } from './settings.ts'

const schemes = ['smtp:', 'smtps:']

/** Names of local users serve for sendmail. What else a header could read as more than one address is none. */
const isAddress = (text: string): boolean => /^[^\s<>()[\]\\,;:"@\p{Cc}]+(@[^\s<>()\\,;"@\p{Cc}]+)?$/u.test(text) && !text.startsWith('-')

function recipients(settings: Settings): string[] {
  const list = words(settings.env.MAIL_TO)
  if (list.length === 0) throw missing('MAIL_TO', { ...settings, open: true })
  const wrong = list.find((each) => !isAddress(each))
  if (wrong !== undefined) throw new Failure('config', `MAIL_TO is not an address: '${oneLine(wrong)}'`)
  return list
}

function sender({ env, host }: Settings): { name: string; address: string } {
  const given = env.MAIL_FROM || `kedge@${host}`
  const [, name = 'kedge', address = given] = /^([^<>"\p{Cc}]*?)\s*<([^<>]+)>$/u.exec(given) ?? []
  if (!isAddress(address)) throw new Failure('config', `MAIL_FROM is not an address: '${oneLine(given)}'`)
  return { name, address }
}

/** The message's fields. The id is the same for each attempt, so that one that arrived twice is seen to be one. */
function fields(notice: Notice, settings: Settings) {
  return {
    from: sender(settings),
    // As objects: nodemailer reads a string with no @ in it as a name, and drops it.
    to: recipients(settings).map((address) => ({ name: '', address })),
    subject: notice.subject,
    text: notice.body,
    date: new Date(notice.time),
    messageId: `<${[notice.id, notice.event, ...notice.target.split(',').slice(0, 1)].join('.')}@kedge.${settings.host}>`,
    // Nobody's vacation program shall answer it (RFC 3834).
    headers: { 'Auto-Submitted': 'auto-generated', 'X-Kedge-Event': notice.event, 'X-Kedge-Target': oneLine(notice.target) },
    disableFileAccess: true,
    disableUrlAccess: true,
  }
}

export const to = (settings: Settings): string => {
  const through = settings.env.SMTP_URL ? shownAddress(addressOf('SMTP_URL', settings, schemes)) : 'sendmail'
  return `${recipients(settings).join(', ')} (${through})`
}

export const send = async (notice: Notice, settings: Settings, how: How): Promise<void> =>
  settings.env.SMTP_URL ? await bySmtp(notice, settings, how) : await bySendmail(notice, settings, how)

type Login = { user: string; pass: string }

function loginOf(url: URL, settings: Settings): Login | undefined {
  const user = tryDecode(url.username)
  if (!user) return undefined
  const pass = settings.env.SMTP_PASSWORD || tryDecode(url.password)
  if (!pass) throw missing('SMTP_PASSWORD', settings)
  return { user, pass }
}

/** Within the machine there is nobody to hide a mail from, and a mail system of its own has a certificate that nobody signed. */
const isLoopback = (host: string): boolean => /^(localhost|127(\.\d+){3}|\[::1\])$/i.test(host)

const isPlain = (url: URL): boolean => url.protocol === 'smtp:' && !url.username && isLoopback(url.hostname)

/** The certificate is verified always. Nothing leaves the machine without TLS, and no password goes without, whatever the server offers. */
async function bySmtp(notice: Notice, settings: Settings, how: How): Promise<void> {
  const url = addressOf('SMTP_URL', settings, schemes)
  const secure = url.protocol === 'smtps:'
  const auth = loginOf(url, settings)
  const ca = settings.env.SMTP_CA ? await readCa(settings.env.SMTP_CA) : undefined
  const limit = how.seconds * 1000
  const { createTransport } = await import('nodemailer')
  const transport = createTransport({
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: Number(url.port) || (secure ? 465 : auth ? 587 : 25),
    secure,
    requireTLS: !secure && !isPlain(url),
    ignoreTLS: isPlain(url),
    ...(auth && { auth }),
    tls: { minVersion: 'TLSv1.2', rejectUnauthorized: true, ...(ca && { ca }) },
    dnsTimeout: limit,
    connectionTimeout: limit,
    greetingTimeout: limit,
    socketTimeout: limit,
  })
  const server = `'${shownAddress(url)}'`
  try {
    await persist(how, async (signal) => {
      try {
        const { rejected } = await transport.sendMail({ ...fields(notice, settings), signal })
        if (rejected.length === 0) return undefined
        const list = rejected.join(', ')
        return { failure: new Failure('tool', `${server} refuses the recipient ${list}; the others got it`) }
      } catch (error) {
        return troubleOf(error as SmtpError, server, signal, how.seconds)
      }
    })
  } finally {
    transport.close()
  }
}

type SmtpError = Error & { code?: string; responseCode?: number; response?: string }

/** Codes of nodemailer (its errors.js): what comes of the connection may be over in a moment, as may a 4xx of the server (RFC 5321). */
function troubleOf(error: SmtpError, server: string, signal: AbortSignal, seconds: number): Trouble {
  const { code, responseCode, response, message } = error
  if (signal.aborted)
    return { failure: new Failure('unreachable', `${server} did not end the conversation within ${seconds} s`), again: true }
  const why = oneLine(scrub(response ?? message))
  if (code === 'ETLS' && !isCertificate(code, message)) {
    const hint = 'only to a mail system of this machine (smtp://localhost, without a user) mail goes without'
    return { failure: new Failure('unreachable', `cannot speak TLS with ${server}: ${why}`, { hint }) }
  }
  if (responseCode !== undefined) {
    const again = responseCode >= 400 && responseCode < 500
    if (code === 'EAUTH') return { failure: new Failure('auth', `${server} refuses the login: ${why}`), again }
    return { failure: new Failure(again ? 'unreachable' : 'tool', `${server} refuses the mail: ${why}`), again }
  }
  if (isCertificate(code, message)) {
    const hint = 'SMTP_CA names the certificate that signs it, where that is your own'
    return { failure: new Failure('unreachable', `${server} is not trusted: ${why}`, { hint }) }
  }
  if (code === 'EAUTH' || code === 'ENOAUTH') return { failure: new Failure('auth', `${server}: no login: ${why}`) }
  if (code === undefined) throw error
  // Of node's own codes those of the connection come here: ECONNREFUSED and its kin.
  const again = /^E(CONNECTION|TIMEDOUT|SOCKET|DNS|PROTOCOL|STREAM|CONN|HOST|NET|PIPE|NOTFOUND|AI_)/.test(code)
  if (again) return { failure: new Failure('unreachable', `cannot reach ${server}: ${why}`), again }
  return { failure: new Failure('tool', `${server}: ${why}`) }
}

async function readCa(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === undefined) throw error
    throw new Failure('config', `cannot read SMTP_CA='${file}': ${message}`, { cause: error })
  }
}

/** That of PATH, else where Linux and OpenBSD have it: /usr/sbin is seldom in a user's PATH. */
export const findSendmail = (): string | undefined =>
  findInPath('sendmail') ?? ['/usr/sbin/sendmail', '/usr/lib/sendmail'].find(isExecutable)

const tryLater = 75 // EX_TEMPFAIL of sysexits(3)
const sandboxHint = "in the sandbox of systemd's units sendmail cannot write its queue: SMTP_URL=smtp://localhost"

async function bySendmail(notice: Notice, settings: Settings, how: How): Promise<void> {
  const program = findSendmail()
  if (!program) throw new Failure('tool', 'no sendmail on this machine', { hint: 'install a mail system, or set SMTP_URL' })
  const { createTransport } = await import('nodemailer')
  const { message } = await createTransport({ streamTransport: true, buffer: true, newline: 'unix' }).sendMail(fields(notice, settings))
  const input = message as Buffer
  await persist(how, async (signal) => {
    try {
      // -oi: a line with a single dot does not end the message.
      const { status, stderr } = await answer([program, '-t', '-oi'], { env: callerEnv(), cwd: '/', input, timeout: 0, grace: 2, signal })
      if (status === 0) return undefined
      const why = oneLine(scrub(stderr.trim().split('\n').pop() ?? ''))
      const failure = new Failure('tool', `'${program}' ended with status ${status}${why && `: ${why}`}`, { hint: sandboxHint })
      return { failure, again: status === tryLater }
    } catch (error) {
      if (!signal.aborted) throw error
      return { failure: new Failure('unreachable', `'${program}' did not end within ${how.seconds} s`, { hint: sandboxHint }) }
    }
  })
}

/** The same by hand; a password reaches curl on its stdin, from a variable that the lines before set. */
export function shown(notice: Notice, settings: Settings): string {
  const { name, address } = sender(settings)
  const list = recipients(settings)
  const text = [`From: ${name} <${address}>`, `To: ${list.join(', ')}`, `Subject: ${notice.subject}`, '', notice.body].join('\n')
  const message = `printf '%s' ${quote(text)}`
  if (!settings.env.SMTP_URL) return `${message} | ${findSendmail() ?? 'sendmail'} -t -oi`
  const url = addressOf('SMTP_URL', settings, schemes)
  const user = tryDecode(url.username)
  const config = [`url = "${shownAddress(url)}"`, ...(user ? [`user = "${user}:%s"`] : [])].join('\\n')
  const options = [
    ...(url.protocol === 'smtp:' && !isPlain(url) ? ['--ssl-reqd'] : []),
    ...(settings.env.SMTP_CA ? [`--cacert ${quote(settings.env.SMTP_CA)}`] : []),
    `--mail-from ${quote(address)}`,
    ...list.map((each) => `--mail-rcpt ${quote(each)}`),
  ].join(' ')
  const login = user ? ' "$SMTP_PASSWORD"' : ''
  const curl = `printf ${quote(`${config}\\n`)}${login} | curl -fsS -K - ${options} --upload-file "$f"`
  return `f=$(mktemp) && ${message} >"$f" && ${curl}; rm -f "$f"`
}
