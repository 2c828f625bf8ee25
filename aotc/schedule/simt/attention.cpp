// Attention on threads, with a running softmax: the scores of a block of keys are the most that is ever stored.
//
//   a workgroup a tile of rows; a team of threads has kR rows of it:
//     for each block of keys:
//       scores in registers, kR x keys a thread: slices of q and k go through workgroup memory
//       the team's new maxima; exponentials to workgroup memory; what older blocks gave shrinks by exp(old maximum - new)
//       out += exponentials v, kR x columns a thread: slices of v go through workgroup memory
//     store out / sum
//
// Rows past the last compute what the last does and store nothing; keys past the last have scores of -inf and values of 0.
#include <algorithm>
#include <limits>

#include "aotc/schedule/attention.h"
#include "aotc/schedule/internal.h"
#include "aotc/schedule/simt/threads.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using kernel::kNoValue;
using kernel::Opcode;
using kernel::ValueId;
using kernel::Values;

namespace {

constexpr int64_t kThreads = 128, kTeam = 16, kTeams = kThreads / kTeam;
constexpr int64_t kKeys = 32, kKeysEach = kKeys / kTeam; // of a block
constexpr int64_t kDepthSlice = 32, kColumnSlice = 64;
constexpr int64_t kPitch = kDepthSlice + 1; // neighbouring rows start in different banks
constexpr int64_t kMostSums = 32;           // of a thread, in registers
constexpr int64_t kEnoughGroups = 128;      // about one a processor of a large device

class SimtAttention {
 public:
  SimtAttention(const Attention &form, const TargetRecord &record, const Dispatch &original)
      : f_(form), d_(form.d), b_(out_.kernel), l_(b_, d_, original.free_symbols()) {
    out_.kernel.name = d_.name;
    out_.kernel.kind = record.kernel_class;
    out_.kernel.local_size = {kThreads, 1, 1};
    for (uint32_t a : f_.depth)
      depth_ *= *d_.axes[a].extent.constant();
    columns_ = *d_.axes[f_.columns].extent.constant();
    columns_each_ = (columns_ + kTeam - 1) / kTeam;
    choose_rows();
  }

  std::optional<Scheduled> build() {
    if (columns_each_ > kMostSums)
      return std::nullopt;
    const int64_t tile_rows = kTeams * rows_each_;
    k_at_ = tile_rows * kPitch;
    tile_ = array("tile", std::max(k_at_ + kKeys * kPitch, kKeys * kColumnSlice));
    weights_ = array("weights", tile_rows * (kKeys + 1));
    maxima_ = array("maxima", tile_rows * (kTeam + 1));
    const Expr rows = d_.axes[f_.rows].extent, keys = d_.axes[f_.keys].extent;
    const Expr tiles = ceildiv(rows, tile_rows), groups = extent_product(d_, f_.batch) * tiles;
    out_.grid = folded_grid(groups);
    out_.description = "simt_attention{rows=" + std::to_string(tile_rows) + ",keys=" + std::to_string(kKeys) + "}";
    ValueId group = group_number(b_);
    b_.if_then(b_.lt(group, l_.expr(groups)), [&] {
      Lowering::Scope scope(l_);
      ValueId tile_count = l_.expr(tiles);
      if (!f_.batch.empty())
        bind_flat(l_, f_.batch, b_.div(group, tile_count));
      row_count_ = l_.expr(rows);
      key_count_ = l_.expr(keys);
      thread_ = b_.local_id(0);
      lane_ = b_.rem(thread_, b_.index(kTeam));
      tile_row0_ = b_.mul(b_.rem(group, tile_count), b_.index(tile_rows));
      team_row_ = b_.mul(b_.div(thread_, b_.index(kTeam)), b_.index(rows_each_));
      for (int64_t r = 0; r < rows_each_; ++r)
        rows_.push_back(b_.add(tile_row0_, b_.add(team_row_, b_.index(r))));
      finish(key_blocks());
    });
    return std::move(out_);
  }

 private:
  // More rows a thread share what is read; fewer make more workgroups.
  void choose_rows() {
    const int64_t batch = typical_points(d_, f_.batch);
    const int64_t rows = std::max<int64_t>(1, typical(d_.axes[f_.rows].extent));
    auto groups = [&](int64_t each) { return batch * ((rows + kTeams * each - 1) / (kTeams * each)); };
    rows_each_ = 4;
    while (rows_each_ > 1 && (rows_each_ * columns_each_ > kMostSums || groups(rows_each_) < kEnoughGroups))
      rows_each_ /= 2;
  }

  uint32_t array(const char *name, int64_t count) {
    return b_.add_array(name, kernel::Space::kWorkgroup, Scalar::kF32, static_cast<uint64_t>(count), 16);
  }
  ValueId lowest() { return b_.constant_float(Scalar::kF32, -std::numeric_limits<double>::infinity()); }
  ValueId zero() { return b_.zero(Scalar::kF32); }
  ValueId at(ValueId row, int64_t pitch, ValueId column) { return b_.add(b_.mul(row, b_.index(pitch)), column); }
  ValueId last(ValueId count) { return b_.sub(count, b_.index(1)); }

  // Sums of a thread, by row and column, then its rows' sums of exponentials and their maxima.
  Values key_blocks() {
    Values init(static_cast<size_t>(rows_each_ * (columns_each_ + 1)), zero());
    init.resize(init.size() + static_cast<size_t>(rows_each_), lowest());
    return b_.for_loop(b_.index(0), key_count_, b_.index(kKeys), init, [&](ValueId first, const Values &carried) {
      Lowering::Scope scope(l_);
      Values next = carried;
      exponentials(scores(first), next);
      weigh(first, next);
      return next;
    });
  }

  ValueId &sum_of(Values &carried, int64_t r, int64_t c) { return carried[static_cast<size_t>(r * columns_each_ + c)]; }
  ValueId &total_of(Values &carried, int64_t r) { return carried[static_cast<size_t>(rows_each_ * columns_each_ + r)]; }
  ValueId &largest_of(Values &carried, int64_t r) { return carried[static_cast<size_t>(rows_each_ * (columns_each_ + 1) + r)]; }

  // The threads bring rows x columns elements into the tile; `element` gives that of a row and a column, in their range.
  void bring(int64_t rows, int64_t columns, int64_t origin, int64_t pitch, const std::function<ValueId(ValueId, ValueId)> &element) {
    b_.for_loop(thread_, b_.index(rows * columns), b_.index(kThreads), {}, [&](ValueId i, const Values &) {
      Lowering::Scope scope(l_);
      ValueId row = b_.div(i, b_.index(columns)), column = b_.rem(i, b_.index(columns));
      b_.store(tile_, b_.add(at(row, pitch, column), b_.index(origin)), element(row, column));
      return Values{};
    });
  }

  // q k over the depth, by row and key of the thread.
  Values scores(ValueId first) {
    Values zeros(static_cast<size_t>(rows_each_ * kKeysEach), zero());
    auto slice = [&](ValueId d0, int64_t depth, const Values &carried) {
      auto bind_depth = [&](ValueId d) { bind_flat(l_, f_.depth, b_.add(d0, d)); };
      b_.barrier();
      bring(kTeams * rows_each_, depth, 0, kPitch, [&](ValueId row, ValueId d) {
        l_.bind(f_.rows, b_.min(b_.add(tile_row0_, row), last(row_count_)));
        bind_depth(d);
        return l_.eval(f_.q);
      });
      bring(kKeys, depth, k_at_, kPitch, [&](ValueId key, ValueId d) {
        l_.bind(f_.keys, b_.min(b_.add(first, key), last(key_count_)));
        bind_depth(d);
        return l_.eval(f_.k);
      });
      b_.barrier();
      return b_.for_loop(b_.index(0), b_.index(depth), b_.index(1), carried, [&](ValueId d, const Values &sums) {
        Values next, keys;
        for (int64_t j = 0; j < kKeysEach; ++j)
          keys.push_back(b_.load(tile_, b_.add(at(b_.add(lane_, b_.index(j * kTeam)), kPitch, d), b_.index(k_at_))));
        for (int64_t r = 0; r < rows_each_; ++r) {
          ValueId q = b_.load(tile_, at(b_.add(team_row_, b_.index(r)), kPitch, d));
          for (int64_t j = 0; j < kKeysEach; ++j)
            next.push_back(b_.mad(q, keys[static_cast<size_t>(j)], sums[static_cast<size_t>(r * kKeysEach + j)]));
        }
        return next;
      });
    };
    const int64_t full = depth_ / kDepthSlice * kDepthSlice;
    Values sums = zeros;
    if (full > 0)
      sums = b_.for_loop(b_.index(0), b_.index(full), b_.index(kDepthSlice), sums,
                         [&](ValueId d0, const Values &carried) { return slice(d0, kDepthSlice, carried); });
    if (full < depth_)
      sums = slice(b_.index(full), depth_ - full, sums);
    for (int64_t r = 0; r < rows_each_; ++r)
      for (int64_t j = 0; j < kKeysEach; ++j) {
        Lowering::Scope scope(l_);
        ValueId key = b_.add(first, b_.add(lane_, b_.index(j * kTeam))), there = b_.lt(key, key_count_);
        l_.bind(f_.rows, b_.min(rows_[static_cast<size_t>(r)], last(row_count_)));
        l_.bind(f_.keys, b_.min(key, last(key_count_)));
        ValueId &sum = sums[static_cast<size_t>(r * kKeysEach + j)];
        l_.set(f_.dot, sum);
        sum = b_.select(there, l_.eval(f_.score), lowest());
      }
    return sums;
  }

  // A row that has seen only -inf so far keeps 0 as what is subtracted, so that its exponentials are 0. If no key ever
  // counts the sum is 0, and the row NaN by its division, as in the formula, or 0 where the formula bounds the sum.
  void exponentials(const Values &scores, Values &carried) {
    for (int64_t r = 0; r < rows_each_; ++r) {
      ValueId most = scores[static_cast<size_t>(r * kKeysEach)];
      for (int64_t j = 1; j < kKeysEach; ++j)
        most = b_.max(most, scores[static_cast<size_t>(r * kKeysEach + j)]);
      b_.store(maxima_, at(b_.add(team_row_, b_.index(r)), kTeam + 1, lane_), most);
    }
    b_.barrier();
    for (int64_t r = 0; r < rows_each_; ++r) {
      ValueId row = b_.add(team_row_, b_.index(r)), before = largest_of(carried, r);
      ValueId largest = b_.for_loop(b_.index(0), b_.index(kTeam), b_.index(1), {before}, [&](ValueId i, const Values &m) {
        return Values{b_.max(m[0], b_.load(maxima_, at(row, kTeam + 1, i)))};
      })[0];
      ValueId shift = b_.select(b_.compare(Opcode::kEq, largest, lowest()), zero(), largest);
      ValueId shrink = b_.unary(Opcode::kExp, b_.sub(before, shift));
      for (int64_t j = 0; j < kKeysEach; ++j)
        b_.store(weights_, at(row, kKeys + 1, b_.add(lane_, b_.index(j * kTeam))),
                 b_.unary(Opcode::kExp, b_.sub(scores[static_cast<size_t>(r * kKeysEach + j)], shift)));
      for (int64_t c = 0; c < columns_each_; ++c)
        sum_of(carried, r, c) = b_.mul(sum_of(carried, r, c), shrink);
      total_of(carried, r) = b_.mul(total_of(carried, r), shrink);
      largest_of(carried, r) = largest;
    }
  }

  // Adds the block's values, by their weights. Slices of columns follow one another; the first also sums the weights.
  void weigh(ValueId first, Values &carried) {
    for (int64_t c0 = 0; c0 < columns_; c0 += kColumnSlice) {
      const int64_t width = std::min(kColumnSlice, columns_ - c0), pitch = width, each = (width + kTeam - 1) / kTeam;
      b_.barrier();
      bring(kKeys, width, 0, pitch, [&](ValueId row, ValueId column) {
        ValueId key = b_.add(first, row);
        return b_.if_else(
            b_.lt(key, key_count_),
            [&] {
              Lowering::Scope scope(l_);
              l_.bind(f_.keys, key);
              l_.bind(f_.columns, b_.add(column, b_.index(c0)));
              return Values{l_.eval(f_.v)};
            },
            [&] { return Values{zero()}; })[0];
      });
      b_.barrier();
      Values sums;
      for (int64_t r = 0; r < rows_each_; ++r) {
        for (int64_t c = 0; c < each; ++c)
          sums.push_back(sum_of(carried, r, c0 / kTeam + c));
        if (c0 == 0)
          sums.push_back(total_of(carried, r));
      }
      sums = b_.for_loop(b_.index(0), b_.index(kKeys), b_.index(1), sums, [&](ValueId key, const Values &old) {
        Values next, values;
        for (int64_t c = 0; c < each; ++c) { // a column past the last reads the last: nobody stores it
          ValueId column = b_.add(lane_, b_.index(c * kTeam));
          values.push_back(b_.load(tile_, at(key, pitch, (c + 1) * kTeam > width ? b_.min(column, b_.index(width - 1)) : column)));
        }
        size_t i = 0;
        for (int64_t r = 0; r < rows_each_; ++r) {
          ValueId weight = b_.load(weights_, at(b_.add(team_row_, b_.index(r)), kKeys + 1, key));
          for (int64_t c = 0; c < each; ++c)
            next.push_back(b_.mad(weight, values[static_cast<size_t>(c)], old[i++]));
          if (c0 == 0)
            next.push_back(b_.add(old[i++], weight));
        }
        return next;
      });
      size_t i = 0;
      for (int64_t r = 0; r < rows_each_; ++r) {
        for (int64_t c = 0; c < each; ++c)
          sum_of(carried, r, c0 / kTeam + c) = sums[i++];
        if (c0 == 0)
          total_of(carried, r) = sums[i++];
      }
    }
  }

  void finish(Values results) {
    for (int64_t r = 0; r < rows_each_; ++r)
      b_.if_then(b_.lt(rows_[static_cast<size_t>(r)], row_count_), [&] {
        Lowering::Scope scope(l_);
        l_.bind(f_.rows, rows_[static_cast<size_t>(r)]);
        l_.set(f_.sum, total_of(results, r));
        ValueId divisor = l_.eval(f_.divisor);
        for (int64_t c = 0; c < columns_each_; ++c) {
          auto store = [&] {
            Lowering::Scope inner(l_);
            l_.bind(f_.columns, b_.add(lane_, b_.index(c * kTeam)));
            ValueId y = b_.div(sum_of(results, r, c), divisor);
            if (!proves_le(Expr(1), d_.axes[f_.keys].extent)) // a sum over no keys is 0
              y = b_.select(b_.lt(b_.index(0), key_count_), y, zero());
            l_.set(f_.output, y);
            for (const dispatch::Store &s : d_.stores)
              l_.store(s);
          };
          if ((c + 1) * kTeam <= columns_)
            store();
          else
            b_.if_then(b_.lt(b_.add(lane_, b_.index(c * kTeam)), b_.index(columns_)), store);
        }
      });
  }

  const Attention &f_;
  const Dispatch &d_;
  Scheduled out_;
  kernel::Builder b_;
  Lowering l_;
  int64_t depth_ = 1, columns_ = 0, columns_each_ = 0, rows_each_ = 1, k_at_ = 0;
  uint32_t tile_ = 0, weights_ = 0, maxima_ = 0;
  ValueId row_count_ = kNoValue, key_count_ = kNoValue, thread_ = kNoValue, lane_ = kNoValue, tile_row0_ = kNoValue, team_row_ = kNoValue;
  Values rows_;
};

} // namespace

std::optional<Scheduled> schedule_simt_attention(const Dispatch &original, const TargetRecord &record) {
  auto form = match_attention(original);
  if (!form || record.max_workgroup_invocations < kThreads)
    return std::nullopt;
  return SimtAttention(*form, record, original).build();
}

} // namespace ingot::aotc::schedule
