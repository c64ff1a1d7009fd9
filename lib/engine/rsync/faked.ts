// What rsync reads in the xattrs of a tree that no root wrote (--fake-super): type, mode and owner of each entry.
import type { Readable, Writable } from 'node:stream'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { feed } from '../../feed.ts'
import { outFormat } from './argv.ts'
import { failureOf } from './errors.ts'
import { latinLines } from './latin.ts'
import { formatLine, type Line, parseLine } from './manifest.ts'
import { parseItem } from './output.ts'
import { type Found, treeOf } from './snapshots.ts'
import { startTool } from './tool.ts'

/** A rehearsal of sending all of it to where nothing is: a local rsync reads the xattrs, and no content. */
export const listingArgs = (found: Pick<Found, 'dir'>): string[] => [
  'rsync',
  '-an',
  '--fake-super',
  '--numeric-ids',
  ...['--8-bit-output', '--no-human-readable', '-ii', `--out-format=${outFormat}`],
  '--',
  `${treeOf(found)}/`,
  `${found.dir}/nothing/`,
]

/** As a manifest's lines, in its order, in batches. Of devices 'b' stands for both kinds, of FIFOs and sockets 'p'. What rsync cannot read is missing. */
export async function* fakedLines(target: Target, found: Found, context: RunContext): AsyncGenerator<Line[]> {
  const rsync = startTool(target, listingArgs(found), context, { onStderr: (line) => context.detail(`rsync: ${line}`) })
  const sort = startTool(target, ['sort'], context, { stdin: 'pipe' })
  const fed = feed(sort.stdin as Writable, texts(rsync.stdout as Readable))
  try {
    for await (const lines of latinLines(sort.stdout as Readable)) yield lines.map((text) => parseLine(text, found.dir))
    await fed
    const [listed, sorted] = [await rsync.done, await sort.done]
    // 23: some could not be read.
    if (listed.status !== 0 && listed.status !== 23 && listed.status !== 24)
      throw failureOf(`read the owners in '${treeOf(found)}'`, listed, { remote: false })
    if (sorted.status !== 0) throw new Failure('tool', `cannot sort what lies in '${treeOf(found)}': ${sorted.stderr.trim()}`)
  } finally {
    rsync.end()
    sort.end()
    await Promise.allSettled([fed, rsync.done, sort.done]) // judged above
  }
}

async function* texts(stdout: Readable): AsyncGenerator<Buffer> {
  for await (const lines of latinLines(stdout)) {
    const items = lines.map(parseItem).filter((line) => line !== undefined)
    if (items.length > 0) yield Buffer.from(items.map((line) => `${formatLine(line)}\n`).join(''), 'latin1')
  }
}
