// Rewriter: copies a kernel op by op through a Builder, giving passes the chance to put something else in an op's
// place. A value of the old kernel becomes one or several values of the new one (a wide vector its pieces, an i64 its
// two halves); loops, ifs and whiles carry them all.
#pragma once

#include <vector>

#include "aotc/kernel/builder.h"

namespace ingot::aotc::kernel {

class Rewriter {
 public:
  explicit Rewriter(const Kernel &in);
  virtual ~Rewriter() = default;
  Kernel run();

 protected:
  // The types of the values that stand for one of type `type`.
  virtual std::vector<Type> pieces(Type type) { return {type}; }
  // The values that stand for the op's results, in order; the default is a copy. Never called for control ops.
  virtual Values rewrite(const Op &op) { return copy(op); }

  // The op as it is, on the new values of its operands, each of which has to be one piece.
  Values copy(const Op &op);
  const Values &all(ValueId old) const { return map_[old]; }
  ValueId one(ValueId old) const;
  Type old_type(ValueId old) const { return in_.types[old]; }

  const Kernel &in_;
  Kernel out_; // name, kind, local size, memories and params are copied by the constructor
  Builder b_;

 private:
  void region(const Region &region);
  Values gather(const Values &old, size_t first = 0) const;
  void scatter(const Values &old, const Values &now, size_t first_old = 0, size_t first_now = 0);
  void control(const Op &op);
  std::vector<Values> map_;
};

// Drops ops without side effects whose results are not used, loops and ifs included.
void remove_dead_ops(Kernel &kernel);

} // namespace ingot::aotc::kernel
