// docs/dr.md: what can be done without hardware is done as it stands there, with a small tree in place of /.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { cheapen } from './cheap.ts'
import { commandsBelow } from './guide.ts'
import { dist, done, fake, growTree, type Machine, machine, newTarget, restics, sameTree, startProgram } from './harness.ts'

for (const tool of restics()) {
  test(`restic ${tool.version}: from the recovery sheet alone to a tree that boots kedge again`, async (t) => {
    const m = machine(t, tool)
    const at = (name: string) => path.join(m.dir, name)
    const [tree, rescue] = [at('tree'), at('root')]
    const [config, state] = [path.join(tree, 'etc/kedge'), path.join(tree, 'var/lib/kedge')]
    const web1: Machine = { ...m, config, state, env: { ...m.env, KEDGE_CONFIG_DIR: config, KEDGE_STATE_DIR: state } }
    for (const folder of ['etc/kedge/targets', 'boot', 'root', 'var/lib/kedge', 'srv'])
      fs.mkdirSync(path.join(tree, folder), { recursive: true })
    growTree(path.join(tree, 'srv/web'))
    fs.writeFileSync(path.join(tree, 'etc/fstab'), 'UUID=1A2B-3C4D /boot/efi vfat defaults 0 1\n')
    fs.writeFileSync(path.join(tree, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n')
    fs.mkdirSync(rescue)
    fake(m.bin, 'kedge', `exec '${process.execPath}' '${path.join(dist, 'kedge.cjs')}' "$@"`)
    const here = (text: string) =>
      text
        .replaceAll('--path / ', `--path '${tree}' `)
        .replaceAll('/mnt/new/', `${at('mnt/new')}${tree}/`)
        .replaceAll('/mnt/new ', `${at('mnt/new')} `)
        .replaceAll('/etc/kedge', config)
        .replace(/(?<![\w/])\/root(?=\/|$)/gm, rescue)
    const follow = async (on: Machine, heading: string) => {
      const result = await startProgram(on, '/bin/sh', ['-ec', here(commandsBelow('dr.md', heading))]).result
      assert.equal(result.status, 0, `${result.stdout}${result.stderr}`)
      return result
    }

    const { repository, password } = newTarget(web1, 'web1', { paths: [tree], scripts: { 'streams/app.sql': 'echo "a dump"' } })
    await done(web1, ['init', 'web1'])
    cheapen(repository, password)
    await follow(web1, '## Before it happens')

    // All that is left: the sheet, and the store.
    const original = at('original')
    fs.renameSync(tree, original)
    for (const folder of [m.config, m.state, m.cache]) fs.rmSync(folder, { recursive: true })
    fs.mkdirSync(at('mnt/new'), { recursive: true })
    assert.deepEqual(fs.readdirSync(rescue), ['web1.sheet'])
    const bare: Machine = { ...m, env: { HOME: m.home, PATH: m.env.PATH ?? '', TMPDIR: m.dir } }
    const { stdout } = await follow(bare, '## 3. Restore')
    assert.match(stdout, /^UUID=1A2B-3C4D/m)

    const restored = path.join(at('mnt/new'), tree)
    for (const folder of ['srv', 'etc', 'boot']) sameTree(path.join(restored, folder), path.join(original, folder))
    assert.equal(fs.readFileSync(path.join(restored, 'root/app.sql'), 'utf8'), 'a dump\n')
    assert.match(fs.readFileSync(path.join(restored, 'root/packages'), 'utf8'), /^restic\s+install$|^dash\s+install$/m)
    assert.match(fs.readFileSync(path.join(rescue, 'layout'), 'utf8'), /^NAME|sees no disks/m)
    assert.deepEqual(
      ['dev', 'proc', 'sys', 'run', 'tmp'].map((name) => (fs.statSync(path.join(restored, name)).mode & 0o7777).toString(8)),
      ['755', '755', '755', '755', '1777'],
    )

    // It boots.
    fs.renameSync(restored, tree)
    fs.mkdirSync(m.cache)
    await follow(web1, '## 6. kedge again')
    const { lines } = await done(web1, ['history', 'web1'])
    assert.ok(
      lines.some((line) => /\tbackup\tcrashed\t/.test(line)),
      'the run that took the snapshot',
    )
    assert.match(lines[0] ?? '', /\tdrill\tsuccess\t/)
    assert.ok(!fs.existsSync(path.join(rescue, 'web1.open')))
  })
}
