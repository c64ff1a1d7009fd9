// `kedge prime`: gpg-agent is made to hold the keys of the targets' secrets, so that nobody is asked later. What is decrypted goes nowhere.
import { join } from 'node:path'
import { type AgentLimits, agentEnv, agentLimits, type KeyState, keyState } from '../agent.ts'
import { foreground } from '../child.ts'
import type { Context, Rows, Target } from '../contract.ts'
import { Cancelled, Failure, worst } from '../failure.ts'
import { duration } from '../format.ts'
import { sealedFor } from '../gpgfile.ts'
import type { Primed } from '../rows/house.ts'
import type { CommandLine } from '../rows.ts'
import { explained, quote } from '../shell.ts'
import { loadTarget, targetNames } from '../target.ts'

/** Files for the same keys, of which one decryption serves all. */
type Lot = { file: string; keys: readonly string[]; targets: string[] }

/** Rows by key. Gives the worst status: 12 where a key could not be used. */
export async function* prime(names: readonly string[], all: boolean, context: Context): AsyncGenerator<Rows, number> {
  if (all === names.length > 0) throw new Failure('misuse', all ? '--all goes without targets' : 'operand missing: target, or --all')
  const statuses: number[] = []
  const lots = new Map<string, Lot>()
  for (const name of all ? await targetNames() : [...new Set(names)]) {
    try {
      await sort(await loadTarget(name), lots, context)
    } catch (error) {
      if (error instanceof Cancelled || context.signal.aborted) throw error
      statuses.push(context.report(error, name))
    }
  }
  if (context.mode === 'explain') {
    yield [...lots.values()].map(byHand)
    return worst(statuses)
  }
  const limits = lots.size > 0 ? await agentLimits(context.signal) : undefined
  const primed = new Map<string, Primed>()
  for (const lot of lots.values()) {
    if (!limits) break
    try {
      const row = await primeOne(lot, limits, context)
      const same = primed.get(row.key)
      primed.set(row.key, same ? { ...row, targets: [...same.targets, ...row.targets].sort() } : row)
    } catch (error) {
      if (error instanceof Cancelled || context.signal.aborted) throw error
      statuses.push(context.report(error, lot.targets.join(', ')))
    }
  }
  yield [...primed.values()]
  return worst(statuses)
}

/** Puts a target to those whose file is for the same keys. A hidden recipient cannot be told from another. */
async function sort(target: Target, lots: Map<string, Lot>, context: Context): Promise<void> {
  const { name, dir, secret } = target
  if (secret !== 'gpg') {
    context.log(`${name}: SECRET=${secret}: no key of gpg's to hold`)
    return
  }
  const file = join(dir, 'secret.env.gpg')
  const { keys, passphrases } = await sealedFor(file)
  if (keys.length === 0) {
    context.log(`${name}: a passphrase opens its secrets, which no agent holds: kedge run asks for it once`)
    return
  }
  if (passphrases > 0) context.log(`${name}: a passphrase opens its secrets as well: where kedge can ask, it asks for that first`)
  const id = keys.some(isHidden) ? file : keys.join(' ')
  const lot = lots.get(id) ?? { file, keys, targets: [] }
  lot.targets.push(name)
  lots.set(id, lot)
}

const isHidden = (key: string) => /^0*$/.test(key)

const decrypting = (file: string) => ['gpg', '--batch', '--quiet', '--status-fd', '3', '--decrypt', '--', file]

const byHand = ({ file }: Lot): CommandLine => ({ kind: 'command', command: `gpg --decrypt -- ${quote(file)} >/dev/null` })

async function primeOne({ file, keys, targets }: Lot, limits: AgentLimits, context: Context): Promise<Primed> {
  context.signal.throwIfAborted()
  const before = new Map<string, KeyState>()
  for (const key of keys) before.set(key, await keyState(key, context.signal))
  const cannot = (why: string) =>
    new Failure('auth', `cannot open '${file}': ${why}`, { hint: 'gpg --list-secret-keys names the keys that are here' })
  if (!keys.some(isHidden) && [...before.values()].every((state) => state === 'unknown')) throw cannot(`no secret key ${keys.join(', ')}`)
  let said = ''
  context.detail(`running: ${explained(decrypting(file))}`)
  const status = await foreground(decrypting(file), {
    env: await agentEnv(),
    mute: true,
    hear: (text) => {
      said += text
    },
  })
  context.signal.throwIfAborted()
  const [, subkey, key] = /^\[GNUPG:\] DECRYPTION_KEY (\w+) (\w+)/m.exec(said) ?? []
  if (status !== 0 || !/^\[GNUPG:\] DECRYPTION_OKAY/m.test(said)) throw cannot(`gpg ended with status ${status}`)
  if (subkey === undefined || key === undefined) throw new Failure('tool', `gpg opened '${file}', but does not tell with which key`)
  const row = (until: string | null): Primed => ({ kind: 'primed', key, targets, until })
  switch (await keyState(subkey, context.signal)) {
    case 'none':
      context.log(`key ${key} has no passphrase: it needs no agent to hold it`)
      return row(null)
    case 'card':
      context.log(`key ${key} lies on a card: it is held as long as the card is in`)
      return row(null)
    case 'held':
      // The time of an unused key begins anew, that of its typing does not, and the agent does not tell when it was.
      if ([...before].some(([id, state]) => subkey.endsWith(id) && state === 'held'))
        context.log(`key ${key} was held before: it may go earlier, ${duration(limits.longest)} after its passphrase was typed`)
      return row(new Date(Date.now() + Math.min(limits.idle, limits.longest) * 1000).toISOString())
    default:
      throw new Failure('auth', `gpg-agent does not hold key ${key}`, { hint: 'default-cache-ttl in gpg-agent.conf says how long it does' })
  }
}
