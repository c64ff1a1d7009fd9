// A stream as a snapshot of its own: what the producer writes goes straight into the file.
import { open, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { start } from '../../child.ts'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import type { Summary } from '../../rows.ts'
import { emptyOutput, failedProducer, type Stream, streamEnv } from '../../source/stream.ts'
import { judged } from './lost.ts'
import { escapePath, formatLine, header } from './manifest.ts'
import { md5Of } from './md5.ts'
import { begin, publish } from './publish.ts'
import type { Stored } from './snapshots.ts'

/** `common`: what each snapshot of the run says of itself. */
export async function saveStream(
  target: Target,
  root: string,
  stream: Stream,
  common: Pick<Stored, 'format' | 'target' | 'host' | 'tools'> & { tags: readonly string[] },
  context: RunContext,
): Promise<Summary> {
  const started = new Date()
  const { id, dir } = await begin(root, started, { parts: false })
  const path = join(dir, 'tree', stream.name)
  try {
    const bytes = await produce(target, stream, path, context)
    const { uid, gid, mode, mtimeMs } = await stat(path)
    const hash = await md5Of(path)
    const [name, mtime] = [escapePath(Buffer.from(stream.name)), Math.floor(mtimeMs / 1000)]
    const line = { path: name, type: 'f', mode: mode & 0o7777, uid, gid, size: bytes, mtime, how: '>', hash, link: '' } as const
    await writeFile(join(dir, 'manifest'), `${header}\n${formatLine(line)}\n`, { mode: 0o600, encoding: 'latin1' })
    const seconds = Math.round((Date.now() - started.getTime()) / 100) / 10
    const counts = { files: 1, folders: 0, bytes, transferred: 1, added: bytes, linked: 0, new: 1, changed: 0, unreadable: 0, vanished: 0 }
    const tags = [...common.tags, `stream:${stream.name}`]
    const facts = { id, time: started.toISOString(), paths: [`/${stream.name}`], stream: stream.name, base: null, bases: [] }
    const figures = { files: 1, bytes, added: bytes, seconds, new: 1, changed: 0 }
    const { summary, stored } = await judged(target, {
      summary: { kind: 'summary', target: target.name, snapshot: id, stream: stream.name, ...figures },
      stored: { ...common, ...facts, tags, counts, consistency: 'producer', seconds },
    })
    await publish(target, root, dir, stored, context)
    return summary
  } catch (error) {
    await rm(dir, { recursive: true, force: true }) // half an output is nothing to go on from
    throw error
  }
}

/** Bytes that came. Failure `space`, or `tool` where the producer failed or wrote nothing. */
async function produce(target: Target, stream: Stream, path: string, context: RunContext): Promise<number> {
  const file = await open(path, 'wx', 0o600)
  try {
    const child = start([stream.file], { env: streamEnv(target, context), stdout: file.fd, signal: context.signal, onGroup: context.group })
    const watch = setInterval(() => void file.stat().then(({ size }) => context.progress({ done: size, what: stream.name })), 500)
    try {
      const { status, stderr } = await child.done
      if (status !== 0 && /no space left on device|quota exceeded/i.test(stderr))
        throw new Failure('space', failedProducer(stream, status, stderr).message, { hint: 'free some space, or kedge prune' })
      if (status !== 0) throw failedProducer(stream, status, stderr)
      if (stderr.trim()) context.detail(`${stream.file}: ${stderr.trim()}`)
    } finally {
      clearInterval(watch)
    }
    const { size } = await file.stat()
    if (size === 0) throw emptyOutput(stream)
    return size
  } finally {
    await file.close()
  }
}
