// Listing a snapshot of 200,000 entries, against restic's own list, and the memory of it, also with a million entries.
import { existsSync, linkSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pairs, peak, spread } from './measure.mjs'
import { addTarget, bare, kedge, kept, prepare } from './world.mjs'

const repository = join(kept, 'entries-1')
const sizes = { many: 200_000, million: 1_000_000 }
const perFolder = 1000

export default async function* files(world) {
  if (!existsSync(repository)) await makeRepository(world)
  for (const name of Object.keys(sizes)) addTarget(world, name, repository, '/nowhere')
  const alone = { command: ['restic', 'ls', '--json', '--no-lock', '--tag', 'kedge:many', 'latest'], env: bare(world, 'many', repository) }
  const rounds = pairs(world, kedge('files', 'many'), alone, 9)
  const what = 'files over 200,000 entries, against restic ls --json alone'
  yield { what: `${what}: CPU`, ...spread(rounds.map(({ a, b }) => a.cpu / b.cpu)), unit: 'times', bound: 1.4 }
  yield { what: `${what}: wall`, ...spread(rounds.map(({ a, b }) => a.wall / b.wall)), unit: 'times' }
  for (const [name, count] of Object.entries(sizes)) {
    const peaks = Array.from({ length: name === 'many' ? 3 : 1 }, () => peak(world, kedge('files', name)))
    yield { what: `files over ${count.toLocaleString('en')} entries: peak memory of kedge`, ...spread(peaks), unit: 'MB', bound: 85 }
  }
}

// Hard links to an empty file: a million names in a thousand inodes. restic saves each as an entry of its own.
async function makeRepository(world) {
  console.error(`making ${repository} with ${sizes.million.toLocaleString('en')} entries, which stays for the next time`)
  const tree = join(world.dir, 'entries')
  for (let folder = 0; folder < sizes.million / perFolder; folder++) {
    const dir = join(tree, folder < sizes.many / perFolder ? 'many' : 'more', `folder-${folder}`)
    mkdirSync(dir, { recursive: true })
    writeFileSync(join(dir, 'file-0.txt'), '')
    for (let file = 1; file < perFolder; file++) linkSync(join(dir, 'file-0.txt'), join(dir, `file-${file}.txt`))
  }
  const unfinished = `${repository}.${process.pid}`
  mkdirSync(kept, { recursive: true })
  try {
    const $ = prepare(world, bare(world, 'making', unfinished))
    await $`restic init`
    await $`restic backup --quiet --host bench --tag kedge:many ${join(tree, 'many')}`
    await $`restic backup --quiet --host bench --tag kedge:million ${tree}`
    renameSync(unfinished, repository)
  } finally {
    rmSync(unfinished, { recursive: true, force: true })
    rmSync(tree, { recursive: true, force: true })
  }
}
