// Not there yet.
import type { Unsupported } from '../../contract.ts'

const mount: Unsupported = { instead: 'not there yet' }
export default mount
