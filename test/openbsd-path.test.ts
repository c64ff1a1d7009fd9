// kedge on a machine like OpenBSD: sh is a descendant of pdksh, PATH has plain tools only, and there is no bash, no systemd, no /proc.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Drilled, RunRow, Snapshot } from '../lib/rows.ts'
import { grace } from '../lib/scheduler/crew.ts'
import { cheapen } from './cheap.ts'
import { fake, growTree, type Machine, machine, newTarget, type Result, root, sameTree, startProgram } from './harness.ts'
import { makeStore } from './store.ts'

const openbsd = path.join(root, 'openbsd')
const stand = path.join(root, 'test/openbsd')
const shells = ['posh', 'mksh'] as const

function found(tool: string): string {
  const places = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/usr/bin', '/sbin', '/bin']
  const place = places.find((folder) => fs.existsSync(path.join(folder, tool)))
  assert.ok(place, `${tool} is needed: ./test/run installs it`)
  return fs.realpathSync(path.join(place, tool))
}

// Tools that refuse what only GNU's know: long options, and with ps all but the keywords that mean the same on OpenBSD.
const noLong = 'for a; do case $a in --) break ;; --?*) refuse "$a" ;; esac; done'
const strict = ['cat', 'chmod', 'cmp', 'grep', 'id', 'mkdir', 'mkfifo', 'rm', 'sed', 'sleep']
const first = 'case ${1-} in -i | -n | [!-]*) ;; *) refuse "${1-}" ;; esac'
// kill is no part of posh, and of `kill -TERM -1234` procps's makes -1, which is every process: here it is mksh's, and refuses that form.
const kill = `check() {
  case $1 in -s) shift 2 ;; -*) shift ;; esac
  case $1 in --) shift; case $1 in -1 | 0) refuse "$@" ;; esac ;; -* | 0) refuse "$@" ;; esac
}
check "$@"`
/** What was refused: a caller may do without the tool, and say nothing. */
const refusals = (m: Machine) => path.join(m.dir, 'refused')

/** Fills `dir`/bin with all the tools that there are, and writes the command kedge as setup does. */
function plainTools(m: Machine, shell: string): void {
  const bin = path.join(m.dir, 'bin')
  const refuse = `refuse() { echo "$0: $*" >>${refusals(m)}; exit 1; }`
  const script = (name: string, text: string) => fake(bin, name, `#!${shell}\n${refuse}\n${text}\n`)
  const link = (name: string, to: string) => fs.symlinkSync(to, path.join(bin, name))
  // Where node lies in /usr/local/bin, it is hidden with the rest of that folder, and is seen in DIR/local.
  const node = fs.realpathSync(process.execPath).replace(/^\/usr\/local\/bin\//, `${m.dir}/local/`)
  for (const tool of strict) script(tool, `${noLong}\nexec ${found(tool)} "$@"`)
  for (const tool of ['env', 'nice']) script(tool, `${first}\nexec ${found(tool)} "$@"`)
  script('kill', `${kill}\nexec ${found('mksh')} -c 'kill "$@"' kill "$@"`)
  link('sh', shell)
  link('node', node)
  link('restic', m.restic.path)
  script('logger', `${noLong}\nwhile read -r line; do echo "$line" >>${m.dir}/syslog; done`)
  // It alone sees /proc, as OpenBSD's asks the kernel. Of all argument lists it shows this machine's: another's kedged is left alone.
  const show = `mount=${found('mount')}; $mount --bind ${m.dir}/proc /proc && exec ${found('ps')} "$@"`
  script(
    'ps',
    `args=
for a; do case $a in
  args=) args=yes ;;
  -A | -o | -p | pid= | ppid= | pgid= | state= | lstart= | [0-9]*) ;;
  *) refuse "$a" ;;
esac; done
show() { ${found('unshare')} -m ${shell} -c '${show}' ps "$@"; }
if [ "$args" ]; then show "$@" | ${found('grep')} -F -e ${m.dir}/; else show "$@"; fi`,
  )
  fs.symlinkSync(root, path.join(m.dir, 'house'))
  fake(m.dir, 'kedge', `exec '${node}' '${m.dir}/house/dist/kedge.cjs' "$@"`)
}

type Place = { m: Machine; source: string; inside: (...command: string[]) => ReturnType<typeof startProgram> }

/** Whether this user may have a mount namespace: root, or any user where the kernel lets him. */
function namespaces(): readonly string[] | undefined {
  const how = process.geteuid?.() === 0 ? ['-m'] : ['-rm']
  const { status } = spawnSync(found('unshare'), [...how, '/bin/sh', '-c', 'mount -t tmpfs kedge /proc'])
  return status === 0 ? how : undefined
}

function place(t: TestContext, shell: string): Place | undefined {
  const how = namespaces()
  if (!how) {
    t.skip('this user may not hide /proc (unshare -m): run the tests as root')
    return undefined
  }
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  growTree(source)
  plainTools(m, found(shell))
  const env = { PATH: `${m.dir}/bin:/usr/local/bin`, LANG: undefined }
  const enter = [path.join(stand, 'enter'), m.dir, found(shell), path.join(openbsd, 'kedged'), path.join(stand, 'rc.subr')]
  const inside = (...command: string[]) => startProgram(m, found('unshare'), [...how, '/bin/sh', ...enter, ...command], { env })
  return { m, source, inside }
}

async function well(started: { result: Promise<Result> }): Promise<Result> {
  const result = await started.result
  assert.equal(result.status, 0, `${result.stdout}${result.stderr}`)
  return result
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 600; i++) {
    if (holds()) return
    await sleep(50)
  }
  assert.fail(`it did not come about: ${what}`)
}

/** Of web1, as kedge new made it. */
function passwordOf(m: Machine): string {
  const text = fs.readFileSync(path.join(m.config, 'targets', 'web1', 'secret.env'), 'utf8')
  return /^RESTIC_PASSWORD='?([^'\n]+)/m.exec(text)?.[1] ?? assert.fail('no password')
}

const yearly = '0 0 1 1 *'

/** The last backup seems to be two years ago: one is due. */
function age(m: Machine, name: string): void {
  const file = path.join(m.state, name, 'last.json')
  const last = JSON.parse(fs.readFileSync(file, 'utf8'))
  for (const row of Object.values(last.backup) as { start?: string }[]) if (row.start) row.start = '2024-06-01T00:00:00.000Z'
  fs.writeFileSync(file, JSON.stringify(last))
}

/** The pid in the lock is this test's, which began earlier. */
function giveAway(m: Machine, name: string): void {
  const dir = path.join(m.state, name, 'lock')
  const file = path.join(dir, fs.readdirSync(dir).find((each) => each.startsWith('write.')) ?? '')
  const [holder = '', ...rest] = fs.readFileSync(file, 'utf8').split('\n')
  const known = JSON.parse(holder)
  fs.writeFileSync(file, [JSON.stringify({ ...known, pid: process.pid, uptime: known.uptime - 60 }), ...rest].join('\n'))
}

const runsOf = (m: Machine, name: string) =>
  fs
    .readFileSync(path.join(m.state, name, 'runs.ndjson'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as RunRow)

test('the machine is what it claims: no /proc, no bash, no systemd, no GNU options, and /bin/sh is a descendant of pdksh', async (t) => {
  for (const shell of shells) {
    const here = place(t, shell)
    if (!here) return
    const missing = ['bash', 'systemctl', 'systemd-creds', 'gpg', 'flock', 'timeout', 'stat']
    const refused = ['read -r line </proc/self/stat', '/usr/bin/bash -c :', 'sleep --help', 'ps -A -o pid= -o etimes=']
    const asked = [...refused, ...missing.map((tool) => `command -v ${tool}`)]
    const script = asked.map((text) => `(${text}) >/dev/null 2>&1 && echo '${text}'`).join('\n')
    const { stdout } = await here.inside('/bin/sh', '-c', `${script}\necho "\${POSH_VERSION-}\${KSH_VERSION-}"`).result
    assert.match(stdout, shell === 'mksh' ? /^@\(#\)MIRBSD KSH.*\n$/ : /^\d[\d.]*\n$/, 'all of it fails, and it is this shell')
  }
})

test('under posh with a plain PATH a target is made, saved, checked, and restored to the same bytes', async (t) => {
  const here = place(t, 'posh')
  if (!here) return
  const { m, source, inside } = here
  const kedge = async (...args: string[]) => await well(inside('kedge', ...args))
  const repo = path.join(m.dir, 'r')
  await kedge('new', 'web1', '--path', source, '--repo', repo, '--secret', 'file', '--keep', 'last=2', '--schedule', yearly)
  scriptsOf(m)
  await kedge('init', 'web1')
  cheapen(repo, passwordOf(m))
  await kedge('backup', 'web1')
  const snapshots = (await kedge('list', 'web1', '--json')).rows as Snapshot[]
  assert.equal(snapshots.length, 2, 'the paths and the stream')
  await restored(here)
  assert.equal((await kedge('cat', 'web1', 'latest:/app.sql')).stdout, 'select 1\n')
  await kedge('check', 'web1')
  const ofPaths = snapshots.find(({ stream }) => stream === undefined)?.id ?? ''
  const [drilled] = (await kedge('drill', 'web1', ofPaths, '--json')).rows as Drilled[]
  assert.ok(drilled && drilled.source > 0, JSON.stringify(drilled))
  await kedge('prune', '-n', 'web1')
  await kedge('status')
  await kedge('doctor', 'web1').catch(() => undefined)
  await killedAndMadeUpFor(here)
})

// What differs from shell to shell is how children are started and ended.
test('under mksh too a target is saved, killed, saved again, and restored to the same bytes', async (t) => {
  const here = place(t, 'mksh')
  if (!here) return
  const { m, source, inside } = here
  await makeStore(m, newTarget(m, 'web1', { paths: [source], env: { SCHEDULE_BACKUP: yearly } }))
  scriptsOf(m)
  await well(inside('kedge', 'backup', 'web1'))
  await restored(here)
  await killedAndMadeUpFor(here)
})

function scriptsOf(m: Machine): void {
  const dir = path.join(m.config, 'targets', 'web1')
  fake(dir, 'streams/app.sql', `[ ! -e ${m.dir}/slow ] || { echo $$ >${m.dir}/pid; while :; do sleep 1; done; }\necho 'select 1'`)
  fake(dir, 'hooks/before-backup', `echo "$KEDGE_TARGET" >>${m.dir}/hooked`)
}

async function restored({ m, source, inside }: Place): Promise<void> {
  const to = path.join(m.dir, 'to')
  await well(inside('kedge', 'restore', 'web1', 'latest', '--to', to))
  sameTree(source, path.join(to, source))
}

/** A run that is killed leaves its lock. Another process has its number by now: only ps tells that it is another. */
async function killedAndMadeUpFor({ m, inside }: Place): Promise<void> {
  fs.writeFileSync(path.join(m.dir, 'slow'), '')
  const killed = inside('kedge', 'backup', 'web1')
  await until('the stream runs', () => fs.existsSync(path.join(m.dir, 'pid')))
  killed.child.kill('SIGKILL')
  await killed.result
  fs.rmSync(path.join(m.dir, 'slow'))
  giveAway(m, 'web1')
  age(m, 'web1')
  const once = await well(inside('kedge', 'scheduler', '--once'))
  assert.equal(once.stdout.split('\t').slice(0, 3).join(' '), 'web1 backup 0')
  assert.deepEqual(
    runsOf(m, 'web1')
      .filter(({ verb }) => verb === 'backup')
      .map(({ state }) => state),
    ['success', 'crashed', 'success'],
  )
  assert.equal(fs.readFileSync(path.join(m.dir, 'hooked'), 'utf8'), 'web1\n'.repeat(3))
  assert.ok(!fs.existsSync(refusals(m)), 'a tool was called as only GNU knows it')
}

test('the scripts of openbsd/ are read by the shells that stand in for OpenBSD, and its ksh', () => {
  for (const shell of ['mksh', 'posh', 'ksh93'])
    for (const file of [path.join(openbsd, 'kedged'), path.join(openbsd, 'daily.local'), path.join(stand, 'rc.subr')]) {
      const { status, stderr } = spawnSync(found(shell), ['-n', file], { encoding: 'utf8' })
      assert.deepEqual([status, stderr.replace(/.*warning.*\n/g, '')], [0, ''], `${shell} -n ${file}`)
    }
})

test("rc.d's pattern matches the daemon as node shows it, whatever its flags, and no run that it starts", () => {
  const [, pattern = ''] = /^pexp="(.*)"$/m.exec(fs.readFileSync(path.join(openbsd, 'kedged'), 'utf8')) ?? []
  // rc.subr(8) keeps it in a file, whose lines end at a '#', and which loses outer quotes.
  assert.doesNotMatch(pattern, /[#'"]/)
  const matches = (args: string) => spawnSync('grep', ['-Ex', pattern], { input: `${args}\n` }).status === 0
  const program = '/usr/local/lib/kedge/current/dist/kedge.cjs'
  const cases: [args: string, matching: boolean][] = [
    [`/usr/local/bin/node ${program} scheduler`, true],
    [`/usr/local/bin/node ${program} scheduler --jobs 4`, true],
    [`node ${program} scheduler`, true],
    [`/usr/local/bin/node ${program} backup --wait=1h web1`, false],
    [`/usr/local/bin/node ${program} backup scheduler`, false],
    [`/usr/local/bin/node ${program} schedule`, false],
    [`su -fl -c kedged -s /bin/sh root -c set -o pipefail; /usr/local/bin/kedge scheduler 2>&1 | logger -isp daemon.info`, false],
    [`vi ${program} scheduler`, false],
  ]
  for (const [args, matching] of cases) assert.equal(matches(args), matching, args)
})

test('rc.d waits longer for the end of the daemon than that waits for its runs, and the pages name the same time', () => {
  const limit = Number(/^daemon_timeout="(\d+)"/m.exec(fs.readFileSync(path.join(openbsd, 'kedged'), 'utf8'))?.[1])
  assert.ok(limit > grace, `${limit}`)
  assert.ok(fs.readFileSync(path.join(openbsd, 'README.md'), 'utf8').includes(`up to ${grace} s`))
  const page = fs.readFileSync(path.join(root, 'docs/kedge-scheduler.1'), 'utf8')
  assert.ok(page.includes(`${grace} seconds`))
  assert.ok(Number(/--stop-timeout (\d+)/.exec(page)?.[1]) > grace)
})

test('rc.d starts the daemon, checks, reloads and stops it; what was overdue is saved meanwhile, and restores the same bytes', async (t) => {
  const here = place(t, 'posh')
  if (!here) return
  const { m, source, inside } = here
  const lockDir = path.join(m.state, '.scheduler', 'lock')
  const pid = () => {
    const [file] = fs.existsSync(lockDir) ? fs.readdirSync(lockDir) : []
    // It may have been made a moment ago, and be empty yet.
    return file ? Number(JSON.parse(fs.readFileSync(path.join(lockDir, file), 'utf8').split('\n')[0] || '{}').pid) : 0
  }
  const syslog = () => (fs.existsSync(`${m.dir}/syslog`) ? fs.readFileSync(`${m.dir}/syslog`, 'utf8') : '')
  const kedge = async (...args: string[]) => await well(inside('kedge', ...args))
  const kedged = (action: string) => inside('/bin/sh', '/etc/rc.d/kedged', action)
  await makeStore(m, newTarget(m, 'web1', { paths: [source], env: { SCHEDULE_BACKUP: yearly } }))
  await kedge('backup', 'web1')
  fs.writeFileSync(path.join(source, 'written later'), 'and saved by the daemon\n')
  age(m, 'web1')

  assert.equal((await kedged('check').result).status, 1, 'not yet')
  assert.equal((await well(kedged('start'))).stdout, 'kedged(ok)\n')
  await until('the daemon holds its lock', () => pid() > 0)
  const daemon = pid()
  let running = true
  t.after(() => running && process.kill(daemon, 'SIGKILL'))
  await well(kedged('check'))
  await until('what was overdue is saved', () => /web1\tbackup\t0\t/.test(syslog()))
  newTarget(m, 'web2', { env: { SCHEDULE_BACKUP: yearly } })
  await well(kedged('reload'))
  await until('it has read the targets again', () => /scheduler: 2 targets, 2 schedules/.test(syslog()))
  assert.equal((await well(kedged('start'))).stdout, '', 'it runs already')
  assert.equal((await well(kedged('stop'))).stdout, 'kedged(ok)\n')
  running = false
  assert.equal((await kedged('check').result).status, 1, 'it is over')
  await restored(here)
  assert.ok(!fs.existsSync(refusals(m)), 'a tool was called as only GNU knows it')
})
