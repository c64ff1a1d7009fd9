// A backup of 20,000 unchanged files through kedge, identity check and records included, against restic alone with the same arguments.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pairs, peak, spread } from './measure.mjs'
import { addTarget, bare, kedge, password, prepare } from './world.mjs'

export default async function* backup(world) {
  const tree = join(world.dir, 'tree')
  const repository = join(world.dir, 'repository')
  for (let folder = 0; folder < 200; folder++) {
    mkdirSync(join(tree, `folder-${folder}`), { recursive: true })
    for (let file = 0; file < 100; file++)
      writeFileSync(join(tree, `folder-${folder}`, `file-${file}.txt`), `${folder} ${file}\n`.repeat(10))
  }
  addTarget(world, 'tree', repository, tree)
  const $ = prepare(world)
  await $`${kedge('init', 'tree')}`
  await $`${kedge('backup', 'tree')}`
  const { stdout } = await $`${kedge('backup', 'tree', '--explain')}`
  const line = stdout.split('\n').find((each) => /^restic .*backup --json /.test(each))
  if (!line) throw new Error(`no restic backup in what --explain prints:\n${stdout}`)
  const secret = join(world.dir, 'password')
  writeFileSync(secret, `${password}\n`)
  const { RESTIC_PASSWORD: _, ...env } = bare(world, 'tree', repository)
  const alone = {
    command: ['/bin/sh', '-c', `exec ${line} 3<${secret}`],
    env: { ...env, RESTIC_PASSWORD_COMMAND: 'sh -c "cat <&3"' },
  }
  const through = kedge('backup', 'tree')
  const what = 'backup of 20,000 unchanged files, against restic alone'
  const rounds = pairs(world, through, alone, 15)
  yield { what: `${what}: wall`, ...spread(rounds.map(({ a, b }) => a.wall / b.wall)), unit: 'times', bound: 1.06 }
  yield { what: `${what}: CPU`, ...spread(rounds.map(({ a, b }) => a.cpu / b.cpu)), unit: 'times' }
  yield {
    what: "kedge's own process in it: peak memory",
    ...spread(Array.from({ length: 3 }, () => peak(world, through))),
    unit: 'MB',
    bound: 60,
  }
}
