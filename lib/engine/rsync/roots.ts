// Whether the paths of a target are there to be read on the other host: asked of its rsync, which is all that some accounts may run.
import { answer } from '../../child.ts'
import type { Context, Target } from '../../contract.ts'
import type { Class } from '../../failure.ts'
import type { Control } from '../../source/control.ts'
import { type Both, operands, wayFlags } from './argv.ts'
import { classOf, saidBy } from './errors.ts'
import { rsyncEnv } from './tool.ts'

export type Problem = { readonly text: string; readonly remedy: string; readonly kind: Class }

/** Lists a path itself, or with a slash at its end what lies in it, and goes no deeper. */
export const lookArgs = (target: Target, path: string, both: Both, control?: Pick<Control, 'path'>): string[] => [
  ...['rsync', '--list-only', '--dirs', '--numeric-ids'],
  ...wayFlags(target, both, control?.path),
  '--',
  ...operands(target, both, [path]),
]

/** What keeps the path from being read; undefined where nothing does. A folder is opened too. */
export async function lookAt(
  target: Target,
  path: string,
  both: Both,
  context: Pick<Context, 'signal'>,
  control?: Pick<Control, 'path'>,
): Promise<Problem | undefined> {
  const look = (at: string) => answer(lookArgs(target, at, both, control), { env: rsyncEnv(target), signal: context.signal, relays: true })
  let said = await look(path)
  if (said.status === 0 && said.stdout.startsWith('d') && path !== '/') said = await look(`${path}/`)
  if (said.status === 0) return undefined
  const cause = saidBy(said.stderr)
  if (/No such file or directory/.test(cause))
    return { text: `'${path}' is not there`, remedy: 'the file paths of the target names it', kind: 'vanished' }
  if (/Permission denied/.test(cause))
    return {
      text: `'${path}' cannot be read: permission denied`,
      remedy: 'kedge key --as sudo or --as doas lets the account read as root',
      kind: 'permission',
    }
  return {
    text: `'${path}' cannot be looked at: ${cause}`,
    remedy: `kedge key ${target.name} --test tells what the key permits`,
    kind: classOf(said, { remote: true }),
  }
}
