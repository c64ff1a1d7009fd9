// The rules that KEEP_* settings ask for. Pure.
import type { Calendar, Span } from './zone.ts'

export const periods = ['hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const satisfies readonly (keyof Calendar)[]
export type Period = (typeof periods)[number]
/** A duration, and how the setting spells it. */
type Within = Span & { readonly text: string }
type Spans = Partial<Record<'all' | Period, Within>>
export type Rules = {
  /** How many to keep of each; Infinity keeps all, 0 is off. */
  readonly counts: Readonly<Record<'last' | Period, number>>
  readonly within: Readonly<Spans>
  /** A snapshot with any of these is kept. */
  readonly tags: readonly string[]
  readonly min: number
}

/**
 * The rules that KEEP_* settings ask for. An empty value or 0 switches a rule off, so that a target can take back a default.
 * KEEP_TAGS is a comma-separated list; each tag keeps by itself, as with several --keep-tag. `manual`: the rules of what is made by hand.
 * All faults are returned at once.
 */
export function parseKeep(env: Readonly<Record<string, string>>): {
  rules: Rules
  manual: Rules
  faults: { key: string; message: string }[]
} {
  const faults: { key: string; message: string }[] = []
  const number = (key: string, unlimited: boolean, absent = 0): number => {
    const value = env[key]?.trim()
    if (value === undefined) return absent
    if (unlimited && value === 'unlimited') return Infinity
    if (/^\d*$/.test(value)) return Number(value)
    faults.push({ key, message: `'${value}' is not a whole number${unlimited ? " or 'unlimited'" : ''}` })
    return absent
  }
  const counts = { last: number('KEEP_LAST', true), hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 }
  const within: Spans = {}
  const span = (name: 'all' | Period, key: string, within: Spans) => {
    const text = env[key]?.trim() ?? ''
    const found = /^(?:(\d+)y)?(?:(\d+)m)?(?:(\d+)d)?(?:(\d+)h)?$/.exec(text === '0' ? '' : text)
    if (!found) faults.push({ key, message: `'${text}' is not a duration such as 1y5m7d2h` })
    const [years = 0, months = 0, days = 0, hours = 0] = found?.slice(1).map((part) => Number(part ?? 0)) ?? []
    if (years + months + days + hours > 0) within[name] = { text, months: years * 12 + months, days, hours }
  }
  span('all', 'KEEP_WITHIN', within)
  for (const period of periods) {
    counts[period] = number(`KEEP_${period.toUpperCase()}`, true)
    span(period, `KEEP_WITHIN_${period.toUpperCase()}`, within)
  }
  const tags = (env.KEEP_TAGS ?? '').split(',').map((tag) => tag.trim())
  const rules: Rules = { counts, within, tags: tags.filter((tag) => tag !== ''), min: number('KEEP_MIN', false, 1) }
  const byHand: Spans = {}
  span('all', 'KEEP_MANUAL_WITHIN', byHand)
  const none = { last: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 }
  const manual: Rules = { counts: { ...none, last: number('KEEP_MANUAL', true, Infinity) }, within: byHand, tags: [], min: rules.min }
  return { rules, manual, faults }
}

/** No rule at all: then nothing is deleted. */
export function isOff({ counts, within, tags }: Rules): boolean {
  return Object.values(counts).every((n) => n === 0) && Object.keys(within).length === 0 && tags.length === 0
}
