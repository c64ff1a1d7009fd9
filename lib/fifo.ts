// A pipe read by the clock. A tool that writes a line at a time wakes a reader who waits in the pipe with every line, which costs both
// more than the lines do. Here nobody waits: what has gathered is taken every few milliseconds, and a full pipe holds the tool back.
import { closeSync, constants, openSync, readSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { answer } from './child.ts'
import { callerEnv } from './env.ts'
import { Failure } from './failure.ts'

export type Fifo = {
  /** The descriptor for the child's stdout. Close it once the child has started: then the end of the child is the end of the file. */
  writer: number
  /** Chunks up to the end of file; each is valid until the next is asked for. */
  chunks: () => AsyncGenerator<Buffer>
  close: () => void
}

const size = 16_384 // more would make V8's heap grow: what is at work lives through its collections
const pause = { least: 2, most: 48 } // ms; the most where nothing comes, as from a store far away

/** Node makes sockets only: this is a named pipe, which loses its name at once. Undefined where none can be made. */
export async function openFifo(): Promise<Fifo | undefined> {
  const name = join(tmpdir(), `kedge-${process.pid}-${process.hrtime.bigint()}`)
  if (!(await made(name))) return undefined
  try {
    const reader = openSync(name, constants.O_RDONLY | constants.O_NONBLOCK)
    return { writer: openSync(name, constants.O_WRONLY), chunks: () => chunksOf(reader), close: () => closeSync(reader) }
  } finally {
    rmSync(name, { force: true })
  }
}

async function made(name: string): Promise<boolean> {
  try {
    return (await answer(['mkfifo', '-m', '600', name], { env: callerEnv() })).status === 0
  } catch (error) {
    if (error instanceof Failure) return false // no mkfifo here
    throw error
  }
}

async function* chunksOf(reader: number): AsyncGenerator<Buffer> {
  const buffer = Buffer.allocUnsafe(size)
  let idle = pause.least
  for (;;) {
    const read = readNow(reader, buffer)
    if (read === 0) return
    if (read === undefined) {
      await sleep(idle)
      idle = Math.min(idle * 2, pause.most)
      continue
    }
    idle = pause.least
    yield buffer.subarray(0, read)
    if (read < size) await sleep(idle)
  }
}

/** Undefined when there is nothing yet. */
function readNow(reader: number, buffer: Buffer): number | undefined {
  try {
    return readSync(reader, buffer)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return undefined
    throw error
  }
}
