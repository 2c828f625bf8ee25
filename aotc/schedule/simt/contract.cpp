// Sums of products on threads: matrix products, and convolutions as implicit ones.
//
//   a workgroup a tile of m x n outputs:
//     for each slice of k: the threads evaluate tile_a[k][m] and tile_b[k][n] into registers (elements outside are zeros;
//       whatever the operands' expressions are, padding, gathers, dequantisation, happens here), one slice ahead, and put
//       them into workgroup memory; then each thread multiplies its rm x rn outputs from registers
//     epilogue and stores of the thread's outputs
//
// m runs over the flattened axes that only the left operand has, n over those that only the right one has, k over the
// reduced ones; all other stored axes are a batch of products.
#include <algorithm>

#include "aotc/schedule/contraction.h"
#include "aotc/schedule/internal.h"
#include "aotc/schedule/simt/threads.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::Value;
using kernel::kNoValue;
using kernel::Opcode;
using kernel::ValueId;
using kernel::Values;

namespace {

// All powers of two; threads = m / rm * (n / rn).
struct Tile {
  uint32_t m, n, k, rm, rn;
  uint32_t threads() const { return m / rm * (n / rn); }
  uint64_t bytes(uint32_t element) const { return uint64_t{element} * k * (m + kPad + n + kPad); }
  std::string print() const {
    return "{m=" + std::to_string(m) + ",n=" + std::to_string(n) + ",k=" + std::to_string(k) + ",rm=" + std::to_string(rm) +
           ",rn=" + std::to_string(rn) + "}";
  }
  static constexpr uint32_t kPad = 4; // rows start in different banks
};

// From the most work a thread to the least.
constexpr Tile kTiles[] = {{128, 64, 16, 8, 8}, {64, 64, 16, 8, 4}, {64, 64, 16, 4, 4}, {32, 64, 16, 4, 2}, {64, 32, 16, 2, 4}, {32, 32, 16, 2, 2},
                           {16, 64, 16, 2, 2}, {64, 16, 16, 2, 2}, {16, 32, 16, 2, 1}, {16, 16, 16, 1, 1}, {8, 32, 16, 1, 1}};
constexpr int64_t kEnoughGroups = 128; // about one a processor of a large device
constexpr uint32_t kFewOutputs = 16;   // a thread with more leaves few threads: for problems with many groups

class SimtContract {
 public:
  SimtContract(const Contraction &form, const TargetRecord &record, const Dispatch &original)
      : f_(form), d_(form.d), record_(record), b_(out_.kernel), l_(b_, d_, original.free_symbols()) {
    out_.kernel.name = d_.name;
    out_.kernel.kind = record.kernel_class;
    type_ = to_scalar(d_.values[f_.reduce].type);
  }

  std::optional<Scheduled> build() {
    ProductAxes axes = product_axes(f_);
    m_axes_ = std::move(axes.left), n_axes_ = std::move(axes.right), batch_ = std::move(axes.others);
    if (to_scalar(d_.values[f_.left].type) != type_ || to_scalar(d_.values[f_.right].type) != type_ || !choose_tile())
      return std::nullopt;
    uint32_t element = byte_size(type_);
    out_.kernel.local_size = {t_.threads(), 1, 1};
    uint32_t align = 4 * element;
    tile_a_ = b_.add_array("tile_a", kernel::Space::kWorkgroup, type_, t_.k * (t_.m + Tile::kPad), align);
    tile_b_ = b_.add_array("tile_b", kernel::Space::kWorkgroup, type_, t_.k * (t_.n + Tile::kPad), align);
    Expr m = extent_product(d_, m_axes_), n = extent_product(d_, n_axes_), k = extent_product(d_, f_.k);
    Expr tiles_m = ceildiv(m, int64_t{t_.m}), tiles_n = ceildiv(n, int64_t{t_.n});
    Expr groups = extent_product(d_, batch_) * tiles_m * tiles_n;
    out_.grid = folded_grid(groups);
    out_.description = "simt_contract" + t_.print();
    ValueId group = group_number(b_);
    b_.if_then(b_.lt(group, l_.expr(groups)), [&] {
      Lowering::Scope scope(l_);
      ValueId across = l_.expr(tiles_n), down = l_.expr(tiles_m);
      column0_ = b_.mul(b_.rem(group, across), b_.index(t_.n));
      ValueId rest = b_.div(group, across);
      row0_ = b_.mul(b_.rem(rest, down), b_.index(t_.m));
      if (!batch_.empty())
        bind_flat(l_, batch_, b_.div(rest, down));
      m_ = l_.expr(m), n_ = l_.expr(n), k_ = l_.expr(k);
      tile();
    });
    return std::move(out_);
  }

 private:
  // The largest tile that is not mostly empty and leaves enough workgroups.
  bool choose_tile() {
    int64_t m = typical_points(d_, m_axes_), n = typical_points(d_, n_axes_), k = typical_points(d_, f_.k), batch = typical_points(d_, batch_);
    if (m < 4 || n < 4 || k < 8)
      return false; // one thread an output does as well
    const Tile *best = nullptr;
    for (const Tile &t : kTiles) {
      if (t.threads() > record_.max_workgroup_invocations || t.bytes(byte_size(type_)) > record_.workgroup_memory_bytes)
        continue;
      auto padded = [](int64_t extent, uint32_t by) { return (extent + by - 1) / by * by; };
      double full = static_cast<double>(m * n) / static_cast<double>(padded(m, t.m) * padded(n, t.n));
      int64_t groups = batch * ((m + t.m - 1) / t.m) * ((n + t.n - 1) / t.n);
      if (t.rm * t.rn > kFewOutputs && groups < 4 * kEnoughGroups)
        continue;
      if (!best || (full > 1.25 * fullness_) || (groups_ < kEnoughGroups && groups > groups_ && full >= 0.8 * fullness_)) {
        best = &t;
        fullness_ = full;
        groups_ = groups;
      }
    }
    if (!best)
      return false;
    t_ = *best;
    return true;
  }

  // One operand's share of the copying: which elements of a slice this thread brings.
  struct Side {
    const std::vector<uint32_t> *axes;
    dispatch::ValueId value;
    uint32_t extent, array;      // of the tile along m or n
    bool along_k = false;        // neighbouring threads take neighbouring k, else neighbouring m or n
    ValueId origin, limit;
    std::vector<Values> places;  // axis values of each element, where they do not change with k
    std::vector<ValueId> inside; // whether it is one
    ValueId minor;               // the thread's number along the fast dimension
    ValueId major;               // and along the other, of the first element
    uint32_t count, step;        // elements, and how far apart along `major`
  };

  // Elements whose neighbours along k lie side by side are read along k.
  bool prefers_k(dispatch::ValueId root, const std::vector<uint32_t> &axes) {
    std::vector<bool> under(d_.values.size(), false);
    under[root] = true;
    int score = 0;
    for (size_t i = root + 1; i-- > 0;) {
      const Value &v = d_.values[i];
      if (!under[i])
        continue;
      for (dispatch::ValueId a : v.args)
        under[a] = true;
      if (v.kind != dispatch::ValueKind::kLoad)
        continue;
      auto unit = [&](const std::vector<uint32_t> &list) {
        if (list.empty())
          return false;
        auto linear = v.expr.linear_in(d_.axes[list.back()].symbol);
        return linear && linear->coefficient.constant() == 1;
      };
      score += (unit(f_.k) ? 1 : 0) - (unit(axes) ? 1 : 0);
    }
    return score > 0;
  }

  Side side(const std::vector<uint32_t> &axes, dispatch::ValueId value, uint32_t extent, uint32_t array, ValueId origin,
            ValueId limit) {
    Side s;
    s.axes = &axes;
    s.value = value;
    s.extent = extent;
    s.array = array;
    s.origin = origin;
    s.limit = limit;
    uint32_t threads = t_.threads();
    s.along_k = prefers_k(value, axes) && threads % t_.k == 0;
    uint32_t fast = s.along_k ? t_.k : std::min(extent, threads);
    ValueId thread = b_.local_id(0);
    s.minor = b_.rem(thread, b_.index(fast));
    s.major = b_.div(thread, b_.index(fast));
    s.step = threads / fast;
    uint32_t slow = s.along_k ? extent : t_.k;
    s.count = (slow + s.step - 1) / s.step;
    uint32_t different = s.along_k ? s.count : 1; // places along m or n
    for (uint32_t i = 0; i < different; ++i) {
      ValueId at = b_.add(origin, s.along_k ? b_.add(s.major, b_.index(int64_t{i} * s.step)) : s.minor);
      s.inside.push_back(b_.lt(at, limit));
      s.places.push_back(unflatten(l_, axes, at));
    }
    return s;
  }

  // The side's elements of the slice at k0 that this thread brings.
  Values elements(const Side &s, ValueId k0) {
    Values out;
    ValueId shared_k = s.along_k ? b_.add(k0, s.minor) : kNoValue;
    Values shared_places = s.along_k ? unflatten(l_, f_.k, shared_k) : Values{};
    for (uint32_t i = 0; i < s.count; ++i) {
      Lowering::Scope scope(l_);
      ValueId k = s.along_k ? shared_k : b_.add(k0, moved(s, i));
      bind_axes(l_, f_.k, s.along_k ? shared_places : unflatten(l_, f_.k, k));
      bind_axes(l_, *s.axes, s.places[s.along_k ? i : 0]);
      ValueId good = b_.logical_and(s.inside[s.along_k ? i : 0], b_.lt(k, k_));
      out.push_back(b_.if_else(
          good,
          [&] {
            Lowering::Scope inner(l_);
            return Values{l_.eval(s.value)};
          },
          [&] { return Values{b_.zero(type_)}; })[0]);
    }
    return out;
  }
  ValueId moved(const Side &s, uint32_t i) { return b_.add(s.major, b_.index(int64_t{i} * s.step)); }

  void put(const Side &s, const Values &elements) {
    const uint32_t slow = s.along_k ? s.extent : t_.k, pitch = s.extent + Tile::kPad;
    for (uint32_t i = 0; i < s.count; ++i) {
      ValueId at = moved(s, i);
      ValueId slot = s.along_k ? b_.add(b_.mul(s.minor, b_.index(pitch)), at) : b_.add(b_.mul(at, b_.index(pitch)), s.minor);
      if (slow % s.step == 0)
        b_.store(s.array, slot, elements[i]);
      else
        b_.store_if(s.array, b_.lt(at, b_.index(slow)), slot, elements[i]);
    }
  }

  void tile() {
    Side a = side(m_axes_, f_.left, t_.m, tile_a_, row0_, m_), b = side(n_axes_, f_.right, t_.n, tile_b_, column0_, n_);
    ValueId thread = b_.local_id(0), across = b_.index(t_.n / t_.rn);
    // A thread's columns are apart by the number of threads across, so that neighbours store side by side.
    ValueId own_row = b_.mul(b_.div(thread, across), b_.index(t_.rm)), own_column = b_.rem(thread, across);
    uint32_t spread = t_.n / t_.rn;
    const size_t outputs = size_t{t_.rm} * t_.rn;
    Values init(outputs, b_.zero(type_));
    for (const Side *s : {&a, &b})
      for (ValueId element : elements(*s, b_.index(0)))
        init.push_back(element);
    Values sums = b_.for_loop(b_.index(0), k_, b_.index(t_.k), init, [&](ValueId k0, const Values &carried) {
      const auto from = carried.begin() + static_cast<std::ptrdiff_t>(outputs);
      put(a, Values(from, from + a.count));
      put(b, Values(from + a.count, carried.end()));
      b_.barrier();
      Values ahead;
      for (const Side *s : {&a, &b})
        for (ValueId element : elements(*s, b_.add(k0, b_.index(t_.k))))
          ahead.push_back(element);
      Values next = b_.for_loop(
          b_.index(0), b_.index(t_.k), b_.index(1), Values(carried.begin(), from),
          [&](ValueId kk, const Values &old) {
            ValueId a_at = b_.add(b_.mul(kk, b_.index(t_.m + Tile::kPad)), own_row);
            ValueId b_at = b_.add(b_.mul(kk, b_.index(t_.n + Tile::kPad)), own_column);
            Values left, right, now;
            for (uint32_t i = 0; i < t_.rm; ++i)
              left.push_back(b_.load(tile_a_, b_.add(a_at, b_.index(i))));
            for (uint32_t j = 0; j < t_.rn; ++j)
              right.push_back(b_.load(tile_b_, b_.add(b_at, b_.index(int64_t{j} * spread))));
            for (uint32_t i = 0; i < t_.rm; ++i)
              for (uint32_t j = 0; j < t_.rn; ++j)
                now.push_back(b_.mad(left[i], right[j], old[i * t_.rn + j]));
            return now;
          },
          0);
      b_.barrier();
      next.insert(next.end(), ahead.begin(), ahead.end());
      return next;
    });
    for (uint32_t i = 0; i < t_.rm; ++i) {
      ValueId row = b_.add(row0_, b_.add(own_row, b_.index(i)));
      b_.if_then(b_.lt(row, m_), [&] {
        Lowering::Scope scope(l_);
        bind_axes(l_, m_axes_, unflatten(l_, m_axes_, row));
        for (uint32_t j = 0; j < t_.rn; ++j) {
          ValueId column = b_.add(column0_, b_.add(own_column, b_.index(int64_t{j} * spread)));
          b_.if_then(b_.lt(column, n_), [&] {
            Lowering::Scope inner(l_);
            bind_axes(l_, n_axes_, unflatten(l_, n_axes_, column));
            l_.set(f_.reduce, sums[i * t_.rn + j]);
            for (const dispatch::Store &s : d_.stores)
              l_.store(s);
          });
        }
      });
    }
  }

  const Contraction &f_;
  const Dispatch &d_;
  const TargetRecord &record_;
  Scheduled out_;
  kernel::Builder b_;
  Lowering l_;
  Tile t_ = kTiles[0];
  double fullness_ = 0;
  int64_t groups_ = 0;
  Scalar type_;
  std::vector<uint32_t> m_axes_, n_axes_, batch_;
  uint32_t tile_a_ = 0, tile_b_ = 0;
  ValueId row0_ = kNoValue, column0_ = kNoValue, m_ = kNoValue, n_ = kNoValue, k_ = kNoValue;
};

} // namespace

std::optional<Scheduled> schedule_simt_contract(const Dispatch &d, const TargetRecord &record) {
  std::optional<Contraction> form = match_contraction(d);
  if (!form)
    return std::nullopt;
  return SimtContract(*form, record, d).build();
}

} // namespace ingot::aotc::schedule
