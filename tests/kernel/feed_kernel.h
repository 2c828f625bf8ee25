// Kernels that are fed boxes of tensors, seeded, with what they leave by a plain loop; and one that multiplies what it is fed.
#pragma once

#include <algorithm>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

#include "aotc/kernel/builder.h"
#include "aotc/kernel/integer.h"

namespace ingot::aotc::kernel::feeding {

// Boxes of two buffers of 16-bit words, one after the other in one array, and those of a third map in another. Each workgroup writes
// each slice to y, eights in the places that they have.
struct Case {
  struct Box {
    TensorMap map;
    std::vector<int64_t> at, steps, groups; // the coordinates: at + slice * steps + workgroup * groups
  };
  Scalar type = Scalar::kF16;
  uint32_t threads = 64, groups = 2;
  int64_t stages = 2, slices = 5;
  bool slices_known = true, constant = false; // of the first buffer
  std::vector<Box> boxes;                     // three
  std::vector<std::vector<uint16_t>> buffers; // two

  int64_t place() const { return boxes[0].map.box_elements() + boxes[1].map.box_elements(); } // of the first array
  int64_t other_place() const { return boxes[2].map.box_elements(); }
  size_t results() const { return static_cast<size_t>(groups * slices * (place() + other_place())); }
};

inline Case make_case(uint64_t seed, size_t rank, int64_t stages, int64_t slices) {
  std::mt19937_64 random(seed);
  auto draw = [&](int64_t lo, int64_t hi) { return lo + static_cast<int64_t>(random() % static_cast<uint64_t>(hi - lo + 1)); };
  Case c;
  c.type = draw(0, 1) ? Scalar::kF16 : Scalar::kBF16;
  c.threads = static_cast<uint32_t>(32 * draw(1, 3));
  c.groups = static_cast<uint32_t>(draw(1, 2));
  c.stages = stages, c.slices = slices;
  c.slices_known = draw(0, 1);
  c.constant = draw(0, 1);
  for (uint32_t i = 0; i < 3; ++i) {
    Case::Box b;
    b.map.memory = i % 2;
    b.map.offset = 8 * draw(0, 5);
    b.map.box.assign(rank, 1);
    b.map.box[0] = 64;
    for (int64_t factor : {int64_t{2}, int64_t{2}, int64_t{2}, draw(1, 3)}) // lines in whole eights
      b.map.box[static_cast<size_t>(draw(1, static_cast<int64_t>(rank) - 1))] *= factor;
    for (size_t k = 0; k < rank; ++k) {
      b.map.sizes.push_back(k == 0 ? draw(1, 200) : draw(1, 16));
      b.map.strides.push_back(k == 0 ? 1 : 8 * draw(1, 40));
      const int64_t box = b.map.box[k], size = b.map.sizes[k];
      b.at.push_back(draw(0, 3) == 0 ? draw(-box - 1, size + 1) : draw(-box / 4, size / 4)); // wholly outside, and mostly not
      b.steps.push_back(draw(0, 1) * draw(-2, 2) * (k == 0 ? draw(1, 40) : 1));
      b.groups.push_back(draw(0, 2) - 1);
    }
    c.boxes.push_back(std::move(b));
  }
  c.buffers.resize(2);
  for (size_t i = 0; i < 3; ++i)
    c.buffers[i % 2].resize(std::max(c.buffers[i % 2].size(), static_cast<size_t>(c.boxes[i].map.end())));
  for (std::vector<uint16_t> &buffer : c.buffers) {
    buffer.resize((buffer.size() + 1) / 2 * 2);
    for (uint16_t &v : buffer)
      v = static_cast<uint16_t>(random() & (c.type == Scalar::kF16 ? 0xfbff : 0xff7f)); // no NaN
  }
  return c;
}

// Param "slices" where their number is not known. The last `kept` slices are not freed.
inline Kernel make_kernel(const Case &c, int64_t kept = 0) {
  Kernel k;
  k.name = "fed";
  k.kind = Class::kSimt;
  k.local_size = {c.threads, 1, 1};
  Builder b(k);
  b.add_buffer("x", Access::kRead, c.type, 64, c.constant);
  b.add_buffer("z", Access::kRead, c.type);
  const uint32_t y = b.add_buffer("y", Access::kWrite, c.type);
  const uint32_t arrays[] = {b.add_array("places", Space::kWorkgroup, c.type, static_cast<uint64_t>(c.stages * c.place()), 1024),
                             b.add_array("others", Space::kWorkgroup, c.type, static_cast<uint64_t>(c.stages * c.other_place()), 1024)};
  const uint32_t signals = b.add_array("signals", Space::kWorkgroup, Scalar::kI64, 2 * static_cast<uint64_t>(c.stages), 8);
  const ValueId slices = c.slices_known ? b.index(c.slices) : b.add_param("slices", Scalar::kIndex, 0, 1000), group = b.group_id(0);
  for (size_t i = 0; i < c.boxes.size(); ++i) {
    const Case::Box &box = c.boxes[i];
    Values at;
    for (size_t d = 0; d < box.at.size(); ++d)
      at.push_back(b.add(b.index(box.at[d]), b.mul(group, b.index(box.groups[d]))));
    b.feed(arrays[i / 2], i == 1 ? c.boxes[0].map.box_elements() : 0, b.add_tensor_map(box.map), at, box.steps);
  }
  b.feed_start(signals, c.stages, slices);
  const int64_t all = c.place() + c.other_place();
  b.for_loop(b.index(0), slices, b.index(1), {}, [&](ValueId slice, const Values &) {
    b.feed_wait(slice);
    const ValueId stage = b.rem(slice, b.index(c.stages)), to = b.mul(b.add(b.mul(group, slices), slice), b.index(all));
    for (auto [array, count, first] : {std::tuple(arrays[0], c.place(), int64_t{0}), std::tuple(arrays[1], c.other_place(), c.place())})
      b.for_loop(b.local_id(0), b.index(count), b.index(c.threads), {}, [&](ValueId e, const Values &) {
        b.store(y, b.add(to, b.add(e, b.index(first))), b.load(array, b.add(b.mul(stage, b.index(count)), e)));
        return Values{};
      });
    b.barrier();
    b.if_then(b.lt(slice, b.sub(slices, b.index(kept))), [&] { b.feed_free(slice); });
    return Values{};
  });
  return k;
}

inline std::vector<uint16_t> expected(const Case &c) {
  std::vector<uint16_t> y;
  for (int64_t group = 0; group < c.groups; ++group)
    for (int64_t slice = 0; slice < c.slices; ++slice)
      for (const Case::Box &box : c.boxes) {
        const TensorMap &m = box.map;
        const size_t begin = y.size();
        y.resize(begin + static_cast<size_t>(m.box_elements()));
        std::vector<int64_t> i(m.rank());
        for (int64_t line = 0; line < m.box_elements() / 64; ++line) {
          for (int64_t e = 0; e < 64; ++e) {
            i[0] = e;
            int64_t from = m.offset;
            bool inside = true;
            for (size_t d = 0; d < m.rank(); ++d) {
              const int64_t at = box.at[d] + group * box.groups[d] + slice * box.steps[d] + i[d];
              inside = inside && 0 <= at && at < m.sizes[d];
              from += at * m.strides[d];
            }
            const int64_t place = line * 64 + (e / 8 ^ line % 8) * 8 + e % 8;
            y[begin + static_cast<size_t>(place)] = inside ? c.buffers[m.memory][static_cast<size_t>(from)] : 0;
          }
          for (size_t d = 1; d < m.rank() && ++i[d] == m.box[d]; ++d)
            i[d] = 0;
        }
      }
  return y;
}

// y [64][columns] = x [64][64 slices] times w [columns][64 slices], both f16 and a line longer in memory by 8; w may be a constant.
inline Kernel make_product(int64_t columns, int64_t slices, int64_t stages, bool constant) {
  Kernel k;
  k.name = "fed_product";
  k.kind = Class::kSimt;
  k.local_size = {kWarpgroup, 1, 1};
  Builder b(k);
  b.add_buffer("x", Access::kRead, Scalar::kF16);
  b.add_buffer("w", Access::kRead, Scalar::kF16, 64, constant);
  const uint32_t y = b.add_buffer("y", Access::kWrite, Scalar::kF32);
  const uint32_t left = b.add_array("left", Space::kWorkgroup, Scalar::kF16, static_cast<uint64_t>(stages * 64 * 64), 1024);
  const uint32_t right = b.add_array("right", Space::kWorkgroup, Scalar::kF16, static_cast<uint64_t>(stages * columns * 64), 1024);
  const uint32_t signals = b.add_array("signals", Space::kWorkgroup, Scalar::kI64, 2 * static_cast<uint64_t>(stages), 8);
  const int64_t depth = 64 * slices;
  b.feed(left, 0, b.add_tensor_map({0, 0, {depth, 64}, {1, depth + 8}, {64, 64}}), {b.index(0), b.index(0)}, {64, 0});
  b.feed(right, 0, b.add_tensor_map({1, 0, {depth, columns}, {1, depth + 8}, {64, columns}}), {b.index(0), b.index(0)}, {64, 0});
  b.feed_start(signals, stages, b.index(slices));
  const Values none(static_cast<size_t>(columns / 8), b.zero(Type(Scalar::kF32, 4)));
  Values sums = b.for_loop(b.index(0), b.index(slices), b.index(1), none, [&](ValueId slice, const Values &carried) {
    b.feed_wait(slice);
    const ValueId stage = b.rem(slice, b.index(stages));
    const Values next = b.warpgroup_wait(
        b.warpgroup_mma(left, b.mul(stage, b.index(64 * 64)), right, b.mul(stage, b.index(columns * 64)), b.index(0), 4, carried), 1);
    b.if_then(b.lt(b.index(0), slice), [&] { b.feed_free(b.sub(slice, b.index(1))); }); // the one before has ended
    return next;
  });
  sums = b.warpgroup_wait(sums);
  const ValueId row = b.add(b.fragment_row(), b.splat(b.mul(b.div(b.local_id(0), b.index(32)), b.index(16)), 4)), column = b.fragment_column();
  for (size_t f = 0; f < sums.size(); ++f)
    b.scatter(y, b.add(b.mul(row, b.splat(b.index(columns), 4)), b.add(column, b.splat(b.index(static_cast<int64_t>(8 * f)), 4))), sums[f]);
  return k;
}

// Its factors: multiples of 1/4 whose sums are exact, and what the product is.
struct Factors {
  std::vector<uint16_t> x, w;
  std::vector<float> y;
  Factors(int64_t columns, int64_t slices, uint64_t seed) {
    std::mt19937_64 random(seed);
    const auto depth = static_cast<size_t>(64 * slices), pitch = depth + 8, n = static_cast<size_t>(columns);
    for (auto [to, lines] : {std::pair(&x, size_t{64}), std::pair(&w, n)})
      for (size_t i = 0; i < lines * pitch; ++i)
        to->push_back(float_to_half(static_cast<float>(static_cast<int64_t>(random() % 61) - 30) / 4));
    for (size_t r = 0; r < 64; ++r)
      for (size_t c = 0; c < n; ++c) {
        double sum = 0;
        for (size_t i = 0; i < depth; ++i)
          sum += static_cast<double>(half_to_float(x[r * pitch + i])) * half_to_float(w[c * pitch + i]);
        y.push_back(static_cast<float>(sum));
      }
  }
};

} // namespace ingot::aotc::kernel::feeding
