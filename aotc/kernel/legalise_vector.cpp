// Vectors of more lanes than the target has, as several of at most that many: all ops lane by lane, memory in parts,
// reductions in the same order as of the whole vector.
#include <algorithm>

#include "aotc/kernel/formula.h"
#include "aotc/kernel/legalise_passes.h"

namespace ingot::aotc::kernel {
namespace {

class Split : public Rewriter {
 public:
  Split(const Kernel &kernel, uint32_t most) : Rewriter(kernel), most_(most) {}

 protected:
  std::vector<Type> pieces(Type type) override {
    std::vector<Type> parts;
    for (uint32_t lane = 0; lane < type.lanes; lane += most_)
      parts.push_back(type.with_lanes(std::min<uint32_t>(most_, type.lanes - lane)));
    return parts;
  }

  Values rewrite(const Op &op) override {
    Type type = op.results.empty() ? Type() : old_type(op.results[0]);
    bool wide = type.lanes > most_;
    for (ValueId operand : op.operands)
      wide |= old_type(operand).lanes > most_;
    if (!wide)
      return copy(op);
    switch (op.code) {
    case Opcode::kLaneIota: {
      Values parts;
      for (size_t k = 0; k < pieces(type).size(); ++k) {
        Type part = pieces(type)[k];
        ValueId lanes = part.lanes > 1 ? b_.lane_iota(part) : b_.zero(part);
        parts.push_back(b_.add(lanes, b_.constant(part, static_cast<int64_t>(k * most_))));
      }
      return parts;
    }
    case Opcode::kSplat: {
      Values parts;
      for (Type part : pieces(type))
        parts.push_back(b_.splat(one(op.operands[0]), part.lanes));
      return parts;
    }
    case Opcode::kExtract: return {lane(op.operands[0], static_cast<uint32_t>(op.imm))};
    case Opcode::kInsert: {
      Values parts = all(op.operands[0]);
      uint32_t at = static_cast<uint32_t>(op.imm);
      parts[at / most_] = b_.insert(parts[at / most_], one(op.operands[1]), at % most_);
      return parts;
    }
    case Opcode::kShuffle: return shuffle(op, type);
    case Opcode::kReduceAdd:
    case Opcode::kReduceMul:
    case Opcode::kReduceMin:
    case Opcode::kReduceMax: {
      static const Opcode steps[] = {Opcode::kAdd, Opcode::kMul, Opcode::kMin, Opcode::kMax};
      Opcode step = steps[static_cast<int>(op.code) - static_cast<int>(Opcode::kReduceAdd)];
      Values parts = all(op.operands[0]); // a power of two of equal ones
      for (; parts.size() > 1; parts.resize(parts.size() / 2))
        for (size_t k = 0; k < parts.size() / 2; ++k)
          parts[k] = b_.binary(step, parts[k], parts[k + parts.size() / 2]);
      return {b_.reduce(op.code, parts[0])};
    }
    default: break;
    }
    if (is_copy(op.code) || is_fragment(op.code))
      return copy(op);
    if (is_memory(op.code))
      return memory(op, type);
    return lanewise(op, type);
  }

 private:
  ValueId lane(ValueId old, uint32_t at) { return b_.extract(all(old)[at / most_], at % most_); }

  // Part k of an operand: of a vector its part, of a scalar (a select's condition) itself.
  ValueId part(ValueId old, size_t k) const { return all(old).size() == 1 && old_type(old).lanes == 1 ? all(old)[0] : all(old)[k]; }

  Values lanewise(const Op &op, Type type) {
    Values parts;
    std::vector<Type> types = pieces(type);
    for (size_t k = 0; k < types.size(); ++k) {
      Op now = op;
      for (size_t i = 0; i < op.operands.size(); ++i)
        now.operands[i] = part(op.operands[i], k);
      parts.push_back(b_.append(std::move(now), {types[k]})[0]);
    }
    return parts;
  }

  Values shuffle(const Op &op, Type type) {
    uint32_t lanes = old_type(op.operands[0]).lanes;
    Values parts;
    size_t first = 0;
    for (Type part_type : pieces(type)) {
      // One shuffle where the lanes come from at most two parts of equal width, else lane by lane.
      std::vector<std::pair<ValueId, uint32_t>> sources;
      for (uint32_t k = 0; k < part_type.lanes; ++k) {
        uint32_t at = static_cast<uint32_t>(op.imms[first + k]);
        ValueId operand = op.operands[at < lanes ? 0 : 1];
        at %= lanes;
        sources.push_back({all(operand)[at / most_], at % most_});
      }
      ValueId a = sources[0].first, b = a;
      bool simple = true;
      for (auto &source : sources) {
        if (source.first != a && b == a)
          b = source.first;
        simple &= source.first == a || source.first == b;
      }
      simple &= b_.type_of(a) == b_.type_of(b);
      ValueId result;
      if (simple && part_type.lanes > 1) {
        std::vector<int64_t> picks;
        for (auto &source : sources)
          picks.push_back(source.first == a ? source.second : b_.type_of(a).lanes + source.second);
        result = b_.shuffle(a, b, picks);
      } else if (part_type.lanes == 1) {
        result = b_.extract(sources[0].first, sources[0].second);
      } else {
        result = b_.zero(part_type);
        for (uint32_t k = 0; k < part_type.lanes; ++k)
          result = b_.insert(result, b_.extract(sources[k].first, sources[k].second), k);
      }
      parts.push_back(result);
      first += part_type.lanes;
    }
    return parts;
  }

  Values memory(const Op &op, Type type) {
    size_t value = op.code == Opcode::kStoreIf ? 2 : 1;
    std::vector<Type> types = pieces(op.results.empty() ? old_type(op.operands[value]) : type);
    bool predicated = op.code == Opcode::kLoadIf || op.code == Opcode::kStoreIf;
    bool indexed = op.code == Opcode::kGather || op.code == Opcode::kScatter;
    size_t index = predicated ? 1 : 0;
    size_t count = op.code == Opcode::kLoadPart ? 1 : op.code == Opcode::kStorePart ? 2 : SIZE_MAX;
    Values parts;
    uint32_t first = 0;
    for (size_t k = 0; k < types.size(); ++k) {
      Op now = op;
      now.align = std::min(op.align, most_ & -most_); // the parts' distance in elements
      for (size_t i = 0; i < op.operands.size(); ++i) {
        now.operands[i] = part(op.operands[i], k);
        if (i == index && !indexed)
          now.operands[i] = b_.add(now.operands[i], b_.index(first));
        if (i == count)
          now.operands[i] = b_.sub(now.operands[i], b_.index(first));
      }
      if (op.results.empty())
        b_.append(std::move(now), {});
      else
        parts.push_back(b_.append(std::move(now), {types[k]})[0]);
      first += types[k].lanes;
    }
    return parts;
  }

  uint32_t most_;
};

} // namespace

void split_vectors(Kernel &kernel, const TargetRecord &target) {
  uint32_t most = target.max_vector_lanes;
  if (most == 0)
    return;
  for (Type type : kernel.types)
    if (type.lanes > most) {
      kernel = Split(kernel, most).run();
      return;
    }
}

} // namespace ingot::aotc::kernel
