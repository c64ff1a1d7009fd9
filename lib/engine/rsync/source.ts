// What a backup reads: the paths of this machine or of another, less what the exclude files leave out, and how the other side is spoken to.
import { existsSync, readFileSync, realpathSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { geteuid } from 'node:process'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { type Exclusion, exclusionOf } from '../../leftout.ts'
import { cacheDir, stateDir } from '../../paths.ts'
import { type Control, connect } from '../../source/control.ts'
import { presentPaths } from '../../source/paths.ts'
import { isRemote } from '../../source/ssh.ts'
import { type Both, lackingOf, operands, wayFlags } from './argv.ts'
import { failureOf } from './errors.ts'
import { type Probe, probe } from './probe.ts'
import { folderRules, patternsIn, type Rule, rulesOf } from './rules.ts'
import { storeFile, storeOf } from './store.ts'
import { rsyncEnv, startTool } from './tool.ts'
import { hear, noTrouble } from './trouble.ts'
import { rsyncVersion } from './version.ts'

export type Source = {
  readonly both: Both
  readonly paths: readonly string[]
  readonly patterns: readonly string[]
  /** Without those of caches. */
  readonly rules: readonly Rule[]
  readonly excluded: Exclusion
  readonly control: string | undefined
  readonly end: () => Promise<void>
}

/** The patterns of the target's exclude files. Failure `config`. */
export const patternsOf = (target: Target): string[] =>
  target.excludes.flatMap((file) => patternsIn(readFileSync(file, 'utf8'), file, rsyncEnv(target)))

/**
 * The store, kedge's cache and its scratch folders, as they lie below what is saved, whatever link leads there: they would grow by
 * themselves.
 */
function ownFolders(target: Target, paths: readonly string[]): string[] {
  const own = [storeOf(target), cacheDir(target.name), join(stateDir(target.name), 'scratch')].map(realPath)
  const parents = new Map<string, string>()
  const realSource = (path: string) => {
    const parent = dirname(path)
    const real = parents.get(parent) ?? realPath(parent)
    parents.set(parent, real)
    return join(real, basename(path)) // a link itself is saved as one
  }
  return paths.flatMap((path) => {
    const real = realSource(path)
    const inside = (folder: string) => real === '/' || folder === real || folder.startsWith(`${real}/`)
    return own.filter(inside).map((folder) => join(path, folder.slice(real.length)))
  })
}

/** Of what is not there yet, below the folder that is. */
function realPath(path: string): string {
  try {
    return realpathSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined || path === dirname(path)) throw error
    return join(realPath(dirname(path)), basename(path))
  }
}

const asked: Probe = { flavour: 'rsync', protocol: 31, numbers: undefined, text: 'rsync', skew: undefined }

/** What can be told without asking anybody, as --explain wants it: of the host that its rsync is a common one. */
export async function expectedSource(target: Target, paths: readonly string[]): Promise<Source> {
  return sourceOf(target, paths, isRemote(target) ? asked : undefined, undefined)
}

/** Asks the host, where there is one; `named`: for a list of names. Failure auth, unreachable, permission, config, tool; `vanished` where the canary is gone. */
export async function openSource(target: Target, paths: readonly string[], context: RunContext, named = false): Promise<Source> {
  if (!isRemote(target)) return sourceOf(target, paths, undefined, undefined)
  const control = await connect(target, context)
  try {
    const there = await probe(target, context, control)
    if (named && there.flavour === 'openrsync')
      throw new Failure('config', `cannot save a list of names from '${target.env.SOURCE_HOST}': openrsync takes none`, {
        hint: 'install rsync there, or name the folders in paths',
      })
    const source = await sourceOf(target, paths, there, control)
    if (there.flavour === 'openrsync') context.warn(`'${target.env.SOURCE_HOST}' has openrsync: ACLs and extended attributes are not saved`)
    await checkCanary(target, source, context)
    const own = (await isOwnStore(target, source, context)) ? folderRules(ownFolders(target, paths)) : []
    return { ...source, rules: [...own, ...source.rules] }
  } catch (error) {
    await control.end()
    throw error
  }
}

async function sourceOf(target: Target, paths: readonly string[], there: Probe | undefined, control: Control | undefined): Promise<Source> {
  const here = await rsyncVersion()
  const patterns = patternsOf(target)
  const own = there ? [] : ownFolders(target, paths)
  return {
    both: { here, there, root: geteuid?.() === 0, without: new Set(lackingOf(there)) },
    paths,
    patterns,
    rules: [...folderRules(own), ...rulesOf(patterns, paths)],
    excluded: exclusionOf(target, patterns, own),
    control: control?.path,
    end: async () => control?.end(),
  }
}

/** Whether the host is this machine by another name, and would send the store: a folder of its name there may be anything else. */
async function isOwnStore(target: Target, { both, control, paths }: Source, context: RunContext): Promise<boolean> {
  if (ownFolders(target, paths).length === 0) return false
  const dir = await mkdtemp(join(tmpdir(), 'kedge-'))
  try {
    const words = ['rsync', ...wayFlags(target, both, control), '--', ...operands(target, both, [storeFile(target)]), `${dir}/`]
    const exit = await startTool(target, words, context, { stdout: 'ignore', relays: true }).done
    if (exit.status !== 0 && exit.status !== 23)
      throw failureOf(`look for the store on '${target.env.SOURCE_HOST}'`, exit, { remote: true })
    const copy = join(dir, basename(storeFile(target)))
    return exit.status === 0 && existsSync(storeFile(target)) && readFileSync(copy, 'utf8') === readFileSync(storeFile(target), 'utf8')
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

/** CANARY lies on the host: it is looked at before anything is written. */
async function checkCanary(target: Target, source: Source, context: RunContext): Promise<void> {
  const { CANARY: canary } = target.env
  if (!canary || (await missingThere(target, source, [canary], context)).length === 0) return
  const message = `refusing to back up '${target.name}': the canary '${canary}' is gone`
  if (!context.forced.has('canary')) throw new Failure('vanished', message, { hint: 'is the file system mounted?' })
  context.warn(`guard 'canary' overridden: ${message}`)
}

/** Which of the sources are gone, of those that rsync was about to read. */
export async function goneSources(target: Target, source: Source, context: RunContext): Promise<string[]> {
  return source.both.there ? missingThere(target, source, source.paths, context) : (await presentPaths(source.paths)).missing
}

async function missingThere(target: Target, { both, control }: Source, paths: readonly string[], context: RunContext): Promise<string[]> {
  const trouble = noTrouble()
  const command = [
    'rsync',
    '--list-only',
    '--dirs',
    '--relative',
    ...wayFlags(target, both, control),
    '--',
    ...operands(target, both, paths),
  ]
  const onStderr = (line: string) => hear(trouble, line)
  const exit = await startTool(target, command, context, { stdout: 'ignore', relays: true, onStderr }).done
  if (exit.status !== 0 && exit.status !== 23) throw failureOf(`look at '${paths.join("', '")}'`, exit, { remote: true })
  return paths.filter((path) => trouble.missing.has(path))
}
