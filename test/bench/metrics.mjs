// The metrics of 1,000 targets with 1,000 runs each, against a node that only reads the tail of each ledger and parses its last line.
import { mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pairs, spread } from './measure.mjs'
import { addTarget, held, kedge } from './world.mjs'

const { append } = held('base', 'lib/ledger')
const { prepare } = held('runs', 'lib/prepared')
const targets = 1000
const runs = 1000

const tails = `
const { closeSync, fstatSync, openSync, readSync, readdirSync } = require('node:fs')
const states = process.argv[1]
const buffer = Buffer.alloc(65536)
let good = 0
for (const name of readdirSync(states)) {
  const file = openSync(states + '/' + name + '/runs.ndjson', 'r')
  const { size } = fstatSync(file)
  const read = readSync(file, buffer, 0, buffer.length, Math.max(0, size - buffer.length))
  closeSync(file)
  const text = buffer.toString('utf8', 0, read)
  if (JSON.parse(text.slice(text.lastIndexOf('\\n', text.length - 2) + 1)).state === 'success') good++
}
if (good !== ${targets}) throw new Error(good + ' good runs')
`

export default async function* metrics(world) {
  await makeStates(world)
  const rounds = pairs(world, kedge('stats', '--prometheus'), [process.execPath, '-e', tails, world.env.KEDGE_STATE_DIR], 15)
  const what = 'stats --prometheus for 1,000 targets, against reading the tails of the ledgers'
  yield { what: `${what}: CPU`, ...spread(rounds.map(({ a, b }) => a.cpu / b.cpu)), unit: 'times', bound: 1.5 }
}

// Of one target the product writes the last runs of each verb, and so last.json; the others are its copies with names of their own.
async function makeStates(world) {
  const model = join(world.dir, 'model')
  const name = 'target-0000'
  mkdirSync(model, { recursive: true })
  const lines = Array.from({ length: runs }, (_, index) => JSON.stringify(run(name, index)))
  writeFileSync(join(model, 'runs.ndjson'), `${lines.slice(0, -8).join('\n')}\n`)
  for (const line of lines.slice(-8)) await append(model, JSON.parse(line))
  const texts = ['runs.ndjson', 'last.json'].map((file) => [file, readFileSync(join(model, file), 'utf8')])
  for (let index = 0; index < targets; index++) {
    const own = `target-${String(index).padStart(4, '0')}`
    addTarget(world, own, '/srv/repository', '/srv/www')
    // As in life: the last runs have read the configuration since it was changed.
    for (const file of ['target.env', 'paths'])
      utimesSync(join(world.env.KEDGE_CONFIG_DIR, 'targets', own, file), new Date(2024, 0, 1), new Date(2024, 0, 1))
    const state = join(world.env.KEDGE_STATE_DIR, own)
    mkdirSync(join(state, 'logs'), { recursive: true })
    for (const [file, text] of texts) writeFileSync(join(state, file), text.replaceAll(name, own))
    await prepare(state)
  }
}

// A backup each night; now and then a prune, a check, one that failed.
function run(target, index) {
  const verb = ['backup', 'backup', 'backup', 'prune', 'backup', 'backup', 'check'][index % 7]
  const start = new Date(Date.UTC(2024, 0, 1) + index * 86_400_000).toISOString()
  const base = { kind: 'run', target, run: `${start.replace(/[-:]|\.\d+/g, '')}-1a2b3c`, verb, start, seconds: 12.3 }
  if (index % 7 === 4) return { ...base, state: 'failed', status: 13, class: 'unreachable', message: 'cannot back up: connection refused' }
  const results =
    verb === 'backup'
      ? [
          {
            kind: 'summary',
            target,
            snapshot: String(index).padStart(64, '0'),
            files: 20_000,
            bytes: 1e9,
            added: 1e6,
            seconds: 12,
            new: 3,
            changed: 9,
          },
        ]
      : []
  return { ...base, state: 'success', status: 0, results }
}
