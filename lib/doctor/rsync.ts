// What an rsync target needs besides: both rsyncs, the way to the other host, its paths, a store that keeps what snapshots want.
import { constants } from 'node:fs'
import { access, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Context, Target } from '../contract.ts'
import type { Both } from '../engine/rsync/argv.ts'
import { fileSystemOf } from '../engine/rsync/filesystem.ts'
import { type Probe, probe, remoteRsync } from '../engine/rsync/probe.ts'
import { checkReserve } from '../engine/rsync/reserve.ts'
import { lookAt } from '../engine/rsync/roots.ts'
import { isExcluded, patternsIn } from '../engine/rsync/rules.ts'
import { rootOf, storeOf } from '../engine/rsync/store.ts'
import { rsyncEnv } from '../engine/rsync/tool.ts'
import { rsyncVersion, type Version } from '../engine/rsync/version.ts'
import { Failure } from '../failure.ts'
import { type Control, connect } from '../source/control.ts'
import { fingerprint, knownOf, placeOf } from '../source/hostkeys.ts'
import { exists } from '../source/paths.ts'
import { isRemote, keyOf, knownHosts } from '../source/ssh.ts'
import { blocked, type Found, ok, warning } from './finding.ts'
import { nearestThere } from './place.ts'

/** Changes nothing, and asks nobody. */
export async function* rsyncFindings(target: Target, context: Context): AsyncGenerator<Found> {
  const here = yield* tried('rsync', rsyncVersion())
  if (here) yield ok('rsync', `${here.text} on this machine`)
  if (isRemote(target)) yield* host(target, here, context)
  yield* systemFolders(target)
  yield* tried('reserve', room(target))
  yield* disk(target)
}

/** What a promise gives; a Failure of it is a finding. Findings that it gives are yielded. */
async function* tried<T>(check: string, work: Promise<T>): AsyncGenerator<Found, T | undefined> {
  try {
    const found = await work
    if (Array.isArray(found)) yield* found as Found[]
    return found
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    yield blocked(check, error.message, error.hint, error.class)
    return undefined
  }
}

async function* host(target: Target, here: Version | undefined, context: Context): AsyncGenerator<Found> {
  yield* tried('ssh key', key(target))
  yield* tried('host key', hostKey(target, context))
  const control = yield* tried('host', connect(target, context))
  if (!control) return
  try {
    yield ok('host', `'${target.env.SOURCE_HOST}' lets the key in`)
    const there = yield* tried('host rsync', probe(target, context, control))
    if (!there) return
    yield flavour(target, there)
    yield clock(there)
    if (here) yield* paths(target, { here, there, root: process.geteuid?.() === 0, without: new Set() }, control, context)
  } finally {
    await control.end()
  }
}

/** As ssh judges it: it does not use a key that others can read. */
async function key(target: Target): Promise<Found[]> {
  const file = keyOf(target)
  if (!file)
    return [
      warning(
        'ssh key',
        'the target has none of its own: ssh takes what its configuration and an agent have',
        `kedge key ${target.name} makes one`,
      ),
    ]
  const found = await stat(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    throw error
  })
  if (!found)
    return [blocked('ssh key', `there is no '${file}'`, `SSH_KEY names it; without SSH_KEY kedge key ${target.name} makes one`, 'config')]
  const own = process.geteuid?.() ?? found.uid
  if (found.uid !== own)
    return [blocked('ssh key', `'${file}' belongs to user ${found.uid}, not to ${own}`, `chown ${own} '${file}'`, 'auth')]
  if (found.mode & 0o077)
    return [blocked('ssh key', `'${file}' can be read by others, so that ssh does not use it`, `chmod 600 '${file}'`, 'auth')]
  return [ok('ssh key', `'${file}', which only its owner can read`)]
}

async function hostKey(target: Target, context: Context): Promise<Found[]> {
  const { name } = await placeOf(target, context)
  const known = await knownOf(target, name, context)
  if (known.length === 0)
    return [blocked('host key', `'${name}' is not known by any key`, `kedge key ${target.name} --host shows what it has, and asks`, 'auth')]
  return [
    ok('host key', `'${name}' is known by ${known.map((each) => `${fingerprint(each)} (${each.type})`).join(', ')} in '${knownHosts()}'`),
  ]
}

/** Pure. */
export function flavour(target: Pick<Target, 'env'>, { flavour, protocol, text }: Probe): Found {
  const how = remoteRsync(target).join(' ')
  if (flavour === 'openrsync')
    return warning(
      'host rsync',
      `'${how}' is openrsync, protocol ${protocol}: it sends no ACLs and no extended attributes`,
      'install rsync there where these matter, and let SOURCE_RSYNC name it',
    )
  if (protocol < 31)
    return warning(
      'host rsync',
      `'${how}' is ${text}: it sends times in whole seconds, and a change within one may be missed`,
      'rsync 3.1 or newer there',
    )
  return ok('host rsync', `'${how}' is ${text}${text.includes('protocol') ? '' : `, protocol ${protocol}`}`)
}

/** Seconds by which two clocks may differ. */
const tolerated = 60

/** Pure. */
export function clock({ skew }: Pick<Probe, 'skew'>): Found {
  if (skew === undefined) return ok('host clock', 'not asked: the account may not run date')
  if (Math.abs(skew) <= tolerated) return ok('host clock', `it differs by ${Math.abs(skew)} s`)
  const text = `it is ${Math.abs(skew)} s ${skew > 0 ? 'ahead of' : 'behind'} this machine's: times of files and of snapshots do not fit together`
  return warning('host clock', text, 'keep both clocks by NTP')
}

async function* paths(target: Target, both: Both, control: Control, context: Context): AsyncGenerator<Found> {
  for (const path of target.paths) {
    const problem = await lookAt(target, path, both, context, control)
    yield problem ? blocked('host paths', problem.text, problem.remedy, problem.kind) : ok('host paths', `'${path}' can be read`)
  }
}

/** What the kernel shows as files, and what is gone with the next reboot: not to be saved with the root. */
const systems = ['/proc', '/sys', '/dev', '/run', '/tmp'] as const

async function* systemFolders(target: Target): AsyncGenerator<Found> {
  if (!target.paths.includes('/')) return
  if (target.env.ONE_FILE_SYSTEM !== 'no') {
    yield ok('excludes', "'/' without what is mounted below it: ONE_FILE_SYSTEM=yes")
    return
  }
  const patterns = yield* tried('excludes', patternsOf(target))
  if (!patterns) return
  const missing = systems.filter((folder) => !isExcluded(patterns.texts, `${folder}/x`))
  yield missing.length === 0
    ? ok('excludes', `'/' without ${systems.join(', ')}`)
    : warning(
        'excludes',
        `'/' with all that is mounted (ONE_FILE_SYSTEM=no), and nothing leaves out ${missing.join(', ')}`,
        `in '${join(target.dir, 'exclude')}', a line each: ${missing.map((folder) => `${folder}/*`).join(' ')}`,
      )
}

async function patternsOf(target: Target): Promise<{ texts: string[] }> {
  const texts: string[] = []
  for (const file of target.excludes) texts.push(...patternsIn(await readFile(file, 'utf8'), file, rsyncEnv(target)))
  return { texts }
}

/** As a backup judges it. Without a store that is there nothing is said: another finding does. */
async function room(target: Target): Promise<Found[]> {
  if (!(await exists(storeOf(target)))) return []
  await checkReserve(target)
  return [ok('reserve', `'${storeOf(target)}' has more room than RESERVE='${target.env.RESERVE}'`)]
}

async function* disk(target: Target): AsyncGenerator<Found> {
  const store = storeOf(target)
  const found = await fileSystemOf(await nearestThere(store))
  yield kept(store, found, process.geteuid?.() === 0)
  if (await exists(store)) yield await writable(target)
}

/** As the system judges it: nothing is written. */
async function writable(target: Target): Promise<Found> {
  const [store, root] = [storeOf(target), rootOf(target)]
  for (const folder of (await exists(root)) ? [store, root] : [store]) {
    const wrong = await access(folder, constants.W_OK | constants.X_OK).then(
      () => undefined,
      (error: NodeJS.ErrnoException) => error,
    )
    if (!wrong) continue
    const readOnly = wrong.code === 'EROFS'
    const remedy = readOnly ? 'the kernel does that to a disk with errors: dmesg and mount tell' : 'run as the user who owns it'
    return blocked(
      'store write',
      `cannot write to '${folder}': ${readOnly ? 'it is mounted read-only' : wrong.message}`,
      remedy,
      'permission',
    )
  }
  return ok('store write', `'${store}' can be written to`)
}

/** Pure. `root`: owners are kept as they are; else in xattrs. */
export function kept(store: string, found: Awaited<ReturnType<typeof fileSystemOf>>, root: boolean): Found {
  const check = 'store file system'
  const other = 'ext4, xfs, btrfs, zfs or ffs'
  if (!found) return ok(check, `that of '${store}' is not known to kedge: init has tried its hard links`)
  const { name, links, xattrs, fine, memory } = found
  if (links === false) return blocked(check, `'${store}' lies on ${name}, which has no hard links`, `a disk with ${other}`, 'config')
  if (!root && xattrs === false)
    return blocked(
      check,
      `'${store}' lies on ${name}, which keeps no extended attributes, in which owners lie without root`,
      `a disk with ${other}`,
      'config',
    )
  if (memory) return warning(check, `'${store}' lies on ${name}, in memory: it is gone with the next reboot`, `a disk with ${other}`)
  if (fine === false) return warning(check, `'${store}' lies on ${name}, which keeps times in whole seconds`, `a disk with ${other}`)
  if (links === undefined || (!root && xattrs === undefined))
    return warning(
      check,
      `'${store}' lies on ${name}: whether it keeps links, owners and attributes depends on what is behind it`,
      `a drill tells; ${other} do`,
    )
  return ok(check, `'${store}' lies on ${name}: it has hard links${xattrs ? ', extended attributes' : ''} and times in nanoseconds`)
}
