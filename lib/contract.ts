// The shapes on which the rooms agree: contexts, targets, verbs and engines. Types only.
import type { Class, Failure } from './failure.ts'
import type { Removed, Rotated } from './rows/house.ts'
import type {
  Change,
  Checked,
  CommandLine,
  Compared,
  Copied,
  Drilled,
  EngineName,
  Entry,
  Growth,
  Incomplete,
  LockRow,
  Marked,
  Match,
  Mounted,
  PlanLine,
  Pruned,
  Restored,
  Row,
  SimulatedDay,
  Sizes,
  Snapshot,
  StoreRow,
  Summary,
  Text,
} from './rows.ts'

export type Progress = { done: number; total?: number; unit?: string; files?: number; totalFiles?: number; eta?: number; what?: string }
export type Origin = { readonly file: string; readonly line: number }
export type Provider = 'gpg' | 'command' | 'credential' | 'file' | 'none'
/** An executable that a run calls, and when. */
export type Hook = { readonly event: string; readonly file: string }
export type Target = {
  readonly name: string
  readonly engine: EngineName
  /** Its folder. */
  readonly dir: string
  /** Plain settings, defaults.env included; secrets are not in it. */
  readonly env: Readonly<Record<string, string>>
  readonly origin: Readonly<Record<string, Origin>>
  /** Absolute paths to save. */
  readonly paths: readonly string[]
  /** Files with patterns of what to leave out: the house's, then the target's own. */
  readonly excludes: readonly string[]
  readonly streams: readonly { readonly name: string; readonly file: string }[]
  /** The house's, then its own. */
  readonly hooks: readonly Hook[]
  readonly secret: Provider
}

export type Context = {
  readonly signal: AbortSignal
  /** A line of talk to stderr, and to the run's log. */
  readonly log: (message: string) => void
  /** Detail, printed with --verbose, and always kept in the run's log. */
  readonly detail: (message: string) => void
  readonly progress: (progress: Progress) => void
  readonly mode: 'act' | 'dry-run' | 'explain'
  /** Guards that the caller overrides by name. */
  readonly forced: ReadonlySet<string>
  /** Seconds to wait for a lock. */
  readonly wait: number
  /** Ask on the terminal; undefined where nobody is there. */
  readonly ask: ((question: string, options?: { hidden?: boolean }) => Promise<string>) | undefined
  /** Descriptor that gives the passphrase of secret.env.gpg. */
  readonly passphraseFd: number | undefined
  /** Says an error as the command line does, and gives its status: for work that goes on with the next target. */
  readonly report: (error: unknown, prefix?: string) => number
  /** From now on `act` hears each SIGINT, SIGTERM and SIGHUP, the second of a kind too; before `signal` is aborted. */
  readonly onSignal?: (act: (signal: NodeJS.Signals) => void) => void
  /** Whether whoever read stdout went away. */
  readonly unread?: () => boolean
  /** The descriptor for raw bytes that a child writes: stdout. */
  readonly output: number
}
export type RunContext = Context & {
  readonly run: string
  /** The target's secrets, opened once. */
  readonly secrets: Readonly<Record<string, string>>
  /** Process groups that crashed runs of this target left: what they locked is dead. */
  readonly dead: readonly number[]
  /** Their locks are gone from the store: forget them. */
  readonly buried: () => Promise<void>
  /** Something was not as it should be. With a class the run ends in part (3), without one it is a notice (0). */
  readonly warn: (message: string, kind?: Class) => void
  /** A process group that belongs to the run: noted in its lock, so that a living child keeps the lock alive. */
  readonly group: (pgid: number) => void
}

type Shape<O, R extends Row> = { options: O; row: R }
export type Sample = { count?: number; bytes?: number }
export type Verbs = {
  identity: Shape<Record<never, never>, StoreRow>
  /** `from`: a folder of another tool's snapshots, taken in without copying (rsync). */
  init: Shape<{ adopt?: boolean; filter?: SnapshotFilter; from?: string; like?: Target }, StoreRow>
  backup: Shape<{ names?: readonly string[]; tags?: readonly string[]; manual?: boolean }, Summary>
  /** `removed`: what prune and forget took away, where the store keeps an audit. */
  list: Shape<{ latest?: number; stream?: string; all?: boolean; removed?: boolean }, Snapshot | Removed>
  files: Shape<{ snapshot: string; path?: string; here: boolean }, Entry>
  cat: Shape<{ snapshot: string; path: string }, never>
  find: Shape<{ patterns: readonly string[]; ignoreCase: boolean; snapshot?: string }, Match>
  restore: Shape<
    {
      what: readonly { snapshot: string; path?: string }[]
      to?: string
      include: readonly string[]
      exclude: readonly string[]
      verify: boolean
      delete: boolean
    },
    Restored
  >
  drill: Shape<Sample & { snapshot?: string; scratch?: string }, Drilled>
  prune: Shape<{ apply?: string; maxDelete?: number; simulate?: number }, PlanLine | Incomplete | Pruned | SimulatedDay>
  forget: Shape<{ ids: readonly string[] }, Marked>
  hold: Shape<{ ids: readonly string[]; release: boolean }, Marked>
  check: Shape<{ readData?: boolean; within?: number }, Checked>
  diff: Shape<{ old?: string; newer?: string; live?: boolean; metadata?: boolean; top?: number }, Change | Compared | Growth>
  stats: Shape<Record<never, never>, Sizes>
  /** Without `at` an engine whose snapshots are files already tells where they are. */
  mount: Shape<{ at?: string }, Mounted>
  /** `faults`: second stores whose targets do not load. */
  copy: Shape<{ to: readonly Target[]; faults: readonly { store: string; error: Failure }[] }, Copied>
  unlock: Shape<{ force: boolean }, LockRow>
  rotate: Shape<Record<never, never>, Rotated>
}
export type SnapshotFilter = { host?: string; paths?: readonly string[]; tags?: readonly string[] }
export type Verb = keyof Verbs
/** Rows come one by one, or in batches where there may be many. */
export type Rows<R extends Row = Row> = R | readonly R[]
export type VerbOf<V extends Verb> = (
  target: Target,
  options: Verbs[V]['options'],
  context: RunContext,
) => AsyncIterable<Rows<Verbs[V]['row'] | CommandLine | Text>>
/** What an operator does on an engine that cannot do the verb. */
export type Unsupported = { readonly instead: string }
