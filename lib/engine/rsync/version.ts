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
  const why = unfit(found)
  if (why) throw new Failure('tool', why.text, { hint: why.remedy })
  return found
}

/** Why it cannot receive snapshots; undefined where it can. */
export function unfit({ flavour, numbers, text }: Version): { text: string; remedy: string } | undefined {
  if (flavour === 'openrsync') return { text: 'the rsync in PATH is openrsync: it cannot link to older snapshots', remedy: 'pkg_add rsync' }
  if (older(numbers, least)) return { text: `${text} is older than ${least.join('.')}`, remedy: 'install a newer rsync' }
  return undefined
}

let lacked: Promise<ReadonlySet<string>> | undefined

/** Letters of options that the rsync of this machine was built without: 'A' ACLs, 'X' xattrs, as OpenBSD's package. Asked once a process. */
export function builtWithout(): Promise<ReadonlySet<string>> {
  lacked ??= answer(['rsync', '--version'], { env: callerEnv() }).then(({ stdout }) => lackedBy(stdout))
  return lacked
}

/** '… append, no ACLs, no xattrs, …' -> A, X. */
export const lackedBy = (text: string): ReadonlySet<string> =>
  new Set([...(/\bno ACLs\b/.test(text) ? ['A'] : []), ...(/\bno xattrs\b/.test(text) ? ['X'] : [])])
