// The context of one target: the environment in which `kedge run` starts a command. How kedge finds its secrets there is in handed.ts.
import { mkdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Target } from '../contract.ts'
import { callerEnv } from '../env.ts'
import { gpgVars } from '../gpg.ts'
import { passedThrough, words } from '../keys.ts'
import { cacheDir, ownCacheDir } from '../paths.ts'
import type { Traits } from '../traits.ts'

type Values = Readonly<Record<string, string>>
/** The folder of all targets' caches for the calling user, and the variable with the place of this one's, where its tool has one. */
export type Cache = { readonly all: string; readonly own: Values }

/** What an operator's programs, and kedge itself, want of the caller's environment besides what every tool gets. */
const operators = [
  ...['SHELL', 'USER', 'LOGNAME', 'EDITOR', 'VISUAL', 'PAGER', 'NO_COLOR', ...gpgVars],
  ...['KEDGE_CONFIG_DIR', 'KEDGE_STATE_DIR', 'KEDGE_CACHE_DIR', 'CREDENTIALS_DIRECTORY'],
]

/** The whole environment of a command in a target's context. `cache`: the caller's private cache, from privateCache. */
export function contextEnv(target: Target, secrets: Values, cache: Cache, { context }: Pick<Traits, 'context'>): Record<string, string> {
  const passed = words(target.env.PASS_ENV)
  const tools = passedThrough[target.engine]
  const { set, without } = context(target, secrets)
  const kept = Object.entries(target.env).filter(([key]) => (tools.test(key) || passed.includes(key)) && !without.includes(key))
  const settings = { ...Object.fromEntries(kept), ...set, ...cache.own }
  return {
    ...callerEnv([...operators, ...passed]),
    ...settings,
    ...secrets,
    KEDGE_CACHE_DIR: cache.all,
    KEDGE_CONTEXT: target.name,
    KEDGE_CONTEXT_DIR: target.dir,
    KEDGE_CONTEXT_KEYS: Object.keys(secrets).join(' '),
    KEDGE_CONTEXT_SETTINGS: Object.keys(settings).join(' '),
  }
}

/**
 * Where the caches of this target lie for the calling user: what another user wrote there could not be used, and what root wrote in
 * another's could no more be used by him.
 */
export function privateCache(target: Target, { cacheVariable }: Pick<Traits, 'cacheVariable'>): Cache {
  const named = dirname(cacheDir(target.name))
  const all = isOurs(named) && isOurs(cacheDir(target.name)) ? named : ownCacheDir()
  if (cacheVariable === undefined) return { all, own: {} }
  const set = target.env[cacheVariable]
  return { all, own: { [cacheVariable]: set && isOurs(set) ? set : join(all, target.name, target.engine) } }
}

/** Makes the folder of a private cache. Where that is refused the tool says so, and works without. */
export function makeCache({ own }: Cache): void {
  try {
    for (const folder of Object.values(own)) mkdirSync(folder, { recursive: true, mode: 0o700 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
  }
}

/** It belongs to the calling user, or is not there yet. */
function isOurs(folder: string): boolean {
  try {
    return statSync(folder).uid === process.geteuid?.()
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
  }
}
