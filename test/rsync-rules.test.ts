import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { pruned } from '../lib/engine/rsync/caches.ts'
import { cacheRules, folderRules, isExcluded, patternsIn, rulesFile, rulesOf } from '../lib/engine/rsync/rules.ts'
import { Failure } from '../lib/failure.ts'
import { cheapen } from './cheap.ts'
import { newest, rsyncs, scratch } from './harness.ts'

test('restic’s patterns become rsync’s rules, the last one first', () => {
  const table: [patterns: string[], rules: string[]][] = [
    [['*.o'], ['- *.o']],
    [['/var/tmp'], ['- /var/tmp']],
    [
      ['a', 'b'],
      ['- b', '- a'],
    ],
    [['dir/'], ['- dir']],
    [
      ['*.log', '!keep.log'],
      ['+ keep.log', '+ keep.log/**', '- *.log'],
    ],
    [['/a/**/b'], ['- /a/b', '- /a/**/b']],
    [['a/**'], ['- a']],
    [['**/x'], ['- x']],
    [['/a/**/**/b'], ['- /a/b', '- /a/**/b']],
    [['a**b'], ['- a*b']],
    [['/a/./b//c'], ['- /a/b/c']],
    [['../x'], []],
    [
      ['[^a]b'],
      ['- [^a]b', '- [\xc2-\xdf][\x80-\xbf]b', '- [\xe0-\xef][\x80-\xbf][\x80-\xbf]b', '- [\xf0-\xf4][\x80-\xbf][\x80-\xbf][\x80-\xbf]b'],
    ],
    [['[!a]'], ['- [\\!a]']],
    [['[a-cx]'], ['- [a-cx]']],
    [['[aä]'], ['- [a]', '- \xc3\xa4']],
    [['\\*'], ['- \\*']],
    [['a\\\\b'], ['- a\\b']],
    [['a\\\\b*'], ['- a\\\\b*']],
    [['ä'], ['- \xc3\xa4']],
  ]
  for (const [patterns, rules] of table) assert.deepEqual(rulesOf(patterns), rules, patterns.join(' '))
})

test('caches are not looked for where everything is left out', () => {
  const table: [patterns: string[], words: string[]][] = [
    [[], []],
    [
      ['/var/lib/docker/', 'node_modules'],
      ['(', '-path', '/var/lib/docker', '-o', '-name', 'node_modules', ')', '-prune', '-o'],
    ],
    [['*.o', '/a/[b]', 'a/b', '/a/../b', '//a', '\\*'], []],
    [['CACHEDIR.TAG', '/srv/CACHEDIR.TAG'], []],
    [
      ['/srv', 'srv', '/srv/www', 'www', '/srv/other'],
      ['(', '-path', '/srv/other', ')', '-prune', '-o'],
    ],
    [['/srv/other', '!/srv/other/this'], []],
  ]
  for (const [patterns, words] of table) assert.deepEqual(pruned(patterns, ['/srv/www']), words, patterns.join(' '))
})

test('what rsync cannot say is refused by name', () => {
  for (const pattern of ['/', '????*[^x]?', '[ä-ö]', '[^ä]', '[', 'a[']) {
    assert.throws(
      () => rulesOf([pattern]),
      (error) => error instanceof Failure && error.class === 'config' && error.message.includes(`'${pattern}'`),
      pattern,
    )
  }
})

test('an exclude file is read as restic reads it: comments, blanks around, variables', () => {
  const text = '\ufeff# comment\n\n  *.o  \r\n$HOME/x\n${HOME}y\n$$z\n#!no\n'
  assert.deepEqual(patternsIn(text, 'exclude', { HOME: '/home/me' }), ['*.o', '/home/me/x', '/home/mey', '$z'])
  assert.throws(() => patternsIn('$NONE/x', 'exclude', {}), /'\$NONE\/x' names NONE, which is not set/)
})

test('folders are left out whatever is in their names', () => {
  assert.deepEqual(folderRules(['/a b', '/a*[b]']), ['- /a b', '- /a\\*\\[b\\]'])
  assert.deepEqual(cacheRules('/c[1]', true), ['+ /c\\[1\\]/CACHEDIR.TAG', '- /c\\[1\\]/*'])
  assert.deepEqual(cacheRules('/c', false), ['- /c/*'])
})

test('a source that a pattern fits is saved, and what lies in it is not', () => {
  assert.deepEqual(rulesOf(['/srv', '!*.c'], ['/srv/x', '/home']), ['+ /srv/x', '+ *.c', '+ *.c/**', '- /srv', '- /srv/x/**'])
  assert.equal(isExcluded(['/srv'], '/srv/x'), true)
  assert.equal(isExcluded(['/srv', '!/srv/x'], '/srv/x'), false)
  assert.equal(isExcluded(['*.o'], '/srv/x'), false)
})

const names = [
  ...['a.o', 'b.c', 'keep.log', 'x.log', 'ä', 'äb', 'xb', 'ab', '[x]', '*', 'a\\b', '#no', ' lead', 'q?r', 'qär'],
  ...['d/a.o', 'd/keep.log/in', 'd/e/f/b', 'd/b', 'd/e/b/c', 'cache/x/y', 'e/cache/z', 'foo/bar/1', 'foo/baz/2', 'z/foo/bar/3', 'Foo/4'],
]
const lists = [
  ['*.o'],
  ['*.log', '!keep.log'],
  ['!keep.log', '*.log'],
  ['d/*', '!d/e'],
  ['d/**/b'],
  ['**/b'],
  ['foo/bar'],
  ['foo/*', '!foo/bar'],
  ['foo', '!foo/bar'],
  ['?b'],
  ['[^x]b'],
  ['[xä]b'],
  ['[ä]*'],
  ['\\*'],
  ['[[]x]'],
  ['\\[x\\]'],
  ['a\\\\b'],
  ['q?r'],
  ['q\\?r'],
  ['cache/'],
  ['ROOT/d'],
  ['ROOT/d/**/b', '*.c'],
  ['/**/cache'],
  ['ROOT/*/e'],
  ['ROOT/*', '!ROOT/foo'],
  ['*', '!foo', '!bar'],
  ['[!a]b'],
  ['**'],
  ['ROOT'],
  ['ROOT/d'],
  ['tree', '!*.c'],
]

test('rsync leaves out what restic leaves out', (t) => {
  const dir = scratch(t)
  const tree = path.join(dir, 'tree')
  for (const name of names) {
    fs.mkdirSync(path.dirname(path.join(tree, name)), { recursive: true })
    fs.writeFileSync(path.join(tree, name), name)
  }
  const restic = (...args: string[]) =>
    execFileSync(newest().path, ['--no-cache', '-r', path.join(dir, 'r'), '--insecure-no-password', ...args], {
      env: { HOME: dir, LC_ALL: 'C.UTF-8' },
    }).toString()
  restic('init')
  cheapen(path.join(dir, 'r'), '')
  const [excludes, rules, to] = ['exclude', 'rules', 'to'].map((name) => path.join(dir, name)) as [string, string, string]
  for (const list of lists) {
    const patterns = list.map((pattern) => pattern.replace('ROOT', tree))
    fs.writeFileSync(excludes, patterns.map((pattern) => `${pattern}\n`).join(''))
    const sources = [tree, path.join(tree, 'd/e')]
    const items = restic('backup', '--dry-run', '--json', '-vv', '--exclude-file', excludes, ...sources).split('\n')
    const saved = items
      .map((line) => /"message_type":"verbose_status".*"item":"([^"]*[^"/])"/.exec(line)?.[1])
      .filter((item) => item !== undefined)
    const byRestic = saved.map((item) => JSON.parse(`"${item}"`) as string).sort()
    fs.writeFileSync(rules, rulesFile(rulesOf(patterns, sources)))
    for (const rsync of rsyncs()) {
      fs.rmSync(to, { recursive: true, force: true })
      execFileSync(rsync.path, ['-aR', '-0', `--exclude-from=${rules}`, ...sources, `${to}/`])
      assert.deepEqual(filesIn(to).sort(), byRestic, `rsync ${rsync.version}: ${list.join(' ')}`)
    }
  }
})

function filesIn(tree: string): string[] {
  if (!fs.existsSync(tree)) return []
  const entries = fs.readdirSync(tree, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name).slice(tree.length))
}
