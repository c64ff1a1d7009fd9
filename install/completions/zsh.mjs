// The completion for zsh: one _arguments a command.
import { flagsOf, quote, wordsOf } from './model.mjs'

/** In a specification of _arguments a colon and brackets are its own. */
const plain = (text) => text.replace(/[[\]:\\]/g, '\\$&')

function action(kind, model) {
  const words = wordsOf(kind, model)
  if (words) return `(${words.join(' ')})`
  return { targets: '_kedge_targets', folder: '_files -/', file: '_files', none: ' ' }[kind]
}

function option(each, model) {
  const flags = flagsOf(each)
  const value = each.value && `${each.bare === undefined ? '' : ':'}:${plain(each.value)}:${action(each.kind, model)}`
  return flags.map((flag) => {
    const others = each.many ? '*' : flags.length > 1 ? `(${flags.join(' ')})` : ''
    // --to DIR and --to=DIR; -o DIR and -oDIR; a value that is optional only behind its =.
    const how = !value ? '' : flag.startsWith('--') ? (each.bare === undefined ? '=' : '=-') : '+'
    return quote(`${others}${flag}${how}[${plain(each.help)}]${value ?? ''}`)
  })
}

function operand(kind, at, text, model) {
  return quote(`${at}:${text}:${action(kind, model)}`)
}

function command({ verb, options, operands: { kinds, further } }, model) {
  const name = (kind) => (typeof kind === 'string' && kind !== 'none' ? kind : 'operand')
  const specs = [
    ...options.flatMap((each) => option(each, model)),
    ...kinds.map((kind, at) => operand(kind, at + 1, name(kind), model)),
    ...(further === undefined ? [] : [operand(further, '*', name(further), model)]),
  ]
  return `    ${verb})\n      _arguments -s -S ${specs.join(' \\\n        ')}\n      ;;`
}

export const zsh = (model) => `#compdef kedge${model.commands.map(({ verb }) => ` kedge-${verb}`).join('')}
# Completion of kedge for zsh, written by the build from the commands' declarations.

_kedge_targets() {
  local -a targets
  targets=(\${(f)"$(_call_program targets kedge targets -q 2>/dev/null)"})
  compadd "$@" -a targets
}

_kedge_verbs() {
  local -a verbs
  verbs=(
${model.commands.map(({ verb, summary }) => `    ${quote(`${verb}:${plain(summary)}`)}`).join('\n')}
  )
  _describe -t commands command verbs
}

_kedge() {
  local verb
  case $service in
    kedge-*) verb=\${service#kedge-} ;;
    *)
      if (( CURRENT == 2 )); then
        _arguments '1:command:_kedge_verbs' '(-)--help[print the commands]' '(-)--version[print the version]'
        return
      fi
      verb=$words[2]
      shift words
      (( CURRENT-- ))
      ;;
  esac
  case $verb in
${model.commands.map((each) => command(each, model)).join('\n')}
    *) _files ;;
  esac
}

_kedge "$@"
`
