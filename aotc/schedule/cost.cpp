// Cost of a dispatch: what roofline reports and the tuner's order go by. See schedule.h.
#include "aotc/schedule/lower.h"
#include "aotc/schedule/schedule.h"

namespace ingot::aotc::schedule {

using dispatch::Value;
using dispatch::ValueKind;

Cost cost(const dispatch::Dispatch &d) {
  Cost c{0, 0};
  if (d.loop) { // not affine: only what it touches is known
    for (const dispatch::Operand &o : d.operands)
      c.bytes = c.bytes + o.count * static_cast<int64_t>(byte_size(o.type));
    return c;
  }
  if (d.sequence) { // what the steps exchange stays in the caches: what lies outside is touched once
    for (const dispatch::Sequence::Step &step : d.sequence->steps)
      c.flops = c.flops + cost(step.dispatch).flops * d.sequence->trips;
    for (const dispatch::Operand &o : d.operands)
      c.bytes = c.bytes + o.count * static_cast<int64_t>(byte_size(o.type));
    return c;
  }
  std::vector<uint64_t> sets = d.axis_sets();
  auto points = [&](uint64_t set) {
    Expr n = 1;
    for (uint32_t a = 0; a < d.axes.size(); ++a)
      if (set & axis_bit(a))
        n = n * d.axes[a].extent;
    return n;
  };
  for (size_t i = 0; i < d.values.size(); ++i) {
    const Value &v = d.values[i];
    if (v.kind == ValueKind::kReduce && is_float(v.type)) {
      uint64_t set = sets[i];
      for (uint32_t a : v.axes)
        set |= axis_bit(a);
      c.flops = c.flops + points(set);
    } else if (v.kind == ValueKind::kOp && is_float(v.type) && v.code != kernel::Opcode::kSelect &&
               v.code != kernel::Opcode::kConvert && v.code != kernel::Opcode::kConvertU &&
               v.code != kernel::Opcode::kBitcast) {
      c.flops = c.flops + points(sets[i]) * (v.code == kernel::Opcode::kMad || v.code == kernel::Opcode::kFma ? 2 : 1);
    }
  }
  // An operand is touched once wherever its loads go, and no load goes to more elements than it has points.
  std::vector<Expr> touched(d.operands.size(), 0);
  for (size_t i = 0; i < d.values.size(); ++i)
    if (d.values[i].kind == ValueKind::kLoad)
      touched[d.values[i].operand] = touched[d.values[i].operand] + points(sets[i]);
  for (const dispatch::Store &s : d.stores) {
    uint64_t set = 0;
    for (uint32_t a : s.axes)
      set |= axis_bit(a);
    touched[s.operand] = touched[s.operand] + points(set);
  }
  for (size_t o = 0; o < d.operands.size(); ++o)
    c.bytes = c.bytes + min(touched[o], d.operands[o].count) * static_cast<int64_t>(byte_size(d.operands[o].type));
  return c;
}

} // namespace ingot::aotc::schedule
