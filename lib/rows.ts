// What commands yield: rows, by kind. Types only. Times are RFC 3339 in UTC, sizes bytes, durations seconds.
import type { Class } from './failure.ts'
import type {
  AuthorizedKey,
  Ended,
  FileRow,
  Finding,
  HostKeyRow,
  Outcome,
  Output,
  Primed,
  Removed,
  Rotated,
  Scheduled,
  SecretRow,
  Setting,
  Told,
  Upcoming,
} from './rows/house.ts'

export type EngineName = 'restic' | 'rsync'
export type TargetRow = { kind: 'target'; target: string; engine: EngineName | ''; store: string; groups: readonly string[] }
export type Snapshot = {
  kind: 'snapshot'
  target: string
  id: string
  time: string
  host: string
  paths: readonly string[]
  tags: readonly string[]
  /** The stream whose output it holds; absent for a snapshot of paths. */
  stream?: string
  size?: number
  files?: number
  held?: boolean
  suspect?: string
  /** Made by a backup that left something out: a missing path, a file that could not be read. */
  partial?: true
  /** Ids that it had before it was rewritten (tagged) or copied. */
  original?: string
  /** The snapshot that it was made from: what did not change is the same there (rsync: hard links). */
  base?: string
}
export type Entry = {
  kind: 'entry'
  path: string
  type: 'file' | 'dir' | 'symlink' | 'dev' | 'chardev' | 'fifo' | 'socket' | 'irregular'
  size: number
  /** st_mode's twelve permission bits, octal with four digits. */
  mode: string
  uid: number
  gid: number
  mtime: string
}
export type Match = {
  kind: 'match'
  target: string
  snapshot: string
  time: string
  path: string
  type: string
  size: number
  mtime: string
}
export type Change = { kind: 'change'; change: '+' | '-' | 'M' | 'T' | 'U' | '?'; path: string; before?: number; after?: number }
export type Growth = { kind: 'growth'; growth: number; written: number; files: number; path: string }
export type Compared = {
  kind: 'compared'
  target: string
  old: string
  newer: string
  added: number
  removed: number
  changed: number
  /** Bytes of the new and changed files, and what the gone and changed ones had before: the difference is the growth. */
  addedBytes: number
  removedBytes: number
  /** Bytes of data that the store did not have before the newer one. */
  stored?: number
}
export type Summary = {
  kind: 'summary'
  target: string
  snapshot: string
  stream?: string
  files: number
  bytes: number
  added: number
  seconds: number
  new?: number
  changed?: number
  unreadable?: number
  /** Something of it was missing or could not be read. */
  partial?: true
  /** Of a list of names (--files-from) in place of the target's paths. */
  subset?: true
  /** Beside the chain of the scheduled ones (--manual). */
  manual?: true
  /** Files that are the same in the base (rsync: hard links to it). */
  linked?: number
  /** Why the engine itself finds it suspect. */
  suspect?: string
  dryRun?: true
}
export type Restored = {
  kind: 'restored'
  target: string
  snapshot: string
  to: string
  /** All but folders; those that were there unchanged too. */
  files: number
  bytes: number
  verified: boolean
  /** What --delete took away. */
  deleted?: number
  action: 'restored' | 'would restore'
  dryRun?: true
}
export type PlanLine = {
  kind: 'plan'
  target: string
  action: 'keep' | 'delete' | 'later'
  id: string
  time: string
  group: string
  reasons: readonly string[]
}
/** What a run that was cut off has left in the store: it stays until `forget` names it. */
export type Incomplete = { kind: 'incomplete'; target: string; id: string; time: string; files: number; bytes: number }
export type Pruned = {
  kind: 'pruned'
  target: string
  deleted: number
  kept: number
  later: number
  digest: string
  /** Bytes that the deletion frees, where the engine can tell. */
  freed?: number
  dryRun?: true
}
export type SimulatedDay = { kind: 'day'; date: string; snapshots: number; deleted: number; oldest: string; times: readonly string[] }
export type Checked = {
  kind: 'checked'
  target: string
  structure: 'ok'
  read: 'none' | 'all' | 'slices'
  slices?: number
  verified?: number
  oldestVerified?: string | null
  /** Files for which the store has no hash, so that their content was compared with nothing. */
  unhashed?: number
}
export type Drilled = {
  kind: 'drilled'
  target: string
  snapshot: string
  files: number
  bytes: number
  /** Files compared byte for byte with the source, which was unchanged since the snapshot. */
  source: number
  /** Files whose restored content was verified against the repository's hashes only. */
  hashes: number
  /** Files for which the store has no hash: size, mode and time are all that was compared. */
  times?: number
  seconds: number
  /** The paths of the files, at most 100 of them. */
  sample: readonly string[]
}
export type Sizes = {
  kind: 'sizes'
  target: string
  time: string
  snapshots: number
  restore: number
  files: number
  raw: number
  dedup: number | null
  compression: number | null
  perDay: number | null
  free: number | null
  fullIn: number | null
}
export type Mounted = { kind: 'mounted'; target: string; at: string }
/** `left`: how many could not be copied, each told in a warning; `since`: when the oldest of them was made. */
type Left = { left?: number; since?: string }
export type Copied = { kind: 'copied'; target: string; to: string; copied: number; present: number; dryRun?: true } & Left
export type StoreRow = { kind: 'store'; target: string; id: string; store: string; created: boolean; adopted?: number; dryRun?: true }
export type LockRow = {
  kind: 'lock'
  target: string
  of: 'kedge' | 'restic' | 'store'
  id: string
  host: string
  pid: number
  time: string
  age: number
  alive: 'yes' | 'no' | 'unknown'
  exclusive: boolean
  action: 'kept' | 'removed' | 'would remove'
}
export type Marked = {
  kind: 'marked'
  target: string
  action: 'held' | 'released' | 'forgotten' | 'accepted' | 'suspect' | 'would hold' | 'would release' | 'would forget' | 'would accept'
  id: string
  /** The id that it had before: restic gives a new one with each change of tags. */
  original?: string
  /** Why it is suspect. */
  reason?: string
  dryRun?: true
}
/** `done` and `total` are bytes unless a unit is named. */
export type RunState = 'running' | 'success' | 'warning' | 'failed' | 'skipped' | 'cancelled' | 'crashed'
export type RunRow = {
  kind: 'run'
  target: string
  run: string
  verb: string
  state: RunState
  status: number
  start: string
  seconds: number
  class?: Class | 'bug'
  message?: string
  hint?: string
  warnings?: readonly string[]
  /** Guards overridden with --force=GUARD. */
  forced?: readonly string[]
  /** What the verb reported of itself: its summary rows. */
  results?: readonly Row[]
}
export type StatusRow = {
  kind: 'status'
  target: string
  verb: string
  state: 'ok' | 'stale' | 'failed' | 'never' | 'running' | 'crashed'
  good: string | null
  failed: string | null
  due: string | null
  age: number | null
  /** Of a second store: whose it is, how old the oldest backup is of which something is missing there (0: none), how many snapshots are. */
  store?: string
  lag?: number
  behind?: number
  message?: string
}
export type Text = { kind: 'text'; text: string }
/** A line that plain sh runs, printed by --explain. */
export type CommandLine = { kind: 'command'; command: string }
export type Row =
  | TargetRow
  | Snapshot
  | Entry
  | Match
  | Change
  | Growth
  | Compared
  | Summary
  | Restored
  | PlanLine
  | Incomplete
  | Pruned
  | Removed
  | SimulatedDay
  | Checked
  | Drilled
  | Sizes
  | Mounted
  | Copied
  | StoreRow
  | LockRow
  | Marked
  | RunRow
  | StatusRow
  | Finding
  | Rotated
  | SecretRow
  | Setting
  | FileRow
  | Upcoming
  | Scheduled
  | Ended
  | Told
  | Output
  | Outcome
  | Primed
  | AuthorizedKey
  | HostKeyRow
  | Text
  | CommandLine
export type Kind = Row['kind']
/** Columns for tables and pipes, by kind of row; the first is what -q prints. Kinds left out are printed with --json only. */
export type Columns = { readonly [K in Kind]?: readonly Exclude<keyof Extract<Row, { kind: K }>, 'kind'>[] }
