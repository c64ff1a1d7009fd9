// Expected trouble. The class of a failure gives the exit status; what is not a Failure is a bug (70).

export const statusOf = {
  tool: 1,
  space: 1,
  permission: 1,
  vanished: 1,
  empty: 1,
  config: 2,
  misuse: 2,
  partial: 3,
  missing: 10,
  locked: 11,
  auth: 12,
  unreachable: 13,
  damaged: 14,
  refused: 15,
  stale: 16,
  skipped: 75,
  timeout: 124,
} as const

export type Class = keyof typeof statusOf

export class Failure extends Error {
  override readonly name = 'Failure'
  readonly class: Class
  readonly hint: string | undefined
  constructor(kind: Class, message: string, more: { hint?: string | undefined; cause?: unknown } = {}) {
    super(message, { cause: more.cause })
    this.class = kind
    this.hint = more.hint
  }
}

/** A run ended by a signal: status 128 + its number. */
export class Cancelled extends Error {
  override readonly name = 'Cancelled'
  readonly signal: NodeJS.Signals
  constructor(signal: NodeJS.Signals) {
    super(`cancelled by ${signal}`)
    this.signal = signal
  }
}

const signalNumbers: Partial<Record<NodeJS.Signals, number>> = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 }

const classOfErrno: Readonly<Record<string, Class>> = {
  EACCES: 'permission',
  EPERM: 'permission',
  EROFS: 'permission',
  ENOSPC: 'space',
  EDQUOT: 'space',
  EIO: 'tool',
  ENOTCONN: 'tool',
  ESTALE: 'tool',
  ENOTDIR: 'config',
  ELOOP: 'config',
}

/** What the system refused (permission, space, a dead mount) is trouble to be expected on any machine, wherever it was met; not a bug. */
export function expected(error: unknown): unknown {
  const { code, syscall, message } = (error ?? {}) as NodeJS.ErrnoException
  // A folder that cannot be made since a link on the way leads nowhere.
  const noPlace = code === 'ENOENT' && syscall === 'mkdir' ? 'config' : undefined
  const kind = typeof syscall === 'string' && code !== undefined ? (classOfErrno[code] ?? noPlace) : undefined
  return kind ? new Failure(kind, message, { cause: error }) : error
}

/** The exit status of whatever was thrown; 70 for what nobody expected. */
export function statusFor(error: unknown): number {
  if (error instanceof Failure) return statusOf[error.class]
  if (error instanceof Cancelled) return 128 + (signalNumbers[error.signal] ?? 15)
  return 70
}

const severity = [70, 14, 10, 12, 15, 13, 11, 124, 1, 2, 16, 3, 75, 0]

/** The status that stands for several: the worst. A status above 128 (a signal) outranks all but a bug. */
export function worst(statuses: Iterable<number>): number {
  const rank = (status: number) => (status > 128 ? 0.5 : severity.indexOf(status) < 0 ? severity.indexOf(1) : severity.indexOf(status))
  let result = 0
  for (const status of statuses) if (rank(status) < rank(result)) result = status
  return result
}

export const exitStatuses: readonly (readonly [number | string, string])[] = [
  [0, 'done, all of it'],
  [1, 'failed'],
  [2, 'misuse: wrong options or a configuration that does not validate'],
  [3, 'done in part: some sources could not be read, a second store failed'],
  [10, 'no such repository or store'],
  [11, 'locked, by kedge or by the store'],
  [12, 'wrong or missing secret'],
  [13, 'unreachable: host, network or store'],
  [14, 'damaged: the check or the drill found bad data'],
  [15, 'refused by a guard'],
  [16, 'stale: no good run in time'],
  [75, 'skipped: a condition said not now'],
  [70, 'a bug in kedge: the stack is printed'],
  [124, 'timed out'],
  ['128+n', 'stopped by signal n'],
]
