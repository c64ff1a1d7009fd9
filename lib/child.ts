// The only door to child processes. A child is the leader of a group of its own, is ended with it, has a time limit,
// and hangs on a leash: when kedge dies, even by SIGKILL, the group is told to end.
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { constants } from 'node:os'
import type { Readable, Writable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import { Failure } from './failure.ts'
import { shown } from './shell.ts'

export type Options = {
  /** The whole environment of the child. */
  env?: Readonly<Record<string, string>> | undefined
  cwd?: string | undefined
  /** 'ignore', 'pipe', or a descriptor of kedge's own. */
  stdin?: 'ignore' | 'pipe' | number
  /** Also another child's stdin: then the bytes go from child to child, and kedge holds the pipe open until it ends that stdin. */
  stdout?: 'ignore' | 'pipe' | number | Writable
  /** What the child reads on descriptor 3 and 4: secrets, which belong in no argv and no environment. */
  give?: readonly (string | undefined)[] | undefined
  /** Seconds; 0 or absent: no limit. */
  timeout?: number | undefined
  signal?: AbortSignal | undefined
  /** The signal that the tool ends cleanly on. */
  cancel?: NodeJS.Signals | undefined
  /** Seconds between that signal and SIGKILL. */
  grace?: number | undefined
  onGroup?: ((pgid: number) => void) | undefined
  onStderr?: ((line: string) => void) | undefined
  /** It hands on another machine's statuses: 126 and 127 may be of a program there, and not of this one. */
  relays?: boolean | undefined
}
export type Exit = { status: number; signal: NodeJS.Signals | null; stderr: string }
export type Child = {
  pid: number
  stdin: Writable | null
  stdout: Readable | null
  /** Ends the whole group: the tool's own signal first, SIGKILL after the grace. */
  end: () => void
  /** Resolves when the leader has ended and its group is gone; throws Failure 'timeout', or the reason of the aborted signal. */
  done: Promise<Exit>
}

const stderrKept = 16_384
/** Milliseconds after its end in which a child's stderr may be held open by what left its group, as daemons do. */
const lingering = 2000

// The watcher is of the group too, and deaf to the signal that it sends; it holds none of the child's descriptors, so that
// end of file is seen. A shell without a kill of its own (posh) takes /bin/kill: of `kill -TERM -1234` that of procps makes the
// process -1, which is all there are; behind `--` it is a group. `sleep 0.2` is an error in a strict POSIX sleep, therefore the second one.
const leash = (signal: string, grace: number) =>
  `(trap "" ${signal}; exec >/dev/null 2>&1 3<&- 4<&-; read -r _ <&5; kill -s ${signal} -- -$$; i=0; while [ $i -lt ${grace} ] && kill -0 $$; ` +
  `do sleep 0.2 || sleep 1; i=$((i+1)); done; kill -s KILL -- -$$) </dev/null & exec 5<&-; exec "$@"`

const living = new Set<number>()
let stopping = false

// A child in a group of its own does not stop with the terminal's ^Z: stop and continue it with kedge.
function followStops(): void {
  if (stopping) return
  stopping = true
  const each = (signal: NodeJS.Signals) => {
    for (const pid of living) signalGroup(pid, signal)
  }
  process.on('SIGTSTP', () => {
    each('SIGSTOP')
    process.kill(process.pid, 'SIGSTOP')
  })
  process.on('SIGCONT', () => each('SIGCONT'))
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

export function start(command: readonly string[], options: Options = {}): Child {
  options.signal?.throwIfAborted()
  const { cancel = 'SIGTERM', grace = 20 } = options
  const stdio: StdioOptions = [options.stdin ?? 'ignore', options.stdout ?? 'pipe', 'pipe', 'ignore', 'ignore', 'pipe']
  options.give?.forEach((text, index) => {
    if (text !== undefined) stdio[3 + index] = 'pipe'
  })
  const child = spawn('/bin/sh', ['-c', leash(cancel.slice(3), grace * 5), 'sh', ...command], {
    detached: true,
    stdio,
    ...(options.env && { env: options.env }),
    ...(options.cwd && { cwd: options.cwd }),
  })
  // Before its streams are looked at: for want of descriptors it has none.
  if (child.pid === undefined) return { pid: 0, stdin: null, stdout: null, end: () => undefined, done: neverStarted(child, command) }
  options.give?.forEach((text, index) => {
    const end = child.stdio[3 + index] as Writable | null
    end?.on('error', ignoreReset)
    if (text !== undefined) end?.end(`${text}\n`)
  })
  const held = (child.stdio as readonly unknown[])[5] as Writable | undefined
  held?.on('error', ignoreReset)
  child.stdin?.on('error', ignoreReset)
  const pid = child.pid
  living.add(pid)
  followStops()
  options.onGroup?.(pid)
  let killer: NodeJS.Timeout | undefined
  let cause: 'timeout' | 'aborted' | undefined
  const end = () => {
    if (killer || !living.has(pid)) return // after its end the number may be another's
    signalGroup(pid, 'SIGCONT')
    signalGroup(pid, cancel)
    killer = setTimeout(() => signalGroup(pid, 'SIGKILL'), grace * 1000)
  }
  const aborted = () => {
    cause ??= 'aborted'
    end()
  }
  options.signal?.addEventListener('abort', aborted, { once: true })
  const limit =
    options.timeout &&
    setTimeout(() => {
      cause ??= 'timeout'
      end()
    }, options.timeout * 1000)
  const stderr = tail(child.stderr, options.onStderr)
  // 'exit', not 'close': a grandchild that keeps a descriptor would hold 'close' back; the group is killed right after.
  const done = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', (code, signal) => resolve({ code, signal }))
  }).then(async ({ code, signal }): Promise<Exit> => {
    clearTimeout(killer)
    if (limit) clearTimeout(limit)
    options.signal?.removeEventListener('abort', aborted)
    signalGroup(pid, 'SIGKILL')
    living.delete(pid)
    held?.destroy()
    const given = setTimeout(() => setImmediate(() => child.stderr?.destroy()), lingering) // what lies there is read before
    const text = await stderr
    clearTimeout(given)
    if (cause === 'aborted') throw options.signal?.reason
    if (cause === 'timeout') throw new Failure('timeout', `${shown(command)}: no end after ${options.timeout} s`)
    if (!options.relays && (code === 127 || code === 126)) throw notStarted(command, text)
    return { status: code ?? 128 + (signal ? constants.signals[signal] : 0), signal, stderr: text }
  })
  done.catch(() => undefined) // reported to whoever awaits it; a reader that failed first must not make it unhandled
  return { pid, stdin: child.stdin, stdout: child.stdout, end, done }
}

const ignoreReset = () => undefined // the child went away before it read: its status tells

function notStarted(command: readonly string[], text: string): Failure {
  return new Failure('tool', `cannot start '${command[0]}': ${text.trim().split('\n').pop() || 'not found in PATH'}`, {
    hint: `kedge doctor names the tools that are missing`,
  })
}

async function neverStarted(child: ChildProcess, command: readonly string[]): Promise<Exit> {
  const error = await new Promise<Error>((resolve) => child.on('error', resolve))
  throw new Failure('tool', `cannot start '${command[0]}': ${error.message}`, { cause: error })
}

/** Reads a stream to its end line by line and keeps the last of it. */
async function tail(stream: Readable | null, each: ((line: string) => void) | undefined): Promise<string> {
  let kept = ''
  try {
    for await (const lines of stream ? batches(stream) : []) {
      for (const line of lines) each?.(line)
      kept = `${kept}${lines.join('\n')}\n`
      if (kept.length > 2 * stderrKept) kept = kept.slice(-stderrKept)
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error
  }
  return kept
}

/** Batches of whole lines, one a chunk: flat memory whatever the length of the stream. */
export async function* batches(stream: AsyncIterable<Buffer>): AsyncGenerator<string[]> {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  for await (const chunk of stream) {
    const lines = (rest + decoder.write(chunk)).split('\n')
    rest = lines.pop() ?? ''
    if (lines.length > 0) yield lines
  }
  rest += decoder.end()
  if (rest) yield [rest]
}

/** A short answer: all of stdout (at most 64 MiB) and the end of stderr. Any status is an answer; the caller judges it. */
export async function answer(
  command: readonly string[],
  options: Omit<Options, 'stdout'> & { input?: string | Uint8Array } = {},
): Promise<Exit & { stdout: string }> {
  const { input, ...rest } = options
  const child = start(command, { timeout: 60, ...rest, ...(input !== undefined && { stdin: 'pipe' }) })
  if (input !== undefined) child.stdin?.end(input)
  const chunks: Buffer[] = []
  let size = 0
  if (child.stdout) {
    for await (const chunk of child.stdout) {
      size += (chunk as Buffer).length
      if (size > 64 << 20) {
        child.end()
        throw new Failure('tool', `${shown(command)}: its answer is longer than 64 MiB`)
      }
      chunks.push(chunk as Buffer)
    }
  }
  return { ...(await child.done), stdout: Buffer.concat(chunks).toString('utf8') }
}

/**
 * A program that owns the terminal: in kedge's own group, and kedge is deaf to ^C meanwhile, which the program gets as well; what ends
 * kedge otherwise is passed on. `mute`: its output is thrown away. `hear` gets what it writes on descriptor 3. Gives its status.
 */
export async function foreground(
  command: readonly string[],
  options: { env?: Readonly<Record<string, string>>; mute?: boolean; hear?: (text: string) => void } = {},
): Promise<number> {
  const { env, mute, hear } = options
  const stdio: StdioOptions = ['inherit', mute ? 'ignore' : 'inherit', 'inherit', ...(hear ? (['pipe'] as const) : [])]
  const child = spawn(command[0] ?? '', command.slice(1), { stdio, ...(env && { env }) })
  const pass = (signal: NodeJS.Signals) => passTo(child.pid, signal)
  const deaf = hasTerminal() ? () => undefined : pass // from a terminal they go to the whole group
  process.on('SIGINT', deaf).on('SIGQUIT', deaf).on('SIGTERM', pass).on('SIGHUP', pass)
  try {
    const heard = hear && (child.stdio as readonly unknown[])[3]
    if (heard && hear) (heard as Readable).setEncoding('utf8').on('data', hear)
    return await new Promise((resolve, reject) => {
      child.on('error', (error: NodeJS.ErrnoException) => {
        const why = error.code === 'ENOENT' ? 'not found in PATH' : error.message
        reject(new Failure('tool', `cannot start '${command[0]}': ${why}`, { cause: error }))
      })
      // What was written on descriptor 3 is all there at 'close' only.
      child.on(hear ? 'close' : 'exit', (code: number | null, signal: NodeJS.Signals | null) =>
        resolve(code ?? 128 + (signal ? constants.signals[signal] : 0)),
      )
    })
  } finally {
    process.off('SIGINT', deaf).off('SIGQUIT', deaf).off('SIGTERM', pass).off('SIGHUP', pass)
  }
}

function passTo(pid: number | undefined, signal: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(pid, signal)
  } catch (error) {
    // It is gone already, or another user's by now, as sudo: what ends it is not ours.
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ESRCH' && code !== 'EPERM') throw error
  }
}

function hasTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'))
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
    return false
  }
}
