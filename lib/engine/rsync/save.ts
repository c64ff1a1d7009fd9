// One transfer: rsync into a new tree, its output read while it grows, what it says on stderr kept, and at the end the manifest.
import { closeSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Child, Exit } from '../../child.ts'
import type { RunContext, Target } from '../../contract.ts'
import { Failure } from '../../failure.ts'
import { drained } from '../../feed.ts'
import type { Counts } from './counts.ts'
import { type Seeker, seeker, writeManifest } from './hashes.ts'
import { latinLines } from './latin.ts'
import { escapePath, formatLine, type Line, leaderOf, parseLine, readManifest } from './manifest.ts'
import { parseItem } from './output.ts'
import { kindsIn } from './special.ts'
import { startTool } from './tool.ts'
import { hear, hearAside, noTrouble, type Trouble } from './trouble.ts'

export type Work = {
  /** incomplete/ID: rsync's output lies in it beside the tree, so that what was saved is known even where kedge is killed. */
  readonly dir: string
  readonly command: readonly string[]
  readonly remote: boolean
  /** Manifests of the bases that are snapshots, the first is the base; and the folders of unfinished ones. */
  readonly manifests: readonly string[]
  readonly unfinished: readonly string[]
  /** The trees of both, in the same order; and those that rsync links to. */
  readonly trees: readonly string[]
  readonly linked: readonly string[]
  readonly sources: readonly string[]
  /** Owners and kinds lie in xattrs. */
  readonly fake: boolean
  readonly dryRun: boolean
  /** Of the base, for the progress. */
  readonly expected: { readonly files: number; readonly bytes: number } | undefined
}
export type Saved = { exit: Exit; trouble: Trouble; finish: () => Promise<Counts> }

const outputOf = (dir: string): string => join(dir, 'output')

/** Runs rsync to its end, whatever that is. `finish` writes the manifest; where it is not called `discard` ends what is open. */
export async function transfer(target: Target, work: Work, context: RunContext): Promise<Saved & { discard: () => void }> {
  const trouble = noTrouble()
  const sorted = startSort(target, work.dir, context)
  const leaders = new Set<string>()
  const output = openSync(outputOf(work.dir), 'w+', 0o600)
  const seen = { files: 0, bytes: 0 }
  let over = false
  let wake: () => void = () => undefined
  const ended = new Promise<void>((resolve) => {
    wake = resolve
  })
  const onItem = (line: Line) => {
    if (line.type !== 'd') seen.files++
    if (line.type === 'f') seen.bytes += line.size
    const leader = leaderOf(line)
    if (leader !== undefined && (line.how === '>' || work.unfinished.length > 0)) leaders.add(leader)
  }
  const report = (what: string) => {
    const { expected } = work
    context.progress({
      done: seen.bytes,
      ...(expected && expected.bytes >= seen.bytes && { total: expected.bytes }),
      files: seen.files,
      ...(expected && expected.files >= seen.files && { totalFiles: expected.files }),
      what,
    })
  }
  const reading = readGrowing(output, { over: () => over, ended }, async (lines) => {
    let text = ''
    let last = ''
    for (const each of lines) {
      const line = parseItem(each)
      if (!line) {
        hearAside(trouble, each)
        continue
      }
      onItem(line)
      last = line.path
      text += `${formatLine(line)}${line.touched ? touched : line.copied ? copied : ''}\n`
    }
    if (last !== '') report(`/${last}`)
    await sorted.add(text)
  })
  reading.catch(() => undefined) // thrown where it is awaited
  try {
    const child = startTool(target, work.command, context, {
      stdout: output,
      relays: work.remote,
      onStderr: (line) => {
        context.detail(`rsync: ${line}`)
        hear(trouble, line)
      },
    })
    const exit = await child.done
    over = true
    wake()
    await reading
    return {
      exit,
      trouble,
      discard: sorted.discard,
      finish: async () => {
        // Its files are linked to all the same; what their content should be is read anew.
        const damaged = (failure: Failure) => context.warn(failure.message, 'damaged')
        const unfinished = work.unfinished.map((dir) => sortedOutput(target, dir, work.dir, context))
        try {
          return await writeManifest({
            lines: sorted.lines(),
            known: [...work.manifests.map((file) => seeker(readManifest(file), damaged)), ...unfinished.map(({ known }) => known)],
            bases: work.manifests.length,
            trees: work.trees,
            linked: work.linked,
            dir: work.dir,
            tree: join(work.dir, 'tree'),
            sources: new Set(work.sources.map((path) => escapePath(Buffer.from(path.slice(1))) || '.')),
            kindOf: kindsIn(target, join(work.dir, 'tree'), work.fake, context),
            leaders,
            dryRun: work.dryRun,
          })
        } finally {
          for (const each of unfinished) each.discard()
        }
      },
    }
  } catch (error) {
    sorted.discard()
    throw error
  } finally {
    over = true
    wake()
    await reading.catch(() => undefined)
    closeSync(output)
  }
}

type Growth = { readonly over: () => boolean; readonly ended: Promise<void> }

/** Lines of a file that grows, in batches, until it is over and all is read. */
async function readGrowing(descriptor: number, { over, ended }: Growth, use: (lines: string[]) => Promise<void>): Promise<void> {
  const buffer = Buffer.allocUnsafe(1 << 18)
  let rest = ''
  let at = 0
  for (;;) {
    const last = over()
    const read = readSync(descriptor, buffer, 0, buffer.length, at)
    at += read
    if (read > 0) {
      const lines = (rest + buffer.toString('latin1', 0, read)).split('\n')
      rest = lines.pop() ?? ''
      await use(lines)
    } else if (last) return
    if (read < buffer.length && !last) await Promise.race([sleep(pause), ended])
  }
}

/** Milliseconds between two looks at the output. */
const pause = 30

/** Behind a line, for sort: what no manifest has. A line without them ends in its link, which is '-' or begins with an arrow. */
const [touched, copied] = ['\tt', '\tc']

function parseMarked(text: string, file: string): Line {
  const line = parseLine(text.endsWith(touched) || text.endsWith(copied) ? text.slice(0, -2) : text, file)
  return { ...line, ...(text.endsWith(touched) && { touched: true }), ...(text.endsWith(copied) && { copied: true }) }
}

/** sort(1), fed while rsync works. */
function startSort(target: Target, dir: string, context: RunContext) {
  const child = startTool(target, ['sort', '-T', dir], context, { stdin: 'pipe' })
  return {
    async add(text: string): Promise<void> {
      if (text !== '' && child.stdin && !child.stdin.write(text, 'latin1')) await drained(child.stdin)
    },
    lines: () => linesOf(child, dir),
    discard: () => child.end(),
  }
}

async function* linesOf(child: Child, dir: string): AsyncGenerator<Line[]> {
  child.stdin?.end()
  for await (const lines of child.stdout ? latinLines(child.stdout) : []) yield lines.map((line) => parseMarked(line, join(dir, 'output')))
  const { status, stderr } = await child.done
  if (status === 0) return
  throw new Failure(
    /no space/i.test(stderr) ? 'space' : 'tool',
    `cannot sort the manifest: ${stderr.trim() || `sort ended with status ${status}`}`,
  )
}

/** What an unfinished run had saved, by its output: a line that is cut off is left out. */
function sortedOutput(target: Target, unfinished: string, dir: string, context: RunContext): { known: Seeker; discard: () => void } {
  const sorted = startSort(target, dir, context)
  const feeding = feed(outputOf(unfinished), sorted.add)
  feeding.catch(() => undefined) // thrown by the first look
  const lines = async function* () {
    await feeding
    yield* sorted.lines()
  }
  return { known: seeker(lines(), () => undefined), discard: sorted.discard }
}

async function feed(file: string, add: (text: string) => Promise<void>): Promise<void> {
  let descriptor: number
  try {
    descriptor = openSync(file, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  try {
    await readGrowing(descriptor, { over: () => true, ended: Promise.resolve() }, (lines) => {
      const known = lines.flatMap((each) => parseItem(each) ?? []).filter((line) => line.hash !== '')
      return add(known.map((line) => `${formatLine(line)}\n`).join(''))
    })
  } finally {
    closeSync(descriptor)
  }
}
