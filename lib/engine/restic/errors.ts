// restic's statuses and messages -> failures. The statuses 10, 11 and 12 came with 0.17; before that only the text tells.
import type { Exit } from '../../child.ts'
import { type Class, Failure } from '../../failure.ts'

// In this order: 0.14 wraps every failure to open the config file in the same sentence, so causes come before it.
/** A status in the words of the libraries that restic's backends speak HTTP with; a bare number may be a part of a path. */
const http = (codes: string, reasons: string): string =>
  `\\b(?:${codes}) (?:${reasons})|(?:server response unexpected:|\\bHTTP(?:/[\\d.]+)?(?: response)?(?: error| code| status)?:?|\\bstatus ?code[:=]?|\\bRESPONSE:?|googleapi: Error|\\bb2_\\w+:) ?\\(?(?:${codes})\\b`
const denied = http('401|403', 'Unauthorized|Forbidden')
const unavailable = http('50[234]', 'Bad Gateway|Service (?:Temporarily )?Unavailable|Gateway Time-?out')

const messages: readonly (readonly [RegExp, Class])[] = [
  [/wrong password or no key found/i, 'auth'],
  [/repository is already locked/i, 'locked'],
  [/no space left on device|disk quota exceeded|ENOSPC/i, 'space'],
  [
    /Permission denied \(publickey|access ?denied|InvalidAccessKeyId|SignatureDoesNotMatch|NoCredentialProviders|AuthorizationFailure|no credentials found/i,
    'auth',
  ],
  [new RegExp(denied, 'i'), 'auth'],
  [
    /connection refused|no such host|i\/o timeout|network is unreachable|host is unreachable|no route to host|could not resolve hostname|connection timed out|connection reset|ssh command exited|subprocess ssh|subprocess rclone|EOF.*sftp|TLS handshake|Connection closed by/i,
    'unreachable',
  ],
  [new RegExp(unavailable, 'i'), 'unreachable'],
  [/is there a repository at the following location|unable to open config file|repository does not exist/i, 'missing'],
  [
    /repository contains errors|ciphertext verification failed|invalid data returned|hash mismatch|pack .* (?:contains|damaged)|integrity error|\(<data\/[^>]*>.*(?:file is too short|no such file or directory|does not exist)|\b(?:blob|id) .*not found in (?:index|repository)/i,
    'damaged',
  ],
  [/permission denied|operation not permitted|read-only file system/i, 'permission'],
  [/no snapshot found|no matching ID found|multiple IDs with prefix/i, 'empty'],
]
const statuses: Readonly<Record<number, Class>> = { 10: 'missing', 11: 'locked', 12: 'auth' }

export const hints: Partial<Record<Class, string>> = {
  auth: 'the password or the credentials in the secrets do not open it',
  locked: 'kedge unlock shows who holds the lock; --wait waits for kedge’s own',
  missing: 'is the disk mounted, the path right? Only kedge init creates a repository',
  unreachable: 'is the host up, the network there?',
  space: 'free some space, or kedge prune',
}

const refusal = /\b403\b|forbidden|access ?denied|not allowed|permission denied|operation not permitted|read-only file system/i

/** Why a store does not let restic delete, from a line of its stderr; undefined for another line, and for locks: those need not go. */
export function deletionRefusal(line: string): string | undefined {
  const [, cause] = /^Remove\(<(?!lock)\w+\/[^>]*>\)(?: failed| returned error, retrying after [^:]+): (.*)$/.exec(line) ?? []
  return cause !== undefined && refusal.test(cause) ? cause : undefined
}

/** No credentials are wrong where a store takes what is new, and deletes nothing. */
export const cannotDelete = (action: string, cause: string): Failure =>
  new Failure('permission', `cannot ${action}: the store does not let it delete: ${cause}`, {
    hint: 'is it append-only? Then its keeper prunes, where it may be written: docs/immutable.md',
  })

/** A line of a Go stack: a goroutine, a function with its package, a file with the line. */
const ofStack =
  /^(?:goroutine \d+ \[|created by |\t|\[signal |runtime[./]|(?:main|[\w.-]+(?:\/[\w.-]+)+)\.(?:\(\*?[\w.]+\)\.)?[\w.]+(?:\(.*\))?$)|\.go:\d+(?: \+0x[\da-f]+)?$/

/** What restic said of its failure: the message of exit_error, or the lines behind 'Fatal:', without the wrapping and without Go stacks. */
export function saidBy(stderr: string): string {
  const lines = stderr.split('\n').filter(Boolean)
  for (const line of lines.toReversed()) {
    if (line.startsWith('{') && line.includes('"exit_error"')) {
      const message = messageOf(line)
      if (message) return tidy(message)
    }
  }
  const fatal = lines.findIndex((line) => line.startsWith('Fatal:'))
  if (fatal >= 0) return tidy(lines.slice(fatal).join('\n'))
  const plain = lines.filter((line) => !line.startsWith('{'))
  // 0.14 names the holder, and ends with advice.
  const holder = plain.findIndex((line) => line.includes('repository is already locked'))
  if (holder >= 0) return tidy(plain.slice(holder, holder + 2).join('\n'))
  const sentences = plain.filter((line) => !ofStack.test(line))
  // Behind a stack nothing of it is the cause; without one the last line is.
  return tidy((sentences.length < plain.length ? sentences[0] : plain.at(-1)) ?? '')
}

function messageOf(line: string): string | undefined {
  try {
    return (JSON.parse(line) as { message?: string }).message
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

const tidy = (text: string) =>
  text
    .replace(/^Fatal: /, '')
    .split('\n')
    .filter((line) => !/^the `unlock` command|^Is there a repository|^\s*$|^storage ID/.test(line) && !ofStack.test(line))
    .slice(0, 3)
    .join('; ')
    .trim()

export function classOf(status: number, stderr: string): Class {
  const known = statuses[status]
  if (known) return known
  return messages.find(([pattern]) => pattern.test(stderr))?.[1] ?? 'tool'
}

/** The failure that an unsuccessful restic stands for. `action`: what kedge was about to do, as `open repository '/srv/r'`. */
export function failureOf(action: string, exit: Exit): Failure {
  const undeleted = exit.stderr.split('\n').map(deletionRefusal).find(Boolean)
  if (undeleted !== undefined) return cannotDelete(action, undeleted)
  const kind = classOf(exit.status, exit.stderr)
  const cause =
    kind === 'auth' && /wrong password/i.test(exit.stderr)
      ? 'wrong password'
      : saidBy(exit.stderr) || (exit.signal ? `restic was ended by ${exit.signal}` : `restic ended with status ${exit.status}`)
  return new Failure(kind, `cannot ${action}: ${cause}`, { hint: hints[kind] })
}

/** Whether a failure of failureOf means that the password opens no key, and not that the store's service refused. */
export const isWrongPassword = (error: unknown): boolean =>
  error instanceof Failure && error.class === 'auth' && error.message.endsWith(': wrong password')
