// The snapshots of a target, the newest first.
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { RunContext, Target, VerbOf, Verbs } from '../../contract.ts'
import type { Removed } from '../../rows/house.ts'
import type { CommandLine } from '../../rows.ts'
import { quote } from '../../shell.ts'
import { listed } from '../../snapshots.ts'
import { auditOf, readAudit } from './audit.ts'
import { unfinished } from './incomplete.ts'
import { snapshotsOf } from './snapshots.ts'
import { ownersOf, pinnedStore, rootOf, storeOf } from './store.ts'

const list: VerbOf<'list'> = async function* (target, options, context) {
  if (context.mode === 'explain') {
    yield byHand(target, options)
    return
  }
  pinnedStore(target, context)
  if (options.removed) {
    yield (await removedFrom(target, context)).slice(0, options.latest)
    return
  }
  const owners = options.all ? ownersIn(target) : ownersOf(target)
  const { rows } = await snapshotsOf(target, context, owners)
  yield listed(rows, target, options, context.log)
  const { length } = unfinished(target)
  if (length === 0) return
  const what = length === 1 ? 'one snapshot is unfinished' : `${length} snapshots are unfinished`
  context.log(`'${target.name}': ${what}, of a run that goes on or was cut off: kedge prune -n ${target.name} tells how large`)
}
export default list

/** What the audit of each owner tells, the newest first. */
async function removedFrom(target: Target, context: RunContext): Promise<Removed[]> {
  const rows: Removed[] = []
  for (const owner of ownersOf(target)) {
    const file = auditOf(rootOf(target, owner))
    const torn = (line: string) => context.log(`a torn line in '${file}' is left out: ${line.slice(0, 60)}`)
    for (const each of await readAudit(rootOf(target, owner), torn)) rows.push({ kind: 'removed', target: target.name, ...each })
  }
  return rows.sort((a, b) => (a.time < b.time ? 1 : -1))
}

/** Whatever has snapshots in the store. */
function ownersIn(target: Target): string[] {
  const store = storeOf(target)
  return readdirSync(store).filter((name) => existsSync(join(store, name, 'snapshots')))
}

/** An id and a place a line, by the times that the snapshots tell of themselves. */
function byHand(target: Target, { latest, stream, all, removed }: Verbs['list']['options']): CommandLine {
  if (removed) {
    const audits = ownersOf(target).map((owner) => quote(auditOf(rootOf(target, owner))))
    const read = `for audit in ${audits.join(' ')}; do test ! -e "$audit" || cat "$audit"; done`
    return { kind: 'command', command: latest === undefined ? read : `${read} | tail -n ${latest}` }
  }
  const roots = all ? [`${quote(storeOf(target))}/*`] : ownersOf(target).map((owner) => quote(rootOf(target, owner)))
  const files = roots.map((root) => `${root}/snapshots/*/snapshot.json`).join(' ')
  // Several snapshots of one second have ids whose order is not that of their times.
  const timed = stream === undefined ? '/^  "time": /' : `/^  "time": /{ time = $4 } /^  "stream": "${stream.replaceAll('.', '\\.')}"/`
  const time = stream === undefined ? '$4' : 'time'
  const program = `${timed} { n = split(FILENAME, part, "/"); print ${time}, part[n - 1], FILENAME }`
  const newest = `awk -F '"' ${quote(program)} ${files} | LC_ALL=C sort -r | cut -d ' ' -f 2-`
  return { kind: 'command', command: latest === undefined ? newest : `${newest} | head -n ${latest}` }
}
