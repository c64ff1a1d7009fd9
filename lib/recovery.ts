// The recovery sheet: how to get a target's files back on a machine without kedge. A page for people which sh runs as well; what is in it
// is the engine's. Here is what the pages have in common. Pure.
import { join } from 'node:path'
import type { Target } from './contract.ts'
import { quote } from './shell.ts'

export type Sheet = {
  readonly target: Target
  readonly host: string
  readonly date: Date
  /** As 'restic 0.19.1'; undefined where it is not installed. */
  readonly tool: string | undefined
  /** All of the target's secrets, which then stand on the sheet; undefined: only how to get them. */
  readonly secrets: Readonly<Record<string, string>> | undefined
}

export const heading = '# kedge recovery sheet'
/** The target's own sheet, without secrets, which `new` writes into its folder. */
export const sheetFile = (dir: string): string => join(dir, 'recovery.txt')

/** The folder that the commands of a page put everything into. */
export const restoredTo = (target: Target): string => `restored-${target.name}`

/** Whose page it is, and what the target saves. `made`: how its tool has to do with the store. */
export function top({ target, host, date, tool }: Sheet, made: string): string[] {
  return [
    `${heading}: target '${target.name}' of host '${host}'`,
    `# Written ${date.toISOString().slice(0, 10)}${tool ? `; ${made} ${tool}` : ''}.`,
    '#',
    ...what(target),
    '#',
  ]
}

function what(target: Target): string[] {
  const lines = target.paths.map((path) => `#   ${shownText(path)}`)
  const streams = target.streams.map(({ name }) => `#   the stream ${shownText(name)}`)
  const second = lines.length + streams.length === 0 && target.env.SNAPSHOTS_OF
  const saved = second ? [`#   copies of the snapshots of ${shownText(second)}`] : [...lines, ...streams]
  const from = target.env.SOURCE_HOST ? ` of host '${shownText(target.env.SOURCE_HOST)}'` : ''
  return [`# What it saves${from}:`, ...saved, `# Its configuration lay in ${shownText(target.dir)}`]
}

/** In a comment a line feed would begin a command. */
export const shownText = (text: string): string => text.replace(/[\x00-\x1f\x7f]/g, '?')

export const quoted = (value: string): string => (value === '' ? "''" : quote(value))

export const exported = (values: Readonly<Record<string, string>>): string[] =>
  Object.entries(values).map(([key, value]) => `export ${key}=${quoted(value)}`)

/** The streams of a target, each written by what `give` says into a file of its name, or told as missing. */
export function streamLines(target: Target, give: (name: string) => string): string[] {
  const place = restoredTo(target)
  // One that was never saved must not end `sh -e` before the others, nor leave an empty file that looks like a dump.
  return target.streams.flatMap(({ name }) => {
    const [whole, part] = [quote(`${place}/${name}`), quote(`${place}/.${name}.part`)]
    return [
      `if ${give(name)} > ${part}`,
      `then mv ${part} ${whole}`,
      `else [ -s ${part} ] || rm -f ${part}`,
      `  echo ${quote(`missing: the stream ${shownText(name)}, or the end of it: a part would be in ${place}/.${shownText(name)}.part`)} >&2`,
      'fi',
    ]
  })
}
