// Trees that a run left unfinished: shown by prune -n, and removed when forget names them.
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import type { Incomplete } from '../../rows.ts'
import type { Doomed } from './doomed.ts'
import { freedBy } from './freed.ts'
import { idPattern } from './snapshots.ts'
import { ownersOf, rootOf } from './store.ts'

const named = /^incomplete\/(.+)$/

/** Whether an operator's word names an unfinished tree: incomplete/ID. */
export const isUnfinished = (word: string): boolean => named.test(word)

/** Those of the target and of whoever else's snapshots it shows. */
export function unfinished(target: Target): { id: string; dir: string }[] {
  return ownersOf(target).flatMap((owner) => {
    const folder = join(rootOf(target, owner), 'incomplete')
    const ids = existsSync(folder) ? readdirSync(folder).filter((name) => idPattern.test(name)) : []
    return ids.toSorted().map((id) => ({ id: `incomplete/${id}`, dir: join(folder, id) }))
  })
}

/** All of them, with what their removal frees. One of a run that is going on is among them. */
export async function incompleteOf(target: Target, context: RunContext): Promise<Incomplete[]> {
  const rows: Incomplete[] = []
  for (const { id, dir } of unfinished(target)) {
    const time = id.replace(named, '$1').replace(/^(.{13})(..)(..)(?:\.\d+)?Z$/, '$1:$2:$3.000Z')
    const found = await freedBy([dir], context)
    if (!found) context.warn(`cannot count what lies in '${dir}'`, 'permission')
    rows.push({ kind: 'incomplete', target: target.name, id, time, files: found?.files ?? 0, bytes: found?.bytes ?? 0 })
  }
  return rows
}

/** The one that a word names: the whole id, since nothing tells two beginnings apart. Failure `empty` where there is none. */
export function pickUnfinished(target: Target, word: string): Doomed {
  const found = unfinished(target).find(({ id }) => id === word)
  if (found) return { ...found, reason: 'unfinished, named by the operator' }
  throw new Failure('empty', `target '${target.name}' has no unfinished snapshot '${word}'`, {
    hint: `kedge prune -n ${target.name} shows those that there are`,
  })
}
