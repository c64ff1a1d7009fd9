// ./setup in the shells that it must run under: with fake package managers, and for real into a scratch home.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { dist, fake, growTree, type Machine, machine, type Result, root, sameTree, startProgram } from './harness.ts'

const shells = ['dash', 'mksh', 'ksh93', 'posh']

// What setup uses and every system has; what it has to install is not among them.
const standard =
  `basename cat chmod cp cut date df dirname env find grep head id ln mkdir mktemp mv paste printf readlink rm sed sh sort tail touch
  tr uname wc`.split(/\s+/)

type Bare = Machine & { house: string; tools: string }

/** A machine with nothing but the standard tools in PATH, and a kedge that is built already: `dist/kedge.cjs` is `program`. */
function bareMachine(t: TestContext, program = 'console.log("kedge 0")'): Bare {
  const bare = machine(t)
  const tools = path.join(bare.dir, 'tools')
  const house = path.join(bare.dir, "kedge's house")
  fs.mkdirSync(path.join(house, 'dist'), { recursive: true })
  fs.copyFileSync(path.join(root, 'setup'), path.join(house, 'setup'))
  fs.cpSync(path.join(root, 'install'), path.join(house, 'install'), { recursive: true })
  fs.writeFileSync(path.join(house, 'dist/kedge.cjs'), program)
  fs.mkdirSync(tools)
  for (const name of standard) {
    const found = ['/usr/bin', '/bin'].map((folder) => path.join(folder, name)).find((file) => fs.existsSync(file))
    fs.symlinkSync(found ?? assert.fail(`no ${name}`), path.join(tools, name))
  }
  fake(bare.bin, 'id', 'echo 1000')
  bare.env.PATH = `${bare.bin}:${tools}`
  return { ...bare, house, tools }
}

/** Runs ./setup under a shell, without a terminal. */
function setup(bare: Bare, args: readonly string[], shell = 'sh', cwd = bare.dir): Promise<Result> {
  const file =
    shell === 'sh'
      ? '/bin/sh'
      : execFileSync('sh', ['-c', `command -v ${shell}`])
          .toString()
          .trim()
  return startProgram(bare, file, [path.join(bare.house, 'setup'), ...args], { cwd }).result
}

/** A fake package manager that notes its words in the file `calls`, and brings what it was asked for. */
function fakeManager(bare: Bare, name: string): void {
  const bring = ['restic', 'gpg', 'fusermount3', 'ps', 'npm'].map((tool) => `cp /bin/true ${bare.bin}/${tool}`).join('\n')
  fake(
    bare.bin,
    name,
    `echo "${name} $*" >>${bare.dir}/calls\necho "the manager's own words"\n${bring}\nln -sf ${process.execPath} ${bare.bin}/node`,
  )
}

function calls(bare: Bare): string[] {
  const file = path.join(bare.dir, 'calls')
  return fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trimEnd().split('\n') : []
}

const managers: Record<string, string[]> = {
  'apt-get': [
    'apt-get -q update',
    'apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install ca-certificates fuse3 gnupg nodejs npm procps restic',
  ],
  dnf: ['dnf -y install fuse3 gnupg2 nodejs npm procps-ng restic'],
  apk: ['apk add --update-cache fuse3 gnupg nodejs npm procps restic'],
  zypper: ['zypper --non-interactive install --no-recommends fuse3 gpg2 nodejs-default npm-default procps restic'],
  pacman: ['pacman -Sy --needed --noconfirm fuse3 gnupg nodejs npm procps-ng restic'],
  pkg_add: ['pkg_add -I gnupg-- node restic'],
}

for (const shell of shells) {
  test(`under ${shell} each package manager is asked for its own names, through sudo or doas that may not ask`, async (t) => {
    for (const [name, expected] of Object.entries(managers)) {
      const gate = name === 'apk' || name === 'pkg_add' ? 'doas' : 'sudo'
      const bare = bareMachine(t)
      fakeManager(bare, name)
      fake(bare.bin, gate, `[ "$1" = -n ] || exit 1\nshift\necho "${gate}" >>${bare.dir}/gates\nexec "$@"`)
      fs.rmSync(path.join(bare.house, 'dist/kedge.cjs'))
      fake(bare.bin, 'uname', name === 'pkg_add' ? 'echo OpenBSD' : 'echo Linux')
      const result = await setup(bare, [], shell)
      // There is nothing to build in this house: setup comes to the build and fails there.
      assert.equal(result.status, 1, result.stdout + result.stderr)
      assert.match(result.stdout, /^OK {7}packages: .*\nFAILED {3}build$/m)
      assert.deepEqual(calls(bare), expected)
      assert.ok(fs.readFileSync(path.join(bare.dir, 'gates'), 'utf8').startsWith(gate))
    }
  })
}

test('root needs neither sudo nor doas, and a user who has neither is told what to run', async (t) => {
  const bare = bareMachine(t)
  fake(bare.bin, 'apk', 'echo "as root: $*"; exit 7')
  const refused = await setup(bare, [])
  assert.equal(refused.status, 1)
  assert.match(refused.stderr, /neither sudo nor doas: run as root: apk add --update-cache fuse3/)
  fake(bare.bin, 'id', 'echo 0')
  const failed = await setup(bare, [])
  assert.equal(failed.status, 1)
  assert.match(failed.stdout, /^FAILED {3}packages: fuse3 gnupg nodejs npm procps restic$/m)
  assert.match(failed.stderr, /as root: add --update-cache/)
  const log = path.join(bare.state, 'setup.log')
  assert.ok(failed.stderr.includes(`the details are in ${log}\n`), failed.stderr)
  assert.match(fs.readFileSync(log, 'utf8'), /as root: add --update-cache/)
})

test('a machine without a package manager that setup knows is told what is missing', async (t) => {
  const result = await setup(bareMachine(t), [])
  assert.equal(result.status, 1)
  assert.match(result.stderr, /install by hand: fuse gpg node npm ps restic/)
})

test("where the system's node is too old, npm's package node is put beside kedge and used", async (t) => {
  const bare = bareMachine(t)
  for (const tool of ['restic', 'gpg', 'fusermount3', 'ps']) fake(bare.bin, tool, ':')
  fake(bare.bin, 'node', '[ "$1" = -e ] && exit 1\necho "the old node ran kedge"; exit 1')
  fake(
    bare.bin,
    'npm',
    `echo "npm $*" >>${bare.dir}/calls\nmkdir -p node_modules/node/bin\nln -s ${process.execPath} node_modules/node/bin/node`,
  )
  const result = await setup(bare, [])
  assert.equal(result.status, 0, result.stdout + result.stderr)
  const own = path.join(bare.house, '.node')
  assert.deepEqual(calls(bare), [`npm install --prefix ${own} --no-save --no-package-lock --no-audit --no-fund node@22`])
  const link = path.join(bare.home, '.local/bin/kedge')
  assert.equal(fs.statSync(link).mode & 0o777, 0o755)
  assert.equal((await startProgram(bare, link, []).result).stdout, 'kedge 0\n')
  assert.ok(fs.readFileSync(link, 'utf8').includes('.node/node_modules/node/bin/node'))
  const node = await setup(bare, ['--node'])
  assert.equal(node.stdout, `${own}/node_modules/node/bin/node\n`)
  assert.equal(calls(bare).length, 1, 'it is installed once')
})

test('a path that is not there, an unknown option, a link or a line feed is status 2, and nothing is installed', async (t) => {
  const bare = bareMachine(t)
  fakeManager(bare, 'apk')
  fake(bare.bin, 'sudo', 'exec "$@"')
  fs.symlinkSync('/etc/passwd', path.join(bare.dir, 'link'))
  fs.mkdirSync(path.join(bare.dir, 'line\nfeed'))
  const cases: [string[], RegExp][] = [
    [['/etc', 'not there'], /^setup: cannot save 'not there': no such file or folder$/m],
    [[''], /a path is empty/],
    [['--paths', '/etc'], /unknown option '--paths'/],
    [['--', '--node'], /cannot save '.\/--node': no such file/],
    [['--node', '/etc'], /--node takes no PATH/],
    [['link'], /it is a link/],
    [['line\nfeed'], /line feed/],
  ]
  for (const [args, message] of cases) {
    const result = await setup(bare, args)
    assert.equal(result.status, 2, `${args}: ${result.stdout}${result.stderr}`)
    assert.match(result.stderr, message)
    assert.equal(result.stdout, '')
  }
  assert.deepEqual(calls(bare), [])
  assert.deepEqual(fs.readdirSync(bare.state), [])
})

test('a file kedge that setup did not write is not overwritten', async (t) => {
  const bare = bareMachine(t)
  for (const tool of ['restic', 'gpg', 'fusermount3', 'ps']) fake(bare.bin, tool, ':')
  fs.symlinkSync(process.execPath, path.join(bare.bin, 'node'))
  const link = fake(path.join(bare.home, '.local/bin'), 'kedge', 'echo another kedge')
  const before = fs.readFileSync(link, 'utf8')
  const result = await setup(bare, [])
  assert.equal(result.status, 1)
  assert.match(result.stderr, /not from setup: move it away/)
  assert.equal(fs.readFileSync(link, 'utf8'), before)
})

/** A machine with the real tools, where the copy of setup finds the built kedge beside it. */
function realMachine(t: TestContext): Bare {
  const real = bareMachine(t)
  fs.cpSync(dist, path.join(real.house, 'dist'), { recursive: true })
  real.env.PATH = [real.bin, path.dirname(real.restic.path), path.dirname(process.execPath), '/usr/bin:/bin'].join(':')
  return real
}

test('two commands: a home is saved, proven and restored byte by byte, and a second run changes nothing but the backups', async (t) => {
  const real = realMachine(t)
  const saved = path.join(real.dir, `the "documents" of $USER's`)
  const other = path.join(real.dir, 'other')
  fs.mkdirSync(saved)
  growTree(saved)
  fs.mkdirSync(path.join(other, 'below'), { recursive: true })
  fs.writeFileSync(path.join(other, 'below', 'file'), 'below\n')

  const first = await setup(real, [path.basename(saved), other])
  assert.equal(first.status, 0, first.stdout + first.stderr)
  assert.match(first.stdout, /A copy on the same disk is no protection from that disk\. It lies on the same file system/)
  const repository = path.join(real.home, '.local/share/kedge/local')
  for (const said of [
    repository,
    path.join(real.config, 'targets/local/secret.env'),
    path.join(real.config, 'targets/local/recovery.txt'),
    saved,
  ])
    assert.ok(first.stdout.includes(said), said)
  assert.deepEqual(
    fs
      .readFileSync(path.join(real.config, 'targets/local/paths'), 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('/')),
    [saved, other],
  )

  const link = path.join(real.home, '.local/bin/kedge')
  const before = path.join(real.dir, 'before')
  fs.mkdirSync(before)
  execFileSync('cp', ['-a', real.config, link, path.join(repository, 'config'), before])
  for (const shell of shells.filter((name) => name !== 'dash')) {
    const again = await setup(real, [path.basename(saved)], shell)
    assert.equal(again.status, 0, again.stdout + again.stderr)
    assert.deepEqual(
      again.lines.slice(0, 7).map((line) => line.split(/[ :]+/).slice(0, 2).join(' ')),
      ['SKIPPED packages', 'SKIPPED build', 'SKIPPED link', 'SKIPPED target', 'SKIPPED repository', 'OK backup', 'OK drill'],
    )
  }
  sameTree(real.config, path.join(before, 'etc'))
  sameTree(link, path.join(before, 'kedge'))
  sameTree(path.join(repository, 'config'), path.join(before, 'config'))

  const named = await startProgram(real, `${link}-targets`, ['-q']).result
  assert.equal(named.stdout, 'local\n', 'the link kedge-targets is kedge targets')
  const list = await startProgram(real, link, ['list', 'local', '-q']).result
  assert.equal(list.lines.length, shells.length, 'a backup a run')
  const to = path.join(real.dir, 'restored')
  const restored = await startProgram(real, link, ['restore', 'local', 'latest', '--to', to]).result
  assert.equal(restored.status, 0, restored.stderr)
  sameTree(path.join(to, saved), saved)
  sameTree(path.join(to, other), other)

  const wrong = await setup(real, [saved, real.home])
  assert.equal(wrong.status, 2)
  assert.ok(wrong.stderr.includes(`does not save '${real.home}'`), wrong.stderr)
  assert.equal((await startProgram(real, link, ['list', 'local', '-q']).result).lines.length, shells.length, 'and no backup was taken')
})

test('a repository that lies in the saved path is not saved into itself', async (t) => {
  const real = realMachine(t)
  fs.writeFileSync(path.join(real.home, 'file'), 'file\n')
  for (const run of [1, 2]) {
    const result = await setup(real, [real.home])
    assert.equal(result.status, 0, `run ${run}: ${result.stdout}${result.stderr}`)
  }
  const files = await startProgram(real, path.join(real.home, '.local/bin/kedge'), ['files', 'local', 'latest', '-q']).result
  assert.ok(files.lines.includes(path.join(real.home, 'file')), files.stdout)
  assert.deepEqual(
    files.lines.filter((line) => line.startsWith(path.join(real.home, '.local/share/kedge/local/'))),
    [],
  )
})

test('setup passes shellcheck', () => {
  const parts = fs
    .readdirSync(path.join(root, 'install'))
    .filter((name) => name.endsWith('.sh'))
    .map((name) => `install/${name}`)
  const scripts = ['setup', ...parts, 'test/run', 'test/tools/install', 'test/tools/fetch', '.ci/run']
  execFileSync('shellcheck', ['--external-sources', ...scripts], { cwd: root, stdio: 'inherit' })
})

test('a backup in part is status 3 and still drilled; one that failed, or a drill that failed, is status 1 and no success', async (t) => {
  // Each case: the statuses of backup and drill, then setup's own and what it says of them.
  const cases: [number, number, number, string[]][] = [
    [0, 0, 0, ['OK backup', 'OK drill']],
    [3, 0, 3, ['PARTLY backup', 'OK drill']],
    [1, 0, 1, ['FAILED backup']],
    [0, 14, 1, ['OK backup', 'FAILED drill']],
  ]
  for (const [backup, drill, status, said] of cases) {
    const bare = bareMachine(t, `process.exit({ backup: ${backup}, drill: ${drill} }[process.argv[2]] ?? 0)`)
    for (const tool of ['restic', 'gpg', 'fusermount3', 'ps']) fake(bare.bin, tool, ':')
    fs.symlinkSync(process.execPath, path.join(bare.bin, 'node'))
    const target = path.join(bare.config, 'targets/local')
    fs.mkdirSync(target, { recursive: true })
    fs.writeFileSync(path.join(target, 'target.env'), 'STORE_ID=1\n')
    fs.writeFileSync(path.join(target, 'paths'), '/etc\n')
    const result = await setup(bare, ['/etc'])
    assert.equal(result.status, status, result.stdout + result.stderr)
    const steps = result.lines.filter((line) => /^[A-Z]+ +(backup|drill)/.test(line))
    assert.deepEqual(
      steps.map((line) => line.replace(/:.*/, '').replace(/ +/, ' ')),
      said,
    )
    assert.equal(result.stdout.includes('can restore'), status !== 1)
  }
})
