// The table of engines: what each verb is done by, imported when it is used. The compiler names a verb that is missing.
import { hostname } from 'node:os'
import type { Target, Unsupported, Verb, VerbOf } from './contract.ts'
import type { EngineName } from './rows.ts'
import type { Traits } from './traits.ts'

type Room<V extends Verb> = () => Promise<{ default: VerbOf<V> | Unsupported }>
type Engine = { readonly [V in Verb]: Room<V> }

const engines = {
  restic: {
    identity: () => import('./engine/restic/identity.ts'),
    init: () => import('./engine/restic/init.ts'),
    backup: () => import('./engine/restic/backup.ts'),
    list: () => import('./engine/restic/list.ts'),
    files: () => import('./engine/restic/files.ts'),
    cat: () => import('./engine/restic/cat.ts'),
    find: () => import('./engine/restic/find.ts'),
    restore: () => import('./engine/restic/restore.ts'),
    drill: () => import('./engine/restic/drill.ts'),
    prune: () => import('./engine/restic/prune.ts'),
    forget: () => import('./engine/restic/forget.ts'),
    hold: () => import('./engine/restic/hold.ts'),
    check: () => import('./engine/restic/check.ts'),
    diff: () => import('./engine/restic/diff.ts'),
    stats: () => import('./engine/restic/stats.ts'),
    mount: () => import('./engine/restic/mount.ts'),
    copy: () => import('./engine/restic/copy.ts'),
    unlock: () => import('./engine/restic/unlock.ts'),
    rotate: () => import('./engine/restic/rotate.ts'),
  },
  rsync: {
    identity: () => import('./engine/rsync/identity.ts'),
    init: () => import('./engine/rsync/init.ts'),
    backup: () => import('./engine/rsync/backup.ts'),
    list: () => import('./engine/rsync/list.ts'),
    files: () => import('./engine/rsync/files.ts'),
    cat: () => import('./engine/rsync/cat.ts'),
    find: () => import('./engine/rsync/find.ts'),
    restore: () => import('./engine/rsync/restore.ts'),
    drill: () => import('./engine/rsync/drill.ts'),
    prune: () => import('./engine/rsync/prune.ts'),
    forget: () => import('./engine/rsync/forget.ts'),
    hold: () => import('./engine/rsync/hold.ts'),
    check: () => import('./engine/rsync/check.ts'),
    diff: () => import('./engine/rsync/diff.ts'),
    stats: () => import('./engine/rsync/stats.ts'),
    mount: () => import('./engine/rsync/mount.ts'),
    copy: () => import('./engine/rsync/copy.ts'),
    unlock: () => import('./engine/rsync/unlock.ts'),
    rotate: () => import('./engine/rsync/rotate.ts'),
  },
} as const satisfies Record<EngineName, Engine>

export async function verbOf<V extends Verb>(engine: EngineName, verb: V): Promise<VerbOf<V> | Unsupported> {
  const room: Room<V> = (engines[engine] as Engine)[verb]
  return (await room()).default
}

const traits: Readonly<Record<EngineName, () => Promise<{ default: Traits }>>> = {
  restic: () => import('./engine/restic/traits.ts'),
  rsync: () => import('./engine/rsync/traits.ts'),
}
export const engineNames = Object.keys(traits) as EngineName[]

/** What an engine is like outside of its verbs. */
export const traitsOf = async (engine: EngineName): Promise<Traits> => (await traits[engine]()).default

/** The folders of this machine that a target's runs write to, besides kedge's own: a local store, a cache elsewhere. */
export async function placesOf(target: Target): Promise<string[]> {
  const { storeFolder, cacheVariable } = await traitsOf(target.engine)
  const found = [storeFolder(target), cacheVariable && target.env[cacheVariable]]
  return found.flatMap((path) => (path?.startsWith('/') ? path : []))
}

/** A target's recovery sheet. `secrets`: all of its secrets, which then stand on it. */
export async function sheetOf(target: Target, secrets?: Readonly<Record<string, string>>): Promise<string> {
  const { sheet, tool } = await traitsOf(target.engine)
  return await sheet({ target, host: hostname(), date: new Date(), tool: (await tool())?.text, secrets })
}
