// The rules of the interface: the only file that reads argv, writes stdout and sets the exit status. It knows no target.
//   stdout is data: aligned columns on a terminal, tab-separated without a header in a pipe, one JSON object a line with
//   --json, the first column alone with -q. stderr is talk. A failure is one line on stderr, and a status.
//   Reading commands end quietly when their reader goes away; changing ones finish their work first.
import minimist from 'minimist'
import type { Context, Rows } from './contract.ts'
import { Cancelled, exitStatuses, expected, Failure, statusFor, worst } from './failure.ts'
import { parseDuration, parseSize } from './format.ts'
import { clearProgress, drawProgress, isTerminal, say } from './log.ts'
import { nearest } from './nearest.ts'
import { createPrinter } from './printer.ts'
import type { Columns, Row } from './rows.ts'

/** `bare` is the value of --name without `=`; without `bare` a value option always takes the next word. */
export type Option = {
  readonly help: string
  readonly short?: string
  readonly value?: string
  readonly as?: 'count' | 'bytes' | 'seconds'
  readonly many?: true
  readonly bare?: string
}
export type Options = Readonly<Record<string, Option>>
type Value<O extends Option> = O extends { value: string }
  ? O extends { many: true }
    ? readonly string[]
    : (O extends { as: string } ? number : string) | undefined
  : boolean
type Values<O extends Options> = { readonly [K in keyof O]: Value<O[K]> }
export type Command<O extends Options = Options> = {
  readonly summary: string
  /** As in a usage line: `target [snapshot ...]`. */
  readonly operands: string
  /** What follows the first operand is another command's: no option in it is this one's. */
  readonly verbatim?: true
  readonly options: O
  readonly columns: Columns
  /** It changes something: it takes --dry-run, and finishes. */
  readonly changes?: true
  /** SIGHUP makes it read its files again, and ends nothing: Context.onSignal. */
  readonly reloads?: true
  /** A closed pipe ends the printing, not the work. */
  readonly finishes?: true
  /** It runs under the target's lock and guards: it takes --wait and --force. */
  readonly locks?: true
  /** It opens the target's secrets: it takes --passphrase-fd. */
  readonly opens?: true
}
export type Call<O extends Options> = { options: Values<O>; operands: readonly string[]; context: Context }
/** Yields rows; what it returns is the status, 0 when nothing. */
export type Body<O extends Options> = (call: Call<O>) => AsyncGenerator<Rows, number | undefined>
export type Declared<O extends Options = Options> = Command<O> & { readonly body: Body<O> }

export function command<const O extends Options>(declared: Command<O>, body: Body<O>): Declared<O> {
  return { ...declared, body }
}

const always = {
  json: { help: 'print one JSON object a line' },
  quiet: { short: 'q', help: 'print the first column only, and no notices' },
  verbose: { short: 'v', help: 'say more on stderr' },
  explain: { help: 'print what it does as plain sh commands, and do nothing' },
  help: { short: 'h', help: 'print this' },
} as const satisfies Options
const changing = { 'dry-run': { short: 'n', help: 'show what would be done, and change nothing' } } as const satisfies Options
const locking = {
  wait: { value: 'DURATION', as: 'seconds', help: 'wait so long for the lock (30s, 10m, 2h)' },
  force: { value: 'GUARD', many: true, help: 'override the guard of this name; the record says so' },
} as const satisfies Options
const opening = {
  'passphrase-fd': { value: 'N', as: 'count', help: 'read the passphrase of secret.env.gpg from this descriptor' },
} as const satisfies Options

/** All options of a command, its own first. */
export function optionsOf(declared: Command): Options {
  return {
    ...declared.options,
    ...(declared.changes && changing),
    ...(declared.locks && locking),
    ...(declared.opens && opening),
    ...always,
  }
}

export function usage(name: string, declared: Command): string {
  const rows = Object.entries(optionsOf(declared)).map(([key, option]) => {
    const value = option.value ? (option.bare === undefined ? ` ${option.value}` : `[=${option.value}]`) : ''
    return [`${option.short ? `-${option.short}, ` : '    '}--${key}${value}`, option.help + (option.many ? ' (repeatable)' : '')] as const
  })
  const width = Math.max(...rows.map(([left]) => left.length))
  const line = (left: string, right: string) => `  ${left.padEnd(width)}  ${right}\n`
  return (
    `usage: kedge ${name} [options]${declared.operands ? ` ${declared.operands}` : ''}\n\n${declared.summary}\n\noptions:\n` +
    rows.map(([left, right]) => line(left, right)).join('') +
    `\nexit statuses:\n${exitStatuses.map(([status, meaning]) => `  ${String(status).padEnd(6)} ${meaning}\n`).join('')}`
  )
}

type Parsed = { options: Record<string, unknown>; operands: string[] }

// minimist guesses (numbers, --no-x, dots in names, missing values): this gate turns argv into tokens that leave it nothing to guess.
export function parse(name: string, declared: Command, argv: readonly string[]): Parsed {
  const known = optionsOf(declared)
  const misuse = (message: string, hint?: string) => new Failure('misuse', message, { hint: hint ?? `kedge ${name} --help` })
  const find = (written: string, key: string | undefined): [string, Option] => {
    const option = key === undefined || !Object.hasOwn(known, key) ? undefined : known[key]
    if (key !== undefined && option) return [key, option]
    const like = written.startsWith('--') ? nearest(written.slice(2), Object.keys(known)) : undefined
    throw misuse(`unknown option '${written}'`, like && `did you mean --${like}?`)
  }
  const tokens: string[] = []
  const operands: string[] = []
  const seen = new Set<string>()
  const add = (written: string, key: string, option: Option, value: string | undefined, next: () => string | undefined) => {
    if (seen.has(key) && !option.many) throw misuse(`option '${written}' is given twice`)
    seen.add(key)
    if (!option.value) {
      if (value !== undefined) throw misuse(`option '${written}' takes no value: '${value}'`)
      tokens.push(`--${key}`)
      return
    }
    const given = value ?? (option.bare !== undefined ? option.bare : next())
    if (given === undefined) throw misuse(`option '${written}' needs a value: ${option.value}`)
    tokens.push(`--${key}=${given}`)
  }
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] ?? ''
    const next = () => {
      const value = argv[i + 1]
      if (value === undefined || (value.startsWith('-') && value.length > 1)) return undefined
      i++
      return value
    }
    if (word === '--') {
      operands.push(...argv.slice(i + 1))
      break
    }
    if (declared.verbatim && (word === '-' || !word.startsWith('-'))) {
      const rest = argv.slice(i + 1)
      operands.push(word, ...(rest[0] === '--' ? rest.slice(1) : rest))
      break
    }
    if (word.startsWith('--')) {
      const at = word.indexOf('=')
      const written = at < 0 ? word : word.slice(0, at)
      const [key, option] = find(written, written.slice(2))
      add(written, key, option, at < 0 ? undefined : word.slice(at + 1), next)
    } else if (word.startsWith('-') && word.length > 1) {
      for (let j = 1; j < word.length; j++) {
        const letter = word[j]
        const [key, option] = find(
          `-${letter}`,
          Object.keys(known).find((each) => known[each]?.short === letter),
        )
        const attached = option.value && j + 1 < word.length ? word.slice(j + 1) : undefined
        add(`-${letter}`, key, option, attached, next)
        if (attached !== undefined) break
      }
    } else operands.push(word)
  }
  if (seen.has('help')) return { options: { help: true }, operands }
  const names = Object.keys(known)
  const values = minimist(tokens, {
    string: names.filter((key) => known[key]?.value),
    boolean: names.filter((key) => !known[key]?.value),
  })
  const options: Record<string, unknown> = {}
  for (const [key, option] of Object.entries(known)) options[key] = convert(key, option, values[key], misuse)
  arity(declared.operands, operands, misuse)
  return { options, operands }
}

const forms = { count: 'a whole number', bytes: 'a size such as 500M', seconds: 'a duration such as 90s, 10m, 30d' }

function convert(key: string, option: Option, value: unknown, misuse: (message: string) => Failure): unknown {
  if (!option.value) return value === true
  if (option.many) return value === undefined ? [] : [value].flat()
  if (value === undefined || !option.as) return value
  const text = String(value)
  const number =
    option.as === 'count' ? (/^\d+$/.test(text) ? Number(text) : undefined) : option.as === 'bytes' ? parseSize(text) : parseDuration(text)
  if (number === undefined) throw misuse(`option '--${key}' takes ${forms[option.as]}: '${text}'`)
  return number
}

function arity(declared: string, operands: readonly string[], misuse: (message: string) => Failure): void {
  const split = (text: string) => text.split(' ').filter((word) => word && word !== '...')
  const least = split(declared.replace(/\[.*\]/, '')).length
  const words = split(declared.replace(/[[\]]/g, ''))
  const most = declared.includes('...') ? Number.POSITIVE_INFINITY : words.length
  if (operands.length < least) throw misuse(`operand missing: ${words[operands.length]}`)
  if (operands.length > most) throw misuse(`too many operands: '${operands[most]}'`)
}

/** The status of an error, after it was said. */
function report(thrown: unknown, options: { json: boolean; prefix?: string }): number {
  const error = expected(thrown)
  const status = statusFor(error)
  const foreseen = error instanceof Failure || error instanceof Cancelled
  const text = foreseen ? error.message : `this is a bug in kedge\n${error instanceof Error ? error.stack : String(error)}`
  const message = options.prefix ? `${options.prefix}: ${text}` : text
  const hint = error instanceof Failure ? error.hint : undefined
  const kind = error instanceof Failure ? error.class : error instanceof Cancelled ? 'cancelled' : 'bug'
  if (options.json) say(JSON.stringify({ error: { status, class: kind, message, hint } }))
  else say(`kedge: ${message}${hint ? `\n  hint: ${hint}` : ''}`)
  return status
}

/** Runs one command to its end and exits the process. */
export async function execute(name: string, declared: Declared, argv: readonly string[]): Promise<never> {
  const wantsJson = argv.includes('--json')
  let parsed: Parsed
  try {
    parsed = parse(name, declared, argv)
  } catch (error) {
    process.exit(report(error, { json: wantsJson }))
  }
  const { options, operands } = parsed
  const printer = createPrinter(declared.columns, { json: options.json === true, quiet: options.quiet === true })
  if (options.help) {
    printer.text(usage(name, declared))
    printer.flush()
    process.exit(printer.trouble ? 1 : 0)
  }
  const controller = new AbortController()
  let hear: (signal: NodeJS.Signals) => void = () => undefined
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => {
      hear(signal)
      if (signal !== 'SIGHUP' || !declared.reloads) controller.abort(new Cancelled(signal))
    })
  const talk = { json: options.json === true }
  const context: Context = {
    signal: controller.signal,
    log: (message) => say(message, { quiet: options.quiet === true }),
    detail: (message) => say(message, { quiet: !options.verbose }),
    progress: (progress) => {
      if (!options.quiet) drawProgress(progress)
    },
    report: (error, prefix) => report(error, { ...talk, ...(prefix && { prefix }) }),
    mode: options.explain ? 'explain' : options['dry-run'] ? 'dry-run' : 'act',
    forced: new Set(Array.isArray(options.force) ? (options.force as string[]) : []), // unlock has a --force of its own
    wait: (options.wait as number | undefined) ?? 0,
    ask: isTerminal(2)
      ? async (question, how) => (await import('./terminal.ts')).ask(question, { ...how, signal: controller.signal })
      : undefined,
    passphraseFd: options['passphrase-fd'] as number | undefined,
    onSignal: (act) => {
      hear = act
    },
    unread: () => printer.closed,
    output: 1,
  }
  const closedPipe = new Error('closed pipe')
  let status = 0
  const rows = declared.body({ options: options as Values<Options>, operands, context })
  try {
    for (;;) {
      const { done, value } = await rows.next()
      if (done) {
        status = value ?? 0
        break
      }
      clearProgress()
      for (const row of Array.isArray(value) ? (value as readonly Row[]) : [value as Row]) {
        const settling = printer.row(row)
        if (settling) await settling
      }
      if (printer.closed && !declared.changes && !declared.finishes) {
        controller.abort(closedPipe)
        await rows.return(0)
        break
      }
    }
  } catch (error) {
    if (error !== closedPipe) status = report(error, talk)
  } finally {
    clearProgress()
  }
  await printer.end()
  if (printer.trouble) {
    const kind = (printer.trouble as NodeJS.ErrnoException).code === 'ENOSPC' ? 'space' : 'tool'
    status = worst([status, report(new Failure(kind, `cannot write the output: ${printer.trouble.message}`), talk)])
  }
  process.exit(status)
}
