// Puts a new target in its place: all of it is written and proven in a folder beside, which one rename makes the target's.
import { mkdir, mkdtemp, open, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Context, Target } from '../contract.ts'
import { sheetOf, traitsOf } from '../engine.ts'
import { setEnvKey } from '../env.ts'
import { Failure } from '../failure.ts'
import { changeText } from '../inplace.ts'
import { words } from '../keys.ts'
import { newPassphrase } from '../newpassphrase.ts'
import { liesIn, planTarget } from '../newtarget.ts'
import { readPassphrase } from '../passphrase.ts'
import { targetsDir } from '../paths.ts'
import { sheetFile } from '../recovery.ts'
import type { FileRow } from '../rows/house.ts'
import type { CommandLine, Text } from '../rows.ts'
import { sealSecrets } from '../seal.ts'
import { newPassword, openSecrets } from '../secret.ts'
import { quote } from '../shell.ts'
import { exists } from '../source/paths.ts'
import { loadTarget, targetDir } from '../target.ts'
import type { Wanted } from './ask.ts'

export type Writing = { readonly copyOf: string | undefined; readonly existing: boolean; readonly passwordFd: number | undefined }
type Row = FileRow | Text | CommandLine

const secretFiles = { gpg: 'secret.env.gpg', credential: 'secret.cred', file: 'secret.env' } as const

/** Writes the target's folder, or says what would be written. Failure 'misuse' where the target exists. */
export async function* writeTarget(wanted: Wanted, how: Writing, context: Context): AsyncGenerator<Row> {
  const { name, secret } = wanted.wishes
  const dir = targetDir(name)
  if (await exists(dir))
    throw new Failure('misuse', `target '${name}' exists: '${dir}'`, { hint: 'kedge rename or kedge remove make room' })
  const files = planTarget(wanted.wishes)
  const { password } = await traitsOf(wanted.wishes.engine)
  const sealed = secret === 'gpg' || secret === 'credential' || secret === 'file' ? [secretFiles[secret]] : []
  if (context.mode === 'explain') {
    yield* explained(dir, files, wanted, how, password)
    return
  }
  await warn(wanted, context)
  const names = [...files.map((file) => file.name), ...sealed, 'recovery.txt']
  if (context.mode === 'act') {
    const text = await place(dir, files, wanted, how, context)
    if (text) yield { kind: 'text', text }
  }
  const action = context.mode === 'act' ? 'written' : 'would write'
  for (const file of names) yield { kind: 'file', target: name, path: join(dir, file), action }
  if (how.copyOf !== undefined) yield { kind: 'file', target: how.copyOf, path: await addCopy(how.copyOf, name, context), action }
  if (context.mode === 'act') tell(wanted, how, dir, password !== undefined, context)
}

async function warn({ wishes }: Wanted, context: Context): Promise<void> {
  if (wishes.place.SOURCE_HOST) return // what lies there kedge doctor looks at
  for (const path of wishes.paths) if (!(await exists(path))) context.log(`warning: the path '${path}' is not there now`)
  for (const place of Object.values(wishes.place)) {
    const inside = liesIn(place, wishes.paths)
    if (inside) context.log(`the store lies in '${inside}', which is saved: backup leaves the store itself out`)
  }
}

type Files = ReturnType<typeof planTarget>

/** Gives the text that the operator must put where SECRET_COMMAND finds it. */
async function place(dir: string, files: Files, wanted: Wanted, how: Writing, context: Context): Promise<string | undefined> {
  const { name } = wanted.wishes
  await mkdir(targetsDir(), { recursive: true, mode: 0o700 })
  const beside = await mkdtemp(join(targetsDir(), '.new-'))
  // Of the same name, since systemd seals a credential to the name of its target.
  const fresh = join(beside, name)
  try {
    await mkdir(fresh, { mode: 0o700 })
    for (const file of files) await write(join(fresh, file.name), file.text)
    const target = await loadTarget(name, fresh).catch((error) => {
      throw error instanceof Failure
        ? new Failure(error.class, error.message.replaceAll(fresh, dir), { hint: error.hint, cause: error })
        : error
    })
    const text = await writeSecrets(target, wanted, how, context)
    await write(sheetFile(fresh), await sheetOf({ ...target, dir }))
    context.signal.throwIfAborted()
    await rename(fresh, dir).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
      throw new Failure('misuse', `target '${name}' exists: '${dir}'`)
    })
    return text
  } finally {
    await rm(beside, { recursive: true, force: true })
  }
}

async function write(file: string, text: string): Promise<void> {
  const handle = await open(file, 'wx', 0o600)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function writeSecrets(target: Target, { recipient, secrets }: Wanted, how: Writing, context: Context): Promise<string | undefined> {
  const { name, dir, secret } = target
  const { password: key, lacking } = await traitsOf(target.engine)
  if (secret === 'none') return undefined
  if (secret === 'command' && (how.existing || !key)) {
    const { missing } = lacking(await openSecrets(target, context))
    if (missing.length > 0) throw new Failure('auth', `cannot use the secrets of '${name}': SECRET_COMMAND gives no ${missing.join(', ')}`)
    return undefined
  }
  const password = !key ? {} : { [key]: how.existing ? await existingPassword(name, how.passwordFd, context) : newPassword() }
  const passphrase =
    secret === 'gpg' && recipient === undefined ? await newPassphrase(name, context, '--passphrase-fd or --recipient') : undefined
  const sealed = await sealSecrets(
    dir,
    secret,
    { ...password, ...secrets },
    { signal: context.signal, ...(passphrase !== undefined && { passphrase }), ...(recipient !== undefined && { recipient }) },
  )
  return 'text' in sealed ? sealed.text.trimEnd() : undefined
}

async function existingPassword(name: string, fd: number | undefined, context: Context): Promise<string> {
  const password = fd === undefined ? await context.ask?.(`the password of the repository of '${name}':`, { hidden: true }) : undefined
  if (password !== undefined) return password
  if (fd === undefined) throw new Failure('misuse', 'option missing: --password-fd', { hint: 'without a terminal nobody can be asked' })
  return (await readPassphrase(`the repository of '${name}'`, { signal: context.signal, ask: undefined, passphraseFd: fd })) ?? ''
}

/** The file in which the first target names its second store. */
async function addCopy(first: string, second: string, context: Context): Promise<string> {
  const target = await loadTarget(first)
  const file = join(target.dir, 'target.env')
  const names = words(target.env.COPY_TO)
  if (context.mode !== 'act' || names.includes(second)) return file
  await changeText(file, (text) => setEnvKey(text, 'COPY_TO', [...names, second].join(' ')))
  return file
}

function tell({ wishes, recipient }: Wanted, how: Writing, dir: string, locked: boolean, context: Context): void {
  const { name, secret, place } = wishes
  const kept = {
    gpg: `in '${join(dir, secretFiles.gpg)}', encrypted ${recipient === undefined ? 'with your passphrase' : `to '${recipient}'`}`,
    credential: `in '${join(dir, secretFiles.credential)}', which only this machine opens`,
    file: `in plain text in '${join(dir, secretFiles.file)}'`,
    command: how.existing ? 'where SECRET_COMMAND finds it' : 'printed above, once: put these lines where SECRET_COMMAND finds them',
    none: 'where target.env says',
  }[secret]
  if (locked) {
    context.log(`the repository's password is ${kept}`)
    context.log(`without it nobody can read the repository: keep a copy on another machine, with the recovery sheet '${sheetFile(dir)}'`)
  } else {
    if (secret !== 'none') context.log(`the target's secrets are ${kept}`)
    context.log(`nothing encrypts the snapshots: whoever has the disk of the store reads them, so guard it`)
    context.log(`the recovery sheet '${sheetFile(dir)}' says how they come back: keep a copy on another machine`)
  }
  const steps = [
    ...(place.SOURCE_HOST ? [`key ${name}`] : []),
    `${how.existing ? 'init --adopt' : 'init'} ${name}`,
    how.copyOf === undefined ? `backup ${name}` : `copy ${how.copyOf}`,
    `doctor ${name}`,
  ]
  context.log(`next: ${steps.map((step) => `kedge ${step}`).join('; ')}`)
}

function* explained(
  dir: string,
  files: Files,
  { wishes, recipient, secrets }: Wanted,
  how: Writing,
  password: string | undefined,
): Generator<CommandLine> {
  const line = (command: string): CommandLine => ({ kind: 'command', command })
  yield line(`umask 077; mkdir -p ${quote(dirname(dir))} && mkdir ${quote(dir)}`)
  for (const { name, text } of files) yield line(`cat > ${quote(join(dir, name))} <<'END'\n${text}END`)
  const value = how.existing ? '"$password"' : '"$(gpg --gen-random --armor 2 30)"'
  const own = password ? [`printf '${password}=%s\\n' ${value}`] : []
  const lines = `{ ${[...own, ...Object.keys(secrets).map((key) => `printf '%s\\n' "${key}='…'"`)].join('; ')}; }`
  const at = (name: string) => quote(join(dir, name))
  if (wishes.secret === 'gpg') {
    const to = recipient === undefined ? '--symmetric' : `--encrypt --recipient ${quote(recipient)}`
    yield line(`${lines} | gpg ${to} --output ${at(secretFiles.gpg)}`)
  } else if (wishes.secret === 'credential')
    yield line(`${lines} | systemd-creds encrypt --name=kedge-${wishes.name} - ${at(secretFiles.credential)}`)
  else if (wishes.secret === 'file') yield line(`${lines} > ${at(secretFiles.file)}; chmod 0400 ${at(secretFiles.file)}`)
  else if (wishes.secret === 'command' && !how.existing && password) yield line(lines)
  if (how.copyOf !== undefined) yield line(`echo "add to COPY_TO in ${join(targetDir(how.copyOf), 'target.env')}: ${wishes.name}"`)
}
