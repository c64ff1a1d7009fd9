// The keys by which kedge knows a host: shown, confirmed by a human or by a fingerprint that one gave, and only then written.
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Context, Rows, Target } from '../contract.ts'
import { Failure } from '../failure.ts'
import { changeText } from '../inplace.ts'
import type { HostKeyRow } from '../rows/house.ts'
import { fingerprint, type HostKey, type Known, knownOf, type Place, placeOf, scan, withHostKeys } from '../source/hostkeys.ts'
import { knownHosts } from '../source/ssh.ts'

type Options = { readonly host: boolean; readonly fingerprint: readonly string[] }

/** How what a host shows stands to what is known of it. Pure. */
export function standing(shown: readonly HostKey[], known: readonly Known[]): 'unknown' | 'known' | 'changed' {
  const plain = known.filter(({ mark }) => mark === '')
  if (plain.length === 0) return known.some(({ mark }) => mark === 'CA') ? 'known' : 'unknown'
  const same = shown.filter(({ type, key }) => plain.some((each) => each.type === type && each.key === key))
  const other = shown.filter(
    ({ type, key }) => plain.some((each) => each.type === type && each.key !== key) && !same.some((each) => each.type === type),
  )
  return other.length > 0 || same.length === 0 ? 'changed' : 'known'
}

/**
 * The keys that are to be trusted. A fingerprint vouches for its own key only: somebody in between could show the host's true key beside
 * one of his own. Failure 'auth' where none has it. Pure.
 */
export function vouched(shown: readonly HostKey[], fingerprints: readonly string[], host: string): HostKey[] {
  for (const wanted of fingerprints)
    if (!shown.some((key) => fingerprint(key) === wanted.replace(/=+$/, '')))
      throw new Failure('auth', `'${host}' shows no key ${wanted}: somebody may sit in between`, {
        hint: `it shows ${shown.map((key) => `${fingerprint(key)} (${key.type})`).join(', ')}`,
      })
  return shown.filter((key) => fingerprints.some((wanted) => fingerprint(key) === wanted.replace(/=+$/, '')))
}

/** Without `--host` a host that is known by what it shows is asked about no more. */
export async function* trustHost(target: Target, options: Options, context: Context): AsyncGenerator<Rows> {
  const place = await placeOf(target, context)
  const known = await knownOf(target, place.name, context)
  const shown = await scan(target, place, context)
  const how = standing(shown, known)
  const rows = (keys: readonly HostKey[], action: HostKeyRow['action']): HostKeyRow[] =>
    keys.map((key) => ({ kind: 'hostkey', target: target.name, fingerprint: fingerprint(key), type: key.type, host: place.name, action }))
  if (how === 'changed') {
    if (!options.host) {
      yield rows(shown, 'shown')
      throw new Failure('auth', `'${place.name}' shows ANOTHER host key than the one that was confirmed: somebody may sit in between`, {
        hint: `ask who runs the host; only where it was set up anew: kedge key ${target.name} --host`,
      })
    }
    const old = known.filter(({ mark }) => mark === '').map((key) => fingerprint(key))
    context.log(`'${place.name}' was known by ${old.join(', ')}: what it shows now is ANOTHER key`)
  }
  if (how === 'known' && !options.host) {
    yield rows(
      shown.filter((key) => known.some((each) => each.key === key.key)),
      'known',
    )
    return
  }
  if (context.mode === 'dry-run') {
    yield rows(options.fingerprint.length > 0 ? vouched(shown, options.fingerprint, place.name) : shown, 'would trust')
    return
  }
  const trusted =
    options.fingerprint.length > 0 ? vouched(shown, options.fingerprint, place.name) : await confirmed(shown, place, target, context)
  if (!trusted) {
    yield rows(shown, 'shown')
    throw unconfirmed(place, target, context)
  }
  await write(place, trusted, known)
  yield rows(trusted, 'trusted')
  yield { kind: 'file', target: target.name, path: knownHosts(), action: 'written' }
}

/** All that was shown, once somebody at the terminal said yes to it. */
async function confirmed(
  shown: readonly HostKey[],
  place: Place,
  target: Target,
  context: Context,
): Promise<readonly HostKey[] | undefined> {
  if (!context.ask) return undefined
  const list = shown.map((key) => `${fingerprint(key)} (${key.type})`).join(', ')
  context.log(`on the host itself: for each in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $each; done`)
  const answer = await context.ask(`are these the keys of '${place.name}', for target '${target.name}': ${list}? (yes or no)`)
  return answer.trim() === 'yes' ? shown : undefined
}

const unconfirmed = (place: Place, target: Target, context: Context): Failure =>
  context.ask
    ? new Failure('refused', `the keys of '${place.name}' were not confirmed: nothing was written`)
    : new Failure('misuse', `cannot ask about the keys of '${place.name}': there is no terminal`, {
        hint: `kedge key ${target.name} --host --fingerprint SHA256:… with what 'ssh-keygen -lf' says of one of /etc/ssh/ssh_host_*_key.pub there`,
      })

async function write(place: Place, keys: readonly HostKey[], known: readonly Known[]): Promise<void> {
  const file = knownHosts()
  if (!existsSync(file)) {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 })
    await writeFile(file, '', { mode: 0o600, flag: 'wx' }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
  }
  await changeText(file, (text) => withHostKeys(text, place.name, keys, known))
}
