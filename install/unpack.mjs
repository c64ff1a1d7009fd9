// Unpacks a release: node unpack.mjs TAR.CJS TARBALL FOLDER. Refused, with nothing unpacked, is one that holds anything but files and
// folders below one top folder, the tarball's name without .tar.gz.
import { createRequire } from 'node:module'
import { basename } from 'node:path'

const [module, file, cwd] = process.argv.slice(2)
const tar = createRequire(import.meta.url)(module)
const top = basename(file, '.tar.gz')

const faults = []
await tar.list({
  file,
  strict: true,
  onReadEntry: ({ path, type }) => {
    const parts = path.replace(/\/$/, '').split('/')
    if (type !== 'File' && type !== 'Directory') faults.push(`'${path}' is a ${type}`)
    else if (parts[0] !== top || parts.some((part) => part === '' || part === '.' || part === '..'))
      faults.push(`'${path}' is not in ${top}/`)
  },
})
if (faults.length > 0) {
  console.log(`cannot unpack '${file}': ${faults.join(', ')}`)
  process.exit(1)
}
await tar.extract({ file, cwd, strict: true, preserveOwner: false })
