// What is to be said of a target's secrets: which keys there are, whether they are enough, whether the password opens the store, and
// how the files lie. Nothing is changed.
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Context, Rows, Target } from './contract.ts'
import { blocked, type Found, ok, toFinding, warning } from './doctor/finding.ts'
import { closed } from './doctor/place.ts'
import { failed, store } from './doctor/store.ts'
import { traitsOf } from './engine.ts'
import { parseEnv } from './env.ts'
import { Failure, statusOf, worst } from './failure.ts'
import { duration } from './format.ts'
import { knowsKey } from './gpg.ts'
import { sealedFor } from './gpgfile.ts'
import { realFile, rightsOf } from './inplace.ts'
import { readLast } from './ledger.ts'
import { stateDir } from './paths.ts'
import { preamble } from './preamble.ts'
import { cutOff } from './reseal.ts'
import type { SecretRow } from './rows/house.ts'
import { halvesOf } from './seal.ts'
import { openByHand } from './sealbyhand.ts'
import { openText } from './secret.ts'
import { secretFile, secretFiles } from './secretfile.ts'
import { isSecretKey } from './secretkeys.ts'
import { ownSecrets, pendingKeys, readSecrets } from './secrettext.ts'
import type { Traits } from './traits.ts'

/** The names of the secrets, each with its file and line. */
export async function* showKeys(target: Target, context: Context): AsyncGenerator<Rows, number> {
  if (context.mode === 'explain') {
    if (target.secret !== 'none') yield { kind: 'command', command: `${openByHand(target)} | sed -n 's/^\\([A-Za-z_0-9]*\\)=.*/\\1/p'` }
    return 0
  }
  const row = (key: string, from: string): SecretRow => ({ kind: 'secret', target: target.name, key, from })
  for (const [key, { file, line }] of Object.entries(target.origin))
    if (isSecretKey(key) || /^RESTIC_PASSWORD_(FILE|COMMAND)$/.test(key)) yield row(key, `${file}:${line}`)
  if (target.secret === 'none') return 0
  const { from, text } = await openText(target, context)
  readSecrets(text, from, target.name)
  for (const [key, { line }] of parseEnv(text, from).entries) yield row(key, `${from}:${line}`)
  return 0
}

/** Returns 0, or the worst status of what is blocked. */
export async function* checkSecrets(target: Target, context: Context): AsyncGenerator<Rows, number> {
  if (context.mode === 'explain') {
    yield* preamble(target)
    yield { kind: 'command', command: (await traitsOf(target.engine)).storeByHand(target) }
    return 0
  }
  const statuses: number[] = []
  for await (const found of findings(target, context)) {
    if (found.level === 'blocked') statuses.push(statusOf[found.class ?? 'tool'])
    yield toFinding(target.name, found)
  }
  return worst(statuses)
}

async function* findings(target: Target, context: Context): AsyncGenerator<Found> {
  const traits = await traitsOf(target.engine)
  yield await closed('folder', target.dir)
  yield* files(target)
  if (target.secret === 'gpg') yield* recipients(target, context)
  const values = yield* opening(target, context)
  if (values) {
    yield keys(target, ownSecrets(values), traits)
    for await (const found of store(target, ownSecrets(values), context)) if (found.check === 'store') yield found
    if (traits.password) yield pending(target, values)
  }
  if (traits.password) yield await age(target)
}

async function* opening(target: Target, context: Context): AsyncGenerator<Found, Record<string, string> | undefined> {
  if (target.secret === 'none') {
    yield ok('secrets', 'the target has none of its own')
    return {}
  }
  try {
    const { from, text } = await openText(target, context)
    const values = readSecrets(text, from, target.name)
    yield ok('secrets', `'${from}' opens (SECRET=${target.secret})`)
    return values
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    yield failed('secrets', error)
    return undefined
  }
}

/** What the store's service, and the store, want. */
function keys(target: Target, values: Readonly<Record<string, string>>, { lacking }: Traits): Found {
  const { missing, unset, text } = lacking({ ...target.env, ...values })
  if (missing.length > 0) return blocked('keys', `${missing.join(', ')} is missing`, `kedge secret edit ${target.name}`, 'auth')
  if (unset.length === 0) return ok('keys', text)
  return warning('keys', `not set: ${unset.join(', ')}`, `kedge secret edit ${target.name}, where the store does not open without them`)
}

/** The file in force is closed to others, and no other lies beside it. */
async function* files(target: Target): AsyncGenerator<Found> {
  const own = secretFile(target.dir, target.secret)
  if (own) {
    const found = await rightsOf(own)
    const bits = found && (found.mode & 0o7777).toString(8).padStart(4, '0')
    if (!found) yield blocked('file', `'${own}' is missing`, `SECRET=${target.secret} wants it`, 'auth')
    else if (found.mode & 0o077) yield warning('file', `others have rights on '${own}': its mode is ${bits}`, `chmod 0600 '${own}'`)
    else yield ok('file', `only its owner has rights on '${own}'`)
  }
  if (target.secret === 'file') yield warning('plain text', `the secrets lie in plain text in '${own}'`, `kedge secret seal ${target.name}`)
  const names = await readdir(target.dir)
  for (const [provider, name] of Object.entries(secretFiles)) {
    if (provider === target.secret || !names.includes(name)) continue
    const move = await cutOff(target)
    const remedy = move
      ? `kedge secret ${move.from === 'file' ? 'seal' : 'reseal'} ${target.name} ends what was cut off`
      : 'remove it, safely'
    yield warning('file', `'${join(target.dir, name)}' is not in force (SECRET=${target.secret}), and holds secrets`, remedy)
  }
  for (const name of Object.values(secretFiles)) {
    for (const half of await halvesOf(await realFile(join(target.dir, name))))
      yield warning('file', `'${half}' was left by a call that was killed`, 'the next call that seals removes it')
  }
}

/** Who can open a gpg file, and whether gpg here knows all of them: else it could not be sealed again as it is. */
async function* recipients(target: Target, context: Context): AsyncGenerator<Found> {
  const file = secretFile(target.dir, 'gpg') as string
  try {
    const { passphrases, keys } = await sealedFor(file)
    const unknown: string[] = []
    for (const key of keys) {
      if (!(await knowsKey(key, context.signal))) unknown.push(key)
    }
    const list = [
      passphrases > 0 ? `${passphrases} ${passphrases === 1 ? 'passphrase' : 'passphrases'}` : '',
      ...keys.map((key) => `key ${key}`),
    ]
    const text = `it is for ${list.filter(Boolean).join(', ')}`
    if (unknown.length === 0) yield ok('recipients', text)
    else
      yield warning(
        'recipients',
        `${text}; gpg does not know ${unknown.join(', ')} here`,
        'gpg --import their public keys, before edit and rotate-password',
      )
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    yield failed('recipients', error)
  }
}

function pending(target: Target, values: Readonly<Record<string, string>>): Found {
  const found = Object.values(pendingKeys).filter((key) => values[key] !== undefined)
  if (found.length === 0) return ok('rotation', 'none is under way')
  return warning('rotation', `one is under way (${found.join(', ')})`, `kedge secret rotate-password ${target.name} goes on with it`)
}

async function age(target: Target): Promise<Found> {
  const { rotate } = await readLast(stateDir(target.name))
  const start = rotate?.good?.start
  if (start === undefined) return ok('password', 'kedge never rotated it')
  return ok('password', `rotated ${duration((Date.now() - Date.parse(start)) / 1000)} ago, on ${start.slice(0, 10)}`)
}
