// What prune leaves in a target's state: the plan that a dry run saved, for --apply, and whether the space of snapshots that are
// deleted has still to be given back.
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Target } from './contract.ts'
import { Failure } from './failure.ts'
import { makeState, readJson, replaceFile } from './ledger.ts'
import { stateDir } from './paths.ts'
import { digest } from './retain.ts'

/** `ids`: the snapshots to delete; `digest` names them and the store; `made` is RFC 3339; `freed`: bytes, where the engine can tell, as long as the store is `amid`. */
export type SavedPlan = {
  readonly store: string
  readonly digest: string
  readonly made: string
  readonly ids: readonly string[]
  readonly freed?: number
  readonly amid?: string
}

const planFile = (target: string) => join(stateDir(target), 'plan.json')
const unprunedFile = (target: string) => join(stateDir(target), 'unpruned.json')

/** Replaces the saved plan. Why it could not be written, in words; undefined when it was. */
export async function savePlan(target: string, plan: SavedPlan): Promise<string | undefined> {
  try {
    makeState(stateDir(target))
    await replaceFile(planFile(target), JSON.stringify(plan))
    return undefined
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (!code || !['EACCES', 'EPERM', 'EROFS', 'ENOSPC', 'EDQUOT'].includes(code)) throw error
    return (error as Error).message
  }
}

/** The saved plan of this digest for this store. Failure 'refused' where there is another, or none. */
export async function savedPlan(target: Target, wanted: string, store: string): Promise<SavedPlan> {
  const refused = (why: string) =>
    new Failure('refused', `refusing to apply plan '${wanted}' to '${target.name}': ${why}`, {
      hint: `kedge prune -n ${target.name} makes and shows a new plan`,
    })
  const saved = await readJson<SavedPlan>(planFile(target.name))
  if (!saved) throw refused('no plan is saved')
  if (saved.digest !== wanted) throw refused(`the saved plan is '${saved.digest}', of ${saved.made}`)
  if (saved.store !== store) throw refused(`it was made for another store, ${saved.store.slice(0, 10)}`)
  // A plan that a hand has changed is nobody's: nobody saw it.
  if (digest(saved.store, saved.ids) !== wanted) throw refused('the saved plan was changed')
  return saved
}

/** Snapshots are about to be deleted: until `pruned`, the store holds data that no snapshot needs. */
export async function unpruned(target: string): Promise<void> {
  makeState(stateDir(target))
  await replaceFile(unprunedFile(target), JSON.stringify({ since: new Date().toISOString() }))
}

export const pruned = (target: string): Promise<void> => rm(unprunedFile(target), { force: true })

export const isUnpruned = async (target: string): Promise<boolean> => (await readJson(unprunedFile(target))) !== undefined
