// Stats: what a restore would bring, what the snapshots take on disk, how fast it grows.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { freeSpace } from '../../place.ts'
import { quote } from '../../shell.ts'
import { sizesOf } from '../../sizes.ts'
import { newestOfEach } from '../../snapshots.ts'
import { manifestOf, snapshotsOf } from './snapshots.ts'
import { ownersOf, rootOf, storeOf } from './store.ts'
import { explain, startTool } from './tool.ts'

/** One du for all: what has several names counts once. */
export const diskArgs = (folders: readonly string[]): string[] => ['du', '-sk', '--', ...folders]

const sum = (numbers: readonly number[]): number => numbers.reduce((total, each) => total + each, 0)

const stats: VerbOf<'stats'> = async function* (target, _, context) {
  const { rows, of } = await snapshotsOf(target, context)
  const latest = newestOfEach(rows).map(of)
  const folders = ownersOf(target)
    .map((owner) => join(rootOf(target, owner), 'snapshots'))
    .filter((folder) => existsSync(folder))
  if (context.mode === 'explain') {
    const total = quote(`$2 == "f" { bytes += $6; files++ } END { printf "%.0f bytes in %d files\\n", bytes, files }`)
    if (latest.length > 0)
      yield { kind: 'command', command: `awk -F '\\t' ${total} ${latest.map((each) => quote(manifestOf(each))).join(' ')}` }
    if (folders.length > 0) yield explain(target, diskArgs(folders))
    yield explain(target, ['df', '-Pk', storeOf(target)])
    return
  }
  yield await sizesOf(
    {
      target: target.name,
      snapshots: rows.length,
      restore: sum(latest.map(({ counts }) => counts.bytes)),
      files: sum(latest.map(({ counts }) => counts.files)),
      raw: rows.length > 0 ? await onDisk(target, folders, context) : 0,
      all: sum(rows.map(({ size = 0 }) => size)),
      free: await freeSpace(storeOf(target)),
    },
    context,
  )
}
export default stats

/** Bytes that the folders take on disk. */
async function onDisk(target: Target, folders: readonly string[], context: RunContext): Promise<number> {
  const child = startTool(target, diskArgs(folders), context)
  let text = ''
  for await (const chunk of child.stdout ?? []) text += chunk
  const { status, stderr } = await child.done
  const said = stderr.trim().split('\n').filter(Boolean)
  // What is pruned meanwhile takes no space any more.
  const worse = said.find((line) => !/no such file/i.test(line))
  if (status !== 0 && (worse !== undefined || said.length === 0)) {
    const why = worse ?? `du ended with status ${status}`
    throw new Failure(/permission denied/i.test(why) ? 'permission' : 'tool', `cannot measure the snapshots of '${target.name}': ${why}`)
  }
  return 1024 * sum(text.split('\n').map((line) => Number.parseInt(line, 10) || 0))
}
