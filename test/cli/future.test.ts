// A newest snapshot that is from the future, as after a clock that ran wrong: doctor, and whoever reads `latest`, says so.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import type { Finding } from '../../lib/rows/house.ts'
import { cheapen } from '../cheap.ts'
import { makeSnapshot, makeStore, storeId } from '../handmade.ts'
import { done, kedge, type Machine, machine, newest, newRsyncTarget, newTarget, restic } from '../harness.ts'

const warning = /^(kedge: )?warning: the newest snapshot is from the future, 20\d\d-\S+Z: what was saved last may be an older one$/gm
const tomorrow = new Date(Date.now() + 86_400_000)

/** `add`: one more snapshot, of this time. */
type Place = { m: Machine; file: string; add: (time: Date) => Promise<unknown> }

const places: Readonly<Record<string, (m: Machine, tree: string) => Promise<Place>>> = {
  async restic(m, tree) {
    const target = newTarget(m, 'web1', { paths: [tree] })
    await done(m, ['init', 'web1'])
    cheapen(target.repository, target.password)
    const at = (time: Date) => time.toISOString().slice(0, 19).replace('T', ' ')
    return {
      m,
      file: path.join(tree, 'a'),
      add: (time) => restic(m, target, ['backup', '-q', '--tag', 'kedge:web1', '--time', at(time), tree]),
    }
  },
  async rsync(m, tree) {
    const target = newRsyncTarget(m, 'web1', { paths: ['/'], env: { STORE_ID: storeId } })
    makeStore(target)
    const id = (time: Date) => `${time.toISOString().slice(0, 19).replaceAll(':', '')}Z`
    return { m, file: '/a', add: async (time) => makeSnapshot(target, tree, id(time)) }
  },
}

for (const [engine, place] of Object.entries(places))
  test(`${engine}: a snapshot from the future is told by doctor, and where latest is read`, async (t) => {
    const m = machine(t, newest())
    const tree = path.join(m.dir, 'tree')
    fs.mkdirSync(tree)
    fs.writeFileSync(path.join(tree, 'a'), 'one\n')
    const { file, add } = await place(m, tree)
    const clock = async () => {
      const { rows, status } = await kedge(m, ['doctor', 'web1', '--json'])
      const found = rows.filter((row): row is Finding => row.kind === 'finding' && row.check === 'clock')
      return { status, said: found.map(({ level, text, remedy }) => [level, text, remedy !== undefined]) }
    }
    await add(new Date(Date.now() - 86_400_000))
    await add(new Date(Date.now() - 1000))
    assert.deepEqual((await clock()).said, [['ok', 'no snapshot is from the future, or far away from the others', false]])
    const reading: readonly (readonly string[])[] = [
      ['cat', 'web1', `latest:${file}`],
      ['cat', 'web1', `latest-1:${file}`],
      ['files', 'web1', 'latest'],
      ['diff', 'web1'],
      ['find', '--snapshot=latest', 'web1', 'a'],
      ['drill', 'web1'],
      ['restore', 'web1', 'latest', '--to'],
    ]
    const run = async (when: string, args: readonly string[]) => {
      const { stderr } = await done(m, args.at(-1) === '--to' ? [...args, path.join(m.dir, when)] : args)
      return stderr.match(warning)?.length ?? 0
    }
    for (const args of reading) assert.equal(await run('before', args), 0, args.join(' '))
    await add(tomorrow)
    for (const args of reading) assert.equal(await run('after', args), 1, args.join(' '))
    const [id = ''] = (await done(m, ['list', 'web1', '-q'])).lines.slice(1)
    assert.equal(await run('by id', ['cat', 'web1', `${id}:${file}`]), 0)
    const { status, said } = await clock()
    assert.equal(status, 15)
    assert.equal(said.length, 1)
    assert.deepEqual([said[0]?.[0], said[0]?.[2]], ['blocked', true])
    assert.match(String(said[0]?.[1]), /a snapshot is from the future/)
  })
