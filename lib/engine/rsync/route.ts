// How a restore goes: whole paths, which rsync walks by itself, or a list of entries where patterns choose; and the folders above them.
import { isUtf8 } from 'node:buffer'
import { readdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { held, type Job } from '../../restoring.ts'
import { type Move, pathArgs } from './bring.ts'
import { statAt } from './entry.ts'
import { type Line, pathBytes } from './manifest.ts'
import type { Selected } from './selected.ts'
import { type Found, treeOf } from './snapshots.ts'

/** A job, and which way it goes. */
export type Planned = Job & { readonly found: Found; readonly route: Route; readonly move: Move }

/** `paths`: as the snapshot has them, from its root; undefined: a list. */
export type Route = { readonly paths: readonly string[] | undefined }

/** `listed`: not all below a path is wanted, or can be walked to. */
export function routeOf(found: Found, job: Job, listed: boolean): Route {
  if (listed) return { paths: undefined }
  const { path = '/', how } = job
  if (path !== '/' && !how.delete) return { paths: path.includes('\ufffd') ? undefined : [path] }
  const tree = treeOf(found)
  // In place the folders above what was saved are not the snapshot's to change.
  const paths = how.to === '/' ? held(job).filter((each) => lies(join(tree, each))) : tops(tree)
  return { paths: paths && paths.length > 0 ? paths : undefined }
}

/** What lies at the top of a tree; undefined where a name cannot be an argument. */
function tops(tree: string): string[] | undefined {
  const names = readdirSync(tree, { encoding: 'buffer' })
  return names.every(isUtf8) ? names.map((name) => `/${name}`).sort() : undefined
}

const lies = (path: string | Buffer): boolean => statAt(path) !== undefined
const leads = (path: string | Buffer): boolean => statSync(path, { throwIfNoEntry: false }) !== undefined

/** Folders above the paths that are not there, from the top. rsync would make them with the modes of new ones. */
export function missingAbove(paths: readonly string[]): string[] {
  const missing = new Set<string>()
  for (const path of paths) for (let at = dirname(path); at !== '/' && !leads(at); at = dirname(at)) missing.add(at)
  return [...missing].sort()
}

/** The folders above the paths as the snapshot has them; undefined where none is missing. */
export function aboveArgs(move: Move, paths: readonly string[]): string[] | undefined {
  const missing = move.inPlace ? missingAbove(paths) : []
  return missing.length > 0 ? pathArgs(move, missing, true) : undefined
}

const nul = Buffer.from([0])

/** The list for rsync: NUL behind each path; in place with the folders above that are not there. */
export async function* listOf(entries: AsyncIterable<readonly Selected[]>, inPlace: boolean): AsyncGenerator<Buffer> {
  let above: readonly string[] = []
  for await (const batch of entries) {
    const names: Buffer[] = []
    for (const { line } of batch) {
      if (inPlace) {
        const chain = foldersAbove(line)
        for (const folder of chain) {
          if (above.includes(folder)) continue
          const name = pathBytes(folder)
          if (!leads(Buffer.concat([Buffer.from('/'), name]))) names.push(name, nul)
        }
        above = chain
      }
      names.push(pathBytes(line.path), nul)
    }
    if (names.length > 0) yield Buffer.concat(names)
  }
}

/** 'a/b/c' -> 'a', 'a/b'. */
function foldersAbove({ path }: Pick<Line, 'path'>): string[] {
  const found: string[] = []
  for (let at = path.indexOf('/'); at >= 0; at = path.indexOf('/', at + 1)) found.push(path.slice(0, at))
  return found
}
