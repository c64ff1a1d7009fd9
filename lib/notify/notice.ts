// What is told, the same for all channels, and how secrets are kept out of it. Pure but for what log.ts knows to be secret.
import { harmless } from '../format.ts'
import { redact } from '../log.ts'
import type { RunEvent } from './event.ts'

export type Notice = {
  readonly event: RunEvent | 'test' | 'digest'
  /** Several, with commas between them, in a digest. */
  readonly target: string
  readonly verb: string
  /** The same for each attempt and each channel: a run's id. */
  readonly id: string
  /** RFC 3339. */
  readonly time: string
  readonly host: string
  /** One line. */
  readonly subject: string
  readonly body: string
  /** What programs get: the run's record, or the digest. */
  readonly record: { readonly kind: string } & Readonly<Record<string, unknown>>
  /** What a ping says: a skipped run is neither. */
  readonly outcome: 'good' | 'bad' | 'neither'
  /** The end of the run's log. */
  readonly log: string
}

/** Without what is known to be secret, and without the password of an address, known or not. */
export const scrub = (text: string): string => redact(text).replace(/(\/\/[^/@\s:]*):[^/@\s]*@/g, '$1:***@')

/** The same for every text within a value. In JSON a secret with a quote would be written otherwise, and not be found. */
function scrubbed<T>(value: T): T {
  if (typeof value === 'string') return scrub(value) as T
  if (Array.isArray(value)) return value.map(scrubbed) as T
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [scrub(key), scrubbed(each)])) as T
}

/** A notice that may leave the machine. */
export function sealed(notice: Notice): Notice {
  const clean = scrubbed(notice)
  const lines = (text: string) => text.split('\n').map(harmless).join('\n')
  return { ...clean, subject: oneLine(clean.subject), body: lines(clean.body), log: lines(clean.log) }
}

const subjectLength = 200

/** A text for a header: a line feed in it would begin another one. */
export function oneLine(text: string, length = subjectLength): string {
  const line = text.replace(/[\p{Cc}\u2028\u2029]+/gu, ' ').trim()
  return line.length > length ? `${line.slice(0, length - 3).replace(/[\uD800-\uDBFF]$/, '')}...` : line
}

/** The beginning of a text, at most so many bytes of UTF-8, ending with a whole line. */
export function cut(text: string, bytes: number): string {
  if (Buffer.byteLength(text) <= bytes) return text
  const room = Buffer.from(text).subarray(0, bytes - 4)
  const part = new TextDecoder().decode(room, { stream: true })
  const end = part.lastIndexOf('\n')
  return `${end >= bytes / 2 ? part.slice(0, end) : part}\n...`
}

/** The end of a text, at most so many bytes of UTF-8, beginning with a whole line. */
export function tail(text: string, bytes: number): string {
  const all = Buffer.from(text)
  if (all.length <= bytes) return text
  const part = all.subarray(all.length - bytes)
  const feed = part.indexOf(10)
  return feed < 0 ? '' : part.subarray(feed + 1).toString('utf8')
}
