// The operator's own executable: the record as JSON on its stdin, what matters most in its environment. No shell reads any of it.
import { access, constants, stat } from 'node:fs/promises'
import { isAbsolute } from 'node:path'
import { answer } from '../child.ts'
import { callerEnv } from '../env.ts'
import { Failure } from '../failure.ts'
import { logFile } from '../ledger.ts'
import { stateDir } from '../paths.ts'
import { explained, quote } from '../shell.ts'
import type { How } from './attempts.ts'
import { type Notice, oneLine, scrub } from './notice.ts'
import { missing, type Settings } from './settings.ts'

/** Longer values are no message but would be an error: the environment has its limits. */
const valueLength = 8000

/** The environment that it gets of the notice. */
export function noticeEnv(notice: Notice): Record<string, string> {
  const { run, state, status, class: kind, message, start } = notice.record
  const isRun = notice.record.kind === 'run'
  const text = (value: unknown) =>
    String(value ?? '')
      .replaceAll('\0', '')
      .slice(0, valueLength)
  return {
    KEDGE_EVENT: notice.event,
    KEDGE_TARGET: notice.target,
    KEDGE_VERB: notice.verb,
    KEDGE_SUBJECT: text(notice.subject),
    ...(isRun && {
      KEDGE_RUN_ID: text(run),
      KEDGE_RUN_START: text(start),
      KEDGE_RUN_STATE: text(state),
      KEDGE_RUN_STATUS: text(status),
      KEDGE_RUN_CLASS: text(kind),
      KEDGE_RUN_MESSAGE: text(message),
      KEDGE_RUN_LOG: logFile(stateDir(notice.target), text(run)),
    }),
  }
}

/** Why a file is not one to be run, in words. */
export async function wrongCommand(file: string): Promise<string | undefined> {
  if (!isAbsolute(file)) return 'it is not an absolute path'
  try {
    const { mode, uid } = await stat(file)
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) return 'it is not a file'
    if (mode & 0o002) return 'everybody may write it'
    // What root runs, no user of the machine may choose.
    if (uid !== 0 && uid !== process.geteuid?.()) return `it belongs to user ${uid}: it must belong to root, or to who runs kedge`
    await access(file, constants.X_OK)
    return undefined
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === undefined) throw error
    return code === 'EACCES' ? 'it is not executable' : code === 'ENOENT' || code === 'ENOTDIR' ? 'no such file' : (error as Error).message
  }
}

const fileOf = (settings: Settings): string => {
  const file = settings.env.NOTIFY_COMMAND
  if (!file) throw missing('NOTIFY_COMMAND', { ...settings, open: true })
  return file
}

export const to = fileOf

/** One attempt: what it does besides telling is not known, so it is not repeated. */
export async function send(notice: Notice, settings: Settings, how: How): Promise<void> {
  const file = fileOf(settings)
  const wrong = await wrongCommand(file)
  if (wrong) throw new Failure('config', `cannot run '${file}': ${wrong}`)
  try {
    const { status, stderr } = await answer([file], {
      env: { ...callerEnv(), ...noticeEnv(notice) },
      cwd: '/',
      input: `${JSON.stringify(notice.record)}\n`,
      timeout: how.seconds,
      grace: 2,
      signal: how.signal,
    })
    const reason = oneLine(scrub(stderr.trim().split('\n').pop() ?? ''))
    if (status !== 0) throw new Failure('tool', `'${file}' ended with status ${status}${reason && `: ${reason}`}`)
  } catch (error) {
    if (how.signal.aborted || (error instanceof Failure && error.class === 'timeout'))
      throw new Failure('timeout', `'${file}' did not end within ${how.seconds} s`)
    throw error
  }
}

export const shown = (notice: Notice, settings: Settings): string =>
  `printf '%s\\n' ${quote(JSON.stringify(notice.record))} | ${explained([fileOf(settings)], noticeEnv(notice))}`
