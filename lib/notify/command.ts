// The operator's own executable: the record as JSON on its stdin, what matters most in its environment. No shell reads any of it.
import { isAbsolute } from 'node:path'
import { answer } from '../child.ts'
import { callerEnv, variableText } from '../env.ts'
import { untrusted } from '../executable.ts'
import { Failure } from '../failure.ts'
import { logFile } from '../ledger.ts'
import { stateDir } from '../paths.ts'
import { explained, quote } from '../shell.ts'
import type { How } from './attempts.ts'
import { type Notice, oneLine, scrub } from './notice.ts'
import { missing, type Settings } from './settings.ts'

/** The environment that it gets of the notice. */
function noticeEnv(notice: Notice): Record<string, string> {
  const { run, state, status, class: kind, message, start } = notice.record
  const isRun = notice.record.kind === 'run'
  const text = (value: unknown) => variableText(String(value ?? ''))
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
export const wrongCommand = (file: string): string | undefined => (isAbsolute(file) ? untrusted(file) : 'it is not an absolute path')

const fileOf = (settings: Settings): string => {
  const file = settings.env.NOTIFY_COMMAND
  if (!file) throw missing('NOTIFY_COMMAND', { ...settings, open: true })
  return file
}

export const to = fileOf

/** One attempt: what it does besides telling is not known, so it is not repeated. */
export async function send(notice: Notice, settings: Settings, how: How): Promise<void> {
  const file = fileOf(settings)
  const wrong = wrongCommand(file)
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
