// OpenBSD: the daemon kedged, which starts what is scheduled; rcctl(8) enables and starts it.
import { chmod, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { answer } from '../child.ts'
import type { Context, Rows } from '../contract.ts'
import { callerEnv } from '../env.ts'
import { Failure } from '../failure.ts'
import { isAbsent, replaceFile } from '../ledger.ts'
import { houseDir } from '../paths.ts'
import type { FileRow } from '../rows/house.ts'
import type { CommandLine } from '../rows.ts'
import { kedgeCommand } from '../self.ts'
import { quote, shown } from '../shell.ts'
import { isRoot } from './machine.ts'
import { mark } from './units.ts'

export type Places = { readonly script: string; readonly from: string }
const usual = (): Places => ({ script: '/etc/rc.d/kedged', from: join(houseDir(), 'openbsd/kedged') })
const begin = (verb: 'start' | 'restart') => [
  ['rcctl', 'enable', 'kedged'],
  ['rcctl', verb, 'kedged'],
]
const end = [
  ['rcctl', 'stop', 'kedged'],
  ['rcctl', 'disable', 'kedged'],
]

/** The script that ships, with the line by which remove knows it. */
export const marked = (text: string): string => text.replace(/^(#!.*\n)/, `$1${mark}, and taken away by kedge schedule remove.\n`)

export const forAll = (names: readonly string[]): Failure =>
  new Failure('misuse', `the daemon starts what all targets schedule, not '${names[0]}' alone`)

/** Failure `misuse` with names. */
export async function* installDaemon(names: readonly string[], context: Context, places = usual()): AsyncGenerator<Rows, number> {
  if (names.length > 0) throw forAll(names)
  const { script, from } = places
  const text = marked(await readFile(from, 'utf8'))
  const there = await scriptThere(script)
  if (there !== undefined && !there.includes(mark))
    throw new Failure('refused', `refusing to replace '${script}': kedge schedule install did not write it`, { hint: 'move it away' })
  const action = there === text ? 'unchanged' : 'written'
  if (context.mode === 'explain') {
    yield line(`install -m 0555 ${quote(from)} ${quote(script)}`)
    for (const command of begin('restart')) yield line(shown(command))
    return 0
  }
  if (context.mode === 'dry-run') {
    yield row(script, action === 'written' ? 'would write' : action)
    if (action === 'written') yield { kind: 'text', text }
    return 0
  }
  if (!isRoot()) throw new Failure('permission', `cannot write '${script}': only root may`, { hint: 'kedge schedule install --by crontab' })
  const [program, ...more] = await kedgeCommand()
  if (more.length > 0)
    throw new Failure('config', `the daemon starts '/usr/local/bin/kedge', which is not this kedge ('${program} ${more[0]}')`, {
      hint: 'install this one first: ./setup --system',
    })
  await act(text, action, script, context)
  yield row(script, action)
  return 0
}

async function act(text: string, action: 'written' | 'unchanged', script: string, context: Context): Promise<void> {
  if (action === 'written') {
    await replaceFile(script, text, 0o555)
    await chmod(script, 0o555)
  }
  const running = (await rcctl(['rcctl', 'check', 'kedged'], context)).status === 0
  // The daemon looks at the targets by itself: it is started anew for a script of another kind only.
  if (action === 'unchanged' && running) return
  for (const command of begin(running ? 'restart' : 'start')) await must(command, context)
}

/** Nothing where install wrote nothing. */
export async function* removeDaemon(context: Context, { script } = usual()): AsyncGenerator<FileRow | CommandLine> {
  const there = await scriptThere(script)
  if (!there?.includes(mark)) return
  if (context.mode === 'explain') {
    for (const command of end) yield line(shown(command))
    yield line(`rm ${quote(script)}`)
  } else if (context.mode === 'dry-run') yield row(script, 'would remove')
  else {
    await rcctl(['rcctl', 'stop', 'kedged'], context) // fails where it does not run
    await must(['rcctl', 'disable', 'kedged'], context)
    await rm(script)
    yield row(script, 'removed')
  }
}

async function scriptThere(script: string): Promise<string | undefined> {
  try {
    return await readFile(script, 'utf8')
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}

const rcctl = (command: readonly string[], { signal }: Context) => answer(command, { env: callerEnv(), signal, timeout: 120 })

async function must(command: readonly string[], context: Context): Promise<void> {
  const { status, stderr } = await rcctl(command, context)
  if (status !== 0) throw new Failure('tool', `${shown(command)}: ${stderr.trim().split('\n').pop() || `it ended with ${status}`}`)
}

const line = (command: string): CommandLine => ({ kind: 'command', command })
const row = (path: string, action: FileRow['action']): FileRow => ({ kind: 'file', target: '-', path, action })
