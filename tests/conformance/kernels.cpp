// See kernels.h.
#include "tests/conformance/kernels.h"

#include <algorithm>
#include <stdexcept>

#include "aotc/archive/writer.h"
#include "aotc/emit/bytecode/emitter.h"
#include "aotc/emit/gpu_layout.h"
#include "aotc/emit/llvm/cpu_emitter.h"
#include "aotc/emit/ptx/ptx.h"
#include "aotc/emit/spirv/spirv.h"
#include "aotc/kernel/builder.h"
#include "aotc/kernel/legalise.h"
#include "schemas/gpu_abi.h"
#include "src/runtime/cpu/features.h"

namespace conformance {
namespace {

using namespace ingot::aotc;
using kernel::Access;
using kernel::Builder;
using kernel::Opcode;
using kernel::ValueId;
using kernel::Values;

const Type kI32(Scalar::kI32);

uint32_t buffer(Builder &b, const char *name, Access access) { return b.add_buffer(name, access, Scalar::kI32); }
ValueId integer(Builder &b, int64_t value) { return b.constant(kI32, value); }
ValueId number(Builder &b, const char *name) { return b.add_param(name, Scalar::kI32); }
ValueId count(Builder &b) { return b.add_param("n", Scalar::kIndex, 0, INT32_MAX); }

void build(uint32_t which, Builder &b) {
  const auto g = [&] { return b.group_id(0); };
  switch (which) {
  case kAdd: {
    const uint32_t x = buffer(b, "a", Access::kRead), y = buffer(b, "b", Access::kRead), out = buffer(b, "out", Access::kWrite);
    b.store(out, g(), b.add(b.load(x, g()), b.load(y, g())));
    break;
  }
  case kScale: {
    const uint32_t in = buffer(b, "in", Access::kRead), out = buffer(b, "out", Access::kWrite);
    const ValueId p = number(b, "p"), q = number(b, "q");
    b.store(out, g(), b.add(b.mul(b.load(in, g()), p), q));
    break;
  }
  case kBump: {
    const uint32_t data = buffer(b, "data", Access::kReadWrite);
    const ValueId p = number(b, "p");
    b.store(data, g(), b.add(b.load(data, g()), p));
    break;
  }
  case kGrid: {
    const uint32_t out = buffer(b, "out", Access::kWrite);
    const ValueId x = b.group_id(0), y = b.group_id(1), z = b.group_id(2);
    const ValueId at = b.add(b.mul(b.add(b.mul(z, b.grid_size(1)), y), b.grid_size(0)), x);
    const ValueId value = b.add(b.convert(kI32, x), b.add(b.mul(b.convert(kI32, y), integer(b, 100)), b.mul(b.convert(kI32, z), integer(b, 10000))));
    b.store(out, at, value);
    break;
  }
  case kMany: {
    const uint32_t out = buffer(b, "out", Access::kWrite);
    ValueId sum = integer(b, 0);
    for (uint32_t i = 0; i < kManyParams; ++i)
      sum = b.add(sum, b.mul(number(b, ("p" + std::to_string(i)).c_str()), integer(b, i + 1)));
    b.store(out, g(), sum);
    break;
  }
  case kMix: {
    uint32_t in[6];
    for (uint32_t i = 0; i < 6; ++i) in[i] = buffer(b, ("in" + std::to_string(i)).c_str(), Access::kRead);
    const uint32_t out = buffer(b, "out", Access::kWrite);
    const int64_t factors[] = {1, 2, 3, 5, 7, 11};
    ValueId sum = integer(b, 0);
    for (uint32_t i = 0; i < 6; ++i) sum = b.add(sum, b.mul(b.load(in[i], g()), integer(b, factors[i])));
    b.store(out, g(), sum);
    break;
  }
  case kRefuse: {
    const uint32_t in = buffer(b, "in", Access::kRead), out = buffer(b, "out", Access::kWrite);
    const ValueId x = b.load(in, g()), p = number(b, "p"); // one param: the error word's address does not follow at once
    b.error_if(b.lt(x, integer(b, 0)), kErrorCode, 1);
    b.store(out, g(), b.add(x, p));
    break;
  }
  case kSpin: {
    const uint32_t data = buffer(b, "data", Access::kReadWrite);
    const ValueId n = count(b);
    const Values last = b.for_loop(b.index(0), n, b.index(1), {b.load(data, g())}, [&](ValueId, const Values &x) {
      const ValueId next = b.add(b.mul(x[0], integer(b, 1664525)), integer(b, 1013904223));
      return Values{b.binary(Opcode::kXor, next, b.binary(Opcode::kShrU, next, integer(b, 15)))};
    });
    b.store(data, g(), last[0]);
    break;
  }
  case kCount: {
    const uint32_t in = buffer(b, "in", Access::kRead), out = buffer(b, "out", Access::kWrite);
    const ValueId n = count(b);
    const Values found = b.for_loop(b.index(0), n, b.index(1), {integer(b, 0)}, [&](ValueId i, const Values &found) {
      return Values{b.select(b.compare(Opcode::kNe, b.load(in, i), integer(b, 0)), b.add(found[0], integer(b, 1)), found[0])};
    });
    b.store(out, b.index(0), found[0]);
    break;
  }
  case kPositions: {
    const uint32_t in = buffer(b, "in", Access::kRead), out = buffer(b, "out", Access::kWrite);
    const ValueId n = count(b);
    b.for_loop(b.index(0), n, b.index(1), {b.index(0)}, [&](ValueId i, const Values &found) {
      const ValueId there = b.compare(Opcode::kNe, b.load(in, i), integer(b, 0));
      b.store_if(out, there, found[0], b.convert(kI32, i));
      return Values{b.select(there, b.add(found[0], b.index(1)), found[0])};
    });
    break;
  }
  case kHigh: {
    const uint32_t out = buffer(b, "out", Access::kWrite);
    const ValueId p = b.add_param("p", Scalar::kIndex, 0, int64_t(1) << 40);
    b.store(out, g(), b.convert(kI32, b.div(b.div(p, b.index(65536)), b.index(65536))));
    break;
  }
  case kSum: {
    const uint32_t in = buffer(b, "in", Access::kRead), out = buffer(b, "out", Access::kWrite);
    const ValueId n = count(b);
    const Values sum = b.for_loop(b.index(0), n, b.index(1), {integer(b, 0)},
                                  [&](ValueId i, const Values &sum) { return Values{b.add(sum[0], b.load(in, i))}; });
    b.store(out, b.index(0), sum[0]);
    break;
  }
  }
}

std::vector<kernel::Kernel> kernels_for(const TargetRecord &record) {
  static const char *const names[] = {"add", "scale", "bump", "grid", "many", "mix", "refuse", "spin", "count", "positions", "high", "sum"};
  std::vector<kernel::Kernel> out(kKernels);
  for (uint32_t i = 0; i < kKernels; ++i) {
    out[i].name = names[i];
    out[i].kind = record.kernel_class;
    Builder b(out[i]);
    build(i, b);
    if (const std::string problem = kernel::legalise(out[i], record); !problem.empty())
      throw std::runtime_error(std::string(names[i]) + ": " + problem);
  }
  return out;
}

kernel::Kernel mirror_for(const TargetRecord &record) {
  kernel::Kernel k;
  k.name = "mirror";
  k.kind = record.kernel_class;
  k.local_size = {256, 1, 1};
  Builder b(k);
  const uint32_t in = buffer(b, "in", Access::kRead), out = buffer(b, "out", Access::kWrite);
  const uint32_t array = b.add_array("array", kernel::Space::kWorkgroup, Scalar::kI32, kMirrored);
  const auto each = [&](const auto &body) {
    b.for_loop(b.local_id(0), b.index(kMirrored), b.index(256), {}, [&](ValueId i, const Values &) { return body(i), Values{}; });
  };
  each([&](ValueId i) { b.store(array, i, b.load(in, i)); });
  b.barrier();
  each([&](ValueId i) {
    const ValueId x = b.load(array, b.sub(b.index(kMirrored - 1), i));
    b.store(out, i, b.add(b.add(x, x), b.convert(kI32, i)));
  });
  if (const std::string problem = kernel::legalise(k, record); !problem.empty()) throw std::runtime_error("mirror: " + problem);
  return k;
}

kernel::Kernel fed_for(const TargetRecord &record) {
  constexpr uint32_t kThreads = 64;
  kernel::Kernel k;
  k.name = record.tensor_feeds ? "fed" : "copied";
  k.kind = record.kernel_class;
  k.local_size = {kThreads, 1, 1};
  Builder b(k);
  const uint32_t in = b.add_buffer("in", Access::kRead, Scalar::kF16), out = b.add_buffer("out", Access::kWrite, Scalar::kF16);
  uint32_t from = in;
  if (record.tensor_feeds) {
    from = b.add_array("lines", kernel::Space::kWorkgroup, Scalar::kF16, kFed, 1024);
    const uint32_t signals = b.add_array("signals", kernel::Space::kWorkgroup, Scalar::kI64, 2, 8);
    for (const int64_t odd : {0, 1})
      b.feed(from, odd * kFed / 2, b.add_tensor_map({in, 64 * odd, {64, 8}, {1, 128}, {64, 8}}), {b.index(0), b.index(0)}, {0, 0});
    b.feed_start(signals, 1, b.index(1));
    b.feed_wait(b.index(0));
  }
  b.for_loop(b.local_id(0), b.index(kFed), b.index(kThreads), {},
             [&](ValueId i, const Values &) { return b.store(out, i, b.load(from, i)), Values{}; });
  if (const std::string problem = kernel::legalise(k, record); !problem.empty()) throw std::runtime_error(k.name + ": " + problem);
  return k;
}

archive::Kernel describe(const kernel::Kernel &k) {
  archive::Kernel out;
  out.name = k.name;
  for (size_t i = 0; i < k.buffer_count(); ++i) {
    const Access access = k.memories[i].access;
    out.bindings.push_back(access == Access::kRead ? ingot::program::kAccessRead : access == Access::kWrite ? ingot::program::kAccessWrite : ingot::program::kAccessReadWrite);
  }
  out.param_count = uint32_t(k.params.size());
  return out;
}

struct Target {
  std::string name;
  archive::Variant variant; // without functions
  archive::Segment code;
};

Target native() {
  std::string error;
#if defined(__x86_64__)
  const auto cpu = parse_cpu_target("x86-64-v2", &error);
#else
  const auto cpu = parse_cpu_target("host", &error);
#endif
  if (!cpu) throw std::runtime_error(error);
  const std::vector<kernel::Kernel> kernels = kernels_for(record_of(*cpu));
  std::vector<CpuKernel> list;
  for (const kernel::Kernel &k : kernels) list.push_back({&k, k.name, record_of(*cpu), *cpu});
  CpuResult compiled = compile_cpu(list, {});
  if (!compiled.module) throw std::runtime_error(compiled.error);
  Target out{"llvm-cpu", {}, {}};
  out.variant.arch = ingot::host_arch();
  out.code.bytes = compiled.module->elf;
  out.code.alignment = 4096;
  for (uint32_t i = 0; i < kKernels; ++i) {
    const CpuModule::Symbol &s = compiled.module->symbols[i];
    archive::Kernel k = describe(kernels[i]);
    archive::CodeVersion v;
    v.entry = s.name;
    v.symbol_offset = s.offset;
    v.code_size = s.code_bytes;
    v.feature_mask = s.feature_mask;
    v.scratch_bytes = s.scratch_bytes;
    v.stack_bytes = s.stack_bytes;
    k.versions.push_back(v);
    out.variant.kernels.push_back(k);
  }
  out.variant.executables.push_back({archive::CodeFormat::elf, 0});
  return out;
}

void append(Target &out, archive::Kernel k, archive::CodeVersion v, const std::vector<uint8_t> &code) {
  v.entry = k.name;
  v.symbol_offset = out.code.bytes.size();
  v.code_size = code.size();
  k.versions.push_back(v);
  out.variant.kernels.push_back(k);
  out.code.bytes.insert(out.code.bytes.end(), code.begin(), code.end());
  out.code.bytes.resize((out.code.bytes.size() + 15) / 16 * 16);
}

Target bytecode() {
  Target out{"vmvx", {}, {}};
  for (const kernel::Kernel &kernel : kernels_for(TargetRecord::bytecode())) {
    const BytecodeKernel compiled = emit_bytecode(kernel);
    archive::CodeVersion v;
    v.scratch_bytes = compiled.scratch_bytes;
    append(out, describe(kernel), v, compiled.bytes);
  }
  out.variant.executables.push_back({archive::CodeFormat::bytecode, 0});
  return out;
}

template <class Emit> void append_all(Target &out, const TargetRecord &record, archive::CodeFormat format, const Emit &emit) {
  for (const kernel::Kernel &kernel : kernels_for(record)) {
    archive::Kernel k = describe(kernel);
    k.local_size = kernel.local_size;
    if (emit::has_error_ops(kernel)) k.flags |= INGOT_KERNEL_FLAG_ERRORS;
    append(out, k, {}, emit(kernel));
  }
  out.variant.executables.push_back({format, 0});
}

Target spirv() {
  Target out{"vulkan-spirv", {}, {}};
  const TargetRecord record = TargetRecord::vulkan_baseline();
  append_all(out, record, archive::CodeFormat::spirv, [&](const kernel::Kernel &kernel) {
    std::vector<uint8_t> code;
    for (const uint32_t word : emit::emit_spirv(kernel, record))
      for (uint32_t b = 0; b < 4; ++b) code.push_back(uint8_t(word >> (8 * b)));
    return code;
  });
  return out;
}

Target ptx() {
  Target out{"cuda", {}, {}};
  out.variant.arch = "sm_80";
  const TargetRecord record = TargetRecord::cuda_sm80();
  append_all(out, record, archive::CodeFormat::ptx, [&](const kernel::Kernel &kernel) {
    const std::string text = emit::emit_ptx({&kernel}, record);
    return std::vector<uint8_t>(text.c_str(), text.c_str() + text.size() + 1);
  });
  return out;
}

// Code objects of the mock of libamdhip64 (tests/mock).
Target mock_code_objects() {
  Target out = ptx();
  out.name = "rocm";
  out.variant.arch = "gfx942";
  out.variant.executables[0].format = archive::CodeFormat::hsaco;
  const std::vector<uint8_t> texts = std::move(out.code.bytes);
  out.code.bytes.clear();
  for (archive::Kernel &k : out.variant.kernels) {
    archive::CodeVersion &v = k.versions[0];
    std::string bytes = "MOCK" + std::string(texts.begin() + int64_t(v.symbol_offset), texts.begin() + int64_t(v.symbol_offset + v.code_size));
    bytes.resize((bytes.size() + 15) / 16 * 16);
    v.symbol_offset = out.code.bytes.size();
    v.code_size = bytes.size();
    out.code.bytes.insert(out.code.bytes.end(), bytes.begin(), bytes.end());
  }
  return out;
}

const std::vector<Target> &all_targets() {
  static const std::vector<Target> all = {native(), bytecode(), spirv(), ptx(), mock_code_objects()};
  return all;
}

} // namespace

int32_t spun(int32_t x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t next = uint32_t(x) * 1664525u + 1013904223u;
    x = int32_t(next ^ next >> 15);
  }
  return x;
}

const std::vector<std::string> &targets() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const Target &t : all_targets()) out.push_back(t.name);
    return out;
  }();
  return names;
}

std::vector<uint8_t> make_archive(const std::string &target,
                                  const std::function<void(archive::ArchiveModel &, archive::Function &)> &fill,
                                  const archive::Segment *last, const archive::Function *prepare) {
  archive::ArchiveModel model;
  model.provenance = {"conformance", "", "none", {}};
  archive::Function f;
  f.name = "main";
  fill(model, f);
  std::vector<const Target *> order;
  for (const Target &t : all_targets()) order.push_back(&t);
  std::stable_partition(order.begin(), order.end(), [&](const Target *t) { return t->name == target; });
  for (const Target *t : order) {
    archive::Segment code = t->code;
    code.kind = archive::SegmentKind::code;
    code.name = t->name;
    model.segments.push_back(code);
    archive::Variant v = t->variant;
    v.target = t->name;
    v.io_alignment = 64; // as the kernels' buffers say
    v.executables[0].segment = uint32_t(model.segments.size() - 1);
    v.functions.push_back(f);
    if (prepare) v.prepare = *prepare;
    model.variants.push_back(v);
  }
  if (last) model.segments.push_back(*last);
  return archive::write_archive(model);
}

std::vector<uint8_t> make_mirror_archive(const std::string &target, const std::vector<uint64_t> &asked, bool dependent,
                                         const std::function<void(archive::Function &)> &fill) {
  const TargetRecord record = TargetRecord::cuda_sm80();
  const kernel::Kernel kernel = mirror_for(record);
  const std::string arch = dependent ? "sm_90" : "sm_80", text = emit::emit_ptx({&kernel}, record, *emit::ptx_options(arch));
  archive::Kernel k = describe(kernel);
  k.local_size = kernel.local_size;
  if (dependent) k.flags |= INGOT_KERNEL_FLAG_DEPENDENT;
  for (uint32_t i = 0; i < asked.size(); ++i) {
    archive::CodeVersion v;
    v.entry = k.name;
    v.code_size = text.size() + 1;
    v.rank = i;
    v.scratch_bytes = asked[i] ? asked[i] : emit::workgroup_layout(kernel, record).bytes;
    k.versions.push_back(v);
  }
  archive::ArchiveModel model;
  model.provenance = {"conformance", "", "none", {}};
  archive::Segment code;
  code.kind = archive::SegmentKind::code;
  code.name = target;
  code.bytes.assign(text.c_str(), text.c_str() + text.size() + 1);
  model.segments.push_back(code);
  archive::Variant variant;
  variant.target = target;
  variant.arch = target == "cuda" ? arch : "gfx942";
  variant.io_alignment = 64;
  variant.executables.push_back({target == "cuda" ? archive::CodeFormat::ptx : archive::CodeFormat::hsaco, 0});
  variant.kernels.push_back(k);
  archive::Function f;
  f.name = "main";
  fill(f);
  variant.functions.push_back(f);
  model.variants.push_back(variant);
  return archive::write_archive(model);
}

std::vector<uint8_t> make_fed_archive(const std::string &target, bool masked, bool other, const std::function<void(archive::Function &)> &fill) {
  archive::ArchiveModel model;
  model.provenance = {"conformance", "", "none", {}};
  archive::Function f;
  f.name = "main";
  fill(f);
  for (const TargetRecord &record : {TargetRecord::cuda_sm90a(), TargetRecord::cuda_sm80()}) {
    if (!record.tensor_feeds && !other) continue;
    const kernel::Kernel kernel = fed_for(record);
    const std::string arch = record.tensor_feeds ? "sm_90a" : "sm_80", text = emit::emit_ptx({&kernel}, record, *emit::ptx_options(arch));
    archive::Kernel k = describe(kernel);
    k.local_size = kernel.local_size;
    archive::CodeVersion v;
    for (const kernel::TensorMap &m : kernel.tensor_maps) {
      archive::TensorMap &map = k.tensor_maps.emplace_back();
      map.binding = m.memory;
      map.offset = 2 * uint64_t(m.offset);
      map.sizes.assign(m.sizes.begin(), m.sizes.end());
      map.box.assign(m.box.begin(), m.box.end());
      for (const int64_t stride : m.strides) map.strides.push_back(2 * uint64_t(stride));
    }
    if (record.tensor_feeds) {
      k.local_size[0] += kernel::kFeeders;
      v.feature_mask = masked ? INGOT_CUDA_TENSOR_MAPS : 0;
    }
    Target code{target, {}, {}};
    std::string bytes = text + '\0';
    if (target != "cuda") bytes = "MOCK" + bytes, bytes.resize((bytes.size() + 15) / 16 * 16);
    append(code, k, v, std::vector<uint8_t>(bytes.begin(), bytes.end()));
    code.code.kind = archive::SegmentKind::code;
    code.code.name = k.name;
    model.segments.push_back(code.code);
    code.variant.target = target;
    code.variant.arch = target == "cuda" ? arch : "gfx942";
    code.variant.io_alignment = 64;
    const archive::CodeFormat format = target == "cuda" ? archive::CodeFormat::ptx : archive::CodeFormat::hsaco;
    code.variant.executables.push_back({format, uint32_t(model.segments.size() - 1)});
    code.variant.functions.push_back(f);
    model.variants.push_back(code.variant);
  }
  return archive::write_archive(model);
}

} // namespace conformance
