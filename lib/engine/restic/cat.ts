// One file of a snapshot to stdout, from restic straight to the descriptor; a folder comes as tar.
import type { VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { heedFuture, pick } from '../../snapshots.ts'
import { onSnapshot } from './byhand.ts'
import { failureOf } from './errors.ts'
import { snapshotsOf } from './snapshots.ts'
import { startRestic } from './tool.ts'

export const catArgs = (snapshot: string, path: string): string[] => ['dump', '--no-lock', snapshot, path]

const cat: VerbOf<'cat'> = async function* (target, { snapshot, path }, context) {
  if (context.mode === 'explain') {
    yield* onSnapshot(target, { snapshot, path }, (id) => catArgs(id, path))
    return
  }
  const snapshots = await snapshotsOf(target, context)
  heedFuture(snapshots, [snapshot], context)
  const { id } = pick(snapshots, target, snapshot, path)
  const action = `read '${path}' of snapshot '${id.slice(0, 8)}'`
  const child = startRestic(target, catArgs(id, path), context, { action, stdout: context.output })
  try {
    const exit = await child.done
    // The reader went away, as in `| head`: that is no failure of a reading verb.
    if (exit.status === 0 || exit.signal === 'SIGPIPE' || /broken pipe/i.test(exit.stderr)) return
    // A path that goes on behind a file is not there either.
    if (/not found in snapshot|should be a dir, but is/i.test(exit.stderr))
      throw new Failure('empty', `cannot ${action}: not in the snapshot`)
    const [, type] = /should be a file, but is a "?(\w+)/i.exec(exit.stderr) ?? []
    if (type) throw new Failure('empty', `cannot ${action}: it is no file or folder, but a ${type}`)
    throw failureOf(action, exit)
  } finally {
    child.end()
    await child.done.catch(() => undefined) // judged above
  }
}
export default cat
