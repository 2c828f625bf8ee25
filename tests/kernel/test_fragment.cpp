// Fragments and copies under way: text there and back, rules, what they compute, and the same without a matrix unit.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cstring>
#include <random>

#include "aotc/kernel/builder.h"
#include "aotc/kernel/fragment.h"
#include "aotc/kernel/integer.h"
#include "aotc/kernel/interpreter.h"
#include "aotc/kernel/legalise.h"
#include "aotc/kernel/text.h"
#include "aotc/kernel/verifier.h"

using namespace ingot::aotc;
using namespace ingot::aotc::kernel;

namespace {

struct Shape {
  Scalar element = Scalar::kF16;
  bool by_rows = false; // B in memory
  int64_t a_pitch = 0, b_pitch = 0;
  int64_t signs = 0; // kUnsignedA, kUnsignedB
  int64_t depth() const { return 32 / byte_size(element); }
  int64_t unit() const { return 16 / byte_size(element); } // elements of 16 bytes
};

// Two subgroups: y[s][16][16] = 2 (x_s w_s) + row - column, x_s and w_s brought to the workgroup's memory by copies under way.
// `wait`: batches that may still be under way when they are read.
Kernel make(const Shape &s, int64_t wait = 0, bool barrier = true, FragmentShape fragment = {}) {
  Kernel k;
  k.name = "fragments";
  k.kind = Class::kSimt;
  k.fragment = fragment;
  k.local_size = {2 * fragment.threads, 1, 1};
  const uint32_t n = fragment.sums();
  Builder b(k);
  const int64_t a_count = 16 * s.a_pitch, b_lines = s.by_rows ? s.depth() : 16, b_count = b_lines * s.b_pitch;
  const Scalar sum = s.element == Scalar::kI8 ? Scalar::kI32 : Scalar::kF32;
  uint32_t x = b.add_buffer("x", Access::kRead, s.element), w = b.add_buffer("w", Access::kRead, s.element);
  uint32_t y = b.add_buffer("y", Access::kWrite, sum);
  uint32_t a = b.add_array("a", Space::kWorkgroup, s.element, static_cast<uint64_t>(2 * a_count));
  uint32_t bs = b.add_array("bs", Space::kWorkgroup, s.element, static_cast<uint64_t>(2 * b_count));
  ValueId thread = b.local_id(0), subgroup = b.div(thread, b.index(fragment.threads));
  for (auto [to, from, count] : {std::tuple(a, x, 2 * a_count), std::tuple(bs, w, 2 * b_count)}) {
    for (int64_t i = 0; i < count; i += k.local_size[0] * s.unit()) {
      ValueId at = b.add(b.mul(thread, b.index(s.unit())), b.index(i));
      b.if_then(b.lt(at, b.index(count)), [&] { b.copy_async(to, at, from, at, b.constant(Scalar::kBool, 1), static_cast<uint32_t>(s.unit())); });
    }
    b.copy_commit();
  }
  b.copy_wait(wait);
  if (barrier)
    b.barrier();
  ValueId left = b.fragment_load(a, b.mul(subgroup, b.index(a_count)), b.index(s.a_pitch), FragmentRole::kA);
  ValueId right = b.fragment_load(bs, b.mul(subgroup, b.index(b_count)), b.index(s.b_pitch), s.by_rows ? FragmentRole::kBRows : FragmentRole::kB);
  ValueId row = b.fragment_row(), column = b.fragment_column();
  for (int half = 0; half < 2; ++half) {
    ValueId sums = b.fragment_mma(s.element, left, right, half | static_cast<int>(s.signs), b.zero(Type(sum, n)));
    ValueId place = b.convert(Type(sum, n), b.sub(row, column));
    sums = b.add(b.add(sums, sums), place);
    ValueId at = b.add(b.add(b.mul(row, b.splat(b.index(16), n)), column),
                       b.splat(b.add(b.mul(subgroup, b.index(256)), b.index(8 * half)), n));
    b.scatter(y, at, sums);
  }
  return k;
}

// Small multiples of 1/4, or any bytes: every sum is exact, in any order.
struct Data {
  std::vector<uint8_t> x, w, y;
  std::vector<double> xs, ws;
  Data(const Shape &s, uint64_t seed) : y(2 * 256 * 4) {
    std::mt19937_64 random(seed);
    auto fill = [&](std::vector<uint8_t> &bytes, std::vector<double> &values, int64_t count, bool is_unsigned) {
      for (int64_t i = 0; i < count; ++i) {
        double v = static_cast<double>(static_cast<int64_t>(random() % 61) - 30) / 4;
        if (s.element == Scalar::kI8)
          v = static_cast<double>(static_cast<int64_t>(random() % 256) - (is_unsigned ? 0 : 128));
        values.push_back(v);
        float f = static_cast<float>(v);
        uint32_t bits = std::bit_cast<uint32_t>(f);
        if (s.element == Scalar::kI8)
          bits = static_cast<uint32_t>(static_cast<int32_t>(v));
        else if (s.element == Scalar::kBF16)
          bits >>= 16;
        else if (s.element == Scalar::kF16)
          bits = v == 0 ? 0 : (bits >> 16 & 0x8000) | ((bits & 0x7fffffff) - (112u << 23)) >> 13;
        else
          bits |= 0x1fff; // tf32 does not see these
        for (uint32_t k = 0; k < byte_size(s.element); ++k)
          bytes.push_back(static_cast<uint8_t>(bits >> 8 * k));
      }
    };
    fill(x, xs, 2 * 16 * s.a_pitch, s.signs & kUnsignedA);
    fill(w, ws, 2 * (s.by_rows ? s.depth() : 16) * s.b_pitch, s.signs & kUnsignedB);
  }
  RunResult run(const Kernel &k) {
    Binding bindings[] = {{x.data(), x.size()}, {w.data(), w.size()}, {y.data(), y.size()}};
    return interpret(k, bindings, {});
  }
  std::string wrong(const Shape &s) const {
    for (int64_t g = 0; g < 2; ++g)
      for (int64_t i = 0; i < 16; ++i)
        for (int64_t j = 0; j < 16; ++j) {
          double sum = 0, got = 0;
          for (int64_t k = 0; k < s.depth(); ++k)
            sum += xs[static_cast<size_t>((g * 16 + i) * s.a_pitch + k)] *
                   ws[static_cast<size_t>(s.by_rows ? (g * s.depth() + k) * s.b_pitch + j : (g * 16 + j) * s.b_pitch + k)];
          double wanted = 2 * sum + static_cast<double>(i - j % 8);
          const uint8_t *at = &y[static_cast<size_t>((g * 256 + i * 16 + j) * 4)];
          if (s.element == Scalar::kI8) {
            int32_t v;
            std::memcpy(&v, at, 4);
            got = v;
          } else {
            float v;
            std::memcpy(&v, at, 4);
            got = v;
          }
          if (got != wanted)
            return std::to_string(g) + " " + std::to_string(i) + " " + std::to_string(j) + ": " + std::to_string(got) + ", not " + std::to_string(wanted);
        }
    return "";
  }
};

std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (Scalar element : {Scalar::kF16, Scalar::kBF16, Scalar::kF32, Scalar::kI8})
    for (bool by_rows : {false, true})
      for (int64_t more : {0, 1, 3}) {
        if (by_rows && byte_size(element) != 2)
          continue;
        Shape s{element, by_rows};
        s.a_pitch = s.depth() + more * s.unit();
        s.b_pitch = (by_rows ? 16 : s.depth()) + (2 - more % 2) * s.unit();
        all.push_back(s);
        for (int64_t signs : {kUnsignedA, kUnsignedB, kUnsignedA | kUnsignedB})
          if (element == Scalar::kI8) {
            s.signs = signs;
            all.push_back(s);
          }
      }
  return all;
}

std::string illegal_by(const std::function<void(Kernel &)> &change) {
  Shape s;
  s.a_pitch = s.b_pitch = 16;
  Kernel k = make(s);
  REQUIRE(verify(k) == "");
  change(k);
  return verify(k);
}
Op &first(Kernel &k, Opcode code) {
  for (Op &op : k.body.ops) {
    if (op.code == code)
      return op;
    for (Region &part : op.regions)
      for (Op &inner : part.ops)
        if (inner.code == code)
          return inner;
  }
  throw 1;
}

} // namespace

TEST_CASE("fragments compute products, with rows and columns known") {
  uint64_t seed = 1;
  for (const Shape &s : shapes()) {
    Kernel k = make(s);
    INFO(print(k));
    REQUIRE(verify_for(k, TargetRecord::cuda_sm80()) == "");
    Data data(s, ++seed);
    RunResult result = data.run(k);
    CHECK(result.message == "");
    CHECK(data.wrong(s) == "");
    Kernel back;
    CHECK(parse(print(k), back) == "");
    CHECK(print(back) == print(k));
  }
}

TEST_CASE("fragments without a matrix unit") {
  TargetRecord plain = TargetRecord::cuda_sm80();
  plain.fragment_f16 = plain.fragment_bf16 = plain.fragment_tf32 = plain.fragment_i8 = plain.async_copy = false;
  TargetRecord small = plain; // nothing but 32 bits
  small.i8 = small.i16 = small.i64 = small.f16 = small.bf16 = false;
  small.storage_8 = small.storage_16 = small.bool_storage = false;
  uint64_t seed = 100;
  for (const TargetRecord &target : {plain, small})
    for (const Shape &s : shapes()) {
      Kernel k = make(s);
      CHECK(verify_for(k, target) != "");
      REQUIRE(legalise(k, target) == "");
      CHECK(!uses(k.body, Opcode::kFragmentMma));
      CHECK(!uses(k.body, Opcode::kCopyWait));
      INFO(print(k).substr(0, 4000));
      Data data(s, ++seed);
      RunResult result = data.run(k);
      CHECK(result.message == "");
      CHECK(data.wrong(s) == "");
    }
  Shape s;
  s.a_pitch = s.b_pitch = 16;
  Kernel k = make(s);
  CHECK(verify_for(k, plain).find("the target has no copies under way") != std::string::npos);
  plain.subgroup_size = 0;
  CHECK(legalise(k, plain).find("fragments that the target has not") != std::string::npos);
  TargetRecord other = TargetRecord::cuda_sm80();
  other.fragment_f16 = false;
  CHECK(verify_for(make(s), other).find("no matrix unit for these elements") != std::string::npos);
}

// What targets have beside the shape of mma.sync.
constexpr FragmentShape kOtherShapes[] = {{32, 8, 4}, {32, 4, 4}, {64, 2, 2}};

TEST_CASE("fragments of other shapes") {
  uint64_t seed = 300;
  for (const FragmentShape &shape : kOtherShapes) {
    TargetRecord target = TargetRecord::cuda_sm80();
    target.subgroup_size = shape.threads;
    target.fragment = shape;
    for (const Shape &s : shapes()) {
      Kernel k = make(s, 0, true, shape);
      INFO(print(k));
      REQUIRE(verify_for(k, target) == "");
      CHECK(verify_for(k, TargetRecord::cuda_sm80()).find("fragments of another shape than the target's") != std::string::npos);
      Data data(s, ++seed);
      CHECK(data.run(k).message == "");
      CHECK(data.wrong(s) == "");
      Kernel back, legal = k, foreign = k;
      CHECK(parse(print(k), back) == "");
      CHECK(back.fragment == shape);
      CHECK(print(back) == print(k));
      REQUIRE(legalise(legal, target) == "");
      CHECK(uses(legal.body, Opcode::kFragmentMma));
      CHECK(legal.fragment == shape);
      CHECK(legalise(foreign, TargetRecord::cuda_sm80()).find("or of another shape") != std::string::npos);
    }
  }
  Shape s;
  s.a_pitch = s.b_pitch = 16;
  for (const FragmentShape &none : {FragmentShape{16, 8, 2}, FragmentShape{32, 2, 2}, FragmentShape{32, 4, 3}, FragmentShape{64, 2, 4}, FragmentShape{64, 3, 2}}) {
    Kernel k = make(s);
    k.fragment = none;
    CHECK(verify(k).find("fragments of a shape that is none") != std::string::npos);
  }
  Kernel mixed = make(s);
  mixed.fragment = {64, 2, 2}; // its values are of 32 threads
  CHECK(verify(mixed) != "");
}

// One subgroup: what lies in x [16][16] as sums, packed and multiplied with a unit matrix: y[0][16][16]; the rows' sums and maxima
// over columns 0..7, in each element: y[1], y[2], [16][8].
static Kernel packs(Scalar element, FragmentShape fragment = {}) {
  Kernel k;
  k.name = "packs";
  k.kind = Class::kSimt;
  k.fragment = fragment;
  k.local_size = {fragment.threads, 1, 1};
  const uint32_t n = fragment.sums();
  Builder b(k);
  uint32_t x = b.add_buffer("x", Access::kRead, Scalar::kF32), unit = b.add_buffer("unit", Access::kRead, element);
  uint32_t y = b.add_buffer("y", Access::kWrite, Scalar::kF32), shared = b.add_array("shared", Space::kWorkgroup, element, 256);
  ValueId own_line = b.mul(b.local_id(0), b.index(8));
  b.if_then(b.lt(own_line, b.index(256)), [&] { b.copy_async(shared, own_line, unit, own_line, b.constant(Scalar::kBool, 1), 8); });
  b.copy_commit();
  b.copy_wait(0);
  b.barrier();
  ValueId row = b.fragment_row(), column = b.fragment_column(), at = b.add(b.mul(row, b.splat(b.index(16), n)), column);
  ValueId left = b.gather(x, at), right = b.gather(x, b.add(at, b.splat(b.index(8), n)));
  ValueId packed = b.fragment_pack(element, left, right);
  ValueId units = b.fragment_load(shared, b.index(0), b.index(16), FragmentRole::kB);
  for (int half = 0; half < 2; ++half)
    b.scatter(y, b.add(at, b.splat(b.index(8 * half), n)), b.fragment_mma(element, packed, units, half, b.zero(Type(Scalar::kF32, n))));
  ValueId own = b.add(b.mul(row, b.splat(b.index(8), n)), column);
  b.scatter(y, b.add(own, b.splat(b.index(256), n)), b.fragment_rows(Opcode::kFragmentRowAdd, left));
  b.scatter(y, b.add(own, b.splat(b.index(384), n)), b.fragment_rows(Opcode::kFragmentRowMax, left));
  return k;
}

TEST_CASE("sums become factors, rows of sums are added and compared") {
  TargetRecord plain = TargetRecord::cuda_sm80();
  plain.fragment_f16 = plain.fragment_bf16 = plain.async_copy = false;
  for (Scalar element : {Scalar::kF16, Scalar::kBF16}) {
    Kernel k = packs(element);
    INFO(print(k));
    REQUIRE(verify_for(k, TargetRecord::cuda_sm80()) == "");
    Kernel back, expanded = k;
    CHECK(parse(print(k), back) == "");
    CHECK(print(back) == print(k));
    REQUIRE(legalise(expanded, plain) == "");
    CHECK(!uses(expanded.body, Opcode::kFragmentPack));
    CHECK(!uses(expanded.body, Opcode::kFragmentRowMax));
    std::mt19937 random(3);
    std::vector<float> x(256);
    for (float &v : x)
      v = static_cast<float>(static_cast<int>(random() % 20001) - 10000) / 977.0F;
    std::vector<uint16_t> unit(256);
    for (size_t i = 0; i < 16; ++i)
      unit[i * 17] = element == Scalar::kF16 ? float_to_half(1) : float_to_bfloat(1);
    std::vector<Kernel> kernels = {k, expanded};
    for (const FragmentShape &shape : kOtherShapes)
      kernels.push_back(packs(element, shape));
    for (const Kernel &kernel : kernels) {
      std::vector<float> y(512, -1);
      Binding bindings[] = {{reinterpret_cast<uint8_t *>(x.data()), 1024}, {reinterpret_cast<uint8_t *>(unit.data()), 512},
                            {reinterpret_cast<uint8_t *>(y.data()), 2048}};
      CHECK(interpret(kernel, bindings, {}).message == "");
      for (size_t i = 0; i < 256; ++i)
        CHECK(y[i] == static_cast<float>(round_to(element, x[i])));
      for (size_t row = 0; row < 16; ++row) {
        const float *r = &x[row * 16];
        const float sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7])), most = *std::max_element(r, r + 8);
        for (size_t c = 0; c < 8; ++c) {
          CHECK(y[256 + row * 8 + c] == sum);
          CHECK(y[384 + row * 8 + c] == most);
        }
      }
    }
  }
}

// One subgroup: what lies in x [16][8] as sums becomes a factor, times w [8][16 of `pitch`]: y [16][16].
static Kernel pairs(int64_t pitch) {
  Kernel k;
  k.name = "pairs";
  k.kind = Class::kSimt;
  k.local_size = {32, 1, 1};
  Builder b(k);
  uint32_t x = b.add_buffer("x", Access::kRead, Scalar::kF32), w = b.add_buffer("w", Access::kRead, Scalar::kF32);
  uint32_t y = b.add_buffer("y", Access::kWrite, Scalar::kF32), shared = b.add_array("shared", Space::kWorkgroup, Scalar::kF32, static_cast<uint64_t>(8 * pitch));
  b.for_loop(b.local_id(0), b.index(8 * pitch), b.index(32), {}, [&](ValueId i, const Values &) {
    b.store(shared, i, b.load(w, i));
    return Values{};
  });
  b.barrier();
  ValueId row = b.fragment_row(), column = b.fragment_column();
  ValueId packed = b.fragment_pack(Scalar::kF32, b.gather(x, b.add(b.mul(row, b.splat(b.index(8), 4)), column)));
  ValueId right = b.fragment_load(shared, b.index(0), b.index(pitch), FragmentRole::kBPairs);
  for (int half = 0; half < 2; ++half)
    b.scatter(y, b.add(b.add(b.mul(row, b.splat(b.index(16), 4)), column), b.splat(b.index(8 * half), 4)),
              b.fragment_mma(Scalar::kF32, packed, right, half, b.zero(Type(Scalar::kF32, 4))));
  return k;
}

TEST_CASE("sums of f32 become factors, their columns in pairs as B's rows") {
  TargetRecord plain = TargetRecord::cuda_sm80();
  plain.fragment_tf32 = false;
  std::mt19937 random(4);
  for (int64_t pitch : {16, 20, 36}) {
    std::vector<float> x(128), w(static_cast<size_t>(8 * pitch));
    for (auto *all : {&x, &w})
      for (float &v : *all)
        v = static_cast<float>(static_cast<int>(random() % 61) - 30) / 4; // every sum is exact, in any order
    Kernel k = pairs(pitch), expanded = k, back;
    INFO(print(k));
    REQUIRE(verify_for(k, TargetRecord::cuda_sm80()) == "");
    CHECK(verify_for(k, plain).find("no matrix unit for these elements") != std::string::npos);
    CHECK(parse(print(k), back) == "");
    CHECK(print(back) == print(k));
    REQUIRE(legalise(expanded, plain) == "");
    CHECK(!uses(expanded.body, Opcode::kFragmentPack));
    CHECK(!uses(expanded.body, Opcode::kFragmentLoad));
    for (const Kernel &kernel : {k, expanded}) {
      std::vector<float> y(256, -1);
      Binding bindings[] = {{reinterpret_cast<uint8_t *>(x.data()), 512}, {reinterpret_cast<uint8_t *>(w.data()), w.size() * 4}, {reinterpret_cast<uint8_t *>(y.data()), 1024}};
      CHECK(interpret(kernel, bindings, {}).message == "");
      bool same = true;
      for (size_t i = 0; i < 16; ++i)
        for (size_t j = 0; j < 16; ++j) {
          float sum = 0;
          for (size_t c = 0; c < 8; ++c)
            sum += x[i * 8 + c] * w[c * static_cast<size_t>(pitch) + j];
          same = same && y[i * 16 + j] == sum;
        }
      CHECK(same);
    }
  }
}

TEST_CASE("copies under way arrive when they are waited for") {
  Shape s;
  s.a_pitch = s.b_pitch = 16;
  Data early(s, 5), alone(s, 5);
  RunResult result = early.run(make(s, /*wait=*/1)); // the second batch is not there yet
  CHECK(result.message == "");
  CHECK(early.wrong(s) != "");
  result = alone.run(make(s, 0, /*barrier=*/false)); // there, for the thread that waited
  CHECK(result.message.find("race") != std::string::npos);
}

static void says(const std::string &message, const char *reason) {
  INFO(message);
  CHECK(message.find(reason) != std::string::npos);
}

TEST_CASE("rules of fragments and copies") {
  says(illegal_by([](Kernel &k) { k.local_size = {48, 1, 1}; }), "whole subgroups");
  says(illegal_by([](Kernel &k) { first(k, Opcode::kFragmentLoad).align = 4; }), "its alignment is not 16 bytes");
  says(illegal_by([](Kernel &k) { first(k, Opcode::kFragmentLoad).memory = 0; }), "an array of the workgroup");
  says(illegal_by([](Kernel &k) { first(k, Opcode::kFragmentLoad).imm = 4; }), "no such role");
  says(illegal_by([](Kernel &k) { first(k, Opcode::kFragmentLoad).imm = static_cast<int64_t>(FragmentRole::kBPairs); }), "only f32 is loaded by pairs");
  says(illegal_by([](Kernel &k) { first(k, Opcode::kFragmentMma).imm2 = 2; }), "no such half");
  Shape bytes{Scalar::kI8, false, 32, 32, 8};
  says(verify(make(bytes)), "no such half");
  says(illegal_by([](Kernel &k) { first(k, Opcode::kFragmentMma).imm = static_cast<int64_t>(Scalar::kI8); }), "the sums are not");
  says(illegal_by([](Kernel &k) { first(k, Opcode::kFragmentMma).imm = static_cast<int64_t>(Scalar::kI16); }), "the elements are not");
  auto packed = [](const std::function<void(Op &)> &change) {
    Kernel k = packs(Scalar::kF16);
    REQUIRE(verify(k) == "");
    change(first(k, Opcode::kFragmentPack));
    return verify(k);
  };
  says(packed([](Op &op) { op.imm = static_cast<int64_t>(Scalar::kI8); }), "the elements are not f16, bf16 or f32");
  says(packed([](Op &op) { op.imm = static_cast<int64_t>(Scalar::kF32); }), "operands");
  says(packed([](Op &op) { op.operands.pop_back(); }), "operands");
  says(illegal_by([](Kernel &k) { first(k, Opcode::kCopyAsync).imm = 3; }), "it copies 4, 8 or 16 bytes");
  says(illegal_by([](Kernel &k) { first(k, Opcode::kCopyAsync).align = 4; }), "its alignment is that of what it copies");
  says(illegal_by([](Kernel &k) { first(k, Opcode::kCopyAsync).imm2 = 2; }), "from a buffer that is only read");
  says(illegal_by([](Kernel &k) { first(k, Opcode::kCopyWait).imm = 16; }), "more than 15 batches");
  Kernel k;
  REQUIRE(parse("kernel @k simt local 32 1 1 {\n  array @a workgroup f16 256 align 64\n  %0 = local_id 0 : index\n  %1 = const 16 : index\n"
                "  %2 = lt %0, %1 : bool\n  if %2 {\n    %3 = fragment_load a, @a[%0], %1 align 8 : i32x4\n  }\n}\n", k) == "");
  says(verify(k), "a subgroup op in control flow that is not uniform");
}

TEST_CASE("a fragment's place is the subgroup's") {
  Kernel k;
  REQUIRE(parse("kernel @k simt local 32 1 1 {\n  array @a workgroup f16 1024 align 64\n  %0 = local_id 0 : index\n  %1 = const 16 : index\n"
                "  %2 = mul %0, %1 : index\n  %3 = fragment_load a, @a[%2], %1 align 8 : i32x4\n}\n", k) == "");
  REQUIRE(verify(k) == "");
  CHECK(interpret(k, {}, {}).message.find("differs within the subgroup") != std::string::npos);
}

// ---- Warpgroups

namespace {

struct GroupShape {
  int64_t columns = 32, steps = 4, k = 0; // a multiple of 8; of 16 elements; the first
  uint32_t groups = 1;
};

// y[g][64][columns] = 1 + x_g w_g over the steps' part of lines of 64, both brought to the places that kWarpgroupMma reads.
Kernel make(const GroupShape &s) {
  Kernel k;
  k.name = "warpgroups";
  k.kind = Class::kSimt;
  k.local_size = {kWarpgroup * s.groups, 1, 1};
  Builder b(k);
  const int64_t threads = k.local_size[0], a_count = s.groups * int64_t{64} * kWarpgroupLine, b_count = s.groups * s.columns * kWarpgroupLine;
  uint32_t x = b.add_buffer("x", Access::kRead, Scalar::kF16), w = b.add_buffer("w", Access::kRead, Scalar::kF16);
  uint32_t y = b.add_buffer("y", Access::kWrite, Scalar::kF32);
  uint32_t a = b.add_array("a", Space::kWorkgroup, Scalar::kF16, static_cast<uint64_t>(a_count), 1024);
  uint32_t bs = b.add_array("bs", Space::kWorkgroup, Scalar::kF16, static_cast<uint64_t>(b_count), 1024);
  ValueId thread = b.local_id(0), group = b.div(thread, b.index(kWarpgroup));
  for (auto [to, from, count] : {std::tuple(a, x, a_count), std::tuple(bs, w, b_count)})
    for (int64_t i = 0; i < count; i += threads * 8) {
      ValueId at = b.add(b.mul(thread, b.index(8)), b.index(i)), line = b.div(at, b.index(64)), eight = b.rem(b.div(at, b.index(8)), b.index(8));
      ValueId place = b.add(b.mul(line, b.index(64)), b.mul(b.binary(Opcode::kXor, eight, b.rem(line, b.index(8))), b.index(8)));
      b.if_then(b.lt(at, b.index(count)), [&] { b.copy_async(to, place, from, at, b.constant(Scalar::kBool, 1), 8); });
    }
  b.copy_commit();
  b.copy_wait(0);
  b.barrier();
  Values sums(static_cast<size_t>(s.columns / 8), b.splat(b.constant_float(Scalar::kF32, 1), 4));
  sums = b.warpgroup_mma(a, b.mul(group, b.index(64 * kWarpgroupLine)), bs, b.mul(group, b.index(s.columns * kWarpgroupLine)), b.index(s.k), s.steps, sums);
  sums = b.warpgroup_wait(sums);
  ValueId row = b.add(b.fragment_row(), b.splat(b.mul(b.div(thread, b.index(32)), b.index(16)), 4)), column = b.fragment_column();
  for (size_t f = 0; f < sums.size(); ++f)
    b.scatter(y, b.add(b.mul(row, b.splat(b.index(s.columns), 4)), b.add(column, b.splat(b.index(static_cast<int64_t>(8 * f)), 4))), sums[f]);
  return k;
}

} // namespace

TEST_CASE("warpgroups compute products, with rows and columns known") {
  std::mt19937_64 random(3);
  for (const GroupShape &s : {GroupShape{}, GroupShape{8, 1, 48, 2}, GroupShape{40, 2, 16, 1}, GroupShape{256, 4, 0, 1}, GroupShape{16, 3, 16, 3}}) {
    Kernel k = make(s);
    INFO(print(k).substr(0, 4000));
    REQUIRE(verify(k) == "");
    REQUIRE(verify_for(k, TargetRecord::cuda_sm90a()) == "");
    CHECK(verify_for(k, TargetRecord::cuda_sm80()).find("no matrix units of warpgroups") != std::string::npos);
    Kernel back;
    CHECK(parse(print(k), back) == "");
    CHECK(print(back) == print(k));
    auto halves = [&](size_t count) {
      std::vector<uint16_t> out;
      for (size_t i = 0; i < count; ++i)
        out.push_back(float_to_half(static_cast<float>(static_cast<int64_t>(random() % 61) - 30) / 4));
      return out;
    };
    const auto rows = static_cast<size_t>(64 * s.groups), columns = static_cast<size_t>(s.columns);
    std::vector<uint16_t> x = halves(rows * 64), w = halves(s.groups * columns * 64);
    std::vector<float> y(rows * columns, -1);
    const RunResult result = interpret(k, std::vector<Binding>{{x.data(), 2 * x.size()}, {w.data(), 2 * w.size()}, {y.data(), 4 * y.size()}}, {});
    REQUIRE(result.message == "");
    size_t wrong = 0;
    for (size_t r = 0; r < rows; ++r)
      for (size_t c = 0; c < columns; ++c) {
        double sum = 1;
        for (int64_t i = s.k; i < s.k + 16 * s.steps; ++i)
          sum += static_cast<double>(half_to_float(x[r * 64 + static_cast<size_t>(i)])) * half_to_float(w[(r / 64 * columns + c) * 64 + static_cast<size_t>(i)]);
        wrong += y[r * columns + c] != sum;
      }
    CHECK(wrong == 0);
  }
  Kernel k = make(GroupShape{});
  CHECK(legalise(k, TargetRecord::cuda_sm80()).find("matrix units of warpgroups") != std::string::npos);
}

TEST_CASE("rules of warpgroups") {
  auto broken = [](const std::function<void(Kernel &)> &by) {
    Kernel k = make(GroupShape{});
    by(k);
    return verify(k);
  };
  says(broken([](Kernel &k) { k.local_size = {160, 1, 1}; }), "that have whole ones");
  says(broken([](Kernel &k) { first(k, Opcode::kWarpgroupMma).imm = 5; }), "its steps are not in 1 to 4");
  says(broken([](Kernel &k) { first(k, Opcode::kWarpgroupMma).memory = 0; }), "arrays of the workgroup");
  says(broken([](Kernel &k) { k.memories[3].align = 512; }), "aligned to 1,024 bytes");
  says(broken([](Kernel &k) { first(k, Opcode::kWarpgroupMma).results.pop_back(); }), "differ in number");
  says(broken([](Kernel &k) { first(k, Opcode::kWarpgroupWait).operands.pop_back(); }), "differ in number");
  says(broken([](Kernel &k) { first(k, Opcode::kWarpgroupWait).imm = 8; }), "more than 7 products");
  says(broken([](Kernel &k) { first(k, Opcode::kWarpgroupWait).imm = 1; }), "a sum is under way");
  says(broken([](Kernel &k) { // the wait left out
         Values from = first(k, Opcode::kWarpgroupWait).results, to = first(k, Opcode::kWarpgroupMma).results;
         std::erase_if(k.body.ops, [](const Op &o) { return o.code == Opcode::kWarpgroupWait; });
         for (Op &o : k.body.ops)
           for (ValueId &id : o.operands)
             if (auto found = std::find(from.begin(), from.end(), id); found != from.end())
               id = to[static_cast<size_t>(found - from.begin())];
       }),
       "a sum is under way");
  says(broken([](Kernel &k) { // two waits for one product
         Op &wait = first(k, Opcode::kWarpgroupWait);
         wait.operands[1] = wait.operands[0];
       }),
       "taken twice");
  // Through a loop they may go, but not be looked at in it.
  for (bool looks : {false, true}) {
    Kernel k = make(GroupShape{8, 1, 0, 1});
    k.body.ops.clear();
    Builder b(k);
    ValueId zero = b.index(0), index = b.mul(b.div(b.local_id(0), b.index(kWarpgroup)), b.index(512));
    Values sums = b.for_loop(zero, b.index(4), b.index(1), {b.zero(Type(Scalar::kF32, 4))}, [&](ValueId, const Values &carried) {
      if (looks)
        b.store(2, zero, b.extract(carried[0], 0));
      return b.warpgroup_wait(b.warpgroup_mma(3, index, 4, index, zero, 4, carried), 1);
    });
    b.store(2, zero, b.extract(b.warpgroup_wait(sums)[0], 0));
    if (looks)
      says(verify(k), "a sum is under way");
    else
      CHECK(verify(k) == "");
  }
  auto ran = [](const std::function<void(Kernel &)> &by) {
    Kernel k = make(GroupShape{});
    by(k);
    std::vector<uint16_t> x(64 * 64), w(32 * 64);
    std::vector<float> y(64 * 32);
    return interpret(k, std::vector<Binding>{{x.data(), 2 * x.size()}, {w.data(), 2 * w.size()}, {y.data(), 4 * y.size()}}, {}).message;
  };
  CHECK(ran([](Kernel &) {}) == "");
  says(ran([](Kernel &k) { Op &o = first(k, Opcode::kWarpgroupMma); o.operands[2] = o.operands[1] = first(k, Opcode::kLocalId).results[0]; }), "differ within the warpgroup");
}
