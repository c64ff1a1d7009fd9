// Takes a target away, never its data: the folder may hold the only copy of the password, so it is packed, and the package proven,
// before anything goes. The archive's names count from /: `tar -xzpf FILE -C /` puts all of it back.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { chmod, lstat, mkdir, open, readdir, realpath, rename, rm, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Context, Target } from './contract.ts'
import { Failure } from './failure.ts'
import { words } from './keys.ts'
import { cacheDir, removedDir, stateDir } from './paths.ts'
import type { FileRow } from './rows/house.ts'
import type { CommandLine } from './rows.ts'
import { lockDir } from './running.ts'
import { quote } from './shell.ts'
import { exists } from './source/paths.ts'
import { loadTarget, targetDir, targetNames } from './target.ts'
import { holdWhole } from './whole.ts'

/** Failure 'misuse' where there is no such target, and where nobody agreed. */
export async function* removeTarget(name: string, agreed: boolean, context: Context): AsyncGenerator<FileRow | CommandLine> {
  const dir = targetDir(name)
  if (!(await exists(dir))) await loadTarget(name) // says that there is none, and the nearest
  const now = new Date()
  const archive = join(removedDir(), `${name}-${now.toISOString().replace(/[-:]|\.\d+/g, '')}.tar.gz`)
  const state = stateDir(name)
  const real = await realpath(dir)
  const packed = [...new Set([dir, real])]
  const there: string[] = []
  for (const folder of [cacheDir(name), state, dir]) if (await exists(folder)) there.push(folder)
  const row = (path: string, action: FileRow['action']): FileRow => ({ kind: 'file', target: name, path, action })
  if (context.mode === 'explain') {
    const sources = [...packed, ...(there.includes(state) ? [state] : [])].map((path) => quote(path.slice(1)))
    yield { kind: 'command', command: `umask 077; mkdir -p ${quote(removedDir())} && tar -czf ${quote(archive)} -C / ${sources.join(' ')}` }
    for (const path of there) yield { kind: 'command', command: `rm -r ${quote(path)}` }
    return
  }
  if (context.mode === 'dry-run') {
    yield row(archive, 'would write')
    for (const path of there) yield row(path, 'would remove')
    return
  }
  if (!agreed) await agree(name, context)
  // One that does not load can be removed too.
  const held: Target = { name, engine: 'restic', dir, env: {}, origin: {}, paths: [], excludes: [], streams: [], hooks: [], secret: 'none' }
  const release = await holdWhole(held, 'remove', context)
  try {
    const files = (await Promise.all([...packed, state].map((path) => walk(path, lockDir(name))))).flat()
    await pack(archive, files, context)
    yield row(archive, 'written')
    // The folder last: cut off before, the same call packs and removes what is left.
    for (const path of there) {
      await takeAway(path)
      yield row(path, 'removed')
    }
    if (!there.includes(state)) await takeAway(state) // the lock made it
  } finally {
    await release()
  }
  if (real !== dir) context.log(`'${dir}' was a link: the folder '${real}' is left where it is`)
  for (const other of await naming(name)) context.log(`warning: ${other} still names '${name}'`)
  context.log(`'kedge schedule install' takes away what started its runs`)
  context.log(`the store is untouched; the target, with its secrets and keys, is in '${archive}': tar -xzpf puts it back with -C /`)
}

async function agree(name: string, context: Context): Promise<void> {
  if (!context.ask) throw new Failure('misuse', 'option missing: --yes', { hint: 'without a terminal nobody can be asked' })
  const answer = await context.ask(`remove target '${name}'? Its store stays (yes/no):`)
  if (!/^y(es)?$/i.test(answer.trim())) throw new Failure('misuse', `target '${name}' stays: the answer was not 'yes'`)
}

/** Files, folders and links; `without`: the live locks. */
async function walk(path: string, without: string): Promise<string[]> {
  if (path === without || !(await exists(path))) return []
  const stat = await lstat(path)
  if (!stat.isDirectory()) return stat.isFile() || stat.isSymbolicLink() ? [path] : []
  const names = (await readdir(path)).sort()
  return [path, ...(await Promise.all(names.map((name) => walk(join(path, name), without)))).flat()]
}

async function pack(archive: string, files: readonly string[], context: Context): Promise<void> {
  await mkdir(dirname(archive), { recursive: true, mode: 0o700 })
  const temporary = `${archive}.${process.pid}.new`
  try {
    const { create } = await import('tar')
    await (await open(temporary, 'wx', 0o600)).close()
    await create(
      { file: temporary, gzip: true, cwd: '/', noDirRecurse: true, strict: true },
      files.map((path) => path.slice(1)),
    )
    await chmod(temporary, 0o600)
    await prove(temporary, files)
    const handle = await open(temporary, 'r')
    await handle.sync().finally(() => handle.close())
    context.signal.throwIfAborted()
    await rename(temporary, archive)
  } finally {
    await rm(temporary, { force: true })
  }
}

/** Opens the archive again: each file must be in it with the bytes that are on disk. */
async function prove(archive: string, files: readonly string[]): Promise<void> {
  const { list } = await import('tar')
  const found = new Map<string, string>()
  const reading: Promise<void>[] = []
  await list({
    file: archive,
    strict: true,
    onReadEntry(entry) {
      const hash = createHash('sha256')
      const name = `/${entry.path.replace(/\/$/, '')}`
      // A second name of the same file is packed as a link to the first.
      const content = () =>
        entry.type === 'File' ? hash.digest('hex') : entry.type === 'Link' ? (found.get(`/${entry.linkpath}`) ?? '') : ''
      entry.on('data', (chunk: Uint8Array) => hash.update(chunk))
      reading.push(new Promise((resolve) => entry.on('end', () => resolve(void found.set(name, content())))))
    },
  })
  await Promise.all(reading)
  for (const path of files) {
    const stat = await lstat(path)
    const wanted = stat.isFile() ? await hashOf(path) : ''
    if (found.get(path) !== wanted)
      throw new Failure('damaged', `cannot remove the target: '${path}' is not whole in '${archive}'`, { hint: 'nothing was removed' })
  }
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

async function takeAway(path: string): Promise<void> {
  if ((await lstat(path)).isSymbolicLink()) return await unlink(path)
  const { remove } = await import('fs-extra')
  await remove(path)
}

/** Where other targets name this one. */
async function naming(name: string): Promise<string[]> {
  const places: string[] = []
  for (const other of await targetNames()) {
    const target = await loadTarget(other).catch((error) => {
      if (error instanceof Failure) return undefined // it does not load: its own commands say why
      throw error
    })
    for (const key of ['COPY_TO', 'SNAPSHOTS_OF']) {
      const origin = target?.origin[key]
      if (origin && words(target?.env[key]).includes(name)) places.push(`${key} (${origin.file}:${origin.line})`)
    }
  }
  return places
}
