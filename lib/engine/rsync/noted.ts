// Hashes that a check wrote down where a manifest has none: the file `hashes` beside it, PATH, a tab and the md5 a line, in the manifest's
// order and its way of writing names. The manifest itself is never changed.
import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Failure } from '../../failure.ts'
import { toDisk } from '../../inplace.ts'

export const hashesBeside = (manifest: string): string => join(dirname(manifest), 'hashes')

/** Lines of a manifest, as they come, with the hashes that are known of them. */
export type Noted = {
  readonly fill: (lines: readonly string[]) => Promise<string[]>
  /** Reads what is left, so that all of it is judged. */
  readonly rest: () => Promise<void>
  readonly end: () => Promise<void>
}

/** A line of a regular file whose hash is '-': PATH, what is before the hash, what is behind it. */
const unknown = /^([^\t]*)(\tf(?:\t[^\t]*){6}\t)-(\t[^\t]*)$/
const chunkSize = 16_384

/** Undefined where nothing was written down. Failure `damaged` for what is no such file. */
export async function openNoted(manifest: string): Promise<Noted | undefined> {
  const file = hashesBeside(manifest)
  const handle = await open(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
    return undefined
  })
  if (!handle) return undefined
  const lines = linesOf(handle, file)
  let here = await lines.next().catch(async (error: unknown) => {
    await handle.close()
    throw error
  })
  return {
    async fill(texts) {
      const filled: string[] = []
      for (const text of texts) {
        const [, path = '', before = '', after = ''] = unknown.exec(text) ?? []
        while (before !== '' && !here.done && here.value.path < path) here = await lines.next()
        filled.push(before !== '' && !here.done && here.value.path === path ? `${path}${before}${here.value.hash}${after}` : text)
      }
      return filled
    },
    async rest() {
      while (!here.done) here = await lines.next()
    },
    async end() {
      await lines.return(undefined)
      await handle.close()
    },
  }
}

async function* linesOf(handle: FileHandle, file: string): AsyncGenerator<{ path: string; hash: string }, undefined> {
  const damaged = (why: string) =>
    new Failure('damaged', `cannot read '${file}': ${why}`, { hint: 'remove it: kedge check --read-data writes it anew' })
  const buffer = Buffer.allocUnsafe(chunkSize)
  let [rest, last] = ['', '']
  for (;;) {
    const { bytesRead } = await handle.read(buffer, 0, chunkSize)
    if (bytesRead === 0) break
    const texts = (rest + buffer.toString('latin1', 0, bytesRead)).split('\n')
    rest = texts.pop() ?? ''
    for (const text of texts) {
      const [, path = '', hash = ''] = /^([^\t]+)\t([0-9a-f]{32})$/.exec(text) ?? []
      if (path <= last) throw damaged(path === '' ? `not a line of hashes: '${text.slice(0, 80)}'` : 'it is not sorted')
      last = path
      yield { path, hash }
    }
  }
  if (rest !== '') throw damaged('its last line is cut off')
  return undefined
}

/** The file written anew: a line each, the manifest's order. It takes the place of the old one when `finish` has brought it to the disk. */
export type Notes = {
  readonly add: (path: string, hash: string) => void
  readonly finish: () => Promise<void>
  readonly discard: () => Promise<void>
}

/** What the system says where nothing can be written there comes as it is. */
export async function openNotes(manifest: string): Promise<Notes> {
  const file = hashesBeside(manifest)
  const fresh = `${file}.${process.pid}`
  const handle = await open(fresh, 'w', 0o600)
  let text = ''
  let writing = Promise.resolve()
  const flush = () => {
    const piece = text
    text = ''
    writing = writing.then(() => handle.appendFile(piece, 'latin1'))
    writing.catch(() => undefined) // thrown by finish
  }
  return {
    add(path, hash) {
      text += `${path}\t${hash}\n`
      if (text.length > 1 << 16) flush()
    },
    async finish() {
      flush()
      await writing
      await handle.sync()
      await handle.close()
      await rename(fresh, file)
      await toDisk(dirname(file))
    },
    async discard() {
      await writing.catch(() => undefined)
      await handle.close()
      await rm(fresh, { force: true })
    },
  }
}
