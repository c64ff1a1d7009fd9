// Preloaded by measure.mjs: a process says its own peak when it ends, in KiB.
process.on('exit', () => require('node:fs').writeFileSync(process.env.BENCH_PEAK, String(process.resourceUsage().maxRSS)))
