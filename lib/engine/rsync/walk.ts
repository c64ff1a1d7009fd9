// The manifest of a tree that no backup of kedge's wrote: by looking at each file. Nothing is read but names, inodes and links.
import { lstatSync, readdirSync, readlinkSync } from 'node:fs'
import { open } from 'node:fs/promises'
import type { Readable, Writable } from 'node:stream'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { feed } from '../../feed.ts'
import { isTooLong, seconds, statAt, typeOf } from './entry.ts'
import { latinLines } from './latin.ts'
import { escapePath, formatLine, header } from './manifest.ts'
import type { Stored } from './snapshots.ts'
import { startTool } from './tool.ts'

export type Counts = Stored['counts']

/** `older`: undefined: none; `place`: where the tree will lie, and `tooLong` hears of what cannot be named there. */
export type Walked = {
  readonly tree: string
  readonly place: string
  readonly older: string | undefined
  readonly work: string
  readonly tooLong: (path: string) => void
}

/**
 * Writes the manifest of `tree`; a file that is the same inode in `older` (another tree) is linked to it. Flat memory:
 * names of one file are brought together by sort(1), which uses the folder `work`.
 */
export async function writeManifest(target: Target, file: string, trees: Walked, context: RunContext): Promise<Counts> {
  const counts = { files: 0, folders: 0, bytes: 0, transferred: 0, added: 0, linked: 0, new: 0, changed: 0, unreadable: 0, vanished: 0 }
  const out = await open(file, 'w', 0o600)
  const sort = ['sort', '-T', trees.work]
  try {
    await out.writeFile(`${header}\n`)
    const byInode = startTool(target, sort, context, { stdin: 'pipe' })
    const byPath = startTool(target, sort, context, { stdin: 'pipe', stdout: out.fd })
    const walked = feed(byInode.stdin as Writable, chunks(walk(trees, counts, context)))
    const linked = feed(byPath.stdin as Writable, chunks(withLinks(byInode.stdout as Readable, counts)))
    const [, , ...exits] = await Promise.all([walked, linked, byInode.done, byPath.done])
    const bad = exits.find(({ status }) => status !== 0)
    if (bad) throw new Failure('tool', `cannot write '${file}': ${bad.stderr.trim()}`)
    await out.sync()
  } finally {
    await out.close()
  }
  return counts
}

async function* chunks(batches: AsyncIterable<string[]> | Iterable<string[]>): AsyncGenerator<Buffer> {
  for await (const batch of batches) if (batch.length > 0) yield Buffer.from(`${batch.join('\n')}\n`, 'latin1')
}

/** Lines of a manifest, each with its inode before it where the file has other names, else '-'. A folder a batch, without any order. */
function* walk({ tree, older, ...trees }: Walked, counts: Record<keyof Counts, number>, context: RunContext): Generator<string[]> {
  const [root, base] = [Buffer.from(tree), older === undefined ? undefined : Buffer.from(older)]
  const place = Buffer.from(trees.place)
  const nowhere: Buffer = Buffer.alloc(0)
  const look = (path: Buffer): string => {
    const at = under(root, path)
    const stat = lstatSync(at, { bigint: true })
    const type = typeOf(stat)
    const before = base && type !== 'd' ? statAt(under(base, path)) : undefined
    const same = before !== undefined && before.ino === stat.ino && before.dev === stat.dev
    counts[type === 'd' ? 'folders' : 'files']++
    if (type !== 'd' && !same) {
      if (!before) counts.new++
      else counts.changed++
    }
    if (type === 'f') {
      counts.bytes += Number(stat.size)
      if (same) counts.linked++
      else {
        counts.transferred++
        counts.added += Number(stat.size)
      }
    }
    const line = formatLine({
      path: path.length === 0 ? '.' : escapePath(path),
      type,
      mode: Number(stat.mode & 0o7777n),
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      size: Number(stat.size),
      mtime: seconds(stat),
      how: same ? '=' : '>',
      hash: '',
      link: type === 'l' ? `-> ${escapePath(readlinkSync(at, 'buffer'))}` : '',
    })
    return `${type !== 'd' && stat.nlink > 1n ? `${stat.dev}:${stat.ino}` : '-'}\t${line}`
  }
  yield [look(nowhere)]
  const folders: Buffer[] = [nowhere]
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    context.signal.throwIfAborted()
    const lines: string[] = []
    for (const entry of readdirSync(under(root, folder), { encoding: 'buffer', withFileTypes: true })) {
      const name = entry.name as Buffer
      const path = folder.length === 0 ? name : under(folder, name)
      if (isTooLong(under(place, path))) {
        counts.unreadable++
        trees.tooLong(escapePath(path))
        continue
      }
      lines.push(look(path))
      if (entry.isDirectory()) folders.push(path)
    }
    context.progress({ done: counts.files, unit: 'files' })
    yield lines
  }
}

const slash = Buffer.from('/')
const under = (folder: Buffer, path: Buffer): Buffer => (path.length === 0 ? folder : Buffer.concat([folder, slash, path]))

/** Lines sorted by inode: the second and further names of a file say which the first is, and were no transfer of their own. */
async function* withLinks(stream: Readable, counts: Record<keyof Counts, number>): AsyncGenerator<string[]> {
  let [inode, first] = ['', '']
  for await (const lines of latinLines(stream)) {
    yield lines.map((text) => {
      const at = text.indexOf('\t')
      const [of, line] = [text.slice(0, at), text.slice(at + 1)]
      if (of !== '-' && of === inode) {
        if (!line.endsWith('\t-')) return line // a symbolic link says where it leads
        const [, type, , , , size, , how] = line.split('\t')
        if (type === 'f' && how === '>') {
          counts.transferred--
          counts.added -= Number(size)
        }
        return `${line.slice(0, -1)}=> ${first}`
      }
      inode = of
      first = line.slice(0, line.indexOf('\t'))
      return line
    })
  }
}
