// restore --in-place --delete: what would go, asked of restic first. What a backup leaves out on purpose is in no snapshot, and
// restic would delete it as surplus: kedge's own folders, the excluded, other file systems. Nothing of that goes.
import { lstatSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { cacheDir, configDir, stateDir } from '../../paths.ts'
import { judge, literal, type Pattern, parsePattern } from '../../pattern.ts'
import { quote } from '../../shell.ts'
import { extract } from './extract.ts'
import { localRepository, resticEnv } from './tool.ts'

/** `args`: the restore's, as a preview; `roots`: the paths that the snapshot holds. Gives the paths that would be deleted; Failure 'refused' when one must not be. */
export async function surplus(target: Target, args: readonly string[], roots: readonly string[], context: RunContext): Promise<string[]> {
  const found: string[] = []
  await extract(target, args, context, {
    action: `see what a restore of '${target.name}' would delete`,
    onDeleted: (path) => found.push(path),
  })
  const own = [localRepository(target), cacheDir(target.name), stateDir(target.name), configDir()].filter((path) => path !== undefined)
  const patterns = await excluded(target, context)
  for (const path of found) {
    const reason = protectedBy(path, own, patterns) ?? (target.env.ONE_FILE_SYSTEM === 'no' ? undefined : mounted(path, roots))
    if (reason)
      throw new Failure('refused', `refusing to delete '${path}': ${reason}`, {
        hint: `--exclude ${quote(literal(path))} leaves it alone; without --delete nothing is deleted`,
      })
  }
  return found
}

function protectedBy(path: string, own: readonly string[], patterns: readonly Pattern[]): string | undefined {
  const inside = (a: string, b: string) => a === b || a.startsWith(`${b}/`)
  if (own.some((folder) => inside(path, folder) || inside(folder, path))) return "it holds kedge's own files"
  if (judge(patterns, path)[0]) return 'the backup leaves it out, so that no snapshot has it'
  return undefined
}

/** The patterns of the exclude files as restic reads them: trimmed, without comments, variables expanded. */
async function excluded(target: Target, context: RunContext): Promise<Pattern[]> {
  const env = resticEnv(target, context.secrets)
  const texts = await Promise.all(target.excludes.map((file) => readFile(file, 'utf8')))
  const lines = texts.flatMap((text) => text.split('\n').map((line) => line.trim()))
  const expand = (line: string) =>
    line.replace(/\$(\$|\w+|\{\w+\})/g, (_, name: string) => (name === '$' ? '$' : (env[name.replace(/[{}]/g, '')] ?? '')))
  return lines.filter((line) => line !== '' && !line.startsWith('#')).map((line) => parsePattern(expand(line)))
}

/** A folder in which another file system is mounted is saved empty: what lies in it looks like surplus. */
function mounted(path: string, roots: readonly string[]): string | undefined {
  for (let at = path; at !== '/' && !roots.includes(at); at = dirname(at))
    if (deviceOf(at) !== deviceOf(dirname(at))) return `another file system is mounted at '${at}'`
  return undefined
}

const deviceOf = (path: string) => lstatSync(path, { throwIfNoEntry: false })?.dev
