// Where configuration, state, caches and locks lie. A user who is not root has a house of his own.
import { homedir } from 'node:os'
import { join } from 'node:path'
import { callerVar } from './env.ts'
import { Failure } from './failure.ts'

const isRoot = () => process.geteuid?.() === 0

function home(variable: string, system: string, own: string): string {
  const given = callerVar(variable)
  if (given !== undefined && given !== '') {
    if (!given.startsWith('/')) throw new Failure('config', `cannot use ${variable}='${given}': not an absolute path`)
    return given
  }
  return isRoot() ? system : join(homedir(), own)
}

export const configDir = (): string => home('KEDGE_CONFIG_DIR', '/etc/kedge', '.config/kedge')
export const targetsDir = (): string => join(configDir(), 'targets')
/** A target's state: ledger, lock, plan, logs. On disk and not in /run, so that a login session and cron meet at the same lock. */
export const stateDir = (target: string): string => join(home('KEDGE_STATE_DIR', '/var/lib/kedge', '.local/state/kedge'), target)
export const cacheDir = (target: string): string => join(home('KEDGE_CACHE_DIR', '/var/cache/kedge', '.cache/kedge'), target)
/** The caches of whoever calls, for where KEDGE_CACHE_DIR names somebody else's. */
export const ownCacheDir = (): string => (isRoot() ? '/var/cache/kedge' : join(homedir(), '.cache/kedge'))
/** Where `kedge remove` puts what it took away. */
export const removedDir = (): string => join(home('KEDGE_STATE_DIR', '/var/lib/kedge', '.local/state/kedge'), '.removed')

/** The folder that kedge is installed in, with systemd/, openbsd/, docs/: this file is bundled into dist/, which lies in it. */
export const houseDir = (): string => join(__dirname, '..')
