// A post to a service: the record as it is, or what ntfy, Slack, Discord, Gotify and Matrix take. Each form is pure.
import { Failure } from '../failure.ts'
import type { templates } from '../keys.ts'
import { quote } from '../shell.ts'
import type { How } from './attempts.ts'
import { type Request, request } from './http.ts'
import { cut, type Notice } from './notice.ts'
import { addressOf, missing, type Settings, shownAddress } from './settings.ts'

export type Form = (typeof templates)[number]
/** `path`: what comes after the address. */
export type Post = Omit<Request, 'url'> & { readonly path: string }

type Urgency = 'high' | 'middle' | 'low'
const urgencyOf = ({ event, outcome }: Notice): Urgency =>
  event === 'failure' || (event === 'digest' && outcome === 'bad') ? 'high' : event === 'warning' || event === 'test' ? 'middle' : 'low'

const json = (path: string, content: unknown, headers: Record<string, string> = {}, method: Post['method'] = 'POST'): Post => ({
  method,
  path,
  headers: { 'Content-Type': 'application/json', ...headers },
  body: JSON.stringify(content),
})
const bearer = (token: string | undefined): Record<string, string> => (token ? { Authorization: `Bearer ${token}` } : {})

/** What is posted, by the form; the sizes are what each service takes in one message. */
export const forms: Readonly<Record<Form, (notice: Notice, token: string | undefined) => Post>> = {
  json: ({ record, event }, token) => json('', record, { 'Kedge-Event': event, ...bearer(token) }),
  // https://docs.ntfy.sh/publish/: what is longer than 4,096 bytes becomes an attachment.
  ntfy: (notice, token) => ({
    method: 'POST',
    path: '',
    headers: {
      'Content-Type': 'text/plain; charset=utf-8',
      Title: encodedWord(notice.subject),
      Priority: { high: '4', middle: '3', low: '2' }[urgencyOf(notice)],
      Tags: { high: 'rotating_light', middle: 'warning', low: 'white_check_mark' }[urgencyOf(notice)],
      ...bearer(token),
    },
    body: cut(notice.body, 4000),
  }),
  // https://docs.slack.dev/messaging/formatting-message-text/: & < > are its markup. It shows 4,000 characters well, and cuts at 40,000.
  slack: (notice, token) =>
    json('', { text: `*${escaped(notice.subject)}*\n\`\`\`\n${fenced(escaped(cut(notice.body, 3000)))}\`\`\`` }, bearer(token)),
  // https://docs.discord.com/developers/resources/webhook: 2,000 characters, and nobody is to be called by what a log holds.
  discord: (notice, token) =>
    json(
      '',
      {
        content: `**${notice.subject.replace(/[*_`~|\\]/g, '\\$&')}**\n\`\`\`\n${fenced(cut(notice.body, 1500))}\`\`\``,
        allowed_mentions: { parse: [] },
      },
      bearer(token),
    ),
  gotify: (notice, token) =>
    json(
      '/message',
      { title: notice.subject, message: notice.body, priority: { high: 8, middle: 5, low: 2 }[urgencyOf(notice)] },
      token ? { 'X-Gotify-Key': token } : {},
    ),
  // https://spec.matrix.org/latest/client-server-api/: a second PUT with the same transaction is the same message.
  matrix: (notice, token) =>
    json(
      `/send/m.room.message/${encodeURIComponent(`kedge-${notice.target}-${notice.id}-${notice.event}`)}`,
      { msgtype: 'm.text', body: `${notice.subject}\n\n${cut(notice.body, 30_000)}` },
      bearer(token),
      'PUT',
    ),
}

const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
/** Within a block of code its own end mark would end it. */
const fenced = (text: string): string => `${text.replaceAll('```', "'''").replace(/\n$/, '')}\n`

/** A header holds ASCII only; ntfy reads RFC 2047. */
const encodedWord = (text: string): string => (/^[\x20-\x7e]*$/.test(text) ? text : `=?UTF-8?B?${Buffer.from(text).toString('base64')}?=`)

const needToken: readonly Form[] = ['gotify', 'matrix']

function formOf(settings: Settings): Form {
  const form = settings.env.WEBHOOK_AS || 'json'
  if (!Object.hasOwn(forms, form)) throw new Failure('config', `WEBHOOK_AS is none of ${Object.keys(forms).join(', ')}: '${form}'`)
  return form as Form
}

/** The whole request. Failure `config` for what is missing or wrong. */
export function posted(notice: Notice, settings: Settings): Request {
  const form = formOf(settings)
  const token = settings.env.WEBHOOK_TOKEN || undefined
  if (token && !/^[\x21-\x7e]+$/.test(token)) throw new Failure('config', 'WEBHOOK_TOKEN has a character that no header can hold')
  if (!token && needToken.includes(form)) throw missing('WEBHOOK_TOKEN', settings)
  const { path, ...rest } = forms[form](notice, token)
  const url = addressOf('WEBHOOK_URL', settings, ['https:', 'http:'])
  url.pathname = url.pathname.replace(/\/$/, '') + path || '/'
  return { ...rest, url }
}

export const to = (settings: Settings): string => shownAddress(addressOf('WEBHOOK_URL', settings, ['https:', 'http:']))

export const send = async (notice: Notice, settings: Settings, how: How): Promise<void> => await request(posted(notice, settings), how)

/** The same by hand. What is secret reaches curl on its stdin, from variables that the lines before set. */
export function shown(notice: Notice, settings: Settings): string {
  const form = formOf(settings)
  const { method, path, headers, body } = forms[form](notice, form === 'gotify' || settings.env.WEBHOOK_TOKEN ? token : undefined)
  const plain = Object.entries(headers).filter(([, value]) => !value.includes(token))
  const secret = Object.entries(headers).filter(([, value]) => value.includes(token))
  const literal = (text: string) => text.replaceAll('%', '%%')
  const config = [
    `url = "%s${literal(path)}"`,
    ...secret.map(([name, value]) => `header = "${name}: ${literal(value).replace(token, '%s')}"`),
  ]
  const values = ['"$WEBHOOK_URL"', ...secret.map(() => '"$WEBHOOK_TOKEN"')].join(' ')
  const options = [...plain.map(([name, value]) => `-H ${quote(`${name}: ${value}`)}`), `--data-binary ${quote(body)}`].join(' ')
  return `printf ${quote(`${config.join('\\n')}\\n`)} ${values} | curl -fsS -X ${method} -K - ${options}`
}
const token = '$WEBHOOK_TOKEN'
