import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Summary } from '../lib/rows.ts'
import { suspicious } from '../lib/suspicion.ts'

const summary = (bytes: number, files: number, changed = 0): Summary => ({
  kind: 'summary',
  target: 'web1',
  snapshot: 'ab',
  files,
  bytes,
  added: 0,
  seconds: 1,
  changed,
})
const usual = [summary(1000, 100, 1), summary(1100, 100, 2), summary(900, 100, 3), summary(1000, 100, 4)]
const limits = { shrink: 50, churn: 50 }

test('a backup far from the history of its source is suspect, and the reason has the figures', () => {
  type Case = [string, Summary, readonly Summary[], { shrink: number; churn: number }, RegExp | undefined]
  const cases: Case[] = [
    ['as ever', summary(1000, 100, 2), usual, limits, undefined],
    ['half of it, to the byte', summary(500, 100), usual, limits, undefined],
    ['one byte less', summary(499, 100), usual, limits, /it shrank: 499 B, usually 1000 B/],
    ['fewer files', summary(1000, 49), usual, limits, /it shrank: 49 files, usually 100/],
    ['nothing at all', summary(0, 0), usual, limits, /it shrank: 0 B/],
    ['much more', summary(90_000, 9000, 10), usual, limits, undefined],
    ['a higher limit', summary(800, 100), usual, { shrink: 90, churn: 0 }, /it shrank/],
    ['switched off', summary(0, 0), usual, { shrink: 0, churn: 0 }, undefined],
    ['a short history', summary(1, 1), usual.slice(0, 2), limits, undefined],
    ['just enough history', summary(1, 1), usual.slice(0, 3), limits, /it shrank/],
    ['one odd backup in the history', summary(900, 90), [summary(9e9, 9e6), ...usual.slice(0, 2)], limits, undefined],
    ['all changed', summary(1000, 100, 100), usual, limits, /100 % of the files changed, at most 4 % before/],
    ['at the limit', summary(1000, 100, 50), usual, limits, undefined],
    ['above it', summary(1000, 100, 51), usual, limits, /51 % of the files changed/],
    ['it always changes', summary(1000, 100, 90), [...usual, summary(1000, 100, 60)], limits, undefined],
    ['few files', summary(10, 9, 9), [summary(10, 9), summary(10, 9), summary(10, 9)], limits, undefined],
    ['churn off', summary(1000, 100, 100), usual, { shrink: 50, churn: 0 }, undefined],
    ['an empty history', summary(10, 10), [summary(0, 0), summary(0, 0), summary(0, 0)], limits, undefined],
  ]
  for (const [name, now, history, limit, reason] of cases) {
    const said = suspicious(now, history, limit)
    if (reason) assert.match(said ?? '', reason, name)
    else assert.equal(said, undefined, name)
  }
})
