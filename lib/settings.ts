// What is set: the targets there are, and the settings of one with the file and line of each.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Context, Rows, Target } from './contract.ts'
import { parseEnv } from './env.ts'
import { Failure, worst } from './failure.ts'
import { keys as known, passedThrough, words } from './keys.ts'
import { nearest } from './nearest.ts'
import { targetsDir } from './paths.ts'
import type { Setting } from './rows/house.ts'
import type { CommandLine } from './rows.ts'
import { openSecrets } from './secret.ts'
import { isSecretKey } from './secretkeys.ts'
import { quote } from './shell.ts'
import { loadTarget, targetNames } from './target.ts'

const hidden = '(secret)'

/** A repository's address without the password that it may hold. */
export const withoutLogin = (text: string): string => text.replace(/(\/\/[^/@:]*):[^/@]*@/, '$1@')

/** All targets; one that does not load is listed too, with its fault on stderr and in the status. */
export async function* listTargets(
  group: string | undefined,
  storeName: (target: Target) => Promise<string>,
  context: Context,
): AsyncGenerator<Rows, number> {
  if (context.mode === 'explain') {
    yield { kind: 'command', command: `ls ${quote(targetsDir())}` }
    return 0
  }
  const statuses: number[] = []
  for (const name of await targetNames()) {
    try {
      const target = await loadTarget(name)
      const { engine, env } = target
      const groups = words(env.GROUP)
      if (group !== undefined && !groups.includes(group)) continue
      yield { kind: 'target', target: name, engine, store: await storeName(target), groups }
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      // What groups it is in is not known: it is listed, so that nobody misses it.
      yield { kind: 'target', target: name, engine: '', store: '', groups: [] }
      statuses.push(context.report(error))
    }
  }
  return worst(statuses)
}

/**
 * The settings in force, sorted; secrets without their values. With `keys` those only, and the ones that are not set as well.
 * Failure 'misuse' for a key that does not exist.
 */
export async function settingsOf(
  target: Target,
  options: { keys: readonly string[]; secrets: boolean },
  context: Context,
): Promise<(Setting | CommandLine)[]> {
  if (context.mode === 'explain') return [{ kind: 'command', command: plainly(target) }]
  const row = (key: string, value: string, from: string): Setting => ({ kind: 'setting', target: target.name, key, value, from })
  const rows = Object.entries(target.env).map(([key, value]) => {
    const origin = target.origin[key]
    return row(key, isSecretKey(key) ? hidden : withoutLogin(value), origin ? `${origin.file}:${origin.line}` : 'default')
  })
  for (const { key, from } of await secretKeys(target, options.secrets, context)) rows.push(row(key, hidden, from))
  rows.sort((a, b) => (a.key < b.key ? -1 : 1))
  const lists = [
    ...target.paths.map((path) => row('paths', path, join(target.dir, 'paths'))),
    ...target.excludes.map((file) => row('exclude', file, file)),
    ...target.streams.map(({ name, file }) => row('streams', name, file)),
  ]
  if (options.keys.length === 0) return [...rows, ...lists]
  return options.keys.flatMap((key) => {
    const found = [...rows, ...lists].filter((each) => each.key === key)
    return found.length > 0 ? found : [row(checkKey(key, target), '', 'not set')]
  })
}

function checkKey(key: string, target: Target): string {
  const all: string[] = [...Object.keys(known), 'paths', 'exclude', 'streams']
  if (all.includes(key) || passedThrough[target.engine]?.test(key)) return key
  const like = nearest(key, all)
  throw new Failure('misuse', `no key '${key}'`, { hint: like ? `did you mean ${like}?` : 'kedge-target(5) has every key' })
}

type Found = { key: string; from: string }

/** Keys of a plain file are read with their lines; what is sealed is opened only when asked for. */
async function secretKeys(target: Target, open: boolean, context: Context): Promise<Found[]> {
  if (target.secret === 'none') return []
  if (target.secret === 'file' && !open) return await plainKeys(join(target.dir, 'secret.env'))
  if (open) return Object.keys(await openSecrets(target, context)).map((key) => ({ key, from: `SECRET=${target.secret}` }))
  context.log(`the secrets are sealed (SECRET=${target.secret}): --secrets opens them and lists their keys`)
  return []
}

async function plainKeys(file: string): Promise<Found[]> {
  try {
    return [...parseEnv(await readFile(file, 'utf8'), file).entries].map(([key, { line }]) => ({ key, from: `${file}:${line}` }))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') throw new Failure('auth', `cannot use '${file}': no such file`, { cause: error })
    if (code === 'EACCES') throw new Failure('permission', `cannot use '${file}': permission denied`, { cause: error })
    throw error
  }
}

/** The lines themselves, with their numbers; /dev/null makes grep name the file. */
function plainly(target: Target): string {
  const files = new Set([...Object.values(target.origin).map(({ file }) => file), join(target.dir, 'target.env')])
  return `grep -n = ${[...files].map(quote).join(' ')} /dev/null`
}
