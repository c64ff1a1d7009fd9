// The units that ship: systemd accepts them, and their sandbox is tight.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { ownerOf, placed } from '../lib/timer/units.ts'
import { fake, root, scratch } from './harness.ts'

/** The services as systemd would load them, with a program that exists here. */
function services(dir: string): string[] {
  fs.cpSync(path.join(root, 'systemd'), dir, { recursive: true })
  const names = fs.readdirSync(dir).filter((name) => name.endsWith('.service'))
  return names.map((name) => {
    const text = fs.readFileSync(path.join(dir, name), 'utf8').replaceAll('/usr/local/bin/kedge', '/bin/true')
    fs.rmSync(path.join(dir, name))
    const file = path.join(dir, name.replace('@.', '@web1.'))
    fs.writeFileSync(file, text)
    return file
  })
}

const verify = (files: readonly string[], ...options: readonly string[]) => {
  const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', ...options, ...files], { encoding: 'utf8' })
  return { status, said: stdout + stderr }
}

test('systemd-analyze finds no fault in the units', (t) => {
  const files = services(scratch(t))
  assert.equal(files.length, 7)
  assert.deepEqual(verify(files), { status: 0, said: '' })
  // It reads the drop-ins too: a fault in the one for all is found in each.
  const [first = ''] = files
  fs.appendFileSync(path.join(path.dirname(first), 'kedge-.service.d/10-sandbox.conf'), 'NoSuchKey=1\n')
  for (const file of files) assert.match(verify([file]).said, /NoSuchKey/)
})

test('the sandbox of each service is rated 3.0 or better', (t) => {
  for (const file of services(scratch(t))) {
    const said = execFileSync('systemd-analyze', ['security', '--offline=true', '--no-pager', '--threshold=30', file]).toString()
    assert.match(said, /Overall exposure level/)
  }
})

test('a command whose path has blanks and signs of systemd is the program that systemd finds', (t) => {
  const dir = scratch(t)
  const program = fake(path.join(dir, `two words 50% $HOME`), 'kedge', 'exit 0')
  const template = fs.readFileSync(path.join(root, 'systemd/kedge-backup@.service'), 'utf8')
  const file = path.join(dir, 'kedge-backup@web1.service')
  fs.writeFileSync(file, placed(template, [program]))
  assert.deepEqual(verify([file]), { status: 0, said: '' })
  const all = placed(template, ['/usr/bin/node', `/a b/50%/$HOME/"q"/\\`])
  assert.match(all, /^ExecStart=\/usr\/bin\/node "\/a b\/50%%\/\$\$HOME\/\\"q\\"\/\\\\" backup --wait=1h %i$/m)
  fs.rmSync(program)
  assert.match(verify([file]).said, /is not executable: No such file/)
})

test('whose a unit is, by its name', () => {
  const cases: [string, string | undefined][] = [
    ['kedge-backup@web1.timer', 'backup web1'],
    ['kedge-backup@a.timer-b.service.d/50-target.conf', 'backup a.timer-b'],
    ['kedge-notify@check:web-1.example.service.d/50-target.conf', 'check web-1.example'],
    ['kedge-digest-2.timer', 'digest -'],
    ['kedge-backup@.service', undefined],
    ['kedge-drill@.service.d/30-system.conf', undefined],
    ['kedge-.service.d/10-sandbox.conf', undefined],
  ]
  for (const [name, owner] of cases) {
    const found = ownerOf(name)
    assert.equal(found && `${found.verb} ${found.target}`, owner, name)
  }
})

test('on a real machine every step of test/vm/schedule.sh was seen', () => {
  const script = fs.readFileSync(path.join(root, 'test/vm/schedule.sh'), 'utf8')
  const transcript = fs.readFileSync(path.join(root, 'test/vm/transcripts/schedule.txt'), 'utf8')
  const steps = [...script.matchAll(/^say (["'])(.*)\1$/gm)].map(([, , step]) => step)
  assert.ok(steps.length > 8)
  assert.deepEqual(
    [...transcript.matchAll(/^== (.*)$/gm)].map(([, step]) => step),
    steps,
  )
  assert.doesNotMatch(transcript, /NOT SEEN/)
  for (const [, seen] of script.matchAll(/&& echo "([^"$]+)"$/gm)) assert.ok(transcript.includes(`\n${seen}\n`), seen)
  // Which units it was is in there: an install of others needs a new transcript.
  const shipped = (fs.readdirSync(path.join(root, 'systemd'), { recursive: true }) as string[]).filter((name) =>
    /\.(service|conf)$/.test(name),
  )
  for (const name of shipped.filter((each) => each !== 'kedge-digest.service'))
    assert.ok(transcript.includes(`/etc/systemd/system/${name}\twritten\t-\n`), name)
})
