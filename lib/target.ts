// A target's folder -> Target: read once, all faults reported at once, frozen.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, isAbsolute, join, normalize } from 'node:path'
import type { Origin, Provider, Target } from './contract.ts'
import { parseEnv } from './env.ts'
import { untrusted } from './executable.ts'
import { Failure } from './failure.ts'
import { parseDuration, parseSize } from './format.ts'
import { type Key, type KeyName, keys, passedThrough, words, wrongForm, wrongHost, wrongTag } from './keys.ts'
import { conceal } from './log.ts'
import { nearest } from './nearest.ts'
import { configDir, targetsDir } from './paths.ts'
import type { EngineName } from './rows.ts'
import { isSecretKey } from './secretkeys.ts'

/** What marks a store of the engine rsync, in which each target has a folder of its name. */
export const storeMark = 'kedge-store.json'

/** kedge:hold and these mark snapshots, and are no target's tag. */
const reserved = ['hold', 'names', 'partial', 'manual']

export function checkName(name: string): string {
  if (reserved.includes(name))
    throw new Failure('misuse', `not a target's name: '${name}' is a mark of snapshots`, { hint: 'take another name' })
  if (/^[A-Za-z0-9][\w.-]{0,63}$/.test(name) && !name.includes('..')) return name
  throw new Failure('misuse', `not a target's name: '${name.replace(/[\x00-\x1f\x7f]/g, '?')}'`, {
    hint: 'letters, digits, - _ and . only',
  })
}

export const targetDir = (name: string): string => join(targetsDir(), checkName(name))

/** The names of all targets, sorted. */
export async function targetNames(): Promise<string[]> {
  const entries = unlessMissing([], () => readdirSync(targetsDir(), { withFileTypes: true }))
  const names = entries
    .filter((entry) => !entry.name.startsWith('.') && (entry.isDirectory() || entry.isSymbolicLink()))
    .map(({ name }) => name)
  return names.sort()
}

function unlessMissing<T>(value: T, read: () => T): T {
  try {
    return read()
  } catch (thrown) {
    const error = thrown as NodeJS.ErrnoException
    if (error.code === 'ENOENT') return value
    if (error.code === 'ENOTDIR' || error.code === 'EACCES')
      throw new Failure(error.code === 'EACCES' ? 'permission' : 'config', `cannot read '${error.path}': ${error.message}`, {
        cause: error,
      })
    throw error
  }
}

// Small files, one after the other, before anything else is done: asynchronous calls would only add thread hops to every start.
function readOptional(file: string): string | undefined {
  try {
    const { mode, uid } = statSync(file)
    // It says what is executed: a user of the machine must not say it for root.
    if (uid !== 0 && uid !== process.geteuid?.())
      throw new Failure('config', `refusing '${file}': it belongs to user ${uid}`, { hint: 'it must belong to root, or to who runs kedge' })
    if (mode & 0o002) throw new Failure('config', `refusing '${file}': everybody may write it`, { hint: `chmod o-w '${file}'` })
    const bytes = readFileSync(file)
    const text = bytes.toString('utf8')
    if (Buffer.compare(Buffer.from(text), bytes) !== 0) throw new Failure('config', `cannot read '${file}': it is not UTF-8`)
    return text
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return undefined
    if (code === 'ENOTDIR' || code === 'EISDIR')
      throw new Failure('config', `cannot read '${file}': ${(error as Error).message}`, { cause: error })
    if (code === 'EACCES')
      throw new Failure('permission', `cannot read '${file}': permission denied`, { hint: 'run as the user who owns it', cause: error })
    throw error
  }
}

/** A target by name; `dir` for one that is not in its place yet. Failure 'config' lists every fault; 'misuse' when there is none of that name, with the nearest. */
export async function loadTarget(name: string, dir = targetDir(name)): Promise<Target> {
  const own = join(dir, 'target.env')
  const texts = [
    { file: join(configDir(), 'defaults.env'), text: readOptional(join(configDir(), 'defaults.env')) },
    { file: own, text: readOptional(own) },
  ]
  if (texts[1]?.text === undefined) {
    const names = await targetNames()
    if (names.includes(name)) throw new Failure('config', `cannot load target '${name}': no '${own}'`)
    const like = nearest(name, names)
    throw new Failure('misuse', `no target '${name}'`, { hint: like ? `did you mean '${like}'?` : `kedge new ${name} makes one` })
  }
  const faults: string[] = []
  const env: Record<string, string> = {}
  const origin: Record<string, Origin> = {}
  for (const { file, text } of texts) {
    const parsed = parseEnv(text ?? '', file)
    for (const fault of parsed.faults) faults.push(`${fault.file}:${fault.line}:${fault.column}: ${fault.message}`)
    const secrets = [...parsed.entries].filter(([key, { value }]) => isSecretKey(key) && value !== '')
    for (const [, { value }] of secrets) conceal(value)
    if (secrets.length > 0 && statSync(file).mode & 0o077)
      faults.push(
        `${file}: ${secrets.map(([key]) => key).join(', ')}: a secret in a file that others can read: chmod 0600, or put it into the secrets (SECRET=)`,
      )
    for (const [key, { value, line }] of parsed.entries) {
      env[key] = value
      origin[key] = { file, line }
    }
  }
  const engine = (env.ENGINE || keys.ENGINE.default) as EngineName
  faults.push(...(await settingFaults(env, origin, engine, own)))
  // What the house says for targets of another engine is none of this one's settings.
  for (const key of Object.keys(env)) {
    if (isFor(engine, key, env)) continue
    delete env[key]
    delete origin[key]
  }
  for (const [key, { default: value }] of Object.entries(keys) as [KeyName, { default?: string }][])
    if (value !== undefined && isFor(engine, key, env)) env[key] ??= value
  const listed = readPaths(join(dir, 'paths'))
  const streams = readStreams(join(dir, 'streams'))
  const { hooksOf } = await import('./hook.ts')
  const hooks = hooksOf(dir)
  faults.push(...listed.faults, ...streams.faults, ...hooks.faults)
  if (engine === 'rsync' && name === storeMark)
    faults.push(`${own}: a store of rsync has a file '${storeMark}', and no folder of that name`)
  if (faults.length > 0) throw new Failure('config', `target '${name}' is not valid:\n  ${faults.join('\n  ')}`)
  const excludes = []
  for (const file of [join(configDir(), 'exclude'), join(dir, 'exclude')]) if (readOptional(file) !== undefined) excludes.push(file)
  return Object.freeze({
    name,
    engine,
    dir,
    env: Object.freeze(env),
    origin: Object.freeze(origin),
    paths: Object.freeze(listed.paths),
    excludes: Object.freeze(excludes),
    streams: Object.freeze(streams.found),
    hooks: Object.freeze(hooks.found),
    secret: (env.SECRET || 'none') as Provider,
  })
}

/** Whether an engine's targets read a setting. */
function isFor(engine: EngineName, key: string, env: Readonly<Record<string, string>>): boolean {
  if (!Object.hasOwn(keys, key)) return passedThrough[engine]?.test(key) || words(env.PASS_ENV).includes(key)
  const { engine: only }: Key = keys[key as KeyName]
  return only === undefined || only === engine
}

async function settingFaults(env: Record<string, string>, origin: Record<string, Origin>, engine: string, own: string): Promise<string[]> {
  const faults: string[] = []
  const fault = (key: string, message: string) => faults.push(`${origin[key]?.file}:${origin[key]?.line}: ${key}: ${message}`)
  const passed = engine in passedThrough ? passedThrough[engine as EngineName] : undefined
  for (const [key, value] of Object.entries(env)) {
    const known = Object.hasOwn(keys, key) ? keys[key as KeyName] : undefined
    if (!known) {
      if (passed?.test(key)) {
        if (key === 'RESTIC_PASSWORD') fault(key, "a secret in a plain file: put it into the target's secrets (SECRET=)")
        if (/_REPOSITORY$/.test(key) && /\/\/[^/@:]*:[^/@]*@/.test(value)) fault(key, plainPassword(value))
        continue
      }
      if (words(env.PASS_ENV).includes(key)) continue
      // A default of the house may be meant for targets of another engine; of an engine that is none nothing can be said.
      if ((origin[key]?.file !== own || !passed) && Object.values(passedThrough).some((of) => of.test(key))) continue
      const like = nearest(key, Object.keys(keys))
      fault(key, `unknown key${like ? `, did you mean ${like}?` : ''}`)
      continue
    }
    const only = 'engine' in known ? known.engine : undefined
    if (only && only !== engine && passed && origin[key]?.file === own && value !== '') {
      fault(key, `only the engine ${only} reads it, and this one is ${engine}`)
      continue
    }
    const wrong =
      wrongForm(known.form, value, { duration: parseDuration, size: parseSize }) ?? (value && (await wrongRule(known.form, value)))
    if (wrong) fault(key, `${wrong}: '${value}'`)
    if (key === 'SMTP_URL' && /\/\/[^/@:]*:[^/@]*@/.test(value))
      fault(key, 'a password in a plain address: put SMTP_PASSWORD into the secrets')
    const allowed: readonly string[] | undefined = 'of' in known ? known.of : undefined
    for (const word of allowed ? words(value) : []) if (!allowed?.includes(word)) fault(key, `'${word}' is none of ${allowed?.join(', ')}`)
  }
  for (const tag of words(env.TAGS)) {
    const wrong = wrongTag(tag)
    if (wrong) fault('TAGS', `${wrong}: '${tag}'`)
  }
  if (Object.keys(env).some((key) => key.startsWith('KEEP_'))) {
    const { parseKeep } = await import('./keeprules.ts')
    for (const { key, message } of parseKeep(env).faults) fault(key, message)
  }
  if (env.SECRET === 'command' && !env.SECRET_COMMAND) fault('SECRET', "'command' needs SECRET_COMMAND")
  for (const key of ['STORE', 'SSH_KEY']) if (env[key] && !isAbsolute(env[key])) fault(key, `not an absolute path: '${env[key]}'`)
  const host = env.SOURCE_HOST && wrongHost(env.SOURCE_HOST)
  if (host) fault('SOURCE_HOST', `${host}: '${env.SOURCE_HOST}'`)
  if (env.CANARY && !isAbsolute(env.CANARY)) fault('CANARY', `not an absolute path: '${env.CANARY}'`)
  return faults
}

const plainPassword = (address: string): string =>
  `a password in a plain address${address.startsWith('rest:') ? ': use RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD in the secrets' : ''}`

async function wrongRule(form: string, value: string): Promise<string | undefined> {
  if (form !== 'cron' && form !== 'zone') return undefined
  const { validate, validZone } = await import('./schedule.ts')
  if (form === 'cron') return await validate(value)
  return validZone(value) ? undefined : 'not a time zone'
}

function readPaths(file: string): { paths: string[]; faults: string[] } {
  const text = readOptional(file) ?? ''
  const paths: string[] = []
  const faults: string[] = []
  text.split('\n').forEach((line, index) => {
    if (line === '' || line.startsWith('#')) return
    if (!line.startsWith('/')) faults.push(`${file}:${index + 1}: not an absolute path: '${line}'`)
    else if (line.endsWith('\r')) faults.push(`${file}:${index + 1}: the line ends in a carriage return`)
    else paths.push(line === '/' ? line : normalize(line).replace(/\/+$/, ''))
  })
  return { paths: [...new Set(paths)], faults }
}

function readStreams(dir: string): { found: { name: string; file: string }[]; faults: string[] } {
  const names = unlessMissing<string[]>([], () => readdirSync(dir))
  const found: { name: string; file: string }[] = []
  const faults: string[] = []
  for (const file of names
    .filter((name) => !name.startsWith('.') && !name.endsWith('~'))
    .sort()
    .map((name) => join(dir, name))) {
    const wrong = untrusted(file)
    if (wrong) faults.push(`${file}: ${wrong}`)
    else found.push({ name: basename(file), file })
  }
  return { found, faults }
}

/** The tags by which a target's snapshots are known. */
export const targetTags = (target: Target): string[] => {
  const names = words(target.env.SNAPSHOTS_OF)
  return (names.length > 0 ? names : [target.name]).map((name) => `kedge:${name}`)
}

/** A target without sources of its own that holds the snapshots of others. */
export const isSecondStore = ({ name, env, paths, streams }: Target): boolean => {
  const names = words(env.SNAPSHOTS_OF)
  return paths.length + streams.length === 0 && names.length > 0 && !names.includes(name)
}

/** The time zone of a target's schedules and keep rules; 'local' where it names none. */
export const zoneOf = (target: Target): string => target.env.TZ || 'local'
