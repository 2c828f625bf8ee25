// Sums of products on matrix units: matrix products, and convolutions as implicit ones.
//
//   a workgroup a tile of m x n outputs, a subgroup a part of it in fragments of 16 x 8; where the tile is small, `deep` of them
//   share that part, each with its share of every slice; `stages` slices of k are in workgroup memory or on their way:
//     for each slice: wait for it; barrier; start bringing the slice `stages - 1` ahead; multiply; put what came by registers
//     what subgroups share is added up through workgroup memory
//     epilogue and stores, by the neighbouring columns of a fragment that a thread has (the record's FragmentShape says how many)
//
// On a target with matrix units for warpgroups (128 threads), factors of f16 whose lines along k come by copies go to these straight
// from workgroup memory (see kWarpgroupMma); copies are begun while they work. Where the target has feeds (kFeed), both factors are
// tensors with fixed sizes and no tile is cut, these bring the slices, and no thread waits for others between two of them.
//
// An operand comes by copies of 16 bytes where it is contiguous and aligned for certain, through registers where the target has no
// copies under way; else element by element through registers, whatever its expression is (padding, strides, gathers). Elements outside are zeros. A lies [m][k], B lies [k][n] or
// [n][k], as in memory. Sums are f32, and products of f16 exact: the result is that of other schedules but for the order of additions.
//
// A product of f32 is three of tf32, which has 11 bits of the 24: x y = high(x) high(y) + high(x) low(y) + low(x) high(y), where
// high(x) is x without its low 13 bits and low(x) = x - high(x). What is left out, low(x) low(y) and the last bits of a low part,
// comes to less than 2^-20 of the product. B of f32 lies [n][k] always.
//
// Factors of 8 bits, each signed or not, have sums in i32 that wrap: the same bits as any other schedule's. B of them lies [n][k] too.
#include "aotc/schedule/simt/fragments.h"

#include <algorithm>
#include <numeric>

#include "aotc/kernel/fragment.h"
#include "aotc/schedule/collapse.h"
#include "aotc/schedule/contraction.h"
#include "aotc/schedule/internal.h"
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

constexpr uint32_t kSlice = 64, kLongSlice = 128; // bytes along k; a long one where its copies fit
constexpr uint32_t kVector = 16; // bytes that are copied at once
constexpr uint32_t kPad = 16;    // bytes: rows of workgroup memory start in different banks
constexpr uint32_t kStep = 32;   // bytes along k of a fragment
constexpr uint32_t kRows = 16, kColumns = 16; // of a pair of fragments
constexpr uint32_t kWarpgroupRows = 64;
constexpr uint32_t kMostStages = 12, kMostFeedStages = 16;
constexpr uint32_t kOverlapStages = 4; // that warpgroups need to begin a product while the one before is under way
constexpr uint32_t kDeepStages = 3; // that several warpgroups need to share a part: with fewer, shorter slices are faster
constexpr uint32_t kMostSums = 64; // of a thread, where a product takes more registers than that, or slices come through them
constexpr uint32_t kMostLanes = 8; // that are stored at once
constexpr uint32_t kMostEarly = 64; // elements of constants that a thread loads before the sums are there

// `across` x `down` parts of an m x n tile; `deep` subgroups, or warpgroups, a part, where the slices are long enough.
struct Tile {
  uint32_t m, n, down, across, deep;
  bool warpgroups = false;
  uint32_t subgroup = kernel::kSubgroup; // threads
  uint32_t parts() const { return down * across; }
  uint32_t unit() const { return warpgroups ? kernel::kWarpgroup : subgroup; }
  uint32_t threads() const { return parts() * deep * unit(); }
  uint32_t subgroups() const { return threads() / subgroup; }
};
constexpr Tile kTiles[] = {{128, 256, 2, 4, 1}, {256, 128, 4, 2, 1}, {128, 128, 2, 4, 1}, {128, 64, 2, 2, 2}, {64, 128, 2, 2, 2}, {64, 64, 2, 2, 2},
                           {32, 64, 2, 2, 2},   {64, 32, 4, 1, 2},   {32, 32, 2, 1, 4},   {16, 64, 1, 4, 2},  {64, 16, 4, 1, 2},  {16, 32, 1, 2, 4},
                           {16, 16, 1, 1, 4},
                           {128, 256, 2, 1, 1, true}, {256, 128, 4, 1, 1, true}, {128, 192, 2, 1, 1, true}, {128, 128, 2, 1, 1, true}, {128, 64, 2, 1, 2, true},
                           {64, 256, 1, 2, 2, true}, {64, 128, 1, 1, 2, true}, {128, 64, 2, 1, 1, true}, {64, 128, 1, 2, 1, true}, {64, 64, 1, 1, 2, true}, {64, 32, 1, 1, 4, true}, {64, 16, 1, 1, 4, true},
                           {64, 96, 1, 1, 1, true}, {64, 80, 1, 1, 1, true}, {64, 64, 1, 1, 1, true}, {64, 48, 1, 1, 1, true}, {64, 32, 1, 1, 1, true}, {64, 32, 1, 1, 2, true}};

// Of an H100 80GB: processors; microseconds that one takes for a product of 16 x 8 x 16 with mma.sync at full occupation, for a
// byte that comes to it, and for what is waited in each slice and in each tile; bytes a microsecond that come to all of them; and how long a copy is under way.
constexpr double kProcessors = 132, kProductTime = 9e-4, kByteTime = 1e-5, kSliceTime = 0.03, kTileTime = 1.2, kAllBytes = 5.5e6,
                 kLatency = 0.8;
constexpr double kOpTime = 9e-6; // an arithmetic operation on one element after the sum, by a fully occupied processor
// The same of warpgroups: a product of that size, a byte, a slice, one that waits for a place, and a tile whose parts are shared. Fitted to products of 16
// sizes with 13 tiles and more each, chains of them timed by `ingot bench --on-device` on an H200.
constexpr double kGroupProductTime = 5e-4, kGroupByteTime = 2e-5, kGroupSliceTime = 8e-3, kGroupTurnTime = 0.12, kGroupSharingTime = 0.62;
constexpr double kSubgroupsSlower = 1.7; // how much longer products of subgroups take than the figures above say, which rank their tiles alone
constexpr uint32_t kBusySubgroups = 4; // that occupy a processor's matrix units

// Arithmetic operations on each element after its sum: a math function is a polynomial of about 30, a division a subroutine of 10.
int64_t epilogue_ops(const Dispatch &d, dispatch::ValueId reduce) {
  std::vector<bool> after(d.values.size());
  after[reduce] = true;
  int64_t ops = 0;
  for (dispatch::ValueId v = reduce + 1; v < d.values.size(); ++v) {
    const Value &value = d.values[v];
    after[v] = std::any_of(value.args.begin(), value.args.end(), [&](dispatch::ValueId arg) { return after[arg]; });
    if (after[v])
      ops += value.kind != ValueKind::kOp ? 0 : is_math(value.code) ? 30 : value.code == Opcode::kDiv ? 10 : 1;
  }
  return ops;
}

// What a product costs with such a tile, in microseconds, if slices are of `slice` bytes along k and `stages` of them under way,
// and `ops` follow the sum of each element. `fed`: no thread of it waits for a place.
double cost(const Tile &t, int64_t batch, int64_t m, int64_t n, int64_t k, uint32_t element, uint32_t slice, uint32_t stages, int64_t ops, bool fed) {
  const auto tiles = static_cast<double>(batch * ((m + t.m - 1) / t.m) * ((n + t.n - 1) / t.n));
  const auto slices = static_cast<double>((k * element + slice - 1) / slice);
  const double waves = static_cast<double>(static_cast<int64_t>((tiles + kProcessors - 1) / kProcessors));
  const double busy = static_cast<double>(std::min(kBusySubgroups, t.subgroups())) / kBusySubgroups;
  if (t.warpgroups) {
    const double bytes = 1.0 * slice * (t.m + t.n);
    const double step = std::max(t.m * t.n / 128.0 * (slice / kStep) * kGroupProductTime, bytes * kGroupByteTime) + kGroupSliceTime + (slices > stages && !fed ? kGroupTurnTime : 0);
    const double tile = (t.deep > 1 ? kGroupSharingTime : 0) + static_cast<double>(t.m * t.n * ops) * kOpTime / busy;
    return std::max(waves * slices * step, tiles * slices * bytes / kAllBytes) + waves * tile;
  }
  const double products = t.m * t.n / 128.0 * (slice / kStep) * (element == 4 ? 3 : 1) * kProductTime / busy, bytes = 1.0 * slice * (t.m + t.n);
  double step = std::max(products, bytes * kByteTime) + kSliceTime;
  if (slices >= stages) // a slice is waited for that could not be asked for earlier
    step = std::max(step, kLatency / (stages - 1));
  const double tile = kTileTime + static_cast<double>(t.m * t.n * ops) * kOpTime / busy; // in which is the first slice's wait
  return std::max(waves * slices * step, tiles * slices * bytes / kAllBytes) + waves * tile;
}

// One operand. Its lines in workgroup memory run along k, or along n.
struct Side {
  dispatch::ValueId load = 0;
  std::vector<uint32_t> axes; // of m or n
  uint32_t extent = 0;        // of the tile along m or n
  uint32_t slice = 0;         // along k
  uint32_t pad = 0;
  bool lines_along_k = true;
  bool vectors = false;       // by kVector bytes along a line
  bool copied = false;        // these go on while the threads do other things
  bool reads_along_k = true;  // neighbouring threads, where it comes element by element
  uint32_t array = 0;
  bool whole = false;         // no tile is cut
  ValueId origin = kNoValue, limit = kNoValue;
  // Where it is a tensor of fixed sizes in memory: in elements. Along k its lines are pieces of 64 if `pieces` is not 1.
  struct Tensor {
    int64_t offset = 0, k = 0, pieces = 1, piece_stride = 0, rows = 0, row_stride = 0;
    std::vector<std::pair<uint32_t, int64_t>> batch; // axes, strides
  };
  std::optional<Tensor> tensor;
  uint32_t line() const { return lines_along_k ? slice : extent; }
  uint32_t lines() const { return lines_along_k ? extent : slice; }
  uint32_t pitch() const { return line() + pad; }
  uint32_t elements() const { return lines() * pitch(); }
};

class SimtFragments {
 public:
  SimtFragments(const Contraction &form, const TargetRecord &record, const Dispatch &original)
      : f_(form), d_(form.d), record_(record), b_(out_.kernel), l_(b_, d_, original.free_symbols()) {
    out_.kernel.name = d_.name;
    out_.kernel.kind = record.kernel_class;
    out_.kernel.fragment = shape_;
  }

  // Tile number `number` of the table; -1: by the sizes.
  std::optional<Scheduled> build(int number) {
    const bool bytes = d_.values[f_.reduce].type == ElementType::kI32;
    if ((!bytes && d_.values[f_.reduce].type != ElementType::kF32) || !(bytes ? record_.fragment_i8 : record_.fragment_f16))
      return std::nullopt;
    auto left = bytes ? byte_value(d_, f_.left) : half_load(d_, f_.left), right = bytes ? byte_value(d_, f_.right) : half_load(d_, f_.right);
    if (bytes) {
      if (!left || !right)
        return std::nullopt;
      scalar_ = Scalar::kI8, sum_ = Scalar::kI32;
      signs_ = (d_.values[*left].type == ElementType::kU8 ? kernel::kUnsignedA : 0) | (d_.values[*right].type == ElementType::kU8 ? kernel::kUnsignedB : 0);
    } else if (!left || !right) { // anything of f32, a converted f16 too
      if (!record_.fragment_tf32)
        return std::nullopt;
      left = f_.left, right = f_.right;
      scalar_ = Scalar::kF32;
    }
    const uint32_t element = byte_size(scalar_);
    vector_ = kVector / element;
    step_ = kStep / element;
    ProductAxes axes = product_axes(f_);
    a_.axes = std::move(axes.left), bs_.axes = std::move(axes.right), batch_ = std::move(axes.others);
    const int64_t m = typical_points(d_, a_.axes), n = typical_points(d_, bs_.axes), k = typical_points(d_, f_.k);
    if (number < 0 && (m < 8 || n < 8 || k < 16 || (scalar_ == Scalar::kF32 && (m < 16 || n < 16 || k < 32)) || (bytes && k < 32)))
      return std::nullopt; // most of a fragment would be empty
    a_.load = *left, bs_.load = *right;
    arrange(a_);
    arrange(bs_);
    fed_ = record_.tensor_feeds && a_.tensor && bs_.tensor;
    if (number >= 0) {
      if (!fits(kTiles[static_cast<size_t>(number) % std::size(kTiles)], k))
        return std::nullopt;
    } else if (!choose_tile(typical_points(d_, batch_), m, n, k)) {
      return std::nullopt;
    }
    if (t_.threads() > record_.max_workgroup_invocations)
      return std::nullopt;
    out_.kernel.local_size = {t_.threads(), 1, 1};
    const uint32_t align = t_.warpgroups ? 1024 : 128;
    a_.array = b_.add_array("tile_a", kernel::Space::kWorkgroup, scalar_, uint64_t{stages_} * a_.elements(), align);
    bs_.array = b_.add_array("tile_b", kernel::Space::kWorkgroup, scalar_, uint64_t{stages_} * bs_.elements(), align);
    if (feeds())
      signals_ = b_.add_array("signals", kernel::Space::kWorkgroup, Scalar::kI64, 2 * uint64_t{stages_}, 8);
    if (t_.deep > 1)
      partial_ = b_.add_array("partial", kernel::Space::kWorkgroup, sum_, partial_elements(), 128);
    const Expr rows = extent_product(d_, a_.axes), columns = extent_product(d_, bs_.axes);
    a_.whole = mod(rows, int64_t{t_.m}).constant() == 0;
    bs_.whole = mod(columns, int64_t{t_.n}).constant() == 0;
    const Expr down = ceildiv(rows, int64_t{t_.m}), across = ceildiv(columns, int64_t{t_.n});
    const Expr groups = extent_product(d_, batch_) * down * across;
    out_.grid = folded_grid(groups);
    out_.description = std::string(scalar_ == Scalar::kF32 ? "simt_fragments_f32" : bytes ? "simt_fragments_i8" : t_.warpgroups ? "simt_warpgroups" : "simt_fragments") + "{m=" + std::to_string(t_.m) + ",n=" + std::to_string(t_.n) + ",k=" + std::to_string(slice_) +
                       ",deep=" + std::to_string(t_.deep) + ",stages=" + std::to_string(stages_) + (feeds() ? ",fed" : comes(a_) + comes(bs_)) + "}";
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
  static std::string comes(const Side &s) { return s.copied ? ",copied" : s.vectors ? ",vectors" : ""; }

  // Bring others than the threads that multiply the slices? Where tiles are cut this is slower (197x768x768 on an H200: 3.9 us by 3.5,
  // 128x768x768 3.4 by 3.3, 1024x1024x1024 6.7 by 7.5).
  bool feeds() const { return t_.warpgroups && fed_ && a_.tensor->rows % t_.m == 0 && bs_.tensor->rows % t_.n == 0; }

  // Takes the tile with the longest slices, and the most stages of them, that the memory allows.
  bool fits(const Tile &tile, int64_t k) {
    const uint32_t element = byte_size(scalar_), long_slice = kLongSlice / element;
    t_ = tile;
    t_.subgroup = shape_.threads;
    a_.extent = t_.m, bs_.extent = t_.n;
    a_.pad = bs_.pad = t_.warpgroups ? 0 : kPad / element;
    if (t_.warpgroups) { // a line a warpgroup of each slice
      if (!record_.warpgroup_mma || scalar_ != Scalar::kF16 || !a_.vectors || !bs_.vectors || !bs_.lines_along_k)
        return false;
      while (t_.deep > 1 && (k < 2 * t_.deep * kernel::kWarpgroupLine || !choose_stages(t_.deep * kernel::kWarpgroupLine, kDeepStages, k)))
        t_.deep /= 2;
      const uint32_t slice = t_.deep * kernel::kWarpgroupLine;
      return t_.threads() + (feeds() ? kernel::kFeeders : 0) <= record_.max_workgroup_invocations && (choose_stages(slice, 2, k) || (choose_stages(slice, 1, k) && slices_at_most(stages_)));
    }
    if (a_.vectors && bs_.vectors && k >= 2 * long_slice)
      for (; t_.deep >= 1; t_.deep /= 2)
        if (choose_stages(long_slice, std::min(3u, most_stages()), k))
          return true;
    for (t_.deep = std::min(tile.deep, kSlice / kStep); t_.deep >= 1; t_.deep /= 2)
      if (choose_stages(kSlice / element, 2, k))
        return true;
    return false;
  }

  // The cheapest of those that fit.
  bool choose_tile(int64_t batch, int64_t m, int64_t n, int64_t k) {
    const int64_t ops = epilogue_ops(d_, f_.reduce);
    const Tile *best = nullptr;
    double least = 0;
    for (const Tile &t : kTiles) {
      const bool few_registers = scalar_ == Scalar::kF32 || !record_.async_copy;
      if (t.parts() * t.deep * (t.warpgroups ? kernel::kWarpgroup : shape_.threads) > record_.max_workgroup_invocations || !fits(t, k) ||
          (few_registers && t.m * t.n > kMostSums * t.parts() * shape_.threads))
        continue;
      double c = cost(t_, batch, m, n, k, byte_size(scalar_), slice_ * byte_size(scalar_), stages_, ops, feeds());
      if (!t.warpgroups)
        c *= kSubgroupsSlower;
      if (!best || c < least) {
        best = &t;
        least = c;
      }
    }
    return best && fits(*best, k);
  }

  uint64_t partial_elements() const { return t_.deep > 1 ? uint64_t{t_.deep} * t_.m * t_.n : 0; }

  // Where the depth is known and all comes by copies, each slice can have a place of its own.
  uint32_t fixed_slices() const { return static_cast<uint32_t>((*extent_product(d_, f_.k).constant() + slice_ - 1) / slice_); }
  bool slices_at_most(uint32_t stages) const {
    return a_.copied && bs_.copied && extent_product(d_, f_.k).is_constant() && fixed_slices() > 0 && fixed_slices() <= stages;
  }

  // Through registers comes the next slice alone.
  uint32_t most_stages() const { return feeds() ? kMostFeedStages : record_.async_copy ? kMostStages : 2; }

  // As many stages of such slices as k fills and as fit, in the memory that any workgroup has or that one may ask for; false
  // where these are fewer than `least`.
  bool choose_stages(uint32_t slice, uint32_t least, int64_t k) {
    slice_ = a_.slice = bs_.slice = slice;
    const uint64_t bytes = byte_size(scalar_) * uint64_t{a_.elements() + bs_.elements()}, others = 4 * partial_elements() + (feeds() ? 16 * kMostFeedStages : 0);
    const uint64_t memory = std::max(record_.workgroup_memory_bytes, record_.large_workgroup_memory_bytes);
    const auto slices = static_cast<uint64_t>((k + slice - 1) / slice);
    stages_ = memory <= others ? 0 : static_cast<uint32_t>(std::min({uint64_t{most_stages()}, std::max<uint64_t>(least, slices), (memory - others) / bytes}));
    if (stages_ < least)
      stages_ = 0;
    return stages_ > 0;
  }

  void arrange(Side &s) {
    const Value &load = d_.values[s.load];
    const bool is_load = load.kind == ValueKind::kLoad && to_scalar(load.type) == scalar_;
    const bool k = is_load && comes_in_vectors(d_, load, f_.k, vector_), other = is_load && comes_in_vectors(d_, load, s.axes, vector_);
    s.reads_along_k = !is_load || run_length(d_, load, f_.k) >= run_length(d_, load, s.axes);
    s.lines_along_k = &s == &a_ || scalar_ != Scalar::kF16 || (k || !other ? s.reads_along_k || k : false);
    s.vectors = s.lines_along_k ? k : other;
    s.copied = s.vectors && record_.async_copy;
    if (is_load && k && s.lines_along_k && scalar_ == Scalar::kF16)
      s.tensor = tensor_of(s, load);
  }

  std::optional<Side::Tensor> tensor_of(const Side &s, const Value &load) const {
    constexpr int64_t kEight = 16 / 2, kMostStride = int64_t{1} << 38, kMostSize = int64_t{1} << 31;
    struct Run {
      int64_t stride, size;
    };
    Expr rest = load.expr;
    bool good = load.guards.empty();
    // The axes as few runs, the innermost first; one of a single point is none.
    auto runs = [&](const std::vector<uint32_t> &axes) {
      std::vector<Run> out;
      for (size_t i = axes.size(); i-- > 0;) {
        const dispatch::Axis &axis = d_.axes[axes[i]];
        const auto linear = rest.linear_in(axis.symbol);
        const auto stride = linear ? linear->coefficient.constant() : std::nullopt, size = axis.extent.constant();
        good = good && stride && size && *size >= 1;
        if (!good)
          break;
        rest = linear->rest;
        if (*size == 1)
          continue;
        if (!out.empty() && *stride == out.back().stride * out.back().size)
          out.back().size *= *size;
        else
          out.push_back({*stride, *size});
      }
      return out;
    };
    const std::vector<Run> k = runs(f_.k), rows = runs(s.axes);
    Side::Tensor t;
    for (uint32_t axis : batch_)
      if (const std::vector<Run> one = runs({axis}); good && !one.empty() && one[0].stride != 0)
        t.batch.emplace_back(axis, one[0].stride);
    const auto offset = rest.constant();
    if (!good || !offset || k.empty() || k.size() > 2 || k[0].stride != 1 || (k.size() == 2 && k[0].size != kernel::kWarpgroupLine) || rows.size() != 1)
      return std::nullopt;
    t.offset = *offset;
    t.k = k[0].size;
    if (k.size() == 2)
      t.pieces = k[1].size, t.piece_stride = k[1].stride;
    t.rows = rows[0].size, t.row_stride = rows[0].stride;
    auto fine = [&](int64_t stride, int64_t size) { good = good && stride > 0 && stride % kEight == 0 && stride <= kMostStride && size <= kMostSize; };
    fine(kEight, t.k);
    fine(t.row_stride, t.rows);
    if (t.pieces > 1)
      fine(t.piece_stride, t.pieces);
    for (auto [axis, stride] : t.batch)
      fine(stride, *d_.axes[axis].extent.constant());
    good = good && t.offset >= 0 && t.offset % kEight == 0 && t.offset <= kMostStride && 2 + (t.pieces > 1 ? 1 : 0) + t.batch.size() <= kernel::TensorMap::kMaxRank;
    return good ? std::optional(t) : std::nullopt;
  }

  // The slices of a side are fed: `permuted` of B, whose lines are then in the order of column_of_line.
  void feed(const Side &s, bool permuted) {
    const Side::Tensor &t = *s.tensor;
    kernel::TensorMap map;
    map.memory = d_.values[s.load].operand;
    map.offset = t.offset;
    Values at;
    std::vector<int64_t> steps;
    auto dimension = [&](int64_t size, int64_t stride, int64_t box, ValueId first, int64_t step) {
      map.sizes.push_back(size), map.strides.push_back(stride), map.box.push_back(box);
      at.push_back(first), steps.push_back(step);
    };
    const int64_t line = kernel::kWarpgroupLine, run = shape_.run, all = 8 * int64_t{beside_}, tile = s.extent;
    dimension(t.k, 1, line, b_.index(0), t.pieces > 1 ? 0 : slice_);
    if (t.pieces > 1)
      dimension(t.pieces, t.piece_stride, 1, b_.index(0), t_.deep);
    if (permuted && beside_ > 1) {
      dimension(run, t.row_stride, run, b_.index(0), 0);
      dimension(8 / run, run * beside_ * t.row_stride, 8 / run, b_.index(0), 0);
      dimension(beside_, run * t.row_stride, beside_, b_.index(0), 0);
      dimension(t.rows / all, all * t.row_stride, tile / all, b_.div(s.origin, b_.index(all)), 0);
    } else {
      dimension(t.rows, t.row_stride, tile, s.origin, 0);
    }
    for (auto [axis, stride] : t.batch)
      dimension(*d_.axes[axis].extent.constant(), stride, 1, l_.expr(d_.axes[axis].symbol), 0);
    const uint32_t number = b_.add_tensor_map(std::move(map));
    for (uint32_t part = 0; part < t_.deep; ++part) {
      Values first = at;
      first[t.pieces > 1 ? 1 : 0] = b_.index(t.pieces > 1 ? part : part * line);
      b_.feed(s.array, int64_t{part} * tile * line, number, first, steps);
    }
  }
  // Dimensions of a map of B where its lines are permuted, beside those of k, pieces and batch.
  bool permutes(int64_t beside) const {
    const Side::Tensor &t = *bs_.tensor;
    return t.rows % (8 * beside) == 0 && 5 + (t.pieces > 1 ? 1 : 0) + t.batch.size() <= kernel::TensorMap::kMaxRank;
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
    const uint32_t step = s.vectors ? vector_ : 1;
    const bool along_k = s.vectors ? s.lines_along_k : s.reads_along_k;
    const uint32_t fast = (along_k ? slice_ : s.extent) / step;
    out.total = s.extent * slice_ / step;
    out.count = (out.total + t_.threads() - 1) / t_.threads();
    for (uint32_t i = 0; i < out.count; ++i) {
      ValueId item = b_.add(b_.local_id(0), b_.index(int64_t{i} * t_.threads()));
      ValueId minor = b_.mul(b_.rem(item, b_.index(fast)), b_.index(step)), major = b_.div(item, b_.index(fast));
      out.own.push_back(along_k ? major : minor);
      out.k.push_back(along_k ? minor : major);
      ValueId at = b_.add(s.origin, &s == &bs_ ? column_of_line(out.own.back()) : out.own.back());
      out.inside.push_back(within(s, at));
      out.places.push_back(unflatten(l_, s.axes, at));
    }
    return out;
  }
  // Lines of B in workgroup memory are columns of fragments; which of the tile's they are is free. Of each `beside_` fragments a thread
  // has a run of r columns each, and these are to be one piece of memory: columns r q and on of fragment j are the tile's
  // r q beside_ + r j and on.
  ValueId column_of_line(ValueId line) {
    if (beside_ == 1)
      return line;
    const int64_t all = 8 * int64_t{beside_}, run = shape_.run;
    ValueId in = b_.rem(line, b_.index(all)), column = b_.rem(in, b_.index(8));
    ValueId first = b_.mul(b_.div(column, b_.index(run)), b_.index(run * beside_)), fragment = b_.mul(b_.div(in, b_.index(8)), b_.index(run));
    return b_.add(b_.sub(line, in), b_.add(first, b_.add(fragment, b_.rem(column, b_.index(run)))));
  }
  // How many fragments give a thread columns that are one piece of memory wherever the epilogue stores; 0: not even one does.
  uint32_t fragments_beside() const {
    const dispatch::Axis &last = d_.axes[bs_.axes.back()];
    auto extent = last.extent.constant();
    if (!extent || *extent % shape_.run != 0)
      return 0;
    for (const dispatch::Store &s : d_.stores) {
      auto linear = s.offset.linear_in(last.symbol);
      if (!linear || linear->coefficient.constant() != 1)
        return 0;
    }
    const uint32_t own = t_.n / t_.across / 8;
    for (uint32_t beside = kMostLanes / shape_.run; beside > 1; beside /= 2)
      if (bs_.lines_along_k && own % beside == 0 && *extent % (shape_.run * beside) == 0 && (!feeds() || permutes(beside)))
        return beside;
    return 1;
  }

  // kNoValue: for certain.
  ValueId within(const Side &s, ValueId at) { return s.whole ? kNoValue : b_.lt(at, s.limit); }
  ValueId both(ValueId x, ValueId y) { return x == kNoValue ? y : y == kNoValue ? x : b_.logical_and(x, y); }
  bool surplus(const Share &share, uint32_t i) const { return (i + 1) * t_.threads() > share.total; }
  // Where item i lies in stage `stage`.
  ValueId slot(const Side &s, const Share &share, uint32_t i, ValueId stage) {
    if (t_.warpgroups) { // the slice's lines of all that is beside each other, then the next ones; see kWarpgroupMma
      ValueId line = b_.div(share.k[i], b_.index(kernel::kWarpgroupLine)), at = b_.rem(share.k[i], b_.index(kernel::kWarpgroupLine));
      ValueId eight = b_.binary(Opcode::kXor, b_.div(at, b_.index(8)), b_.rem(share.own[i], b_.index(8)));
      ValueId in_stage = b_.add(b_.mul(line, b_.index(s.extent * kernel::kWarpgroupLine)), b_.mul(share.own[i], b_.index(kernel::kWarpgroupLine)));
      return b_.add(b_.mul(stage, b_.index(s.elements())), b_.add(in_stage, b_.mul(eight, b_.index(8)))); // copies are of whole eights
    }
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
      good = within_guards(l_, load, good);
      auto copy = [&] { b_.copy_async(s.array, slot(s, share, i, stage), load.operand, l_.expr(load.expr), good, vector_); };
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
      if (s.vectors) {
        if (surplus(share, i))
          good = b_.logical_and(good, b_.lt(b_.add(b_.local_id(0), b_.index(int64_t{i} * t_.threads())), b_.index(share.total)));
        const Value &load = d_.values[s.load];
        out.push_back(b_.load_if(load.operand, within_guards(l_, load, good), l_.expr(load.expr), b_.zero(Type(scalar_, vector_)), vector_));
        continue;
      }
      out.push_back(b_.if_else(
          good,
          [&] {
            Lowering::Scope inner(l_);
            return Values{l_.eval(s.load)};
          },
          [&] { return Values{b_.zero(scalar_)}; })[0]);
    }
    return out;
  }
  void put(const Side &s, const Share &share, const Values &elements, ValueId stage) {
    for (uint32_t i = 0; i < share.count; ++i) {
      ValueId at = slot(s, share, i, stage);
      if (surplus(share, i))
        b_.store_if(s.array, b_.lt(b_.add(b_.local_id(0), b_.index(int64_t{i} * t_.threads())), b_.index(share.total)), at, elements[i], s.vectors ? vector_ : 1);
      else
        b_.store(s.array, at, elements[i], s.vectors ? vector_ : 1);
    }
  }

  bool is_constant(const Side &s) const { return s.copied && d_.operands[d_.values[s.load].operand].constant; }

  void tile() {
    const uint32_t beside = fragments_beside();
    beside_ = std::max(1u, beside);
    ValueId unit = b_.div(b_.local_id(0), b_.index(t_.unit()));
    if (t_.deep > 1) {
      depth_part_ = b_.div(unit, b_.index(t_.parts()));
      unit = b_.rem(unit, b_.index(t_.parts()));
    }
    const uint32_t own_m = t_.m / t_.down, own_n = t_.n / t_.across, apart = t_.warpgroups ? kWarpgroupRows : kRows, rows = own_m / apart, pairs = own_n / kColumns;
    ValueId row0 = b_.mul(b_.div(unit, b_.index(t_.across)), b_.index(own_m));
    ValueId column0 = b_.mul(b_.rem(unit, b_.index(t_.across)), b_.index(own_n));
    const uint32_t lanes = beside == 0 ? 1 : shape_.run * beside_; // that are stored at once
    begin_ = [&] { columns(column0, pairs, lanes); };
    Values sums = feeds() ? multiply_fed(row0, column0, rows, pairs) : multiply_brought(row0, column0, rows, pairs);
    if (right_.empty())
      columns(column0, pairs, lanes);
    if (t_.deep > 1)
      share_sums(sums, unit);
    if (t_.warpgroups) // of 64 rows, a subgroup has 16
      row0 = b_.add(row0, b_.mul(b_.rem(b_.div(b_.local_id(0), b_.index(kernel::kSubgroup)), b_.index(4)), b_.index(kRows)));
    epilogue(sums, row0, rows, apart, pairs, lanes);
  }

  // Sums of all slices, which are fed.
  Values multiply_fed(ValueId row0, ValueId column0, uint32_t rows, uint32_t pairs) {
    feed(a_, false);
    feed(bs_, true);
    const int64_t slices = fixed_slices();
    b_.feed_start(signals_, stages_, b_.index(slices));
    begin_();
    const Values init(size_t{rows} * pairs * 2, b_.zero(Type(Scalar::kF32, shape_.sums())));
    const Values sums = b_.for_loop(b_.index(0), b_.index(slices), b_.index(1), init, [&](ValueId slice, const Values &carried) {
      b_.feed_wait(slice);
      const Values begun = begin_multiply(carried, b_.rem(slice, b_.index(stages_)), row0, column0, rows);
      const Values next = b_.warpgroup_wait(begun, rows); // the product before has ended
      if (slices > stages_)
        b_.if_then(b_.lt(b_.index(0), slice), [&] { b_.feed_free(b_.sub(slice, b_.index(1))); });
      return next;
    });
    return b_.warpgroup_wait(sums);
  }

  // Sums of all slices, which the threads bring themselves.
  Values multiply_brought(ValueId row0, ValueId column0, uint32_t rows, uint32_t pairs) {
    const Share a = share(a_), bs = share(bs_);
    // Slices before the first one that the loop brings, which is the one whose place is free then: all, or all but the one at work,
    // or but that one and the one that matrix units may still be at.
    const bool whole = slices_at_most(stages_);
    const bool overlap = t_.warpgroups && (whole || stages_ >= kOverlapStages); // a product begins while the one before is under way
    const uint32_t lead = whole ? fixed_slices() : stages_ - (overlap ? 2 : 1);
    // A constant comes first: it need not wait for the kernels ahead.
    const bool constant_a = is_constant(a_), constant_b = is_constant(bs_);
    for (uint32_t s = 0; s < lead; ++s) {
      if (constant_a)
        copy_slice(a_, a, b_.index(s * slice_), b_.index(s));
      if (constant_b)
        copy_slice(bs_, bs, b_.index(s * slice_), b_.index(s));
    }
    for (uint32_t s = 0; s < lead; ++s) {
      for (auto [side, share] : {std::pair(&a_, &a), std::pair(&bs_, &bs)}) {
        if (side == &a_ ? constant_a : constant_b)
          continue;
        if (side->copied)
          copy_slice(*side, *share, b_.index(s * slice_), b_.index(s));
        else
          put(*side, *share, elements(*side, *share, b_.index(s * slice_)), b_.index(s));
      }
      if (a_.copied || bs_.copied)
        b_.copy_commit();
    }
    if (t_.warpgroups)
      begin_();
    Values init(size_t{rows} * pairs * 2, b_.zero(Type(sum_, shape_.sums())));
    ValueId slices = b_.div(b_.add(k_, b_.index(slice_ - 1)), b_.index(slice_));
    Values sums = b_.for_loop(b_.index(0), slices, b_.index(1), init, [&](ValueId slice, const Values &carried) {
      if (a_.copied || bs_.copied)
        b_.copy_wait(lead - 1);
      b_.barrier();
      ValueId ahead = b_.add(slice, b_.index(lead)), k0 = b_.mul(ahead, b_.index(slice_));
      ValueId stage = b_.rem(ahead, b_.index(stages_)), now = b_.rem(slice, b_.index(stages_));
      const Values begun = t_.warpgroups ? begin_multiply(carried, now, row0, column0, rows) : Values();
      Values from_a, from_b;
      if (!whole)
        b_.if_then(b_.lt(ahead, slices), [&] { // nobody reads what would come after the last
          if (a_.copied)
            copy_slice(a_, a, k0, stage);
          if (bs_.copied)
            copy_slice(bs_, bs, k0, stage);
        });
      if (!a_.copied)
        from_a = elements(a_, a, k0);
      if (!bs_.copied)
        from_b = elements(bs_, bs, k0);
      if (a_.copied || bs_.copied)
        b_.copy_commit();
      Values next = t_.warpgroups ? Values() : multiply(carried, now, row0, column0, rows, pairs);
      if (!a_.copied)
        put(a_, a, from_a, stage);
      if (!bs_.copied)
        put(bs_, bs, from_b, stage);
      return t_.warpgroups ? b_.warpgroup_wait(begun, overlap ? rows : 0) : next;
    });
    return overlap ? b_.warpgroup_wait(sums) : sums;
  }

  // Subgroups that share a part of the tile put their sums where each will find its share of them.
  void share_sums(const Values &sums, ValueId part) {
    thread_ = b_.add(b_.mul(part, b_.index(t_.unit())), b_.rem(b_.local_id(0), b_.index(t_.unit())));
    for (size_t f = 0; f < sums.size(); ++f)
      b_.store(partial_, shared_sum(depth_part_, sums.size(), f), sums[f], shape_.sums());
    b_.barrier();
  }
  // Where a thread's sums of fragment `f` of `count` lie that the subgroup number `deep` has put there.
  ValueId shared_sum(ValueId deep, size_t count, size_t f) {
    ValueId line = b_.add(b_.mul(deep, b_.index(static_cast<int64_t>(count))), b_.index(static_cast<int64_t>(f)));
    return b_.mul(b_.add(b_.mul(line, b_.index(int64_t{t_.parts()} * t_.unit())), thread_), b_.index(shape_.sums()));
  }
  // Of fragment `f`, the sums of this thread's row number `row` there.
  ValueId sums_of_row(const Values &sums, uint32_t f, uint32_t row) {
    const int64_t first = int64_t{row} * shape_.run;
    if (t_.deep == 1 && shape_.rows() == 1)
      return sums[f];
    if (t_.deep == 1)
      return b_.shuffle(sums[f], sums[f], {first, first + 1});
    ValueId sum = kNoValue;
    for (uint32_t p = 0; p < t_.deep; ++p) {
      ValueId own = b_.load(partial_, b_.add(shared_sum(b_.index(p), sums.size(), f), b_.index(first)), shape_.run, shape_.run);
      sum = p == 0 ? own : b_.add(sum, own);
    }
    return sum;
  }
  ValueId joined(const Values &vectors) { // of one length, one behind the other
    if (vectors.size() == 1)
      return vectors[0];
    const size_t half = vectors.size() / 2;
    ValueId left = joined(Values(vectors.begin(), vectors.begin() + static_cast<std::ptrdiff_t>(half))), right = joined(Values(vectors.begin() + static_cast<std::ptrdiff_t>(half), vectors.end()));
    std::vector<int64_t> all(2 * size_t{b_.type_of(left).lanes});
    std::iota(all.begin(), all.end(), 0);
    return b_.shuffle(left, right, all);
  }

  // Of factors of tf32: what they leave out of each element, and they themselves; zeros for infinities and NaNs, which the
  // product of the high parts alone decides about.
  struct Parts {
    Values low, finite;
  };
  Parts parts(const Values &factors) {
    Parts out;
    const Type words(Scalar::kI32, 4), floats(Scalar::kF32, 4);
    for (ValueId f : factors) {
      ValueId high = b_.bitcast(floats, b_.binary(Opcode::kAnd, f, b_.constant(words, ~int64_t{0x1fff}))), zeros = b_.zero(floats);
      ValueId finite = b_.compare(Opcode::kEq, b_.sub(high, high), zeros);
      out.low.push_back(b_.bitcast(words, b_.select(finite, b_.sub(b_.bitcast(floats, f), high), zeros)));
      out.finite.push_back(b_.bitcast(words, b_.select(finite, high, zeros)));
    }
    return out;
  }

  Values multiply(const Values &carried, ValueId stage, ValueId row0, ValueId column0, uint32_t rows, uint32_t pairs) {
    Values sums = carried;
    ValueId a0 = b_.add(b_.mul(stage, b_.index(a_.elements())), b_.mul(row0, b_.index(a_.pitch())));
    ValueId b0 = b_.add(b_.mul(stage, b_.index(bs_.elements())), bs_.lines_along_k ? b_.mul(column0, b_.index(bs_.pitch())) : column0);
    const FragmentRole role = bs_.lines_along_k ? FragmentRole::kB : FragmentRole::kBRows;
    if (t_.deep > 1) {
      ValueId k0 = b_.mul(depth_part_, b_.index(slice_ / t_.deep));
      a0 = b_.add(a0, k0);
      b0 = b_.add(b0, bs_.lines_along_k ? k0 : b_.mul(k0, b_.index(bs_.pitch())));
    }
    for (uint32_t k = 0; k < slice_ / t_.deep; k += step_) {
      Values left, right;
      for (uint32_t i = 0; i < rows; ++i)
        left.push_back(b_.fragment_load(a_.array, b_.add(a0, b_.index(int64_t{i} * kRows * a_.pitch() + k)), b_.index(a_.pitch()), FragmentRole::kA));
      for (uint32_t j = 0; j < pairs; ++j) {
        const int64_t at = bs_.lines_along_k ? int64_t{j} * kColumns * bs_.pitch() + k : int64_t{k} * bs_.pitch() + j * kColumns;
        right.push_back(b_.fragment_load(bs_.array, b_.add(b0, b_.index(at)), b_.index(bs_.pitch()), role));
      }
      Parts l, r;
      if (scalar_ == Scalar::kF32) {
        l = parts(left);
        r = parts(right);
      }
      for (uint32_t i = 0; i < rows; ++i)
        for (uint32_t j = 0; j < 2 * pairs; ++j) {
          ValueId &sum = sums[size_t{i} * 2 * pairs + j];
          auto add = [&](const Values &x, const Values &y, ValueId to) {
            return b_.fragment_mma(scalar_, x[i], y[j / 2], static_cast<int>(j % 2 | signs_), to);
          };
          if (scalar_ != Scalar::kF32)
            sum = add(left, right, sum);
          else // the small parts first; matrix units may cut off what does not fit a sum, so what they add up is short
            sum = b_.add(sum, add(left, right, add(l.finite, r.low, add(l.low, r.finite, b_.zero(Type(Scalar::kF32, 4))))));
        }
    }
    return sums;
  }

  // By warpgroups: begun, and to be waited for.
  Values begin_multiply(const Values &sums, ValueId stage, ValueId row0, ValueId column0, uint32_t rows) {
    constexpr uint32_t kLine = kernel::kWarpgroupLine;
    auto place = [&](const Side &s, ValueId own) {
      ValueId at = b_.add(b_.mul(stage, b_.index(s.elements())), b_.mul(own, b_.index(kLine)));
      return t_.deep > 1 ? b_.add(at, b_.mul(depth_part_, b_.index(s.extent * kLine))) : at;
    };
    const size_t across = sums.size() / rows;
    Values out;
    for (uint32_t i = 0; i < rows; ++i) {
      const Values own(sums.begin() + static_cast<std::ptrdiff_t>(i * across), sums.begin() + static_cast<std::ptrdiff_t>((i + 1) * across));
      const Values next = b_.warpgroup_mma(a_.array, b_.add(place(a_, row0), b_.index(i * kWarpgroupRows * kLine)), bs_.array, place(bs_, column0), b_.index(0),
                                           kLine / 16, own);
      out.insert(out.end(), next.begin(), next.end());
    }
    return out;
  }

  // A thread's row or column of the result.
  struct Place {
    ValueId inside;
    Values axes;
    std::vector<std::pair<dispatch::ValueId, ValueId>> loaded; // before the sums are there: constants that only the column decides about
  };
  Place place(const Side &s, ValueId at) { return Place{within(s, at), unflatten(l_, s.axes, at), {}}; }
  void bind_columns(const Place &column, uint32_t lanes) {
    for (size_t x = 0; x < bs_.axes.size(); ++x)
      if (lanes > 1 && x + 1 == bs_.axes.size())
        l_.bind_lanes(bs_.axes[x], column.axes[x], lanes, kNoValue, lanes);
      else
        l_.bind(bs_.axes[x], column.axes[x]);
  }
  // What follows the sums and can be loaded before them.
  std::vector<dispatch::ValueId> early_loads() const {
    std::vector<dispatch::ValueId> out;
    uint64_t bound = l_.bound();
    for (uint32_t axis : bs_.axes)
      bound |= axis_bit(axis);
    for (dispatch::ValueId v = 0; v < d_.values.size(); ++v) {
      const Value &load = d_.values[v];
      if (load.kind == ValueKind::kLoad && v != a_.load && v != bs_.load && load.guards.empty() && d_.operands[load.operand].constant && (l_.axes_of(v) & ~bound) == 0)
        out.push_back(v);
    }
    return out;
  }
  // A thread's columns: of each group of fragments beside each other the first, or each of a run.
  void columns(ValueId column0, uint32_t pairs, uint32_t lanes) {
    ValueId column_in = b_.fragment_column();
    const uint32_t groups = 2 * pairs / beside_, each = lanes == 1 ? shape_.run : 1;
    std::vector<dispatch::ValueId> early = early_loads();
    if (!t_.warpgroups || !bs_.whole || groups * each * lanes * early.size() > kMostEarly)
      early.clear();
    for (uint32_t g = 0; g < groups; ++g)
      for (uint32_t e = 0; e < each; ++e) {
        right_.push_back(place(bs_, b_.add(b_.add(bs_.origin, column0), b_.add(b_.mul(b_.extract(column_in, e), b_.index(beside_)), b_.index(int64_t{g} * 8 * beside_)))));
        Lowering::Scope scope(l_);
        bind_columns(right_.back(), lanes);
        for (dispatch::ValueId v : early)
          right_.back().loaded.emplace_back(v, l_.eval(v));
      }
  }

  // `apart`: from a fragment's rows to those of the one below; `lanes`: columns that are computed and stored at once.
  void epilogue(const Values &sums, ValueId row0, uint32_t rows, uint32_t apart, uint32_t pairs, uint32_t lanes) {
    ValueId row_in = b_.fragment_row();
    const uint32_t across = 2 * pairs, groups = across / beside_;
    std::vector<Place> down; // a thread's rows, shared by fragments beside each other
    const uint32_t own_rows = shape_.rows(), each = lanes == 1 ? shape_.run : 1;
    for (uint32_t i = 0; i < rows; ++i)
      for (uint32_t own = 0; own < own_rows; ++own)
        down.push_back(place(a_, b_.add(b_.add(a_.origin, row0), b_.add(b_.extract(row_in, shape_.run * own), b_.index(int64_t{i} * apart)))));
    uint32_t turn = 0;
    for (uint32_t i = 0; i < rows; ++i)
      for (uint32_t g = 0; g < groups; ++g)
        for (uint32_t own = 0; own < own_rows; ++own) {
          auto piece = [&] {
            Values parts;
            for (uint32_t j = 0; j < beside_; ++j)
              parts.push_back(sums_of_row(sums, i * across + g * beside_ + j, own));
            const ValueId all = joined(parts);
            const Place &row = down[own_rows * i + own];
            for (uint32_t e = 0; e < each; ++e) {
              const Place &column = right_[each * g + e];
              auto store = [&] {
                Lowering::Scope scope(l_);
                bind_axes(l_, a_.axes, row.axes);
                bind_columns(column, lanes);
                for (auto [load, value] : column.loaded)
                  l_.set(load, value);
                l_.set(f_.reduce, lanes == 1 ? b_.extract(all, e) : all);
                for (const dispatch::Store &s : d_.stores)
                  l_.store(s);
              };
              if (ValueId inside = both(row.inside, column.inside); inside == kNoValue)
                store();
              else
                b_.if_then(inside, store);
            }
          };
          if (t_.deep > 1) // each subgroup that shares the part does its share
            b_.if_then(b_.compare(Opcode::kEq, depth_part_, b_.index(turn++ % t_.deep)), piece);
          else
            piece();
        }
  }

  const Contraction &f_;
  const Dispatch &d_;
  const TargetRecord &record_;
  Scheduled out_;
  kernel::Builder b_;
  Lowering l_;
  const kernel::FragmentShape shape_ = record_.fragment;
  Tile t_ = kTiles[0];
  Side a_, bs_; // left, right
  std::vector<uint32_t> batch_;
  Scalar scalar_ = Scalar::kF16, sum_ = Scalar::kF32; // of the factors, of the sums
  int64_t signs_ = 0;                             // of factors of 8 bits
  uint32_t vector_ = 0, step_ = 0;                // elements: of a copy, of a fragment along k
  uint32_t stages_ = 0, slice_ = 0;
  uint32_t partial_ = 0, signals_ = 0;
  bool fed_ = false; // both sides could be
  std::vector<Place> right_;
  std::function<void()> begin_; // what threads do before they wait for slices
  uint32_t beside_ = 1; // fragments whose columns of a thread are one piece of memory
  ValueId k_ = kNoValue, depth_part_ = kNoValue, thread_ = kNoValue; // the last: among those of all parts
};

} // namespace

std::optional<dispatch::ValueId> half_load(const Dispatch &d, dispatch::ValueId side) {
  const Value &v = d.values[side];
  if (v.kind != ValueKind::kOp || v.code != Opcode::kConvert || v.type != ElementType::kF32)
    return std::nullopt;
  const Value &load = d.values[v.args[0]];
  return load.kind == ValueKind::kLoad && load.type == ElementType::kF16 ? std::optional(v.args[0]) : std::nullopt;
}

std::optional<dispatch::ValueId> byte_value(const Dispatch &d, dispatch::ValueId side) {
  const Value &v = d.values[side];
  if (v.kind != ValueKind::kOp || v.type != ElementType::kI32 || (v.code != Opcode::kConvert && v.code != Opcode::kConvertU))
    return std::nullopt;
  const ElementType from = d.values[v.args[0]].type;
  return from == (v.code == Opcode::kConvert ? ElementType::kI8 : ElementType::kU8) ? std::optional(v.args[0]) : std::nullopt;
}

std::optional<Scheduled> schedule_simt_fragments(const Dispatch &d, const TargetRecord &record, int tile) {
  if ((!record.fragment_f16 && !record.fragment_i8) || record.subgroup_size != record.fragment.threads)
    return std::nullopt;
  std::optional<Contraction> form = match_contraction(split_axes(d));
  if (!form)
    return std::nullopt;
  return SimtFragments(*form, record, d).build(tile);
}

std::optional<Scheduled> schedule_simt_fragments(const Dispatch &d, const TargetRecord &record) {
  return schedule_simt_fragments(d, record, -1);
}

} // namespace ingot::aotc::schedule
