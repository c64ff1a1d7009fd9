// The context of one target: the environment in which `kedge run` starts a command. How kedge finds its secrets there is in handed.ts.
import { mkdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Target } from '../contract.ts'
import { callerEnv } from '../env.ts'
import { gpgVars } from '../gpg.ts'
import { passedThrough, words } from '../keys.ts'
import { cacheDir, ownCacheDir } from '../paths.ts'

type Values = Readonly<Record<string, string>>

/** What an operator's programs, and kedge itself, want of the caller's environment besides what every tool gets. */
const operators = [
  ...['SHELL', 'USER', 'LOGNAME', 'EDITOR', 'VISUAL', 'PAGER', 'NO_COLOR', ...gpgVars],
  ...['KEDGE_CONFIG_DIR', 'KEDGE_STATE_DIR', 'KEDGE_CACHE_DIR', 'CREDENTIALS_DIRECTORY'],
]

/** The whole environment of a command in a target's context. `cache`: the caller's private cache, from privateCache. */
export function contextEnv(target: Target, secrets: Values, cache: { all: string; restic: string }): Record<string, string> {
  const passed = words(target.env.PASS_ENV)
  const tools = passedThrough[target.engine]
  const settings = Object.fromEntries(Object.entries(target.env).filter(([key]) => tools?.test(key) || passed.includes(key)))
  settings.RESTIC_CACHE_DIR = cache.restic
  // restic takes the first that is set: command, file, password.
  if (secrets.RESTIC_PASSWORD !== undefined) {
    delete settings.RESTIC_PASSWORD_COMMAND
    delete settings.RESTIC_PASSWORD_FILE
  }
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
 * another's could no more be used by him. `all`: the folder of all targets'.
 */
export function privateCache(target: Target): { all: string; restic: string } {
  const named = dirname(cacheDir(target.name))
  const all = isOurs(named) && isOurs(cacheDir(target.name)) ? named : ownCacheDir()
  const set = target.env.RESTIC_CACHE_DIR
  return { all, restic: set && isOurs(set) ? set : join(all, target.name, 'restic') }
}

/** Makes the folder of a private cache; false where that is refused: restic says so, and works without. */
export function makeCache(folder: string): boolean {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
    return false
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
