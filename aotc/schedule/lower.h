// Lowering of a dispatch's expressions and body values to kernel ops, shared by the schedules of every class.
//
// A Lowering knows what each symbol is worth at the current point of the kernel: params for free symbols, kernel values
// for bound axes. One axis may be bound to lanes: it is then worth base, base + 1, ... across a vector, and what depends
// on it is computed as vectors, everything else once as scalars. Values are memoised per scope, so each is computed at
// the outermost level at which it was asked for; `hoist` asks for what an inner loop will need.
//
// A value asked for whose reduction is not bound yet is computed on the spot by scalar loops (over vectors where it
// depends on the lane axis).
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "aotc/dispatch/dispatch.h"
#include "aotc/kernel/builder.h"

namespace ingot::aotc::schedule {

inline uint64_t axis_bit(uint32_t axis) { return uint64_t{1} << axis; }

class Lowering {
 public:
  // Declares the dispatch's operands as buffers and its free symbols as params of the builder's kernel.
  // A schedule that rewrote the dispatch passes the symbols of the original, which decide the kernel's params.
  Lowering(kernel::Builder &builder, const dispatch::Dispatch &dispatch)
      : Lowering(builder, dispatch, dispatch.free_symbols()) {}
  // The last `arrays` operands, which only the schedule knows, become private arrays.
  Lowering(kernel::Builder &builder, const dispatch::Dispatch &dispatch, const std::vector<Symbol> &params,
           size_t arrays = 0);

  // Bindings and memoised values made within a scope are forgotten at its end. Open one in each region.
  class Scope {
   public:
    explicit Scope(Lowering &lowering);
    ~Scope();
    Scope(const Scope &) = delete;
    Scope &operator=(const Scope &) = delete;

   private:
    Lowering &lowering_;
    std::vector<kernel::ValueId> values_;
    std::map<std::string, kernel::ValueId> expressions_;
    std::map<Symbol, std::pair<kernel::ValueId, int>> symbols_;
    uint64_t bound_;
    int lane_axis_;
    uint32_t lanes_;
    kernel::ValueId count_;
    uint32_t lane_align_;
    size_t assumed_;
  };

  void bind(uint32_t axis, kernel::ValueId value);
  void bind_symbol(const Symbol &symbol, kernel::ValueId value);
  // The axis is worth base + lane for each of `lanes` lanes. Lanes from `count` on are not to be accessed (kNoValue: all
  // are). A single lane is an ordinary binding. `base` is a multiple of `align`: accesses of memory make use of it.
  void bind_lanes(uint32_t axis, kernel::ValueId base, uint32_t lanes, kernel::ValueId count = kernel::kNoValue, uint32_t align = 1);
  // Within the scope these guards are known to hold.
  void assume(const std::vector<dispatch::Guard> &guards) { assumed_.insert(assumed_.end(), guards.begin(), guards.end()); }
  // Gives a value from outside, e.g. an accumulator that stands for a reduction.
  void set(dispatch::ValueId value, kernel::ValueId what);

  // Scalars or vectors of the current lanes, as the value depends on the lane axis or not.
  kernel::ValueId eval(dispatch::ValueId value);
  kernel::ValueId eval_lanes(dispatch::ValueId value); // splat if need be
  kernel::ValueId widen(kernel::ValueId value, uint32_t lanes); // splats scalars
  kernel::ValueId expr(const Expr &e);                 // an index scalar; e must not vary over lanes
  kernel::ValueId expr_any(const Expr &e);             // index scalar, or vector where e varies over lanes
  kernel::ValueId condition(const Expr &e);            // e as bool
  bool varies(const Expr &e) const;                    // over the lane axis
  bool varies(dispatch::ValueId value) const;

  // Computes every dependence of `value` that the bound axes determine, `value` included.
  void hoist(dispatch::ValueId value);
  // Computes dependences of an expression's gathered indices.
  void hoist(const Expr &e);

  // Opens loops over `axes` in order, hoisting `wanted` at each level, and calls `body` innermost.
  kernel::Values loops(const std::vector<uint32_t> &axes, size_t from, const std::vector<dispatch::ValueId> &wanted,
                       const kernel::Values &init, const std::function<kernel::Values(const kernel::Values &)> &body);

  void store(const dispatch::Store &store);
  // Value of a reduction over nothing, in the reduction's type; for arg reductions the best value's start.
  kernel::ValueId identity(const dispatch::Value &reduce, uint32_t lanes);
  // One step of a non-arg reduction.
  kernel::ValueId combine(const dispatch::Value &reduce, kernel::ValueId a, kernel::ValueId b);

  kernel::Builder &builder() { return b_; }
  const dispatch::Dispatch &dispatch() const { return d_; }
  uint64_t axes_of(dispatch::ValueId value) const { return sets_[value]; }
  uint64_t bound() const { return bound_; }
  uint32_t lanes() const { return lanes_; }
  kernel::ValueId lane_count() const { return count_; }
  kernel::ValueId extent(uint32_t axis) { return expr(d_.axes[axis].extent); }

 private:
  kernel::ValueId leaf_symbol(const Symbol &symbol);
  kernel::ValueId atom(const Atom &a);
  int depth_of(const Atom &a) const;
  int depth_of(const Expr &e) const;
  kernel::ValueId load(const dispatch::Value &value);
  void hoist(dispatch::ValueId value, std::vector<bool> &seen);
  void hoist(const Expr &e, std::vector<bool> &seen);
  // Marks what evaluating the value takes that is not there yet; true where that loads something that varies over the lane axis.
  bool needs(dispatch::ValueId value, std::vector<bool> &seen) const;
  kernel::ValueId reduce(dispatch::ValueId id);
  kernel::ValueId lane_mask(uint32_t lanes); // lane < count, or kNoValue
  uint32_t alignment(const Expr &rest) const; // of an access to rest + lane

  kernel::Builder &b_;
  const dispatch::Dispatch &d_;
  std::vector<uint64_t> sets_;
  std::map<Symbol, uint32_t> axis_numbers_;
  std::vector<kernel::ValueId> values_;                        // memo
  std::map<std::string, kernel::ValueId> expressions_;         // memo by canonical text
  std::map<Symbol, std::pair<kernel::ValueId, int>> symbols_;  // and the depth of the scope that bound it
  uint64_t bound_ = 0;
  int lane_axis_ = -1;
  uint32_t lanes_ = 1;
  kernel::ValueId count_ = kernel::kNoValue;
  uint32_t lane_align_ = 1;
  std::vector<dispatch::Guard> assumed_;
  int depth_ = 0;
  static constexpr int kMostBranches = 16; // within each other
  int branches_ = 0;
};

} // namespace ingot::aotc::schedule
