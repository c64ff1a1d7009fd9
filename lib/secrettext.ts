// The text of a target's secrets: KEY=value lines in memory, of which nothing reaches a message or a log.
import { parseEnv } from './env.ts'
import { Failure } from './failure.ts'
import { conceal } from './log.ts'

export type Values = Readonly<Record<string, string>>

/** What a rotation that is under way keeps among the secrets: its own, which no tool, no hook and no sheet sees. */
export const pendingKeys = { next: 'KEDGE_NEXT_PASSWORD', old: 'KEDGE_OLD_PASSWORD' } as const

/**
 * The values by key, concealed from now on. Failure `config` with every fault as file:line:column, `auth` for an empty password.
 * `from`: the file, as it is to be named; `name`: the target's.
 */
export function readSecrets(text: string, from: string, name: string): Record<string, string> {
  const { entries, faults } = parseEnv(text, from)
  const values = Object.fromEntries([...entries].map(([key, { value }]) => [key, value]))
  concealAll(values)
  if (faults.length > 0) {
    const lines = faults.map(({ file, line, column, message }) => `\n  ${file}:${line}:${column}: ${message}`)
    throw new Failure('config', `the secrets of '${name}' are not valid:${lines.join('')}`)
  }
  refuseEmpty(values, `the secrets of '${name}' (${from}:${entries.get('RESTIC_PASSWORD')?.line})`)
  return values
}

/** The secrets that are the target's, without a rotation's. */
export function ownSecrets(values: Values): Record<string, string> {
  const { [pendingKeys.next]: _next, [pendingKeys.old]: _old, ...own } = values
  return own
}

/** Failure `auth`: restic 0.14 would read an empty password from stdin. */
export function refuseEmpty(values: Values, where: string): void {
  if (values.RESTIC_PASSWORD === '') throw new Failure('auth', `cannot use ${where}: RESTIC_PASSWORD is empty`)
}

export function concealAll(values: Values): void {
  for (const [key, value] of Object.entries(values)) {
    if (key.endsWith('_REPOSITORY')) concealLogin(value)
    // A value of several lines is printed line by line.
    else if (/PASS|SECRET|KEY|TOKEN/.test(key) || value.length > 7) for (const text of [value, ...value.split('\n')]) conceal(text)
  }
}

/** The `user:password` in the address of a repository. */
export function concealLogin(repository: string): void {
  const login = /\/\/([^/]*:[^/]*)@/.exec(repository)?.[1]
  if (!login) return
  conceal(login)
  const password = login.slice(login.indexOf(':') + 1)
  if (password.length > 7) conceal(password)
}
