// The units that ship: systemd accepts them, and their sandbox is tight.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { installedUnit, mayWrite } from '../lib/doctor/unit.ts'
import { needsUnit, ownerOf, placed } from '../lib/timer/units.ts'
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
  const dir = scratch(t)
  const files = services(dir)
  // Where kedge itself opens a credential, it sees the TPM.
  for (const unit of ['kedge-backup@web1', 'kedge-notify@web1']) {
    const need = needsUnit(`${unit}.service`, 'web1', { writable: [], credentials: [], opens: true })
    fs.mkdirSync(path.dirname(path.join(dir, need?.name ?? '')))
    fs.writeFileSync(path.join(dir, need?.name ?? ''), need?.text ?? '')
  }
  for (const file of files) {
    const said = execFileSync('systemd-analyze', ['security', '--offline=true', '--no-pager', '--threshold=30', file]).toString()
    assert.match(said, /Overall exposure level/)
  }
})

test('a service whose store keeps owners and devices is rated 3.5 or better, and opens no more devices than the others', (t) => {
  const dir = scratch(t)
  const file = services(dir).find((each) => each.includes('kedge-backup@')) ?? assert.fail('no unit')
  const need = needsUnit('kedge-backup@web1.service', 'web1', { writable: ['/srv'], credentials: [], opens: false, owners: true })
  fs.mkdirSync(path.dirname(path.join(dir, need?.name ?? '')))
  fs.writeFileSync(path.join(dir, need?.name ?? ''), need?.text ?? '')
  assert.deepEqual(verify([file]), { status: 0, said: '' })
  const said = execFileSync('systemd-analyze', ['security', '--offline=true', '--no-pager', '--threshold=35', file]).toString()
  assert.match(said, /device ACL with some special devices: (char-rtc:r )?block-\*:m char-\*:m/)
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
  // systemd takes no program whose path has quotes or backslashes: a shell starts it.
  const odd = fake(path.join(dir, `it's "50%" $HOME \\`), 'kedge', `echo "$*" >'${dir}/ran'`)
  const text = placed(template, [odd])
  fs.writeFileSync(file, text)
  assert.deepEqual(verify([file]), { status: 0, said: '' })
  // As systemd reads the line: words in quotes, then %% and $$.
  const [, line = ''] = /^ExecStart=(.*)$/m.exec(text) ?? []
  const words = [...line.matchAll(/"((?:\\.|[^"\\])*)"|(\S+)/g)].map(([, quoted, plain]) => quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '')
  const [shell = '', ...rest] = words.map((word) => word.replaceAll('%%', '%').replaceAll('$$', '$'))
  execFileSync(shell, rest)
  assert.equal(fs.readFileSync(path.join(dir, 'ran'), 'utf8'), 'backup --wait=1h %i\n')
  fs.writeFileSync(file, placed(template, [program]))
  fs.rmSync(program)
  assert.match(verify([file]).said, /is not executable: No such file/)
})

test('a drop-in that setup has put beside its units is masked by the one of its name that schedule install writes', (t) => {
  const [etc, local] = [path.join(scratch(t), 'etc'), path.join(scratch(t), 'local')]
  for (const dir of [etc, local]) fs.cpSync(path.join(root, 'systemd'), dir, { recursive: true })
  for (const dir of [etc, local])
    for (const name of fs.readdirSync(dir).filter((each) => each.endsWith('.service'))) {
      const text = fs.readFileSync(path.join(dir, name), 'utf8').replaceAll('/usr/local/bin/kedge', '/bin/true')
      fs.writeFileSync(path.join(dir, name), text)
    }
  const units = ['kedge-notify@web1.service', 'kedge-drill@web1.service', 'kedge-digest.service']
  const env = { ...process.env, SYSTEMD_UNIT_PATH: `${etc}:${local}:` }
  const said = () => spawnSync('systemd-analyze', ['verify', '--man=no', ...units], { encoding: 'utf8', env, cwd: etc }).stderr
  const dropIns = (fs.readdirSync(local, { recursive: true }) as string[]).filter((name) => name.endsWith('.conf'))
  assert.ok(dropIns.length >= 5)
  for (const name of dropIns) fs.appendFileSync(path.join(local, name), `[Service]\nRead${name.length}=1\n`)
  assert.equal(said(), '')
  for (const name of dropIns) {
    fs.rmSync(path.join(etc, name))
    assert.match(said(), new RegExp(`Read${name.length}`), name)
  }
})

test('doctor judges a unit that is in use, and not the templates of setup alone', async (t) => {
  const [etc, local] = [path.join(scratch(t), 'etc'), path.join(scratch(t), 'local')]
  fs.cpSync(path.join(root, 'systemd'), local, { recursive: true })
  fs.mkdirSync(etc)
  assert.equal(await installedUnit('backup', 'web1', [etc, local]), undefined)
  fs.writeFileSync(path.join(etc, 'kedge-backup@web1.timer'), '[Timer]\n')
  const found = await installedUnit('backup', 'web1', [etc, local])
  assert.equal(found?.file, path.join(local, 'kedge-backup@.service'))
  assert.equal(mayWrite(found.sandbox, '/srv'), false)
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

for (const name of ['schedule', 'rsync'])
  test(`on a real machine every step of test/vm/${name}.sh was seen`, () => {
    const script = fs.readFileSync(path.join(root, `test/vm/${name}.sh`), 'utf8')
    const transcript = fs.readFileSync(path.join(root, `test/vm/transcripts/${name}.txt`), 'utf8')
    const steps = [...script.matchAll(/^say (["'])(.*)\1$/gm)].map(([, , step]) => step)
    assert.ok(steps.length > 2)
    assert.deepEqual(
      [...transcript.matchAll(/^== (.*)$/gm)].map(([, step]) => step),
      steps,
    )
    assert.doesNotMatch(transcript, /NOT SEEN|FAULTS/)
    for (const [, seen] of script.matchAll(/&& echo "([^"$]+)"$/gm)) assert.ok(transcript.includes(`\n${seen}\n`), seen)
  })

test('which units were installed on a real machine is in its transcript: others need a new one', () => {
  const transcript = fs.readFileSync(path.join(root, 'test/vm/transcripts/schedule.txt'), 'utf8')
  const shipped = (fs.readdirSync(path.join(root, 'systemd'), { recursive: true }) as string[]).filter((name) =>
    /\.(service|conf)$/.test(name),
  )
  for (const name of shipped.filter((each) => !each.startsWith('kedge-digest.service')))
    assert.ok(transcript.includes(`/etc/systemd/system/${name}\twritten\t-\n`), name)
})
