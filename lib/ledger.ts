// What ran: runs.ndjson (one JSON line a run, appended in one write), last.json (the last run and the last good one of each
// verb, and counts: all that status and metrics need), logs/.
import { mkdirSync } from 'node:fs'
import { open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { RunRow } from './rows.ts'

/**
 * Of each verb: the last run, the last good one, the last bad one, and how many ended in each state. `damaged`: the run that found damage,
 * until one is good: a later run that failed otherwise mends nothing. Warnings are in the ledger only, but for the message of a run in part.
 */
export type Last = { [verb: string]: { last: RunRow; good?: RunRow; bad?: RunRow; damaged?: RunRow; counts: Record<string, number> } }

const ledgerFile = (state: string) => join(state, 'runs.ndjson')
const lastFile = (state: string) => join(state, 'last.json')
export const logFile = (state: string, run: string): string => join(state, 'logs', `${run}.log`)

/** A backup of names from a list says nothing of the target's own sources: neither good nor bad. */
const isSubset = ({ results = [] }: RunRow): boolean => results.some((row) => row.kind === 'summary' && row.subset)

export const isGood = (run: RunRow): boolean => (run.state === 'success' || (run.state === 'warning' && run.status === 0)) && !isSubset(run)

const isBad = (run: RunRow): boolean => !isGood(run) && run.state !== 'skipped' && !isSubset(run)

/** last.json as it is written has the last run once; here it is the good or the bad one too. */
export function completed(last: Last | undefined): Last {
  for (const verb in last) {
    const known = last[verb]
    if (!known?.last) continue
    if (isGood(known.last)) known.good = known.last
    else if (isBad(known.last)) known.bad = known.last
  }
  return last ?? {}
}

/** Creates a target's state folder, closed to others. */
export function makeState(state: string): void {
  mkdirSync(join(state, 'logs'), { recursive: true, mode: 0o700 })
}

/** Writes a file so that a reader sees the old text or the new, never a part. `durable`: nor does a power cut leave an empty one. */
export async function replaceFile(file: string, text: string, mode = 0o640, durable = true): Promise<void> {
  const temporary = `${file}.${process.pid}.new`
  try {
    const handle = await open(temporary, 'w', mode)
    try {
      await handle.writeFile(text)
      if (durable) await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, file)
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined) // on a full disk each would take its room; the first error tells
    throw error
  }
}

/** No such file, or no such folder. */
export const isAbsent = (error: unknown): boolean => ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')

/** JSON of a state file; undefined when there is none. A torn file cannot be: replaceFile wrote it. */
export async function readJson<T>(file: string): Promise<T | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as T
  } catch (error) {
    if (isAbsent(error)) return undefined
    if (error instanceof SyntaxError) return undefined // a foreign hand: treated as absent, the ledger still has all
    throw error
  }
}

export const readLast = async (state: string): Promise<Last> => completed(await readJson<Last>(lastFile(state)))

/** Adds a run. The caller holds a lock of the target; check and drill may append beside a backup: one write each, O_APPEND. */
export async function append(state: string, run: RunRow): Promise<void> {
  makeState(state)
  const handle = await open(ledgerFile(state), 'a+', 0o640)
  try {
    const { size } = await handle.stat()
    const end = Buffer.alloc(1)
    if (size > 0) await handle.read(end, 0, 1, size - 1)
    await handle.appendFile(`${size > 0 && end[0] !== 10 ? '\n' : ''}${JSON.stringify(run)}\n`)
  } finally {
    await handle.close()
  }
  const last = await readLast(state)
  const before = last[run.verb]
  const counts = { ...before?.counts, [run.state]: (before?.counts[run.state] ?? 0) + 1 }
  const { warnings, results, ...rest } = run
  const [good, bad] = [isGood(run), isBad(run)]
  // What a run in part is told by is its first warning.
  const message = run.message ?? (bad ? warnings?.[0] : undefined)
  const bare = { ...rest, ...(message !== undefined && { message }) }
  // The last run is the last good or the last bad one as well: written once, since metrics read this file for a thousand targets.
  last[run.verb] = {
    last: good && results ? { ...bare, results } : bare,
    ...(before?.good && !good && { good: before.good }),
    ...(before?.bad && !bad && { bad: before.bad }),
    ...(run.class === 'damaged' ? { damaged: bare } : !good && before?.damaged && { damaged: before.damaged }),
    counts,
  }
  await replaceFile(lastFile(state), JSON.stringify(last), 0o640, false) // the ledger has it all
}

const block = 65_536

/** The newest runs first, read backwards in blocks, so that a long ledger costs no more than what is asked for. */
export async function* newest(state: string, onTorn: (line: string) => void = () => undefined): AsyncGenerator<RunRow> {
  let handle: Awaited<ReturnType<typeof open>>
  try {
    handle = await open(ledgerFile(state), 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  try {
    let { size: end } = await handle.stat()
    let rest = Buffer.alloc(0)
    while (end > 0) {
      const start = Math.max(0, end - block)
      const chunk = Buffer.alloc(end - start)
      await handle.read(chunk, 0, chunk.length, start)
      const text = Buffer.concat([chunk, rest])
      const feed = text.indexOf(10)
      // Without a line feed it is a part of one long line, which may be the last of the file.
      const first = start === 0 ? 0 : feed < 0 ? text.length : feed + 1
      rest = start === 0 ? Buffer.alloc(0) : Buffer.from(text.subarray(0, first))
      end = start
      for (const line of text.subarray(first).toString('utf8').split('\n').reverse()) {
        if (line === '') continue
        const run = parseRun(line)
        if (run) yield run
        else onTorn(line)
      }
    }
  } finally {
    await handle.close()
  }
}

function parseRun(line: string): RunRow | undefined {
  try {
    const run = JSON.parse(line) as RunRow | null
    return typeof run?.run === 'string' && typeof run.verb === 'string' ? run : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

/** Drops records and logs of runs that began before a time. The caller holds the ledger's lock. */
export async function expire(state: string, before: Date): Promise<void> {
  const kept: string[] = []
  let dropped = 0
  // A torn line is nobody's run; it stays, for whoever wants to know what tore it.
  for await (const run of newest(state, (line) => kept.push(line))) {
    if (Date.parse(run.start) >= before.getTime()) kept.push(JSON.stringify(run))
    else dropped++
  }
  if (dropped > 0)
    await replaceFile(
      ledgerFile(state),
      kept
        .reverse()
        .map((line) => `${line}\n`)
        .join(''),
    )
  const oldest = runId(before, '')
  for (const name of await readdir(join(state, 'logs'))) if (name < oldest) await rm(join(state, 'logs', name))
  // Half-written files of runs that were killed; a day is longer than any write takes.
  for (const name of (await readdir(state)).filter((each) => /\.\d+\.new$/.test(each))) {
    const { mtimeMs } = await stat(join(state, name))
    if (Date.now() - mtimeMs > 86_400_000) await rm(join(state, name))
  }
}

/** '20261120T074449Z-1a2b3c': sorts by time. */
export const runId = (start: Date, unique: string): string => `${start.toISOString().replace(/[-:]|\.\d+/g, '')}-${unique}`
