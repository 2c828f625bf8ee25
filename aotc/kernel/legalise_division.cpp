// Division of f32 by constants on GPUs, where an exact division is a subroutine with a slow path.
//
//   q = x y, with y = 1/c rounded      r = x - c q, exact with fma      x / c = q + r y, rounded
//
// This is the correctly rounded quotient (P. Markstein, "Computation of elementary functions on the IBM RISC System/6000
// processor", 1990) where neither q nor r leaves the normal numbers. Where they would, and for infinities, NaNs and zeros, it is
// q, which is within an ulp. A power of two has an exact reciprocal.
#include <cmath>
#include <vector>

#include "aotc/kernel/formula.h"
#include "aotc/kernel/legalise_passes.h"

namespace ingot::aotc::kernel {
namespace {

constexpr double kLeastDivisor = 0x1p-20, kLargestDivisor = 0x1p20;
constexpr double kLeastQuotient = 0x1p-80, kLargestQuotient = 0x1p126; // between which every step is exact, or rounded once

class Divisions : public Rewriter {
 public:
  explicit Divisions(const Kernel &kernel) : Rewriter(kernel), constants_(kernel.types.size()) { scan(kernel.body); }
  bool needed() const { return needed_; }

 protected:
  Values rewrite(const Op &op) override {
    const double c = divisor(op);
    if (c == 0)
      return copy(op);
    const Type type = old_type(op.results[0]);
    auto constant = [&](double value) { return V{&b_, b_.constant_float(type, value)}; };
    const double reciprocal = static_cast<float>(1 / c);
    const V x{&b_, one(op.operands[0])}, y = constant(reciprocal), q = x * y;
    int exponent = 0;
    if (std::frexp(std::fabs(c), &exponent) == 0.5)
      return {q.id};
    auto fma = [&](V a, V b, V to) { return V{&b_, b_.ternary(Opcode::kFma, a.id, b.id, to.id)}; };
    const V better = fma(fma(constant(-c), q, x), y, q), magnitude = abs(q);
    return {select((magnitude >= constant(kLeastQuotient)) & (magnitude < constant(kLargestQuotient)), better, q).id};
  }

 private:
  // Of a division that this is for; else 0.
  double divisor(const Op &op) const {
    if (op.code != Opcode::kDiv || in_.types[op.results[0]].scalar != Scalar::kF32)
      return 0;
    const double c = constants_[op.operands[1]];
    return std::fabs(c) >= kLeastDivisor && std::fabs(c) <= kLargestDivisor ? c : 0;
  }
  void scan(const Region &region) {
    for (const Op &op : region.ops) {
      if (op.code == Opcode::kConst && is_float(in_.types[op.results[0]].scalar))
        constants_[op.results[0]] = op.fimm;
      else if (op.code == Opcode::kSplat)
        constants_[op.results[0]] = constants_[op.operands[0]];
      needed_ = needed_ || divisor(op) != 0;
      for (const Region &part : op.regions)
        scan(part);
    }
  }

  std::vector<double> constants_; // by value of the old kernel; 0: none
  bool needed_ = false;
};

} // namespace

void expand_divisions(Kernel &kernel, const TargetRecord &target) {
  if (target.kernel_class != Class::kSimt || !target.has_fma)
    return;
  if (Divisions pass(kernel); pass.needed())
    kernel = pass.run();
}

} // namespace ingot::aotc::kernel
