// mount: the snapshots are files already: where they lie; or, as root on Linux, a read-only bind of them, gone again when kedge ends.
import { join } from 'node:path'
import { platform } from 'node:process'
import { batches, type Child } from '../../child.ts'
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { bareFolder, unmounted } from '../../mountpoint.ts'
import { comment, shown } from '../../shell.ts'
import { idsIn } from './snapshots.ts'
import { ownersOf, pinnedStore, rootOf } from './store.ts'
import { startTool } from './tool.ts'

// What of the saved files may run as another user, or is a device, does nothing there.
export const bindCommands = (from: string, at: string): string[][] => [
  ['mount', '--bind', from, at],
  ['mount', '-o', 'remount,bind,ro,nosuid,nodev', at],
]

/**
 * It holds the mount, and unmounts on the signal that also ends it when kedge itself dies. `-ef`: $2 is the folder $1 as long as it is
 * mounted there, so that nothing else that is mounted in $2 goes. It is silent then: a word to a kedge that is dead would end it before that.
 */
const holder = `off() { if [ "$2" -ef "$1" ]; then umount "$2"; fi; }
trap 'off "$1" "$2"; exit $?' HUP INT TERM
mount --bind "$1" "$2" && mount -o remount,bind,ro,nosuid,nodev "$2" || { off "$1" "$2"; exit 1; }
echo mounted
exec >/dev/null 2>&1
while [ "$2" -ef "$1" ]; do sleep 1; done`

const mount: VerbOf<'mount'> = async function* (target, { at }, context) {
  pinnedStore(target, context)
  const roots = ownersOf(target).map((owner) => rootOf(target, owner))
  const folders = roots.filter((root) => idsIn(root).length > 0).map((root) => join(root, 'snapshots'))
  const [from, second] = folders
  if (from === undefined)
    throw new Failure('empty', `target '${target.name}' has no snapshot`, { hint: `kedge backup ${target.name} takes one` })
  if (at === undefined) {
    if (context.mode === 'explain') yield { kind: 'command', command: shown(['ls', '-d', ...folders]) }
    else yield folders.map((folder) => ({ kind: 'mounted' as const, target: target.name, at: folder }))
    return
  }
  if (second !== undefined) throw cannot(target, at, 'its snapshots lie in several folders', folders)
  if (context.mode === 'explain') {
    yield* bindCommands(from, at).map((command) => ({ kind: 'command' as const, command: shown(command) }))
    yield comment(`${shown(['umount', at])} ends it`)
    return
  }
  const unable = noBind(platform, process.geteuid?.() === 0)
  if (unable !== undefined) throw cannot(target, at, unable, folders)
  yield* bound(target, from, at, context)
}
export default mount

/** Why nothing can be bound here; undefined where it can. */
export function noBind(system: string, root: boolean): string | undefined {
  if (system !== 'linux') return `${system} has no bind mounts`
  return root ? undefined : 'only root may'
}

const cannot = ({ name }: Target, at: string, why: string, folders: readonly string[], cause?: unknown): Failure =>
  new Failure('misuse', `cannot mount the snapshots of '${name}' at '${at}': ${why}`, {
    hint: `they are plain files: ${folders.join(', ')}`,
    cause,
  })

async function* bound(target: Target, from: string, at: string, context: RunContext) {
  const bare = await bareFolder(at)
  const child = startTool(target, ['sh', '-c', holder, 'sh', from, at], context)
  try {
    if (!(await serving(child))) {
      const { stderr } = await child.done
      throw cannot(target, at, stderr.trim().split('\n')[0] || 'mount(8) did not say why', [from])
    }
    yield { kind: 'mounted' as const, target: target.name, at }
    context.log(`the snapshots of '${target.name}' are in '${at}'; ^C (SIGINT, SIGTERM) or umount ends it`)
    await child.done.catch((error) => {
      if (!context.signal.aborted) throw error
    })
  } finally {
    child.end()
    await child.done.catch(() => undefined) // judged above
    await unmounted(bare, [['umount', at]])
  }
}

/** Until it says that the mount is there; false where it ends without. */
async function serving({ stdout }: Child): Promise<boolean> {
  if (stdout) for await (const lines of batches(stdout)) if (lines.includes('mounted')) return true
  return false
}
