// What `kedge new` writes into a target's folder, from what the operator wants. Pure.
import { resolve } from 'node:path'
import type { Provider } from './contract.ts'
import { formatEnv } from './env.ts'
import { Failure } from './failure.ts'
import { isSecretKey } from './secretkeys.ts'

export type Wishes = {
  readonly name: string
  readonly paths: readonly string[]
  readonly excludes: readonly string[]
  readonly repository: string
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

/** A repository as restic names it; a folder on this machine is made absolute. Failure 'misuse' where it holds a password. */
export function repositoryOf(text: string, cwd: string): string {
  if (text === '' || /[\0\n]/.test(text)) throw misuse(`not a repository: '${text}'`)
  if (/\/\/[^/@]*:[^/@]*@/.test(text)) {
    const hint = 'leave it out, and give RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD with --secrets-fd N (kedge-target(5) says more)'
    throw misuse('refusing the repository: it holds a password, which others see in the arguments and in target.env', hint)
  }
  if (/^(sftp|s3|rest|b2|azure|gs|swift|rclone):/.test(text)) return text
  if (/^[a-z0-9]{2,}:(?!\/[^/])/.test(text) && !text.startsWith('local:')) {
    throw misuse(`not a repository: '${text}'`, 'a folder, or sftp: s3: rest: b2: azure: gs: swift: rclone: and a place')
  }
  return resolve(cwd, text.replace(/^local:/, ''))
}

/** A path to save: absolute, one line. */
export function pathOf(text: string, cwd: string): string {
  if (text === '' || /[\0\n\r]/.test(text)) throw misuse(`cannot save '${text}': a name with a line end does not fit in the file paths`)
  return resolve(cwd, text)
}

/** Whether a path lies in one of the folders, or is it. */
export const liesIn = (path: string, folders: readonly string[]): string | undefined =>
  folders.find((folder) => path === folder || path.startsWith(folder === '/' ? '/' : `${folder}/`))

/** The plain files of the folder. Failure 'config' for a setting that no file can hold. */
export function planTarget(wishes: Wishes): PlannedFile[] {
  const { name, paths, excludes, settings } = wishes
  for (const pattern of excludes) if (/[\0\n\r]/.test(pattern)) throw misuse(`not a pattern of one line: '${pattern}'`)
  const files = [{ name: 'target.env', text: envText(wishes) }]
  const list = (file: string, comment: string, lines: readonly string[]) =>
    files.push({ name: file, text: `# ${comment}\n${lines.map((line) => `${line}\n`).join('')}` })
  if (wishes.snapshotsOf.length === 0) list('paths', `What '${name}' saves: one absolute path a line.`, paths)
  if (excludes.length > 0) list('exclude', `What '${name}' leaves out: one pattern a line, as for restic's --exclude-file.`, excludes)
  if (Object.keys(settings).some((key) => ['RESTIC_REPOSITORY', 'SECRET', 'SNAPSHOTS_OF'].includes(key)))
    throw misuse("option '--set': RESTIC_REPOSITORY is --repo, SECRET is --secret, SNAPSHOTS_OF is --copy-of")
  return files
}

function envText({ name, repository, settings, secret, snapshotsOf }: Wishes): string {
  const kindOf = (key: string) => (key.startsWith('KEEP_') ? 'keep' : key === 'SCHEDULE_BACKUP' ? 'when' : 'rest')
  const of = (kind: string) => Object.entries(settings).filter(([key]) => kindOf(key) === kind)
  const second = snapshotsOf.length > 0
  const block = (comment: string, entries: readonly (readonly [string, string])[]) =>
    entries.length > 0 ? `\n# ${comment}\n${formatEnv(entries)}` : ''
  return (
    `# The settings of kedge's target '${name}'. kedge-target(5) has every key; 'kedge config ${name}' shows those in force.\n` +
    formatEnv({ ...(settings.ENGINE === undefined && { ENGINE: 'restic' }), RESTIC_REPOSITORY: repository, SECRET: secret }) +
    (second ? block('A second store: whose snapshots copy brings here.', [['SNAPSHOTS_OF', snapshotsOf.join(' ')]]) : '') +
    block('What prune keeps.', of('keep')) +
    block('When a backup is due. H stands for a time that is drawn from the name of the target.', of('when')) +
    (second ? '' : `#SCHEDULE_PRUNE='H H(5-6) * * 0'\n#SCHEDULE_CHECK='H H(5-6) * * 1'\n#SCHEDULE_DRILL='H H(5-6) 1 * *'\n`) +
    block('Further settings.', of('rest'))
  )
}
