// The snapshots of a target: those with its tag.
import type { RunContext, Target } from '../../contract.ts'
import { readMarks } from '../../marks.ts'
import type { Snapshot } from '../../rows.ts'
import { holdTag, partialTag } from '../../snapshots.ts'
import { targetTags } from '../../target.ts'
import { askRestic, repository } from './tool.ts'

/** A snapshot as restic prints it (0.14 has no program_version, before 0.17 no summary). */
export type ResticSnapshot = {
  id: string
  time: string
  hostname: string
  paths: readonly string[]
  tags?: readonly string[]
  tree: string
  original?: string
  program_version?: string
  summary?: { total_files_processed?: number; total_bytes_processed?: number }
}

const streamTag = /^stream:(.+)$/

/** `all`: whatever the repository holds, not only this target's. */
export function snapshotsArgs(target: Target, options: { all?: boolean } = {}): string[] {
  return ['snapshots', '--json', '--no-lock', ...(options.all ? [] : targetTags(target).flatMap((tag) => ['--tag', tag]))]
}

export function toSnapshot(target: string, raw: ResticSnapshot, suspects: Readonly<Record<string, string>> = {}): Snapshot {
  const tags = raw.tags ?? []
  const stream = tags.map((tag) => streamTag.exec(tag)?.[1]).find(Boolean)
  const suspect = Object.entries(suspects).find(([id]) => raw.id.startsWith(id) || raw.original?.startsWith(id))?.[1]
  return {
    kind: 'snapshot',
    target,
    id: raw.id,
    time: new Date(raw.time).toISOString(),
    host: raw.hostname,
    paths: raw.paths,
    tags,
    ...(stream && { stream }),
    ...(raw.summary?.total_bytes_processed !== undefined && { size: raw.summary.total_bytes_processed }),
    ...(raw.summary?.total_files_processed !== undefined && { files: raw.summary.total_files_processed }),
    ...(tags.includes(holdTag) && { held: true }),
    ...(suspect && { suspect }),
    ...(tags.includes(partialTag) && { partial: true as const }),
    ...(raw.original && { original: raw.original }),
  }
}

/** A target's snapshots, the newest first. */
export async function snapshotsOf(target: Target, context: RunContext, options: { all?: boolean } = {}): Promise<Snapshot[]> {
  const text = await askRestic(target, snapshotsArgs(target, options), context, {
    action: `list the snapshots in '${repository(target)}'`,
    timeout: 3600,
  })
  const raw = JSON.parse(text || '[]') as ResticSnapshot[] | null
  const { suspects } = await readMarks(target.name)
  return (raw ?? []).map((each) => toSnapshot(target.name, each, suspects)).sort((a, b) => (a.time < b.time ? 1 : a.time > b.time ? -1 : 0))
}
