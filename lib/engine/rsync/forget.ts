// Not there yet.
import type { Unsupported } from '../../contract.ts'

const forget: Unsupported = { instead: 'not there yet' }
export default forget
