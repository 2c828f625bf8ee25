// See rewrite.h.
#include "aotc/kernel/rewrite.h"

#include "aotc/base/error.h"

namespace ingot::aotc::kernel {
namespace {

Kernel shell(const Kernel &in) {
  Kernel out;
  out.name = in.name;
  out.kind = in.kind;
  out.local_size = in.local_size;
  out.fragment = in.fragment;
  out.memories = in.memories;
  out.tensor_maps = in.tensor_maps;
  out.params = in.params;
  return out;
}

} // namespace

Rewriter::Rewriter(const Kernel &in) : in_(in), out_(shell(in)), b_(out_), map_(in.types.size()) {}

Kernel Rewriter::run() {
  region(in_.body);
  return std::move(out_);
}

ValueId Rewriter::one(ValueId old) const {
  ensure(map_[old].size() == 1, "rewriter: a value has several pieces where one is expected");
  return map_[old][0];
}

Values Rewriter::copy(const Op &op) {
  Op now = op;
  now.regions.clear();
  for (ValueId &operand : now.operands)
    operand = one(operand);
  std::vector<Type> types;
  for (ValueId result : op.results)
    types.push_back(pieces(old_type(result)).at(0));
  return b_.append(std::move(now), types);
}

Values Rewriter::gather(const Values &old, size_t first) const {
  Values now;
  for (size_t i = first; i < old.size(); ++i)
    now.insert(now.end(), map_[old[i]].begin(), map_[old[i]].end());
  return now;
}

void Rewriter::scatter(const Values &old, const Values &now, size_t first_old, size_t first_now) {
  size_t at = first_now;
  for (size_t i = first_old; i < old.size(); ++i) {
    size_t n = pieces(old_type(old[i])).size();
    ensure(at + n <= now.size(), "rewriter: too few values");
    map_[old[i]].assign(now.begin() + static_cast<ptrdiff_t>(at), now.begin() + static_cast<ptrdiff_t>(at + n));
    at += n;
  }
  ensure(at == now.size(), "rewriter: too many values");
}

void Rewriter::region(const Region &region) {
  for (const Op &op : region.ops) {
    if (op.code == Opcode::kYield)
      continue;
    if (!op.regions.empty())
      control(op);
    else
      scatter(op.results, rewrite(op));
  }
}

void Rewriter::control(const Op &op) {
  Values results;
  auto yields = [&](const Region &part) -> const Values & { return part.ops.back().operands; };
  if (op.code == Opcode::kFor) {
    const Region &body = op.regions[0];
    results = b_.for_loop(
        one(op.operands[0]), one(op.operands[1]), one(op.operands[2]), gather(op.operands, 3),
        [&](ValueId i, const Values &carried) {
          map_[body.params[0]] = {i};
          scatter(body.params, carried, 1);
          region(body);
          return gather(yields(body));
        },
        op.unroll);
  } else if (op.code == Opcode::kIf) {
    auto side = [&](size_t k) {
      region(op.regions[k]);
      return gather(yields(op.regions[k]));
    };
    results = b_.if_else(one(op.operands[0]), [&] { return side(0); }, [&] { return side(1); });
  } else {
    const Region &condition = op.regions[0], &body = op.regions[1];
    results = b_.while_loop(
        gather(op.operands),
        [&](const Values &carried) {
          scatter(condition.params, carried);
          region(condition);
          return std::pair(one(yields(condition)[0]), gather(yields(condition), 1));
        },
        [&](const Values &carried) {
          scatter(body.params, carried);
          region(body);
          return gather(yields(body));
        });
  }
  scatter(op.results, results);
}

// ---- Dead ops

namespace {

bool has_effects(const Region &region) {
  for (const Op &op : region.ops) {
    if (op.code != Opcode::kYield && has_side_effect(op.code))
      return true;
    for (const Region &part : op.regions)
      if (has_effects(part))
        return true;
  }
  return false;
}

void sweep(Region &region, std::vector<bool> &live) {
  std::vector<Op> kept;
  for (size_t i = region.ops.size(); i-- > 0;) {
    Op &op = region.ops[i];
    bool is_live = op.regions.empty() && has_side_effect(op.code);
    for (const Region &part : op.regions)
      is_live |= has_effects(part);
    for (ValueId result : op.results)
      is_live |= live[result];
    if (!is_live)
      continue;
    for (ValueId operand : op.operands)
      live[operand] = true;
    for (size_t r = op.regions.size(); r-- > 0;)
      sweep(op.regions[r], live);
    kept.push_back(std::move(op));
  }
  region.ops.assign(std::make_move_iterator(kept.rbegin()), std::make_move_iterator(kept.rend()));
}

} // namespace

void remove_dead_ops(Kernel &kernel) {
  std::vector<bool> live(kernel.types.size());
  sweep(kernel.body, live);
}

} // namespace ingot::aotc::kernel
