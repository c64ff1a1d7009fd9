// The text of systemd's units: timers, drop-ins of a house and of a target, the templates with the command of this machine. Pure.
// Facts: systemd.unit(5), systemd.syntax(7), systemd.timer(5), systemd.exec(5).
import { Failure } from '../failure.ts'

/** A file below the folder of units. `target`: whose it is; `-` is every target's. */
export type UnitFile = { readonly name: string; readonly text: string; readonly target: string }
export type Timed = {
  /** The name without its suffix. */
  readonly unit: string
  readonly target: string
  readonly verb: string
  readonly expression: string
  readonly calendars: readonly string[]
  /** Seconds. */
  readonly jitter: number
}
/**
 * What a service needs besides the templates. `opens`: kedge itself opens what systemd-creds has sealed, perhaps to the TPM. `owners`: its
 * store keeps files as they are, with their owners, setuid bits and capabilities, and devices.
 */
export type Needs = {
  readonly owners?: boolean
  readonly writable: readonly string[]
  readonly opens: boolean
  readonly credentials: readonly { readonly name: string; readonly file: string }[]
}

/** The first words of each file that install writes: remove takes away no other. */
export const mark = '# Written by kedge schedule install'
const header = `${mark}, which may write it anew: put changes into a drop-in (systemctl edit).\n`
export const isMarked = (text: string): boolean => text.startsWith(mark)

export type Owner = { readonly verb: string; readonly target: string }
/** Whose a file is, and for which verb, by its name: `kedge-notify@backup:web1.service.d/…` is web1's backup's; undefined for a house's. */
export function ownerOf(name: string): Owner | undefined {
  if (/^kedge-digest\b/.test(name)) return { verb: 'digest', target: '-' }
  const [, verb, target] = /^kedge-(?:notify@)?(\w+)[@:]([^/]+?)\.(?:timer|service)(?:\.d\/|$)/.exec(name) ?? []
  return verb && target ? { verb, target } : undefined
}

/** Failure `config` for what would be a second line: not every setting that takes paths knows an escape for it. */
function doubled(text: string): string {
  if (/[\r\n]/.test(text)) throw new Failure('config', `cannot write ${JSON.stringify(text)} into a unit of systemd: it holds a line feed`)
  return text.replaceAll('%', '%%')
}
/** One word of a list, as systemd reads it back. */
const unitWord = (text: string): string => (/^[\w@%+=:,./-]+$/.test(text) ? doubled(text) : `"${doubled(text).replace(/[\\"]/g, '\\$&')}"`)
/**
 * A command line in which nothing expands; in the program's own path a dollar sign is one already. A program with quotes or backslashes in
 * its path systemd does not start, as "special characters": a shell does.
 */
export function execWords(command: readonly string[]): string {
  const words = /['"\\]/.test(command[0] ?? '') ? ['/bin/sh', '-c', 'exec "$0" "$@"', ...command] : command
  return words.map((word, i) => (i === 0 ? unitWord(word) : unitWord(word).replaceAll('$', '$$$$'))).join(' ')
}

/** The command of the templates in systemd/. */
const shipped = '/usr/local/bin/kedge'

/** A template of systemd/ with this machine's command in it. */
export const placed = (text: string, command: readonly string[]): string =>
  header + text.replace(/^(ExecStart=.*)$/m, (line) => line.replace(shipped, () => execWords(command)))

/** What a user's manager cannot do, or does not need. */
export const needsRoot = (name: string): boolean => name.endsWith('-system.conf')

export function timerUnit({ unit, target, verb, expression, calendars, jitter }: Timed): UnitFile {
  const what = target === '-' ? `kedge ${verb}` : `kedge ${verb} of ${target}`
  const lines = [
    '[Unit]',
    // Its blanks may be line feeds.
    `Description=${what} (${doubled(expression.trim().replace(/\s+/g, ' '))})`,
    'Documentation=man:kedge-schedule(1)',
    '',
    '[Timer]',
    ...calendars.map((calendar) => `OnCalendar=${calendar}`),
    '# A minute late, as by default, 02:59 would come twice on the night when clocks go back.',
    'AccuracySec=1s',
    '# A run that was missed while the machine was off is made up for.',
    'Persistent=yes',
    ...(jitter > 0 ? [`RandomizedDelaySec=${jitter}`, 'FixedRandomDelay=yes'] : []),
    '',
    '[Install]',
    'WantedBy=timers.target',
  ]
  return { name: `${unit}.timer`, text: `${header}${lines.join('\n')}\n`, target }
}

/** It may make devices, and open none but those that every service may. */
const asRoot = [
  'CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_CHOWN CAP_FOWNER CAP_FSETID CAP_SETFCAP CAP_MKNOD',
  'RestrictSUIDSGID=no',
  '# PrivateDevices=yes takes CAP_MKNOD away.',
  'PrivateDevices=no',
  'DevicePolicy=closed',
  'DeviceAllow=char-* m',
  'DeviceAllow=block-* m',
]

/** A drop-in with what one service needs; undefined where that is nothing. `unit`: the service's name. */
export function needsUnit(unit: string, target: string, { writable, credentials, opens, owners }: Needs): UnitFile | undefined {
  const lines = [
    // One that is not there now, as on a disk that is not mounted, must not keep kedge from saying so.
    ...writable.map((path) => `ReadWritePaths=${unitWord(`-${path}`)}`),
    ...credentials.map(({ name, file }) => `LoadCredentialEncrypted=${name}:${doubled(file)}`),
    // The one device besides those that PrivateDevices= leaves; a machine may have none.
    ...(owners ? asRoot : []),
    ...(opens ? ['BindPaths=-/dev/tpmrm0', 'DeviceAllow=char-tpm rw'] : []),
  ]
  if (lines.length === 0) return undefined
  return { name: `${unit}.d/50-target.conf`, text: `${header}[Service]\n${lines.join('\n')}\n`, target }
}

/** What is not where systemd and kedge look for it by themselves; undefined where all is. */
export function houseUnit(environment: Readonly<Record<string, string>>, writable: readonly string[]): UnitFile | undefined {
  const lines = [
    ...Object.entries(environment).map(([key, value]) => `Environment=${unitWord(`${key}=${value}`)}`),
    ...writable.map((path) => `ReadWritePaths=${unitWord(`-${path}`)}`),
  ]
  if (lines.length === 0) return undefined
  return { name: 'kedge-.service.d/40-house.conf', text: `${header}[Service]\n${lines.join('\n')}\n`, target: '-' }
}
