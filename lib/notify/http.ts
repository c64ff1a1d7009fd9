// One request to a service, by the global fetch (loaded when it is first used). Nothing is followed: a redirect would take the token along.
import { type Class, Failure } from '../failure.ts'
import { type How, persist, type Trouble } from './attempts.ts'
import { oneLine, scrub } from './notice.ts'
import { shownAddress, tryDecode } from './settings.ts'

export type Request = {
  readonly method: 'POST' | 'PUT'
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** Sends until it is taken. Failure `unreachable`, `auth`, `tool`; no message holds more of the address than its host. */
export async function request(wanted: Request, how: How): Promise<void> {
  await persist(how, (signal) => once(wanted, signal, how.seconds))
}

async function once({ method, url, headers, body }: Request, signal: AbortSignal, seconds: number): Promise<Trouble | undefined> {
  const { plain, login } = withoutLogin(url)
  const to = `'${shownAddress(url)}'`
  try {
    const answer = await fetch(plain, { method, headers: { ...login, ...headers }, body, redirect: 'manual', signal })
    const text = await beginning(answer)
    if (answer.ok) return undefined
    return refused(answer, `${to} answered ${answer.status}`, said(text, url))
  } catch (error) {
    if (!(error instanceof Error)) throw error
    if (signal.aborted) return { failure: new Failure('unreachable', `${to} did not answer within ${seconds} s`), again: true }
    const { code, message } = ((error.cause ?? error) as NodeJS.ErrnoException) ?? {}
    // What fetch throws of itself is a TypeError whose cause is the trouble with the connection.
    if (error.name !== 'TypeError' || !error.cause) throw error
    const untrusted = isCertificate(code, message)
    const why = words[code ?? ''] ?? oneLine(scrub(message || code || 'it failed'))
    return { failure: new Failure('unreachable', `cannot reach ${to}: ${why}`), again: !untrusted }
  }
}

/** fetch refuses an address with a login in it. */
function withoutLogin(url: URL): { plain: URL; login: Record<string, string> } {
  if (!url.username && !url.password) return { plain: url, login: {} }
  const plain = new URL(url)
  plain.username = ''
  plain.password = ''
  const login = `${tryDecode(url.username)}:${tryDecode(url.password)}`
  return { plain, login: { Authorization: `Basic ${Buffer.from(login).toString('base64')}` } }
}

function refused(answer: Response, message: string, reason: string): Trouble {
  const { status } = answer
  if (status >= 300 && status < 400) {
    const location = answer.headers.get('location') ?? ''
    const there = URL.canParse(location) ? ` ('${shownAddress(new URL(location))}')` : ''
    return {
      failure: new Failure('tool', `${message}: it sends elsewhere${there}`, {
        hint: 'a redirect is not followed: write where it leads to',
      }),
    }
  }
  const kind: Class = status === 401 || status === 403 ? 'auth' : status === 429 || status >= 500 ? 'unreachable' : 'tool'
  const failure = new Failure(kind, `${message}${reason && `: ${reason}`}`)
  return { failure, again: kind === 'unreachable', after: retryAfter(answer.headers.get('retry-after')) }
}

/** Seconds, or a date of HTTP. */
function retryAfter(header: string | null): number | undefined {
  if (header === null) return undefined
  if (/^\d+$/.test(header)) return Number(header)
  const at = Date.parse(header)
  return Number.isNaN(at) ? undefined : Math.max(0, Math.ceil((at - Date.now()) / 1000))
}

const answerBytes = 2000

/** What a service says of a refusal is short; the rest of a long answer is not waited for. */
async function beginning(answer: Response): Promise<string> {
  const parts: Uint8Array[] = []
  let size = 0
  for await (const part of answer.body ?? []) {
    parts.push(part)
    size += part.length
    if (size > answerBytes) break
  }
  return Buffer.concat(parts).toString('utf8').slice(0, answerBytes)
}

/** A page of a server that names the path it does not know would tell the token. */
function said(text: string, url: URL): string {
  const parts = [`${url.pathname}${url.search}`, url.pathname, ...url.pathname.split('/')].filter((part) => part.length > 3)
  const plain = parts.reduce((rest, part) => rest.replaceAll(part, '***'), text)
  return /^\s*</.test(plain) ? '' : oneLine(scrub(plain))
}

const words: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'the connection was reset',
  UND_ERR_SOCKET: 'the connection was closed',
  ENOTFOUND: 'no such host',
  EAI_AGAIN: 'the name cannot be looked up',
  EHOSTUNREACH: 'no route to the host',
  ENETUNREACH: 'no network',
  ETIMEDOUT: 'timed out',
  UND_ERR_CONNECT_TIMEOUT: 'timed out',
}

/** Whether a certificate is what is wrong: then another attempt meets the same. */
export const isCertificate = (code: string | undefined, message: string | undefined): boolean =>
  /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ALTNAME/.test(code ?? '') || /certificate/i.test(message ?? '')
