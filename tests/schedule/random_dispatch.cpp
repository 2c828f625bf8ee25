// See random_dispatch.h.
#include "tests/schedule/random_dispatch.h"

#include <algorithm>

namespace ingot::aotc::testing {

namespace {

class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed), m_("random") {}

  Case make() {
    size_t count = 1 + pick(4);
    static const int64_t kExtents[] = {1, 2, 3, 5, 8, 9, 17, 33};
    int64_t points = 1;
    for (size_t i = 0; i < count; ++i) {
      int64_t extent = kExtents[pick(std::size(kExtents))];
      if (points * extent > 3000)
        extent = 2;
      if (pick(40) == 0)
        extent = 0;
      points *= std::max<int64_t>(1, extent);
      // Some extents are symbols.
      if (extent > 0 && pick(4) == 0) {
        Symbol dim = Symbol::dim("d" + std::to_string(i), 0, 1 << 20);
        dims_.emplace_back(dim, extent);
        axes_.push_back(m_.axis(dim));
      } else {
        axes_.push_back(m_.axis(extent));
      }
    }
    size_t loads = 1 + pick(3), ops = 1 + pick(5), reduces = pick(4);
    for (size_t i = 0; i < loads; ++i)
      load();
    if (pick(5) == 0)
      gather();
    for (size_t i = 0; i < ops + reduces; ++i) {
      if (pick(ops + reduces) < reduces)
        reduce();
      else
        op();
    }
    size_t stores = 1 + pick(2);
    for (size_t i = 0; i < stores; ++i)
      store(i == 0 ? static_cast<ValueId>(m_.d.values.size() - 1) : some_float());
    return {m_.d, dims_};
  }

 private:
  size_t pick(size_t n) { return n ? random_() % n : 0; }

  Expr extent(size_t axis) const { return m_.d.axes[axis].extent; }

  std::vector<size_t> some_axes(uint64_t of, bool all) {
    std::vector<size_t> out;
    for (size_t a = 0; a < axes_.size(); ++a)
      if ((of >> a & 1) && (all || pick(3)))
        out.push_back(a);
    std::shuffle(out.begin(), out.end(), random_);
    return out;
  }

  // A dense layout over the axes, in the order given.
  Expr layout(const std::vector<size_t> &axes, Expr &count) const {
    Expr offset = 0;
    count = 1;
    for (size_t a : axes) {
      offset = offset * extent(a) + axes_[a];
      count = count * extent(a);
    }
    return offset;
  }

  void load() {
    std::vector<size_t> axes = some_axes(~uint64_t{0}, false);
    if (pick(2))
      std::sort(axes.begin(), axes.end());
    Expr count = 1, offset = 0;
    std::vector<Guard> guards;
    bool guarded = pick(3) == 0;
    for (size_t a : axes) {
      Expr at = axes_[a], size = extent(a);
      if (guarded && pick(2)) { // shifted, scaled, or cut short
        int64_t scale = 1 + static_cast<int64_t>(pick(2)), shift = static_cast<int64_t>(pick(5)) - 2;
        at = at * scale + shift;
        guards.push_back({at, size});
      }
      offset = offset * size + at;
      count = count * size;
    }
    static const ElementType kTypes[] = {ElementType::kI64, ElementType::kI32, ElementType::kU8, ElementType::kBool};
    ElementType type = pick(4) ? ElementType::kF32 : kTypes[pick(4)];
    uint32_t operand = m_.input("x" + std::to_string(m_.d.operands.size()), count, type);
    double otherwise = type == ElementType::kF32 ? static_cast<double>(pick(3)) - 1 : static_cast<double>(pick(2));
    ValueId v = m_.load(operand, offset, guards, otherwise);
    if (type != ElementType::kF32)
      v = m_.op(is_unsigned(type) ? Opcode::kConvertU : Opcode::kConvert, ElementType::kF32, {v});
    floats_.push_back(v);
  }

  // A row of a table, chosen by an index that is clamped into it.
  void gather() {
    size_t by = pick(axes_.size()), along = pick(axes_.size());
    int64_t rows = 1 + static_cast<int64_t>(pick(9));
    uint32_t ids = m_.input("ids" + std::to_string(m_.d.operands.size()), extent(by), ElementType::kI64);
    uint32_t table = m_.input("t" + std::to_string(m_.d.operands.size()), extent(along) * rows);
    ValueId id = m_.load(ids, axes_[by]);
    id = m_.op(Opcode::kMax, {m_.op(Opcode::kMin, {id, m_.index(rows - 1)}), m_.index(0)});
    Symbol row = Symbol::value("row" + std::to_string(id), id, rows);
    floats_.push_back(m_.load(table, Expr(row) * extent(along) + axes_[along]));
  }

  ValueId some_float() { return floats_[pick(floats_.size())]; }

  void op() {
    static const Opcode kBinary[] = {Opcode::kAdd, Opcode::kSub, Opcode::kMul, Opcode::kMax, Opcode::kMin};
    size_t which = pick(8);
    ValueId a = some_float(), b = some_float();
    if (which < 5)
      floats_.push_back(m_.op(kBinary[which], {a, b}));
    else if (which == 5)
      floats_.push_back(m_.op(Opcode::kTanh, {a}));
    else if (which == 6)
      floats_.push_back(m_.op(Opcode::kSelect, {m_.op(Opcode::kLt, {a, b}), b, a}));
    else
      floats_.push_back(m_.op(Opcode::kMul, {a, m_.index(axes_[pick(axes_.size())], ElementType::kF32)}));
  }

  void reduce() {
    ValueId arg = some_float();
    std::vector<size_t> axes = some_axes(m_.d.axis_sets()[arg], false);
    if (axes.empty())
      return op();
    std::sort(axes.begin(), axes.end());
    std::vector<Symbol> symbols;
    for (size_t a : axes)
      symbols.push_back(axes_[a]);
    static const ReduceKind kKinds[] = {ReduceKind::kAdd, ReduceKind::kAdd, ReduceKind::kMax, ReduceKind::kMin};
    ValueId r = m_.reduce(kKinds[pick(4)], arg, symbols);
    floats_.push_back(m_.op(Opcode::kMul, {r, m_.constant(0.125)})); // keeps sums of sums moderate
  }

  void store(ValueId value) {
    if (m_.d.values[value].type != ElementType::kF32)
      value = some_float();
    uint64_t set = m_.d.axis_sets()[value];
    if (pick(5) == 0)
      set |= uint64_t{1} << pick(axes_.size());
    std::vector<size_t> axes = some_axes(set, true);
    if (pick(3))
      std::sort(axes.begin(), axes.end());
    Expr count;
    Expr offset = layout(axes, count);
    uint32_t operand = m_.output("y" + std::to_string(m_.d.operands.size()), count);
    std::vector<Symbol> symbols;
    for (size_t a : axes)
      symbols.push_back(axes_[a]);
    m_.store(operand, offset, value, symbols);
  }

  std::mt19937_64 random_;
  Maker m_;
  std::vector<Symbol> axes_;
  std::vector<ValueId> floats_;
  std::vector<std::pair<Symbol, int64_t>> dims_;
};

} // namespace

Case random_dispatch(uint64_t seed) { return Generator(seed).make(); }

} // namespace ingot::aotc::testing
