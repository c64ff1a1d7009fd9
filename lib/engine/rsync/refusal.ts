// What the system says of an entry that cannot be looked at: is it the disk, or who asks? Pure.

/**
 * 'damaged': the disk, or the file system upon it; 'permission': it is somebody else's to look at; undefined: neither. Node has no names for
 * two of Linux: EUCLEAN (117: ext4, xfs and btrfs find their own structures wrong) and EBADMSG (74: a checksum of theirs).
 */
export function refusalOf(error: unknown): 'damaged' | 'permission' | undefined {
  const { code = '' } = (error ?? {}) as NodeJS.ErrnoException
  if (/^(EIO|EUCLEAN|EBADMSG|Unknown system error -(117|74))$/.test(code)) return 'damaged'
  return code === 'EACCES' || code === 'EPERM' ? 'permission' : undefined
}

/** 'permission denied', without the code and the path, which comes with the entry's name. */
export const wordsOf = (error: unknown): string => {
  const { message, code = '' } = error as NodeJS.ErrnoException
  return /^[A-Z]+: ([^,]+)/.exec(message)?.[1] ?? code
}
