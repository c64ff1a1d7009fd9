// Executables that a run calls: hooks/EVENT of the house and of the target. Found when the target is read, run without a shell.
import { lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { start } from './child.ts'
import type { Context, Hook, Target } from './contract.ts'
import { callerEnv, variableText } from './env.ts'
import { foreign, untrusted } from './executable.ts'
import { Failure } from './failure.ts'
import { duration, parseDuration } from './format.ts'
import { words } from './keys.ts'
import { logFile } from './ledger.ts'
import { nearest } from './nearest.ts'
import { configDir, stateDir } from './paths.ts'
import type { RunRow } from './rows.ts'
import { explained } from './shell.ts'

/** The verbs that call hooks: those that take a lock and are on record. */
const hookedVerbs = ['backup', 'prune', 'copy', 'check', 'drill', 'forget', 'hold', 'init', 'accept', 'unlock', 'rotate'] as const
const always = ['on-success', 'on-warning', 'on-failure', 'finally']
const known = [...hookedVerbs.flatMap((verb) => [`before-${verb}`, `after-${verb}`]), ...always]
/** With this status a before-hook says: not now. The number is automake's for a skipped test. */
const skip = 77

/** The hooks in one folder, and what is wrong with what lies there. Files that begin with a dot or end in ~ are an editor's. */
function readHooks(folder: string): { found: Hook[]; faults: string[] } {
  const found: Hook[] = []
  const names = namesIn(folder)
  const open = names.length > 0 ? foreign(folder) : undefined
  const faults = open ? [`${folder}: ${open}`] : []
  for (const event of names.filter((name) => !name.startsWith('.') && !name.endsWith('~'))) {
    const file = join(folder, event)
    const wrong = wrongHook(event, file)
    if (wrong) faults.push(`${file}: ${wrong}`)
    else found.push({ event, file })
  }
  return { found, faults }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort()
  } catch (thrown) {
    const error = thrown as NodeJS.ErrnoException
    // A link that leads nowhere is not the same as no hooks.
    if (error.code === 'ENOENT' && !lstatSync(folder, { throwIfNoEntry: false })) return []
    throw new Failure(error.code === 'EACCES' ? 'permission' : 'config', `cannot read '${folder}': ${error.message}`, { cause: error })
  }
}

function wrongHook(event: string, file: string): string | undefined {
  if (!known.includes(event)) {
    const like = nearest(event, known)
    return `no such hook${like ? `, did you mean ${like}?` : ': before-VERB, after-VERB, on-success, on-warning, on-failure, finally'}`
  }
  return untrusted(file)
}

/** The house's hooks, then the target's; after a run in the opposite order, so that what was opened last is closed first. */
export function hooksOf(dir: string): { found: Hook[]; faults: string[] } {
  const [house, own] = [readHooks(join(configDir(), 'hooks')), readHooks(join(dir, 'hooks'))]
  return { found: [...house.found, ...own.found], faults: [...house.faults, ...own.faults] }
}

const hooksFor = (target: Target, event: string): Hook[] => {
  const hooks = target.hooks.filter((hook) => hook.event === event)
  return event.startsWith('before-') ? hooks : hooks.reverse()
}

export type Run = Pick<RunRow, 'target' | 'run' | 'verb' | 'start' | 'state' | 'status'> & Partial<RunRow>

/** What a hook reads of the run in its environment; the record on its stdin has more. */
function hookEnv(event: string, run: Run, log: string): Record<string, string> {
  return {
    KEDGE_HOOK: event,
    KEDGE_TARGET: run.target,
    KEDGE_VERB: run.verb,
    KEDGE_RUN_ID: run.run,
    KEDGE_RUN_START: run.start,
    KEDGE_RUN_STATE: run.state,
    KEDGE_RUN_STATUS: run.state === 'running' ? '' : String(run.status),
    KEDGE_RUN_CLASS: run.class ?? '',
    KEDGE_RUN_MESSAGE: variableText(run.message ?? ''),
    KEDGE_RUN_LOG: log,
  }
}

type Given = {
  target: Target
  run: Run
  context: Pick<Context, 'log' | 'detail'>
  signal: AbortSignal | undefined
  secrets: Readonly<Record<string, string>>
  onGroup?: ((pgid: number) => void) | undefined
}

/** The before-hooks of a verb; the first that fails stops the run: Failure `tool`, or `skipped` where it ended with 77. */
export async function runBefore(given: Given): Promise<void> {
  const event = `before-${given.run.verb}`
  for (const { file } of hooksFor(given.target, event)) {
    const { status, last } = await call(event, file, given)
    if (status === skip) throw new Failure('skipped', `hook '${file}' says not now${last && `: ${last}`}`)
    if (status !== 0)
      throw new Failure('tool', `hook '${file}' failed: status ${status}${last && `: ${last}`}`, { hint: 'the run was not started' })
  }
}

/** All hooks of an event, whatever the one before did. Gives what went wrong, a line each. */
export async function runAll(event: string, given: Given): Promise<string[]> {
  const trouble: string[] = []
  for (const { file } of hooksFor(given.target, event)) {
    try {
      const { status, last } = await call(event, file, given)
      if (status !== 0) trouble.push(`hook '${file}' failed: status ${status}${last && `: ${last}`}`)
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      trouble.push(given.signal?.aborted ? `hook '${file}' was not finished: ${error.message}` : error.message)
    }
  }
  return trouble
}

/** Characters that a hook may print to the run's log. */
const mostPrinted = 1 << 20

/** One hook to its end; what it prints is detail, and in the run's log. Gives its status and the last line that it printed. */
async function call(event: string, file: string, { target, run, context, signal, secrets, onGroup }: Given) {
  context.detail(`running hook: ${file}`)
  const limit = target.env.HOOK_TIMEOUT ?? ''
  const wanted = words(target.env.HOOK_SECRETS).flatMap((key) => (secrets[key] === undefined ? [] : [[key, secrets[key]] as const]))
  let last = ''
  let printed = 0
  const say = (line: string) => {
    if (line.trim()) last = line.trim().slice(0, 500)
    const before = printed
    printed += line.length
    if (printed <= mostPrinted) context.detail(`${event}: ${line}`)
    else if (before <= mostPrinted) context.detail(`${event}: it prints too much: the rest is left out`)
  }
  // sh joins the streams: what a hook prints on stdout is talk as well.
  const child = start(['sh', '-c', 'exec "$0" >&2', file], {
    env: {
      ...callerEnv(words(target.env.PASS_ENV)),
      ...Object.fromEntries(wanted),
      ...hookEnv(event, run, logFile(stateDir(target.name), run.run)),
    },
    cwd: '/',
    stdin: 'pipe',
    stdout: 'ignore',
    timeout: parseDuration(limit) ?? 0,
    signal,
    grace: 5,
    onStderr: say,
    onGroup,
  })
  child.stdin?.end(`${JSON.stringify(run)}\n`)
  try {
    return { status: (await child.done).status, last }
  } catch (error) {
    if (!(error instanceof Failure) || signal?.aborted) throw error
    if (error.class === 'timeout') throw new Failure('timeout', `hook '${file}' did not end within ${duration(parseDuration(limit) ?? 0)}`)
    throw new Failure('tool', `cannot run hook '${file}': ${error.message.replace(/^cannot start [^:]*: /, '')}`, { cause: error })
  }
}

/** The hooks of a verb as plain sh, for --explain. */
export function* explainHooks(event: string, target: Target, verb: string): Generator<{ kind: 'command'; command: string }> {
  for (const { file } of hooksFor(target, event))
    yield {
      kind: 'command',
      command: `${explained([file], { KEDGE_HOOK: event, KEDGE_TARGET: target.name, KEDGE_VERB: verb })} </dev/null`,
    }
}

/** What is called once a run's end is known. A skipped run is neither a success nor a failure. */
export const eventsAfter = (run: Run): string[] => {
  const outcome = { success: 'on-success', warning: 'on-warning', failed: 'on-failure', cancelled: 'on-failure', crashed: 'on-failure' }
  return [...(run.state in outcome ? [outcome[run.state as keyof typeof outcome]] : []), 'finally']
}
