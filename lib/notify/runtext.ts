// What a message says of a run: for somebody who was woken by it. Pure.
import { exitStatuses } from '../failure.ts'
import { bytes, duration, shortId } from '../format.ts'
import type { Row, RunRow } from '../rows.ts'
import type { RunEvent } from './event.ts'
import { oneLine, tail } from './notice.ts'

export type RunFacts = {
  record: RunRow
  event: RunEvent
  host: string
  /** When the last good run of the verb before this one began. */
  good?: string | undefined
  /** The end of the run's log. */
  log: string
}

const ends: Readonly<Record<RunRow['state'], string>> = {
  running: 'is running',
  success: 'is done',
  warning: 'has warnings',
  failed: 'failed',
  skipped: 'was skipped',
  cancelled: 'was cancelled',
  crashed: 'crashed',
}
const logBytes = 3000

export function runText({ record, event, host, good, log }: RunFacts): { subject: string; body: string } {
  const { target, verb, state, status, run, start, seconds, hint, warnings = [], forced = [] } = record
  const end = event === 'recovery' ? 'is good again' : state === 'warning' && status !== 0 ? 'was done in part' : ends[state]
  const message = record.message ?? (event === 'recovery' ? undefined : warnings[0])
  const what = `${verb} of ${target} ${end}`
  const facts: [string, string | undefined][] = [
    ['host', host],
    ['began', `${moment(start)}${seconds > 0 ? `, took ${duration(seconds)}` : ''}`],
    ['status', `${status}${record.class ? ` (${record.class})` : ''}: ${meaning(status)}`],
    ['message', record.message],
    ['hint', hint],
    [
      'last good',
      event === 'success' || event === 'recovery' ? undefined : good === undefined ? 'never' : `${moment(good)}, ${ago(good, start)}`,
    ],
    ['done', (record.results ?? []).flatMap(resultText).join('\n') || undefined],
    ['forced', forced.length > 0 ? forced.join(', ') : undefined],
    ['run', run],
  ]
  const parts = [
    `The ${what}.`,
    facts
      .filter((fact): fact is [string, string] => fact[1] !== undefined)
      .map(([name, text]) => `  ${name.padEnd(9)}  ${text.replaceAll('\n', `\n${' '.repeat(13)}`)}`)
      .join('\n'),
    ...(warnings.length > 0 ? [`Warnings:\n${warnings.map((each) => `  - ${each.replaceAll('\n', '\n    ')}`).join('\n')}`] : []),
    `To look further, on ${host}:\n  kedge ${log ? `log ${target} ${run}` : `history ${target}`}\n  kedge status --all ${target}`,
    ...(log ? [`The end of the log:\n${tail(log, logBytes).replace(/\n$/, '').replace(/^/gm, '  ')}`] : []),
  ]
  return { subject: oneLine(`kedge: ${what}${message ? `: ${message}` : ''}`), body: `${parts.join('\n\n')}\n` }
}

/** What a run did, in a line a result. */
function resultText(row: Row): string[] {
  switch (row.kind) {
    case 'summary':
      return [
        `${row.stream ? `stream ${row.stream}: ` : ''}snapshot ${shortId(row.snapshot)}: ${row.files} files, ${bytes(row.bytes)}, ${bytes(row.added)} new to the store`,
      ]
    case 'pruned':
      return [`${row.deleted} snapshots deleted, ${row.kept} kept${row.later > 0 ? `, ${row.later} left for later` : ''}`]
    case 'copied':
      return [
        `to ${row.to}: ${row.copied} snapshots copied, ${row.present} were there${row.left ? `, ${row.left} could not be copied` : ''}`,
      ]
    case 'drilled':
      return [`${row.files} files restored and compared, ${bytes(row.bytes)}`]
    default:
      return []
  }
}

function meaning(status: number): string {
  if (status > 128) return `stopped by signal ${status - 128}`
  return exitStatuses.find(([each]) => each === status)?.[1] ?? 'not one of kedge'
}

/** '2026-11-20 07:44:49 UTC': who reads it may be in another zone than the machine. */
export const moment = (time: string): string => time.replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d).*$/, '$1 $2 UTC')

const ago = (earlier: string, later: string): string =>
  `${duration(Math.max(0, Math.round((Date.parse(later) - Date.parse(earlier)) / 1000)))} before`
