// What every engine keeps to where it restores in place. `save`: makes a target of that name over the paths, and its first snapshot.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import type { Restored } from '../lib/rows.ts'
import { done, kedge, type Machine, type Result } from './harness.ts'

type Save = (name: string, paths: readonly string[]) => Promise<void>

/** Nothing is written through a link where a folder was saved. */
export async function keepsFromLinks(m: Machine, save: Save): Promise<void> {
  const source = path.join(m.dir, 'source')
  const [link, other] = [path.join(source, 'p/link'), path.join(m.dir, 'other')]
  fs.mkdirSync(path.join(link, 'x'), { recursive: true })
  fs.writeFileSync(path.join(link, 'x/f'), 'saved\n')
  await save('web1', [source])
  fs.mkdirSync(path.join(other, 'x'), { recursive: true })
  fs.writeFileSync(path.join(other, 'x/f'), 'of another folder\n')
  fs.rmSync(link, { recursive: true })
  fs.symlinkSync(other, link)
  for (const what of [[`latest:${link}/x/f`], [`latest:${link}/x`], ['--include', 'f'], [`latest:${source}/p`, '--include', 'x']]) {
    for (const mode of [['-n'], []]) {
      const result = await kedge(m, ['restore', 'web1', '--in-place', ...mode, ...what])
      assert.equal(result.status, 15, `${what.join(' ')}: ${result.stderr}`)
      assert.match(result.stderr, /refusing to restore '.*' in place: '.*\/p\/link' is a link to a folder/)
      assert.equal(fs.readFileSync(path.join(other, 'x/f'), 'utf8'), 'of another folder\n')
    }
  }
  await done(m, ['restore', 'web1', '--in-place', `latest:${source}/p`])
  assert.equal(fs.readFileSync(path.join(link, 'x/f'), 'utf8'), 'saved\n', 'the folder comes back in place of the link')
  assert.equal(fs.readFileSync(path.join(other, 'x/f'), 'utf8'), 'of another folder\n')
}

/** --delete of a folder above the saved paths deletes in these only. `explained`: looks at what --explain prints; `above`: that folder. */
export async function deletesInSaved(m: Machine, save: Save, explained: (result: Result, above: string) => void): Promise<void> {
  const above = path.join(m.dir, 'q')
  for (const name of ['saved/a', 'other/p', 'second/b', 'top']) {
    fs.mkdirSync(path.dirname(path.join(above, name)), { recursive: true })
    fs.writeFileSync(path.join(above, name), `${name}\n`)
  }
  await save('q', [path.join(above, 'saved'), path.join(above, 'second')])
  const restore = ['restore', 'q', '--in-place', '--delete', `latest:${above}`]
  for (const name of ['saved/new', 'second/new']) fs.writeFileSync(path.join(above, name), 'new\n')
  explained(await done(m, [...restore, '--explain']), above)
  for (const mode of [['-n'], []]) {
    const { rows } = await done(m, [...restore, ...mode, '--json'])
    assert.equal((rows[0] as Restored).deleted, 2)
  }
  const left = fs.readdirSync(above, { recursive: true }).sort()
  assert.deepEqual(left, ['other', 'other/p', 'saved', 'saved/a', 'second', 'second/b', 'top'])
  const beside = await kedge(m, ['restore', 'q', '--in-place', '--delete', `latest:${above}/other`])
  assert.equal(beside.status, 15, beside.stderr)
  assert.match(beside.stderr, /refusing to delete in '.*\/other': it is none of the saved paths/)
}
