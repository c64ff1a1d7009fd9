// BACKUP_ARGS: rsync's options that may be added to a backup's own. Pure. Links, permissions, the tree's place and the manifest depend on
// the others, or kedge has a key for them.
import type { Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { byBlanks } from '../../keys.ts'

/** Without a value. Letters may stand together, as -zc. */
const letters = 'zcW46'
const plain = new Set([
  ...['--compress', '--no-compress', '--no-z', '--old-compress', '--new-compress', '--checksum', '--no-checksum', '--no-c'],
  ...['--whole-file', '--no-whole-file', '--no-W', '--ipv4', '--ipv6', '--insecure-links', '--open-noatime', '--fsync'],
  ...['--no-H', '--no-hard-links', '--no-A', '--no-acls', '--no-X', '--no-xattrs', '--no-S', '--no-sparse'],
])
/** With one, as --name=value or as the next word. */
const valued = new Set([
  ...['--compress-choice', '--zc', '--compress-level', '--zl', '--skip-compress', '--checksum-seed', '--block-size', '-B', '--max-alloc'],
  ...['--exclude', '--exclude-from', '--include', '--include-from', '--filter', '-f', '--max-size', '--min-size'],
  ...['--bwlimit', '--timeout', '--sockopts', '--address', '--log-file', '--log-file-format'],
])

const rules = /^(?:--exclude|--include|--filter|-f)$/
const hint = [
  `-${[...letters].join(', -')}`,
  ...plain,
  ...[...valued].map((name) => (name.startsWith('--') ? `${name}=…` : `${name} …`)),
].join(', ')

const refused = (word: string, why: string): Failure =>
  new Failure('config', `BACKUP_ARGS holds '${word}', ${why}`, { hint: `allowed: ${hint}` })

/** Failure `config` for what is not on the list. */
export function checkArgs(target: Pick<Target, 'env'>): void {
  const given = byBlanks(target.env.BACKUP_ARGS)
  for (let i = 0; i < given.length; i++) {
    const word = given[i] ?? ''
    if (plain.has(word) || (/^-\w+$/.test(word) && [...word.slice(1)].every((letter) => letters.includes(letter)))) continue
    const cut = word.startsWith('--') ? word.indexOf('=') : -1
    const name = cut < 0 ? word : word.slice(0, cut)
    if (!valued.has(name)) throw refused(word, 'which kedge does not hand on to rsync')
    const value = cut < 0 ? given[++i] : word.slice(cut + 1)
    if (value === undefined) throw refused(word, 'which wants a value')
    // It forgets the rules before it: kedge's own keep the store and the caches out.
    if (rules.test(name) && value === '!') throw refused(`${name} !`, "which would take kedge's own rules away")
  }
}

/** Whether they name a file, which rsync 3.5 reaches through no link of another user's unless it is told to. */
export const namesFiles = (words: readonly string[]): boolean => readsRules(words) || words.some((word) => word.startsWith('--log-file'))

/** Whether they name a file of rules, a line each: kedge's own files have NUL in place of the line's end. */
export const readsRules = (words: readonly string[]): boolean =>
  words.some((word) => /^(?:--(?:exclude|include)-from|--filter|-f)\b/.test(word))
