// The entries of a tree in the order of its manifest, so that the two can be read side by side.
import { type BigIntStats, lstatSync, readdirSync } from 'node:fs'
import { setImmediate as breathe } from 'node:timers/promises'
import type { RunContext } from '../../contract.ts'
import { escapePath } from './manifest.ts'

/** `path`: as the manifest has it; `at`: where it lies. */
export type Seen = { readonly path: string; readonly at: Buffer; readonly stat: BigIntStats }

/** An entry, or (`below`) all that lies below a folder: 'a-b' comes between 'a' and 'a/b', since '-' is less than '/'. */
type Item = { readonly key: string; readonly at: Buffer; readonly below: boolean }
type Frame = { readonly items: readonly Item[]; next: number }

const slash = Buffer.from('/')
const size = 1024

/** Hears of a path that cannot be looked at (a folder: with all that lies below it), and why; throws where that ends it all. */
export type Refused = (path: string, error: unknown) => void

/**
 * Batches. Holds the names of the folders on the way down, no more. What is gone meanwhile is left out, and what has too long a path: no
 * manifest names it.
 */
export async function* ordered(tree: string, signal: RunContext['signal'], refused: Refused): AsyncGenerator<Seen[]> {
  const root = Buffer.from(tree)
  const items = (folder: Buffer, prefix: string, more: readonly Item[]) =>
    unlessRefused(() => itemsIn(folder, prefix, more), prefix === '' ? '.' : prefix.slice(0, -1), refused) ?? more
  const frames: Frame[] = [{ items: items(root, '', [{ key: '.', at: root, below: false }]), next: 0 }]
  let batch: Seen[] = []
  for (let frame = frames.at(-1); frame; frame = frames.at(-1)) {
    const item = frame.items[frame.next++]
    if (!item) frames.pop()
    else if (item.below) frames.push({ items: items(item.at, item.key, []), next: 0 })
    else {
      const stat = unlessRefused(() => lstatSync(item.at, { bigint: true }), item.key, refused)
      if (stat) batch.push({ path: item.key, at: item.at, stat })
    }
    if (batch.length < size) continue
    yield batch
    batch = []
    await breathe()
    signal.throwIfAborted()
  }
  yield batch
}

function unlessRefused<T>(look: () => T, path: string, refused: Refused): T | undefined {
  try {
    return look()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'ENOTDIR' && code !== 'ENAMETOOLONG') refused(path, error)
    return undefined
  }
}

function itemsIn(folder: Buffer, prefix: string, more: readonly Item[]): Item[] {
  const entries = readdirSync(folder, { encoding: 'buffer', withFileTypes: true })
  const items = entries.flatMap((entry): Item[] => {
    const at = Buffer.concat([folder, slash, entry.name as Buffer])
    const key = `${prefix}${escapePath(entry.name as Buffer)}`
    const own = { key, at, below: false }
    return entry.isDirectory() ? [own, { key: `${key}/`, at, below: true }] : [own]
  })
  return [...more, ...items].sort((a, b) => (a.key < b.key ? -1 : 1))
}
