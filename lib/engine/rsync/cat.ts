// One file of a snapshot, from its place in the store straight to the descriptor; a folder comes as tar.
import { isUtf8 } from 'node:buffer'
import type { VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { shortId } from '../../format.ts'
import { hintFor } from '../../restoring.ts'
import { comment, quote, quoteBytes } from '../../shell.ts'
import { entryAt, statAt } from './entry.ts'
import { locate } from './located.ts'
import { pathBytes, typeOf } from './manifest.ts'
import { chosen, treeOf } from './snapshots.ts'
import { explain, startTool } from './tool.ts'

/** For the tree as working folder: a path may be longer than the system takes with the store's before it. */
export function catArgs(type: 'f' | 'd', path: Buffer): string[] {
  // Of both an argument that begins with a dash would be an option; tar of OpenBSD knows no end of them.
  const safe = path[0] === 0x2d ? Buffer.concat([Buffer.from('./'), path]) : path
  const command = type === 'f' ? 'cat' : 'tar -cf -'
  // GNU tar would read '\n' in a name as a line feed, and only that tar can be told not to.
  if (type === 'd' && path.includes(0x5c)) {
    const plain = 'case $(tar --version 2>&1) in *GNU*) plain=--no-unquote;; *) plain=;; esac'
    return ['sh', '-c', `${plain}; exec tar $plain -cf - ${quoteBytes(safe)}`]
  }
  // Node's argv is text.
  return isUtf8(safe) ? [...command.split(' '), safe.toString()] : ['sh', '-c', `exec ${command} ${quoteBytes(safe)}`]
}

const fakeOwners =
  'the archive has the owners of the files in the store, which no root wrote: kedge restore gives back those that were saved'

/** Why a file is not the one that was saved, without reading it; undefined also where only cat can tell. */
function damageOf(file: string | Buffer, size: number): string | undefined {
  try {
    const stat = statAt(file)
    if (!stat) return undefined
    if (!stat.isFile()) return 'it is something else in tree/'
    return Number(stat.size) === size ? undefined : `it has ${stat.size} bytes in tree/, saved were ${size}`
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
    return undefined // whoever reads it says why it cannot
  }
}

const cat: VerbOf<'cat'> = async function* (target, { snapshot, path }, context) {
  const found = await chosen(target, snapshot, context, path)
  const action = `read '${path}' of snapshot '${shortId(found.id)}'`
  const line = await locate(found, path)
  if (line.type !== 'f' && line.type !== 'd')
    throw new Failure('empty', `cannot ${action}: it is no file or folder, but a ${typeOf(line.type)}`)
  const command = catArgs(line.type, pathBytes(line.path))
  const notice = line.type === 'd' && found.fake ? fakeOwners : undefined
  if (context.mode === 'explain') {
    if (notice) yield comment(notice)
    yield { kind: 'command', command: `cd ${quote(treeOf(found))} && ${explain(target, command).command}` }
    return
  }
  const damage = line.type === 'f' ? damageOf(entryAt(treeOf(found), line.path), line.size) : undefined
  if (damage) throw new Failure('damaged', `cannot ${action}: ${damage}`, { hint: hintFor('damaged') })
  if (notice) context.warn(notice)
  const child = startTool(target, command, context, { stdout: context.output, cwd: treeOf(found) })
  try {
    const { status, signal, stderr } = await child.done
    // The reader went away, as in `| head`: that is no failure of a reading verb.
    if (status === 0 || signal === 'SIGPIPE' || /broken pipe/i.test(stderr)) {
      if (status === 0 && stderr.trim() !== '') context.warn(stderr.trim()) // sockets, which tar leaves out
      return
    }
    const why = stderr.trim().split('\n')[0] ?? ''
    if (/no such file/i.test(why)) throw new Failure('damaged', `cannot ${action}: the manifest names it, and it is gone from tree/`)
    throw new Failure(/permission denied/i.test(why) ? 'permission' : 'tool', `cannot ${action}: ${why || `status ${status}`}`)
  } finally {
    child.end()
    await child.done.catch(() => undefined) // judged above
  }
}
export default cat
