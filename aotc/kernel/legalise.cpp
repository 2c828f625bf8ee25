// legalise(): the order of the passes, and the smallest of them. See legalise_passes.h.
#include "aotc/kernel/legalise.h"

#include "aotc/base/error.h"
#include "aotc/kernel/formula.h"
#include "aotc/kernel/legalise_passes.h"
#include "aotc/kernel/math_library.h"
#include "aotc/kernel/verifier.h"

namespace ingot::aotc::kernel {
namespace {

// x - trunc(x / y) y without rounding: with the mantissas as integers, r = mx rem my, then for the difference of the
// exponents, some bits at a time, r = (r << bits) rem my.
class Remainders : public Rewriter {
 public:
  using Rewriter::Rewriter;

 protected:
  Values rewrite(const Op &op) override {
    if (op.code != Opcode::kRem || !is_float(old_type(op.results[0]).scalar))
      return copy(op);
    Type type = old_type(op.results[0]);
    Type work = type.scalar == Scalar::kF64 ? type : type.with_scalar(Scalar::kF32);
    V x{&b_, b_.convert(work, one(op.operands[0]))}, y{&b_, b_.convert(work, one(op.operands[1]))};
    return {b_.convert(type, remainder(x, y, work).id)};
  }

 private:
  V remainder(V x, V y, Type type) {
    bool wide = type.scalar == Scalar::kF64;
    Type ints = type.with_scalar(wide ? Scalar::kI64 : Scalar::kI32);
    int64_t mantissa = wide ? 52 : 23, exponents = wide ? 0x7ff : 0xff, chunk = wide ? 11 : 8, bias = wide ? 1023 : 127;
    auto i = [&](int64_t value) { return V{&b_, b_.constant(ints, value)}; };
    auto c = [&](double value) { return V{&b_, b_.constant_float(type, value)}; };
    auto bits = [&](V v) { return V{&b_, b_.bitcast(ints, v.id)}; };
    auto from_bits = [&](V v) { return V{&b_, b_.bitcast(type, v.id)}; };
    auto rem_u = [&](V a, V b) { return a.binary(Opcode::kRemU, b); };
    V exponent_x = shr_u(bits(x), i(mantissa)) & i(exponents), exponent_y = shr_u(bits(y), i(mantissa)) & i(exponents);
    auto significand = [&](V v, V exponent) {
      V fraction = bits(v) & i((int64_t{1} << mantissa) - 1);
      return select(exponent == i(0), fraction, fraction | i(int64_t{1} << mantissa));
    };
    V mx = significand(x, exponent_x), my = significand(y, exponent_y);
    exponent_x = max(exponent_x, i(1));
    exponent_y = max(exponent_y, i(1));
    V n = exponent_x - exponent_y;
    Values last = b_.while_loop(
        {rem_u(mx, my).id, n.id},
        [&](const Values &v) {
          Type flags = ints.with_lanes(1);
          ValueId most = v[1];
          if (type.lanes > 1) {
            // Lanes need not be a power of two, so no reduction here.
            most = b_.extract(v[1], 0);
            for (uint32_t k = 1; k < type.lanes; ++k)
              most = b_.max(most, b_.extract(v[1], k));
          }
          return std::pair(b_.compare(Opcode::kGt, most, b_.constant(flags, 0)), v);
        },
        [&](const Values &v) {
          V r{&b_, v[0]}, left{&b_, v[1]};
          V step = min(max(left, i(0)), i(chunk));
          return Values{rem_u(shl(r, step), my).id, (left - step).id};
        });
    V r{&b_, b_.convert(type, last[0])};
    // r 2^(exponent - bias - mantissa), in two exact steps, since the whole factor may be too small for a float.
    V power = exponent_y - i(bias + mantissa), half = shr(power, i(1));
    V value = r * from_bits(shl(half + i(bias), i(mantissa))) * from_bits(shl(power - half + i(bias), i(mantissa)));
    V result = select(n < i(0), x, value.binary(Opcode::kCopySign, x));
    V infinite = V{&b_, b_.unary(Opcode::kIsInf, y.id)};
    result = select(infinite, x, result);
    V bad = V{&b_, b_.unary(Opcode::kIsNan, x.id)} | V{&b_, b_.unary(Opcode::kIsInf, x.id)} |
            V{&b_, b_.unary(Opcode::kIsNan, y.id)} | (y == c(0));
    return select(bad, c(__builtin_nan("")), result);
  }
};

template <class Test> bool any_op(const Region &region, Test test) {
  for (const Op &op : region.ops) {
    if (test(op))
      return true;
    for (const Region &part : op.regions)
      if (any_op(part, test))
        return true;
  }
  return false;
}

void refuse_missing(const Kernel &kernel, const TargetRecord &target) {
  auto uses = [&](Scalar scalar) {
    for (const Memory &memory : kernel.memories)
      if (memory.type == scalar)
        return true;
    return any_op(kernel.body, [&](const Op &op) {
      for (ValueId id : op.results)
        if (kernel.types[id].scalar == scalar)
          return true;
      return false;
    });
  };
  if (!target.f64 && uses(Scalar::kF64))
    throw Unsupported{"it uses f64, which the target does not have: compile the model in f32"};
  if (!target.has_fma && any_op(kernel.body, [](const Op &op) { return op.code == Opcode::kFma; }))
    throw Unsupported{"it uses fma, which the target does not have: the schedule should use mad"};
  if (!target.subgroup_ops && any_op(kernel.body, [](const Op &op) { return is_subgroup(op.code); }))
    throw Unsupported{"it uses subgroup ops, which the target does not have: choose another schedule"};
}

} // namespace

void expand_remainders(Kernel &kernel) {
  auto is_remainder = [&](const Op &op) {
    return op.code == Opcode::kRem && is_float(kernel.types[op.results[0]].scalar);
  };
  if (any_op(kernel.body, is_remainder))
    kernel = Remainders(kernel).run();
}

std::string legalise(Kernel &kernel, const TargetRecord &target) {
  std::string name = kernel.name;
  if (std::string problem = verify(kernel); !problem.empty())
    throw InternalError("legalise: " + problem);
  try {
    refuse_missing(kernel, target);
    expand_math(kernel);
    expand_remainders(kernel);
    expand_divisions(kernel, target);
    expand_dots(kernel, target);
    expand_fragments(kernel, target);
    lower_half(kernel, target);
    lower_small_integers(kernel, target);
    lower_i64(kernel, target);
    split_vectors(kernel, target);
    remove_dead_ops(kernel);
  } catch (const Unsupported &unsupported) {
    return "kernel " + name + " for " + target.name + ": " + unsupported.message;
  }
  if (std::string problem = verify(kernel); !problem.empty())
    throw InternalError("legalise: what it made is illegal: " + problem);
  return verify_for(kernel, target);
}

} // namespace ingot::aotc::kernel
