import assert from 'node:assert/strict'
import { closeSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { batches, start } from '../lib/child.ts'
import { type Fifo, openFifo } from '../lib/fifo.ts'
import { fake, scratch } from './harness.ts'

async function linesOf(script: string): Promise<string[]> {
  const fifo = (await openFifo()) as Fifo
  const child = start(['sh', '-c', script], { stdout: fifo.writer })
  closeSync(fifo.writer)
  const all: string[] = []
  for await (const lines of batches(fifo.chunks())) all.push(...lines)
  fifo.close()
  assert.equal((await child.done).status, 0)
  return all
}

test('every line comes through the pipe, whole and in order, more of them than the pipe holds', async () => {
  const lines = await linesOf('i=0; while [ $i -lt 20000 ]; do echo "über $i"; i=$((i+1)); done')
  assert.deepEqual(
    lines,
    Array.from({ length: 20_000 }, (_, i) => `über ${i}`),
  )
})

test('a writer who says nothing for a while loses nothing, and no line at all is no line', async () => {
  assert.deepEqual(await linesOf('sleep 0.3; printf "a\\nb"; sleep 0.2; printf "c\\n\\nd"'), ['a', 'bc', '', 'd'])
  assert.deepEqual(await linesOf(':'), [])
})

test('the pipe has no name once it is open', async () => {
  const fifo = (await openFifo()) as Fifo
  assert.deepEqual(
    readdirSync(tmpdir()).filter((name) => name.startsWith(`kedge-${process.pid}-`)),
    [],
  )
  closeSync(fifo.writer)
  fifo.close()
})

test('a reader who goes away ends the writer', async () => {
  const fifo = (await openFifo()) as Fifo
  const child = start(['sh', '-c', 'while echo line; do :; done 2>/dev/null; exit 7'], { stdout: fifo.writer })
  closeSync(fifo.writer)
  for await (const _ of fifo.chunks()) break
  fifo.close()
  assert.notEqual((await child.done).status, 0)
})

test('mkfifo sees nothing of what kedge run put into the environment', async (t) => {
  const dir = scratch(t)
  const [notes, before] = [path.join(dir, 'notes'), process.env.PATH]
  fake(dir, 'mkfifo', `env >'${notes}'; PATH='${before}' exec mkfifo "$@"`)
  Object.assign(process.env, { PATH: `${dir}:${before}`, RESTIC_PASSWORD: 'handed over', KEDGE_CONTEXT_KEYS: 'RESTIC_PASSWORD' })
  t.after(() => {
    process.env.PATH = before
    delete process.env.RESTIC_PASSWORD
    delete process.env.KEDGE_CONTEXT_KEYS
  })
  assert.deepEqual(await linesOf('echo one'), ['one'])
  assert.match(readFileSync(notes, 'utf8'), /^PATH=/m)
  assert.doesNotMatch(readFileSync(notes, 'utf8'), /handed over/)
})
