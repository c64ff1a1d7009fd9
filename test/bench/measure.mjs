// Measuring one command: CPU of the whole process tree, wall, and the peak memory of kedge's own process.
// bash keeps the time, since it is on every Debian and counts all descendants that were waited for, to the millisecond (getrusage);
// node sees itself only, perl and sh count in hundredths. A node process tells its own peak through a preload, in a run of its own:
// a peak taken from outside would be that of the largest process in the tree, which is restic.
import { spawnSync } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const timed = `TIMEFORMAT='%U %S %R'; time "$@" 2>&3`
// Two commands, so that bash forks: a process begins with the peak of the one in whose place it is put.
const plain = '"$@" 2>&3; exit $?'

/** What kedge's own small helper in the group takes (the leash, a sleeping shell) is not in it: less than a millisecond. */
function shell(world, script, command, env) {
  const errors = join(world.dir, 'stderr')
  const fd = openSync(errors, 'w')
  const out = openSync('/dev/null', 'w')
  try {
    const { status, stderr } = spawnSync('/bin/bash', ['-c', script, 'bash', ...command], {
      env: { ...world.env, ...env },
      cwd: world.dir,
      stdio: ['ignore', out, 'pipe', fd],
      encoding: 'utf8',
    })
    if (status !== 0) throw new Error(`${command.join(' ')}: status ${status}\n${readFileSync(errors, 'utf8')}${stderr}`)
    return stderr.trim()
  } finally {
    closeSync(fd)
    closeSync(out)
  }
}

/** { cpu, wall } in seconds. `command` is words, or { command, env, before }. */
export function measure(world, what) {
  const { command, env, before } = Array.isArray(what) ? { command: what } : what
  before?.()
  const [user, system, wall] = shell(world, timed, command, env).split('\n').at(-1).split(' ').map(Number)
  return { cpu: user + system, wall }
}

export const preload = join(import.meta.dirname, 'peak.cjs')

/** The peak of the first node process in MB, millions of bytes (kedge itself: it gives its children no NODE_OPTIONS). */
export function peak(world, what, options = `--require=${preload}`) {
  const { command, env, before } = Array.isArray(what) ? { command: what } : what
  before?.()
  const file = join(world.dir, 'peak')
  shell(world, plain, command, { ...env, NODE_OPTIONS: options, BENCH_PEAK: file })
  return (Number(readFileSync(file, 'utf8')) * 1024) / 1e6
}

/** Each by turns: a list of what `measure` says of each, for each round. The first round warms the caches and is thrown away. */
export function turns(world, whats, rounds) {
  const all = []
  for (let round = 0; round <= rounds; round++) {
    const measured = whats.map((what) => measure(world, what))
    if (round > 0) all.push(measured)
  }
  return all
}

/** A and B by turns: [{ a, b }]. */
export const pairs = (world, a, b, rounds) => turns(world, [a, b], rounds).map(([first, second]) => ({ a: first, b: second }))

export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b)
  const half = sorted.length >> 1
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
}

/** Of many numbers the middle and the ends. */
export const spread = (numbers) => ({ middle: median(numbers), least: Math.min(...numbers), most: Math.max(...numbers) })
