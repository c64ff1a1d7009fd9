// One rsync from a snapshot's tree to where it is wanted: its arguments, its progress, and what failed by name.
import { mkdir } from 'node:fs/promises'
import { batches, type Exit } from '../../child.ts'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { feed } from '../../feed.ts'
import { hintFor, incomplete } from '../../restoring.ts'
import { quote } from '../../shell.ts'
import { linkAbove } from '../../throughlinks.ts'
import { hasNanoseconds, loopback } from './argv.ts'
import { classOf, failureOf, tidy } from './errors.ts'
import { type Found, treeOf } from './snapshots.ts'
import { startTool } from './tool.ts'
import { builtWithout, older, rsyncVersion, type Version } from './version.ts'

/** From which tree to which folder. */
export type Move = {
  readonly tree: string
  readonly to: string
  /** Over a remote shell, to this host, which may be this machine. */
  readonly over?: { readonly host: string; readonly words: readonly string[] }
  /** Owners, modes and devices lie in xattrs. */
  readonly fake: boolean
  /** Folders above what is brought stay as they are. */
  readonly inPlace: boolean
  /** Letters of options that this rsync does not have. */
  readonly without: ReadonlySet<string>
  /** Times are compared to the nanosecond: else what is made within the second of its own time keeps the wrong part of it. */
  readonly exact: boolean
}

/** rsync is to leave the words for the other side as they are: they are quoted here, which older ones cannot do. */
export const oldArgs = ({ numbers }: Version): string[] => (older(numbers, [3, 2, 4]) ? [] : ['--old-args'])

/**
 * In a local copy --fake-super is of both sides, and -M, which would take it from one, makes 3.2.7 write to a folder of a random name:
 * so that owners become real, the side that writes is reached as another host would be. Failure 'tool' where owners lie in xattrs, and
 * this rsync has none.
 */
export async function moveOf(found: Found, to: string): Promise<Move> {
  const [here, without] = [await rsyncVersion(), await builtWithout()]
  const fake = found.fake === true
  if (fake && without.has('X'))
    throw new Failure('tool', `cannot restore snapshot '${found.id}': its owners and modes lie in xattrs, and this rsync was built without`)
  const over = { host: 'localhost', words: ['--whole-file', ...oldArgs(here), '-e', loopback] }
  const exact = hasNanoseconds({ here, there: undefined })
  return { tree: treeOf(found), to, fake, inPlace: to === '/', without, exact, ...(fake && { over }) }
}

/**
 * Never --inplace nor --link-dest, and in place --ignore-times: each file becomes a new one, whether or not one with the same size and
 * time is there, and none is the snapshot's own.
 */
const flags = ({ fake, inPlace, over, without, exact }: Move): string[] => [
  'rsync',
  `-${[...'aHAXS'].filter((letter) => !without.has(letter)).join('')}`,
  '--numeric-ids',
  ...(fake ? ['--fake-super'] : []),
  ...(exact ? ['--modify-window=-1'] : []),
  ...(inPlace ? ['--ignore-times', '--no-implied-dirs'] : []),
  ...(over?.words ?? []),
]

const ends = (folder: string): string => (folder.endsWith('/') ? folder : `${folder}/`)
const place = ({ to, over }: Move): string => (over ? `${over.host}:${quote(ends(to))}` : ends(to))

/** Paths and all below them. `only`: the folders themselves without what is in them. */
export const pathArgs = (move: Move, paths: readonly string[], only = false): string[] => [
  ...flags(move),
  ...(only ? ['--no-recursive', '--dirs'] : []),
  '--relative',
  ...paths.map((path) => `${move.tree}/.${path}`),
  place(move),
]

/** Exactly the entries whose paths, relative to the tree and each ended by NUL, rsync reads from stdin. */
export const listArgs = (move: Move): string[] => [...flags(move), '--from0', '--files-from=-', ends(move.tree), place(move)]

/** A line an entry, for the progress. */
const reported = ([rsync = '', ...args]: readonly string[]): string[] => [rsync, '--no-human-readable', '--out-format=%i %l', ...args]

/** A new folder is closed to others, as what comes into it may have been. */
export async function makeRoom({ to }: Move): Promise<void> {
  await mkdir(to, { recursive: true, mode: 0o700 })
}

const quoted = /^(?:rsync: |ERROR: |file has vanished: |cannot delete )[^"]*"([^"]*)"|^ERROR: (.*) failed verification/
// What rsync cannot find or read in the store, the store does not have any more.
const broken = /^\[sender\].*No such file|vanished|failed verification|input\/output error/i

/**
 * `action`: as `restore 'web1' to '/tmp/x'`; `total`: bytes; `list`: what rsync reads from stdin. Failure: what failed by name, `damaged`
 * where the snapshot does not have what it should; or whatever else rsync's end stands for.
 */
export async function bring(
  target: Target,
  args: readonly string[],
  context: RunContext,
  call: { action: string; total: number; list?: AsyncIterable<Buffer> },
): Promise<void> {
  const failed = new Map<string, string>()
  const onStderr = (line: string) => {
    const [, item, other] = quoted.exec(line) ?? []
    const name = item ?? other
    if (name !== undefined) note(failed, name, line)
    else if (line.trim()) context.detail(`rsync: ${line.trim()}`)
  }
  const child = startTool(target, reported(args), context, { onStderr, ...(call.list && { stdin: 'pipe' }) })
  const fed = call.list && child.stdin ? feed(child.stdin, call.list) : undefined
  fed?.catch(() => child.end())
  try {
    let [done, files] = [0, 0]
    for await (const lines of child.stdout ? batches(child.stdout) : []) {
      for (const line of lines) {
        const [, type, size] = /^[>ch.]([fLDS])\S* (\d+)$/.exec(line) ?? []
        if (type === undefined) continue
        files++
        if (type === 'f') done += Number(size)
      }
      context.progress({ done, total: call.total, files })
    }
    await fed
    const exit = await child.done
    if (exit.status !== 0) throw ended(call.action, exit, failed)
  } finally {
    child.end()
    await child.done.catch(() => undefined) // judged above
  }
}

// The first cause: that a file's time cannot be set since it is not there is no news.
function note(failed: Map<string, string>, item: string, line: string): void {
  if (!failed.has(item)) failed.set(item, line)
}

/** An item below a link to a folder: rsync writes through none. */
const throughLink = /Too many levels of symbolic links/

function causeOf(item: string, line: string): string {
  const link = throughLink.test(line) ? linkAbove(item) : undefined
  if (link !== undefined) return `'${link}' is a link to a folder, and rsync writes through none`
  return tidy(line).replace(`"${item}"`, '').replace(/ +:/, ':')
}

function ended(action: string, exit: Exit, failed: ReadonlyMap<string, string>): Failure {
  const lines = [...failed.values()]
  const usual = classOf({ status: exit.status, stderr: [...lines, exit.stderr].join('\n') }, { remote: false })
  const kind = usual !== 'space' && lines.some((line) => broken.test(line.replace(/^rsync: /, ''))) ? 'damaged' : usual
  if (failed.size === 0) return new Failure(kind, failureOf(action, exit, { remote: false }).message, { hint: hintFor(kind) })
  const causes = new Map([...failed].map(([item, line]) => [item, causeOf(item, line)]))
  const hint = lines.some((line) => throughLink.test(line)) ? 'restore with --to, and move it from there' : undefined
  return incomplete(action, causes, kind, hint)
}
