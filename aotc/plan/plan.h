// The planner: fused steps -> an archive function. Memory is laid out here, expressions become table nodes, steps become
// command words.
//
// Memory plan: a transient lives from the step that writes it to the last that reads it. Those that live at the same time
// are ordered, lower to higher, by packing them at representative dims (first fit over several orders, the best kept);
// the order is then kept for all dims: an offset is the max, over the conflicting transients below, of their ends. With
// fixed dims the offsets are constants. What depends on host scalars lies in other arenas, which grow while a run finds the
// scalars out: one for each set of scalars, so that its size is known as soon as the first of its tensors is.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "aotc/archive/program.h"
#include "aotc/fuse/fuse.h"
#include "aotc/schedule/schedule.h"

namespace ingot::aotc::plan {

// All constants of an archive in one segment, equal ones once.
class WeightPool {
 public:
  // Byte offset of the constant in the segment, 64-byte aligned.
  uint64_t add(const std::vector<uint8_t> &bytes);
  std::vector<uint8_t> take() { return std::move(bytes_); }
  bool empty() const { return bytes_.empty(); }

 private:
  std::vector<uint8_t> bytes_;
  std::multimap<uint64_t, std::pair<uint64_t, uint64_t>> known_; // content hash -> offset, size
};

// What the planner must know of each dispatch of the program (same numbers).
struct DispatchInfo {
  uint32_t kernel = 0; // in the variant's kernels
  std::array<Expr, 3> grid;
  std::optional<std::vector<Expr>> params; // schedule::Scheduled
  schedule::Cost cost;
};

struct MemoryReport {
  // At the representative dims: bytes of the arenas, and the largest sum of live bytes at any step.
  int64_t arena_bytes = 0, live_bytes = 0;
};

archive::Function plan_function(const fuse::Program &program, const std::vector<DispatchInfo> &dispatches,
                                uint32_t weight_segment, uint32_t alignment, WeightPool &weights,
                                MemoryReport *report = nullptr);

// Evaluates dispatches whose inputs are all constants (with the reference interpreter) and turns their results into
// constants; steps and tensors that become useless go.
// With `prepare`, those whose result is larger than what it is made of stay for prepare_constants.
void fold_constants(fuse::Program &program, bool prepare = false);

// Re-lays constants out for CPU code (schedule::prepack_simd) and evaluates the new layouts.
void prepack(fuse::Program &program);

// For GPUs: dispatches of constants alone, and the layouts that products read weights in (schedule::prepack_simt), become
// steps of the program's prepare section.
void prepare_constants(fuse::Program &program, MatrixUnits units = MatrixUnits::kNone);

// The prepare sections of a variant's programs as one program; numbers the prepared tensors of all, equal ones alike.
fuse::Program join_prepare(std::vector<fuse::Program> &programs);

} // namespace ingot::aotc::plan
