import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { callerEnv, callerVar, formatEnv, noColour, parseEnv, setEnvKey } from '../lib/env.ts'
import { Failure } from '../lib/failure.ts'

const values = (text: string) => Object.fromEntries([...parseEnv(text, 'f').entries].map(([key, { value }]) => [key, value]))
const places = (text: string) => parseEnv(text, 'f').faults.map(({ line, column }) => `${line}:${column}`)

const accepted: [text: string, expected: Record<string, string>][] = [
  ['', {}],
  ['\n\n# only a comment\n\t # another \\\n', {}],
  ['A=1', { A: '1' }],
  ['A=1\nB=2\n', { A: '1', B: '2' }],
  ['  A=1\n\tB=2  \n', { A: '1', B: '2' }],
  ['export A=1\nexport \t B=2\nexport=3\n', { A: '1', B: '2', export: '3' }],
  ['A=\nB= # note\nC=""\nD=\'\'\n', { A: '', B: '', C: '', D: '' }],
  ['A=a=b\nB==\nC=a+=b\n', { A: 'a=b', B: '=', C: 'a+=b' }],
  ['A=a#b\nB=#b\nC=""#b\nD=b #c\nE=b\t#c', { A: 'a#b', B: '#b', C: '#b', D: 'b', E: 'b' }],
  ['A=s3:https://host/bucket,x@y%z^-+]._\n', { A: 's3:https://host/bucket,x@y%z^-+]._' }],
  ['A=\'$HOME `x` \\ "q" ; | ! ~\'\n', { A: '$HOME `x` \\ "q" ; | ! ~' }],
  ['A="~ ; & | < > ( ) * ? [ { } ! # \'"\n', { A: "~ ; & | < > ( ) * ? [ { } ! # '" }],
  ['A="\\$ \\` \\" \\\\ \\a \\n \\! \\\' \\~"\n', { A: '$ ` " \\ \\a \\n \\! \\\' \\~' }],
  ['A=\\$\\`\\"\\\\\\a\\ \\~\\!\\\'\\#\\\t\\;\n', { A: '$`"\\a ~!\'#\t;' }],
  ['A=it"\'"s\' \'"a b"c\n', { A: "it's a bc" }],
  ["A='it'\\''s'\n", { A: "it's" }],
  ["A='one\ntwo'\nB=3\n", { A: 'one\ntwo', B: '3' }],
  ['A="one\ntwo \\\nthree"\n', { A: 'one\ntwo three' }],
  ['A=one\\\ntwo\nB=\\\n3\nC=4\\\n\nD=5\n', { A: 'onetwo', B: '3', C: '4', D: '5' }],
  ['A=\\\n#x\n', { A: '#x' }],
  ['A=é€😀\\é"ü"\n', { A: 'é€😀éü' }],
  ['_a1=1\n__=2\nif=3\nfor=4\nA_1=5\n', { _a1: '1', __: '2', if: '3', for: '4', A_1: '5' }],
  ["A='\r' # x\nB='\r''\n'\n", { A: '\r', B: '\r\n' }],
  ['TMPDIR=/var/tmp\nTZ=UTC\nTERM=x\nRESTIC_REPOSITORY=/r\n', { TMPDIR: '/var/tmp', TZ: 'UTC', TERM: 'x', RESTIC_REPOSITORY: '/r' }],
]

test('each accepted form has the value that sh gives it', () => {
  for (const [text, expected] of accepted) {
    assert.deepEqual(parseEnv(text, 'f').faults, [], JSON.stringify(text))
    assert.deepEqual(values(text), expected, JSON.stringify(text))
  }
})

const refused: [text: string, line: number, column: number, message: RegExp][] = [
  ['A=$HOME\n', 1, 3, /^unquoted '\$' means something to sh/],
  ['A=x$(id\n', 1, 4, /^unquoted '\$\('/],
  ['A="a $B"\n', 1, 6, /^'\$' in double quotes expands/],
  ['A="a `id"\n', 1, 6, /^'`' in double quotes expands/],
  ['A="a$"\n', 1, 5, /^'\$' in double quotes expands/],
  ['A="one\n\ttwo $x"\n', 2, 6, /^'\$' in double quotes/],
  ...[...'`~;&|<>()*?[{}!'].map((char): [string, number, number, RegExp] => [`#\nB='é😀'x${char}y\n`, 2, 8, /^unquoted '.' means/]),
  ['A=~/x\n', 1, 3, /^unquoted '~'/],
  ['A=a:~/x\n', 1, 5, /^unquoted '~'/],
  ['A=1; rm -r x\n', 1, 4, /^unquoted ';'/],
  ['A=1 && rm\n', 1, 5, /^unquoted '&&'/],
  ['A=b c\n', 1, 5, /^words after the value/],
  ["A=b 'c'\n", 1, 5, /^words after the value/],
  ['A=1 B=2\n', 1, 5, /^words after the value/],
  ['A=1 \\\n#x\n', 1, 5, /^words after the value/],
  ['export A=1 B\n', 1, 12, /^words after the value/],
  ['A= b\n', 1, 3, /^space after '='/],
  ['A =b\n', 1, 2, /^space before '='/],
  ['A = b\n', 1, 2, /^space before '='/],
  ['export A\t=b\n', 1, 9, /^space before '='/],
  ['export\n', 1, 1, /^export without KEY=value$/],
  ['export A\n', 1, 1, /^export without KEY=value$/],
  ['export -n A=1\n', 1, 1, /^export without KEY=value$/],
  ['\nrm -r x\n', 2, 1, /^not KEY=value$/],
  ['A\n', 1, 1, /^not KEY=value$/],
  [' 1A=b\n', 1, 2, /^not a name/],
  ['A-B=c\n', 1, 1, /^not a name/],
  ['export A.B=c\n', 1, 8, /^not a name/],
  ['A+=c\n', 1, 1, /^not a name/],
  ['A[0]=c\n', 1, 1, /^not a name/],
  ['É=c\n', 1, 1, /^not a name/],
  ['"A"=c\n', 1, 1, /^not a name/],
  ['=c\n', 1, 1, /^not a name/],
  ["A=1\nB='x\nC=2\n", 2, 3, /^unclosed '$/],
  ['A=x"y\nC=z\n', 1, 4, /^unclosed "$/],
  ['A="x\\"\n', 1, 3, /^unclosed "$/],
  ['A=b\\', 1, 4, /^the file ends in a backslash$/],
  ['A=b\\\n', 1, 4, /^the file ends in a backslash$/],
  ['A=1\n\nA=2\n', 3, 1, /^'A' is set twice: first on line 1$/],
  ['#\nA=1\nexport A=2\n', 3, 8, /^'A' is set twice: first on line 2$/],
  ['A=1\r\n', 1, 4, /^the line ends in CR LF: save/],
  ['A=1\r\nB=2\r\n\r\n', 1, 4, /^the line ends in CR LF, as on 2 more: save/],
  ['# x\r', 1, 4, /^the line ends in CR LF/],
  ["A='1\r\n'\n", 1, 5, /^the line ends in CR LF/],
  ['A=1\r2\n', 1, 4, /^unquoted U\+000D/],
  ['A=1\u00a02\n', 1, 4, /^unquoted U\+00A0/],
  ['A=1\\\u00072\n', 1, 4, /^unquoted U\+0007/],
  ['A=1\x002\n', 1, 4, /^NUL byte$/],
  ['#\x00\n', 1, 2, /^NUL byte$/],
  ['\uFEFFA=1\n', 1, 1, /^the file begins with a byte order mark/],
]

test('each refused form is one fault with its line and column', () => {
  for (const [text, line, column, message] of refused) {
    const { faults } = parseEnv(text, 'target.env')
    assert.equal(faults.length, 1, `${JSON.stringify(text)}: ${JSON.stringify(faults)}`)
    const [fault] = faults
    assert.ok(fault)
    assert.deepEqual([fault.file, fault.line, fault.column], ['target.env', line, column], JSON.stringify(text))
    assert.match(fault.message, message)
  }
})

test('names that a shell owns are refused', () => {
  const names = `_ UID EUID PPID IFS PATH HOME PWD OLDPWD SHELL SHLVL ENV CDPATH OPTIND OPTARG PS1 PS2 PS3 PS4 RANDOM SECONDS LINENO
    BASH BASH_ENV BASHPID BASHOPTS SHELLOPTS GROUPS DIRSTACK FUNCNAME HISTSIZE HISTCMD KSH_VERSION KSHUID LANG LC_ALL LC_NUMERIC TMOUT
    COLUMNS LINES MAILCHECK JOBMAX PGRP PIPESTATUS USER_ID EPOCHREALTIME SRANDOM POSIXLY_CORRECT`.split(/\s+/)
  for (const name of names) {
    const { faults } = parseEnv(`export ${name}=1\n`, 'f')
    assert.deepEqual(
      faults.map(({ line, column, message }) => [line, column, message]),
      [[1, 8, `the name '${name}' belongs to the shell: a file with it cannot be sourced`]],
    )
    assert.throws(() => formatEnv({ [name]: '1' }), Failure)
  }
})

test('all faults are reported at once, in their order', () => {
  assert.deepEqual(places('A=$x*? y\nB=b c\nUID=1\nC="$y `z"\nD=\'open\nA=2\nE = 1\n'), [
    '1:3',
    '1:5',
    '2:5',
    '3:1',
    '4:4',
    '4:7',
    '5:3',
    '6:1',
    '7:2',
  ])
  assert.deepEqual(places('A=1\r\nB=$x\r\nC=\x00|\r\n'), ['1:4', '2:3', '3:3', '3:4'])
})

test('no message holds a part of a value', () => {
  for (const text of ['A=hunter2 hunter2\n', 'A=1\nhunter2\n', 'A="$hunter2"\n', "A='hunter2\n", 'A=-\n-hunter2=\n', 'A=1\nA=hunter2\n']) {
    const { faults } = parseEnv(text, 'f')
    assert.ok(faults.length > 0)
    assert.doesNotMatch(JSON.stringify(faults), /hunter2/)
  }
})

test('an entry has the line on which it begins', () => {
  const lines = [...parseEnv("# x\nA='1\n2'\n\nexport B=3\\\n4\nC=5", 'f').entries].map(([key, { line }]) => [key, line])
  assert.deepEqual(lines, [['A', 2], ['B', 5], ['C', 7]]) // biome-ignore format: a table
})

const shells = ['dash', 'mksh', 'ksh93', 'bash']
const names = ['A', 'B', 'C', 'D', 'E', '_x1', 'A_B']

/** The shells to compare with. On Debian none may be missing. */
function installedShells(t: TestContext): string[] {
  const there = shells.filter((shell) => (process.env.PATH ?? '').split(':').some((dir) => existsSync(join(dir, shell))))
  const missing = shells.filter((shell) => !there.includes(shell))
  const debian = existsSync('/etc/os-release') && /^ID(_LIKE)?=.*debian/m.test(readFileSync('/etc/os-release', 'utf8'))
  if (debian) assert.deepEqual(missing, [], `not installed: ${missing.join(' ')}`)
  if (missing.length > 0) t.diagnostic(`NOT COMPARED with ${missing.join(', ')}: not installed on this system`)
  if (there.length === 0) t.skip('none of the shells is installed')
  return there
}

/** Sources each text in each shell, in two locales, one process a shell, and compares with what parseEnv read. */
function compareWithShells(t: TestContext, texts: readonly string[]) {
  const dir = mkdtempSync(join(tmpdir(), 'env-'))
  try {
    const keys = texts.map((text) => [...new Set([...names, ...Object.keys(values(text))])])
    const expected = texts.map((text, i) => [...(keys[i] ?? []).map((key) => values(text)[key] ?? '<unset>'), '0'])
    for (const [i, text] of texts.entries()) writeFileSync(join(dir, `case${i}`), text)
    const script = texts.map((_, i) => {
      const read = (keys[i] ?? []).map((key) => `"\${${key}-<unset>}"`).join(' ')
      return `( set -a; . ./case${i}; printf '%s\\0' ${read} "$?" end )\n`
    })
    writeFileSync(join(dir, 'driver'), script.join(''))
    for (const shell of installedShells(t)) {
      for (const locale of ['C', 'C.UTF-8']) {
        const env = { PATH: process.env.PATH ?? '', HOME: dir, LC_ALL: locale }
        const run = spawnSync(shell, ['./driver'], {
          cwd: dir,
          env,
          encoding: 'utf8',
          stdio: ['ignore', 'pipe', 'pipe'],
          maxBuffer: 1 << 28,
        })
        const read = run.stdout.split('\0end\0').map((values) => values.split('\0'))
        for (const [i, text] of texts.entries()) {
          const wrong = expected[i]?.findIndex((value, k) => value !== read[i]?.[k]) ?? -1
          const what = `${shell}, ${locale}: ${keys[i]?.[wrong] ?? 'status'} of ${JSON.stringify(text.slice(0, 400))}`
          assert.equal(JSON.stringify(read[i]?.[wrong]), JSON.stringify(expected[i]?.[wrong]), what)
        }
        assert.deepEqual([run.stderr, run.status], ['', 0], `${shell}, ${locale}`)
      }
    }
    assert.equal(readdirSync(dir).length, texts.length + 1, 'a file appeared: something ran')
  } finally {
    rmSync(dir, { recursive: true })
  }
}

/** mulberry32: the same numbers in each run. */
function dice(seed: number) {
  let state = seed
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let x = Math.imul(state ^ (state >>> 15), 1 | state)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32
  }
  const upTo = (n: number) => Math.floor(next() * n)
  const pick = <T>(from: readonly T[]): T => from[upTo(from.length)] as T
  const many = (n: number, make: () => string) => Array.from({ length: upTo(n + 1) }, make).join('')
  return { upTo, pick, many }
}
type Dice = ReturnType<typeof dice>

const bare = [...'abzAZ019_-+=%,.:/@^]#é€😀ß', '\u0100']
const special = [...'$`"\\~;&|<>()*?[{}!# \t\'']
const control = [
  '\n',
  '\u0001',
  '\u0007',
  '\b',
  '\u001b',
  '\u007f',
  '\u0080',
  '\u0081',
  '\u0085',
  '\u0088',
  '\u00a0',
  '\u3000',
  '\ufeff',
  '\f',
  '\v',
]
const anything = [...bare, ...special, ...control]

/** One piece of a word as written, with its value. */
function piece({ pick, many }: Dice): { written: string; value: string } {
  const kind = pick(['bare', 'escape', 'join', 'single', 'single', 'double', 'double'])
  if (kind === 'bare') return ((text) => ({ written: text, value: text }))(many(6, () => pick(bare)))
  if (kind === 'escape') return ((char) => ({ written: `\\${char}`, value: char }))(pick([...bare, ...special]))
  if (kind === 'join') return { written: '\\\n', value: '' }
  if (kind === 'single') {
    const text = many(8, () => pick(anything)).replaceAll("'", '')
    return { written: `'${text}'`, value: text }
  }
  const parts = Array.from({ length: 6 }, () => pick([...anything, '\\\n', '\\a', '\\$', '\\`', '\\"', '\\\\', "\\'", '\\!', '\\ ']))
  const kept = parts.filter((part) => !['$', '`', '"', '\\'].includes(part))
  const value = kept.map((part) => (part === '\\\n' ? '' : /^\\[$`"\\]$/.test(part) ? part.slice(1) : part)).join('')
  return { written: `"${kept.join('')}"`, value }
}

function grammatical(roll: Dice): { text: string; expected: Record<string, string> } {
  const { pick, many, upTo } = roll
  const expected: Record<string, string> = {}
  let text = ''
  for (const name of names.slice(upTo(3))) {
    const pieces = Array.from({ length: upTo(5) }, () => piece(roll))
    expected[name] = pieces.map(({ value }) => value).join('')
    const note = () => `#${many(8, () => pick(anything)).replaceAll('\n', '')}${pick(['', '\\'])}`
    text += many(2, () => pick(['\n', ' ', '\t', `${note()}\n`]))
    const comment = pick(['', '', ' ', '\t ', ` ${note()}`])
    text += `${pick(['', 'export ', 'export\t '])}${name}=${pieces.map(({ written }) => written).join('')}${comment}\n`
  }
  return { text: `${text}#`, expected }
}

test('hundreds of random files of the grammar read the same in dash, mksh, ksh93 and bash', (t) => {
  const roll = dice(1)
  const texts: string[] = []
  for (let i = 0; i < 400; i += 1) {
    const { text, expected } = grammatical(roll)
    assert.deepEqual(parseEnv(text, 'f').faults, [], JSON.stringify(text))
    assert.deepEqual(values(text), expected, JSON.stringify(text))
    texts.push(text)
  }
  compareWithShells(t, texts)
})

test('random garbage is refused, or the shells read it the same', (t) => {
  const roll = dice(2)
  const { pick, many, upTo } = roll
  const dense = [...'ABAB1_==\'\'""\\\\\n\n \t#', 'A=', 'B=', '\nA=', '\nB=', 'export ', 'C="', "D='", ' #', '\\\n']
  const makers = [
    () => many(14, () => pick(dense)),
    () => `A=${many(6, () => pick([...dense, ...anything]))}\nB=${many(6, () => pick([...dense, ...bare]))}`,
    () => {
      const chars = [...grammatical(roll).text]
      for (let i = upTo(3); i >= 0; i -= 1)
        chars.splice(upTo(chars.length), upTo(3), ...Array.from({ length: upTo(3) }, () => pick(anything)))
      return chars.join('')
    },
  ]
  const texts = new Set<string>()
  for (let i = 0; i < 9000 && texts.size < 500; i += 1) {
    const text = pick(makers)()
    const { entries, faults } = parseEnv(text, 'f')
    if (faults.length === 0 && entries.size > 0) texts.add(text)
  }
  assert.ok(texts.size >= 300, `only ${texts.size} were accepted`)
  compareWithShells(t, [...texts])
})

test('the tables above, and every character in every place, read the same in the shells', (t) => {
  const forms = ['X', 'XX', 'aXb', '\\X', 'a\\Xb', "'X'", '"X"', '"\\X"', "'aXXb'", '"aXXb"', '1 #X', '1X ', '"1"X\'2\'', '1\n#X', '1\nX']
  const chars = [...Array.from({ length: 256 }, (_, code) => String.fromCharCode(code)), ...bare, ...control, '\u2003', '\u2028', '\ufffd']
  const gathered = forms.map((form) => {
    const lines = chars.map((char, i) => `K${i}=${form.replaceAll('X', char)}\n`)
    return lines.filter((line) => parseEnv(line, 'f').faults.length === 0).join('')
  })
  compareWithShells(t, [...accepted.map(([text]) => text), ...gathered])
})

test('what a shell sets by itself is refused', (t) => {
  for (const shell of installedShells(t)) {
    // Not a pipe of Node's for stdin: it is a socket, at which bash takes itself for a remote shell and reads ~/.bashrc.
    const { stdout } = spawnSync(shell, ['-c', 'set'], {
      env: { PATH: process.env.PATH ?? '' },
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const own = Array.from(stdout.matchAll(/^([A-Za-z_]\w*)=/gm), ([, name]) => name ?? '').filter((name) => name !== 'TERM')
    assert.ok(own.includes('IFS'), shell)
    const taken = own.filter((name) => parseEnv(`${name}=1`, 'f').faults.length === 0)
    assert.deepEqual(taken, [], shell)
  }
})

test('formatEnv writes what parseEnv and the shells read back', (t) => {
  const { many, pick } = dice(3)
  const texts: string[] = []
  for (let i = 0; i < 150; i += 1) {
    const entries = Object.fromEntries(names.map((name) => [name, many(10, () => pick([...anything, '\r', '\r\n', "'", "'"]))]))
    const text = formatEnv(entries)
    assert.deepEqual(parseEnv(text, 'f').faults, [], JSON.stringify(text))
    assert.deepEqual(values(text), entries)
    texts.push(text)
  }
  compareWithShells(t, texts)
})

test('formatEnv quotes only where needed, and refuses what no file can hold', () => {
  assert.equal(formatEnv({ A: '', B: '/srv/x,y', C: 'a b', D: "it's" }), "A=\nB=/srv/x,y\nC='a b'\nD='it'\\''s'\n")
  assert.equal(formatEnv(new Map([['A', '1']])), 'A=1\n')
  assert.equal(formatEnv({}), '')
  assert.throws(() => formatEnv({ A: 'x\0y' }), /^Failure: cannot write 'A': the value/)
  assert.throws(() => formatEnv({ A: 'x\ud800y' }), /^Failure: cannot write 'A': the value/)
  assert.throws(() => formatEnv({ 'A B': '1' }), /^Failure: cannot write 'A B': it is no name/)
  assert.throws(() => formatEnv([['A', '1'], ['A', '2']]), /^Failure: cannot write 'A': it is given twice/) // biome-ignore format: a table
})

const edits: [text: string, key: string, value: string | undefined, expected: string][] = [
  ['', 'A', '1', 'A=1\n'],
  ['# note', 'A', '1', '# note\nA=1\n'],
  ['B=2\n', 'A', 'x y', "B=2\nA='x y'\n"],
  ['# a\n\n  export A=\'old\nvalue\'  # why\nB="2"\n', 'A', 'new', '# a\n\n  export A=new  # why\nB="2"\n'],
  ['A= # empty\n', 'A', 'b c', "A='b c' # empty\n"],
  ['A="same"\n', 'A', 'same', 'A="same"\n'],
  ['A=1', 'A', '', 'A='],
  ['#A=0\nA=1\n#A=2\n', 'A', '3', '#A=0\nA=3\n#A=2\n'],
  ["B='\nA=1\n'\nA=2\n", 'A', '3', "B='\nA=1\n'\nA=3\n"],
  ['# a\nA=1\t\n\nB=2\n', 'A', undefined, '# a\n\nB=2\n'],
  ['  export A=1  # why\nB=2\n', 'A', undefined, '  # why\nB=2\n'],
  ['B=2\nA="1\n2"', 'A', undefined, 'B=2\n'],
  ['A=1', 'A', undefined, ''],
  ['B=2', 'A', undefined, 'B=2'],
]

test('setEnvKey changes one assignment and leaves every other byte', () => {
  for (const [text, key, value, expected] of edits) assert.equal(setEnvKey(text, key, value), expected, JSON.stringify(text))
  const { pick, many, upTo } = dice(4)
  for (let i = 0; i < 300; i += 1) {
    const { text } = grammatical({ pick, many, upTo })
    const key = pick([...names, 'NEW'])
    const value = many(8, () => pick(anything))
    const changed = setEnvKey(text, key, value)
    assert.deepEqual(parseEnv(changed, 'f').faults, [])
    assert.deepEqual(values(changed), { ...values(text), [key]: value })
    const { [key]: _, ...others } = values(text)
    assert.deepEqual(values(setEnvKey(text, key, undefined)), others)
  }
})

test('setEnvKey refuses a text with faults, a key set twice and a name that cannot be written', () => {
  assert.throws(() => setEnvKey('A=$x\n', 'B', '1'), /^Failure: cannot set 'B': the file has faults: unquoted '\$'/)
  assert.throws(() => setEnvKey('A=1\nA=2\n', 'A', '1'), /^Failure: cannot set 'A': it is set twice/)
  assert.throws(() => setEnvKey('', 'PATH', '1'), /^Failure: cannot write 'PATH': the name/)
})

test('of the caller only the short list and the passed names are seen', () => {
  const before = { ...process.env }
  const set = { HOME: '/h', LC_TIME: 'C', https_proxy: 'p', NO_PROXY: 'n', SSH_AUTH_SOCK: '', MINE: 'm' }
  try {
    for (const name of Object.keys(process.env)) delete process.env[name]
    Object.assign(process.env, set, { RESTIC_REPOSITORY: 'stray', HOMEX: 'x', Http_Proxy: 'x', LC: 'x', NO_COLOR: '' })
    assert.deepEqual(callerEnv(['MINE', 'ABSENT']), set)
    assert.deepEqual(Object.keys(callerEnv()).includes('MINE'), false)
    assert.deepEqual([callerVar('RESTIC_REPOSITORY'), callerVar('ABSENT')], ['stray', undefined])
    assert.equal(noColour(), false)
    process.env.NO_COLOR = '1'
    assert.equal(noColour(), true)
  } finally {
    for (const name of Object.keys(process.env)) delete process.env[name]
    Object.assign(process.env, before)
  }
})
