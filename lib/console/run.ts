// `kedge run`: a command in the context of one target, in the foreground, or of many, each as a child of its own.
import { foreground } from '../child.ts'
import type { Context, Rows, Target } from '../contract.ts'
import { traitsOf } from '../engine.ts'
import { callerVar } from '../env.ts'
import { isExecutable } from '../executable.ts'
import { Failure, worst } from '../failure.ts'
import { handing } from '../handed.ts'
import { isTerminal } from '../log.ts'
import { preamble } from '../preamble.ts'
import type { CommandLine } from '../rows.ts'
import { openSecrets } from '../secret.ts'
import { explained } from '../shell.ts'
import { checkName, loadTarget } from '../target.ts'
import type { Traits } from '../traits.ts'
import { type Choice, chosen } from './choice.ts'
import { type Command, commandFor, shellFor } from './command.ts'
import { contextEnv, makeCache, privateCache } from './context.ts'
import { fanOut } from './fleet.ts'
import type { Form } from './output.ts'
import { openSeconds } from './seconds.ts'

/** `shared`: which of --json, --quiet and --verbose were given. */
export type Run = Choice & { jobs: number | undefined; grouped: boolean; shared: readonly string[] }

const usualJobs = 4

export async function* runIn(operands: readonly string[], how: Run, context: Context): AsyncGenerator<Rows, number> {
  const { all, group, match, jobs, grouped, shared } = how
  const misuse = (message: string, hint?: string) => new Failure('misuse', message, { hint })
  if (!all && group.length + match.length === 0) {
    if (jobs !== undefined || grouped) throw misuse('--jobs and --grouped go with --all, --group or --match')
    const [name, ...words] = operands
    if (name === undefined) throw misuse('operand missing: target', 'or --all, --group NAME, --match GLOB')
    checkName(name)
    refuseOption(words)
    return yield* alone(name, words, shared, context)
  }
  if (all && group.length + match.length > 0) throw misuse('--all goes without --group and --match')
  if (jobs === 0) throw misuse('--jobs 0: at least one at a time')
  if (operands.length === 0) throw misuse('operand missing: command', 'a shell is opened for one target only')
  refuseOption(operands)
  const names = await chosen(how, context)
  if (context.mode === 'explain') return yield* explainAll(names, operands, shared, context)
  const form: Form = shared.includes('--json') ? 'json' : shared.includes('--quiet') ? 'bare' : isTerminal(1) ? 'people' : 'programs'
  return yield* fanOut(names, { words: operands, shared, jobs: jobs ?? usualJobs, grouped, form }, context)
}

/** What stands behind the target is the command's: an option there was meant for kedge run. */
function refuseOption([first]: readonly string[]): void {
  if (first?.startsWith('-'))
    throw new Failure('misuse', `not a command: '${first}'`, { hint: 'options of kedge run stand before the target' })
}

async function* alone(
  name: string,
  words: readonly string[],
  shared: readonly string[],
  context: Context,
): AsyncGenerator<CommandLine, number> {
  const target = await loadTarget(name)
  const shell = callerVar('SHELL')
  const usable = shell !== undefined && isExecutable(shell) ? shell : undefined
  const command = words.length > 0 ? commandFor(name, words, shared) : shellFor(target, usable, process.geteuid?.() === 0)
  const traits = await traitsOf(target.engine)
  if (context.mode === 'explain') {
    yield* preamble(target)
    yield explain(command, target, traits)
    return 0
  }
  const secrets = await openSecrets(target, context)
  const seconds = command.verb ? await openSeconds(target, words, context) : []
  const cache = privateCache(target, traits)
  makeCache(cache)
  if (words.length === 0 && isTerminal(0)) context.log(`a shell in the context of '${name}': its secrets end with it`)
  return await foreground(command.words, { env: { ...contextEnv(target, secrets, cache, traits), ...handing(seconds), ...command.env } })
}

/** By hand each in a shell of its own: what one target sets must not reach the next. */
async function* explainAll(
  names: readonly string[],
  words: readonly string[],
  shared: readonly string[],
  context: Context,
): AsyncGenerator<CommandLine, number> {
  const statuses: number[] = []
  for (const name of names) {
    try {
      const target = await loadTarget(name)
      yield { kind: 'command', command: '(' }
      yield* preamble(target)
      yield explain(commandFor(name, words, shared), target, await traitsOf(target.engine))
      yield { kind: 'command', command: ')' }
    } catch (error) {
      statuses.push(context.report(error, name))
    }
  }
  return worst(statuses)
}

/** What the preamble sets already is not set again. */
function explain({ shown, verb, env }: Command, target: Target, traits: Traits): CommandLine {
  const set = Object.entries(traits.context(target, {}).set).filter(([key, value]) => target.env[key] !== value)
  const more = { ...Object.fromEntries(set), ...privateCache(target, traits).own, ...env }
  return { kind: 'command', command: explained(shown, verb ? {} : more) }
}
