// Commands as text that plain sh runs: pure.

/** POSIX quoting; OpenBSD's ksh has no $'…', so nothing but single quotes is used. */
export function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}

export const shown = (command: readonly string[]): string => command.map(quote).join(' ')

/** A command with its assignments, one line: what --explain prints. */
export function explained(command: readonly string[], env: Readonly<Record<string, string>> = {}): string {
  return [...Object.entries(env).map(([key, value]) => `${key}=${quote(value)}`), shown(command)].join(' ')
}
