import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import path from 'node:path'
import { Readable } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { build } from 'esbuild'
import { answer, batches, start } from '../lib/child.ts'
import { Failure } from '../lib/failure.ts'
import { fake, root, scratch } from './harness.ts'

const sh = (script: string, ...args: string[]) => ['sh', '-c', script, 'sh', ...args]

async function text(stream: Readable | null): Promise<string> {
  const chunks: Buffer[] = []
  if (stream) for await (const chunk of stream) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}

/** Waits until a process, or with a minus a group, is gone. Fails when it stays. */
async function gone(pid: number): Promise<void> {
  for (let i = 0; i < 200; i++) {
    try {
      process.kill(pid, 0)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') return
      throw error
    }
    await sleep(50)
  }
  assert.fail(`${pid} is still there`)
}

/** Waits for a file that a child writes, and gives its text. */
async function written(file: string): Promise<string> {
  for (let i = 0; i < 400; i++) {
    if (fs.existsSync(file) && fs.readFileSync(file, 'utf8').endsWith('\n')) return fs.readFileSync(file, 'utf8').trim()
    await sleep(25)
  }
  return assert.fail(`nobody wrote ${file}`)
}

/** Bundles a program that uses the library. */
async function program(t: TestContext, contents: string): Promise<string> {
  const outfile = path.join(scratch(t), 'program.mjs')
  await build({
    stdin: { contents, resolveDir: root, loader: 'ts' },
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'error',
  })
  return outfile
}

const failsWith = (kind: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Failure, String(error))
  assert.equal(error.class, kind)
  assert.match(error.message, message)
  return true
}

test('status, stdout and stderr of a child come back, arguments and environment reach it unchanged', async () => {
  const odd = ['two words', '', "it's", '"$HOME" `id` *', '-n', 'line\nbreak', 'ü']
  const script = 'for each; do printf "%s|" "$each"; done; echo "$GIVEN" >&2; exit 7'
  const env = { PATH: process.env.PATH ?? '', GIVEN: 'a value' }
  assert.deepEqual(await answer(sh(script, ...odd), { env }), {
    status: 7,
    signal: null,
    stdout: odd.map((each) => `${each}|`).join(''),
    stderr: 'a value\n',
  })
  const seen = await answer(['env'], { env: { PATH: '/bin:/usr/bin' } })
  // sh sets some of its own; nothing of the caller's is passed on.
  assert.deepEqual(
    seen.stdout.split('\n').filter((line) => line && !/^(PATH=\/bin:\/usr\/bin|PWD=|OLDPWD=|SHLVL=|_=|A__z=)/.test(line)),
    [],
  )
})

test('a child that a signal ended has the status 128 + its number, and names the signal', async () => {
  const exit = await answer(sh('kill -KILL $$'))
  assert.deepEqual([exit.status, exit.signal], [137, 'SIGKILL'])
})

test('a program that does not exist, and one that may not be run, is a failure of a tool with its name', async (t) => {
  const dir = scratch(t)
  fs.writeFileSync(path.join(dir, 'plain'), 'no program\n', { mode: 0o644 })
  await assert.rejects(answer(['kedge-no-such-program', '-x']), failsWith('tool', /^cannot start 'kedge-no-such-program': .*not found/))
  await assert.rejects(answer([path.join(dir, 'plain')]), failsWith('tool', /^cannot start '.*plain': .*[Pp]ermission denied/))
  await assert.rejects(answer(['true'], { cwd: path.join(dir, 'nowhere') }), failsWith('tool', /^cannot start 'true': /))
})

test('input reaches a child, and one that does not read it is no error', async () => {
  const long = 'x'.repeat(3_000_000)
  assert.equal((await answer(['wc', '-c'], { input: long })).stdout.trim(), '3000000')
  assert.equal((await answer(['true'], { input: long })).status, 0)
})

test('secrets are read from descriptors 3 and 4, and are in no argument and no environment', async () => {
  const script = 'cat <&3; cat <&4; env; ps -o args= -p $$'
  const { stdout, status } = await answer(sh(script), { give: ['the first secret', 'the second one'] })
  assert.equal(status, 0)
  assert.ok(stdout.startsWith('the first secret\nthe second one\n'), stdout)
  assert.equal(stdout.split('secret').length, 2, 'nowhere else')
  const second = await answer(sh('cat <&4'), { give: [undefined, 'alone'] })
  assert.equal(second.stdout, 'alone\n')
  const nobody = await answer(['true'], { give: ['x'.repeat(200_000)] })
  assert.equal(nobody.status, 0, 'a child that does not read it')
})

test('a time limit ends the whole group, and is a failure of its own', { timeout: 30_000 }, async (t) => {
  const file = path.join(scratch(t), 'grandchild')
  const script = '(trap "" TERM; sleep 300 & echo $! >"$1"; wait) & wait'
  const child = start(sh(script, file), { timeout: 0.5, grace: 1 })
  await assert.rejects(child.done, failsWith('timeout', /no end after 0\.5 s/))
  await gone(-child.pid)
  await gone(Number(await written(file)))
})

test('a cancelled child gets the signal that it ends cleanly on, then SIGKILL', { timeout: 30_000 }, async (t) => {
  const dir = scratch(t)
  const aborting = new AbortController()
  const reason = new Error('called off')
  const tidy = start(sh('trap "echo tidied >$1; exit 3" INT; echo >$2; while :; do sleep 0.1; done', `${dir}/tidied`, `${dir}/ready1`), {
    signal: aborting.signal,
    cancel: 'SIGINT',
  })
  const deaf = start(sh('trap "" INT TERM; echo >$1; while :; do sleep 0.1; done', `${dir}/ready2`), {
    signal: aborting.signal,
    grace: 0.5,
  })
  await written(`${dir}/ready1`)
  await written(`${dir}/ready2`)
  aborting.abort(reason)
  await assert.rejects(tidy.done, reason)
  await assert.rejects(deaf.done, reason)
  assert.equal(await written(`${dir}/tidied`), 'tidied')
  await gone(-deaf.pid)
  assert.throws(() => start(['true'], { signal: aborting.signal }), reason, 'nothing is started after it')
})

test('a grandchild that keeps stdout and stderr open does not hold the end back, and ends too', { timeout: 30_000 }, async () => {
  const child = start(sh('sleep 300 & echo done; exit 4'))
  const out = text(child.stdout)
  assert.deepEqual(await child.done, { status: 4, signal: null, stderr: '' })
  assert.equal(await out, 'done\n')
  await gone(-child.pid)
})

test('what left the group, as a daemon does, does not hold the end back with its stderr', { timeout: 30_000 }, async (t) => {
  const file = path.join(scratch(t), 'daemon')
  const daemon = `const { spawn } = require('node:child_process')
    const { pid } = spawn('sleep', ['300'], { detached: true, stdio: ['ignore', 'ignore', 'inherit'] })
    require('node:fs').writeFileSync(process.argv[1], pid + '\\n')
    console.error('last words')
    process.exit(5)`
  const exit = await start([process.execPath, '-e', daemon, file]).done
  process.kill(Number(await written(file)), 'SIGKILL') // it lived all the time: no ESRCH
  assert.deepEqual(exit, { status: 5, signal: null, stderr: 'last words\n' })
})

test('kill -9 of the parent ends its child and grandchild', { timeout: 60_000 }, async (t) => {
  const dir = scratch(t)
  const file = await program(t, `import { start } from './lib/child.ts'\nstart(process.argv.slice(2))\n`)
  const script = 'echo $$ >"$1"; sleep 300 & echo $! >"$2"; wait'
  const parent = spawn(process.execPath, [file, ...sh(script, `${dir}/child`, `${dir}/grandchild`)], { stdio: 'ignore' })
  const [child, grandchild] = [Number(await written(`${dir}/child`)), Number(await written(`${dir}/grandchild`))]
  parent.kill('SIGKILL')
  await gone(child)
  await gone(grandchild)
  await gone(-child)
})

test('kill -9 of the parent ends a child that is deaf to the tool signal, after the grace', { timeout: 60_000 }, async (t) => {
  const dir = scratch(t)
  const file = await program(t, `import { start } from './lib/child.ts'\nstart(process.argv.slice(2), { grace: 1 })\n`)
  const script = 'trap "" TERM; echo $$ >"$1"; while :; do sleep 0.2; done'
  const parent = spawn(process.execPath, [file, ...sh(script, `${dir}/child`)], { stdio: 'ignore' })
  const child = Number(await written(`${dir}/child`))
  parent.kill('SIGKILL')
  await gone(-child)
})

test('lines come in batches, whole, with characters that a chunk border cut and a last line without a line feed', async () => {
  const cases: [Buffer[], string[]][] = [
    [[], []],
    [[Buffer.from('a\nb\n')], ['a', 'b']],
    [[Buffer.from('a\n\nb')], ['a', '', 'b']],
    [
      [Buffer.from('on'), Buffer.from('e\ntw'), Buffer.from('o\n')],
      ['one', 'two'],
    ],
    [[Buffer.from('\n')], ['']],
    [[Buffer.from('a\r\nb')], ['a\r', 'b']],
    // Each byte of these characters in a chunk of its own.
    [[...Buffer.from('ü€𝄞\nend')].map((byte) => Buffer.of(byte)), ['ü€𝄞', 'end']],
    [[Buffer.from('ü').subarray(0, 1)], ['\ufffd']],
  ]
  for (const [chunks, lines] of cases) {
    const all: string[] = []
    for await (const batch of batches(Readable.from(chunks))) all.push(...batch)
    assert.deepEqual(all, lines)
  }
})

test('a stream of 400 MB is read in flat memory', { timeout: 120_000 }, async (t) => {
  // Where all of it were kept a heap of 48 MB would not hold it; buffers lie outside the heap, hence the second look.
  const file = await program(
    t,
    `import { batches, start } from './lib/child.ts'
    const line = 'x'.repeat(999)
    const child = start(['sh', '-c', 'yes "$1" | head -n 400000', 'sh', line])
    let count = 0
    if (child.stdout) for await (const lines of batches(child.stdout)) for (const each of lines) if (each === line) count++
    await child.done
    console.log(JSON.stringify({ count, rss: process.resourceUsage().maxRSS }))`,
  )
  const { status, stdout, stderr } = await answer([process.execPath, '--max-old-space-size=48', file], { timeout: 100 })
  assert.equal(status, 0, stderr)
  const { count, rss } = JSON.parse(stdout) as { count: number; rss: number }
  assert.equal(count, 400_000)
  assert.ok(rss < 250_000, `peak ${rss} KiB`)
})

test("a child's stdout goes straight into another's stdin, byte for byte, from a writer that knows no retry", {
  timeout: 60_000,
}, async (t) => {
  const dir = scratch(t)
  const [from, to] = [path.join(dir, 'from'), path.join(dir, 'to')]
  const bytes = Buffer.alloc(20_000_000, createHash('sha512').update('kedge').digest())
  fs.writeFileSync(from, bytes)
  // A slow start of the reader: the pipe fills up, and a non-blocking one would give the writer EAGAIN.
  const sink = start(sh('sleep 0.5; cat >"$1"', to), { stdin: 'pipe' })
  assert.ok(sink.stdin)
  const producer = start(['cat', from], { stdout: sink.stdin })
  assert.deepEqual(await producer.done, { status: 0, signal: null, stderr: '' })
  let ended = false
  void sink.done.then(() => {
    ended = true
  })
  await sleep(200)
  assert.equal(ended, false, 'the reader sees the end only when kedge says so')
  sink.stdin.end()
  assert.equal((await sink.done).status, 0)
  assert.ok(Buffer.compare(fs.readFileSync(to), bytes) === 0)
})

test('a producer whose reader is gone ends, and its status tells', { timeout: 30_000 }, async () => {
  const sink = start(['head', '-c', '10'], { stdin: 'pipe' })
  assert.ok(sink.stdin)
  const producer = start(sh('while :; do echo 0123456789 || exit 9; done'), { stdout: sink.stdin })
  assert.equal((await sink.done).status, 0)
  sink.stdin.destroy()
  const exit = await producer.done
  assert.ok(exit.status === 9 || exit.signal === 'SIGPIPE', JSON.stringify(exit))
})

test('stderr is given line by line, and its end is kept', async () => {
  const lines: string[] = []
  const script = 'i=0; while [ $i -lt 4000 ]; do echo "line $i" >&2; i=$((i+1)); done'
  const { stderr } = await answer(sh(script), { onStderr: (line) => lines.push(line) })
  assert.equal(lines.length, 4000)
  assert.ok(stderr.endsWith('line 3998\nline 3999\n'))
  assert.ok(stderr.length < 40_000, `${stderr.length} characters kept`)
})

test('an answer that is too long is a failure, and its child is ended', { timeout: 60_000 }, async () => {
  await assert.rejects(answer(['yes', 'x'.repeat(1000)]), failsWith('tool', /longer than 64 MiB/))
})

test('a child of a child that a script left in PATH is found by the PATH that is given', async (t) => {
  const dir = scratch(t)
  fake(dir, 'tool', 'echo "mine $1"')
  assert.equal((await answer(['tool', 'x'], { env: { PATH: `${dir}:/usr/bin:/bin` } })).stdout, 'mine x\n')
})
