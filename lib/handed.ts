// Secrets that `kedge run` opened and handed over in the environment of a command of kedge's.
import type { Target } from './contract.ts'
import { callerVar } from './env.ts'
import { words } from './keys.ts'

/** Of a second store, to which the command copies. The folder tells targets of one name in two configurations apart. */
export type Handed = Pick<Target, 'name' | 'dir'> & { readonly secrets: Readonly<Record<string, string>> }

/**
 * The secrets that `kedge run` opened for this very target, or for a second store of its, taken from kedge's own environment; undefined
 * where it runs in no context, in another target's, or where one of them was taken away.
 */
export function handedSecrets(target: Pick<Target, 'name' | 'dir'>): Record<string, string> | undefined {
  if (callerVar('KEDGE_CONTEXT') === target.name && callerVar('KEDGE_CONTEXT_DIR') === target.dir) return ownSecrets()
  const found = seconds().find(({ name, dir }) => name === target.name && dir === target.dir)
  return found && { ...found.secrets }
}

/** The variable that hands over those of second stores; none where there are none. */
export const handing = (handed: readonly Handed[]): Record<string, string> =>
  handed.length > 0 ? { [secondsVar]: JSON.stringify(handed) } : {}

// In one variable: two targets' secrets have the same names. No tool and no hook gets it.
const secondsVar = 'KEDGE_CONTEXT_SECONDS'

function ownSecrets(): Record<string, string> | undefined {
  const keys = callerVar('KEDGE_CONTEXT_KEYS')
  if (keys === undefined) return undefined
  const values: Record<string, string> = {}
  for (const key of words(keys)) {
    const value = callerVar(key)
    if (value === undefined) return undefined
    values[key] = value
  }
  return values
}

function seconds(): readonly Handed[] {
  try {
    const handed: unknown = JSON.parse(callerVar(secondsVar) ?? '[]')
    return Array.isArray(handed) ? handed : []
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    return [] // not of kedge's making
  }
}
