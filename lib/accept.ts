// Suspect snapshots: which there are, and taking one for good. They are a note of kedge's own; a store may tell of more.
import type { RunContext, Target } from './contract.ts'
import { Failure } from './failure.ts'
import { type Marks, readMarks, writeMarks } from './marks.ts'
import type { Marked } from './rows.ts'
import { isId } from './snapshots.ts'

/** What the store says of its snapshots, by their ids: an engine's trait. */
type Told = Readonly<Record<string, string>>

export async function suspects(target: Target, told: Told): Promise<Marked[]> {
  const marks = withTold(await readMarks(target.name), told)
  return Object.entries(marks.suspects).map(([id, reason]) => ({ kind: 'marked', target: target.name, action: 'suspect', id, reason }))
}

/** What is noted stays under its id; the store's has the name of another owner before it. */
function withTold(marks: Marks, told: Told): Marks {
  const more = Object.entries(told).filter(([id]) => !marks.suspects[id] && !marks.suspects[bare(id)])
  return { ...marks, suspects: { ...marks.suspects, ...Object.fromEntries(more) } }
}

const bare = (id: string): string => id.slice(id.indexOf('/') + 1)

/** `ids`: ids or their beginnings. The caller holds the target's lock. All are found before one is accepted. */
export async function* accept(target: Target, ids: readonly string[], told: Told, context: RunContext): AsyncGenerator<Marked> {
  const noted = await readMarks(target.name)
  const marks = withTold(noted, told)
  const known = [...Object.keys(marks.suspects), ...marks.accepted]
  const chosen = new Set(ids.map((id) => theOne(known, id, target)))
  const dryRun = context.mode === 'dry-run'
  const open = [...chosen].filter((id) => Object.hasOwn(marks.suspects, id))
  if (!dryRun && open.length > 0) {
    const left = Object.entries(noted.suspects).filter(([id]) => !chosen.has(id))
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
  const fits = (mark: string) => mark.startsWith(id) || id.startsWith(mark) || bare(mark).startsWith(id) || bare(id) === mark
  const found = isId(engine, id) ? known.filter(fits) : []
  const [first, second] = found
  if (first === undefined)
    throw new Failure('empty', `target '${name}' has no suspect snapshot '${id}'`, { hint: `kedge accept ${name} lists them` })
  if (second !== undefined)
    throw new Failure('misuse', `several suspect snapshots of '${name}' begin with '${id}'`, { hint: 'give more of the id' })
  return first
}
