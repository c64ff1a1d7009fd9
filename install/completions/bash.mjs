// The completion for bash, from 3.2 on; it needs nothing of the package bash-completion.
import { flagsOf, quote, wordsOf } from './model.mjs'

/** What the script prints for a kind: words, or @targets, @folder, @file, for which it looks. */
const answer = (kind, model) => (wordsOf(kind, model) ?? (kind === 'none' ? [] : [`@${kind}`])).join(' ')

const options = ({ verb, options }) => `    ${verb}) echo ${quote(options.flatMap(flagsOf).join(' '))} ;;`

/** A value that is optional (--out[=FILE]) stands only behind `=`; the script tells it by the first word. */
const values = (model) =>
  model.commands.flatMap(({ verb, options }) =>
    options
      .filter(({ value }) => value)
      .map((option) => {
        const patterns = flagsOf(option).map((flag) => `'${verb} ${flag}'`)
        return `    ${patterns.join(' | ')}) echo ${quote(`${option.bare === undefined ? 'next' : 'attached'} ${answer(option.kind, model)}`)} ;;`
      }),
  )

const operands = (model) =>
  model.commands.flatMap(({ verb, operands: { kinds, further } }) => [
    ...kinds.map((kind, at) => `    '${verb} ${at}') echo ${quote(answer(kind, model))} ;;`),
    ...(further === undefined ? [] : [`    '${verb} '*) echo ${quote(answer(further, model))} ;;`]),
  ])

export const bash = (model) => `# Completion of kedge for bash, written by the build from the commands' declarations.

_kedge_verbs=${quote(model.commands.map(({ verb }) => verb).join(' '))}

# The options of the command $1.
_kedge_options() {
  case $1 in
${model.commands.map(options).join('\n')}
  esac
}

# What the option $2 of the command $1 takes; fails where it takes nothing.
_kedge_value() {
  case "$1 $2" in
${values(model).join('\n')}
    *) return 1 ;;
  esac
}

# What the operand number $2, from 0, of the command $1 is.
_kedge_operand() {
  case "$1 $2" in
${operands(model).join('\n')}
  esac
}

# Sets COMPREPLY to what fits $1, of the words and places that follow.
_kedge_reply() {
  local cur=$1 IFS=$'\\n' word
  shift
  for word in "$@"; do
    case $word in
      @targets) COMPREPLY+=($(compgen -W "$(kedge targets -q 2>/dev/null)" -- "$cur")) ;;
      @folder) compopt -o filenames 2>/dev/null; COMPREPLY+=($(compgen -d -- "$cur")) ;;
      @file) compopt -o filenames 2>/dev/null; COMPREPLY+=($(compgen -f -- "$cur")) ;;
      "$cur"*) COMPREPLY+=("$word") ;;
    esac
  done
}

# bash cuts words at =, which is then a word of its own.
_kedge() {
  local cur=\${COMP_WORDS[COMP_CWORD]} called=\${COMP_WORDS[0]##*/} verb at=1 operand=0 option='' plain='' word value
  COMPREPLY=()
  case $called in
    kedge-*) verb=\${called#kedge-} ;;
    *)
      if [ "$COMP_CWORD" = 1 ]; then
        _kedge_reply "$cur" $_kedge_verbs --help --version
        return
      fi
      verb=\${COMP_WORDS[1]} at=2
      ;;
  esac
  while [ "$at" -lt "$COMP_CWORD" ]; do
    word=\${COMP_WORDS[at]}
    at=$((at + 1))
    if [ -n "$option" ] && [ "$word" = = ]; then
      value=attached
    elif [ -n "$option" ] && [ -n "$value" ]; then
      option='' value=''
    else
      option='' value=''
      case $plain$word in
        --) plain=: ;;
        -?*)
          value=$(_kedge_value "$verb" "$word") && option=$word
          case $value in next*) value=next ;; *) value='' ;; esac
          ;;
        *) operand=$((operand + 1)) ;;
      esac
    fi
  done
  if [ -n "$option" ] && [ "$cur" = = ]; then cur='' value=attached; fi
  if [ -n "$option" ] && [ -n "$value" ]; then
    value=$(_kedge_value "$verb" "$option")
    _kedge_reply "$cur" \${value#* }
  else
    case $plain$cur in
      -*) _kedge_reply "$cur" $(_kedge_options "$verb") ;;
      *) _kedge_reply "$cur" $(_kedge_operand "$verb" "$operand") ;;
    esac
  fi
}

complete -F _kedge kedge${model.commands.map(({ verb }) => ` kedge-${verb}`).join('')}
`
