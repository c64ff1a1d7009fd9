// What `kedge run` starts: a verb of kedge's with the target's name in its place, a program as it is, or a shell whose prompt names
// the target.
import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { Target } from '../contract.ts'
import { houseDir } from '../paths.ts'
import { ownCommand } from '../self.ts'

/** `shown`: as an operator writes it. */
export type Command = { words: readonly string[]; shown: readonly string[]; verb: boolean; env?: Readonly<Record<string, string>> }

/** `shared`: options for a verb that `kedge run` itself was given, as --json. */
export function commandFor(target: string, [first = '', ...rest]: readonly string[], shared: readonly string[] = []): Command {
  const operands = operandsOf(first)
  if (operands === undefined) return { words: [first, ...rest], shown: [first, ...rest], verb: false }
  const more = shared.filter((option) => !rest.includes(option))
  const words = [first, ...more, ...withTarget(operands, rest, target)]
  return { words: [...ownCommand(), ...words], shown: ['kedge', ...words], verb: true }
}

/**
 * A verb's words with the target's name as the operand that it declares: the first of most verbs; behind the action that some have
 * (`action target`, `test|digest [target ...]`), where one is given; nowhere where a verb takes no target. Pure.
 */
export function withTarget(operands: string, rest: readonly string[], target: string): string[] {
  const declared = operands.replace(/[[\]]/g, '').replaceAll(' | ', '|').split(' ')
  const place = declared.findIndex((word) => /^(target|old)$/.test(word))
  if (place < 0) return [...rest]
  const isAction = (word: string, at: number) => {
    const actions = declared[at] ?? ''
    return actions.includes('|') ? actions.split('|').includes(word) : !word.startsWith('-')
  }
  const before = rest.slice(0, place)
  const at = before.every(isAction) ? before.length : 0
  return [...rest.slice(0, at), target, ...rest.slice(at)]
}

/** What a verb of kedge's declares; undefined where kedge has no such verb. Its work is not loaded with its declaration. */
function operandsOf(verb: string): string | undefined {
  const file = join(houseDir(), 'dist', 'bin', `${verb}.cjs`)
  if (!/^[a-z]+$/.test(verb) || !existsSync(file)) return undefined
  return (require(file) as { default: { operands: string } }).default.operands
}

/**
 * A shell in which nothing but the context is set: no start file of the operator's, which might set RESTIC_REPOSITORY. `shell` is the
 * caller's, if it is one whose prompt can be set; else /bin/sh. Pure.
 */
export function shellFor(target: Target, shell: string | undefined, root: boolean): Command {
  const known = /^\/.*\/(bash|zsh|fish|ksh|ksh93|mksh|oksh|dash|ash|sh)$/.exec(shell ?? '')
  const program = known ? (shell ?? '') : '/bin/sh'
  // OpenBSD's ksh and mksh put a prompt of their own in the place of root's unless it has a #.
  const prompt = `kedge ${target.name}${root ? '#' : '$'} `
  const said = (words: readonly string[], env: Readonly<Record<string, string>>): Command => ({ words, shown: words, verb: false, env })
  switch (basename(program)) {
    case 'bash':
      return said([program, '--norc', '--noprofile'], { PS1: prompt })
    case 'zsh':
      return said([program, '-f'], { PS1: prompt.replaceAll('%', '%%') })
    case 'fish':
      return said([program, '--no-config', '--init-command', `function fish_prompt; echo -n '${prompt}'; end`], {})
    default:
      // mksh and ksh93 read a file of their own where ENV names none.
      return said([program], { PS1: prompt, ENV: '/dev/null' })
  }
}
