// What every target needs: node, the tools, kedge's own folders, the clock.
import { readdir, stat } from 'node:fs/promises'
import { platform } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { engineNames, traitsOf } from '../engine.ts'
import { findInPath } from '../executable.ts'
import { Failure } from '../failure.ts'
import { keys } from '../keys.ts'
import { cacheDir, configDir, stateDir, targetsDir } from '../paths.ts'
import type { EngineName } from '../rows.ts'
import { exists } from '../source/paths.ts'
import { loadTarget, targetNames } from '../target.ts'
import { blocked, type Found, ok, warning } from './finding.ts'
import { closed, space, writable } from './place.ts'

const leastNode = [20, 19] as const

/** Every check of the house. */
export async function* house(): AsyncGenerator<Found> {
  yield node(process.versions.node)
  const used = await enginesUsed()
  for (const engine of engineNames) yield* tool(engine, used.includes(engine))
  yield gpg()
  yield findInPath('ps')
    ? ok('ps', "ps is there: a lock's holder can be told from another process of its number")
    : warning('ps', 'no ps in PATH: a lock whose process id is used again looks alive', 'install procps')
  yield* configuration()
  // Any name serves to find the folders that hold the targets' own.
  for (const [check, folder] of [
    ['state', dirname(stateDir('x'))],
    ['cache', dirname(cacheDir('x'))],
  ] as const) {
    yield await writable(check, folder)
    yield await space(`${check} space`, folder)
  }
  yield await clock(new Date())
}

/** Pure. */
export function node(version: string): Found {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major > leastNode[0] || (major === leastNode[0] && minor >= leastNode[1])) return ok('node', `node ${version}`)
  return blocked('node', `node ${version} is older than ${leastNode.join('.')}`, './setup puts a newer one beside kedge')
}

/** Those of the targets that load; of a house without any, the one that a target has by default. */
async function enginesUsed(): Promise<EngineName[]> {
  const found = new Set<EngineName>()
  for (const name of await targetNames()) {
    try {
      found.add((await loadTarget(name)).engine)
    } catch (error) {
      if (!(error instanceof Failure)) throw error // said where the target is looked at
    }
  }
  return found.size > 0 ? [...found] : [keys.ENGINE.default]
}

/** What no target needs is named where it is there, and may be missing. */
async function* tool(engine: EngineName, needed: boolean): AsyncGenerator<Found> {
  const { toInstall, needsFuse, ...traits } = await traitsOf(engine)
  const found = await traits.tool()
  if (!found) {
    if (needed) yield blocked(engine, `no ${engine} in PATH`, toInstall)
  } else if (found.odd && needed) {
    const { level, text, remedy } = found.odd
    yield level === 'blocked' ? blocked(engine, text, remedy) : warning(engine, text, remedy)
  } else yield ok(engine, found.odd ? `${found.odd.text}; no target needs it` : `${found.text} at '${found.path}'`)
  if (needed && needsFuse) yield fuse(platform())
}

function gpg(): Found {
  const path = findInPath('gpg')
  return path
    ? ok('gpg', `gpg at '${path}'`)
    : warning('gpg', 'no gpg in PATH: secrets that are encrypted to a key cannot be opened', 'install gnupg')
}

function fuse(system: string): Found {
  if (system !== 'linux') return ok('fuse', `restic has no mount on ${system}: kedge files, cat and restore read snapshots`)
  const path = findInPath('fusermount3') ?? findInPath('fusermount')
  return path ? ok('fuse', `fusermount at '${path}'`) : warning('fuse', 'no fusermount in PATH: kedge mount does not work', 'install fuse3')
}

async function* configuration(): AsyncGenerator<Found> {
  if (!(await exists(targetsDir()))) {
    yield warning('configuration', `there is no target in '${targetsDir()}'`, 'kedge new NAME makes one')
    return
  }
  yield await closed('configuration', configDir())
  yield await closed('configuration', targetsDir())
  const left = (await readdir(targetsDir())).filter((name) => name.startsWith('.new-')).map((name) => join(targetsDir(), name))
  for (const folder of left) {
    yield warning('configuration', `'${folder}' was left by a kedge new that was cut off, and may hold a password`, `rm -r '${folder}'`)
  }
}

/** kedge's own files as witnesses of the time: one from the future means that the clock went back. */
async function clock(now: Date): Promise<Found> {
  const files = [configDir()]
  for (const name of await targetNames())
    files.push(join(targetsDir(), name, 'target.env'), join(stateDir(name), 'last.json'), join(stateDir(name), 'runs.ndjson'))
  let latest = { at: 0, file: '' }
  for (const file of files) {
    const found = await stat(file).catch((error: NodeJS.ErrnoException) => {
      if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(error.code ?? '')) return undefined
      throw error
    })
    if (found && found.mtimeMs > latest.at) latest = { at: found.mtimeMs, file }
  }
  if (latest.at - now.getTime() <= 600_000) return ok('clock', `${now.toISOString()}, and none of kedge's files is from the future`)
  const text = `the clock says ${now.toISOString()}, but '${basename(latest.file)}' was written ${new Date(latest.at).toISOString()}`
  return blocked('clock', text, 'set the clock, and keep it by NTP', 'refused')
}
