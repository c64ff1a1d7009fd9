// Secrets opened and sealed by hand: what --explain prints of it.
import { join } from 'node:path'
import type { Target } from './contract.ts'
import { realFile } from './inplace.ts'
import { type FileProvider, secretFile, secretFiles } from './secretfile.ts'
import { quote } from './shell.ts'

type Place = Pick<Target, 'name' | 'dir'>

/** Prints the secrets. */
export function openByHand(target: Pick<Target, 'name' | 'dir' | 'secret' | 'env'>): string {
  const file = quote(secretFile(target.dir, target.secret) ?? '')
  if (target.secret === 'gpg') return `gpg --decrypt ${file}`
  if (target.secret === 'credential') return `systemd-creds decrypt --name=kedge-${target.name} ${file} -`
  return target.secret === 'command' ? `(${target.env.SECRET_COMMAND})` : `cat ${file}`
}

/**
 * Reads the secrets on stdin, and replaces the file itself when all went well; what is sealed keeps its owner and mode. `recipients`: none
 * means a passphrase, which gpg asks for.
 */
export async function sealByHand({ name, dir }: Place, provider: FileProvider, recipients: readonly string[]): Promise<string> {
  const file = await realFile(join(dir, secretFiles[provider]))
  const [at, fresh] = [quote(file), quote(`${file}.new`)]
  const like = `{ [ ! -f ${at} ] || cp -p ${at} ${fresh}; } &&`
  const to = recipients.length > 0 ? `--encrypt ${recipients.map((key) => `--recipient ${quote(key)}`).join(' ')}` : '--symmetric'
  const seal = {
    gpg: `${like} gpg ${to} > ${fresh}`,
    credential: `${like} systemd-creds encrypt --name=kedge-${name} - - > ${fresh}`,
    file: `(umask 377; cat > ${fresh})`,
  }[provider]
  return `${seal} && mv -f ${fresh} ${at}`
}
