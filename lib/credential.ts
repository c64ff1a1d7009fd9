// systemd's credentials: what it gave this unit, and files that systemd-creds seals to the machine.
import { access, constants } from 'node:fs/promises'
import { join } from 'node:path'
import { answer } from './child.ts'
import { callerEnv, callerVar } from './env.ts'
import { Failure } from './failure.ts'
import { fileTrouble, secretFiles } from './secretfile.ts'

const timeout = 60

/** The file that systemd gave the unit for a target; undefined outside of such a unit. */
export async function systemdGave(name: string): Promise<string | undefined> {
  const folder = callerVar('CREDENTIALS_DIRECTORY')
  if (!folder) return undefined
  for (const file of [join(folder, `kedge-${name}`), join(folder, secretFiles.file)]) {
    const there = await access(file).then(
      () => true,
      (error: NodeJS.ErrnoException) => error.code !== 'ENOENT',
    )
    if (there) return file
  }
  return undefined
}

/** Failure `auth` where the file was sealed by another machine, or for another target. */
export async function decryptCredential(file: string, name: string, signal?: AbortSignal): Promise<string> {
  await access(file, constants.R_OK).catch(fileTrouble(file))
  const command = ['systemd-creds', 'decrypt', `--name=kedge-${name}`, file, '-']
  const { status, stdout, stderr } = await answer(command, { env: callerEnv(), signal, timeout })
  if (status !== 0)
    throw new Failure('auth', `cannot open '${file}': ${lastLine(stderr)}`, { hint: 'only the machine that sealed it opens it, as root' })
  return stdout
}

/** The text sealed to this machine and this target's name. */
export async function encryptCredential(file: string, name: string, text: string, signal?: AbortSignal): Promise<string> {
  const command = ['systemd-creds', 'encrypt', `--name=kedge-${name}`, '-', '-']
  const { status, stdout, stderr } = await answer(command, { env: callerEnv(), input: text, signal, timeout })
  if (status !== 0) throw new Failure('auth', `cannot seal '${file}': ${lastLine(stderr)}`)
  return stdout
}

const lastLine = (stderr: string): string => stderr.trim().split('\n').pop() || 'it gave no reason'
