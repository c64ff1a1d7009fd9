import { underShell } from './undershell.ts'

underShell('dash')
