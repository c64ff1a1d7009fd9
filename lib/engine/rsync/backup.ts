// Not there yet.
import type { Unsupported } from '../../contract.ts'

const backup: Unsupported = { instead: 'not there yet' }
export default backup
