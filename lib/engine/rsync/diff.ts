// diff: what changed between two snapshots, or since one: two manifests side by side, with flat memory.
import { checkLive, compared } from '../../comparison.ts'
import type { RunContext, Target, VerbOf } from '../../contract.ts'
import type { Change, CommandLine, Snapshot } from '../../rows.ts'
import { comment, quote } from '../../shell.ts'
import { heedFuture, pair, pick } from '../../snapshots.ts'
import { isRemote } from '../../source/ssh.ts'
import { entryAt } from './entry.ts'
import { changedSince, liveByHand, liveSource, timeOf } from './live.ts'
import { beside, type Line, readManifest, shownPath } from './manifest.ts'
import { type Found, manifestOf, snapshotsOf, treeOf } from './snapshots.ts'

const diff: VerbOf<'diff'> = async function* (target, { old, newer, live, metadata, top }, context) {
  const { rows, of } = await snapshotsOf(target, context)
  heedFuture(rows, [old, newer ?? old], context)
  const byHand = context.mode === 'explain'
  if (byHand && top !== undefined) yield comment('with --top kedge groups by folder what is listed here')
  if (live) {
    const first = pick(rows, target, old ?? 'latest')
    checkLive(first)
    if (byHand) yield* liveByHand(target, of(first))
    else yield* withSource(target, first, of(first), top, context)
    return
  }
  const [first, second] = pair(rows, target, old, newer)
  const [before, after] = [of(first), of(second)]
  if (byHand) {
    yield comparedByHand(before, after, metadata === true)
    return
  }
  const pairs = beside(readManifest(manifestOf(before)), readManifest(manifestOf(after)))
  const changes = changesBetween(pairs, context, (one, other) => {
    if (!one || !other) return one ? '-' : '+'
    const change = judged(one, other, metadata === true)
    return change === '?' && !isSilent(before, after, one) ? 'M' : change
  })
  yield* compared({ target: target.name, old: first, newer: second, top }, changes, () => after.counts.added, context)
}
export default diff

async function* withSource(target: Target, first: Snapshot, old: Found, top: number | undefined, context: RunContext) {
  const source = await liveSource(target, old, context)
  try {
    const pairs = beside(readManifest(manifestOf(old)), source.lines())
    const changes = changesBetween(pairs, context, (one, now) => {
      if (!one || !now) return !one ? '+' : source.isHidden(one) ? undefined : '-'
      return changedSince(one, now, treeOf(old), isRemote(target))
    })
    yield* compared({ target: target.name, old: first, newer: undefined, top }, changes, () => source.stored, context)
  } finally {
    await source.end()
  }
}

type Judge = (old: Line | undefined, newer: Line | undefined) => Change['change'] | undefined

async function* changesBetween(
  pairs: ReturnType<typeof beside<Line, Line>>,
  { signal }: RunContext,
  judge: Judge,
): AsyncGenerator<Change[]> {
  for await (const batch of pairs) {
    signal.throwIfAborted()
    const rows: Change[] = []
    for (const [old, newer] of batch) {
      if ((newer ?? old)?.path === '.') continue
      const change = judge(old, newer)
      if (change) rows.push(toChange(change, old, newer))
    }
    yield rows
  }
}

function toChange(change: Change['change'], old: Line | undefined, newer: Line | undefined): Change {
  const { path, type } = (newer ?? old) as Line
  return {
    kind: 'change',
    change,
    path: type === 'd' ? `${shownPath(path)}/` : shownPath(path),
    ...(old?.type === 'f' && { before: old.size }),
    ...(newer?.type === 'f' && { after: newer.size }),
  }
}

/** By the hashes where both are known, else by size and time. '?': another content, and nothing else that a manifest knows. */
export function judged(old: Line, newer: Line, metadata: boolean): Change['change'] | undefined {
  if (old.type !== newer.type) return 'T'
  const alike = old.mode === newer.mode && old.uid === newer.uid && old.gid === newer.gid && old.mtime === newer.mtime
  if (old.type === 'f') {
    const known = old.hash !== '' && newer.hash !== ''
    const same = known ? old.hash === newer.hash : old.size === newer.size && old.mtime === newer.mtime
    if (!same) return alike && old.size === newer.size ? '?' : 'M'
  }
  if (old.link !== newer.link && old.link.startsWith('->') && newer.link.startsWith('->')) return 'M'
  return metadata && !alike ? 'U' : undefined
}

/** Manifests tell whole seconds: a file that was written twice in one has changed in the common way. What cannot be looked at is check's matter. */
function isSilent(before: Found, after: Found, { path }: Line): boolean {
  const [one, other] = [before, after].map((found) => timeOf(entryAt(treeOf(found), path)))
  return one !== undefined && one === other
}

/** The same over the manifests, whose columns are type 2, mode 3, owner 4 and 5, size 6, time 7, hash 9, link 10. */
function comparedByHand(before: Found, after: Found, metadata: boolean): CommandLine {
  const others = '(o[3] != $3 || o[4] != $4 || o[5] != $5 || o[7] != $7)'
  const program = [
    'FNR == 1 || $1 == "." { next } NR == FNR { was[$1] = $0; next } !($1 in was) { print "+", $1; next } { split(was[$1], o); delete was[$1] }',
    'o[2] != $2 { print "T", $1; next } $2 == "l" && o[10] != $10 { print "M", $1; next }',
    '$2 == "f" && (o[9] != "-" && $9 != "-" ? o[9] != $9 : o[6] != $6 || o[7] != $7) { print "M", $1; next }',
    ...(metadata ? [`${others} { print "U", $1 }`] : []),
    'END { for (path in was) print "-", path }',
  ]
  const files = `${quote(manifestOf(before))} ${quote(manifestOf(after))}`
  return { kind: 'command', command: `LC_ALL=C awk -F '\\t' ${quote(program.join(' '))} ${files}` }
}
