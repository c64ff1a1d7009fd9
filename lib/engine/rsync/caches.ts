// Caches stay out: what lies beside a CACHEDIR.TAG that begins as it should (bford.info/cachedir). rsync has no rule for that, so they are
// looked for before, on this machine by find, on another host by rsync, which brings the tags alone.
import { closeSync, openSync, readSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { type Both, keepFlags, operands, wayFlags } from './argv.ts'
import { saidBy } from './errors.ts'
import { cacheRules, isExcluded, type Rule, rulesFile, rulesOf } from './rules.ts'
import { startTool } from './tool.ts'

const signature = 'Signature: 8a477f597d28d172789f06886806bc55'
const tag = 'CACHEDIR.TAG'

/** `patterns`: those of the exclude files; `dir`: where there is place for the tags of another host. */
export type Search = {
  readonly sources: readonly string[]
  readonly patterns: readonly string[]
  readonly dir: string
  readonly control?: string | undefined
}

/** The rules that leave out what lies in caches. What cannot be told is said once, and everything is saved. */
export async function cachesOf(target: Target, both: Both, search: Search, context: RunContext): Promise<Rule[]> {
  if (target.env.EXCLUDE_CACHES === 'no' || search.sources.length === 0) return []
  try {
    const folders = both.there ? await there(target, both, search, context) : await here(target, search.sources, context)
    return folders.flatMap((folder) => cacheRules(folder, !isExcluded(search.patterns, `${Buffer.from(folder, 'latin1')}/${tag}`)))
  } catch (error) {
    if (!(error instanceof Failure) || context.signal.aborted) throw error
    context.warn(`cannot tell which folders are caches, so that they are saved too: ${error.message}`)
    return []
  }
}

async function here(target: Target, sources: readonly string[], context: RunContext): Promise<string[]> {
  const stay = target.env.ONE_FILE_SYSTEM === 'no' ? [] : ['-xdev']
  return tagsBelow(target, sources, [...stay, '-name', tag], context)
}

/** Folders, a character a byte, whose tag is a good one. */
async function tagsBelow(target: Target, roots: readonly string[], how: readonly string[], context: RunContext): Promise<string[]> {
  const child = startTool(target, ['find', ...roots, ...how, '-print0'], context)
  const chunks: Buffer[] = []
  for await (const chunk of child.stdout ?? []) chunks.push(chunk as Buffer)
  await child.done // what find cannot look into, rsync cannot either, and says so
  const names = Buffer.concat(chunks).toString('latin1').split('\0').filter(Boolean)
  return names.filter((name) => isTag(Buffer.from(name, 'latin1'))).map((name) => name.slice(0, -tag.length - 1))
}

function isTag(file: Buffer): boolean {
  try {
    const descriptor = openSync(file, 'r')
    try {
      const start = Buffer.alloc(signature.length)
      readSync(descriptor, start, 0, start.length, 0)
      return start.toString('latin1') === signature
    } finally {
      closeSync(descriptor)
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
    return false // it cannot be read, or is a folder: then it is no tag
  }
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
    '-rlR',
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
    const found = await tagsBelow(target, [to], ['-name', tag], context)
    return found.map((folder) => folder.slice(Buffer.byteLength(to)))
  } finally {
    for (const path of [to, file]) await rm(path, { recursive: true, force: true })
  }
}
