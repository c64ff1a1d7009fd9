// A set of inodes as bitmaps: file systems number them in dense runs, so that millions take few megabytes.

const page = 4096n

/** Tells whether an inode is met for the first time, and remembers it. */
export function newInodes(): (stat: { readonly dev: bigint; readonly ino: bigint }) => boolean {
  const pages = new Map<bigint, Uint8Array>()
  return ({ dev, ino }) => {
    // Devices are few and small numbers: beyond the 64 bits of an inode they keep two stores' apart.
    const key = (dev << 64n) | (ino / page)
    const bit = Number(ino % page)
    const bits = pages.get(key) ?? new Uint8Array(Number(page) / 8)
    pages.set(key, bits)
    const [at, mask] = [bit >> 3, 1 << (bit & 7)]
    const before = bits[at] ?? 0
    bits[at] = before | mask
    return (before & mask) === 0
  }
}
