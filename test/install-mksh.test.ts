import { underShell } from './undershell.ts'

underShell('mksh')
