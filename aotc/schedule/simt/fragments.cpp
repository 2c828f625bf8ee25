// Sums of products of f16 on matrix units: matrix products, and convolutions as implicit ones.
//
//   a workgroup a tile of m x n outputs, a subgroup a part of it in fragments of 16 x 8; `stages` slices of k are in
//   workgroup memory or on their way:
//     for each slice: wait for it; barrier; start bringing the slice `stages - 1` ahead; multiply; put what came by registers
//     epilogue and stores, element by element of the fragments
//
// An operand comes by copies of 16 bytes where it is contiguous and aligned for certain; else element by element through
// registers, whatever its expression is (padding, strides, gathers). Elements outside are zeros. A lies [m][k], B lies [k][n] or
// [n][k], as in memory. Sums are f32, and products exact: the result is that of other schedules but for the order of additions.
#include "aotc/schedule/simt/fragments.h"

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
using kernel::FragmentRole;
using kernel::kNoValue;
using kernel::Opcode;
using kernel::ValueId;
using kernel::Values;

namespace {

constexpr uint32_t kSlice = 32, kLongSlice = 64; // of k; a long one where its copies fit
constexpr uint32_t kVector = 8;  // elements that are copied at once
constexpr uint32_t kPad = 8;     // rows of workgroup memory start in different banks
constexpr uint32_t kRows = 16, kColumns = 16; // of a pair of fragments

// `across` x `down` subgroups share an m x n tile.
struct Tile {
  uint32_t m, n, down, across;
  uint32_t threads() const { return down * across * kernel::kSubgroup; }
};
constexpr Tile kTiles[] = {{128, 128, 2, 4}, {128, 64, 2, 2}, {64, 128, 2, 2}, {64, 64, 2, 2}, {32, 64, 2, 2}, {64, 32, 4, 1},
                           {32, 32, 2, 1},   {16, 64, 1, 4},  {64, 16, 4, 1},  {16, 32, 1, 2}, {16, 16, 1, 1}};

// What a slice of such a tile costs a processor of a device that has some hundred: products, copies, and what it waits.
constexpr double kProcessors = 132, kProductCost = 1.0 / 4096, kCopyCost = 0.7 / 64, kStepCost = 1;

int64_t points(const Dispatch &d, const std::vector<uint32_t> &axes) {
  int64_t n = 1;
  for (uint32_t a : axes)
    n = std::min<int64_t>(1 << 24, n * std::max<int64_t>(1, typical(d.axes[a].extent)));
  return n;
}

const Tile &choose_tile(int64_t batch, int64_t m, int64_t n) {
  const Tile *best = nullptr;
  double least = 0;
  for (const Tile &t : kTiles) {
    const auto tiles = static_cast<double>(batch * ((m + t.m - 1) / t.m) * ((n + t.n - 1) / t.n));
    const double waves = static_cast<double>(static_cast<int64_t>((tiles + kProcessors - 1) / kProcessors));
    const double cost = waves * (t.m * t.n * kProductCost + (t.m + t.n) * kCopyCost + kStepCost);
    if (!best || cost < least) {
      best = &t;
      least = cost;
    }
  }
  return *best;
}

// The load of an f16 value that is converted to f32 and nothing else.
std::optional<dispatch::ValueId> half_load(const Dispatch &d, dispatch::ValueId side) {
  const Value &v = d.values[side];
  if (v.kind != ValueKind::kOp || v.code != Opcode::kConvert || v.type != ElementType::kF32)
    return std::nullopt;
  const Value &load = d.values[v.args[0]];
  return load.kind == ValueKind::kLoad && load.type == ElementType::kF16 ? std::optional(v.args[0]) : std::nullopt;
}

// One operand. Its lines in workgroup memory run along k, or along n.
struct Side {
  dispatch::ValueId load = 0;
  std::vector<uint32_t> axes; // of m or n
  uint32_t extent = 0;        // of the tile along m or n
  uint32_t slice = kSlice;    // along k
  bool lines_along_k = true;
  bool vectors = false;       // by copies of kVector elements along a line
  bool reads_along_k = true;  // neighbouring threads, where it comes element by element
  uint32_t array = 0;
  bool whole = false;         // no tile is cut
  ValueId origin = kNoValue, limit = kNoValue;
  uint32_t line() const { return lines_along_k ? slice : extent; }
  uint32_t lines() const { return lines_along_k ? extent : slice; }
  uint32_t pitch() const { return line() + kPad; }
  uint32_t elements() const { return lines() * pitch(); }
};

class SimtFragments {
 public:
  SimtFragments(const Contraction &form, const TargetRecord &record, const Dispatch &original)
      : f_(form), d_(form.d), record_(record), b_(out_.kernel), l_(b_, d_, original.free_symbols()) {
    out_.kernel.name = d_.name;
    out_.kernel.kind = record.kernel_class;
  }

  // Tile number `number` of the table; -1: by the sizes.
  std::optional<Scheduled> build(int number) {
    auto left = half_load(d_, f_.left), right = half_load(d_, f_.right);
    if (!left || !right || d_.values[f_.reduce].type != ElementType::kF32)
      return std::nullopt;
    ProductAxes axes = product_axes(f_);
    a_.axes = std::move(axes.left), bs_.axes = std::move(axes.right), batch_ = std::move(axes.others);
    const int64_t m = points(d_, a_.axes), n = points(d_, bs_.axes), k = points(d_, f_.k);
    if (number < 0 && (m < 8 || n < 8 || k < 16))
      return std::nullopt; // most of a fragment would be empty
    t_ = number < 0 ? choose_tile(points(d_, batch_), m, n) : kTiles[static_cast<size_t>(number) % std::size(kTiles)];
    a_.load = *left, bs_.load = *right;
    a_.extent = t_.m, bs_.extent = t_.n;
    arrange(a_);
    arrange(bs_);
    const bool wants_long = a_.vectors && bs_.vectors && k >= 2 * kLongSlice;
    if ((!wants_long || !choose_stages(kLongSlice, 3)) && !choose_stages(kSlice, 2))
      return std::nullopt;
    if (t_.threads() > record_.max_workgroup_invocations)
      return std::nullopt;
    out_.kernel.local_size = {t_.threads(), 1, 1};
    a_.array = b_.add_array("tile_a", kernel::Space::kWorkgroup, Scalar::kF16, uint64_t{stages_} * a_.elements(), 128);
    bs_.array = b_.add_array("tile_b", kernel::Space::kWorkgroup, Scalar::kF16, uint64_t{stages_} * bs_.elements(), 128);
    const Expr rows = extent_product(d_, a_.axes), columns = extent_product(d_, bs_.axes);
    a_.whole = mod(rows, int64_t{t_.m}).constant() == 0;
    bs_.whole = mod(columns, int64_t{t_.n}).constant() == 0;
    const Expr down = ceildiv(rows, int64_t{t_.m}), across = ceildiv(columns, int64_t{t_.n});
    const Expr groups = extent_product(d_, batch_) * down * across;
    out_.grid = folded_grid(groups);
    out_.description = "simt_fragments{m=" + std::to_string(t_.m) + ",n=" + std::to_string(t_.n) + ",k=" + std::to_string(slice_) +
                       ",stages=" + std::to_string(stages_) + (a_.vectors ? ",copied" : "") + (bs_.vectors ? ",copied" : "") + "}";
    ValueId group = group_number(b_);
    b_.if_then(b_.lt(group, l_.expr(groups)), [&] {
      Lowering::Scope scope(l_);
      // Neighbouring groups share columns: weights of a convolution are few, and its pixels many.
      ValueId tiles = l_.expr(down), rest = b_.div(group, tiles), all = l_.expr(across);
      a_.origin = b_.mul(b_.rem(group, tiles), b_.index(t_.m));
      bs_.origin = b_.mul(b_.rem(rest, all), b_.index(t_.n));
      if (!batch_.empty())
        bind_flat(l_, batch_, b_.div(rest, all));
      a_.limit = l_.expr(rows), bs_.limit = l_.expr(columns), k_ = l_.expr(extent_product(d_, f_.k));
      tile();
    });
    return std::move(out_);
  }

 private:
  // As many stages of such slices as fit, up to four; false where these are fewer than `least`.
  bool choose_stages(uint32_t slice, uint32_t least) {
    slice_ = a_.slice = bs_.slice = slice;
    const uint64_t bytes = 2 * uint64_t{a_.elements() + bs_.elements()};
    stages_ = static_cast<uint32_t>(std::min<uint64_t>(4, record_.workgroup_memory_bytes / bytes));
    if (stages_ < least)
      stages_ = 0;
    return stages_ > 0;
  }

  void arrange(Side &s) {
    const Value &load = d_.values[s.load];
    const bool k = comes_in_vectors(d_, load, f_.k, kVector), other = comes_in_vectors(d_, load, s.axes, kVector);
    s.reads_along_k = run_length(d_, load, f_.k) >= run_length(d_, load, s.axes);
    s.lines_along_k = &s == &a_ || (k || !other ? s.reads_along_k || k : false);
    s.vectors = record_.async_copy && (s.lines_along_k ? k : other);
  }

  // What a thread brings of each slice: item i has a place along m or n and one along k.
  struct Share {
    uint32_t count = 0;
    uint32_t total = 0;            // of all threads
    std::vector<ValueId> own, k;   // within the tile and within the slice
    std::vector<Values> places;    // axis values of `own`, the same for every slice
    std::vector<ValueId> inside;
  };
  Share share(const Side &s) {
    Share out;
    const uint32_t step = s.vectors ? kVector : 1;
    const bool along_k = s.vectors ? s.lines_along_k : s.reads_along_k;
    const uint32_t fast = (along_k ? slice_ : s.extent) / step;
    out.total = s.extent * slice_ / step;
    out.count = (out.total + t_.threads() - 1) / t_.threads();
    for (uint32_t i = 0; i < out.count; ++i) {
      ValueId item = b_.add(b_.local_id(0), b_.index(int64_t{i} * t_.threads()));
      ValueId minor = b_.mul(b_.rem(item, b_.index(fast)), b_.index(step)), major = b_.div(item, b_.index(fast));
      out.own.push_back(along_k ? major : minor);
      out.k.push_back(along_k ? minor : major);
      ValueId at = b_.add(s.origin, out.own.back());
      out.inside.push_back(within(s, at));
      out.places.push_back(unflatten(l_, s.axes, at));
    }
    return out;
  }
  // kNoValue: for certain.
  ValueId within(const Side &s, ValueId at) { return s.whole ? kNoValue : b_.lt(at, s.limit); }
  ValueId both(ValueId x, ValueId y) { return x == kNoValue ? y : y == kNoValue ? x : b_.logical_and(x, y); }
  bool surplus(const Share &share, uint32_t i) const { return (i + 1) * t_.threads() > share.total; }
  // Where item i lies in stage `stage`.
  ValueId slot(const Side &s, const Share &share, uint32_t i, ValueId stage) {
    ValueId line = s.lines_along_k ? share.own[i] : share.k[i], at = s.lines_along_k ? share.k[i] : share.own[i];
    return b_.add(b_.mul(stage, b_.index(s.elements())), b_.add(b_.mul(line, b_.index(s.pitch())), at));
  }

  void copy_slice(const Side &s, const Share &share, ValueId k0, ValueId stage) {
    const Value &load = d_.values[s.load];
    for (uint32_t i = 0; i < share.count; ++i) {
      Lowering::Scope scope(l_);
      ValueId k = b_.add(k0, share.k[i]);
      bind_axes(l_, f_.k, unflatten(l_, f_.k, k));
      bind_axes(l_, s.axes, share.places[i]);
      ValueId good = both(share.inside[i], b_.lt(k, k_));
      for (const Guard &g : load.guards) {
        if (!proves_le(0, g.value))
          good = b_.logical_and(good, b_.compare(Opcode::kGe, l_.expr(g.value), b_.index(0)));
        good = b_.logical_and(good, b_.lt(l_.expr(g.value), l_.expr(g.extent)));
      }
      auto copy = [&] { b_.copy_async(s.array, slot(s, share, i, stage), load.operand, l_.expr(load.expr), good, kVector); };
      if (surplus(share, i))
        b_.if_then(b_.lt(b_.add(b_.local_id(0), b_.index(int64_t{i} * t_.threads())), b_.index(share.total)), copy);
      else
        copy();
    }
  }

  Values elements(const Side &s, const Share &share, ValueId k0) {
    Values out;
    for (uint32_t i = 0; i < share.count; ++i) {
      Lowering::Scope scope(l_);
      ValueId k = b_.add(k0, share.k[i]);
      bind_axes(l_, f_.k, unflatten(l_, f_.k, k));
      bind_axes(l_, s.axes, share.places[i]);
      ValueId good = both(share.inside[i], b_.lt(k, k_));
      out.push_back(b_.if_else(
          good,
          [&] {
            Lowering::Scope inner(l_);
            return Values{l_.eval(s.load)};
          },
          [&] { return Values{b_.zero(Scalar::kF16)}; })[0]);
    }
    return out;
  }
  void put(const Side &s, const Share &share, const Values &elements, ValueId stage) {
    for (uint32_t i = 0; i < share.count; ++i) {
      ValueId at = slot(s, share, i, stage);
      if (surplus(share, i))
        b_.store_if(s.array, b_.lt(b_.add(b_.local_id(0), b_.index(int64_t{i} * t_.threads())), b_.index(share.total)), at, elements[i]);
      else
        b_.store(s.array, at, elements[i]);
    }
  }

  void tile() {
    const Share a = share(a_), bs = share(bs_);
    ValueId subgroup = b_.div(b_.local_id(0), b_.index(kernel::kSubgroup));
    const uint32_t own_m = t_.m / t_.down, own_n = t_.n / t_.across, rows = own_m / kRows, pairs = own_n / kColumns;
    ValueId row0 = b_.mul(b_.div(subgroup, b_.index(t_.across)), b_.index(own_m));
    ValueId column0 = b_.mul(b_.rem(subgroup, b_.index(t_.across)), b_.index(own_n));
    // Slices before the first one that the loop brings.
    for (uint32_t s = 0; s + 1 < stages_; ++s) {
      for (auto [side, share] : {std::pair(&a_, &a), std::pair(&bs_, &bs)}) {
        if (side->vectors)
          copy_slice(*side, *share, b_.index(s * slice_), b_.index(s));
        else
          put(*side, *share, elements(*side, *share, b_.index(s * slice_)), b_.index(s));
      }
      if (a_.vectors || bs_.vectors)
        b_.copy_commit();
    }
    Values init(size_t{rows} * pairs * 2, b_.zero(Type(Scalar::kF32, 4)));
    ValueId slices = b_.div(b_.add(k_, b_.index(slice_ - 1)), b_.index(slice_));
    Values sums = b_.for_loop(b_.index(0), slices, b_.index(1), init, [&](ValueId slice, const Values &carried) {
      if (a_.vectors || bs_.vectors)
        b_.copy_wait(stages_ - 2);
      b_.barrier();
      ValueId ahead = b_.add(slice, b_.index(stages_ - 1)), k0 = b_.mul(ahead, b_.index(slice_));
      ValueId stage = b_.rem(ahead, b_.index(stages_)), now = b_.rem(slice, b_.index(stages_));
      Values from_a, from_b;
      if (a_.vectors)
        copy_slice(a_, a, k0, stage);
      else
        from_a = elements(a_, a, k0);
      if (bs_.vectors)
        copy_slice(bs_, bs, k0, stage);
      else
        from_b = elements(bs_, bs, k0);
      if (a_.vectors || bs_.vectors)
        b_.copy_commit();
      Values next = multiply(carried, now, row0, column0, rows, pairs);
      if (!a_.vectors)
        put(a_, a, from_a, stage);
      if (!bs_.vectors)
        put(bs_, bs, from_b, stage);
      return next;
    });
    epilogue(sums, row0, column0, rows, pairs);
  }

  Values multiply(const Values &carried, ValueId stage, ValueId row0, ValueId column0, uint32_t rows, uint32_t pairs) {
    Values sums = carried;
    ValueId a0 = b_.add(b_.mul(stage, b_.index(a_.elements())), b_.mul(row0, b_.index(a_.pitch())));
    ValueId b0 = b_.add(b_.mul(stage, b_.index(bs_.elements())), bs_.lines_along_k ? b_.mul(column0, b_.index(bs_.pitch())) : column0);
    const FragmentRole role = bs_.lines_along_k ? FragmentRole::kB : FragmentRole::kBRows;
    for (uint32_t k = 0; k < slice_; k += 16) {
      Values left, right;
      for (uint32_t i = 0; i < rows; ++i)
        left.push_back(b_.fragment_load(a_.array, b_.add(a0, b_.index(int64_t{i} * kRows * a_.pitch() + k)), b_.index(a_.pitch()), FragmentRole::kA));
      for (uint32_t j = 0; j < pairs; ++j) {
        const int64_t at = bs_.lines_along_k ? int64_t{j} * kColumns * bs_.pitch() + k : int64_t{k} * bs_.pitch() + j * kColumns;
        right.push_back(b_.fragment_load(bs_.array, b_.add(b0, b_.index(at)), b_.index(bs_.pitch()), role));
      }
      for (uint32_t i = 0; i < rows; ++i)
        for (uint32_t j = 0; j < 2 * pairs; ++j) {
          ValueId &sum = sums[size_t{i} * 2 * pairs + j];
          sum = b_.fragment_mma(Scalar::kF16, left[i], right[j / 2], static_cast<int>(j % 2), sum);
        }
    }
    return sums;
  }

  void epilogue(const Values &sums, ValueId row0, ValueId column0, uint32_t rows, uint32_t pairs) {
    ValueId row_in = b_.fragment_row(), column_in = b_.fragment_column();
    // The four sums of a thread have their own rows and columns, shared by fragments beside and below.
    struct Place {
      ValueId inside;
      Values axes;
    };
    auto places = [&](const Side &s, ValueId first, ValueId own, uint32_t count, uint32_t apart) {
      std::vector<Place> out;
      for (uint32_t f = 0; f < count; ++f)
        for (uint32_t i = 0; i < 4; ++i) {
          ValueId at = b_.add(b_.add(s.origin, first), b_.add(b_.extract(own, i), b_.index(int64_t{f} * apart)));
          out.push_back({within(s, at), unflatten(l_, s.axes, at)});
        }
      return out;
    };
    const std::vector<Place> down = places(a_, row0, row_in, rows, kRows), across = places(bs_, column0, column_in, 2 * pairs, kColumns / 2);
    for (uint32_t i = 0; i < rows; ++i)
      for (uint32_t j = 0; j < 2 * pairs; ++j)
        for (uint32_t e = 0; e < 4; ++e) {
          const Place &row = down[i * 4 + e], &column = across[j * 4 + e];
          auto store = [&] {
            Lowering::Scope scope(l_);
            bind_axes(l_, a_.axes, row.axes);
            bind_axes(l_, bs_.axes, column.axes);
            l_.set(f_.reduce, b_.extract(sums[size_t{i} * 2 * pairs + j], e));
            for (const dispatch::Store &s : d_.stores)
              l_.store(s);
          };
          if (ValueId inside = both(row.inside, column.inside); inside == kNoValue)
            store();
          else
            b_.if_then(inside, store);
        }
  }

  const Contraction &f_;
  const Dispatch &d_;
  const TargetRecord &record_;
  Scheduled out_;
  kernel::Builder b_;
  Lowering l_;
  Tile t_ = kTiles[0];
  Side a_, bs_; // left, right
  std::vector<uint32_t> batch_;
  uint32_t stages_ = 0, slice_ = kSlice;
  ValueId k_ = kNoValue;
};

} // namespace

std::optional<Scheduled> schedule_simt_fragments(const Dispatch &d, const TargetRecord &record, int tile) {
  if (!record.fragment_f16 || record.subgroup_size != kernel::kSubgroup)
    return std::nullopt;
  std::optional<Contraction> form = match_contraction(d);
  if (!form)
    return std::nullopt;
  return SimtFragments(*form, record, d).build(tile);
}

std::optional<Scheduled> schedule_simt_fragments(const Dispatch &d, const TargetRecord &record) {
  return schedule_simt_fragments(d, record, -1);
}

} // namespace ingot::aotc::schedule
