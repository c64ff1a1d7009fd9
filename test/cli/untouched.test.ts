// targets/ may be a git checkout: nothing in it is written but by the commands that are for that.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Snapshot } from '../../lib/rows.ts'
import { dist, done, fake, kedge, type Machine, machine, newTarget, type RunOptions, start } from '../harness.ts'
import { makeStore } from '../store.ts'

/** What is asked of them is a change there. */
const meant = ['new', 'init', 'secret', 'rename', 'remove', 'recovery', 'key']
const uid = 4321

/** All that a change would show in: names, inodes, modes, owners, times of content and of the inode, sizes, bytes. */
function look(folder: string): Record<string, string> {
  const found: Record<string, string> = {}
  for (const name of ['.', ...fs.readdirSync(folder, { recursive: true }).map(String).sort()]) {
    const file = path.join(folder, name)
    const { ino, mode, uid, gid, nlink, size, mtimeNs, ctimeNs } = fs.lstatSync(file, { bigint: true })
    const bytes = fs.lstatSync(file).isFile() ? createHash('sha256').update(fs.readFileSync(file)).digest('hex') : ''
    found[name] = [ino, mode, uid, gid, nlink, size, mtimeNs, ctimeNs, bytes].join(' ')
  }
  return found
}

async function house(t: TestContext): Promise<Machine> {
  const m = machine(t)
  const source = path.join(m.dir, 'source')
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'file'), 'some bytes\n')
  const scripts = { 'streams/list': 'echo a list', 'hooks/before-backup': 'exit 0' }
  const env = {
    KEEP_LAST: '2',
    COPY_TO: 'web2',
    GROUP: 'www',
    SCHEDULE_CHECK: '@daily',
    NOTIFY: 'command',
    NOTIFY_COMMAND: '/bin/true',
    NOTIFY_ON: 'failure,digest',
  }
  const web1 = newTarget(m, 'web1', { paths: [source], exclude: ['*.tmp'], env, scripts })
  await makeStore(m, web1)
  await makeStore(m, newTarget(m, 'web2', { env: { SNAPSHOTS_OF: 'web1' } }), web1)
  fs.mkdirSync(path.join(m.config, 'targets/.git'))
  const crontab = path.join(m.dir, 'crontab')
  fake(
    m.bin,
    'crontab',
    `case $1 in -r) rm ${crontab} ;; -l) cat ${crontab} 2>/dev/null || { echo 'no crontab for me' >&2; exit 1; } ;; *) cat "$1" >${crontab} ;; esac`,
  )
  return m
}

type Step = { words: readonly string[]; statuses?: readonly number[] }

/** Every verb but those that are meant to write there, and `mount`, which is a step of its own. */
async function steps(m: Machine, as: RunOptions): Promise<Record<string, Step[]>> {
  const to = path.join(m.dir, 'restored')
  await done(m, ['backup', 'web1'], as)
  const ids = (await done(m, ['list', 'web1', '--json'], as)).rows.map((row) => (row as Snapshot).id)
  const id = ids[0] ?? ''
  const one = (...words: string[]): Step[] => [{ words }]
  return {
    accept: one('web1'),
    backup: one('web1'),
    cat: one('web1', 'latest:/list'),
    check: one('web1', '--read-data'),
    config: one('web1', '--secrets'),
    copy: one('web1'),
    diff: one('web1', '--live'),
    doctor: [{ words: ['web1'], statuses: [0, 1, 3] }], // what it finds on this machine is not the question
    drill: one('web1'),
    files: one('web1'),
    find: one('web1', 'file'),
    forget: [{ words: ['web1', id, '-n'] }],
    history: one('web1'),
    hold: one('web1', id),
    list: one(),
    log: one('web1'),
    notify: [{ words: ['test', 'web1'] }, { words: ['digest'] }],
    prime: one('--all'),
    prune: one('web1'),
    restore: one('web1', '--to', to),
    run: [{ words: ['web1', 'restic', 'snapshots'] }, { words: ['--all', 'check'] }],
    schedule: [{ words: [] }, { words: ['install', '--by', 'crontab'] }, { words: ['remove', '--by', 'crontab'] }],
    scheduler: one('--once'),
    stats: one('web1'),
    status: [{ words: ['--all'], statuses: [0, 16] }],
    targets: one(),
    unlock: one('web1'),
  }
}

for (const readOnly of [false, true]) {
  const how = readOnly ? 'where the folder is read-only, and the user not root,' : ''
  test(`no other verb writes in targets/${how ? `; ${how} each works` : ''}`, { timeout: 120_000 }, async (t) => {
    if (readOnly && process.geteuid?.() !== 0) return t.skip('only root can become another user')
    const m = await house(t)
    const targets = path.join(m.config, 'targets')
    if (readOnly) {
      fs.copyFileSync(m.restic.path, path.join(m.bin, 'restic')) // the tests' own may lie where only root looks
      execFileSync('chown', ['-R', `${uid}:${uid}`, m.dir])
      execFileSync('chmod', ['-R', 'a-w', targets])
    }
    const as: RunOptions = readOnly ? { uid } : {}
    const before = look(targets)
    const all = await steps(m, as)
    const verbs = fs.readdirSync(path.join(dist, 'bin')).map((name) => path.basename(name, '.cjs'))
    assert.deepEqual([...Object.keys(all), ...meant, 'mount'].sort(), verbs.sort(), 'a new verb: does it write in targets/?')
    for (const [verb, each] of Object.entries(all)) {
      for (const { words, statuses = [0] } of each) {
        const result = await kedge(m, [verb, ...words], as)
        assert.ok(statuses.includes(result.status ?? -1), `${verb} ${words.join(' ')}: ${result.status}\n${result.stdout}${result.stderr}`)
        assert.deepEqual(look(targets), before, `${verb} ${words.join(' ')}`)
      }
    }
    if (!readOnly && fs.existsSync('/dev/fuse')) {
      const at = path.join(m.dir, 'mounted')
      fs.mkdirSync(at)
      const mounting = start(m, ['mount', 'web1', at])
      await mounting.until(/mounted|kedge:/)
      mounting.child.kill('SIGINT')
      await mounting.result
      assert.deepEqual(look(targets), before, 'mount')
    }
  })
}
