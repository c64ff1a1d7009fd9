// The contract of engines on what the newest rsync pulls from a real sshd.
import { after } from 'node:test'
import { type Rsync, rsyncs } from '../harness.ts'
import { startSshd } from '../sshd.ts'
import { contract } from './contract.ts'
import { rsyncBench } from './rsyncbench.ts'

contract(rsyncBench(rsyncs().at(-1) as Rsync, await startSshd({ after })))
