// Is a process, or a group of processes, alive, and is it still the one that was written down? Pids are used again.
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname, uptime } from 'node:os'
import { answer } from './child.ts'
import { callerEnv } from './env.ts'
import { Failure } from './failure.ts'

/** 'unknown' is alive as far as one can tell: on another host, or where ps does not show it. */
export type Alive = 'yes' | 'no' | 'unknown'
export type Identity = {
  pid: number
  host: string
  /** Linux's id of the boot; '' where it cannot be read. */
  boot: string
  /** Linux's pid namespace, within which a pid means something; '' where it cannot be read. */
  namespace: string
  /** Seconds after boot at which the process started: no jump of the clock changes it. */
  started: number
  /** Seconds after boot at which this was written. */
  uptime: number
}
export type Group = {
  pgid: number
  /** Seconds after boot at which it was known to exist; its leader did not start later. */
  started: number
}
/** A line of ps. */
export type Process = { pid: number; pgid: number; zombie: boolean; started: number | undefined }

// uptime() has whole seconds on OpenBSD, lstart everywhere.
const tolerance = 3
// Seconds in which no pid is used again; a crowd that waits for short runs would start ps all the time.
const young = 1
// Taken once, early: process.uptime() stands still while the machine sleeps, uptime() does not.
const started = uptime() - process.uptime()

/** Who this process is, now. */
export function identity(): Identity {
  return {
    pid: process.pid,
    host: hostname(),
    boot: optional(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()),
    namespace: optional(() => readlinkSync('/proc/self/ns/pid')),
    started,
    uptime: uptime(),
  }
}

function optional(read: () => string): string {
  try {
    return read()
  } catch (error) {
    if (!(error as NodeJS.ErrnoException).code) throw error
    return ''
  }
}

/** Whether a pid, or with a minus a group, exists; zombies do. */
export function exists(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ESRCH' && code !== 'EPERM') throw error
    return code === 'EPERM'
  }
  return true
}

/**
 * Whether a process that was written down, or one of its groups, is still alive. ps is asked only where a pid or a group of that
 * number exists, and not where it was written, or the caller saw it alive (`sure`), a moment ago.
 */
export async function alive(left: Identity, groups: readonly Group[], sure = false): Promise<Alive> {
  const here = identity()
  const first = judge(left, groups, here, exists)
  if (first !== 'ask') return first
  if (sure || Math.abs(here.uptime - left.uptime) < young) return 'yes'
  const table = await processes()
  return judge(left, groups, here, exists, table) as Alive
}

/** The verdict; 'ask' where a table of processes is needed for it and was not given. */
export function judge(
  left: Identity,
  groups: readonly Group[],
  here: Identity,
  exists: (pid: number) => boolean,
  table?: readonly Process[],
): Alive | 'ask' {
  if (left.host !== here.host) return 'unknown'
  const boots = left.boot !== '' && here.boot !== ''
  if (boots && left.boot !== here.boot) return 'no'
  if (left.namespace && here.namespace && left.namespace !== here.namespace) return 'unknown'
  if (!boots && here.uptime < left.uptime - tolerance) return 'no'

  // In a container with an uptime of its own (lxcfs) ps counts from another beginning: then it misjudges this process too.
  const own = table?.find(({ pid }) => pid === here.pid)
  const exact = own?.started !== undefined && Math.abs(own.started - here.started) <= tolerance

  const holder = () => {
    if (left.pid === here.pid) return Math.abs(left.started - here.started) <= tolerance ? 'yes' : 'no'
    if (!exists(left.pid)) return 'no'
    if (!table) return 'ask'
    const row = table.find(({ pid }) => pid === left.pid)
    if (row?.zombie) return 'no'
    if (row?.started === undefined || !exact) return 'unknown'
    return Math.abs(row.started - left.started) <= tolerance ? 'yes' : 'no'
  }
  const group = ({ pgid, started }: Group) => {
    if (!exists(-pgid)) return 'no'
    if (!table) return 'ask'
    const members = table.filter((row) => row.pgid === pgid)
    if (members.length === 0) return 'unknown'
    const living = members.filter(({ zombie }) => !zombie)
    if (living.length === 0) return 'no'
    // No pid is given again while a group has its number: a younger leader means that the old group is gone.
    const leader = living.find(({ pid }) => pid === pgid)
    return exact && leader?.started !== undefined && leader.started > started + tolerance ? 'no' : 'yes'
  }
  const verdicts = [holder(), ...groups.map(group)]
  return (['yes', 'ask', 'unknown'] as const).find((verdict) => verdicts.includes(verdict)) ?? 'no'
}

/**
 * All processes that ps shows; none where there is no ps that knows these keywords. OpenBSD: etime is a time of day and `stat=` an
 * error (both are aliases there), hence lstart and state. UTC, since an hour comes twice when summer time ends.
 */
async function processes(): Promise<Process[]> {
  const columns = ['pid=', 'pgid=', 'state=', 'lstart='].flatMap((column) => ['-o', column])
  try {
    const { status, stdout } = await answer(['env', 'LC_ALL=C', 'TZ=UTC0', 'ps', '-A', ...columns], { env: callerEnv(), timeout: 10 })
    return status === 0 ? parse(stdout, Date.now() / 1000 - uptime()) : []
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    return []
  }
}

/** The lines of `ps -o pid= -o pgid= -o state= -o lstart=`; booted is in seconds of the wall clock. */
export function parse(text: string, booted: number): Process[] {
  const rows: Process[] = []
  for (const line of text.split('\n')) {
    const match = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(?:\w+ (\w+) +(\d+) ([\d:]+) (\d+)|-)\s*$/.exec(line)
    if (!match) continue
    const [, pid, pgid, state = '', month, day, time, year] = match
    const at = month ? Date.parse(`${day} ${month} ${year} ${time} GMT`) / 1000 : Number.NaN
    rows.push({
      pid: Number(pid),
      pgid: Number(pgid),
      zombie: /^[ZX]/.test(state),
      started: Number.isNaN(at) ? undefined : at - booted,
    })
  }
  return rows
}
