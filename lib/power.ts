// Does the machine run on its battery? Linux says it in /sys/class/power_supply, OpenBSD by apm(8).
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { answer } from './child.ts'
import { callerEnv } from './env.ts'
import { Failure } from './failure.ts'

/** One supply as the kernel shows it: `type` Mains, USB, Battery …; `scope` is Device for the battery of a mouse. */
export type Supply = { type: string; online?: string; status?: string; scope?: string }

/** Pure. A plug decides where there is one; without, a battery that is being emptied. Machines that show neither are on mains. */
export function isOnBattery(supplies: readonly Supply[]): boolean {
  const own = supplies.filter(({ scope }) => scope !== 'Device')
  const plugs = own.filter(({ type, online }) => type !== 'Battery' && online !== undefined)
  const batteries = own.filter(({ type }) => type === 'Battery')
  if (plugs.some(({ online }) => online !== '0')) return false
  if (plugs.length > 0) return batteries.length > 0
  return batteries.some(({ status }) => status === 'Discharging')
}

const folder = '/sys/class/power_supply'

export async function onBattery(signal: AbortSignal): Promise<boolean> {
  const supplies = read()
  return supplies.length > 0 ? isOnBattery(supplies) : await apmSays(signal)
}

function read(): Supply[] {
  try {
    return readdirSync(folder).map((name) => {
      const value = (key: string) => optional(join(folder, name, key))
      const [online, status, scope] = [value('online'), value('status'), value('scope')]
      return { type: value('type') ?? '', ...(online && { online }), ...(status && { status }), ...(scope && { scope }) }
    })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

function optional(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (error) {
    // A supply has only the attributes of its kind; ENODEV is a battery that was just taken out.
    if (['ENOENT', 'ENODEV', 'EINVAL'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw error
  }
}

/** apm -a: 0 is disconnected, 1 connected, 2 a backup supply, 255 unknown (OpenBSD's apm(8)). Where there is no apm there is no battery. */
async function apmSays(signal: AbortSignal): Promise<boolean> {
  try {
    const { status, stdout } = await answer(['apm', '-a'], { env: callerEnv(), signal, timeout: 10 })
    return status === 0 && ['0', '2'].includes(stdout.trim())
  } catch (error) {
    if (error instanceof Failure && error.class === 'tool') return false
    throw error
  }
}
