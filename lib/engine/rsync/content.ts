// Is the content of snapshots what it was when it was saved? By the hashes in their manifests; each inode is read once.
import { lstatSync } from 'node:fs'
import type { Part } from '../../checking.ts'
import type { RunContext } from '../../contract.ts'
import { newInodes } from './inodes.ts'
import { pathBytes, readManifest, shownPath } from './manifest.ts'
import { md5Of } from './md5.ts'
import { type Found, manifestOf, treeOf } from './snapshots.ts'

const hashed = /\t([0-9a-f]{2})[0-9a-f]{30}\t[^\t]*$/

/** Whether a line's hash is known, and its first byte in the part: so all names of a content are in one, as restic's packs are. */
export function inPart(part: Part): (text: string) => boolean {
  if (part === 'structure') return () => false
  return (text) => {
    const [, byte] = hashed.exec(text) ?? []
    return byte !== undefined && (part === 'all' || Number.parseInt(byte, 16) % part.of === part.n - 1)
  }
}

/** A reader of one part of the data: gives what changed in a snapshot, in words. What it has read for one it does not read for the next. */
export function contentReader(
  part: Part,
  context: Pick<RunContext, 'signal' | 'progress'>,
  what?: string,
): (found: Found) => AsyncGenerator<string> {
  const isNew = newInodes()
  let [read, files] = [0, 0]
  const report = () => context.progress({ done: read, files, ...(what !== undefined && { what }) })
  const onRead = (bytes: number) => {
    read += bytes
    report()
    context.signal.throwIfAborted()
  }
  return async function* (found) {
    const tree = Buffer.from(`${treeOf(found)}/`)
    for await (const lines of readManifest(manifestOf(found), inPart(part))) {
      context.signal.throwIfAborted()
      for (const line of lines) {
        const at = Buffer.concat([tree, pathBytes(line.path)])
        const stat = lstatSync(at, { bigint: true, throwIfNoEntry: false })
        // What is missing, or no file any more, the structure has told.
        if (!stat?.isFile() || (stat.nlink > 1n && !isNew(stat))) continue
        files++
        try {
          const now = await md5Of(at, onRead)
          if (now !== line.hash) yield `${shownPath(line.path)}: its content changed: md5 ${now}, was ${line.hash}`
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'EIO') throw error
          yield `${shownPath(line.path)}: cannot be read: ${(error as Error).message}`
        }
      }
    }
    report()
  }
}
