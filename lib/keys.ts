// The keys of target.env and defaults.env: what each means, its form, and its default. docs/kedge-target.5 follows this table.

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
export type Key = { readonly form: Form; readonly help: string; readonly default?: string }

const keep = (what: string): Key => ({ form: 'keep', help: `keep the newest snapshot of so many ${what}; 'unlimited' keeps all` })
const within = (what: string): Key => ({ form: 'within', help: `keep ${what} made within this span before the newest (1y6m2d3h)` })
const schedule = (verb: string): Key => ({ form: 'cron', help: `when ${verb} is due: a cron expression, or @daily` })

export const keys = {
  ENGINE: { form: 'engine', help: 'the tool that keeps the snapshots', default: 'restic' },
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
  KEEP_MIN: { form: 'count', help: 'never leave fewer than this of a source', default: '1' },
  PRUNE_MAX_DELETE: { form: 'count', help: 'delete at most so many snapshots in one run without a digest', default: '20' },
  SCHEDULE_BACKUP: schedule('a backup'),
  SCHEDULE_PRUNE: schedule('a prune'),
  SCHEDULE_CHECK: schedule('a check'),
  SCHEDULE_DRILL: schedule('a drill'),
  SCHEDULE_COPY: schedule('a copy'),
  MAX_AGE: {
    form: 'seconds',
    help: 'status calls a target stale whose last good backup is older; default: from SCHEDULE_BACKUP, else 26h',
  },
  TZ: { form: 'zone', help: "the time zone of schedules and keep rules; default: this machine's" },
  SECRET: { form: 'provider', help: 'where the secrets come from: gpg, command, credential, file, none', default: 'none' },
  SECRET_COMMAND: { form: 'text', help: 'the command whose stdout is an env file with the secrets (SECRET=command)' },
  COPY_TO: { form: 'words', help: 'other targets to whose stores copy takes the snapshots' },
  CANARY: { form: 'text', help: 'a file that must exist, or the backup fails before anything is written' },
  SHRINK_LIMIT: { form: 'percent', help: 'a backup smaller than this share of the usual size is suspect; 0: off', default: '50' },
  CHURN_LIMIT: {
    form: 'percent',
    help: 'a backup in which more than this share of the files changed, far above the usual, is suspect; 0: off',
    default: '50',
  },
  LIMIT_UP: { form: 'bytes', help: 'bytes a second to the store' },
  LIMIT_DOWN: { form: 'bytes', help: 'bytes a second from the store' },
  NICE: { form: 'count', help: 'priority of the tools, 0 to 19 (nice)' },
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
export const passedThrough: Record<string, RegExp> = {
  restic: /^(RESTIC|AWS|B2|AZURE|GOOGLE|OS|ST|RCLONE)_[A-Z0-9_]+$/,
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
    case 'engine':
      return value in passedThrough ? undefined : `not an engine: ${Object.keys(passedThrough).join(', ')}`
    default:
      return undefined
  }
}

/** Why an operator's tag cannot be one, in words: kedge and restic read more into it. */
export function wrongTag(tag: string): string | undefined {
  if (tag.includes(',')) return 'a tag cannot hold a comma'
  return /^(kedge|stream):/.test(tag) ? "tags that begin with 'kedge:' or 'stream:' are kedge's own marks" : undefined
}

export const words = (value: string | undefined): string[] => (value ?? '').split(/[\s,]+/).filter(Boolean)

/** Options for a tool, whose values may hold commas. */
export const byBlanks = (value: string | undefined): string[] => (value ?? '').split(/\s+/).filter(Boolean)
