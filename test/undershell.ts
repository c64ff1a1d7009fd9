// An installation from its beginning to its end, under a shell.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { growTree, newTarget, type Result, sameTree } from './harness.ts'
import { done, fitted, house, kedge, listing, setup, version } from './houses.ts'

const words = ({ lines }: Result) => lines.map((line) => line.split(/ +/).slice(0, 2).join(' ').replace(/:$/, ''))

/** A shell is a test file of its own: one for all would run when the others have ended. */
export function underShell(shell: string): void {
  test(`under ${shell}: installed, backed up and restored, updated, rolled back, updated again, uninstalled without a trace`, async (t) => {
    const at = fitted(t)
    const run = (from: string, ...args: string[]) => done(setup(at, from, [...args, '--prefix', at.prefix], { shell }))
    const first = house(at, '0.8.0')
    fs.mkdirSync(path.join(at.prefix, 'share/man/man1'), { recursive: true })
    fs.writeFileSync(path.join(at.prefix, 'share/man/man1/other.1'), 'of somebody else\n')
    fs.mkdirSync(path.join(at.prefix, 'share/zsh'))
    const before = listing(at.prefix)

    const installed = await run(first, '--system')
    assert.deepEqual(words(installed), ['SKIPPED packages', 'SKIPPED build', 'OK files', 'OK start', 'OK switch', 'OK commands,'])
    assert.equal(await version(at), 'kedge 0.8.0')
    for (const file of [
      'share/man/man1/kedge-backup.1',
      'share/man/man5/kedge-target.5',
      'share/bash-completion/completions/kedge',
      'share/zsh/site-functions/_kedge',
      'share/fish/vendor_completions.d/kedge.fish',
      'share/kedge/kedge.ksh',
      'lib/kedge/current/systemd/kedge-backup@.service',
      'lib/systemd/system/kedge-backup@.service',
      'lib/systemd/system/kedge-.service.d/20-system.conf',
      'lib/kedge/current/setup',
    ])
      assert.ok(fs.existsSync(path.join(at.prefix, file)), file)
    const tree = listing(at.prefix)
    const again = await run(first, '--system')
    assert.deepEqual(words(again).slice(2), ['SKIPPED files', 'OK start', 'SKIPPED switch', 'SKIPPED commands,'])
    assert.deepEqual(listing(at.prefix), tree)

    const saved = path.join(at.dir, 'saved')
    fs.mkdirSync(saved)
    growTree(saved)
    const { repository } = newTarget(at, 'web1', { paths: [saved] })
    await done(kedge(at, ['init', 'web1']))
    await done(kedge(at, ['web1'], 'kedge-backup'))

    const second = house(at, '0.9.0', { later: true })
    const updated = await run(second, '--update')
    assert.deepEqual(words(updated).slice(2), ['OK files', 'OK start', 'OK switch', 'OK commands,'])
    assert.equal(await version(at), 'kedge 0.9.0')
    await done(kedge(at, ['-q'], 'kedge-later'))
    assert.ok(!fs.existsSync(path.join(at.prefix, 'share/man/man1/kedge-hold.1')), 'a page that this version has not is gone')

    // From the folder that is installed, which knows its prefix.
    await done(setup(at, path.join(at.prefix, 'lib/kedge/current'), ['--rollback'], { shell }))
    assert.equal(await version(at), 'kedge 0.8.0')
    const back = listing(at.prefix)
    const outside = (entries: Record<string, string>) => Object.entries(entries).filter(([name]) => !name.startsWith('lib/kedge/'))
    assert.deepEqual(outside(back), outside(tree))
    const to = path.join(at.dir, 'restored')
    await done(kedge(at, ['restore', 'web1', 'latest', '--to', to]))
    sameTree(path.join(to, saved), saved)

    await run(second, '--update')
    const third = await run(house(at, '0.10.0'), '--update')
    assert.ok(third.stdout.includes('old version: 0.8.0 removed'), third.stdout)
    const versions = fs.readdirSync(path.join(at.prefix, 'lib/kedge')).filter((name) => /^\d/.test(name))
    assert.deepEqual(versions.sort(), ['0.10.0', '0.9.0'], 'the last two are kept')

    const [config, state] = [listing(at.config), listing(at.state)]
    const removed = await done(setup(at, path.join(at.prefix, 'lib/kedge/current'), ['--uninstall'], { shell }))
    assert.deepEqual(listing(at.prefix), before)
    assert.deepEqual([listing(at.config), listing(at.state)], [config, state])
    for (const stays of [at.config, at.state, at.cache, repository]) assert.ok(removed.stdout.includes(stays), stays)
    assert.deepEqual(fs.readdirSync(at.tmp), [], 'no temporary file is left')
  })
}
