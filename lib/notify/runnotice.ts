// What is told of a run, gathered: its record, the end of its log, and the runs before it.
import { open } from 'node:fs/promises'
import { hostname } from 'node:os'
import { isAbsent, isGood, logFile, newest } from '../ledger.ts'
import { stateDir } from '../paths.ts'
import type { RunRow } from '../rows.ts'
import { outcomeOf, type RunEvent } from './event.ts'
import { type Notice, tail } from './notice.ts'
import { runText } from './runtext.ts'

/** `good`: when the last good run of the verb before it began. */
export async function runNotice(record: RunRow, event: RunEvent, good: string | undefined): Promise<Notice> {
  const host = hostname()
  const log = await logTail(record.target, record.run)
  return {
    event,
    target: record.target,
    verb: record.verb,
    id: record.run,
    time: new Date().toISOString(),
    host,
    ...runText({ record, event, host, good, log }),
    record,
    outcome: outcomeOf(record),
    log,
  }
}

const looked = 1000

/** Of the same verb: the last run before this one that was not skipped, and when the last good one began. */
export async function earlierRuns(target: string, { run, verb }: RunRow): Promise<{ before?: RunRow; good?: string }> {
  let before: RunRow | undefined
  let count = 0
  for await (const each of newest(stateDir(target))) {
    if (++count > looked) break
    if (each.verb !== verb || each.run >= run || each.state === 'skipped') continue
    before ??= each
    if (isGood(each)) return { before, good: each.start }
  }
  return before ? { before } : {}
}

const logBytes = 16_384

/** The end of a run's log, whole lines; empty where there is none. */
async function logTail(target: string, run: string): Promise<string> {
  try {
    const handle = await open(logFile(stateDir(target), run))
    try {
      const { size } = await handle.stat()
      // One byte more: a line feed there tells that the first line is whole.
      const from = Math.max(0, size - logBytes - 1)
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(size - from), 0, size - from, from)
      return from === 0 ? buffer.toString('utf8', 0, bytesRead) : tail(buffer.toString('utf8', 0, bytesRead), logBytes)
    } finally {
      await handle.close()
    }
  } catch (error) {
    if (isAbsent(error)) return ''
    throw error
  }
}
