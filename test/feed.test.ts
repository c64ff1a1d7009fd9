import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { test } from 'node:test'
import { drained, feed } from '../lib/feed.ts'

test('a reader that is slow for long gets all of it in order, and no listener is left from the waiting', async () => {
  const slow = new PassThrough({ highWaterMark: 16 })
  const chunks = Array.from({ length: 60 }, (_, i) => Buffer.alloc(32, i))
  const got: Buffer[] = []
  let most = 0
  const read = (async () => {
    for await (const chunk of slow) {
      most = Math.max(most, slow.listenerCount('close'), slow.listenerCount('drain'))
      got.push(chunk as Buffer)
    }
  })()
  await feed(slow, chunks)
  await read
  assert.deepEqual(Buffer.concat(got), Buffer.concat(chunks))
  assert.ok(most <= 5, `${most} listeners`)
})

test('who waits for a reader that goes away waits no longer', async () => {
  const gone = new PassThrough({ highWaterMark: 1 })
  gone.write('more than it takes')
  const waiting = drained(gone)
  gone.destroy()
  await waiting
  await drained(gone)
})
