// One `restic restore` from start to end: progress, what failed by name, what restic counts. restore and drill use it.
import { access, constants } from 'node:fs/promises'
import { join } from 'node:path'
import { batches } from '../../child.ts'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { type How as Basic, incomplete } from '../../restoring.ts'
import { waitArgs } from './deadlock.ts'
import { classOf, failureOf } from './errors.ts'
import { jsonLine, localRepository, startRestic } from './tool.ts'
import type { Version } from './version.ts'

export type How = Basic & { preview?: boolean; unlocked?: boolean }

/** `preview`: what would be deleted, one line an entry (restic 0.17 and later). */
export function restoreArgs(target: Target, id: string, how: How, restic: Version): string[] {
  return [
    'restore',
    '--json',
    ...(how.unlocked ? ['--no-lock'] : waitArgs(target, restic)),
    '--target',
    how.to,
    ...how.include.flatMap((pattern) => ['--include', pattern]),
    ...how.exclude.flatMap((pattern) => ['--exclude', pattern]),
    ...(how.verify ? ['--verify'] : []),
    ...(how.delete ? ['--delete'] : []),
    ...(how.preview ? ['--dry-run', '--verbose=2'] : []),
    id,
  ]
}

/** Whether the repository is one that can only be read, as on a read-only disk: then no lock can be made, and nobody else can write either. */
export async function onlyReadable(target: Target): Promise<boolean> {
  const at = localRepository(target)
  if (at === undefined) return false
  try {
    await access(join(at, 'locks'), constants.W_OK)
    return false
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return code === 'EROFS' || code === 'EACCES'
  }
}

type Message = {
  message_type?: string
  action?: string
  item?: string
  error?: { message?: string }
  total_files?: number
  files_restored?: number
  files_skipped?: number
  files_deleted?: number
  total_bytes?: number
  bytes_restored?: number
}
/** `entries`: files and folders that restic brought or found unchanged; undefined where it does not count (before 0.17). */
export type Extracted = { entries: number | undefined; deleted: number }

// A pack that is gone or not what its name says is as bad as one with a wrong byte; Verify's own words are restic's too.
const broken =
  /ciphertext verification failed|invalid data returned|(?:ReadFull|StreamPack|Load)\b.*(?:no such file|does not exist)|unexpected content|invalid file size|wrong hash|hash mismatch/i

// 0.14 names only the file.
const noLock = /unable to create lock in backend|\/locks\/[0-9a-f]{64}/

/** A store in which no lock can be made, as on a full disk, is read without one: to restore matters more than who else writes. */
export async function extract(...[target, args, context, call]: Parameters<typeof attempt>): Promise<Extracted> {
  try {
    return await attempt(target, args, context, call)
  } catch (error) {
    const lockless = error instanceof Failure && (error.class === 'space' || error.class === 'permission')
    if (!lockless || args.includes('--no-lock') || !noLock.test(error.message)) throw error
    context.log(`${error.message}; trying without a lock`)
    return attempt(target, ['restore', '--no-lock', ...args.slice(1)], context, call)
  }
}

/** `action`: as `restore 'web1' to '/tmp/x'`. A part that failed is a Failure that names it; whatever else restic's end stands for, too. */
async function attempt(
  target: Target,
  args: readonly string[],
  context: RunContext,
  call: { action: string; total?: number; onDeleted?: (path: string) => void },
): Promise<Extracted> {
  const failed = new Map<string, string>()
  let summary: Message | undefined
  const read = (line: string) => {
    const message = jsonLine<Message>(line)
    if (message?.message_type === 'status') {
      const total = message.total_bytes || call.total
      context.progress({ done: message.bytes_restored ?? 0, ...(total && { total }), files: message.files_restored ?? 0 })
    } else if (message?.message_type === 'summary') summary = message
    else if (message?.message_type === 'verbose_status') {
      if (message.action === 'deleted' && message.item) call.onDeleted?.(message.item)
    } else if (message?.message_type === 'error') note(failed, message.item ?? '?', message.error?.message ?? '')
    else if (!message) {
      const [, item, cause] = /^ignoring error for (.+?): (.*)$/.exec(line) ?? []
      if (item !== undefined) note(failed, item, cause ?? '')
      else if (line.trim()) context.detail(`restic: ${line.trim()}`)
    }
  }
  const child = startRestic(target, args, context, { action: call.action, grace: 60, onStderr: read })
  try {
    if (child.stdout) for await (const lines of batches(child.stdout)) for (const line of lines) read(line)
    const exit = await child.done
    if (failed.size > 0) throw incompleteOf(call.action, failed)
    if (exit.status !== 0) throw failureOf(call.action, exit)
    const entries = summary?.total_files === undefined ? undefined : summary.total_files + (summary.files_skipped ?? 0)
    return { entries, deleted: summary?.files_deleted ?? 0 }
  } finally {
    child.end()
    await child.done.catch(() => undefined) // judged above
  }
}

// The first cause: that a file's time cannot be set since it is not there is no news.
function note(failed: Map<string, string>, item: string, cause: string): void {
  if (!failed.has(item)) failed.set(item, cause)
}

function incompleteOf(action: string, failed: ReadonlyMap<string, string>): Failure {
  const causes = [...failed.values()].join('\n')
  const links = /Symlink: .*file exists/.test(causes)
  const hint = links ? 'restic before 0.17 cannot replace links: restore with --to, or remove them first' : undefined
  return incomplete(action, failed, broken.test(causes) ? 'damaged' : classOf(1, causes), hint)
}
