// The md5 of one file: what a manifest has of each whose content is known.
import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'

const chunk = 1 << 20

/** Hex. Flat memory; errors of the file system come as they are. `onRead` hears the bytes of each piece; what it throws ends the reading. */
export async function md5Of(file: string | Buffer, onRead: (bytes: number) => void = () => undefined): Promise<string> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    const sum = createHash('md5')
    const buffer = Buffer.allocUnsafe(chunk)
    for (let read = await handle.read(buffer, 0, chunk); read.bytesRead > 0; read = await handle.read(buffer, 0, chunk)) {
      sum.update(buffer.subarray(0, read.bytesRead))
      onRead(read.bytesRead)
    }
    return sum.digest('hex')
  } finally {
    await handle.close()
  }
}
