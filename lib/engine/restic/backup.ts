// Backup: the paths as one snapshot, each stream as one of its own. The identity question runs beside the first of them.
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { RunContext, Target, VerbOf, Verbs } from '../../contract.ts'
import { type Class, Failure } from '../../failure.ts'
import { byBlanks, words } from '../../keys.ts'
import { cacheDir, stateDir } from '../../paths.ts'
import { literal } from '../../pattern.ts'
import type { Summary } from '../../rows.ts'
import { quote } from '../../shell.ts'
import { namesTag, partialTag } from '../../snapshots.ts'
import { linksAmong, presentPaths } from '../../source/paths.ts'
import { eachStream } from '../../source/stream.ts'
import { waitArgs, withoutOwnDeadLocks } from './deadlock.ts'
import { verifyIdentity } from './identity.ts'
import { withNames } from './names.ts'
import { markPartial } from './partial.ts'
import { savePaths, saveStream } from './save.ts'
import { askRestic, explain, localRepository, version } from './tool.ts'
import type { Version } from './version.ts'

type Options = Verbs['backup']['options']

/** What every snapshot of a target gets; `marks`: tags that say what it is. */
function commonArgs(target: Target, options: Options, dryRun: boolean, restic: Version, marks: readonly string[] = []): string[] {
  const tags = [`kedge:${target.name}`, ...marks, ...words(target.env.TAGS), ...(options.tags ?? [])]
  return [
    'backup',
    '--json',
    ...tags.flatMap((tag) => ['--tag', tag]),
    '--host',
    target.env.HOST || hostname(),
    ...(dryRun ? ['--dry-run'] : []),
    ...waitArgs(target, restic),
  ]
}

/** argv for the paths; `from` is a file of NUL-ended names in place of `paths`; `partial`: some are missing, as is known before. */
export function pathsArgs(
  target: Target,
  options: Options,
  paths: readonly string[] | { from: string },
  dryRun: boolean,
  restic: Version,
  partial = false,
): string[] {
  const listed = 'from' in paths
  const marks = [...(options.names ? [namesTag] : []), ...(partial ? [partialTag] : [])]
  return [
    ...commonArgs(target, options, dryRun, restic, marks),
    ...(target.env.EXCLUDE_CACHES === 'no' ? [] : ['--exclude-caches']),
    ...(target.env.ONE_FILE_SYSTEM === 'no' ? [] : ['--one-file-system']),
    ...target.excludes.flatMap((file) => ['--exclude-file', file]),
    ...ownFolders(target, listed ? ['/'] : paths).flatMap((folder) => ['--exclude', literal(folder)]),
    ...byBlanks(target.env.BACKUP_ARGS),
    ...(listed ? ['--files-from-raw', paths.from] : ['--', ...paths]),
  ]
}

/** argv for a stream: stdin, saved as the file /NAME. */
export function streamArgs(target: Target, options: Options, name: string, dryRun: boolean, restic: Version): string[] {
  return [...commonArgs(target, options, dryRun, restic), '--tag', `stream:${name}`, '--stdin', '--stdin-filename', name]
}

/** The repository, kedge's cache and its state for this target, where they lie in what is saved: they would grow by themselves. */
function ownFolders(target: Target, paths: readonly string[]): string[] {
  const inside = (folder: string) => paths.some((path) => path === '/' || folder === path || folder.startsWith(`${path}/`))
  return [localRepository(target), cacheDir(target.name), join(stateDir(target.name), 'scratch')].filter(
    (folder) => folder !== undefined && inside(folder),
  ) as string[]
}

const backup: VerbOf<'backup'> = async function* (target, options, context) {
  const streams = options.names ? [] : target.streams
  const wanted = options.names ?? target.paths
  if (options.manual)
    throw new Failure('misuse', 'restic knows no kinds of snapshots: --manual is for the engine rsync', {
      hint: '--tag manual marks one, and KEEP_TAGS=manual keeps it',
    })
  if (context.mode === 'explain') {
    const restic = await version(target)
    if (wanted.length > 0) yield explain(target, pathsArgs(target, options, wanted, false, restic))
    // Plain sh has no pipefail: by hand, the whole output first, and only when the producer was content.
    for (const { name, file } of streams) {
      const { command } = explain(target, streamArgs(target, options, name, false, restic))
      yield { kind: 'command', command: `out=$(mktemp) && ${quote(file)} > "$out" && ${command} < "$out"; rm -f "$out"` }
    }
    return
  }
  const restic = await version(target)
  const dryRun = context.mode === 'dry-run'
  const { present, missing } = await presentPaths(wanted)
  if (present.length === 0 && streams.length === 0) throw new Failure('vanished', `nothing to back up in '${target.name}'`)
  if (!options.names)
    for (const link of await linksAmong(present))
      context.warn(`'${link}' is a link: only the link is saved, name what it points to`, 'partial')
  const short = missing.length > 0
  const made: string[] = []
  const onSaved = (snapshot: string) => made.push(snapshot)
  const identity = startIdentity(target, context)
  const saving: RunContext = { ...context, signal: AbortSignal.any([context.signal, identity.signal]) }
  const confirmed = async (work: Promise<Summary>): Promise<Summary> => {
    identity.ask()
    const summary = await work
    await identity.confirmed()
    return summary
  }
  try {
    if (present.length > 0) {
      const save = (args: string[]) => withoutOwnDeadLocks(target, saving, () => savePaths(target, args, saving, onSaved))
      const saved = await confirmed(
        options.names
          ? withNames(target, present, (from) => save(pathsArgs(target, options, { from }, dryRun, restic, short)))
          : save(pathsArgs(target, options, present, dryRun, restic, short)),
      )
      const nothing = saved.files === 0 && !options.names && !dryRun
      if (nothing) context.warn('nothing was saved: 0 files', 'partial')
      const summary = nothing ? { ...saved, partial: true as const } : saved
      const snapshot = summary.partial && !short && !dryRun ? await markPartial(target, summary.snapshot, context) : summary.snapshot
      yield { ...summary, snapshot, ...(short && { partial: true }), ...(options.names && { subset: true }) }
    }
    yield* eachStream(streams, saving, (stream) => {
      const args = streamArgs(target, options, stream.name, dryRun, restic)
      return confirmed(withoutOwnDeadLocks(target, saving, () => saveStream(target, stream, args, saving, onSaved)))
    })
  } catch (error) {
    if (identity.signal.aborted && error instanceof Failure && error.class === 'refused' && !dryRun) await takeBack(target, context, made)
    if (!dryRun && !(error instanceof Failure && untouched.has(error.class))) await markUnpruned(target)
    throw error
  } finally {
    await identity.stop()
  }
}
export default backup

/** Failures after which nothing of the run can be in the store. */
const untouched: ReadonlySet<Class> = new Set<Class>(['config', 'misuse', 'missing', 'locked', 'auth', 'vanished'])

/** The store may hold data of no snapshot now: the next prune gives it back, also where it deletes nothing. */
async function markUnpruned(target: Target): Promise<void> {
  const { unpruned } = await import('../../plan.ts')
  try {
    await unpruned(target.name)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined && !(error instanceof Failure)) throw error
  }
}

/**
 * Asks for the store's identity beside the work, and cancels the work when it is another. A small backup may end before the answer:
 * then its snapshot is taken out of the foreign store again.
 */
function startIdentity(target: Target, context: RunContext) {
  const refused = new AbortController()
  const over = new AbortController()
  const signal = AbortSignal.any([context.signal, over.signal])
  let answer: Promise<unknown> | undefined
  return {
    signal: refused.signal,
    /** After the work itself has been started: its restic is the one that is waited for. */
    ask() {
      answer ??= verifyIdentity(target, context, signal)
      answer.catch((error) => refused.abort(error))
    },
    /** The answer, before anything is called done. */
    confirmed: async (): Promise<void> => {
      await answer
    },
    async stop() {
      over.abort(new Error('the backup is over'))
      await answer?.catch(() => undefined) // thrown by the work that it cancelled
    },
  }
}

/** What this run has put into a foreign store before the answer came, also where the cancelling met a snapshot that was just made. */
async function takeBack(target: Target, context: RunContext, made: readonly string[]): Promise<void> {
  for (const id of made) {
    await askRestic(target, ['forget', id], context, { action: `take snapshot ${id.slice(0, 8)} out of the foreign store` })
    context.log(`snapshot ${id.slice(0, 8)} was taken out of the foreign store again`)
  }
}
