// See programs.h.
#include "tests/task/programs.h"

#include <algorithm>
#include <string>

#include "tests/archive/hand_made.h"
#include "tests/archive/mutate.h"

namespace task_programs {

using namespace hand_made;

std::vector<uint8_t> random_line(uint32_t seed, int64_t n, uint32_t commands, int64_t flops) {
  mutate::Random random{seed};
  Builder b;
  const uint32_t blend = b.kernel("blend_f32", {kAccessRead, kAccessRead, kAccessReadWrite}, 1, 64);
  const uint32_t add = b.kernel("add_f32", {kAccessRead, kAccessRead, kAccessWrite}, 1);
  Function &f = b.function();
  ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), count = e.constant(n), bytes = e.constant(4 * n);
  f.inputs = {{"x", INGOT_ELEMENT_TYPE_F32, {count}, {}, kNone}};
  f.outputs = {{"y", INGOT_ELEMENT_TYPE_F32, {count}, {}, kNone}};
  f.arenas = {bytes};
  const uint32_t x = input_slot(f, 0, bytes), y = output_slot(f, 0, bytes),
                 t = transient_slot(f, 0, zero, bytes);
  const uint32_t cheap = e.constant(1), dear = e.constant(1'000'000);
  for (const uint32_t kernel : {blend, add})
    for (const uint32_t cost :
         {flops == -1 || flops == 1 ? cheap : dear, flops == -1 || flops != 1 ? dear : cheap})
      f.sites.push_back({kernel, {"node"}, cost, one});
  CommandBuilder w(f.commands);
  w.copy(t, zero, x, zero, bytes);
  for (uint32_t i = 0; i < commands; ++i) {
    // Three ranges that do not overlap, as kernels demand, of one length; other commands' ranges cut through
    // them.
    const int64_t length = 1 + random.below(uint32_t(n / 4));
    int64_t starts[3];
    int64_t at = random.below(uint32_t(n - 3 * length) / 2 + 1);
    for (int64_t &start : starts) {
      start = at;
      at = std::min(n - length, at + length + random.below(uint32_t(n / 16 + 1)));
    }
    if (starts[2] < starts[1] + length || starts[1] < starts[0] + length) continue;
    for (int k = 2; k > 0; --k) std::swap(starts[k], starts[random.below(uint32_t(k + 1))]);
    const uint32_t size = e.constant(4 * length);
    const uint32_t a = e.constant(4 * starts[0]), c = e.constant(4 * starts[1]),
                   out = e.constant(4 * starts[2]);
    const uint32_t groups = e.constant((length + 15) / 16);
    switch (random.below(8)) {
      case 0:
        w.copy(t, out, t, a, size);
        break;
      case 1:
        w.copy(t, out, x, a, size);
        break;
      case 2:
        w.fill(t, out, size, 0x3e800000u + i, 4);
        break;
      case 3:
        w.dispatch(add, 2 + random.below(2), groups, one, one, {{t, a, size}, {t, c, size}, {t, out, size}},
                   {e.constant(length)});
        break;
      default:
        w.dispatch(blend, random.below(2), groups, one, one, {{t, a, size}, {t, c, size}, {t, out, size}},
                   {e.constant(length)});
    }
  }
  w.copy(y, zero, t, zero, bytes);
  return b.bytes();
}

std::vector<uint8_t> refusals(int64_t n, uint32_t dispatches) {
  Builder b;
  const uint32_t refuse = b.kernel("refuse_f32", {kAccessRead, kAccessWrite}, 1);
  Function &f = b.function();
  ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), count = e.constant(n), part = e.constant(4 * n);
  const uint32_t bytes = e.constant(4 * n * dispatches);
  f.inputs = {{"x", INGOT_ELEMENT_TYPE_F32, {e.constant(n * dispatches)}, {}, kNone}};
  f.outputs = {{"y", INGOT_ELEMENT_TYPE_F32, {e.constant(n * dispatches)}, {}, kNone}};
  const uint32_t x = input_slot(f, 0, bytes), y = output_slot(f, 0, bytes);
  f.sites = {{refuse, {"refuse"}, e.constant(1'000'000), part}};
  CommandBuilder w(f.commands);
  for (uint32_t d = 0; d < dispatches; ++d) {
    f.error_sites.push_back({"node" + std::to_string(d), "Refuse", "no negative numbers"});
    const uint32_t at = e.constant(4 * n * d);
    w.dispatch(refuse, 0, count, one, one, {{x, at, part}, {y, at, part}}, {e.constant(d)});
  }
  (void)zero;
  return b.bytes();
}

std::vector<uint8_t> slow_counts(uint32_t groups, uint32_t dispatches, int64_t steps) {
  Builder b;
  const uint32_t slow = b.kernel("slow_count_i32", {kAccessReadWrite}, 1);
  Function &f = b.function();
  ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), four = e.constant(4);
  f.outputs = {{"count", INGOT_ELEMENT_TYPE_I32, {}, {}, kNone}};
  const uint32_t y = output_slot(f, 0, four);
  f.sites = {{slow, {"slow"}, e.constant(int64_t(groups) * 100'000), one}};
  CommandBuilder w(f.commands);
  w.fill(y, zero, four, 0, 4);
  for (uint32_t d = 0; d < dispatches; ++d)
    w.dispatch(slow, 0, e.constant(groups), one, one, {{y, zero, four}}, {e.constant(steps)});
  return b.bytes();
}

std::vector<uint8_t> claiming_empties(uint32_t dispatches, uint32_t groups, int64_t flops) {
  Builder b;
  const uint32_t kernel = b.kernel("empty", {kAccessWrite}, 0);
  Function &f = b.function();
  ExprBuilder e(f);
  const uint32_t zero = e.constant(0), one = e.constant(1), four = e.constant(4);
  f.outputs = {{"y", INGOT_ELEMENT_TYPE_F32, {}, {}, kNone}};
  const uint32_t y = output_slot(f, 0, four);
  f.sites = {{kernel, {"empty"}, e.constant(flops), one}};
  CommandBuilder w(f.commands);
  for (uint32_t i = 0; i < dispatches; ++i)
    w.dispatch(kernel, 0, e.constant(groups), one, one, {{y, zero, four}}, {});
  return b.bytes();
}

} // namespace task_programs
