// Folders that say of themselves that they are caches, by a CACHEDIR.TAG that begins as it should (bford.info/cachedir).
import { closeSync, constants, lstatSync, openSync, readSync } from 'node:fs'

export const signature = 'Signature: 8a477f597d28d172789f06886806bc55'
export const cacheTag = 'CACHEDIR.TAG'

/** A link is none, and a FIFO would be waited for. */
export function isCacheTag(file: Buffer): boolean {
  try {
    if (!lstatSync(file).isFile()) return false
    const descriptor = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    try {
      const start = Buffer.alloc(signature.length)
      readSync(descriptor, start, 0, start.length, 0)
      return start.toString('latin1') === signature
    } finally {
      closeSync(descriptor)
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
    return false // it cannot be read: then it is no tag
  }
}

export const isCache = (folder: Buffer): boolean => isCacheTag(Buffer.concat([folder, Buffer.from(`/${cacheTag}`)]))
