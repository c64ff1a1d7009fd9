// What a tool writes, line by line, a character a byte: names need not be UTF-8. A last line that is cut off is left out.
import type { Readable } from 'node:stream'

/** Batches with flat memory. */
export async function* latinLines(stream: Readable): AsyncGenerator<string[]> {
  let rest = ''
  for await (const chunk of stream.setEncoding('latin1')) {
    const lines = (rest + (chunk as string)).split('\n')
    rest = lines.pop() ?? ''
    if (lines.length > 0) yield lines
  }
}
