// The restic that is installed here: looked at, and nothing kept of it, unlike in the probe before a run.
import { answer } from '../../child.ts'
import { callerEnv } from '../../env.ts'
import { findInPath } from '../../executable.ts'
import { oldest, parseVersion, type Version } from './version.ts'

export type Installed = { readonly path: string; readonly text: string; readonly version: Version }

/** The oldest with which kedge works, and the one from which on each failure has a status and SIGTERM leaves no lock. */
export const wantedVersions: { readonly least: Version; readonly good: Version } = { least: oldest, good: [0, 17, 1] }

/** Undefined where none is in PATH; the version 0.0.0 where it does not say. */
export async function installed(): Promise<Installed | undefined> {
  const path = findInPath('restic')
  if (!path) return undefined
  const { stdout } = await answer([path, 'version'], { env: callerEnv() })
  const version = parseVersion(stdout) ?? [0, 0, 0]
  return { path, text: `restic ${version.join('.')}`, version }
}
