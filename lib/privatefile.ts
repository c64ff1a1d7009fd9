// A file that only its owner sees, for a program that wants a file: in memory where there is a tmpfs. It is overwritten and removed on
// every way out: by kedge, by a watcher when kedge is killed, and by the next call when both are.
import { chmod, lstat, mkdir, mkdtemp, open, readdir, readFile, realpath, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { start } from './child.ts'
import type { Context } from './contract.ts'
import { callerEnv, callerVar } from './env.ts'
import { isAbsent } from './ledger.ts'
import { stateDir } from './paths.ts'
import { alive, type Identity, identity } from './process.ts'

const prefix = 'kedge-secret-'
const ownerFile = '.owner'
/** statfs(2) on Linux: tmpfs and ramfs. */
const memoryTypes = [0x01021994, 0x858458f6]
/** Seconds after which a folder without an owner is a dead call's: it is written before anything else. */
const unowned = 60

// Overwritten first: where it is no tmpfs the blocks outlive the name. Deaf to what ends kedge's group: the end of stdin is its sign.
const watch =
  'trap "" INT HUP TERM; cat >/dev/null; for each in "$1"/* "$1"/.[!.]*; do [ -f "$each" ] && [ ! -h "$each" ] && ' +
  'dd if=/dev/zero of="$each" bs=1024 count=$(($(wc -c <"$each") / 1024 + 1)) conv=notrunc; done 2>/dev/null; rm -rf -- "$1"'

/** Where a target's private files lie when there is no tmpfs. */
export const diskFolder = (target: string): string => join(stateDir(target), 'scratch')

/** What `use` gives for the path of a file that holds the text. `disk`: where it lies when there is no tmpfs. */
export async function withPrivateFile<T>(
  name: string,
  text: string,
  disk: string,
  context: Pick<Context, 'log'>,
  use: (file: string) => Promise<T>,
): Promise<T> {
  const folder = (await inMemory()) ?? (await onDisk(disk, context))
  const watcher = start(['/bin/sh', '-c', watch, 'sh', folder], { env: callerEnv(), stdin: 'pipe', stdout: 'ignore' })
  try {
    await writeFile(join(folder, ownerFile), JSON.stringify(identity()), { mode: 0o600 })
    const file = join(folder, name)
    await writeFile(file, text, { mode: 0o600, flag: 'wx' })
    return await use(file)
  } finally {
    await wipeFolder(folder)
    watcher.stdin?.end()
    await watcher.done
  }
}

/** Wipes what dead calls of this user left. */
export async function sweepPrivate(disk: string, context: Pick<Context, 'log'>): Promise<void> {
  for (const base of [...(await memoryFolders()), disk]) {
    for (const name of await readdir(base).catch(noneThere)) {
      const folder = join(base, name)
      if (!name.startsWith(prefix) || !(await isLeft(folder))) continue
      await wipeFolder(folder)
      context.log(`removed what a killed call left in '${folder}'`)
    }
  }
}

/** Overwrites a plain file and removes it; a link, and a file that has further names, only loses this name. */
export async function wipe(file: string): Promise<void> {
  const found = await lstat(file)
  if (found.isFile() && found.nlink === 1) {
    await chmod(file, 0o600)
    const handle = await open(file, 'r+')
    try {
      for (let at = 0; at < found.size; at += zeros.length) await handle.write(zeros, 0, Math.min(zeros.length, found.size - at), at)
      await handle.sync()
    } finally {
      await handle.close()
    }
  }
  await rm(file)
}

const zeros = Buffer.alloc(65_536)

/** Editors put copies beside the file: all of them go. */
async function wipeFolder(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(noneThere))
    if (entry.isFile()) await wipe(join(folder, entry.name)).catch(unlessAbsent)
  await rm(folder, { recursive: true, force: true })
}

function noneThere(error: NodeJS.ErrnoException): [] {
  if (isAbsent(error) || error.code === 'EACCES') return []
  throw error
}

function unlessAbsent(error: NodeJS.ErrnoException): void {
  if (!isAbsent(error)) throw error
}

/** Whether it is a folder of this user's whose call is dead. */
async function isLeft(folder: string): Promise<boolean> {
  try {
    const found = await lstat(folder)
    if (!found.isDirectory() || found.uid !== process.geteuid?.()) return false
    const owner = await ownerOf(folder)
    return owner ? (await alive(owner, [])) === 'no' : Date.now() - found.mtimeMs > unowned * 1000
  } catch (error) {
    unlessAbsent(error as NodeJS.ErrnoException)
    return false
  }
}

async function ownerOf(folder: string): Promise<Identity | undefined> {
  try {
    return JSON.parse(await readFile(join(folder, ownerFile), 'utf8')) as Identity
  } catch (error) {
    if (isAbsent(error) || error instanceof SyntaxError) return undefined
    throw error
  }
}

async function inMemory(): Promise<string | undefined> {
  for (const folder of await memoryFolders()) {
    try {
      return await mkdtemp(join(folder, prefix))
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'EACCES' && code !== 'EROFS') throw error
    }
  }
  return undefined
}

async function onDisk(disk: string, context: Pick<Context, 'log'>): Promise<string> {
  await mkdir(disk, { recursive: true, mode: 0o700 })
  context.log(`there is no private memory file system: the text lies in '${disk}' meanwhile, and is overwritten afterwards`)
  return await mkdtemp(join(disk, prefix))
}

/** Folders in memory in which nobody else can put another folder in the place of one of ours. */
async function memoryFolders(): Promise<string[]> {
  const found: string[] = []
  for (const named of [callerVar('XDG_RUNTIME_DIR'), '/dev/shm']) {
    if (!named?.startsWith('/')) continue
    const folder = await realpath(named).catch(noneThere)
    if (typeof folder !== 'string' || !(await isOurs(folder, named !== '/dev/shm'))) continue
    const { type } = await statfs(folder)
    if (memoryTypes.includes(type)) found.push(folder)
  }
  return found
}

/**
 * Whether only root and this user may rename what lies in a folder, and in those above it: nobody else owns one or may write in it, but
 * where each may only touch his own (sticky). `own`: the folder itself is this user's, and nobody else may write in it.
 */
async function isOurs(folder: string, own: boolean): Promise<boolean> {
  const me = process.geteuid?.()
  const { uid, mode } = await stat(folder)
  if (own && (uid !== me || mode & 0o022)) return false
  for (let at = folder; ; at = dirname(at)) {
    const { uid, mode } = await stat(at)
    if ((uid !== 0 && uid !== me) || (mode & 0o022 && !(mode & 0o1000))) return false
    if (at === dirname(at)) return true
  }
}
