import assert from 'node:assert/strict'
import test from 'node:test'
import { Failure } from '../lib/failure.ts'
import { literal, parsePattern, selection } from '../lib/pattern.ts'
import { nanoseconds, parts } from '../lib/proof.ts'
import { sampler } from '../lib/sample.ts'
import { choose, overlap } from '../lib/selection.ts'

test('what is no pattern is misuse, as restic says it', () => {
  for (const text of ['[x', '[]', '[x-]', '[^]', 'a/[x/y]', 'back\\', '[--a]'])
    assert.throws(
      () => parsePattern(text),
      (error) => error instanceof Failure && error.class === 'misuse',
      text,
    )
})

test('a path as a pattern matches itself and what lies below it, whatever its characters', () => {
  for (const path of ['/a*b', '/[x]', '/q?', '/back\\slash', '/new\nline', '/!no', '/-rf', '/dollar$^|(){}+.']) {
    const selects = selection([literal(path)], [])
    assert.equal(selects(path, true), true, path)
    assert.equal(selects(`${path}/below`, false), true, path)
    assert.equal(selects('/other', false), false, path)
  }
})

test('a path in the operand narrows the patterns, and an exclude beside it takes out again', () => {
  assert.deepEqual(choose([], ['*.c'], []), { include: ['*.c'], exclude: [] })
  assert.deepEqual(choose([], [], ['*.o']), { include: [], exclude: ['*.o'] })
  assert.deepEqual(choose(['/a[b'], [], ['*.o']), { include: ['/a\\[b', '!*.o'], exclude: [] })
  assert.deepEqual(choose(['/a[b'], ['*.c', '/a[b/x', '!y'], []), { include: ['/a\\[b/**/*.c', '/a[b/x', '!/a\\[b/**/y'], exclude: [] })
  assert.deepEqual(choose(['/'], [], []), { include: ['/*'], exclude: [] })
  assert.throws(() => choose(['/a'], ['/b'], []), /the pattern '\/b' lies outside of '\/a'/)
  assert.throws(() => choose(['/a'], ['/ab'], []), /lies outside/)
  assert.throws(() => choose(['/a'], [], ['!x']), /cannot take '!x' out of the excludes/)
})

test('paths overlap where one holds the other', () => {
  assert.equal(overlap(['/a'], ['/a/b']), true)
  assert.equal(overlap(['/a/b'], ['/x', '/a']), true)
  assert.equal(overlap(['/a'], ['/ab']), false)
  assert.equal(overlap(['/'], ['/ab']), true)
})

test('a sample has as many as asked for, each with the same chance', () => {
  const hits = new Map<number, number>()
  for (let round = 0; round < 300; round++) {
    const sample = sampler<{ size: number; n: number }>({ count: 5, bytes: Number.POSITIVE_INFINITY })
    for (let n = 0; n < 50; n++) sample.add({ size: n, n })
    const taken = sample.taken()
    assert.equal(new Set(taken.map(({ n }) => n)).size, 5)
    for (const { n } of taken) hits.set(n, (hits.get(n) ?? 0) + 1)
  }
  assert.equal(hits.size, 50)
  assert.ok(Math.max(...hits.values()) < 80, `${Math.max(...hits.values())} of 300, 30 are expected`)
})

test('a sample by bytes fits, and passes over what is too large', () => {
  const sample = sampler<{ size: number }>({ count: 10_000, bytes: 1000 })
  for (let n = 0; n < 5000; n++) sample.add({ size: n % 10 === 0 ? 1001 : 30 })
  const taken = sample.taken()
  assert.equal(taken.length, 33)
  assert.ok(taken.every(({ size }) => size === 30))
  assert.deepEqual(sampler({ count: 5, bytes: 9 }).taken(), [])
})

test('times have their nanoseconds, in any zone', () => {
  assert.equal(nanoseconds('2026-11-20T08:14:04.51613Z'), 1795162444_516130000n)
  assert.equal(nanoseconds('2026-11-20T09:14:04.000000001+01:00'), 1795162444_000000001n)
  assert.equal(nanoseconds('1969-12-31T23:59:59.5Z'), -500000000n)
})

test('a list is cut into parts that fit, none of them empty', () => {
  assert.deepEqual([...parts([1, 2, 3, 9, 1], (n) => n, 5)], [[1, 2], [3], [9], [1]])
  assert.deepEqual([...parts([], () => 1, 5)], [])
})

test('what lies in a folder that is left out stays out, also among sorted bytes, where others come between', () => {
  const selects = selection([], ['/a', '/a-b', '!/a/keep', '!/a-b/keep'])
  const paths: [string, boolean][] = [
    ['/a', true],
    ['/a-b', true],
    ['/a-b/keep', false],
    ['/a/keep', false],
    ['/ab', false],
  ]
  assert.deepEqual(
    paths.filter(([path, folder]) => selects(path, folder)).map(([path]) => path),
    ['/ab'],
  )
})
