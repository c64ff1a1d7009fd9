// Starting rsync for a target: its environment and its command.
import { type Child, type Options, start } from '../../child.ts'
import type { RunContext, Target } from '../../contract.ts'
import { callerEnv } from '../../env.ts'
import { passedThrough, words } from '../../keys.ts'
import type { CommandLine } from '../../rows.ts'
import { explained } from '../../shell.ts'

/** The caller's harmless part and the target's own variables; times in lists are UTC, messages English, names bytes. */
export function rsyncEnv(target: Target): Record<string, string> {
  const own = Object.entries(target.env).filter(([key]) => passedThrough.rsync.test(key))
  const { LANG: _, ...caller } = callerEnv(words(target.env.PASS_ENV))
  for (const key of Object.keys(caller)) if (key.startsWith('LC_')) delete caller[key]
  return { ...caller, ...Object.fromEntries(own), LC_ALL: 'C', TZ: 'UTC' }
}

/** The whole command: priority, then the tool and its arguments. */
export function toolCommand(target: Target, command: readonly string[]): string[] {
  const nice = target.env.NICE && target.env.NICE !== '0' ? ['nice', '-n', target.env.NICE] : []
  return [...nice, ...command]
}

/** The command as --explain prints it. */
export const explain = (target: Target, command: readonly string[]): CommandLine => ({
  kind: 'command',
  command: explained(toolCommand(target, command)),
})

export type Call = Omit<Options, 'env' | 'onGroup' | 'signal'> & { readonly signal?: AbortSignal }

/** rsync, ssh, rm, sort: any tool that works for a target, in the group of the run. rsync ends cleanly on SIGTERM and keeps what is whole. */
export function startTool(target: Target, command: readonly string[], context: RunContext, call: Call = {}): Child {
  const whole = toolCommand(target, command)
  context.detail(`running: ${explained(whole)}`)
  return start(whole, { onGroup: context.group, grace: 30, signal: context.signal, ...call, env: rsyncEnv(target) })
}
