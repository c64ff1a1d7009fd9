// Files that were cut off. rsync keeps what it has of one in a folder beside its place; a run into a new tree finds it only there.
import { existsSync, lstatSync, mkdirSync, renameSync, rmSync, statSync, utimesSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { partialName } from './argv.ts'
import { startTool } from './tool.ts'

/** The time of a folder that was made for a part of a file: rsync gives it its own, if the source has the folder. */
const untouched = 1

/**
 * Moves the parts from unfinished trees to the same place in a new one. rsync writes into them, so only what has no other name is moved:
 * the part of a file, or, where rsync was killed, its temporary file. Returns the folders that it made for them, the outer ones first.
 */
export async function salvage(target: Target, unfinished: readonly string[], dir: string, context: RunContext): Promise<string[]> {
  const made = new Set<string>()
  const tree = join(dir, 'tree')
  for (const from of unfinished) {
    const old = join(from, 'tree')
    const named = ['(', '-path', `*/${partialName}/*`, '-o', '-name', '.?*.??????', '-size', '+2047', ')']
    for (const path of await find(target, ['find', '.', '-type', 'f', '-links', '1', ...named, '-print0'], old, context)) {
      const to = place(path)
      if (existsSync(join(tree, to)) || lstatSync(join(old, path)).nlink !== 1) continue
      for (const folder of above(to)) if (!existsSync(join(tree, folder))) made.add(folder)
      mkdirSync(dirname(join(tree, to)), { recursive: true, mode: 0o700 })
      renameSync(join(old, path), join(tree, to))
    }
  }
  const folders = [...made].map((folder) => join(tree, folder))
  for (const folder of folders) utimesSync(folder, untouched, untouched)
  return folders
}

/** Where the part of a file belongs: '.big.X1y2Z3' is rsync's name for a file that it writes. */
function place(path: string): string {
  const folder = dirname(path)
  if (basename(folder) === partialName) return path
  return join(folder, partialName, basename(path).slice(1, -'.X1y2Z3'.length))
}

/** The folders that a path lies in, the outer ones first. */
function above(path: string): string[] {
  const folder = dirname(path)
  return folder === '.' ? [] : [...above(folder), folder]
}

/** Takes out of a tree the parts that no file made use of, and the folders of those whose place is gone at the source. */
export async function sweep(target: Target, dir: string, made: readonly string[], context: RunContext): Promise<void> {
  const gone = made.filter((folder) => statSync(folder, { throwIfNoEntry: false })?.mtimeMs === untouched * 1000)
  for (const folder of gone) rmSync(folder, { recursive: true, force: true })
  await startTool(
    target,
    ['find', join(dir, 'tree'), '-type', 'd', '-name', partialName, '-prune', '-exec', 'rm', '-rf', '{}', '+'],
    context,
    {
      stdout: 'ignore',
    },
  ).done
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
