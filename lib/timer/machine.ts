// What this machine has to start runs with.
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { callerVar } from '../env.ts'
import { findInPath } from '../executable.ts'
import { Failure } from '../failure.ts'

export const ways = ['systemd', 'crontab', 'rc.d'] as const
export type Way = (typeof ways)[number]

export const isRoot = (): boolean => process.geteuid?.() === 0

/** What starts runs here: systemd where it is the first process (sd_booted(3)), OpenBSD's rc.d for root, else cron. */
export function detect(): Way {
  if (existsSync('/run/systemd/system')) return 'systemd'
  if (isRoot() && findInPath('rcctl')) return 'rc.d'
  if (findInPath('crontab')) return 'crontab'
  throw new Failure('config', 'nothing on this machine starts runs: no systemd, no rc.d, no crontab', {
    hint: 'kedge scheduler starts them, wherever it runs',
  })
}

export function wayOf(text: string): Way {
  const way = ways.find((each) => each === text)
  if (way) return way
  throw new Failure('misuse', `option '--by': not one of ${ways.join(', ')}: '${text}'`)
}

/** Where systemd looks for the units that an administrator wrote. */
export function unitDir(): string {
  const [first] = (callerVar('SYSTEMD_UNIT_PATH') ?? '').split(':')
  if (first?.startsWith('/')) return first
  return isRoot() ? '/etc/systemd/system' : join(homedir(), '.config/systemd/user')
}

/** systemd's own for services (systemd.exec(5), PATH). */
const plainPath = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin']
const tools = ['restic', 'rsync', 'rclone', 'gpg', 'ssh']

/** A plain PATH, with the folders of the tools that the caller has elsewhere. */
export function toolPath(): string {
  const found = tools.flatMap((name) => findInPath(name) ?? []).map(dirname)
  return [...new Set([...found.filter((folder) => !plainPath.includes(folder)), ...plainPath])].join(':')
}
export const isPlain = (path: string): boolean => path === plainPath.join(':')
