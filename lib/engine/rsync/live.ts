// What the source is like now, beside a snapshot of it: a backup that writes nothing, linked to that snapshot, says it of each entry.
import { writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { judge, parsePattern } from '../../pattern.ts'
import type { CommandLine } from '../../rows.ts'
import { comment } from '../../shell.ts'
import { presentPaths } from '../../source/paths.ts'
import { isRemote } from '../../source/ssh.ts'
import { backupArgs } from './argv.ts'
import { printed, readable } from './backupbyhand.ts'
import { cachesOf } from './caches.ts'
import { entryAt, statAt } from './entry.ts'
import { failureOf } from './errors.ts'
import { keepsFractions } from './fractions.ts'
import { type Line, readManifest, shownPath } from './manifest.ts'
import { rulesFile } from './rules.ts'
import { transfer } from './save.ts'
import { type Found, manifestOf, treeOf } from './snapshots.ts'
import { expectedSource, openSource, type Source } from './source.ts'
import { storeOf } from './store.ts'
import { explain } from './tool.ts'
import { tell } from './verdict.ts'

export type Live = {
  /** As a manifest has them, without hashes; 'b' and 'p' stand for both kinds of devices, of FIFOs and sockets. */
  readonly lines: () => AsyncGenerator<Line[]>
  /** Whether an entry of the snapshot that rsync did not name may be there all the same: left out, or not to be read. */
  readonly isHidden: (line: Line) => boolean
  /** Bytes that a backup would write. */
  readonly stored: number
  readonly end: () => Promise<void>
}

const nothing = async function* (): AsyncGenerator<Line[]> {}

export async function liveSource(target: Target, old: Found, context: RunContext): Promise<Live> {
  const remote = isRemote(target)
  const paths = remote ? target.paths : (await presentPaths(target.paths)).present
  if (paths.length === 0) return { lines: nothing, isHidden: () => false, stored: 0, end: async () => undefined }
  const source = await openSource(target, paths, context)
  const dir = await mkdtemp(join(tmpdir(), 'kedge-'))
  const end = () => rm(dir, { recursive: true, force: true })
  try {
    return { ...(await rehearsed(target, source, old, dir, context)), end }
  } catch (error) {
    await end()
    throw error
  } finally {
    await source.end()
  }
}

async function rehearsed(target: Target, source: Source, old: Found, dir: string, context: RunContext): Promise<Omit<Live, 'end'>> {
  const { both, paths, patterns, control } = source
  const remote = both.there !== undefined
  const caches = await cachesOf(target, both, { sources: paths, patterns, dir, control }, context)
  const rules = join(dir, 'rules')
  writeFileSync(rules, rulesFile([...caches, ...source.rules]), { mode: 0o600 })
  const to = join(dir, 'tree/')
  const command = backupArgs(target, {
    ...both,
    bases: [treeOf(old)],
    rules,
    sources: paths,
    to,
    resume: false,
    dryRun: true,
    fine: keepsFractions(storeOf(target)),
    control,
  })
  const { counts: expected } = old
  const work = {
    dir,
    command,
    remote,
    manifests: [manifestOf(old)],
    unfinished: [],
    trees: [treeOf(old)],
    linked: [],
    sources: paths,
    fake: false,
    dryRun: true,
    fine: keepsFractions(storeOf(target)),
    expected,
  }
  const { exit, trouble, finish, discard } = await transfer(target, work, context)
  if (![0, 23, 24].includes(exit.status)) {
    discard()
    throw failureOf(`compare '${target.name}' with its source`, exit, { remote })
  }
  tell('cannot read', [...trouble.unreadable], context)
  const counts = await finish()
  // A host is asked for nothing more: what its rsync did not name is gone, unless it was told to leave it out, or could not look.
  const closed = [...cacheFolders(caches), ...trouble.unreadable.keys()]
  const excludes = patterns.map(parsePattern)
  const leftOut = (path: string) => judge(excludes, path)[0] || closed.some((folder) => path === folder || path.startsWith(`${folder}/`))
  return {
    lines: () => readManifest(join(dir, 'manifest')),
    isHidden: ({ path }) => inSource(target, shownPath(path)) && (remote ? leftOut(shownPath(path)) : isThere(path)),
    stored: counts.added,
  }
}

/** What is no more among the paths of the target is gone for it. */
const inSource = (target: Target, path: string): boolean =>
  target.paths.some((each) => each === '/' || path === each || path.startsWith(`${each}/`) || each.startsWith(`${path}/`))

/** What may not be looked at counts as there. */
function isThere(escaped: string): boolean {
  try {
    return statAt(entryAt('', escaped)) !== undefined
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
    return true
  }
}

/** The folders that the rules for caches close. */
function cacheFolders(rules: readonly string[]): string[] {
  const found = rules.flatMap((rule) => /^- (.*)\/\*$/s.exec(rule)?.[1] ?? [])
  return found.map((literal) => Buffer.from(literal.replace(/\\(.)/gs, '$1'), 'latin1').toString('utf8'))
}

/** The kinds that a dry run cannot tell apart. */
const alike: Partial<Record<Line['type'], Line['type']>> = { c: 'b', s: 'p' }

/** What a backup would find changed in an entry of the snapshot; `remote`: its source cannot be looked at more closely. */
export function changedSince(old: Line, now: Line, tree: string, remote: boolean): 'M' | 'T' | 'U' | undefined {
  if ((alike[old.type] ?? old.type) !== now.type) return 'T'
  if (old.link !== now.link && old.link.startsWith('->') && now.link.startsWith('->')) return 'M'
  const sameOwner = old.mode === now.mode && old.uid === now.uid && old.gid === now.gid
  // A folder is changed where its entries are, which is said of them.
  if (old.type === 'd') return sameOwner ? undefined : 'U'
  if (now.type === 'f') {
    if (old.size !== now.size || old.mtime !== now.mtime) return 'M'
    // Written twice within a second; or its ACL or an xattr changed.
    if (now.how === '>' && sameOwner) {
      const time = remote ? undefined : timeOf(entryAt('', old.path))
      return time !== undefined && time === timeOf(entryAt(tree, old.path)) ? 'U' : 'M'
    }
  }
  return sameOwner && old.mtime === now.mtime ? undefined : 'U'
}

/** To the nanosecond; undefined where nothing is, or may not be looked at. */
export function timeOf(path: string | Buffer): bigint | undefined {
  try {
    return statAt(path)?.mtimeNs
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
    return undefined
  }
}

/** rsync against the snapshot itself names what changed and what is gone. */
export async function* liveByHand(target: Target, old: Found): AsyncGenerator<CommandLine> {
  const { both, paths, rules } = await expectedSource(target, target.paths)
  const file = '@RULES@'
  const args = backupArgs(target, {
    ...both,
    bases: [],
    rules: rules.length > 0 ? file : undefined,
    sources: paths,
    to: `${treeOf(old)}/`,
    resume: false,
    dryRun: true,
    fine: keepsFractions(storeOf(target)),
  })
  if (rules.length > 0) yield { kind: 'command', command: `rules=$(mktemp); ${printed(rules)} > "$rules"` }
  yield comment('without --dry-run it would make the snapshot like the source')
  const words = args.slice(2).filter(readable)
  const at = words.indexOf('--dry-run')
  words.splice(at, 0, '--itemize-changes', '--delete')
  yield { kind: 'command', command: explain(target, words).command.replaceAll(file, '"$rules"') }
  if (rules.length > 0) yield { kind: 'command', command: 'rm "$rules"' }
}
