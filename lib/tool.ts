// The tool of an engine as it is installed here, without starting it for more than its version.
import { answer } from './child.ts'
import type { EngineName } from './contract.ts'
import { oldest, parseVersion, type Version } from './engine/restic/version.ts'
import { callerEnv } from './env.ts'
import { findInPath } from './foreign.ts'

export type Installed = { readonly path: string; readonly text: string; readonly version: Version }

/** The oldest version with which an engine works, and the one from which on it does so without detours. */
export const wantedVersions: Readonly<Record<EngineName, { name: string; least: Version; good: Version }>> = {
  restic: { name: 'restic', least: oldest, good: [0, 17, 1] },
}

/** Undefined where it is not in PATH; a version of 0.0.0 where it does not say. Nothing is kept, unlike in the engine's own probe. */
export async function installedTool(engine: EngineName): Promise<Installed | undefined> {
  const { name } = wantedVersions[engine]
  const path = findInPath(name)
  if (!path) return undefined
  const { stdout } = await answer([path, 'version'], { env: callerEnv() })
  const version = parseVersion(stdout) ?? [0, 0, 0]
  return { path, text: `${name} ${version.join('.')}`, version }
}
