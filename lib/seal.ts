// Secrets written where their provider finds them: sealed, proven to open, and only then put in the place of what was there.
import { randomBytes } from 'node:crypto'
import { readdir, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Provider, Target } from './contract.ts'
import { encryptCredential } from './credential.ts'
import { formatEnv } from './env.ts'
import { Failure } from './failure.ts'
import { encryptByGpg } from './gpg.ts'
import type { Sealing } from './gpgfile.ts'
import { putInPlace, realFile, rightsOf, toDisk, writeNew } from './inplace.ts'
import { conceal } from './log.ts'
import { openText } from './secret.ts'
import { type FileProvider, fileTrouble, hasFile, secretFiles } from './secretfile.ts'
import { concealAll, refuseEmpty, type Values } from './secrettext.ts'

/** For whom a gpg file is: a passphrase, keys, or both. The other providers want neither. */
export type How = { readonly passphrase?: string | undefined; readonly recipients?: readonly string[]; readonly signal?: AbortSignal }

/**
 * Writes secrets to where a provider finds them, in place of what is there, once the new file is proven to open to the same
 * bytes. gpg needs either a passphrase or a recipient whose secret key is here. Gives the file; for `command`, which kedge
 * cannot write, the text that the operator puts there.
 */
export async function sealSecrets(
  dir: string,
  provider: Provider,
  values: Values,
  options: { passphrase?: string; recipient?: string; signal?: AbortSignal } = {},
): Promise<{ file: string } | { text: string }> {
  concealAll(values)
  refuseEmpty(values, `the secrets for '${basename(dir)}'`)
  const text = formatEnv(values)
  if (provider === 'command') return { text }
  if (!hasFile(provider)) throw new Failure('misuse', `cannot keep the secrets of '${basename(dir)}': SECRET is none`)
  const { recipient, ...how } = options
  if (recipient !== undefined && how.passphrase !== undefined)
    throw new Failure('misuse', `cannot seal '${join(dir, secretFiles[provider])}': a passphrase and a recipient: one of them`)
  const place = { name: basename(dir), dir }
  return { file: await sealText(place, provider, text, { ...how, ...(recipient !== undefined && { recipients: [recipient] }) }) }
}

/**
 * The same for a text that is an env file already, which keeps its comments. A link stays one, and owner, group and mode are those of
 * the file before; of plain text nobody but its owner has rights. What half-written files a killed call left is removed. The caller
 * holds the target's lock, or its folder is nobody else's yet. Gives the file.
 */
export async function sealText(
  place: Pick<Target, 'name' | 'dir'>,
  provider: FileProvider,
  text: string,
  { passphrase, recipients = [], signal = new AbortController().signal }: How = {},
): Promise<string> {
  const file = join(place.dir, secretFiles[provider])
  if (passphrase !== undefined) conceal(passphrase)
  const sealed = await seal(place.name, provider, text, file, { passphrase, recipients, signal })
  const real = await realFile(file)
  await sweepHalves(real)
  const fresh = join(dirname(real), `.${basename(real)}.${randomBytes(6).toString('hex')}`)
  const before = await rightsOf(real)
  const rights = provider === 'file' ? { mode: 0o400 | ((before?.mode ?? 0) & 0o200) } : (before ?? { mode: 0o600 })
  try {
    await writeNew(fresh, sealed, rights, file).catch(fileTrouble(fresh))
    const back = await opened({ ...bareTarget, ...place, secret: provider }, fresh, { passphrase, signal }, file)
    if (back !== text) throw new Failure('damaged', `cannot seal '${file}': what was written does not open to the same bytes`)
    await putInPlace(fresh, real, file).catch(fileTrouble(fresh))
  } catch (error) {
    await rm(fresh, { force: true })
    throw error
  }
  await toDisk(dirname(real))
  return file
}

/** How to seal a file again for those who can open it now. Failure `config` or `auth` where kedge cannot know all of them. */
export function asBefore(sealing: Sealing | undefined, file: string): How {
  if (!sealing) return {}
  const { passphrase, passphrases, keys } = sealing
  const cannot = (why: string) =>
    new Failure('auth', `cannot seal '${file}' as it was: ${why}`, { hint: 'kedge secret reseal names anew who can open it' })
  if (passphrases > 1) throw cannot(`it is for ${passphrases} passphrases, of which one is known here`)
  if (passphrases === 1 && passphrase === undefined) throw cannot('it is for a passphrase as well, which nobody gave')
  if (keys.some((key) => /^0*$/.test(key))) throw cannot('it hides the keys that it is for')
  return { recipients: keys, ...(passphrase !== undefined && { passphrase }) }
}

/** Removes the half-written files that killed calls left beside a file of secrets, the one itself and no link to it. */
export async function sweepHalves(file: string): Promise<void> {
  for (const half of await halvesOf(file)) await rm(half, { force: true })
}

/** The half-written files beside it. */
export async function halvesOf(file: string): Promise<string[]> {
  const [dir, start] = [dirname(file), `.${basename(file)}.`]
  const names = await readdir(dir).catch(fileTrouble(dir))
  const halves = names.filter((each) => each.startsWith(start) && /^[0-9a-f]{12}$/.test(each.slice(start.length)))
  return halves.map((name) => join(dir, name))
}

async function seal(
  name: string,
  provider: FileProvider,
  text: string,
  file: string,
  { passphrase, recipients, signal }: { passphrase: string | undefined; recipients: readonly string[]; signal: AbortSignal },
): Promise<string | Uint8Array> {
  if (provider === 'file') return text
  if (provider === 'credential') return await encryptCredential(file, name, text, signal)
  const cannot = (why: string) => new Failure('misuse', `cannot seal '${file}': ${why}`)
  if (passphrase !== undefined && /[\n\0]/.test(passphrase))
    throw cannot('a passphrase with a line feed or NUL cannot be given on a descriptor')
  if (recipients.length > 0) return await encryptByGpg(file, text, recipients, signal, passphrase)
  if (!passphrase) throw cannot('the passphrase is empty')
  const { sealSymmetric } = await import('./openpgp.ts')
  return await sealSymmetric(Buffer.from(text), passphrase)
}

const bareTarget: Omit<Target, 'name' | 'dir' | 'secret'> = {
  engine: 'restic',
  env: {},
  origin: {},
  paths: [],
  excludes: [],
  streams: [],
  hooks: [],
}

/** The text of the new file, by the way that every run will open it. */
async function opened(
  target: Target,
  fresh: string,
  { passphrase, signal }: { passphrase: string | undefined; signal: AbortSignal },
  file: string,
): Promise<string> {
  const context = { signal, ask: undefined, passphraseFd: undefined, ...(passphrase !== undefined && { passphrase }) }
  try {
    return (await openText(target, context, fresh)).text
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const why = error.message.replace(/^.*?': /, '')
    throw new Failure(error.class, `cannot seal '${file}': what was written does not open: ${why}`, { cause: error })
  }
}
