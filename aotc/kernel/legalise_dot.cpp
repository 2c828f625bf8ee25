// Dot products of short integers that the target does not have: products of the lanes of each position, in i32.
#include "aotc/kernel/legalise_passes.h"

namespace ingot::aotc::kernel {
namespace {

class Dots : public Rewriter {
 public:
  Dots(const Kernel &kernel, const TargetRecord &target) : Rewriter(kernel), target_(target) {}

 protected:
  Values rewrite(const Op &op) override {
    if (!is_dot(op.code) || has_dot(target_, op.code, old_type(op.results[0]).lanes))
      return copy(op);
    Type sums = old_type(op.results[0]);
    ValueId sum = one(op.operands[2]);
    for (uint32_t j = 0; j < dot_terms(op.code); ++j) {
      ValueId a = position(one(op.operands[0]), j, dot_terms(op.code), sums.lanes);
      ValueId b = position(one(op.operands[1]), j, dot_terms(op.code), sums.lanes);
      a = op.code == Opcode::kDot4 ? b_.convert_u(sums, a) : b_.convert(sums, a);
      sum = b_.add(sum, b_.mul(a, b_.convert(sums, b)));
    }
    return {sum};
  }

 private:
  // Element j of every lane's `terms`.
  ValueId position(ValueId x, uint32_t j, uint32_t terms, uint32_t lanes) {
    if (b_.type_of(x).lanes == terms)
      return b_.splat(b_.extract(x, j), lanes);
    std::vector<int64_t> picks;
    for (uint32_t i = 0; i < lanes; ++i)
      picks.push_back(i * terms + j);
    return b_.shuffle(x, x, picks);
  }

  const TargetRecord &target_;
};

} // namespace

void expand_dots(Kernel &kernel, const TargetRecord &target) {
  if (uses(kernel.body, Opcode::kDot4) || uses(kernel.body, Opcode::kDot2))
    kernel = Dots(kernel, target).run();
}

} // namespace ingot::aotc::kernel
