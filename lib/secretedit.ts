// The secrets of a target in an editor: opened in memory, edited in a private file, sealed again as they were.
import { readFile } from 'node:fs/promises'
import { foreground } from './child.ts'
import type { Context, Rows, Target } from './contract.ts'
import { callerVar } from './env.ts'
import { Failure } from './failure.ts'
import { sealedFor } from './gpgfile.ts'
import { perform } from './lifecycle.ts'
import { diskFolder, withPrivateFile } from './privatefile.ts'
import type { FileRow } from './rows/house.ts'
import type { CommandLine } from './rows.ts'
import { asBefore, sealText } from './seal.ts'
import { openByHand, sealByHand } from './sealbyhand.ts'
import { openText } from './secret.ts'
import { type FileProvider, hasFile, secretFile, utf8 } from './secretfile.ts'
import { readSecrets } from './secrettext.ts'
import { quote } from './shell.ts'

/** Failure `misuse` where kedge cannot write them, `config` or `auth` for a text with faults, which is not kept. */
export async function* editSecrets(target: Target, context: Context): AsyncGenerator<Rows, number> {
  const { name, secret } = target
  if (!hasFile(secret)) {
    const why = secret === 'none' ? 'SECRET is none' : 'they come from SECRET_COMMAND, which kedge cannot write'
    throw new Failure('misuse', `cannot edit the secrets of '${name}': ${why}`)
  }
  const file = secretFile(target.dir, secret) as string
  const row = (action: FileRow['action']): FileRow => ({ kind: 'file', target: name, path: file, action })
  if (context.mode === 'explain') {
    yield* explained({ ...target, secret }, file)
    return 0
  }
  if (context.mode === 'dry-run') {
    yield row('would write')
    return 0
  }
  const before = await readFile(file).catch(() => undefined) // what is wrong with it is said where it is opened
  const opened = await openText(target, context)
  if (opened.from !== file)
    throw new Failure('misuse', `cannot edit the secrets of '${name}': they come from '${opened.from}'`, {
      hint: 'run it outside of the unit',
    })
  const how = asBefore(opened.sealing, file)
  const text = await withPrivateFile('secret.env', opened.text, diskFolder(name), context, (path) =>
    edited(target, path, opened.text, context),
  )
  if (text === opened.text) {
    context.log('nothing was changed')
    yield row('unchanged')
    return 0
  }
  return yield* perform('secret', target, context, async function* ({ signal }) {
    // A rotation may have stored another password meanwhile: what was read before must not replace it.
    if (!before?.equals(await readFile(file)))
      throw new Failure('refused', `cannot keep the secrets of '${name}': '${file}' was changed meanwhile`, { hint: 'edit them again' })
    await sealText(target, secret, text, { ...how, signal })
    yield row('written')
    if (passwordOf(text) !== passwordOf(opened.text))
      context.log(`RESTIC_PASSWORD is another one now: kedge secret check ${name} shows whether it opens the repository`)
  })
}

const passwordOf = (text: string): string | undefined => readSecrets(text, '', '').RESTIC_PASSWORD

/** The text as the editor left it, once it has no faults. */
async function edited(target: Target, path: string, before: string, context: Context): Promise<string> {
  const command = [...editor(), path]
  const noFile = (error: NodeJS.ErrnoException): never => {
    if (error.code !== 'ENOENT' && error.code !== 'EISDIR') throw error
    throw new Failure('tool', `'${command[0]}' left no file: nothing was kept`, { cause: error })
  }
  for (;;) {
    const status = await withoutInterrupts(context.ask !== undefined, () => foreground(command))
    context.signal.throwIfAborted()
    if (status !== 0) throw new Failure('tool', `'${command[0]}' ended with status ${status}: nothing was kept`)
    const bytes = await readFile(path).catch(noFile)
    try {
      const text = utf8(bytes, 'the text')
      if (text !== before) refuseFaults(target, text, before)
      return text
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      context.log(error.message)
      if (!context.ask || !/^$|^y/i.test((await context.ask('edit it again? [yes]:')).trim()))
        throw new Failure(error.class, `nothing was kept: ${error.message}`, { cause: error })
    }
  }
}

function refuseFaults(target: Target, text: string, before: string): void {
  const values = readSecrets(text, 'secret.env', target.name)
  if (values.RESTIC_PASSWORD === undefined && passwordOf(before) !== undefined && !values.RESTIC_PASSWORD_FILE)
    throw new Failure('auth', `the secrets of '${target.name}' have no RESTIC_PASSWORD any more`)
}

/** $VISUAL, $EDITOR or vi: words, and no shell. */
function editor(): string[] {
  const words = [callerVar('VISUAL'), callerVar('EDITOR')].map((value) => (value ?? '').split(/\s+/).filter(Boolean))
  return words.find((found) => found.length > 0) ?? ['vi']
}

/** ^C is the editor's: what else kedge does on it waits. Without a terminal it would be meant for kedge. */
async function withoutInterrupts<T>(terminal: boolean, work: () => Promise<T>): Promise<T> {
  const others = terminal ? process.listeners('SIGINT') : []
  for (const each of others) process.off('SIGINT', each)
  try {
    return await work()
  } finally {
    for (const each of others) process.on('SIGINT', each)
  }
}

async function* explained(target: Target & { secret: FileProvider }, file: string): AsyncGenerator<CommandLine> {
  const recipients = target.secret === 'gpg' ? (await sealedFor(file)).keys : []
  const line = (command: string): CommandLine => ({ kind: 'command', command })
  yield line(`umask 077; folder=$(mktemp -d /dev/shm/kedge.XXXXXX) || exit; trap 'rm -rf "$folder"' EXIT`)
  yield line(`${openByHand(target)} > "$folder/secret.env" || exit`)
  yield line(`${editor().map(quote).join(' ')} "$folder/secret.env" || exit`)
  yield line(`{ ${await sealByHand(target, target.secret, recipients)}; } < "$folder/secret.env"`)
}
