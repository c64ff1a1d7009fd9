// Sizes, durations, times and columns: pure.

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

/** 1536 -> '1.50 KiB'. What would be rounded to 1024 of a unit is 1 of the next. */
export function bytes(n: number): string {
  let unit = 0
  let value = Math.abs(n)
  while (value >= 1023.5 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2
  return `${n < 0 ? '-' : ''}${value.toFixed(digits)} ${units[unit]}`
}

/** A number with its words: '1 file has', '3 files have'. */
export const many = (n: number, one: string, more: string): string => `${n} ${n === 1 ? one : more}`

/** Seconds -> '3.2 s', '4 min 10 s', '2 h 5 min', '3 d 4 h'. */
export function duration(seconds: number): string {
  if (seconds < 60) return `${seconds < 10 ? Math.round(seconds * 10) / 10 : Math.round(seconds)} s`
  const s = Math.round(seconds)
  const parts: [number, string][] = [
    [Math.floor(s / 86400), 'd'],
    [Math.floor((s % 86400) / 3600), 'h'],
    [Math.floor((s % 3600) / 60), 'min'],
    [s % 60, 's'],
  ]
  const first = parts.findIndex(([n]) => n > 0)
  return parts
    .slice(first, first + 2)
    .filter(([n]) => n > 0)
    .map(([n, unit]) => `${n} ${unit}`)
    .join(' ')
}

const durations: Record<string, number> = { s: 1, m: 60, min: 60, h: 3600, d: 86400, w: 604800 }

/** '90' (seconds), '30s', '10m', '12h', '30d', '2w', '1d12h' -> seconds; undefined where it is none of these. */
export function parseDuration(text: string): number | undefined {
  if (/^\d+$/.test(text)) return Number(text)
  const parts = [...text.matchAll(/(\d+)(min|[smhdw])/g)]
  if (parts.length === 0 || parts.map(([all]) => all).join('') !== text) return undefined
  return parts.reduce((sum, [, n, unit]) => sum + Number(n) * (durations[unit ?? ''] ?? 0), 0)
}

/** '500', '64K', '1.5M', '2GiB' (powers of 1024) -> bytes; undefined where it is none of these. */
export function parseSize(text: string): number | undefined {
  const [, n, unit] = /^(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:iB|B)?$/i.exec(text) ?? []
  if (n === undefined) return undefined
  return Math.round(Number(n) * 1024 ** ['', 'K', 'M', 'G', 'T', 'P'].indexOf((unit ?? '').toUpperCase()))
}

/** Local time to the second, '2026-11-20 07:44:49'; Intl would cost 12 ms at start. */
export function localTime(rfc3339: string): string {
  const t = new Date(rfc3339)
  if (Number.isNaN(t.getTime())) return rfc3339
  const two = (n: number) => String(n).padStart(2, '0')
  return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`
}

// RFC 3339 has years of four digits.
const [earliest, latest] = [-62_167_219_200, 253_402_300_799]

/** A file's time, seconds since 1970, in RFC 3339 with milliseconds. Outside of the years 0000 to 9999, which file systems know, the nearest in them. */
export const timeText = (seconds: number): string => new Date(Math.min(Math.max(seconds || 0, earliest), latest) * 1000).toISOString()

const sizes = new Set([
  'size',
  'bytes',
  'added',
  'restore',
  'raw',
  'growth',
  'written',
  'addedBytes',
  'removedBytes',
  'perDay',
  'free',
  'before',
  'after',
  'freed',
])
const times = new Set(['time', 'start', 'until', 'mtime', 'good', 'failed', 'due', 'next', 'oldest', 'oldestVerified'])
const spans = new Set(['seconds', 'age', 'fullIn'])

/** A cell for people: sizes, times and spans in words. */
export function pretty(field: string, value: unknown): string {
  if (value === undefined || value === null) return field === 'oldestVerified' ? 'never' : '-'
  if (typeof value === 'number') {
    if (sizes.has(field)) return bytes(value)
    if (spans.has(field)) return duration(value)
    if (field === 'verified') return `${Math.floor(value * 100)} %`
    if (field === 'dedup' || field === 'compression') return `${value.toFixed(2)}x`
  }
  if (typeof value === 'string' && times.has(field)) return localTime(value)
  if (typeof value === 'string' && /^[0-9a-f]{64}$/.test(value)) return shortId(value)
  return plain(value, ', ')
}

/** A snapshot's id as messages show it: eight characters of a hash; an id that tells the time as it is. */
export const shortId = (id: string): string => (/^[0-9a-f]{9,}$/.test(id) ? id.slice(0, 8) : id)

/** A cell for programs; lists are joined with commas. */
export function plain(value: unknown, comma = ','): string {
  if (value === undefined || value === null) return ''
  return Array.isArray(value) ? value.map((each) => plain(each)).join(comma) : String(value)
}

const escapes: Record<string, string> = { '\t': '\\t', '\n': '\\n', '\r': '\\r', '\\': '\\\\' }
/** One field of a tab-separated line. */
export const field = (text: string): string => (/[\t\n\r\\]/.test(text) ? text.replace(/[\t\n\r\\]/g, (c) => escapes[c] ?? c) : text)

/** Control characters, which a name may hold, would command the terminal: shown as \xNN. */
export const harmless = (text: string): string =>
  /[\x00-\x08\x0a-\x1f\x7f-\x9f]/.test(text)
    ? text.replace(/[\x00-\x08\x0a-\x1f\x7f-\x9f]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)
    : text

/** Pads cells to widths, numbers to the right; the last column is left as it is. */
export function align(cells: readonly string[], widths: readonly number[], right: readonly boolean[]): string[] {
  return cells.map((cell, i) => (right[i] ? cell.padStart(widths[i] ?? 0) : i === cells.length - 1 ? cell : cell.padEnd(widths[i] ?? 0)))
}
