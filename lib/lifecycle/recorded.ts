// A run that is on record, from its lock to its end: whatever happens, its hooks are called, its record is kept, and its end is told.
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import type { Context, Rows, RunContext, Target } from '../contract.ts'
import { Failure, statusOf } from '../failure.ts'
import { eventsAfter, runAll, runBefore } from '../hook.ts'
import { keepAwake } from '../inhibit.ts'
import { logFile, readLast, runId } from '../ledger.ts'
import type { Lock } from '../lock.ts'
import { logTo, redact } from '../log.ts'
import { stateDir } from '../paths.ts'
import { bury, ended, keep, recover } from '../record.ts'
import type { Row, RunRow } from '../rows.ts'
import { clearRunning, type Running, showRunning } from '../running.ts'
import { openSecrets } from '../secret.ts'
import { guard, makeStateOf, takeLock, timeLimit, wantPower } from './entry.ts'
import type { BodyOf, Kind } from './kinds.ts'
import { suspect } from './suspects.ts'

const reported: ReadonlySet<Row['kind']> = new Set([
  'summary',
  'restored',
  'pruned',
  'checked',
  'drilled',
  'copied',
  'store',
  'marked',
  'lock',
  'rotated',
])

type Values = Readonly<Record<string, string>>

/** Returns the status: 0, or 3 when a part was not done. `names`: the paths of a backup that are not the target's own. */
export async function* recorded(
  verb: string,
  target: Target,
  context: Context,
  kind: Kind,
  body: BodyOf,
  names: readonly string[] | undefined,
): AsyncGenerator<Rows, number> {
  const state = stateDir(target.name)
  const start = new Date()
  const run = runId(start, randomBytes(3).toString('hex'))
  makeStateOf(target)
  let endLog: () => void = () => undefined
  const warnings: string[] = []
  const results: Row[] = []
  const crashed: RunRow[] = []
  const running: Running = { run, verb, pid: process.pid, start: start.toISOString() }
  const place = kind.lock ?? `${verb}-${run}`
  const groups: number[] = []
  let partial = false
  let failure: unknown
  let lock: Lock | undefined
  let secrets: Values | undefined
  let rest: () => Promise<void> = async () => undefined
  let starting: Promise<void> | undefined
  const warn: RunContext['warn'] = (message, kind) => {
    partial ||= kind !== undefined
    warnings.push(redact(message))
    context.log(`warning: ${message}`)
  }
  const group = (pgid: number) => {
    groups.push(pgid)
    if (!kind.lock) showRunning(state, place, { ...running, groups })
    lock?.note(pgid).catch((error: Error) => context.log(`kedge: cannot note a child in the lock: ${error.message}`))
  }
  const record = () => ended({ target: target.name, run, verb, start, failure, partial, warnings, results, forced: [...context.forced] })
  const hooked = (signal?: AbortSignal, row?: RunRow) => {
    const now =
      row ?? ({ kind: 'run', target: target.name, run, verb, state: 'running', status: 0, start: running.start, seconds: 0 } as const)
    return { target, run: now, context, signal, secrets: secrets ?? {}, onGroup: group }
  }
  const limit = timeLimit(target, context.signal)
  const limited = { ...context, signal: limit.signal }
  try {
    try {
      if (kind.lock) lock = await takeLock(verb, target, context, kind.lock, run)
    } finally {
      // Not before: by its lock a run that is killed is known, and a log of its own would be nobody's.
      endLog = logTo(logFile(state, run))
    }
    if (lock && !existsSync(target.dir)) throw new Failure('config', `target '${target.name}' is gone: it was renamed or removed meanwhile`)
    showRunning(state, place, running)
    rest = keepAwake(`${verb} of ${target.name}`, context)
    const dead = await recover(target, lock?.crashed ?? [], context, (row) => crashed.push(row))
    if (kind.hooked) await wantPower(target, limited)
    // Hooks may mount what the secrets lie on: only where they want secrets are these opened before.
    const early = !kind.closed && Boolean(target.env.HOOK_SECRETS)
    if (early) secrets = await openSecrets(target, limited)
    if (kind.hooked) await runBefore(hooked(limit.signal))
    secrets ??= kind.closed ? {} : await openSecrets(target, limited)
    if (kind.told && target.env.NOTIFY) starting = (await import('../notify/tell.ts')).tellStart(target, { run, verb }, secrets, context)
    if (kind.guarded) await guard(verb, target, limited, warn, names)
    const inner: RunContext = {
      ...limited,
      run,
      secrets,
      dead,
      buried: async () => {
        dead.length = 0
        bury(target)
      },
      warn,
      group,
      progress: (progress) => {
        showRunning(state, place, { ...running, progress, groups })
        context.progress(progress)
      },
    }
    for await (const rows of body(inner)) {
      for (const row of Array.isArray(rows) ? (rows as readonly Row[]) : [rows as Row]) {
        if (!reported.has(row.kind)) continue
        results.push(row)
        if (row.kind === 'summary' && verb === 'backup' && !row.subset) await suspect(target, row, warn)
      }
      yield rows
    }
    limit.signal.throwIfAborted()
  } catch (error) {
    failure = error
    throw error
  } finally {
    limit.clear()
    // A reader that went away aborts the signal too: then the generator is returned, and no error was thrown.
    failure ??= context.signal.aborted ? context.signal.reason : undefined
    // Whatever goes wrong here, the run is to be on record, its lock free, and its end told.
    const attempt = async (what: string, work: () => Promise<unknown>) => {
      try {
        await work()
      } catch (error) {
        // The work is done, or its own failure says more; but a run of which this is missing is not done in full.
        partial = true
        const { code, message, stack } = error as NodeJS.ErrnoException
        context.log(`kedge: cannot ${what}: ${error instanceof Failure || code ? message : stack}`)
      }
    }
    if (kind.hooked) {
      const hurry = hurried(context)
      const after = async (event: string, row: RunRow) => {
        for (const trouble of await runAll(event, hooked(hurry.signal, row))) warn(trouble, 'tool')
      }
      await attempt('call the hooks', async () => {
        for (const row of crashed) for (const event of [`after-${row.verb}`, ...eventsAfter(row)]) await after(event, row)
        await after(`after-${verb}`, record())
        for (const event of eventsAfter(record())) await after(event, record())
      })
      hurry.clear()
    }
    let before: RunRow | undefined
    if (kind.told && target.env.NOTIFY)
      await attempt('read the last run', async () => {
        before = (await readLast(state))[verb]?.last
      })
    const row = record()
    // A mistyped option is no run: it must not stand for the last one, which may have found damage.
    if (!(failure instanceof Failure && failure.class === 'misuse')) await attempt('record the run', () => keep(target, row))
    // Without the lock the state that is shown is another run's.
    if (lock || !kind.lock) clearRunning(state, place)
    // What cannot be released is found dead by the next run.
    await lock?.release().catch((error: Error) => context.log(`kedge: cannot release the lock: ${error.message}`))
    if (target.env.NOTIFY) {
      const { tellEnd } = await import('../notify/tell.ts')
      for (const each of crashed) await tellEnd(target, each, undefined, secrets, context)
      await starting
      if (kind.told) await tellEnd(target, row, before, secrets, context)
    }
    await rest()
    endLog()
  }
  return partial ? statusOf.partial : 0
}

/** Milliseconds that hooks have together once a signal ended the run: what started it does not wait long. */
const patience = 10_000

/** A signal that ends hooks: so long after the first signal to kedge, and at once with the second. */
function hurried(context: Context): { signal: AbortSignal; clear: () => void } {
  const controller = new AbortController()
  const end = () => controller.abort(new Failure('timeout', 'the run was cancelled'))
  let timer: NodeJS.Timeout | undefined
  const hurry = () => {
    timer ??= setTimeout(end, patience)
  }
  if (context.signal.aborted) hurry()
  else context.signal.addEventListener('abort', hurry, { once: true })
  context.onSignal?.(() => context.signal.aborted && end())
  return {
    signal: controller.signal,
    clear: () => {
      clearTimeout(timer)
      context.signal.removeEventListener('abort', hurry)
      context.onSignal?.(() => undefined)
    },
  }
}
