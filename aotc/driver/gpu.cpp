// See gpu.h.
#include "aotc/driver/gpu.h"

#include <atomic>
#include <cstdio>
#include <functional>
#include <mutex>
#include <set>
#include <thread>

#include "aotc/base/error.h"
#include "aotc/driver/kernels.h"
#include "aotc/emit/gpu_layout.h"
#include "aotc/emit/ptx/hsaco.h"
#include "aotc/emit/ptx/ptx.h"
#include "aotc/emit/ptx/ptxas.h"
#include "aotc/emit/spirv/spirv.h"
#include "aotc/emit/text/text.h"
#include "aotc/kernel/legalise.h"
#include "aotc/kernel/text.h"
#include "schemas/gpu_abi.h"

namespace ingot::aotc {
namespace {

struct Compiled {
  schedule::Scheduled scheduled;
  const TargetRecord *record = nullptr; // that it is for
  uint64_t features = 0, workgroup_bytes = 0; // workgroup_bytes: asked for at launch
  std::string entry, problem, failure; // problem: why the target cannot; failure: of a program that was run
  std::vector<uint8_t> code, binary; // binary: of PTX, where there is an assembler
};

void emit(const GpuTarget &target, const TargetRecord &record, Compiled &out) {
  const kernel::Kernel &k = out.scheduled.kernel;
  if (target.format == archive::CodeFormat::spirv) {
    std::vector<uint32_t> words = emit::emit_spirv(k, record);
    out.entry = k.name;
    out.code.resize(words.size() * 4);
    for (size_t i = 0; i < words.size(); ++i)
      for (size_t b = 0; b < 4; ++b)
        out.code[4 * i + b] = static_cast<uint8_t>(words[i] >> (8 * b));
    return;
  }
  if (target.format == archive::CodeFormat::ptx) {
    std::string text = emit::emit_ptx({&k}, record, *emit::ptx_options(target.architecture));
    out.entry = k.name;
    out.code.assign(text.c_str(), text.c_str() + text.size() + 1); // with its final 0, which the driver's library asks for
    return;
  }
  if (target.format == archive::CodeFormat::hsaco) {
    out.entry = k.name;
    out.code = emit::emit_hsaco(k, record, target.architecture);
    return;
  }
  std::string text = target.format == archive::CodeFormat::msl ? emit::emit_msl(k, record) : emit::emit_wgsl(k, record);
  out.entry = emit::text_entry(k);
  out.code.assign(text.begin(), text.end());
}

// INGOT_VULKAN_* that a legalised kernel's types demand of the device.
uint64_t features_of(const kernel::Kernel &k) {
  uint64_t features = 0;
  auto note = [&](Scalar scalar, bool stored) {
    if (scalar == Scalar::kF16)
      features |= INGOT_VULKAN_FLOAT16 | (stored ? INGOT_VULKAN_STORAGE_16 : 0);
    else if (scalar == Scalar::kF64)
      features |= INGOT_VULKAN_FLOAT64;
    else if (scalar == Scalar::kI64)
      features |= INGOT_VULKAN_INT64;
  };
  for (const kernel::Memory &memory : k.memories)
    note(memory.type, memory.space == kernel::Space::kBuffer);
  for (const kernel::Param &param : k.params)
    note(param.type, false);
  std::function<void(const kernel::Region &)> walk = [&](const kernel::Region &region) {
    for (const kernel::Op &op : region.ops) {
      for (kernel::ValueId result : op.results)
        note(k.type_of(result).scalar, false);
      for (const kernel::Region &inner : op.regions)
        walk(inner);
    }
  };
  walk(k.body);
  return features;
}

// Do kernels start before those ahead of them have ended?
bool starts_early(const GpuTarget &target) {
  return target.format == archive::CodeFormat::ptx && emit::ptx_options(target.architecture)->dependent_launch;
}

// The first record that can express the dispatch; `problem` is what the baseline lacks where none can.
Compiled schedule_kernel(const GpuTarget &target, const dispatch::Dispatch &d) {
  Compiled out;
  std::string first_problem;
  for (const TargetRecord &record : target.records) {
    out.scheduled = schedule::schedule(d, record);
    if (target.format == archive::CodeFormat::ptx || target.format == archive::CodeFormat::hsaco)
      schedule::move_to_params(out.scheduled, d);
    if (!starts_early(target))
      forget_constants(out.scheduled);
    std::string problem = kernel::legalise(out.scheduled.kernel, record);
    if (problem.empty()) {
      out.record = &record;
      return out;
    }
    if (first_problem.empty())
      first_problem = problem;
  }
  out.problem = first_problem;
  return out;
}

void emit_kernel(const GpuTarget &target, const std::string &symbol, Compiled &out) {
  out.scheduled.kernel.name = symbol;
  if (target.format == archive::CodeFormat::spirv)
    out.features = features_of(out.scheduled.kernel);
  out.workgroup_bytes = emit::workgroup_layout(out.scheduled.kernel, *out.record).bytes;
  emit(target, *out.record, out);
}

Diagnostic refusal(const dispatch::Dispatch &d, const Operators &operators, const std::string &file, const std::string &reason) {
  Diagnostic out{file, "", "", 0, "", reason, "leave this target out, or change the node's types"};
  std::set<std::string> named;
  for (const std::string &node : d.nodes) {
    out.node += (out.node.empty() ? "" : ", ") + node;
    auto found = operators.find(node);
    if (found != operators.end() && named.insert(found->second).second)
      out.op += (out.op.empty() ? "" : ", ") + found->second;
  }
  for (const dispatch::Operand &o : d.operands)
    out.types += (out.types.empty() ? "(" : ", ") + std::string(name(o.type)) + "[" + o.count.to_string() + "]";
  out.types += ")";
  return out;
}

std::string words_text(const std::vector<uint8_t> &code) {
  std::string text;
  char word[12];
  for (size_t i = 0; i + 4 <= code.size(); i += 4) {
    std::snprintf(word, sizeof word, "%02x%02x%02x%02x%c", code[i + 3], code[i + 2], code[i + 1], code[i], i % 32 == 28 ? '\n' : ' ');
    text += word;
  }
  return text + "\n";
}

void add_tensor_maps(const kernel::Kernel &k, archive::Kernel &out, archive::CodeVersion &v) {
  for (const kernel::TensorMap &map : k.tensor_maps) {
    const uint64_t bytes = byte_size(k.memories[map.memory].type);
    archive::TensorMap m;
    m.binding = map.memory;
    m.offset = static_cast<uint64_t>(map.offset) * bytes;
    for (size_t i = 0; i < map.rank(); ++i) {
      m.sizes.push_back(static_cast<uint64_t>(map.sizes[i]));
      m.strides.push_back(static_cast<uint64_t>(map.strides[i]) * bytes);
      m.box.push_back(static_cast<uint32_t>(map.box[i]));
    }
    out.tensor_maps.push_back(std::move(m));
  }
  if (k.tensor_maps.empty())
    return;
  out.local_size[0] += kernel::kFeeders;
  v.feature_mask |= INGOT_CUDA_TENSOR_MAPS;
}

} // namespace

std::optional<GpuVariant> compile_gpu_variant(const CompileOptions &options, const TargetRequest &target,
                                              const std::vector<fuse::Program> &programs, archive::ArchiveModel &model,
                                              plan::WeightPool &weights, bool texts, const Operators &operators,
                                              Diagnostics &diagnostics) {
  const GpuTarget &gpu = *target.gpu;
  UniqueDispatches unique = unique_dispatches(programs);
  std::vector<Compiled> scheduled(unique.dispatches.size()), compiled;
  std::vector<std::string> known(scheduled.size()), symbols;
  std::mutex mutex;
  size_t done = 0;
  auto report = [&](const char *stage, size_t total) {
    std::lock_guard lock(mutex);
    ++done;
    if (options.progress)
      options.progress({stage, done, total});
  };
  parallel_for(scheduled.size(), options.jobs, [&](size_t i) {
    scheduled[i] = schedule_kernel(gpu, *unique.dispatches[i]);
    known[i] = scheduled[i].problem + kernel_text(scheduled[i].scheduled, *unique.dispatches[i]);
    report("schedule", scheduled.size());
  });
  std::vector<const dispatch::Dispatch *> dispatches;
  for (uint32_t i : unique_kernels(known, unique.kernel_of)) {
    symbols.push_back(unique.dispatches[i]->name + "_" + std::to_string(compiled.size()));
    dispatches.push_back(unique.dispatches[i]);
    compiled.push_back(std::move(scheduled[i]));
  }
  const bool assembles = gpu.format == archive::CodeFormat::ptx && !options.ptxas.empty() && options.emit == Emit::kArchive && !options.check_only;
  done = 0;
  parallel_for(compiled.size(), options.jobs, [&](size_t i) {
    Compiled &c = compiled[i];
    if (c.problem.empty())
      emit_kernel(gpu, symbols[i], c);
    if (assembles && c.problem.empty())
      c.binary = emit::assemble_ptx(options.ptxas, reinterpret_cast<const char *>(c.code.data()), gpu.architecture, &c.failure);
    report("compile", compiled.size());
  });
  GpuVariant out;
  std::set<std::string> said;
  CpuKernels kernels;
  kernels.kernel_of = unique.kernel_of;
  // Modules one after the other: as the target's text, and as machine code.
  archive::Segment code, binaries;
  code.kind = binaries.kind = archive::SegmentKind::code;
  code.name = target.name + ".code";
  binaries.name = target.name + ".binaries";
  auto place = [](archive::Segment &segment, const std::vector<uint8_t> &bytes, archive::CodeVersion &v) {
    v.symbol_offset = segment.bytes.size();
    v.code_size = bytes.size();
    segment.bytes.insert(segment.bytes.end(), bytes.begin(), bytes.end());
    segment.bytes.resize((segment.bytes.size() + 15) / 16 * 16);
  };
  for (size_t i = 0; i < compiled.size(); ++i) {
    Compiled &c = compiled[i];
    if (!c.problem.empty()) {
      Diagnostic refused = refusal(*dispatches[i], operators, options.models[0].path, "target " + target.text + " cannot run it: " + c.problem);
      if (said.insert(refused.node + refused.types + refused.reason).second) // versions for other sizes are refused alike
        diagnostics.add(std::move(refused));
      continue;
    }
    if (!c.failure.empty()) {
      if (diagnostics.empty())
        diagnostics.add({options.models[0].path, "", "", 0, "", "target " + target.text + ": " + c.failure, "leave --ptxas out: the archive has PTX then"});
      continue;
    }
    if (texts) {
      out.kernels_text += "// " + symbols[i] + ": " + c.scheduled.description + "\n" + kernel::print(c.scheduled.kernel);
      out.code_text += "// " + symbols[i] + "\n";
      out.code_text += gpu.format == archive::CodeFormat::spirv || gpu.format == archive::CodeFormat::hsaco ? words_text(c.code) : std::string(c.code.begin(), c.code.end() - (gpu.format == archive::CodeFormat::ptx ? 1 : 0));
    }
    KernelVersions versions;
    versions.dispatch = dispatches[i];
    versions.symbols = {symbols[i]};
    archive::CodeVersion v;
    v.entry = c.entry;
    v.feature_mask = c.features;
    v.scratch_bytes = c.workgroup_bytes;
    v.schedule = c.scheduled.description;
    place(code, c.code, v);
    versions.versions.push_back(std::move(c.scheduled));
    archive::Kernel kernel = archive_kernel(versions);
    kernel.local_size = versions.versions[0].kernel.local_size;
    add_tensor_maps(versions.versions[0].kernel, kernel, v);
    if (emit::has_error_ops(versions.versions[0].kernel))
      kernel.flags |= INGOT_KERNEL_FLAG_ERRORS;
    if (starts_early(gpu))
      kernel.flags |= INGOT_KERNEL_FLAG_DEPENDENT;
    kernel.versions.push_back(v);
    if (!c.binary.empty()) {
      v.executable = 1;
      v.feature_mask |= INGOT_CUDA_BINARY;
      v.rank = 1;
      place(binaries, c.binary, v);
      kernel.versions.push_back(std::move(v));
    }
    out.variant.kernels.push_back(std::move(kernel));
    kernels.kernels.push_back(std::move(versions));
  }
  if (!diagnostics.empty())
    return std::nullopt;
  out.variant.target = target.name;
  out.variant.arch = gpu.architecture;
  if (!kernels.kernels.empty()) {
    model.segments.push_back(std::move(code));
    out.variant.executables.push_back({gpu.format, static_cast<uint32_t>(model.segments.size() - 1)});
    if (!binaries.bytes.empty()) {
      model.segments.push_back(std::move(binaries));
      out.variant.executables.push_back({archive::CodeFormat::cubin, static_cast<uint32_t>(model.segments.size() - 1)});
    }
  }
  plan_functions(programs, kernels, kGpuAlignment, weights, out.variant);
  return out;
}

} // namespace ingot::aotc
