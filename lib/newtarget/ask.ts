// What a new target is to be: from the options of `kedge new`, and on a terminal by questions for what they leave open.
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Context, Provider } from '../contract.ts'
import { callerVar, parseEnv } from '../env.ts'
import { Failure } from '../failure.ts'
import { words } from '../keys.ts'
import * as plan from '../newtarget.ts'
import { configDir } from '../paths.ts'
import { credentialsOf, isSecretKey } from '../secretkeys.ts'
import { loadTarget } from '../target.ts'

export type Given = {
  readonly path: readonly string[]
  readonly repo: string | undefined
  readonly exclude: readonly string[]
  readonly keep: string | undefined
  readonly schedule: string | undefined
  readonly secret: string | undefined
  readonly recipient: string | undefined
  readonly 'copy-of': string | undefined
  readonly set: readonly string[]
  readonly existing: boolean
  readonly 'password-fd': number | undefined
  readonly 'secrets-fd': number | undefined
}
export type Wanted = {
  readonly wishes: plan.Wishes
  readonly recipient: string | undefined
  readonly secrets: Readonly<Record<string, string>>
}

const misuse = (message: string, hint?: string) => new Failure('misuse', message, { hint })

/** Everything that is needed to write the target. Failure 'misuse' names the option that is missing or wrong. */
export async function wantedTarget(name: string, given: Given, context: Context): Promise<Wanted> {
  const house = await houseSettings()
  const set = given.set.map(plan.settingOf)
  checkTogether(given)
  const second = given['copy-of'] === undefined ? undefined : await loadTarget(given['copy-of'])
  // Questions come where something is needed; what has a default is asked for only then.
  const ask = given.repo === undefined || (given.path.length === 0 && !second) ? context.ask : undefined
  const cwd = process.cwd()
  const paths = second ? [] : given.path.length > 0 ? given.path : await askList(ask, 'path', 'a folder or file to save')
  const repository = plan.repositoryOf(
    given.repo ?? (await askFor(ask, 'repo', 'the repository (a folder, sftp:USER@HOST:PATH, s3:…, rest:https://…)')),
    cwd,
  )
  const excludes = given.exclude.length === 0 && ask && !second ? await askMore(ask, 'a pattern to leave out') : given.exclude
  const keep = given.keep ?? (hasKeep(house, set) ? '' : await askDefault(ask, 'what prune keeps', plan.defaultKeep))
  const schedule =
    given.schedule ??
    (second || house.SCHEDULE_BACKUP || set.some(([key]) => key === 'SCHEDULE_BACKUP')
      ? ''
      : await askDefault(ask, 'when a backup is due (cron)', plan.defaultSchedule))
  if (schedule) await checkSchedule(schedule)
  const { secret, recipient, command } = await provider(given, set, house, context, ask)
  const secrets = await givenSecrets(given['secrets-fd'], credentialsOf(repository), secret === 'none' ? undefined : ask)
  const entries: [string, string][] = [
    ...Object.entries(keep === '' ? {} : plan.keepSettings(keep)),
    ...(schedule ? [['SCHEDULE_BACKUP', schedule] as [string, string]] : []),
    ...(command ? [['SECRET_COMMAND', command] as [string, string]] : []),
    ...set,
  ]
  const twice = entries.find(([key], i) => entries.findIndex(([other]) => other === key) !== i)
  if (twice) throw misuse(`option '--set': ${twice[0]} is given twice`)
  const wishes = {
    name,
    paths: [...new Set(paths.map((path) => plan.pathOf(path, cwd)))],
    excludes,
    repository,
    settings: Object.fromEntries(entries),
    secret,
    snapshotsOf: second ? namesOf(second.name, second.env.SNAPSHOTS_OF) : [],
  }
  return { wishes, recipient, secrets }
}

const namesOf = (name: string, snapshotsOf: string | undefined): string[] => (words(snapshotsOf).length > 0 ? words(snapshotsOf) : [name])

const hasKeep = (house: Readonly<Record<string, string>>, set: readonly (readonly [string, string])[]) =>
  [...Object.keys(house), ...set.map(([key]) => key)].some((key) => key.startsWith('KEEP_') && key !== 'KEEP_MIN')

/** What defaults.env says already need not be written again; its faults are named when the target is loaded. */
async function houseSettings(): Promise<Record<string, string>> {
  const file = join(configDir(), 'defaults.env')
  try {
    const { entries } = parseEnv(await readFile(file, 'utf8'), file)
    return Object.fromEntries([...entries].map(([key, { value }]) => [key, value]))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw error
  }
}

function checkTogether(given: Given): void {
  if (given['copy-of'] !== undefined) {
    const wrong =
      given.path.length > 0 ? 'path' : given.exclude.length > 0 ? 'exclude' : given.schedule !== undefined ? 'schedule' : undefined
    if (wrong) throw misuse(`option '--${wrong}' does not go with --copy-of`, 'a second store saves nothing by itself: copy fills it')
  }
  if (given['password-fd'] !== undefined && !given.existing) throw misuse("option '--password-fd' needs --existing")
  if (given.secret === 'none' && (given.existing || given['secrets-fd'] !== undefined))
    throw misuse(
      "option '--secret none' keeps no secrets",
      'RESTIC_PASSWORD_FILE or RESTIC_PASSWORD_COMMAND, given with --set, says where the password is',
    )
  if (given.recipient !== undefined && given.secret !== undefined && given.secret !== 'gpg')
    throw misuse("option '--recipient' is for --secret gpg")
}

async function checkSchedule(schedule: string): Promise<void> {
  const { validate } = await import('../schedule.ts')
  const wrong = await validate(schedule)
  if (wrong) throw misuse(`option '--schedule': ${wrong}: '${schedule}'`)
}

const providers = ['gpg', 'command', 'credential', 'file', 'none']
type Ask = Context['ask']

async function provider(
  given: Given,
  set: readonly (readonly [string, string])[],
  house: Readonly<Record<string, string>>,
  context: Context,
  ask: Ask,
): Promise<{ secret: Provider; recipient: string | undefined; command: string | undefined }> {
  const passphrase = context.passphraseFd !== undefined || callerVar('KEDGE_PASSPHRASE_FD')
  const obvious = given.secret ?? house.SECRET ?? (given.recipient !== undefined || passphrase ? 'gpg' : undefined)
  const secret = obvious ?? (await askDefault(ask ?? context.ask, `where its secrets are kept: ${providers.join(', ')}`, 'gpg', 'secret'))
  if (!providers.includes(secret)) throw misuse(`option '--secret': not one of ${providers.join(', ')}: '${secret}'`)
  const keys = set.map(([key]) => key)
  if (secret === 'none' && !keys.some((key) => /^RESTIC_PASSWORD_(FILE|COMMAND)$/.test(key)))
    throw misuse("option '--secret none' needs --set RESTIC_PASSWORD_FILE=FILE or --set RESTIC_PASSWORD_COMMAND=COMMAND")
  const told = keys.includes('SECRET_COMMAND') || house.SECRET_COMMAND
  const command =
    secret === 'command' && !told ? await askFor(ask, 'set SECRET_COMMAND=COMMAND', 'the command that prints the secrets') : undefined
  const asked = secret === 'gpg' && given.recipient === undefined && !passphrase ? ask : undefined
  const recipient = given.recipient ?? ((await asked?.('the gpg key to encrypt to [none: a passphrase]:'))?.trim() || undefined)
  return { secret: secret as Provider, recipient, command }
}

async function givenSecrets(fd: number | undefined, wanted: readonly string[], ask: Ask): Promise<Record<string, string>> {
  if (fd !== undefined) {
    const { entries, faults } = parseEnv(textOf(fd), `descriptor ${fd}`)
    const [fault] = faults
    if (fault) throw misuse(`option '--secrets-fd': ${fault.file}:${fault.line}:${fault.column}: ${fault.message}`)
    return Object.fromEntries([...entries].map(([key, { value }]) => [key, value]))
  }
  const secrets: Record<string, string> = {}
  for (const key of ask ? wanted : []) {
    const value = await ask?.(`${key} [none]:`, { hidden: isSecretKey(key) })
    if (value) secrets[key] = value
  }
  return secrets
}

function textOf(fd: number): string {
  try {
    return readFileSync(fd, 'utf8')
  } catch (error) {
    throw new Failure('misuse', `cannot read the secrets from descriptor ${fd}: ${(error as Error).message}`, { cause: error })
  }
}

// --- questions

const missing = (option: string) => misuse(`option missing: --${option}`, 'without a terminal nobody can be asked')

async function askFor(ask: Ask, option: string, question: string): Promise<string> {
  if (!ask) throw missing(option)
  for (;;) {
    const text = (await ask(`${question}:`)).trim()
    if (text) return text
  }
}

/** `option`: named where nobody can be asked; without it the default is taken then. */
async function askDefault(ask: Ask, question: string, value: string, option?: string): Promise<string> {
  if (!ask && option) throw missing(option)
  return (await ask?.(`${question} [${value}]:`))?.trim() || value
}

async function askList(ask: Ask, option: string, question: string): Promise<string[]> {
  const first = await askFor(ask, option, question)
  return ask ? [first, ...(await askMore(ask, question.replace(/^a /, 'another ')))] : [first]
}

async function askMore(ask: NonNullable<Ask>, question: string): Promise<string[]> {
  const found: string[] = []
  for (;;) {
    const text = (await ask(`${question} [none]:`)).trim()
    if (!text) return found
    found.push(text)
  }
}
