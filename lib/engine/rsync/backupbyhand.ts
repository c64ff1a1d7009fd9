// A backup by hand: the same tree, made by plain commands. It lies beside kedge's snapshots, which have a manifest: `init --adopt` takes it in.
import { join } from 'node:path'
import type { RunContext, Target, Verbs } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { readMarks } from '../../marks.ts'
import type { CommandLine } from '../../rows.ts'
import { comment, quote } from '../../shell.ts'
import { isRemote } from '../../source/ssh.ts'
import { backupArgs, mostBases } from './argv.ts'
import { basesOf } from './bases.ts'
import { cachesByHand } from './caches.ts'
import { keepsFractions } from './fractions.ts'
import { type Rule, rulesFile } from './rules.ts'
import { storedOf, suspectsAmong, treeOf } from './snapshots.ts'
import { expectedSource } from './source.ts'
import { rootOf, storeOf } from './store.ts'
import { explain } from './tool.ts'

/** Stands for the new folder, whose name sh makes. */
const mark = '@NEW@'

const line = (command: string): CommandLine => ({ kind: 'command', command })

export async function* byHand(
  target: Target,
  options: Verbs['backup']['options'],
  wanted: readonly string[],
  streams: Target['streams'],
  context: RunContext,
): AsyncGenerator<CommandLine> {
  const root = rootOf(target)
  const unfinished = quote(join(root, 'incomplete'))
  const done = quote(join(root, 'by-hand'))
  // By its name no base of a later backup: what the test below finds in it must come into no snapshot.
  yield line(`id=$(date -u +%Y-%m-%dT%H%M%SZ); new=${unfinished}/by-hand-$id; umask 077; mkdir -p ${done}`)
  if (wanted.length > 0) {
    const source = await expectedSource(target, wanted)
    const bases = await basesNow(target, root, context)
    yield line(`mkdir -p "$new" && mkdir -m 755 "$new/tree"`)
    // As in a backup, the caches' rules come first.
    const caches = target.env.EXCLUDE_CACHES !== 'no'
    const byFind = caches && !isRemote(target)
    if (caches && !byFind) yield comment('the caches of the other host are not looked for: they are saved too')
    if (byFind) yield line(cachesByHand(target, { sources: source.paths, patterns: source.patterns }, '"$new/rules"'))
    if (source.rules.length > 0) yield line(`${printed(source.rules)} >> "$new/rules"`)
    const ruled = byFind || source.rules.length > 0
    const from = options.names ? `${mark}/names` : undefined
    if (options.names) yield line(`printf '%s\\0' ${options.names.map(quote).join(' ')} > "$new/names"`)
    const args = backupArgs(target, {
      ...source.both,
      bases,
      rules: ruled ? `${mark}/rules` : undefined,
      from,
      sources: source.paths,
      to: `${mark}/tree/`,
      resume: false,
      fine: keepsFractions(storeOf(target)),
      dryRun: false,
    })
    const test = bases.length === 0 ? '' : ` && ${detourTest(bases.slice(0, mostBases), '"$new/tree"')}`
    if (test !== '') yield detourNote
    const command = explain(target, args.slice(2).filter(readable)).command.replaceAll(mark, '"$new"')
    yield comment('24: files vanished meanwhile. With 23 some could not be read, as rsync says: what follows it is then for you to do')
    yield line(`{ ${command}; case $? in 0 | 24) ;; *) false ;; esac; }${test} && sync && mv "$new" ${done}/"$id"`)
  }
  for (const { name, file } of streams) {
    const to = `"$new-"${quote(name)}`
    yield line(`mkdir -p ${to}/tree && ${quote(file)} > ${to}/tree/${quote(name)} && sync && mv ${to} ${done}/"$id-"${quote(name)}`)
  }
}

/** What is a folder in the new tree ($0), and no link leads there. By each name below a base ($PWD) that is a link in the base. */
const isFolder =
  'base=$PWD; cd "$0" || echo "$0"; for l do [ -d "$l" ] || continue; p=$l; while [ ! -L "$p" ] && [ "$p" != . ]; do p=${p%/*}; done; ' +
  `[ "$p" != . ] || printf "%s is a folder now, and a link in %s\\n" "$l" "$base"; done`

/**
 * Fails, and names them, where folders of a new tree are links in a base: see detour.ts. `tree`: a word of sh. By what find prints, since
 * not every find ends with the status of what it ran.
 */
export const detourTest = (bases: readonly string[], tree: string): string =>
  `found=$(for base in ${bases.map(quote).join(' ')}; do cd "$base" && find . -type l -exec sh -c ${quote(isFolder)} ${tree} {} + || ` +
  `echo "cannot look into $base"; done) && { [ -z "$found" ] || { printf '%s\\n' "$found" >&2; false; }; }`

export const detourNote = comment(
  'plain rsync follows a link of a base where a folder is now, and would share files with what lives there: where the next line names any, ' +
    'nothing is published; remove the folder of the new snapshot, and begin without that --link-dest',
)

/** What only kedge reads. */
export const readable = (word: string): boolean => !/^(-ii|--out-format=.*|--8-bit-output|--no-human-readable)$/.test(word)

/** Newest trees to link to, where the store can be read. */
async function basesNow(target: Target, root: string, context: RunContext): Promise<string[]> {
  try {
    const found = storedOf(target, context)
    return basesOf(root, found, suspectsAmong(found, await readMarks(target.name))).snapshots.map(treeOf)
  } catch (error) {
    if (error instanceof Failure) return []
    throw error
  }
}

/** Rules as printf writes them: bytes that are no ASCII, and what printf or sh reads more into, as octal numbers. */
export function printed(rules: readonly Rule[]): string {
  const text = rulesFile(rules).toString('latin1')
  const safe = text.replace(/[^ -~]|[\\%']/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`)
  return `printf -- '${safe}'` // a rule begins with a dash
}
