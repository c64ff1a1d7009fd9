// Commands as text that plain sh runs: pure.
import { isUtf8 } from 'node:buffer'
import type { CommandLine } from './rows.ts'

/** POSIX quoting; OpenBSD's ksh has no $'…', so nothing but single quotes is used. */
export function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}

export const shown = (command: readonly string[]): string => command.map(quote).join(' ')

/** A command with its assignments, one line: what --explain prints. */
export function explained(command: readonly string[], env: Readonly<Record<string, string>> = {}): string {
  return [...Object.entries(env).map(([key, value]) => `${key}=${quote(value)}`), shown(command)].join(' ')
}

/** A line for the reader, which sh skips. */
export const comment = (text: string): CommandLine => ({ kind: 'command', command: `# ${text}` })

/** The bytes of a name as a word of sh; where they are no UTF-8, printf makes those that are not ASCII. */
export function quoteBytes(name: Buffer): string {
  if (isUtf8(name)) return quote(name.toString('utf8'))
  return name.toString('latin1').replace(/([\x00-\x7f]+)|[\x80-\xff]+/g, (run, ascii?: string) => {
    if (ascii !== undefined) return quote(ascii)
    return `"$(printf '${Array.from(run, (char) => `\\${char.charCodeAt(0).toString(8)}`).join('')}')"`
  })
}
