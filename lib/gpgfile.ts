// secret.env.gpg: opened in memory by a passphrase, or by gpg and its agent.
import { readFile } from 'node:fs/promises'
import { Failure } from './failure.ts'
import { decryptByGpg, wrongPassphrase } from './gpg.ts'
import { type Asked, passphrases, remember } from './passphrase.ts'
import { fileTrouble, utf8 } from './secretfile.ts'

/** What a file was opened with, and for whom it is: how to seal it again in the same way. */
export type Sealing = {
  /** The passphrase that opened it, where one did. */
  readonly passphrase?: string
  /** For how many passphrases it is. */
  readonly passphrases: number
  /** Ids of the keys that it is encrypted to. */
  readonly keys: readonly string[]
}

/** What the file holds. Failure `auth` where it does not open, `config` where it is no encrypted message. */
export async function openGpg(file: string, context: Asked): Promise<{ text: string; sealing: Sealing }> {
  const { binary, header, openSymmetric } = await import('./openpgp.ts')
  const message = binary(await readFile(file).catch(fileTrouble(file)))
  const head = message && header(message)
  if (!message || !head) throw noMessage(file)
  let tried = false
  for await (const passphrase of head.passphrases > 0 ? passphrases(file, context) : []) {
    tried = true
    const text = head.openable
      ? await openSymmetric(message, passphrase).then((bytes) => bytes && utf8(bytes, file))
      : await decryptByGpg(file, context.signal, passphrase).catch(unlessWrong(file))
    if (text === undefined) continue
    remember(passphrase, context)
    return { text, sealing: { passphrase, passphrases: head.passphrases, keys: head.keys } }
  }
  if (tried) throw wrongPassphrase(file)
  if (head.keys.length > 0) {
    return { text: await decryptByGpg(file, context.signal), sealing: { passphrases: head.passphrases, keys: head.keys } }
  }
  const hint = 'give it with --passphrase-fd N (or KEDGE_PASSPHRASE_FD=N), or run kedge on a terminal, where it asks'
  throw new Failure('auth', `cannot open '${file}': no passphrase and nobody to ask`, { hint })
}

/** For whom a file is, read from its header alone. */
export async function sealedFor(file: string): Promise<Pick<Sealing, 'passphrases' | 'keys'>> {
  const { binary, header } = await import('./openpgp.ts')
  const message = binary(await readFile(file).catch(fileTrouble(file)))
  const head = message && header(message)
  if (!head) throw noMessage(file)
  return { passphrases: head.passphrases, keys: head.keys }
}

const noMessage = (file: string) => new Failure('config', `cannot open '${file}': it is not an encrypted OpenPGP message`)

const unlessWrong = (file: string) => (error: unknown) => {
  if (error instanceof Failure && error.message === wrongPassphrase(file).message) return undefined
  throw error
}
