// Snapshots of 20,000 small files through kedge, manifest, records and flush included, against rsync alone, rsnapshot, and rm.
//
// kedge flushes a tree before it publishes it, and rsync alone does not. So rsync is measured twice: with a `sync -f` behind it, which
// gives what kedge gives, a tree that outlives a power cut, and which the bounds are for; and without. Before each run everything is
// written that earlier ones have left dirty, since the flush would have to wait for that too.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { measure, spread, turns } from './measure.mjs'
import { kedge, prepare, rsnapshot, versions } from './world.mjs'

const flags = ['-aHAXS', '--numeric-ids']
const rounds = 7

export default async function* rsync(world) {
  const at = place(world)
  await prepare(world)`${kedge('init', 'tree')}`
  yield* first(world, at)
  await prepare(world)`${kedge('backup', 'tree')}`
  yield* unchanged(world, at)
  yield* deletion(world, at)
  yield* linkDest(world, at)
}

/** The tree, a target for it, and a configuration of rsnapshot. */
function place(world) {
  const [tree, store, alone, shots] = ['tree', 'store', 'alone', 'rsnapshot'].map((name) => join(world.dir, name))
  for (let folder = 0; folder < 200; folder++) {
    mkdirSync(join(tree, `folder-${folder}`), { recursive: true })
    for (let file = 0; file < 100; file++)
      writeFileSync(join(tree, `folder-${folder}`, `file-${file}.txt`), `${folder} ${file}\n`.repeat(10))
  }
  const target = join(world.env.KEDGE_CONFIG_DIR, 'targets/tree')
  mkdirSync(target, { recursive: true, mode: 0o700 })
  writeFileSync(join(target, 'target.env'), `ENGINE=rsync\nSTORE=${store}\n`, { mode: 0o600 })
  writeFileSync(join(target, 'paths'), `${tree}\n`)
  mkdirSync(alone)
  const lines = [
    ['config_version', '1.2'],
    ['snapshot_root', `${shots}/`],
    ['cmd_rsync', join(versions('rsync').at(-1).bin, 'rsync')],
    ['cmd_rm', '/bin/rm'],
    ['retain', 'alpha', '1000'],
    ['link_dest', '1'],
    ['rsync_short_args', flags[0]],
    ['rsync_long_args', '--delete --numeric-ids --relative --delete-excluded'],
    ['lockfile', join(world.dir, 'rsnapshot.pid')],
    ['backup', `${tree}/`, 'host/'],
  ]
  const conf = join(world.dir, 'rsnapshot.conf')
  writeFileSync(conf, lines.map((words) => `${words.join('\t')}\n`).join(''))
  return { tree, store, root: join(store, 'tree'), alone, conf }
}

const flush = (dir) => execFileSync('sync', ['-f', dir])
const clear = (dir) => rmSync(dir, { recursive: true, force: true })
const flushed = (command, dir) => ['/bin/sh', '-c', `"$@" && sync -f ${dir}`, 'sh', ...command]

async function* first(world, { tree, root, alone }) {
  const to = join(alone, 'first')
  const command = ['rsync', ...flags, `${tree}/`, `${to}/`]
  const fresh = (dir) => () => {
    clear(dir)
    flush(alone)
  }
  const whats = [
    { command: kedge('backup', 'tree'), before: fresh(root) },
    { command: flushed(command, alone), before: fresh(to) },
    { command, before: fresh(to) },
  ]
  yield* against(turns(world, whats, rounds), 'first snapshot of 20,000 files', 1.05)
}

async function* unchanged(world, { tree, alone, conf }) {
  const base = join(alone, 'base')
  const to = join(alone, 'next')
  await prepare(world)`rsync ${flags} ${tree}/ ${base}/`
  const command = ['rsync', ...flags, `--link-dest=${base}`, `${tree}/`, `${to}/`]
  const settled = () => flush(alone)
  const fresh = () => {
    clear(to)
    flush(alone)
  }
  const whats = [
    { command: kedge('backup', 'tree'), before: settled },
    { command: flushed(command, alone), before: fresh },
    { command, before: fresh },
    { command: ['perl', rsnapshot, '-c', conf, 'alpha'], before: settled },
    { command: flushed(['rsync', '--insecure-links', ...command.slice(1)], alone), before: fresh },
  ]
  const measured = turns(world, whats, rounds)
  yield* against(measured, 'snapshot of 20,000 unchanged files', 1.15)
  const what = 'snapshot of 20,000 unchanged files, against rsnapshot with link_dest 1, which does not flush: wall'
  yield { what, ...ratios(measured, 0, 3), bound: 1 }
  yield {
    what: 'snapshot of 20,000 unchanged files, against rsync alone with --insecure-links and sync -f: wall',
    ...ratios(measured, 0, 4),
    bound: 2,
  }
}

/** The first is kedge, the second rsync alone with a flush, the third without. */
function* against(measured, what, bound) {
  yield { what: `${what}, against rsync alone with sync -f: wall`, ...ratios(measured, 0, 1), bound }
  yield { what: `${what}, against rsync alone with sync -f: CPU`, ...ratios(measured, 0, 1, 'cpu') }
  yield { what: `${what}, against rsync alone without a flush: wall`, ...ratios(measured, 0, 2) }
}

const ratios = (measured, a, b, of = 'wall') => ({ ...spread(measured.map((each) => each[a][of] / each[b][of])), unit: 'times' })

/** One snapshot of many that share their files, and a tree that shares them too. */
async function* deletion(world, { root, alone }) {
  const clone = join(alone, 'clone')
  const measured = []
  for (let round = 0; round <= rounds; round++) {
    await prepare(world)`${kedge('backup', 'tree')}`
    const [oldest] = readdirSync(join(root, 'snapshots')).sort()
    execFileSync('cp', ['-al', join(root, 'snapshots', oldest), clone])
    flush(alone)
    const a = measure(world, kedge('forget', 'tree', oldest))
    flush(alone)
    measured.push([a, measure(world, ['rm', '-rf', clone])])
  }
  yield {
    what: 'forget of one snapshot of 20,000 files, against rm -rf of the same tree: wall',
    ...ratios(measured.slice(1), 0, 1),
    bound: 1.1,
  }
}

/** What the path components cost that rsync 3.5 opens one by one. */
async function* linkDest(world, { tree, alone }) {
  const base = join(alone, 'base')
  const [old, current] = [versions('rsync')[0], versions('rsync').at(-1)]
  const to = join(alone, 'linked')
  const before = () => {
    clear(to)
    flush(alone)
  }
  const linked = ({ bin }, ...more) => ({
    command: [join(bin, 'rsync'), ...flags, ...more, `--link-dest=${base}`, `${tree}/`, `${to}/`],
    before,
  })
  const measured = turns(world, [linked(current), linked(current, '--insecure-links'), linked(old)], rounds)
  const name = `--link-dest of rsync ${current.version} on 20,000 files`
  for (const of of ['wall', 'cpu']) {
    yield { what: `${name}, against itself with --insecure-links: ${of}`, ...ratios(measured, 0, 1, of) }
    yield { what: `${name}, against rsync ${old.version}: ${of}`, ...ratios(measured, 0, 2, of) }
  }
}
