// The work of kedge key by hand: what --explain prints.
import type { Target } from '../contract.ts'
import type { Both } from '../engine/rsync/argv.ts'
import { greeting } from '../engine/rsync/probe.ts'
import { lookArgs } from '../engine/rsync/roots.ts'
import type { CommandLine } from '../rows.ts'
import { quote, shown } from '../shell.ts'
import { askCommand } from '../source/control.ts'
import { lookupName, scanCommand } from '../source/hostkeys.ts'
import { keyOf, knownHosts, ownKey, sshCommand } from '../source/ssh.ts'
import { restrictions, type Variant } from './line.ts'
import { makeCommand, readCommand } from './make.ts'
import { type KeyOptions, scriptFile } from './options.ts'
import { trials } from './prove.ts'
import { readerLooks } from './reader.ts'

/** Lines that sh runs one after the other. */
export function* byHand(target: Target, options: KeyOptions, variant: Variant): Generator<CommandLine> {
  const line = (command: string): CommandLine => ({ kind: 'command', command })
  if (options.script) return yield line(shown(['cat', scriptFile()]))
  if (options.test) {
    for (const command of proofs(target)) yield line(`${shown(command)} </dev/null`)
    return
  }
  const own = ownKey(target)
  const file = options.new ? `${own}.new` : (keyOf(target) ?? own)
  if (!options.host) {
    if (file !== target.env.SSH_KEY) yield line(`[ -e ${quote(file)} ] || ${shown(makeCommand(target.name, file))}`)
    yield line(`printf '%s %s\\n' ${quote(restrictions(variant))} "$(${shown(readCommand(file))})"`)
  }
  if (!options.new) return yield line(trust(target, options))
  const host = quote(target.env.SOURCE_HOST ?? '')
  const ssh = shown(sshCommand(target, undefined, file))
  yield line(`s=$(mktemp -u) && ${ssh} -f -N -M -S "$s" ${host} && ssh -S "$s" -O exit ${host} && mv ${quote(file)} ${quote(own)}`)
}

/** As if the tools on both sides were new ones: nobody is asked. */
const both: Both = {
  here: { flavour: 'rsync', numbers: [3, 2, 4], protocol: 31, text: '' },
  there: { flavour: 'rsync', numbers: undefined, protocol: 31, text: '', skew: undefined },
  root: true,
  without: new Set(),
}

const proofs = (target: Target): string[][] => [
  askCommand(target, greeting(target)),
  ...target.paths.map((path) => lookArgs(target, path, both)),
  ...readerLooks(target, both),
  ...trials.map(({ command }) => command(target)),
]

/** The host's keys into a file beside, looked at; those that a yes, or a fingerprint, vouches for to those that are known. */
function trust(target: Target, options: KeyOptions): string {
  const host = (target.env.SOURCE_HOST ?? '').replace(/^.*@/, '')
  const port = Number(target.env.SOURCE_PORT || 22)
  const [known, fresh] = [quote(knownHosts()), quote(`${knownHosts()}.new`)]
  const name = quote(lookupName(host, port))
  const wanted = options.fingerprint.map((each) => `-e ${quote(each)}`).join(' ')
  const vouched =
    `while read -r key; do printf '%s\\n' "$key" | ssh-keygen -lf - | grep -qF ${wanted} && printf '%s\\n' "$key"; done ` +
    `<${fresh} >${fresh}.2; [ -s ${fresh}.2 ] && mv ${fresh}.2 ${fresh}`
  const asked = `{ printf 'are these its keys? (yes or no) '; read -r answer; [ "$answer" = yes ]; }`
  return [
    `${options.host ? '' : `ssh-keygen -F ${name} -f ${known} >/dev/null 2>&1 || `}{ umask 077; ${shown(scanCommand(target, { host, port }))} >${fresh}`,
    `ssh-keygen -lf ${fresh}`,
    wanted === '' ? asked : `{ ${vouched}; }`,
    `touch ${known}`,
    `{ ssh-keygen -R ${name} -f ${known}; cat ${fresh} >>${known}; rm ${fresh}; }; }`,
  ].join(' && ')
}
