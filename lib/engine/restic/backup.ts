// Backup: the paths as one snapshot, each stream as one of its own. The identity question runs beside the first of them.
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { RunContext, Target, VerbOf, Verbs } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { words } from '../../keys.ts'
import { cacheDir, stateDir } from '../../paths.ts'
import type { Summary } from '../../rows.ts'
import { quote } from '../../shell.ts'
import { presentPaths } from '../../source/paths.ts'
import { waitArgs, withoutOwnDeadLocks } from './deadlock.ts'
import { verifyIdentity } from './identity.ts'
import { withNames } from './names.ts'
import { literal } from './pattern.ts'
import { savePaths, saveStream } from './save.ts'
import { askRestic, explain, localRepository, version } from './tool.ts'
import type { Version } from './version.ts'

type Options = Verbs['backup']['options']

/** What every snapshot of a target gets. */
function commonArgs(target: Target, options: Options, dryRun: boolean, restic: Version): string[] {
  const tags = [`kedge:${target.name}`, ...words(target.env.TAGS), ...(options.tags ?? [])]
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

/** argv for the paths; `from` is a file of NUL-ended names in place of `paths`. */
export function pathsArgs(
  target: Target,
  options: Options,
  paths: readonly string[] | { from: string },
  dryRun: boolean,
  restic: Version,
): string[] {
  const listed = 'from' in paths
  return [
    ...commonArgs(target, options, dryRun, restic),
    ...(target.env.EXCLUDE_CACHES === 'no' ? [] : ['--exclude-caches']),
    ...(target.env.ONE_FILE_SYSTEM === 'no' ? [] : ['--one-file-system']),
    ...target.excludes.flatMap((file) => ['--exclude-file', file]),
    ...ownFolders(target, listed ? ['/'] : paths).flatMap((folder) => ['--exclude', literal(folder)]),
    ...words(target.env.BACKUP_ARGS),
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
  const { present } = await presentPaths(wanted)
  const identity = startIdentity(target, context)
  const saving: RunContext = { ...context, signal: AbortSignal.any([context.signal, identity.signal]) }
  try {
    if (present.length > 0) {
      const save = (args: string[]) => withoutOwnDeadLocks(target, saving, () => savePaths(target, args, saving))
      const summary = options.names
        ? await withNames(target, present, (from) => save(pathsArgs(target, options, { from }, dryRun, restic)))
        : await save(pathsArgs(target, options, present, dryRun, restic))
      yield await identity.confirm(summary)
    }
    const failures: Failure[] = []
    for (const stream of streams) {
      try {
        const args = streamArgs(target, options, stream.name, dryRun, restic)
        const summary = await withoutOwnDeadLocks(target, saving, () => saveStream(target, stream, args, saving))
        yield await identity.confirm(summary)
      } catch (error) {
        // A dump that fails must not keep the next one from being saved; the last one's class is the run's.
        if (!(error instanceof Failure) || saving.signal.aborted) throw error
        failures.push(error)
        context.log(`stream '${stream.name}': ${error.message}`)
      }
    }
    if (failures[0])
      throw failures.length === 1
        ? failures[0]
        : new Failure(failures[0].class, `${failures.length} streams failed: ${failures.map((each) => each.message).join('; ')}`)
  } finally {
    await identity.stop()
  }
}
export default backup

/**
 * Asks for the store's identity beside the work, and cancels the work when it is another. A small backup may end before the answer:
 * then its snapshot is taken out of the foreign store again.
 */
function startIdentity(target: Target, context: RunContext) {
  const refused = new AbortController()
  const stop = new AbortController()
  const answer = verifyIdentity(target, context, AbortSignal.any([context.signal, stop.signal]))
  answer.catch((error) => refused.abort(error))
  return {
    signal: refused.signal,
    async confirm(summary: Summary): Promise<Summary> {
      try {
        await answer
      } catch (error) {
        if (error instanceof Failure && error.class === 'refused' && !summary.dryRun) await takeBack(target, context, summary)
        throw error
      }
      return summary
    },
    async stop() {
      stop.abort(new Error('the backup is over'))
      await answer.catch(() => undefined)
    },
  }
}

async function takeBack(target: Target, context: RunContext, { snapshot }: Summary): Promise<void> {
  await askRestic(target, ['forget', snapshot], context, { action: `take snapshot ${snapshot.slice(0, 8)} out of the foreign store` })
  context.log(`snapshot ${snapshot.slice(0, 8)} was taken out of the foreign store again`)
}
