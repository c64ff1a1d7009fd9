// `kedge run --all -j 8 -- check` over 200 targets against 20 of them: what kedge itself holds in memory does not grow with the fleet.
// Some MB more are not what it holds: V8 makes its young generation larger in steps as a process works, up to a limit (after a full
// collection 1,000 targets take 0.8 MB more than 20), and clears the old one seldom.
import { appendFileSync, cpSync, readdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build } from 'esbuild'
import { measure, peak, spread } from './measure.mjs'
import { addTarget, bare, kedge, password, prepare, root } from './world.mjs'

const many = 200
const few = 20

export default async function* fleet(world) {
  await makeTargets(world)
  const over = (...which) => kedge('run', ...which, '-j', '8', '--', 'check')
  const [all, some] = [over('--all'), over('--match', 'web-0[01]?')]
  const small = [1, 2, 3].map(() => peak(world, some))
  const large = peak(world, all)
  yield { what: `run -j 8 -- check over ${few} targets: peak memory of kedge`, ...spread(small), unit: 'MB', bound: 80 }
  const more = small.map((each) => large - each)
  yield { what: `over ${many} targets: memory above that over ${few}`, ...spread(more), unit: 'MB', bound: 12 }
  yield { what: `run -j 8 -- check over ${many} targets: wall`, ...spread([measure(world, all).wall]), unit: 's' }
}

// One tiny repository, whose key is derived in a millisecond, and copies of it: what is measured is kedge, not scrypt.
async function makeTargets(world) {
  const model = join(world.dir, 'model')
  const $ = prepare(world, bare(world, 'model', model))
  await $`restic init`
  const cheap = join(world.dir, 'cheap.mjs')
  await build({ entryPoints: [join(root, 'test/cheap.ts')], outfile: cheap, platform: 'node', format: 'esm' })
  ;(await import(pathToFileURL(cheap).href)).cheapen(model, password)
  await $`restic backup --quiet --host bench ${cheap}`
  const { id } = JSON.parse((await $`restic cat config`).stdout)
  const packs = join(model, 'data') // 256 folders, of which a few hold something
  for (const name of readdirSync(packs)) if (readdirSync(join(packs, name)).length === 0) rmdirSync(join(packs, name))
  for (let index = 0; index < many; index++) {
    const name = `web-${String(index).padStart(3, '0')}`
    const repository = join(world.dir, 'repositories', name)
    cpSync(model, repository, { recursive: true })
    addTarget(world, name, repository, world.dir)
    appendFileSync(join(world.env.KEDGE_CONFIG_DIR, 'targets', name, 'target.env'), `STORE_ID=${id}\n`)
  }
}
