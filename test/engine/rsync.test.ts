// The contract of engines on rsync: in each version, and pulled from a real sshd.
import { after } from 'node:test'
import { rsyncs } from '../harness.ts'
import { startSshd } from '../sshd.ts'
import { contract } from './contract.ts'
import { rsyncBench } from './rsyncbench.ts'

const server = await startSshd({ after })
for (const version of rsyncs()) contract(rsyncBench(version))
contract(rsyncBench(rsyncs().at(-1) as ReturnType<typeof rsyncs>[number], server))
