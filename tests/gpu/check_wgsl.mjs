// Validates WGSL with Dawn: node check_wgsl.mjs WEBGPU_PACKAGE FOLDER. Each FOLDER/NAME.wgsl becomes a compute pipeline with
// entry point k_NAME, on Dawn's null backend, which validates and translates nothing, with the limits that WebGPU promises
// everywhere. Prints `ok NAME` or `failed NAME: why`; a warning counts.
import { readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const [webgpuPackage, folder] = process.argv.slice(2);
const entry = createRequire(path.join(path.resolve(webgpuPackage), 'package.json')).resolve(path.resolve(webgpuPackage));
const { create, globals } = await import(pathToFileURL(entry));
Object.assign(globalThis, globals);

const gpu = create(['backend=null']); // kept alive until the process ends
const adapter = await gpu.requestAdapter();
const half = adapter.features.has('shader-f16') ? ['shader-f16'] : []; // what precision=f16 asks for
const device = await adapter.requestDevice({ requiredFeatures: half }); // WebGPU's default limits, not the adapter's

for (const file of readdirSync(folder).filter((name) => name.endsWith('.wgsl')).sort()) {
  const name = file.slice(0, -5);
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code: readFileSync(path.join(folder, file), 'utf8') });
  const info = await module.getCompilationInfo();
  const wrong = info.messages.filter((m) => m.type !== 'info').map((m) => `${m.lineNum}:${m.linePos}: ${m.type}: ${m.message}`);
  if (!wrong.length) device.createComputePipeline({ layout: 'auto', compute: { module, entryPoint: `k_${name}` } });
  const error = await device.popErrorScope();
  if (error && !wrong.length) wrong.push(error.message);
  console.log(wrong.length ? `failed ${name}: ${wrong.join('; ').replaceAll('\n', ' ')}` : `ok ${name}`);
}
process.exit(0); // Dawn does not survive an orderly end
