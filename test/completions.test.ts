// The shells' completions: parsed by each shell, complete, and asked in the shells themselves.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { type Command, optionsOf } from '../lib/cli.ts'
import { guards } from '../lib/guard.ts'
import { dist, fake, type Machine, machine } from './harness.ts'

const load = createRequire(path.join(dist, 'kedge.cjs'))
const commands = fs.readdirSync(path.join(dist, 'bin')).map((name) => {
  const declared = load(`./bin/${name}`).default as Command
  return { verb: path.basename(name, '.cjs'), declared, options: Object.entries(optionsOf(declared)) }
})
const verbs = commands.map(({ verb }) => verb)
const place = (name: string) => path.join(dist, 'completions', name)
const text = (name: string) => fs.readFileSync(place(name), 'utf8')

test('each shell parses its completion without a word', () => {
  for (const [shell, file] of [
    ['bash', 'kedge.bash'],
    ['zsh', '_kedge'],
    ['fish', 'kedge.fish'],
    ['mksh', 'kedge.ksh'],
    ['ksh93', 'kedge.ksh'],
  ] as const) {
    const { error, status, stdout, stderr } = spawnSync(shell, ['-n', place(file)], { encoding: 'utf8' })
    assert.equal(error, undefined, `${shell} is needed: ${error?.message}`)
    assert.equal(`${status}${stdout}${stderr}`, '0', shell)
  }
})

test('every command with each of its options is in each completion', () => {
  const zsh = text('_kedge')
  const fish = text('kedge.fish').split('\n')
  const bash = text('kedge.bash')
  for (const { verb, options } of commands) {
    const ofZsh = zsh.slice(zsh.indexOf(`\n    ${verb})\n`)).split('\n      ;;')[0] ?? ''
    const ofBash = new RegExp(`^    ${verb}\\) echo '(.*)' ;;$`, 'm').exec(bash)?.[1]?.split(' ') ?? []
    for (const [name, { short }] of options) {
      assert.match(ofZsh, new RegExp(`--${name}(=-?|)\\[`), `zsh: ${verb} --${name}`)
      assert.ok(ofBash.includes(`--${name}`), `bash: ${verb} --${name}`)
      const line = fish.find((each) => each.startsWith(`complete -c kedge -n '__kedge_is ${verb}' `) && each.includes(` -l ${name} `))
      assert.ok(line, `fish: ${verb} --${name}`)
      if (!short) continue
      assert.match(ofZsh, new RegExp(`\\)-${short}\\+?\\[|\\*-${short}\\+?\\[`), `zsh: ${verb} -${short}`)
      assert.ok(ofBash.includes(`-${short}`), `bash: ${verb} -${short}`)
      assert.ok(line.includes(` -s ${short} `), `fish: ${verb} -${short}`)
    }
  }
})

/** A machine with two targets, and kedge in PATH. */
function withTargets(t: TestContext): Machine {
  const at = machine(t)
  for (const name of ['web1', 'web2']) fs.mkdirSync(path.join(at.config, 'targets', name), { recursive: true, mode: 0o700 })
  for (const name of ['web1', 'web2'])
    fs.writeFileSync(path.join(at.config, 'targets', name, 'target.env'), 'RESTIC_REPOSITORY=/srv/repository\nSECRET=file\n')
  fake(at.bin, 'kedge', `exec '${process.execPath}' '${path.join(dist, 'kedge.cjs')}' "$@"`)
  fs.mkdirSync(path.join(at.dir, 'folder'))
  fs.writeFileSync(path.join(at.dir, 'file'), '')
  return at
}

const asked = (at: Machine, shell: string, args: readonly string[]) =>
  execFileSync(shell, args, { cwd: at.dir, env: at.env, encoding: 'utf8', timeout: 30_000 }).split('\n').filter(Boolean).sort()
// bash and zsh add the / of a folder themselves.
const bare = (words: readonly string[]) => words.map((word) => word.replace(/\/$/, ''))

// What is typed, and what the shell offers. bash has = as a word of its own.
const cases: readonly (readonly [string, readonly string[]])[] = [
  ['kedge ba', ['backup']],
  ['kedge backup ', ['web1', 'web2']],
  ['kedge backup web1 w', ['web1', 'web2']],
  ['kedge backup --dr', ['--dry-run']],
  ['kedge backup --wait 1h w', ['web1', 'web2']],
  ['kedge backup --force ', Object.keys(guards).sort()],
  ['kedge restore web1 latest --to f', ['folder/']],
  ['kedge mount web1 fo', ['folder/']],
  ['kedge history web1 --verb prun', ['prune']],
  ['kedge restore web1 --in-', ['--in-place']],
  ['kedge history ', ['web1', 'web2']],
  ['kedge history web1 ', []],
  ['kedge rename web', ['web1', 'web2']],
]

test('bash offers commands, options, targets, guards and folders where each belongs', (t) => {
  const at = withTargets(t)
  const harness = path.join(at.dir, 'harness')
  fs.writeFileSync(
    harness,
    `. '${place('kedge.bash')}'\nCOMP_WORDS=("$@") COMP_CWORD=$(($# - 1))\n_kedge\n[ \${#COMPREPLY[@]} = 0 ] || printf '%s\\n' "\${COMPREPLY[@]}"\n`,
  )
  const bash = (...words: string[]) => asked(at, 'bash', [harness, ...words])
  for (const [typed, offered] of cases) assert.deepEqual(bash(...typed.split(' ')), bare(offered), typed)
  assert.deepEqual(bash('kedge', 'backup', '--force', '=', 'pi'), ['pin'])
  assert.deepEqual(bash('kedge', 'backup', '--force', '='), Object.keys(guards).sort())
  assert.deepEqual(bash('kedge-backup', '--wait', '=', '1h', 'w'), ['web1', 'web2'], 'kedge-VERB is completed too')
  assert.deepEqual(bash('kedge', 'stats', '--prometheus', 'w'), ['web1', 'web2'], 'a value that is optional stands behind = only')
  assert.deepEqual(bash('kedge', 'stats', '--prometheus', '=', 'fi'), ['file'])
  assert.deepEqual(bash('kedge', 'backup', '--', '--j'), [])
})

test('fish offers the same', (t) => {
  const at = withTargets(t)
  const fish = (typed: string) =>
    asked(at, 'fish', ['--no-config', '-c', `source '${place('kedge.fish')}'; complete -C '${typed}'`]).map((line) => line.split('\t')[0])
  for (const [typed, offered] of cases) assert.deepEqual(fish(typed), offered, typed)
  assert.deepEqual(fish('kedge backup --force=pi'), ['--force=pin'])
})

// zsh completes only in its line editor: it gets a terminal, and what its completion adds is printed between marks.
const outer = `zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PROMPT=; fpath=(\${(q)1} \\$fpath); source \${(q)0:a:h}/inner"
zpty -r -m z seen '*ready*' || exit
zpty -w -n z "$2"$'\\t'
zpty -r -m z seen '*<<*>>*' && print -r -- \${\${seen##*<<}%%>>*} | tr -d '\\r'
`
const inner = `autoload -Uz compinit
compinit -u -D
bindkey '^I' complete-word
compadd() {
  if [[ \${@[1,(i)(-|--)]} != *-[OAD]\\ * ]]; then
    typeset -a hits
    builtin compadd -A hits "$@"
    found+=($hits)
  fi
  builtin compadd "$@"
}
first() { typeset -ga found; found=() }
last() { print -r -- "<<"; print -rl -- \${(u)found}; print -r -- ">>"; exit }
compprefuncs=(first)
comppostfuncs=(last)
print rea""dy
`

test('zsh offers the same, and the options where no operand is left', (t) => {
  const at = withTargets(t)
  fs.writeFileSync(path.join(at.dir, 'outer'), outer)
  fs.writeFileSync(path.join(at.dir, 'inner'), inner)
  const zsh = (typed: string) => asked(at, 'zsh', ['-f', path.join(at.dir, 'outer'), path.dirname(place('_kedge')), typed])
  for (const [typed, offered] of cases) {
    const said = zsh(typed)
    assert.ok(said.length > 0, typed)
    assert.deepEqual(offered.length ? said : said.filter((word) => !word.startsWith('-')), bare(offered), typed)
  }
  assert.deepEqual(zsh('kedge backup --force=pi'), ['pin'])
  assert.deepEqual(zsh('kedge-backup w'), ['web1', 'web2'])
})

test('the arrays for ksh hold all commands, all options and the targets that are there', (t) => {
  const at = withTargets(t)
  for (const shell of ['mksh', 'ksh93']) {
    const array = (name: string) => asked(at, shell, ['-c', `. '${place('kedge.ksh')}'; printf '%s\\n' "\${${name}[@]}"`])
    assert.deepEqual(array('complete_kedge_1'), [...verbs, '--help', '--version'].sort())
    assert.deepEqual(array('complete_kedge_2'), ['web1', 'web2'])
    const all = commands.flatMap(({ options }) => options.flatMap(([name, { short }]) => [`--${name}`, ...(short ? [`-${short}`] : [])]))
    assert.deepEqual(array('complete_kedge'), [...new Set([...all, 'web1', 'web2'])].sort())
  }
})
