// restic's versions and what differs between them. facts: restic's changelog, and 0.14.0, 0.18.0, 0.19.1 run.
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { answer } from '../../child.ts'
import { callerEnv } from '../../env.ts'
import { findInPath } from '../../executable.ts'
import { Failure } from '../../failure.ts'
import { readJson, replaceFile } from '../../ledger.ts'

export type Version = readonly [number, number, number]

const since = {
  /** --retry-lock, SNAPSHOT:/path, restore --json */
  retryLock: [0, 16, 0],
  subpath: [0, 16, 0],
  restoreJson: [0, 16, 0],
  /** restore --dry-run, --delete, --overwrite; statuses 10 to 12; exit_error */
  restoreDryRun: [0, 17, 0],
  statuses: [0, 17, 1],
  checkJson: [0, 18, 0],
} as const satisfies Record<string, Version>
export type Feature = keyof typeof since

export const has = (version: Version, feature: Feature): boolean => compare(version, since[feature]) >= 0

export function compare(a: Version, b: Version): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2]
}

/** 'restic 0.14.0 compiled with go1.19.8 on linux/amd64' -> [0, 14, 0]; a development version counts as its base. */
export function parseVersion(text: string): Version | undefined {
  const [, major, minor, patch] = /\brestic (\d+)\.(\d+)\.(\d+)/.exec(text) ?? []
  return major === undefined ? undefined : [Number(major), Number(minor), Number(patch)]
}

export const oldest: Version = [0, 14, 0]

type Known = { path: string; size: number; mtime: number; version: Version }

/** The version of the restic in PATH. It is asked once for each binary (path, size, mtime) and kept in the cache folder. */
export async function resticVersion(cache: string): Promise<Version> {
  const path = findInPath('restic')
  if (!path) throw new Failure('tool', "cannot start 'restic': not found in PATH", { hint: 'install restic, or run ./setup' })
  const { size, mtimeMs: mtime } = await stat(path)
  const file = join(cache, 'restic-version.json')
  const known = await readJson<Known>(file)
  if (known?.path === path && known.size === size && known.mtime === mtime) return known.version
  const { stdout, stderr, status } = await answer([path, 'version'], { env: callerEnv() })
  const version = parseVersion(stdout)
  if (status !== 0 || !version)
    throw new Failure('tool', `cannot read the version of '${path}': ${(stderr || stdout).trim().split('\n')[0] ?? ''}`)
  await keepKnown(file, { path, size, mtime, version })
  return version
}

/** Only in a cache folder that is there (restic makes it) and may be written: what cannot be kept is asked again. */
async function keepKnown(file: string, known: Known): Promise<void> {
  try {
    await replaceFile(file, JSON.stringify(known), 0o640, false)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
  }
}
