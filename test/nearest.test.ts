import assert from 'node:assert/strict'
import test from 'node:test'
import { nearest } from '../lib/nearest.ts'

test('a mistyped word is known by what it shares with one, never by its length alone', () => {
  const cases: readonly (readonly [string, readonly string[], string | undefined])[] = [
    ['t', ['c', 'ab'], undefined],
    ['T', ['c', 't'], 't'],
    ['ab', ['xy'], undefined],
    ['AB', ['xy', 'ab'], 'ab'],
    ['wbe1', ['db1', 'web1'], 'web1'],
    ['bak', ['backup', 'bake'], 'bake'],
    ['bakcup', ['backup'], 'backup'],
  ]
  for (const [word, known, best] of cases) assert.equal(nearest(word, known), best, word)
})
