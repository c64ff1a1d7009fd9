// What the key of a target permits on the host, and what it refuses, told by trying: nothing that is tried writes there.
import type { Context, Target } from '../contract.ts'
import { blocked, type Found, ok } from '../doctor/finding.ts'
import type { Both } from '../engine/rsync/argv.ts'
import { greeted, probe, remoteRsync } from '../engine/rsync/probe.ts'
import { lookAt } from '../engine/rsync/roots.ts'
import { rsyncVersion } from '../engine/rsync/version.ts'
import { Failure } from '../failure.ts'
import { type Answer, askCommand, type Control, connect, relay } from '../source/control.ts'
import { fingerprint } from '../source/hostkeys.ts'
import { keyOf } from '../source/ssh.ts'
import { restrictions, type Variant } from './line.ts'
import { publicHalf } from './make.ts'
import { reader } from './reader.ts'

type Asking = Pick<Context, 'signal' | 'detail'>
/** `bound`: an account that is bound to reading refuses it; `plain` ones permit it, and nobody is surprised. */
type Trial = {
  readonly check: string
  readonly what: string
  readonly bound: 'always' | 'unless plain'
  readonly command: (target: Target, control?: Pick<Control, 'path'>) => string[]
  /** Whether the host did it. */
  readonly done: (answer: Answer) => boolean
}

const server = (target: Target, ...options: string[]): string[] => [...remoteRsync(target), '--server', ...options, '.', '.']
const flags = '-logDtpre.LsfxCIvu'
const speaks = ({ stdout }: Answer) => greeted(stdout) !== undefined

/** Each with an end of input for an answer: an rsync that is let in greets, and ends before it does anything. */
export const trials: readonly Trial[] = [
  {
    check: 'command',
    what: 'a command of its own (id)',
    bound: 'unless plain',
    command: (target, control) => askCommand(target, ['id'], control),
    done: ({ stdout }) => /\buid=\d/.test(stdout),
  },
  {
    check: 'write',
    what: 'an rsync that receives',
    bound: 'unless plain',
    command: (target, control) => askCommand(target, server(target, flags), control),
    done: speaks,
  },
  {
    check: 'remove',
    what: 'an rsync that removes what it has sent',
    bound: 'unless plain',
    command: (target, control) => askCommand(target, server(target, '--sender', flags, '--remove-source-files'), control),
    done: speaks,
  },
  {
    check: 'hidden options',
    what: 'an rsync that is sent its options unseen (-s)',
    bound: 'unless plain',
    command: (target, control) => askCommand(target, server(target, '--sender', '-slogDtpre.LsfxCIvu'), control),
    // It waits for them before it greets: at the end of its input there are none.
    done: (answer) => speaks(answer) || /^rsync: argc is zero|^rsync error: .*\[server/m.test(answer.stderr),
  },
  {
    check: 'terminal',
    what: 'a terminal',
    bound: 'always',
    command: (target, control) => {
      const [ssh = '', ...rest] = askCommand(target, ['true'], control)
      return [ssh, '-tt', ...rest]
    },
    done: ({ stderr }) => !/PTY allocation request failed/i.test(stderr),
  },
  {
    check: 'forwarding',
    what: 'a connection through the host to another port',
    bound: 'always',
    // Through a login of its own: on a shared connection only the master is told why not.
    command: (target) => {
      const [ssh = '', ...rest] = askCommand(target, [])
      return [ssh, '-W', `127.0.0.1:${target.env.SOURCE_PORT || 22}`, ...rest]
    },
    done: ({ stderr }) => !/administratively prohibited/i.test(stderr),
  },
]

/** Row by row, what is and what should be. Failure auth, unreachable, tool, config where the key does not even log in. */
export async function* prove(target: Target, variant: Variant, context: Asking): AsyncGenerator<Found> {
  const file = keyOf(target)
  if (!file) throw new Failure('config', `target '${target.name}' has no key`, { hint: `kedge key ${target.name} makes one` })
  const half = await publicHalf(target, file, context)
  const control = await connect(target, context, { file, fingerprint: fingerprint(half) })
  try {
    yield ok('login', `the key ${fingerprint(half)} logs in at '${target.env.SOURCE_HOST}'`)
    yield* permitted(target, variant, context, control)
    for (const trial of trials) yield judge(trial, variant, await relay(target, trial.command(target, control), context))
  } finally {
    await control.end()
  }
}

async function* permitted(target: Target, variant: Variant, context: Asking, control: Control): AsyncGenerator<Found> {
  let both: Both
  try {
    const there = await probe(target, context, control)
    const { text, protocol } = there
    both = { here: await rsyncVersion(), there, root: process.geteuid?.() === 0, without: new Set() }
    yield ok('rsync', `it runs there and may send: ${text}${text.includes('protocol') ? '' : `, protocol ${protocol}`}`)
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    yield blocked('rsync', error.message, error.hint, error.class)
    return
  }
  for (const path of target.paths) {
    const problem = await lookAt(target, path, both, context, control)
    yield problem ? blocked('read', problem.text, problem.remedy, problem.kind) : ok('read', `'${path}' can be read`)
  }
  yield await reader(target, variant, both, context, control)
}

/** Pure. */
export function judge({ check, what, bound, done }: Trial, variant: Variant, answer: Answer): Found {
  if (!done(answer))
    return ok(
      check,
      `refused, ${bound === 'unless plain' && variant === 'plain' ? 'more than plain asks for' : 'as it should be'}: ${what}`,
    )
  if (bound === 'unless plain' && variant === 'plain') return ok(check, `permitted, as to each plain account: ${what}`)
  return blocked(
    check,
    `permitted, and should not be: ${what}`,
    `the line in authorized_keys there begins with ${restrictions(variant)}`,
    'refused',
  )
}
