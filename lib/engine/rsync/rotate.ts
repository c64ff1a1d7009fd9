// An rsync store has no password.
import type { Unsupported } from '../../contract.ts'

const rotate: Unsupported = { instead: 'a store of rsync has no password; kedge key TARGET --new changes the key of SSH' }
export default rotate
