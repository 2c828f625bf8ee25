// Does with Dawn what it reads from standard input, a socket that it answers to: node dawn_server.mjs WEBGPU_PACKAGE.
// A message is a line of words, the last of them a number of bytes, and these bytes:
//
//   buffer ID SIZE 0 · release ID 0 · write ID OFFSET N · read ID OFFSET LENGTH 0 · copy TO AT FROM AT LENGTH 0
//   module NUMBER ENTRY ERRORS N     WGSL, compiled until the next sync; ERRORS 1: its last binding is the error word
//   dispatch NUMBER X Y Z [ID OFFSET SIZE ACCESS]... N     the params block; ACCESS 1: the kernel only reads it
//   sync 0
//
// `read` and `sync` are answered: "ok N" and bytes, or "failed N" and the first message of Dawn's since the start; any
// warning counts. Buffer 0 is there from the start: the error word, and what stands for bindings without bytes (at 256).
import { readSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const webgpuPackage = process.argv[2];
const entry = createRequire(path.join(path.resolve(webgpuPackage), 'package.json')).resolve(path.resolve(webgpuPackage));
const { create, globals } = await import(pathToFileURL(entry));
Object.assign(globalThis, globals);

let failure = ''; // the first one stays
function note(message) {
  failure ||= String(message).replaceAll('\n', ' ').slice(0, 600) || 'an error without text';
}

// ---- input

const kChunk = 1 << 20;
let pending = Buffer.alloc(0);

function more(needed) {
  const parts = [pending];
  let size = pending.length;
  while (size < needed) {
    const chunk = Buffer.alloc(Math.max(kChunk, needed - size));
    const count = readSync(0, chunk, 0, chunk.length, null);
    if (count === 0) process.exit(0);
    parts.push(chunk.subarray(0, count));
    size += count;
  }
  pending = Buffer.concat(parts);
}
function readLine() {
  for (;;) {
    const end = pending.indexOf(10);
    if (end >= 0) {
      const line = pending.toString('utf8', 0, end);
      pending = pending.subarray(end + 1);
      return line;
    }
    more(pending.length + 1);
  }
}
function readBytes(length) {
  if (pending.length < length) more(length);
  const bytes = pending.subarray(0, length);
  pending = pending.subarray(length);
  return bytes;
}
function answer(word, bytes) {
  const all = Buffer.concat([Buffer.from(`${word} ${bytes.length}\n`), bytes]);
  for (let done = 0; done < all.length;) done += writeSync(0, all, done);
}
function answerOr(bytes) {
  if (failure) answer('failed', Buffer.from(failure));
  else answer('ok', bytes);
}

// ---- the device

const gpu = create([]); // kept alive until the process ends
const adapter = await gpu.requestAdapter();
let device = null;
if (!adapter) note('no adapter');
else {
  const wanted = ['maxStorageBuffersPerShaderStage', 'maxBufferSize', 'maxStorageBufferBindingSize'];
  const half = adapter.features.has('shader-f16') ? ['shader-f16'] : [];
  device = await adapter.requestDevice({ requiredFeatures: half, requiredLimits: Object.fromEntries(wanted.map((name) => [name, adapter.limits[name]])) });
  device.onuncapturederror = (event) => note(event.error.message);
}

const kUsage = device && GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
const buffers = new Map();
const modules = new Map();
const compiling = [];
if (device) buffers.set(0, device.createBuffer({ size: 512, usage: kUsage }));

let encoder = null;
let recorded = 0;
const doomed = []; // buffers that what is recorded still uses
function recording() {
  return (encoder ??= device.createCommandEncoder());
}
function flush() {
  if (encoder) device.queue.submit([encoder.finish()]);
  for (const buffer of doomed.splice(0)) buffer.destroy();
  encoder = null;
  recorded = 0;
}

async function addModule(number, entryPoint, errors, code) {
  const module = device.createShaderModule({ code });
  const info = await module.getCompilationInfo();
  const bad = info.messages.filter((m) => m.type !== 'info');
  if (bad.length) return note(`${entryPoint}: ` + bad.map((m) => `${m.lineNum}:${m.linePos}: ${m.type}: ${m.message}`).join('; '));
  try {
    const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint } });
    modules.set(number, { pipeline, errors });
  } catch (error) {
    note(`${entryPoint}: ${error.message ?? error}`);
  }
}

function temporary(size, usage) {
  const buffer = device.createBuffer({ size, usage });
  doomed.push(buffer);
  return buffer;
}

function dispatch(number, grid, spans, params) {
  const { pipeline, errors } = modules.get(number);
  const written = new Set(errors ? [0] : []);
  for (const span of spans) if (span.access !== 1) written.add(span.id);
  const entries = spans.map((span, binding) => {
    let resource = { buffer: buffers.get(span.id), offset: span.offset, size: span.size };
    if (span.size === 0) resource = { buffer: temporary(256, kUsage) };
    else if (span.access === 1 && written.has(span.id)) {
      // A dispatch may not read and write one buffer, even in ranges apart: it reads a copy.
      const copy = temporary(span.size, kUsage);
      recording().copyBufferToBuffer(resource.buffer, span.offset, copy, 0, span.size);
      resource = { buffer: copy };
    }
    return { binding, resource };
  });
  if (params.length) {
    const uniform = temporary(Math.ceil(params.length / 16) * 16, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
    device.queue.writeBuffer(uniform, 0, params);
    entries.push({ binding: entries.length, resource: { buffer: uniform } });
  }
  if (errors) entries.push({ binding: entries.length, resource: { buffer: buffers.get(0), offset: 0, size: 4 } });
  const pass = recording().beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
  pass.dispatchWorkgroups(...grid);
  pass.end();
  if (++recorded >= 64) flush();
}

async function read(id, offset, size) {
  const copy = temporary(size, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
  recording().copyBufferToBuffer(buffers.get(id), offset, copy, 0, size);
  doomed.pop();
  flush();
  await copy.mapAsync(GPUMapMode.READ);
  const bytes = Buffer.from(copy.getMappedRange().slice(0));
  copy.destroy();
  return bytes;
}

async function handle(word, n, name, bytes) {
  switch (word) {
    case 'buffer': return buffers.set(n[0], device.createBuffer({ size: n[1], usage: kUsage }));
    case 'release':
      flush();
      buffers.get(n[0]).destroy();
      return buffers.delete(n[0]);
    case 'write':
      flush();
      return device.queue.writeBuffer(buffers.get(n[0]), n[1], bytes);
    case 'read': return answerOr(await read(n[0], n[1], n[2]));
    case 'copy': return recording().copyBufferToBuffer(buffers.get(n[2]), n[3], buffers.get(n[0]), n[1], n[4]);
    case 'module': return compiling.push(addModule(n[0], name, n[2] !== 0, bytes.toString()));
    case 'dispatch': {
      const spans = [];
      for (let i = 4; i < n.length; i += 4) spans.push({ id: n[i], offset: n[i + 1], size: n[i + 2], access: n[i + 3] });
      return dispatch(n[0], n.slice(1, 4), spans, bytes);
    }
    case 'sync':
      if (device) {
        await Promise.all(compiling.splice(0));
        flush();
        await device.queue.onSubmittedWorkDone();
      }
      return answerOr(Buffer.alloc(0));
    default: return note(`unknown message '${word}'`);
  }
}

for (;;) {
  const [word, ...rest] = readLine().split(' ');
  const bytes = readBytes(Number(rest.pop()));
  if (failure) { // nothing more is done; what waits for an answer gets it
    if (word === 'read' || word === 'sync') answerOr(bytes);
    continue;
  }
  try {
    await handle(word, rest.map(Number), rest[1], bytes);
  } catch (error) {
    note(error.message ?? error);
    if (word === 'read' || word === 'sync') answerOr(bytes);
  }
}
