import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { build } from 'esbuild'
import { createLine } from '../lib/terminal.ts'
import { root, scratch } from './harness.ts'

const program = `
  import { execFileSync } from 'node:child_process'
  import { appendFileSync, openSync, writeFileSync } from 'node:fs'
  import { ReadStream } from 'node:tty'
  import { ask } from './lib/terminal.ts'
  const [, , pid, how, upset] = process.argv
  const aborting = new AbortController()
  process.on('SIGUSR2', () => {
    if (upset === 'throw') throw new Error('something else went wrong')
    if (upset === 'exit') process.exit(9)
    aborting.abort(new Error('the work was called off'))
  })
  const push = ReadStream.prototype.push
  ReadStream.prototype.push = function (chunk) {
    if (chunk) appendFileSync(pid + '.read', chunk)
    return push.call(this, chunk)
  }
  writeFileSync(pid, String(process.pid))
  try {
    const answer = await ask('what is it?', { hidden: how === 'hidden', signal: aborting.signal })
    console.log('answer', Buffer.from(answer).toString('hex'))
  } catch (error) {
    console.log('rejected', error.name, error.class ?? error.signal ?? '', error.message)
  }
  // While kedge goes on with its work the terminal is the operator's again.
  if (upset !== 'none') console.log(/(^|\\s)echo\\s/.test(execFileSync('stty', ['-a'], { stdio: [openSync('/dev/tty'), 'pipe', 'inherit'] })) ? 'echo on' : 'echo off')
`

/** The program above on a terminal of its own (script), its stdin not the terminal. */
async function terminal(t: TestContext, how: 'hidden' | 'shown', upset = '') {
  const dir = scratch(t)
  const file = path.join(dir, 'asking.mjs')
  await build({
    stdin: { contents: program, resolveDir: root },
    outfile: file,
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'error',
  })
  const [before, after, pid] = ['before', 'after', 'pid'].map((name) => path.join(dir, name)) as [string, string, string]
  const lines = [
    `stty -a >${before}`,
    // SIGINT from the terminal goes to sh too: it must live to say how things are afterwards.
    `trap : INT`,
    `${process.execPath} ${file} ${pid} ${how} ${upset} </dev/null`,
    'echo "status $?"',
    `stty -a >${after}`,
    'echo over',
  ]
  fs.writeFileSync(path.join(dir, 'session'), lines.join('\n'))
  const child = spawn('script', ['-q', '-c', `sh ${path.join(dir, 'session')}`, '/dev/null'], {
    env: { PATH: process.env.PATH, HOME: dir, TERM: 'dumb', LANG: 'C.UTF-8', SHELL: '/bin/sh' },
    stdio: 'pipe',
  })
  t.after(() => child.kill('SIGKILL'))
  let screen = ''
  let look = () => {}
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    screen += text
    look()
  })
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()))
  const until = (text: string) =>
    new Promise<void>((resolve, reject) => {
      look = () => screen.includes(text) && resolve()
      look()
      ended.then(() => reject(new Error(`the terminal closed without '${text}':\n${screen}`)))
    })
  await until('what is it? ')
  return {
    type: (text: string | Uint8Array) => child.stdin.write(text),
    /** Types, and waits until it was read: a signal would overtake it, and what comes after the end is the shell's to echo. */
    async typeAndWait(text: string) {
      child.stdin.write(text)
      while (!fs.existsSync(`${pid}.read`) || fs.readFileSync(`${pid}.read`, 'utf8') !== text)
        await setTimeout(10, undefined, { signal: t.signal })
    },
    signal: (name: NodeJS.Signals) => process.kill(Number(fs.readFileSync(pid, 'utf8')), name),
    /** All that was on the screen, once the terminal is as it was before. */
    async end() {
      await until('\nover')
      child.stdin.end()
      await ended
      assert.equal(fs.readFileSync(after, 'utf8'), fs.readFileSync(before, 'utf8'))
      assert.match(fs.readFileSync(after, 'utf8'), /(?<!-)\becho\b/)
      if (upset === '') assert.match(screen, /\necho on\r\n/)
      return screen.replaceAll('\r\n', '\n')
    },
  }
}

// A terminal that waits for ever is a failure.
const limit = { timeout: 30_000 }
const hex = (text: string) => Buffer.from(text).toString('hex')

test('a hidden answer is read from the terminal, is not shown, and the echo is on again', limit, async (t) => {
  const tty = await terminal(t, 'hidden')
  tty.type('pass wörd €\r')
  const screen = await tty.end()
  assert.equal(screen, `what is it? \nanswer ${hex('pass wörd €')}\necho on\nstatus 0\nover\n`)
})

test('a character that comes in two pieces, and one that is taken back, are whole characters', limit, async (t) => {
  const tty = await terminal(t, 'hidden')
  const [first, second] = [Buffer.from('ö').subarray(0, 1), Buffer.from('ö').subarray(1)]
  tty.type('xyz€\x7f\x7f')
  tty.type(first)
  tty.type(Buffer.concat([second, Buffer.from('\x1b[D\x1bOPb\r')]))
  assert.match(await tty.end(), new RegExp(`answer ${hex('xyöb')}\n`))
})

test('an answer that need not be hidden is shown', limit, async (t) => {
  const tty = await terminal(t, 'shown')
  tty.type('yesn\x7fö\r')
  const screen = await tty.end()
  assert.match(screen, /^what is it\? yes/)
  assert.match(screen, new RegExp(`answer ${hex('yesö')}\n`))
})

test('^D after some text ends an answer that is shown', limit, async (t) => {
  const tty = await terminal(t, 'shown')
  tty.type('yes\x04\x04')
  assert.match(await tty.end(), new RegExp(`answer ${hex('yes')}\n`))
})

for (const how of ['hidden', 'shown'] as const) {
  test(`^C at a question (${how}) cancels, shows nothing that was typed, and the echo is on again`, limit, async (t) => {
    const tty = await terminal(t, how)
    if (how === 'hidden') tty.type('geheim')
    tty.type('\x03')
    const screen = await tty.end()
    assert.match(screen, /rejected Cancelled SIGINT cancelled by SIGINT\necho on\nstatus 0\n/)
    assert.ok(!screen.includes('geheim'), screen)
  })

  test(`^D on an empty line (${how}) is misuse`, limit, async (t) => {
    const tty = await terminal(t, how)
    tty.type('\x04')
    assert.match(await tty.end(), /rejected Failure misuse no answer to 'what is it\?'\n/)
  })

  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const) {
    test(`${name} at a question (${how}) cancels, and the echo is on again`, limit, async (t) => {
      const tty = await terminal(t, how)
      if (how === 'hidden') await tty.typeAndWait('geheim')
      tty.signal(name)
      const screen = await tty.end()
      assert.match(screen, new RegExp(`rejected Cancelled ${name} `))
      assert.ok(!screen.includes('geheim'), screen)
    })
  }
}

test('an aborted signal rejects with its reason, and the echo is on again', limit, async (t) => {
  const tty = await terminal(t, 'hidden')
  tty.signal('SIGUSR2')
  assert.match(await tty.end(), /^what is it\? \nrejected Error {2}the work was called off\necho on\nstatus 0\n/)
})

for (const [upset, status] of [
  ['throw', 1],
  ['exit', 9],
] as const) {
  test(`the echo is on again after an end by ${upset} while somebody types`, limit, async (t) => {
    const tty = await terminal(t, 'hidden', upset)
    await tty.typeAndWait('geheim')
    tty.signal('SIGUSR2')
    const screen = await tty.end()
    assert.match(screen, new RegExp(`status ${status}\n`))
    assert.ok(!screen.includes('geheim'), screen)
  })
}

test('without a terminal a question is misuse', limit, async (t) => {
  const dir = scratch(t)
  const file = path.join(dir, 'asking.mjs')
  await build({ stdin: { contents: program, resolveDir: root }, outfile: file, bundle: true, platform: 'node', format: 'esm' })
  // detached is setsid: no controlling terminal
  const child = spawn(process.execPath, [file, path.join(dir, 'pid'), 'hidden', 'none'], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let out = ''
  for await (const chunk of child.stdout) out += chunk
  assert.equal(out, "rejected Failure misuse cannot ask 'what is it?': there is no terminal\n")
})

const typed: readonly (readonly [string, string, ReturnType<ReturnType<typeof createLine>['type']>])[] = [
  ['abc\r', 'abc', 'ended'],
  ['abc\nmore\n', 'abc', 'ended'],
  ['a€\bb\n', 'ab', 'ended'],
  ['\x7f\x7fa\n', 'a', 'ended'],
  ['one two\x17three\n', 'one three', 'ended'],
  ['gone\x15here\n', 'here', 'ended'],
  ['a\x1b[1;5Cb\x1b[3~c\x1bOPd\n', 'abcd', 'ended'],
  ['a\x1b\r', 'a', 'ended'],
  ['a\x00\x01\x1ab\n', 'ab', 'ended'],
  ['a\x04b\n', 'ab', 'ended'],
  [' a \n', ' a ', 'ended'],
  ['a', 'a', 'more'],
  ['\x04', '', 'empty'],
  ['a\x7f\x04', '', 'empty'],
  ['abc\x03', 'abc', 'interrupted'],
]
for (const [keys, text, state] of typed) {
  test(`the keys ${JSON.stringify(keys)} give ${JSON.stringify(text)}, ${state}`, () => {
    const line = createLine()
    assert.equal(line.type(keys), state)
    assert.equal(line.text(), text)
  })
}
