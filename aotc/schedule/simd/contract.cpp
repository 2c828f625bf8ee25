// Matrix products: register tiles of mr rows by nv vectors, the k loop innermost, any elementwise epilogue at the store.
//
//   for each few column tiles of the group:             (panels: prepacked constants, read in place)
//     pack right[k][column tile] into scratch           (otherwise, where the rows use it more than once)
//     for each row tile: acc[mr][nv] = sum over k of splat(left[m + r][k]) * right[k][v]; epilogue; store
//
// Where k is symbolic, panels hold blocks of k and the sums of the group's rows wait in scratch between blocks. Tails of
// rows and columns are tiles of their own size where the extent is constant.
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

struct Tile {
  int64_t mr = 1, nv = 1;
};

// Accumulators that fit the registers beside nv loaded vectors and a broadcast one.
Tile choose_tile(const TargetRecord &record, int64_t lanes, std::optional<int64_t> rows) {
  int64_t m = rows.value_or(1 << 20);
  if (m <= 1)
    return {1, 8};
  if (m <= 3)
    return {m, 4};
  Tile t{6, 2};
  if (record.vector_registers >= 32)
    t = lanes >= 16 ? Tile{8, 2} : Tile{6, 4};
  t.mr = std::min(t.mr, m);
  return t;
}

class ContractKernel {
 public:
  ContractKernel(const Contraction &form, const TargetRecord &record, const Dispatch &original)
      : f_(form), d_(form.d), b_(out_.kernel), l_(b_, d_, original.free_symbols()) {
    out_.kernel.name = d_.name;
    type_ = to_scalar(d_.values[f_.reduce].type);
    w_ = std::max<int64_t>(2, record.vector_bytes / byte_size(type_));
    n_ = d_.axes[f_.n].extent;
    m_ = f_.m >= 0 ? d_.axes[static_cast<uint32_t>(f_.m)].extent : Expr(1);
    tile_ = choose_tile(record, w_, m_.constant());
    if (auto n = n_.constant())
      tile_.nv = std::max<int64_t>(1, std::min(tile_.nv, (*n + w_ - 1) / w_));
    const Value &right = d_.values[f_.right];
    panels_ = right.kind == ValueKind::kLoad && d_.operands[right.operand].packing.has_value() &&
              d_.operands[right.operand].packing->group == 1;
    direct_ = panels_ || (m_.constant() && *m_.constant() <= tile_.mr);
    l1_ = static_cast<int64_t>(record.l1_bytes);
    k_flat_ = 0;
    for (uint32_t a : f_.k)
      k_flat_ = k_flat_ * d_.axes[a].extent + d_.axes[a].symbol;
  }

  std::optional<Scheduled> build() {
    if (!choose_blocks())
      return std::nullopt;
    Expr n_chunks = ceildiv(n_, n_chunk_), m_chunks = ceildiv(m_, m_chunk_);
    out_.grid = {extent_product(d_, f_.batch) * m_chunks * n_chunks, 1, 1};
    int64_t nr = tile_.nv * w_;
    panel_tiles_ = blocked_ ? 1 : std::clamp<int64_t>(l1_ * 3 / 4 / (k_block_ * nr * byte_size(type_) + 1), 1, 16);
    int64_t panel_count = k_block_ * (blocked_ ? k_inner_ : panel_tiles_) * nr;
    if (!direct_)
      panel_ = b_.add_array("panel", kernel::Space::kPrivate, type_, static_cast<uint64_t>(panel_count), 64);
    if (blocked_)
      sums_ = b_.add_array("sums", kernel::Space::kPrivate, type_, static_cast<uint64_t>(sums_count()), 64);
    out_.description = "contract{mr=" + std::to_string(tile_.mr) + ",nr=" + std::to_string(nr) + "," +
                       (panels_ ? "panels" : direct_ ? "direct" : "packed") +
                       (blocked_ ? ",kc=" + std::to_string(k_block_ * k_inner_) : "") +
                       ",nc=" + std::to_string(n_chunk_) + ",mc=" + std::to_string(m_chunk_) + "}";
    Lowering::Scope scope(l_);
    ValueId group = b_.group_id(0), nc = l_.expr(n_chunks), mc = l_.expr(m_chunks);
    ValueId n_lo = b_.mul(b_.rem(group, nc), b_.index(n_chunk_));
    group = b_.div(group, nc);
    ValueId m_lo = b_.mul(b_.rem(group, mc), b_.index(m_chunk_));
    if (!f_.batch.empty())
      bind_flat(l_, f_.batch, b_.div(group, mc));
    ValueId n_hi = b_.min(b_.add(n_lo, b_.index(n_chunk_)), l_.expr(n_));
    ValueId m_hi = b_.min(b_.add(m_lo, b_.index(m_chunk_)), l_.expr(m_));
    for (const Sink &sink : sinks_of(d_))
      for (dispatch::ValueId v : sink.values)
        l_.hoist(v);
    // Rows in blocks that stay in the second-level cache while the panels stream by.
    if (m_block_ < m_chunk_) {
      b_.for_loop(m_lo, m_hi, b_.index(m_block_), {}, [&](ValueId m, const Values &) {
        Lowering::Scope scope(l_);
        block(m, b_.min(b_.add(m, b_.index(m_block_)), m_hi), n_lo, n_hi);
        return Values{};
      });
    } else {
      block(m_lo, m_hi, n_lo, n_hi);
    }
    return std::move(out_);
  }

 private:
  // Sizes of groups, from the dispatch alone: a few million operations each, so that threads share them well.
  bool choose_blocks() {
    int64_t n = std::max<int64_t>(1, typical(n_)), m = std::max<int64_t>(1, typical(m_)), k = 1;
    bool constant_k = true;
    for (uint32_t a : f_.k) {
      constant_k &= d_.axes[a].extent.is_constant();
      k = std::min<int64_t>(1 << 24, k * std::max<int64_t>(1, typical(d_.axes[a].extent)));
    }
    int64_t unit_n = m <= 3 ? 384 : 96, unit_m = 96;
    double work = 2.0 * static_cast<double>(n) * static_cast<double>(m) * static_cast<double>(k);
    int64_t pieces = std::clamp<int64_t>(static_cast<int64_t>(work / 1e6), 1, 48);
    int64_t n_pieces = std::min(pieces, (n + unit_n - 1) / unit_n);
    n_chunk_ = ((n + n_pieces - 1) / n_pieces + unit_n - 1) / unit_n * unit_n;
    int64_t m_pieces = std::min(std::max<int64_t>(1, pieces / n_pieces), (m + unit_m - 1) / unit_m);
    m_chunk_ = ((m + m_pieces - 1) / m_pieces + unit_m - 1) / unit_m * unit_m;
    if (auto rows = m_.constant(); rows && m_pieces == 1)
      m_chunk_ = std::max<int64_t>(1, *rows);
    // Blocks of k keep a panel in the first-level cache, at the price of sums that wait in memory. What decides the grid
    // is decided alike for every record.
    constexpr int64_t kBlock = 1024;
    bool deep = !(constant_k && k <= kBlock * 3 / 2);
    if (deep) { // the sums of a group are bounded, and so is the left block
      n_chunk_ = std::min<int64_t>(n_chunk_, unit_n * 4);
      m_chunk_ = std::min<int64_t>(m_chunk_, 192);
      bool constant_inner = true;
      for (size_t i = 1; i < f_.k.size(); ++i) {
        auto extent = d_.axes[f_.k[i]].extent.constant();
        constant_inner &= extent.has_value();
        k_inner_ = std::min<int64_t>(1 << 20, k_inner_ * std::max<int64_t>(1, extent.value_or(1)));
      }
      bool in_blocks = constant_inner && k_inner_ <= kBlock;
      bool whole = constant_k && k <= (1 << 14);
      if (!in_blocks && !whole && !panels_ && m_.constant() != 1)
        return false;
      deep = in_blocks;
    }
    m_block_ = m_chunk_;
    k_block_ = k;
    bool one_pass = m_.constant() && *m_.constant() <= tile_.mr; // over the right side
    if (one_pass || !deep)
      return true;
    blocked_ = true;
    k_block_ = std::max<int64_t>(1, kBlock / k_inner_); // of the outermost axis
    return true;
  }

  // Calls `tile` for all column tiles: first column, vectors, and the columns that are there (kNoValue: all).
  void column_tiles(ValueId n_lo, ValueId n_hi, const std::function<void(ValueId, int64_t, ValueId)> &tile,
                    uint32_t unroll = 1) {
    int64_t nr = tile_.nv * w_;
    ValueId step = b_.index(nr);
    ValueId n_full = b_.add(n_lo, b_.mul(b_.div(b_.sub(n_hi, n_lo), step), step));
    b_.for_loop(
        n_lo, n_full, step, {},
        [&](ValueId n, const Values &) {
          Lowering::Scope scope(l_);
          tile(n, tile_.nv, kNoValue);
          return Values{};
        },
        unroll);
    auto all = n_.constant();
    if (all && *all % nr == 0 && n_chunk_ % nr == 0)
      return;
    int64_t nv = tile_.nv;
    if (all && n_chunk_ % nr == 0)
      nv = (*all % nr + w_ - 1) / w_;
    b_.if_then(b_.lt(n_full, n_hi), [&] {
      Lowering::Scope scope(l_);
      tile(n_full, nv, b_.sub(n_hi, n_full));
    });
  }

  // The rows [m_lo, m_hi) of the columns [n_lo, n_hi).
  void block(ValueId m_lo, ValueId m_hi, ValueId n_lo, ValueId n_hi) {
    if (blocked_) {
      block_in_parts(m_lo, m_hi, n_lo, n_hi);
      return;
    }
    ValueId k_hi = l_.extent(f_.k[0]);
    auto tile = [&](ValueId m, int64_t mr, ValueId n, int64_t nv, ValueId rest) {
      Values acc(static_cast<size_t>(mr * nv), b_.zero(kernel_type()));
      acc = multiply(m, mr, n, nv, rest, b_.index(0), k_hi, acc);
      for (int64_t r = 0; r < mr; ++r)
        for (int64_t v = 0; v < nv; ++v)
          finish(b_.add(m, b_.index(r)), n, nv, v, rest, acc[static_cast<size_t>(r * nv + v)]);
    };
    if (direct_) {
      column_tiles(n_lo, n_hi, [&](ValueId n, int64_t nv, ValueId rest) {
        rows(m_lo, m_hi, [&](ValueId m, int64_t mr) { tile(m, mr, n, nv, rest); });
      });
      return;
    }
    // As many column tiles at once as the first-level cache holds: rows of both sides are then run along, not hopped.
    int64_t nr = tile_.nv * w_;
    b_.for_loop(n_lo, n_hi, b_.index(nr * panel_tiles_), {}, [&](ValueId n_block, const Values &) {
      Lowering::Scope scope(l_);
      ValueId n_end = b_.min(b_.add(n_block, b_.index(nr * panel_tiles_)), n_hi);
      k_loops(0, b_.index(0), k_hi, {}, 1, [&](const Values &) {
        ValueId row = b_.mul(l_.expr(k_flat_), b_.index(nr));
        column_tiles(
            n_block, n_end,
            [&](ValueId n, int64_t nv, ValueId rest) {
              pack_row(b_.add(b_.mul(b_.sub(n, n_block), b_.index(k_block_)), row), n, nv, rest);
            },
            panel_tiles_ >= 4 ? 4 : 1);
        return Values{};
      });
      rows(m_lo, m_hi, [&](ValueId m, int64_t mr) {
        column_tiles(n_block, n_end, [&](ValueId n, int64_t nv, ValueId rest) {
          panel_at_ = b_.mul(b_.sub(n, n_block), b_.index(k_block_));
          tile(m, mr, n, nv, rest);
        });
      });
      return Values{};
    });
  }

  // The same in blocks of k: the left block stays in the second-level cache, a panel in the first; sums are
  // [column tile][row][nr] in scratch.
  void block_in_parts(ValueId m_lo, ValueId m_hi, ValueId n_lo, ValueId n_hi) {
    int64_t nr = tile_.nv * w_;
    uint32_t align = static_cast<uint32_t>(w_);
    auto slot = [&](ValueId m, ValueId n, int64_t v) {
      ValueId tile = b_.mul(b_.sub(n, n_lo), b_.index(m_chunk_));
      return b_.add(b_.add(tile, b_.mul(b_.sub(m, m_lo), b_.index(nr))), b_.index(v * w_));
    };
    b_.for_loop(
        b_.index(0), b_.index(sums_count()), b_.index(w_), {},
        [&](ValueId i, const Values &) {
          b_.store(sums_, i, b_.zero(kernel_type()), align);
          return Values{};
        },
        4);
    ValueId k_end = l_.extent(f_.k[0]);
    b_.for_loop(b_.index(0), k_end, b_.index(k_block_), {}, [&](ValueId k, const Values &) {
      Lowering::Scope scope(l_);
      ValueId k_hi = b_.min(b_.add(k, b_.index(k_block_)), k_end);
      column_tiles(n_lo, n_hi, [&](ValueId n, int64_t nv, ValueId rest) {
        panel_at_ = b_.index(0);
        if (!direct_)
          pack(n, nv, rest, k, k_hi);
        rows(m_lo, m_hi, [&](ValueId m, int64_t mr) {
          Values acc;
          for (int64_t r = 0; r < mr; ++r)
            for (int64_t v = 0; v < nv; ++v)
              acc.push_back(b_.load(sums_, slot(b_.add(m, b_.index(r)), n, v), align, align));
          acc = multiply(m, mr, n, nv, rest, k, k_hi, acc);
          for (int64_t r = 0; r < mr; ++r)
            for (int64_t v = 0; v < nv; ++v)
              b_.store(sums_, slot(b_.add(m, b_.index(r)), n, v), acc[static_cast<size_t>(r * nv + v)], align);
        });
      });
      return Values{};
    });
    column_tiles(n_lo, n_hi, [&](ValueId n, int64_t nv, ValueId rest) {
      b_.for_loop(m_lo, m_hi, b_.index(1), {}, [&](ValueId m, const Values &) {
        Lowering::Scope scope(l_);
        for (int64_t v = 0; v < nv; ++v)
          finish(m, n, nv, v, rest, b_.load(sums_, slot(m, n, v), align, align));
        return Values{};
      });
    });
  }

  int64_t sums_count() const {
    int64_t nr = tile_.nv * w_;
    return (n_chunk_ + nr - 1) / nr * nr * m_chunk_;
  }

  // Row tiles: full ones, then the constant rest or, where that is not known, smaller ones.
  void rows(ValueId m_lo, ValueId m_hi, const std::function<void(ValueId, int64_t)> &body) {
    auto tiles = [&](ValueId lo, int64_t mr) {
      ValueId step = b_.index(mr);
      ValueId hi = mr == 1 ? m_hi : b_.add(lo, b_.mul(b_.div(b_.sub(m_hi, lo), step), step));
      b_.for_loop(lo, hi, step, {}, [&](ValueId m, const Values &) {
        Lowering::Scope scope(l_);
        body(m, mr);
        return Values{};
      });
      return hi;
    };
    if (f_.m < 0) {
      Lowering::Scope scope(l_);
      body(b_.index(0), 1);
      return;
    }
    ValueId at = tiles(m_lo, tile_.mr);
    auto all = m_.constant();
    if (all && m_chunk_ % tile_.mr == 0 && m_block_ % tile_.mr == 0) {
      if (int64_t rest = *all % tile_.mr)
        b_.if_then(b_.lt(at, m_hi), [&] {
          Lowering::Scope scope(l_);
          body(at, rest);
        });
      return;
    }
    if (all && m_chunk_ == *all && m_block_ == m_chunk_) {
      if (int64_t rest = *all % tile_.mr) {
        Lowering::Scope scope(l_);
        body(at, rest);
      }
      return;
    }
    for (int64_t mr = tile_.mr / 2; mr > 1; mr /= 2)
      at = tiles(at, mr);
    if (tile_.mr > 1)
      tiles(at, 1);
  }

  void bind_row(ValueId m) {
    if (f_.m >= 0)
      l_.bind(static_cast<uint32_t>(f_.m), m);
  }

  // Lanes of vector v of a column tile; `rest` columns are there (kNoValue: all).
  void bind_columns(ValueId n, int64_t nv, int64_t v, ValueId rest) {
    ValueId base = b_.add(n, b_.index(v * w_));
    // Where the number of vectors was chosen for the rest, only the last one is cut.
    bool cut = rest != kNoValue && (v + 1 == nv || !n_.is_constant() || n_chunk_ % (tile_.nv * w_) != 0);
    l_.bind_lanes(f_.n, base, static_cast<uint32_t>(w_), cut ? b_.sub(rest, b_.index(v * w_)) : kNoValue);
  }

  void finish(ValueId m, ValueId n, int64_t nv, int64_t v, ValueId rest, ValueId value) {
    Lowering::Scope scope(l_);
    bind_row(m);
    bind_columns(n, nv, v, rest);
    l_.set(f_.reduce, value);
    for (const dispatch::Store &s : d_.stores)
      l_.store(s);
  }

  // Loops over k, the outermost axis within [lo, hi).
  Values k_loops(size_t at, ValueId lo, ValueId hi, const Values &init, uint32_t unroll,
                 const std::function<Values(const Values &)> &body) {
    if (at == f_.k.size())
      return body(init);
    return b_.for_loop(
        lo, hi, b_.index(1), init,
        [&](ValueId k, const Values &carried) {
          Lowering::Scope scope(l_);
          l_.bind(f_.k[at], k);
          ValueId next_hi = at + 1 < f_.k.size() ? l_.extent(f_.k[at + 1]) : kNoValue;
          return k_loops(at + 1, b_.index(0), next_hi, carried, unroll, body);
        },
        at + 1 == f_.k.size() ? unroll : 1);
  }

  void pack(ValueId n, int64_t nv, ValueId rest, ValueId k_lo, ValueId k_hi) {
    k_loops(0, k_lo, k_hi, {}, 4, [&](const Values &) {
      pack_row(panel_row(k_lo), n, nv, rest);
      return Values{};
    });
  }

  // One k of a panel, at `row` in scratch.
  void pack_row(ValueId row, ValueId n, int64_t nv, ValueId rest) {
    for (int64_t v = 0; v < nv; ++v) {
      Lowering::Scope scope(l_);
      bind_columns(n, nv, v, rest);
      b_.store(panel_, b_.add(row, b_.index(v * w_)), l_.eval_lanes(f_.right), static_cast<uint32_t>(w_));
    }
  }

  // Where the current k of a panel that starts with k_lo is, in the panel.
  ValueId panel_row(ValueId k_lo) {
    ValueId k = l_.expr(k_flat_);
    if (blocked_)
      k = b_.sub(k, b_.mul(k_lo, b_.index(k_inner_)));
    return b_.mul(k, b_.index(tile_.nv * w_));
  }

  Values multiply(ValueId m, int64_t mr, ValueId n, int64_t nv, ValueId rest, ValueId k_lo, ValueId k_hi,
                  const Values &init) {
    uint32_t lanes = static_cast<uint32_t>(w_);
    uint32_t unroll = mr * nv <= 4 ? 4 : 2;
    return k_loops(0, k_lo, k_hi, init, unroll, [&](const Values &carried) {
      Values acc = carried, columns;
      for (int64_t v = 0; v < nv; ++v) {
        Lowering::Scope scope(l_);
        if (panels_) {
          // Vectors never cross a panel: its columns are consecutive from a multiple of the vector's length.
          l_.bind(f_.n, b_.add(n, b_.index(v * w_)));
          columns.push_back(b_.load(d_.values[f_.right].operand, l_.expr(d_.values[f_.right].expr), lanes, lanes));
        } else if (direct_) {
          bind_columns(n, nv, v, rest);
          columns.push_back(l_.eval_lanes(f_.right));
        } else {
          ValueId row = b_.add(panel_at_, panel_row(k_lo));
          columns.push_back(b_.load(panel_, b_.add(row, b_.index(v * w_)), lanes, lanes));
        }
      }
      for (int64_t r = 0; r < mr; ++r) {
        Lowering::Scope scope(l_);
        bind_row(b_.add(m, b_.index(r)));
        ValueId x = b_.splat(l_.eval(f_.left), lanes);
        for (int64_t v = 0; v < nv; ++v) {
          ValueId &a = acc[static_cast<size_t>(r * nv + v)];
          a = b_.mad(x, columns[static_cast<size_t>(v)], a);
        }
      }
      return acc;
    });
  }

  Type kernel_type() const { return Type(type_, static_cast<uint32_t>(w_)); }

  const Contraction &f_;
  const Dispatch &d_;
  Scheduled out_;
  kernel::Builder b_;
  Lowering l_;
  Scalar type_ = Scalar::kF32;
  int64_t w_ = 8;
  Expr n_, m_, k_flat_;
  Tile tile_;
  bool panels_ = false, direct_ = false, blocked_ = false;
  int64_t n_chunk_ = 0, m_chunk_ = 0, m_block_ = 0, k_block_ = 0, k_inner_ = 1, l1_ = 0, panel_tiles_ = 1;
  ValueId panel_at_ = kNoValue;
  uint32_t panel_ = 0, sums_ = 0;
};

} // namespace

std::optional<Scheduled> schedule_contract(const Dispatch &original, const TargetRecord &record) {
  auto form = match_contraction(original);
  if (!form)
    return std::nullopt;
  ContractKernel kernel(*form, record, original);
  return kernel.build();
}

} // namespace ingot::aotc::schedule
