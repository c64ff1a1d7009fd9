// From many writers to one reader, who takes one value at a time: nobody runs ahead of him, so memory stays flat.

export type Channel<T> = {
  /** Resolves when the value was taken, or when nobody takes any more. */
  push: (value: T) => Promise<void>
  /** No more values come: the reader ends after those that wait. */
  end: () => void
  values: () => AsyncGenerator<T, void>
}

export function createChannel<T>(): Channel<T> {
  const waiting: { value: T; taken: () => void }[] = []
  let ended = false
  let left = false
  let wake = () => {}
  return {
    push(value) {
      if (left) return Promise.resolve()
      return new Promise((taken) => {
        waiting.push({ value, taken })
        wake()
      })
    },
    end() {
      ended = true
      wake()
    },
    async *values() {
      try {
        for (;;) {
          const next = waiting[0]
          if (next) {
            yield next.value
            waiting.shift()
            next.taken()
          } else if (ended) return
          else
            await new Promise<void>((resolve) => {
              wake = resolve
            })
        }
      } finally {
        left = true
        for (const { taken } of waiting.splice(0)) taken()
      }
    },
  }
}

/** One after the other, in the order in which they came. */
export function createTurns(): <T>(work: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve()
  return (work) => {
    const mine = last.then(work, work)
    last = mine
    return mine
  }
}
