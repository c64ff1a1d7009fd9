// Whether somebody would be told: the channels of a target, and how they did when they were last tried. Nothing is sent.
import type { Target } from '../contract.ts'
import { Failure } from '../failure.ts'
import { channelOf } from '../notify/channels.ts'
import { wrongCommand } from '../notify/command.ts'
import { findSendmail } from '../notify/mail.ts'
import { readMemory } from '../notify/memory.ts'
import { mayNeedSecrets, type Settings, settingsOf } from '../notify/settings.ts'
import { blocked, type Found, ok, warning } from './finding.ts'
import { installedUnit, mayWrite } from './unit.ts'

/** `secrets`: undefined where they were not opened. */
export async function* notifyFindings(target: Target, secrets: Readonly<Record<string, string>> | undefined): AsyncGenerator<Found> {
  const settings = settingsOf(target, secrets)
  if (settings.channels.length === 0) {
    if (Object.keys(target.env).some((key) => key.startsWith('SCHEDULE_') && target.origin[key] && target.env[key]))
      yield warning('notify', 'it runs by itself, and nobody is told when it fails', 'NOTIFY=mail in target.env or defaults.env')
    return
  }
  const { channels } = await readMemory(target.name)
  for (const name of settings.channels) {
    const check = `notify ${name}`
    const wrong = await wrongSettings(name, settings)
    const failed = channels[name]?.failed
    if (wrong) yield blocked(check, wrong.message, wrong.hint, wrong.class)
    else if (failed) yield warning(check, `it fails since ${failed.at}: ${failed.message}`, `kedge notify test ${target.name} --on ${name}`)
    else {
      const last = channels[name]?.ok
      yield ok(check, `to ${(await channelOf(name)).to(settings)}${last ? `, last of use ${last}` : ', never used'}`)
    }
  }
  if (settings.channels.includes('mail') && !settings.env.SMTP_URL) yield* sandboxedMail(target.name)
  // The one failure that a reboot brings is that secrets do not open: a channel that lies in them cannot tell of it.
  if (!settings.channels.some((name) => works(target, name, settings)))
    yield warning(
      'notify',
      'every channel needs the secrets: when they do not open, nobody is told',
      'a channel of which all stands in target.env, such as the local sendmail',
    )
}

/** sendmail writes its queue in /var/spool, as the mail system's own user: the sandbox of the units allows neither. */
async function* sandboxedMail(target: string): AsyncGenerator<Found> {
  const unit = await installedUnit('backup', target)
  if (unit && !mayWrite(unit.sandbox, '/var/spool'))
    yield warning(
      'notify mail',
      `'${unit.file}' keeps sendmail from writing its queue`,
      'SMTP_URL=smtp://localhost, or another mail server',
    )
}

async function wrongSettings(name: Settings['channels'][number], settings: Settings): Promise<Failure | undefined> {
  try {
    const channel = await channelOf(name)
    channel.to(settings)
    if (name === 'command') {
      const file = channel.to(settings)
      const wrong = wrongCommand(file)
      return wrong === undefined ? undefined : new Failure('config', `cannot run '${file}': ${wrong}`)
    }
    if (name === 'mail' && !settings.env.SMTP_URL && !findSendmail())
      return new Failure('tool', 'no sendmail on this machine', { hint: 'install a mail system, or set SMTP_URL' })
    return undefined
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    return error
  }
}

/** Whether a channel can do without the secrets. A web hook may want a token of them; where it has none, its address is enough. */
function works(target: Target, name: Settings['channels'][number], settings: Settings): boolean {
  if (name === 'webhook') return Boolean(target.env.WEBHOOK_URL) && !settings.env.WEBHOOK_TOKEN
  if (name === 'mail' && !settings.env.SMTP_URL) return true
  return !mayNeedSecrets(target, { ...settings, channels: [name], env: target.env })
}
