// Whether the rsync on the other host reads as root: told by folders that are closed to everybody else.
import { answer } from '../child.ts'
import type { Context, Target } from '../contract.ts'
import { blocked, type Found, ok, warning } from '../doctor/finding.ts'
import type { Both } from '../engine/rsync/argv.ts'
import { lookArgs } from '../engine/rsync/roots.ts'
import { rsyncEnv } from '../engine/rsync/tool.ts'
import type { Control } from '../source/control.ts'
import type { Variant } from './line.ts'

/** Root's home is closed on every Linux and OpenBSD that nobody has opened; where it is open, or macOS has it elsewhere, the tables of cron. */
const closed = ['/root/', '/var/root/', '/var/spool/cron/crontabs/', '/var/spool/cron/', '/var/cron/tabs/']

type Listing = { readonly status: number | null; readonly stdout: string; readonly stderr: string }

/** What a listing of one of them says of who reads; undefined: nothing, as where it is not there, or is open to all. Pure. */
export function readerOf({ status, stdout, stderr }: Listing): 'root' | 'another' | undefined {
  if (/Permission denied/.test(stderr)) return 'another'
  const [, others] = /^d.{6}(...) .* \.$/m.exec(stdout) ?? []
  return status === 0 && others?.startsWith('-') ? 'root' : undefined
}

export const readerLooks = (target: Target, both: Both, control?: Pick<Control, 'path'>): string[][] =>
  closed.map((path) => lookArgs(target, path, both, control))

export async function reader(
  target: Target,
  variant: Variant,
  both: Both,
  context: Pick<Context, 'signal'>,
  control: Control,
): Promise<Found> {
  for (const look of readerLooks(target, both, control)) {
    const who = readerOf(await answer(look, { env: rsyncEnv(target), signal: context.signal, relays: true }))
    if (who) return judgeReader(who, variant)
  }
  return judgeReader(undefined, variant)
}

/** Pure. */
export function judgeReader(who: 'root' | 'another' | undefined, variant: Variant): Found {
  const wanted = variant === 'sudo' || variant === 'doas'
  if (who === 'root') return ok('root', 'it reads as root: all files')
  const text = who ? 'it reads as an ordinary account: no files that others have closed' : 'whether it reads as root cannot be told'
  if (!wanted) return ok('root', text)
  const remedy = `kedge key --as ${variant} prints the line for authorized_keys, which begins with ${variant}, and the rule for ${variant}`
  return who ? blocked('root', text, remedy, 'permission') : warning('root', text, remedy)
}
