// The sandbox of the installed systemd unit: where a backup that it starts may write. Facts: systemd.exec(5).
import { readdir, readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { liesIn } from '../newtarget.ts'

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
  const list = (key: string) => (settings.get(key) ?? []).flatMap((value) => value.split(/\s+/))
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

/** Whether the sandbox lets a unit write there. Pure. */
export function mayWrite(sandbox: Sandbox, path: string): boolean {
  if (liesIn(path, sandbox.writable)) return true
  if (sandbox.noHome && liesIn(path, ['/home', '/root', '/run/user'])) return false
  if (sandbox.readOnly === 'all') return liesIn(path, ['/dev', '/proc', '/sys']) !== undefined
  return sandbox.readOnly === 'none' || !liesIn(path, ['/usr', '/boot', '/efi', '/etc'])
}

const folders = () =>
  process.geteuid?.() === 0
    ? ['/etc/systemd/system', '/usr/local/lib/systemd/system', '/usr/lib/systemd/system', '/lib/systemd/system']
    : [join(homedir(), '.config/systemd/user')]

/** The unit that backs a target up, as systemd would read it; undefined where none is installed. */
export async function installedUnit(
  target: string,
  places: readonly string[] = folders(),
): Promise<{ file: string; sandbox: Sandbox } | undefined> {
  for (const place of places) {
    const file = join(place, 'kedge-backup@.service')
    const text = await readUnit(file)
    if (text === undefined) continue
    const more = await Promise.all(['kedge-backup@.service.d', `kedge-backup@${target}.service.d`].map((name) => dropIns(places, name)))
    return { file, sandbox: sandboxOf([text, ...more.flat()].join('\n'), process.geteuid?.() !== 0) }
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

async function dropIns(places: readonly string[], name: string): Promise<string[]> {
  const texts: string[] = []
  for (const place of places.toReversed()) {
    const names = await readdir(join(place, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR' || error.code === 'EACCES') return []
      throw error
    })
    for (const each of names.filter((file) => file.endsWith('.conf')).sort()) texts.push((await readUnit(join(place, name, each))) ?? '')
  }
  return texts
}
