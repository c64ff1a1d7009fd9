// What systemd's manager is told and asked: the system's for root, the user's own otherwise.
import { answer } from '../child.ts'
import type { Context } from '../contract.ts'
import { callerEnv } from '../env.ts'
import { Failure } from '../failure.ts'
import { shown } from '../shell.ts'
import { isRoot } from './machine.ts'

export const systemctl = (args: readonly string[]): string[] => ['systemctl', ...(isRoot() ? [] : ['--user']), ...args]

/** Failure `tool` with its last words. */
export async function tell(args: readonly string[], context: Pick<Context, 'signal'>): Promise<string> {
  // In its words a time has no offset, only a zone's short name.
  const env = { ...callerEnv(['XDG_RUNTIME_DIR', 'DBUS_SESSION_BUS_ADDRESS', 'SYSTEMD_UNIT_PATH']), TZ: 'UTC', LC_ALL: 'C' }
  const { status, stdout, stderr } = await answer(systemctl(args), { env, signal: context.signal, timeout: 300 })
  if (status === 0) return stdout
  const said = stderr.trim().split('\n').pop() || `it ended with ${status}`
  const session = 'it needs a session of the user: log in as this user, or set XDG_RUNTIME_DIR=/run/user/UID'
  const hint = !isRoot() && /connect to (?:\w+ )*bus/i.test(said) ? session : undefined
  throw new Failure('tool', `${shown(systemctl(args.slice(0, 2)))}: ${said}`, { hint })
}

/** `next`: RFC 3339. */
export type TimerState = { readonly enabled: boolean; readonly active: boolean; readonly next: string | undefined }

/** How timers stand, by name with suffix. */
export async function timerStates(names: readonly string[], context: Pick<Context, 'signal'>): Promise<Map<string, TimerState>> {
  if (names.length === 0) return new Map()
  const properties = 'Id,ActiveState,UnitFileState,NextElapseUSecRealtime'
  return statesIn(await tell(['show', '--property', properties, '--', ...names], context))
}

/** Blocks of `key=value`, parted by empty lines. Pure. */
function statesIn(text: string): Map<string, TimerState> {
  const found = new Map<string, TimerState>()
  for (const block of text.split(/\n\n+/)) {
    const value = Object.fromEntries([...block.matchAll(/^(\w+)=(.*)$/gm)].map(([, key = '', rest = '']) => [key, rest]))
    const [, day, time] = /(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)/.exec(value.NextElapseUSecRealtime ?? '') ?? []
    if (!value.Id) continue
    found.set(value.Id, {
      enabled: value.UnitFileState === 'enabled',
      active: value.ActiveState === 'active',
      next: day && time && `${day}T${time}.000Z`,
    })
  }
  return found
}
