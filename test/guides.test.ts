// The guides name commands and options that there are, and files that there are.
import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { test } from 'node:test'
import { type Command, optionsOf } from '../lib/cli.ts'
import { keys, passedThrough } from '../lib/keys.ts'
import { isSecretKey } from '../lib/secretkeys.ts'
import { cheapen } from './cheap.ts'
import { commandsBelow } from './guide.ts'
import { dist, done, fake, machine, newTarget, root, startProgram } from './harness.ts'

const docs = path.join(root, 'docs')
const guides = fs.readdirSync(docs).filter((name) => name.endsWith('.md') && name !== 'architecture.md')
const textOf = (guide: string) => fs.readFileSync(path.join(docs, guide), 'utf8')
/** What stands in blocks and in code spans. */
const codeOf = (guide: string) => {
  const text = textOf(guide)
  const blocks = [...text.matchAll(/^ *```\w*\n([\s\S]*?)^ *```$/gm)].map(([, block = '']) => block.replaceAll('\\\n', ' '))
  const spans = [...text.replace(/^ *```\w*\n[\s\S]*?^ *```$/gm, '').matchAll(/`([^`]+)`/g)].map(([, span = '']) => span)
  return [...blocks.flatMap((block) => block.split('\n')), ...spans]
}

test('every command that a guide names exists, with these options', () => {
  const load = createRequire(path.join(dist, 'kedge.cjs'))
  let looked = 0
  for (const guide of guides) {
    for (const line of codeOf(guide)) {
      for (const [, call = ''] of line.replace(/\s#.*$/, '').matchAll(/(?:^|(?<!-s)[\s($`])kedge ((?!kedge\b)[a-z][^;|&)]*)/g)) {
        const [verb = '', ...words] = call.trim().split(/\s+/)
        const file = path.join(dist, 'bin', `${verb}.cjs`)
        if (verb === 'foo') continue
        assert.ok(fs.existsSync(file), `${guide}: no command '${verb}' in '${line.trim()}'`)
        const known = optionsOf(load(file).default as Command)
        const own = verb === 'run' && words.includes('--') ? words.slice(0, words.indexOf('--')) : words
        for (const word of own) {
          const [, long] = /^--([a-z][a-z-]*)/.exec(word) ?? []
          const [, short] = /^-([a-zA-Z0])$/.exec(word) ?? []
          if (long) assert.ok(Object.hasOwn(known, long), `${guide}: ${verb} has no --${long}`)
          if (short)
            assert.ok(
              Object.values(known).some((option) => option.short === short),
              `${guide}: ${verb} has no -${short}`,
            )
        }
        looked++
      }
    }
  }
  assert.ok(looked > 60, `${looked} calls`)
})

test('every setting that a guide names exists', () => {
  let looked = 0
  // RSYNC_RSH is rsync's own, set by hand for a restore without kedge.
  const others = /^(KEDGE_|RCLONE_|DUID|UUID|TMPDIR|LANG|SOURCE_DATE_EPOCH|RSYNC_RSH)/
  for (const guide of guides) {
    for (const code of codeOf(guide)) {
      for (const [, key = ''] of code.matchAll(/(?<![\w$*.-])([A-Z][A-Z0-9]*_[A-Z_]*[A-Z])(?:=|$)/g)) {
        const known =
          Object.hasOwn(keys, key) || Object.values(passedThrough).some((of) => of.test(key)) || isSecretKey(key) || others.test(key)
        assert.ok(known, `${guide}: no key ${key} in '${code}'`)
        looked++
      }
    }
  }
  assert.ok(looked > 40, `${looked} settings`)
})

test('every link of a guide and of the README leads somewhere', () => {
  const anchor = (heading: string) =>
    heading
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-')
  for (const file of [...guides.map((guide) => path.join(docs, guide)), path.join(root, 'README.md')]) {
    for (const [, link = ''] of fs.readFileSync(file, 'utf8').matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
      const [name = '', section] = link.split('#')
      const to = name === '' ? file : path.join(path.dirname(file), name)
      assert.ok(fs.existsSync(to), `${path.basename(file)}: no ${link}`)
      if (section === undefined) continue
      const headings = [...fs.readFileSync(to, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => anchor(heading))
      assert.ok(headings.includes(section), `${path.basename(file)}: no heading for ${link}`)
    }
  }
})

test('the workstation of docs/fleet.md: a checkout of git, and work on all of it', async (t) => {
  const m = machine(t)
  const at = (name: string) => path.join(m.dir, name)
  fs.mkdirSync(at('srv/git'), { recursive: true })
  fs.writeFileSync(path.join(m.home, 'file'), 'saved')
  for (const [name, group] of [
    ['web1', 'web'],
    ['db1', 'db berlin'],
  ] as const) {
    const passwords = path.join(m.dir, `${name}.password`)
    const env = { GROUP: group, SECRET: 'none', RESTIC_PASSWORD_FILE: passwords }
    const { repository, password } = newTarget(m, name, { paths: [m.home], env })
    fs.writeFileSync(passwords, password, { mode: 0o600 })
    await done(m, ['init', name])
    cheapen(repository, password)
    await done(m, ['backup', name])
  }
  const targets = path.join(m.config, 'targets')
  const [, ignored = ''] = /```text\n# targets\/\.gitignore\n([\s\S]*?)```/.exec(textOf('fleet.md')) ?? []
  fs.writeFileSync(path.join(targets, '.gitignore'), ignored)
  const commit = 'git init -q; git add .; git -c user.name=ann -c user.email=ann@example.org commit -q -m all'
  const git = `cd '${targets}'; ${commit}; git clone -q --bare . '${at('srv/git/targets.git')}'; ! git ls-files | grep secret.env`
  assert.equal((await startProgram(m, '/bin/sh', ['-ec', git]).result).status, 0)
  fs.rmSync(targets, { recursive: true })
  fake(m.bin, 'kedge', `exec '${process.execPath}' '${path.join(dist, 'kedge.cjs')}' "$@"`)
  const commands = commandsBelow('fleet.md', "## The admin's workstation")
    .replaceAll('/etc/kedge', m.config)
    .replaceAll('/srv/', `${at('srv')}/`)
  const { status, stdout, stderr } = await startProgram(m, '/bin/sh', ['-ec', commands]).result
  assert.equal(status, 0, stderr)
  assert.match(stdout, /^web1\n/m)
  assert.match(stdout, /^db1\t.*\tok\t/m)
})
