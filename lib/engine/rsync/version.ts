// rsync's versions and what differs between them.
import { answer } from '../../child.ts'
import { callerEnv } from '../../env.ts'
import { Failure } from '../../failure.ts'

/** `openrsync` is OpenBSD's: it can send, but cannot link to an older snapshot, nor keep xattrs, hard links or holes. */
export type Flavour = 'rsync' | 'openrsync'
export type Version = { readonly flavour: Flavour; readonly numbers: readonly number[]; readonly protocol: number; readonly text: string }

/** 'rsync  version 3.2.7  protocol version 31' (a "v" before it in some builds), or 'openrsync: protocol version 27'. */
export function parseVersion(text: string): Version | undefined {
  const [, protocol27] = /^openrsync: protocol version (\d+)/m.exec(text) ?? []
  if (protocol27) return { flavour: 'openrsync', numbers: [0], protocol: Number(protocol27), text: 'openrsync' }
  const [, numbers, protocol] = /^rsync +version v?([\d.]+)\S* +protocol version (\d+)/m.exec(text) ?? []
  if (!numbers) return undefined
  return { flavour: 'rsync', numbers: numbers.split('.').map(Number), protocol: Number(protocol), text: `rsync ${numbers}` }
}

export const older = (version: readonly number[], than: readonly number[]): boolean => {
  for (let i = 0; i < than.length; i++) if ((version[i] ?? 0) !== (than[i] ?? 0)) return (version[i] ?? 0) < (than[i] ?? 0)
  return false
}

/** The oldest that is tested against. */
export const least: readonly number[] = [3, 1, 0]

let known: Promise<Version> | undefined

/** The rsync of this machine, which receives: GNU's, 3.1 or later; else Failure `tool`. Asked once a process. */
export function rsyncVersion(): Promise<Version> {
  known ??= ask()
  return known
}

/** The rsync in PATH, whichever it is; undefined where there is none. */
export async function installed(): Promise<Version | undefined> {
  try {
    const { stdout, stderr } = await answer(['rsync', '--version'], { env: callerEnv() })
    return parseVersion(`${stdout}\n${stderr}`)
  } catch (error) {
    if (error instanceof Failure && error.class === 'tool') return undefined
    throw error
  }
}

async function ask(): Promise<Version> {
  const found = await installed()
  if (!found) throw new Failure('tool', 'there is no rsync in PATH', { hint: 'install rsync' })
  if (found.flavour === 'openrsync')
    throw new Failure('tool', 'the rsync in PATH is openrsync: it cannot link to older snapshots', { hint: 'pkg_add rsync' })
  if (older(found.numbers, least))
    throw new Failure('tool', `${found.text} is older than ${least.join('.')}`, { hint: 'install a newer rsync' })
  return found
}
