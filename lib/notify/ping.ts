// A ping as healthchecks.io takes them (https://healthchecks.io/docs/http_api/): ADDRESS/start, ADDRESS, ADDRESS/fail, ADDRESS/log, with
// the run as rid, so that start and end of runs that overlap are told apart. Silence is what such a service alerts of: thus every run
// pings, whatever NOTIFY_ON says.
import { createHash } from 'node:crypto'
import { quote } from '../shell.ts'
import type { How } from './attempts.ts'
import { type Request, request } from './http.ts'
import { type Notice, tail } from './notice.ts'
import { addressOf, type Settings, shownAddress } from './settings.ts'

/** What the service keeps of a body at least. */
const bodyBytes = 10_000
const byVerb = '{verb}'

type Pinged = Pick<Notice, 'target' | 'verb' | 'id'>
type Signal = '' | '/start' | '/fail' | '/log'

/** A run's id as a UUID (version 8, RFC 9562): the service takes no other form. */
export function ridOf({ target, id }: Pick<Notice, 'target' | 'id'>): string {
  const hex = createHash('sha256').update(`kedge/${target}/${id}`).digest('hex')
  const variant = ((Number.parseInt(hex.slice(16, 18), 16) & 0x3f) | 0x80).toString(16)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(18, 20)}-${hex.slice(20, 32)}`
}

/** Whether a check is told of the starts and successes of a verb: one without {verb} in its address is the backup's. */
const isOwn = (verb: string, settings: Settings): boolean =>
  ['backup', 'digest', 'test'].includes(verb) || (settings.env.PING_URL ?? '').includes(byVerb)

/** A prune that went well says nothing of the backup: in a check that is not its own it is a line of the log. */
export function signalOf({ verb, outcome, event }: Notice, settings: Settings): Signal {
  if (outcome === 'bad') return '/fail'
  return outcome === 'neither' || event === 'test' || !isOwn(verb, settings) ? '/log' : ''
}

export function pingUrl(signal: Signal, pinged: Pinged, settings: Settings): URL {
  const fill = (text: string) =>
    text.replaceAll(byVerb, encodeURIComponent(pinged.verb)).replaceAll('{target}', encodeURIComponent(settings.target))
  const url = addressOf('PING_URL', { ...settings, env: { ...settings.env, PING_URL: fill(settings.env.PING_URL ?? '') } }, [
    'https:',
    'http:',
  ])
  url.pathname = url.pathname.replace(/\/$/, '') + signal
  url.searchParams.set('rid', ridOf(pinged))
  return url
}

const headers = { 'Content-Type': 'text/plain; charset=utf-8' }
/** What to do stands first, and is kept whole; of the log the end is. */
const bodyOf = ({ subject, body, log }: Notice): string => {
  const head = `${subject}\n\n${log ? body.split('\n\nThe end of the log:\n')[0] : body}\n`
  const room = bodyBytes - Buffer.byteLength(head)
  return log && room > 0 ? `${head}\n${tail(log, room - 1)}` : Buffer.from(head).subarray(0, bodyBytes).toString('utf8')
}

export const pinged = (notice: Notice, settings: Settings): Request => ({
  method: 'POST',
  url: pingUrl(signalOf(notice, settings), notice, settings),
  headers,
  body: bodyOf(notice),
})

export const to = (settings: Settings): string => shownAddress(addressOf('PING_URL', settings, ['https:', 'http:']))

export const send = async (notice: Notice, settings: Settings, how: How): Promise<void> => await request(pinged(notice, settings), how)

/** The start of a run. */
export async function begin(run: Pinged, settings: Settings, how: How): Promise<void> {
  if (isOwn(run.verb, settings)) await request({ method: 'POST', url: pingUrl('/start', run, settings), headers, body: '' }, how)
}

/** The same by hand; the address reaches curl on its stdin. */
export function shown(notice: Notice, settings: Settings): string {
  const fill = `sed ${quote(`s/{verb}/${notice.verb}/; s/{target}/${settings.target}/`)}`
  const url = `url = "%s${signalOf(notice, settings)}?rid=${ridOf(notice)}"\\n`
  return `printf ${quote(url)} "$PING_URL" | ${fill} | curl -fsS -K - --data-binary ${quote(bodyOf(notice))}`
}
