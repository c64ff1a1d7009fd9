// The rules of the command line: options, help, commands of others, failures, several targets.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { build } from 'esbuild'
import { type Command, parse } from '../../lib/cli.ts'
import { exitStatuses, Failure } from '../../lib/failure.ts'
import { dist, done, fake, kedge, type Machine, machine, newTarget, root, startProgram } from '../harness.ts'
import { makeStore } from '../store.ts'

const declared: Command = {
  summary: '',
  operands: 'target [snapshot ...]',
  options: {
    to: { value: 'DIR', help: '' },
    tag: { value: 'TAG', many: true, help: '' },
    top: { value: 'N', as: 'count', help: '' },
    since: { value: 'DURATION', as: 'seconds', help: '' },
    max: { value: 'SIZE', as: 'bytes', help: '' },
    metrics: { value: 'FILE', bare: '', help: '' },
    all: { short: 'a', help: '' },
    name: { short: 'N', value: 'NAME', help: '' },
  },
  columns: {},
  changes: true,
  locks: true,
  opens: true,
}

test('argv becomes options and operands, and nothing is guessed', () => {
  const cases: [string[], Record<string, unknown>, string[]][] = [
    [['web1'], {}, ['web1']],
    [['web1', '00012345', '1e5', '0x10', '-'], {}, ['web1', '00012345', '1e5', '0x10', '-']],
    [['-n', 'web1', '-a'], { 'dry-run': true, all: true }, ['web1']],
    [['-na', 'web1'], { 'dry-run': true, all: true }, ['web1']],
    [['web1', '--to', '/x'], { to: '/x' }, ['web1']],
    [['--to=/x', 'web1'], { to: '/x' }, ['web1']],
    [['--to=-x', 'web1'], { to: '-x' }, ['web1']],
    [['--to', '-', 'web1'], { to: '-' }, ['web1']],
    [['--to=', 'web1'], { to: '' }, ['web1']],
    [['--to', '', 'web1'], { to: '' }, ['web1']],
    [['--to', '007', 'web1'], { to: '007' }, ['web1']],
    [['--to=a=b\nc', 'web1'], { to: 'a=b\nc' }, ['web1']],
    [['--to', 'true', 'web1'], { to: 'true' }, ['web1']],
    [['--all', 'true'], { all: true }, ['true']],
    [['--tag', 'a', '--tag=1e5', 'web1', '--tag', 'a'], { tag: ['a', '1e5', 'a'] }, ['web1']],
    [['--top', '007', 'web1'], { top: 7 }, ['web1']],
    [['--since', '1h30m', 'web1'], { since: 5400 }, ['web1']],
    [['--wait=90', 'web1'], { wait: 90 }, ['web1']],
    [['--max', '2M', 'web1'], { max: 2_097_152 }, ['web1']],
    [['--metrics', 'web1'], { metrics: '' }, ['web1']],
    [['--metrics=file', 'web1'], { metrics: 'file' }, ['web1']],
    [['-Nx', 'web1'], { name: 'x' }, ['web1']],
    [['-aN', 'x', 'web1'], { all: true, name: 'x' }, ['web1']],
    [['-aN-5', 'web1'], { all: true, name: '-5' }, ['web1']],
    [['--', '-n', '--to', '--', 'x'], {}, ['-n', '--to', '--', 'x']],
    [['web1', '--', '-n'], {}, ['web1', '-n']],
    [['--passphrase-fd', '7', 'web1'], { 'passphrase-fd': 7 }, ['web1']],
  ]
  const unset = { tag: [], force: [], all: false, 'dry-run': false, json: false, quiet: false, verbose: false, explain: false, help: false }
  for (const [argv, options, operands] of cases) {
    const parsed = parse('try', declared, argv)
    const set = Object.fromEntries(Object.entries(parsed.options).filter(([, value]) => value !== undefined))
    assert.deepEqual({ options: set, operands: parsed.operands }, { options: { ...unset, ...options }, operands }, argv.join(' '))
  }
  assert.deepEqual(parse('try', declared, ['-h']), { options: { help: true }, operands: [] })
})

test('what is no option, no value or no operand is misuse, and says which word', () => {
  const cases: [string[], RegExp, RegExp?][] = [
    [['--too', 'web1'], /unknown option '--too'/, /--to\?/],
    [['--dryrun', 'web1'], /unknown option '--dryrun'/, /--dry-run\?/],
    [['--verb', 'web1'], /unknown option '--verb'/, /--verbose\?/],
    [['--no-to', 'web1'], /unknown option '--no-to'/],
    [['-n5', 'web1'], /unknown option '-5'/],
    [['-x', 'web1'], /unknown option '-x'/],
    [['--json=maybe', 'web1'], /'--json' takes no value: 'maybe'/],
    [['--json=', 'web1'], /'--json' takes no value: ''/],
    [['--json.x=1', 'web1'], /unknown option '--json.x'/],
    [['--constructor', 'x'], /unknown option '--constructor'/],
    [['--__proto__=1', 'x'], /unknown option '--__proto__'/],
    [['--toString', 'x'], /unknown option '--toString'/],
    [['---json', 'x'], /unknown option '---json'/],
    [['--=x'], /unknown option '--'/],
    [['--to', '-x', 'web1'], /'--to' needs a value: DIR/],
    [['web1', '--to'], /'--to' needs a value: DIR/],
    [['web1', '-N'], /'-N' needs a value: NAME/],
    [['web1', '--to', '--', 'x'], /'--to' needs a value/],
    [['--to', 'a', '--to', 'b', 'web1'], /'--to' is given twice/],
    [['-n', '--dry-run', 'web1'], /'--dry-run' is given twice/],
    [['-qq', 'web1'], /'-q' is given twice/],
    [['--top', 'x', 'web1'], /'--top' takes a whole number: 'x'/],
    [['--top=-1', 'web1'], /'--top' takes a whole number: '-1'/],
    [['--top', '1.5', 'web1'], /'--top' takes a whole number/],
    [['--top=', 'web1'], /'--top' takes a whole number/],
    [['--since', '5y', 'web1'], /'--since' takes a duration/],
    [['--max', 'big', 'web1'], /'--max' takes a size/],
    [[], /operand missing: target/],
    [['-n'], /operand missing: target/],
  ]
  for (const [argv, message, hint] of cases) {
    assert.throws(
      () => parse('try', declared, argv),
      (error) => {
        assert.ok(error instanceof Failure && error.class === 'misuse', `${argv.join(' ')}: ${error}`)
        assert.match(error.message, message)
        if (hint) assert.match(error.hint ?? '', hint)
        return true
      },
    )
  }
  const single: Command = { ...declared, operands: 'target [old [newer]]' }
  assert.deepEqual(parse('try', single, ['a', 'b', 'c']).operands, ['a', 'b', 'c'])
  assert.throws(() => parse('try', single, ['a', 'b', 'c', 'd']), /too many operands: 'd'/)
  assert.throws(() => parse('try', { ...single, operands: 'target snapshot [...]' }, ['a']), /operand missing: snapshot/)
})

test('an option that a command does not take is refused there: a reading one has no -n', () => {
  const { changes: _, locks: __, opens: ___, ...reading } = declared
  for (const argv of [['-n'], ['--wait', '5'], ['--force', 'pin'], ['--passphrase-fd', '3']])
    assert.throws(() => parse('try', reading, [...argv, 'web1']), /unknown option/)
})

const verbs = fs.readdirSync(path.join(dist, 'bin')).map((name) => name.replace('.cjs', ''))

test('every command prints its usage, its options and the exit statuses with -h, whatever else is missing', async (t) => {
  const m = machine(t)
  const all = await Promise.all(verbs.map((verb) => kedge(m, [verb, '-h'])))
  all.forEach(({ status, stdout, stderr }, i) => {
    assert.deepEqual([status, stderr], [0, ''], verbs[i])
    assert.match(stdout, new RegExp(`^usage: kedge ${verbs[i]} \\[options\\]`))
    for (const option of ['--json', '--quiet', '--explain', '--help']) assert.ok(stdout.includes(option), `${verbs[i]}: ${option}`)
    for (const [number, meaning] of exitStatuses) assert.ok(stdout.includes(`\n  ${String(number).padEnd(6)} ${meaning}\n`))
  })
})

test('kedge alone is misuse, help lists every command, and the version is that of the package', async (t) => {
  const m = machine(t)
  const alone = await kedge(m, [])
  assert.deepEqual([alone.status, alone.stdout], [2, ''])
  for (const word of ['help', '--help', '-h']) {
    const { status, stdout } = await kedge(m, [word])
    assert.equal(status, 0)
    for (const verb of verbs) assert.match(stdout, new RegExp(`^  ${verb} `, 'm'))
    assert.equal(alone.stderr, stdout)
  }
  const { version } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string }
  assert.equal((await done(m, ['--version'])).stdout, `kedge ${version}\n`)
})

test('a link kedge-VERB works as kedge VERB', async (t) => {
  const m = machine(t)
  newTarget(m, 'web1')
  fs.symlinkSync(path.join(dist, 'kedge.cjs'), path.join(m.bin, 'kedge-targets'))
  const linked = await startProgram(m, path.join(m.bin, 'kedge-targets'), ['-q']).result
  assert.deepEqual([linked.status, linked.stdout, linked.stderr], [0, 'web1\n', ''])
  const wrong = await startProgram(m, path.join(m.bin, 'kedge-targets'), ['--gruop', 'x']).result
  assert.equal(wrong.status, 2)
  assert.match(wrong.stderr, /unknown option '--gruop'\n {2}hint: did you mean --group\?/)
})

test("kedge foo runs somebody's kedge-foo of PATH with its arguments and gives its status; kedge's own commands come first", async (t) => {
  const m = machine(t)
  fake(m.bin, 'kedge-foo', 'echo "foo: $# $1 $2"; cat; exit 9')
  fake(m.bin, 'kedge-targets', 'echo foreign')
  const foo = await kedge(m, ['foo', '--json', 'a b'], { input: 'from stdin\n' })
  assert.deepEqual([foo.status, foo.stdout, foo.stderr], [9, 'foo: 2 --json a b\nfrom stdin\n', ''])
  assert.equal((await done(m, ['targets', '-q'])).stdout, '')
  fake(m.bin, 'kedge-shot', 'kill -KILL $$')
  assert.equal((await kedge(m, ['shot'])).status, 137)
})

test('an unknown command is 2 and names the nearest', async (t) => {
  const m = machine(t)
  const cases: [string, RegExp][] = [
    ['bakcup', /unknown command 'bakcup'\n {2}hint: did you mean 'backup'\?/],
    ['xyzzyx', /unknown command 'xyzzyx'\n {2}hint: kedge --help/],
    ['../bin/list', /unknown command '\.\.\/bin\/list'/],
    ['', /unknown command ''/],
    ['constructor', /unknown command 'constructor'/],
  ]
  for (const [verb, message] of cases) {
    const { status, stdout, stderr } = await kedge(m, [verb])
    assert.deepEqual([status, stdout], [2, ''], verb)
    assert.match(stderr, message)
  }
})

const failure = (stderr: string) => {
  assert.match(stderr, /^\{.*\}\n$/, 'one line')
  return (JSON.parse(stderr) as { error: { status: number; class: string; message: string; hint?: string } }).error
}

test('with --json a failure is one object on stderr, of wrong options too', async (t) => {
  const m = machine(t)
  newTarget(m, 'web1', { paths: ['/'] })
  const cases: [string[], number, string, RegExp, RegExp][] = [
    [['list', 'web2', '--json'], 2, 'misuse', /^no target 'web2'$/, /'web1'/],
    [['list', '--json', '--lates'], 2, 'misuse', /^unknown option '--lates'$/, /--latest/],
    [['list', 'web1', '--json'], 10, 'missing', /^cannot list the snapshots in '.*web1'/, /kedge init/],
    [['backup', 'web1', '--json'], 15, 'refused', /^refusing to backup 'web1': its store is not pinned$/, /kedge init web1/],
  ]
  for (const [argv, status, kind, message, hint] of cases) {
    const result = await kedge(m, argv)
    const error = failure(result.stderr)
    assert.deepEqual([result.status, result.stdout, error.status, error.class], [status, '', status, kind], argv.join(' '))
    assert.match(error.message, message)
    assert.match(error.hint ?? '', hint)
  }
})

/** A command of a few lines, run by kedge's own command line. */
async function tiny(m: Machine, body: string, more = ''): Promise<(args: readonly string[]) => ReturnType<typeof kedge>> {
  const file = path.join(m.dir, 'tiny.mjs')
  await build({
    stdin: {
      contents: `
        import { command, execute } from './lib/cli.ts'
        import { Failure } from './lib/failure.ts'
        const declared = command({ summary: '', operands: '[name]', options: {}, columns: { target: ['target'] }, ${more} },
          async function* ({ operands: [name], context }) { ${body} })
        await execute('tiny', declared, process.argv.slice(2))`,
      resolveDir: root,
    },
    outfile: file,
    bundle: true,
    platform: 'node',
    format: 'esm',
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url)" },
    logLevel: 'error',
  })
  return (args) => startProgram(m, process.execPath, [file, ...args]).result
}

test('a bug is status 70 with its stack, and what was printed before is not lost', async (t) => {
  const run = await tiny(machine(t), `yield { kind: 'target', target: 'first' }; name.nothing.there`)
  const plain = await run([])
  assert.deepEqual([plain.status, plain.stdout], [70, 'first\n'])
  assert.match(plain.stderr, /^kedge: this is a bug in kedge\nTypeError: Cannot read properties of undefined .*\n {4}at /)
  const json = await run(['--json'])
  const error = failure(json.stderr)
  assert.deepEqual([json.status, error.status, error.class], [70, 70, 'bug'])
  assert.match(error.message, /TypeError[\s\S]*\n {4}at /)
})

test('a failure is one line with its hint and no stack, with the status of its class', async (t) => {
  const run = await tiny(machine(t), `throw new Failure(name, 'cannot do it: no', { hint: 'do that', cause: new Error('deep down') })`)
  const statuses = { tool: 1, misuse: 2, partial: 3, missing: 10, locked: 11, auth: 12, unreachable: 13, damaged: 14, refused: 15 }
  for (const [kind, status] of Object.entries({ ...statuses, stale: 16, skipped: 75, timeout: 124 })) {
    const result = await run([kind])
    assert.deepEqual([result.status, result.stderr], [status, 'kedge: cannot do it: no\n  hint: do that\n'], kind)
  }
})

test('one failing target of several does not stop the next, names itself, and the worst status counts', async (t) => {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'file'), 'bytes\n')
  for (const name of ['a', 'd']) await makeStore(m, newTarget(m, name, { paths: [source] }))
  newTarget(m, 'b', { paths: [source], env: { STORE_ID: 'x' } }) // no repository: 10
  newTarget(m, 'c', { paths: [source], env: { KEEP_DALIY: '7' } }) // not valid: 2
  const all = await kedge(m, ['backup'])
  assert.equal(all.status, 10, all.stderr)
  assert.deepEqual(
    all.lines.map((line) => line.split('\t')[0]),
    ['a', 'd'],
  )
  assert.match(all.stderr, /^kedge: b: cannot .*\n(.*\n)*kedge: c: target 'c' is not valid:\n.*did you mean KEEP_DAILY\?\n$/)
  const listed = await kedge(m, ['list', 'd', 'c', 'a', '--json'])
  assert.equal(listed.status, 2)
  assert.deepEqual(
    listed.rows.map((row) => row.kind === 'snapshot' && row.target),
    ['d', 'a'],
  )
  assert.match(failure(listed.stderr).message, /^c: target 'c' is not valid/)
  assert.equal((await kedge(m, ['list', 'nobody', 'a', '-q'])).lines.length, 1)
})

test('--explain prints priority and limits, and plain sh runs what it prints to a snapshot with the same bytes', async (t) => {
  const m = machine(t)
  const source = path.join(m.dir, "it's a source")
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'file'), 'bytes\n')
  const options = {
    paths: [source],
    env: { NICE: '10', LIMIT_UP: '2M', LIMIT_DOWN: '500K' },
    scripts: { 'streams/s.txt': 'echo streamed' },
  }
  await makeStore(m, newTarget(m, 'web1', options))
  const { lines } = await done(m, ['backup', '--explain', 'web1'])
  assert.equal(lines.length, 3)
  assert.match(lines[1] ?? '', /^nice -n 10 restic --limit-upload 2048 --limit-download 500 backup --json --tag kedge:web1 /)
  assert.match(lines[2] ?? '', /nice -n 10 restic --limit-upload 2048 .* --stdin --stdin-filename s\.txt/)
  assert.deepEqual((await done(m, ['list', 'web1'])).lines, [])
  const byHand = await startProgram(m, 'sh', ['-e'], { input: lines.join('\n'), env: { RESTIC_CACHE_DIR: m.cache } }).result
  assert.equal(byHand.status, 0, byHand.stderr)
  assert.equal((await done(m, ['cat', 'web1', `latest:${source}/file`])).stdout, 'bytes\n')
  assert.equal((await done(m, ['cat', 'web1', 'latest:/s.txt'])).stdout, 'streamed\n')
})
