// What kedge notes of single snapshots outside the store: those that its guards found suspect, until they are accepted.
import { join } from 'node:path'
import { makeState, readJson, replaceFile } from './ledger.ts'
import { stateDir } from './paths.ts'

export type Marks = { suspects: Record<string, string>; accepted: string[] }

const file = (target: string) => join(stateDir(target), 'marks.json')

export async function readMarks(target: string): Promise<Marks> {
  return (await readJson<Marks>(file(target))) ?? { suspects: {}, accepted: [] }
}

/** The caller holds the target's lock. */
export async function writeMarks(target: string, marks: Marks): Promise<void> {
  makeState(stateDir(target))
  await replaceFile(file(target), JSON.stringify(marks))
}

/** A mark may have the eight characters that restic 0.14 names its new snapshots with. */
const same = (mark: string, id: string) => id.startsWith(mark)

/** The marks after a snapshot got another id; the same object where it has none. */
export function remarked(marks: Marks, old: string, id: string): Marks {
  if (!Object.keys(marks.suspects).some((mark) => same(mark, old))) return marks
  const suspects = Object.entries(marks.suspects).map(([mark, reason]) => [same(mark, old) ? id : mark, reason] as const)
  return { ...marks, suspects: Object.fromEntries(suspects) }
}

/** The marks without those of snapshots that are gone; the same object where none has one. */
export function unmarked(marks: Marks, ids: readonly string[]): Marks {
  const left = Object.entries(marks.suspects).filter(([mark]) => !ids.some((id) => same(mark, id)))
  return left.length === Object.keys(marks.suspects).length ? marks : { ...marks, suspects: Object.fromEntries(left) }
}
