// rsync's statuses and messages, and ssh's through it -> failures. A status alone tells little: 12 and 255 are told by the text, 23 by each line.
import type { Exit } from '../../child.ts'
import { type Class, Failure } from '../../failure.ts'

// In this order: what names its cause comes before what only says that the connection is gone.
const messages: readonly (readonly [RegExp, Class])[] = [
  [/no space left on device|disk quota exceeded|disc quota exceeded/i, 'space'],
  [
    /host key verification failed|remote host identification has changed|no \S+ host key is known|Permission denied \((?:publickey|password|keyboard|gssapi|hostbased)|too many authentication failures|no supported authentication methods|load key .*(?:invalid format|bad permissions|incorrect passphrase)|auth failed on module/i,
    'auth',
  ],
  [/a (?:terminal|password) is required|no tty present|doas: (?:Authentication|Operation|a tty)|is not in the sudoers/i, 'permission'],
  [
    /kedge-rsync-only: |(?:command )?not found|rrsync|rsync(?:d)?: failed to exec|Failed to exec|No such file or directory.*\bexec|unknown option|is your shell clean|protocol version mismatch|not an option|syntax or usage/i,
    'config',
  ],
  [
    /could not resolve hostname|connection refused|connection timed out|operation timed out|connection reset|connection closed|no route to host|network is unreachable|host is down|broken pipe|timeout, server .* not responding|timeout in data send|timeout waiting for daemon|io timeout|kex_exchange_identification|banner exchange|lost connection|getaddrinfo|failed to connect/i,
    'unreachable',
  ],
  [/read-only file system|permission denied|operation not permitted/i, 'permission'],
]

/** Of statuses whose text says nothing more. 11 is an error in writing files, 30 and 35 are time that was over, 10 and 5 a daemon's. */
const statuses: Readonly<Record<number, Class>> = {
  1: 'config',
  2: 'config',
  4: 'config',
  5: 'unreachable',
  10: 'unreachable',
  11: 'space',
  14: 'config',
  30: 'unreachable',
  35: 'unreachable',
  126: 'config',
  127: 'config',
  255: 'unreachable',
}

const hints: Partial<Record<Class, string>> = {
  auth: 'kedge doctor tells which key is used, and whether the host is known',
  unreachable: 'is the host up, the network there? What came is kept: the next run goes on from it',
  space: 'free some space, or kedge prune; what came is kept: the next run goes on from it',
}
const remoteHints: Partial<Record<Class, string>> = {
  config: "is rsync installed there, and found? SOURCE_RSYNC names it: 'sudo -n rsync', 'doas rsync', openrsync",
  permission: 'SOURCE_RSYNC runs it as another user where the key permits it: kedge key shows how',
}

/** Said of every failure: the sentence behind the cause, statistics, the banner of a control connection. */
const noise =
  /^(?:rsync error: |rsync warning: |rsync: connection unexpectedly closed|rsync: \[\w+\] (?:connection unexpectedly closed|safe_read failed|read error|write error|writefd_unbuffered failed)|Warning: Permanently added|@{3,}|\s*$)/

/** A line without rsync's name, the process that said it, and the place in its source. */
export const tidy = (line: string): string =>
  line
    .replace(/^rsync(?: error| warning)?: (?:\[\w+(?:=[\d.]+)?\] )?/, '')
    .replace(/ \(code \d+\) at .*$/, '')
    .replace(/ at \w+\.c\(\d+\) \[[\w=.]+\]$/, '')
    .trim()

/** What an unsuccessful rsync said first of its cause; empty where it said nothing. */
export function saidBy(stderr: string): string {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '')
  return tidy(lines.find((line) => !noise.test(line)) ?? lines.at(-1) ?? '')
}

export function classOf({ status, stderr }: Pick<Exit, 'status' | 'stderr'>, { remote }: { remote: boolean }): Class {
  const told = messages.find(([pattern]) => pattern.test(stderr))?.[1]
  if (told !== undefined && (remote || (told !== 'auth' && told !== 'unreachable'))) return told
  if (status === 12 && remote && received(stderr) > 0) return 'unreachable' // it had begun to answer: the link is what ended
  const known = statuses[status]
  return known === 'unreachable' && !remote ? 'tool' : (known ?? 'tool')
}

/** Bytes that had come when the connection ended: with none the remote side never spoke rsync. */
const received = (stderr: string): number => Number(/connection unexpectedly closed \((\d+) bytes received/.exec(stderr)?.[1] ?? 0)

const noScript = /kedge-rsync-only: (?:.*: )?(?:no such file or directory|not found|cannot open|permission denied)/i

/** The failure that an unsuccessful rsync stands for. `action`: what kedge was about to do, as `back up 'web1'`. */
export function failureOf(action: string, exit: Exit, where: { remote: boolean }): Failure {
  const kind = classOf(exit, where)
  const cause = saidBy(exit.stderr) || (exit.signal ? `rsync was ended by ${exit.signal}` : `rsync ended with status ${exit.status}`)
  // The host's shell did not find what its authorized_keys names.
  if (where.remote && noScript.test(exit.stderr))
    return new Failure('config', `cannot ${action}: ${cause}`, {
      hint: 'that host lacks the script to which its authorized_keys binds the key: kedge key NAME --script prints it',
    })
  return new Failure(kind, `cannot ${action}: ${cause}`, { hint: (where.remote ? remoteHints[kind] : undefined) ?? hints[kind] })
}

/** Whether the same again may go well: a link that was cut, a host that did not answer in time. */
export function isTransient(exit: Pick<Exit, 'status' | 'stderr'>, where: { remote: boolean }): boolean {
  if (!where.remote || classOf(exit, where) !== 'unreachable') return false
  return [5, 10, 12, 30, 35].includes(exit.status) || (exit.status === 255 && !/could not resolve hostname/i.test(exit.stderr))
}
