// The completion for the ksh of OpenBSD: arrays, read once. complete_kedge_N is for the Nth word, complete_kedge for the others.
import { flagsOf } from './model.mjs'

/** Words in lines of at most 120 characters. */
function lines(words) {
  const all = ['']
  for (const word of words) {
    const last = all.at(-1)
    if (`  ${last} ${word}`.length > 120) all.push(word)
    else all[all.length - 1] = last ? `${last} ${word}` : word
  }
  return all.map((line) => `  ${line}`).join(' \\\n')
}

export function ksh({ commands }) {
  const options = [...new Set(commands.flatMap(({ options }) => options.flatMap(flagsOf)))].sort()
  return `# Completion of kedge for the ksh of OpenBSD, written by the build from the commands' declarations.
# In ~/.kshrc, with the folder that kedge is installed in:
#   . /usr/local/share/kedge/kedge.ksh
# The names of the targets are those that are there when the file is read.

_kedge_targets() {
  if [ "$(id -u)" = 0 ]; then set -- /etc/kedge; else set -- "$HOME/.config/kedge"; fi
  ls "\${KEDGE_CONFIG_DIR:-$1}/targets" 2>/dev/null
}

set -A complete_kedge_1 -- \\
${lines(commands.map(({ verb }) => verb))} \\
  --help --version
set -A complete_kedge_2 -- $(_kedge_targets)
set -A complete_kedge -- $(_kedge_targets) \\
${lines(options)}
`
}
