// Starting restic for a target: its environment, its password on a descriptor, its lines, its failures.
import { accessSync, closeSync, constants, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { batches, type Child, type Exit, type Options, start } from '../../child.ts'
import type { RunContext, Target } from '../../contract.ts'
import { callerEnv } from '../../env.ts'
import { Failure } from '../../failure.ts'
import { type Fifo, openFifo } from '../../fifo.ts'
import { parseDuration, parseSize } from '../../format.ts'
import { passedThrough, words } from '../../keys.ts'
import { cacheDir } from '../../paths.ts'
import type { CommandLine } from '../../rows.ts'
import { explained } from '../../shell.ts'
import { cannotDelete, deletionRefusal, failureOf, hints } from './errors.ts'
import { resticVersion, type Version } from './version.ts'

/** Where the snapshots lie, without a password that the location may hold. */
export function repository(target: Target): string {
  return (target.env.RESTIC_REPOSITORY ?? '').replace(/(\/\/[^/@:]*):[^/@]*@/, '$1@')
}

/** The folder of a repository on this machine; undefined where it lies elsewhere. */
export function localRepository(target: Target): string | undefined {
  const at = target.env.RESTIC_REPOSITORY ?? ''
  if (at.startsWith('local:')) return at.slice(6)
  return at.startsWith('/') ? at : undefined
}

const knownPassword = ['RESTIC_PASSWORD', 'RESTIC_PASSWORD_COMMAND', 'RESTIC_PASSWORD_FILE']

/** The environment of restic: the caller's harmless part, the target's own variables, its secrets without the password. */
export function resticEnv(target: Target, secrets: Readonly<Record<string, string>>): Record<string, string> {
  const own = Object.entries({ ...target.env, ...secrets }).filter(([key]) => passedThrough.restic?.test(key) && key !== 'RESTIC_PASSWORD')
  const env: Record<string, string> = {
    ...callerEnv(words(target.env.PASS_ENV)),
    RESTIC_CACHE_DIR: join(cacheDir(target.name), 'restic'),
    RESTIC_PROGRESS_FPS: '2',
    ...Object.fromEntries(own),
  }
  // Node's pipes are sockets, which /dev/fd cannot open: a shell that reads the descriptor works on each system.
  if (secrets.RESTIC_PASSWORD !== undefined) {
    delete env.RESTIC_PASSWORD_FILE
    env.RESTIC_PASSWORD_COMMAND = 'sh -c "cat <&3"'
  }
  return env
}

/** Faults in what the engine needs of a target, found before restic starts: 0.14 would read an absent password from stdin. */
export function checkResticTarget(target: Target, secrets: Readonly<Record<string, string>>): void {
  const all = { ...target.env, ...secrets }
  if (!all.RESTIC_REPOSITORY && !all.RESTIC_REPOSITORY_FILE)
    throw new Failure('config', `target '${target.name}' has no RESTIC_REPOSITORY`, { hint: `set it in ${join(target.dir, 'target.env')}` })
  if (secrets.RESTIC_PASSWORD === '' || !knownPassword.some((key) => all[key]))
    throw new Failure('auth', `target '${target.name}' has no repository password`, {
      hint: 'put RESTIC_PASSWORD into its secrets, and say where they are with SECRET=',
    })
}

/** Options that every restic of a target gets: limits (restic takes KiB/s). */
export function globalArgs(target: Target): string[] {
  const limit = (name: string, value: string | undefined) => {
    const bytes = value ? parseSize(value) : undefined
    return bytes ? [`--limit-${name}`, String(Math.max(1, Math.round(bytes / 1024)))] : []
  }
  return [...limit('upload', target.env.LIMIT_UP), ...limit('download', target.env.LIMIT_DOWN)]
}

/** The whole command: priority, restic, the limits (before a `--` of the verb's), and the verb's own arguments. */
export function resticCommand(target: Target, args: readonly string[]): string[] {
  const nice = target.env.NICE && target.env.NICE !== '0' ? ['nice', '-n', target.env.NICE] : []
  return [...nice, 'restic', ...globalArgs(target), ...args]
}

/** The command as --explain prints it: the preamble that sets the environment is the lifecycle's. */
export const explain = (target: Target, args: readonly string[]): CommandLine => ({
  kind: 'command',
  command: explained(resticCommand(target, args)),
})

export const version = (target: Target): Promise<Version> => resticVersion(cacheDir(target.name))

export type Call = Pick<Options, 'stdin' | 'stdout' | 'cwd' | 'onStderr' | 'timeout' | 'grace' | 'signal'> & {
  /** What kedge was about to do, for the message: `list the snapshots in '/srv/r'`. */
  action: string
  /** Statuses other than 0 that are no failure. */
  accept?: readonly number[]
  /** Further environment, and what descriptor 4 gives (the second store's password). */
  env?: Readonly<Record<string, string>>
  second?: string | undefined
  /** A program that starts restic: its words, before those of the command. */
  through?: readonly string[]
}

export function startRestic(target: Target, args: readonly string[], context: RunContext, call: Call): Child {
  checkResticTarget(target, context.secrets)
  const { action, accept: _, env, second, through = [], signal = context.signal, onStderr, ...options } = call
  const command = resticCommand(target, hasCache(target, context) || args.includes('--no-cache') ? args : ['--no-cache', ...args])
  context.detail(`running: ${explained(command)}`)
  const patience = impatience(target, action)
  const child = start([...through, ...command], {
    // restic before 0.17 leaves its lock behind on SIGTERM; SIGINT ends all versions cleanly.
    cancel: 'SIGINT',
    onGroup: context.group,
    ...options,
    signal: AbortSignal.any([signal, patience.signal]),
    onStderr: (line) => {
      patience.hear(line)
      onStderr?.(line)
    },
    env: { ...resticEnv(target, context.secrets), ...env },
    give: [context.secrets.RESTIC_PASSWORD, second],
  })
  child.done.then(patience.stop, patience.stop)
  return child
}

const unusable = new Set<string>()

/** restic fails where its cache folder cannot be made or written; without a cache it is slower. Said once. */
function hasCache(target: Target, context: RunContext): boolean {
  const folder = cacheDir(target.name)
  if (unusable.has(folder)) return false
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    accessSync(folder, constants.W_OK)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
    unusable.add(folder)
    context.log(`restic works without a cache: ${(error as Error).message}`)
    return false
  }
}

/** What no waiting mends: a far store's refusal may pass, as that of a login that is being set up. */
const hopeless = (target: Target) =>
  localRepository(target) === undefined ? /read-only file system/i : /read-only file system|permission denied|operation not permitted/i

/** restic since 0.15 retries for 15 minutes to open a repository that cannot be reached: CONNECT_TIMEOUT ends that; a refusal to write, at once. */
function impatience(target: Target, action: string) {
  const controller = new AbortController()
  const begun = Date.now()
  let cause = ''
  let timer: NodeJS.Timeout | undefined
  return {
    signal: controller.signal,
    hear(line: string) {
      const [, type, refusal] = /^(?:Save|\w+(?=\(<config))\(<(\w+)\/[^>]*>.*returned error, retrying after [^:]+: (.*)$/.exec(line) ?? []
      if (refusal !== undefined && hopeless(target).test(refusal)) {
        const why = type === 'lock' ? `unable to create lock in backend: ${refusal}` : refusal // restic's own words where it gives up
        controller.abort(new Failure('permission', `cannot ${action}: ${why}`))
        return
      }
      // restic before 0.17 tries ten times, a minute for each file.
      const undeleted = line.includes('returned error, retrying') ? deletionRefusal(line) : undefined
      if (undeleted !== undefined) {
        controller.abort(cannotDelete(action, undeleted))
        return
      }
      const [, said] = /^\w+\(<config\/[^>]*>.*returned error, retrying after [^:]+: (.*)$/.exec(line) ?? []
      if (said === undefined) return
      cause = said
      const left = (parseDuration(target.env.CONNECT_TIMEOUT ?? '') ?? 60) * 1000 - (Date.now() - begun)
      timer ??= setTimeout(
        () => controller.abort(new Failure('unreachable', `cannot ${action}: ${cause}`, { hint: hints.unreachable })),
        Math.max(0, left),
      )
    },
    stop: () => clearTimeout(timer),
  }
}

/**
 * restic's stdout in batches of lines, with flat memory; its status is checked at the end. Returns the exit.
 * `many`: there may be a great many lines, of which restic writes each by itself.
 */
export async function* resticLines(
  target: Target,
  args: readonly string[],
  context: RunContext,
  { many, ...call }: Call & { many?: true },
): AsyncGenerator<string[], Exit> {
  const fifo = many && (await openFifo())
  const child = startInto(fifo, (stdout) => startRestic(target, args, context, { ...call, ...stdout }))
  try {
    const stdout = fifo ? fifo.chunks() : child.stdout
    if (stdout) yield* batches(stdout)
    const exit = await child.done
    if (exit.status !== 0 && !call.accept?.includes(exit.status)) throw failureOf(call.action, exit)
    return exit
  } finally {
    child.end()
    fifo?.close()
    await child.done.catch(() => undefined) // what it ended with was judged above, or the reader went away
  }
}

function startInto(fifo: Fifo | undefined, begin: (stdout: { stdout?: number }) => Child): Child {
  if (!fifo) return begin({})
  try {
    return begin({ stdout: fifo.writer })
  } catch (error) {
    fifo.close()
    throw error
  } finally {
    closeSync(fifo.writer)
  }
}

/** A short answer of restic's: all of its stdout. */
export async function askRestic(target: Target, args: readonly string[], context: RunContext, call: Call): Promise<string> {
  const all: string[] = []
  for await (const lines of resticLines(target, args, context, call)) all.push(...lines)
  return all.join('\n')
}

/** The JSON object in a line of restic's; undefined for the plain text that it mixes in. */
export function jsonLine<T>(line: string): T | undefined {
  if (!line.startsWith('{') && !line.startsWith('[')) return undefined
  try {
    return JSON.parse(line) as T
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
