import assert from 'node:assert/strict'
import test from 'node:test'
import { isVerified, oldestRead, planSlices, shareRead, unread, type Verified, withPace, withSlice } from '../lib/slices.ts'

const hour = 3600
const day = 24 * hour
const start = 1_800_000_000

// A small generator, so that a failure can be run again.
function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

type Check = { now: number; within: number; interval: number; interrupted?: boolean }

function check(
  verified: Verified,
  { now, within, interval, interrupted = false }: Check,
): { verified: Verified; of: number; slices: number[] } {
  const plan = planSlices(verified, { within, interval, now })
  const slices = interrupted ? plan.slices.slice(0, Math.floor(plan.slices.length / 2)) : plan.slices
  let result = verified
  let at = now
  for (const n of slices) result = withSlice(result, n, plan.of, at++)
  return { verified: interrupted ? result : withPace(result, at), of: plan.of, slices: [...slices] }
}

test('over months of checks that come at their interval, or up to a quarter of it late, every byte is read in time', () => {
  const cases = [
    { within: 30 * day, interval: day },
    { within: 30 * day, interval: 7 * day },
    { within: 30 * day, interval: hour },
    { within: 7 * day, interval: day },
    { within: 90 * day, interval: day },
    { within: 10 * day, interval: 8 * day },
    { within: 365 * day, interval: day },
  ]
  for (const [index, { within, interval }] of cases.entries()) {
    for (const late of [0, 0.01, 0.24]) {
      const next = random(index * 7 + late * 100)
      let verified = unread('a', start)
      const reads = Array.from({ length: 256 }, () => start)
      let read = 0
      let now = start
      while (now < start + 5 * within) {
        const result = check(verified, { now, within, interval })
        verified = result.verified
        read += result.slices.length / result.of
        for (const n of result.slices) {
          for (let byte = n - 1; byte < 256; byte += result.of) {
            const gap = now - (reads[byte] ?? 0)
            assert.ok(
              gap <= within,
              `within ${within / day} d, every ${interval / hour} h, late ${late}: byte ${byte} unread for ${gap / day} d`,
            )
            reads[byte] = now
          }
        }
        now += interval * (1 + late * next())
      }
      for (const [byte, at] of reads.entries()) assert.ok(now - interval * 1.25 - at <= within, `byte ${byte} at the end`)
      // Every hour for 30 days needs more slices than there are: then at least one of 256 is read each time.
      if (within / interval <= 256)
        assert.ok(read < 5 * 1.35 + 1, `within ${within / day} d, every ${interval / hour} h: read ${read} times over`)
    }
  }
})

test('with checks left out and interrupted at random nothing stays unread for longer than the span and the gap together', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const next = random(seed)
    const within = 30 * day
    const interval = day
    let verified = unread('a', start)
    let now = start
    while (now < start + 400 * day) {
      const gap = next() < 0.1 ? day * (1 + 12 * next()) : day * (0.9 + 0.2 * next())
      now += gap
      if (next() < 0.2) verified = check(verified, { now, within, interval, interrupted: true }).verified
      verified = check(verified, { now: now + 60, within, interval }).verified
      const oldest = oldestRead(verified) ?? start
      assert.ok(now - oldest <= within, `seed ${seed}: after a check the oldest is ${(now - oldest) / day} d old`)
    }
    assert.equal(shareRead(verified, now - within), 1)
  }
})

test('an interrupted plan is resumed: what it read is not read again', () => {
  const within = 30 * day
  let verified = withPace(unread('a', start), start)
  verified = check(verified, { now: start, within, interval: day }).verified
  const now = start + 6 * day
  const whole = planSlices(verified, { within, interval: day, now })
  assert.deepEqual(whole.slices, [2, 3, 4, 5, 6, 7])
  const half = check(verified, { now, within, interval: day, interrupted: true })
  assert.deepEqual(half.slices, [2, 3, 4])
  const rest = planSlices(half.verified, { within, interval: day, now: now + hour })
  assert.deepEqual(rest.slices, [5, 6, 7])
})

test('the number of slices follows the schedule, and never passes what restic takes', () => {
  const cases: [within: number, interval: number, of: number][] = [
    [30 * day, day, 30],
    [30 * day, 7 * day, 4],
    [30 * day, hour, 256],
    [day, day, 1],
    [hour, day, 1],
  ]
  for (const [within, interval, of] of cases) assert.equal(planSlices(unread('a', start), { within, interval, now: start }).of, of)
  assert.deepEqual(planSlices(unread('a', start), { within: day, interval: day, now: start }).slices, [1], 'what cannot wait is read whole')
})

test('another number of slices keeps the dates of the bytes that were read', () => {
  let verified = unread('a', start)
  for (const n of [1, 2, 3, 4]) verified = withSlice(verified, n, 8, start + n)
  assert.equal(shareRead(verified, 0), 0.5)
  assert.equal(oldestRead(verified), null)
  // Slices 1 to 4 of 8 are slices 1 to 4 and 9 to 12 of 16: of the twelve that twelve days ask for, eight were read.
  const plan = planSlices(withPace(verified, start), { within: 16 * day, interval: day, now: start + 12 * day })
  assert.deepEqual(plan.slices, [5, 6, 7, 8])
  for (const n of [5, 6, 7, 8]) verified = withSlice(verified, n, 8, start + n)
  assert.equal(oldestRead(verified), start + 1)
  assert.equal(shareRead(verified, start + 3), 0.75)
})

test('only a whole state is taken from a file', () => {
  const good = unread('a', start)
  assert.ok(isVerified(JSON.parse(JSON.stringify(good))))
  for (const bad of [
    undefined,
    null,
    1,
    {},
    { ...good, bytes: [] },
    { ...good, store: 1 },
    { ...good, paced: 'x' },
    { ...good, bytes: good.bytes.map(() => 'x') },
  ])
    assert.ok(!isVerified(bad), JSON.stringify(bad))
})
