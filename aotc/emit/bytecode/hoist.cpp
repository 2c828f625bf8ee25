// See hoist.h. One walk that rebuilds the regions: an op without effects goes to the outermost place where its
// operands are there, but out of an `if` only together with a loop around it. Loops of a few known turns are
// unrolled, which leaves constants for the index arithmetic to fold.
#include "aotc/emit/bytecode/hoist.h"

#include <bit>
#include <map>
#include <optional>
#include <tuple>

#include "aotc/base/error.h"

namespace ingot::aotc {
namespace {

using kernel::Kernel;
using kernel::Op;
using kernel::Opcode;
using kernel::Region;
using kernel::ValueId;
using kernel::Values;

bool is_pure(const Op &op) {
  return op.regions.empty() && !is_memory(op.code) && !has_side_effect(op.code) && op.code != Opcode::kTile;
}

class Hoist {
 public:
  explicit Hoist(const Kernel &in) : out_(in), in_(in), to_(in.types.size()), depth_(in.types.size(), 0) {
    for (ValueId v = 0; v < to_.size(); ++v) to_[v] = v;
  }

  Kernel run() {
    Region body = region(in_.body, false);
    out_.body = std::move(body);
    return std::move(out_);
  }

 private:
  using Key = std::tuple<Opcode, Scalar, uint32_t, int64_t, int64_t, uint64_t, std::vector<int64_t>, Values>;
  struct Level {
    bool is_loop = false;
    std::vector<Op> ops;
    std::map<Key, ValueId> known;
  };

  // A value made here: another one in each copy of a loop's body.
  ValueId define(ValueId value) {
    ValueId now = value;
    if (copies_ > 0) now = fresh(out_.types[value]);
    to_[value] = now;
    depth_[now] = levels_.size() - 1;
    return now;
  }
  ValueId fresh(Type type) {
    out_.types.push_back(type);
    depth_.push_back(0);
    return static_cast<ValueId>(out_.types.size() - 1);
  }

  Region region(const Region &in, bool is_loop) {
    levels_.emplace_back();
    levels_.back().is_loop = is_loop;
    Region out;
    for (ValueId value : in.params) out.params.push_back(define(value));
    for (const Op &o : in.ops) op(o);
    out.ops = std::move(levels_.back().ops);
    levels_.pop_back();
    return out;
  }

  void op(const Op &in) {
    Op o = in;
    for (ValueId &value : o.operands) value = to_[value];
    if (is_pure(o)) {
      pure(std::move(o));
      return;
    }
    if (o.code == Opcode::kIf && constant_if(o)) return;
    if (o.code == Opcode::kFor && unroll(o)) return;
    bool loops = o.code == Opcode::kFor || o.code == Opcode::kWhile;
    for (Region &part : o.regions) part = region(part, loops);
    for (ValueId &value : o.results) value = define(value);
    levels_.back().ops.push_back(std::move(o));
  }

  // The side that a constant condition takes, in place of the whole.
  bool constant_if(const Op &o) {
    auto condition = constant(o.operands[0]);
    if (!condition) return false;
    const Region &side = o.regions[*condition != 0 ? 0 : 1];
    for (const Op &inner : side.ops) {
      if (inner.code == Opcode::kYield) {
        for (size_t i = 0; i < o.results.size(); ++i) to_[o.results[i]] = to_[inner.operands[i]];
        break;
      }
      op(inner);
    }
    return true;
  }

  // Integers and bools that are known.
  std::optional<int64_t> constant(ValueId value) const {
    auto it = constants_.find(value);
    return it == constants_.end() ? std::nullopt : std::optional<int64_t>(it->second);
  }

  static size_t size_of(const Region &r) {
    size_t size = r.ops.size();
    for (const Op &o : r.ops)
      for (const Region &part : o.regions) size += size_of(part);
    return size;
  }

  bool unroll(const Op &o) {
    constexpr int64_t kMostTurns = 16;
    constexpr size_t kMostOps = 160;
    auto lo = constant(o.operands[0]), hi = constant(o.operands[1]), step = constant(o.operands[2]);
    if (!lo || !hi || !step || *step <= 0 || *lo < -(1 << 30) || *hi > (1 << 30) || *step > (1 << 30))
      return false;
    const Region &body = o.regions[0];
    int64_t turns = *hi > *lo ? (*hi - *lo + *step - 1) / *step : 0;
    if (turns > kMostTurns || static_cast<size_t>(turns) * size_of(body) > kMostOps) return false;
    Values carried(o.operands.begin() + 3, o.operands.end());
    ++copies_;
    for (int64_t turn = 0; turn < turns; ++turn) {
      to_[body.params[0]] = index_constant(out_.types[o.operands[0]], *lo + turn * *step);
      for (size_t i = 0; i < carried.size(); ++i) to_[body.params[i + 1]] = carried[i];
      for (const Op &inner : body.ops) {
        if (inner.code != Opcode::kYield) {
          op(inner);
          continue;
        }
        Values next;
        for (ValueId value : inner.operands) next.push_back(to_[value]);
        carried = std::move(next);
      }
    }
    --copies_;
    for (size_t i = 0; i < carried.size(); ++i) to_[o.results[i]] = carried[i];
    return true;
  }

  ValueId index_constant(Type type, int64_t value) {
    Op o;
    o.code = Opcode::kConst;
    o.imm = value;
    o.results = {fresh(type)};
    return place(std::move(o));
  }

  // A known value, where the op's operands are known, or one of its operands does not matter. Index and 64 bits
  // only: no wrapping to think of.
  ValueId fold(const Op &o) {
    Type type = out_.types[o.results[0]];
    if (type.lanes != 1 || o.operands.size() != 2) return kernel::kNoValue;
    auto a = constant(o.operands[0]), b = constant(o.operands[1]);
    if (type.scalar != Scalar::kIndex) return kernel::kNoValue;
    int64_t value;
    switch (o.code) {
      case Opcode::kAdd:
        if (a && *a == 0) return o.operands[1];
        if (b && *b == 0) return o.operands[0];
        if (a && b && !__builtin_add_overflow(*a, *b, &value)) return index_constant(type, value);
        break;
      case Opcode::kSub:
        if (b && *b == 0) return o.operands[0];
        if (a && b && !__builtin_sub_overflow(*a, *b, &value)) return index_constant(type, value);
        break;
      case Opcode::kMul:
        if ((a && *a == 0) || (b && *b == 1)) return o.operands[0];
        if ((b && *b == 0) || (a && *a == 1)) return o.operands[1];
        if (a && b && !__builtin_mul_overflow(*a, *b, &value)) return index_constant(type, value);
        break;
      default:
        break;
    }
    return kernel::kNoValue;
  }

  void pure(Op o) {
    ValueId original = o.results[0];
    if (ValueId known = fold(o); known != kernel::kNoValue) {
      to_[original] = known;
      return;
    }
    if (copies_ > 0) o.results[0] = fresh(out_.types[original]);
    to_[original] = place(std::move(o));
  }

  ValueId place(Op o) {
    ValueId result = o.results[0];
    Type type = out_.types[result];
    if (o.code == Opcode::kConst && type.lanes == 1 && !is_float(type.scalar)) constants_[result] = o.imm;
    size_t least = 0;
    if (!is_leaf(o.code))
      for (ValueId value : o.operands) least = std::max(least, depth_[value]);
    size_t at = levels_.size() - 1;
    for (size_t level = least + 1; level < levels_.size(); ++level)
      if (levels_[level].is_loop) {
        at = level - 1;
        break;
      }
    if (is_leaf(o.code)) at = 0;
    Key key(o.code, type.scalar, type.lanes, o.imm, o.imm2, std::bit_cast<uint64_t>(o.fimm), o.imms,
            o.operands);
    for (size_t level = least; level < levels_.size(); ++level)
      if (auto it = levels_[level].known.find(key);
          it != levels_[level].known.end() && out_.types[it->second] == type)
        return it->second;
    levels_[at].known.emplace(std::move(key), result);
    depth_[result] = at;
    levels_[at].ops.push_back(std::move(o));
    return result;
  }

  Kernel out_;

  const Kernel &in_;
  std::vector<ValueId> to_;              // what stands for a value
  std::vector<size_t> depth_;            // of the level that holds a value's definition
  std::map<ValueId, int64_t> constants_; // integers and bools
  int copies_ = 0;                       // bodies of loops that are being unrolled, one in another
  std::vector<Level> levels_;
};

} // namespace

Kernel hoist_invariants(const Kernel &kernel) { return Hoist(kernel).run(); }

} // namespace ingot::aotc
