// The life of a run: lock, crash recovery, guards, state file, log, record. What a verb does is the engine's.
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import type { Context, Rows, RunContext, Target, Verb, Verbs } from './contract.ts'
import { verbOf } from './engine.ts'
import { Failure, statusOf } from './failure.ts'
import { parseDuration } from './format.ts'
import { guards, judge } from './guard.ts'
import { logFile, makeState, newest, runId } from './ledger.ts'
import { type Holder, type Lock, take } from './lock.ts'
import { logTo, redact } from './log.ts'
import { type Marks, readMarks, writeMarks } from './marks.ts'
import { stateDir } from './paths.ts'
import { preamble } from './preamble.ts'
import { gather } from './preflight.ts'
import { bury, ended, keep, recover } from './record.ts'
import type { Row, Summary } from './rows.ts'
import { clearRunning, lockDir, type Running, showRunning } from './running.ts'
import { openSecrets } from './secret.ts'
import { suspicious } from './suspicion.ts'

/** What a run of each verb takes: a lock (check and drill have their own, beside which a backup may run), a record; `closed`: no secrets; `open`: it lasts until it is ended. */
const kinds: Readonly<Record<string, { lock?: 'write' | 'check' | 'drill'; record?: true; guarded?: true; closed?: true; open?: true }>> = {
  backup: { lock: 'write', record: true, guarded: true },
  prune: { lock: 'write', record: true, guarded: true },
  copy: { lock: 'write', record: true, guarded: true },
  forget: { lock: 'write', record: true, guarded: true },
  hold: { lock: 'write', record: true, guarded: true },
  init: { lock: 'write', record: true },
  accept: { lock: 'write', record: true, closed: true },
  unlock: { lock: 'write', record: true },
  rename: { lock: 'write', closed: true },
  remove: { lock: 'write', closed: true },
  check: { lock: 'check', record: true },
  drill: { lock: 'drill', record: true },
  restore: { record: true },
  mount: { open: true },
}

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
])

/** One run of an engine's verb on a target. Returns the status: 0, or 3 when a part was not done. */
export async function* run<V extends Verb>(
  verb: V,
  target: Target,
  options: Verbs[V]['options'],
  context: Context,
): AsyncGenerator<Rows, number> {
  const act = await verbOf(target.engine, verb)
  if ('instead' in act) throw new Failure('misuse', `the engine ${target.engine} has no ${verb}`, { hint: act.instead })
  const names = verb === 'backup' ? (options as Verbs['backup']['options']).names : undefined
  return yield* perform(verb, target, context, (runContext) => act(target, options, runContext), names)
}

/** The same for work that no engine does. */
export async function* perform(
  verb: string,
  target: Target,
  context: Context,
  body: (context: RunContext) => AsyncIterable<Rows>,
  names?: readonly string[],
): AsyncGenerator<Rows, number> {
  const unknown = [...context.forced].find((guard) => !Object.hasOwn(guards, guard))
  if (unknown !== undefined) throw new Failure('misuse', `no guard '${unknown}'`, { hint: `the guards: ${Object.keys(guards).join(', ')}` })
  const kind = kinds[verb] ?? {}
  if (context.mode === 'explain') {
    yield* preamble(target)
    yield* body(bare(context, {}))
    return 0
  }
  if (context.mode === 'dry-run' || !kind.record) return yield* unrecorded(verb, target, context, kind, body, names)
  return yield* recorded(verb, target, context, kind, body, names)
}

type Kind = (typeof kinds)[string]
type BodyOf = (context: RunContext) => AsyncIterable<Rows>

/** A context without a run: for reading verbs, dry runs, and doctor. */
export function bare(context: Context, secrets: Readonly<Record<string, string>>): RunContext {
  return {
    ...context,
    run: '',
    secrets,
    dead: [],
    buried: async () => undefined,
    warn: (message) => context.log(`warning: ${message}`),
    group: () => undefined,
  }
}

async function* unrecorded(verb: string, target: Target, context: Context, kind: Kind, body: BodyOf, names: readonly string[] | undefined) {
  let partial = false
  const lock = kind.lock && context.mode === 'act' ? await takeLock(verb, target, context, kind.lock, `${verb}-${process.pid}`) : undefined
  const limit = kind.open ? { signal: context.signal, clear: () => undefined } : timeLimit(target, context.signal)
  const limited = { ...context, signal: limit.signal }
  try {
    const inner = bare(limited, kind.closed ? {} : await openSecrets(target, limited))
    const warn: RunContext['warn'] = (message, kind) => {
      partial ||= kind !== undefined
      inner.warn(message)
    }
    if (kind.guarded) await guard(verb, target, limited, warn, names)
    yield* body({ ...inner, warn })
  } finally {
    limit.clear()
    await lock?.release()
  }
  return partial ? statusOf.partial : 0
}

const takeLock = (verb: string, target: Target, context: Context, name: string, run: string): Promise<Lock> => {
  makeStateOf(target)
  return take(lockDir(target.name), name, { run, verb }, { wait: context.wait, signal: context.signal, onWait: waiting(context) })
}

const waiting = (context: Context) => (holder: Holder | undefined) =>
  context.log(`waiting for the lock${holder ? `: ${holder.verb}, pid ${holder.pid}, since ${holder.at}` : ''}`)

function makeStateOf(target: Target): void {
  const state = stateDir(target.name)
  try {
    makeState(state)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === undefined) throw error
    throw new Failure(
      code === 'ENOSPC' || code === 'EDQUOT' ? 'space' : 'permission',
      `cannot write state in '${state}': ${(error as Error).message}`,
      {
        hint: 'run as the user who owns it; KEDGE_STATE_DIR names another place',
        cause: error,
      },
    )
  }
}

async function* recorded(
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
  const lock = kind.lock ? await takeLock(verb, target, context, kind.lock, run) : undefined
  if (lock && !existsSync(target.dir)) {
    await lock.release()
    throw new Failure('config', `target '${target.name}' is gone: it was renamed or removed meanwhile`)
  }
  const endLog = logTo(logFile(state, run))
  const warnings: string[] = []
  const results: Row[] = []
  let partial = false
  let failure: unknown
  const running: Running = { run, verb, pid: process.pid, start: start.toISOString() }
  const place = kind.lock ?? `${verb}-${run}`
  const groups: number[] = []
  const warn: RunContext['warn'] = (message, kind) => {
    partial ||= kind !== undefined
    warnings.push(redact(message))
    context.log(`warning: ${message}`)
  }
  const limit = timeLimit(target, context.signal)
  try {
    showRunning(state, place, running)
    const dead = await recover(target, lock?.crashed ?? [], context)
    const limited = { ...context, signal: limit.signal }
    const secrets = kind.closed ? {} : await openSecrets(target, limited)
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
      group: (pgid) => {
        groups.push(pgid)
        if (!lock) showRunning(state, place, { ...running, groups })
        lock?.note(pgid).catch((error: Error) => context.log(`kedge: cannot note a child in the lock: ${error.message}`))
      },
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
    const record = ended({ target: target.name, run, verb, start, failure, partial, warnings, results, forced: [...context.forced] })
    try {
      // A mistyped option is no run: it must not stand for the last one, which may have found damage.
      if (!(failure instanceof Failure && failure.class === 'misuse')) await keep(target, record)
    } catch (error) {
      // The work is done, or its own failure says more; but a run that is not on record is not done in full.
      partial = true
      context.log(`kedge: cannot record the run: ${(error as Error).message}`)
    }
    endLog()
    clearRunning(state, place)
    // What cannot be released is found dead by the next run.
    await lock?.release().catch((error: Error) => context.log(`kedge: cannot release the lock: ${error.message}`))
  }
  return partial ? statusOf.partial : 0
}

/** Aborts when the caller does, or with Failure 'timeout' when TIMEOUT is over. */
function timeLimit(target: Target, signal: AbortSignal): { signal: AbortSignal; clear: () => void } {
  const seconds = parseDuration(target.env.TIMEOUT ?? '') ?? 0
  if (!seconds) return { signal, clear: () => undefined }
  const controller = new AbortController()
  const late = () =>
    controller.abort(new Failure('timeout', `timed out after ${target.env.TIMEOUT}`, { hint: `TIMEOUT in target.env sets the limit` }))
  const timer = setTimeout(late, Math.min(seconds * 1000, 2 ** 31 - 1))
  return { signal: AbortSignal.any([signal, controller.signal]), clear: () => clearTimeout(timer) }
}

/** Judges the facts: what warns is warned of, what blocks is thrown, unless it was overridden by name. */
async function guard(
  verb: string,
  target: Target,
  context: Context,
  warn: RunContext['warn'],
  names: readonly string[] | undefined,
): Promise<void> {
  for (const verdict of judge(await gather(verb, target, { names }))) {
    if (verdict.level === 'ok') continue
    if (context.forced.has(verdict.guard)) warn(`guard '${verdict.guard}' overridden: ${verdict.message}`)
    else if (verdict.level === 'warning') warn(verdict.message, verdict.class)
    else throw new Failure(verdict.class, verdict.message, { hint: verdict.hint })
  }
}

/** The last good backups of the same source, the newest first. What was accepted is the new usual: what was before it counts no more. */
async function historyOf(target: Target, summary: Summary, marks: Marks): Promise<Summary[]> {
  const found: Summary[] = []
  for await (const run of newest(stateDir(target.name))) {
    if (run.verb !== 'backup' || (run.state !== 'success' && run.state !== 'warning')) continue
    for (const row of run.results ?? []) {
      if (row.kind !== 'summary' || row.subset || row.stream !== summary.stream || marks.suspects[row.snapshot]) continue
      found.push(row)
      if (found.length >= 10 || marks.accepted.some((id) => row.snapshot.startsWith(id) || id.startsWith(row.snapshot))) return found
    }
  }
  return found
}

async function suspect(target: Target, summary: Summary, warn: RunContext['warn']): Promise<void> {
  const marks = await readMarks(target.name)
  const history = await historyOf(target, summary, marks)
  const percent = (key: string) => Number(target.env[key] || 0)
  const reason = suspicious(summary, history, { shrink: percent('SHRINK_LIMIT'), churn: percent('CHURN_LIMIT') })
  if (!reason) return
  await writeMarks(target.name, { ...marks, suspects: { ...marks.suspects, [summary.snapshot]: reason } })
  warn(
    `snapshot ${summary.snapshot.slice(0, 8)} is suspect: ${reason}; prune waits for 'kedge accept ${target.name} ${summary.snapshot.slice(0, 8)}'`,
  )
}
