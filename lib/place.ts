// A folder that something is to be written into: is it empty or new, and is there space?
import { readdir, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Failure } from './failure.ts'
import { bytes } from './format.ts'

/** Failure 'refused' unless the folder is new or empty; the lost+found of a fresh file system does not count. */
export async function checkEmpty(folder: string): Promise<void> {
  let names: string[]
  try {
    names = await readdir(folder)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return
    throw new Failure(code === 'ENOTDIR' ? 'refused' : 'permission', `cannot restore to '${folder}': ${message}`, { cause: error })
  }
  if (names.every((name) => name === 'lost+found')) return
  throw new Failure('refused', `refusing to restore to '${folder}': it is not empty`, {
    hint: 'name a new folder; --in-place overwrites the files where they were',
  })
}

/** Bytes free for us on the file system of a folder, which need not exist yet. */
export async function freeSpace(folder: string): Promise<number> {
  for (let at = folder; ; at = dirname(at)) {
    try {
      const { bavail, bsize } = await statfs(at)
      return bavail * bsize
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || at === dirname(at)) throw error
    }
  }
}

/** Failure 'space' when less is free than is needed. `action`: as `restore to '/tmp/x'`. */
export async function checkSpace(folder: string, needed: number, action: string, hint: string): Promise<void> {
  const free = await freeSpace(folder)
  if (needed > free) throw new Failure('space', `cannot ${action}: it needs ${bytes(needed)}, and ${bytes(free)} are free`, { hint })
}
