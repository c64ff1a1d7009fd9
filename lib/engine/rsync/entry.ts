// An entry of a snapshot's tree on the disk: where it lies, whether it is there, and what it is in a manifest's words.
import { type BigIntStats, lstatSync } from 'node:fs'
import { pathBytes, type Type } from './manifest.ts'

/** `path`: as a manifest has it; `tree`: '' for the root of the source itself. Bytes only where a name needs them: most do not. */
export function entryAt(tree: string, path: string): string | Buffer {
  const folder = tree.endsWith('/') ? tree : `${tree}/`
  return /^[ -[\]-~]*$/.test(path) ? `${folder}${path}` : Buffer.concat([Buffer.from(folder), pathBytes(path)])
}

/**
 * Undefined where nothing lies there, also where a file stands in the place of a folder above it, which throwIfNoEntry calls an error: two
 * trees need not agree on that. Also where the path is too long for the system: rsync, which changes folders, may have made it all the same,
 * but nobody can name it, and no manifest does (`isTooLong` tells the two apart). Other errors come as they are.
 */
export function statAt(path: string | Buffer): BigIntStats | undefined {
  try {
    return lstatSync(path, { bigint: true, throwIfNoEntry: false })
  } catch (error) {
    if (['ENOTDIR', 'ENAMETOOLONG'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw error
  }
}

/** Bytes of a path that are never too many: OpenBSD's limit is 1024, Linux's 4096. */
export const fits = 900

/** Whether the system calls a path too long, be anything there or not. It is asked, since the limits differ. */
export function isTooLong(path: string | Buffer): boolean {
  if (Buffer.byteLength(path) <= fits) return false
  try {
    lstatSync(path, { throwIfNoEntry: false })
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENAMETOOLONG'
  }
}

/** Down to the whole second, before 1970 as well. */
export const seconds = ({ mtimeNs }: BigIntStats): number => Number(mtimeNs / 1_000_000_000n) - (mtimeNs % 1_000_000_000n < 0n ? 1 : 0)

export function typeOf(stat: BigIntStats): Type {
  if (stat.isDirectory()) return 'd'
  if (stat.isSymbolicLink()) return 'l'
  if (stat.isFIFO()) return 'p'
  if (stat.isSocket()) return 's'
  if (stat.isBlockDevice()) return 'b'
  return stat.isCharacterDevice() ? 'c' : 'f'
}
