// The caller's crontab: kedge's lines stand in a marked block, and every byte outside of it stays. One that cannot be read is never
// replaced.
import { start } from '../child.ts'
import type { Context, Rows } from '../contract.ts'
import { callerEnv } from '../env.ts'
import { findInPath } from '../executable.ts'
import { Failure } from '../failure.ts'
import type { FileRow } from '../rows/house.ts'
import type { CommandLine, Text } from '../rows.ts'
import { blockOf, crontabLine, withBlock } from '../schedule/crontab.ts'
import { quote, shown } from '../shell.ts'
import type { House, Wanted } from './wanted.ts'

/** How kedge is started: its command, and the variables that cron does not set. */
export type How = { readonly command: readonly string[]; readonly env: Readonly<Record<string, string>> }

type Runs = { readonly status: number; readonly bytes: Buffer; readonly stderr: string }

// cron knows no character set: the text is handled byte by byte (latin1), and only kedge's own lines are UTF-8.
const toText = (bytes: Buffer) => bytes.toString('latin1')
const toBytes = (text: string) => Buffer.from(text, 'latin1')
const asBytes = (line: string) => Buffer.from(line, 'utf8').toString('latin1')

async function crontab(args: readonly string[], { signal }: Pick<Context, 'signal'>, input?: Buffer): Promise<Runs> {
  const child = start(['crontab', ...args], {
    env: { ...callerEnv(), LC_ALL: 'C' },
    signal,
    timeout: 60,
    stdin: input ? 'pipe' : 'ignore',
  })
  child.stdin?.end(input)
  const chunks: Buffer[] = []
  for await (const chunk of child.stdout ?? []) chunks.push(chunk as Buffer)
  const { status, stderr } = await child.done
  return { status, stderr, bytes: Buffer.concat(chunks) }
}

/** The crontab, a letter a byte; empty where there is none. Failure `tool` for any other trouble. */
export async function readCrontab(context: Pick<Context, 'signal'>): Promise<string> {
  const { status, bytes, stderr } = await crontab(['-l'], context)
  if (status === 0) return toText(bytes)
  // The second are busybox's words.
  if (status === 1 && bytes.length === 0 && /no crontab for|can't open '[^']*': No such file or directory/.test(stderr)) return ''
  const said = stderr.trim().split('\n').pop() || `it ended with ${status}`
  throw new Failure('tool', `cannot read the crontab: ${said}`, { hint: 'it is left as it is' })
}

async function writeCrontab(text: string, context: Context): Promise<void> {
  const { status, stderr } = text === '' ? await crontab(['-r'], context) : await crontab(['-'], context, toBytes(text))
  if (status !== 0)
    throw new Failure('tool', `cannot write the crontab: ${stderr.trim().split('\n').pop() || `crontab ended with ${status}`}`)
  if ((await readCrontab(context)) !== text) throw new Failure('tool', 'cannot write the crontab: it does not read back as it was written')
}

/**
 * One line for a verb. `%` would be a line end for cron, and PATH is set for this line alone: those outside of the block have their own.
 * Failure `config` for a line feed, which a crontab cannot say.
 */
export function lineFor(
  { command, target, verb }: Pick<Wanted, 'command' | 'target' | 'verb'>,
  when: string,
  waitSeconds: number,
  how: How,
): string {
  const settings = Object.entries(how.env).map(([key, value]) => ` ${key}=${quote(value)}`)
  const setting = settings.length > 0 ? `export${settings.join('')}; ` : ''
  // What has told of itself is not told of again. A digest is no run.
  const told = target === '-' ? '' : ` || ${shown([...how.command, 'notify', 'missed', '-q', verb, target])} >/dev/null`
  const run = `${setting}${shown([...how.command, ...command])} >/dev/null${told}`
  if (run.includes('\n')) throw new Failure('config', `cannot write ${JSON.stringify(run)} into a crontab: it holds a line feed`)
  return `${when} ${waitSeconds > 0 ? `sleep ${waitSeconds}; ` : ''}${run}`.replaceAll('%', '\\%')
}

/** What a line starts, as `backup web1`; undefined where it is none of kedge's. Pure. */
const whatIn = (line: string): string | undefined => {
  const [, verb, name, digest] =
    /kedge(?:\.cjs)?'? (?:(\w+) --wait=\w+ ([\w.-]+)|(notify digest(?: [\w.-]+)*)) >\/dev\/null(?: \|\| .*)?$/.exec(line) ?? []
  return digest ?? (verb && name && `${verb} ${name}`)
}

/** The file that a line starts kedge by: its command, or the program that node is to run; undefined for one in odd quotes. Pure. */
const programIn = (line: string): string | undefined => {
  const [, quoted, bare] = /(?:'(\/[^']*kedge(?:\.cjs)?)'|(\/\S*kedge(?:\.cjs)?)) (?:\w+ --wait=|notify digest)/.exec(line) ?? []
  // As the shell will see it: cron takes the backslash from before a percent sign.
  return (quoted ?? bare)?.replaceAll('\\%', '%')
}

/** What the block's lines start, and the files by which those would that are `gone`. */
export function startedBy(text: string, isThere: (file: string) => boolean): { started: Set<string>; gone: Set<string> } {
  const started = new Set<string>()
  const gone = new Set<string>()
  for (const line of blockOf(text)) {
    const [what, program] = [whatIn(line), programIn(line)]
    if (what === undefined) continue
    if (program === undefined || isThere(program)) started.add(what)
    else gone.add(program)
  }
  return { started, gone }
}

type Line = { readonly what: string; readonly line: string }
const linesOf = (text: string): Line[] => blockOf(text).map((line) => ({ line, what: whatIn(line) ?? '' }))
const nameIn = ({ what }: Line): string => (what.startsWith('notify') ? '-' : (what.split(' ')[1] ?? ''))

export type Outcome = { readonly started: readonly Wanted[]; readonly refused: boolean }

/** Writes the lines of a house, in place of those that its targets had. `whole`: all targets are meant. */
export async function* installCrontab(house: House, whole: boolean, how: How, context: Context): AsyncGenerator<Rows, Outcome> {
  const lines: Line[] = []
  const started: Wanted[] = []
  let refused = false
  for (const wanted of house.wanted) {
    const { expression, zone, seed, offsetSeconds } = wanted.schedule
    const said = await crontabLine(expression, { zone, seed, jitterSeconds: offsetSeconds })
    if ('refused' in said) {
      refused = true
      context.log(`warning: ${wanted.target === '-' ? '' : `${wanted.target}: `}${wanted.verb}: ${said.refused}`)
      continue
    }
    started.push(wanted)
    lines.push({ what: wanted.what, line: asBytes(lineFor(wanted, said.when, said.waitSeconds, how)) })
  }
  const text = await readCrontab(context)
  const named = new Set(house.targets.map(({ name }) => name))
  const stays = (name: string) => {
    if (!whole) return !named.has(name)
    // Who asks for a digest is not known of a target that does not load.
    return name === '-' ? house.broken.size > 0 && !lines.some((line) => nameIn(line) === '-') : house.broken.has(name)
  }
  const kept = linesOf(text).filter((line) => stays(nameIn(line)))
  const all = [...kept, ...lines].sort((a, b) => (nameIn(a) < nameIn(b) ? -1 : nameIn(a) > nameIn(b) ? 1 : 0))
  yield* put(
    text,
    all.map(({ line }) => line),
    context,
  )
  return { started, refused }
}

/** Takes lines away: those of these targets, or all. Nothing where there is no crontab(1), or no block. */
export async function* removeCrontab(names: readonly string[], context: Context): AsyncGenerator<FileRow | Text | CommandLine> {
  yield* without((line) => names.length === 0 || names.includes(nameIn(line)), context)
}

/** Takes away the lines for what something else starts now. */
export async function* leaveTo(started: readonly Wanted[], context: Context): AsyncGenerator<FileRow | Text | CommandLine> {
  const now = new Set(started.map(({ what }) => what))
  yield* without(({ what }) => now.has(what), context)
}

async function* without(gone: (line: Line) => boolean, context: Context): AsyncGenerator<FileRow | Text | CommandLine> {
  if (!findInPath('crontab')) return
  const text = await readCrontab(context)
  const kept = linesOf(text).filter((line) => !gone(line))
  if (kept.length < linesOf(text).length)
    yield* put(
      text,
      kept.map(({ line }) => line),
      context,
    )
}

async function* put(text: string, lines: readonly string[], context: Context): AsyncGenerator<FileRow | Text | CommandLine> {
  const wanted = withBlock(text, lines)
  const row = (action: FileRow['action']): FileRow => ({ kind: 'file', target: '-', path: 'crontab', action })
  const gone = wanted === ''
  const shown = toBytes(wanted).toString('utf8')
  if (wanted === text) {
    if (context.mode !== 'explain') yield row('unchanged')
  } else if (context.mode === 'explain') yield { kind: 'command', command: gone ? 'crontab -r' : `crontab - <<'END'\n${shown}END` }
  else if (context.mode === 'dry-run') {
    yield row(gone ? 'would remove' : 'would write')
    if (!gone) yield { kind: 'text', text: shown }
  } else {
    await writeCrontab(wanted, context)
    yield row(gone ? 'removed' : 'written')
  }
}
