// Attention with a running softmax: the scores of a few rows and a block of keys at a time.
//
//   for each block of keys:
//     pack k as panels [key tile][d][nr], v as panels [column tile][key][nr]
//     for each row tile of the group:
//       scores[mr][block] = elementwise(q k'); lanes past the last key are -inf
//       for each row: new maximum, e = exp(score - maximum) in place, sum of e; what older blocks gave shrinks by
//                     exp(old maximum - new)
//       out[mr][columns] = out * shrink + e v
//   store out / sum
//
// Where all keys are one block nothing is carried from block to block: the sums stay in registers.
#include <algorithm>
#include <limits>

#include "aotc/base/error.h"
#include "aotc/schedule/attention.h"
#include "aotc/schedule/internal.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::Value;
using dispatch::ValueKind;
using kernel::kNoValue;
using kernel::Opcode;
using kernel::ValueId;
using kernel::Values;

namespace {

int64_t round_up(int64_t n, int64_t of) { return (n + of - 1) / of * of; }

class AttentionKernel {
 public:
  AttentionKernel(const Attention &form, const TargetRecord &record, const Dispatch &original)
      : f_(form), d_(form.d), b_(out_.kernel), l_(b_, d_, original.free_symbols()) {
    out_.kernel.name = d_.name;
    w_ = record.vector_bytes / 4;
    lanes_ = static_cast<uint32_t>(w_);
    row_count_ = d_.axes[f_.rows].extent;
    key_count_ = d_.axes[f_.keys].extent;
    columns_ = *d_.axes[f_.columns].extent.constant();
    for (uint32_t a : f_.depth) {
      depth_ *= *d_.axes[a].extent.constant();
      depth_flat_ = depth_flat_ * d_.axes[a].extent + d_.axes[a].symbol;
    }
    mr_ = 6;
    nv_ = 2;
    if (record.vector_registers >= 32 && w_ >= 16)
      mr_ = 8;
    else if (record.vector_registers >= 32)
      nv_ = 4;
    if (auto rows = row_count_.constant())
      mr_ = std::clamp<int64_t>(*rows, 1, mr_);
    nr_ = nv_ * w_;
    choose_blocks();
  }

  Scheduled build() {
    column_tiles_ = (columns_ + nr_ - 1) / nr_;
    k_panel_ = array("k_panel", block_ * depth_);
    v_panel_ = array("v_panel", column_tiles_ * nr_ * block_);
    scores_ = array("scores", mr_ * block_);
    sum_ = array("sum", single_ ? mr_ : row_chunk_);
    if (!single_) {
      largest_ = array("largest", row_chunk_);
      shrink_ = array("shrink", mr_);
      partial_ = array("out", row_chunk_ * column_tiles_ * nr_);
    }
    Expr chunks = ceildiv(row_count_, row_chunk_);
    out_.grid = {extent_product(d_, f_.batch) * chunks, 1, 1};
    out_.description = "attention{mr=" + std::to_string(mr_) + ",nr=" + std::to_string(nr_) +
                       ",keys=" + std::to_string(block_) + (single_ ? "" : ",online") + ",rows=" + std::to_string(row_chunk_) + "}";
    Lowering::Scope scope(l_);
    ValueId group = b_.group_id(0), count = l_.expr(chunks);
    row_lo_ = b_.mul(b_.rem(group, count), b_.index(row_chunk_));
    row_hi_ = b_.min(b_.add(row_lo_, b_.index(row_chunk_)), l_.expr(row_count_));
    if (!f_.batch.empty())
      bind_flat(l_, f_.batch, b_.div(group, count));
    for (const Sink &sink : sinks_of(d_))
      for (dispatch::ValueId v : sink.values)
        l_.hoist(v);
    if (single_) {
      keys_ = b_.index(*key_count_.constant());
      block(b_.index(0));
      return std::move(out_);
    }
    clear();
    ValueId all = l_.expr(key_count_);
    b_.for_loop(b_.index(0), all, b_.index(block_), {}, [&](ValueId first, const Values &) {
      Lowering::Scope inner(l_);
      keys_ = b_.min(b_.sub(all, first), b_.index(block_));
      block(first);
      return Values{};
    });
    b_.for_loop(row_lo_, row_hi_, b_.index(1), {}, [&](ValueId row, const Values &) {
      Lowering::Scope inner(l_);
      ValueId sum = divisor(b_.load(sum_, slot(row)));
      columns([&](ValueId n, int64_t nv) {
        for (int64_t v = 0; v < nv; ++v)
          finish(row, n, v, b_.load(partial_, partial_at(row, n, v), lanes_, lanes_), sum);
      });
      return Values{};
    });
    return std::move(out_);
  }

 private:
  // Rows of a group, from the dispatch alone: as many as one packing of keys and values should serve, fewer where there are
  // not many groups to share. Keys of a block: panels that the second-level cache holds.
  void choose_blocks() {
    constexpr int64_t kMostRows = 256, kFewRows = 48, kRowUnit = 24; // a multiple of every record's row tile
    constexpr int64_t kGroups = 8;
    const int64_t rows = std::max<int64_t>(1, typical(row_count_));
    int64_t batch = 1;
    for (uint32_t a : f_.batch)
      batch = std::min<int64_t>(kGroups, batch * std::max<int64_t>(1, typical(d_.axes[a].extent)));
    int64_t pieces = std::clamp<int64_t>((kGroups + batch - 1) / batch, 1, std::max<int64_t>(1, rows / kFewRows));
    pieces = std::max(pieces, (rows + kMostRows - 1) / kMostRows);
    row_chunk_ = round_up((rows + pieces - 1) / pieces, kRowUnit);
    if (!row_count_.is_constant())
      row_chunk_ = kMostRows / kRowUnit * kRowUnit;
    if (auto all = row_count_.constant(); all && pieces == 1)
      row_chunk_ = std::max<int64_t>(1, *all);
    constexpr int64_t kSingle = 256;
    auto all = key_count_.constant();
    single_ = all && *all >= 1 && *all <= kSingle;
    block_ = single_ ? round_up(*all, nr_) : 128;
  }

  uint32_t array(const char *name, int64_t count) {
    return b_.add_array(name, kernel::Space::kPrivate, Scalar::kF32, static_cast<uint64_t>(count), 64);
  }
  Type vector() const { return Type(Scalar::kF32, lanes_); }
  ValueId lowest(uint32_t lanes) { return b_.constant_float(Type(Scalar::kF32, lanes), -std::numeric_limits<double>::infinity()); }
  ValueId slot(ValueId row) { return b_.sub(row, row_lo_); }
  ValueId partial_at(ValueId row, ValueId n, int64_t v) {
    return b_.add(b_.add(b_.mul(slot(row), b_.index(column_tiles_ * nr_)), n), b_.index(v * w_));
  }

  void clear() {
    ValueId count = b_.sub(row_hi_, row_lo_);
    b_.for_loop(b_.index(0), count, b_.index(1), {}, [&](ValueId i, const Values &) {
      b_.store(sum_, i, b_.zero(Scalar::kF32));
      b_.store(largest_, i, lowest(1));
      return Values{};
    });
    b_.for_loop(
        b_.index(0), b_.mul(count, b_.index(column_tiles_ * nr_)), b_.index(w_), {},
        [&](ValueId i, const Values &) {
          b_.store(partial_, i, b_.zero(vector()), lanes_);
          return Values{};
        },
        4);
  }

  // The group's rows against keys_ keys from `first` on.
  void block(ValueId first) {
    pack_keys(first);
    pack_values(first);
    rows([&](ValueId row, int64_t mr) {
      score_tiles(row, mr, first);
      const int64_t pairs = mr / 2 * 2;
      b_.for_loop(b_.index(0), b_.index(pairs), b_.index(2), {}, [&](ValueId r, const Values &) {
        softmax(row, r, 2);
        return Values{};
      });
      if (pairs < mr)
        softmax(row, b_.index(pairs), 1);
      columns([&](ValueId n, int64_t nv) { weigh(row, mr, n, nv); });
    });
  }

  // Row tiles: full ones, then the constant rest or, where that is not known, smaller ones.
  void rows(const std::function<void(ValueId, int64_t)> &body) {
    auto tiles = [&](ValueId lo, int64_t mr) {
      ValueId step = b_.index(mr);
      ValueId hi = mr == 1 ? row_hi_ : b_.add(lo, b_.mul(b_.div(b_.sub(row_hi_, lo), step), step));
      b_.for_loop(lo, hi, step, {}, [&](ValueId row, const Values &) {
        Lowering::Scope scope(l_);
        body(row, mr);
        return Values{};
      });
      return hi;
    };
    ValueId at = tiles(row_lo_, mr_);
    auto all = row_count_.constant();
    if (all && (row_chunk_ % mr_ == 0 || row_chunk_ == *all)) {
      if (int64_t rest = *all % mr_)
        b_.if_then(b_.lt(at, row_hi_), [&] {
          Lowering::Scope scope(l_);
          body(at, rest);
        });
      return;
    }
    for (int64_t mr = mr_ / 2; mr > 1; mr /= 2)
      at = tiles(at, mr);
    if (mr_ > 1)
      tiles(at, 1);
  }

  // Column tiles of v and of the output: the first column and the number of vectors.
  void columns(const std::function<void(ValueId, int64_t)> &body) {
    const int64_t full = columns_ / nr_ * nr_;
    b_.for_loop(b_.index(0), b_.index(full), b_.index(nr_), {}, [&](ValueId n, const Values &) {
      Lowering::Scope scope(l_);
      body(n, nv_);
      return Values{};
    });
    if (full < columns_) {
      Lowering::Scope scope(l_);
      body(b_.index(full), (columns_ - full + w_ - 1) / w_);
    }
  }

  // Key tiles: the first key within the block, the number of vectors, and the keys that are there (kNoValue: all).
  void key_tiles(const std::function<void(ValueId, int64_t, ValueId)> &body) {
    ValueId step = b_.index(nr_), full = b_.mul(b_.div(keys_, step), step);
    b_.for_loop(b_.index(0), full, step, {}, [&](ValueId j, const Values &) {
      Lowering::Scope scope(l_);
      body(j, nv_, kNoValue);
      return Values{};
    });
    int64_t nv = nv_;
    if (auto all = key_count_.constant(); all && block_ % nr_ == 0) {
      const int64_t rest = (single_ ? *all : *all % block_) % nr_;
      if (!rest)
        return;
      nv = (rest + w_ - 1) / w_;
    }
    b_.if_then(b_.lt(full, keys_), [&] {
      Lowering::Scope scope(l_);
      body(full, nv, b_.sub(keys_, full));
    });
  }

  Values depth_loops(size_t at, const Values &init, uint32_t unroll, const std::function<Values(const Values &)> &body) {
    if (at == f_.depth.size())
      return body(init);
    return b_.for_loop(
        b_.index(0), l_.extent(f_.depth[at]), b_.index(1), init,
        [&](ValueId k, const Values &carried) {
          Lowering::Scope scope(l_);
          l_.bind(f_.depth[at], k);
          return depth_loops(at + 1, carried, unroll, body);
        },
        at + 1 == f_.depth.size() ? unroll : 1);
  }

  ValueId k_panel_at(ValueId j, ValueId k, int64_t v) {
    return b_.add(b_.add(b_.mul(j, b_.index(depth_)), b_.mul(k, b_.index(nr_))), b_.index(v * w_));
  }

  void pack_keys(ValueId first) {
    const bool transposes = keys_run_along_depth();
    key_tiles([&](ValueId j, int64_t nv, ValueId rest) {
      if (transposes) {
        for (int64_t v = 0; v < nv; ++v)
          pack_transposed(first, j, v, rest);
        return;
      }
      depth_loops(0, {}, 1, [&](const Values &) {
        for (int64_t v = 0; v < nv; ++v) {
          Lowering::Scope scope(l_);
          bind_keys(first, j, v, rest);
          b_.store(k_panel_, k_panel_at(j, l_.expr(depth_flat_), v), l_.eval_lanes(f_.k), lanes_);
        }
        return Values{};
      });
    });
  }

  // Whether vectors of a key can be loaded and transposed in registers, which costs less than gathers.
  bool keys_run_along_depth() const {
    const Value &k = d_.values[f_.k];
    if (k.kind != ValueKind::kLoad || !k.guards.empty() || f_.depth.size() != 1 || depth_ % w_ != 0)
      return false;
    auto linear = k.expr.linear_in(d_.axes[f_.depth[0]].symbol);
    return linear && linear->coefficient.constant() == 1;
  }

  // w keys by w elements at a time. Past the last key its own elements are repeated: their scores are not used.
  void pack_transposed(ValueId first, ValueId j, int64_t v, ValueId rest) {
    b_.for_loop(b_.index(0), b_.index(depth_), b_.index(w_), {}, [&](ValueId k, const Values &) {
      Values t;
      for (int64_t i = 0; i < w_; ++i) {
        Lowering::Scope scope(l_);
        ValueId at = b_.index(v * w_ + i);
        if (rest != kNoValue)
          at = b_.min(at, b_.sub(rest, b_.index(1)));
        l_.bind(f_.keys, b_.add(first, b_.add(j, at)));
        l_.bind_lanes(f_.depth[0], k, lanes_);
        t.push_back(l_.eval_lanes(f_.k));
      }
      transpose(t);
      for (int64_t i = 0; i < w_; ++i)
        b_.store(k_panel_, k_panel_at(j, b_.add(k, b_.index(i)), v), t[static_cast<size_t>(i)], lanes_);
      return Values{};
    });
  }

  // Swaps the off-diagonal blocks of size h, then those within, until single elements are swapped.
  void transpose(Values &t) {
    for (int64_t h = w_ / 2; h >= 1; h /= 2) {
      std::vector<int64_t> upper, lower;
      for (int64_t i = 0; i < w_; ++i) {
        upper.push_back(i & h ? w_ + i - h : i);
        lower.push_back(i & h ? w_ + i : i + h);
      }
      for (int64_t i = 0; i < w_; ++i)
        if (!(i & h)) {
          ValueId &x = t[static_cast<size_t>(i)], &y = t[static_cast<size_t>(i + h)];
          ValueId a = b_.shuffle(x, y, upper);
          y = b_.shuffle(x, y, lower);
          x = a;
        }
    }
  }

  ValueId v_panel_at(ValueId n, ValueId j, int64_t v) {
    return b_.add(b_.add(b_.mul(n, b_.index(block_)), b_.mul(j, b_.index(nr_))), b_.index(v * w_));
  }

  void pack_values(ValueId first) {
    columns([&](ValueId n, int64_t nv) {
      b_.for_loop(
          b_.index(0), keys_, b_.index(1), {},
          [&](ValueId j, const Values &) {
            Lowering::Scope scope(l_);
            l_.bind(f_.keys, b_.add(first, j));
            for (int64_t v = 0; v < nv; ++v) {
              Lowering::Scope inner(l_);
              bind_columns(n, v);
              b_.store(v_panel_, v_panel_at(n, j, v), l_.eval_lanes(f_.v), lanes_);
            }
            return Values{};
          },
          4);
    });
  }

  void bind_keys(ValueId first, ValueId j, int64_t v, ValueId rest) {
    ValueId base = b_.add(b_.add(first, j), b_.index(v * w_));
    l_.bind_lanes(f_.keys, base, lanes_, rest == kNoValue ? kNoValue : b_.sub(rest, b_.index(v * w_)));
  }

  // Only the last vector of all columns is cut.
  void bind_columns(ValueId n, int64_t v) {
    int64_t at = 0;
    const bool last = b_.is_constant(n, at) && at + (v + 1) * w_ > columns_;
    l_.bind_lanes(f_.columns, b_.add(n, b_.index(v * w_)), lanes_, last ? b_.index(columns_ - at - v * w_) : kNoValue);
  }

  void score_tiles(ValueId row, int64_t mr, ValueId first) {
    key_tiles([&](ValueId j, int64_t nv, ValueId rest) {
      Values acc(static_cast<size_t>(mr * nv), b_.zero(vector()));
      acc = depth_loops(0, acc, 2, [&](const Values &carried) {
        Values sums = carried, keys;
        for (int64_t v = 0; v < nv; ++v)
          keys.push_back(b_.load(k_panel_, k_panel_at(j, l_.expr(depth_flat_), v), lanes_, lanes_));
        for (int64_t r = 0; r < mr; ++r) {
          Lowering::Scope scope(l_);
          l_.bind(f_.rows, b_.add(row, b_.index(r)));
          ValueId q = b_.splat(l_.eval(f_.q), lanes_);
          for (int64_t v = 0; v < nv; ++v) {
            ValueId &sum = sums[static_cast<size_t>(r * nv + v)];
            sum = b_.mad(q, keys[static_cast<size_t>(v)], sum);
          }
        }
        return sums;
      });
      for (int64_t v = 0; v < nv; ++v) {
        Lowering::Scope scope(l_);
        bind_keys(first, j, v, rest);
        l_.hoist(f_.score);
        for (int64_t r = 0; r < mr; ++r) {
          Lowering::Scope inner(l_);
          l_.bind(f_.rows, b_.add(row, b_.index(r)));
          l_.set(f_.dot, acc[static_cast<size_t>(r * nv + v)]);
          ValueId s = l_.eval_lanes(f_.score);
          if (rest != kNoValue) {
            ValueId there = b_.sub(rest, b_.index(v * w_));
            s = b_.select(b_.lt(b_.lane_iota(Type(Scalar::kIndex, lanes_)), b_.splat(there, lanes_)), s, lowest(lanes_));
          }
          b_.store(scores_, b_.add(b_.add(j, b_.index(r * block_)), b_.index(v * w_)), s, lanes_);
        }
      }
    });
  }

  // Rows r .. r + n - 1 of the tile, side by side since each is one long chain: scores become exponentials. A row that sees only -inf so far keeps 0 as its maximum here, so that
  // its exponentials are 0. If no key ever counts the sum is 0, and the row NaN by its division, as in the formula, or 0
  // where the formula bounds the sum.
  void softmax(ValueId row, ValueId r, size_t n) {
    ValueId step = b_.index(w_), end = b_.mul(b_.div(b_.add(keys_, b_.index(w_ - 1)), step), step);
    Values bases;
    for (size_t i = 0; i < n; ++i)
      bases.push_back(b_.mul(b_.add(r, b_.index(static_cast<int64_t>(i))), b_.index(block_)));
    Values most = b_.for_loop(
        b_.index(0), end, step, Values(n, lowest(lanes_)),
        [&](ValueId j, const Values &m) {
          Values next;
          for (size_t i = 0; i < n; ++i)
            next.push_back(b_.max(m[i], b_.load(scores_, b_.add(bases[i], j), lanes_, lanes_)));
          return next;
        },
        4);
    Values at, before(n, kNoValue), largest, shift, shifts;
    for (size_t i = 0; i < n; ++i) {
      at.push_back(b_.add(b_.add(slot(row), r), b_.index(static_cast<int64_t>(i))));
      largest.push_back(b_.reduce(Opcode::kReduceMax, most[i]));
      if (!single_) {
        before[i] = b_.load(largest_, at[i]);
        largest[i] = b_.max(before[i], largest[i]);
      }
      shift.push_back(b_.select(b_.compare(Opcode::kEq, largest[i], lowest(1)), b_.zero(Scalar::kF32), largest[i]));
      shifts.push_back(b_.splat(shift[i], lanes_));
    }
    Values sums = b_.for_loop(b_.index(0), end, step, Values(n, b_.zero(vector())), [&](ValueId j, const Values &sum) {
      Values next;
      for (size_t i = 0; i < n; ++i) {
        ValueId at_j = b_.add(bases[i], j);
        ValueId e = b_.unary(Opcode::kExp, b_.sub(b_.load(scores_, at_j, lanes_, lanes_), shifts[i]));
        b_.store(scores_, at_j, e, lanes_);
        next.push_back(b_.add(sum[i], e));
      }
      return next;
    });
    for (size_t i = 0; i < n; ++i) {
      ValueId sum = b_.reduce(Opcode::kReduceAdd, sums[i]), slot_r = b_.add(r, b_.index(static_cast<int64_t>(i)));
      if (single_) {
        b_.store(sum_, slot_r, sum);
        continue;
      }
      ValueId shrink = b_.unary(Opcode::kExp, b_.sub(before[i], shift[i]));
      b_.store(sum_, at[i], b_.mad(b_.load(sum_, at[i]), shrink, sum));
      b_.store(largest_, at[i], largest[i]);
      b_.store(shrink_, slot_r, shrink);
    }
  }

  // Adds e v to one tile of the output.
  void weigh(ValueId row, int64_t mr, ValueId n, int64_t nv) {
    Values acc;
    for (int64_t r = 0; r < mr; ++r) {
      ValueId at = b_.add(row, b_.index(r));
      ValueId shrink = single_ ? kNoValue : b_.splat(b_.load(shrink_, b_.index(r)), lanes_);
      for (int64_t v = 0; v < nv; ++v)
        acc.push_back(single_ ? b_.zero(vector()) : b_.mul(b_.load(partial_, partial_at(at, n, v), lanes_, lanes_), shrink));
    }
    acc = b_.for_loop(
        b_.index(0), keys_, b_.index(1), acc,
        [&](ValueId j, const Values &carried) {
          Values sums = carried, values;
          for (int64_t v = 0; v < nv; ++v)
            values.push_back(b_.load(v_panel_, v_panel_at(n, j, v), lanes_, lanes_));
          for (int64_t r = 0; r < mr; ++r) {
            ValueId e = b_.splat(b_.load(scores_, b_.add(j, b_.index(r * block_))), lanes_);
            for (int64_t v = 0; v < nv; ++v) {
              ValueId &sum = sums[static_cast<size_t>(r * nv + v)];
              sum = b_.mad(e, values[static_cast<size_t>(v)], sum);
            }
          }
          return sums;
        },
        2);
    for (int64_t r = 0; r < mr; ++r) {
      ValueId at = b_.add(row, b_.index(r));
      ValueId sum = single_ ? divisor(b_.load(sum_, b_.index(r))) : kNoValue;
      for (int64_t v = 0; v < nv; ++v) {
        ValueId x = acc[static_cast<size_t>(r * nv + v)];
        if (single_)
          finish(at, n, v, x, sum);
        else
          b_.store(partial_, partial_at(at, n, v), x, lanes_);
      }
    }
  }

  ValueId divisor(ValueId sum) {
    Lowering::Scope scope(l_);
    l_.set(f_.sum, sum);
    return b_.splat(l_.eval(f_.divisor), lanes_);
  }

  void finish(ValueId row, ValueId n, int64_t v, ValueId value, ValueId sum) {
    Lowering::Scope scope(l_);
    l_.bind(f_.rows, row);
    bind_columns(n, v);
    ValueId y = b_.div(value, sum);
    if (!proves_le(Expr(1), key_count_)) // a sum over no keys is 0
      y = b_.select(b_.lt(b_.index(0), l_.expr(key_count_)), y, b_.zero(vector()));
    l_.set(f_.output, y);
    for (const dispatch::Store &s : d_.stores)
      l_.store(s);
  }

  const Attention &f_;
  const Dispatch &d_;
  Scheduled out_;
  kernel::Builder b_;
  Lowering l_;
  uint32_t lanes_ = 8;
  int64_t w_ = 8, mr_ = 6, nv_ = 2, nr_ = 16;
  Expr row_count_, key_count_, depth_flat_;
  int64_t columns_ = 0, depth_ = 1, column_tiles_ = 1;
  int64_t row_chunk_ = 1, block_ = 0;
  bool single_ = false;
  uint32_t k_panel_ = 0, v_panel_ = 0, scores_ = 0, sum_ = 0, largest_ = 0, shrink_ = 0, partial_ = 0;
  ValueId row_lo_ = kNoValue, row_hi_ = kNoValue, keys_ = kNoValue;
};

} // namespace

std::optional<Scheduled> schedule_attention(const Dispatch &original, const TargetRecord &record) {
  auto form = match_attention(original);
  if (!form)
    return std::nullopt;
  return AttentionKernel(*form, record, original).build();
}

} // namespace ingot::aotc::schedule
