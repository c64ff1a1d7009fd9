// What a channel needs to know of a target: the keys of NOTIFY and its kin, from target.env and from the secrets, which win.
import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import type { Target } from '../contract.ts'
import { parseEnv } from '../env.ts'
import { Failure } from '../failure.ts'
import { parseDuration } from '../format.ts'
import { channels, keys, words } from '../keys.ts'
import { conceal } from '../log.ts'
import { configDir, targetsDir } from '../paths.ts'

export type ChannelName = (typeof channels)[number]
export type Values = Readonly<Record<string, string>>
export type Settings = {
  readonly target: string
  readonly env: Values
  /** Whether the secrets are in it. */
  readonly open: boolean
  readonly channels: readonly ChannelName[]
  /** What is told of: NOTIFY_ON. */
  readonly events: readonly string[]
  /** Seconds for one attempt. */
  readonly timeout: number
  readonly host: string
}

/** Keys that may stand in the secrets as well, or there only. */
const secretKeys = ['SMTP_URL', 'SMTP_PASSWORD', 'WEBHOOK_URL', 'WEBHOOK_TOKEN', 'PING_URL']
const defaultTimeout = 30

export function settingsOf(target: Pick<Target, 'name' | 'env'>, secrets: Values | undefined): Settings {
  const secret = Object.entries(secrets ?? {}).filter(([key]) => secretKeys.includes(key))
  const env: Record<string, string> = { ...target.env, ...Object.fromEntries(secret) }
  for (const key of ['SMTP_PASSWORD', 'WEBHOOK_TOKEN']) conceal(env[key] ?? '')
  for (const key of ['SMTP_URL', 'WEBHOOK_URL', 'PING_URL']) concealAddress(env[key] ?? '')
  const wanted = new Set(words(env.NOTIFY))
  return {
    target: target.name,
    env,
    open: secrets !== undefined,
    channels: channels.filter((name) => wanted.has(name)),
    events: words(env.NOTIFY_ON),
    timeout: parseDuration(env.NOTIFY_TIMEOUT ?? '') || defaultTimeout,
    host: hostname(),
  }
}

// Parts that are shorter are no tokens, and would blank out ordinary words in the logs.
const tokenLength = 16

/** Who knows the path of a web hook may post there: it is as secret as a password. */
function concealAddress(address: string): void {
  const url = URL.canParse(address) ? new URL(address) : undefined
  if (!url) return
  if (url.password) for (const text of [url.password, tryDecode(url.password)]) conceal(text)
  const path = `${url.pathname}${url.search}`
  const parts = [path, url.pathname, ...url.pathname.split('/'), ...url.searchParams.values()]
  for (const part of parts) if (part.length >= tokenLength) for (const text of [part, tryDecode(part)]) conceal(text)
}

/** A part of an address as it was meant; one with a stray percent sign as it is. */
export function tryDecode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch (error) {
    if (!(error instanceof URIError)) throw error
    return text
  }
}

/** The address of a service. Failure `config` where it is missing or none; no message holds its path. */
export function addressOf(key: 'SMTP_URL' | 'WEBHOOK_URL' | 'PING_URL', settings: Settings, schemes: readonly string[]): URL {
  const text = settings.env[key]
  if (!text) throw missing(key, settings)
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !schemes.includes(url.protocol) || !url.hostname)
    throw new Failure('config', `${key} is not an address that begins with ${schemes.map((scheme) => `${scheme}//`).join(' or ')}`)
  return url
}

export function missing(key: string, settings: Settings): Failure {
  if (settings.open) return new Failure('config', `${key} is not set`, { hint: `in target.env, or in the secrets of '${settings.target}'` })
  return new Failure('auth', `${key} is not in target.env, and the secrets of '${settings.target}' are not open`, {
    hint: 'what stands in target.env needs no secrets, and can tell that they do not open',
  })
}

/** An address as it may be printed: no user, no path. */
export const shownAddress = ({ protocol, host }: URL): string => `${protocol}//${host}`

/**
 * What can be known of the channels of a target that does not load, so that somebody is told of that: from defaults.env and
 * target.env, as far as each can be read and has no fault. Nothing secret is opened.
 */
export async function looseSettings(name: string): Promise<Settings> {
  const env: Record<string, string> = { NOTIFY_ON: keys.NOTIFY_ON.default }
  for (const file of [join(configDir(), 'defaults.env'), join(targetsDir(), name, 'target.env')]) {
    const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === undefined) throw error
      return '' // why it cannot be read is what is told
    })
    const { entries, faults } = parseEnv(text, file)
    if (faults.length === 0) for (const [key, { value }] of entries) env[key] = value
  }
  return settingsOf({ name, env }, undefined)
}

/** Whether the secrets may say where or how a channel sends: only then are they opened for a digest. */
export function mayNeedSecrets({ secret }: Pick<Target, 'secret'>, { channels, env }: Settings): boolean {
  const needs: Record<ChannelName, boolean> = {
    mail: !env.SMTP_URL || /\/\/[^/]*@/.test(env.SMTP_URL),
    webhook: true, // a token, which not every service wants
    ping: !env.PING_URL,
    command: false,
  }
  return secret !== 'none' && channels.some((name) => needs[name])
}

const addressKeys: Readonly<Record<ChannelName, readonly string[]>> = {
  mail: ['MAIL_TO', 'MAIL_FROM', 'SMTP_URL', 'SMTP_PASSWORD', 'SMTP_CA'],
  webhook: ['WEBHOOK_URL', 'WEBHOOK_AS', 'WEBHOOK_TOKEN'],
  ping: ['PING_URL'],
  command: ['NOTIFY_COMMAND'],
}

/** The same for targets whose messages go the same way. */
export function addressKey(channel: ChannelName, { env, target }: Settings): string {
  const own = channel === 'ping' && (env.PING_URL ?? '').includes('{target}') ? target : ''
  return JSON.stringify([channel, own, ...addressKeys[channel].map((key) => env[key] ?? '')])
}
