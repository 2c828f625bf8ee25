// Attention on matrix units, with a running softmax: neither scores nor weights are ever stored.
//
//   a workgroup a tile of rows, `parts` subgroups 16 of them, each with its part of every block of keys; `stages` blocks are in
//   workgroup memory or on their way:
//     for each block of keys:
//       scores = q k in fragments; masked and scaled, element by element
//       the rows' new maxima; what older blocks gave shrinks by exp(old maximum - new)
//       exponentials become a factor where they are: sums += exponentials v
//     the parts' sums come together, scaled to the largest of their maxima
//     store sums / total
//
// Scores, exponentials' totals and sums are f32. Rows, keys, depth and columns past the last are zeros in workgroup memory; keys
// past the last have scores of -inf.
//
// Where q, k and v are f16 in memory, exponentials are rounded to f16: 2^-11 of them.
//
// Else everything is f32, and a product three of tf32, as in fragments.cpp: within 2^-20 of it. The products of low parts have sums of
// their own, which are dropped where they are NaN: there a factor is infinite or NaN, and the products of high parts say what comes of it.
// k and v take turns on their way, so that one block of each is enough: v comes while scores are made, the next k while they weigh.
#include <algorithm>
#include <limits>

#include "aotc/schedule/attention.h"
#include "aotc/schedule/collapse.h"
#include "aotc/schedule/internal.h"
#include "aotc/schedule/simt/fragments.h"
#include "aotc/schedule/simt/threads.h"
#include "aotc/schedule/simt/vectors.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::Value;
using dispatch::ValueKind;
using kernel::FragmentRole;
using kernel::kNoValue;
using kernel::Opcode;
using kernel::ValueId;
using kernel::Values;

namespace {

constexpr int64_t kRows = 16;        // of a subgroup
constexpr int64_t kMostKeys = 64;    // of a block, where one part has all of f16
constexpr int64_t kVectorBytes = 16; // that are copied at once
constexpr int64_t kPadBytes = 16;    // rows of workgroup memory start in different banks
constexpr int64_t kBatch = 8;        // elements that a thread brings at once where they come one by one
constexpr int64_t kStored = 8;       // columns that a thread stores at once where parts come together
constexpr int64_t kColumnsAtOnce = 32;                  // whose sums of low parts registers hold
constexpr int64_t kMostDepth = 256, kMostColumns = 128; // what registers hold
constexpr int64_t kEnoughGroups = 132;                  // one a processor of a large device
constexpr int64_t kMostParts = 4, kPartKeys = 32;       // keys of a part in a block, where there are several, or of f32
constexpr uint64_t kPartsMemory = 99 << 10;             // two such workgroups are on a processor of a large device at once
constexpr int64_t kEnoughSubgroups = 8 * kEnoughGroups; // with so many under way nobody waits for long

// Lines in workgroup memory, filled up with zeros.
struct Lines {
  dispatch::ValueId load = 0;
  std::vector<uint32_t> line_axes, axes; // across lines, along a line
  int64_t lines = 0, width = 0, real = 0; // width: `real` rounded up to whole fragments
  int64_t pad = 0;
  bool vectors = false;
  uint32_t array = 0;
  int64_t pitch() const { return width + pad; }
  int64_t elements() const { return lines * pitch(); }
};

class FragmentAttention {
 public:
  FragmentAttention(const Attention &form, const TargetRecord &record, const Dispatch &original)
      : f_(form), d_(form.d), record_(record), b_(out_.kernel), l_(b_, d_, original.free_symbols()) {
    out_.kernel.name = d_.name;
    out_.kernel.kind = record.kernel_class;
    out_.kernel.fragment = shape_;
  }

  std::optional<Scheduled> build() {
    if (!arrange())
      return std::nullopt;
    const int64_t tile_rows = kRows * subgroups_;
    out_.kernel.local_size = {static_cast<uint32_t>(threads()), 1, 1};
    for (auto [lines, name, count] : {std::tuple(&q_, "tile_q", q_.elements()), std::tuple(&k_, "tile_k", k_place()), std::tuple(&v_, "tile_v", stages_ * v_.elements())})
      lines->array = b_.add_array(name, kernel::Space::kWorkgroup, scalar_, static_cast<uint64_t>(count), 128);
    if (turns())
      others_ = k_.array; // when no keys are in it any longer
    else if (parts_ > 1)
      others_ = b_.add_array("others", kernel::Space::kWorkgroup, Scalar::kF32, static_cast<uint64_t>(other_elements()), 16);
    const Expr rows = d_.axes[f_.rows].extent, keys = d_.axes[f_.keys].extent;
    const Expr tiles = ceildiv(rows, tile_rows), groups = extent_product(d_, f_.batch) * tiles;
    out_.grid = folded_grid(groups);
    out_.description = std::string(turns() ? "simt_attention_fragments_f32" : "simt_attention_fragments") + "{rows=" + std::to_string(tile_rows) +
                       ",keys=" + std::to_string(k_.lines) + ",stages=" + std::to_string(stages_) + (parts_ > 1 ? ",parts=" + std::to_string(parts_) : "") + "}";
    ValueId group = group_number(b_);
    b_.if_then(b_.lt(group, l_.expr(groups)), [&] {
      Lowering::Scope scope(l_);
      ValueId tile_count = l_.expr(tiles);
      if (!f_.batch.empty())
        bind_flat(l_, f_.batch, b_.div(group, tile_count));
      row_count_ = l_.expr(rows);
      key_count_ = l_.expr(keys);
      row0_ = b_.mul(b_.rem(group, tile_count), b_.index(tile_rows));
      ValueId subgroup = b_.div(b_.local_id(0), b_.index(shape_.threads));
      team_ = parts_ > 1 ? b_.div(subgroup, b_.index(parts_)) : subgroup;
      part_ = parts_ > 1 ? b_.rem(subgroup, b_.index(parts_)) : b_.index(0);
      own_row_ = b_.mul(team_, b_.index(kRows));
      own_key_ = b_.mul(part_, b_.index(part_keys()));
      row_in_ = b_.fragment_row();
      column_in_ = b_.fragment_column();
      const Values seen = key_blocks();
      if (parts_ > 1 && turns())
        arrived(); // without a key, the first block still comes
      if (parts_ > 1)
        together(seen);
      else
        finish(seen);
    });
    return std::move(out_);
  }

 private:
  int64_t threads() const { return subgroups_ * parts_ * shape_.threads; }
  int64_t part_keys() const { return k_.lines / parts_; } // of a block
  int64_t other_pitch() const { return v_.width + 8; } // f32: a row's sums, total, maximum; rows start in different banks
  int64_t k_place() const { return turns() ? std::max(k_.elements(), other_elements()) : stages_ * k_.elements(); }
  int64_t other_elements() const { return parts_ > 1 ? subgroups_ * parts_ * kRows * other_pitch() : 0; }
  static int64_t whole(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
  bool turns() const { return scalar_ == Scalar::kF32; } // k and v on their way
  int64_t element() const { return byte_size(scalar_); }
  int64_t vector() const { return kVectorBytes / element(); }
  int64_t step() const { return 32 / element(); } // of a fragment along the depth

  // Sizes and places; false where the form is not for matrix units.
  bool arrange() {
    auto q = half_load(d_, f_.q), k = half_load(d_, f_.k), v = half_load(d_, f_.v);
    if (!q || !k || !v) {
      if (!record_.fragment_tf32)
        return false;
      q = f_.q, k = f_.k, v = f_.v;
      scalar_ = Scalar::kF32;
    }
    const int64_t batch = typical_points(d_, f_.batch);
    int64_t depth = 1;
    for (uint32_t a : f_.depth)
      depth *= *d_.axes[a].extent.constant();
    const int64_t columns = *d_.axes[f_.columns].extent.constant();
    if (depth > kMostDepth || columns > kMostColumns)
      return false;
    const int64_t rows = std::max<int64_t>(1, typical(d_.axes[f_.rows].extent));
    subgroups_ = 4;
    while (subgroups_ > 1 && batch * ((rows + kRows * subgroups_ - 1) / (kRows * subgroups_)) < kEnoughGroups)
      subgroups_ /= 2;
    const int64_t groups = batch * ((rows + kRows * subgroups_ - 1) / (kRows * subgroups_)), keys_in_all = typical(d_.axes[f_.keys].extent);
    while (parts_ < kMostParts && groups * subgroups_ * parts_ < kEnoughSubgroups && keys_in_all > kPartKeys * parts_)
      parts_ *= 2;
    place(q_, *q, {f_.rows}, f_.depth, kRows * subgroups_, depth, step());
    place(k_, *k, {f_.keys}, f_.depth, 0, depth, step());
    place(v_, *v, {f_.keys}, {f_.columns}, 0, columns, 16);
    if (!turns() && (!k_.vectors || !v_.vectors))
      return false; // element by element they cost more than the products: each workgroup brings all of them
    for (;; parts_ /= 2) {
      const uint64_t memory = parts_ > 1 || turns() ? std::max(record_.workgroup_memory_bytes, std::min(record_.large_workgroup_memory_bytes, kPartsMemory))
                                         : record_.workgroup_memory_bytes;
      for (int64_t keys = parts_ > 1 || turns() ? kPartKeys : kMostKeys; keys >= 16; keys /= 2) {
        k_.lines = v_.lines = keys * parts_;
        if (keys > 16 && keys_in_all <= k_.lines / 2)
          continue;
        for (stages_ = turns() ? 1 : 2; stages_ >= 1; --stages_)
          if (element() * (q_.elements() + k_place() + stages_ * v_.elements()) + (turns() ? 0 : 4 * other_elements()) <= static_cast<int64_t>(memory))
            return true;
      }
      if (parts_ == 1)
        return false;
    }
  }

  void place(Lines &out, dispatch::ValueId load, std::vector<uint32_t> line_axes, std::vector<uint32_t> axes, int64_t lines, int64_t real, int64_t unit) {
    out = {load, std::move(line_axes), std::move(axes), lines, whole(real, unit), real, kPadBytes / element(), false, 0};
    out.vectors = d_.values[load].kind == ValueKind::kLoad && comes_in_vectors(d_, d_.values[load], out.axes, vector()) && real % vector() == 0;
  }

  ValueId at(ValueId line, int64_t pitch, ValueId column) { return b_.add(b_.mul(line, b_.index(pitch)), column); }
  ValueId zeros() { return b_.zero(Type(Scalar::kF32, shape_.sums())); }
  ValueId lowest() { return b_.constant_float(Type(Scalar::kF32, shape_.sums()), -std::numeric_limits<double>::infinity()); }

  // The threads bring the lines from `first` on, of which there are `count`, into stage `stage`.
  void bring(const Lines &lines, ValueId first, ValueId count, ValueId stage) {
    if (!lines.vectors) {
      const int64_t total = lines.lines * lines.width;
      int64_t batch = turns() ? kBatch : 1;
      while (batch > 1 && total % (threads() * batch) != 0)
        batch /= 2;
      b_.for_loop(b_.local_id(0), b_.index(total), b_.index(threads() * batch), {}, [&](ValueId i, const Values &) {
        Values places, elements;
        for (int64_t e = 0; e < batch; ++e) {
          Lowering::Scope scope(l_);
          const Piece p = piece(lines, e == 0 ? i : b_.add(i, b_.index(e * threads())), first, count, stage);
          places.push_back(p.to);
          elements.push_back(b_.if_else(
              p.good,
              [&] {
                Lowering::Scope inner(l_);
                return Values{l_.eval(lines.load)};
              },
              [&] { return Values{b_.zero(scalar_)}; })[0]);
        }
        for (size_t e = 0; e < places.size(); ++e)
          b_.store(lines.array, places[e], elements[e]);
        return Values{};
      });
      return;
    }
    if (!record_.async_copy)
      return put(lines, fetch(lines, first, count, stage));
    const Value &load = d_.values[lines.load];
    each_piece(lines, [&](ValueId own) {
      Lowering::Scope scope(l_);
      const Piece p = piece(lines, own, first, count, stage);
      b_.copy_async(lines.array, p.to, load.operand, l_.expr(load.expr), within_guards(l_, load, p.good), static_cast<uint32_t>(vector()));
    });
  }

  // Of the lines that are brought, piece `i`: where it goes, and whether there is such a one. Its axes are bound.
  struct Piece {
    ValueId to, good;
  };
  Piece piece(const Lines &lines, ValueId i, ValueId first, ValueId count, ValueId stage) {
    const int64_t step = lines.vectors ? vector() : 1, pieces = lines.width / step;
    ValueId line = b_.div(i, b_.index(pieces)), column = b_.mul(b_.rem(i, b_.index(pieces)), b_.index(step)), number = b_.add(first, line);
    ValueId to = b_.add(b_.mul(stage, b_.index(lines.elements())), at(line, lines.pitch(), column));
    ValueId good = b_.lt(number, count);
    if (lines.real < lines.width)
      good = b_.logical_and(good, b_.lt(column, b_.index(lines.real)));
    bind_axes(l_, lines.line_axes, {number});
    bind_axes(l_, lines.axes, unflatten(l_, lines.axes, column));
    return {to, good};
  }
  // body(number of a piece), for each of the thread's.
  template <class Body> void each_piece(const Lines &lines, const Body &body) {
    const int64_t total = lines.lines * (lines.width / vector());
    for (int64_t i = 0; i < total; i += threads()) {
      ValueId own = b_.add(b_.local_id(0), b_.index(i));
      if (i + threads() <= total)
        body(own);
      else
        b_.if_then(b_.lt(own, b_.index(total)), [&] { body(own); });
    }
  }
  // Without copies under way: the pieces are asked for, and put down later.
  struct Fetched {
    Values places, there, vectors; // whether the thread has such a piece; kNoValue: for certain
  };
  Fetched fetch(const Lines &lines, ValueId first, ValueId count, ValueId stage) {
    Fetched out;
    const int64_t total = lines.lines * (lines.width / vector());
    const Value &load = d_.values[lines.load];
    for (int64_t i = 0; i < total; i += threads()) {
      Lowering::Scope scope(l_);
      ValueId own = b_.add(b_.local_id(0), b_.index(i)), there = i + threads() <= total ? kNoValue : b_.lt(own, b_.index(total));
      const Piece p = piece(lines, own, first, count, stage);
      ValueId good = within_guards(l_, load, there == kNoValue ? p.good : b_.logical_and(there, p.good));
      out.vectors.push_back(b_.load_if(load.operand, good, l_.expr(load.expr), b_.zero(Type(scalar_, static_cast<uint32_t>(vector()))), static_cast<uint32_t>(vector())));
      out.places.push_back(p.to);
      out.there.push_back(there);
    }
    return out;
  }
  void put(const Lines &lines, const Fetched &fetched) {
    for (size_t i = 0; i < fetched.vectors.size(); ++i)
      if (fetched.there[i] == kNoValue)
        b_.store(lines.array, fetched.places[i], fetched.vectors[i], static_cast<uint32_t>(vector()));
      else
        b_.store_if(lines.array, fetched.there[i], fetched.places[i], fetched.vectors[i], static_cast<uint32_t>(vector()));
  }

  void bring_block(ValueId block, ValueId stage) {
    ValueId first = b_.mul(block, b_.index(k_.lines));
    bring(k_, first, key_count_, stage);
    bring(v_, first, key_count_, stage);
    b_.copy_commit();
  }

  // Sums of the thread by 8 columns, then its totals and its rows' maxima.
  Values key_blocks() { return turns() ? blocks_by_turns() : blocks_at_once(); }

  Values nothing_seen() {
    Values init(static_cast<size_t>(v_.width / 8 + 1), zeros());
    init.push_back(lowest());
    return init;
  }
  ValueId block_count() { return b_.div(b_.add(key_count_, b_.index(k_.lines - 1)), b_.index(k_.lines)); }

  // What was last brought is there, and nobody reads any longer what came before it.
  void arrived() {
    b_.copy_wait(0);
    b_.barrier();
  }

  Values blocks_by_turns() {
    auto bring_one = [&](const Lines &lines, ValueId block) {
      bring(lines, b_.mul(block, b_.index(lines.lines)), key_count_, b_.index(0));
      b_.copy_commit();
    };
    bring(q_, row0_, row_count_, b_.index(0));
    bring_one(k_, b_.index(0));
    ValueId blocks = block_count();
    return b_.for_loop(b_.index(0), blocks, b_.index(1), nothing_seen(), [&](ValueId block, const Values &carried) {
      Lowering::Scope scope(l_);
      arrived();
      bring_one(v_, block);
      Values next = carried;
      const Values weights = exponentials(scores(b_.mul(block, b_.index(k_.lines)), b_.index(0)), next);
      arrived();
      ValueId following = b_.add(block, b_.index(1));
      b_.if_then(b_.lt(following, blocks), [&] { bring_one(k_, following); });
      weigh(weights, b_.index(0), next);
      return next;
    });
  }

  Values blocks_at_once() {
    bring(q_, row0_, row_count_, b_.index(0));
    if (stages_ > 1)
      bring_block(b_.index(0), b_.index(0));
    Values init = nothing_seen();
    ValueId blocks = block_count();
    return b_.for_loop(b_.index(0), blocks, b_.index(1), init, [&](ValueId block, const Values &carried) {
      Lowering::Scope scope(l_);
      ValueId stage = stages_ > 1 ? b_.rem(block, b_.index(stages_)) : b_.index(0);
      if (stages_ == 1) {
        b_.barrier();
        bring_block(block, stage);
      }
      b_.copy_wait(0);
      b_.barrier();
      Fetched keys, values;
      if (stages_ > 1) {
        ValueId next = b_.add(block, b_.index(1)), other = b_.rem(next, b_.index(stages_));
        if (record_.async_copy) {
          bring_block(next, other);
        } else {
          keys = fetch(k_, b_.mul(next, b_.index(k_.lines)), key_count_, other);
          values = fetch(v_, b_.mul(next, b_.index(k_.lines)), key_count_, other);
        }
      }
      Values next = carried;
      weigh(exponentials(scores(b_.mul(block, b_.index(k_.lines)), stage), next), stage, next);
      put(k_, keys);
      put(v_, values);
      return next;
    });
  }

  // Of a factor of tf32, what it leaves out of each element: NaN for infinities.
  ValueId low_part(ValueId factor) {
    const Type words(Scalar::kI32, 4), floats(Scalar::kF32, 4);
    ValueId high = b_.bitcast(floats, b_.binary(Opcode::kAnd, factor, b_.constant(words, ~int64_t{0x1fff})));
    return b_.bitcast(words, b_.sub(b_.bitcast(floats, factor), high));
  }
  struct Factor {
    ValueId whole, low;
  };
  Factor in_parts(ValueId factor) { return {factor, low_part(factor)}; }

  // Adds a b to `sum`, and what its low parts come to to `low`. Matrix units may cut off what does not fit a sum, so what they add up
  // is short, or small.
  void add_product(const Factor &a, const Factor &b, int half, ValueId &sum, ValueId &low) {
    low = b_.fragment_mma(Scalar::kF32, a.low, b.whole, half, low);
    low = b_.fragment_mma(Scalar::kF32, a.whole, b.low, half, low);
    sum = b_.add(sum, b_.fragment_mma(Scalar::kF32, a.whole, b.whole, half, zeros()));
  }
  ValueId with_low(ValueId sum, ValueId low) { return b_.add(sum, b_.select(b_.compare(Opcode::kEq, low, low), low, zeros())); }

  // q k of the thread by 8 keys, `k0` being where its keys begin.
  Values dots(ValueId q0, ValueId k0) {
    Values sums(static_cast<size_t>(part_keys() / 8), zeros()), low = sums;
    for (int64_t depth = 0; depth < k_.width; depth += step()) {
      ValueId q = b_.fragment_load(q_.array, b_.add(q0, b_.index(depth)), b_.index(q_.pitch()), FragmentRole::kA);
      const Factor left = turns() ? in_parts(q) : Factor{q, q};
      for (int64_t keys = 0; keys < part_keys(); keys += 16) {
        ValueId k = b_.fragment_load(k_.array, b_.add(k0, b_.index(keys * k_.pitch() + depth)), b_.index(k_.pitch()), FragmentRole::kB);
        const Factor right = turns() ? in_parts(k) : Factor{k, k};
        for (int half = 0; half < 2; ++half) {
          const auto f = static_cast<size_t>(keys / 8 + half);
          if (turns())
            add_product(left, right, half, sums[f], low[f]);
          else
            sums[f] = b_.fragment_mma(scalar_, q, k, half, sums[f]);
        }
      }
    }
    for (size_t f = 0; turns() && f < sums.size(); ++f)
      sums[f] = with_low(sums[f], low[f]);
    return sums;
  }

  // Scores of the thread by 8 keys.
  Values scores(ValueId first, ValueId stage) {
    ValueId q0 = b_.mul(own_row_, b_.index(q_.pitch()));
    ValueId k0 = b_.add(b_.mul(stage, b_.index(k_.elements())), b_.mul(own_key_, b_.index(k_.pitch())));
    first = b_.add(first, own_key_);
    Values sums = dots(q0, k0);
    for (size_t f = 0; f < sums.size(); ++f)
      sums[f] = each(sums[f], [&](uint32_t e, ValueId dot) {
        Lowering::Scope scope(l_);
        ValueId key = b_.add(b_.add(first, b_.index(static_cast<int64_t>(f) * 8)), b_.extract(column_in_, e)), there = b_.lt(key, key_count_);
        l_.bind(f_.rows, b_.min(row(e), b_.sub(row_count_, b_.index(1))));
        l_.bind(f_.keys, b_.min(key, b_.sub(key_count_, b_.index(1))));
        l_.set(f_.dot, dot);
        return b_.select(there, l_.eval(f_.score), b_.constant_float(Scalar::kF32, -std::numeric_limits<double>::infinity()));
      });
    return sums;
  }

  template <class Element> ValueId each(ValueId sums, const Element &element) {
    ValueId out = sums;
    for (uint32_t e = 0; e < shape_.sums(); ++e)
      out = b_.insert(out, element(e, b_.extract(sums, e)), e);
    return out;
  }
  ValueId row(uint32_t e) { return b_.add(b_.add(row0_, own_row_), b_.extract(row_in_, e)); }

  // A row that has seen only -inf so far keeps 0 as what is subtracted, so that its exponentials are 0. If no key ever
  // counts the total is 0, and the row NaN by its division, as in the formula, or 0 where the formula bounds the total.
  Values exponentials(Values scores, Values &carried) {
    ValueId most = scores[0];
    for (size_t f = 1; f < scores.size(); ++f)
      most = b_.max(most, scores[f]);
    ValueId before = carried.back(), largest = b_.max(before, b_.fragment_rows(Opcode::kFragmentRowMax, most));
    ValueId shift = b_.select(b_.compare(Opcode::kEq, largest, lowest()), zeros(), largest);
    ValueId shrink = b_.unary(Opcode::kExp, b_.sub(before, shift));
    for (size_t c = 0; c + 1 < carried.size(); ++c)
      carried[c] = b_.mul(carried[c], shrink);
    carried.back() = largest;
    ValueId &total = carried[carried.size() - 2];
    for (ValueId &s : scores) {
      s = b_.unary(Opcode::kExp, b_.sub(s, shift));
      total = b_.add(total, s);
    }
    return scores;
  }

  void weigh(const Values &weights, ValueId stage, Values &carried) {
    ValueId v0 = b_.add(b_.mul(stage, b_.index(v_.elements())), b_.mul(own_key_, b_.index(v_.pitch())));
    if (turns())
      return weigh_in_parts(weights, v0, carried);
    for (int64_t keys = 0; keys < part_keys(); keys += 16) {
      const auto f = static_cast<size_t>(keys / 8);
      ValueId p = b_.fragment_pack(Scalar::kF16, weights[f], weights[f + 1]);
      for (int64_t columns = 0; columns < v_.width; columns += 16) {
        ValueId v = b_.fragment_load(v_.array, b_.add(v0, b_.index(keys * v_.pitch() + columns)), b_.index(v_.pitch()), FragmentRole::kBRows);
        for (int half = 0; half < 2; ++half) {
          ValueId &sum = carried[static_cast<size_t>(columns / 8 + half)];
          sum = b_.fragment_mma(Scalar::kF16, p, v, half, sum);
        }
      }
    }
  }

  void weigh_in_parts(const Values &weights, ValueId v0, Values &carried) {
    std::vector<Factor> factors;
    for (ValueId w : weights)
      factors.push_back(in_parts(b_.fragment_pack(Scalar::kF32, w)));
    for (int64_t first = 0; first < v_.width; first += kColumnsAtOnce) {
      const int64_t end = std::min(v_.width, first + kColumnsAtOnce);
      Values low(static_cast<size_t>((end - first) / 8), zeros());
      for (size_t f = 0; f < factors.size(); ++f)
        for (int64_t columns = first; columns < end; columns += 16) {
          ValueId place = b_.add(v0, b_.index(static_cast<int64_t>(f) * 8 * v_.pitch() + columns));
          const Factor v = in_parts(b_.fragment_load(v_.array, place, b_.index(v_.pitch()), FragmentRole::kBPairs));
          for (int half = 0; half < 2; ++half)
            add_product(factors[f], v, half, carried[static_cast<size_t>(columns / 8 + half)], low[static_cast<size_t>((columns - first) / 8 + half)]);
        }
      for (size_t f = 0; f < low.size(); ++f) {
        ValueId &sum = carried[static_cast<size_t>(first / 8) + f];
        sum = with_low(sum, low[f]);
      }
    }
  }

  // What each part has seen of the rows comes together through workgroup memory: sums, totals and maxima. There each thread of the team
  // takes pieces of rows, of columns that lie side by side.
  void together(const Values &own) {
    const auto fragments = static_cast<int64_t>(own.size()) - 2;
    const ValueId lines = b_.mul(b_.add(b_.mul(team_, b_.index(parts_)), part_), b_.index(kRows)), totals = b_.fragment_rows(Opcode::kFragmentRowAdd, own[own.size() - 2]);
    for (uint32_t r = 0; r < shape_.rows(); ++r) {
      const uint32_t e = r * shape_.run;
      const ValueId line = b_.mul(b_.add(lines, b_.extract(row_in_, e)), b_.index(other_pitch()));
      const ValueId first = b_.extract(column_in_, e);
      for (int64_t f = 0; f < fragments; ++f)
        b_.store(others_, b_.add(line, b_.add(b_.index(8 * f), first)), run_of(own[static_cast<size_t>(f)], r), shape_.run);
      const ValueId one = b_.compare(Opcode::kEq, first, b_.index(0)); // of the threads that have the row
      b_.store_if(others_, one, b_.add(line, b_.index(v_.width)), b_.extract(totals, e));
      b_.store_if(others_, one, b_.add(line, b_.index(v_.width + 1)), b_.extract(own.back(), e));
    }
    b_.barrier();
    const int64_t across = v_.width / kStored, pieces = kRows * across, team = parts_ * shape_.threads;
    const ValueId thread = b_.rem(b_.local_id(0), b_.index(team));
    auto piece = [&](ValueId i) {
      Lowering::Scope scope(l_);
      const ValueId line = b_.div(i, b_.index(across)), column = b_.mul(b_.rem(i, b_.index(across)), b_.index(kStored));
      auto of = [&](int64_t part, ValueId at, uint32_t lanes) {
        const ValueId row = b_.add(b_.mul(b_.add(b_.mul(team_, b_.index(parts_)), b_.index(part)), b_.index(kRows)), line);
        return b_.load(others_, b_.add(b_.mul(row, b_.index(other_pitch())), at), lanes, lanes == 1 ? 1 : 4);
      };
      Values most;
      for (int64_t part = 0; part < parts_; ++part)
        most.push_back(of(part, b_.index(v_.width + 1), 1));
      ValueId largest = most[0];
      for (int64_t part = 1; part < parts_; ++part)
        largest = b_.max(largest, most[static_cast<size_t>(part)]);
      const ValueId none = b_.constant_float(Scalar::kF32, -std::numeric_limits<double>::infinity());
      const ValueId shift = b_.select(b_.compare(Opcode::kEq, largest, none), b_.zero(Scalar::kF32), largest);
      ValueId total = b_.zero(Scalar::kF32), sums = b_.zero(Type(Scalar::kF32, kStored));
      for (int64_t part = 0; part < parts_; ++part) {
        const ValueId shrink = b_.unary(Opcode::kExp, b_.sub(most[static_cast<size_t>(part)], shift));
        total = b_.add(total, b_.mul(of(part, b_.index(v_.width), 1), shrink));
        sums = b_.add(sums, b_.mul(of(part, column, kStored), b_.splat(shrink, kStored)));
      }
      in_row(b_.add(b_.add(row0_, own_row_), line), total, [&](ValueId factor) { store_columns(column, kStored, sums, factor); });
    };
    if (pieces == team)
      piece(thread);
    else
      b_.for_loop(thread, b_.index(pieces), b_.index(team), {}, [&](ValueId i, const Values &) {
        piece(i);
        return Values{};
      });
  }

  // One part alone has the rows whole.
  void finish(const Values &own) {
    const ValueId total = b_.fragment_rows(Opcode::kFragmentRowAdd, own[own.size() - 2]);
    for (uint32_t r = 0; r < shape_.rows(); ++r) {
      const uint32_t e = r * shape_.run;
      in_row(row(e), b_.extract(total, e), [&](ValueId factor) {
        for (size_t f = 0; f + 2 < own.size(); ++f)
          store_columns(b_.add(b_.index(static_cast<int64_t>(f) * 8), b_.extract(column_in_, e)), shape_.run, run_of(own[f], r), factor);
      });
    }
  }

  // Of a fragment, the thread's columns in its row number `r`.
  ValueId run_of(ValueId sums, uint32_t r) {
    const int64_t first = int64_t{r} * shape_.run; // two, where there are several rows
    return shape_.rows() == 1 ? sums : b_.shuffle(sums, sums, {first, first + 1});
  }

  // body(what sums become outputs by), where there is such a row.
  template <class Body> void in_row(ValueId row, ValueId total, const Body &body) {
    b_.if_then(b_.lt(row, row_count_), [&] {
      Lowering::Scope scope(l_);
      l_.bind(f_.rows, row);
      l_.set(f_.sum, total);
      body(b_.div(b_.constant_float(Scalar::kF32, 1), l_.eval(f_.divisor)));
    });
  }

  // `sums` are those of `lanes` columns from `column` on, a multiple of as many.
  void store_columns(ValueId column, uint32_t lanes, ValueId sums, ValueId factor) {
    auto store = [&] {
      Lowering::Scope scope(l_);
      l_.bind_lanes(f_.columns, column, lanes, v_.real % lanes == 0 ? kNoValue : b_.sub(b_.index(v_.real), column), lanes);
      ValueId y = b_.mul(sums, b_.splat(factor, lanes));
      if (!proves_le(Expr(1), d_.axes[f_.keys].extent)) // a sum over no keys is 0
        y = b_.select(b_.lt(b_.index(0), key_count_), y, b_.zero(b_.type_of(y)));
      l_.set(f_.output, y);
      for (const dispatch::Store &s : d_.stores)
        l_.store(s);
    };
    if (v_.real < v_.width)
      b_.if_then(b_.lt(column, b_.index(v_.real)), store);
    else
      store();
  }

  const Attention &f_;
  const Dispatch &d_;
  const TargetRecord &record_;
  const kernel::FragmentShape shape_ = record_.fragment;
  Scheduled out_;
  kernel::Builder b_;
  Lowering l_;
  Lines q_, k_, v_;
  Scalar scalar_ = Scalar::kF16; // of these lines
  int64_t subgroups_ = 1, parts_ = 1, stages_ = 1; // subgroups: of rows
  uint32_t others_ = 0;
  ValueId team_ = kNoValue, part_ = kNoValue, own_key_ = kNoValue;
  ValueId row_count_ = kNoValue, key_count_ = kNoValue, row0_ = kNoValue, own_row_ = kNoValue, row_in_ = kNoValue, column_in_ = kNoValue;
};

} // namespace

std::optional<Scheduled> schedule_simt_attention_fragments(const Dispatch &original, const TargetRecord &record) {
  if (!record.fragment_f16 || record.subgroup_size != record.fragment.threads)
    return std::nullopt;
  if (!record.fragment_subnormals) // weights below 2^-14 of the largest would be lost, and many of them come to something
    return std::nullopt;
  auto form = match_attention(split_axes(original));
  if (!form)
    return std::nullopt;
  return FragmentAttention(*form, record, original).build();
}

} // namespace ingot::aotc::schedule
