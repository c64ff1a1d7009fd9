import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { fake, growTree, machine, restics, sameTree, scratch, startProgram } from './harness.ts'

test('sameTree passes a faithful copy and names each thing that differs', (t) => {
  const dir = scratch(t)
  const [one, two] = [path.join(dir, 'one'), path.join(dir, 'two')]
  const copy = () => execFileSync('cp', ['-a', `${one}/.`, two])
  fs.mkdirSync(one)
  growTree(one)
  fs.mkdirSync(two)
  copy()
  sameTree(two, one)
  const harms: Record<string, () => void> = {
    sha256: () => fs.writeFileSync(path.join(two, 'secret'), 'NOT for all\n'),
    mode: () => fs.chmodSync(path.join(two, 'suid'), 0o755),
    mtime: () => fs.utimesSync(path.join(two, 'empty'), 1, 1),
    'to ': () => {
      fs.rmSync(path.join(two, 'links/soft'))
      fs.symlinkSync('elsewhere', path.join(two, 'links/soft'))
    },
    'linked with': () => {
      fs.rmSync(path.join(two, 'links/hard'))
      fs.copyFileSync(path.join(two, 'a.txt'), path.join(two, 'links/hard'))
    },
    'user.kedge': () => execFileSync('setfattr', ['-x', 'user.kedge', path.join(two, 'a.txt')]),
    'new\nline': () => fs.rmSync(path.join(two, 'names/new\nline')),
  }
  for (const [what, harm] of Object.entries(harms)) {
    harm()
    assert.throws(
      () => sameTree(two, one),
      (error: assert.AssertionError) => JSON.stringify([error.actual, error.expected]).includes(JSON.stringify(what).slice(1, -1)),
      what,
    )
    fs.rmSync(two, { recursive: true })
    fs.mkdirSync(two)
    copy()
    sameTree(two, one)
  }
})

test('a machine runs the chosen restic, with fakes first and nothing of our own environment', async (t) => {
  for (const restic of restics()) {
    const m = machine(t, restic)
    const result = await startProgram(m, '/bin/sh', ['-c', 'restic version; env']).result
    assert.match(result.lines[0] ?? '', new RegExp(`^restic ${restic.version} `))
    assert.ok(!result.stdout.includes('NODE_TEST_CONTEXT'), result.stdout)
    fake(m.bin, 'restic', 'echo a fake "$@"')
    assert.equal((await startProgram(m, '/bin/sh', ['-c', 'restic x']).result).stdout, 'a fake x\n')
  }
})
