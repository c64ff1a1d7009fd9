// The one writer of stderr and of the run's log. Whatever is known to be secret is struck out of both.
import { closeSync, fstatSync, openSync, writeSync } from 'node:fs'
import type { Progress } from './contract.ts'
import { bytes, duration, harmless } from './format.ts'

const secrets = new Set<string>()

/** From now on this text appears in no message and no log. Shorter than 4 characters it would blank out ordinary text. */
export function conceal(secret: string): void {
  if (secret.length >= 4) secrets.add(secret)
}

export function redact(text: string): string {
  let result = text
  for (const secret of secrets) if (result.includes(secret)) result = result.replaceAll(secret, '***')
  return result
}

let file: number | undefined
let drawn = false
let lastProgress = 0
let stderrGone = false

/** Whether a descriptor is a terminal. node:tty brings node:net, 3 ms of every start: loaded only for a character device. */
export function isTerminal(fd: number): boolean {
  try {
    return fstatSync(fd).isCharacterDevice() && process.getBuiltinModule('node:tty').isatty(fd)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBADF') return false
    throw error
  }
}

/** Everything said from now on is kept in the run's log too, until the returned function is called. */
export function logTo(path: string): () => void {
  const before = file
  const opened = openSync(path, 'a', 0o640)
  file = opened
  return () => {
    file = before
    closeSync(opened)
  }
}

function toLog(text: string): void {
  if (file === undefined) return
  const at = new Date().toISOString()
  try {
    writeSync(
      file,
      text
        .split('\n')
        .map((line) => `${at} ${line}\n`)
        .join(''),
    )
  } catch (error) {
    // A full disk must not end the backup that may be stored elsewhere; say it once and go on without the log.
    file = undefined
    write(`kedge: cannot write the run's log: ${(error as Error).message}\n`)
  }
}

function write(text: string): void {
  if (stderrGone) return
  try {
    writeSync(2, text)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EAGAIN') return
    if (code === 'EPIPE' || code === 'EBADF' || code === 'EIO') stderrGone = true
    else throw error
  }
}

/** A line of talk. */
export function say(message: string, options: { quiet?: boolean } = {}): void {
  const text = redact(message)
  toLog(text)
  if (options.quiet) return
  clearProgress()
  write(`${text.split('\n').map(harmless).join('\n')}\n`)
}

export function clearProgress(): void {
  if (drawn) write('\r\x1b[K')
  drawn = false
}

/** One line that is drawn over itself, at most ten times a second, on a terminal only. */
export function drawProgress(p: Progress): void {
  const now = Date.now()
  if (!isTerminal(2) || now - lastProgress < 100) return
  lastProgress = now
  const parts = [
    p.total ? `${Math.min(100, Math.floor((100 * p.done) / p.total))}%` : undefined,
    p.unit ? `${p.done}${p.total ? ` of ${p.total}` : ''} ${p.unit}` : p.total ? `${bytes(p.done)} of ${bytes(p.total)}` : bytes(p.done),
    p.files !== undefined ? `${p.files}${p.totalFiles ? ` of ${p.totalFiles}` : ''} files` : undefined,
    p.unit ? undefined : rate(p.done, now),
    p.eta ? `${duration(p.eta)} left` : undefined,
    p.what ? harmless(redact(p.what)) : undefined,
  ]
  const line = parts.filter(Boolean).join('  ')
  const width = (process.stderr.columns || 80) - 1
  write(`\r\x1b[K${line.length > width ? `${line.slice(0, width - 1)}…` : line}`)
  drawn = true
}

let mark: { at: number; done: number } | undefined
function rate(done: number, now: number): string | undefined {
  if (!mark || done < mark.done) mark = { at: now, done }
  const seconds = (now - mark.at) / 1000
  return seconds > 1 ? `${bytes((done - mark.done) / seconds)}/s` : undefined
}
