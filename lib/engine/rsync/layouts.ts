// How other tools lay out their snapshots: told by the names below a folder. Nothing here changes anything.
import { readdir, readFile, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { Failure } from '../../failure.ts'
import { isAbsent } from '../../ledger.ts'
import { instantOf, type Offset, offsetIn } from '../../zone.ts'

/** A tree of another tool's. `time`: milliseconds; `dated`: the folder whose mtime is the time, also of the trees beside this one. */
export type Old = {
  readonly path: string
  readonly time: number
  readonly host?: string
  readonly manual?: true
  readonly dated?: string
}
/**
 * `left`: what lies there too and is no whole snapshot, with the reason. `placed`: the trees begin at the root of their host. `others`: the
 * hosts that are there, where that of --host is not.
 */
export type Layout = {
  readonly name: string
  readonly placed: boolean
  readonly snapshots: readonly Old[]
  readonly left: readonly string[]
  readonly others?: readonly string[]
}

/** The first layout that the folder has, the oldest snapshot first; undefined for an unknown one. Failure `misuse` where --host has to choose. */
export async function layoutOf(folder: string, host: string | undefined, zone: string): Promise<Layout | undefined> {
  const folders = await foldersIn(folder)
  const offset = offsetIn(zone)
  const found =
    (await kedge(folder, folders)) ??
    (await pobsync(folder, folders, host)) ??
    (await rsyncTimeBackup(folder, folders, offset)) ??
    (await rsnapshot(folder, folders, host)) ??
    dated(folder, folders, offset)
  return found && { ...found, snapshots: [...found.snapshots].sort((a, b) => a.time - b.time || (a.path < b.path ? -1 : 1)) }
}

async function foldersIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder, { withFileTypes: true })).filter((each) => each.isDirectory()).map(({ name }) => name)
  } catch (error) {
    if (!isAbsent(error)) throw error
    throw new Failure('misuse', `cannot take in '${folder}': there is no such folder`)
  }
}

const hasFile = (file: string): Promise<boolean> =>
  stat(file).then(
    () => true,
    (error) => {
      if (isAbsent(error)) return false
      throw error
    },
  )

/** kedge's own are as they should be; only their place is another. */
async function kedge(folder: string, folders: readonly string[]): Promise<undefined> {
  if (!folders.includes('snapshots') && !(await hasFile(join(folder, 'kedge-store.json')))) return undefined
  throw new Failure('refused', `refusing to take in '${folder}': it is kedge's own`, {
    hint: `a target's folder is moved as it is, to STORE/OLDNAME; SNAPSHOTS_OF='NAME OLDNAME' shows what it holds`,
  })
}

/**
 * rsnapshot (1.4): `daily.0/HOST/etc`, a backup point being the second column of a `backup` line. It sets the time of hourly.0 at the
 * end of a run (touch_interval_dir), and renaming keeps it. `.sync` is the work of a run that did not rotate, `_delete.PID` is rubbish.
 */
async function rsnapshot(folder: string, folders: readonly string[], host: string | undefined): Promise<Layout | undefined> {
  const intervals = folders.filter((name) => /^\w+\.\d+$/.test(name) && !name.startsWith('_delete.'))
  if (intervals.length === 0) return undefined
  const points = new Map<string, string[]>()
  for (const name of intervals) points.set(name, await foldersIn(join(folder, name)))
  const names = [...new Set([...points.values()].flat())].sort()
  const wanted = choose(folder, names, host)
  const snapshots: Old[] = []
  for (const [name, hosts] of points) {
    if (wanted === undefined || !hosts.includes(wanted)) continue
    const interval = join(folder, name)
    snapshots.push({ path: join(interval, wanted), time: (await stat(interval)).mtimeMs, dated: interval, ...hostOf(wanted) })
  }
  const left = folders.filter((name) => name === '.sync' || name.startsWith('_delete.')).map((name) => `${name}: no snapshot`)
  return { name: 'layout of rsnapshot', placed: true, snapshots, left, ...(wanted === undefined && { others: names }) }
}

const hostOf = (name: string) => name !== 'localhost' && { host: name }

/** One of several names, which --host gives; undefined where that one is not there. */
function choose(folder: string, names: readonly string[], host: string | undefined): string | undefined {
  const [only, second] = names
  if (host === undefined && second !== undefined)
    throw new Failure('misuse', `'${folder}' holds snapshots of several: ${listed(names)}`, {
      hint: `--host ${only} takes in those of one`,
    })
  return names.find((name) => name === (host ?? only))
}

export const listed = (names: readonly string[]): string => names.map((name) => `'${name}'`).join(', ')

/** laurent22's rsync_tmbackup.sh: folders named after the local time, beside backup.marker; with backup.inprogress the newest is a part. */
async function rsyncTimeBackup(folder: string, folders: readonly string[], offset: Offset): Promise<Layout | undefined> {
  if (!(await hasFile(join(folder, 'backup.marker')))) return undefined
  const names = folders.filter((name) => /^\d{4}-\d\d-\d\d-\d{6}$/.test(name)).sort()
  const unfinished = (await hasFile(join(folder, 'backup.inprogress'))) ? names.pop() : undefined
  const snapshots = names.map((name) => ({ path: join(folder, name), time: instantOf(localTime(name), offset) }))
  return {
    name: 'layout of rsync-time-backup',
    placed: false,
    snapshots,
    left: unfinished === undefined ? [] : [`${unfinished}: unfinished, as backup.inprogress says`],
  }
}

const pobsyncs = 'layout of pobsync'

/**
 * pobsync: BACKUP_ROOT/HOST/{scheduled,manual}/NAME/data, with meta/meta.yaml beside; names are UTC times; .incomplete is a part. What looks
 * otherwise is left where it is, and said.
 */
async function pobsync(folder: string, folders: readonly string[], host: string | undefined): Promise<Layout | undefined> {
  const kinds = ['scheduled', 'manual']
  let root = folder
  if (!kinds.some((kind) => folders.includes(kind))) {
    const hosts: string[] = []
    for (const name of folders) if (await hasFile(join(folder, name, 'scheduled'))) hosts.push(name)
    if (hosts.length === 0) return undefined
    const wanted = choose(folder, hosts.sort(), host)
    if (wanted === undefined) return { name: pobsyncs, placed: true, snapshots: [], left: [], others: hosts }
    root = join(folder, wanted)
  }
  const snapshots: Old[] = []
  const left = (await hasFile(join(root, '.incomplete'))) ? ['.incomplete: unfinished'] : []
  for (const kind of kinds) {
    for (const name of (await hasFile(join(root, kind))) ? await foldersIn(join(root, kind)) : []) {
      const dir = join(root, kind, name)
      const meta = join(dir, 'meta', 'meta.yaml')
      const [, status] = /^status:\s*['"]?(\w+)/m.exec((await hasFile(meta)) ? await readFile(meta, 'utf8') : '') ?? []
      const time = /^\d{8}-\d{6}Z/.test(name) ? localTime(name) : undefined
      if (time === undefined || !(await hasFile(join(dir, 'data')))) left.push(`${kind}/${name}: no snapshot of pobsync's`)
      else if (status === 'failed') left.push(`${kind}/${name}: failed, as its meta.yaml says`)
      else snapshots.push({ path: join(dir, 'data'), time, host: host ?? basename(root), ...(kind === 'manual' && { manual: true }) })
    }
  }
  return { name: pobsyncs, placed: true, snapshots, left }
}

/** 2026-11-20, 2026-11-20T0215, 2026-11-20_02-15-30, 20261120T021530Z: a local time, or with a Z in UTC. */
const dates = /^\d{4}-?\d\d-?\d\d([T_-]?\d\d[:-]?\d\d([:-]?\d\d)?Z?)?$/

function dated(folder: string, folders: readonly string[], offset: Offset): Layout | undefined {
  const names = folders.filter((name) => dates.test(name))
  if (names.length === 0) return undefined
  const snapshots = names.map((name) => ({
    path: join(folder, name),
    time: name.endsWith('Z') ? localTime(name) : instantOf(localTime(name), offset),
  }))
  return { name: 'folders named after dates', placed: false, snapshots, left: [] }
}

/** The clock that a name shows, read as UTC: its digits are year, month, day, hour, minute, second. */
function localTime(name: string): number {
  const digits = (/^[\d:T_-]+/.exec(name)?.[0] ?? '').replace(/\D/g, '').slice(0, 14).padEnd(14, '0')
  const [, year, month, day, hour, minute, second] = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)$/.exec(digits) ?? []
  return Date.UTC(Number(year), Number(month) - 1, Number(day), Number(hour), Number(minute), Number(second))
}
