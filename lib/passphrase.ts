// The passphrase of an encrypted file: from a descriptor, or from the terminal.
import { fstatSync, readSync, type Stats } from 'node:fs'
import { Socket } from 'node:net'
import { isatty } from 'node:tty'
import type { Context } from './contract.ts'
import { callerVar } from './env.ts'
import { Failure } from './failure.ts'
import { conceal } from './log.ts'

const longest = 65_536
// A descriptor is read once, and two targets (copy) may want what it gave.
const given = new Map<number, Promise<string>>()

// What opened a file: targets that share a passphrase are opened with one question.
const good = new Set<string>()
const tries = 3

/** `passphrase`: one that is known already; nobody is asked then. */
export type Asked = Pick<Context, 'signal' | 'ask' | 'passphraseFd'> & { readonly passphrase?: string }

/** The passphrase for a file; undefined where no descriptor was named and nobody can be asked. */
export async function readPassphrase(file: string, context: Asked): Promise<string | undefined> {
  const fd = context.passphraseFd ?? callersFd()
  if (fd !== undefined) return await fromDescriptor(fd, context.signal)
  return context.ask && (await typed(file, context.ask))
}

/**
 * Passphrases for a file, until one opens it: that of the descriptor where one was named, else those that opened files before, and
 * then what is typed, three times at most. None where no descriptor was named and nobody can be asked.
 */
export async function* passphrases(file: string, context: Asked): AsyncGenerator<string> {
  if (context.passphrase !== undefined) return yield context.passphrase
  const fd = context.passphraseFd ?? callersFd()
  if (fd !== undefined) return yield await fromDescriptor(fd, context.signal)
  yield* good
  for (let time = 0; context.ask && time < tries; time++) yield await typed(file, context.ask, time > 0 ? 'wrong passphrase; ' : '')
}

/** A typed passphrase that opened a file is tried on the next one; a descriptor's is for all files anyway, and for them alone. */
export function remember(passphrase: string, context: Asked): void {
  if ((context.passphraseFd ?? callersFd()) === undefined) good.add(passphrase)
}

async function typed(file: string, ask: NonNullable<Context['ask']>, before = ''): Promise<string> {
  const passphrase = await ask(`${before}passphrase for '${file}':`, { hidden: true })
  if (passphrase === '') throw new Failure('auth', `cannot open '${file}': the passphrase is empty`)
  conceal(passphrase)
  return passphrase
}

async function fromDescriptor(fd: number, signal: AbortSignal): Promise<string> {
  const before = given.get(fd)
  if (before) return await before
  const reading = readDescriptor(fd, signal)
  given.set(fd, reading)
  const passphrase = await reading
  conceal(passphrase)
  return passphrase
}

function callersFd(): number | undefined {
  const text = callerVar('KEDGE_PASSPHRASE_FD')
  if (!text) return undefined
  if (!/^\d{1,9}$/.test(text)) throw new Failure('misuse', `cannot use KEDGE_PASSPHRASE_FD='${text}': not the number of a descriptor`)
  return Number(text)
}

/** The first line of a descriptor, as gpg reads it. */
async function readDescriptor(fd: number, signal: AbortSignal): Promise<string> {
  const cannot = (kind: 'misuse' | 'auth', why: string, cause?: unknown) =>
    new Failure(kind, `cannot read the passphrase from descriptor ${fd}: ${why}`, { cause })
  const stat = statOf(fd)
  if (!stat || ownPipe(fd, stat)) throw cannot('misuse', 'it is not open')
  if (isatty(fd)) throw new Failure('misuse', `cannot read the passphrase from descriptor ${fd}: it is a terminal, which would show it`)
  const streams = stat.isFIFO() || stat.isSocket()
  if (!streams && !stat.isFile() && !stat.isCharacterDevice()) throw cannot('misuse', 'neither a file nor a pipe')
  const bytes = streams ? await lineOfPipe(fd, signal) : lineOfFile(fd)
  try {
    const passphrase = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    if (passphrase === '') throw cannot('auth', 'it is empty')
    return passphrase
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_ENCODING_INVALID_ENCODED_DATA') throw error
    throw cannot('auth', 'it is not UTF-8')
  }
}

function statOf(fd: number): Stats | undefined {
  try {
    return fstatSync(fd)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EBADF') throw error
    return undefined
  }
}

/** A number that the caller forgot to open may be one of Node's own pipes: its other end is next to it (Linux gives both one inode). */
function ownPipe(fd: number, stat: Stats): boolean {
  const twin = (other: Stats | undefined) => other?.isFIFO() === true && other.ino === stat.ino && other.dev === stat.dev
  return fd > 2 && stat.isFIFO() && stat.ino !== 0 && (twin(statOf(fd - 1)) || twin(statOf(fd + 1)))
}

function lineOfFile(fd: number): Uint8Array {
  const buffer = Buffer.alloc(longest)
  let size = 0
  for (let read = -1; read !== 0 && size < longest; size += read) read = readSync(fd, buffer, size, longest - size, null)
  return firstLine(buffer.subarray(0, size)) ?? buffer.subarray(0, size)
}

// Not fs.read: a read that waits in the thread pool keeps the process from exiting.
function lineOfPipe(fd: number, signal: AbortSignal): Promise<Uint8Array> {
  return new Promise<Uint8Array>((resolve, reject) => {
    signal.throwIfAborted()
    const pipe = new Socket({ fd, readable: true, writable: false })
    let bytes = Buffer.alloc(0)
    const leave = (settle: () => void) => {
      signal.removeEventListener('abort', aborted)
      pipe.destroy()
      settle()
    }
    const aborted = () => leave(() => reject(signal.reason))
    signal.addEventListener('abort', aborted)
    pipe.on('error', (error) => leave(() => reject(error)))
    pipe.on('end', () => leave(() => resolve(bytes)))
    pipe.on('data', (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk])
      const line = firstLine(bytes)
      if (line || bytes.length > longest) leave(() => resolve(line ?? bytes))
    })
  })
}

function firstLine(bytes: Buffer): Buffer | undefined {
  const end = bytes.indexOf(10)
  return end < 0 ? undefined : bytes.subarray(0, end)
}
