// The verifier: each rule has a kernel that breaks it, and nothing else, and its message is pinned.
#include <catch2/catch.hpp>

#include <functional>

#include "aotc/kernel/builder.h"
#include "aotc/kernel/text.h"
#include "aotc/kernel/verifier.h"

using namespace ingot::aotc;
using namespace ingot::aotc::kernel;

namespace {

const char *kHead = R"(kernel @k simt local 4 1 1 {
  param @n index range 0 10
  param @f f32
  buffer @r read f32 align 64
  buffer @w write f32 align 64
  buffer @b read_write i32 align 64
  array @s workgroup i32 16 align 16
  array @p private f32 8 align 16
  %0 = const 0 : index
  %1 = const 1 : index
  %2 = param 0 : index
  %3 = param 1 : f32
  %4 = const 1 : bool
  %5 = const 7 : i32
  %6 = const 0.5 : f32x4
  %7 = local_id 0 : index
  %8 = const 3 : i32x4
  %9 = lt %7, %1 : bool
)";

Kernel base(const std::string &body = "") {
  Kernel k;
  std::string problem = parse(kHead + body + "\n}", k);
  INFO(problem);
  REQUIRE(problem.empty());
  return k;
}

// `body` makes the kernel illegal for the reason given.
void illegal(const std::string &body, const std::string &reason) {
  std::string message = verify(base(body));
  INFO(body << "\n" << message);
  CHECK(message.find("kernel k: " + reason) == 0);
}

void broken(const std::function<void(Kernel &)> &change, const std::string &reason) {
  Kernel k = base("%10 = add %5, %5 : i32\n%13 = for %11 = %0 to %2 step %1 carry %12 = %5 : i32 {\nyield %12\n}\n");
  REQUIRE(verify(k) == "");
  change(k);
  std::string message = verify(k);
  INFO(message);
  CHECK(message.find(reason) != std::string::npos);
}

} // namespace

TEST_CASE("the kernel that the others break is legal") { CHECK(verify(base()) == ""); }

TEST_CASE("headers") {
  broken([](Kernel &k) { k.name = "2x"; }, "its name is not an identifier");
  broken([](Kernel &k) { k.local_size[1] = 0; }, "a local size outside 1 to 1024");
  broken([](Kernel &k) { k.local_size = {64, 64, 1}; }, "more than 1024 threads a workgroup");
  broken([](Kernel &k) { k.kind = Class::kSimd; }, "only simt kernels have more than one thread");
  broken([](Kernel &k) { k.kind = Class::kSimd, k.local_size = {1, 1, 1}; }, "a workgroup array outside a simt kernel");
  broken([](Kernel &k) { k.params[0].name = "f"; }, "param name 'f' is not an identifier, or not unique");
  broken([](Kernel &k) { k.params[0].type = Scalar::kF64; }, "a param is not of type index, i32, i64 or f32");
  broken([](Kernel &k) { k.params[0].min = 11; }, "a param's range is empty");
  broken([](Kernel &k) { k.memories[1].name = "r"; }, "memory name 'r' is not an identifier, or not unique");
  broken([](Kernel &k) { std::swap(k.memories[2], k.memories[3]); }, "a buffer after an array");
  broken([](Kernel &k) { k.memories[0].type = Scalar::kIndex; }, "a memory of type index (@r)");
  broken([](Kernel &k) { k.memories[0].count = 3; }, "a buffer with a count, or an array without one (@r)");
  broken([](Kernel &k) { k.memories[3].count = 0; }, "a buffer with a count, or an array without one (@s)");
  broken([](Kernel &k) { k.memories[3].count = uint64_t{1} << 31; }, "2^31 elements or more (@s)");
  broken([](Kernel &k) { k.memories[0].align = 24; }, "an alignment that is no power of two (@r)");
  broken([](Kernel &k) { k.memories[0].align = 2; }, "an alignment below the element's size (@r)");
  broken([](Kernel &k) { k.memories[3].access = Access::kRead; }, "an array that is not read_write (@s)");
  broken([](Kernel &k) { k.memories[1].constant = true; }, "a constant that is no buffer, or that is written (@w)");
  broken([](Kernel &k) { k.memories[3].constant = true; }, "a constant that is no buffer, or that is written (@s)");
  broken([](Kernel &k) { k.types[0].lanes = 1025; }, "a value of no lanes or more than 1024");
}

TEST_CASE("structure") {
  auto add = [](Kernel &k) -> Op & { return k.body.ops[k.body.ops.size() - 2]; };
  auto loop = [](Kernel &k) -> Op & { return k.body.ops.back(); };
  broken([&](Kernel &k) { k.body.params = {0}; }, "the body has params");
  broken([&](Kernel &k) { add(k).operands[0] = 10000; }, "an operand that does not exist");
  broken([&](Kernel &k) { add(k).operands[0] = loop(k).results[0]; }, "an operand that is not defined here");
  broken([&](Kernel &k) { add(k).operands[0] = loop(k).regions[0].params[1]; }, "an operand that is not defined here");
  broken([&](Kernel &k) { add(k).results[0] = 5; }, "a value is defined twice");
  broken([&](Kernel &k) { add(k).results[0] = 10000; }, "a result without a type");
  broken([&](Kernel &k) { add(k).operands.push_back(5); }, "it takes 2 operands");
  broken([&](Kernel &k) { add(k).results.clear(); }, "it has 1 results");
  broken([&](Kernel &k) { add(k).contract = true; }, "only float add, sub and mul can be contracted");
  broken([&](Kernel &k) { add(k).unroll = 2; }, "only a loop can be unrolled");
  broken([&](Kernel &k) { add(k).imms = {1}; }, "a lane list on another op than shuffle");
  broken([&](Kernel &k) { add(k).fimm = 1; }, "a float immediate on another op than const");
  broken([&](Kernel &k) { add(k).imm = 1; }, "an immediate that the op does not use");
  broken([&](Kernel &k) { add(k).imm2 = 1; }, "a second immediate that the op does not use");
  broken([&](Kernel &k) { add(k).memory = 1; }, "a memory on an op that accesses none");
  broken([&](Kernel &k) { add(k).regions.emplace_back(); }, "regions on an op that has none");
  broken([&](Kernel &k) { add(k).code = static_cast<Opcode>(250); }, "no such op");
  broken([&](Kernel &k) { loop(k).regions[0].ops.clear(); }, "a region that does not end in a yield");
  broken([&](Kernel &k) { k.body.ops.push_back(loop(k).regions[0].ops[0]); }, "a yield that does not end a region");
  broken([&](Kernel &k) { loop(k).regions[0].params.pop_back(), loop(k).regions[0].ops[0].operands.clear(); },
         "a region has another number of params");
  broken([&](Kernel &k) { k.types[loop(k).regions[0].params[1]] = Scalar::kI64; }, "a region param's type differs");
  broken([&](Kernel &k) { loop(k).regions[0].ops[0].operands = {3}; }, "what the body yields does not match");
  broken([&](Kernel &k) { k.types[loop(k).results[0]] = Scalar::kF32; }, "the results' types are not those of the carried");
  broken([&](Kernel &k) { loop(k).operands[2] = 5; }, "the bounds and the step are not integers of one type");
  broken([&](Kernel &k) { loop(k).regions.emplace_back(); }, "a loop has bounds, a step and one region");
  Kernel deep;
  deep.name = "deep";
  Builder b(deep);
  ValueId yes = b.constant(Scalar::kBool, 1);
  std::function<void(int)> nest = [&](int depth) {
    if (depth > 0)
      b.if_then(yes, [&] { nest(depth - 1); });
  };
  nest(80);
  CHECK(verify(deep).find("regions are nested too deeply") != std::string::npos);
}

TEST_CASE("types of ops") {
  illegal("%10 = const 2 : bool", "a constant that its type cannot represent");
  illegal("%10 = const 300 : i8", "a constant that its type cannot represent");
  illegal("%10 = const 0.1 : f32", "a constant that its type cannot represent");
  illegal("%10 = param 2 : index", "no such param");
  illegal("%10 = param 0 : i32", "its type is not the param's");
  illegal("%10 = group_id 3 : index", "a dimension outside 0 to 2");
  illegal("%10 = group_id 0 : i32", "its type is not index");
  illegal("%10 = lane_iota : f32x4", "it takes integers");
  illegal("%10 = add %5, %1 : i32", "an operand's type is not the result's");
  illegal("%10 = add %4, %4 : bool", "it takes no bools");
  illegal("%10 = div_u %3, %3 : f32", "it takes integers");
  illegal("%10 = shl %3, %3 : f32", "it takes integers");
  illegal("%10 = xor %3, %3 : f32", "it takes integers or bools");
  illegal("%10 = neg %4 : bool", "it takes no bools");
  illegal("%10 = not %3 : f32", "it takes integers or bools");
  illegal("%10 = fma %5, %5, %5 : i32", "it takes floats");
  illegal("%10 = sqrt %5 : i32", "it takes floats");
  illegal("%10 = exp %5 : i32", "it takes floats");
  illegal("%10 = pow %5, %5 : i32", "it takes floats");
  illegal("%10 = is_nan %5 : bool", "it takes a float");
  illegal("%10 = is_nan %6 : bool", "its type is not bool with the operand's lanes");
  illegal("%10 = lt %5, %1 : bool", "the operands' types differ");
  illegal("%10 = lt %8, %8 : bool", "its type is not bool with the operands' lanes");
  illegal("%10 = lt %4, %4 : bool", "it takes no bools");
  illegal("%10 = lt_u %3, %3 : bool", "it takes integers");
  illegal("%10 = select %5, %3, %3 : f32", "the condition is not a bool, or has other lanes");
  illegal("%10 = select %4, %3, %5 : f32", "an operand's type is not the result's");
  illegal("%10 = convert %6 : i32", "a conversion changes the lanes");
  illegal("%10 = bitcast %3 : i64", "a bitcast changes the lanes or their bits");
  illegal("%10 = bitcast %0 : i64", "a bitcast of index");
  illegal("%10 = splat %6 : f32x8", "it takes a scalar of the result's type");
  illegal("%10 = extract %6, 4 : f32", "no such lane");
  illegal("%10 = extract %6, 1 : i32", "its type is not the vector's scalar");
  illegal("%10 = insert %6, %3, -1 : f32x4", "no such lane");
  illegal("%10 = insert %6, %5, 1 : f32x4", "the types of vector, scalar and result differ");
  illegal("%10 = shuffle %6, %6 [0 8] : f32x2", "no such lane");
  illegal("%10 = shuffle %6, %6 [0 1] : f32x3", "the operands' types differ, or the result has other lanes");
  illegal("%10 = reduce_add %6 : i32", "its type is not the vector's scalar");
  illegal("%10 = shuffle %6, %6 [0 1 2] : f32x3\n%11 = reduce_add %10 : f32", "the lanes are no power of two");
  illegal("%10 = if %5 : f32 {\nyield %3\n} else {\nyield %3\n}", "the condition is not a bool");
  illegal("%10 = if %4 : f32 {\nyield %3\n} else {\nyield %5\n}", "what a side yields does not match");
  illegal("%10 = while carry %11 = %3 : f32 {\nyield %5, %11\n} do %12 {\nyield %12\n}", "what the condition yields");
  illegal("error %5, 1, 1", "the condition is not a bool");
  illegal("error %4, 0, 1", "a code outside 1 to 2^31 - 1");
  illegal("error %4, 1, -1", "a site outside 0 to 2^31 - 1");
  illegal("%10 = subgroup_shuffle %3, %1 : f32", "the lane is not an i32");
  illegal("%10 = subgroup_add %6 : f32x4", "it takes a scalar of the result's type");
}

TEST_CASE("memory") {
  illegal("%10 = load @r[%5] : f32", "the index is not of type index");
  illegal("%10 = load @r[%0] : i32", "the value is not of the memory's type");
  illegal("%10 = load @w[%0] : f32", "it reads a buffer that may only be written");
  illegal("store @r[%0], %3", "it writes a buffer that may only be read");
  illegal("store @b[%0], %3", "the value is not of the memory's type");
  illegal("%10 = load @r[%0] align 3 : f32x4", "an alignment that is no power of two");
  illegal("%10 = load @r[%0] align 32 : f32x4", "more alignment than the memory's base has");
  illegal("%10 = load_part @r[%0], %5, %6 : f32x4", "the index is not of type index");
  illegal("%10 = load_part @r[%0], %0, %3 : f32x4", "the other value's type is not the result's");
  illegal("%10 = load_if %5, @r[%0], %3 : f32", "the mask is not a bool, or has other lanes");
  illegal("%10 = splat %0 : indexx4\n%11 = gather @r[%10] : f32x8", "the indices are not of type index");
  illegal("%10 = splat %0 : indexx4\n%11 = gather @r[%10], %4, %6 : f32x4", "the mask is not a bool vector");
  illegal("%10 = splat %0 : indexx4\n%11 = gather @r[%10] align 4 : f32x4", "an alignment on an op that accesses single");
  illegal("%10 = atomic_add @w[%0], %3 : f32", "it takes integers");
  illegal("%10 = convert %3 : i32\n%11 = atomic_add @p[%0], %3 : f32", "it takes integers");
  illegal("prefetch @s[%0]", "a prefetch of an array");
}

TEST_CASE("barriers need control flow that is uniform over the workgroup") {
  std::string reason = "a barrier in control flow that is not uniform";
  auto within = [](const std::string &condition) { return condition + "if %20 {\nbarrier\n}"; };
  auto legal = [&](const std::string &body) {
    INFO(body);
    CHECK(verify(base(body)) == "");
  };
  // Uniform: params, group ids, constants, read-only buffers at uniform indices, and what is made of them.
  legal(within("%20 = lt %2, %1 : bool\n"));
  legal(within("%10 = group_id 0 : index\n%20 = lt %10, %2 : bool\n"));
  legal(within("%10 = load @r[%2] : f32\n%20 = lt %10, %3 : bool\n"));
  legal("for %10 = %0 to %2 step %1 {\nbarrier\n}");
  legal("%10 = for %11 = %0 to %2 step %1 carry %12 = %1 : index {\n%13 = add %12, %11 : index\nyield %13\n}\n"
        "%20 = lt %10, %2 : bool\nif %20 {\nbarrier\n}");
  // Not uniform: local ids, other memory, loops and ifs whose course depends on such.
  illegal(within("%20 = or %9, %9 : bool\n"), reason);
  illegal(within("%10 = load @r[%7] : f32\n%20 = lt %10, %3 : bool\n"), reason);
  illegal(within("%10 = load @b[%0] : i32\n%20 = lt %10, %5 : bool\n"), reason);
  illegal(within("%10 = load @s[%0] : i32\n%20 = lt %10, %5 : bool\n"), reason);
  illegal(within("%10 = subgroup_add %5 : i32\n%20 = lt %10, %5 : bool\n"), reason);
  illegal("for %10 = %0 to %7 step %1 {\nbarrier\n}", reason);
  illegal("%10 = if %9 : index {\nyield %0\n} else {\nyield %1\n}\n%20 = lt %10, %1 : bool\nif %20 {\nbarrier\n}", reason);
  // A value that stops being uniform on the second turn.
  illegal("%10 = for %11 = %0 to %2 step %1 carry %12 = %1 : index {\n%13 = lt %12, %2 : bool\nif %13 {\nbarrier\n}\n"
          "yield %7\n}", reason);
  illegal("%10 = while carry %11 = %0 : index {\n%12 = lt %11, %7 : bool\nyield %12, %11\n} do %13 {\nbarrier\n"
          "%14 = add %13, %1 : index\nyield %14\n}", reason);
  illegal("%10 = for %11 = %0 to %7 step %1 carry %12 = %1 : index {\nyield %12\n}\n%20 = lt %10, %2 : bool\nif %20 {\nbarrier\n}",
          reason);
  illegal("if %9 {\n%10 = subgroup_add %5 : i32\n}", "a subgroup op in control flow that is not uniform");
  Kernel simd;
  REQUIRE(parse("kernel @k simd local 1 1 1 {\nbarrier\n}", simd) == "");
  CHECK(verify(simd).find("only simt kernels have barriers") != std::string::npos);
}

TEST_CASE("workgroup memory beyond what a target declares") {
  const std::string refusal = "has more workgroup memory than the target";
  auto of_bytes = [](uint64_t bytes) {
    Kernel k;
    k.name = "k";
    k.kind = Class::kSimt;
    Builder b(k);
    b.add_array("a", Space::kWorkgroup, Scalar::kI32, bytes / 4);
    return k;
  };
  const TargetRecord cuda = TargetRecord::cuda_sm80(), vulkan = TargetRecord::vulkan_baseline();
  CHECK(verify_for(of_bytes(60 << 10), cuda) == "");
  CHECK(verify_for(of_bytes(101376), cuda) == "");
  CHECK(verify_for(of_bytes(101380), cuda).find(refusal) != std::string::npos);
  CHECK(verify_for(of_bytes(16 << 10), vulkan) == "");
  CHECK(verify_for(of_bytes(60 << 10), vulkan).find(refusal) != std::string::npos);
}

TEST_CASE("targets refuse what they lack") {
  TargetRecord all = TargetRecord::cuda_sm80();
  auto refused = [&](const std::string &body, const std::function<void(TargetRecord &)> &change, const std::string &reason) {
    Kernel k = base(body);
    INFO(body << verify(k));
    TargetRecord target = all;
    CHECK(verify_for(k, target) == "");
    change(target);
    std::string message = verify_for(k, target);
    INFO(message);
    CHECK(message.find("kernel k for sm_80: " + reason) == 0);
  };
  refused("", [](TargetRecord &t) { t.kernel_class = Class::kSimd; }, "is of another class");
  refused("", [](TargetRecord &t) { t.max_workgroup_invocations = 2; }, "has more threads a workgroup");
  refused("", [](TargetRecord &t) { t.max_buffers = 2; }, "has more buffers");
  refused("", [](TargetRecord &t) { t.workgroup_memory_bytes = t.large_workgroup_memory_bytes = 60; }, "has more workgroup memory");
  refused("", [](TargetRecord &t) { t.max_params_bytes = 7; }, "has more bytes of params");
  refused("", [](TargetRecord &t) { t.max_vector_lanes = 2; }, "a vector of more lanes");
  struct {
    const char *type;
    bool TargetRecord::*flag;
  } types[] = {{"i8", &TargetRecord::i8},   {"i16", &TargetRecord::i16},   {"i64", &TargetRecord::i64},
               {"f16", &TargetRecord::f16}, {"bf16", &TargetRecord::bf16}, {"f64", &TargetRecord::f64}};
  for (auto &t : types)
    refused(std::string("%10 = convert %5 : ") + t.type, [&](TargetRecord &r) { r.*t.flag = false; },
            std::string("the target does not compute with ") + t.type);
  struct {
    Scalar type;
    bool TargetRecord::*flag;
  } stores[] = {{Scalar::kBool, &TargetRecord::bool_storage}, {Scalar::kI8, &TargetRecord::storage_8},
                {Scalar::kF16, &TargetRecord::storage_16}, {Scalar::kI64, &TargetRecord::storage_64}};
  for (auto &s : stores) {
    Kernel k = base();
    k.memories[0].type = s.type;
    TargetRecord target = all;
    CHECK(verify_for(k, target) == "");
    target.*s.flag = false;
    CHECK(verify_for(k, target).find("@r holds " + std::string(name(s.type)) + ", which the target cannot store") != std::string::npos);
  }
  refused("%10 = fma %3, %3, %3 : f32", [](TargetRecord &t) { t.has_fma = false; }, "the target has no fma");
  refused("%10 = subgroup_add %5 : i32", [](TargetRecord &t) { t.subgroup_ops = false; }, "the target has no subgroup ops");
  auto never = [&](const std::string &body, const std::string &reason) {
    CHECK(verify_for(base(body), all).find("kernel k for sm_80: " + reason) == 0);
  };
  never("%10 = exp %3 : f32", "a math function that has not been expanded");
  never("%10 = rem %3, %3 : f32", "a float remainder that has not been expanded");
  never("%10 = const 4294967296 : index", "an index constant of more bits");
  Kernel small = base("%10 = const 1 : i8\n");
  small.memories[2].type = Scalar::kI8;
  Op atomic;
  atomic.code = Opcode::kAtomicAdd;
  atomic.memory = 2;
  atomic.operands = {0, small.body.ops.back().results[0]};
  small.types.push_back(Scalar::kI8);
  atomic.results = {static_cast<ValueId>(small.types.size() - 1)};
  small.body.ops.push_back(atomic);
  CHECK(verify_for(small, all).find("an atomic on less than 32 bits") != std::string::npos);
}
