// Fragments without a matrix unit: the layout of the reference interpreter, words exchanged by shuffles, products and sums
// by scalar code. Copies under way where they are no instruction: loads and stores on the spot.
//
//   %4 = fragment_mma f16, 0, %a, %b, %c        becomes, for each of the thread's four sums and each word of k,
//   %x = subgroup_shuffle (word of a), (row * 4 + word)      %y = subgroup_shuffle (word of b), (column * 4 + word)
//   sum = mad (low half of %x), (low half of %y), sum        and the same for the high halves
#include "aotc/kernel/fragment.h"
#include "aotc/kernel/legalise_passes.h"

namespace ingot::aotc::kernel {
namespace {

class Fragments : public Rewriter {
 public:
  using Rewriter::Rewriter;

 protected:
  Values rewrite(const Op &op) override {
    switch (op.code) {
    case Opcode::kFragmentLoad: return {load(op)};
    case Opcode::kFragmentMma: return {mma(op)};
    case Opcode::kFragmentPack: return {pack(op)};
    case Opcode::kFragmentRowAdd:
    case Opcode::kFragmentRowMax: return {rows(op)};
    case Opcode::kFragmentRow: return {four([&](uint32_t i) { return b_.add(quad(), b_.index(i / 2 * 8)); }, Scalar::kIndex)};
    case Opcode::kFragmentColumn:
      return {four([&](uint32_t i) { return b_.add(b_.mul(place(), b_.index(2)), b_.index(i % 2)); }, Scalar::kIndex)};
    default: return copy(op);
    }
  }

 private:
  ValueId lane() { return b_.rem(b_.local_id(0), b_.index(kSubgroup)); }
  ValueId quad() { return b_.div(lane(), b_.index(4)); }  // row within eight
  ValueId place() { return b_.rem(lane(), b_.index(4)); } // word within four
  ValueId integer(int64_t value) { return b_.constant(Scalar::kI32, value); }

  template <class Part> ValueId four(const Part &part, Scalar scalar) {
    ValueId out = b_.zero(Type(scalar, 4));
    for (uint32_t i = 0; i < 4; ++i)
      out = b_.insert(out, part(i), i);
    return out;
  }

  ValueId load(const Op &op) {
    const Scalar scalar = in_.memories[op.memory].type;
    const uint32_t bits = bit_width(scalar), per_word = 32 / bits;
    const auto role = static_cast<FragmentRole>(op.imm);
    ValueId index = one(op.operands[0]), pitch = one(op.operands[1]);
    return four(
        [&](uint32_t w) {
          ValueId word = kNoValue;
          const bool a = role == FragmentRole::kA;
          ValueId line = b_.add(quad(), b_.index((a ? w % 2 : w / 2) * 8));
          for (uint32_t e = 0; e < per_word; ++e) {
            ValueId k = role == FragmentRole::kBPairs ? b_.add(b_.mul(place(), b_.index(2)), b_.index(w % 2))
                                                      : b_.add(b_.mul(place(), b_.index(per_word)), b_.index((a ? w / 2 : w % 2) * 4 * per_word + e));
            ValueId at = role == FragmentRole::kBRows || role == FragmentRole::kBPairs ? b_.add(b_.mul(k, pitch), line) : b_.add(b_.mul(line, pitch), k);
            ValueId element = b_.load(op.memory, b_.add(index, at));
            if (is_float(scalar))
              element = b_.bitcast(bits == 16 ? Scalar::kI16 : Scalar::kI32, element);
            element = b_.convert_u(Scalar::kI32, element);
            word = e == 0 ? element : b_.binary(Opcode::kOr, word, b_.binary(Opcode::kShl, element, integer(e * bits)));
          }
          return word;
        },
        Scalar::kI32);
  }

  ValueId element(Scalar scalar, ValueId word, uint32_t e, bool is_unsigned) {
    if (scalar == Scalar::kF32)
      return b_.bitcast(Scalar::kF32, b_.binary(Opcode::kAnd, word, integer(~0x1fff)));
    ValueId low = e ? b_.binary(Opcode::kShrU, word, integer(e * bit_width(scalar))) : word;
    if (scalar == Scalar::kI8)
      return is_unsigned ? b_.binary(Opcode::kAnd, low, integer(255)) : b_.convert(Scalar::kI32, b_.convert(Scalar::kI8, low));
    return b_.convert(Scalar::kF32, b_.bitcast(scalar, b_.convert(Scalar::kI16, low)));
  }

  ValueId mma(const Op &op) {
    const auto scalar = static_cast<Scalar>(op.imm);
    ValueId a = one(op.operands[0]), b = one(op.operands[1]), sums = one(op.operands[2]);
    auto shuffled = [&](ValueId vector, uint32_t word, ValueId line, uint32_t k) {
      ValueId from = b_.add(b_.mul(line, b_.index(4)), b_.index(k % 4));
      return b_.subgroup_shuffle(b_.extract(vector, word), b_.convert(Scalar::kI32, from));
    };
    Values sum;
    for (uint32_t i = 0; i < 4; ++i)
      sum.push_back(b_.extract(sums, i));
    for (uint32_t k = 0; k < 8; ++k) {
      ValueId x[2], y[2];
      for (uint32_t i = 0; i < 2; ++i) {
        x[i] = shuffled(a, i + k / 4 * 2, quad(), k);
        y[i] = shuffled(b, static_cast<uint32_t>(op.imm2 & kHalfOfB) * 2 + k / 4, b_.add(b_.mul(place(), b_.index(2)), b_.index(i)), k);
      }
      for (uint32_t e = 0; e < 32 / bit_width(scalar); ++e)
        for (uint32_t i = 0; i < 4; ++i)
          sum[i] = b_.mad(element(scalar, x[i / 2], e, op.imm2 & kUnsignedA), element(scalar, y[i % 2], e, op.imm2 & kUnsignedB), sum[i]);
    }
    return four([&](uint32_t i) { return sum[i]; }, b_.type_of(sums).scalar);
  }

  ValueId pack(const Op &op) {
    const auto scalar = static_cast<Scalar>(op.imm);
    return four(
        [&](uint32_t w) {
          if (scalar == Scalar::kF32)
            return b_.bitcast(Scalar::kI32, b_.extract(one(op.operands[0]), w / 2 + w % 2 * 2));
          auto half = [&](uint32_t e) {
            ValueId sum = b_.extract(one(op.operands[w / 2]), w % 2 * 2 + e);
            return b_.convert_u(Scalar::kI32, b_.bitcast(Scalar::kI16, b_.convert(scalar, sum)));
          };
          return b_.binary(Opcode::kOr, half(0), b_.binary(Opcode::kShl, half(1), integer(16)));
        },
        Scalar::kI32);
  }

  ValueId rows(const Op &op) {
    const Opcode code = op.code == Opcode::kFragmentRowAdd ? Opcode::kAdd : Opcode::kMax;
    ValueId sums = one(op.operands[0]), own = b_.convert(Scalar::kI32, lane());
    ValueId all[2];
    for (uint32_t half = 0; half < 2; ++half) {
      ValueId v = b_.binary(code, b_.extract(sums, half * 2), b_.extract(sums, half * 2 + 1));
      for (int64_t apart : {1, 2})
        v = b_.binary(code, v, b_.subgroup_shuffle(v, b_.binary(Opcode::kXor, own, integer(apart))));
      all[half] = v;
    }
    return four([&](uint32_t i) { return all[i / 2]; }, Scalar::kF32);
  }
};

class Copies : public Rewriter {
 public:
  using Rewriter::Rewriter;

 protected:
  Values rewrite(const Op &op) override {
    if (op.code == Opcode::kCopyCommit || op.code == Opcode::kCopyWait)
      return {};
    if (op.code != Opcode::kCopyAsync)
      return copy(op);
    Type type(in_.memories[op.memory].type, static_cast<uint32_t>(op.imm));
    ValueId value = b_.load_if(static_cast<uint32_t>(op.imm2), one(op.operands[2]), one(op.operands[1]), b_.zero(type), op.align);
    b_.store(op.memory, one(op.operands[0]), value, op.align);
    return {};
  }
};

bool all_of_unit(const Region &region, const TargetRecord &target) {
  for (const Op &op : region.ops) {
    if ((op.code == Opcode::kFragmentMma || op.code == Opcode::kFragmentPack) && !has_fragment(target, static_cast<Scalar>(op.imm)))
      return false;
    for (const Region &part : op.regions)
      if (!all_of_unit(part, target))
        return false;
  }
  return true;
}

bool any_fragment(const Region &region) {
  return uses(region, Opcode::kFragmentLoad) || uses(region, Opcode::kFragmentMma) || uses(region, Opcode::kFragmentRow) ||
         uses(region, Opcode::kFragmentColumn) || uses(region, Opcode::kFragmentPack) || uses(region, Opcode::kFragmentRowAdd) ||
         uses(region, Opcode::kFragmentRowMax);
}

} // namespace

void expand_fragments(Kernel &kernel, const TargetRecord &target) {
  auto any_copy = [&] {
    return uses(kernel.body, Opcode::kCopyAsync) || uses(kernel.body, Opcode::kCopyCommit) || uses(kernel.body, Opcode::kCopyWait);
  };
  if (!target.async_copy && any_copy())
    kernel = Copies(kernel).run();
  if (!target.warpgroup_mma && (uses(kernel.body, Opcode::kWarpgroupMma) || uses(kernel.body, Opcode::kWarpgroupWait)))
    throw Unsupported{"it uses matrix units of warpgroups, which the target has not: choose another schedule"};
  if (!any_fragment(kernel.body))
    return;
  if (kernel.fragment == target.fragment && target.subgroup_size == kernel.fragment.threads && all_of_unit(kernel.body, target))
    return;
  if (kernel.fragment != FragmentShape() || target.subgroup_size != kSubgroup || !target.subgroup_ops)
    throw Unsupported{"it uses fragments that the target has not, or of another shape: choose another schedule"};
  kernel = Fragments(kernel).run();
}

} // namespace ingot::aotc::kernel
