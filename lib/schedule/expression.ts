// Cron expressions: what is wrong with one, and what it names. Pure but for the import of cron-parser at the point of use.
//
// Day of month and day of week, when neither is `*` or `?`, are joined by "or", as in every cron; unlike in Vixie's, `*/2` is not like `*`.
import { Failure } from '../failure.ts'

type Cron = Pick<typeof import('cron-parser'), 'CronExpressionParser'>
type Field = {
  readonly text: string
  readonly name: string
  /** How many values it can have. */
  readonly size: number
  /** The least and the greatest value that H draws. */
  readonly min: number
  readonly max: number
}
/** An expression taken apart, with H drawn. Numbers ascend; Sunday is 0. Without `dates` and `weekdays`: every day; with both: either. */
export type Fields = {
  readonly minutes: readonly number[]
  readonly hours: readonly number[]
  readonly months: readonly number[]
  /** `last`: the last day of the month as well. */
  readonly dates: { readonly values: readonly number[]; readonly last: boolean } | undefined
  /** `nth`: only the nth of the month, 0 for each; `last`: the last such days of the month as well. */
  readonly weekdays: { readonly values: readonly number[]; readonly nth: number; readonly last: readonly number[] } | undefined
}

const names: Readonly<Record<string, string>> = {
  '@hourly': '0 * * * *',
  '@daily': '0 0 * * *',
  '@weekly': '0 0 * * 0',
  '@monthly': '0 0 1 * *',
  '@yearly': '0 0 1 1 *',
}
// cron-parser's own H draws days up to 31, which some months lack, and Sunday twice as often, as 0 and as 7.
const parts: readonly Omit<Field, 'text'>[] = [
  { name: 'minute', size: 60, min: 0, max: 59 },
  { name: 'hour', size: 24, min: 0, max: 23 },
  { name: 'day of month', size: 31, min: 1, max: 28 },
  { name: 'month', size: 12, min: 1, max: 12 },
  { name: 'day of week', size: 7, min: 0, max: 6 },
]

function split(expression: string): readonly Field[] | string {
  const text = expression.trim()
  if (text === '') return 'it is empty'
  if (text.startsWith('@') && !Object.hasOwn(names, text)) return `unknown name '${text}': known are ${Object.keys(names).join(', ')}`
  const texts = (names[text] ?? text).split(/\s+/)
  if (texts.length === 6) return 'it has six fields: a schedule has no seconds, leave out the first field'
  const list = parts.map(({ name }) => name).join(', ')
  if (texts.length !== 5) return `it has ${texts.length} field${texts.length === 1 ? '' : 's'} and needs five: ${list}`
  return parts.map((part, index) => ({ ...part, text: texts[index] ?? '' }))
}

// THU and MARCH have an H too.
const hashed = ({ text }: Field) => text.replace(/[a-z]{3}/gi, '').includes('H')

// What cron-parser takes and silently turns into something else, or refuses with some seeds only.
function misread(field: Field): string | undefined {
  const { text, size, min, max } = field
  for (const [, step] of text.matchAll(/\/(\d+)/g)) if (Number(step) > size) return `the step ${step} is wider than the field`
  if (!hashed(field)) return undefined
  const match = /^H(?:\((\d+)-(\d+)\))?(?:\/\d+)?$/.exec(text)
  if (!match) return 'H stands alone, as H, H(1-5), H/2 or H(1-5)/2'
  const [, low, high] = match
  return low !== undefined && (Number(low) < min || Number(high) > max) ? `H draws from ${min} to ${max}` : undefined
}

/** `from`: milliseconds since 1970, where the search for days begins, in UTC. */
export function parse({ CronExpressionParser }: Cron, fields: readonly Field[], seed: string, from?: number) {
  const text = fields
    .map((field) => (hashed(field) ? field.text.replace(/^H(?!\()/, `H(${field.min}-${field.max})`) : field.text))
    .join(' ')
  // An empty hashSeed would mean a random one.
  return CronExpressionParser.parse(text, { tz: 'UTC', hashSeed: `kedge ${seed}`, ...(from === undefined ? {} : { currentDate: from }) })
}

function fault(cron: Cron, fields: readonly Field[], seed: string): string | undefined {
  try {
    parse(cron, fields, seed)
    return undefined
  } catch (error) {
    // It throws plain Errors, and only for the text that it was given.
    const text = error instanceof Error ? error.message : String(error)
    if (text.includes('day of month definition')) return 'it never comes due: none of its months has such a day'
    if (text.includes('NaN')) return 'not a number or a range of numbers'
    const reason = text.replace(/^(?:\w+ )?(?:Validation|Constraint) error, /, '')
    return reason.charAt(0).toLowerCase() + reason.slice(1)
  }
}

function wrong(cron: Cron, fields: readonly Field[]): string | undefined {
  for (const field of fields) {
    const alone = fields.map((other) => (other === field ? field : { ...other, text: '*' }))
    const text = misread(field) ?? fault(cron, alone, '')
    if (text !== undefined) return `${field.name} '${field.text}': ${text}`
  }
  // With H for the month it depends on the seed whether the month has the day: a hundred seeds draw every month.
  const seeds = fields.some((field) => field.name === 'month' && hashed(field)) ? 100 : 1
  for (let seed = 0; seed < seeds; seed++) {
    const text = fault(cron, fields, String(seed))
    if (text !== undefined) return seeds === 1 ? text : `for some targets ${text}`
  }
  return undefined
}

// Once a day, a week or a month, as nearly every schedule is: such a one is well, and cron-parser is not loaded to say so (20 ms of each
// start).
const plain = /^([0-5]?\d|H|\*) ([01]?\d|2[0-3]|H|\*|H\((\d)-(\d)\)) (\*|[1-9]|1\d|2[0-8]) \* (\*|[0-7])$/
function isPlain(expression: string): boolean {
  const [whole, , , low, high] = plain.exec(expression) ?? []
  return whole !== undefined && (low === undefined || low < (high ?? ''))
}

/** What is wrong with a cron expression, in words, or undefined. One that never comes due is wrong. */
export async function validate(expression: string): Promise<string | undefined> {
  if (isPlain(expression) || Object.hasOwn(names, expression)) return undefined
  const fields = split(expression)
  return typeof fields === 'string' ? fields : wrong(await import('cron-parser'), fields)
}

/** An expression that is right, for `parse`. Throws a config Failure for one that is wrong. */
export async function read(expression: string): Promise<{ cron: Cron; fields: readonly Field[] }> {
  const fields = split(expression)
  const cron = await import('cron-parser')
  const text = typeof fields === 'string' ? fields : wrong(cron, fields)
  if (typeof fields === 'string' || text !== undefined) throw new Failure('config', `cannot read schedule '${expression}': ${text}`)
  return { cron, fields }
}

/** What an expression names. Throws a config Failure for one that is wrong. */
export async function fieldsOf(expression: string, seed: string): Promise<Fields> {
  const { cron, fields } = await read(expression)
  const { minute, hour, month, dayOfMonth, dayOfWeek } = parse(cron, fields, seed).fields
  const numbers = (values: readonly (number | string)[]) => values.filter((value) => typeof value === 'number')
  // 7 is Sunday as well; 5L comes as that word.
  const weekdays = (values: readonly (number | string)[]) => [...new Set(values.map((value) => Number.parseInt(`${value}`, 10) % 7))].sort()
  const words = dayOfWeek.values.filter((value) => typeof value === 'string')
  return {
    minutes: minute.values,
    hours: hour.values,
    months: month.values,
    dates: dayOfMonth.isWildcard ? undefined : { values: numbers(dayOfMonth.values), last: dayOfMonth.hasLastChar },
    weekdays: dayOfWeek.isWildcard
      ? undefined
      : { values: weekdays(numbers(dayOfWeek.values)), nth: dayOfWeek.nthDay, last: weekdays(words) },
  }
}
