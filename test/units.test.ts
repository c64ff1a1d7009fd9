// The units that ship: systemd accepts them, and their sandbox is tight.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { root, scratch } from './harness.ts'

/** The units as systemd would load them, with a program that exists here. */
function units(dir: string): string[] {
  return fs.readdirSync(path.join(root, 'systemd')).map((name) => {
    const text = fs.readFileSync(path.join(root, 'systemd', name), 'utf8').replaceAll('/usr/local/bin/kedge', '/bin/true')
    const file = path.join(dir, name.replace('@.', '@web1.'))
    fs.writeFileSync(file, text)
    return file
  })
}

test('systemd-analyze finds no fault in the units', (t) => {
  const files = units(scratch(t))
  assert.ok(files.length >= 2)
  const said = execFileSync('systemd-analyze', ['verify', '--man=no', ...files], { stdio: ['ignore', 'pipe', 'pipe'] }).toString()
  assert.equal(said, '')
})

test('the sandbox of the backup unit is rated 3.0 or better', (t) => {
  const file = units(scratch(t)).find((each) => each.endsWith('.service')) ?? ''
  const said = execFileSync('systemd-analyze', ['security', '--offline=true', '--no-pager', '--threshold=30', file]).toString()
  assert.match(said, /Overall exposure level/)
})
