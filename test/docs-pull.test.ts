// docs/pull.md followed as it stands, with a real sshd as the host.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { fingerprint } from '../lib/source/hostkeys.ts'
import { commandsBelow } from './guide.ts'
import { dist, fake, machine, root, startProgram } from './harness.ts'
import { startSshd } from './sshd.ts'

const system = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

test('a host is pulled as docs/pull.md says, from the new target to the drill', { timeout: 120_000 }, async (t) => {
  const m = machine(t)
  const at = (name: string) => path.join(m.dir, name)
  // sudo as the rules of the guide let it be: it runs the forced command, and nothing else.
  fake(at('host/bin'), 'sudo', `[ "$*" = "-n ${root}/ssh/kedge-rsync-only" ] && exec "${root}/ssh/kedge-rsync-only"\nexit 1`)
  const host = await startSshd(t, { PATH: `${at('host/bin')}:${system}` })
  for (const [file, text] of [
    ['etc/passwd', 'root:x:0:0'],
    ['www/index.html', '<p>saved</p>'],
  ] as const) {
    fs.mkdirSync(path.dirname(at(file)), { recursive: true })
    fs.writeFileSync(at(file), text)
  }
  fs.mkdirSync(at('srv'))
  fs.writeFileSync(at('web1.fingerprint'), `${fingerprint({ key: host.known().split(' ')[2] ?? '' })}\n`)
  fake(m.bin, 'kedge', `exec '${process.execPath}' '${path.join(dist, 'kedge.cjs')}' "$@"`)
  const here = (text: string) =>
    text
      .replace('puller@web1', `${host.user}@127.0.0.1 --source-port ${host.port}`)
      .replaceAll('/srv/backup', at('srv/backup'))
      .replaceAll('/srv/www', at('www'))
      .replaceAll(/(?<=[ :])\/etc\b/g, at('etc'))
  const follow = async (heading: string) => {
    const result = await startProgram(m, '/bin/sh', ['-ec', here(commandsBelow('pull.md', heading))]).result
    assert.equal(result.status, 0, `${result.stdout}${result.stderr}`)
    return result
  }
  const { lines } = await follow('## A host, step by step')
  const line = lines.find((each) => each.startsWith('restrict')) ?? ''
  assert.match(line, /^restrict,command="sudo -n \/usr\/local\/bin\/kedge-rsync-only" ssh-ed25519 /)
  host.authorize(line.replace('/usr/local/bin/kedge-rsync-only', `${root}/ssh/kedge-rsync-only`))
  const { stdout } = await follow('## Proof, and the first run')
  assert.match(stdout, /forwarding\tok\t/)
  const tree = path.join(at('srv/backup/web1/latest/tree'))
  assert.equal(fs.readFileSync(path.join(tree, at('etc/passwd')), 'utf8'), 'root:x:0:0')
  assert.equal(fs.readFileSync(path.join(tree, at('www/index.html')), 'utf8'), '<p>saved</p>')
  assert.ok(stdout.includes(at('etc/passwd')))
})
