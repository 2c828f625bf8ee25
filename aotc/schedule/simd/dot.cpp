// Products of bytes, u8 by i8 in i32: register tiles of mr rows by nv vectors of sums, dot products of four bytes.
//
//   for each group of rows and columns:
//     left[m][k] = the group's rows, gathered in scratch: a window's taps lie side by side
//     for each column tile:            (a right side that is no constant is packed as [k/4][columns][4] first)
//       for each row tile: acc[mr][nv] += dot(left[m + r][4k ..], right[k][v][4]) over all k; epilogue; store
//
// Where the target has kDot4 (VNNI), rows are bytes. Elsewhere rows are i16 and each four bytes of the right side become
// two pairs, its even and its odd elements, by shifts within 16 bits, once for several row tiles; so the left side's four are stored even ones first:
//
//   right bytes  w0 w1 w2 w3  ->  (w0, w2), (w1, w3)        left  x0 x1 x2 x3  ->  x0 x2 x1 x3
//   sum += x0 w0 + x2 w2;  sum += x1 w1 + x3 w3             by kDot2: exact, nothing saturates
#include <algorithm>

#include "aotc/base/error.h"
#include "aotc/schedule/collapse.h"
#include "aotc/schedule/contraction.h"
#include "aotc/schedule/internal.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::Value;
using kernel::kNoValue;
using kernel::Opcode;
using kernel::ValueId;
using kernel::Values;

namespace {

constexpr int64_t kPanel = 16;             // columns of a panel of packed weights
constexpr int64_t kGroup = 4;              // bytes of a dot product
constexpr int64_t kUnitRows = 12;          // row tiles of every record divide it
constexpr int64_t kRowsBytes = 448 << 10;  // of a group's rows in scratch, as i16

// The dispatch with its row axes as one, which is the last.
Dispatch merge_rows(const Contraction &c, const DotProduct &dot) {
  Dispatch d = c.d;
  if (dot.rows.empty())
    return d;
  Expr extent = 1;
  for (uint32_t a : dot.rows)
    extent = extent * d.axes[a].extent;
  Symbol row = Symbol::axis("row", extent);
  std::map<Symbol, Expr> to;
  Expr rest = row;
  for (size_t i = dot.rows.size(); i-- > 0;) {
    const dispatch::Axis &axis = d.axes[dot.rows[i]];
    to[axis.symbol] = i == 0 ? rest : mod(rest, axis.extent);
    rest = floordiv(rest, axis.extent);
  }
  substitute(d, to);
  for (dispatch::Store &s : d.stores) {
    std::erase_if(s.axes, [&](uint32_t a) { return std::find(dot.rows.begin(), dot.rows.end(), a) != dot.rows.end(); });
    s.axes.push_back(static_cast<uint32_t>(d.axes.size()));
  }
  d.axes.push_back({row, extent});
  return d;
}

class DotKernel {
 public:
  DotKernel(const Contraction &form, const DotProduct &dot, const TargetRecord &record, const Dispatch &original)
      : f_(form), dot_(dot), d_(merge_rows(form, dot)), b_(out_.kernel), l_(b_, d_, original.free_symbols()) {
    out_.kernel.name = d_.name;
    bytes_ = record.has_dot4;
    w_ = std::min<int64_t>(kPanel, record.vector_bytes / 4);
    copy_lanes_ = std::max<int64_t>(16, record.vector_bytes / (bytes_ ? 1 : 2));
    if (!dot_.rows.empty())
      m_ = d_.axes.back().extent;
    n_ = d_.axes[f_.n].extent;
    if (dot_.block >= 0)
      n_ = n_ * d_.axes[static_cast<size_t>(dot_.block)].extent;
    const dispatch::Operand &right = d_.operands[d_.values[dot_.right].operand];
    panels_ = right.packing && right.packing->group == kGroup;
    groups_ = (dot_.depth + kGroup - 1) / kGroup;
    pitch_ = (dot_.depth + 15) / 16 * 16;
    if (pitch_ % 256 == 0)
      pitch_ += 16; // rows a power of two apart would share cache sets
    int64_t rows = m_.constant().value_or(1 << 20);
    nv_ = rows == 1 ? 4 : 2;
    mr_ = std::clamp<int64_t>(rows, 1, record.vector_registers >= 32 ? kUnitRows : 6);
    wide_ = !bytes_ && rows > 2 * mr_;
    if (auto n = n_.constant())
      nv_ = std::clamp<int64_t>((*n + w_ - 1) / w_, 1, nv_);
  }

  Scheduled build() {
    choose_blocks();
    Expr n_chunks = ceildiv(n_, n_chunk_), m_chunks = ceildiv(m_, m_chunk_);
    out_.grid = {extent_product(d_, dot_.batch) * m_chunks * n_chunks, 1, 1};
    int64_t nr = nv_ * w_;
    left_ = b_.add_array("left", kernel::Space::kPrivate, bytes_ ? Scalar::kI8 : Scalar::kI16,
                         static_cast<uint64_t>(m_chunk_ * pitch_), 64);
    if (!bytes_)
      line_ = b_.add_array("line", kernel::Space::kPrivate, Scalar::kI8, static_cast<uint64_t>(pitch_), 64);
    if (!panels_)
      panel_ = b_.add_array("panel", kernel::Space::kPrivate, Scalar::kI8, static_cast<uint64_t>(groups_ * nr * kGroup), 64);
    if (wide_)
      wide_columns_ = b_.add_array("wide", kernel::Space::kPrivate, Scalar::kI16, static_cast<uint64_t>(groups_ * nr * kGroup), 64);
    out_.description = std::string(bytes_ ? "dot4" : "dot2") + "{mr=" + std::to_string(mr_) + ",nr=" + std::to_string(nr) +
                       (panels_ ? ",panels" : ",packed") + (wide_ ? ",wide" : "") + ",nc=" + std::to_string(n_chunk_) +
                       ",mc=" + std::to_string(m_chunk_) + "}";
    Lowering::Scope scope(l_);
    ValueId group = b_.group_id(0), nc = l_.expr(n_chunks), mc = l_.expr(m_chunks);
    ValueId n_lo = b_.mul(b_.rem(group, nc), b_.index(n_chunk_));
    group = b_.div(group, nc);
    m_lo_ = b_.mul(b_.rem(group, mc), b_.index(m_chunk_));
    if (!dot_.batch.empty())
      bind_flat(l_, dot_.batch, b_.div(group, mc));
    ValueId n_hi = b_.min(b_.add(n_lo, b_.index(n_chunk_)), l_.expr(n_));
    m_hi_ = b_.min(b_.add(m_lo_, b_.index(m_chunk_)), l_.expr(m_));
    gather_rows();
    column_tiles(n_lo, n_hi, [&](ValueId n, ValueId rest) {
      if (!panels_)
        pack_columns(n, rest);
      if (wide_)
        widen_columns(n);
      row_tiles([&](ValueId m, int64_t mr) { finish(m, mr, n, rest, multiply(m, mr, n)); });
    });
    return std::move(out_);
  }

 private:
  // Sizes of groups, from the dispatch alone. Each gathers its rows for itself, so they are divided by rows first.
  void choose_blocks() {
    int64_t n = std::max<int64_t>(1, typical(n_)), m = std::max<int64_t>(1, typical(m_));
    double work = 2.0 * static_cast<double>(n) * static_cast<double>(m) * static_cast<double>(dot_.depth);
    int64_t pieces = std::clamp<int64_t>(static_cast<int64_t>(work / 4e6), 1, 24);
    int64_t most = std::clamp<int64_t>(kRowsBytes / (2 * pitch_) / kUnitRows, 1, 16) * kUnitRows;
    int64_t m_pieces = std::max((m + most - 1) / most, std::min(pieces, (m + 4 * kUnitRows - 1) / (4 * kUnitRows)));
    m_chunk_ = ((m + m_pieces - 1) / m_pieces + kUnitRows - 1) / kUnitRows * kUnitRows;
    if (auto rows = m_.constant(); rows && *rows <= m_chunk_)
      m_chunk_ = std::max<int64_t>(1, *rows);
    m_pieces = (m + m_chunk_ - 1) / m_chunk_;
    constexpr int64_t kUnitColumns = 64; // column tiles of every record divide it
    int64_t n_pieces = std::clamp<int64_t>(pieces / m_pieces, 1, (n + kUnitColumns - 1) / kUnitColumns);
    n_chunk_ = ((n + n_pieces - 1) / n_pieces + kUnitColumns - 1) / kUnitColumns * kUnitColumns;
  }

  void loop(ValueId lo, ValueId hi, int64_t step, const std::function<void(ValueId)> &body, uint32_t unroll = 1) {
    b_.for_loop(
        lo, hi, b_.index(step), {},
        [&](ValueId i, const Values &) {
          Lowering::Scope scope(l_);
          body(i);
          return Values{};
        },
        unroll);
  }

  void bind_row(ValueId m) {
    if (!dot_.rows.empty())
      l_.bind(static_cast<uint32_t>(d_.axes.size() - 1), m);
  }

  // ---- The left side

  ValueId row_start(ValueId m) { return b_.mul(b_.sub(m, m_lo_), b_.index(pitch_)); }

  // Rows of k in scratch. What lies beyond the depth is never written: its factors on the right side are zero.
  void gather_rows() {
    int64_t inner = *d_.axes[f_.k.back()].extent.constant();
    loop(m_lo_, m_hi_, 1, [&](ValueId m) {
      bind_row(m);
      ValueId row = row_start(m);
      if (bytes_ || inner % kGroup == 0) {
        gather(left_, row, !bytes_);
        return;
      }
      gather(line_, b_.index(0), false);
      loop(b_.index(0), b_.index(groups_ * kGroup), 16, [&](ValueId k) {
        b_.store(left_, b_.add(row, k), pairs(b_.load(line_, k, 16)), 16);
      });
    });
  }

  void gather(uint32_t memory, ValueId row, bool as_pairs) {
    uint32_t last = f_.k.back();
    int64_t inner = *d_.axes[last].extent.constant();
    int64_t lanes = copy_lanes_;
    while (lanes > inner)
      lanes /= 2;
    l_.hoist(dot_.left);
    std::function<void(size_t, ValueId)> axes = [&](size_t at, ValueId flat) {
      if (at + 1 < f_.k.size()) {
        int64_t extent = *d_.axes[f_.k[at]].extent.constant();
        loop(
            b_.index(0), b_.index(extent), 1,
            [&](ValueId i) {
              l_.bind(f_.k[at], i);
              l_.hoist(dot_.left);
              axes(at + 1, b_.add(b_.mul(flat, b_.index(extent)), i));
            },
            extent <= 8 ? static_cast<uint32_t>(extent) : 1);
        return;
      }
      ValueId base = b_.add(row, b_.mul(flat, b_.index(inner)));
      auto part = [&](ValueId k) {
        l_.bind_lanes(last, k, static_cast<uint32_t>(lanes));
        ValueId value = l_.eval_lanes(dot_.left);
        b_.store(memory, b_.add(base, k), as_pairs ? pairs(value) : value);
      };
      int64_t full = inner / lanes * lanes;
      loop(b_.index(0), b_.index(full), lanes, part, 2);
      if (full < inner) { // the last vector overlaps the one before it
        Lowering::Scope scope(l_);
        part(b_.index(inner - lanes));
      }
    };
    axes(0, b_.index(0));
  }

  // Bytes as i16, the even ones of each four first.
  ValueId pairs(ValueId bytes) {
    uint32_t lanes = b_.type_of(bytes).lanes;
    std::vector<int64_t> order;
    for (uint32_t i = 0; i < lanes; i += 4)
      for (uint32_t j : {0, 2, 1, 3})
        order.push_back(i + j);
    return b_.convert_u(Type(Scalar::kI16, lanes), b_.shuffle(bytes, bytes, order));
  }

  // ---- The right side

  // The columns of vector v of the tile that starts with column n; the first `rest` are there (kNoValue: all).
  void bind_columns(ValueId n, int64_t v, ValueId rest) {
    ValueId first = b_.add(n, b_.index(v * w_));
    if (dot_.block >= 0) {
      l_.bind(static_cast<uint32_t>(dot_.block), b_.div(first, b_.index(kPanel)));
      first = b_.rem(first, b_.index(kPanel));
    }
    l_.bind_lanes(f_.n, first, static_cast<uint32_t>(w_), rest == kNoValue ? kNoValue : b_.sub(rest, b_.index(v * w_)));
  }

  // panel[k / 4][columns of the tile][4]; what lies beyond the depth is zero.
  void pack_columns(ValueId n, ValueId rest) {
    Type line(Scalar::kI8, static_cast<uint32_t>(w_));
    auto group = [&](ValueId g, int64_t count) {
      for (int64_t v = 0; v < nv_; ++v) {
        Values lines;
        for (int64_t j = 0; j < kGroup; ++j) {
          Lowering::Scope scope(l_);
          if (j >= count) {
            lines.push_back(b_.zero(line));
            continue;
          }
          bind_flat(l_, f_.k, b_.add(b_.mul(g, b_.index(kGroup)), b_.index(j)));
          bind_columns(n, v, rest);
          lines.push_back(l_.eval_lanes(dot_.right));
        }
        ValueId low = interleave(lines[0], lines[1], 1), high = interleave(lines[2], lines[3], 1);
        ValueId at = b_.mul(b_.add(b_.mul(g, b_.index(nv_)), b_.index(v)), b_.index(w_ * kGroup));
        b_.store(panel_, at, interleave(low, high, 2), static_cast<uint32_t>(w_ * kGroup));
      }
    };
    int64_t full = dot_.depth / kGroup;
    loop(b_.index(0), b_.index(full), 1, [&](ValueId g) { group(g, kGroup); });
    if (full < groups_)
      group(b_.index(full), dot_.depth % kGroup);
  }

  // Runs of `unit` elements of a and b in turn.
  ValueId interleave(ValueId a, ValueId b, uint32_t unit) {
    uint32_t lanes = b_.type_of(a).lanes;
    std::vector<int64_t> order;
    for (uint32_t i = 0; i < lanes; i += unit)
      for (uint32_t from : {i, lanes + i})
        for (uint32_t j = 0; j < unit; ++j)
          order.push_back(from + j);
    return b_.shuffle(a, b, order);
  }

  // ---- Tiles

  // First column, and the columns that are there (kNoValue: all).
  void column_tiles(ValueId n_lo, ValueId n_hi, const std::function<void(ValueId, ValueId)> &tile) {
    int64_t nr = nv_ * w_;
    ValueId step = b_.index(nr);
    ValueId n_full = b_.add(n_lo, b_.mul(b_.div(b_.sub(n_hi, n_lo), step), step));
    loop(n_lo, n_full, nr, [&](ValueId n) { tile(n, kNoValue); });
    if (auto all = n_.constant(); all && *all % nr == 0)
      return;
    b_.if_then(b_.lt(n_full, n_hi), [&] {
      Lowering::Scope scope(l_);
      tile(n_full, b_.sub(n_hi, n_full));
    });
  }

  // Full row tiles, then the constant rest or, where that is not known, smaller ones.
  void row_tiles(const std::function<void(ValueId, int64_t)> &tile) {
    auto tiles = [&](ValueId lo, int64_t mr) {
      ValueId step = b_.index(mr);
      ValueId hi = mr == 1 ? m_hi_ : b_.add(lo, b_.mul(b_.div(b_.sub(m_hi_, lo), step), step));
      loop(lo, hi, mr, [&](ValueId m) { tile(m, mr); });
      return hi;
    };
    ValueId at = tiles(m_lo_, mr_);
    if (auto all = m_.constant(); all && (m_chunk_ % mr_ == 0 || m_chunk_ == *all)) {
      if (int64_t rest = *all % mr_)
        b_.if_then(b_.lt(at, m_hi_), [&] {
          Lowering::Scope scope(l_);
          tile(at, rest);
        });
      return;
    }
    for (int64_t mr = mr_ / 2; mr > 1; mr /= 2)
      at = tiles(at, mr);
    if (mr_ > 1)
      tiles(at, 1);
  }

  // Where vector v of the tile starts in the right side; a further group of k is right_step() on.
  ValueId right_start(ValueId n, int64_t v) {
    if (!panels_)
      return b_.index(v * w_ * kGroup);
    Lowering::Scope scope(l_);
    for (uint32_t a : f_.k)
      l_.bind(a, b_.index(0));
    ValueId first = b_.add(n, b_.index(v * w_));
    // Vectors never cross a panel; one that lies wholly beyond the last column reads the panel before it.
    first = b_.min(first, b_.mul(b_.div(b_.sub(l_.expr(n_), b_.index(1)), b_.index(w_)), b_.index(w_)));
    if (dot_.block >= 0) {
      l_.bind(static_cast<uint32_t>(dot_.block), b_.div(first, b_.index(kPanel)));
      first = b_.rem(first, b_.index(kPanel));
    }
    l_.bind(f_.n, first);
    return l_.expr(d_.values[dot_.right].expr);
  }

  Values multiply(ValueId m, int64_t mr, ValueId n) {
    uint32_t lanes = static_cast<uint32_t>(w_);
    Type sums(Scalar::kI32, lanes);
    Values starts;
    for (int64_t v = 0; v < nv_; ++v)
      starts.push_back(right_start(n, v));
    uint32_t memory = panels_ ? d_.values[dot_.right].operand : panel_;
    int64_t step = (panels_ ? kPanel : nv_ * w_) * kGroup;
    ValueId row = row_start(m);
    auto left = [&](ValueId group, int64_t r, int64_t at, uint32_t count) {
      ValueId k = b_.add(row, b_.mul(group, b_.index(kGroup)));
      return b_.load(left_, b_.add(k, b_.index(r * pitch_ + at)), count, count);
    };
    return b_.for_loop(
        b_.index(0), b_.index(groups_), b_.index(1), Values(static_cast<size_t>(mr * nv_), b_.zero(sums)),
        [&](ValueId g, const Values &carried) {
          Values acc = carried, columns;
          for (int64_t v = 0; v < nv_ && !wide_; ++v) {
            ValueId at = b_.add(starts[static_cast<size_t>(v)], b_.mul(g, b_.index(step)));
            columns.push_back(b_.load(memory, at, lanes * kGroup, lanes * kGroup));
          }
          if (bytes_) {
            for (int64_t r = 0; r < mr; ++r) {
              ValueId x = left(g, r, 0, kGroup);
              for (int64_t v = 0; v < nv_; ++v)
                add_dot(acc[static_cast<size_t>(r * nv_ + v)], Opcode::kDot4, x, columns[static_cast<size_t>(v)]);
            }
            return acc;
          }
          // One half after the other: few columns are held beside the sums.
          for (int64_t half = 0; half < 2; ++half) {
            Values words;
            for (int64_t v = 0; v < nv_; ++v)
              words.push_back(wide_ ? b_.load(wide_columns_, wide_at(g, half, v), 2 * lanes, 2 * lanes)
                                    : widened(columns[static_cast<size_t>(v)], half));
            for (int64_t r = 0; r < mr; ++r) {
              ValueId x = left(g, r, 2 * half, 2);
              for (int64_t v = 0; v < nv_; ++v)
                add_dot(acc[static_cast<size_t>(r * nv_ + v)], Opcode::kDot2, x, words[static_cast<size_t>(v)]);
            }
          }
          return acc;
        },
        mr * nv_ <= 4 ? 4 : 1);
  }

  // The even (half 0) or odd bytes of each four, as i16.
  ValueId widened(ValueId bytes, int64_t half) {
    Type words(Scalar::kI16, b_.type_of(bytes).lanes / 2);
    ValueId both = b_.bitcast(words, bytes), eight = b_.constant(words, 8);
    return b_.binary(Opcode::kShr, half ? both : b_.binary(Opcode::kShl, both, eight), eight);
  }

  ValueId wide_at(ValueId group, int64_t half, int64_t v) {
    return b_.add(b_.mul(group, b_.index(4 * nv_ * w_)), b_.index((half * nv_ + v) * 2 * w_));
  }

  // The tile's columns as i16, [k / 4][half][columns][2]: worth it where several row tiles read them.
  void widen_columns(ValueId n) {
    uint32_t lanes = static_cast<uint32_t>(w_);
    uint32_t memory = panels_ ? d_.values[dot_.right].operand : panel_;
    int64_t step = (panels_ ? kPanel : nv_ * w_) * kGroup;
    for (int64_t v = 0; v < nv_; ++v) {
      ValueId start = right_start(n, v);
      loop(
          b_.index(0), b_.index(groups_), 1,
          [&](ValueId g) {
            ValueId bytes = b_.load(memory, b_.add(start, b_.mul(g, b_.index(step))), lanes * kGroup, lanes * kGroup);
            for (int64_t half = 0; half < 2; ++half)
              b_.store(wide_columns_, wide_at(g, half, v), widened(bytes, half), 2 * lanes);
          },
          2);
    }
  }

  void add_dot(ValueId &sum, Opcode op, ValueId x, ValueId column) { sum = b_.dot(op, x, column, sum); }

  void finish(ValueId m, int64_t mr, ValueId n, ValueId rest, const Values &sums) {
    for (int64_t v = 0; v < nv_; ++v) {
      Lowering::Scope columns(l_);
      bind_columns(n, v, rest);
      // What depends on the column alone is loaded once for all rows.
      if (!dot_.rows.empty())
        for (const Sink &sink : sinks_of(d_))
          for (dispatch::ValueId value : sink.values)
            l_.hoist(value);
      for (int64_t r = 0; r < mr; ++r) {
        Lowering::Scope row(l_);
        bind_row(b_.add(m, b_.index(r)));
        l_.set(f_.reduce, sums[static_cast<size_t>(r * nv_ + v)]);
        for (const dispatch::Store &s : d_.stores)
          l_.store(s);
      }
    }
  }

  const Contraction &f_;
  const DotProduct &dot_;
  Dispatch d_;
  Scheduled out_;
  kernel::Builder b_;
  Lowering l_;
  bool bytes_ = false, panels_ = false, wide_ = false;
  Expr m_ = 1, n_;
  int64_t w_ = 4, mr_ = 1, nv_ = 1, copy_lanes_ = 16, groups_ = 1, pitch_ = 16, m_chunk_ = 1, n_chunk_ = 1;
  ValueId m_lo_ = kNoValue, m_hi_ = kNoValue;
  uint32_t left_ = 0, line_ = 0, panel_ = 0, wide_columns_ = 0;
};

} // namespace

std::optional<Scheduled> schedule_dot(const Dispatch &original, const TargetRecord &record) {
  auto form = match_contraction(original);
  if (!form)
    return std::nullopt;
  auto dot = match_dot(*form);
  if (!dot)
    return std::nullopt;
  return DotKernel(*form, *dot, record, original).build();
}

} // namespace ingot::aotc::schedule
