// Rows about the house around the snapshots: secrets, settings, files, schedules, notices, the console. Types only.
import type { StatusRow } from '../rows.ts'

/** One step of a rotation; `key` is the store's id of the key that it is about. */
export type Rotated = {
  kind: 'rotated'
  target: string
  step: 'begun' | 'added' | 'proven' | 'stored' | 'checked' | 'removed' | 'done' | 'wanted'
  key?: string
  text: string
  dryRun?: true
}
/** A key of the secrets, and the place that it comes from; never its value. */
export type SecretRow = { kind: 'secret'; target: string; key: string; from: string }
export type Finding = { kind: 'finding'; target: string; check: string; level: 'ok' | 'warning' | 'blocked'; text: string; remedy?: string }
export type Setting = { kind: 'setting'; target: string; key: string; value: string; from: string }
export type FileRow = {
  kind: 'file'
  target: string
  path: string
  action: 'written' | 'moved' | 'removed' | 'unchanged' | 'would write' | 'would move' | 'would remove'
}
/** What a scheduler will start: `time`: when; `due`: since when it is, earlier than `time` where it was missed. `target` is empty for the digest. */
export type Upcoming = { kind: 'upcoming'; time: string; target: string; verb: string; due: string }
/** A verb that a target has scheduled. `by`: what starts it on this machine, `-` is nothing; `target` is `-` for the digest of all. */
export type Scheduled = {
  kind: 'scheduled'
  target: string
  verb: string
  schedule: string
  next: string | null
  by: 'systemd' | 'crontab' | 'scheduler' | '-'
  state: StatusRow['state'] | '-'
  good: string | null
}
/** A run that a scheduler started is over. */
export type Ended = { kind: 'ended'; target: string; verb: string; status: number; seconds: number }
/** `to`: the address as it may be printed; of a web hook the host only. `target`: in a digest several, with commas between them. */
export type Told = {
  kind: 'told'
  target: string
  channel: 'mail' | 'webhook' | 'ping' | 'command'
  to: string
  state: 'sent' | 'failed' | 'would send'
  message?: string
}
/** A line that a command printed for a target, among many (kedge run --all). */
export type Output = { kind: 'output'; target: string; line: string }
/** How a command on one of many targets ended. */
export type Outcome = { kind: 'outcome'; target: string; status: number; seconds: number; message: string }
/** A key that gpg-agent holds for the secrets of targets. `until`: when it forgets it; null where the key has no passphrase. */
export type Primed = { kind: 'primed'; key: string; targets: readonly string[]; until: string | null }
/** The line of authorized_keys on the other host that lets a target's key in; `fingerprint`: the key's. */
export type AuthorizedKey = { kind: 'authorized'; target: string; line: string; fingerprint: string }
/** A key that a host shows. `known`: it was confirmed before; `host`: its name in known_hosts. */
export type HostKeyRow = {
  kind: 'hostkey'
  target: string
  fingerprint: string
  type: string
  host: string
  action: 'shown' | 'known' | 'trusted' | 'would trust'
}
/** A snapshot that is gone: when and why it was taken away, where it lay in the store, by whom (user@host), in which run. */
export type Removed = {
  kind: 'removed'
  target: string
  time: string
  id: string
  /** 'backup': an unfinished tree of which the run had no more use. */
  action: 'prune' | 'forget' | 'backup'
  reason: string
  path: string
  by: string
  run: string
}
