// npm run bench [PART...]: the figures that kedge promises, each with its bound. Paired runs by turns, so that what else the machine
// does falls on both sides; ratios as the middle of the pairs, and the smallest and the largest. It judges nobody: its status is 0.
import { availableParallelism } from 'node:os'
import backup from './backup.mjs'
import files from './files.mjs'
import fleet from './fleet.mjs'
import metrics from './metrics.mjs'
import retain from './retain.mjs'
import rsync from './rsync.mjs'
import start from './start.mjs'
import { createWorld, prepare } from './world.mjs'

const parts = { start, backup, files, rsync, retain, metrics, fleet }
const asked = process.argv.slice(2)
const unknown = asked.find((name) => !Object.hasOwn(parts, name))
if (unknown) {
  console.error(`bench: no part '${unknown}'; there are ${Object.keys(parts).join(', ')}`)
  process.exit(2)
}

async function main() {
  const first = createWorld()
  const { stdout } = await prepare(first)`restic version`.finally(first.remove)
  console.log(`${availableParallelism()} cores, node ${process.versions.node}, ${stdout.split(' ').slice(0, 2).join(' ')}\n`)
  for (const [name, part] of Object.entries(parts)) {
    if (asked.length > 0 && !asked.includes(name)) continue
    const world = createWorld()
    const stop = () => process.exit(130)
    const remove = () => world.remove()
    process.on('exit', remove).on('SIGINT', stop).on('SIGTERM', stop)
    try {
      for await (const figure of part(world)) print(figure)
    } finally {
      world.remove()
      process.off('exit', remove).off('SIGINT', stop).off('SIGTERM', stop)
    }
  }
}

function print({ what, middle, least, most, unit, bound }) {
  const number = (value) => value.toFixed(unit.startsWith('M') ? 1 : 2)
  const range = `${number(middle)} ${unit} (${number(least)} to ${number(most)})`
  const verdict = bound === undefined ? '' : `at most ${bound}: ${middle <= bound ? 'ok' : 'over'}`
  console.log(`${what.padEnd(90)} ${range.padEnd(28)} ${verdict}`.trimEnd())
}

await main()
