// Files that install writes: what is there, what is to be there, and the steps from one to the other. A file that it did not write is
// neither replaced nor removed.
import { chmod, mkdir, readdir, readFile, rm, rmdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Failure } from '../failure.ts'
import { isAbsent, replaceFile } from '../ledger.ts'
import { isMarked, ownerOf, type UnitFile } from './units.ts'

/** `name` below the folder; `text` is undefined where it is to go. */
export type Step = {
  readonly name: string
  readonly path: string
  readonly target: string
  readonly action: 'written' | 'removed' | 'unchanged'
  readonly text: string | undefined
}

/** The files of kedge's in a folder of units, by name, with their text. */
export async function present(folder: string): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  for (const name of (await list(folder)).filter((each) => each.startsWith('kedge-'))) {
    if (/\.(timer|service)$/.test(name)) await add(found, folder, name)
    else if (name.endsWith('.service.d')) {
      for (const each of await list(join(folder, name))) if (each.endsWith('.conf')) await add(found, folder, join(name, each))
    }
  }
  return found
}

async function list(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort()
  } catch (error) {
    if (isAbsent(error)) return []
    throw error
  }
}

async function add(found: Map<string, string>, folder: string, name: string): Promise<void> {
  try {
    found.set(name, await readFile(join(folder, name), 'utf8'))
  } catch (error) {
    if (!isAbsent(error)) throw error // a link to nowhere: systemctl's own
  }
}

/**
 * The steps to what is wanted. `stays`: whether a file that is there and not wanted is left.
 * Failure `refused` where a file of somebody else's is in the way.
 */
export function stepsTo(
  folder: string,
  wanted: readonly UnitFile[],
  there: ReadonlyMap<string, string>,
  stays: (name: string) => boolean,
): Step[] {
  const steps = wanted.map(({ name, text, target }): Step => {
    const old = there.get(name)
    const path = join(folder, name)
    if (old !== undefined && old !== text && !isMarked(old))
      throw new Failure('refused', `refusing to replace '${path}': kedge schedule install did not write it`, {
        hint: 'move it away; what was changed in it belongs into a drop-in (systemctl edit)',
      })
    return { name, path, target, text, action: old === text ? 'unchanged' : 'written' }
  })
  const names = new Set(wanted.map(({ name }) => name))
  for (const [name, text] of there) {
    if (names.has(name) || !isMarked(text) || stays(name)) continue
    steps.push({ name, path: join(folder, name), target: ownerOf(name)?.target ?? '-', text: undefined, action: 'removed' })
  }
  return steps
}

/** Does one step; a folder of drop-ins that is empty then goes too. */
export async function take({ path, text, action }: Step): Promise<void> {
  if (action === 'unchanged') return
  if (text === undefined) {
    await rm(path, { force: true })
    if (dirname(path).endsWith('.d')) await rmdir(dirname(path)).catch(unlessFull)
    return
  }
  await mkdir(dirname(path), { recursive: true, mode: 0o755 })
  await replaceFile(path, text, 0o644)
  await chmod(path, 0o644) // whatever the umask: others may look what runs when
}

function unlessFull(error: NodeJS.ErrnoException): void {
  if (!['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(error.code ?? '')) throw error
}
