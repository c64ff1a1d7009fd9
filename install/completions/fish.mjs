// The completion for fish.
import { flagsOf, wordsOf } from './model.mjs'

const quote = (text) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`

function answer(kind, model) {
  const words = wordsOf(kind, model)
  if (words) return `-a ${quote(words.join(' '))}`
  return { targets: "-a '(__kedge_targets)'", folder: "-a '(__fish_complete_directories)'", file: '-F', none: '' }[kind]
}

function option(verb, each, model) {
  const short = each.short ? ` -s ${each.short}` : ''
  // -x: the value is no file unless -F says so. A value that is optional is no value to fish.
  const value = each.value && each.bare === undefined ? ` ${each.kind === 'file' ? '-r' : '-x'} ${answer(each.kind, model)}` : ''
  return `complete -c kedge -n '__kedge_is ${verb}'${short} -l ${each.name}${value.trimEnd()} -d ${quote(each.help)}`
}

function command({ verb, options, operands: { kinds, further } }, model) {
  const taking = options.filter(({ value, bare }) => value && bare === undefined).flatMap(flagsOf)
  const operand = (kind, place) =>
    `complete -c kedge -n ${quote(`__kedge_at ${place} ${verb} ${taking.join(' ')}`.trim())} ${answer(kind, model)}`
  const places = [
    ...kinds.map((kind, at) => [kind, `-eq ${at}`]),
    ...(further === undefined ? [] : [[further, `-ge ${kinds.length}`]]),
  ].filter(([kind]) => kind !== 'none')
  return [
    ...options.map((each) => option(verb, each, model)),
    ...places.map(([kind, place]) => operand(kind, place)),
    `complete -c kedge-${verb} -w 'kedge ${verb}'`,
  ].join('\n')
}

export const fish = (model) => `# Completion of kedge for fish, written by the build from the commands' declarations.

function __kedge_targets
    kedge targets -q 2>/dev/null
end

# Whether no command is written yet.
function __kedge_bare
    test (count (commandline -opc)) -eq 1
end

# Whether the command is $argv[1].
function __kedge_is
    set -l words (commandline -opc)
    test (count $words) -gt 1; and test $words[2] = $argv[1]
end

# Whether the command is $argv[3], and the number of its operands before the cursor compares so: -eq 0, -ge 1. What follows in $argv
# are its options that take the next word.
function __kedge_at
    set -l words (commandline -opc)
    test (count $words) -gt 1; and test $words[2] = $argv[3]; or return 1
    set -l operands 0
    set -l value no
    for word in $words[3..-1]
        if test $value = yes
            set value no
        else if contains -- $word $argv[4..-1]
            set value yes
        else if not string match -q -- '-*' $word
            set operands (math $operands + 1)
        end
    end
    test $operands $argv[1] $argv[2]
end

complete -c kedge -f
${model.commands.map(({ verb, summary }) => `complete -c kedge -n __kedge_bare -a ${verb} -d ${quote(summary)}`).join('\n')}
complete -c kedge -n __kedge_bare -l help -d 'print the commands'
complete -c kedge -n __kedge_bare -l version -d 'print the version'

${model.commands.map((each) => command(each, model)).join('\n\n')}
`
