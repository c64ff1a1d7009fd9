// A snapshot as an operator names it, in commands that plain sh runs without kedge: pure. restic's own `latest` may be a
// stream's, and `latest-1` it does not know: sh looks both up first.
import type { Target } from '../../contract.ts'
import type { CommandLine } from '../../rows.ts'
import { quote, shown } from '../../shell.ts'
import { namesTag } from '../../snapshots.ts'
import { targetTags } from '../../target.ts'
import { explain } from './tool.ts'

/** The lines of restic's table that are snapshots, oldest first: what awk is to do with each. */
export const eachSnapshot = (action: string): string => `$1 ~ /^[0-9a-f]+$/ && length($1) == 8 { ${action} }`

/**
 * The line that finds a `latest` or `latest-N`, and the word of sh that stands for it then; nothing found ends the script. As `pick`
 * does: of the stream whose file `path` is; or else of the paths, whose snapshots have neither a stream's tag nor that of a list of names.
 */
export function lookup(target: Target, snapshot: string, variable: string, path?: string): { lines: CommandLine[]; word: string } {
  const [, back] = /^latest(?:-(\d+))?$/.exec(snapshot) ?? []
  if (snapshot !== 'latest' && back === undefined) return { lines: [], word: quote(snapshot) }
  const stream = target.streams.find(({ name }) => path === `/${name}`)
  const tags = targetTags(target).map((tag) => (stream ? `${tag},stream:${stream.name}` : tag))
  const { command } = explain(target, ['snapshots', '--no-lock', '--compact', ...tags.flatMap((tag) => ['--tag', tag])])
  // The table has a snapshot's first tag beside its id, the others below.
  const others = stream ? '' : ` /${target.paths.length > 0 ? `stream:|${namesTag}` : namesTag}/ && now != "" { n--; now = "" }`
  const awk = `${eachSnapshot('id[++n] = now = $1')}${others} END { print id[n - ${back ?? 0}] }`
  return {
    lines: [{ kind: 'command', command: `${variable}=$(${command} | awk ${quote(awk)})` }],
    word: `"\${${variable}:?no such snapshot}"`,
  }
}

/** restic's arguments with a snapshot in them, as commands. `argsOf` gets the word that stands for it. */
export function* onSnapshot(
  target: Target,
  { snapshot, path }: { snapshot: string; path?: string | undefined },
  argsOf: (id: string) => readonly string[],
): Generator<CommandLine> {
  const { lines, word } = lookup(target, snapshot, 'snapshot', path)
  yield* lines
  const mark = 'SNAPSHOT'
  const args = argsOf(mark).filter((arg) => arg !== '--json')
  const at = args.indexOf(mark)
  const command = [explain(target, args.slice(0, at)).command, word, shown(args.slice(at + 1))].filter(Boolean).join(' ')
  yield { kind: 'command', command }
}
