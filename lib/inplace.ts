// A file replaced by one that differs in nothing but what it holds: a link stays a link, and owner, group and mode stay.
import type { Stats } from 'node:fs'
import { open, readFile, realpath, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Failure } from './failure.ts'
import { isAbsent } from './ledger.ts'

export type Rights = Pick<Stats, 'uid' | 'gid' | 'mode'>

/** The file that a link leads to; the path as it is where nothing is there. */
export async function realFile(file: string): Promise<string> {
  try {
    return await realpath(file)
  } catch (error) {
    if (isAbsent(error)) return file
    throw error
  }
}

/** Undefined where there is no file. */
export async function rightsOf(file: string): Promise<Rights | undefined> {
  try {
    return await stat(file)
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}

/**
 * Writes a file that is not there yet, so that it lasts; nobody else can read it before it has its owner. `rights`: without an owner it
 * is the caller's. `named`: the file that it is to replace. Failure `permission` where the caller may not give it that owner.
 */
export async function writeNew(
  fresh: string,
  content: string | Uint8Array,
  rights: Pick<Rights, 'mode'> & Partial<Rights>,
  named: string,
): Promise<void> {
  const handle = await open(fresh, 'wx', 0o600)
  try {
    const made = await handle.stat()
    const { uid = made.uid, gid = made.gid, mode } = rights
    if (uid !== made.uid || gid !== made.gid) await handle.chown(uid, gid).catch(notGiven(named, `${uid}:${gid}`))
    await handle.chmod(mode & 0o777)
    await handle.writeFile(content)
    await handle.sync()
  } catch (error) {
    await rm(fresh, { force: true })
    throw error
  } finally {
    await handle.close()
  }
}

/** Replaces the text of a file by what `change` makes of it: a reader, and whoever comes after a power cut, sees the one or the other. */
export async function changeText(file: string, change: (text: string) => string): Promise<void> {
  const real = await realpath(file)
  const fresh = `${real}.${process.pid}.new`
  await rm(fresh, { force: true }) // of a killed call with this pid, as is usual in containers
  await writeNew(fresh, change(await readFile(real, 'utf8')), await stat(real), file)
  await putInPlace(fresh, real, file)
  await toDisk(dirname(real))
}

/**
 * Puts a new file in the place of the real one, or removes it. `named`: what it was called. Failure `permission` for a mount of its own,
 * as of a single file in a container: nothing can take its place.
 */
export async function putInPlace(fresh: string, real: string, named: string): Promise<void> {
  try {
    await rename(fresh, real)
  } catch (error) {
    await rm(fresh, { force: true })
    if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error
    throw new Failure('permission', `cannot write '${named}': it is a mount of its own`, {
      hint: 'mount the folder that it lies in, or change the file where it is mounted from',
      cause: error,
    })
  }
}

/** Makes the bytes of a file, or the names in a folder, last through a power cut. */
export async function toDisk(path: string): Promise<void> {
  const handle = await open(path, 'r')
  await handle.sync().finally(() => handle.close())
}

/** EINVAL: an owner that a container does not know. */
const notGiven = (file: string, owner: string) => (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPERM' && error.code !== 'EINVAL') throw error
  throw new Failure('permission', `cannot write '${file}': its owner ${owner} cannot be kept: operation not permitted`, {
    hint: 'run as root, or make it your own first',
    cause: error,
  })
}
