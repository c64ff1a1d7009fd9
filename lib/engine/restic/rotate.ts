// Rotate: a new password for the repository. Each step is written down among the secrets before the next is done (rotation.ts).
import { join } from 'node:path'
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { formatEnv } from '../../env.ts'
import { Failure } from '../../failure.ts'
import { handedSecrets } from '../../handed.ts'
import { conceal } from '../../log.ts'
import { atRest, type Stage, stageOf, withNext, withOld } from '../../rotation.ts'
import type { Rotated } from '../../rows/house.ts'
import type { CommandLine, Text } from '../../rows.ts'
import { withScratch } from '../../scratch.ts'
import { asBefore, sealText } from '../../seal.ts'
import { openByHand, sealByHand } from '../../sealbyhand.ts'
import { newPassword, openText } from '../../secret.ts'
import { hasFile, secretFile } from '../../secretfile.ts'
import { ownSecrets, pendingKeys, readSecrets } from '../../secrettext.ts'
import { sharers } from '../../sharing.ts'
import { forgetNote } from '../../sheet.ts'
import check, { checkArgs } from './check.ts'
import { verifyIdentity } from './identity.ts'
import { addKey, keyAddArgs, keyListArgs, keyOf, keyRemoveArgs, removeKey, under } from './key.ts'
import { explain, repository, version } from './tool.ts'

/** `write`: absent where only the operator can (SECRET_COMMAND). */
type Vault = { text: string; where: string; write?: (text: string) => Promise<void> }
type Step = Rotated['step']

const rotate: VerbOf<'rotate'> = async function* (target, _, context) {
  if (context.mode === 'explain') {
    yield* byHand(target)
    return
  }
  const vault = await vaultOf(target, context)
  const values = readSecrets(vault.text, vault.where, target.name)
  const inner = { ...context, secrets: ownSecrets(values) }
  let stage = stageOf(values, target.name)
  await verifyIdentity(target, inner, context.signal, 'rotate the password')
  if (stage.at === 'rest') await refuseShared(target, stage.password, context)
  if (context.mode === 'dry-run') {
    yield* planned(target, stage)
    return
  }
  const keep = async (text: string) => {
    await vault.write?.(text)
    vault.text = text
    stage = stageOf(readSecrets(text, vault.where, target.name), target.name)
  }
  if (stage.at === 'rest') {
    const next = newPassword()
    conceal(next)
    if (!vault.write) {
      yield* wanted(target, context, `add this line to what SECRET_COMMAND prints: ${pendingKeys.next}, below`, {
        [pendingKeys.next]: next,
      })
      return
    }
    await keep(withNext(vault.text, next))
    yield step(target, 'begun', 'a new password is written down')
  }
  if (stage.at === 'next') {
    yield* added(target, stage, inner)
    if (!vault.write) {
      const { old } = pendingKeys
      yield* wanted(
        target,
        context,
        `rename in what SECRET_COMMAND prints: RESTIC_PASSWORD to ${old}, ${pendingKeys.next} to RESTIC_PASSWORD`,
      )
      return
    }
    await keep(withOld(vault.text, stage))
    forgetNote(target)
    yield step(target, 'stored', 'the new password is in force')
  }
  if (stage.at === 'old') yield* retired(target, stage, inner)
  if (vault.write) await keep(atRest(vault.text))
  else {
    forgetNote(target)
    context.log(`take ${pendingKeys.old} out of what SECRET_COMMAND prints`)
  }
  yield step(target, 'done', 'the old password opens nothing any more')
  tell(target, context)
}
export default rotate

const step = (target: Target, name: Step, text: string, key?: string): Rotated => ({
  kind: 'rotated',
  target: target.name,
  step: name,
  ...(key !== undefined && { key }),
  text,
})

/** Where the secrets are kept: read whatever `kedge run` handed over, since they are written again. */
async function vaultOf(target: Target, context: RunContext): Promise<Vault> {
  const cannot = (why: string) => new Failure('misuse', `cannot rotate the password of '${target.name}': ${why}`)
  if (target.secret === 'none') throw cannot('SECRET is none: where the password is kept is not known')
  const { from, text, sealing } = await openText(target, context)
  const provider = target.secret
  if (!hasFile(provider)) return { text, where: from }
  if (from !== secretFile(target.dir, provider)) throw cannot(`its secrets come from '${from}', which cannot be written`)
  const how = { ...asBefore(sealing, from), signal: context.signal }
  return { text, where: from, write: async (next) => void (await sealText(target, provider, next, how)) }
}

/** Who else has this password is locked out when its key goes. */
async function refuseShared(target: Target, password: string, context: RunContext): Promise<void> {
  const others = await sharers(target, password, context)
  if (others.length === 0) return
  const names = others.map((name) => `'${name}'`).join(', ')
  const open = others.length === 1 ? 'opens' : 'open'
  const message = `${names} ${open} the store of '${target.name}' with the same password, as far as can be told`
  if (context.forced.has('shared')) context.warn(`guard 'shared' overridden: ${message}`)
  else
    throw new Failure('refused', `refusing to rotate the password of '${target.name}': ${message}`, {
      hint: 'give each a key of its own first (restic key add), or --force=shared, and give them the new password too',
    })
}

/** A key for the new password, proven by a restic of its own that opens the repository with nothing else. */
async function* added(target: Target, { next }: Stage & { at: 'next' }, context: RunContext): AsyncGenerator<Rotated> {
  const place = { target: target.name, kind: 'rotate', run: context.run }
  yield* withScratch(place, context.log, async function* (folder): AsyncGenerator<Rotated> {
    const before = await keyOf(target, under(context, next)) // the call that was cut off may have come so far
    if (before === undefined) {
      await addKey(target, next, folder, context)
      yield step(target, 'added', 'a key for the new password was added')
    }
    const key = before ?? (await keyOf(target, under(context, next)))
    if (key === undefined)
      throw new Failure('tool', `cannot open '${repository(target)}' with the new password: the old one stays in force`)
    yield step(target, 'proven', 'the new password opens the repository', key)
  })
}

/** Removes the key, or keys, that the old password opens, once the repository is whole under the new one. */
async function* retired(target: Target, { password, old }: Stage & { at: 'old' }, context: RunContext): AsyncGenerator<Rotated> {
  const now = under(context, password)
  for await (const _ of check(target, {}, now)) {
    // what it found is a failure, which ends the run
  }
  yield step(target, 'checked', 'the structure of the repository is whole under the new password')
  const own = await keyOf(target, now)
  const seen = new Set<string>()
  for (;;) {
    const key = await keyOf(target, under(context, old))
    if (key === undefined) return
    // Never the last one, and never one that stayed although restic said that it was gone.
    if (key === own) throw new Failure('refused', `refusing to remove the key ${key.slice(0, 8)}: the new password opens it too`)
    if (seen.has(key)) throw new Failure('tool', `cannot remove the key ${key.slice(0, 8)} from '${repository(target)}': it is still there`)
    seen.add(key)
    await removeKey(target, key, now)
    yield step(target, 'removed', 'the key of the old password was removed', key)
  }
}

/** What only the operator can do next; the run is one in part until then. `lines`: printed on stdout and nowhere else. */
function* wanted(target: Target, context: RunContext, text: string, lines?: Record<string, string>): Generator<Rotated | Text> {
  if (lines) yield { kind: 'text', text: formatEnv(lines).trimEnd() }
  yield step(target, 'wanted', text)
  context.warn(`${text}; then: kedge secret rotate-password ${target.name}`, 'partial')
}

function tell(target: Target, context: RunContext): void {
  const { name } = target
  context.log("restic's master key is the same as before: whoever has the old password and a copy of the repository's keys can still read")
  context.log('all of it, and what is saved from now on; only a new repository ends that (kedge new, kedge copy)')
  context.log(`the recovery sheet that is kept elsewhere is void: kedge recovery ${name}, then kedge recovery ${name} --noted`)
  if (handedSecrets(target)) context.log('this kedge run has the old password still: leave it, and begin another')
}

const texts: readonly (readonly [Step, string, Stage['at']])[] = [
  ['begun', 'write a new password down', 'rest'],
  ['added', 'add a key for the new password', 'next'],
  ['proven', 'open the repository with the new password alone', 'next'],
  ['stored', 'put the new password into force', 'next'],
  ['checked', 'check the structure of the repository', 'old'],
  ['removed', 'remove the key of the old password', 'old'],
  ['done', 'forget the old password', 'old'],
]

/** What is left to do from a stage on. */
function* planned(target: Target, { at }: Stage): Generator<Rotated> {
  const first = texts.findIndex(([, , stage]) => stage === at)
  for (const [name, text] of texts.slice(first)) yield { ...step(target, name, text), dryRun: true }
}

/** The secrets hold other lines as well: only that of the password is replaced. */
async function* byHand(target: Target): AsyncGenerator<CommandLine> {
  const line = (command: string): CommandLine => ({ kind: 'command', command })
  const restic = await version(target)
  const current = `tr '{' '\\n' | sed -n 's/.*"current":true,"id":"\\([0-9a-f]*\\)".*/\\1/p'`
  yield line(`old=$(${explain(target, keyListArgs()).command} | ${current}); new=$(gpg --gen-random --armor 2 30)`)
  yield line(`printf '%s\\n' "$new" | ${explain(target, keyAddArgs(target, restic, '/dev/stdin')).command}`)
  yield line(`(RESTIC_PASSWORD=$new; export RESTIC_PASSWORD; ${explain(target, keyListArgs()).command} > /dev/null) || exit`)
  if (hasFile(target.secret)) {
    // What cannot be opened must not be replaced by the new line alone.
    const others = `printf '%s\\n' "$text" | grep -v '^RESTIC_PASSWORD='`
    const seal = await sealByHand(target, target.secret, await keysOf(target))
    yield line(`text=$(${openByHand(target)}) || exit; { ${others}; echo "RESTIC_PASSWORD='$new'"; } | { ${seal}; } || exit`)
  } else yield line(`echo "put this in the place of the old one: RESTIC_PASSWORD='$new'"`)
  yield line(`RESTIC_PASSWORD=$new; export RESTIC_PASSWORD; ${explain(target, checkArgs(target, 'structure', restic)).command} || exit`)
  yield line(`${explain(target, keyRemoveArgs(target, restic, '')).command.replace(/ ''$/, '')} "$old"`)
}

async function keysOf(target: Target): Promise<readonly string[]> {
  if (target.secret !== 'gpg') return []
  const { sealedFor } = await import('../../gpgfile.ts')
  return (await sealedFor(join(target.dir, 'secret.env.gpg'))).keys
}
