// Not there yet.
import type { Unsupported } from '../../contract.ts'

const init: Unsupported = { instead: 'not there yet' }
export default init
