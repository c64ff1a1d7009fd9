// Where an rsync target's snapshots lie, and which store it is: a folder with kedge-store.json, and in it a folder a target.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { words } from '../../keys.ts'

/** The folder that STORE names. Failure `config` where it names none. */
export function storeOf(target: Target): string {
  const { STORE } = target.env
  if (STORE) return STORE.replace(/(?<=.)\/+$/, '')
  throw new Failure('config', `target '${target.name}' has no STORE`, { hint: `set it in ${join(target.dir, 'target.env')}` })
}

/** The targets whose snapshots the target shows: its own, or those that SNAPSHOTS_OF names. */
export function ownersOf(target: Target): string[] {
  const names = words(target.env.SNAPSHOTS_OF)
  return names.length > 0 ? names : [target.name]
}

/** The folder of one target's snapshots: snapshots/ID/{tree,snapshot.json,manifest}, incomplete/ID, deleting/ID, partial, latest, lock. */
export const rootOf = (target: Target, owner = target.name): string => join(storeOf(target), owner)

export type StoreFile = { readonly id: string; readonly created: string }

export const storeFile = (target: Target): string => join(storeOf(target), 'kedge-store.json')

/** What marks the folder as a store; undefined where nothing does. */
export function readStore(target: Target): StoreFile | undefined {
  const file = storeFile(target)
  try {
    const { id, created } = JSON.parse(readFileSync(file, 'utf8')) as Partial<StoreFile>
    if (typeof id === 'string' && id !== '') return { id, created: created ?? '' }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    if (!(error instanceof SyntaxError)) throw error
  }
  throw new Failure('damaged', `cannot read '${file}': it names no store`, { hint: 'a copy of it has the id that STORE_ID pins' })
}

/** The store of the target, as it is there. Failure `missing` where there is none. */
export function openStore(target: Target): StoreFile {
  const found = readStore(target)
  if (found) return found
  const hint = target.env.STORE_ID ? 'is the disk mounted?' : `is the disk mounted? kedge init ${target.name} creates one`
  throw new Failure('missing', `no store in '${storeOf(target)}'`, { hint })
}

/** The store, which has to be the pinned one: else Failure `refused`. `--force=identity` lets it pass, with a warning. */
export function verifyIdentity(target: Target, context: Pick<RunContext, 'warn' | 'forced'>, verb = 'write'): StoreFile {
  const store = openStore(target)
  const pinned = target.env.STORE_ID
  if (!pinned || store.id === pinned) return store
  const message = `another store lies in '${storeOf(target)}': its id is ${store.id.slice(0, 10)}, pinned is ${pinned.slice(0, 10)}`
  if (context.forced.has('identity')) {
    context.warn(`guard 'identity' overridden: ${message}`)
    return store
  }
  throw new Failure('refused', `refusing to ${verb}: ${message}`, {
    hint: `is the right disk mounted? Where the change is meant: set STORE_ID in ${join(target.dir, 'target.env')}`,
  })
}

/** The same for what is read: a verb that changes something has said by now that the guard is overridden. */
export const pinnedStore = (target: Target, context: Pick<RunContext, 'warn' | 'forced'>): StoreFile =>
  context.forced.has('identity') ? openStore(target) : verifyIdentity(target, context, 'read')
