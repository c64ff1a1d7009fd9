// A plan for 100,000 snapshots: the CPU of a process that makes them up and plans, without that of one that only makes them up.
import { pairs, spread } from './measure.mjs'
import { built } from './world.mjs'

// Three years, one each quarter of an hour, in a zone with daylight saving, and all kinds of rules.
const script = `
const { parseKeep, plan } = require(process.argv[1])
const { rules, faults } = parseKeep({
  KEEP_LAST: '10', KEEP_HOURLY: '48', KEEP_DAILY: '30', KEEP_WEEKLY: '26', KEEP_MONTHLY: '24', KEEP_YEARLY: 'unlimited',
  KEEP_WITHIN: '14d', KEEP_WITHIN_DAILY: '1y', KEEP_TAGS: 'release', KEEP_MIN: '5',
})
if (faults.length > 0) throw new Error(faults[0].message)
const now = Date.UTC(2026, 10, 20)
const snapshots = Array.from({ length: 100_000 }, (_, i) => ({
  id: i.toString(16).padStart(64, '0'),
  time: new Date(now - i * 900_000).toISOString(),
  group: 'paths',
  tags: i % 1000 === 0 ? ['kedge:web1', 'release'] : ['kedge:web1'],
}))
if (process.argv[2] === 'made') process.exit()
const planned = plan(snapshots, rules, { zone: 'Europe/Berlin', now: new Date(now), maxDelete: 20 })
const count = (action) => planned.filter((each) => each.action === action).length
if (planned.length !== 100_000 || count('delete') !== 20 || count('keep') < 1400) throw new Error('not the plan that was expected')
`

export default async function* retain(world) {
  const both = [process.execPath, '-e', script, built('lib/retain')]
  const rounds = pairs(world, both, [...both, 'made'], 9)
  yield { what: 'retain on 100,000 snapshots: CPU', ...spread(rounds.map(({ a, b }) => a.cpu - b.cpu)), unit: 's', bound: 0.3 }
}
