// A seeded generator of valid random kernels with their inputs, for comparing the interpreter with emitters and with
// what the legaliser makes of a kernel. Every kernel is race-free, its accesses are in range and its loops end.
//
// Results are comparable exactly, NaNs as NaNs (see same_results): float min and max are followed by + 0 (which zero
// they give is not promised), and NaNs never reach a bit pattern (their payload is not promised). Float mad is only
// used with `float_mad`, where the comparison must allow for fusing.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "aotc/kernel/builder.h"
#include "aotc/kernel/integer.h"
#include "aotc/kernel/interpreter.h"

namespace ingot::aotc::kernel::random {

struct Options {
  uint64_t seed = 1;
  Class kind = Class::kSimd;
  std::vector<Scalar> scalars = {Scalar::kBool, Scalar::kI8,   Scalar::kI16, Scalar::kI32, Scalar::kI64,
                                 Scalar::kF16,  Scalar::kBF16, Scalar::kF32, Scalar::kF64};
  std::vector<uint32_t> lanes = {1, 1, 2, 4, 8}; // with repetition: how often
  uint32_t ops = 40;              // about, a region's counted once
  uint32_t depth = 3;             // of control flow
  bool float_division = true;     // division and square root, correctly rounded
  bool float_remainder = true;
  bool special_floats = true;     // NaN, infinities, denormals among the inputs and constants
  bool float_mad = false;
  bool conversions = true;        // between all scalars
  bool integer_division = true;
  bool byte_stores = true;        // stores to bool, i8, i16, f16 and bf16 buffers
  bool atomics = true;
  std::vector<Scalar> convert_from_float_to = {Scalar::kI8, Scalar::kI16, Scalar::kI32, Scalar::kI64};
};

struct Case {
  Kernel kernel;
  std::vector<std::vector<uint8_t>> buffers; // inputs, and outputs as they are before the run
  std::vector<int64_t> params;
  std::array<uint32_t, 3> grid = {1, 1, 1};

  // Runs the interpreter on copies of the buffers (or another kernel with the same bindings).
  RunResult run(const Kernel &k, std::vector<std::vector<uint8_t>> &results, const RunOptions &base = {}) const {
    results = buffers;
    std::vector<Binding> bindings;
    for (auto &b : results)
      bindings.push_back({b.data(), b.size()});
    RunOptions options = base;
    options.params = params;
    options.grid = grid;
    return interpret(k, bindings, options);
  }
};

inline constexpr uint32_t kElements = 64; // of each input buffer
inline constexpr uint32_t kSlots = 16;    // elements of each output buffer that one thread owns

class Generator {
 public:
  explicit Generator(const Options &options) : o_(options), state_(options.seed * 0x9e3779b97f4a7c15 + 1), b_(c_.kernel) {}

  Case make() {
    Kernel &k = c_.kernel;
    k.name = "random_" + std::to_string(o_.seed);
    k.kind = o_.kind;
    bool simt = o_.kind == Class::kSimt;
    uint32_t threads = 1;
    if (simt) {
      k.local_size = {1u << below(5), 1u << below(2), 1};
      threads = k.local_size[0] * k.local_size[1];
    }
    c_.grid = {1 + below(3), 1 + below(2), 1};
    uint32_t total = threads * c_.grid[0] * c_.grid[1];
    for (Scalar s : o_.scalars) {
      inputs_.push_back(b_.add_buffer("in_" + std::string(name(s)), Access::kRead, s));
      c_.buffers.push_back(random_bytes(s, kElements));
    }
    for (Scalar s : o_.scalars) {
      outputs_.push_back(kNone);
      if (!o_.byte_stores && byte_size(s) < 4)
        continue;
      outputs_.back() = b_.add_buffer("out_" + std::string(name(s)), Access::kReadWrite, s);
      c_.buffers.push_back(std::vector<uint8_t>(size_t{total} * kSlots * byte_size(s)));
    }
    bool counts = o_.atomics && has(Scalar::kI32);
    if (counts) {
      counter_ = b_.add_buffer("counter", Access::kReadWrite, Scalar::kI32);
      c_.buffers.push_back(std::vector<uint8_t>(16));
    }
    private_ = b_.add_array("own", Space::kPrivate, pick_number(), kSlots);
    if (simt)
      shared_ = b_.add_array("shared", Space::kWorkgroup, has(Scalar::kI32) ? Scalar::kI32 : pick_number(), threads);
    params_.push_back(b_.add_param("n", Scalar::kIndex, 0, 15));
    c_.params.push_back(below(16));
    if (has(Scalar::kI32)) {
      pool_.push_back(b_.add_param("p", Scalar::kI32));
      c_.params.push_back(static_cast<int32_t>(next()));
    }
    if (has(Scalar::kF32)) {
      pool_.push_back(b_.add_param("q", Scalar::kF32));
      float q = static_cast<float>(below(1000)) / 8 - 50;
      uint32_t bits;
      std::memcpy(&bits, &q, 4);
      c_.params.push_back(bits);
    }
    // The thread's number over the grid, and its own part of the outputs.
    ValueId local = b_.add(b_.mul(b_.local_id(1), b_.index(k.local_size[0])), b_.local_id(0));
    ValueId group = b_.add(b_.mul(b_.group_id(1), b_.grid_size(0)), b_.group_id(0));
    ValueId thread = b_.add(b_.mul(group, b_.index(threads)), local);
    base_ = b_.mul(thread, b_.index(kSlots));
    local_ = local;
    indices_ = {b_.index(0), b_.index(3), params_[0], b_.binary(Opcode::kAnd, thread, b_.index(15)), local};
    for (uint32_t i = 0; i < kSlots; ++i)
      b_.store(private_, b_.index(i), number_constant(Type(k.memories[private_].type)));
    region(o_.depth, o_.ops);
    if (simt) {
      exchange(threads);
      region(1, o_.ops / 3);
    }
    if (counts) {
      ValueId v = value(Scalar::kI32);
      b_.atomic(Opcode::kAtomicAdd, counter_, b_.index(0), v);
      b_.atomic(Opcode::kAtomicMin, counter_, b_.index(1), v);
      b_.atomic(Opcode::kAtomicMax, counter_, b_.index(2), v);
    }
    // What has been computed last is stored, so that little is dead.
    for (size_t i = pool_.size() > 24 ? pool_.size() - 24 : 0; i < pool_.size(); ++i)
      store(pool_[i], static_cast<uint32_t>(i));
    return std::move(c_);
  }

 private:
  static constexpr uint32_t kNone = ~0u;

  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(next() % n); }
  bool chance(uint32_t percent) { return below(100) < percent; }
  template <class T> const T &pick(const std::vector<T> &v) { return v[below(static_cast<uint32_t>(v.size()))]; }
  bool has(Scalar s) const {
    for (Scalar t : o_.scalars)
      if (s == t)
        return true;
    return false;
  }
  Scalar pick_number() {
    for (;;)
      if (Scalar s = pick(o_.scalars); s != Scalar::kBool)
        return s;
  }
  Type pick_type() { return Type(pick(o_.scalars), pick(o_.lanes)); }

  double random_float() {
    static const double specials[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0, 1e-40, 65504, 1e30, -1e30};
    if (o_.special_floats && chance(15))
      return specials[below(std::size(specials))];
    if (chance(50))
      return static_cast<double>(static_cast<int>(below(33)) - 16);
    return (static_cast<double>(below(2000001)) - 1000000) / 997;
  }
  int64_t random_int() {
    static const int64_t specials[] = {0, 1, -1, 2, 127, -128, 255, 32767, -32768, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN};
    if (chance(40))
      return specials[below(std::size(specials))];
    return chance(50) ? static_cast<int64_t>(next()) : static_cast<int64_t>(below(200)) - 100;
  }

  std::vector<uint8_t> random_bytes(Scalar s, uint32_t n) {
    std::vector<uint8_t> bytes(size_t{n} * byte_size(s));
    for (uint32_t i = 0; i < n; ++i) {
      uint64_t raw = 0;
      if (s == Scalar::kBool)
        raw = below(2);
      else if (is_int(s))
        raw = static_cast<uint64_t>(random_int());
      else {
        double v = random_float();
        float f = static_cast<float>(v);
        uint32_t f_bits;
        std::memcpy(&f_bits, &f, 4);
        if (s == Scalar::kF64)
          std::memcpy(&raw, &v, 8);
        else
          raw = s == Scalar::kF16 ? float_to_half(f) : s == Scalar::kBF16 ? float_to_bfloat(f) : f_bits;
      }
      std::memcpy(&bytes[size_t{i} * byte_size(s)], &raw, byte_size(s));
    }
    return bytes;
  }

  ValueId number_constant(Type t) {
    return is_float(t.scalar) ? b_.constant_float(t, random_float()) : b_.constant(t, random_int());
  }

  // A value of the type: one there is, or a new one.
  ValueId value(Type t) {
    std::vector<ValueId> found;
    for (ValueId v : pool_)
      if (b_.type_of(v) == t)
        found.push_back(v);
    if (!found.empty() && chance(80))
      return chance(50) ? found.back() : pick(found);
    if (t.scalar != Scalar::kBool && chance(40))
      return number_constant(t);
    return load(t);
  }
  ValueId condition() { return value(Scalar::kBool); }

  ValueId masked_index(uint32_t limit) {
    ValueId i = pick(indices_);
    if (has(Scalar::kI32) && chance(30))
      i = b_.binary(Opcode::kAnd, b_.convert(Scalar::kIndex, value(Scalar::kI32)), b_.index(255));
    if (chance(40))
      i = b_.add(b_.binary(Opcode::kAnd, i, b_.index(255)), b_.index(below(20)));
    return b_.rem(b_.binary(Opcode::kAnd, i, b_.index(1023)), b_.index(limit));
  }

  // Gives a +0 for either zero of a min or max, and one NaN for all of them.
  ValueId canonical(ValueId v) {
    Type t = b_.type_of(v);
    return b_.select(b_.unary(Opcode::kIsNan, v), b_.constant_float(t, 1), v);
  }

  ValueId load(Type t) {
    size_t which = 0;
    while (o_.scalars[which] != t.scalar)
      ++which;
    uint32_t memory = inputs_[which];
    ValueId index = masked_index(kElements - t.lanes + 1);
    switch (below(t.lanes > 1 ? 6 : 3)) {
    case 0:
      if (t.scalar != Scalar::kBool)
        return b_.load_if(memory, value(Scalar::kBool), index, number_constant(t));
      break;
    case 3:
      if (t.scalar != Scalar::kBool)
        return b_.load_part(memory, index, pick(indices_), number_constant(t));
      break;
    case 4: {
      ValueId lanes = b_.binary(Opcode::kAnd, b_.add(b_.splat(index, t.lanes), b_.lane_iota(Type(Scalar::kIndex, t.lanes))),
                                b_.constant(Type(Scalar::kIndex, t.lanes), kElements - 1));
      return b_.gather(memory, lanes);
    }
    case 5:
      return b_.load(memory, b_.mul(b_.rem(index, b_.index(kElements / t.lanes)), b_.index(t.lanes)), t.lanes, aligned(t));
    default:
      break;
    }
    return b_.load(memory, index, t.lanes);
  }

  // Elements that an access at a multiple of the lanes is aligned to, within the base's 64 bytes.
  static uint32_t aligned(Type t) { return std::min<uint32_t>(t.lanes, 64 / byte_size(t.scalar)); }

  void store(ValueId v, uint32_t salt) {
    Type t = b_.type_of(v);
    size_t which = 0;
    while (which < o_.scalars.size() && o_.scalars[which] != t.scalar)
      ++which;
    if (which == o_.scalars.size() || outputs_[which] == kNone)
      return;
    uint32_t memory = outputs_[which];
    ValueId index = b_.add(base_, b_.index(salt % (kSlots - t.lanes + 1)));
    switch (below(t.lanes > 1 ? 5 : 2)) {
    case 0:
      b_.store_if(memory, value(Scalar::kBool), index, v);
      return;
    case 2:
      b_.store_part(memory, index, v, pick(indices_));
      return;
    case 3:
      b_.scatter(memory, b_.add(b_.splat(index, t.lanes), b_.lane_iota(Type(Scalar::kIndex, t.lanes))), v);
      return;
    case 4:
      b_.store(memory, b_.add(base_, b_.index(salt % (kSlots / t.lanes) * t.lanes)), v, aligned(t));
      return;
    default:
      b_.store(memory, index, v);
    }
  }

  void exchange(uint32_t threads) {
    Scalar s = c_.kernel.memories[shared_].type;
    for (int round = 0; round < 2; ++round) {
      b_.store(shared_, local_, value(s));
      b_.barrier();
      ValueId other = b_.rem(b_.add(local_, b_.index(1 + below(threads))), b_.index(threads));
      pool_.push_back(b_.load(shared_, other));
      b_.barrier();
    }
  }

  void region(uint32_t depth, uint32_t ops) {
    for (uint32_t i = 0; i < ops; ++i) {
      if (depth > 0 && chance(8))
        control(depth - 1, ops / 2);
      else if (chance(12))
        store(value(pick_type()), below(kSlots));
      else if (chance(5))
        own();
      else
        pool_.push_back(op());
    }
  }

  void own() {
    Type t(c_.kernel.memories[private_].type);
    if (chance(50))
      b_.store(private_, masked_index(kSlots), value(t));
    else
      pool_.push_back(b_.load(private_, masked_index(kSlots)));
  }

  // Runs `make` as a nested region: what it adds to the pools goes out of sight.
  template <class F> Values scoped(F make) {
    size_t values = pool_.size(), indices = indices_.size();
    Values result = make();
    pool_.resize(values);
    indices_.resize(indices);
    return result;
  }

  void control(uint32_t depth, uint32_t ops) {
    Values init;
    std::vector<Type> types;
    for (uint32_t i = below(3) + 1; i > 0; --i) {
      types.push_back(pick_type());
      init.push_back(value(types.back()));
    }
    auto body = [&](const Values &carried) {
      return scoped([&] {
        pool_.insert(pool_.end(), carried.begin(), carried.end());
        region(depth, ops / 2);
        Values next;
        for (Type t : types)
          next.push_back(value(t));
        return next;
      });
    };
    Values results;
    switch (below(3)) {
    case 0: {
      ValueId hi = b_.binary(Opcode::kAnd, pick(indices_), b_.index(7));
      results = b_.for_loop(b_.index(below(3)), hi, b_.index(1 + below(2)), init, [&](ValueId i, const Values &carried) {
        indices_.push_back(i);
        Values next = body(carried);
        indices_.pop_back();
        return next;
      }, chance(20) ? 2 : 1);
      break;
    }
    case 1: {
      ValueId c = condition();
      results = b_.if_else(c, [&] { return body({}); }, [&] { return body({}); });
      break;
    }
    default: {
      Values counted = init;
      counted.push_back(b_.index(0));
      ValueId limit = b_.binary(Opcode::kAnd, pick(indices_), b_.index(3));
      results = b_.while_loop(
          counted,
          [&](const Values &v) { return std::pair(b_.lt(v.back(), limit), v); },
          [&](const Values &v) {
            Values next = body(Values(v.begin(), v.end() - 1));
            next.push_back(b_.add(v.back(), b_.index(1)));
            return next;
          });
      results.pop_back();
    }
    }
    pool_.insert(pool_.end(), results.begin(), results.end());
  }

  ValueId op() {
    Type t = pick_type();
    if (t.lanes > 1 && chance(20))
      return shape_op(t);
    if (o_.conversions && chance(15))
      return conversion(t);
    if (chance(12)) {
      ValueId c = value(t.lanes > 1 && chance(50) ? Type(Scalar::kBool, t.lanes) : Type(Scalar::kBool));
      return b_.select(c, value(t), value(t));
    }
    if (t.scalar == Scalar::kBool)
      return bool_op(t);
    return is_float(t.scalar) ? float_op(t) : int_op(t);
  }

  ValueId bool_op(Type t) {
    static const Opcode logic[] = {Opcode::kAnd, Opcode::kOr, Opcode::kXor};
    if (chance(20))
      return chance(50) ? b_.unary(Opcode::kNot, value(t)) : b_.binary(logic[below(3)], value(t), value(t));
    Type operand(pick_number(), t.lanes);
    if (is_float(operand.scalar) && chance(15))
      return b_.unary(chance(50) ? Opcode::kIsNan : Opcode::kIsInf, value(operand));
    uint32_t n = is_float(operand.scalar) ? 6 : 10;
    return b_.compare(static_cast<Opcode>(static_cast<uint32_t>(Opcode::kEq) + below(n)), value(operand), value(operand));
  }

  ValueId int_op(Type t) {
    static const Opcode ops[] = {Opcode::kAdd, Opcode::kSub, Opcode::kMul, Opcode::kMin, Opcode::kMax, Opcode::kMinU,
                                 Opcode::kMaxU, Opcode::kAnd, Opcode::kOr, Opcode::kXor, Opcode::kShl, Opcode::kShr,
                                 Opcode::kShrU, Opcode::kDiv, Opcode::kRem, Opcode::kDivU, Opcode::kRemU};
    if (chance(15)) {
      static const Opcode unary[] = {Opcode::kNeg, Opcode::kAbs, Opcode::kNot};
      return b_.unary(unary[below(3)], value(t));
    }
    if (chance(10))
      return b_.mad(value(t), value(t), value(t));
    return b_.binary(ops[below(o_.integer_division ? 17 : 13)], value(t), value(t));
  }

  ValueId float_op(Type t) {
    static const Opcode unary[] = {Opcode::kNeg, Opcode::kAbs, Opcode::kFloor, Opcode::kCeil, Opcode::kTrunc, Opcode::kRint, Opcode::kSqrt};
    static const Opcode binary[] = {Opcode::kAdd, Opcode::kSub, Opcode::kMul, Opcode::kAdd, Opcode::kMul};
    switch (below(6)) {
    case 0: return b_.unary(unary[below(o_.float_division ? 7 : 6)], value(t));
    case 1: {
      ValueId r = b_.binary(chance(50) ? Opcode::kMin : Opcode::kMax, value(t), value(t));
      return b_.add(r, b_.constant_float(t, 0));
    }
    case 2: return b_.binary(Opcode::kCopySign, value(t), canonical(value(t)));
    case 3:
      if (o_.float_mad)
        return b_.mad(value(t), value(t), value(t));
      if (o_.float_division)
        return b_.div(value(t), value(t));
      break;
    case 4:
      if (o_.float_remainder && chance(30))
        return b_.rem(value(t), value(t));
      break;
    default: break;
    }
    return b_.binary(binary[below(5)], value(t), value(t));
  }

  ValueId conversion(Type t) {
    Type from(pick(o_.scalars), t.lanes);
    if (is_float(from.scalar) && is_int(t.scalar)) {
      bool allowed = false;
      for (Scalar s : o_.convert_from_float_to)
        allowed |= s == t.scalar;
      if (!allowed)
        return value(t);
    }
    if (chance(20) && from.scalar != Scalar::kBool && bit_width(from.scalar) == bit_width(t.scalar)) {
      ValueId v = value(from);
      // Integers are any bits, which could be a NaN of any payload: it counts as NaN from here on.
      return b_.bitcast(t, is_float(from.scalar) ? canonical(v) : v);
    }
    return chance(70) ? b_.convert(t, value(from)) : b_.convert_u(t, value(from));
  }

  ValueId shape_op(Type t) {
    switch (below(5)) {
    case 0: return b_.splat(value(t.with_lanes(1)), t.lanes);
    case 1: return b_.extract(value(t), below(t.lanes));
    case 2: return b_.insert(value(t), value(t.with_lanes(1)), below(t.lanes));
    case 3: {
      std::vector<int64_t> lanes;
      for (uint32_t i = 0; i < t.lanes; ++i)
        lanes.push_back(below(2 * t.lanes));
      return b_.shuffle(value(t), value(t), lanes);
    }
    default: {
      static const Opcode ops[] = {Opcode::kReduceAdd, Opcode::kReduceMul, Opcode::kReduceMin, Opcode::kReduceMax};
      if (t.scalar == Scalar::kBool)
        return b_.extract(value(t), 0);
      ValueId r = b_.reduce(ops[below(4)], value(t));
      return is_float(t.scalar) ? b_.add(r, b_.constant_float(t.with_lanes(1), 0)) : r;
    }
    }
  }

  Options o_;
  uint64_t state_;
  Case c_;
  Builder b_;
  std::vector<uint32_t> inputs_, outputs_;
  uint32_t counter_ = kNone, private_ = kNone, shared_ = kNone;
  Values params_, pool_, indices_;
  ValueId base_ = kNoValue, local_ = kNoValue;
};

inline Case make(const Options &options) { return Generator(options).make(); }

// "" if the buffers hold the same elements (any NaN equals any NaN), else the first that differs. `tolerance` is
// relative, for floats.
inline std::string same_results(const Kernel &k, const std::vector<std::vector<uint8_t>> &a,
                                const std::vector<std::vector<uint8_t>> &b, double tolerance = 0) {
  for (size_t i = 0; i < a.size(); ++i) {
    Scalar s = k.memories[i].type;
    uint32_t size = byte_size(s);
    if (a[i].size() != b[i].size())
      return "@" + k.memories[i].name + ": sizes differ";
    for (size_t e = 0; e < a[i].size() / size; ++e) {
      uint64_t x = 0, y = 0;
      std::memcpy(&x, &a[i][e * size], size);
      std::memcpy(&y, &b[i][e * size], size);
      if (x == y)
        continue;
      auto as_double = [&](uint64_t raw) -> double {
        if (s == Scalar::kF16)
          return half_to_float(static_cast<uint16_t>(raw));
        if (s == Scalar::kBF16)
          return bfloat_to_float(static_cast<uint16_t>(raw));
        float f;
        uint32_t low = static_cast<uint32_t>(raw);
        std::memcpy(&f, &low, 4);
        double d;
        std::memcpy(&d, &raw, 8);
        return s == Scalar::kF32 ? f : d;
      };
      if (is_float(s)) {
        double u = as_double(x), v = as_double(y);
        if ((u != u && v != v) || std::fabs(u - v) <= tolerance * (1 + std::fabs(u)))
          continue;
        return "@" + k.memories[i].name + "[" + std::to_string(e) + "]: " + std::to_string(u) + " and " + std::to_string(v);
      }
      return "@" + k.memories[i].name + "[" + std::to_string(e) + "]: " + std::to_string(static_cast<int64_t>(x)) + " and " +
             std::to_string(static_cast<int64_t>(y));
    }
  }
  return "";
}

} // namespace ingot::aotc::kernel::random
