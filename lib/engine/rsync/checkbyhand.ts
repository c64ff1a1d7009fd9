// A check by hand: names against the manifest, and content against its hashes, with find, awk and md5sum. Pure.
import type { Part } from '../../checking.ts'
import type { Target } from '../../contract.ts'
import type { CommandLine } from '../../rows.ts'
import { comment, quote } from '../../shell.ts'
import { md5Check, withNoted } from './byhand.ts'
import { ownersOf, rootOf } from './store.ts'

/** Control characters as they were: awk's %c gives the byte in the locale C. */
const naming =
  'function name(s, out, c) { out = ""; while (match(s, /\\\\#[0-7][0-7][0-7]/)) { c = substr(s, RSTART + 2, 3); ' +
  'out = out substr(s, 1, RSTART - 1) sprintf("%c", substr(c, 1, 1) * 64 + substr(c, 2, 1) * 8 + substr(c, 3, 1)); s = substr(s, RSTART + 5) } ' +
  'return out s }'

const names =
  `${naming} NR == FNR { if (NF == 10 && $1 != "." && $1 !~ /\\\\#012/) there[name($1)] = 1; next } ` +
  '{ sub(/^\\.\\//, ""); if ($0 == ".") next; if ($0 in there) delete there[$0]; else print "not in the manifest: " $0 } ' +
  'END { for (path in there) print "missing: " path }'

/** awk reads lines: what lies in a folder with such a name is left out with it. */
const whole = `-name '*\n*' -prune -o -print`

const digit = (n: number): string => `index("0123456789abcdef", substr($9, ${n}, 1)) - 1`

/** Lines as `md5sum -c` and OpenBSD's `md5 -c` read them. */
const sums = (part: Exclude<Part, 'structure'>): string => {
  const mine = part === 'all' ? '' : ` && ((${digit(1)}) * 16 + ${digit(2)}) % ${part.of} == ${part.n - 1}`
  return `${naming} ${withNoted} $2 == "f" && $9 != "-" && $1 !~ /\\\\#012/${mine} { print "MD5 (" name($1) ") = " $9 }`
}

export function* checkByHand(target: Target, parts: readonly Part[]): Generator<CommandLine> {
  yield comment('kedge also compares type, size, mode, owner, time and links of each entry; a name with a line feed is left out here')
  for (const owner of ownersOf(target)) {
    const each = `for tree in ${quote(rootOf(target, owner))}/snapshots/*/tree; do (cd "$tree" && echo "$tree" &&`
    yield line(`${each} find . ${whole} | LC_ALL=C awk -F '\\t' ${quote(names)} ../manifest -); done`)
    for (const part of parts) {
      if (part === 'structure') continue
      if (part === parts[0]) yield comment('kedge reads a file once, whatever snapshots share it')
      yield line(`${each} LC_ALL=C awk -F '\\t' ${quote(sums(part))} $(ls ../hashes 2> /dev/null) ../manifest | ${md5Check('.')}); done`)
    }
  }
}

const line = (text: string): CommandLine => ({ kind: 'command', command: text })
