// Backup: the paths as one snapshot, linked to the one before it, and each stream as one of its own.
import { mkdtemp, rm } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import type { RunContext, Target, VerbOf, Verbs } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { words } from '../../keys.ts'
import { readMarks } from '../../marks.ts'
import type { Summary } from '../../rows.ts'
import { linksAbove, linksAmong, presentPaths } from '../../source/paths.ts'
import { isRemote, rsyncHost } from '../../source/ssh.ts'
import { countStream, eachStream } from '../../source/stream.ts'
import { checkArgs } from './args.ts'
import { byHand } from './backupbyhand.ts'
import { basesOf } from './bases.ts'
import { cachesOf } from './caches.ts'
import { removeAside } from './removal.ts'
import { checkReserve } from './reserve.ts'
import { markTransient, retrying } from './retry.ts'
import { transfer } from './save.ts'
import { savePaths, workOf } from './snapshot.ts'
import { storedOf, suspectsAmong } from './snapshots.ts'
import { openSource, patternsOf, type Source } from './source.ts'
import { openStore, rootOf, verifyIdentity } from './store.ts'
import { takeStoreLock } from './storelock.ts'
import { saveStream } from './streams.ts'
import { type Job, judge, tell } from './verdict.ts'
import { installed, rsyncVersion } from './version.ts'

declare const KEDGE_VERSION: string

type Options = Verbs['backup']['options']

const backup: VerbOf<'backup'> = async function* (target, options, context) {
  const streams = options.names ? [] : target.streams
  const wanted = options.names ?? target.paths
  checkArgs(target)
  if (context.mode === 'explain') {
    yield* byHand(target, options, wanted, streams, context)
    return
  }
  const { present, missing } = isRemote(target) ? { present: [...wanted], missing: [] } : await presentPaths(wanted)
  if (present.length === 0 && streams.length === 0) throw new Failure('vanished', `nothing to back up in '${target.name}'`)
  if (!options.names && !isRemote(target)) {
    for (const link of await linksAmong(present))
      context.warn(`'${link}' is a link: only the link is saved, name what it points to`, 'partial')
    for (const { path, real } of await linksAbove(present))
      context.warn(`'${path}' is reached through a link, and can be restored to another folder only: write '${real}' into paths`)
  }
  if (context.mode === 'dry-run') {
    yield* rehearse(target, options, { present, streams, short: missing.length > 0 }, context)
    return
  }
  verifyIdentity(target, context)
  const ahead = lookAhead(target, present, context)
  const lock = await takeStoreLock(target, context, 'backup').catch((error: unknown) => {
    ahead.end()
    throw error
  })
  const inner = lock.context
  const root = rootOf(target)
  let removing: Promise<void> | undefined
  let source: Source | undefined
  try {
    await checkReserve(target)
    if (present.length > 0) {
      source = await retrying(target, inner, () => opened(target, present, options.names !== undefined, inner))
      const job = { ...(await jobOf(target, options, source, missing.length > 0, inner)), caches: ahead.caches }
      yield await savePaths(target, job, inner)
    }
    removing = removeAside(target, root, inner)
    removing.catch(() => undefined) // thrown below
    const common = await commonOf(target, options, source)
    yield* eachStream(streams, inner, (stream) => saveStream(target, root, stream, common, inner))
    await removing
  } finally {
    ahead.end()
    await removing?.catch(() => undefined) // thrown above, unless a stream's failure is the news
    await source?.end()
    await lock.release()
  }
}
export default backup

/** Begins what takes no lock beside what comes first; a failure is thrown where the answer is asked for. */
function lookAhead(target: Target, present: readonly string[], context: RunContext): Pick<Job, 'caches'> & { end: () => void } {
  if (present.length === 0) return { caches: undefined, end: () => undefined }
  rsyncVersion().catch(() => undefined)
  if (isRemote(target)) return { caches: undefined, end: () => undefined }
  const stop = new AbortController()
  const signal = AbortSignal.any([context.signal, stop.signal])
  const search = { sources: present, patterns: patternsOf(target), dir: '' }
  const caches = cachesOf(target, undefined, search, { ...context, signal })
  caches.catch(() => undefined)
  return { caches, end: () => stop.abort() }
}

/** A host that does not answer may do so a moment later. */
async function opened(target: Target, paths: readonly string[], named: boolean, context: RunContext): Promise<Source> {
  try {
    return await openSource(target, paths, context, named)
  } catch (error) {
    throw error instanceof Failure && error.class === 'unreachable' && !/resolved/.test(error.message) ? markTransient(error) : error
  }
}

async function commonOf(target: Target, options: Options, source: Source | undefined): Promise<Job['common']> {
  const rsync = source?.both.here ?? (await installed())
  return {
    format: 1,
    target: target.name,
    host: target.env.HOST || (isRemote(target) ? rsyncHost(target).replace(/^.*@/, '') : hostname()),
    tags: [`kedge:${target.name}`, ...words(target.env.TAGS), ...(options.tags ?? [])],
    tools: { kedge: KEDGE_VERSION, ...(rsync && { rsync: rsync.text }), ...(source?.both.there && { remote: source.both.there.text }) },
  }
}

async function jobOf(target: Target, options: Options, source: Source, short: boolean, context: RunContext): Promise<Job> {
  const found = storedOf(target, context)
  const [newest] = found
  if (newest && Date.parse(newest.time) > Date.now())
    context.warn(`the newest snapshot is of ${newest.time}, and this machine's clock is behind that: is it right?`)
  const suspects = suspectsAmong(found, await readMarks(target.name))
  const [names, manual] = [options.names !== undefined, options.manual === true]
  return {
    root: rootOf(target),
    source,
    names,
    manual,
    short,
    found,
    suspects,
    caches: undefined,
    common: await commonOf(target, options, source),
  }
}

type Sources = { present: readonly string[]; streams: Target['streams']; short: boolean }

/** A dry run: rsync's own against the bases that there are. What is not ready of the store is said, and does not stop it. */
async function* rehearse(
  target: Target,
  options: Options,
  { present, streams, short }: Sources,
  context: RunContext,
): AsyncGenerator<Summary> {
  let ready = true
  const look = async (check: () => unknown) => {
    try {
      await check()
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      ready &&= error.class !== 'missing' && error.class !== 'refused'
      context.warn(`not ready: ${error.message}`, error.class)
    }
  }
  await look(() => openStore(target))
  if (ready) for (const check of [() => verifyIdentity(target, context), () => checkReserve(target)]) await look(check)
  if (present.length > 0) yield await rehearsePaths(target, options, { present, streams, short }, ready, context)
  yield* eachStream(streams, context, (stream) => countStream(target, stream, context))
}

async function rehearsePaths(
  target: Target,
  options: Options,
  { present, short }: Sources,
  ready: boolean,
  context: RunContext,
): Promise<Summary> {
  const started = Date.now()
  const source = await openSource(target, present, context, options.names !== undefined)
  const dir = await mkdtemp(join(tmpdir(), 'kedge-'))
  try {
    const job: Job = ready
      ? await jobOf(target, options, source, short, context)
      : {
          root: dir,
          source,
          names: options.names !== undefined,
          manual: false,
          short,
          found: [],
          suspects: {},
          caches: undefined,
          common: await commonOf(target, options, source),
        }
    const bases = ready ? basesOf(job.root, job.found, job.suspects) : { snapshots: [], unfinished: [], wrong: undefined }
    const { paths, patterns, control, both } = source
    const caches = await cachesOf(target, both, { sources: paths, patterns, dir, control }, context)
    const rules = [...caches, ...source.rules]
    const work = workOf(target, { job, both, bases, rules, dir, resume: false, linked: undefined, dryRun: true })
    const { exit, trouble, finish, discard } = await transfer(target, work, context)
    try {
      judge(target, job, exit, trouble)
    } catch (error) {
      discard()
      throw error
    }
    const { files, bytes, added, linked, ...counts } = await finish()
    for (const path of paths) if (trouble.missing.has(path)) context.warn(`missing: '${path}'`, 'partial')
    tell('cannot read', [...trouble.unreadable], context)
    const seconds = Math.round((Date.now() - started) / 100) / 10
    const summary = { kind: 'summary', target: target.name, snapshot: '', files, bytes, added, seconds } as const
    const kind = { ...(options.names && { subset: true as const }), ...(options.manual && { manual: true as const }) }
    return { ...summary, new: counts.new, changed: counts.changed, linked, ...kind, ...(short && { partial: true }), dryRun: true }
  } finally {
    await source.end()
    await rm(dir, { recursive: true, force: true })
  }
}
