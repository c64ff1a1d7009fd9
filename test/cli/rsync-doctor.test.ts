// kedge doctor for a target that is pulled from another host: a real sshd, and on its side fakes for what is hard to provoke.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import type { Finding, Setting } from '../../lib/rows/house.ts'
import { done, fake, kedge, machine, newRsyncTarget, scratch } from '../harness.ts'
import { startSshd } from '../sshd.ts'
import { treeFacts } from '../tree.ts'

const system = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** A store that is there, a host that is known, a key that is let in. `there`: first in the PATH of its sessions. */
async function pulled(t: TestContext) {
  const m = machine(t)
  const there = path.join(scratch(t), 'bin')
  fs.mkdirSync(there)
  const host = await startSshd(t, { PATH: `${there}:${system}` })
  const tree = path.join(m.dir, 'tree')
  fs.mkdirSync(tree)
  const settings = host.pulled(m)
  const target = newRsyncTarget(m, 'web1', { paths: [tree], env: settings })
  await done(m, ['init', 'web1'])
  const file = path.join(target.dir, 'target.env')
  const plain = fs.readFileSync(file, 'utf8')
  const look = async (more = '') => {
    if (fs.readFileSync(file, 'utf8') !== plain + more) fs.writeFileSync(file, `${plain}${more}`)
    const result = await kedge(m, ['doctor', 'web1', '--json'])
    const rows = result.rows.filter((row): row is Finding => row.kind === 'finding')
    const of = (check: string) => rows.filter((row) => row.check === check)
    const one = (check: string) => {
      const [found] = of(check)
      assert.ok(found, `${check}\n${result.stdout}${result.stderr}`)
      assert.ok(found.level === 'ok' || found.remedy, `${check} has no remedy`)
      return found
    }
    return { status: result.status, of, one, result }
  }
  return { m, host, there, tree, target, settings, look, env: { file, plain } }
}

test('a host and a store in order: each is said, and nothing is changed here or there', async (t) => {
  const { m, look, settings } = await pulled(t)
  fs.chmodSync(settings.SSH_KEY ?? '', 0o600)
  const before = treeFacts(m.dir)
  const { status, one, result } = await look()
  assert.equal(status, 0, result.stdout)
  assert.deepEqual(treeFacts(m.dir), before)
  for (const check of ['rsync', 'ssh key', 'host key', 'host', 'host rsync', 'host clock', 'host paths', 'reserve'])
    assert.equal(one(check).level, 'ok', check)
  assert.match(one('host key').text, /SHA256:\S+ \(ssh-ed25519\)/)
  assert.match(one('host rsync').text, /'rsync' is rsync 3\.\d+\.\d+, protocol 3\d/)
  assert.notEqual(one('store file system').level, 'blocked')
})

test('what is wrong with the key, the host and its rsync is told apart', { timeout: 120_000 }, async (t) => {
  const { m, host, there, tree, target, settings, look } = await pulled(t)

  await t.test('a key that others can read, or that is not there', async () => {
    const key = settings.SSH_KEY ?? ''
    fs.chmodSync(key, 0o644)
    const open = await look()
    assert.equal(open.status, 12)
    assert.match(open.one('ssh key').remedy ?? '', /chmod 600/)
    assert.match(open.one('host').text, /read by others/)
    fs.chmodSync(key, 0o600)
    const away = `${key}.away`
    fs.renameSync(key, away)
    assert.equal((await look()).one('ssh key').level, 'blocked')
    fs.renameSync(away, key)
  })

  await t.test('a host that is not known, one that does not let the key in', async () => {
    const known = path.join(m.config, 'known_hosts')
    const text = fs.readFileSync(known)
    fs.writeFileSync(known, '')
    const unknown = await look()
    assert.equal(unknown.status, 12)
    assert.match(unknown.one('host key').remedy ?? '', /kedge key web1 --host/)
    assert.match(unknown.one('host').text, /not known/)
    assert.deepEqual(unknown.of('host rsync'), [])
    fs.writeFileSync(known, text)
    host.authorize('# nobody')
    assert.match((await look()).one('host').text, /not let in/)
    host.authorize()
  })

  await t.test('no rsync there, text in front of its answer, sudo that wants a password', async () => {
    const none = await look("SOURCE_RSYNC='/opt/none/rsync'\n")
    assert.equal(none.status, 2)
    assert.match(none.one('host rsync').remedy ?? '', /install rsync there/)
    fake(there, 'rsync', 'echo Welcome; exec /usr/bin/rsync "$@"')
    assert.match((await look()).one('host rsync').text, /prints text .*'Welcome'/)
    fs.rmSync(path.join(there, 'rsync'))
    fake(there, 'sudo', 'echo "sudo: a password is required" >&2; exit 1')
    const sudo = await look("SOURCE_RSYNC='sudo -n rsync'\n")
    assert.equal(sudo.status, 1)
    assert.match(sudo.one('host rsync').remedy ?? '', /--as sudo/)
    fake(there, 'sudo', '[ "$1" = -n ] && shift; exec "$@"')
    assert.equal((await look("SOURCE_RSYNC='sudo -n rsync'\n")).one('host rsync').level, 'ok')
  })

  await t.test('openrsync is named with what it lacks, though the account may say no version', async () => {
    fake(there, 'openrsync', '[ "$1" = --server ] || exit 1\nprintf "\\033\\0\\0\\0"')
    const { one } = await look("SOURCE_RSYNC='openrsync'\n")
    assert.equal(one('host rsync').level, 'warning')
    assert.match(one('host rsync').text, /no ACLs and no extended attributes/)
  })

  await t.test('a clock an hour ahead, and a path that is not there', async () => {
    fake(there, 'date', 'echo $(($(/usr/bin/date -u +%s) + 3600))')
    fs.writeFileSync(path.join(target.dir, 'paths'), `${tree}\n/not/there\n`)
    const { one, of, status } = await look()
    assert.match(one('host clock').text, /it is 3(599|600|601) s ahead of/)
    assert.equal(one('host clock').level, 'warning')
    assert.deepEqual(
      of('host paths').map(({ level }) => level),
      ['ok', 'blocked'],
    )
    assert.equal(status, 1)
    fs.rmSync(path.join(there, 'date'))
    fs.writeFileSync(path.join(target.dir, 'paths'), `${tree}\n`)
  })

  await t.test('less room than RESERVE', async () => {
    const { one, status } = await look("RESERVE='900T'\n")
    assert.equal(status, 1)
    assert.match(one('reserve').text, /RESERVE wants/)
  })
})

test('for / with all file systems the folders that nothing leaves out are named', async (t) => {
  const { target, look } = await pulled(t)
  fs.writeFileSync(path.join(target.dir, 'paths'), '/\n')
  assert.equal((await look()).one('excludes').level, 'ok')
  const all = (await look("ONE_FILE_SYSTEM='no'\n")).one('excludes')
  assert.match(all.text, /\/proc, \/sys, \/dev, \/run, \/tmp/)
  fs.writeFileSync(path.join(target.dir, 'exclude'), '/proc\n/sys/*\n# /dev\n/run\n')
  const some = (await look("ONE_FILE_SYSTEM='no'\n")).one('excludes')
  assert.match(some.text, /leaves out \/dev, \/tmp$/)
  assert.match(some.remedy ?? '', /\/dev\/\* \/tmp\/\*/)
  fs.appendFileSync(path.join(target.dir, 'exclude'), '/dev\n/tmp\n')
  assert.equal((await look("ONE_FILE_SYSTEM='no'\n")).one('excludes').level, 'ok')
})

test('--effective shows each setting and what set it, before the findings', async (t) => {
  const { m, target, env } = await pulled(t)
  const { rows } = await kedge(m, ['doctor', 'web1', '--effective', '--json'])
  const settings = rows.filter((row): row is Setting => row.kind === 'setting')
  const first = rows.findIndex(({ kind }) => kind === 'finding')
  assert.ok(first >= settings.length && settings.length > 20)
  const of = (key: string) => settings.find((row) => row.key === key)
  const line = env.plain.split('\n').findIndex((each) => each.startsWith('STORE=')) + 1
  assert.deepEqual(of('STORE'), { kind: 'setting', target: 'web1', key: 'STORE', value: target.store, from: `${env.file}:${line}` })
  assert.equal(of('RETRIES')?.from, 'default')
  const config = await done(m, ['config', 'web1', '--json'])
  assert.deepEqual(settings, config.rows)
})
