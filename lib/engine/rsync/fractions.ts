// Whether a store's file system keeps times to a fraction of a second. ext4 with inodes of 128 bytes does not, and says it nowhere.
import { lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

/**
 * By what was written in the store: whole seconds alone are chance once, and not in all of it. True where there is nothing to tell by.
 * Where it has none rsync must not compare them: no file would be linked.
 */
export function keepsFractions(store: string): boolean {
  const times = (path: string): bigint[] => {
    const found = lstatSync(path, { bigint: true, throwIfNoEntry: false })
    return found ? [found.mtimeNs, found.ctimeNs] : []
  }
  const found = times(store)
  if (found.length === 0) return true
  for (const name of readdirSync(store)) found.push(...times(join(store, name)))
  return found.some((time) => time % 1_000_000_000n !== 0n)
}
