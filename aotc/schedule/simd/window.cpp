// Convolutions in NCHW, depthwise ones included: vectors along an output row, read from a padded copy of the input.
//
//   a group computes a block of output rows and columns, for a chunk of the output channels
//     copy its part of the input to scratch [ic][row][phase][column], padding and the input's own prologue applied;
//       column s*q + p of the input goes to phase p, place q, so that a stride reads consecutive elements
//     for each tile of th output rows by tv vectors, for each mr output channels:
//       acc = sum over ic (a loop) and taps (unrolled) of splat(weight) * scratch row; epilogue; store
//
// For bytecode the sums over channels and taps are tile ops over vectors of a whole output row, as long as these go. Small
// planes of depthwise convolutions are one vector: scratch is [row phase][column phase][row][column] then, so that the outputs
// of one row follow those of the row before at the distance that their inputs have; lanes between rows compute what nobody reads.
//
// No im2col: a tap is an unaligned load. Depthwise convolutions are the case of one output channel and no ic.
#include <algorithm>
#include <bit>

#include "aotc/base/error.h"
#include "aotc/schedule/contraction.h"
#include "aotc/schedule/internal.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::Guard;
using dispatch::Value;
using dispatch::ValueKind;
using kernel::kNoValue;
using kernel::ValueId;
using kernel::Values;

namespace {

// One spatial dim: input position = stride * out + dilation * tap - pad, in [0, size).
struct Dim {
  int out = -1, tap = -1;        // axes; -1: none
  int64_t stride = 1, dilation = 1, pad = 0, taps = 1;
  Expr pitch = 1;                // of the input, in elements
  std::optional<Expr> size;      // with a guard
  Expr position;                 // as the guard has it
};

struct Window {
  Contraction f;
  dispatch::ValueId load = 0;    // of the input, in f.d
  Dim row, column;
  std::vector<uint32_t> inner;   // axes of k that are no taps
  std::vector<uint32_t> batch;   // without the row's
  Expr rest;                     // the load's offset less the spatial part
};

int64_t constant_or(const Expr &e, int64_t otherwise) { return e.constant().value_or(otherwise); }

bool contains(const std::vector<uint32_t> &axes, int a) {
  return a >= 0 && std::find(axes.begin(), axes.end(), static_cast<uint32_t>(a)) != axes.end();
}

// Every value that `root` depends on, itself included.
std::vector<bool> closure(const Dispatch &d, dispatch::ValueId root) {
  std::vector<bool> in(d.values.size(), false);
  in[root] = true;
  for (size_t i = root + 1; i-- > 0;)
    if (in[i])
      for (dispatch::ValueId a : d.values[i].args)
        in[a] = true;
  return in;
}

// Reads a dim off a guard: which out and tap axes, with which factors.
bool dim_from_guard(const Window &w, const Guard &g, Dim &dim) {
  const Dispatch &d = w.f.d;
  Expr left = g.value;
  dim.position = g.value;
  dim.size = g.extent;
  for (const Symbol &s : g.value.symbols()) {
    if (s.kind() != SymbolKind::kAxis)
      return false;
    int a = -1;
    for (uint32_t i = 0; i < d.axes.size(); ++i)
      if (d.axes[i].symbol == s)
        a = static_cast<int>(i);
    auto linear = left.linear_in(s);
    if (a < 0 || !linear)
      return false;
    int64_t c = constant_or(linear->coefficient, 0);
    left = linear->rest;
    if (c <= 0)
      return false;
    if (contains(w.f.k, a)) {
      if (dim.tap >= 0)
        return false;
      dim.tap = a;
      dim.dilation = c;
    } else {
      if (dim.out >= 0)
        return false;
      dim.out = a;
      dim.stride = c;
    }
  }
  if (!left.is_constant() || dim.out < 0)
    return false;
  dim.pad = -*left.constant();
  return dim.pad >= 0;
}

std::optional<Window> match_window(const Dispatch &original) {
  auto contraction = match_contraction(original);
  if (!contraction)
    return std::nullopt;
  Window w;
  w.f = *std::move(contraction);
  const Dispatch &d = w.f.d;
  std::vector<uint64_t> sets = d.axis_sets();
  std::vector<bool> right = closure(d, w.f.right);
  int load = -1;
  for (uint32_t i = 0; i < d.values.size(); ++i)
    if (right[i] && d.values[i].kind == ValueKind::kLoad && (sets[i] & axis_bit(w.f.n))) {
      if (load >= 0)
        return std::nullopt;
      load = static_cast<int>(i);
    }
  if (load < 0 || d.operands[d.values[static_cast<size_t>(load)].operand].packing)
    return std::nullopt;
  w.load = static_cast<dispatch::ValueId>(load);
  const Value &x = d.values[w.load];
  if (d.operands[x.operand].constant)
    return std::nullopt; // panels serve it better
  for (const Symbol &s : x.expr.symbols())
    if (s.kind() == SymbolKind::kValue)
      return std::nullopt;
  for (const Guard &g : x.guards) {
    Dim dim;
    if (!dim_from_guard(w, g, dim))
      return std::nullopt;
    bool is_column = dim.out == static_cast<int>(w.f.n);
    Dim &into = is_column ? w.column : w.row;
    if (into.out >= 0 || (!is_column && !contains(w.f.batch, dim.out)))
      return std::nullopt;
    into = dim;
  }
  auto coefficient = [&](int a) {
    auto linear = x.expr.linear_in(d.axes[static_cast<size_t>(a)].symbol);
    return linear ? std::optional<Expr>(linear->coefficient) : std::nullopt;
  };
  // Dims without guards, from the offsets.
  if (w.column.out < 0) {
    w.column.out = static_cast<int>(w.f.n);
    auto c = coefficient(w.column.out);
    if (!c)
      return std::nullopt;
    int64_t out_pitch = constant_or(*c, 0), columns = constant_or(d.axes[w.f.n].extent, 5);
    for (uint32_t a : w.f.k) {
      auto t = coefficient(static_cast<int>(a));
      int64_t pitch = t ? constant_or(*t, 0) : 0, extent = constant_or(d.axes[a].extent, 1 << 20);
      if (pitch < 1 || out_pitch < 1 || extent > 16 || static_cast<int>(a) == w.row.tap || w.column.tap >= 0)
        continue;
      // Taps overlap: the next output starts within them, or the next tap within the row.
      if (out_pitch % pitch == 0 && out_pitch / pitch <= 8 && out_pitch / pitch < extent) {
        w.column.tap = static_cast<int>(a);
        w.column.stride = out_pitch / pitch;
        w.column.pitch = pitch;
      } else if (out_pitch <= 8 && pitch < columns * out_pitch && pitch * extent <= 64) {
        w.column.tap = static_cast<int>(a);
        w.column.stride = out_pitch;
        w.column.dilation = pitch;
      }
    }
    if (w.column.tap < 0) {
      w.column.stride = out_pitch;
      if (out_pitch < 1 || out_pitch > 8)
        return std::nullopt;
    }
  } else {
    auto c = coefficient(w.column.out);
    int64_t pitch = c ? constant_or(*c, 0) : 0;
    if (pitch < 1 || pitch % w.column.stride != 0)
      return std::nullopt;
    w.column.pitch = pitch / w.column.stride; // 1 in NCHW, the channels in NHWC
  }
  if (w.row.out < 0) {
    for (uint32_t a : w.f.k) {
      auto pitch = coefficient(static_cast<int>(a));
      if (!pitch || static_cast<int>(a) == w.column.tap)
        continue;
      int64_t p = constant_or(*pitch, 0);
      for (uint32_t o : w.f.batch) {
        auto out_pitch = coefficient(static_cast<int>(o));
        int64_t q = out_pitch ? constant_or(*out_pitch, 0) : 0;
        bool left_free = !(sets[w.f.left] & axis_bit(o));
        if (p > 1 && q > 0 && q % p == 0 && q / p < constant_or(d.axes[a].extent, 1) && left_free && w.row.out < 0 &&
            constant_or(d.axes[a].extent, 1 << 20) <= 16) {
          w.row.out = static_cast<int>(o);
          w.row.tap = static_cast<int>(a);
          w.row.stride = q / p;
          w.row.pitch = p;
        }
      }
    }
  } else {
    auto c = coefficient(w.row.out);
    if (!c)
      return std::nullopt;
    // The pitch is the coefficient over the stride; both sides are checked below by what is left of the offset.
    Expr pitch = floordiv(*c, w.row.stride);
    if (!(pitch * w.row.stride == *c))
      return std::nullopt;
    w.row.pitch = pitch;
  }
  if (w.column.tap < 0 && w.row.tap < 0)
    return std::nullopt;
  Expr spatial = 0;
  for (Dim *dim : {&w.row, &w.column}) {
    if (dim->out < 0)
      continue;
    if (!dim->size) {
      dim->position = Expr(d.axes[static_cast<size_t>(dim->out)].symbol) * dim->stride;
      if (dim->tap >= 0)
        dim->position = dim->position + Expr(d.axes[static_cast<size_t>(dim->tap)].symbol) * dim->dilation;
    }
    if (dim->tap >= 0) {
      auto taps = d.axes[static_cast<size_t>(dim->tap)].extent.constant();
      if (!taps || *taps < 1 || *taps > 16)
        return std::nullopt;
      dim->taps = *taps;
    }
    spatial = spatial + dim->position * dim->pitch;
  }
  if (w.row.taps * w.column.taps > 49 || w.row.stride > 8 || w.column.stride > 8)
    return std::nullopt;
  w.rest = x.expr - spatial;
  uint64_t spatial_axes = 0;
  for (const Dim *dim : {&w.row, &w.column})
    for (int a : {dim->out, dim->tap})
      if (a >= 0) {
        if (w.rest.depends_on(d.axes[static_cast<size_t>(a)].symbol))
          return std::nullopt;
        spatial_axes |= axis_bit(static_cast<uint32_t>(a));
      }
  // The rest of the input's prologue is the same over the whole plane; weights are the same over the whole output.
  for (uint32_t i = 0; i < d.values.size(); ++i)
    if (right[i] && i != w.load && (d.values[i].kind == ValueKind::kLoad || d.values[i].kind == ValueKind::kIndex) &&
        (sets[i] & spatial_axes))
      return std::nullopt;
  for (const Dim *dim : {&w.row, &w.column})
    if (dim->out >= 0 && (sets[w.f.left] & axis_bit(static_cast<uint32_t>(dim->out))))
      return std::nullopt;
  for (uint32_t a : w.f.k)
    if (static_cast<int>(a) != w.row.tap && static_cast<int>(a) != w.column.tap)
      w.inner.push_back(a);
  for (uint32_t a : w.f.batch)
    if (static_cast<int>(a) != w.row.out)
      w.batch.push_back(a);
  return w;
}

// The body with a second version of the right side, as a function of the input's position: row `h`, column
// stride * q + shift.
struct Copied {
  Dispatch d;
  dispatch::ValueId source = 0;  // the right side at a position
  dispatch::ValueId load = 0;    // its load
  uint32_t h = 0, q = 0;         // axes
  Symbol shift;
};

Copied add_source(const Window &w) {
  Copied c;
  c.d = w.f.d;
  Expr huge = int64_t{1} << 30;
  Symbol h = Symbol::axis("row", huge), q = Symbol::axis("q", huge);
  c.shift = Symbol::host("shift", -(int64_t{1} << 30), int64_t{1} << 30);
  c.h = static_cast<uint32_t>(c.d.axes.size());
  c.q = c.h + 1;
  c.d.axes.push_back({h, huge});
  c.d.axes.push_back({q, huge});
  std::vector<bool> right = closure(c.d, w.f.right);
  std::vector<uint64_t> sets = c.d.axis_sets();
  std::vector<dispatch::ValueId> to(c.d.values.size());
  size_t count = c.d.values.size();
  for (uint32_t i = 0; i < count; ++i) {
    to[i] = i;
    Value v = c.d.values[i];
    bool changes = right[i] && i == w.load;
    for (dispatch::ValueId &a : v.args) {
      changes |= right[i] && to[a] != a;
      a = to[a];
    }
    if (!changes)
      continue;
    if (i == w.load) {
      v.guards.clear();
      v.otherwise = dispatch::kNoValue;
      v.expr = w.rest + (Expr(q) * w.column.stride + c.shift) * w.column.pitch;
      if (w.row.out >= 0)
        v.expr = v.expr + Expr(h) * w.row.pitch;
    }
    to[i] = static_cast<dispatch::ValueId>(c.d.values.size());
    c.d.values.push_back(std::move(v));
  }
  c.source = to[w.f.right];
  c.load = to[w.load];
  return c;
}

struct WindowTile {
  int64_t mr = 1, th = 1, tv = 1;
};

class WindowKernel {
 public:
  WindowKernel(const Window &w, const TargetRecord &record, const Dispatch &original)
      : w_(w), c_(add_source(w)), d_(c_.d), b_(out_.kernel), l_(b_, d_, original.free_symbols()) {
    out_.kernel.name = d_.name;
    type_ = to_scalar(d_.values[w_.f.reduce].type);
    block_ = record.kernel_class == kernel::Class::kBlock;
    columns_ = d_.axes[w_.f.n].extent;
    lanes_ = std::max<int64_t>(2, lanes_along(record, byte_size(type_), columns_));
    rows_ = w_.row.out >= 0 ? d_.axes[static_cast<size_t>(w_.row.out)].extent : Expr(1);
    channels_ = w_.f.m >= 0 ? d_.axes[static_cast<size_t>(w_.f.m)].extent : Expr(1);
    registers_ = record.vector_registers;
  }

  std::optional<Scheduled> build() {
    if (!choose_blocks())
      return std::nullopt;
    if (block_ && !weights_are_linear())
      return std::nullopt;
    flat_ = block_ && lay_out_flat();
    choose_tile();
    copy_lanes_ = lanes_;
    while (block_ && copy_lanes_ > places_)
      copy_lanes_ /= 2;
    Expr row_blocks = ceildiv(rows_, row_block_), column_blocks = ceildiv(columns_, column_block_);
    Expr chunks = ceildiv(channels_, channel_chunk_);
    out_.grid = {extent_product(d_, w_.batch) * row_blocks * column_blocks * chunks, 1, 1};
    out_.description = "window{mr=" + std::to_string(tile_.mr) + ",th=" + std::to_string(tile_.th) +
                       ",tv=" + std::to_string(tile_.tv) + ",rows=" + std::to_string(row_block_) +
                       ",columns=" + std::to_string(column_block_) + ",channels=" + std::to_string(channel_chunk_) + (flat_ ? gathers() ? ",flat,gathered" : ",flat" : "") + "}";
    scratch_ = b_.add_array("plane", kernel::Space::kPrivate, type_,
                            static_cast<uint64_t>(inner_ * plane_ + (flat_ ? 2 * kFlatLanes : 0) + tile_.tv * lanes_ + 64), 64);
    Lowering::Scope scope(l_);
    ValueId group = b_.group_id(0);
    auto part = [&](const Expr &count) {
      ValueId n = l_.expr(count), i = b_.rem(group, n);
      group = b_.div(group, n);
      return i;
    };
    ValueId m_lo = b_.mul(part(chunks), b_.index(channel_chunk_));
    ValueId x_lo = b_.mul(part(column_blocks), b_.index(column_block_));
    ValueId y_lo = b_.mul(part(row_blocks), b_.index(row_block_));
    if (!w_.batch.empty())
      bind_flat(l_, w_.batch, group);
    ValueId m_hi = b_.min(b_.add(m_lo, b_.index(channel_chunk_)), l_.expr(channels_));
    ValueId x_hi = b_.min(b_.add(x_lo, b_.index(column_block_)), l_.expr(columns_));
    ValueId y_hi = b_.min(b_.add(y_lo, b_.index(row_block_)), l_.expr(rows_));
    for (const dispatch::Store &s : d_.stores)
      l_.hoist(s.value);
    copy(x_lo, y_lo, y_hi);
    if (flat_) {
      flat_tile(x_lo, x_hi, y_lo, y_hi);
      return std::move(out_);
    }
    tiles_of_rows(y_lo, y_hi, [&](ValueId y, int64_t th) {
      tiles_of_columns(x_lo, x_hi, [&](ValueId x, int64_t tv, ValueId rest) {
        tiles_of_channels(m_lo, m_hi, [&](ValueId m, int64_t mr) { tile(m, mr, y, th, x, tv, rest, y_lo, x_lo); });
      });
    });
    return std::move(out_);
  }

 private:
  // Blocks, from the dispatch alone.
  bool choose_blocks() {
    inner_ = 1;
    for (uint32_t a : w_.inner) {
      auto extent = d_.axes[a].extent.constant();
      if (!extent)
        return false;
      inner_ *= *extent;
    }
    if (inner_ < 1)
      return false;
    int64_t columns = typical(columns_),  rows = std::max<int64_t>(1, typical(rows_));
    int64_t m = std::max<int64_t>(1, typical(channels_)), batch = 1;
    for (uint32_t a : w_.batch) // a symbolic batch may well be 1: more groups then cost little
      batch = std::min<int64_t>(1 << 20, batch * std::max<int64_t>(1, d_.axes[a].extent.lower()));
    column_block_ = 128;
    if (auto all = columns_.constant()) {
      int64_t pieces = std::max<int64_t>(1, (*all + 191) / 192);
      column_block_ = std::max<int64_t>(1, (*all + pieces - 1) / pieces);
      if (pieces > 1)
        column_block_ = (column_block_ + 31) / 32 * 32;
    }
    // Places for the columns of a phase, with room for the last vector.
    reach_ = (w_.column.taps - 1) * w_.column.dilation / w_.column.stride + 1;
    places_ = (column_block_ + 15) / 16 * 16 + (reach_ + 7) / 8 * 8;
    int64_t line = places_ * w_.column.stride;
    auto rows_needed = [&](int64_t out) { return (out - 1) * w_.row.stride + (w_.row.taps - 1) * w_.row.dilation + 1; };
    double work = 2.0 * static_cast<double>(columns * rows) * static_cast<double>(m * batch) *
                  static_cast<double>(inner_ * w_.row.taps * w_.column.taps);
    int64_t pieces = std::max<int64_t>(1, std::min<int64_t>(48, static_cast<int64_t>(work / 4e6)) / batch);
    int64_t column_pieces = std::max<int64_t>(1, columns / column_block_);
    int64_t row_pieces = std::min(std::max<int64_t>(1, pieces / column_pieces), std::max<int64_t>(1, rows / 4));
    row_block_ = (rows + row_pieces - 1) / row_pieces;
    if (!rows_.is_constant())
      row_block_ = std::max<int64_t>(row_block_, 8);
    constexpr int64_t kBudget = 192 << 10;
    while (row_block_ > 1 && rows_needed(row_block_) * line * inner_ * byte_size(type_) > kBudget)
      row_block_ = (row_block_ + 1) / 2;
    plane_rows_ = rows_needed(row_block_);
    plane_ = plane_rows_ * line;
    if (plane_ * inner_ * byte_size(type_) > (1 << 20))
      return false;
    int64_t blocks = column_pieces * ((rows + row_block_ - 1) / row_block_);
    int64_t chunks = std::min(std::max<int64_t>(1, pieces / std::max<int64_t>(1, blocks)), (m + 47) / 48);
    channel_chunk_ = (m + chunks - 1) / chunks;
    if (chunks > 1 || !channels_.is_constant())
      channel_chunk_ = (channel_chunk_ + 23) / 24 * 24;
    return true;
  }

  // Whether all outputs of a channel are one vector; the sizes that go with it.
  bool lay_out_flat() {
    const auto rows = rows_.constant(), columns = columns_.constant(), m = channels_.constant();
    if (!rows || !columns || m != 1 || inner_ != 1 || row_block_ < *rows || column_block_ < *columns || w_.row.out < 0 || w_.row.tap < 0 ||
        w_.column.tap < 0 || w_.row.dilation != 1 || w_.column.dilation != 1)
      return false;
    const int64_t pitch = *columns + reach_ - 1, lanes = (*rows - 1) * pitch + *columns;
    const auto row = d_.values[w_.f.left].expr.linear_in(d_.axes[static_cast<size_t>(w_.row.tap)].symbol);
    const auto column = d_.values[w_.f.left].expr.linear_in(d_.axes[static_cast<size_t>(w_.column.tap)].symbol);
    if (*rows < 2 || lanes > kFlatLanes || !row || !column)
      return false;
    flat_steps_ = {row->coefficient, column->coefficient};
    flat_count_ = lanes;
    flat_lanes_ = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(lanes)));
    places_ = pitch;
    phase_rows_ = (plane_rows_ + w_.row.stride - 1) / w_.row.stride;
    plane_ = w_.row.stride * w_.column.stride * phase_rows_ * places_;
    return true;
  }

  // Where row r of the input lies in scratch, and how far apart the phases of its columns.
  ValueId row_in_plane(ValueId r) {
    if (!flat_)
      return b_.mul(r, b_.index(places_ * w_.column.stride));
    ValueId stride = b_.index(w_.row.stride);
    return b_.add(b_.mul(b_.rem(r, stride), b_.index(w_.column.stride * phase_rows_ * places_)), b_.mul(b_.div(r, stride), b_.index(places_)));
  }
  int64_t phase_pitch() const { return flat_ ? phase_rows_ * places_ : places_; }

  void choose_tile() {
    int64_t m = constant_or(channels_, 1 << 20);
    int64_t vectors = (std::min(column_block_, constant_or(columns_, column_block_)) + lanes_ - 1) / lanes_;
    int64_t rows = constant_or(rows_, row_block_);
    if (block_) {
      tile_ = {std::min<int64_t>(8, m), std::clamp<int64_t>(std::min(rows, row_block_), 1, m == 1 ? 8 : std::max<int64_t>(1, 256 / lanes_)), 1};
      return;
    }
    if (m == 1) {
      tile_.tv = vectors % 4 == 0 ? 4 : vectors % 3 == 0 ? 3 : vectors == 5 ? 5 : std::min<int64_t>(vectors, 4);
      if (registers_ < 32)
        tile_.th = std::max<int64_t>(1, std::min<int64_t>({8 / tile_.tv, 4, rows, row_block_}));
      else
        tile_.th = std::max<int64_t>(1, std::min<int64_t>({16 / tile_.tv, 4, rows, row_block_}));
      return;
    }
    if (registers_ >= 32 && lanes_ < 16) {
      tile_ = {6, 1, std::min<int64_t>(4, vectors)};
    } else {
      tile_ = {registers_ >= 32 ? 8 : 6, 1, std::min<int64_t>(2, vectors)};
      if (vectors % 2 == 1 && vectors % 3 == 0)
        tile_ = {registers_ >= 32 ? 8 : 4, 1, 3};
    }
    if (tile_.tv == 1 && row_block_ >= 2)
      tile_.th = 2;
    tile_.mr = std::min(tile_.mr, m);
  }

  void loop(ValueId lo, ValueId hi, ValueId step, const std::function<void(ValueId)> &body, uint32_t unroll = 1) {
    b_.for_loop(
        lo, hi, step, {},
        [&](ValueId i, const Values &) {
          Lowering::Scope scope(l_);
          body(i);
          return Values{};
        },
        unroll);
  }

  // Whole tiles of `size` in [lo, hi); gives where they end.
  ValueId whole(ValueId lo, ValueId hi, int64_t size, const std::function<void(ValueId)> &body) {
    ValueId step = b_.index(size);
    ValueId end = size == 1 ? hi : b_.add(lo, b_.mul(b_.div(b_.sub(hi, lo), step), step));
    loop(lo, end, step, body);
    return end;
  }

  void tiles_of_rows(ValueId lo, ValueId hi, const std::function<void(ValueId, int64_t)> &body) {
    ValueId end = whole(lo, hi, tile_.th, [&](ValueId y) { body(y, tile_.th); });
    auto all = rows_.constant();
    bool even = all && *all % tile_.th == 0 && (row_block_ % tile_.th == 0 || row_block_ >= *all);
    if (tile_.th > 1 && !even)
      whole(end, hi, 1, [&](ValueId y) { body(y, 1); });
  }

  void tiles_of_channels(ValueId lo, ValueId hi, const std::function<void(ValueId, int64_t)> &body) {
    if (w_.f.m < 0) {
      body(b_.index(0), 1);
      return;
    }
    ValueId end = whole(lo, hi, tile_.mr, [&](ValueId m) { body(m, tile_.mr); });
    auto all = channels_.constant();
    int64_t rest = all ? *all % tile_.mr : 0;
    if (all && (channel_chunk_ % tile_.mr == 0 || channel_chunk_ >= *all)) {
      if (rest)
        b_.if_then(b_.lt(end, hi), [&] {
          Lowering::Scope scope(l_);
          body(end, rest);
        });
      return;
    }
    if (tile_.mr > 1)
      whole(end, hi, 1, [&](ValueId m) { body(m, 1); });
  }

  void tiles_of_columns(ValueId lo, ValueId hi, const std::function<void(ValueId, int64_t, ValueId)> &body) {
    int64_t size = tile_.tv * lanes_;
    ValueId end = whole(lo, hi, size, [&](ValueId x) { body(x, tile_.tv, kNoValue); });
    auto all = columns_.constant();
    if (all && column_block_ >= *all) { // one block: the rest is known
      int64_t rest = *all % size;
      if (rest) {
        Lowering::Scope scope(l_);
        int64_t tv = (rest + lanes_ - 1) / lanes_;
        body(end, tv, rest % lanes_ ? b_.index(rest - (tv - 1) * lanes_) : kNoValue);
      }
      return;
    }
    if (all && *all % size == 0 && column_block_ % size == 0)
      return;
    if (tile_.tv > 1)
      end = whole(end, hi, lanes_, [&](ValueId x) { body(x, 1, kNoValue); });
    b_.if_then(b_.lt(end, hi), [&] {
      Lowering::Scope scope(l_);
      body(end, 1, b_.sub(hi, end));
    });
  }

  // The group's part of the input to scratch.
  void copy(ValueId x_lo, ValueId y_lo, ValueId y_hi) {
    const Dim &row = w_.row, &column = w_.column;
    uint32_t lanes = static_cast<uint32_t>(copy_lanes_);
    ValueId w = b_.index(copy_lanes_);
    ValueId first_row = b_.sub(b_.mul(y_lo, b_.index(row.stride)), b_.index(row.pad));
    ValueId first_column = b_.sub(b_.mul(x_lo, b_.index(column.stride)), b_.index(column.pad));
    ValueId rows = b_.add(b_.mul(b_.sub(b_.sub(y_hi, y_lo), b_.index(1)), b_.index(row.stride)),
                          b_.index((row.taps - 1) * row.dilation + 1));
    // How far the input goes: without a guard every position that an output needs is there.
    Expr width = column.size ? *column.size
                             : (columns_ - 1) * column.stride + (column.taps - 1) * column.dilation + 1;
    ValueId input_width = l_.expr(width);
    ValueId padding = kNoValue;
    auto make_padding = [&] { // what the prologue makes of the load's other value
      Lowering::Scope scope(l_);
      const Value &x = d_.values[w_.load];
      Type type(to_scalar(x.type));
      ValueId other = b_.zero(type);
      if (x.otherwise != dispatch::kNoValue) {
        const Value &c = d_.values[x.otherwise];
        other = is_float(type.scalar) ? b_.constant_float(type, c.fimm) : b_.constant(type, c.imm);
      }
      l_.set(c_.load, other);
      padding = b_.splat(l_.eval(c_.source), lanes);
    };
    auto fill = [&](ValueId at) {
      loop(b_.index(0), b_.index(places_ * column.stride), w,
           [&](ValueId i) { b_.store(scratch_, b_.add(at, i), padding); });
    };
    auto line = [&](ValueId at) { // the row is bound
      for (int64_t phase = 0; phase < column.stride; ++phase) {
        Lowering::Scope scope(l_);
        ValueId shift = b_.add(first_column, b_.index(phase));
        l_.bind_symbol(c_.shift, shift);
        auto places = [&](ValueId points) { // ceil(max(points, 0) / stride)
          return b_.div(b_.add(b_.max(points, b_.index(0)), b_.index(column.stride - 1)), b_.index(column.stride));
        };
        ValueId lo = column.pad > 0 ? places(b_.sub(b_.index(0), shift)) : b_.index(0);
        ValueId hi = b_.min(places(b_.sub(input_width, shift)), b_.index(places_));
        ValueId to = b_.add(at, b_.index(phase * phase_pitch()));
        auto vector = [&](ValueId q, ValueId count) {
          Lowering::Scope inner(l_);
          l_.bind_lanes(c_.q, q, lanes, count);
          ValueId value = l_.eval_lanes(c_.source);
          if (count == kNoValue)
            b_.store(scratch_, b_.add(to, q), value);
          else
            b_.store_part(scratch_, b_.add(to, q), value, count);
        };
        if (column.size && !flat_) { // padding on both sides, before the columns that overwrite what is too much of it
          int64_t left = (column.pad + column.stride - 1) / column.stride, right = reach_ + 1;
          for (int64_t i = 0; i < left; i += copy_lanes_)
            b_.store(scratch_, b_.add(to, b_.index(i)), padding);
          for (int64_t i = 0; i < right; i += copy_lanes_)
            b_.store(scratch_, b_.add(to, b_.min(b_.add(hi, b_.index(i)), b_.index(places_ - copy_lanes_))), padding);
        }
        ValueId full = b_.add(lo, b_.mul(b_.div(b_.max(b_.sub(hi, lo), b_.index(0)), w), w));
        loop(lo, full, w, [&](ValueId q) { vector(q, kNoValue); }, 2);
        // The rest: a whole vector that overlaps the last one, where there is one.
        b_.if_then(b_.lt(full, hi), [&] {
          Lowering::Scope part(l_);
          b_.if_else(
              b_.compare(kernel::Opcode::kGe, b_.sub(hi, lo), w),
              [&] {
                vector(b_.sub(hi, w), kNoValue);
                return Values{};
              },
              [&] {
                vector(full, b_.sub(hi, full));
                return Values{};
              });
        });
      }
    };
    std::function<void(size_t, ValueId)> planes = [&](size_t at, ValueId flat) {
      if (at < w_.inner.size()) {
        ValueId extent = l_.extent(w_.inner[at]);
        loop(b_.index(0), extent, b_.index(1), [&](ValueId i) {
          l_.bind(w_.inner[at], i);
          planes(at + 1, b_.add(b_.mul(flat, extent), i));
        });
        return;
      }
      ValueId base = b_.mul(flat, b_.index(plane_));
      l_.hoist(c_.source);
      make_padding();
      if (flat_ && gathers()) {
        gather_plane(padding);
        return;
      }
      if (flat_) { // padding everywhere, then what there is
        ValueId wide = b_.splat(b_.extract(padding, 0), static_cast<uint32_t>(flat_lanes_));
        loop(b_.index(0), b_.index(plane_), b_.index(flat_lanes_), [&](ValueId i) { b_.store(scratch_, i, wide); });
        ValueId lo = b_.index(0), hi = rows;
        if (row.size) {
          lo = b_.min(b_.max(b_.sub(b_.index(0), first_row), b_.index(0)), rows);
          hi = b_.max(b_.min(b_.sub(l_.expr(*row.size), first_row), rows), lo);
        }
        loop(lo, hi, b_.index(1), [&](ValueId r) {
          l_.bind(c_.h, b_.add(first_row, r));
          line(row_in_plane(r));
        });
        return;
      }
      if (block_ && row.size) { // rows of padding above and below, without a question for each row
        ValueId height = l_.expr(*row.size);
        ValueId lo = b_.min(b_.max(b_.sub(b_.index(0), first_row), b_.index(0)), rows);
        ValueId hi = b_.max(b_.min(b_.sub(height, first_row), rows), lo);
        auto padded = [&](ValueId r) { fill(b_.add(base, b_.mul(r, b_.index(places_ * column.stride)))); };
        loop(b_.index(0), lo, b_.index(1), padded);
        loop(lo, hi, b_.index(1), [&](ValueId r) {
          l_.bind(c_.h, b_.add(first_row, r));
          line(b_.add(base, b_.mul(r, b_.index(places_ * column.stride))));
        });
        loop(hi, rows, b_.index(1), padded);
        return;
      }
      loop(b_.index(0), rows, b_.index(1), [&](ValueId r) {
        ValueId at_row = b_.add(base, b_.mul(r, b_.index(places_ * column.stride)));
        ValueId h = b_.add(first_row, r);
        l_.bind(c_.h, h);
        if (!row.size) {
          line(at_row);
          return;
        }
        ValueId inside = b_.logical_and(b_.compare(kernel::Opcode::kGe, h, b_.index(0)), b_.lt(h, l_.expr(*row.size)));
        b_.if_else(
            inside,
            [&] {
              Lowering::Scope scope(l_);
              line(at_row);
              return Values{};
            },
            [&] {
              Lowering::Scope scope(l_);
              fill(at_row);
              return Values{};
            });
      });
    };
    planes(0, b_.index(0));
  }

  // Whether the input is loaded as it is, at places that are known but for one base.
  bool gathers() const {
    const Value &x = d_.values[w_.load];
    return w_.f.right == w_.load && w_.row.size && w_.column.size && w_.row.size->is_constant() && w_.column.size->is_constant() &&
           w_.row.pitch.is_constant() && w_.column.pitch.is_constant() && to_scalar(x.type) == type_ &&
           to_scalar(d_.operands[x.operand].type) == type_;
  }

  // The plane in scratch from one gather a phase and vector: where a lane reads is the same for every channel.
  void gather_plane(ValueId padding) {
    const Dim &row = w_.row, &column = w_.column;
    const int64_t size = phase_rows_ * places_;
    const auto lanes = static_cast<uint32_t>(std::min<int64_t>(kFlatLanes, static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(size)))));
    const Type index(Scalar::kIndex, lanes);
    auto all = [&](int64_t v) { return b_.constant(index, v); };
    auto between = [&](ValueId v, int64_t extent) {
      return b_.logical_and(b_.compare(kernel::Opcode::kGe, v, all(0)), b_.lt(v, all(extent)));
    };
    ValueId base = b_.splat(l_.expr(w_.rest), lanes), other = b_.splat(b_.extract(padding, 0), lanes);
    for (int64_t i = 0; i < row.stride; ++i)
      for (int64_t j = 0; j < column.stride; ++j)
        for (int64_t first = 0; first < size; first += lanes) {
          ValueId at = b_.add(b_.lane_iota(index), all(first));
          ValueId h = b_.add(b_.mul(b_.div(at, all(places_)), all(row.stride)), all(i - row.pad));
          ValueId w = b_.add(b_.mul(b_.rem(at, all(places_)), all(column.stride)), all(j - column.pad));
          ValueId inside = b_.logical_and(b_.logical_and(between(h, *row.size->constant()), between(w, *column.size->constant())), b_.lt(at, all(size)));
          ValueId offset = b_.add(b_.mul(h, all(*row.pitch.constant())), b_.mul(w, all(*column.pitch.constant())));
          // what lies past the phase is the next one's, or behind the plane
          b_.store(scratch_, b_.index((i * column.stride + j) * size + first), b_.gather(d_.values[w_.load].operand, b_.add(base, offset), inside, other));
        }
  }

  void tile(ValueId m, int64_t mr, ValueId y, int64_t th, ValueId x, int64_t tv, ValueId rest, ValueId y_lo,
            ValueId x_lo) {
    const Dim &row = w_.row, &column = w_.column;
    uint32_t lanes = static_cast<uint32_t>(lanes_);
    Type type(type_, lanes);
    int64_t line = places_ * column.stride;
    ValueId corner = b_.add(b_.mul(b_.mul(b_.sub(y, y_lo), b_.index(row.stride)), b_.index(line)), b_.sub(x, x_lo));
    auto slot = [&](int64_t r, int64_t t, int64_t v) { return static_cast<size_t>((r * th + t) * tv + v); };
    auto taps = [&](ValueId flat, const Values &carried) {
      Values acc = carried;
      ValueId base = b_.add(b_.mul(flat, b_.index(plane_)), corner);
      // By input rows, so that tiles of several output rows read each only once.
      for (int64_t i = 0; i < (th - 1) * row.stride + (row.taps - 1) * row.dilation + 1; ++i) {
        std::vector<std::pair<int64_t, int64_t>> users; // output row, tap
        for (int64_t t = 0; t < th; ++t) {
          int64_t k = i - t * row.stride;
          if (k >= 0 && k % row.dilation == 0 && k / row.dilation < row.taps)
            users.emplace_back(t, k / row.dilation);
        }
        if (users.empty())
          continue;
        for (int64_t kw = 0; kw < column.taps; ++kw) {
          int64_t offset = kw * column.dilation;
          Values in;
          for (int64_t v = 0; v < tv; ++v) {
            int64_t at = i * line + offset % column.stride * places_ + offset / column.stride + v * lanes_;
            in.push_back(b_.load(scratch_, b_.add(base, b_.index(at)), lanes));
          }
          for (auto [t, kh] : users)
            for (int64_t r = 0; r < mr; ++r) {
              Lowering::Scope scope(l_);
              if (w_.f.m >= 0)
                l_.bind(static_cast<uint32_t>(w_.f.m), b_.add(m, b_.index(r)));
              if (row.tap >= 0)
                l_.bind(static_cast<uint32_t>(row.tap), b_.index(kh));
              if (column.tap >= 0)
                l_.bind(static_cast<uint32_t>(column.tap), b_.index(kw));
              ValueId weight = b_.splat(l_.eval(w_.f.left), lanes);
              for (int64_t v = 0; v < tv; ++v) {
                ValueId &a = acc[slot(r, t, v)];
                a = b_.mad(weight, in[static_cast<size_t>(v)], a);
              }
            }
        }
      }
      return acc;
    };
    std::function<Values(size_t, ValueId, const Values &)> channels = [&](size_t at, ValueId flat, const Values &acc) {
      if (at == w_.inner.size())
        return taps(flat, acc);
      ValueId extent = l_.extent(w_.inner[at]);
      return b_.for_loop(b_.index(0), extent, b_.index(1), acc, [&](ValueId i, const Values &carried) {
        Lowering::Scope scope(l_);
        l_.bind(w_.inner[at], i);
        return channels(at + 1, b_.add(b_.mul(flat, extent), i), carried);
      });
    };
    Values acc(static_cast<size_t>(mr * th * tv), b_.zero(type));
    acc = block_ ? tile_ops(m, mr, th, corner, rest, acc) : channels(0, b_.index(0), acc);
    for (int64_t r = 0; r < mr; ++r)
      for (int64_t t = 0; t < th; ++t)
        for (int64_t v = 0; v < tv; ++v) {
          Lowering::Scope scope(l_);
          if (w_.f.m >= 0)
            l_.bind(static_cast<uint32_t>(w_.f.m), b_.add(m, b_.index(r)));
          if (row.out >= 0)
            l_.bind(static_cast<uint32_t>(row.out), b_.add(y, b_.index(t)));
          l_.bind_lanes(w_.f.n, b_.add(x, b_.index(v * lanes_)), lanes, v + 1 == tv ? rest : kNoValue);
          l_.set(w_.f.reduce, acc[slot(r, t, v)]);
          for (const dispatch::Store &s : d_.stores)
            l_.store(s);
        }
  }

  // All sums of a channel as one vector, put behind the plane; then the epilogue, row by row.
  void flat_tile(ValueId x_lo, ValueId x_hi, ValueId y_lo, ValueId y_hi) {
    const Dim &row = w_.row, &column = w_.column;
    const Value &left = d_.values[w_.f.left];
    Values sums = {b_.zero(Type(type_, static_cast<uint32_t>(flat_lanes_)))};
    for (int64_t i = 0; i < std::min(row.stride, row.taps); ++i)
      for (int64_t j = 0; j < std::min(column.stride, column.taps); ++j) { // taps of one phase lie side by side
        Lowering::Scope scope(l_);
        for (uint32_t a : w_.inner)
          l_.bind(a, b_.index(0));
        l_.bind(static_cast<uint32_t>(row.tap), b_.index(i));
        l_.bind(static_cast<uint32_t>(column.tap), b_.index(j));
        const std::vector<kernel::Builder::TileLoop> loops = {
            {b_.index((row.taps - i + row.stride - 1) / row.stride), l_.expr(flat_steps_[0] * row.stride), b_.index(places_)},
            {b_.index((column.taps - j + column.stride - 1) / column.stride), l_.expr(flat_steps_[1] * column.stride), b_.index(1)}};
        sums = b_.tile(left.operand, scratch_, sums, {l_.expr(left.expr)}, {b_.index((i * column.stride + j) * phase_pitch())},
                       {b_.index(flat_count_)}, loops);
      }
    const int64_t behind = (plane_ + flat_lanes_ - 1) / flat_lanes_ * flat_lanes_;
    b_.store(scratch_, b_.index(behind), sums[0]);
    loop(y_lo, y_hi, b_.index(1), [&](ValueId y) {
      tiles_of_columns(x_lo, x_hi, [&](ValueId x, int64_t tv, ValueId rest) {
        for (int64_t v = 0; v < tv; ++v) {
          Lowering::Scope scope(l_);
          l_.bind(static_cast<uint32_t>(row.out), y);
          ValueId first = b_.add(x, b_.index(v * lanes_));
          l_.bind_lanes(w_.f.n, first, static_cast<uint32_t>(lanes_), v + 1 == tv ? rest : kNoValue);
          ValueId at = b_.add(b_.add(b_.index(behind), b_.mul(y, b_.index(places_))), first);
          l_.set(w_.f.reduce, b_.load(scratch_, at, static_cast<uint32_t>(lanes_)));
          for (const dispatch::Store &s : d_.stores)
            l_.store(s);
        }
      });
    });
  }

  // ---- Tile ops

  // The axes that a tile op loops over: channels, rows of taps, and columns of taps where these are consecutive in scratch.
  std::vector<uint32_t> loop_axes() const {
    std::vector<uint32_t> axes = w_.inner;
    if (w_.row.tap >= 0)
      axes.push_back(static_cast<uint32_t>(w_.row.tap));
    if (w_.column.tap >= 0 && w_.column.stride == 1)
      axes.push_back(static_cast<uint32_t>(w_.column.tap));
    return axes;
  }

  bool weights_are_linear() {
    const Value &left = d_.values[w_.f.left];
    if (left.kind != ValueKind::kLoad || !left.guards.empty() || to_scalar(d_.operands[left.operand].type) != type_)
      return false;
    for (const Symbol &s : left.expr.symbols())
      if (s.kind() == SymbolKind::kValue)
        return false;
    std::vector<uint32_t> axes = loop_axes();
    for (uint32_t a : axes) {
      auto linear = left.expr.linear_in(d_.axes[a].symbol);
      if (!linear)
        return false;
      for (uint32_t other : axes)
        if (linear->coefficient.depends_on(d_.axes[other].symbol))
          return false;
      weight_steps_.push_back(linear->coefficient);
    }
    return !axes.empty() && axes.size() <= 4;
  }

  Values tile_ops(ValueId m, int64_t mr, int64_t th, ValueId corner, ValueId rest, Values acc) {
    const Dim &row = w_.row, &column = w_.column;
    const Value &left = d_.values[w_.f.left];
    int64_t line = places_ * column.stride;
    std::vector<uint32_t> axes = loop_axes();
    std::vector<kernel::Builder::TileLoop> loops(axes.size());
    int64_t plane = plane_;
    for (size_t i = axes.size(); i-- > 0;) {
      int64_t step = plane;
      if (i >= w_.inner.size())
        step = static_cast<int>(axes[i]) == row.tap ? row.dilation * line : column.dilation;
      else
        plane *= *d_.axes[axes[i]].extent.constant();
      loops[i] = {l_.extent(axes[i]), l_.expr(weight_steps_[i]), b_.index(step)};
    }
    // Columns of taps of a stride lie in different phases: one op each.
    int64_t ops = column.stride == 1 ? 1 : column.taps;
    for (int64_t kw = 0; kw < ops; ++kw) {
      Lowering::Scope scope(l_);
      for (uint32_t a : axes)
        l_.bind(a, b_.index(0));
      if (ops > 1 || (column.tap >= 0 && column.stride != 1))
        l_.bind(static_cast<uint32_t>(column.tap), b_.index(kw));
      int64_t offset = kw * column.dilation;
      Values a, b, counts;
      for (int64_t r = 0; r < mr; ++r) {
        Lowering::Scope inner(l_);
        if (w_.f.m >= 0)
          l_.bind(static_cast<uint32_t>(w_.f.m), b_.add(m, b_.index(r)));
        a.push_back(l_.expr(left.expr));
      }
      for (int64_t t = 0; t < th; ++t) {
        int64_t at = t * row.stride * line + offset % column.stride * places_ + offset / column.stride;
        b.push_back(b_.add(corner, b_.index(at)));
        counts.push_back(rest == kNoValue ? b_.index(lanes_) : rest);
      }
      acc = b_.tile(left.operand, scratch_, acc, a, b, counts, loops);
    }
    return acc;
  }

  const Window &w_;
  Copied c_;
  const Dispatch &d_;
  Scheduled out_;
  kernel::Builder b_;
  Lowering l_;
  Scalar type_ = Scalar::kF32;
  bool block_ = false;
  std::vector<Expr> weight_steps_; // by loop axis
  int64_t lanes_ = 8, copy_lanes_ = 8;
  Expr columns_, rows_, channels_;
  uint32_t registers_ = 16;
  WindowTile tile_;
  int64_t inner_ = 1, column_block_ = 0, row_block_ = 0, channel_chunk_ = 0;
  int64_t reach_ = 0, places_ = 0, plane_rows_ = 0, plane_ = 0;
  static constexpr int64_t kFlatLanes = 256;
  bool flat_ = false;
  int64_t flat_lanes_ = 0, flat_count_ = 0, phase_rows_ = 0;
  std::vector<Expr> flat_steps_; // of the weights, by row and by column of taps
  uint32_t scratch_ = 0;
};

} // namespace

std::optional<Scheduled> schedule_window(const Dispatch &original, const TargetRecord &record) {
  auto window = match_window(original);
  if (!window)
    return std::nullopt;
  WindowKernel kernel(*window, record, original);
  return kernel.build();
}

} // namespace ingot::aotc::schedule
