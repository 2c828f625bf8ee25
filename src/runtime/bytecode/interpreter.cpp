// The interpreter: a switch over verified instructions. Ops of one lane are done in place, those of many by the
// microkernels of lanes.inc. Every access to a memory is checked against its length, every back-edge burns
// fuel.
#include "schemas/cpu_abi.h"
#include "src/runtime/bytecode/classes.h"
#include "src/runtime/bytecode/lanes.h"
#include "src/runtime/bytecode/program.h"
#include "src/runtime/bytecode/scalar.h"

namespace ingot::bytecode {

const LaneTable &choose_lanes(uint64_t features) {
#if defined(__x86_64__)
  if (features & INGOT_CPU_X86_64_V4) return kLanesV4;
  if (features & INGOT_CPU_X86_64_V3) return kLanesV3;
#endif
  (void)features;
  return kLanesBaseline;
}

namespace {

using lane::F32;
using lane::F64;
using lane::I32;
using lane::I64;

struct View {
  uint8_t *base;
  uint64_t elements;
  uint32_t bytes; // of an element in memory
  uint32_t wide;  // 0: a lane is 4 bytes in registers, 1: 8
};
static_assert(sizeof(View) == 24, "verify() reserves as much");

enum class Stop { end, bounds, fuel };

class Machine {
 public:
  Machine(const Kernel &kernel, const IngotCpuArgs *args)
      : k_(kernel), h_(*kernel.header), lanes_(*kernel.lanes), args_(args) {
    uint8_t *scratch = reinterpret_cast<uint8_t *>(uintptr_t(args->scratch));
    views_ = reinterpret_cast<View *>(scratch);
    registers_ = scratch + align_up(h_.memory_count * sizeof(View), kAlignment);
    uint8_t *array = registers_ + align_up(h_.slot_count * uint64_t(8), kAlignment);
    const uint8_t *tail = reinterpret_cast<const uint8_t *>(args) + INGOT_CPU_ARGS_HEADER;
    const uint8_t *params = tail + 8 * size_t(h_.binding_count);
    const uint8_t *lengths = params + 8 * (size_t(h_.param_count) + 1);
    memset(registers_, 0, h_.slot_count * size_t(8)); // a run depends on nothing but its inputs
    for (uint32_t i = 0; i < h_.memory_count; ++i) {
      const Memory &m = k_.memories[i];
      View &v = views_[i];
      v.bytes = storage_bytes(m.storage);
      v.wide = lane_bytes(m.storage) == 8;
      if (i < h_.binding_count) {
        uint64_t address, length;
        memcpy(&address, tail + 8 * size_t(i), 8);
        memcpy(&length, lengths + 8 * size_t(i), 8);
        v.base = reinterpret_cast<uint8_t *>(uintptr_t(address));
        v.elements = length / v.bytes;
      } else {
        v.base = array;
        v.elements = m.elements;
        memset(array, 0, size_t(m.elements) * v.bytes);
        array += align_up(m.elements * v.bytes, kAlignment);
      }
    }
    if (h_.param_count) memcpy(registers_ + 8 * kParamSlot, params, 8 * size_t(h_.param_count));
    fuel_ = k_.fuel;
  }

  void run() {
    for (uint32_t i = 0; i < 3; ++i) at<I64>(kGridSlot + i) = args_->grid[i];
    Stop stop = execute(0);
    uint64_t x = args_->grid[0], y = args_->grid[1];
    for (uint32_t group = args_->group_begin; group < args_->group_end && stop == Stop::end; ++group) {
      at<I64>(kGroupSlot) = int64_t(group % x);
      at<I64>(kGroupSlot + 1) = int64_t(group / x % y);
      at<I64>(kGroupSlot + 2) = int64_t(group / x / y);
      stop = burn(1) ? execute(h_.body) : Stop::fuel;
    }
    if (stop != Stop::end)
      report(stop == Stop::fuel ? INGOT_KERNEL_ERROR_FUEL : INGOT_KERNEL_ERROR_BOUNDS, k_.number);
  }

 private:
  template <class T>
  T &at(uint32_t slot) {
    return *reinterpret_cast<T *>(registers_ + size_t(slot) * 8);
  }
  uint8_t *slot(uint32_t slot) { return registers_ + size_t(slot) * 8; }

  void report(uint32_t code, uint64_t site) {
    // Any one of several errors may win; threads that share the word only ever store to it.
    __atomic_store_n(reinterpret_cast<uint64_t *>(uintptr_t(args_->error)), site << 32 | code,
                     __ATOMIC_RELAXED);
  }
  bool burn(uint64_t amount) {
    if (INGOT_UNLIKELY(amount > fuel_)) return false;
    fuel_ -= amount;
    return true;
  }
  static bool inside(const View &v, int64_t index, uint64_t n) {
    return uint64_t(index) <= v.elements && n <= v.elements - uint64_t(index);
  }
  void load(uint32_t memory, uint8_t *to, int64_t index, uint32_t n) {
    const View &v = views_[memory];
    lanes_.load[uint32_t(k_.memories[memory].storage)](to, v.base + uint64_t(index) * v.bytes, n);
  }
  void store(uint32_t memory, const uint8_t *from, int64_t index, uint32_t n) {
    const View &v = views_[memory];
    lanes_.store[uint32_t(k_.memories[memory].storage)](v.base + uint64_t(index) * v.bytes, from, n);
  }
  static uint32_t clamp_count(int64_t count, uint32_t n) {
    return count <= 0 ? 0 : count >= int64_t(n) ? n : uint32_t(count);
  }

  Stop execute(uint32_t start);
  bool access(const Instruction &i);
  template <class T>
  void shuffle(const Instruction &i);
  void reduce(const Instruction &i, uint32_t which, uint32_t width);
  template <class T>
  T atomic(const Instruction &i, View &v, int64_t index);
  Stop tile(const Instruction &i);

  const Kernel &k_;
  const Header &h_;
  const LaneTable &lanes_;
  const IngotCpuArgs *args_;
  View *views_;
  uint8_t *registers_;
  uint64_t fuel_ = 0;
};

Stop Machine::execute(uint32_t start) {
  const Instruction *const code = k_.code;
  for (uint32_t pc = start;;) {
    const Instruction &i = code[pc++];
    const Op op = Op(i.op);
    if (i.n != 1 && i.op < kLaneOps) {
      lanes_.compute[i.op](slot(i.d), slot(i.a), slot(i.b), slot(i.c), i.n);
      continue;
    }
    switch (op) {
#define INGOT_ONE(name, R, A)                                                         \
  case Op::name:                                                                      \
    if constexpr (!missing_classes(Op::name, 1)) at<R>(i.d) = lane::name(at<A>(i.a)); \
    break;
      INGOT_BYTECODE_UNARY(INGOT_ONE)
#undef INGOT_ONE
#define INGOT_ONE(name, R, A)                                                                     \
  case Op::name:                                                                                  \
    if constexpr (!missing_classes(Op::name, 1)) at<R>(i.d) = lane::name(at<A>(i.a), at<A>(i.b)); \
    break;
      INGOT_BYTECODE_BINARY(INGOT_ONE)
#undef INGOT_ONE
#define INGOT_ONE(name, R, A)                                                 \
  case Op::name:                                                              \
    if constexpr (!missing_classes(Op::name, 1))                              \
      at<R>(i.d) = lane::name(at<A>(i.a), at<R>(i.b), at<R>(i.c));            \
    break;
      INGOT_BYTECODE_TERNARY(INGOT_ONE)
#undef INGOT_ONE
      case Op::const_32:
        lanes_.splat[0](slot(i.d), &i.wide, i.n);
        break;
      case Op::const_64:
        lanes_.splat[1](slot(i.d), &i.wide, i.n);
        break;
      case Op::iota_32:
        lanes_.iota[0](slot(i.d), i.n);
        break;
      case Op::iota_64:
        lanes_.iota[1](slot(i.d), i.n);
        break;
      case Op::splat_32:
        lanes_.splat[0](slot(i.d), slot(i.a), i.n);
        break;
      case Op::splat_64:
        lanes_.splat[1](slot(i.d), slot(i.a), i.n);
        break;
      case Op::move_32:
        memmove(slot(i.d), slot(i.a), 4 * size_t(i.n));
        break;
      case Op::move_64:
        memmove(slot(i.d), slot(i.a), 8 * size_t(i.n));
        break;
      case Op::pick_32:
        memmove(slot(i.d), slot(at<I32>(i.a) ? i.b : i.c), 4 * size_t(i.n));
        break;
      case Op::pick_64:
        memmove(slot(i.d), slot(at<I32>(i.a) ? i.b : i.c), 8 * size_t(i.n));
        break;
      case Op::extract_32:
        at<I32>(i.d) = reinterpret_cast<const I32 *>(slot(i.a))[i.imm];
        break;
      case Op::extract_64:
        at<I64>(i.d) = reinterpret_cast<const I64 *>(slot(i.a))[i.imm];
        break;
      case Op::insert_32: {
        const I32 value = at<I32>(i.b);
        memmove(slot(i.d), slot(i.a), 4 * size_t(i.n));
        reinterpret_cast<I32 *>(slot(i.d))[i.imm] = value;
        break;
      }
      case Op::insert_64: {
        const I64 value = at<I64>(i.b);
        memmove(slot(i.d), slot(i.a), 8 * size_t(i.n));
        reinterpret_cast<I64 *>(slot(i.d))[i.imm] = value;
        break;
      }
      case Op::shuffle_32:
        shuffle<uint32_t>(i);
        pc += extra_words(i.n);
        break;
      case Op::shuffle_64:
        shuffle<uint64_t>(i);
        pc += extra_words(i.n);
        break;
      case Op::sum_i32:
      case Op::sum_f32:
      case Op::product_i32:
      case Op::product_f32:
      case Op::least_i32:
      case Op::least_f32:
      case Op::most_i32:
      case Op::most_f32:
        reduce(i, i.op - uint32_t(Op::sum_i32), 4);
        break;
      case Op::sum_i64:
      case Op::sum_f64:
      case Op::product_i64:
      case Op::product_f64:
      case Op::least_i64:
      case Op::least_f64:
      case Op::most_i64:
      case Op::most_f64:
        reduce(i, i.op - uint32_t(Op::sum_i32), 8);
        break;
      case Op::load: {
        const int64_t index = at<I64>(i.a);
        if (INGOT_UNLIKELY(!inside(views_[i.imm], index, i.n))) return Stop::bounds;
        load(i.imm, slot(i.d), index, i.n);
        break;
      }
      case Op::store: {
        const int64_t index = at<I64>(i.a);
        if (INGOT_UNLIKELY(!inside(views_[i.imm], index, i.n))) return Stop::bounds;
        store(i.imm, slot(i.b), index, i.n);
        break;
      }
      case Op::load_step:
      case Op::load_part:
      case Op::store_part:
      case Op::load_if:
      case Op::store_if:
      case Op::load_mask:
      case Op::store_mask:
      case Op::gather:
      case Op::scatter:
      case Op::gather_mask:
      case Op::scatter_mask:
      case Op::atomic_add:
      case Op::atomic_min:
      case Op::atomic_max:
        if (INGOT_UNLIKELY(!access(i))) return Stop::bounds;
        break;
      case Op::tile:
        if (const Stop stop = tile(i); INGOT_UNLIKELY(stop != Stop::end)) return stop;
        pc += extra_words(i.imm);
        break;
      case Op::loop_i64: {
        I64 next;
        if (__builtin_add_overflow(at<I64>(i.d), at<I64>(i.a), &next)) break;
        at<I64>(i.d) = next;
        if (next >= at<I64>(i.b)) break;
        if (INGOT_UNLIKELY(!burn(1))) return Stop::fuel;
        pc = i.imm;
        break;
      }
      case Op::loop_i32: {
        I32 next;
        if (__builtin_add_overflow(at<I32>(i.d), at<I32>(i.a), &next)) break;
        at<I32>(i.d) = next;
        if (next >= at<I32>(i.b)) break;
        if (INGOT_UNLIKELY(!burn(1))) return Stop::fuel;
        pc = i.imm;
        break;
      }
      case Op::jump_if:
        if (!at<I32>(i.a)) break;
        goto jump;
      case Op::jump_unless:
        if (at<I32>(i.a)) break;
        goto jump;
      case Op::jump_ge_i64:
        if (at<I64>(i.a) < at<I64>(i.b)) break;
        goto jump;
      case Op::jump_ge_i32:
        if (at<I32>(i.a) < at<I32>(i.b)) break;
        goto jump;
      case Op::jump:
      jump:
        if (i.imm < pc && INGOT_UNLIKELY(!burn(1))) return Stop::fuel;
        pc = i.imm;
        break;
      case Op::error:
        if (at<I32>(i.a)) report(i.imm, uint64_t(i.b) | uint64_t(i.c) << 16);
        break;
      case Op::end:
        return Stop::end;
      case Op::count:
        return Stop::end; // the verifier lets no such opcode pass
    }
  }
}

// Everything but the plain loads and stores. False where an access would leave its memory.
bool Machine::access(const Instruction &i) {
  View &v = views_[i.imm];
  const uint32_t width = v.wide ? 8 : 4;
  switch (Op(i.op)) {
    case Op::load_step: {
      const int64_t index = at<I64>(i.a), step = at<I64>(i.b);
      int64_t last;
      if (__builtin_mul_overflow(step, int64_t(i.n) - 1, &last) || __builtin_add_overflow(index, last, &last))
        return false;
      if (!inside(v, index, 1) || !inside(v, last, 1)) return false; // what lies between is inside too
      const uint8_t *from = v.base + uint64_t(index) * v.bytes;
      const int64_t bytes = i.n > 1 ? step * int64_t(v.bytes) : 0;
      lanes_.load_step[uint32_t(k_.memories[i.imm].storage)](slot(i.d), from, bytes, i.n);
      return true;
    }
    case Op::load_part: {
      const uint32_t n = clamp_count(at<I64>(i.b), i.n);
      const int64_t index = at<I64>(i.a);
      if (n && !inside(v, index, n)) return false;
      memmove(slot(i.d), slot(i.c), size_t(width) * i.n);
      if (n) load(i.imm, slot(i.d), index, n);
      return true;
    }
    case Op::store_part: {
      const uint32_t n = clamp_count(at<I64>(i.c), i.n);
      const int64_t index = at<I64>(i.a);
      if (n == 0) return true;
      if (!inside(v, index, n)) return false;
      store(i.imm, slot(i.b), index, n);
      return true;
    }
    case Op::load_if: {
      const int64_t index = at<I64>(i.a);
      if (!at<I32>(i.b)) {
        memmove(slot(i.d), slot(i.c), size_t(width) * i.n);
        return true;
      }
      if (!inside(v, index, i.n)) return false;
      load(i.imm, slot(i.d), index, i.n);
      return true;
    }
    case Op::store_if: {
      const int64_t index = at<I64>(i.a);
      if (!at<I32>(i.c)) return true;
      if (!inside(v, index, i.n)) return false;
      store(i.imm, slot(i.b), index, i.n);
      return true;
    }
    case Op::load_mask:
    case Op::gather_mask: {
      const bool gathers = Op(i.op) == Op::gather_mask;
      const int64_t first = at<I64>(i.a);
      const uint8_t *indices = slot(i.a), *mask = slot(i.b);
      // Through a buffer, since the result may share a register with what is read.
      alignas(8) uint8_t result[kMaxLanes * 8];
      memcpy(result, slot(i.c), size_t(width) * i.n);
      auto holds = [&](uint32_t l) {
        I32 condition;
        memcpy(&condition, mask + 4 * size_t(l), 4);
        return condition != 0;
      };
      if (gathers && v.bytes >= 4) {
        if (!lanes_.gather_mask[v.wide](result, v.base, reinterpret_cast<const int64_t *>(indices),
                                        reinterpret_cast<const int32_t *>(mask), i.n, v.elements))
          return false;
        memcpy(slot(i.d), result, size_t(width) * i.n);
        return true;
      }
      for (uint32_t l = 0; l < i.n;) {
        if (!holds(l)) {
          ++l;
          continue;
        }
        uint32_t end = l + 1; // consecutive lanes are one load
        int64_t index = int64_t(uint64_t(first) + l);
        if (gathers)
          memcpy(&index, indices + 8 * size_t(l), 8);
        else
          while (end < i.n && holds(end)) ++end;
        if (!inside(v, index, end - l)) return false;
        load(i.imm, result + size_t(width) * l, index, end - l);
        l = end;
      }
      memcpy(slot(i.d), result, size_t(width) * i.n);
      return true;
    }
    case Op::gather: {
      const int64_t *indices = reinterpret_cast<const int64_t *>(slot(i.a));
      if (!lanes_.in_range(indices, i.n, v.elements)) return false;
      alignas(8) uint8_t result[kMaxLanes * 8];
      if (v.bytes >= 4) {
        lanes_.gather[v.wide](result, v.base, indices, i.n);
      } else {
        for (uint32_t l = 0; l < i.n; ++l) load(i.imm, result + size_t(width) * l, indices[l], 1);
      }
      memcpy(slot(i.d), result, size_t(width) * i.n);
      return true;
    }
    case Op::store_mask:
    case Op::scatter:
    case Op::scatter_mask: {
      const bool scatters = Op(i.op) != Op::store_mask, masked = Op(i.op) != Op::scatter;
      for (uint32_t l = 0; l < i.n; ++l) {
        I32 condition = 1;
        if (masked) memcpy(&condition, slot(i.c) + 4 * size_t(l), 4);
        if (!condition) continue;
        int64_t index;
        memcpy(&index, slot(i.a) + (scatters ? 8 * size_t(l) : 0), 8);
        if (!scatters) index = int64_t(uint64_t(index) + l);
        if (!inside(v, index, 1)) return false;
        store(i.imm, slot(i.b) + size_t(width) * l, index, 1);
      }
      return true;
    }
    default: {
      const int64_t index = at<I64>(i.a);
      if (!inside(v, index, 1) || (uintptr_t(v.base) & (v.bytes - 1))) return false;
      if (v.wide)
        at<I64>(i.d) = atomic<I64>(i, v, index);
      else
        at<I32>(i.d) = atomic<I32>(i, v, index);
      return true;
    }
  }
}

template <class T>
T Machine::atomic(const Instruction &i, View &v, int64_t index) {
  T *place = reinterpret_cast<T *>(v.base) + index;
  const T value = at<T>(i.b);
  T old = __atomic_load_n(place, __ATOMIC_RELAXED);
  for (;;) {
    const T next = Op(i.op) == Op::atomic_add   ? lane::add<T>(old, value)
                   : Op(i.op) == Op::atomic_min ? lane::min<T>(old, value)
                                                : lane::max<T>(old, value);
    if (__atomic_compare_exchange_n(place, &old, next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return old;
  }
}

template <class T>
void Machine::shuffle(const Instruction &i) {
  const uint8_t *numbers = reinterpret_cast<const uint8_t *>(&i + 1);
  const T *a = reinterpret_cast<const T *>(slot(i.a)), *b = reinterpret_cast<const T *>(slot(i.b));
  T result[kMaxLanes];
  for (uint32_t l = 0; l < i.n; ++l) {
    uint16_t number;
    memcpy(&number, numbers + 2 * size_t(l), 2);
    result[l] = number < i.imm ? a[number] : b[number - i.imm];
  }
  memcpy(slot(i.d), result, sizeof(T) * i.n);
}

void Machine::reduce(const Instruction &i, uint32_t which, uint32_t width) {
  alignas(64) uint8_t work[kMaxLanes * 8];
  memcpy(work, slot(i.a), size_t(width) * i.n);
  lanes_.reduce[which](slot(i.d), work, nullptr, nullptr, i.n);
}

// The least and the greatest offset that the loops reach; false where it does not fit an int64.
bool reach(const int64_t *trips, const int64_t *steps, int64_t *low, int64_t *high) {
  *low = *high = 0;
  for (uint32_t l = 0; l < kMaxTileLoops; ++l) {
    int64_t far;
    if (__builtin_mul_overflow(trips[l] - 1, steps[l], &far)) return false;
    int64_t *side = far < 0 ? low : high;
    if (__builtin_add_overflow(*side, far, side)) return false;
  }
  return true;
}

// Where `first` lies with everything within reach of it; false where that leaves the memory.
bool reaches(const View &v, int64_t first, int64_t low, int64_t high, uint64_t n, uint64_t *last) {
  int64_t begin, end;
  if (__builtin_add_overflow(first, low, &begin) || __builtin_add_overflow(first, high, &end)) return false;
  *last = uint64_t(end);
  return begin >= 0 && uint64_t(end) <= v.elements && n <= v.elements - uint64_t(end);
}

Stop Machine::tile(const Instruction &i) {
  const uint8_t *operands = reinterpret_cast<const uint8_t *>(&i + 1);
  auto operand = [&](uint32_t number) {
    uint16_t value;
    memcpy(&value, operands + 2 * size_t(number), 2);
    return uint32_t(value);
  };
  auto number = [&](uint32_t o) { return at<I64>(operand(o)); };
  Tile t;
  t.rows = i.b;
  t.vectors = i.c;
  t.lanes = i.n;
  t.sums = slot(i.d);
  t.loops = kMaxTileLoops;
  const View &a = views_[operand(0)], &b = views_[operand(1)];
  if (i.a & kTileZero) memset(t.sums, 0, size_t(t.rows) * t.vectors * t.lanes * a.bytes);
  const uint32_t loops = i.a & 0xff, first = 2 + t.rows + 2 * t.vectors;
  uint64_t work = 1;
  for (uint32_t l = 0; l < kMaxTileLoops; ++l) {
    const uint32_t missing = kMaxTileLoops - loops;
    t.trips[l] = 1;
    t.a_step[l] = t.b_step[l] = 0;
    if (l < missing) continue;
    const uint32_t o = first + 3 * (l - missing);
    t.trips[l] = number(o);
    if (t.trips[l] <= 0) return Stop::end;
    if (t.trips[l] > 1) { // the step of a loop of one trip is never taken
      t.a_step[l] = number(o + 1);
      t.b_step[l] = number(o + 2);
    }
    if (__builtin_mul_overflow(work, uint64_t(t.trips[l]), &work)) return Stop::fuel;
  }
  int64_t a_low, a_high, b_low, b_high;
  if (!reach(t.trips, t.a_step, &a_low, &a_high) || !reach(t.trips, t.b_step, &b_low, &b_high))
    return Stop::bounds;
  uint64_t last;
  for (uint32_t r = 0; r < t.rows; ++r) {
    const int64_t at = number(2 + r);
    if (!reaches(a, at, a_low, a_high, 1, &last)) return Stop::bounds;
    t.a[r] = a.base + uint64_t(at) * a.bytes;
  }
  uint32_t kept = 0; // vectors without lanes are left out, which must not move the others' sums
  uint64_t lanes = 0;
  for (uint32_t v = 0; v < t.vectors; ++v) {
    const uint32_t count = clamp_count(number(2 + t.rows + t.vectors + v), t.lanes);
    t.count[v] = count;
    t.wide[v] = count;
    t.b[v] = b.base;
    if (!count) continue;
    const int64_t at = number(2 + t.rows + v);
    if (!reaches(b, at, b_low, b_high, count, &last)) return Stop::bounds;
    t.b[v] = b.base + uint64_t(at) * b.bytes;
    // Reading on is harmless within the memory: lanes past the count are not kept.
    const uint64_t room = b.elements - last;
    t.wide[v] = room > UINT32_MAX ? UINT32_MAX : uint32_t(room);
    ++kept;
    lanes += count;
  }
  if (!kept) return Stop::end;
  if (work > (uint64_t(1) << 40) || !burn(work * t.rows * lanes / 256 + 1)) return Stop::fuel;
  const Storage storage = k_.memories[operand(0)].storage;
  lanes_.tile[uint32_t(storage) - uint32_t(Storage::i32)](t);
  return Stop::end;
}

} // namespace

void run(const Kernel &kernel, const IngotCpuArgs *args) { Machine(kernel, args).run(); }

} // namespace ingot::bytecode
