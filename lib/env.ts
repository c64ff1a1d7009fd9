// KEY=value files, read and never executed, and the only door to process.env.
// The grammar is the part of sh in which nothing runs and nothing expands; what it accepts, sh reads to the same values.
import { Failure } from './failure.ts'

export type Fault = { file: string; line: number; column: number; message: string }
export type EnvValue = { value: string; line: number }
type Spot = { at: number; message: string }
/** An assignment in a text: `start` is where `export` or the name begins, `from` to `end` is the value as written. */
type Assignment = { key: string; value: string; start: number; from: number; end: number }

const assignment = /(export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=/y
const identifier = /^[A-Za-z_][A-Za-z0-9_]*$/
const needsNoQuotes = /^[A-Za-z0-9_@%+=:,./-]*$/
const operators = /[$`~;&|<>()*?[{}!]+/y
// bash asks the locale which bytes are blanks, and a control character is seldom meant: both need quotes.
const invisible = /[\p{White_Space}\p{Cc}\uFEFF]/u

// Names that dash, bash, mksh, ksh93 or OpenBSD's ksh compute, keep read-only, force to a number, or act upon. GROUPS is bash's
// list of group ids: assigning to it has no effect. ksh93 drops an unknown locale, and a known one changes how the next line is read.
const shellNames = new Set(
  `_ _AST_FEATURES auto_resume CDPATH CHILD_MAX COLUMNS COPROC DIRSTACK EGID ENV EPOCHREALTIME EPOCHSECONDS ERRNO EUID EXECIGNORE
  EXECSHELL FCEDIT FIGNORE FPATH FUNCNAME FUNCNEST GID GLOBIGNORE GLOBSORT GROUPS histchars HOME HOSTFILE HOSTNAME HOSTTYPE IFS
  IGNOREEOF INPUTRC JOBMAX LANG LINENO LINES MACHTYPE MAIL MAILCHECK MAILPATH MAPFILE OLDPWD OPTARG OPTERR OPTIND OSTYPE PATH
  PATHSEP PGRP PIPESTATUS POSIXLY_CORRECT PPID PROMPT_COMMAND PROMPT_DIRTRIM PS0 PS1 PS2 PS3 PS4 PWD RANDOM REPLY SECONDS SHELL
  SHELLOPTS SHLVL SH_OPTIONS SH_VERSION SRANDOM TIMEFORMAT TMOUT UID USER_ID`.split(/\s+/),
)
const shellPrefixes = /^(?:BASH|COMP_|COMPREPLY|HIST|KSH|LC_|READLINE_)/

/**
 * The assignments in `text`, by key, with the line (from 1) on which each begins, and every fault with line and column (from 1, in
 * characters). Nothing is executed. Where there are faults, the entries are not to be used. No message holds any part of a value.
 */
export function parseEnv(text: string, file: string): { entries: Map<string, EnvValue>; faults: Fault[] } {
  const { assignments, faults } = scan(text)
  const starts = [0, ...Array.from(text.matchAll(/\n/g), ({ index }) => index + 1)]
  const lineOf = (at: number) => starts.findLastIndex((start) => start <= at) + 1
  const entries = new Map<string, EnvValue>()
  const spots = [...faults]
  for (const { key, value, start, from } of assignments) {
    const first = entries.get(key)
    if (first) spots.push({ at: from - key.length - 1, message: `'${key}' is set twice: first on line ${first.line}` })
    else entries.set(key, { value, line: lineOf(start) })
  }
  spots.sort((a, b) => a.at - b.at)
  return {
    entries,
    faults: spots.map(({ at, message }) => {
      const line = lineOf(at)
      return { file, line, column: [...text.slice(starts[line - 1], at)].length + 1, message }
    }),
  }
}

/**
 * Lines that parseEnv and sh read back to these values, in single quotes only where needed.
 * Failure `config` for a name given twice or not allowed, and for a value that no file can hold.
 */
export function formatEnv(entries: Readonly<Record<string, string>> | Iterable<readonly [string, string]>): string {
  const seen = new Set<string>()
  let text = ''
  for (const [key, value] of isIterable(entries) ? entries : Object.entries(entries)) {
    if (seen.has(key)) throw new Failure('config', `cannot write '${key}': it is given twice`)
    seen.add(key)
    text += `${key}=${wordFor(key, value)}\n`
  }
  return text
}

/**
 * `text` with the value of one key replaced, added at the end, or (undefined) taken out; every other byte stays, comments included.
 * Failure `config` where the text has faults, or the name or the value cannot be written.
 */
export function setEnvKey(text: string, key: string, value: string | undefined): string {
  const { assignments, faults } = scan(text)
  const [first] = faults
  if (first) throw new Failure('config', `cannot set '${key}': the file has faults: ${first.message}`)
  const [found, second] = assignments.filter((one) => one.key === key)
  if (second) throw new Failure('config', `cannot set '${key}': it is set twice`)
  if (value === undefined) return found ? without(text, found) : text
  const word = wordFor(key, value)
  if (!found) return `${text}${text === '' || text.endsWith('\n') ? '' : '\n'}${key}=${word}\n`
  return found.value === value ? text : text.slice(0, found.from) + word + text.slice(found.end)
}

/** A variable of whoever called kedge. */
export function callerVar(name: string): string | undefined {
  return process.env[name]
}

/** Whether the caller wants no colours: NO_COLOR, set to anything but nothing (no-color.org). */
export function noColour(): boolean {
  return (process.env.NO_COLOR ?? '') !== ''
}

const passedOn = /^(?:HOME|PATH|LANG|LC_.*|TZ|TERM|TMPDIR|SSH_AUTH_SOCK|(?:https?|no|all)_proxy|(?:HTTPS?|NO|ALL)_PROXY)$/

/**
 * What a child may see of the caller's environment: a short list, and the names in `passed`; only those that are set, and none that
 * `kedge run` set for the one target whose context this is.
 */
export function callerEnv(passed: readonly string[] = []): Record<string, string> {
  const handed = `${process.env.KEDGE_CONTEXT_KEYS ?? ''} ${process.env.KEDGE_CONTEXT_SETTINGS ?? ''}`.split(' ')
  const result: Record<string, string> = {}
  for (const [name, value] of Object.entries(process.env)) {
    if (value !== undefined && !handed.includes(name) && (passedOn.test(name) || passed.includes(name))) result[name] = value
  }
  return result
}

/** A text as a variable may hold it: the kernel takes no NUL in an environment, and at most 128 KiB a variable. */
export const variableText = (text: string): string => text.replaceAll('\0', '').slice(0, 8000)

function scan(source: string): { assignments: Assignment[]; faults: Spot[] } {
  const faults: Spot[] = []
  const assignments: Assignment[] = []
  const text = withoutBadBytes(source, faults)
  for (let at = skip(/[ \t\n]*/y, text, 0); at < text.length; at = skip(/[ \t\n]*/y, text, at)) {
    if (text[at] === '#') {
      at = endOfLine(text, at)
      continue
    }
    const head = match(assignment, text, at)
    if (!head) {
      faults.push(malformed(text, at))
      at = endOfLine(text, at)
      continue
    }
    const [whole, , key = ''] = head
    const from = at + whole.length
    const problem = nameProblem(key)
    if (problem) faults.push({ at: from - key.length - 1, message: problem })
    const word = readWord(text, from)
    faults.push(...word.faults)
    if (!word.closed) {
      at = word.end
      continue
    }
    assignments.push({ key, value: word.value, start: at, from, end: word.end })
    at = skip(/[ \t]*/y, text, word.end)
    const rest = text[at]
    // After a blank '#' begins a comment; anything else would be one more word.
    if (rest === undefined || rest === '\n' || rest === '#') continue
    // An operator ends the word in sh too, so what follows it is no second mistake.
    if (word.faults.length === 0) faults.push(afterValue(text, from, word.end, at))
    at = endOfLine(text, at)
  }
  return { assignments, faults }
}

/** NUL bytes and CR line ends are reported here, once, and masked by something of the same length, so that the rest is read too. */
function withoutBadBytes(text: string, faults: Spot[]): string {
  if (text.startsWith('\uFEFF')) faults.push({ at: 0, message: 'the file begins with a byte order mark: save it without' })
  for (const { index } of text.matchAll(/\0/g)) faults.push({ at: index, message: 'NUL byte' })
  const ends = [...text.matchAll(/\r+(?=\n|$)/g)]
  const [first] = ends
  const more = ends.length > 1 ? `, as on ${ends.length - 1} more` : ''
  if (first) faults.push({ at: first.index, message: `the line ends in CR LF${more}: save the file with LF line ends` })
  return text
    .replace(/^\uFEFF/, ' ')
    .replaceAll('\0', '_')
    .replace(/\r+(?=\n|$)/g, (run) => ' '.repeat(run.length))
}

function malformed(text: string, at: number): Spot {
  const spaced = match(/(?:export[ \t]+)?[A-Za-z_][A-Za-z0-9_]*(?=[ \t]+=)/y, text, at)
  if (spaced) return { at: at + spaced[0].length, message: `space before '=': sh would run the name as a command` }
  const name = skip(/export[ \t]+/y, text, at)
  if (match(/[^\s=]*=/y, text, name)) return { at: name, message: 'not a name: letters, digits and _ only, and no digit first' }
  if (match(/export(?!\S)/y, text, at)) return { at, message: 'export without KEY=value' }
  return { at, message: 'not KEY=value' }
}

function afterValue(text: string, from: number, end: number, at: number): Spot {
  if (end === from) return { at: from, message: `space after '=': sh would run the next word` }
  return { at, message: operatorFault(text, at) ?? 'words after the value: put quotes round the whole value' }
}

function nameProblem(key: string): string | undefined {
  if (!shellNames.has(key) && !shellPrefixes.test(key)) return undefined
  return `the name '${key}' belongs to the shell: a file with it cannot be sourced`
}

function operatorFault(text: string, at: number): string | undefined {
  const run = match(operators, text, at)?.[0]
  return run && `unquoted '${run}' means something to sh: put the value in single quotes`
}

type Word = { value: string; end: number; closed: boolean; faults: Spot[] }

/** One word of sh from `at`: its pieces, bare or in quotes, joined. */
function readWord(text: string, from: number): Word {
  const faults: Spot[] = []
  let value = ''
  let at = from
  while (at < text.length && !/[ \t\n]/.test(text.charAt(at))) {
    const char = text.charAt(at)
    if (char === "'" || char === '"') {
      const quoted = char === '"' ? readDouble(text, at) : readSingle(text, at)
      if (!quoted) {
        faults.push({ at, message: `unclosed ${char}` })
        return { value, end: endOfLine(text, at), closed: false, faults }
      }
      value += quoted.value
      faults.push(...quoted.faults)
      at = quoted.end
      continue
    }
    const operator = operatorFault(text, at)
    if (operator) {
      faults.push({ at, message: operator })
      at = skip(operators, text, at)
      continue
    }
    const escaped = char === '\\'
    const plain = escaped ? text.charAt(at + 1) : char
    // Shells disagree on a backslash that ends the file, and a line added after it would be joined to it.
    if (escaped && /^\n?$/.test(text.slice(at + 1))) faults.push({ at, message: 'the file ends in a backslash' })
    else if (invisible.test(plain) && !(escaped && /[ \t\n]/.test(plain))) {
      faults.push({ at, message: `unquoted ${codeOf(plain)}: put the value in single quotes` })
    } else if (plain !== '\n') value += plain
    at += escaped ? 2 : 1
  }
  return { value, end: Math.min(at, text.length), closed: true, faults }
}

type Quoted = { value: string; end: number; faults: readonly Spot[] }

function readSingle(text: string, at: number): Quoted | undefined {
  const end = text.indexOf("'", at + 1)
  return end < 0 ? undefined : { value: text.slice(at + 1, end), end: end + 1, faults: [] }
}

function readDouble(text: string, open: number): Quoted | undefined {
  const faults: Spot[] = []
  let value = ''
  for (let at = open + 1; at < text.length; at += 1) {
    const char = text.charAt(at)
    if (char === '"') return { value, end: at + 1, faults }
    if (char === '$' || char === '`') faults.push({ at, message: `'${char}' in double quotes expands: use single quotes or \\${char}` })
    // In double quotes a backslash is itself, except before these.
    if (char === '\\' && /[$`"\\\n]/.test(text.charAt(at + 1))) {
      at += 1
      if (text[at] !== '\n') value += text.charAt(at)
    } else value += char
  }
  return undefined
}

function without(text: string, { start, end }: Assignment): string {
  const rest = skip(/[ \t]*/y, text, end)
  if (text[rest] === '#') return text.slice(0, start) + text.slice(rest)
  return text.slice(0, text.lastIndexOf('\n', start) + 1) + text.slice(rest + 1)
}

function wordFor(key: string, value: string): string {
  const problem = identifier.test(key) ? nameProblem(key) : 'it is no name for a variable'
  if (problem) throw new Failure('config', `cannot write '${key}': ${problem}`)
  if (/[\0\p{Surrogate}]/u.test(value)) throw new Failure('config', `cannot write '${key}': the value is no text without NUL`)
  if (needsNoQuotes.test(value)) return value
  // A CR is kept from the LF after it: side by side they are the line end of another system, which parseEnv refuses.
  return `'${value.replaceAll("'", "'\\''").replaceAll('\r\n', "\r''\n")}'`
}

function isIterable<T>(entries: object | Iterable<T>): entries is Iterable<T> {
  return Symbol.iterator in entries
}

function codeOf(char: string): string {
  return `U+${char.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`
}

function endOfLine(text: string, at: number): number {
  const end = text.indexOf('\n', at)
  return end < 0 ? text.length : end
}

function match(pattern: RegExp, text: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at
  return pattern.exec(text)
}

function skip(pattern: RegExp, text: string, at: number): number {
  return at + (match(pattern, text, at)?.[0].length ?? 0)
}
