// The options of kedge key, and which of them go together.
import { join } from 'node:path'
import type { Target } from '../contract.ts'
import { Failure } from '../failure.ts'
import { houseDir } from '../paths.ts'
import { isRemote } from '../source/ssh.ts'
import { type Variant, variants } from './line.ts'

export type KeyOptions = {
  readonly as: string | undefined
  readonly host: boolean
  readonly new: boolean
  readonly test: boolean
  readonly script: boolean
  /** Of the host's keys, as its operator named them. */
  readonly fingerprint: readonly string[]
}

/** What `--script` prints. */
export const scriptFile = (): string => join(houseDir(), 'ssh/kedge-rsync-only')

/** The variant that is meant. Failure 'misuse' for options that do not go together, and for a target that reads no other host. */
export function checked(target: Target, options: KeyOptions): Variant {
  const { as = 'command', host, new: fresh, test, script } = options
  const variant = variants.find((each) => each === as)
  if (!variant) throw new Failure('misuse', `no variant '${as}'`, { hint: variants.join(', ') })
  const chosen = [host && '--host', fresh && '--new', test && '--test', script && '--script'].filter((each) => each !== false)
  if (chosen.length > 1) throw new Failure('misuse', `${chosen.join(' and ')} do not go together`)
  if (options.fingerprint.length > 0 && (fresh || test || script))
    throw new Failure('misuse', `option '--fingerprint' is for the host's keys, and ${chosen[0]} asks for none`)
  if (options.as !== undefined && (host || script)) throw new Failure('misuse', `option '--as' does nothing with ${chosen[0]}`)
  if (target.engine !== 'rsync' || !isRemote(target))
    throw new Failure('misuse', `target '${target.name}' reads no other host`, {
      hint: target.engine === 'rsync' ? 'SOURCE_HOST in its target.env names one' : `its engine is ${target.engine}; rsync reads over SSH`,
    })
  return variant
}
