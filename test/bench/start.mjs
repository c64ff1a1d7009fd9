// What it costs to start kedge, against a node that does nothing.
import { readFileSync } from 'node:fs'
import { pairs, peak, preload, spread } from './measure.mjs'
import { kedge } from './world.mjs'

const nothing = [process.execPath, '-e', '0']
// Without the preload, which makes node load what a command loads anyway: what it says of itself.
const nothingAndPeak = [process.execPath, '-e', readFileSync(preload, 'utf8')]

export default async function* start(world) {
  for (const words of [['backup', '--help'], ['--version']]) {
    const what = `kedge ${words.join(' ')}, against node -e 0`
    const ratios = pairs(world, kedge(...words), nothing, 31).map(({ a, b }) => a.cpu / b.cpu)
    yield { what: `${what}: CPU`, ...spread(ratios), unit: 'times', bound: 1.2 }
    const more = Array.from({ length: 9 }, () => (peak(world, kedge(...words)) - peak(world, nothingAndPeak, '')) / 1.048576)
    yield { what: `${what}: memory above it`, ...spread(more), unit: 'MiB', bound: 4 }
  }
}
