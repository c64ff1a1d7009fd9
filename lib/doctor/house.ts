// What every target needs: node, the tools, kedge's own folders, the clock.
import { readdir, stat } from 'node:fs/promises'
import { platform } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { installed, wantedVersions } from '../engine/restic/installed.ts'
import { findInPath } from '../executable.ts'
import { cacheDir, configDir, stateDir, targetsDir } from '../paths.ts'
import { exists } from '../source/paths.ts'
import { targetNames } from '../target.ts'
import { blocked, type Found, ok, warning } from './finding.ts'
import { closed, space, writable } from './place.ts'

const leastNode = [20, 19] as const

/** Every check of the house. */
export async function* house(): AsyncGenerator<Found> {
  yield node(process.versions.node)
  yield await restic()
  yield gpg()
  yield fuse(platform())
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

async function restic(): Promise<Found> {
  const { least, good } = wantedVersions
  const found = await installed()
  if (!found) return blocked('restic', 'no restic in PATH', 'install restic, or run ./setup')
  const text = `${found.text} at '${found.path}'`
  if (older(found.version, least)) return blocked('restic', `${text} is older than ${least.join('.')}`, 'install a newer restic')
  if (older(found.version, good)) {
    return warning(
      'restic',
      `${text}: kedge knows its ways, but a newer one says more`,
      `${good.join('.')} or newer gives each failure a status, and ends cleanly on SIGTERM`,
    )
  }
  return ok('restic', text)
}

const older = (a: readonly number[], b: readonly number[]): boolean => {
  const i = a.findIndex((part, index) => part !== b[index])
  return i >= 0 && (a[i] ?? 0) < (b[i] ?? 0)
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
