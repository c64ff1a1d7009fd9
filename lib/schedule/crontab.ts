// Cron expressions as lines of a classic crontab (Vixie's, OpenBSD's, busybox's), and kedge's block in a crontab. Pure.
//
// Only numbers, ranges and lists are written, and Sunday is 0: busybox gives up at 7, and reads neither L nor #. A `*` stands only for a
// whole field: Vixie's and OpenBSD's cron take a field that begins with it, `*/2` too, for "any" where day of month and day of week are
// joined, and take the whole line for one that follows the clock through changes of daylight time. Without it a line is made up for in a
// gap and is not run twice: so both kinds are due when kedge says. busybox knows nothing of such changes: it leaves out and runs twice.
import { Failure } from '../failure.ts'
import { type Fields, fieldsOf } from './expression.ts'

/**
 * The five fields for a schedule, or why there are none, as a sentence without a stop. `jitterSeconds`: how much later it is due; what the
 * fields cannot say of it is left in `waitSeconds`, for the command to sleep. `zone`: an IANA name, or `local`. Throws a config Failure for
 * a wrong expression.
 */
export async function crontabLine(
  expression: string,
  { zone, seed, jitterSeconds = 0 }: { zone: string; seed: string; jitterSeconds?: number },
): Promise<{ when: string; waitSeconds: number } | { refused: string }> {
  const fields = await fieldsOf(expression, seed)
  const why = sayable(fields, zone)
  if (why !== undefined) return { refused: `cron cannot keep '${expression}': ${why}; it runs under kedge scheduler` }
  const { months } = fields
  const { dates, weekdays } = joined(fields)
  const later = shifted(fields, Math.floor(jitterSeconds / 60), dates === undefined && weekdays === undefined && months.length === 12)
  const { minutes, hours } = later ?? fields
  const when = [
    // A line for every hour has its `*` there.
    minutes.length === 60 && hours.length === 24 ? '*' : list(minutes),
    hours.length === 24 ? '*' : list(hours),
    dates ? list(dates) : '*',
    months.length === 12 ? '*' : list(months),
    weekdays ? list(weekdays) : '*',
  ].join(' ')
  return { when, waitSeconds: later ? jitterSeconds % 60 : jitterSeconds }
}

function sayable({ dates, weekdays }: Fields, zone: string): string | undefined {
  if (dates?.last || (weekdays && weekdays.last.length > 0)) return "it does not know 'L'"
  if (weekdays && weekdays.nth > 0) return "it does not know '#'"
  const nameOf = (given: string) =>
    new Intl.DateTimeFormat('en-US', given === 'local' ? {} : { timeZone: given }).resolvedOptions().timeZone
  return nameOf(zone) === nameOf('local') ? undefined : `its lines are in this machine's time zone, not in ${zone}`
}

/** Days that are limited: with "or", a field that names every day limits nothing (busybox would take the other alone). */
function joined({ dates, weekdays }: Fields): { dates?: readonly number[]; weekdays?: readonly number[] } {
  const allDates = dates?.values.length === 31
  const allWeekdays = weekdays?.values.length === 7
  if (allDates || allWeekdays) return {}
  return { ...(dates && { dates: dates.values }), ...(weekdays && { weekdays: weekdays.values }) }
}

/** The times so many minutes later; undefined where that is no product of hours and minutes, or reaches into a day that may be another. */
function shifted(
  { minutes, hours }: Fields,
  by: number,
  daily: boolean,
): { minutes: readonly number[]; hours: readonly number[] } | undefined {
  const times = hours.flatMap((hour) => minutes.map((minute) => hour * 60 + minute + by))
  if (!daily && Math.max(...times) >= 24 * 60) return undefined
  const ascending = (values: readonly number[]) => [...new Set(values)].sort((a, b) => a - b)
  const found = { minutes: ascending(times.map((time) => time % 60)), hours: ascending(times.map((time) => Math.floor(time / 60) % 24)) }
  return found.minutes.length * found.hours.length === times.length ? found : undefined
}

function list(values: readonly number[]): string {
  const found: string[] = []
  for (let index = 0; index < values.length; ) {
    const first = values[index] ?? 0
    let end = index
    while (values[end + 1] === first + end + 1 - index) end++
    found.push(end === index ? `${first}` : `${first}-${values[end]}`)
    index = end + 1
  }
  return found.join()
}

// The block

const bare = ', after a line without an end'
const isEnd = (line: string) => line === '# kedge: end'
const isBegin = (line: string) => /^# kedge: begin(?: |$)/.test(line)

type Block = { readonly before: string; readonly lines: readonly string[]; readonly after: string; readonly bare: boolean }

/**
 * A crontab with a block of lines in it: in the place of the block with this mark, or at the end. No lines: no block. All else stays as it
 * is, byte by byte (in a string that holds a byte a letter). Throws a config Failure where marks are damaged.
 */
export function withBlock(text: string, lines: readonly string[], mark = 'schedule'): string {
  for (const line of lines) if (/[\n\0]/.test(line)) throw new Error(`not one line: ${JSON.stringify(line)}`)
  if (lines.length === 0) return withoutBlock(text, mark)
  const found = parts(text, mark)
  const open = found ? found.bare : text !== '' && !text.endsWith('\n')
  const block = [`# kedge: begin ${mark}${open ? bare : ''}`, ...lines, '# kedge: end', ''].join('\n')
  return found ? `${found.before}${block}${found.after}` : `${text}${open ? '\n' : ''}${block}`
}

/** The crontab without the block: what it was before. Throws a config Failure where marks are damaged. */
export function withoutBlock(text: string, mark = 'schedule'): string {
  const found = parts(text, mark)
  if (!found) return text
  // The line feed was the block's, as long as nothing has come after it.
  const before = found.bare && found.after === '' ? found.before.replace(/\n$/, '') : found.before
  return before + found.after
}

/** The lines of the block; none where there is no block. Throws a config Failure where marks are damaged. */
export function blockOf(text: string, mark = 'schedule'): readonly string[] {
  return parts(text, mark)?.lines ?? []
}

function parts(text: string, mark: string): Block | undefined {
  const damaged = (line: number, why: string) =>
    new Failure('config', `cannot read kedge's block in the crontab: line ${line}: ${why}`, {
      hint: 'put the marks in order, or delete the block, with crontab -e',
    })
  let found: Block | undefined
  let open: { line: number; own: boolean; bare: boolean; at: number; inner: number } | undefined
  let at = 0
  let number = 0
  for (const whole of text.split(/(?<=\n)/)) {
    number++
    const line = whole.replace(/\r?\n?$/, '')
    if (isBegin(line)) {
      if (open) throw damaged(number, `'${line}' before the end of the block that begins in line ${open.line}`)
      const name = line.slice('# kedge: begin '.length)
      const own = name === mark || name === mark + bare
      if (own && found) throw damaged(number, `'${line}' a second time`)
      open = { line: number, own, bare: name === mark + bare, at, inner: at + whole.length }
    } else if (isEnd(line)) {
      if (!open) throw damaged(number, `'${line}' without a beginning`)
      if (open.own) {
        const lines = text.slice(open.inner, at).split('\n').slice(0, -1)
        found = { before: text.slice(0, open.at), lines, after: text.slice(at + whole.length), bare: open.bare }
      }
      open = undefined
    }
    at += whole.length
  }
  if (open) throw damaged(open.line, 'a block begins and has no end')
  return found
}
