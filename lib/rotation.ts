// The stages of a rotation, as the secrets tell them: whatever is cut off, RESTIC_PASSWORD opens the store, and no password that a
// key was made for is forgotten. Pure.
import { setEnvKey } from './env.ts'
import { Failure } from './failure.ts'
import { pendingKeys, type Values } from './secrettext.ts'

const { next: nextKey, old: oldKey } = pendingKeys

export type Stage =
  /** No rotation is under way. */
  | { readonly at: 'rest'; readonly password: string }
  /** A new password is written down; whether a key was made for it is not known. */
  | { readonly at: 'next'; readonly password: string; readonly next: string }
  /** The new password is in force; the key of the old one may still be there. */
  | { readonly at: 'old'; readonly password: string; readonly old: string }

/** Failure `auth` where there is no password, `config` where the keys of a rotation make no sense. */
export function stageOf(values: Values, name: string): Stage {
  const { RESTIC_PASSWORD: password, [nextKey]: next, [oldKey]: old } = values
  const odd = (why: string) => new Failure('config', `cannot rotate the password of '${name}': ${why}`)
  if (!password)
    throw new Failure('auth', `cannot rotate the password of '${name}': its secrets have no RESTIC_PASSWORD`, {
      hint: 'RESTIC_PASSWORD_FILE and RESTIC_PASSWORD_COMMAND are for others to change',
    })
  if (next !== undefined && old !== undefined) throw odd(`its secrets have both ${nextKey} and ${oldKey}`)
  for (const [key, value] of [[nextKey, next] as const, [oldKey, old] as const]) {
    if (value === '') throw odd(`${key} is empty`)
    if (value === password) throw odd(`${key} is the same as RESTIC_PASSWORD`)
  }
  if (next !== undefined) return { at: 'next', password, next }
  return old === undefined ? { at: 'rest', password } : { at: 'old', password, old }
}

/** The text with a new password written down; every other byte of it stays. */
export const withNext = (text: string, next: string): string => setEnvKey(text, nextKey, next)

/** The new password in force, the old one kept until its key is removed. */
export const withOld = (text: string, stage: Stage & { at: 'next' }): string =>
  setEnvKey(setEnvKey(setEnvKey(text, 'RESTIC_PASSWORD', stage.next), oldKey, stage.password), nextKey, undefined)

export const atRest = (text: string): string => setEnvKey(text, oldKey, undefined)
