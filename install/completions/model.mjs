// What the shells complete, from the commands' own declarations: verbs, options with what they take, operands.
import { readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, join } from 'node:path'

/**
 * What may stand in a place: the names of targets, of commands, of guards, a folder, a file, some words, or nothing that is known.
 * @typedef {'targets' | 'verbs' | 'guards' | 'folder' | 'file' | 'none' | readonly string[]} Kind
 */
const kinds = {
  target: 'targets',
  old: 'targets',
  verb: 'verbs',
  command: 'verbs',
  guard: 'guards',
  dir: 'folder',
  file: 'file',
  path: 'file',
}

/** The kind of a word in a usage line: `TARGET`, `DIR`, `snapshot[:path]`, or `install|remove` for these words themselves. */
const kindOf = (word) => (word.includes('|') ? word.split('|') : (kinds[word.toLowerCase()] ?? 'none'))

/** `target [snapshot ...]` -> the kinds of the operands in their order, and of those that follow the last, if any may. */
export function operandsOf(text) {
  const words = text
    .replaceAll('[...]', ' ...')
    .replaceAll(' | ', '|')
    .replace(/\[:\w+\]/g, ':')
    .split(/[\s[\]]+/)
    .filter(Boolean)
  const named = words.filter((word) => word !== '...').map(kindOf)
  // What follows another command is its own.
  const further = words.includes('command') ? 'none' : named.at(-1)
  return { kinds: named, further: words.includes('...') ? further : undefined }
}

/** The commands of the kedge that is built in the folder, by name, and the names of the guards. */
export function model(dist) {
  const load = createRequire(join(dist, 'kedge.cjs'))
  const { optionsOf } = load('./core.cjs').lib_cli
  const commands = readdirSync(join(dist, 'bin'))
    .sort()
    .map((file) => {
      const declared = load(`./bin/${file}`).default
      const options = Object.entries(optionsOf(declared)).map(([name, option]) => ({
        name,
        ...option,
        kind: option.value && kindOf(option.value),
      }))
      return { verb: basename(file, '.cjs'), summary: declared.summary, operands: operandsOf(declared.operands), options }
    })
  return { commands, guards: Object.keys(load('./runs.cjs').lib_guard.guards) }
}

/** The words for a kind that is a list of words; undefined where the shell has to look. */
export function wordsOf(kind, { commands, guards }) {
  if (Array.isArray(kind)) return kind
  if (kind === 'verbs') return commands.map(({ verb }) => verb)
  if (kind === 'guards') return guards
  return undefined
}

/** Words as the shells write them: -q, --quiet. */
export const flagsOf = ({ name, short }) => [...(short ? [`-${short}`] : []), `--${name}`]

/** Text in single quotes for bash, zsh and ksh. */
export const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`
