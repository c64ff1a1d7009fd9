// What an account on the other host needs, so that a key may read its files and do nothing else: pure.
import type { HostKey } from '../source/hostkeys.ts'

/** How the account is bound: a forced command of its own, under sudo or doas, or by rrsync; `plain`: not, it runs what it is asked. */
export const variants = ['command', 'sudo', 'doas', 'rrsync', 'plain'] as const
export type Variant = (typeof variants)[number]

/** Where the forced command lies on the other host. */
export const forced = '/usr/local/bin/kedge-rsync-only'

const commands: Readonly<Record<Variant, string | undefined>> = {
  command: forced,
  sudo: `sudo -n ${forced}`,
  doas: `doas -n ${forced}`,
  rrsync: 'rrsync -ro /',
  plain: undefined,
}

/** `restrict`: no terminal, no forwarding of any kind, no file of the user's is run (sshd(8), OpenSSH 7.2 and later). */
export const restrictions = (variant: Variant): string => {
  const command = commands[variant]
  return command === undefined ? 'restrict' : `restrict,command="${command}"`
}

/** The line for authorized_keys. */
export const authorizedLine = (variant: Variant, { type, key }: HostKey, target: string): string =>
  `${restrictions(variant)} ${type} ${key} kedge:${target}`

/** What else has to be done on the host, in words; lines with blanks before them go into a file as they are. */
export function steps(variant: Variant, target: string, user: string): string[] {
  const account = `this line goes into ~${user}/.ssh/authorized_keys there`
  const script = `'kedge key ${target} --script' prints the forced command: it goes to ${forced}, owner root, mode 0755`
  switch (variant) {
    case 'command':
      return [account, script, `${user} reads what this account may read; for files of others: --as sudo, or --as doas`]
    case 'sudo':
      return [
        account,
        script,
        'these lines go into /etc/sudoers.d/kedge, mode 0440: the account may run the forced command as root, and nothing else',
        `    Defaults!${forced} env_keep += "SSH_ORIGINAL_COMMAND"`,
        `    ${user} ALL=(root) NOPASSWD: ${forced} ""`,
      ]
    case 'doas':
      return [
        account,
        script,
        'this line goes into /etc/doas.conf: the account may run the forced command as root, and nothing else',
        `    permit nopass setenv { SSH_ORIGINAL_COMMAND } ${user} as root cmd ${forced} args`,
      ]
    case 'rrsync':
      return [
        account,
        "rrsync is there with rsync (Debian: /usr/bin/rrsync; 'command -v rrsync' tells); it must be in the PATH of the account",
        'its root is / here, so that absolute paths mean what they say. Below another root, as in rrsync -ro /srv, a path counts from there, ' +
          'and an absolute one is refused; from rsync 3.5 on, rrsync -ro -absolute /srv takes absolute ones below /srv',
      ]
    case 'plain':
      return [account, 'whoever has the key may run any command there: a forced command (--as command) takes less']
  }
}
