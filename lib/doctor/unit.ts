// The sandbox of the installed systemd units: where a run that one starts may write. Facts: systemd.exec(5), systemd.unit(5).
import { readdir, readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { liesIn } from '../newtarget.ts'
import { unitDir } from '../timer/machine.ts'

export type Sandbox = {
  /** 'all': only what `writable` names may be written; 'system': all but /usr, /boot, /efi and /etc; 'none': no limit. */
  readonly readOnly: 'none' | 'system' | 'all'
  /** Home folders are out of reach, or read-only. */
  readonly noHome: boolean
  readonly writable: readonly string[]
}

/** A unit's text, drop-ins after it. An empty assignment of a list clears it. Pure. */
export function sandboxOf(text: string, user = false): Sandbox {
  const settings = new Map<string, string[]>()
  for (const [, key = '', value = ''] of text.replaceAll('\\\n', ' ').matchAll(/^[ \t]*([A-Z]\w+)[ \t]*=[ \t]*(.*?)[ \t]*$/gm)) {
    settings.set(key, value === '' ? [] : [...(settings.get(key) ?? []), value])
  }
  const last = (key: string) => settings.get(key)?.at(-1) ?? 'no'
  const list = (key: string) => (settings.get(key) ?? []).flatMap(wordsOf)
  const under = (root: string, key: string) => list(key).map((name) => join(root, name.split(':')[0] ?? ''))
  const roots = user ? [join(homedir(), '.local/state'), join(homedir(), '.cache')] : ['/var/lib', '/var/cache']
  const protect = last('ProtectSystem')
  return {
    readOnly: protect === 'strict' ? 'all' : /^(yes|true|on|1|full)$/.test(protect) ? 'system' : 'none',
    noHome: !/^(no|false|off|0)$/.test(last('ProtectHome')),
    writable: [
      ...list('ReadWritePaths').map((path) => path.replace(/^[-+]+/, '')),
      ...under(roots[0] ?? '', 'StateDirectory'),
      ...under(roots[1] ?? '', 'CacheDirectory'),
    ],
  }
}

/** Words in quotes or without; a percent sign is doubled. */
const wordsOf = (value: string): string[] =>
  [...value.matchAll(/"((?:\\.|[^"\\])*)"|(\S+)/g)].map(([, quoted, plain]) =>
    (quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '').replaceAll('%%', '%'),
  )

/** Whether the sandbox lets a unit write there. Pure. */
export function mayWrite(sandbox: Sandbox, path: string): boolean {
  if (liesIn(path, sandbox.writable)) return true
  if (sandbox.noHome && liesIn(path, ['/home', '/root', '/run/user'])) return false
  if (sandbox.readOnly === 'all') return liesIn(path, ['/dev', '/proc', '/sys']) !== undefined
  return sandbox.readOnly === 'none' || !liesIn(path, ['/usr', '/boot', '/efi', '/etc'])
}

const folders = () =>
  process.geteuid?.() === 0 ? [unitDir(), '/usr/local/lib/systemd/system', '/usr/lib/systemd/system', '/lib/systemd/system'] : [unitDir()]

/**
 * The unit that runs a verb on a target, as systemd would read it; undefined where none is in use: the first of the places, where schedule
 * install writes, has neither it nor its timer. The templates of setup lie on every machine, one that cron serves too.
 */
export async function installedUnit(
  verb: string,
  target: string,
  places: readonly string[] = folders(),
): Promise<{ file: string; sandbox: Sandbox } | undefined> {
  const own = [`kedge-${verb}@.service`, `kedge-${verb}@${target}.timer`].map((name) => readUnit(join(places[0] ?? '', name)))
  if ((await Promise.all(own)).every((text) => text === undefined)) return undefined
  for (const place of places) {
    const file = join(place, `kedge-${verb}@.service`)
    const text = await readUnit(file)
    if (text === undefined) continue
    const more = await dropIns(places, ['kedge-.service.d', `kedge-${verb}@.service.d`, `kedge-${verb}@${target}.service.d`])
    return { file, sandbox: sandboxOf([text, ...more].join('\n'), process.geteuid?.() !== 0) }
  }
  return undefined
}

async function readUnit(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw error
  }
}

/** In the order of their names, wherever they lie; of one name the nearest to the unit counts, and of several places the first. */
async function dropIns(places: readonly string[], folders: readonly string[]): Promise<string[]> {
  const texts = new Map<string, string>()
  for (const folder of folders) {
    for (const place of places.toReversed()) {
      const names = await readdir(join(place, folder)).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT' || error.code === 'ENOTDIR' || error.code === 'EACCES') return []
        throw error
      })
      for (const each of names.filter((file) => file.endsWith('.conf'))) texts.set(each, (await readUnit(join(place, folder, each))) ?? '')
    }
  }
  return [...texts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, text]) => text)
}
