// Schedules: dispatch -> kernel, per target record.
//
// A schedule is a function of the dispatch, the target record and printable parameters. The naive one covers every
// dispatch; tuned ones match a form (contraction, convolution, row reduction, elementwise) and are tested against it.
// Rules that let one program serve every code version of a class:
//   * the grid and the bindings depend on the dispatch alone, never on the record;
//   * kernel params are Dispatch::free_symbols() in order, type index;
//   * buffers are Dispatch::operands in order.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "aotc/dispatch/dispatch.h"
#include "aotc/kernel/target.h"

namespace ingot::aotc::schedule {

struct Scheduled {
  kernel::Kernel kernel;
  std::array<Expr, 3> grid;        // workgroups; 0 in any dimension is legal and runs nothing
  std::optional<std::vector<Expr>> params; // of the kernel, after move_to_params; else the dispatch's free symbols
  std::string description;         // "contract{mr=6,nr=16}", printed by --emit=kernels and inspect
};

// Scalar code, one group per block of rows; exact order of reductions: ascending in each axis.
Scheduled schedule_naive(const dispatch::Dispatch &dispatch, const TargetRecord &record);

// What the kernel computes from its params alone, each thread again, becomes params, which the host computes once for a size: extents,
// strides, and what divides, the reciprocals of which are params too. Params that are not used any more go.
void move_to_params(Scheduled &scheduled, const dispatch::Dispatch &dispatch);

// The best schedule for the record: tuned where one matches, else naive.
Scheduled schedule(const dispatch::Dispatch &dispatch, const TargetRecord &record);

// Every tuned schedule that matches, and the naive one: what tests compare.
std::vector<Scheduled> all_schedules(const dispatch::Dispatch &dispatch, const TargetRecord &record);

// Chooses the layout of constant operands for CPU code (shared by all code versions) and rewrites the dispatch's loads to
// it. Each result re-lays one operand out: `pack` has that operand as its one input and the new buffer as its one output.
struct Repack {
  uint32_t operand = 0;
  dispatch::Dispatch pack;
};
std::vector<Repack> prepack_simd(dispatch::Dispatch &dispatch);
// The same for GPU code, of operands marked as constant.
std::vector<Repack> prepack_simt(dispatch::Dispatch &dispatch, MatrixUnits units = MatrixUnits::kNone);

// Cost of one run: floating-point operations (a multiply-add counts 2) and bytes of distinct memory touched.
struct Cost {
  Expr flops, bytes;
};
Cost cost(const dispatch::Dispatch &dispatch);

} // namespace ingot::aotc::schedule
