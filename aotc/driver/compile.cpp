// The pipeline: import -> fuse, fold, prepack -> schedule, legalise -> native code -> plan -> archive.
#include "aotc/driver/compile.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "aotc/archive/writer.h"
#include "aotc/base/error.h"
#include "aotc/driver/gpu.h"
#include "aotc/driver/kernels.h"
#include "aotc/driver/print_program.h"
#include "aotc/emit/bytecode/emitter.h"
#include "aotc/emit/llvm/cpu_emitter.h"
#include "aotc/fuse/half_storage.h"
#include "aotc/fuse/join_rows.h"
#include "aotc/fuse/sequence.h"
#include "aotc/fuse/specialise_sizes.h"
#include "aotc/fuse/split_reductions.h"
#include "aotc/graph/check.h"
#include "aotc/import/onnx/import.h"
#include "aotc/kernel/legalise.h"
#include "aotc/kernel/text.h"
#include "aotc/layout/block_channels.h"
#include "aotc/layout/lift_factors.h"
#include "aotc/layout/merge_products.h"
#include "aotc/layout/split_concats.h"
#include "aotc/layout/split_constants.h"
#include "aotc/quantise/integer_products.h"
#include "schemas/header.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Config/llvm-config.h"
#include "llvm/Support/SHA256.h"

namespace ingot::aotc {
namespace {

void report(const CompileOptions &options, const char *stage, size_t done, size_t total) {
  if (options.progress)
    options.progress({stage, done, total});
}

std::string version_suffix(const CpuTarget &target) {
  std::string out = "__";
  for (char c : target.name)
    out += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return out;
}

// Whether any access of the kernel relies on its buffers' alignment.
bool relies_on_alignment(const kernel::Region &region) {
  for (const kernel::Op &op : region.ops) {
    if (op.align > 1)
      return true;
    for (const kernel::Region &inner : op.regions)
      if (relies_on_alignment(inner))
        return true;
  }
  return false;
}

class Dump {
 public:
  explicit Dump(const std::string &dir) : dir_(dir) {}
  void write(const std::string &name, const std::string &text) const {
    if (dir_.empty())
      return;
    std::filesystem::create_directories(dir_);
    std::ofstream out(std::filesystem::path(dir_) / name, std::ios::binary);
    out << text;
  }
  bool wanted() const { return !dir_.empty(); }

 private:
  std::string dir_;
};

std::array<uint8_t, 32> sha256_of_file(const std::string &path) {
  llvm::SHA256 hash;
  std::ifstream in(path, std::ios::binary);
  std::vector<char> buffer(1 << 20);
  while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || in.gcount() > 0)
    hash.update(llvm::StringRef(buffer.data(), static_cast<size_t>(in.gcount())));
  return hash.final();
}

std::string flags_text(const CompileOptions &options) {
  std::string text;
  for (const TargetRequest &t : options.targets)
    text += " --target=" + t.text + (t.gpu && t.gpu->half && t.text.find(",precision=") == std::string::npos ? ",precision=f16" : "");
  for (const std::string &s : options.input_shapes)
    text += " --input-shape=" + s;
  for (const std::string &s : options.states)
    text += " --state=" + s;
  for (const ModelInput &m : options.models)
    text += " --entry=" + m.entry;
  if (options.probe)
    text += " --probe";
  if (!options.ptxas.empty())
    text += " --ptxas";
  return text.substr(text.empty() ? 0 : 1) + " -O" + std::to_string(options.opt_level);
}

} // namespace

static void note_operators(const graph::Graph &graph, Operators &out) {
  for (const graph::Op &op : graph.ops) {
    out.emplace(op.node, op.source);
    for (const graph::Graph &region : op.regions)
      note_operators(region, out);
  }
}

static Operators operators_of(const std::vector<graph::Function> &functions) {
  Operators out;
  for (const graph::Function &f : functions)
    note_operators(f.graph, out);
  return out;
}

fuse::Program lower(const graph::Function &function, const LoweringOptions &options) {
  auto prepared = [&] {
    if (options.blocks)
      return layout::block_channels(quantise::integer_products(function, false), true);
    if (!options.max_constant_bytes)
      return function;
    graph::Function f = layout::lift_factors(options.byte_units ? quantise::integer_products(function, true) : function);
    if (options.units != MatrixUnits::kNone)
      f = layout::merge_products(f);
    f = layout::split_concats(layout::split_constants(f, options.max_constant_bytes), options.fuse.max_operands - 1);
    return options.units != MatrixUnits::kNone ? layout::block_channels(f, false) : f;
  };
  fuse::Program program = fuse::fuse(prepared(), options.fuse);
  plan::fold_constants(program, options.prepare);
  if (options.pack) { // each version has its weights as it likes them
    fuse::specialise_sizes(program, options.sizes);
    plan::prepack(program);
  }
  if (options.sequences)
    fuse::fuse_loops(program, options.sequence);
  if (options.half)
    fuse::store_as_half(program, options.units != MatrixUnits::kNone);
  if (options.prepare)
    plan::prepare_constants(program, options.units);
  if (!options.pack)
    fuse::specialise_sizes(program, options.sizes);
  if (options.split)
    fuse::split_reductions(program, options.fuse.max_operands, options.units != MatrixUnits::kNone);
  if (options.join)
    fuse::join_rows(program, options.fuse.max_operands);
  return program;
}

CpuKernels schedule_for_cpu(const std::vector<fuse::Program> &programs, const std::vector<CpuTarget> &targets,
                            unsigned jobs, const std::function<void(const Progress &)> &progress) {
  std::vector<TargetRecord> records;
  std::vector<std::string> suffixes;
  for (const CpuTarget &t : targets) {
    records.push_back(record_of(t));
    suffixes.push_back(targets.size() > 1 ? version_suffix(t) : "");
  }
  return schedule_for_records(programs, records, suffixes, jobs, progress);
}

CpuKernels schedule_for_records(const std::vector<fuse::Program> &programs, const std::vector<TargetRecord> &records,
                                const std::vector<std::string> &suffixes, unsigned jobs,
                                const std::function<void(const Progress &)> &progress) {
  CpuKernels result;
  UniqueDispatches unique = unique_dispatches(programs);
  result.kernel_of = std::move(unique.kernel_of);
  for (const dispatch::Dispatch *d : unique.dispatches) {
    KernelVersions k;
    k.dispatch = d;
    k.versions.resize(records.size());
    result.kernels.push_back(std::move(k));
  }
  size_t total = result.kernels.size() * records.size(), done = 0;
  std::mutex mutex;
  parallel_for(total, jobs, [&](size_t i) {
    KernelVersions &k = result.kernels[i / records.size()];
    size_t t = i % records.size();
    schedule::Scheduled s = schedule::schedule(*k.dispatch, records[t]);
    forget_constants(s);
    std::string problem = kernel::legalise(s.kernel, records[t]);
    ensure(problem.empty(), "kernel " + k.dispatch->name + " for " + records[t].name + ": " + problem);
    k.versions[t] = std::move(s);
    std::lock_guard lock(mutex);
    ++done;
    if (progress)
      progress({"schedule", done, total});
  });
  std::vector<std::string> texts;
  for (const KernelVersions &k : result.kernels) {
    std::string text;
    for (const schedule::Scheduled &s : k.versions)
      text += kernel_text(s, *k.dispatch);
    texts.push_back(std::move(text));
  }
  std::vector<KernelVersions> kept;
  for (uint32_t i : unique_kernels(texts, result.kernel_of)) {
    KernelVersions &k = kept.emplace_back(std::move(result.kernels[i]));
    for (const std::string &suffix : suffixes)
      k.symbols.push_back(k.dispatch->name + "_" + std::to_string(kept.size() - 1) + suffix);
  }
  result.kernels = std::move(kept);
  // A version for dot products of bytes is for kernels that have any.
  for (KernelVersions &k : result.kernels)
    for (size_t t = 0; t < records.size(); ++t)
      k.kept.push_back(t == 0 || !records[t].has_dot4 || kernel::uses(k.versions[t].kernel.body, kernel::Opcode::kDot4));
  for (const KernelVersions &k : result.kernels)
    for (const schedule::Scheduled &s : k.versions)
      for (size_t i = 0; i < 3; ++i)
        ensure(s.grid[i] == k.versions[0].grid[i], "kernel " + k.dispatch->name + ": code versions have different grids");
  return result;
}

namespace {

struct CpuVariant {
  archive::Variant variant;
  std::string llvm_text, asm_text;
};

// Compiles all programs to bytecode.
void compile_bytecode_variant(const CompileOptions &options, const TargetRequest &target,
                              const std::vector<fuse::Program> &programs, archive::ArchiveModel &model,
                              plan::WeightPool &weights, const Dump &dump, CpuVariant &out, std::string &kernels_text) {
  CpuKernels kernels = schedule_for_records(programs, {TargetRecord::bytecode()}, {""}, options.jobs, options.progress);
  if (options.emit == Emit::kKernels || dump.wanted())
    for (const KernelVersions &k : kernels.kernels)
      kernels_text += "// " + k.symbols[0] + ": " + k.versions[0].description + "\n" + kernel::print(k.versions[0].kernel);
  if (options.emit == Emit::kKernels)
    return;
  archive::Variant &variant = out.variant;
  variant.target = target.name;
  archive::Segment code;
  code.kind = archive::SegmentKind::code;
  code.name = target.name + ".bytecode";
  for (size_t i = 0; i < kernels.kernels.size(); ++i) {
    const KernelVersions &k = kernels.kernels[i];
    report(options, "compile", i, kernels.kernels.size());
    BytecodeKernel compiled = emit_bytecode(k.versions[0].kernel);
    archive::Kernel kernel = archive_kernel(k);
    archive::CodeVersion v;
    v.entry = k.symbols[0];
    v.symbol_offset = code.bytes.size();
    v.code_size = compiled.bytes.size();
    v.scratch_bytes = compiled.scratch_bytes;
    v.schedule = k.versions[0].description;
    kernel.versions.push_back(std::move(v));
    variant.kernels.push_back(std::move(kernel));
    code.bytes.insert(code.bytes.end(), compiled.bytes.begin(), compiled.bytes.end());
  }
  if (!kernels.kernels.empty()) {
    model.segments.push_back(std::move(code));
    variant.executables.push_back({archive::CodeFormat::bytecode, static_cast<uint32_t>(model.segments.size() - 1)});
  }
  plan_functions(programs, kernels, kCpuAlignment, weights, variant);
}

// Compiles all programs for one CPU target request into a variant. False with a diagnostic where LLVM refuses.
bool compile_cpu_variant(const CompileOptions &options, const TargetRequest &target, const std::vector<fuse::Program> &programs,
                         archive::ArchiveModel &model, plan::WeightPool &weights, const Dump &dump, CpuVariant &out,
                         std::string &kernels_text, Diagnostics &diagnostics) {
  CpuKernels cpu = schedule_for_cpu(programs, target.versions, options.jobs, options.progress);
  std::vector<CpuKernel> list;
  bool aligned = false;
  for (const KernelVersions &k : cpu.kernels)
    for (size_t t = 0; t < target.versions.size(); ++t) {
      if (!k.kept[t])
        continue;
      CpuKernel c;
      c.kernel = &k.versions[t].kernel;
      c.symbol = k.symbols[t];
      c.record = record_of(target.versions[t]);
      c.target = target.versions[t];
      aligned = aligned || relies_on_alignment(c.kernel->body);
      list.push_back(std::move(c));
      if (options.emit == Emit::kKernels || dump.wanted())
        kernels_text += "// " + k.symbols[t] + ": " + k.versions[t].description + "\n" + kernel::print(k.versions[t].kernel);
    }
  if (options.emit == Emit::kKernels)
    return true;
  CpuOptions cpu_options;
  cpu_options.opt_level = options.opt_level;
  cpu_options.jobs = options.jobs;
  if (options.emit == Emit::kLlvm || dump.wanted())
    cpu_options.on_llvm = [&](const std::string &text) { out.llvm_text += text; };
  if (options.emit == Emit::kAsm || dump.wanted())
    cpu_options.on_asm = [&](const std::string &text) { out.asm_text += text; };
  report(options, "compile", 0, list.size());
  archive::Variant &variant = out.variant;
  variant.target = target.name;
  variant.arch = target.versions[0].triple.substr(0, target.versions[0].triple.find('-'));
  variant.io_alignment = aligned ? 64 : 1;
  if (!list.empty()) {
    CpuResult compiled = compile_cpu(list, cpu_options);
    if (!compiled.module) {
      diagnostics.add({target.text, "", "", 0, "", compiled.error, ""});
      return false;
    }
    report(options, "compile", list.size(), list.size());
    archive::Segment code;
    code.bytes = std::move(compiled.module->elf);
    code.alignment = 4096;
    code.kind = archive::SegmentKind::code;
    code.name = target.name + ".elf";
    model.segments.push_back(std::move(code));
    variant.executables.push_back({archive::CodeFormat::elf, static_cast<uint32_t>(model.segments.size() - 1)});
    size_t symbol = 0;
    for (const KernelVersions &k : cpu.kernels) {
      archive::Kernel kernel = archive_kernel(k);
      for (size_t t = 0; t < target.versions.size(); ++t) {
        if (!k.kept[t])
          continue;
        const CpuModule::Symbol &s = compiled.module->symbols[symbol++];
        archive::CodeVersion v;
        v.entry = s.name;
        v.symbol_offset = s.offset;
        v.code_size = s.code_bytes;
        v.feature_mask = s.feature_mask;
        v.rank = static_cast<uint32_t>(t);
        v.stack_bytes = s.stack_bytes;
        v.scratch_bytes = s.scratch_bytes;
        v.schedule = k.versions[t].description;
        kernel.versions.push_back(std::move(v));
      }
      variant.kernels.push_back(std::move(kernel));
    }
  }
  plan_functions(programs, cpu, kCpuAlignment, weights, variant);
  return true;
}

} // namespace

// Functions that name a state alike share it: one numbering for all.
static void share_states(const CompileOptions &options, std::vector<graph::Function> &functions, Diagnostics &diagnostics) {
  std::vector<graph::State> all;
  for (size_t f = 0; f < functions.size(); ++f) {
    std::vector<int64_t> numbers;
    for (const graph::State &state : functions[f].states) {
      const auto known = std::find_if(all.begin(), all.end(), [&](const graph::State &s) { return s.name == state.name; });
      if (known != all.end() && !(known->type == state.type))
        diagnostics.add({options.models[f].path, "", "", 0, "", "state '" + state.name + "' is " + to_string(state.type) + " here and " +
                             to_string(known->type) + " in another model of the archive",
                         "give both the same range with --input-shape, and the same number of positions a run at most"});
      numbers.push_back(known - all.begin());
      if (known == all.end())
        all.push_back(state);
    }
    for (graph::Op &op : functions[f].graph.ops)
      if (op.code == graph::Opcode::kState)
        op.ints[0] = numbers[static_cast<size_t>(op.ints[0])];
  }
  for (graph::Function &f : functions)
    f.states = all;
}

std::optional<CompileResult> compile(const CompileOptions &options, Diagnostics &diagnostics) {
  Dump dump(options.dump_dir);
  CompileResult result;
  auto text_result = [&](const std::string &text) {
    result.bytes.assign(text.begin(), text.end());
    return result;
  };
  std::vector<graph::Function> functions;
  for (size_t m = 0; m < options.models.size(); ++m) {
    report(options, "import", m, options.models.size());
    ImportOptions import;
    import.path = options.models[m].path;
    import.input_shapes = options.input_shapes;
    import.states = options.states;
    import.entry = options.models[m].entry;
    if (options.probe)
      import.probe = &result.probe;
    auto function = import_onnx(import, diagnostics);
    if (!function)
      continue;
    std::string problem = graph::verify(*function);
    ensure(problem.empty(), "graph of " + import.path + ": " + problem);
    functions.push_back(std::move(*function));
  }
  share_states(options, functions, diagnostics);
  if (options.emit == Emit::kLlvm || options.emit == Emit::kAsm)
    for (const TargetRequest &target : options.targets)
      if (target.versions.empty())
        diagnostics.add({target.text, "", "", 0, "", "this target has no LLVM or assembly form",
                         "--emit=kernels prints its kernels, `ingot inspect --disassemble` an archive's bytecode"});
  for (const TargetRequest &target : options.targets) {
    std::optional<archive::CodeFormat> wanted;
    if (options.emit == Emit::kSpirv)
      wanted = archive::CodeFormat::spirv;
    else if (options.emit == Emit::kMsl)
      wanted = archive::CodeFormat::msl;
    else if (options.emit == Emit::kWgsl)
      wanted = archive::CodeFormat::wgsl;
    else if (options.emit == Emit::kPtx)
      wanted = archive::CodeFormat::ptx;
    if (wanted && (!target.gpu || target.gpu->format != *wanted))
      diagnostics.add({target.text, "", "", 0, "", "this target's code has another form",
                       "--emit=spirv goes with --target=vulkan, msl with metal, wgsl with webgpu, ptx with cuda"});
  }
  if (!diagnostics.empty())
    return std::nullopt;
  if (options.check_only) { // CPUs run whatever could be imported, GPUs what their types can express
    for (const TargetRequest &target : options.targets)
      if (target.gpu) {
        std::vector<fuse::Program> programs;
        for (const graph::Function &f : functions)
          programs.push_back(lower(f, LoweringOptions::gpu(TargetRecord().max_buffers, target.gpu->half, target.gpu->units(), target.gpu->byte_units())));
        archive::ArchiveModel nowhere;
        plan::WeightPool weights;
        if (!compile_gpu_variant(options, target, programs, nowhere, weights, false, operators_of(functions), diagnostics))
          return std::nullopt;
      }
    return result;
  }
  std::string graph_text;
  if (options.emit == Emit::kGraph || dump.wanted())
    for (const graph::Function &f : functions)
      graph_text += graph::print(f);
  dump.write("graph.txt", graph_text);
  if (options.emit == Emit::kGraph)
    return text_result(graph_text);
  if (options.emit == Emit::kReference) {
    report(options, "interpret", 0, 1);
    std::string problem;
    result.reference = run_reference(fuse::fuse(functions[0]), options.inputs, options.jobs, &problem);
    if (problem.empty())
      return result;
    diagnostics.add({options.models[0].path, "", "", 0, "", problem, ""});
    return std::nullopt;
  }

  struct Form {
    LoweringOptions options;
    bool wanted = false;
    std::vector<fuse::Program> programs;
  } native{LoweringOptions::native(), false, {}}, bytecode{LoweringOptions::bytecode(), false, {}}, gpu[2][3][2] = {}; // [half][units][byte_units]
  for (bool half : {false, true})
    for (MatrixUnits units : {MatrixUnits::kNone, MatrixUnits::kSubgroup, MatrixUnits::kWarpgroup})
      for (bool bytes : {false, true})
        gpu[half][static_cast<size_t>(units)][bytes].options = LoweringOptions::gpu(TargetRecord().max_buffers, half, units, bytes);
  auto form_of = [&](const TargetRequest &t) -> Form & {
    if (t.gpu)
      return gpu[t.gpu->half][static_cast<size_t>(t.gpu->units())][t.gpu->byte_units()];
    return t.versions.empty() ? bytecode : native;
  };
  for (const TargetRequest &t : options.targets)
    form_of(t).wanted = true;
  std::string dispatches_text;
  std::vector<Form *> forms = {&native, &bytecode};
  for (auto &of_precision : gpu)
    for (auto &of_units : of_precision)
      for (Form &form : of_units)
        forms.push_back(&form);
  for (Form *form : forms)
    for (size_t f = 0; form->wanted && f < functions.size(); ++f) {
      report(options, "fuse", f, functions.size());
      form->programs.push_back(lower(functions[f], form->options));
      if (options.emit == Emit::kDispatches || dump.wanted())
        dispatches_text += fuse::print(form->programs.back());
    }
  dump.write("dispatches.txt", dispatches_text);
  if (options.emit == Emit::kDispatches)
    return text_result(dispatches_text);

  archive::ArchiveModel model;
  archive::Segment weight_segment;
  weight_segment.name = "weights";
  weight_segment.kind = archive::SegmentKind::weights;
  model.segments.push_back(weight_segment);
  plan::WeightPool weights;
  std::string kernels_text, llvm_text, asm_text, gpu_text;
  for (const TargetRequest &target : options.targets) {
    CpuVariant variant;
    const std::vector<fuse::Program> &programs = form_of(target).programs;
    if (target.gpu) {
      auto compiled = compile_gpu_variant(options, target, programs, model, weights,
                                          options.emit != Emit::kArchive || dump.wanted(), operators_of(functions), diagnostics);
      if (!compiled)
        return std::nullopt;
      kernels_text += compiled->kernels_text;
      gpu_text += compiled->code_text;
      dump.write(target.name + ".txt", compiled->code_text);
      variant.variant = std::move(compiled->variant);
    } else if (target.versions.empty())
      compile_bytecode_variant(options, target, programs, model, weights, dump, variant, kernels_text);
    else if (!compile_cpu_variant(options, target, programs, model, weights, dump, variant, kernels_text, diagnostics))
      return std::nullopt;
    result.kernels += variant.variant.kernels.size();
    llvm_text += variant.llvm_text;
    asm_text += variant.asm_text;
    model.variants.push_back(std::move(variant.variant));
  }
  dump.write("kernels.txt", kernels_text);
  dump.write("kernels.ll", llvm_text);
  dump.write("kernels.s", asm_text);
  if (options.emit == Emit::kKernels)
    return text_result(kernels_text);
  if (options.emit == Emit::kLlvm)
    return text_result(llvm_text);
  if (options.emit == Emit::kAsm)
    return text_result(asm_text);
  if (options.emit == Emit::kSpirv || options.emit == Emit::kMsl || options.emit == Emit::kWgsl ||
      options.emit == Emit::kPtx)
    return text_result(gpu_text);
  std::string program_text;
  if (options.emit == Emit::kProgram || dump.wanted())
    for (const archive::Variant &v : model.variants)
      program_text += print_variant(v);
  dump.write("program.txt", program_text);
  if (options.emit == Emit::kProgram)
    return text_result(program_text);

  report(options, "write", 0, 1);
  model.segments[0].bytes = weights.take();
  model.provenance.compiler = std::string("aotc ") + kCompilerVersion + " (LLVM " + std::to_string(LLVM_VERSION_MAJOR) + "." +
                              std::to_string(LLVM_VERSION_MINOR) + "." + std::to_string(LLVM_VERSION_PATCH) + ")";
  model.provenance.flags = flags_text(options);
  model.provenance.source_name = std::filesystem::path(options.models[0].path).filename().string();
  model.provenance.source_sha256 = sha256_of_file(options.models[0].path);
  for (const archive::Variant &v : model.variants)
    for (const archive::Function &f : v.functions)
      if (!f.host_slots.empty())
        model.required_features |= program::kFeatureHostValues;
  result.bytes = archive::write_archive(model);
  report(options, "write", 1, 1);
  return result;
}

} // namespace ingot::aotc
