// Which repository lies there: its id, against the one that init pinned.
import { join } from 'node:path'
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { askRestic, explain, jsonLine, repository } from './tool.ts'

export type Config = { version: number; id: string; chunker_polynomial: string }

/** Without the cache: two restics that start at once on a new cache folder trip over its half-written version file (0.14 to 0.19). */
export const identityArgs = (): string[] => ['cat', 'config', '--no-lock', '--no-cache']

/** Opens the repository: one key derivation, some tenths of a second. */
export async function readConfig(target: Target, context: RunContext, signal = context.signal): Promise<Config> {
  const action = `open repository '${repository(target)}'`
  const text = await askRestic(target, identityArgs(), context, { action, timeout: 300, signal })
  const config = jsonLine<Config>(text.slice(Math.max(0, text.indexOf('{'))))
  if (!config?.id) throw new Failure('tool', `cannot ${action}: its config has no id`)
  return config
}

/** The store's config. Throws Failure 'refused' when the store is not the pinned one. `--force=identity` lets it pass, with a warning. */
export async function verifyIdentity(target: Target, context: RunContext, signal = context.signal, verb = 'write'): Promise<Config> {
  const config = await readConfig(target, context, signal)
  const { id } = config
  const pinned = target.env.STORE_ID
  if (!pinned || id === pinned) return config
  const message = `another store lies in '${repository(target)}': its id is ${id.slice(0, 10)}, pinned is ${pinned.slice(0, 10)}`
  if (context.forced.has('identity')) {
    context.warn(`guard 'identity' overridden: ${message}`)
    return config
  }
  throw new Failure('refused', `refusing to ${verb}: ${message}`, {
    hint: `is the right disk mounted? Where the change is meant: set STORE_ID in ${join(target.dir, 'target.env')}`,
  })
}

const identity: VerbOf<'identity'> = async function* (target, _, context) {
  if (context.mode === 'explain') {
    yield explain(target, identityArgs())
    return
  }
  const { id } = await readConfig(target, context)
  yield { kind: 'store', target: target.name, id, store: repository(target), created: false }
}
export default identity
