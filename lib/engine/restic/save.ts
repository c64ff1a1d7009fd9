// One snapshot made: restic's backup over paths, or over what a stream writes; its progress, errors and summary.
import { batches, start } from '../../child.ts'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import type { Summary } from '../../rows.ts'
import { countStream, emptyOutput, failedProducer, type Stream, streamEnv } from '../../source/stream.ts'
import { failureOf } from './errors.ts'
import { askRestic, jsonLine, repository, startRestic } from './tool.ts'

/** restic's messages on a backup; zero fields are omitted. 0.14 loses the text of errors: `error: {}`. */
type Message = {
  message_type?: string
  percent_done?: number
  total_files?: number
  files_done?: number
  total_bytes?: number
  bytes_done?: number
  seconds_remaining?: number
  current_files?: readonly string[]
  item?: string
  error?: { message?: string; Err?: unknown }
  snapshot_id?: string
  files_new?: number
  files_changed?: number
  data_added?: number
  data_added_packed?: number
  total_files_processed?: number
  total_bytes_processed?: number
  total_duration?: number
  dry_run?: boolean
}

type Reader = { summary: Message | undefined; unreadable: Map<string, string>; onSaved: OnSaved }
/** Told of a snapshot as soon as restic names it, also when the run is cancelled a moment later. */
export type OnSaved = (snapshot: string) => void

function read(reader: Reader, line: string, context: RunContext): void {
  const message = jsonLine<Message>(line)
  switch (message?.message_type) {
    case 'status':
      report(message, context)
      return
    case 'summary':
      reader.summary = message
      if (message.snapshot_id && !message.dry_run) reader.onSaved(message.snapshot_id)
      return
    case 'error':
      // A directory is reported twice, by the scan and by the archiver.
      reader.unreadable.set(message.item ?? '?', message.error?.message ?? reader.unreadable.get(message.item ?? '?') ?? '')
      return
    case 'exit_error':
    case 'verbose_status':
      return
  }
  const [, gone] = /^(.+) does not exist, skipping$/.exec(line) ?? []
  if (gone) reader.unreadable.set(gone, 'it vanished')
  else if (line.trim()) context.detail(`restic: ${line.trim()}`)
}

function report(status: Message, context: RunContext): void {
  const eta = status.seconds_remaining ?? 0
  context.progress({
    done: status.bytes_done ?? 0,
    ...(status.total_bytes && { total: status.total_bytes }),
    files: status.files_done ?? 0,
    ...(status.total_files && { totalFiles: status.total_files }),
    ...(eta > 0 && eta < 1e9 && { eta }), // 0.14 gives 2^63 for a stream
    ...(status.current_files?.[0] && { what: status.current_files[0] }),
  })
}

function summarise(target: Target, reader: Reader, started: number, stream?: string): Summary {
  const raw = reader.summary
  if (!raw) throw new Failure('tool', `cannot back up '${target.name}': restic ended well, but gave no summary`)
  if (!raw.snapshot_id && !raw.dry_run)
    throw new Failure('tool', `cannot back up '${target.name}': restic ended well, but names no snapshot`)
  return {
    kind: 'summary',
    target: target.name,
    snapshot: raw.dry_run ? '' : (raw.snapshot_id ?? ''),
    ...(stream && { stream }),
    files: raw.total_files_processed ?? 0,
    bytes: raw.total_bytes_processed ?? 0,
    added: raw.data_added_packed ?? raw.data_added ?? 0,
    seconds: Math.round((Date.now() - started) / 100) / 10,
    new: raw.files_new ?? 0,
    changed: raw.files_changed ?? 0,
    ...(reader.unreadable.size > 0 && { unreadable: reader.unreadable.size }),
    ...(raw.dry_run && { dryRun: true as const }),
  }
}

const shownErrors = 20

export async function savePaths(target: Target, args: readonly string[], context: RunContext, onSaved: OnSaved): Promise<Summary> {
  const started = Date.now()
  const reader: Reader = { summary: undefined, unreadable: new Map(), onSaved }
  const child = startRestic(target, args, context, {
    action: `back up '${target.name}'`,
    grace: 60,
    onStderr: (line) => read(reader, line, context),
  })
  try {
    if (child.stdout) for await (const lines of batches(child.stdout)) for (const line of lines) read(reader, line, context)
    const exit = await child.done
    if (exit.status !== 0 && exit.status !== 3) throw failureOf(`back up '${target.name}' to '${repository(target)}'`, exit)
    const names = [...reader.unreadable]
    for (const [path, cause] of names.slice(0, shownErrors)) context.warn(`cannot read '${path}'${cause ? `: ${cause}` : ''}`, 'partial')
    if (names.length > shownErrors) context.warn(`cannot read ${names.length - shownErrors} more`, 'partial')
    if (exit.status === 3 && names.length === 0)
      context.warn('restic could not read some of the sources, and does not name them', 'partial')
    const summary = summarise(target, reader, started)
    return exit.status === 3 || names.length > 0 ? { ...summary, partial: true } : summary
  } finally {
    child.end()
    await child.done.catch(() => undefined) // judged above
  }
}

/**
 * A stream: the producer's stdout goes straight into restic's stdin. kedge holds that pipe open too, so restic sees the end only after
 * the producer ended well; otherwise restic is cancelled first (SIGINT, seen on its stderr) and no snapshot of half output exists.
 */
export async function saveStream(
  target: Target,
  stream: Stream,
  args: readonly string[],
  context: RunContext,
  onSaved: OnSaved,
): Promise<Summary> {
  if (context.mode === 'dry-run') return countStream(target, stream, context)
  const started = Date.now()
  const reader: Reader = { summary: undefined, unreadable: new Map(), onSaved }
  let noticed: () => void = () => undefined
  const cancelled = new Promise<void>((resolve) => {
    noticed = resolve
  })
  const restic = startRestic(target, args, context, {
    action: `save stream '${stream.name}'`,
    stdin: 'pipe',
    grace: 30,
    onStderr: (line) => {
      if (/signal .* received/.test(line)) noticed()
      read(reader, line, context)
    },
  })
  const reading = (async () => {
    if (restic.stdout) for await (const lines of batches(restic.stdout)) for (const line of lines) read(reader, line, context)
  })()
  const cancel = async () => {
    restic.end()
    await Promise.race([cancelled, restic.done.catch(() => undefined), after(3000)])
    restic.stdin?.destroy() // 0.18 and 0.19 go on reading stdin after the signal, until it ends
    await restic.done.catch(() => undefined)
  }
  try {
    if (!restic.stdin) throw new Failure('tool', `cannot save stream '${stream.name}': restic has no stdin`)
    const producer = start([stream.file], {
      env: streamEnv(target, context),
      stdout: restic.stdin,
      signal: context.signal,
      onGroup: context.group,
    })
    // restic may end first (a wrong password): then the producer writes into nothing for ever, and is ended.
    void restic.done.catch(() => undefined).then(() => producer.end())
    const made = await producer.done
    if (made.status !== 0) {
      const early = await Promise.race([restic.done, after(0)]) // why restic was ended is the cause, where it was
      await cancel()
      if (early && early.status !== 0) throw failureOf(`save stream '${stream.name}'`, early)
      throw failedProducer(stream, made.status, made.stderr)
    }
    if (made.stderr.trim()) context.detail(`${stream.file}: ${made.stderr.trim()}`)
    restic.stdin.end()
    await reading
    const exit = await restic.done
    const { summary } = reader
    const nothing = summary ? !summary.total_bytes_processed : /snapshot is empty|no data read/.test(exit.stderr)
    if (exit.status === 0 && !nothing) return summarise(target, reader, started, stream.name)
    // 0.18 and 0.19 end with 3, and keep the snapshot: it would pass for the newest good one.
    if (summary?.snapshot_id) await takeOut(target, summary.snapshot_id, context)
    throw nothing ? emptyOutput(stream) : failureOf(`save stream '${stream.name}' to '${repository(target)}'`, exit)
  } finally {
    await cancel()
  }
}

/** A snapshot of a stream that failed; where the store keeps it (append-only), a warning: what failed is the news. */
async function takeOut(target: Target, id: string, context: RunContext): Promise<void> {
  const action = `take the failed snapshot ${id.slice(0, 8)} out of '${repository(target)}'`
  try {
    await askRestic(target, ['forget', id], context, { action })
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    context.warn(error.message)
  }
}

const after = (ms: number) => new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), ms).unref())
