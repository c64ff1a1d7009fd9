// A random sample of a stream of unknown length, with memory for the sample only. Pure.

export type Limits = { count: number; bytes: number }
type Drawn<T> = { item: T; lot: number }

/**
 * Each item draws a lot, and the lowest lots win: as many as `count`, and as fit in `bytes` together (an item that does not fit is
 * passed over). Every item has the same chance, but for those that are large beside `bytes`.
 */
export function sampler<T extends { size: number }>(limits: Limits, random: () => number = Math.random) {
  let drawn: Drawn<T>[] = []
  let most = 1
  const settle = () => {
    drawn.sort((a, b) => a.lot - b.lot)
    const kept: Drawn<T>[] = []
    let bytes = 0
    for (const each of drawn) {
      if (kept.length === limits.count) break
      if (bytes + each.item.size > limits.bytes) continue
      kept.push(each)
      bytes += each.item.size
    }
    if (kept.length === limits.count) most = kept.at(-1)?.lot ?? 0
    drawn = kept
  }
  let room = 1024
  return {
    add(item: T): void {
      if (item.size > limits.bytes) return
      const lot = random()
      if (lot >= most) return
      drawn.push({ item, lot })
      if (drawn.length < room) return
      settle()
      room = drawn.length + 1024
    },
    /** The sample, in the order of the lots. */
    taken(): T[] {
      settle()
      return drawn.map(({ item }) => item)
    },
  }
}
