// Rows to stdout: a table on a terminal, tab-separated lines in a pipe, JSON lines. Belongs to cli.ts.
import { writeSync } from 'node:fs'
import { align, field, harmless, plain, pretty } from './format.ts'
import { isTerminal } from './log.ts'
import type { Columns, Kind, Row } from './rows.ts'

export type Printer = {
  /** Nobody reads any more: the reader went away, or the output could not be written. */
  readonly closed: boolean
  /** Why it could not be written, where that is more than a reader who went away. */
  readonly trouble: Error | undefined
  row: (row: Row) => Promise<void> | void
  text: (text: string) => void
  flush: () => void
  end: () => Promise<void>
}

const settleRows = 200
const settleMs = 100
const buffered = 16_384 // more would live through collections of garbage, for which V8 makes its heap larger

export function createPrinter(columns: Columns, options: { json: boolean; quiet: boolean }): Printer {
  // Asked with the first row: usage needs no answer, which on a terminal costs a seventh of a start.
  let known: boolean | undefined
  const terminal = () => {
    known ??= isTerminal(1)
    return known
  }
  const table = () => !options.json && !options.quiet && terminal()
  let pending = ''
  let closed = false
  let trouble: Error | undefined
  let timer: NodeJS.Timeout | undefined
  const flush = () => {
    clearTimeout(timer)
    timer = undefined
    const text = pending
    pending = ''
    if (closed || !text) return
    try {
      closed = !writeAll(text)
    } catch (error) {
      // Met in a timer too, where nobody could catch it: told at the end.
      closed = true
      trouble = error as Error
    }
  }
  const text = (more: string) => {
    pending += more
    if (pending.length > buffered) flush()
    else timer ??= setTimeout(flush, 50)
  }
  const tables = createTables(columns, text)
  // JSON itself leaves no control characters but these, and \xNN is none of its escapes.
  const tame = (out: string) =>
    options.json ? out.replace(/[\x7f-\x9f]/g, (c) => `\\u00${c.charCodeAt(0).toString(16)}`) : out.split('\n').map(harmless).join('\n')
  const line = (row: Row): string | undefined => {
    if (options.json) return JSON.stringify(row)
    if (row.kind === 'text') return row.text
    if (row.kind === 'command') return row.command
    const names = columns[row.kind] as readonly string[] | undefined
    const values = row as unknown as Record<string, unknown>
    if (!names) return undefined
    return options.quiet ? field(plain(values[names[0] ?? ''])) : names.map((name) => field(plain(values[name]))).join('\t')
  }
  return {
    get closed() {
      return closed
    },
    get trouble() {
      return trouble
    },
    row(row) {
      if (closed) return undefined
      if (columns[row.kind] && table()) return tables.row(row)
      const out = line(row)
      if (out !== undefined) text(`${terminal() ? tame(out) : out}\n`)
      return undefined
    },
    text,
    flush,
    async end() {
      await tables.end()
      flush()
    },
  }
}

/** False when the reader went away. stdout may be a full non-blocking pipe: wait and go on, so that no byte is lost. */
function writeAll(text: string): boolean {
  let rest = Buffer.from(text)
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(1, rest))
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'EPIPE') return false
      if (code !== 'EAGAIN') throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
    }
  }
  return true
}

// Widths settle on the first rows of a kind, then rows stream.
function createTables(columns: Columns, text: (text: string) => void) {
  let kind: Kind | undefined
  let names: readonly string[] = []
  let waiting: { cells: string[]; right: boolean[] }[] = []
  let widths: number[] | undefined
  let since = 0
  const print = async (cells: string[], right: boolean[], header = false) => {
    const paint = await painter()
    const padded = align(cells, widths ?? [], right)
    text(`${(header ? padded.map(paint.head) : padded.map((cell, i) => paint.cell(names[i] ?? '', cells[i] ?? '', cell))).join('  ')}\n`)
  }
  const settle = async () => {
    if (widths || waiting.length === 0) return
    const header = names.map((name) => name.replace(/[A-Z]/g, (c) => ` ${c}`).toUpperCase())
    widths = names.map((_, i) => Math.max(header[i]?.length ?? 0, ...waiting.map(({ cells }) => cells[i]?.length ?? 0)))
    await print(header, waiting[0]?.right ?? [], true)
    for (const { cells, right } of waiting) await print(cells, right)
    waiting = []
  }
  return {
    async row(row: Row) {
      if (row.kind !== kind) {
        await settle()
        if (kind) text('\n')
        kind = row.kind
        names = (columns[kind] ?? []) as readonly string[]
        widths = undefined
        since = Date.now()
      }
      const values = row as unknown as Record<string, unknown>
      const cells = names.map((name) => harmless(pretty(name, values[name]).replaceAll('\n', ' ')))
      const right = names.map((name) => typeof values[name] === 'number')
      if (widths) return print(cells, right)
      waiting.push({ cells, right })
      if (waiting.length >= settleRows || Date.now() - since > settleMs) await settle()
    },
    end: settle,
  }
}

const coloured = new Set(['state', 'level', 'action', 'change', 'structure', 'alive'])
const good = new Set(['ok', 'success', 'keep', 'yes', '+'])
const bad = new Set(['failed', 'blocked', 'crashed', 'stale', 'delete', 'never', '-'])

type Painter = { head: (text: string) => string; cell: (name: string, word: string, padded: string) => string }
let painting: Promise<Painter> | undefined
function painter(): Promise<Painter> {
  painting ??= (async () => {
    const { noColour } = await import('./env.ts')
    if (noColour()) return { head: (text) => text, cell: (_name, _word, padded) => padded }
    const { Chalk } = await import('chalk')
    const chalk = new Chalk({ level: 1 })
    const cell: Painter['cell'] = (name, word, padded) =>
      !coloured.has(name) ? padded : good.has(word) ? chalk.green(padded) : bad.has(word) ? chalk.red(padded) : chalk.yellow(padded)
    return { head: (text) => chalk.bold(text), cell }
  })()
  return painting
}
