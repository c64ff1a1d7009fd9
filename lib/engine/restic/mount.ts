// mount: the snapshots as a file system, in the foreground; it is gone again when kedge ends.
import { existsSync } from 'node:fs'
import { platform } from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { batches, type Child } from '../../child.ts'
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { type Bare, bareFolder, isMounted, unmounted } from '../../mountpoint.ts'
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
  if (at === undefined)
    throw new Failure('misuse', 'operand missing: dir', { hint: `restic shows its snapshots in a folder: kedge mount ${target.name} /mnt` })
  if (context.mode === 'explain') {
    yield explain(target, mountArgs(target, at))
    return
  }
  const unable = noMount(platform, platform !== 'linux' || existsSync('/dev/fuse'))
  if (unable) throw unable
  const bare = await bareFolder(at)
  const child = startRestic(target, mountArgs(target, at), context, { action: '', grace: 30 })
  try {
    await serving(child, bare, context)
    yield { kind: 'mounted', target: target.name, at }
    context.log(`the snapshots of '${target.name}' are in '${at}'; ^C (SIGINT, SIGTERM) or umount ends it`)
    await ended(child, context)
  } finally {
    child.end()
    await child.done.catch(() => undefined) // judged above
    // restic unmounts when it ends; where something still used the folder, it does not.
    await unmounted(bare, [
      ['fusermount3', '-u', at],
      ['fusermount', '-u', at],
      ['umount', at],
    ])
  }
}
export default mount

/** Until the file system is there. restic says so a moment before. */
async function serving(child: Child, bare: Bare, context: RunContext): Promise<void> {
  let over = false
  const exit = child.done.finally(() => {
    over = true
  })
  exit.catch(() => undefined) // thrown below
  void drain(child, context)
  while (!over && !isMounted(bare)) await sleep(50)
  if (!over) return
  const { status, stderr, signal } = await exit
  if (/unknown command "mount"/.test(stderr))
    throw new Failure('misuse', 'cannot mount: this restic was built without it', { hint: instead })
  throw failureOf(`mount '${bare.at}'`, { status: status || 1, stderr, signal })
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
