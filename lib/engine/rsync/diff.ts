// Not there yet.
import type { Unsupported } from '../../contract.ts'

const diff: Unsupported = { instead: 'not there yet' }
export default diff
