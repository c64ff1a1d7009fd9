// Caches stay out: what lies beside a CACHEDIR.TAG that begins as it should (bford.info/cachedir). rsync has no rule for that, so they are
// looked for before, on this machine by find, on another host by rsync, which brings the tags alone.
import { rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { isCacheTag, signature, cacheTag as tag } from '../../cachedir.ts'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { quote } from '../../shell.ts'
import { type Both, keepFlags, operands, wayFlags } from './argv.ts'
import { saidBy } from './errors.ts'
import { cacheRules, isExcluded, type Rule, rulesFile, rulesOf } from './rules.ts'
import { startTool } from './tool.ts'

/** `patterns`: those of the exclude files; `dir`: where there is place for the tags of another host. */
export type Search = {
  readonly sources: readonly string[]
  readonly patterns: readonly string[]
  readonly dir: string
  readonly control?: string | undefined
}

/** The rules that leave out what lies in caches; without `both` on this machine. What cannot be told is said once, and everything is saved. */
export async function cachesOf(target: Target, both: Both | undefined, search: Search, context: RunContext): Promise<Rule[]> {
  if (target.env.EXCLUDE_CACHES === 'no' || search.sources.length === 0) return []
  try {
    const folders = both?.there ? await there(target, both, search, context) : await here(target, search, context)
    return folders.flatMap((folder) => cacheRules(folder, !isExcluded(search.patterns, `${Buffer.from(folder, 'latin1')}/${tag}`)))
  } catch (error) {
    if (!(error instanceof Failure) || context.signal.aborted) throw error
    context.warn(`cannot tell which folders are caches, so that they are saved too: ${error.message}`)
    return []
  }
}

async function here(target: Target, { sources, patterns }: Search, context: RunContext): Promise<string[]> {
  const stay = target.env.ONE_FILE_SYSTEM === 'no' ? [] : ['-xdev']
  return tagsBelow(target, sources, [...stay, ...pruned(patterns, sources), '-type', 'f', '-name', tag], context)
}

/** find's words for folders that are left out in any case: what lies in them is not looked for. A pattern with wildcards may fit less than find's would. */
export function pruned(patterns: readonly string[], sources: readonly string[]): string[] {
  if (patterns.some((pattern) => pattern.startsWith('!'))) return []
  const plain = patterns
    .map((pattern) => pattern.replace(/(?<=.)\/+$/, ''))
    .filter((pattern) => !/[*?[\]\\]|\/\.{0,2}(?:\/|$)/.test(pattern))
  const words = plain
    .filter((pattern) => basename(pattern) !== tag && !sources.some((source) => isExcluded([pattern], source)))
    .flatMap((pattern) => (pattern.startsWith('/') ? ['-o', '-path', pattern] : pattern.includes('/') ? [] : ['-o', '-name', pattern]))
  return words.length === 0 ? [] : ['(', ...words.slice(1), ')', '-prune', '-o']
}

/** The same by hand: appends the rules of this machine's caches to a file of rules, which is a word of sh. Names of any kind are well. */
export function cachesByHand(target: Target, { sources, patterns }: Pick<Search, 'sources' | 'patterns'>, file: string): string {
  const stay = target.env.ONE_FILE_SYSTEM === 'no' ? '' : ' -xdev'
  // A backslash is written twice only in a rule with a wildcard.
  const keep = isExcluded(patterns, `/${tag}`) ? '' : `case $f in *[*?[]*) k=$d ;; *) k=\${f%/*} ;; esac; printf "+ %s/${tag}\\000" "$k"; `
  const each =
    `for f do [ "$(dd if="$f" bs=${signature.length} count=1 2>/dev/null)" = "${signature}" ] || continue; ` +
    `d=$(printf "%s/" "\${f%/*}" | sed "s/[][\\\\*?]/\\\\\\\\&/g"); d=\${d%/}; ${keep}printf -- "- %s/*\\000" "$d"; done`
  return `find ${sources.map(quote).join(' ')}${stay} -name ${tag} -type f -exec sh -c ${quote(each)} sh {} + >> ${file}`
}

/** Folders, a character a byte, whose tag is a good one. */
async function tagsBelow(target: Target, roots: readonly string[], how: readonly string[], context: RunContext): Promise<string[]> {
  const child = startTool(target, ['find', ...roots, ...how, '-print0'], context)
  const chunks: Buffer[] = []
  for await (const chunk of child.stdout ?? []) chunks.push(chunk as Buffer)
  await child.done // what find cannot look into, rsync cannot either, and says so
  const names = Buffer.concat(chunks).toString('latin1').split('\0').filter(Boolean)
  return names.filter((name) => isCacheTag(Buffer.from(name, 'latin1'))).map((name) => name.slice(0, -tag.length - 1))
}

/** The tags of another host, in a folder that is removed again. */
async function there(target: Target, both: Both, { sources, patterns, dir, control }: Search, context: RunContext): Promise<string[]> {
  const to = join(dir, 'tags')
  const file = join(dir, 'tag-rules')
  // A rule that brings something back would bring it here.
  const kept = patterns.some((pattern) => pattern.startsWith('!')) ? [] : rulesOf(patterns, sources)
  await writeFile(file, rulesFile([...kept, '+ */', `+ ${tag}`, '- *']), { mode: 0o600 })
  const flags = [
    ...keepFlags(target, both).filter((flag) => !flag.startsWith('-a') && flag !== '--fake-super'),
    '-rR',
    // What its owner may not look into is brought into a folder in which the tags are looked for.
    '--chmod=Du+rwx,Fu+r',
    '--prune-empty-dirs',
  ]
  const command = ['rsync', ...flags, '--from0', `--exclude-from=${file}`, '--max-size=64k', ...wayFlags(target, both, control)]
  try {
    const child = startTool(target, [...command, '--', ...operands(target, both, sources), `${to}/`], context, {
      stdout: 'ignore',
      relays: true,
    })
    const { status, stderr } = await child.done
    // 23 and 24: what is missing, cannot be read or is gone is told of by the backup itself.
    if (![0, 23, 24].includes(status)) throw new Failure('tool', saidBy(stderr) || `rsync ended with status ${status}`)
    const found = await tagsBelow(target, [to], ['-type', 'f', '-name', tag], context)
    return found.map((folder) => folder.slice(Buffer.byteLength(to)))
  } finally {
    for (const path of [to, file]) await rm(path, { recursive: true, force: true })
  }
}
