// A new store: a folder on a file system that can keep snapshots, shown by doing it there, and in it kedge-store.json, put there last.
import { randomBytes } from 'node:crypto'
import { chmod, link, mkdir, open, readdir, rm, rmdir, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { toDisk } from '../../inplace.ts'
import { isAbsent } from '../../ledger.ts'
import { fileSystemOf } from './filesystem.ts'
import { rootOf, type StoreFile, storeFile, storeOf } from './store.ts'
import { startTool } from './tool.ts'
import { rsyncVersion } from './version.ts'

/** What init leaves where it was killed; the next one takes it for nothing. */
const workshop = '.kedge-init'

/** Whether the folder is there. Failure `refused` where a store would be made by mistake: on a path with no parent, or among other files. */
export async function judgePlace(target: Target): Promise<{ exists: boolean }> {
  const store = storeOf(target)
  const refused = (why: string, hint: string) => new Failure('refused', `refusing to create a store in '${store}': ${why}`, { hint })
  try {
    const names = await readdir(store)
    for (const name of names.sort()) {
      if (name === 'lost+found' || name === workshop) continue
      if (name === target.name && (await readdir(join(store, name))).length === 0) continue
      throw refused(`the folder holds something else: ${name}`, 'name a new or empty folder')
    }
    return { exists: true }
  } catch (error) {
    if (!isAbsent(error)) throw error
  }
  const parent = await stat(dirname(store)).catch((error: NodeJS.ErrnoException) => {
    if (isAbsent(error)) return undefined
    throw error
  })
  if (!parent) throw refused(`there is no '${dirname(store)}'`, 'is the disk mounted? Make the folder first where the path is meant')
  if (!parent.isDirectory() || (await isThere(store))) throw refused('it is not a folder', 'name a new or empty folder')
  return { exists: false }
}

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    (error) => {
      if (isAbsent(error)) return false
      throw error
    },
  )

/** Makes the store and the target's folder in it. Failure `refused` where another call was faster, or the file system cannot keep snapshots. */
export async function createStore(target: Target, context: RunContext): Promise<StoreFile> {
  const store = storeOf(target)
  const { exists } = await judgePlace(target)
  await rsyncVersion()
  if (!exists) await mkdir(store, { mode: 0o700 })
  const work = join(store, workshop)
  let kept = false
  try {
    await rm(work, { recursive: true, force: true })
    await mkdir(work, { mode: 0o700 })
    await probe(target, work, context)
    const found: StoreFile = { id: randomBytes(32).toString('hex'), created: new Date().toISOString() }
    const fresh = join(work, 'kedge-store.json')
    const file = await open(fresh, 'wx', 0o644)
    try {
      await file.writeFile(`${JSON.stringify(found)}\n`)
      await file.sync()
    } finally {
      await file.close()
    }
    await makeRoot(target)
    // link, not rename: it takes the place of nothing.
    await link(fresh, storeFile(target)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
      throw new Failure('refused', `refusing to create a store in '${store}': another was made meanwhile`)
    })
    kept = true
    await toDisk(store)
    return found
  } finally {
    await rm(work, { recursive: true, force: true })
    if (!kept && !exists) await rmdir(store).catch(unlessFilled)
  }
}

/** The folder of a target's snapshots, which hold the files of all users: closed to others. */
export async function makeRoot(target: Target, owner = target.name): Promise<void> {
  const root = rootOf(target, owner)
  try {
    await mkdir(root, { mode: 0o700 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return
    throw error
  }
  await toDisk(dirname(root))
}

function unlessFilled(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
}

/** What snapshots need: hard links; and, without root, attributes of users, in which rsync --fake-super keeps owners and devices. */
async function probe(target: Target, folder: string, context: RunContext): Promise<void> {
  const [file, beside] = [join(folder, 'file'), join(folder, 'link')]
  await writeFile(file, 'x')
  try {
    await link(file, beside)
    if ((await stat(file)).nlink !== 2) throw await unfit(target, 'has no hard links')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (!['EPERM', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'EMLINK', 'EINVAL'].includes(code ?? '')) throw error
    throw await unfit(target, 'has no hard links', error)
  }
  if (process.geteuid?.() === 0) return
  await chmod(file, 0o4755) // what an ordinary user's copy may not have: it goes into an attribute
  const { status } = await startTool(target, ['rsync', '-a', '--fake-super', file, join(folder, 'copy')], context, { stdout: 'ignore' })
    .done
  if (status !== 0) throw await unfit(target, 'keeps no extended attributes, in which rsync notes owners where no root runs it')
}

async function unfit(target: Target, what: string, cause?: unknown): Promise<Failure> {
  const store = storeOf(target)
  const name = (await fileSystemOf(store))?.name
  return new Failure('refused', `refusing to create a store in '${store}': its file system${name ? ` (${name})` : ''} ${what}`, {
    hint: 'take a disk with ext4, xfs, btrfs, zfs or ffs',
    cause,
  })
}
