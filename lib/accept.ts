// Suspect snapshots: which there are, and taking one for good. A note of kedge's own, so no engine is asked.
import type { RunContext, Target } from './contract.ts'
import { Failure } from './failure.ts'
import { readMarks, writeMarks } from './marks.ts'
import type { Marked } from './rows.ts'
import { isId } from './snapshots.ts'

export async function suspects(target: Target): Promise<Marked[]> {
  const marks = await readMarks(target.name)
  return Object.entries(marks.suspects).map(([id, reason]) => ({ kind: 'marked', target: target.name, action: 'suspect', id, reason }))
}

/** `ids`: ids or their beginnings. The caller holds the target's lock. All are found before one is accepted. */
export async function* accept(target: Target, ids: readonly string[], context: RunContext): AsyncGenerator<Marked> {
  const marks = await readMarks(target.name)
  const known = [...Object.keys(marks.suspects), ...marks.accepted]
  const chosen = new Set(ids.map((id) => theOne(known, id, target)))
  const dryRun = context.mode === 'dry-run'
  const open = [...chosen].filter((id) => Object.hasOwn(marks.suspects, id))
  if (!dryRun && open.length > 0) {
    const left = Object.entries(marks.suspects).filter(([id]) => !chosen.has(id))
    await writeMarks(target.name, { suspects: Object.fromEntries(left), accepted: [...marks.accepted, ...open] })
  }
  for (const id of chosen) {
    const reason = marks.suspects[id]
    yield {
      kind: 'marked',
      target: target.name,
      action: dryRun ? 'would accept' : 'accepted',
      id,
      ...(reason && { reason }),
      ...(dryRun && { dryRun }),
    }
  }
}

/** A mark may be shorter than what is given: restic 0.14 names a new snapshot by eight characters. */
function theOne(known: readonly string[], id: string, { name, engine }: Target): string {
  const found = isId(engine, id) ? known.filter((mark) => mark.startsWith(id) || id.startsWith(mark)) : []
  const [first, second] = found
  if (first === undefined)
    throw new Failure('empty', `target '${name}' has no suspect snapshot '${id}'`, { hint: `kedge accept ${name} lists them` })
  if (second !== undefined)
    throw new Failure('misuse', `several suspect snapshots of '${name}' begin with '${id}'`, { hint: 'give more of the id' })
  return first
}
