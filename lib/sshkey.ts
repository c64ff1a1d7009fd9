// kedge key: the key by which a target reads another host, the keys by which that host is known, and what the account there permits.
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import type { Context, Rows, Target } from './contract.ts'
import { toFinding } from './doctor/finding.ts'
import { Failure, statusOf, worst } from './failure.ts'
import { perform } from './lifecycle.ts'
import type { AuthorizedKey, FileRow } from './rows/house.ts'
import { connect } from './source/control.ts'
import { fingerprint, placeOf } from './source/hostkeys.ts'
import { keyOf, ownKey } from './source/ssh.ts'
import { byHand } from './sshkey/byhand.ts'
import { trustHost } from './sshkey/host.ts'
import { authorizedLine, steps, type Variant } from './sshkey/line.ts'
import { makeKey, publicHalf, replaceKey } from './sshkey/make.ts'
import { checked, type KeyOptions, scriptFile } from './sshkey/options.ts'
import { prove } from './sshkey/prove.ts'

/** Failure 'misuse' for options that do not go together, and for a target that reads no other host. */
export async function* keyOfTarget(target: Target, options: KeyOptions, context: Context): AsyncGenerator<Rows, number> {
  const variant = checked(target, options)
  if (context.mode === 'explain') {
    yield* byHand(target, options, variant)
    return 0
  }
  if (options.script) {
    yield { kind: 'text', text: (await readFile(scriptFile(), 'utf8')).replace(/\n$/, '') }
    return 0
  }
  if (options.test) {
    const statuses: number[] = []
    for await (const found of prove(target, variant, context)) {
      if (found.level === 'blocked') statuses.push(statusOf[found.class ?? 'tool'])
      yield toFinding(target.name, found)
    }
    return worst(statuses)
  }
  return yield* perform('key', target, context, async function* (inner) {
    if (options.new) return yield* another(target, variant, inner)
    if (!options.host) yield* key(target, variant, inner)
    yield* trustHost(target, options, inner)
  })
}

const row = (target: Target, path: string, action: FileRow['action']): FileRow => ({ kind: 'file', target: target.name, path, action })

/** The key that there is, or a new one, and the line for the host. */
async function* key(target: Target, variant: Variant, context: Context): AsyncGenerator<Rows> {
  const file = keyOf(target)
  if (!file && context.mode === 'dry-run') {
    yield row(target, ownKey(target), 'would write')
    return
  }
  const made = !file && (await makeKey(target, ownKey(target), context))
  yield row(target, file ?? ownKey(target), made ? 'written' : 'unchanged')
  yield await lineOf(target, variant, file ?? ownKey(target), context)
}

async function lineOf(target: Target, variant: Variant, file: string, context: Context): Promise<AuthorizedKey> {
  const half = await publicHalf(target, file, context)
  const { user } = await placeOf(target, context)
  for (const step of steps(variant, target.name, user)) context.log(step)
  return { kind: 'authorized', target: target.name, line: authorizedLine(variant, half, target.name), fingerprint: fingerprint(half) }
}

/** Another key beside the one in use, which it follows once it is let in: a call makes it, the next one puts it in place. */
async function* another(target: Target, variant: Variant, context: Context): AsyncGenerator<Rows> {
  const [file, fresh] = [ownKey(target), `${ownKey(target)}.new`]
  if (target.env.SSH_KEY)
    throw new Failure('config', `cannot replace the key of '${target.name}': SSH_KEY names '${target.env.SSH_KEY}'`, {
      hint: `without SSH_KEY the target uses '${file}'`,
    })
  if (context.mode === 'dry-run') {
    yield row(target, existsSync(fresh) ? file : fresh, 'would write')
    return
  }
  yield row(target, fresh, (await makeKey(target, fresh, context)) ? 'written' : 'unchanged')
  const old = existsSync(file) ? fingerprint(await publicHalf(target, file, context)) : undefined
  const line = await lineOf(target, variant, fresh, context)
  yield line
  try {
    const control = await connect(target, context, { file: fresh, fingerprint: line.fingerprint })
    await control.end()
  } catch (error) {
    if (!(error instanceof Failure) || error.class !== 'auth') throw error
    throw new Failure('auth', `the new key is not in use yet: ${error.message}`, {
      hint: `add the line above to authorized_keys there, beside the old one, and then again: kedge key ${target.name} --new`,
      cause: error,
    })
  }
  await replaceKey(target, fresh, file)
  yield row(target, file, 'written')
  if (old) context.log(`it is in use; take the line with the old key, ${old}, out of authorized_keys there`)
}
