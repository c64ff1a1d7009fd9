// Secrets moved to another passphrase, key or provider. The new file is written and proven first, SECRET= is switched by one
// replacement of target.env, and only then the old file goes: a call that was cut off leaves a target that opens, and the next ends it.
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Context, Provider, Rows, RunContext, Target } from './contract.ts'
import { discard, isThere, leavingOf, namesOf, sayKept } from './discard.ts'
import { sheetOf } from './engine.ts'
import { setEnvKey } from './env.ts'
import { Failure } from './failure.ts'
import { changeText, realFile, toDisk } from './inplace.ts'
import { isAbsent, readJson, replaceFile } from './ledger.ts'
import { perform } from './lifecycle.ts'
import { newPassphrase, typedTwice } from './newpassphrase.ts'
import { stateDir } from './paths.ts'
import { heading, sheetFile } from './recovery.ts'
import type { FileRow } from './rows/house.ts'
import type { CommandLine } from './rows.ts'
import { type How, sealText, sweepHalves } from './seal.ts'
import { openByHand, sealByHand } from './sealbyhand.ts'
import { openSealed, openText } from './secret.ts'
import { type FileProvider, hasFile, secretFile, secretFiles } from './secretfile.ts'
import { readSecrets } from './secrettext.ts'
import { quote } from './shell.ts'
import { loadTarget } from './target.ts'

export type Wanted = {
  /** `seal` takes plain secrets only, `reseal` sealed ones. */
  readonly action: 'seal' | 'reseal'
  readonly to: string | undefined
  readonly recipients: readonly string[]
  readonly newPassphraseFd: number | undefined
}
type Move = { readonly from: FileProvider; readonly to: FileProvider }

/** Failure `misuse` where options do not go together, or the target's provider is none that kedge writes. */
export async function* reseal(target: Target, wanted: Wanted, context: Context): AsyncGenerator<Rows, number> {
  if (context.mode === 'explain') {
    yield* explained(target, checked(target, wanted), wanted.recipients)
    return 0
  }
  return yield* perform('secret', target, context, async function* (inner) {
    const ended = context.mode === 'act' ? yield* endMove(target, inner) : undefined
    // What was asked for may be what the call that was cut off had begun.
    if (ended && wanted.action === 'seal' && ended.secret !== 'file') return
    const move = checked(ended ?? target, wanted)
    yield* moved(ended ?? target, move, wanted, inner)
  })
}

function checked(target: Target, { action, to, recipients, newPassphraseFd }: Wanted): Move {
  const misuse = (message: string, hint?: string) => new Failure('misuse', message, { hint })
  const from = target.secret
  const cannot = `cannot ${action} the secrets of '${target.name}'`
  if (!hasFile(from))
    throw misuse(`${cannot}: ${from === 'none' ? 'SECRET is none' : 'SECRET_COMMAND, which kedge cannot write, gives them'}`)
  if (action === 'seal' && from !== 'file') throw misuse(`${cannot}: they are sealed (SECRET=${from})`, 'kedge secret reseal changes how')
  if (action === 'reseal' && from === 'file')
    throw misuse(`${cannot}: they lie in plain text (SECRET=file)`, 'kedge secret seal seals them')
  const next = to ?? (recipients.length > 0 || newPassphraseFd !== undefined || from === 'file' ? 'gpg' : from)
  const allowed = action === 'seal' ? ['gpg', 'credential'] : Object.keys(secretFiles)
  if (!allowed.includes(next)) throw misuse(`option '--to': not one of ${allowed.join(', ')}: '${next}'`)
  if (next !== 'gpg' && (recipients.length > 0 || newPassphraseFd !== undefined))
    throw misuse(`option '--${recipients.length > 0 ? 'recipient' : 'new-passphrase-fd'}' is for --to gpg`)
  if (recipients.length > 0 && newPassphraseFd !== undefined) throw misuse("option '--new-passphrase-fd' does not go with --recipient")
  return { from, to: next as FileProvider }
}

async function* moved(target: Target, { from, to }: Move, wanted: Wanted, context: RunContext): AsyncGenerator<FileRow> {
  const [old, fresh] = [join(target.dir, secretFiles[from]), join(target.dir, secretFiles[to])]
  const row = (path: string, action: FileRow['action']): FileRow => ({ kind: 'file', target: target.name, path, action })
  if (old !== fresh && (await isThere(fresh)))
    throw new Failure('misuse', `'${fresh}' exists, and is not in force (SECRET=${from})`, { hint: 'look what it holds, and move it away' })
  const opened = await openText(target, context)
  if (opened.from !== old)
    throw new Failure('misuse', `cannot ${wanted.action} the secrets of '${target.name}': they come from '${opened.from}'`)
  readSecrets(opened.text, opened.from, target.name)
  // Where it cannot be told what is to go, nothing is begun.
  const leaving = old === fresh ? undefined : await leavingOf(target, from)
  if (context.mode === 'dry-run') {
    yield row(fresh, 'would write')
    if (!leaving) return
    yield row(join(target.dir, 'target.env'), 'would write')
    for (const name of namesOf(leaving)) yield row(name, 'would remove')
    sayKept(leaving, from, context)
    return
  }
  const how = await howOf(target, to, wanted, (opened.sealing?.passphrases ?? 0) > 0, context)
  if (old === fresh) {
    await sealText(target, to, opened.text, { ...how, signal: context.signal })
    yield row(fresh, 'written')
    return
  }
  try {
    await replaceFile(moveFile(target), JSON.stringify({ from, to } satisfies Move))
    await toDisk(stateDir(target.name))
    await sealText(target, to, opened.text, { ...how, signal: context.signal })
    await prove({ ...target, secret: to }, opened.text, how, context)
    await switchTo(target, to)
  } catch (error) {
    // Where it is not in force the note that says so must not stay: what lies there later may be the operator's. Else, or where that
    // cannot be told now, the next call ends the move.
    const now = await loadTarget(target.name).catch(() => undefined) // the first error is the one to tell
    if (now?.secret === from) {
      await rm(fresh, { force: true })
      await rm(moveFile(target), { force: true })
    }
    throw error
  }
  yield row(fresh, 'written')
  yield row(join(target.dir, 'target.env'), 'written')
  yield* endMove(await loadTarget(target.name), context)
}

async function howOf(
  target: Target,
  to: FileProvider,
  { recipients, newPassphraseFd }: Wanted,
  opensByPassphrase: boolean,
  context: Context,
): Promise<How> {
  if (to !== 'gpg') return {}
  if (recipients.length > 0) return { recipients }
  if (newPassphraseFd !== undefined && newPassphraseFd === context.passphraseFd)
    throw new Failure('misuse', "options '--passphrase-fd' and '--new-passphrase-fd' name one descriptor")
  // Where the old passphrase came from a descriptor, the new one must not be taken from it.
  if (newPassphraseFd === undefined && opensByPassphrase) {
    if (context.ask) return { passphrase: await typedTwice(target.name, context.ask) }
    throw new Failure('misuse', 'option missing: --new-passphrase-fd or --recipient', { hint: 'without a terminal nobody can be asked' })
  }
  const asked = newPassphraseFd === undefined ? context : { ...context, passphraseFd: newPassphraseFd }
  return { passphrase: await newPassphrase(target.name, asked, '--new-passphrase-fd or --recipient') }
}

/** The new file opens where it lies, by the way of every run. */
async function prove(target: Target, text: string, { passphrase }: How, { signal }: RunContext): Promise<void> {
  const context = { signal, ask: undefined, passphraseFd: undefined, ...(passphrase !== undefined && { passphrase }) }
  const values = await openSealed(target, context)
  const expected = readSecrets(text, '', target.name)
  if (JSON.stringify(values) !== JSON.stringify(expected))
    throw new Failure('damaged', `cannot use '${secretFile(target.dir, target.secret)}': it does not hold what was sealed`)
}

const switchTo = (target: Target, to: Provider): Promise<void> =>
  changeText(join(target.dir, 'target.env'), (text) => setEnvKey(text, 'SECRET', to))

const moveFile = (target: Target) => join(stateDir(target.name), 'reseal.json')

/** Whether a move to another provider was cut off; undefined where none was. */
export const cutOff = (target: Target): Promise<Move | undefined> => readJson<Move>(moveFile(target))

/** The target once a move that was cut off is ended: whoever changes its secrets otherwise begins with this. */
export async function* settled(target: Target, context: Context): AsyncGenerator<Rows, Target> {
  if (context.mode !== 'act' || !(await cutOff(target))) return target
  yield* perform('secret', target, context, (inner) => endMove(target, inner))
  return await loadTarget(target.name)
}

/** Ends a move that was switched already, and takes back one that was not. Gives the target as it is then, where there was one. */
async function* endMove(target: Target, context: RunContext): AsyncGenerator<FileRow, Target | undefined> {
  const move = await cutOff(target)
  if (!move) return undefined
  const row = (path: string): FileRow => ({ kind: 'file', target: target.name, path, action: 'removed' })
  const old = target.secret === move.to ? move.from : target.secret === move.from ? move.to : undefined
  if (old) {
    await sweepHalves(await realFile(join(target.dir, secretFiles[old])))
    const leaving = await leavingOf(target, old)
    for (const name of leaving ? await discard(leaving, old, context) : []) yield row(name)
  }
  if (target.secret === move.to) await told(target, move, context)
  await rm(moveFile(target), { force: true })
  return target
}

/** What else said how the secrets are opened. */
async function told(target: Target, { from, to }: Move, context: RunContext): Promise<void> {
  const file = sheetFile(target.dir)
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    if (isAbsent(error)) return ''
    throw error
  })
  if (text.startsWith(heading)) {
    const sheet = await sheetOf(target)
    await changeText(file, () => sheet)
  }
  context.log(
    `the secrets of '${target.name}' are in '${secretFile(target.dir, to)}' now: the recovery sheet that is kept elsewhere is void`,
  )
  if (to === 'file') context.log('they lie in plain text: whoever reads the disk or a copy of it reads every snapshot')
  if (from === 'credential' || to === 'credential')
    context.log(`where timers are installed, their units must be written anew: kedge schedule install ${target.name}`)
}

async function* explained(target: Target, { from, to }: Move, recipients: readonly string[]): AsyncGenerator<CommandLine> {
  const line = (command: string): CommandLine => ({ kind: 'command', command })
  const seal = await sealByHand(target, to, recipients)
  yield line(`umask 077; text=$(${openByHand(target)}) || exit; printf '%s\\n' "$text" | { ${seal}; } || exit`)
  if (from === to) return
  yield line(openByHand({ ...target, secret: to }).concat(' > /dev/null || exit'))
  const real = await realFile(join(target.dir, 'target.env'))
  const [file, fresh] = [quote(real), quote(`${real}.new`)]
  yield line(`cp -p ${file} ${fresh} && { grep -v '^SECRET=' ${file}; echo SECRET=${to}; } > ${fresh} && mv ${fresh} ${file}`)
  const leaving = await leavingOf(target, from)
  const names = leaving ? namesOf(leaving) : [join(target.dir, secretFiles[from])]
  if (names.length > 0) yield line(`rm -f ${names.map(quote).join(' ')}`)
}
