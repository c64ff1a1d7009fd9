// Not there yet.
import type { Unsupported } from '../../contract.ts'

const files: Unsupported = { instead: 'not there yet' }
export default files
