import assert from 'node:assert/strict'
import test from 'node:test'
import { createFolders } from '../lib/folders.ts'
import type { Change } from '../lib/rows.ts'

const M = 1 << 20
const added = (path: string, after: number): Change => ({ kind: 'change', change: '+', path, after })
const removed = (path: string, before: number): Change => ({ kind: 'change', change: '-', path, before })
const changed = (path: string, before: number, after: number): Change => ({ kind: 'change', change: 'M', path, before, after })

const top = (changes: readonly Change[], n: number): [string, number, number, number][] => {
  const folders = createFolders()
  for (const change of changes) folders.add(change)
  return folders.top(n).map(({ path, growth, written, files }) => [path, growth, written, files])
}

test('nothing changed: no folder', () => {
  assert.deepEqual(top([], 3), [])
})

test('a chain of single folders is shown as its deepest', () => {
  assert.deepEqual(top([added('/srv/a/b/c/file', 5 * M)], 3), [['/srv/a/b/c', 5 * M, 5 * M, 1]])
})

test('folders are told apart until there are N of weight, the largest first', () => {
  const changes = [
    added('/var/lib/docker/x/1', 500 * M),
    added('/var/lib/docker/y/1', 300 * M),
    added('/var/log/journal/1', 100 * M),
    changed('/etc/hosts', 10, 20),
    added('/home/ann/mail', 40 * M),
  ]
  assert.deepEqual(top(changes, 1), [['/', 940 * M + 10, 940 * M + 20, 5]])
  assert.deepEqual(
    top(changes, 2).map(([path]) => path),
    ['/var', '/home/ann'],
  )
  assert.deepEqual(
    top(changes, 3).map(([path]) => path),
    ['/var/lib/docker', '/var/log/journal', '/home/ann'],
  )
  assert.deepEqual(
    top(changes, 4).map(([path]) => path),
    ['/var/lib/docker/x', '/var/lib/docker/y', '/var/log/journal', '/home/ann'],
  )
})

test('many small folders are one answer: the folder that holds them', () => {
  const mail = Array.from({ length: 1000 }, (_, i) => added(`/var/mail/user${i}/new`, M))
  const [first, ...rest] = top([...mail, added('/home/x', 20 * M)], 5)
  assert.deepEqual(first, ['/var/mail', 1000 * M, 1000 * M, 1000])
  assert.deepEqual(rest, [['/home', 20 * M, 20 * M, 1]])
})

test('a folder beside one of its own folders counts without it: the parts add up to the whole', () => {
  const changes = [added('/var/log/syslog', 60 * M), added('/var/log/journal/a', 40 * M)]
  assert.deepEqual(top(changes, 2), [
    ['/var/log', 60 * M, 60 * M, 1],
    ['/var/log/journal', 40 * M, 40 * M, 1],
  ])
})

test('growth is net: what was rotated did not grow, what was written is counted', () => {
  const changes = [
    removed('/log/app.log', 80 * M),
    added('/log/app.log.1', 80 * M),
    changed('/db/data', 100 * M, 103 * M),
    added('/db/index/i', 2 * M),
  ]
  assert.deepEqual(top(changes, 3), [
    ['/db', 3 * M, 103 * M, 1],
    ['/db/index', 2 * M, 2 * M, 1],
    ['/log', 0, 80 * M, 2],
  ])
})

test('folders themselves and touched files have no growth', () => {
  assert.deepEqual(top([{ kind: 'change', change: '+', path: '/a/b/' }], 2), [])
  assert.deepEqual(top([{ kind: 'change', change: 'U', path: '/a/b', before: 7, after: 7 }], 2), [['/a', 0, 0, 1]])
})

test('a source that shrank is one folder with its loss', () => {
  assert.deepEqual(top([removed('/a/x/1', 5), removed('/a/y/1', 7), added('/a/z/1', 1)], 2), [['/a', -11, 1, 3]])
})
