// mount: the snapshots as a file system, in the foreground; it is gone again when kedge ends.
import { existsSync, statSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { platform } from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { answer, batches, type Child } from '../../child.ts'
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { callerEnv } from '../../env.ts'
import { Failure } from '../../failure.ts'
import { quote } from '../../shell.ts'
import { targetTags } from '../../target.ts'
import { failureOf } from './errors.ts'
import { explain, startRestic } from './tool.ts'

/** By tag, so that ids, snapshots, hosts and tags show this target's only. restic's own lock keeps a prune away meanwhile. */
export const mountArgs = (target: Target, at: string): string[] => [
  'mount',
  ...targetTags(target).flatMap((tag) => ['--tag', tag]),
  '--',
  at,
]

const instead = 'kedge files lists what a snapshot holds, kedge cat prints a file of it, kedge restore brings back what you name'

/** Why nothing can be mounted here; undefined where it can. restic's mount is built for these systems only. */
export function noMount(system: string, fuse: boolean): Failure | undefined {
  if (!['linux', 'darwin', 'freebsd'].includes(system))
    return new Failure('misuse', `cannot mount on ${system}: restic has no FUSE there`, { hint: instead })
  if (!fuse) return new Failure('misuse', 'cannot mount: there is no /dev/fuse', { hint: `modprobe fuse, or: ${instead}` })
  return undefined
}

const mount: VerbOf<'mount'> = async function* (target, { at }, context) {
  if (context.mode === 'explain') {
    yield explain(target, mountArgs(target, at))
    return
  }
  const unable = noMount(platform, platform !== 'linux' || existsSync('/dev/fuse'))
  if (unable) throw unable
  await checkFolder(at)
  const before = statSync(at).dev
  const child = startRestic(target, mountArgs(target, at), context, { action: '', grace: 30 })
  try {
    await serving(child, at, before, context)
    yield { kind: 'mounted', target: target.name, at }
    context.log(`the snapshots of '${target.name}' are in '${at}'; ^C (SIGINT, SIGTERM) or umount ends it`)
    await ended(child, context)
  } finally {
    child.end()
    await child.done.catch(() => undefined) // judged above
    await unmounted(at, before)
  }
}
export default mount

async function checkFolder(at: string): Promise<void> {
  const cannot = (why: string) => new Failure('misuse', `cannot mount at '${at}': ${why}`, { hint: 'name an empty folder' })
  const found = await stat(at).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') throw cannot('there is no such folder')
    if (error.code === 'ENOTCONN')
      throw new Failure('misuse', `cannot mount at '${at}': a dead mount is there`, { hint: `umount ${quote(at)}` })
    throw error
  })
  if (!found.isDirectory()) throw cannot('it is not a folder')
  if ((await readdir(at)).length > 0) throw cannot('it is not empty')
}

/** Another device than before; a FUSE whose process died cannot be looked at any more. */
function isMounted(at: string, before: number): boolean {
  try {
    return statSync(at).dev !== before
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    return true
  }
}

/** Until the file system is there. restic says so a moment before. */
async function serving(child: Child, at: string, before: number, context: RunContext): Promise<void> {
  let over = false
  const exit = child.done.finally(() => {
    over = true
  })
  exit.catch(() => undefined) // thrown below
  void drain(child, context)
  while (!over && !isMounted(at, before)) await sleep(50)
  if (!over) return
  const { status, stderr, signal } = await exit
  if (/unknown command "mount"/.test(stderr))
    throw new Failure('misuse', 'cannot mount: this restic was built without it', { hint: instead })
  throw failureOf(`mount '${at}'`, { status: status || 1, stderr, signal })
}

async function drain(child: Child, context: RunContext): Promise<void> {
  if (!child.stdout) return
  for await (const lines of batches(child.stdout)) for (const line of lines) if (line.trim()) context.detail(`restic: ${line.trim()}`)
}

/** Ended by the signal that ends the command, or by umount: both are what was asked for. */
async function ended(child: Child, context: RunContext): Promise<void> {
  try {
    const exit = await child.done
    if (exit.status !== 0 && exit.status !== 130) throw failureOf(`serve the mount`, exit)
  } catch (error) {
    if (!context.signal.aborted) throw error
  }
}

/** restic unmounts when it ends; where something still used the folder, it does not. */
async function unmounted(at: string, before: number): Promise<void> {
  for (const command of [
    ['fusermount3', '-u', at],
    ['fusermount', '-u', at],
    ['umount', at],
  ]) {
    if (!isMounted(at, before)) return
    await answer(command, { env: callerEnv(), timeout: 30 }).catch((error) => {
      if (!(error instanceof Failure)) throw error // not installed: the next one
    })
  }
  if (isMounted(at, before))
    throw new Failure('tool', `cannot unmount '${at}': something uses it`, { hint: `leave the folder, then: umount ${quote(at)}` })
}
