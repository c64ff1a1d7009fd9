// File systems as statfs(2) numbers them on Linux, and what they lack for snapshots. Other systems give no such numbers. Facts:
// linux/magic.h; hard links: fs/{fat,exfat} have none; xattrs of users: tmpfs since 6.6, NFS with 4.2 on both sides.
import { statfs } from 'node:fs/promises'

/** `links`: it has hard links. `xattrs`: those of users, in which rsync --fake-super keeps owners. Undefined: it depends, or is not known. */
export type FileSystem = {
  readonly name: string
  readonly links?: boolean
  readonly xattrs?: boolean
  /** Times in nanoseconds. */
  readonly fine?: boolean
  /** What is written is gone with the next reboot. */
  readonly memory?: true
}
const whole = { links: true, xattrs: true, fine: true } as const

const known: Readonly<Record<number, FileSystem>> = {
  61267: { name: 'ext4', ...whole },
  1481003842: { name: 'xfs', ...whole },
  2435016766: { name: 'btrfs', ...whole },
  801189825: { name: 'zfs', ...whole },
  4076150800: { name: 'f2fs', ...whole },
  3393526350: { name: 'bcachefs', ...whole },
  2035054128: { name: 'overlay', ...whole },
  16914836: { name: 'tmpfs', links: true, fine: true, memory: true },
  2240043254: { name: 'ramfs', links: true, xattrs: false, fine: true, memory: true },
  19780: { name: 'vfat', links: false, xattrs: false, fine: false },
  538032816: { name: 'exfat', links: false, xattrs: false, fine: false },
  1397118030: { name: 'ntfs' },
  1936094318: { name: 'ntfs' },
  1702057286: { name: 'fuse' },
  26985: { name: 'nfs', links: true, fine: true },
  4283649346: { name: 'cifs' },
  4266872130: { name: 'smb' },
}

/** The file system of a folder; undefined where its number is not known. */
export const fileSystemOf = async (path: string): Promise<FileSystem | undefined> => known[(await statfs(path)).type]
