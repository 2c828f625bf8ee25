// See hoist.h. One walk that rebuilds the regions: an op without effects goes to the outermost place where its operands are
// there, but out of an `if` only together with a loop around it.
#include "aotc/emit/bytecode/hoist.h"

#include <bit>
#include <map>
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
  explicit Hoist(const Kernel &in) : in_(in), to_(in.types.size()), depth_(in.types.size(), 0) {
    for (ValueId v = 0; v < to_.size(); ++v)
      to_[v] = v;
  }

  Kernel run() {
    Kernel out = in_;
    out.body = region(in_.body, false);
    return out;
  }

 private:
  using Key = std::tuple<Opcode, Scalar, uint32_t, int64_t, int64_t, uint64_t, std::vector<int64_t>, Values>;
  struct Level {
    bool is_loop = false;
    std::vector<Op> ops;
    std::map<Key, ValueId> known;
  };

  void define(ValueId value) { depth_[value] = levels_.size() - 1; }

  Region region(const Region &in, bool is_loop) {
    levels_.emplace_back();
    levels_.back().is_loop = is_loop;
    for (ValueId value : in.params)
      define(value);
    for (const Op &o : in.ops)
      op(o);
    Region out;
    out.params = in.params;
    out.ops = std::move(levels_.back().ops);
    levels_.pop_back();
    return out;
  }

  void op(const Op &in) {
    Op o = in;
    for (ValueId &value : o.operands)
      value = to_[value];
    if (is_pure(o)) {
      pure(std::move(o));
      return;
    }
    if (o.code == Opcode::kIf && constant_if(o))
      return;
    bool loops = o.code == Opcode::kFor || o.code == Opcode::kWhile;
    for (Region &part : o.regions)
      part = region(part, loops);
    for (ValueId value : o.results)
      define(value);
    levels_.back().ops.push_back(std::move(o));
  }

  // The side that a constant condition takes, in place of the whole.
  bool constant_if(const Op &o) {
    auto it = constants_.find(o.operands[0]);
    if (it == constants_.end())
      return false;
    const Region &side = o.regions[it->second != 0 ? 0 : 1];
    for (const Op &inner : side.ops) {
      if (inner.code == Opcode::kYield) {
        for (size_t i = 0; i < o.results.size(); ++i)
          to_[o.results[i]] = to_[inner.operands[i]];
        break;
      }
      op(inner);
    }
    return true;
  }

  void pure(Op o) {
    ValueId result = o.results[0];
    Type type = in_.types[result];
    if (o.code == Opcode::kConst && type == Type(Scalar::kBool))
      constants_[result] = o.imm;
    size_t least = 0;
    if (!is_leaf(o.code))
      for (ValueId value : o.operands)
        least = std::max(least, depth_[value]);
    size_t at = levels_.size() - 1;
    for (size_t level = least + 1; level < levels_.size(); ++level)
      if (levels_[level].is_loop) {
        at = level - 1;
        break;
      }
    if (is_leaf(o.code))
      at = 0;
    Key key(o.code, type.scalar, type.lanes, o.imm, o.imm2, std::bit_cast<uint64_t>(o.fimm), o.imms, o.operands);
    for (size_t level = least; level < levels_.size(); ++level)
      if (auto it = levels_[level].known.find(key); it != levels_[level].known.end() && in_.types[it->second] == type) {
        to_[result] = it->second;
        return;
      }
    levels_[at].known.emplace(std::move(key), result);
    depth_[result] = at;
    levels_[at].ops.push_back(std::move(o));
  }

  const Kernel &in_;
  std::vector<ValueId> to_;    // what stands for a value
  std::vector<size_t> depth_;  // of the level that holds a value's definition
  std::map<ValueId, int64_t> constants_; // bools
  std::vector<Level> levels_;
};

} // namespace

Kernel hoist_invariants(const Kernel &kernel) { return Hoist(kernel).run(); }

} // namespace ingot::aotc
