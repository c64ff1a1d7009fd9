// Not there yet.
import type { Unsupported } from '../../contract.ts'

const stats: Unsupported = { instead: 'not there yet' }
export default stats
