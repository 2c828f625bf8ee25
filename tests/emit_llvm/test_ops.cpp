// Every elementwise op, comparison, conversion, vector op and reduction on every type and several lane counts, against
// the interpreter. One kernel applies all ops of a type to the same operands, so that there are few to compile.
#include <catch2/catch.hpp>

#include "tests/emit_llvm/case.h"

namespace ingot::aotc::test {
namespace {

using namespace kernel;

constexpr uint32_t kLanes[] = {1, 4, 8, 32};
constexpr uint32_t kGroups = 96;

// Operands: cross products of special values, then random bits.
std::vector<uint8_t> operand(Scalar s, size_t count, int which, Random &random) {
  std::vector<uint8_t> buffer = zeros(s, count);
  size_t n = special_count(s);
  for (size_t i = 0; i < count; i++) {
    size_t k = i >= 2 * n * n ? n + 1 : which == 0 ? i % n : which == 1 ? i / n % n : random.below(2 * n);
    put(buffer, s, i, interesting(s, k, random));
  }
  return buffer;
}

// A kernel over operands a, b, c of one type; results are collected in buffers of their types.
struct Sweep {
  Case c;
  Builder b;
  uint32_t lanes;
  uint32_t in[3];
  uint32_t out = 0, bools = 0;
  uint32_t out_rows = 0, bool_rows = 0;
  Scalar in_type, out_type;
  ValueId base, x[3];

  Sweep(const std::string &name, Scalar from, Scalar to, uint32_t n)
      : b(c.kernel), lanes(n), in_type(from), out_type(to) {
    c.kernel.name = name + "_" + std::string(aotc::name(from)) + "_" + std::string(aotc::name(to)) + "x" +
                    std::to_string(n);
    c.grid = {8, 6, kGroups / 48};
    static constexpr const char *kNames[] = {"a", "b", "c"};
    for (int k = 0; k < 3; k++)
      in[k] = b.add_buffer(kNames[k], Access::kRead, from);
    out = b.add_buffer("r", Access::kWrite, to);
    bools = b.add_buffer("t", Access::kWrite, Scalar::kBool);
    // Linear group number from the three ids.
    ValueId g = b.add(b.group_id(0), b.mul(b.grid_size(0), b.add(b.group_id(1), b.mul(b.grid_size(1), b.group_id(2)))));
    base = b.mul(g, b.index(n));
    for (int k = 0; k < 3; k++)
      x[k] = b.load(in[k], base, n);
  }
  Type type() const { return Type(in_type, lanes); }
  void keep(ValueId v) {
    Type t = b.type_of(v);
    bool truth = t.scalar == Scalar::kBool && out_type != Scalar::kBool;
    uint32_t &rows = truth ? bool_rows : out_rows;
    ValueId at = b.add(base, b.index(static_cast<int64_t>(rows) * kGroups * lanes));
    rows++;
    b.store(truth ? bools : out, at, v);
  }
  Case finish(Random &random) {
    for (int k = 0; k < 3; k++)
      c.buffers.push_back(operand(in_type, size_t{kGroups} * lanes, k, random));
    c.buffers.push_back(zeros(out_type, size_t{out_rows} * kGroups * lanes));
    c.buffers.push_back(zeros(Scalar::kBool, size_t{bool_rows} * kGroups * lanes));
    return std::move(c);
  }
};

constexpr Opcode kIntBinary[] = {Opcode::kAdd,  Opcode::kSub,  Opcode::kMul, Opcode::kDiv, Opcode::kRem,
                                 Opcode::kDivU, Opcode::kRemU, Opcode::kMin, Opcode::kMax, Opcode::kMinU,
                                 Opcode::kMaxU, Opcode::kAnd,  Opcode::kOr,  Opcode::kXor, Opcode::kShl,
                                 Opcode::kShr,  Opcode::kShrU};
constexpr Opcode kFloatBinary[] = {Opcode::kAdd, Opcode::kSub, Opcode::kMul,
                                   Opcode::kDiv, Opcode::kRem, Opcode::kCopySign};
constexpr Opcode kFloatUnary[] = {Opcode::kNeg,  Opcode::kAbs,   Opcode::kSqrt, Opcode::kFloor,
                                  Opcode::kCeil, Opcode::kTrunc, Opcode::kRint};
constexpr Opcode kIntUnary[] = {Opcode::kNeg, Opcode::kAbs, Opcode::kNot};
constexpr Opcode kCompare[] = {Opcode::kEq, Opcode::kNe, Opcode::kLt, Opcode::kLe, Opcode::kGt, Opcode::kGe};
constexpr Opcode kCompareU[] = {Opcode::kLtU, Opcode::kLeU, Opcode::kGtU, Opcode::kGeU};

} // namespace

TEST_CASE("elementwise ops agree with the interpreter on every type and lane count") {
  Random random(1);
  std::vector<Case> cases;
  for (uint32_t lanes : kLanes)
    for (Scalar s : kAllScalars) {
      Sweep w("ops", s, s, lanes);
      auto &[a, b, c] = w.x;
      if (is_int(s)) {
        for (Opcode op : kIntBinary)
          w.keep(w.b.binary(op, a, b));
        for (Opcode op : kIntUnary)
          w.keep(w.b.unary(op, a));
        w.keep(w.b.mad(a, b, c));
        for (Opcode op : kCompareU)
          w.keep(w.b.compare(op, a, b));
        // Divisors that the compiler knows.
        for (int64_t d : {0, 1, -1, 3, 16})
          for (Opcode op : {Opcode::kDiv, Opcode::kRem, Opcode::kDivU, Opcode::kRemU})
            w.keep(w.b.binary(op, a, w.b.constant(w.type(), d)));
      } else if (is_float(s)) {
        for (Opcode op : kFloatBinary)
          w.keep(w.b.binary(op, a, b));
        for (Opcode op : kFloatUnary)
          w.keep(w.b.unary(op, a));
        w.keep(w.b.mad(a, b, c));
        w.keep(w.b.unary(Opcode::kIsNan, a));
        w.keep(w.b.unary(Opcode::kIsInf, a));
      } else {
        for (Opcode op : {Opcode::kAnd, Opcode::kOr, Opcode::kXor})
          w.keep(w.b.binary(op, a, b));
        w.keep(w.b.unary(Opcode::kNot, a));
      }
      for (Opcode op : kCompare)
        if (s != Scalar::kBool || op == Opcode::kEq || op == Opcode::kNe)
          w.keep(w.b.compare(op, a, b));
      ValueId less = w.b.compare(s == Scalar::kBool ? Opcode::kNe : Opcode::kLt, a, b);
      w.keep(w.b.select(less, b, c));
      w.keep(w.b.select(lanes > 1 ? w.b.extract(less, lanes - 1) : less, c, a));
      cases.push_back(w.finish(random));
    }
  check_cases(cases);
}

TEST_CASE("float min and max give NaN for NaN, also against constants") {
  Random random(2);
  std::vector<Case> cases;
  for (uint32_t lanes : kLanes)
    for (Scalar s : {Scalar::kF16, Scalar::kBF16, Scalar::kF32, Scalar::kF64}) {
      Sweep w("minmax", s, s, lanes);
      auto &[a, b, c] = w.x;
      for (Opcode op : {Opcode::kMin, Opcode::kMax}) {
        w.keep(w.b.binary(op, a, b));
        for (double k : {0.0, 1.0, -2.5}) {
          w.keep(w.b.binary(op, a, w.b.constant_float(w.type(), k)));
          w.keep(w.b.binary(op, w.b.constant_float(w.type(), k), a));
        }
      }
      w.c.signed_zeros = false;
      cases.push_back(w.finish(random));
    }
  check_cases(cases);
}

TEST_CASE("conversions agree with the interpreter between all types") {
  Random random(3);
  std::vector<Case> cases;
  for (uint32_t lanes : {1u, 4u, 8u, 16u})
    for (Scalar from : kAllScalars)
      for (Scalar to : kAllScalars) {
        if (lanes != 8 && !(is_float(from) && to == Scalar::kI32) && random.below(3) != 0)
          continue; // a third of the pairs, so that the test stays short
        Sweep w("convert", from, to, lanes);
        for (int k = 0; k < 3; k++) {
          w.keep(w.b.convert(Type(to, lanes), w.x[k]));
          w.keep(w.b.convert_u(Type(to, lanes), w.x[k]));
        }
        if (bit_width(from) == bit_width(to))
          w.keep(w.b.bitcast(Type(to, lanes), w.x[0]));
        cases.push_back(w.finish(random));
      }
  check_cases(cases);
}

TEST_CASE("vector ops and reductions agree with the interpreter") {
  Random random(4);
  std::vector<Case> cases;
  for (uint32_t lanes : kLanes)
    for (Scalar s : kAllScalars) {
      Sweep w("vector", s, s, lanes);
      auto &[a, b, c] = w.x;
      std::vector<int64_t> reversed, mixed;
      for (uint32_t k = 0; k < lanes; k++) {
        reversed.push_back(lanes - 1 - k);
        mixed.push_back(static_cast<int64_t>(random.below(2 * lanes)));
      }
      w.keep(w.b.shuffle(a, b, reversed));
      w.keep(w.b.shuffle(a, b, mixed));
      if (lanes > 1) {
        ValueId lane = w.b.extract(a, lanes / 2);
        w.keep(w.b.splat(lane, lanes));
        w.keep(w.b.insert(b, lane, 1));
        std::vector<int64_t> half(mixed.begin(), mixed.begin() + lanes / 2);
        ValueId h = w.b.shuffle(a, c, half);
        std::vector<int64_t> doubled;
        for (uint32_t k = 0; k < lanes; k++)
          doubled.push_back(k % lanes);
        w.keep(w.b.shuffle(h, h, doubled));
        if (s != Scalar::kBool)
          for (Opcode op : {Opcode::kReduceAdd, Opcode::kReduceMul, Opcode::kReduceMin, Opcode::kReduceMax})
            w.keep(w.b.splat(w.b.reduce(op, a), lanes));
      }
      if (is_int(s))
        w.keep(w.b.add(a, w.b.lane_iota(w.type())));
      w.c.signed_zeros = false;
      cases.push_back(w.finish(random));
    }
  check_cases(cases);
}

} // namespace ingot::aotc::test
