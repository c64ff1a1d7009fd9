// What a child reads from its stdin, written no faster than it takes it.
import type { Writable } from 'node:stream'

/** Ends the stream behind the last chunk, whatever happens. A child that ended reads no more: its status tells why. */
export async function feed(to: Writable, chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void> {
  try {
    for await (const chunk of chunks) {
      if (to.destroyed) return
      if (!to.write(chunk)) await drained(to)
    }
  } finally {
    to.end()
  }
}

/** Until it takes more, or never will. */
export const drained = (to: Writable): Promise<void> =>
  new Promise((resolve) => {
    if (to.destroyed) return resolve()
    // Each waits for one of them, and a long list waits often.
    const go = () => {
      to.off('drain', go).off('close', go)
      resolve()
    }
    to.on('drain', go).on('close', go)
  })
