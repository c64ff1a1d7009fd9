// A file of secrets that is not in force any more: what of it goes, and what stays since others may read it.
import { lstat, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { RunContext, Target } from './contract.ts'
import { realFile, toDisk } from './inplace.ts'
import { isAbsent } from './ledger.ts'
import { targetsDir } from './paths.ts'
import { wipe } from './privatefile.ts'
import { type FileProvider, fileTrouble, secretFiles } from './secretfile.ts'
import { targetNames } from './target.ts'

export type Leaving = {
  /** The file itself, where it goes: not the link to it. */
  readonly real: string | undefined
  readonly link: string | undefined
  /** The file that stays, and the other targets that have it. */
  readonly kept: string | undefined
  readonly others: readonly string[]
}

export const namesOf = ({ real, link }: Leaving): string[] => [real, link].filter((name) => name !== undefined)

/**
 * Undefined where nothing is there. Of a link to sealed secrets only the link goes: what it leads to was not named, and is no danger.
 * Failure `permission` where it cannot be told whether another target has the file.
 */
export async function leavingOf(target: Target, provider: FileProvider): Promise<Leaving | undefined> {
  const file = join(target.dir, secretFiles[provider])
  if (!(await isThere(file))) return undefined
  const isLink = (await lstat(file)).isSymbolicLink()
  const real = await realFile(file)
  const link = isLink ? file : undefined
  if (!(await isThere(real)) || real === link) return { real: undefined, link, kept: undefined, others: [] }
  const others = await othersWith(target, real)
  const path = isLink ? real : file
  const stays = others.length > 0 || (isLink && provider !== 'file')
  return { real: stays ? undefined : path, link, kept: stays ? path : undefined, others }
}

/** The other targets of which a file of secrets is this one. */
async function othersWith(target: Target, real: string): Promise<string[]> {
  const others: string[] = []
  const own = await realFile(target.dir)
  for (const name of await targetNames()) {
    const dir = join(targetsDir(), name)
    // A second name of the whole folder has this target.env as well.
    if ((await resolved(dir)) === own) continue
    for (const each of Object.values(secretFiles)) {
      if (!(await isSame(join(dir, each), real))) continue
      others.push(name)
      break
    }
  }
  return others
}

/** Whether what is done to the one is done to the other. A further hard link is none: only the name goes. */
async function isSame(file: string, real: string): Promise<boolean> {
  const other = await resolved(file)
  if (other === undefined || other === real) return other === real
  if (!(await isThere(other))) return false
  const [a, b] = [await lstat(other), await lstat(real)]
  // A mount of a single file, as containers have them.
  return a.nlink === 1 && a.dev === b.dev && a.ino === b.ino
}

/** Undefined for a link that leads to itself. */
async function resolved(file: string): Promise<string | undefined> {
  return await realFile(file).catch((error: NodeJS.ErrnoException) => (error.code === 'ELOOP' ? undefined : fileTrouble(file)(error)))
}

/** Removes what is to go; plain text is overwritten. Says what stays. Gives the names that are gone. */
export async function discard(leaving: Leaving, provider: FileProvider, context: RunContext): Promise<string[]> {
  const { real, link } = leaving
  const gone: string[] = []
  if (real !== undefined && (await removed(real, link, provider, context))) gone.push(real)
  if (link !== undefined) {
    await rm(link, { force: true })
    await toDisk(dirname(link))
    gone.push(link)
  }
  sayKept(leaving, provider, context)
  if (provider === 'file')
    context.log('copies of the plain secrets may remain: in backups, in journals of the file system, in spare blocks of the disk')
  return gone
}

/** What stays is told; where it should have gone, the run is one in part. */
export function sayKept({ kept, link, others }: Leaving, provider: FileProvider, context: RunContext): void {
  if (kept === undefined) return
  const users = others.length > 0 ? `: ${others.map((name) => `'${name}'`).join(', ')} ${others.length === 1 ? 'has' : 'have'} it too` : ''
  const text = `'${kept}'${link === undefined ? '' : `, to which '${link}' leads,`} stays${users}`
  if (context.mode === 'dry-run' || (provider !== 'file' && link !== undefined)) context.log(text)
  else if (provider === 'file') context.warn(`the secrets still lie in plain text: ${text}`, 'partial')
  else context.warn(`not in force any more, but not removed: ${text}`, 'partial')
}

/** False, and a warning, where the system refuses it. */
async function removed(real: string, link: string | undefined, provider: FileProvider, context: RunContext): Promise<boolean> {
  const plain = provider === 'file'
  const named = link === undefined ? `'${real}'` : `'${real}', to which '${link}' leads`
  const { nlink } = await lstat(real)
  try {
    await (plain ? wipe(real) : rm(real))
    await toDisk(dirname(real))
  } catch (error) {
    const why = refusals[(error as NodeJS.ErrnoException).code ?? '']
    if (!why) throw error
    const rest = plain ? ': look whether it still holds the secrets in plain text' : ', which is not in force any more'
    context.warn(`cannot ${plain ? 'wipe' : 'remove'} ${named}: ${why}${rest}`, 'partial')
    return false
  }
  if (plain && nlink > 1)
    context.warn(`the secrets still lie in plain text under ${nlink - 1} further ${nlink === 2 ? 'name' : 'names'} of ${named}`, 'partial')
  return true
}

/** EBUSY: a file that is a mount of its own. */
const refusals: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EROFS: 'the file system is read-only',
  EBUSY: 'it is in use',
}

export async function isThere(file: string): Promise<boolean> {
  try {
    await lstat(file)
    return true
  } catch (error) {
    if (isAbsent(error)) return false
    throw error
  }
}
