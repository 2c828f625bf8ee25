// Convolutions whose channels are in blocks of 16: a vector is 16 channels of one pixel.
//
//   dense      acc[pixel][channel vector] = sum over k of splat(x[pixel][k]) * w[k][channel vector]
//   depthwise  acc[pixel] = sum over taps of x[pixel + tap][channel vector] * w[tap][channel vector]
//
//   a group computes a block of rows and columns for a chunk of the channel blocks
//     where the input is padded: its part of the input goes to scratch, with the padding, as lines of memory
//     for each few channel blocks, each few rows, each few columns: a tile of accumulators; epilogue; store
//
// Weights are packed as [channel block][k][16], so that a tile reads them in order. Blocks and chunks depend on the
// dispatch alone, tiles on the registers. Where a size is symbolic, blocks are for a usual one; what is left of a line is
// one tile of which only the pixels that are there are stored.
#include <algorithm>

#include "aotc/base/error.h"
#include "aotc/schedule/blocked.h"
#include "aotc/schedule/internal.h"
#include "aotc/schedule/sinks.h"

namespace ingot::aotc::schedule {

using dispatch::Dispatch;
using dispatch::Value;
using kernel::kNoValue;
using kernel::ValueId;
using kernel::Values;

namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// A usual size; a line of all pixels stands for rows and columns.
int64_t typical_size(const Expr &size, bool line) {
  if (size.is_constant() || !line)
    return std::max<int64_t>(1, typical(size));
  return std::clamp<int64_t>(64 * 64, std::max<int64_t>(1, size.lower()), std::max<int64_t>(1, size.upper()));
}

// Columns of a block where the width is symbolic: a multiple of what any record's tile has.
constexpr int64_t kFreeColumns = 84;

struct DirectTile {
  int64_t rows = 1, columns = 1, blocks = 1; // of output rows, columns, channel blocks
};

class DirectKernel {
 public:
  DirectKernel(const BlockedConv &form, const TargetRecord &record, const Dispatch &original)
      : f_(form), d_(form.d), b_(out_.kernel), l_(b_, d_, original.free_symbols()) {
    out_.kernel.name = d_.name;
    lanes_ = std::clamp<int64_t>(record.vector_bytes / 4, 4, 16);
    vectors_ = kPanel / lanes_;
    registers_ = record.vector_registers;
    height_ = typical_size(f_.rows.size, false);
    width_ = typical_size(f_.columns.size, f_.rows.out < 0 && !f_.padded);
    blocks_ = f_.block >= 0 ? extent(f_.block) : 1;
    depth_ = 1;
    for (uint32_t a : f_.k)
      depth_ *= extent(static_cast<int>(a));
    lines_ = 1;
    for (uint32_t a : f_.outer)
      lines_ *= extent(static_cast<int>(a));
  }

  std::optional<Scheduled> build() {
    if (!choose_blocks())
      return std::nullopt;
    choose_tile();
    const Expr row_blocks = ceildiv(f_.rows.size, row_block_), column_blocks = ceildiv(f_.columns.size, column_block_);
    int64_t chunks = ceil_div(blocks_, chunk_);
    out_.grid = {extent_product(d_, f_.batch) * (row_blocks * column_blocks * chunks), 1, 1};
    out_.description = std::string(f_.depthwise ? "direct-depthwise" : "direct") + "{th=" + std::to_string(tile_.rows) +
                       ",tw=" + std::to_string(tile_.columns) + ",blocks=" + std::to_string(tile_.blocks) +
                       ",rows=" + std::to_string(row_block_) + ",columns=" + std::to_string(column_block_) +
                       ",channels=" + std::to_string(chunk_ * kPanel) + (f_.padded ? ",padded}" : "}");
    if (f_.padded)
      scratch_ = b_.add_array("part", kernel::Space::kPrivate, Scalar::kF32,
                              static_cast<uint64_t>((f_.depthwise ? 1 : lines_) * plane_ + kPanel), 64);
    Lowering::Scope scope(l_);
    ValueId group = b_.group_id(0);
    auto part = [&](const Expr &count) {
      if (count.constant() == 1)
        return b_.index(0);
      ValueId n = l_.expr(count), i = b_.rem(group, n);
      group = b_.div(group, n);
      return i;
    };
    ValueId c_lo = b_.mul(part(chunks), b_.index(chunk_));
    ValueId x_lo = b_.mul(part(column_blocks), b_.index(column_block_));
    ValueId y_lo = b_.mul(part(row_blocks), b_.index(row_block_));
    if (!f_.batch.empty())
      bind_flat(l_, f_.batch, group);
    auto end = [&](ValueId lo, int64_t size, const Expr &all) {
      ValueId hi = b_.add(lo, b_.index(size));
      return mod(all, size) == Expr(0) ? hi : b_.min(hi, l_.expr(all));
    };
    ValueId c_hi = end(c_lo, chunk_, blocks_), x_hi = end(x_lo, column_block_, f_.columns.size);
    ValueId y_hi = end(y_lo, row_block_, f_.rows.size);
    y_lo_ = y_lo;
    x_lo_ = x_lo;
    x_hi_ = x_hi;
    auto all_tiles = [&](ValueId c, int64_t blocks) {
      tiles_of_rows(y_lo, y_hi, [&](ValueId y, int64_t th) {
        tiles_of_columns(x_lo, x_hi, [&](ValueId x, int64_t tw, ValueId there) {
          f_.depthwise ? depthwise_tile(c, y, th, x, tw, there) : dense_tile(c, blocks, y, th, x, tw, there);
        });
      });
    };
    if (f_.depthwise) {
      tiles(c_lo, c_hi, 1, blocks_, chunk_, [&](ValueId c, int64_t) {
        bind(f_.block, c);
        if (f_.padded)
          copy(y_hi);
        all_tiles(c, 1);
      });
      return std::move(out_);
    }
    if (f_.padded)
      copy(y_hi);
    tiles(c_lo, c_hi, tile_.blocks, blocks_, chunk_, all_tiles);
    return std::move(out_);
  }

 private:
  int64_t extent(int axis) const { return *d_.axes[static_cast<size_t>(axis)].extent.constant(); }

  int64_t needed(const BlockedDim &dim, int64_t out) const { return (out - 1) * dim.stride + (dim.taps - 1) * dim.dilation + 1; }

  // Elements of scratch for one line of the input's channels.
  int64_t plane_size() const { return needed(f_.rows, row_block_) * pitch(); }
  int64_t pitch() const { return round_up(needed(f_.columns, column_block_) * f_.unit, kPanel); }

  // Blocks of rows and columns whose part of the input stays in the second-level cache; as many groups as there is work
  // for, cut along the weights where those are what memory holds most of.
  bool choose_blocks() {
    int64_t batch = 1;
    for (uint32_t a : f_.batch)
      batch = std::min<int64_t>(1 << 20, batch * std::max<int64_t>(1, d_.axes[a].extent.lower()));
    double per_pixel = 2.0 * static_cast<double>(depth_) * kPanel * static_cast<double>(blocks_);
    double work = per_pixel * static_cast<double>(height_ * width_ * batch);
    int64_t pieces = std::clamp<int64_t>(static_cast<int64_t>(work / (f_.depthwise ? 5e5 : 4e6)), 1, 48);
    pieces = std::max<int64_t>(1, pieces / batch);
    int64_t planes = f_.depthwise ? 1 : lines_;
    constexpr int64_t kBudget = 192 << 10, kMost = 1 << 20;
    auto bytes = [&] { return planes * plane_size() * 4; };
    row_block_ = height_;
    column_block_ = f_.columns.size.is_constant() ? width_ : round_up(width_, kFreeColumns);
    while (bytes() > kBudget && (row_block_ > 2 || column_block_ > 56))
      if (row_block_ > 2)
        row_block_ = round_up((row_block_ + 1) / 2, 2);
      else
        column_block_ = round_up(column_block_ / 2, 28);
    if (bytes() > kMost)
      return false;
    int64_t parts = ceil_div(height_, row_block_) * ceil_div(width_, column_block_), most_chunks = ceil_div(blocks_, 4);
    bool by_weights = !f_.depthwise && depth_ * kPanel * blocks_ > lines_ * plane_size();
    chunk_ = blocks_;
    if (f_.depthwise)
      chunk_ = ceil_div(blocks_, std::min(blocks_, ceil_div(pieces, parts)));
    else if (by_weights)
      chunk_ = round_up(ceil_div(blocks_, std::min(most_chunks, ceil_div(pieces, parts))), 2);
    int64_t chunks = ceil_div(blocks_, chunk_);
    if (int64_t more = ceil_div(pieces, chunks * parts); more > 1) { // more parts of the image
      if (height_ > 1) {
        row_block_ = std::max<int64_t>(std::min<int64_t>(row_block_, 4), round_up(ceil_div(row_block_, more), 2));
        row_block_ = std::min(row_block_, height_);
      } else {
        column_block_ = std::max<int64_t>(std::min<int64_t>(column_block_, 56), round_up(ceil_div(column_block_, more), 28));
      }
    }
    parts = ceil_div(height_, row_block_) * ceil_div(width_, column_block_);
    if (!f_.depthwise && !by_weights && parts * 2 <= pieces)
      chunk_ = round_up(ceil_div(blocks_, std::min(most_chunks, ceil_div(pieces, parts))), 2);
    chunk_ = std::min(chunk_, blocks_);
    plane_ = plane_size();
    return true;
  }

  // Accumulators that fit the registers, beside the weights of a step and an element of the input.
  void choose_tile() {
    int64_t most = registers_ >= 32 ? (lanes_ == 16 ? 28 : 24) : 12;
    int64_t pixels = most;
    if (f_.depthwise) {
      pixels = registers_ >= 32 ? 14 : 6;
    } else {
      tile_.blocks = vectors_ == 1 && chunk_ >= 2 ? 2 : 1;
      pixels = std::max<int64_t>(1, most / (tile_.blocks * vectors_));
    }
    int64_t columns = std::min(width_, column_block_);
    if (columns <= pixels) {
      tile_.columns = columns;
    } else { // the width that wastes least in the last tile
      int64_t best = INT64_MAX;
      for (int64_t tw = pixels; tw >= std::max<int64_t>(1, pixels / 2); --tw) {
        int64_t cost = ceil_div(columns, tw) * (tw + 2);
        if (cost < best) {
          best = cost;
          tile_.columns = tw;
        }
      }
    }
    if (f_.depthwise && height_ >= 2 && f_.rows.stride == 1 && tile_.columns * 2 > pixels && tile_.columns > 1)
      tile_.columns = ceil_div(tile_.columns, 2); // two rows share most of their input
    tile_.rows = std::clamp<int64_t>(pixels / tile_.columns, 1, std::min(height_, row_block_));
  }

  void bind(int axis, ValueId value) {
    if (axis >= 0)
      l_.bind(static_cast<uint32_t>(axis), value);
  }

  // Tiles of `size` in [lo, hi), a block of at most `block` of `all`, then what is left: in one tile where every block's
  // rest is known to be the same, else one by one.
  void tiles(ValueId lo, ValueId hi, int64_t size, int64_t all, int64_t block,
             const std::function<void(ValueId, int64_t)> &body) {
    auto loop = [&](ValueId from, ValueId to, int64_t step) {
      b_.for_loop(from, to, b_.index(step), {}, [&](ValueId i, const Values &) {
        Lowering::Scope scope(l_);
        body(i, step);
        return Values{};
      });
    };
    if (block == 1 || (size == block && all % block == 0)) {
      Lowering::Scope scope(l_);
      body(lo, size);
      return;
    }
    int64_t inner_rest = all > block ? block % size : 0, last_rest = (all % block ? all % block : block) % size;
    if (inner_rest == 0 && last_rest == 0) {
      loop(lo, hi, size);
      return;
    }
    ValueId step = b_.index(size), end = b_.add(lo, b_.mul(b_.div(b_.sub(hi, lo), step), step));
    loop(lo, end, size);
    if (inner_rest && last_rest && inner_rest != last_rest) {
      loop(end, hi, 1);
      return;
    }
    b_.if_then(b_.lt(end, hi), [&] {
      Lowering::Scope scope(l_);
      body(end, std::max(inner_rest, last_rest));
    });
  }

  void tiles_of_rows(ValueId lo, ValueId hi, const std::function<void(ValueId, int64_t)> &body) {
    if (f_.rows.size.is_constant()) {
      tiles(lo, hi, tile_.rows, height_, row_block_, body);
      return;
    }
    ValueId from = lo;
    for (int64_t size = tile_.rows; size >= 1; size /= 2) {
      ValueId step = b_.index(size);
      ValueId to = size == 1 ? hi : b_.add(from, b_.mul(b_.div(b_.sub(hi, from), step), step));
      b_.for_loop(from, to, step, {}, [&](ValueId y, const Values &) {
        Lowering::Scope scope(l_);
        body(y, size);
        return Values{};
      });
      from = to;
    }
  }

  // A tile's first column, its columns, and how many of them are there (kNoValue: all).
  void tiles_of_columns(ValueId lo, ValueId hi, const std::function<void(ValueId, int64_t, ValueId)> &body) {
    if (f_.columns.size.is_constant()) {
      tiles(lo, hi, tile_.columns, width_, column_block_, [&](ValueId x, int64_t tw) { body(x, tw, kNoValue); });
      return;
    }
    ValueId step = b_.index(tile_.columns), end = b_.add(lo, b_.mul(b_.div(b_.sub(hi, lo), step), step));
    b_.for_loop(lo, end, step, {}, [&](ValueId x, const Values &) {
      Lowering::Scope scope(l_);
      body(x, tile_.columns, kNoValue);
      return Values{};
    });
    // The rest in the smallest that holds it of tiles halved. A tile of three takes as long as one of a pixel does.
    constexpr int64_t kLeast = 3;
    ValueId rest = b_.sub(hi, end);
    std::function<void(int64_t)> at_most = [&](int64_t size) {
      Lowering::Scope scope(l_);
      const int64_t half = ceil_div(size, 2);
      if (half < kLeast) {
        body(end, size, rest);
        return;
      }
      b_.if_else(
          b_.lt(b_.index(half), rest),
          [&] {
            Lowering::Scope inner(l_);
            body(end, size, rest);
            return Values{};
          },
          [&] {
            at_most(half);
            return Values{};
          });
    };
    if (tile_.columns > 1)
      b_.if_then(b_.lt(end, hi), [&] { at_most(tile_.columns); });
  }

  // Column p of a tile; the last one that is there instead of one that is not.
  ValueId column(int64_t p, ValueId there) {
    return there == kNoValue || p == 0 ? b_.index(p) : b_.min(b_.index(p), b_.sub(there, b_.index(1)));
  }

  // The group's part of the input to scratch: [line][row][column][unit], zeros where it is padding.
  void copy(ValueId y_hi) {
    const Value &x = d_.values[f_.x];
    ValueId w = b_.index(lanes_), zero = b_.zero(Type(Scalar::kF32, static_cast<uint32_t>(lanes_)));
    ValueId rows = b_.add(b_.mul(b_.sub(b_.sub(y_hi, y_lo_), b_.index(1)), b_.index(f_.rows.stride)),
                          b_.index((f_.rows.taps - 1) * f_.rows.dilation + 1));
    ValueId first_row = b_.sub(b_.mul(y_lo_, b_.index(f_.rows.stride)), b_.index(f_.rows.pad));
    ValueId first = b_.sub(b_.mul(x_lo_, b_.index(f_.columns.stride)), b_.index(f_.columns.pad));
    ValueId unit = b_.index(f_.unit), line = b_.index(pitch()), size = l_.expr(f_.columns.input), height = l_.expr(f_.rows.input);
    ValueId positions = b_.index(needed(f_.columns, column_block_)), filled = line;
    if (!f_.columns.size.is_constant()) { // often far fewer than a block has
      positions = b_.add(b_.mul(b_.sub(b_.sub(x_hi_, x_lo_), b_.index(1)), b_.index(f_.columns.stride)),
                         b_.index((f_.columns.taps - 1) * f_.columns.dilation + 1));
      filled = b_.mul(positions, unit);
    }
    ValueId end = b_.add(first, positions);
    ValueId there = b_.min(b_.max(first, b_.index(0)), end), past = b_.max(b_.min(end, size), there);
    auto fill = [&](ValueId lo, ValueId hi) {
      b_.for_loop(lo, hi, w, {}, [&](ValueId i, const Values &) {
        b_.store(scratch_, i, zero);
        return Values{};
      });
    };
    std::function<void(size_t, ValueId)> lines = [&](size_t at, ValueId flat) {
      if (at < f_.outer.size() && !f_.depthwise) {
        ValueId count = b_.index(extent(static_cast<int>(f_.outer[at])));
        b_.for_loop(b_.index(0), count, b_.index(1), {}, [&](ValueId i, const Values &) {
          Lowering::Scope scope(l_);
          l_.bind(f_.outer[at], i);
          lines(at + 1, b_.add(b_.mul(flat, count), i));
          return Values{};
        });
        return;
      }
      ValueId source = l_.expr(f_.rest), target = b_.mul(flat, b_.index(plane_));
      b_.for_loop(b_.index(0), rows, b_.index(1), {}, [&](ValueId r, const Values &) {
        ValueId h = b_.add(first_row, r), to = b_.add(target, b_.mul(r, line)), to_end = b_.add(to, filled);
        ValueId inside = b_.logical_and(b_.compare(kernel::Opcode::kGe, h, b_.index(0)), b_.lt(h, height));
        b_.if_else(
            inside,
            [&] {
              ValueId left = b_.add(to, b_.mul(b_.sub(there, first), unit));
              ValueId count = b_.mul(b_.sub(past, there), unit);
              ValueId from = b_.add(source, b_.add(b_.mul(h, l_.expr(f_.rows.pitch)), b_.mul(there, unit)));
              fill(to, f_.unit == 1 ? to_end : left);
              ValueId whole = f_.unit == 1 ? b_.mul(b_.div(count, w), w) : count;
              b_.for_loop(
                  b_.index(0), whole, w, {},
                  [&](ValueId i, const Values &) {
                    b_.store(scratch_, b_.add(left, i), b_.load(x.operand, b_.add(from, i), static_cast<uint32_t>(lanes_)));
                    return Values{};
                  },
                  4);
              if (f_.unit == 1)
                b_.store_part(scratch_, b_.add(left, whole),
                              b_.load_part(x.operand, b_.add(from, whole), b_.sub(count, whole), zero), b_.sub(count, whole));
              else
                fill(b_.add(left, count), to_end);
              return Values{};
            },
            [&] {
              fill(to, to_end);
              return Values{};
            });
        return Values{};
      });
    };
    lines(0, b_.index(0));
  }

  // Element of scratch that output pixel (y, x) of the group reads with no tap moved and no channel chosen.
  ValueId corner(ValueId y, ValueId x) {
    return b_.add(b_.mul(b_.mul(b_.sub(y, y_lo_), b_.index(f_.rows.stride)), b_.index(pitch())),
                  b_.mul(b_.mul(b_.sub(x, x_lo_), b_.index(f_.columns.stride)), b_.index(f_.unit)));
  }

  ValueId weights(int64_t vector) {
    Lowering::Scope scope(l_);
    l_.bind(f_.lane, b_.index(vector * lanes_));
    const Value &w = d_.values[f_.w];
    return b_.load(w.operand, l_.expr(w.expr), static_cast<uint32_t>(lanes_), static_cast<uint32_t>(lanes_));
  }

  void finish(ValueId y, ValueId x, int64_t vector, ValueId value) {
    Lowering::Scope scope(l_);
    bind(f_.rows.out, y);
    bind(f_.columns.out, x);
    l_.bind_lanes(f_.lane, b_.index(vector * lanes_), static_cast<uint32_t>(lanes_));
    l_.set(f_.reduce, value);
    for (const dispatch::Store &s : d_.stores)
      l_.store(s);
  }

  void finish(ValueId y, ValueId x, int64_t p, ValueId there, int64_t vector, ValueId value) {
    auto store = [&] { finish(y, b_.add(x, b_.index(p)), vector, value); };
    if (there == kNoValue || p == 0)
      store();
    else
      b_.if_then(b_.lt(b_.index(p), there), store);
  }

  void dense_tile(ValueId c, int64_t blocks, ValueId y, int64_t th, ValueId x, int64_t tw, ValueId there) {
    const Value &load = d_.values[f_.x];
    uint32_t lanes = static_cast<uint32_t>(lanes_);
    int64_t columns = blocks * vectors_;
    ValueId origin = f_.padded ? corner(y, x) : kNoValue;
    auto step = [&](const Values &carried) {
      Values acc = carried, w;
      for (int64_t i = 0; i < blocks; ++i) {
        Lowering::Scope scope(l_);
        bind(f_.block, b_.add(c, b_.index(i)));
        for (int64_t v = 0; v < vectors_; ++v)
          w.push_back(weights(v));
      }
      ValueId base = f_.padded ? b_.add(origin, l_.expr(f_.scratch(plane_, pitch()))) : kNoValue;
      for (int64_t r = 0; r < th; ++r)
        for (int64_t p = 0; p < tw; ++p) {
          ValueId element;
          if (f_.padded) {
            ValueId at = b_.add(b_.index(r * f_.rows.stride * pitch()), b_.mul(column(p, there), b_.index(f_.columns.stride * f_.unit)));
            element = b_.load(scratch_, b_.add(base, at));
          } else {
            Lowering::Scope scope(l_);
            bind(f_.rows.out, b_.add(y, b_.index(r)));
            bind(f_.columns.out, b_.add(x, column(p, there)));
            element = b_.load(load.operand, l_.expr(load.expr));
          }
          ValueId s = b_.splat(element, lanes);
          for (int64_t v = 0; v < columns; ++v) {
            ValueId &a = acc[static_cast<size_t>((r * tw + p) * columns + v)];
            a = b_.mad(s, w[static_cast<size_t>(v)], a);
          }
        }
      return acc;
    };
    std::function<Values(size_t, const Values &)> loops = [&](size_t at, const Values &carried) {
      if (at == f_.k.size())
        return step(carried);
      return b_.for_loop(b_.index(0), b_.index(extent(static_cast<int>(f_.k[at]))), b_.index(1), carried,
                         [&](ValueId i, const Values &inner) {
                           Lowering::Scope scope(l_);
                           l_.bind(f_.k[at], i);
                           return loops(at + 1, inner);
                         });
    };
    Values acc = loops(0, Values(static_cast<size_t>(th * tw * columns), b_.zero(Type(Scalar::kF32, lanes))));
    for (int64_t i = 0; i < blocks; ++i) {
      Lowering::Scope scope(l_);
      bind(f_.block, b_.add(c, b_.index(i)));
      for (int64_t r = 0; r < th; ++r)
        for (int64_t p = 0; p < tw; ++p)
          for (int64_t v = 0; v < vectors_; ++v)
            finish(b_.add(y, b_.index(r)), x, p, there, v,
                   acc[static_cast<size_t>((r * tw + p) * columns + i * vectors_ + v)]);
    }
  }

  // Taps are unrolled: each line of the input is loaded once for all the taps and pixels that read it.
  void depthwise_tile(ValueId c, ValueId y, int64_t th, ValueId x, int64_t tw, ValueId there) {
    const Value &load = d_.values[f_.x];
    uint32_t lanes = static_cast<uint32_t>(lanes_);
    bind(f_.block, c);
    for (int64_t vector = 0; vector < vectors_; ++vector) {
      Lowering::Scope scope(l_);
      ValueId shift = b_.index(vector * lanes_);
      ValueId base = f_.padded ? b_.add(corner(y, x), shift) : kNoValue;
      std::map<std::pair<int64_t, int64_t>, ValueId> inputs;
      // Positions that the tile's last pixel reads: those of a pixel that is not there may lie past the input.
      ValueId positions = kNoValue;
      if (there != kNoValue)
        positions = b_.add(b_.mul(b_.sub(there, b_.index(1)), b_.index(f_.columns.stride)), b_.index((f_.columns.taps - 1) * f_.columns.dilation));
      auto input = [&](int64_t row, int64_t column) { // counted in the input, from the tile's corner
        auto [it, fresh] = inputs.try_emplace({row, column}, kNoValue);
        if (!fresh)
          return it->second;
        ValueId position = positions == kNoValue ? b_.index(column) : b_.min(b_.index(column), positions);
        ValueId along = b_.mul(position, b_.index(f_.unit));
        if (f_.padded)
          return it->second = b_.load(scratch_, b_.add(base, b_.add(b_.index(row * pitch()), along)), lanes);
        Lowering::Scope tile(l_);
        bind(f_.rows.out, y);
        bind(f_.columns.out, x);
        bind(f_.rows.tap, b_.index(0));
        bind(f_.columns.tap, b_.index(0));
        l_.bind(f_.lane, shift);
        ValueId at = b_.add(l_.expr(load.expr), b_.add(b_.mul(b_.index(row), l_.expr(f_.rows.pitch)), along));
        return it->second = b_.load(load.operand, at, lanes);
      };
      Values acc(static_cast<size_t>(th * tw), b_.zero(Type(Scalar::kF32, lanes)));
      for (int64_t kh = 0; kh < f_.rows.taps; ++kh)
        for (int64_t kw = 0; kw < f_.columns.taps; ++kw) {
          Lowering::Scope tap(l_);
          bind(f_.rows.tap, b_.index(kh));
          bind(f_.columns.tap, b_.index(kw));
          ValueId w = weights(vector);
          for (int64_t r = 0; r < th; ++r)
            for (int64_t p = 0; p < tw; ++p) {
              ValueId &a = acc[static_cast<size_t>(r * tw + p)];
              a = b_.mad(input(r * f_.rows.stride + kh * f_.rows.dilation, p * f_.columns.stride + kw * f_.columns.dilation), w, a);
            }
        }
      for (int64_t r = 0; r < th; ++r)
        for (int64_t p = 0; p < tw; ++p)
          finish(b_.add(y, b_.index(r)), x, p, there, vector, acc[static_cast<size_t>(r * tw + p)]);
    }
  }

  const BlockedConv &f_;
  const Dispatch &d_;
  Scheduled out_;
  kernel::Builder b_;
  Lowering l_;
  int64_t lanes_ = 16, vectors_ = 1, height_ = 1, width_ = 1, blocks_ = 1, depth_ = 1, lines_ = 1;
  uint32_t registers_ = 16;
  DirectTile tile_;
  int64_t row_block_ = 1, column_block_ = 1, chunk_ = 1, plane_ = 0;
  ValueId y_lo_ = kNoValue, x_lo_ = kNoValue, x_hi_ = kNoValue;
  uint32_t scratch_ = 0;
};

} // namespace

std::optional<Scheduled> schedule_direct(const Dispatch &original, const TargetRecord &record) {
  auto form = match_blocked_conv(original);
  if (!form || !form->packed)
    return std::nullopt;
  DirectKernel kernel(*form, record, original);
  return kernel.build();
}

} // namespace ingot::aotc::schedule
