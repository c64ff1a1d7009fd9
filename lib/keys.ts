// The keys of target.env and defaults.env: what each means, its form, and its default. docs/kedge-target.5 follows this table.

import { nearest } from './nearest.ts'
import type { EngineName } from './rows.ts'

export type Form =
  | 'text'
  | 'words'
  | 'count'
  | 'seconds'
  | 'bytes'
  | 'yes'
  | 'percent'
  | 'keep'
  | 'within'
  | 'cron'
  | 'zone'
  | 'engine'
  | 'provider'
  | 'reserve'
  | 'nice'
/** `of`: the words that the value may hold. */
export type Key = {
  readonly form: Form
  readonly help: string
  readonly default?: string
  readonly of?: readonly string[]
  /** The one engine that reads it; default: each. */
  readonly engine?: EngineName
}

/** The ways by which a target tells of its runs, and what it tells of. */
export const channels = ['mail', 'webhook', 'ping', 'command'] as const
export const events = ['failure', 'warning', 'recovery', 'success', 'digest'] as const
export const templates = ['json', 'ntfy', 'slack', 'discord', 'gotify', 'matrix'] as const

const keep = (what: string): Key => ({ form: 'keep', help: `keep the newest snapshot of so many ${what}; 'unlimited' keeps all` })
const within = (what: string): Key => ({ form: 'within', help: `keep ${what} made within this span before the newest (1y6m2d3h)` })
const schedule = (verb: string): Key => ({ form: 'cron', help: `when ${verb} is due: a cron expression, or @daily` })

export const keys = {
  ENGINE: { form: 'engine', help: 'the tool that keeps the snapshots', default: 'restic' },
  STORE: { form: 'text', help: 'the folder that holds the snapshots, in a folder of the name of the target', engine: 'rsync' },
  STORE_ID: { form: 'text', help: 'the id of the store, pinned by init; another store in its place is refused' },
  GROUP: { form: 'words', help: 'names by which several targets are called together (GROUPS is a variable of bash)' },
  TAGS: { form: 'words', help: 'tags for every snapshot' },
  HOST: { form: 'text', help: "the host name in the snapshots; default: this machine's" },
  SNAPSHOTS_OF: { form: 'words', help: 'the targets whose snapshots this store holds; default: its own name' },
  KEEP_LAST: { form: 'keep', help: "keep so many of the newest; 'unlimited' keeps all" },
  KEEP_HOURLY: keep('hours'),
  KEEP_DAILY: keep('days'),
  KEEP_WEEKLY: keep('weeks'),
  KEEP_MONTHLY: keep('months'),
  KEEP_YEARLY: keep('years'),
  KEEP_WITHIN: within('all'),
  KEEP_WITHIN_HOURLY: within('hourly ones'),
  KEEP_WITHIN_DAILY: within('daily ones'),
  KEEP_WITHIN_WEEKLY: within('weekly ones'),
  KEEP_WITHIN_MONTHLY: within('monthly ones'),
  KEEP_WITHIN_YEARLY: within('yearly ones'),
  KEEP_TAGS: { form: 'words', help: 'keep every snapshot that has one of these tags' },
  KEEP_MANUAL: {
    form: 'keep',
    help: 'keep so many of the newest snapshots made with --manual; default: all',
    default: 'unlimited',
    engine: 'rsync',
  },
  KEEP_MANUAL_WITHIN: { ...within('those made with --manual'), engine: 'rsync' },
  KEEP_BASES: { form: 'yes', help: 'keep the snapshot from which each one was made that the rules keep', default: 'no', engine: 'rsync' },
  KEEP_MIN: { form: 'count', help: 'never leave fewer than this of a source', default: '1' },
  PRUNE_MAX_DELETE: { form: 'count', help: 'delete at most so many snapshots in one run without a digest', default: '20' },
  SCHEDULE_BACKUP: schedule('a backup'),
  SCHEDULE_PRUNE: schedule('a prune'),
  SCHEDULE_CHECK: schedule('a check'),
  SCHEDULE_DRILL: schedule('a drill'),
  SCHEDULE_COPY: schedule('a copy'),
  SCHEDULE_DIGEST: { form: 'cron', help: 'when the digest of all targets is sent (NOTIFY_ON=digest)', default: '0 7 * * *' },
  SCHEDULE_JITTER: { form: 'seconds', help: 'shift each due time of the target by up to this, always by the same' },
  SKIP_ON_BATTERY: { form: 'yes', help: 'skip backup, prune, check, drill and copy while the machine runs on its battery', default: 'no' },
  MAX_AGE: {
    form: 'seconds',
    help: 'status calls a target stale whose last good backup is older; default: from SCHEDULE_BACKUP, else 26h',
  },
  TZ: { form: 'zone', help: "the time zone of schedules and keep rules; default: this machine's" },
  SECRET: { form: 'provider', help: 'where the secrets come from: gpg, command, credential, file, none', default: 'none' },
  SECRET_COMMAND: { form: 'text', help: 'the command whose stdout is an env file with the secrets (SECRET=command)' },
  COPY_TO: { form: 'words', help: 'other targets to whose stores copy takes the snapshots' },
  COPY_AFTER_BACKUP: { form: 'yes', help: 'copy to the stores of COPY_TO after each backup', default: 'no' },
  COPY_MAX_LAG: { form: 'seconds', help: 'status calls a store of COPY_TO stale that lags further behind; default: from SCHEDULE_COPY' },
  HOOK_TIMEOUT: { form: 'seconds', help: 'time limit of each hook', default: '30m' },
  HOOK_SECRETS: { form: 'words', help: 'secrets that the hooks see' },
  NOTIFY: { form: 'words', help: 'how runs are told of: mail, webhook, ping, command', of: channels },
  NOTIFY_ON: {
    form: 'words',
    help: 'what is told: failure, warning, recovery, success, digest',
    default: 'failure warning recovery',
    of: events,
  },
  NOTIFY_TIMEOUT: { form: 'seconds', help: 'time limit of each attempt to tell', default: '30s' },
  NOTIFY_COMMAND: { form: 'text', help: 'the executable that gets the record on stdin (NOTIFY=command)' },
  MAIL_TO: { form: 'words', help: 'who gets mail' },
  MAIL_FROM: { form: 'text', help: "the sender of mail; default: kedge at this machine's name" },
  SMTP_URL: { form: 'text', help: 'the mail server: smtp://USER@HOST:587 or smtps://USER@HOST; default: the local sendmail' },
  SMTP_CA: { form: 'text', help: "a file with the certificate that signs the mail server's" },
  WEBHOOK_URL: { form: 'text', help: 'where the record is posted' },
  WEBHOOK_AS: { form: 'words', help: 'the form of the post: json, ntfy, slack, discord, gotify, matrix', default: 'json', of: templates },
  PING_URL: { form: 'text', help: 'a check as healthchecks.io has them: pinged at the start, on success and on failure' },
  CANARY: { form: 'text', help: 'a file that must exist, or the backup fails before anything is written' },
  SHRINK_LIMIT: { form: 'percent', help: 'a backup smaller than this share of the usual size is suspect; 0: off', default: '50' },
  CHURN_LIMIT: {
    form: 'percent',
    help: 'a backup in which more than this share of the files changed, far above the usual, is suspect; 0: off',
    default: '50',
  },
  SOURCE_HOST: {
    form: 'text',
    help: "the host whose paths are saved, as ssh names it ([user@]host); default: this machine's",
    engine: 'rsync',
  },
  SOURCE_PORT: { form: 'count', help: "the port of that host's sshd", engine: 'rsync' },
  SOURCE_RSYNC: { form: 'text', help: "that host's rsync: 'sudo -n rsync', 'doas rsync', openrsync", engine: 'rsync' },
  SSH_KEY: { form: 'text', help: "the private key; default: the target's file ssh_key where kedge key made it", engine: 'rsync' },
  SSH_ARGS: { form: 'words', help: 'further options for ssh, parted by blanks', engine: 'rsync' },
  RESERVE: {
    form: 'reserve',
    help: 'free bytes, and inodes, that a backup leaves on the store (2G 50000); with less it does not begin',
    default: '1G 10000',
    engine: 'rsync',
  },
  RETRIES: { form: 'count', help: 'how often a transfer that was cut off is taken up again', default: '3', engine: 'rsync' },
  LIMIT_UP: { form: 'bytes', help: 'bytes a second to the store' },
  LIMIT_DOWN: { form: 'bytes', help: 'bytes a second from the store' },
  NICE: { form: 'nice', help: 'priority of the tools, 0 to 19 (nice)' },
  TIMEOUT: { form: 'seconds', help: 'time limit of a run', default: '24h' },
  CONNECT_TIMEOUT: { form: 'seconds', help: 'give up on a store that cannot be opened', default: '60s' },
  LOCK_WAIT: { form: 'seconds', help: "wait so long for the store's own lock", default: '60s' },
  ONE_FILE_SYSTEM: { form: 'yes', help: 'stay on the file systems of the paths', default: 'yes' },
  EXCLUDE_CACHES: { form: 'yes', help: 'leave out folders with a CACHEDIR.TAG', default: 'yes' },
  BACKUP_ARGS: { form: 'words', help: "further options for the engine's backup, parted by blanks" },
  PASS_ENV: { form: 'words', help: "variables of the caller's environment that the tools see as well" },
  STREAM_SECRETS: { form: 'words', help: 'secrets that the streams see' },
  LEDGER_KEEP: { form: 'seconds', help: 'how long run records and logs are kept', default: '400d' },
} as const satisfies Record<string, Key>
export type KeyName = keyof typeof keys

/** What each engine's tool may find in its environment. */
export const passedThrough: Readonly<Record<EngineName, RegExp>> = {
  restic: /^(RESTIC|AWS|B2|AZURE|GOOGLE|OS|ST|RCLONE)_[A-Z0-9_]+$/,
  rsync: /^RSYNC_(ICONV|MAX_ALLOC|COMPRESS_LIST)$/,
}

/** What the value of a key may not be, in words; undefined when it is well. The forms cron, zone, keep and within have homes of their own. */
export function wrongForm(
  form: Form,
  value: string,
  parse: { duration: (s: string) => unknown; size: (s: string) => unknown },
): string | undefined {
  if (value === '') return undefined // empty switches a default off
  switch (form) {
    case 'count':
      return /^\d+$/.test(value) ? undefined : 'not a whole number'
    case 'nice':
      return /^\d+$/.test(value) && Number(value) <= 19 ? undefined : 'not a number from 0 to 19'
    case 'percent':
      return /^\d+$/.test(value) && Number(value) <= 100 ? undefined : 'not a number from 0 to 100'
    case 'seconds':
      return parse.duration(value) === undefined ? 'not a duration such as 90s, 12h, 30d' : undefined
    case 'bytes':
      return parse.size(value) === undefined ? 'not a size such as 500K, 2M' : undefined
    case 'yes':
      return /^(yes|no)$/.test(value) ? undefined : 'neither yes nor no'
    case 'provider':
      return /^(gpg|command|credential|file|none)$/.test(value) ? undefined : 'not one of gpg, command, credential, file, none'
    case 'reserve':
      return value.split(' ').length <= 2 && parse.size(value.split(' ')[0] ?? '') !== undefined && /^\S+( \d+)?$/.test(value)
        ? undefined
        : 'not a size, or a size and a number of inodes, such as 2G 50000'
    case 'engine': {
      if (Object.hasOwn(passedThrough, value)) return undefined
      const like = nearest(value, Object.keys(passedThrough))
      return like ? `not an engine (did you mean ${like}?)` : `not an engine: ${Object.keys(passedThrough).join(', ')}`
    }
    default:
      return undefined
  }
}

/** Why an operator's tag cannot be one, in words: kedge and restic read more into it. */
export function wrongTag(tag: string): string | undefined {
  if (tag.includes(',')) return 'a tag cannot hold a comma'
  return /^(kedge|stream):/.test(tag) ? "tags that begin with 'kedge:' or 'stream:' are kedge's own marks" : undefined
}

/** Why SOURCE_HOST cannot be one, in words: what ssh reads as an option, and the path that rsync and scp put behind a host. */
export function wrongHost(text: string): string | undefined {
  const host = text.replace(/^[^@]*@/, '')
  if (host === '' || text.startsWith('-') || host.startsWith('-') || /\s/.test(text)) return 'not a host'
  // An address of IPv6 has two colons at least.
  return host.includes('/') || /^[^:]*:[^:]*$/.test(host) || /\]:/.test(host) ? 'a host has no path and no port' : undefined
}

export const words = (value: string | undefined): string[] => (value ?? '').split(/[\s,]+/).filter(Boolean)

/** Options for a tool, whose values may hold commas. */
export const byBlanks = (value: string | undefined): string[] => (value ?? '').split(/\s+/).filter(Boolean)
