// What a new target is to be: from the options of `kedge new`, and on a terminal by questions for what they leave open.
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Context, Provider } from '../contract.ts'
import { engineNames, traitsOf } from '../engine.ts'
import { callerVar, parseEnv } from '../env.ts'
import { Failure } from '../failure.ts'
import { keys, words, wrongHost } from '../keys.ts'
import * as plan from '../newtarget.ts'
import { configDir } from '../paths.ts'
import type { EngineName } from '../rows.ts'
import { hasFile } from '../secretfile.ts'
import { isSecretKey } from '../secretkeys.ts'
import { loadTarget, storeMark } from '../target.ts'
import type { Traits } from '../traits.ts'

export type Given = {
  readonly path: readonly string[]
  readonly engine: string | undefined
  readonly repo: string | undefined
  readonly store: string | undefined
  readonly 'source-host': string | undefined
  readonly 'source-port': number | undefined
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
  const placed = given.repo !== undefined || given.store !== undefined
  const ask = !placed || (given.path.length === 0 && !second) ? context.ask : undefined
  const cwd = process.cwd()
  const engine = await engineOf(given, second?.engine ?? house.ENGINE, placed || second ? undefined : ask)
  const traits = await traitsOf(engine)
  if (engine === 'rsync' && name === storeMark)
    throw misuse(`not a name for a target of rsync: '${name}' marks the store`, 'take another name')
  const source = await sourceOf(given, engine, placed || second ? undefined : ask)
  const paths = second ? [] : given.path.length > 0 ? given.path : await askList(ask, 'path', 'a folder or file to save')
  const { option, question, settings } = traits.place
  const place = { ...settings(given[option] ?? (await askFor(ask, option, question)), cwd), ...source }
  const excludes = given.exclude.length === 0 && ask && !second ? await askMore(ask, 'a pattern to leave out') : given.exclude
  const keep = given.keep ?? (hasKeep(house, set) ? '' : await askDefault(ask, 'what prune keeps', plan.defaultKeep))
  const schedule =
    given.schedule ??
    (second || house.SCHEDULE_BACKUP || set.some(([key]) => key === 'SCHEDULE_BACKUP')
      ? ''
      : await askDefault(ask, 'when a backup is due (cron)', plan.defaultSchedule))
  if (schedule) await checkSchedule(schedule)
  const { secret, recipient, command } = await provider(given, set, house, traits, context, ask)
  const { unset } = traits.lacking(place)
  const secrets = await givenSecrets(given['secrets-fd'], unset, secret === 'none' ? undefined : ask)
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
    paths: [...new Set(paths.map((path) => plan.pathOf(path, source.SOURCE_HOST ? undefined : cwd)))],
    excludes,
    engine,
    place,
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

/** What is said, else what the option that says where the store is belongs to, else the default of the house. */
async function engineOf(given: Given, usual: string | undefined, ask: Ask): Promise<EngineName> {
  const all = await Promise.all(engineNames.map(async (name) => [name, (await traitsOf(name)).place.option] as const))
  const said = given.engine ?? all.find(([, option]) => given[option] !== undefined)?.[0]
  const fallback = usual || keys.ENGINE.default
  const name =
    said ?? (await askDefault(ask, 'the engine: restic (an encrypted repository), rsync (plain folders with hard links)', fallback))
  const engine = engineNames.find((each) => each === name)
  if (!engine) throw misuse(`option '--engine': not one of ${engineNames.join(', ')}: '${name}'`)
  const other = all.find(([each, option]) => each !== engine && given[option] !== undefined)
  if (other) throw misuse(`option '--${other[1]}' is for --engine ${other[0]}`)
  return engine
}

/** The settings that say whose paths are saved: a host that is reached over SSH. */
async function sourceOf(given: Given, engine: EngineName, ask: Ask): Promise<Record<string, string>> {
  const { 'source-host': host, 'source-port': port } = given
  if (engine !== keys.SOURCE_HOST.engine) {
    if (host === undefined && port === undefined) return {}
    throw misuse(`option '--source-${host === undefined ? 'port' : 'host'}' is for --engine ${keys.SOURCE_HOST.engine}`)
  }
  if (port !== undefined && host === undefined) throw misuse("option '--source-port' needs --source-host")
  const found = host ?? (await ask?.('the host whose paths are saved, as [USER@]HOST [this machine]:'))?.trim()
  const wrong = found && wrongHost(found)
  if (wrong) throw misuse(`option '--source-host': ${wrong}: '${found}'`, '--source-port gives a port, --path the paths on that host')
  return { ...(found && { SOURCE_HOST: found }), ...(port !== undefined && { SOURCE_PORT: String(port) }) }
}

function checkTogether(given: Given): void {
  if (given['copy-of'] !== undefined) {
    const wrong = (['path', 'exclude', 'schedule', 'source-host', 'source-port'] as const).find((option) => {
      const value = given[option]
      return Array.isArray(value) ? value.length > 0 : value !== undefined
    })
    if (wrong) throw misuse(`option '--${wrong}' does not go with --copy-of`, 'a second store saves nothing by itself: copy fills it')
  }
  if (given['password-fd'] !== undefined && !given.existing) throw misuse("option '--password-fd' needs --existing")
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
  { password, lacking }: Traits,
  context: Context,
  ask: Ask,
): Promise<{ secret: Provider; recipient: string | undefined; command: string | undefined }> {
  const passphrase = context.passphraseFd !== undefined || callerVar('KEDGE_PASSPHRASE_FD')
  const nothing = !password && given['secrets-fd'] === undefined && given.recipient === undefined
  const usual = nothing ? 'none' : (house.SECRET ?? (given.recipient !== undefined || passphrase ? 'gpg' : undefined))
  const secret =
    given.secret ?? usual ?? (await askDefault(ask ?? context.ask, `where its secrets are kept: ${providers.join(', ')}`, 'gpg', 'secret'))
  if (!providers.includes(secret)) throw misuse(`option '--secret': not one of ${providers.join(', ')}: '${secret}'`)
  const elsewhere = `${password}_FILE or ${password}_COMMAND, given with --set, says where the password is`
  if (secret === 'none' && ((password && given.existing) || given['secrets-fd'] !== undefined))
    throw misuse("option '--secret none' keeps no secrets", password && elsewhere)
  if (secret === 'none' && lacking(Object.fromEntries(set)).missing.length > 0)
    throw misuse(`option '--secret none' needs --set ${password}_FILE=FILE or --set ${password}_COMMAND=COMMAND`)
  if (!password && given['password-fd'] !== undefined) throw misuse("option '--password-fd': the store has no password")
  if (!password && hasFile(secret as Provider) && given['secrets-fd'] === undefined)
    throw misuse(`option '--secret ${secret}' needs --secrets-fd`, 'the store has no password: there is nothing else to keep')
  const told = set.some(([key]) => key === 'SECRET_COMMAND') || house.SECRET_COMMAND
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
