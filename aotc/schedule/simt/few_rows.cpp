// Sums of products of few rows by a matrix (a token's step, a classifier): the matrix is read once, in vectors.
//
//   a workgroup kColumns columns; a thread some neighbouring columns of them and every `teams`-th k:
//     sums += splat(left[row][k]) * right[k][columns], several k under way
//   then, row by row through workgroup memory, each column's parts as a fixed tree; epilogue and stores, a thread a column
#include <algorithm>

#include "aotc/schedule/contraction.h"
#include "aotc/schedule/internal.h"
#include "aotc/schedule/simt/threads.h"
#include "aotc/schedule/simt/vectors.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::Guard;
using dispatch::Value;
using dispatch::ValueKind;
using kernel::kNoValue;
using kernel::Opcode;
using kernel::ValueId;
using kernel::Values;

namespace {

constexpr int64_t kMostRows = 4, kLeastDepth = 128, kAtOnce = 4;
constexpr uint32_t kThreads = 256, kColumns = 32;

class SimtFewRows {
 public:
  SimtFewRows(const Contraction &form, const TargetRecord &record, const Dispatch &original)
      : f_(form), d_(form.d), b_(out_.kernel), l_(b_, d_, original.free_symbols()) {
    out_.kernel.name = d_.name;
    out_.kernel.kind = record.kernel_class;
    threads_ = threads_for(kThreads, record.max_workgroup_invocations);
  }

  std::optional<Scheduled> build() {
    ProductAxes axes = product_axes(f_);
    m_axes_ = std::move(axes.left), n_axes_ = std::move(axes.right), batch_ = std::move(axes.others);
    const Value &right = d_.values[f_.right];
    const bool converted = right.kind == ValueKind::kOp && right.code == Opcode::kConvert;
    load_ = converted ? right.args[0] : f_.right;
    const Value &load = d_.values[load_];
    rows_ = 1;
    for (uint32_t a : m_axes_) {
      auto extent = d_.axes[a].extent.constant();
      if (!extent || *extent < 1 || rows_ * *extent > kMostRows)
        return std::nullopt;
      rows_ *= *extent;
    }
    int64_t depth = 1;
    for (uint32_t a : f_.k)
      depth = std::min<int64_t>(1 << 24, depth * std::max<int64_t>(1, typical(d_.axes[a].extent)));
    if (load.kind != ValueKind::kLoad || !load.guards.empty() || d_.values[f_.reduce].type != ElementType::kF32 || depth < kLeastDepth)
      return std::nullopt;
    width_ = 16 / byte_size(load.type);
    if ((load.type != ElementType::kF32 && load.type != ElementType::kF16) || !comes_in_vectors(d_, load, n_axes_, width_))
      return std::nullopt;
    across_ = kColumns / static_cast<uint32_t>(width_);
    teams_ = threads_ / across_;
    out_.kernel.local_size = {threads_, 1, 1};
    parts_ = b_.add_array("parts", kernel::Space::kWorkgroup, Scalar::kF32, uint64_t{teams_} * kColumns);
    sums_ = b_.add_array("sums", kernel::Space::kWorkgroup, Scalar::kF32, threads_);
    const Expr columns = extent_product(d_, n_axes_), tiles = ceildiv(columns, int64_t{kColumns}), groups = extent_product(d_, batch_) * tiles;
    out_.grid = folded_grid(groups);
    out_.description = "simt_few_rows{rows=" + std::to_string(rows_) + ",columns=" + std::to_string(width_) + ",teams=" + std::to_string(teams_) + "}";
    ValueId group = group_number(b_);
    b_.if_then(b_.lt(group, l_.expr(groups)), [&] {
      Lowering::Scope scope(l_);
      ValueId across = l_.expr(tiles);
      first_ = b_.mul(b_.rem(group, across), b_.index(kColumns));
      limit_ = l_.expr(columns);
      if (!batch_.empty())
        bind_flat(l_, batch_, b_.div(group, across));
      Values sums = products();
      for (int64_t row = 0; row < rows_; ++row)
        finish(row, sums[static_cast<size_t>(row)]);
    });
    return std::move(out_);
  }

 private:
  Type vector() const { return Type(Scalar::kF32, static_cast<uint32_t>(width_)); }

  // The thread's sums of each row, over its share of k.
  Values products() {
    ValueId lane = b_.rem(b_.local_id(0), b_.index(across_)), team = b_.div(b_.local_id(0), b_.index(across_));
    ValueId column = b_.add(first_, b_.mul(lane, b_.index(width_))), inside = b_.lt(column, limit_);
    const Values none(static_cast<size_t>(rows_), b_.zero(vector()));
    return b_.if_else(
        inside,
        [&] {
          Lowering::Scope scope(l_);
          bind_flat(l_, n_axes_, column);
          ValueId all = l_.expr(extent_product(d_, f_.k)), span = b_.index(int64_t{teams_} * kAtOnce), full = b_.mul(b_.div(all, span), span);
          Values sums = b_.for_loop(team, full, span, none, [&](ValueId k, const Values &carried) {
            Values vectors, next = carried;
            for (int64_t i = 0; i < kAtOnce; ++i)
              vectors.push_back(right(at(k, i)));
            for (int64_t i = 0; i < kAtOnce; ++i)
              add(next, at(k, i), vectors[static_cast<size_t>(i)]);
            return next;
          });
          return b_.for_loop(b_.add(full, team), all, b_.index(teams_), sums, [&](ValueId k, const Values &carried) {
            Values next = carried;
            add(next, k, right(k));
            return next;
          });
        },
        [&] { return none; });
  }
  ValueId at(ValueId k, int64_t i) { return i ? b_.add(k, b_.index(i * teams_)) : k; }

  ValueId right(ValueId k) {
    Lowering::Scope scope(l_);
    bind_flat(l_, f_.k, k);
    const Value &load = d_.values[load_];
    ValueId v = b_.load(load.operand, l_.expr(load.expr), static_cast<uint32_t>(width_), static_cast<uint32_t>(width_));
    return load.type == ElementType::kF32 ? v : b_.convert(vector(), v);
  }
  void add(Values &sums, ValueId k, ValueId right) {
    Lowering::Scope scope(l_);
    bind_flat(l_, f_.k, k);
    for (int64_t row = 0; row < rows_; ++row) {
      Lowering::Scope inner(l_);
      bind_row(row);
      ValueId &sum = sums[static_cast<size_t>(row)];
      sum = b_.mad(b_.splat(l_.eval(f_.left), static_cast<uint32_t>(width_)), right, sum);
    }
  }
  void bind_row(int64_t row) {
    for (size_t i = m_axes_.size(); i-- > 0;) {
      const int64_t extent = *d_.axes[m_axes_[i]].extent.constant();
      l_.bind(m_axes_[i], b_.index(row % extent));
      row /= extent;
    }
  }

  // A row's parts summed: first by threads / kColumns threads a column, then by one.
  void finish(int64_t row, ValueId parts) {
    ValueId thread = b_.local_id(0), column = b_.rem(thread, b_.index(kColumns)), share = b_.div(thread, b_.index(kColumns));
    const uint32_t shares = threads_ / kColumns;
    for (uint32_t i = 0; i < width_; ++i)
      b_.store(parts_, b_.add(b_.mul(thread, b_.index(width_)), b_.index(i)), b_.extract(parts, i));
    b_.barrier();
    auto sum = [&](uint32_t array, ValueId from, uint32_t count) {
      return b_.for_loop(b_.index(0), b_.index(count), b_.index(1), {b_.zero(Scalar::kF32)}, [&](ValueId i, const Values &carried) {
        return Values{b_.add(carried[0], b_.load(array, b_.add(b_.mul(b_.add(from, i), b_.index(kColumns)), column)))};
      })[0];
    };
    const uint32_t each = (teams_ + shares - 1) / shares;
    b_.store(sums_, thread, sum(parts_, b_.mul(share, b_.index(each)), each));
    b_.barrier();
    ValueId n = b_.add(first_, column);
    b_.if_then(b_.logical_and(b_.lt(thread, b_.index(kColumns)), b_.lt(n, limit_)), [&] {
      Lowering::Scope scope(l_);
      bind_flat(l_, n_axes_, n);
      bind_row(row);
      l_.set(f_.reduce, sum(sums_, b_.index(0), shares));
      for (const dispatch::Store &s : d_.stores)
        l_.store(s);
    });
  }

  const Contraction &f_;
  const Dispatch &d_;
  Scheduled out_;
  kernel::Builder b_;
  Lowering l_;
  std::vector<uint32_t> m_axes_, n_axes_, batch_;
  dispatch::ValueId load_ = 0;
  int64_t rows_ = 1, width_ = 4;
  uint32_t threads_ = 0, across_ = 0, teams_ = 0, parts_ = 0, sums_ = 0;
  ValueId first_ = kNoValue, limit_ = kNoValue;
};

} // namespace

std::optional<Scheduled> schedule_simt_few_rows(const Dispatch &d, const TargetRecord &record) {
  std::optional<Contraction> form = match_contraction(d);
  if (!form || record.max_workgroup_invocations < kThreads)
    return std::nullopt;
  return SimtFewRows(*form, record, d).build();
}

} // namespace ingot::aotc::schedule
