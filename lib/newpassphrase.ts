// A new passphrase for secrets: typed twice, or from its descriptor.
import type { Context } from './contract.ts'
import { Failure } from './failure.ts'
import { readPassphrase } from './passphrase.ts'

/** `options`: those that would give it, for the message where nobody can be asked. Failure `misuse` there, and where the two differ. */
export async function newPassphrase(
  name: string,
  context: Pick<Context, 'signal' | 'ask' | 'passphraseFd'>,
  options: string,
): Promise<string> {
  const { signal, ask, passphraseFd } = context
  const twice = ask && (() => typedTwice(name, ask))
  const passphrase = await readPassphrase(`the secrets of '${name}'`, { signal, ask: twice, passphraseFd })
  if (passphrase === undefined)
    throw new Failure('misuse', `option missing: ${options}`, { hint: 'without a terminal nobody can be asked' })
  return passphrase
}

/** Failure `misuse` where the two differ. */
export async function typedTwice(name: string, ask: NonNullable<Context['ask']>): Promise<string> {
  const first = await ask(`a new passphrase for the secrets of '${name}':`, { hidden: true })
  const again = await ask('the same again:', { hidden: true })
  if (first !== again) throw new Failure('misuse', 'the two passphrases differ')
  return first
}
