// A drill by hand: a random sample drawn, restored and compared by restic, awk and cmp. What drill --explain prints. Pure.
import { join, resolve } from 'node:path'
import type { Target, Verbs } from '../../contract.ts'
import { stateDir } from '../../paths.ts'
import type { CommandLine } from '../../rows.ts'
import { quote } from '../../shell.ts'
import { lookup } from './byhand.ts'
import { restoreArgs } from './extract.ts'
import { explain } from './tool.ts'
import type { Version } from './version.ts'

type Options = Verbs['drill']['options']

/** `count`: files of a sample, at most. */
export function* rehearsed(target: Target, options: Options, count: number, restic: Version): Generator<CommandLine> {
  const line = (command: string): CommandLine => ({ kind: 'command', command })
  const scratch = quote(options.scratch === undefined ? join(stateDir(target.name), 'scratch') : resolve(options.scratch))
  yield line(`mkdir -p ${scratch}; folder=$(mktemp -d ${scratch}/drill.XXXXXXXX); bad=0`)
  for (const { snapshot, path } of toRehearse(target, options.snapshot)) {
    yield line(
      `# a random sample of snapshot ${snapshot}${path === undefined ? '' : ` of the stream ${path.slice(1)}`}: sizes and paths of its files`,
    )
    const { lines, word } = lookup(target, snapshot, 'snapshot', path)
    yield* lines
    yield line(`${explain(target, ['ls', '-l', '--no-lock']).command} ${word} | ${drawing(count, options.bytes)} > "$folder.files"`)
    yield line('# restored as patterns that match nothing else, and verified')
    yield line(`sed ${quote('s/[\\\\*?[]/\\\\&/g')} "$folder.files" > "$folder.patterns"`)
    yield line(`set --; while IFS= read -r file; do set -- "$@" --include "$file"; done < "$folder.patterns"`)
    const how = { include: [], exclude: [], to: '', verify: true, delete: false }
    const args = restoreArgs(target, '', how, restic).filter((arg) => arg !== '--json' && arg !== '--target' && arg !== '')
    yield line(`[ $# -gt 0 ] && ${explain(target, args).command} --target "$folder" "$@" ${word} || bad=1`)
    yield line('# compared with the source, where that is still there and not newer')
    const unchanged = '[ -f "$file" ] && [ -z "$(find "$file" -prune -newer "$folder$file")" ]'
    yield line(`while IFS= read -r file; do if ${unchanged}; then cmp "$file" "$folder$file" || bad=1; fi; done < "$folder.files"`)
  }
  yield line('rm -rf "$folder" "$folder.files" "$folder.patterns"; [ "$bad" = 0 ]')
}

/** The snapshot that is named, or the newest of the paths and of each stream. */
function toRehearse({ paths, streams }: Target, named: string | undefined): { snapshot: string; path?: string }[] {
  if (named !== undefined) return [{ snapshot: named }]
  const ofStreams = streams.map(({ name }) => ({ snapshot: 'latest', path: `/${name}` }))
  return paths.length > 0 || streams.length === 0 ? [{ snapshot: 'latest' }, ...ofStreams] : ofStreams
}

/** `restic ls -l` -> the paths of the sample. A regular file's mode begins with -, or as Go prints setuid, setgid and sticky ones. */
function drawing(count: number, bytes: number | undefined): string {
  const lots =
    'BEGIN { srand() } /^[-ugt]/ { size = $4; if (sub(/^[^ ]+ +[0-9]+ +[0-9]+ +[0-9]+ [0-9-]+ [0-9:]+ /, "")) printf "%.9f\\t%s\\t%s\\n", rand(), size, $0 }'
  const fits = bytes === undefined ? `n < ${count}` : `n < ${count} && sum + $1 <= ${bytes}`
  const taken = `${fits} { n++; sum += $1; sub(/^[^\\t]*\\t/, ""); print }`
  return `LC_ALL=C awk ${quote(lots)} | LC_ALL=C sort -n | cut -f 2- | LC_ALL=C awk ${quote(taken)}`
}
