// What a device, a FIFO or a socket of a new tree is: rsync's lines have one letter for two kinds.
import { answer } from '../../child.ts'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { entryAt, statAt } from './entry.ts'
import { type Line, pathBytes } from './manifest.ts'
import { rsyncEnv } from './tool.ts'

type KindOf = (path: string, type: 'b' | 'p') => Promise<Line['type']>

/** `fake`: they are plain files whose kind lies in an xattr, which rsync reads. */
export function kindsIn(target: Target, tree: string, fake: boolean, context: RunContext): KindOf {
  return async (path, type) => {
    if (fake) return (await faked(target, tree, path, context)) ?? type
    const found = statAt(entryAt(tree, path))
    if (!found) return type // its path is too long: no manifest will name it
    if (found.isCharacterDevice()) return 'c'
    return found.isSocket() ? 's' : type
  }
}

/** One by one: there are few of them, and the next time the base's manifest tells. */
async function faked(target: Target, tree: string, path: string, context: RunContext): Promise<Line['type'] | undefined> {
  const command = ['rsync', '--fake-super', '--devices', '--specials', '--list-only', '--from0', '--files-from=-', `${tree}/`, '/']
  const { status, stdout, stderr } = await answer(command, {
    env: rsyncEnv(target),
    input: Buffer.concat([pathBytes(path), Buffer.from('\0')]),
    signal: context.signal,
  })
  if (status !== 0) throw new Failure('tool', `cannot read what was saved in '${tree}': ${stderr.trim().split('\n')[0]}`)
  const [kind] = /^[bcps](?=[rwxsStT-]{9} )/m.exec(stdout) ?? []
  return kind as Line['type'] | undefined
}
