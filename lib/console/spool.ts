// The output of one command, kept in a file until it is printed as a whole: nobody else may read it, and it has no name that could
// outlive kedge.
import { closeSync, createReadStream, openSync, unlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** `fd`: for the command to write to. `read` gives what was written, and closes the file. */
export function openSpool(): { fd: number; read: () => AsyncIterable<Buffer>; close: () => void } {
  const name = join(tmpdir(), `kedge-${process.pid}-${process.hrtime.bigint()}`)
  const fd = openSync(name, 'wx+', 0o600)
  unlinkSync(name)
  return {
    fd,
    // With a position of its own: a process that the command left behind may still be writing.
    read: () => createReadStream('', { fd, start: 0, autoClose: false }),
    close: () => closeSync(fd),
  }
}
