// The stages behind the command line: models in, an archive or a stage's text out.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "aotc/archive/program.h"
#include "aotc/base/diagnostics.h"
#include "aotc/driver/reference.h"
#include "aotc/emit/llvm/cpu_target.h"
#include "aotc/fuse/fuse.h"
#include "aotc/fuse/sequence.h"
#include "aotc/import/onnx/import.h"
#include "aotc/plan/plan.h"
#include "aotc/schedule/schedule.h"

namespace ingot::aotc {

inline constexpr const char *kCompilerVersion = "0.1.0";

// GPUs: a baseline that every device has, and what single kernels may demand beyond it.
struct GpuTarget {
  archive::CodeFormat format = archive::CodeFormat::spirv;
  std::vector<TargetRecord> records; // tried in order; a kernel demands the features of those types alone that it uses
  bool half = false;                 // precision f16: memory in f16, arithmetic in f32 (aotc/fuse/half_storage.h)
  std::string architecture;          // cuda: "sm_80"; rocm: "gfx942"; elsewhere empty
  MatrixUnits units() const { return records[0].matrix_units(); }
  bool byte_units() const { return records[0].fragment_i8; }
};

// A target as the user types it: TARGET[:DETAIL][,key=value...].
struct TargetRequest {
  std::string text;               // as typed
  std::string name;               // "llvm-cpu", aliases resolved
  std::string detail;             // after the colon, may be empty
  std::vector<CpuTarget> versions; // llvm-cpu: code versions, lowest rank first
  std::optional<GpuTarget> gpu;    // GPUs
};

struct TargetState {
  std::string name, alias, state; // state: "available", or why not in this build
};

// Every target name of the product, sorted, with its state in this build.
std::vector<TargetState> list_targets();

// nullopt with *error set: unknown name, unavailable in this build, malformed detail. `precision` is that of GPU targets
// that name none themselves.
std::optional<TargetRequest> parse_target(const std::string &text, std::string *error, const std::string &precision = "f32");

enum class Emit : uint8_t { kArchive, kGraph, kDispatches, kKernels, kProgram, kLlvm, kAsm, kSpirv, kMsl, kWgsl, kPtx, kReference };

struct ModelInput {
  std::string path;
  std::string entry = "main";
};

struct Progress {
  std::string stage;              // "import", "fuse", "schedule", "compile", "write"
  size_t done = 0, total = 0;
};

struct CompileOptions {
  std::vector<ModelInput> models;
  std::vector<std::string> input_shapes;
  std::vector<std::string> states; // ImportOptions::states
  std::vector<TargetRequest> targets;
  Emit emit = Emit::kArchive;
  unsigned opt_level = 2;
  unsigned jobs = 1;
  bool check_only = false;
  bool probe = false;             // what every node computes becomes an output too (ImportOptions::probe); one model
  std::vector<NamedTensor> inputs; // kReference
  std::string dump_dir;           // empty = none
  std::string ptxas;              // NVIDIA's assembler: kernels for cuda are there as machine code too; empty = as PTX only
  std::function<void(const Progress &)> progress;
};

struct CompileResult {
  std::vector<uint8_t> bytes;     // the archive, or text
  std::vector<NamedTensor> reference; // kReference: the outputs
  Probe probe;                    // with `probe`
  size_t kernels = 0;
};

// Empty exactly if `diagnostics` got an entry. Throws InternalError for bugs (exit status 3).
std::optional<CompileResult> compile(const CompileOptions &options, Diagnostics &diagnostics);

// ---- pieces that tests and tools use on their own

// One kernel of the archive: a dispatch, deduplicated, with its code versions.
struct KernelVersions {
  const dispatch::Dispatch *dispatch = nullptr;
  std::vector<schedule::Scheduled> versions; // one per CpuTarget, legalised
  std::vector<std::string> symbols;
  std::vector<bool> kept;                    // versions that the archive gets: not those that gain nothing from their features
};

// What suits the schedules of a class of targets.
struct LoweringOptions {
  bool blocks = true;             // convolutions compute on channels in blocks (aotc/layout), products of 8-bit values on
                                  // bytes (aotc/quantise)
  fuse::Options fuse = {.attention = true};
  bool pack = true;               // weights are laid out in panels
  bool prepare = false;           // the session computes from constants and re-lays weights out (plan::prepare_constants)
  bool sequences = true;          // loops of little work become one dispatch
  fuse::SequenceOptions sequence = {};
  bool half = false;              // memory in f16 (aotc/fuse/half_storage.h)
  MatrixUnits units = MatrixUnits::kNone; // for matrix units: channels in blocks and weights in lines of k, which are what their factors are made of
  bool byte_units = false;        // matrix units take factors of 8 bits: products of such values on bytes (aotc/quantise)
  std::vector<int64_t> sizes = {1, 16}; // what free dims are specialised for (aotc/fuse/specialise_sizes.h)
  bool split = false;             // long reductions of few results are two steps (aotc/fuse/split_reductions.h)
  bool join = false;              // maps and the row reductions that read them are one step (aotc/fuse/join_rows.h)
  uint64_t max_constant_bytes = 0; // larger ones are split (aotc/layout/split_constants.h); 0: any

  static LoweringOptions native() { return {}; }
  // Bytecode works on hundreds of lanes, native code on one vector: blocks of 16 channels and tiles in registers serve the
  // latter only.
  static LoweringOptions bytecode() {
    LoweringOptions options;
    options.blocks = options.fuse.attention = options.sequences = false;
    options.sizes.clear();
    return options;
  }
  // Weights keep their natural layout in the archive. 128 MiB is what every device can bind.
  static LoweringOptions gpu(size_t max_buffers, bool half, MatrixUnits units, bool byte_units) {
    LoweringOptions options;
    options.blocks = options.pack = false;
    options.prepare = true;
    options.fuse.max_operands = max_buffers;
    options.sequence = {.local_bytes = 8 << 10, .max_operands = max_buffers}; // the rest of a workgroup's memory is the steps'
    options.half = half;
    options.units = units;
    options.byte_units = byte_units;
    options.sizes = {1, 8, 128};
    options.split = options.join = true;
    options.max_constant_bytes = 128 << 20;
    return options;
  }
};

// fuse, fold, prepack.
fuse::Program lower(const graph::Function &function, const LoweringOptions &options = LoweringOptions::native());

// Schedules and legalises every dispatch of the programs for each target; equal dispatches share a kernel.
// kernel_of[p][d] is the kernel of dispatch d of program p. Parallel over `jobs`; the result does not depend on it.
struct CpuKernels {
  std::vector<KernelVersions> kernels;
  std::vector<std::vector<uint32_t>> kernel_of;
};
CpuKernels schedule_for_records(const std::vector<fuse::Program> &programs, const std::vector<TargetRecord> &records,
                                const std::vector<std::string> &suffixes, unsigned jobs,
                                const std::function<void(const Progress &)> &progress);
CpuKernels schedule_for_cpu(const std::vector<fuse::Program> &programs, const std::vector<CpuTarget> &targets,
                            unsigned jobs, const std::function<void(const Progress &)> &progress);

} // namespace ingot::aotc
