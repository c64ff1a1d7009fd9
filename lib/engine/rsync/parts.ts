// Files that were cut off. rsync keeps what it has of one in a folder beside its place; a run into a new tree finds it only there.
import { randomBytes } from 'node:crypto'
import { existsSync, lstatSync, mkdirSync, readFileSync, renameSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join, normalize } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { escapePath, readManifest } from './manifest.ts'
import { startTool } from './tool.ts'

/**
 * rsync's name for the folders of parts, other for each unfinished snapshot: whoever knew it before could put a link of that name into the
 * source, and rsync would take for a part what lies behind it.
 */
export async function namePartial(dir: string): Promise<void> {
  await writeFile(join(dir, 'partial'), `.kedge-partial-${randomBytes(6).toString('hex')}\n`, { mode: 0o600, flag: 'wx' })
}

/** The name in an unfinished snapshot; undefined where it has none, or a crash left the file empty. */
export function partialOf(dir: string): string | undefined {
  try {
    return /^\.kedge-partial-[0-9a-f]{12}$/.exec(readFileSync(join(dir, 'partial'), 'utf8').trim())?.[0]
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

export type Salvage = {
  /** Where each part lies now, and where it lay. */
  readonly moved: readonly { readonly from: string; readonly to: string }[]
  /** Folders below the tree that were made for them, the outer ones first. */
  readonly made: readonly string[]
}

export const nothing: Salvage = { moved: [], made: [] }

/**
 * Moves the parts from unfinished trees to the same place in a new one. rsync writes into them, so only what has no other name is moved:
 * the part of a file, or, where rsync was killed, its temporary file.
 */
export async function salvage(target: Target, unfinished: readonly string[], dir: string, context: RunContext): Promise<Salvage> {
  const made = new Set<string>()
  const moved: { from: string; to: string }[] = []
  const tree = join(dir, 'tree')
  const name = partialOf(dir)
  if (name === undefined) return nothing
  for (const from of unfinished) {
    const old = join(from, 'tree')
    const oldName = partialOf(from)
    const part = oldName === undefined ? [] : ['-path', `*/${oldName}/*`, '-o']
    const named = ['(', ...part, ...temporary, '-size', '+2047', ')']
    for (const path of await find(target, ['find', '.', '-type', 'f', '-links', '1', ...named, '-print0'], old, context)) {
      const to = normalize(place(path, oldName, name))
      if (existsSync(join(tree, to)) || lstatSync(join(old, path)).nlink !== 1) continue
      for (const folder of above(to)) if (!existsSync(join(tree, folder))) made.add(folder)
      mkdirSync(dirname(join(tree, to)), { recursive: true, mode: 0o700 })
      const move = { from: join(old, path), to: join(tree, to) }
      renameSync(move.from, move.to)
      moved.push(move)
    }
  }
  return { moved, made: [...made] }
}

/** Parts that no file made use of go back to the unfinished trees, for the next run. */
export function giveBack({ moved }: Salvage): void {
  for (const { from, to } of moved) if (existsSync(to)) renameSync(to, from)
}

/** Where the part of a file belongs: '.big.X1y2Z3' is rsync's name for a file that it writes. */
function place(path: string, oldName: string | undefined, name: string): string {
  const folder = dirname(path)
  if (basename(folder) === oldName) return join(dirname(folder), name, basename(path))
  return join(folder, name, basename(path).slice(1, -'.X1y2Z3'.length))
}

/** Names that rsync may have given, but for those of which '.' or '..' would be the file. */
const temporary = ['-name', '.?*.??????', '!', '-name', '...??????', '!', '-name', '....??????']

/** The folders that a path lies in, the outer ones first. */
function above(path: string): string[] {
  const folder = dirname(path)
  return folder === '.' ? [] : [...above(folder), folder]
}

/** Folders a process: far below any limit of argv. */
const batch = 200

/**
 * Takes out of a tree the parts that no file made use of, and then what is empty of the folders that were made for them, where the manifest
 * does not name it: its place is gone at the source. What lies above keeps its time.
 */
export async function sweep(target: Target, dir: string, made: readonly string[], context: RunContext): Promise<void> {
  const time = join(dir, 'time')
  const take = (remove: string) => ['sh', '-c', `for f do touch -r "\${f%/*}" "$0"; ${remove} "$f"; touch -r "$0" "\${f%/*}"; done`, time]
  const tool = (command: readonly string[]) => startTool(target, command, context, { stdout: 'ignore' }).done
  const tree = join(dir, 'tree')
  const name = partialOf(dir)
  if (name !== undefined) await tool(['find', tree, '-type', 'd', '-name', name, '-prune', '-exec', ...take('rm -rf'), '{}', '+'])
  const gone = (await unnamed(dir, made)).reverse().map((folder) => join(tree, folder))
  for (let at = 0; at < gone.length; at += batch) await tool([...take('rmdir'), ...gone.slice(at, at + batch)])
  await rm(time, { force: true })
}

/** Those of the folders that are not in the manifest. */
async function unnamed(dir: string, folders: readonly string[]): Promise<string[]> {
  if (folders.length === 0) return []
  const left = new Map(folders.map((folder) => [escapePath(Buffer.from(folder)), folder]))
  for await (const lines of readManifest(join(dir, 'manifest'))) for (const { path, type } of lines) if (type === 'd') left.delete(path)
  return [...left.values()]
}

/** A name that is not UTF-8 is left out: its file is begun anew. */
async function find(target: Target, command: readonly string[], cwd: string, context: RunContext): Promise<string[]> {
  const child = startTool(target, command, context, { cwd })
  const chunks: Buffer[] = []
  for await (const chunk of child.stdout ?? []) chunks.push(chunk as Buffer)
  await child.done // what it could not look into holds nothing that rsync had begun
  const names = Buffer.concat(chunks).toString('utf8').split('\0')
  return names.filter((name) => name !== '' && !name.includes('\uFFFD'))
}
