// Sums of products of few rows by a matrix (a token's step, a classifier): the matrix is read once, in vectors.
//
//   a workgroup `tile` columns; a thread `width` neighbouring columns of them and a team's share of k, `batch` of them at once:
//     next = right[k][columns] of the first batch
//     for each batch: sums += splat(left[row][k]) * next, next = right[k][columns] of the batch after it, k by k
//   then, row by row through workgroup memory, each column's parts as a fixed tree; epilogue and stores, a thread a column
//
// All of a batch is under way while the one before it is summed, and the first is where the left side is not ready yet: the
// matrix is mostly a constant, which comes before the kernels ahead have ended. Two workgroups fit on a processor, so that the
// next product's first batches travel while this one sums its last.
#include <algorithm>
#include <bit>

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

constexpr int64_t kMostRows = 4, kLeastDepth = 128;
constexpr int64_t kVector = 16;                         // bytes of an access
constexpr int64_t kMostAtOnce = 8;                      // vectors a thread has under way
constexpr uint32_t kThreads = 512, kLeastThreads = 256; // 512 x 8 x 16 bytes under way a processor hide what memory takes to answer
constexpr int64_t kMostColumns = 32, kLeastBytes = 32;  // of a workgroup's piece of a row of the matrix
constexpr int64_t kManyGroups = 64;                     // half as many workgroups as a large GPU has processors

class SimtFewRows {
 public:
  SimtFewRows(const Contraction &form, const TargetRecord &record, const Dispatch &original)
      : f_(form), d_(form.d), b_(out_.kernel), l_(b_, d_, original.free_symbols()) {
    out_.kernel.name = d_.name;
    out_.kernel.kind = record.kernel_class;
    threads_ = std::min(kThreads, record.max_workgroup_invocations / kLeastThreads * kLeastThreads);
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
    width_ = kVector / byte_size(load.type);
    if ((load.type != ElementType::kF32 && load.type != ElementType::kF16) || !comes_in_vectors(d_, load, n_axes_, width_))
      return std::nullopt;
    tile_ = kMostColumns;
    while (tile_ * byte_size(load.type) > kLeastBytes && typical_points(d_, n_axes_) * typical_points(d_, batch_) <= tile_ * kManyGroups)
      tile_ /= 2;
    across_ = tile_ / width_;
    teams_ = threads_ / across_;
    const int64_t each = std::max<int64_t>(1, depth / teams_), batches = (each + kMostAtOnce - 1) / kMostAtOnce;
    at_once_ = each / batches;
    const Value &left = d_.values[f_.left];
    left_ = left.kind == ValueKind::kOp && left.code == Opcode::kConvert ? left.args[0] : f_.left;
    const Value &from = d_.values[left_];
    together_ = at_once_ > 1 && std::has_single_bit(static_cast<uint64_t>(at_once_)) && from.kind == ValueKind::kLoad && from.guards.empty() &&
                at_once_ * byte_size(from.type) <= kVector && (from.type == ElementType::kF32 || from.type == ElementType::kF16) &&
                comes_in_vectors(d_, from, f_.k, at_once_);
    out_.kernel.local_size = {static_cast<uint32_t>(threads_), 1, 1};
    parts_ = b_.add_array("parts", kernel::Space::kWorkgroup, Scalar::kF32, static_cast<uint64_t>(width_ * pitch()));
    sums_ = b_.add_array("sums", kernel::Space::kWorkgroup, Scalar::kF32, static_cast<uint64_t>(threads_));
    const Expr columns = extent_product(d_, n_axes_), tiles = ceildiv(columns, tile_), groups = extent_product(d_, batch_) * tiles;
    out_.grid = folded_grid(groups);
    out_.description = "simt_few_rows{rows=" + std::to_string(rows_) + ",columns=" + std::to_string(width_) + ",teams=" + std::to_string(teams_) +
                       ",batch=" + std::to_string(at_once_) + "}";
    ValueId group = group_number(b_);
    b_.if_then(b_.lt(group, l_.expr(groups)), [&] {
      Lowering::Scope scope(l_);
      ValueId across = l_.expr(tiles);
      first_ = b_.mul(b_.rem(group, across), b_.index(tile_));
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
          const Expr extent = extent_product(d_, f_.k);
          const int64_t span = teams_ * at_once_;
          ValueId all = l_.expr(extent), full = b_.mul(b_.div(all, b_.index(span)), b_.index(span));
          const auto whole = [&] { return batches(b_.mul(team, b_.index(at_once_)), b_.sub(full, b_.index(span)), none); };
          const auto constant = extent.constant();
          Values sums = constant ? (*constant >= span ? whole() : none) : b_.if_else(b_.lt(b_.index(0), full), whole, [&] { return none; });
          return b_.for_loop(b_.add(full, team), all, b_.index(teams_), sums, [&](ValueId k, const Values &carried) {
            Values next = carried;
            add(next, k, widened(right(k)));
            return next;
          });
        },
        [&] { return none; });
  }

  // The sums of the batches at `first`, one span further on, .. `last` further on.
  Values batches(ValueId first, ValueId last, const Values &none) {
    const auto count = static_cast<size_t>(at_once_);
    Values carried = none;
    for (size_t i = 0; i < count; ++i)
      carried.push_back(right(at(first, i)));
    ValueId span = b_.index(teams_ * at_once_);
    carried = b_.for_loop(first, b_.add(first, last), span, carried, [&](ValueId k, const Values &now) {
      Values sums(now.begin(), now.end() - at_once_), next;
      const Values left = lefts(k);
      for (size_t i = 0; i < count; ++i) {
        add(sums, at(k, i), widened(now[sums.size() + i]), left, i);
        next.push_back(right(b_.add(at(k, i), span)));
      }
      sums.insert(sums.end(), next.begin(), next.end());
      return sums;
    });
    Values sums(carried.begin(), carried.end() - at_once_);
    ValueId k = b_.add(first, last);
    const Values left = lefts(k);
    for (size_t i = 0; i < count; ++i)
      add(sums, at(k, i), widened(carried[sums.size() + i]), left, i);
    return sums;
  }
  // Neighbours, so that the left side comes in vectors as well.
  ValueId at(ValueId k, size_t i) { return i ? b_.add(k, b_.index(static_cast<int64_t>(i))) : k; }

  ValueId right(ValueId k) {
    Lowering::Scope scope(l_);
    bind_flat(l_, f_.k, k);
    const Value &load = d_.values[load_];
    return b_.load(load.operand, l_.expr(load.expr), static_cast<uint32_t>(width_), static_cast<uint32_t>(width_));
  }
  ValueId widened(ValueId v) { return b_.type_of(v).scalar == Scalar::kF32 ? v : b_.convert(vector(), v); }
  // Each row's elements of a batch's k, where they are one piece of memory.
  Values lefts(ValueId k) {
    Values out;
    for (int64_t row = 0; together_ && row < rows_; ++row) {
      Lowering::Scope scope(l_);
      bind_flat(l_, f_.k, k);
      bind_row(row);
      const Value &load = d_.values[left_];
      const auto lanes = static_cast<uint32_t>(at_once_);
      out.push_back(b_.load(load.operand, l_.expr(load.expr), lanes, lanes));
      if (load.type != ElementType::kF32)
        out.back() = b_.convert(Type(Scalar::kF32, lanes), out.back());
    }
    return out;
  }
  void add(Values &sums, ValueId k, ValueId right, const Values &left = {}, size_t i = 0) {
    Lowering::Scope scope(l_);
    bind_flat(l_, f_.k, k);
    for (int64_t row = 0; row < rows_; ++row) {
      Lowering::Scope inner(l_);
      bind_row(row);
      const auto r = static_cast<size_t>(row);
      ValueId factor = left.empty() ? l_.eval(f_.left) : b_.extract(left[r], static_cast<uint32_t>(i));
      sums[r] = b_.mad(b_.splat(factor, static_cast<uint32_t>(width_)), right, sums[r]);
    }
  }
  void bind_row(int64_t row) {
    for (size_t i = m_axes_.size(); i-- > 0;) {
      const int64_t extent = *d_.axes[m_axes_[i]].extent.constant();
      l_.bind(m_axes_[i], b_.index(row % extent));
      row /= extent;
    }
  }

  // Of the parts of a vector's neighbouring elements: writes by neighbouring threads, and reads of neighbouring columns, are
  // in different banks.
  int64_t pitch() const { return threads_ + across_; }

  // A row's parts summed: first by threads / tile threads a column, then by one.
  void finish(int64_t row, ValueId parts) {
    ValueId thread = b_.local_id(0), column = b_.rem(thread, b_.index(tile_)), share = b_.div(thread, b_.index(tile_));
    const int64_t shares = threads_ / tile_, each = teams_ / shares;
    for (uint32_t i = 0; i < width_; ++i)
      b_.store(parts_, b_.add(thread, b_.index(i * pitch())), b_.extract(parts, i));
    b_.barrier();
    auto sum = [&](uint32_t array, ValueId from, int64_t count, int64_t apart) {
      Values terms;
      for (int64_t i = 0; i < count; ++i)
        terms.push_back(b_.load(array, b_.add(from, b_.index(i * apart))));
      for (; terms.size() > 1; terms.resize((terms.size() + 1) / 2))
        for (size_t i = 0; 2 * i < terms.size(); ++i)
          terms[i] = 2 * i + 1 < terms.size() ? b_.add(terms[2 * i], terms[2 * i + 1]) : terms[2 * i];
      return terms[0];
    };
    ValueId line = b_.add(b_.mul(b_.rem(column, b_.index(width_)), b_.index(pitch())), b_.div(column, b_.index(width_)));
    b_.store(sums_, thread, sum(parts_, b_.add(line, b_.mul(share, b_.index(each * across_))), each, across_));
    b_.barrier();
    ValueId n = b_.add(first_, column);
    b_.if_then(b_.logical_and(b_.lt(thread, b_.index(tile_)), b_.lt(n, limit_)), [&] {
      Lowering::Scope scope(l_);
      bind_flat(l_, n_axes_, n);
      bind_row(row);
      l_.set(f_.reduce, sum(sums_, column, shares, tile_));
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
  dispatch::ValueId load_ = 0, left_ = 0;
  bool together_ = false; // a batch of the left side is one vector
  int64_t rows_ = 1, width_ = 4, tile_ = 0, threads_ = 0, across_ = 0, teams_ = 0, at_once_ = 0;
  uint32_t parts_ = 0, sums_ = 0;
  ValueId first_ = kNoValue, limit_ = kNoValue;
};

} // namespace

std::optional<Scheduled> schedule_simt_few_rows(const Dispatch &d, const TargetRecord &record) {
  std::optional<Contraction> form = match_contraction(d);
  if (!form || record.max_workgroup_invocations < kLeastThreads)
    return std::nullopt;
  return SimtFewRows(*form, record, d).build();
}

} // namespace ingot::aotc::schedule
