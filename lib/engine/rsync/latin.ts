// What a tool writes, line by line, a character a byte: names need not be UTF-8. A last line that is cut off is left out.
import type { Readable } from 'node:stream'

/** Batches with flat memory; `end`: what ends a line. */
export async function* latinLines(stream: Readable, end = '\n'): AsyncGenerator<string[]> {
  let rest = ''
  for await (const chunk of stream.setEncoding('latin1')) {
    const lines = (rest + (chunk as string)).split(end)
    rest = lines.pop() ?? ''
    if (lines.length > 0) yield lines
  }
}
