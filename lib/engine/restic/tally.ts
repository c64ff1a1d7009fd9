// What a restore would bring, over the streamed list of a snapshot; and what of it arrived.
import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { selection } from '../../pattern.ts'
import type { Choice } from '../../selection.ts'
import { filesArgs } from './files.ts'
import { jsonLine, resticLines } from './tool.ts'

/** A line of `restic ls --json`; `inode` since 0.16. Invalid UTF-8 in a path comes as U+FFFD. */
export type Node = {
  name?: string
  path: string
  type: string
  size?: number
  mode?: number
  uid: number
  gid: number
  mtime: string
  ctime: string
  inode?: number
}

/** The entries of a snapshot that a choice brings, in batches. restic restores no sockets. */
export async function* chosen(
  target: Target,
  id: string,
  choice: Choice,
  path: string | undefined,
  context: RunContext,
): AsyncGenerator<Node[]> {
  const selects = selection(choice.include, choice.exclude)
  const action = `list the files of snapshot '${id.slice(0, 8)}'`
  for await (const lines of resticLines(target, filesArgs(id, path), context, { action })) {
    const nodes: Node[] = []
    for (const line of lines) {
      const node = jsonLine<Node>(line)
      if (node?.name === undefined || node.type === 'socket') continue
      if (selects(node.path, node.type === 'dir')) nodes.push(node)
    }
    yield nodes
  }
}

/** The bytes of files whose hard links are counted once, as they lie on a disk: keeps an inode a file in memory. */
export async function bytesOnDisk(nodes: AsyncIterable<readonly Node[]>): Promise<number> {
  const seen = new Set<number>()
  let total = 0
  for await (const batch of nodes) {
    for (const { type, size, inode } of batch) {
      if (type !== 'file' || (inode && seen.has(inode))) continue
      if (inode) seen.add(inode)
      total += size ?? 0
    }
  }
  return total
}

/** Looks for each entry below `to`: restic before 0.17 does not count what it restores. Failure 'tool' names what is not there. */
export async function arrived(nodes: AsyncIterable<readonly Node[]>, to: string, action: string): Promise<void> {
  const missing: string[] = []
  for await (const batch of nodes) {
    for (let i = 0; i < batch.length; i += 64) {
      const part = batch.slice(i, i + 64).filter(({ path }) => !path.includes('\ufffd'))
      const there = await Promise.all(part.map((node) => lies(node, join(to, node.path))))
      part.forEach(({ path }, j) => {
        if (!there[j]) missing.push(path)
      })
      if (missing.length > 100) break
    }
  }
  if (missing.length === 0) return
  const named = missing.slice(0, 10).map((path) => `'${path}'`)
  throw new Failure(
    'tool',
    `cannot ${action}: restic ended well, but these are not there: ${named.join(', ')}${missing.length > 10 ? ' and more' : ''}`,
  )
}

async function lies(node: Node, file: string): Promise<boolean> {
  try {
    const stat = await lstat(file)
    return node.type !== 'file' || (stat.isFile() && stat.size === (node.size ?? 0))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return false
    throw error
  }
}
