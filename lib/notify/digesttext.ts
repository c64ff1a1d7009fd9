// What the digest says: of each target whether all ran that was to run, and how large its store is. Pure.
import { bytes, duration } from '../format.ts'
import type { RunRow, Sizes, StatusRow } from '../rows.ts'
import { isBad } from '../standing.ts'
import { oneLine } from './notice.ts'
import { moment } from './runtext.ts'

export type TargetFacts = {
  readonly target: string
  /** Of each verb that is to run, or that failed. */
  readonly rows: readonly StatusRow[]
  readonly sizes?: Sizes | undefined
  /** The last runs that were skipped, by verb: nothing failed, and nothing was done. */
  readonly skipped: readonly RunRow[]
  /** What else is wrong: it does not load, its secrets do not open, a channel of it fails. */
  readonly troubles: readonly string[]
}

/** Whether all of it is as it should be. A target that nothing is known of is not: nothing ran at all. */
export const isWell = ({ rows, troubles }: TargetFacts): boolean => rows.length > 0 && troubles.length === 0 && !rows.some(isBad)

const words: Readonly<Record<StatusRow['state'], string>> = {
  ok: 'ok',
  running: 'running',
  stale: 'LATE',
  failed: 'FAILED',
  crashed: 'CRASHED',
  never: 'DID NOT RUN AT ALL',
}

export function digestText(all: readonly TargetFacts[], host: string, now: Date): { subject: string; body: string } {
  const sorted = all.toSorted((a, b) => Number(isWell(a)) - Number(isWell(b)) || (a.target < b.target ? -1 : 1))
  const ill = sorted.filter((each) => !isWell(each))
  const many = (n: number) => `${n} target${n === 1 ? '' : 's'}`
  const summary =
    ill.length === 0
      ? `all is well with ${many(all.length)}`
      : `${ill.length} of ${many(all.length)} not well: ${ill.map(brief).join(', ')}`
  const verdict = ill.length === 0 ? summary : `${ill.length} of ${many(all.length)} not well`
  const head = `Backups of ${host}, ${moment(now.toISOString())}: ${verdict}.`
  return {
    subject: oneLine(`kedge digest of ${host}: ${summary}`),
    body: `${[head, ...sorted.map((each) => section(each, now))].join('\n\n')}\n`,
  }
}

function brief({ target, rows, troubles }: TargetFacts): string {
  const row = rows.find(isBad)
  return `${target} (${row ? `${row.verb} ${words[row.state]}` : troubles.length > 0 ? 'trouble' : 'nothing ran'})`
}

function section(facts: TargetFacts, now: Date): string {
  const { target, rows, sizes, skipped, troubles } = facts
  const lines = [
    ...troubles.map((text) => `  ! ${text.replaceAll('\n', '\n    ')}`),
    ...rows.flatMap((row) => ofVerb(row, now)),
    ...skipped.map(({ verb, start, message }) => `  - ${verb} was skipped ${moment(start)}${message ? `: ${message}` : ''}`),
    ...(rows.length === 0 && troubles.length === 0 ? ['  ! nothing is scheduled, and nothing ran'] : []),
    ...(sizes ? [ofStore(sizes)] : []),
  ]
  return `${target}: ${isWell(facts) ? 'ok' : 'NOT WELL'}\n${lines.join('\n')}`
}

function ofVerb({ verb, state, good, failed, message, store }: StatusRow, now: Date): string[] {
  const age = (time: string) => duration(Math.max(0, Math.round((now.getTime() - Date.parse(time)) / 1000)))
  const mark = state === 'ok' || state === 'running' ? '-' : '!'
  const last = good === null ? 'never well' : `last well ${moment(good)}, ${age(good)} ago`
  const what = `${verb}${store === undefined ? '' : ` to ${store}`}`
  const bad = failed !== null && (good === null || failed > good) ? `\n      failed ${moment(failed)}` : ''
  return [`  ${mark} ${what}: ${words[state]}; ${last}${bad}${message ? `\n      ${message.replaceAll('\n', '\n      ')}` : ''}`]
}

function ofStore({ snapshots, raw, perDay, free, fullIn, time }: Sizes): string {
  const parts = [
    `${snapshots} snapshot${snapshots === 1 ? '' : 's'}`,
    bytes(raw),
    ...(perDay === null ? [] : [`${bytes(perDay)} more a day`]),
    ...(free === null ? [] : [`${bytes(free)} free`]),
    ...(fullIn === null ? [] : [`full in ${duration(fullIn)}`]),
  ]
  return `  - store: ${parts.join(', ')} (measured ${moment(time)})`
}
