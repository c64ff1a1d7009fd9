// What an engine is like to those who stand outside of its verbs: where its snapshots lie, what opens them, what its tool is. Types only.
import type { RunContext, Target } from './contract.ts'
import type { Sheet } from './recovery.ts'

type Values = Readonly<Record<string, string>>

/** The engine's tool as it is installed here. `text`: 'restic 0.19.1'. `odd`: why kedge cannot work with it, or not well. */
export type Tool = {
  readonly path: string
  readonly text: string
  readonly odd?: { readonly level: 'blocked' | 'warning'; readonly text: string; readonly remedy: string }
}

export type Traits = {
  /** Where the snapshots lie, as lists and messages name it, without a password; empty where the target does not say. */
  readonly storeName: (target: Target) => string
  /** The folder of the store; undefined where it is not on this machine. */
  readonly storeFolder: (target: Target) => string | undefined
  /** What tells which store it is, and who has locked it: commands that sh runs after the preamble. */
  readonly storeByHand: (target: Target) => string
  /** What marks the snapshots that a target made under a name, in words: it stays when the target is renamed. */
  readonly markOf: (target: Target, name: string) => string
  /** Undefined where it is not in PATH. Failure `tool` where it cannot be run. */
  readonly tool: () => Promise<Tool | undefined>
  readonly toInstall: string
  /** How it says its version, by hand. */
  readonly versionByHand: string
  /** Its mount is a file system of FUSE. */
  readonly needsFuse: boolean
  /** The key of the password that opens the store; undefined: there is none, and whoever reads its disk reads the snapshots. */
  readonly password: string | undefined
  /** Its stores keep owners, modes and devices as they are, which takes more of root's powers than reading them. */
  readonly keepsOwners: boolean
  /** Of settings and secrets together: the keys without which the store does not open, and those that may be set elsewhere; else `text`. */
  readonly lacking: (all: Values) => { readonly missing: readonly string[]; readonly unset: readonly string[]; readonly text: string }
  /** The variable that names its cache; undefined: it has none. */
  readonly cacheVariable: string | undefined
  /** What `kedge run` sets besides what passes through, and what it leaves out of that. */
  readonly context: (target: Target, secrets: Values) => { readonly set: Values; readonly without: readonly string[] }
  /** For a new target: the option that says where its store is, how it is asked for, and the settings that come of it. */
  readonly place: {
    readonly option: 'repo' | 'store'
    readonly question: string
    /** Failure 'misuse' for what cannot be one. `cwd`: from which a relative folder counts. */
    readonly settings: (text: string, cwd: string) => Values
  }
  /** The suspect snapshots of which the store itself says so, with the reason, by id; without it none does. */
  readonly suspects?: (target: Target, context: Pick<RunContext, 'warn' | 'forced'>) => Promise<Values>
  /** The recovery sheet: lines without `#` are commands for sh. */
  readonly sheet: (sheet: Sheet) => Promise<string> | string
}
