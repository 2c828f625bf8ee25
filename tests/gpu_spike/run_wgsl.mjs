// Runs case files (case_files.h) with Dawn: node run_wgsl.mjs FOLDER WEBGPU_PACKAGE FIRST COUNT
// Writes the results of each case's expected buffers. Prints `adapter NAME` and, a case, `done NAME` or `failed NAME: why`. The caller judges
// the results; exit status 3 says that there is no adapter.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const [folder, webgpuPackage, first, count] = process.argv.slice(2);
const entry = createRequire(path.join(path.resolve(webgpuPackage), 'package.json')).resolve(path.resolve(webgpuPackage));
const { create, globals } = await import(pathToFileURL(entry));
Object.assign(globalThis, globals);

function parse(text) {
  const cases = [];
  let current = null;
  for (const line of text.split('\n')) {
    const [word, ...rest] = line.split(' ');
    if (word === 'case') current = { name: rest[0], number: cases.length, params: [], buffers: [], outputs: [] };
    else if (word === 'kernel') [current.file, current.entry] = rest;
    else if (word === 'grid') current.grid = rest.map(Number);
    else if (word === 'param') current.params.push({ bytes: Number(rest[0]), bits: BigInt('0x' + rest[1]) });
    else if (word === 'buffer') current.buffers.push(rest[0]);
    else if (word === 'expect') current.outputs.push(Number(rest[0]));
    else if (word === 'end') cases.push(current);
  }
  return cases;
}

function paramsBlock(params) {
  const bytes = Buffer.alloc(params.reduce((n, p) => n + p.bytes, 0) + 16);
  let at = 0;
  for (const p of params) {
    at = Math.ceil(at / p.bytes) * p.bytes;
    if (p.bytes === 8) bytes.writeBigUInt64LE(p.bits, at);
    else bytes.writeUInt32LE(Number(p.bits), at);
    at += p.bytes;
  }
  return bytes.subarray(0, Math.ceil(at / 16) * 16); // a uniform buffer binding is a multiple of 16 bytes
}

const pipelines = new Map(); // by source: cases differ in sizes, kernels do not

async function compile(device, c) {
  const code = readFileSync(path.join(folder, c.file), 'utf8');
  const key = c.entry + '\n' + code;
  if (pipelines.has(key)) return pipelines.get(key);
  const module = device.createShaderModule({ code });
  const info = await module.getCompilationInfo();
  const bad = info.messages.filter((m) => m.type !== 'info');
  if (bad.length) throw new Error(bad.map((m) => `${c.file}:${m.lineNum}:${m.linePos}: ${m.type}: ${m.message}`).join('; '));
  const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint: c.entry } });
  pipelines.set(key, pipeline);
  return pipeline;
}

async function run(device, c) {
  const pipeline = await compile(device, c);
  device.pushErrorScope('validation');
  const storage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
  const upload = (data, usage) => {
    const buffer = device.createBuffer({ size: data.byteLength, usage });
    device.queue.writeBuffer(buffer, 0, data);
    return buffer;
  };
  const buffers = c.buffers.map((file) => upload(readFileSync(path.join(folder, file)), storage));
  if (c.params.length) buffers.push(upload(paramsBlock(c.params), GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST));
  const group = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  const readbacks = c.outputs.map((i) =>
    device.createBuffer({ size: buffers[i].size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST }));
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(...c.grid);
  pass.end();
  c.outputs.forEach((i, k) => encoder.copyBufferToBuffer(buffers[i], 0, readbacks[k], 0, buffers[i].size));
  device.queue.submit([encoder.finish()]);
  for (const [k, i] of c.outputs.entries()) {
    await readbacks[k].mapAsync(GPUMapMode.READ);
    writeFileSync(path.join(folder, `${c.number}.${i}.result`), Buffer.from(readbacks[k].getMappedRange().slice(0)));
    readbacks[k].unmap();
    readbacks[k].destroy();
  }
  for (const buffer of buffers) buffer.destroy();
  const error = await device.popErrorScope();
  if (error) throw new Error(error.message);
}

const gpu = create([]); // kept alive until the process ends
const adapter = await gpu.requestAdapter();
if (!adapter) {
  console.log('no adapter');
  process.exit(3);
}
const device = await adapter.requestDevice({
  requiredLimits: { maxStorageBuffersPerShaderStage: adapter.limits.maxStorageBuffersPerShaderStage },
});
console.log(`adapter ${adapter.info.description || adapter.info.vendor}`);
const cases = parse(readFileSync(path.join(folder, 'cases.txt'), 'utf8'));
let failed = 0;
for (const c of cases.slice(Number(first), Number(first) + Number(count))) {
  try {
    await run(device, c);
    console.log(`done ${c.name}`);
  } catch (error) {
    ++failed;
    console.log(`failed ${c.name}: ${String(error.message ?? error).replaceAll('\n', ' ')}`);
  }
}
process.exit(failed ? 1 : 0); // Dawn does not survive an orderly end
