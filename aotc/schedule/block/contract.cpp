// Matrix products for bytecode: a tile op of some rows by a column tile of up to 256 lanes, and the epilogue
// over the lanes.
//
//   for each column tile of the group, for each block of k:
//     pack right[k][lanes] into scratch        (where it cannot be read in place: as it lies, or from prepacked
//     panels) for each row tile: sums = tile(left, right) over all of k; epilogue; store
//
// The left side is read in place where it is a plain load; otherwise its rows are computed into scratch once a
// group. Where k is symbolic or deep, the packed part is a block of k's outermost axis and sums wait in scratch
// between blocks.
#include <algorithm>

#include "aotc/base/error.h"
#include "aotc/schedule/contraction.h"
#include "aotc/schedule/internal.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::Value;
using dispatch::ValueKind;
using kernel::kNoValue;
using kernel::ValueId;
using kernel::Values;

namespace {

constexpr int64_t kRows = 8;
constexpr int64_t kPanel = 16;               // lanes of a prepacked panel
constexpr int64_t kPackedElements = 1 << 16; // of a packed part of the right side
constexpr int64_t kLeftElements = 1 << 17;   // of left rows that are computed

// The coefficients of the axes in a load's offset, where it is linear in all of them and what they multiply
// does not depend on any of them.
bool linear_steps(const Dispatch &d, const Value &load, const std::vector<uint32_t> &axes,
                  std::vector<Expr> &steps) {
  for (const Symbol &s : load.expr.symbols())
    if (s.kind() == SymbolKind::kValue) return false;
  for (uint32_t a : axes) {
    auto linear = load.expr.linear_in(d.axes[a].symbol);
    if (!linear) return false;
    for (uint32_t other : axes)
      if (linear->coefficient.depends_on(d.axes[other].symbol)) return false;
    steps.push_back(linear->coefficient);
  }
  return true;
}

class BlockContract {
 public:
  BlockContract(const Contraction &form, const TargetRecord &record, const Dispatch &original)
      : f_(form), d_(form.d), record_(record), b_(out_.kernel), l_(b_, d_, original.free_symbols()) {
    out_.kernel.name = d_.name;
    type_ = to_scalar(d_.values[f_.reduce].type);
    n_ = d_.axes[f_.n].extent;
    m_ = f_.m >= 0 ? d_.axes[static_cast<uint32_t>(f_.m)].extent : Expr(1);
  }

  std::optional<Scheduled> build() {
    if (f_.k.size() > 4 || !choose()) return std::nullopt;
    Expr n_chunks = ceildiv(n_, n_chunk_), m_chunks = ceildiv(m_, m_chunk_);
    out_.grid = {extent_product(d_, f_.batch) * m_chunks * n_chunks, 1, 1};
    out_.description = "block_contract{rows=" + std::to_string(rows_) + ",lanes=" + std::to_string(lanes_) +
                       (panels_   ? ",panels"
                        : direct_ ? ",direct"
                                  : ",packed") +
                       (blocked_ ? ",blocks of k" : "") + (left_direct_ ? "" : ",left computed") + "}";
    if (!left_direct_)
      left_array_ =
          b_.add_array("left", kernel::Space::kPrivate, type_, static_cast<uint64_t>(m_chunk_ * k_count_), 64);
    if (!direct_ && !panels_)
      panel_array_ = b_.add_array("panel", kernel::Space::kPrivate, type_,
                                  static_cast<uint64_t>(k_block_ * k_inner_ * lanes_), 64);
    if (blocked_)
      sums_array_ =
          b_.add_array("sums", kernel::Space::kPrivate, type_, static_cast<uint64_t>(m_chunk_ * lanes_), 64);
    Lowering::Scope scope(l_);
    ValueId group = b_.group_id(0), nc = l_.expr(n_chunks), mc = l_.expr(m_chunks);
    ValueId n_lo = b_.mul(b_.rem(group, nc), b_.index(n_chunk_));
    group = b_.div(group, nc);
    m_lo_ = b_.mul(b_.rem(group, mc), b_.index(m_chunk_));
    if (!f_.batch.empty()) bind_flat(l_, f_.batch, b_.div(group, mc));
    ValueId n_hi = b_.min(b_.add(n_lo, b_.index(n_chunk_)), l_.expr(n_));
    m_hi_ = b_.min(b_.add(m_lo_, b_.index(m_chunk_)), l_.expr(m_));
    for (const Sink &sink : sinks_of(d_))
      for (dispatch::ValueId v : sink.values) l_.hoist(v);
    if (!left_direct_) compute_left();
    ValueId step = b_.index(lanes_);
    ValueId n_full = b_.add(n_lo, b_.mul(b_.div(b_.sub(n_hi, n_lo), step), step));
    loop(n_lo, n_full, step, [&](ValueId n) { column(n, kNoValue); });
    if (auto all = n_.constant(); all && *all % lanes_ == 0 && n_chunk_ % lanes_ == 0) return std::move(out_);
    b_.if_then(b_.lt(n_full, n_hi), [&] {
      Lowering::Scope inner(l_);
      column(n_full, b_.sub(n_hi, n_full));
    });
    return std::move(out_);
  }

 private:
  bool choose() {
    const Value &left = d_.values[f_.left], &right = d_.values[f_.right];
    std::vector<uint32_t> axes = f_.k;
    if (f_.m >= 0) axes.push_back(static_cast<uint32_t>(f_.m));
    auto plain = [&](const Value &v) {
      return v.kind == ValueKind::kLoad && v.guards.empty() && to_scalar(d_.operands[v.operand].type) == type_;
    };
    left_direct_ = plain(left) && linear_steps(d_, left, axes, left_steps_);
    bool right_plain = plain(right) && linear_steps(d_, right, f_.k, right_steps_);
    panels_ = right_plain && d_.operands[right.operand].packing && d_.operands[right.operand].packing->group == 1;
    if (right_plain && !panels_) {
      auto linear = right.expr.linear_in(d_.axes[f_.n].symbol);
      direct_ = linear && linear->coefficient.constant() == 1;
    }
    int64_t n = std::max<int64_t>(1, typical(n_)), m = std::max<int64_t>(1, typical(m_)), k = 1;
    bool constant_k = true;
    for (uint32_t a : f_.k) {
      auto extent = d_.axes[a].extent.constant();
      constant_k &= extent.has_value();
      k = std::min<int64_t>(1 << 24, k * std::max<int64_t>(1, typical(d_.axes[a].extent)));
    }
    k_count_ = k;
    if (!direct_ && !panels_ && m_.constant().value_or(kRows) <= 2)
      return false; // packing would cost as much as the product
    lanes_ = std::max(16u, lanes_along(record_, byte_size(type_), n_)); // whole panels
    rows_ = std::min<int64_t>(kRows, m_.constant().value_or(kRows));
    if (rows_ < 1) return false;
    // Sizes of groups: a few million operations each.
    int64_t unit_n = 256, unit_m = 96;
    double work = 2.0 * static_cast<double>(n) * static_cast<double>(m) * static_cast<double>(k);
    int64_t pieces = std::clamp<int64_t>(static_cast<int64_t>(work / 4e6), 1, 48);
    int64_t n_pieces = std::min(pieces, (n + unit_n - 1) / unit_n);
    n_chunk_ = ((n + n_pieces - 1) / n_pieces + unit_n - 1) / unit_n * unit_n;
    int64_t m_pieces = std::min(std::max<int64_t>(1, pieces / n_pieces), (m + unit_m - 1) / unit_m);
    m_chunk_ = ((m + m_pieces - 1) / m_pieces + unit_m - 1) / unit_m * unit_m;
    if (auto rows = m_.constant(); rows && m_pieces == 1) m_chunk_ = std::max<int64_t>(1, *rows);
    if (!left_direct_) {
      if (!constant_k || k > kLeftElements) return false;
      m_chunk_ =
          std::min(m_chunk_, std::max<int64_t>(kRows, kLeftElements / std::max<int64_t>(1, k) / kRows * kRows));
      if (auto rows = m_.constant()) m_chunk_ = std::min(m_chunk_, std::max<int64_t>(1, *rows));
    }
    k_block_ = k;
    if (direct_ || panels_) return true;
    while (lanes_ > 64 && k * lanes_ > kPackedElements) lanes_ /= 2;
    if (constant_k && k * lanes_ <= 2 * kPackedElements) return true;
    for (size_t i = 1; i < f_.k.size(); ++i) {
      auto extent = d_.axes[f_.k[i]].extent.constant();
      if (!extent) return false;
      k_inner_ *= std::max<int64_t>(1, *extent);
    }
    if (k_inner_ * lanes_ > kPackedElements) return false;
    blocked_ = true;
    m_chunk_ = std::min<int64_t>(m_chunk_, 192);
    k_block_ = kPackedElements / (k_inner_ * lanes_);
    return true;
  }

  void loop(ValueId lo, ValueId hi, ValueId step, const std::function<void(ValueId)> &body) {
    b_.for_loop(lo, hi, step, {}, [&](ValueId i, const Values &) {
      Lowering::Scope scope(l_);
      body(i);
      return Values{};
    });
  }

  // left[m - m_lo][k], along k's innermost axis.
  void compute_left() {
    uint32_t last = f_.k.back();
    int64_t inner = *d_.axes[last].extent.constant();
    uint32_t lanes = lanes_along(record_, byte_size(type_), d_.axes[last].extent);
    loop(m_lo_, m_hi_, b_.index(1), [&](ValueId m) {
      bind_row(m);
      l_.hoist(f_.left);
      ValueId row = b_.mul(b_.sub(m, m_lo_), b_.index(k_count_));
      std::function<void(size_t, ValueId)> axes = [&](size_t at, ValueId flat) {
        if (at + 1 < f_.k.size()) {
          ValueId extent = l_.extent(f_.k[at]);
          loop(b_.index(0), extent, b_.index(1), [&](ValueId i) {
            l_.bind(f_.k[at], i);
            axes(at + 1, b_.add(b_.mul(flat, extent), i));
          });
          return;
        }
        ValueId base = b_.add(row, b_.mul(flat, b_.index(inner)));
        int64_t full = inner / lanes * lanes;
        auto part = [&](ValueId k, ValueId count) {
          l_.bind_lanes(last, k, lanes, count);
          ValueId value = l_.eval_lanes(f_.left);
          if (count == kNoValue)
            b_.store(left_array_, b_.add(base, k), value);
          else
            b_.store_part(left_array_, b_.add(base, k), value, count);
        };
        loop(b_.index(0), b_.index(full), b_.index(lanes), [&](ValueId k) { part(k, kNoValue); });
        if (full < inner) {
          Lowering::Scope scope(l_);
          part(b_.index(full), b_.index(inner - full));
        }
      };
      axes(0, b_.index(0));
    });
  }

  void column(ValueId n, ValueId rest) {
    if (!blocked_) {
      if (!direct_ && !panels_) pack(n, rest, b_.index(0), l_.extent(f_.k[0]));
      rows([&](ValueId m, int64_t count) {
        Values sums(static_cast<size_t>(count), b_.zero(Type(type_, static_cast<uint32_t>(lanes_))));
        sums = multiply(m, count, n, rest, b_.index(0), l_.extent(f_.k[0]), sums);
        for (int64_t r = 0; r < count; ++r)
          finish(b_.add(m, b_.index(r)), n, rest, sums[static_cast<size_t>(r)]);
      });
      return;
    }
    auto place = [&](ValueId m) { return b_.mul(b_.sub(m, m_lo_), b_.index(lanes_)); };
    Type type(type_, static_cast<uint32_t>(lanes_));
    loop(m_lo_, m_hi_, b_.index(1), [&](ValueId m) { b_.store(sums_array_, place(m), b_.zero(type)); });
    ValueId end = l_.extent(f_.k[0]);
    loop(b_.index(0), end, b_.index(k_block_), [&](ValueId k) {
      ValueId k_hi = b_.min(b_.add(k, b_.index(k_block_)), end);
      pack(n, rest, k, k_hi);
      rows([&](ValueId m, int64_t count) {
        Values sums;
        for (int64_t r = 0; r < count; ++r)
          sums.push_back(b_.load(sums_array_, place(b_.add(m, b_.index(r))), type.lanes));
        sums = multiply(m, count, n, rest, k, k_hi, sums);
        for (int64_t r = 0; r < count; ++r)
          b_.store(sums_array_, place(b_.add(m, b_.index(r))), sums[static_cast<size_t>(r)]);
      });
    });
    loop(m_lo_, m_hi_, b_.index(1),
         [&](ValueId m) { finish(m, n, rest, b_.load(sums_array_, place(m), type.lanes)); });
  }

  void pack(ValueId n, ValueId rest, ValueId k_lo, ValueId k_hi) {
    std::function<void(size_t, ValueId)> axes = [&](size_t at, ValueId flat) {
      if (at == f_.k.size()) {
        Lowering::Scope scope(l_);
        l_.bind_lanes(f_.n, n, static_cast<uint32_t>(lanes_), rest);
        b_.store(panel_array_, b_.mul(flat, b_.index(lanes_)), l_.eval_lanes(f_.right));
        return;
      }
      ValueId lo = at == 0 ? k_lo : b_.index(0), hi = at == 0 ? k_hi : l_.extent(f_.k[at]);
      loop(lo, hi, b_.index(1), [&](ValueId i) {
        l_.bind(f_.k[at], i);
        axes(at + 1, at == 0 ? b_.sub(i, k_lo) : b_.add(b_.mul(flat, l_.extent(f_.k[at])), i));
      });
    };
    axes(0, kNoValue);
  }

  void bind_row(ValueId m) {
    if (f_.m >= 0) l_.bind(static_cast<uint32_t>(f_.m), m);
  }

  // Row tiles: full ones, then smaller ones.
  void rows(const std::function<void(ValueId, int64_t)> &body) {
    auto tiles = [&](ValueId lo, int64_t count) {
      ValueId step = b_.index(count);
      ValueId hi = count == 1 ? m_hi_ : b_.add(lo, b_.mul(b_.div(b_.sub(m_hi_, lo), step), step));
      loop(lo, hi, step, [&](ValueId m) { body(m, count); });
      return hi;
    };
    if (f_.m < 0) {
      Lowering::Scope scope(l_);
      body(b_.index(0), 1);
      return;
    }
    ValueId at = tiles(m_lo_, rows_);
    auto all = m_.constant();
    if (all && m_chunk_ % rows_ == 0) {
      if (int64_t rest = *all % rows_)
        b_.if_then(b_.lt(at, m_hi_), [&] {
          Lowering::Scope scope(l_);
          body(at, rest);
        });
      return;
    }
    for (int64_t count = rows_ / 2; count > 1; count /= 2) at = tiles(at, count);
    if (rows_ > 1) tiles(at, 1);
  }

  // The sums of `count` rows from m on, over k's outermost axis in [k_lo, k_hi) and all of the others.
  Values multiply(ValueId m, int64_t count, ValueId n, ValueId rest, ValueId k_lo, ValueId k_hi,
                  const Values &sums) {
    Lowering::Scope scope(l_);
    for (size_t i = 0; i < f_.k.size(); ++i) l_.bind(f_.k[i], i == 0 ? k_lo : b_.index(0));
    const Value &left = d_.values[f_.left], &right = d_.values[f_.right];
    Values a, b, counts;
    std::vector<kernel::Builder::TileLoop> loops(f_.k.size());
    ValueId inner = b_.index(1); // elements of k within one step of the axis, in what is laid out as k is
    for (size_t i = f_.k.size(); i-- > 0;) {
      loops[i].trips = i == 0 ? b_.sub(k_hi, k_lo) : l_.extent(f_.k[i]);
      loops[i].a_step = left_direct_ ? l_.expr(left_steps_[i]) : inner;
      loops[i].b_step = direct_ || panels_ ? l_.expr(right_steps_[i]) : b_.mul(inner, b_.index(lanes_));
      inner = b_.mul(inner, l_.extent(f_.k[i]));
    }
    for (int64_t r = 0; r < count; ++r) {
      Lowering::Scope row(l_);
      ValueId at = b_.add(m, b_.index(r));
      if (left_direct_) {
        bind_row(at);
        a.push_back(l_.expr(left.expr));
      } else {
        ValueId from = b_.mul(b_.sub(at, m_lo_), b_.index(k_count_));
        a.push_back(b_.add(
            from, b_.mul(k_lo, b_.index(k_count_ / std::max<int64_t>(1, typical(d_.axes[f_.k[0]].extent))))));
      }
    }
    uint32_t chunks = panels_ ? static_cast<uint32_t>(lanes_ / kPanel) : 1;
    for (uint32_t c = 0; c < chunks; ++c) {
      Lowering::Scope chunk(l_);
      int64_t first = c * kPanel, size = panels_ ? kPanel : lanes_;
      l_.bind(f_.n, b_.add(n, b_.index(first)));
      b.push_back(direct_ || panels_ ? l_.expr(right.expr) : b_.index(0));
      // Panels are padded to their whole width, scratch is written in whole vectors.
      counts.push_back(rest == kNoValue ? b_.index(size) : b_.sub(rest, b_.index(first)));
    }
    return b_.tile(left_direct_ ? left.operand : left_array_, direct_ || panels_ ? right.operand : panel_array_,
                   sums, a, b, counts, loops, chunks);
  }

  void finish(ValueId m, ValueId n, ValueId rest, ValueId value) {
    Lowering::Scope scope(l_);
    bind_row(m);
    l_.bind_lanes(f_.n, n, static_cast<uint32_t>(lanes_), rest);
    l_.set(f_.reduce, value);
    for (const dispatch::Store &s : d_.stores) l_.store(s);
  }

  const Contraction &f_;
  const Dispatch &d_;
  const TargetRecord &record_;
  Scheduled out_;
  kernel::Builder b_;
  Lowering l_;
  Scalar type_ = Scalar::kF32;
  Expr n_, m_;
  bool left_direct_ = false, direct_ = false, panels_ = false, blocked_ = false;
  std::vector<Expr> left_steps_, right_steps_; // by axis of k
  int64_t lanes_ = 16, rows_ = 1, n_chunk_ = 0, m_chunk_ = 0, k_block_ = 0, k_inner_ = 1, k_count_ = 1;
  ValueId m_lo_ = kNoValue, m_hi_ = kNoValue;
  uint32_t left_array_ = 0, panel_array_ = 0, sums_array_ = 0;
};

} // namespace

std::optional<Scheduled> schedule_block_contract(const Dispatch &original, const TargetRecord &record) {
  auto form = match_contraction(original);
  if (!form) return std::nullopt;
  return BlockContract(*form, record, original).build();
}

} // namespace ingot::aotc::schedule
