// What the commands of a fleet print, line by line with the target's name: pure but for the reading.

import type { Outcome } from '../rows/house.ts'
import type { Row } from '../rows.ts'

/** How lines are told apart: by `NAME: ` for people, `NAME`, tab for programs, rows for --json, not at all with -q. */
export type Form = 'people' | 'programs' | 'json' | 'bare'

/** A line of a command's stdout as a row. */
export function outputRow(target: string, line: string, form: Form): Row {
  if (form === 'json') return (withTarget(line, target) as Row | undefined) ?? { kind: 'output', target, line }
  return { kind: 'text', text: form === 'bare' ? line : `${target}${form === 'people' ? ': ' : '\t'}${line}` }
}

/** A line of a command's stderr: an object of --json gets the target's name, all else has it in front. */
export function errorLine(target: string, line: string, form: Form): string {
  const object = form === 'json' ? withTarget(line, target) : undefined
  return object ? JSON.stringify(object) : `${target}: ${line}`
}

/** The JSON object in a line, with the target's name where it has none; undefined where it is no object. */
function withTarget(line: string, target: string): object | undefined {
  if (!line.startsWith('{')) return undefined
  try {
    const object = JSON.parse(line) as object
    return 'target' in object ? object : { ...object, target }
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

/** Why a command failed, from the end of its stderr: kedge's own message (a line, or an object with --json), or the last line. */
export function lastWords(stderr: string): string {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('  hint: '))
  const own = lines.findLast((line) => line.startsWith('kedge: '))?.slice('kedge: '.length)
  const line = own ?? lines.at(-1) ?? ''
  return (jsonMessage(line) ?? line).trim().slice(0, 300)
}

function jsonMessage(line: string): string | undefined {
  const object = withTarget(line, '') as { error?: { message?: unknown } } | undefined
  const message = object?.error?.message
  return typeof message === 'string' ? message : undefined
}

/** The worst first, then by name. `worse` says which of two statuses stands for both. */
export function byGravity(outcomes: readonly Outcome[], worse: (statuses: readonly number[]) => number): Outcome[] {
  return [...outcomes].sort((a, b) => {
    const [one, other] = [worse([a.status, b.status]), worse([b.status, a.status])]
    if (a.status === b.status || one !== other) return a.target < b.target ? -1 : 1
    return one === a.status ? -1 : 1
  })
}

const longest = 1 << 20

/** The same bytes, with a line feed put in where a line is longer than a MiB: whoever reads lines keeps the whole of one. */
export async function* bounded(stream: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let line = 0
  for await (const chunk of stream) {
    const end = chunk.lastIndexOf(10)
    line = end < 0 ? line + chunk.length : chunk.length - end - 1
    yield chunk
    if (line <= longest) continue
    yield Buffer.from('\n')
    line = 0
  }
}
