import { underShell } from './undershell.ts'

underShell('posh')
