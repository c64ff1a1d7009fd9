// What the removal of trees gives back, from link counts: an inode goes when its last name goes.
import { createHash } from 'node:crypto'
import { lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as breathe } from 'node:timers/promises'
import type { RunContext } from '../../contract.ts'
import { isTooLong } from './entry.ts'

/** How many entries are looked at before others get their turn. */
const turn = 4096

/**
 * `bytes`: what lies on the disk for inodes all of whose names are below these folders; `files`: all names but folders. Looks at each entry
 * once; remembers the files of which a name is still missing, so its memory follows what is shared. Undefined where a folder cannot be read.
 */
export async function freedBy(
  folders: readonly string[],
  context: Pick<RunContext, 'signal' | 'progress' | 'detail'>,
): Promise<{ bytes: number; files: number } | undefined> {
  const names = new Map<bigint, bigint>()
  const left = folders.map((folder) => Buffer.from(folder))
  let [bytes, files, seen] = [0n, 0, 0]
  try {
    for (let folder = left.pop(); folder; folder = left.pop()) {
      bytes += lstatSync(folder, { bigint: true }).blocks
      for (const entry of readdirSync(folder, { encoding: 'buffer', withFileTypes: true })) {
        const path = Buffer.concat([folder, slash, entry.name as Buffer])
        if (isTooLong(path)) continue // it goes with the others, uncounted
        if (entry.isDirectory()) {
          left.push(path)
          continue
        }
        files++
        const { ino, nlink, blocks } = lstatSync(path, { bigint: true })
        const missing = nlink === 1n ? 0n : (names.get(ino) ?? nlink) - 1n
        if (missing > 0n) names.set(ino, missing)
        else {
          bytes += blocks
          names.delete(ino)
        }
        if (++seen % turn !== 0) continue
        context.progress({ done: seen, unit: 'files', what: 'what it frees' })
        await breathe()
        context.signal.throwIfAborted()
      }
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code !== 'EACCES' && code !== 'ENOENT') throw error
    context.detail(`what is freed cannot be told: ${message}`)
    return undefined
  }
  return { bytes: Number(bytes) * 512, files }
}

const slash = Buffer.from('/')

/** A digest of the names of all trees in a store, every target's: while it is the same, a deletion frees the same. */
export function inventory(store: string): string {
  const hash = createHash('sha256')
  for (const owner of readdirSync(store).sort())
    for (const kind of ['snapshots', 'incomplete', 'deleting'])
      for (const name of treesIn(join(store, owner, kind))) hash.update(`${owner}/${kind}/${name}\0`)
  return hash.digest('hex')
}

function treesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort()
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return []
    throw error
  }
}
