// Forget: deletes single snapshots, or unfinished ones, that the operator names.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { refuseForget } from '../../forgetting.ts'
import { checkIds, pickAll } from '../../named.ts'
import { quote } from '../../shell.ts'
import { byHand, type Doomed, refusalsByHand, takeAway } from './doomed.ts'
import { isUnfinished, pickUnfinished } from './incomplete.ts'
import { idsIn, readStored, snapshotsOf } from './snapshots.ts'
import { ownersOf, rootOf, verifyIdentity } from './store.ts'
import { takeStoreLocks } from './storelock.ts'

const forget: VerbOf<'forget'> = async function* (target, { ids }, context) {
  checkIds(
    target.engine,
    ids.filter((id) => !isUnfinished(id)),
    'forget',
  )
  if (context.mode === 'explain') {
    const { doomed, read } = await chosen(target, ids, context)
    yield refusalsByHand()
    yield* byHand(target, doomed, read)
    return
  }
  verifyIdentity(target, context, 'forget')
  const dryRun = context.mode === 'dry-run'
  const lock = dryRun ? undefined : await takeStoreLocks(target, context, 'forget')
  try {
    const { doomed, read, named } = await chosen(target, ids, context)
    refuseForget(target, read.rows, named, context)
    const removal = lock && (await takeAway(target, doomed, 'forget', lock.context))
    try {
      yield doomed.map(({ id }) => ({
        kind: 'marked' as const,
        target: target.name,
        action: dryRun ? ('would forget' as const) : ('forgotten' as const),
        id,
        ...(dryRun && { dryRun }),
      }))
    } finally {
      await removal?.gone
    }
  } finally {
    await lock?.release()
  }
}
export default forget

/** `named`: the snapshots among what the words name. */
async function chosen(target: Target, words: readonly string[], context: RunContext) {
  const broken = [...new Set(words)].flatMap((word) => brokenOf(target, word) ?? [])
  const warn: RunContext['warn'] = (message, kind) => {
    if (!broken.some(({ dir }) => message.includes(`'${dir}'`))) context.warn(message, kind)
  }
  const read = await snapshotsOf(target, { ...context, warn })
  const ids = words.filter((word) => !isUnfinished(word) && !broken.some(({ id }) => id === word))
  const named = pickAll(read.rows, target, ids)
  const unfinished = [...new Set(words.filter(isUnfinished))].map((word) => pickUnfinished(target, word))
  const doomed: Doomed[] = named.map((row) => ({ id: row.id, dir: read.of(row).dir, reason: 'named by the operator' }))
  return { doomed: [...doomed, ...broken, ...unfinished], named, read }
}

/** The folder of a snapshot whose snapshot.json tells nothing, by its whole id. Failure `refused` where it is held. */
function brokenOf(target: Target, word: string): Doomed | undefined {
  const [id = '', owner] = word.split('/').reverse()
  const owners = ownersOf(target).filter((each) => (owner === undefined ? true : each === owner))
  const dirs = owners.filter((each) => idsIn(rootOf(target, each)).includes(id)).map((each) => join(rootOf(target, each), 'snapshots', id))
  const [dir] = dirs.filter(isBroken)
  if (dir === undefined || dirs.length > 1) return undefined
  if (existsSync(join(dir, 'hold')))
    throw new Failure('refused', `refusing to forget snapshot ${id} of '${target.name}': it is held`, {
      hint: `its snapshot.json is damaged, so that hold --release does not know it: rm ${quote(join(dir, 'hold'))}`,
    })
  return { id: word, dir, reason: 'its snapshot.json is damaged, named by the operator' }
}

function isBroken(dir: string): boolean {
  try {
    readStored(dir)
    return false
  } catch (error) {
    if (error instanceof Failure && error.class === 'damaged') return true
    throw error
  }
}
