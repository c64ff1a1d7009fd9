// Not there yet.
import type { Unsupported } from '../../contract.ts'

const unlock: Unsupported = { instead: 'not there yet' }
export default unlock
