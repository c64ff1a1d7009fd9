// Restores and drills by hand: what --explain prints of them, for plain sh.
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { RunContext, Target, Verbs } from '../../contract.ts'
import { byBlanks } from '../../keys.ts'
import { stateDir } from '../../paths.ts'
import type { CommandLine } from '../../rows.ts'
import { comment, quote, quoteBytes, shown } from '../../shell.ts'
import { isRemote, knownHosts, rsyncHost } from '../../source/ssh.ts'
import { listArgs, type Move, oldArgs, pathArgs } from './bring.ts'
import { pathBytes } from './manifest.ts'
import { hashesBeside } from './noted.ts'
import { aboveArgs, listOf, type Planned } from './route.ts'
import { selected } from './selected.ts'
import { type Found, manifestOf } from './snapshots.ts'
import { removal, surplus } from './surplus.ts'
import { explain } from './tool.ts'
import { rsyncVersion } from './version.ts'

const line = (command: string): CommandLine => ({ kind: 'command', command })

/** Reads lines 'MD5 (PATH) = HASH', as GNU's md5sum and OpenBSD's md5 check them; none are no trouble, as they are to md5sum. `folder`: a word of sh. */
export const md5Check = (folder: string): string =>
  `(cd ${folder} && if IFS= read -r first; then { printf '%s\\n' "$first"; cat; } | ` +
  'if command -v md5sum > /dev/null; then md5sum --quiet -c -; else md5 -q -c; fi; fi)'

/** awk's condition for lines of a manifest that have a hash and a name without control characters. */
const plain = '$2 == "f" && $1 !~ /[\\\\]#/'

/** awk's rule for the hashes that a check wrote down: they come before the manifest, and fill in what it does not know. */
export const withNoted = 'NF == 2 { noted[$1] = $2; next } $9 == "-" && $1 in noted { $9 = noted[$1] }'

/** The files that awk reads of a snapshot. */
const manifestWords = (found: Found): string =>
  [hashesBeside(manifestOf(found)), manifestOf(found)]
    .filter((file) => existsSync(file))
    .map(quote)
    .join(' ')

export const hashed = `${plain} && $9 != "-"`

/** The restore of one snapshot. To another host it is pushed, by whoever may write there. */
export async function* restoredByHand(target: Target, job: Planned, context: RunContext): AsyncGenerator<CommandLine> {
  const { found, route, how, path } = job
  const pushed = job.move.inPlace && isRemote(target)
  const move = pushed ? { ...job.move, over: await hostOf(target) } : job.move
  if (pushed)
    yield comment('the key of the backup may only read there: this is for an account that may write; new folders above get usual modes')
  else if (move.over)
    yield comment('owners and modes lie in xattrs, which rsync turns into real ones where it sends to another host: to this one')
  if (!move.inPlace) yield line(`(umask 077; mkdir -p ${quote(move.to)})`)
  if (how.delete) yield* removal(await surplus(target, job, context))
  if (route.paths) {
    const above = pushed ? undefined : aboveArgs(move, route.paths)
    if (above) yield explain(target, above)
    yield explain(target, pathArgs(move, route.paths))
  } else yield* listed(target, job, move, !pushed)
  if (how.verify && !pushed) {
    yield comment('what came against the hashes of the manifest; names with control characters are left out')
    yield* route.paths ? [line(`${sums(found, path)} | ${md5Check(quote(move.to))}`)] : listedSums(job)
  }
}

async function hostOf(target: Target): Promise<NonNullable<Move['over']>> {
  const { SOURCE_PORT, SOURCE_RSYNC, SSH_ARGS } = target.env
  const port = SOURCE_PORT ? ['-p', SOURCE_PORT] : []
  const ssh = ['ssh', '-o', `UserKnownHostsFile=${knownHosts()}`, ...port, ...byBlanks(SSH_ARGS)]
  const program = SOURCE_RSYNC ? [`--rsync-path=${SOURCE_RSYNC}`] : []
  return { host: rsyncHost(target), words: [...oldArgs(await rsyncVersion()), '-e', shown(ssh), ...program] }
}

/** printf is no builtin of every sh: its words have to fit in an argument list. */
const perLine = 50

async function* listed(target: Target, { found, how, path }: Planned, move: Move, here: boolean): AsyncGenerator<CommandLine> {
  yield line('{')
  for await (const names of listOf(selected(found, how, path), move.inPlace && here)) yield* printed(`'%s\\0'`, split(names))
  yield line(`} | ${explain(target, listArgs(move)).command}`)
}

async function* listedSums({ found, how, path, move }: Planned): AsyncGenerator<CommandLine> {
  yield line('{ :') // where none has a hash that can be printed, nothing else is in it
  for await (const batch of selected(found, how, path)) {
    const known = batch.filter((each) => each.line.type === 'f' && each.line.hash !== '' && !each.line.path.includes('\\#'))
    yield* printed(
      `'MD5 (%s) = %s\\n'`,
      known.flatMap(({ line: { path, hash } }) => [pathBytes(path), Buffer.from(hash)]),
    )
  }
  yield line(`} | ${md5Check(quote(move.to))}`)
}

function* printed(format: string, words: readonly Buffer[]): Generator<CommandLine> {
  for (let i = 0; i < words.length; i += perLine)
    yield line(
      `printf ${format} ${words
        .slice(i, i + perLine)
        .map(quoteBytes)
        .join(' ')}`,
    )
}

/** NUL-ended names. */
function split(names: Buffer): Buffer[] {
  const found: Buffer[] = []
  for (let at = 0; at < names.length; ) {
    const end = names.indexOf(0, at)
    found.push(names.subarray(at, end))
    at = end + 1
  }
  return found
}

/** The lines for md5Check of what a path holds; undefined and '/': of all. */
function sums(found: Found, path: string | undefined): string {
  const whole = path === undefined || path === '/'
  const start = whole ? 'LC_ALL=C' : `LC_ALL=C at=${quote(path.slice(1))}`
  const below = whole ? '' : ' && ($1 == ENVIRON["at"] || index($1, ENVIRON["at"] "/") == 1)'
  return `${start} awk -F '\\t' ${quote(`${withNoted} ${hashed}${below} { print "MD5 (" $1 ") = " $9 }`)} ${manifestWords(found)}`
}

/** `local`: the source is on this machine. */
export type Rehearsed = { readonly found: Found; readonly move: Move; readonly local: boolean }

/** A drill: a sample drawn, restored and compared. `count`: files of a sample, at most. */
export function* drilledByHand(
  target: Target,
  options: Verbs['drill']['options'],
  count: number,
  drilled: readonly Rehearsed[],
): Generator<CommandLine> {
  const scratch = quote(options.scratch === undefined ? join(stateDir(target.name), 'scratch') : resolve(options.scratch))
  yield line(`mkdir -p ${scratch}; folder=$(mktemp -d ${scratch}/drill.XXXXXXXX); bad=0`)
  for (const { found, move, local } of drilled) {
    yield comment(`a random sample of snapshot ${found.id}: hashes and paths of its files, but for names with control characters`)
    yield line(`${drawing(found, count, options.bytes)} > "$folder.sample"; [ -s "$folder.sample" ] || bad=1`)
    const args = explain(target, listArgs(move).slice(0, -1)).command
    const to = move.over ? `"${move.over.host}:'$folder/'"` : '"$folder/"'
    yield line(`cut -f 2- "$folder.sample" | tr '\\n' '\\0' | ${args} ${to} || bad=1`)
    yield line(`awk -F '\\t' '$1 != "-" { print "MD5 (" $2 ") = " $1 }' "$folder.sample" > "$folder.sums"`)
    yield line(`[ ! -s "$folder.sums" ] || ${md5Check('"$folder"')} < "$folder.sums" || bad=1`)
    if (!local) continue
    yield comment('compared with the source, where that is still there and not newer')
    const unchanged = '[ -f "/$file" ] && [ -z "$(find "/$file" -prune -newer "$folder/$file")" ]'
    const compare = `if ${unchanged}; then cmp "/$file" "$folder/$file" || bad=1; fi`
    yield line(`cut -f 2- "$folder.sample" > "$folder.files"; while IFS= read -r file; do ${compare}; done < "$folder.files"`)
  }
  yield line('rm -rf "$folder" "$folder.sample" "$folder.sums" "$folder.files"; [ "$bad" = 0 ]')
}

/** HASH, tab, PATH of files drawn by lot. */
function drawing(found: Found, count: number, bytes: number | undefined): string {
  const lots = `BEGIN { srand() } ${withNoted} ${plain} { printf "%.9f\\t%s\\t%s\\t%s\\n", rand(), $6, $9, $1 }`
  const fits = bytes === undefined ? `n < ${count}` : `n < ${count} && sum + $2 <= ${bytes}`
  const taken = `${fits} { n++; sum += $2; print $3 "\\t" $4 }`
  return `LC_ALL=C awk -F '\\t' ${quote(lots)} ${manifestWords(found)} | LC_ALL=C sort -n | LC_ALL=C awk -F '\\t' ${quote(taken)}`
}
