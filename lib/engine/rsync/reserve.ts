// What a backup leaves free on the store.
import { statfs } from 'node:fs/promises'
import type { Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { bytes, parseSize } from '../../format.ts'
import { storeOf } from './store.ts'

/** Failure `space` where less is free than RESERVE says: bytes, and inodes where the file system counts them. Nothing is pruned for it. */
export async function checkReserve(target: Target): Promise<void> {
  const [size = '', inodes = '0'] = (target.env.RESERVE ?? '').split(' ')
  const wanted = { bytes: parseSize(size) ?? 0, inodes: Number(inodes) }
  const store = storeOf(target)
  const { bavail, bsize, files, ffree } = await statfs(store)
  const hint = 'kedge prune gives back what the keep rules do not want; RESERVE says how much is to be left'
  const short = (what: string) => new Failure('space', `cannot back up '${target.name}': ${what} on '${store}'`, { hint })
  if (bavail * bsize < wanted.bytes) throw short(`${bytes(bavail * bsize)} are free, and RESERVE wants ${bytes(wanted.bytes)}`)
  // btrfs and some others count none.
  if (files > 0 && ffree < wanted.inodes) throw short(`${ffree} inodes are free, and RESERVE wants ${wanted.inodes}`)
}
