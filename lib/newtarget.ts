// What `kedge new` writes into a target's folder, from what the operator wants. Pure.
import { resolve } from 'node:path'
import type { Provider } from './contract.ts'
import { formatEnv } from './env.ts'
import { Failure } from './failure.ts'
import type { EngineName } from './rows.ts'
import { isSecretKey } from './secretkeys.ts'

export type Wishes = {
  readonly name: string
  readonly paths: readonly string[]
  readonly excludes: readonly string[]
  readonly engine: EngineName
  /** The settings that say where the store is, and whose paths are saved. */
  readonly place: Readonly<Record<string, string>>
  /** KEEP_* and SCHEDULE_BACKUP, and what --set gave; those of the house's defaults are not among them. */
  readonly settings: Readonly<Record<string, string>>
  readonly secret: Provider
  /** Names whose snapshots the store is to hold: it is a second store. */
  readonly snapshotsOf: readonly string[]
}
export type PlannedFile = { readonly name: string; readonly text: string }

export const defaultKeep = 'daily=7,weekly=5,monthly=12,yearly=3'
export const defaultSchedule = 'H H(1-5) * * *'

const rules =
  'last hourly daily weekly monthly yearly within within-hourly within-daily within-weekly within-monthly within-yearly min'.split(' ')
const misuse = (message: string, hint?: string) => new Failure('misuse', message, { hint })

/** 'daily=7,within=30d' -> the settings KEEP_DAILY and KEEP_WITHIN. Failure 'misuse' names the part that is wrong. */
export function keepSettings(text: string): Record<string, string> {
  const settings: Record<string, string> = {}
  for (const part of text.split(',').map((each) => each.trim())) {
    const [, rule = '', value = ''] = /^([a-z-]+)=(\w+)$/.exec(part) ?? []
    if (!rules.includes(rule))
      throw misuse(`option '--keep': not a rule: '${part}'`, `the rules: ${rules.join(', ')}; as in ${defaultKeep}`)
    const key = `KEEP_${rule.toUpperCase().replace('-', '_')}`
    if (key in settings) throw misuse(`option '--keep': '${rule}' is given twice`)
    settings[key] = value
  }
  return settings
}

/** 'KEY=VALUE' of --set -> its parts. Failure 'misuse' for a secret, which would stand in argv. */
export function settingOf(text: string): [string, string] {
  const [, key, value] = /^([A-Za-z_]\w*)=([\s\S]*)$/.exec(text) ?? []
  if (key === undefined || value === undefined) throw misuse(`option '--set': not KEY=VALUE: '${text.split('=')[0]}'`)
  if (isSecretKey(key))
    throw misuse(`option '--set': refusing ${key}: others see the arguments of a process`, '--secrets-fd N takes secrets from a descriptor')
  return [key, value]
}

/** A path to save: absolute, one line. `cwd`: from which it counts; undefined: it is another host's. */
export function pathOf(text: string, cwd: string | undefined): string {
  if (text === '' || /[\0\n\r]/.test(text)) throw misuse(`cannot save '${text}': a name with a line end does not fit in the file paths`)
  if (cwd === undefined && !text.startsWith('/')) throw misuse(`not an absolute path: '${text}'`, 'it is one of another host')
  return resolve(cwd ?? '/', text)
}

/** Whether a path lies in one of the folders, or is it. */
export const liesIn = (path: string, folders: readonly string[]): string | undefined =>
  folders.find((folder) => path === folder || path.startsWith(folder === '/' ? '/' : `${folder}/`))

/** What has an option of its own is not given with --set. */
const options = {
  ENGINE: 'engine',
  RESTIC_REPOSITORY: 'repo',
  STORE: 'store',
  SOURCE_HOST: 'source-host',
  SOURCE_PORT: 'source-port',
  SECRET: 'secret',
  SNAPSHOTS_OF: 'copy-of',
}

/** The plain files of the folder. Failure 'config' for a setting that no file can hold. */
export function planTarget(wishes: Wishes): PlannedFile[] {
  const { name, paths, excludes, settings } = wishes
  for (const pattern of excludes) if (/[\0\n\r]/.test(pattern)) throw misuse(`not a pattern of one line: '${pattern}'`)
  const files = [{ name: 'target.env', text: envText(wishes) }]
  const list = (file: string, comment: string, lines: readonly string[]) =>
    files.push({ name: file, text: `# ${comment}\n${lines.map((line) => `${line}\n`).join('')}` })
  if (wishes.snapshotsOf.length === 0) list('paths', `What '${name}' saves: one absolute path a line.`, paths)
  if (excludes.length > 0) list('exclude', `What '${name}' leaves out: one pattern a line, as for restic's --exclude-file.`, excludes)
  for (const [key, option] of Object.entries(options)) if (key in settings) throw misuse(`option '--set': ${key} is --${option}`)
  return files
}

function envText({ name, engine, place, settings, secret, snapshotsOf }: Wishes): string {
  const kindOf = (key: string) => (key.startsWith('KEEP_') ? 'keep' : key === 'SCHEDULE_BACKUP' ? 'when' : 'rest')
  const of = (kind: string) => Object.entries(settings).filter(([key]) => kindOf(key) === kind)
  const second = snapshotsOf.length > 0
  const block = (comment: string, entries: readonly (readonly [string, string])[]) =>
    entries.length > 0 ? `\n# ${comment}\n${formatEnv(entries)}` : ''
  return (
    `# The settings of kedge's target '${name}'. kedge-target(5) has every key; 'kedge config ${name}' shows those in force.\n` +
    formatEnv({ ENGINE: engine, ...place, SECRET: secret }) +
    (second ? block('A second store: whose snapshots copy brings here.', [['SNAPSHOTS_OF', snapshotsOf.join(' ')]]) : '') +
    block('What prune keeps.', of('keep')) +
    block('When a backup is due. H stands for a time that is drawn from the name of the target.', of('when')) +
    (second ? '' : `#SCHEDULE_PRUNE='H H(5-6) * * 0'\n#SCHEDULE_CHECK='H H(5-6) * * 1'\n#SCHEDULE_DRILL='H H(5-6) 1 * *'\n`) +
    block('Further settings.', of('rest'))
  )
}
