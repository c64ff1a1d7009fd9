// What rsync writes of each entry, by argv.ts's outFormat -> lines of a manifest. Pure. Text is held as latin1: a character a byte.
import type { Line, Type } from './manifest.ts'

const types: Readonly<Record<string, Type>> = { f: 'f', d: 'd', L: 'l', D: 'b', S: 'p' }

/** Lines of the same day follow each other. */
let day = ''
let dayStart = 0

/**
 * '2026/11/20-13:54:37', UTC, in seconds since 1970. NaN for a year that has not four digits: rsync writes '-829' for the year 829 and the
 * one before Christ alike, and cuts longer ones off behind the minutes; the file itself has to tell.
 */
function seconds(text: string): number {
  if (!/^\d{4}\//.test(text)) return Number.NaN
  const cut = text.indexOf('-')
  const date = text.slice(0, cut)
  if (date !== day) {
    const [year, month, of] = date.split('/').map(Number)
    dayStart = new Date(0).setUTCFullYear(year ?? 1970, (month ?? 1) - 1, of ?? 1) / 1000
    day = date
  }
  const [hour, minute, second] = text
    .slice(cut + 1)
    .split(':')
    .map(Number)
  return dayStart + (hour ?? 0) * 3600 + (minute ?? 0) * 60 + (second ?? 0)
}

/** 'rwsr-xr-t' -> 0o5755. */
function modeOf(text: string): number {
  let mode = 0
  for (let i = 0; i < 9; i++) {
    const char = text[i] ?? '-'
    if (char !== '-' && char !== 'S' && char !== 'T') mode |= 1 << (8 - i)
    if ('sStT'.includes(char)) mode |= 1 << (11 - Math.floor(i / 3))
  }
  return mode
}

const modes = new Map<string, number>()

function modeIn(text: string): number {
  let mode = modes.get(text)
  if (mode === undefined) {
    mode = modeOf(text)
    modes.set(text, mode)
  }
  return mode
}

/** Undefined for a line that tells of no entry. Of devices 'b' stands for both kinds, of FIFOs and sockets 'p'. */
export function parseItem(text: string): Line | undefined {
  const end = text.indexOf('//')
  if (end < 0) return undefined
  const at = text[end + 2] === '/' ? end + 3 : end + 2 // a folder's name ends in a slash of its own
  const type = types[text[at + 1] ?? '']
  if (!type || text[at + 11] !== ' ' || text[at + 21] !== ' ') return undefined
  const rest = text.slice(at + 22)
  const [uid = '', gid = '', size = '', time = ''] = rest.split(' ', 4)
  const after = rest.slice(uid.length + gid.length + size.length + time.length + 4)
  const hash = after.slice(0, 32).trim()
  const link = after.slice(33)
  const sent = text[at]
  const flags = text.slice(at + 2, at + 11)
  // Blanks behind it: nothing had to be set. A file that could not be linked to its base is a copy of it: 'cf', measured with 3.2.7 and 3.5.0.
  const copied = sent === 'c' && type === 'f'
  const same = sent !== '>' && !copied && flags === '         '
  return {
    path: tidy(text.slice(0, end)),
    type,
    mode: modeIn(text.slice(at + 12, at + 21)),
    uid: Number(uid),
    gid: Number(gid),
    size: Number(size),
    mtime: seconds(time),
    how: same ? '=' : '>',
    hash: /^[0-9a-f]{32}$/.test(hash) ? hash : '',
    link: link.startsWith('=> ') ? `=> ${tidy(link.slice(3))}` : escaped(link),
    ...(/[pogax]/.test(flags) && { touched: true as const }),
    ...(copied && flags.trim() === '' && { copied: true as const }),
  }
}

/** rsync writes a tab as it is. */
const escaped = (text: string): string => (text.includes('\t') ? text.replaceAll('\t', '\\#011') : text)

const tidy = (path: string): string => escaped(path[0] === '/' ? path.slice(1) : path)
