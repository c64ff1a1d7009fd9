// A folder for a run's throw-away files: closed to others, removed at the end, or by the next run of its kind when that one died.
import { chmod, lstat, mkdir, readdir, readlink, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { Failure } from './failure.ts'
import { stateDir } from './paths.ts'

/** Where a target's scratch folders lie, or links to those that lie elsewhere. */
const home = (target: string) => join(stateDir(target), 'scratch')

export type Place = {
  target: string
  /** Whose: folders of other kinds are left alone. */
  kind: string
  run: string
  /** A folder of the operator's, for what is too large for the state folder. */
  elsewhere?: string | undefined
}

/** Rows made with a scratch folder. The caller holds the lock of its kind: all other folders of that kind are a dead run's. */
export async function* withScratch<T>(
  place: Place,
  log: (message: string) => void,
  use: (folder: string) => AsyncGenerator<T>,
): AsyncGenerator<T> {
  const { target, kind, run, elsewhere } = place
  await mkdir(home(target), { recursive: true, mode: 0o700 })
  for (const name of await readdir(home(target))) {
    if (name.startsWith(`${kind}-`)) log(`removed what a dead run left in '${await removeOne(join(home(target), name))}'`)
  }
  const at = join(home(target), `${kind}-${run}`)
  const folder = elsewhere === undefined ? at : join(elsewhere, `kedge-${target}-${kind}-${run}`)
  if (folder !== at) await symlink(folder, at) // the next run finds it there if this one dies
  try {
    await mkdir(folder, { mode: 0o700 })
  } catch (error) {
    if (folder !== at) await rm(at)
    throw new Failure('misuse', `cannot make the scratch folder '${folder}': ${(error as Error).message}`, { cause: error })
  }
  try {
    yield* use(folder)
  } finally {
    await removeOne(at)
  }
}

/** Removes a scratch folder, or a link and the folder that it names; gives the folder's path. */
async function removeOne(at: string): Promise<string> {
  const folder = (await isLink(at)) ? await readlink(at) : at
  await removeTree(folder)
  if (folder !== at) await rm(at, { force: true })
  return folder
}

async function isLink(at: string): Promise<boolean> {
  try {
    return (await lstat(at)).isSymbolicLink()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

/** rm -r that also passes restored folders which their owner may not write. */
async function removeTree(folder: string): Promise<void> {
  try {
    await rm(folder, { recursive: true, force: true, maxRetries: 3 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error
    await open(folder)
    await rm(folder, { recursive: true, force: true, maxRetries: 3 })
  }
}

/** What the rm that failed had begun beside goes on meanwhile: any of it may be gone. */
async function open(folder: string): Promise<void> {
  try {
    await chmod(folder, 0o700)
    for (const entry of await readdir(folder, { withFileTypes: true })) if (entry.isDirectory()) await open(join(folder, entry.name))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
