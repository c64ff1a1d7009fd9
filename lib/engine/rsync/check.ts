// Not there yet.
import type { Unsupported } from '../../contract.ts'

const check: Unsupported = { instead: 'not there yet' }
export default check
