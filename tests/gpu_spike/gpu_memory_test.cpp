// Kernels with more workgroup memory than PTX declares statically, in the interpreter of tests/mock and through ptxas: what
// they leave must be what the interpreter of kernel IR leaves.
#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>

#include "aotc/base/error.h"
#include "aotc/driver/compile.h"
#include "aotc/emit/gpu_layout.h"
#include "aotc/emit/ptx/hsaco.h"
#include "aotc/emit/ptx/ptx.h"
#include "aotc/kernel/builder.h"
#include "aotc/kernel/interpreter.h"
#include "aotc/kernel/legalise.h"
#include "aotc/kernel/text.h"
#include "aotc/kernel/verifier.h"
#include "tests/gpu_spike/case_files.h"
#include "tests/gpu_spike/ptx_host.h"
#include "tests/gpu_spike/tools.h"

using namespace ingot::aotc;
using namespace ingot::aotc::gpu_spike;

namespace {

constexpr int64_t kThreads = 256;

// (in, out) out[i] = in[n - 1 - i] * 3 + 7 + i % 3, by way of two large arrays and a small one that leaves the second unaligned.
kernel::Kernel mirror(int64_t n) {
  kernel::Kernel k;
  k.name = "mirror";
  k.kind = kernel::Class::kSimt;
  k.local_size = {kThreads, 1, 1};
  kernel::Builder b(k);
  const Type i32(Scalar::kI32), i16(Scalar::kI16);
  const uint32_t in = b.add_buffer("in", kernel::Access::kRead, Scalar::kI32), out = b.add_buffer("out", kernel::Access::kWrite, Scalar::kI32);
  const uint32_t first = b.add_array("first", kernel::Space::kWorkgroup, Scalar::kI32, static_cast<uint64_t>(n));
  const uint32_t small = b.add_array("small", kernel::Space::kWorkgroup, Scalar::kI16, 3, 2);
  const uint32_t second = b.add_array("second", kernel::Space::kWorkgroup, Scalar::kI32, static_cast<uint64_t>(n), 16);
  const kernel::ValueId thread = b.local_id(0), step = b.index(kThreads);
  const auto each = [&](const auto &body) {
    b.for_loop(thread, b.index(n), step, {}, [&](kernel::ValueId i, const kernel::Values &) { return body(i), kernel::Values{}; });
  };
  each([&](kernel::ValueId i) {
    const kernel::ValueId x = b.load(in, i);
    b.store(first, i, x);
    b.store(second, i, b.add(x, x));
  });
  b.if_then(b.lt(thread, b.index(3)), [&] { b.store(small, thread, b.convert(i16, b.add(thread, b.index(7)))); });
  b.barrier();
  each([&](kernel::ValueId i) {
    const kernel::ValueId from = b.sub(b.index(n - 1), i);
    const kernel::ValueId sum = b.add(b.load(first, from), b.load(second, from));
    b.store(out, i, b.add(sum, b.convert(i32, b.load(small, b.rem(i, b.index(3))))));
  });
  return k;
}

kernel::Kernel legal(int64_t n, const TargetRecord &record) {
  kernel::Kernel k = mirror(n);
  REQUIRE(kernel::legalise(k, record) == "");
  REQUIRE(kernel::verify_for(k, record) == "");
  return k;
}

size_t occurrences(const std::string &text, const std::string &part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++n;
  return n;
}

} // namespace

TEST_CASE("workgroup memory that is asked for at launch") {
  const TargetRecord record = TargetRecord::cuda_sm80();
  constexpr int64_t n = 8192; // 64 KiB in two arrays
  const kernel::Kernel k = legal(n, record);
  const emit::WorkgroupLayout layout = emit::workgroup_layout(k, record);
  CHECK(layout.bytes == 8 * n + 16); // the second array begins 16 bytes after the first
  std::vector<std::vector<uint32_t>> buffers(2, std::vector<uint32_t>(n));
  for (size_t i = 0; i < buffers[0].size(); ++i)
    buffers[0][i] = static_cast<uint32_t>(i * i) ^ 0x5aa5;
  std::vector<std::vector<uint32_t>> expected = buffers;
  kernel::RunResult run = kernel::interpret(k, std::vector<kernel::Binding>{{expected[0].data(), 4 * n}, {expected[1].data(), 4 * n}}, {});
  INFO(run.message);
  REQUIRE(run.ok);
  CHECK(expected[1][5] == buffers[0][n - 6] * 3 + 9);
  for (const char *architecture : {"sm_80", "sm_90"}) {
    const std::string text = emit::emit_ptx({&k}, record, *emit::ptx_options(architecture));
    INFO(text);
    CHECK(occurrences(text, ".extern .shared .align 1024 .b8 mirror_workgroup[];") == 1);
    CHECK(occurrences(text, ".shared .align") == 1);
    std::vector<std::vector<uint32_t>> got = buffers;
    CHECK(run_ptx(text, k.name, got, {}, {1, 1, 1}, k.local_size, static_cast<uint32_t>(layout.bytes)) == "");
    CHECK(got == expected);
    CHECK(run_ptx(text, k.name, got, {}, {1, 1, 1}, k.local_size, static_cast<uint32_t>(layout.bytes) - 4).find("outside of memory") != std::string::npos);
  }
}

TEST_CASE("workgroup memory that is asked for at launch, through ptxas") {
  std::string tool = find_tool("INGOT_PTXAS", "ptxas");
  if (tool.empty())
    return print_skip("workgroup memory that is asked for at launch, through ptxas", "no ptxas (PyPI's nvidia-cuda-nvcc; INGOT_PTXAS)");
  TargetRecord record = TargetRecord::cuda_sm80();
  const kernel::Kernel k = legal(8192, record);
  std::string folder = make_folder("ingot-ptx-memory");
  for (const char *architecture : {"sm_80", "sm_90"}) {
    std::ofstream(folder + "/k.ptx") << emit::emit_ptx({&k}, record, *emit::ptx_options(architecture));
    Run run = run_command(tool + " -v -O1 -arch=" + architecture + " -o " + folder + "/out.cubin " + folder + "/k.ptx");
    INFO(run.output);
    CHECK(run.status == 0);
    CHECK(run.output.find("bytes smem") == std::string::npos); // nothing is static
  }
  std::filesystem::remove_all(folder);
}

TEST_CASE("workgroup memory that is declared") {
  const TargetRecord record = TargetRecord::cuda_sm80();
  const kernel::Kernel k = legal(6140, record); // 16 bytes less than 48 KiB, with what is between the arrays
  CHECK(emit::workgroup_layout(k, record).bytes == 0);
  CHECK(emit::emit_ptx({&k}, record).find(".extern .shared") == std::string::npos);
  CHECK(emit::workgroup_layout(legal(6144, record), record).bytes == 49168);
  auto most = [](const char *target) {
    std::string error;
    return parse_target(target, &error)->gpu->records.front().large_workgroup_memory_bytes;
  };
  CHECK(most("cuda") == 101376);
  CHECK(most("cuda:sm_90") == 101376); // later GPUs have no more
  CHECK(most("cuda:sm_90a") == 232448);
  CHECK(most("rocm:gfx942") == 0);
  const TargetRecord amd = *emit::rocm_record("gfx942"); // 64 KiB, all of them static
  CHECK(emit::workgroup_layout(legal(8000, amd), amd).bytes == 0);
  CHECK(kernel::verify_for(mirror(8192), amd).find("has more workgroup memory than the target") != std::string::npos);
  CHECK_THROWS_AS(emit::workgroup_layout(mirror(20000), record), InternalError);
}

TEST_CASE("divisions by what is not known when compiling") {
  const std::vector<int32_t> dividends = {0, 1, -1, 2, 6, 7, -7, 8, 99, -100, 46340 * 46340, 12345678, -87654321, INT32_MAX - 1, INT32_MAX, -INT32_MAX, INT32_MIN};
  const std::vector<int32_t> divisors = {1, 2, 3, 7, 16, 96, 1000, 65535, 65536, 46341, INT32_MAX, -1, -3, -1000, 0};
  kernel::Kernel k;
  k.name = "divide";
  k.kind = kernel::Class::kSimt;
  k.local_size = {static_cast<uint32_t>(dividends.size()), 1, 1};
  kernel::Builder b(k);
  const Type i32(Scalar::kI32), index(Scalar::kIndex);
  const uint32_t in = b.add_buffer("in", kernel::Access::kRead, Scalar::kI32), out = b.add_buffer("out", kernel::Access::kWrite, Scalar::kI32);
  const kernel::ValueId by = b.add_param("by", Scalar::kIndex, -INT32_MAX, INT32_MAX), thread = b.local_id(0);
  const kernel::ValueId x = b.convert(index, b.load(in, thread));
  const kernel::ValueId at = b.mul(thread, b.index(3));
  b.store(out, at, b.convert(i32, b.div(x, by)));
  b.store(out, b.add(at, b.index(1)), b.convert(i32, b.rem(x, by)));
  b.store(out, b.add(at, b.index(2)), b.convert(i32, b.div(thread, by)));
  kernel::Kernel given = k; // with its reciprocal, from the host
  given.params[0].min = 1;
  given.params.emplace_back().name = "reciprocal";
  given.params[1].reciprocal_of = 0;
  for (const bool host : {false, true}) {
    const TargetRecord record = host ? TargetRecord::cuda_sm90a() : TargetRecord::cuda_sm80();
    kernel::Kernel legal = host ? given : k;
    REQUIRE(kernel::legalise(legal, record) == "");
    const std::string text = emit::emit_ptx({&legal}, record);
    INFO(text);
    CHECK(occurrences(text, "\tdiv.") == (host ? 0 : 1)); // the reciprocal, which all share
    CHECK(occurrences(text, "\trem.") == 0);
    for (int32_t divisor : divisors) {
      if (host && divisor < 1)
        continue;
      std::vector<std::vector<uint32_t>> got = {{}, std::vector<uint32_t>(3 * dividends.size())};
      for (int32_t n : dividends)
        got[0].push_back(static_cast<uint32_t>(n));
      CHECK(run_ptx(text, legal.name, got, host ? param_words(legal, {divisor, static_cast<int32_t>(UINT32_MAX / static_cast<uint32_t>(divisor))}) : param_words(legal, {divisor}), {1, 1, 1}, legal.local_size) == "");
      for (size_t i = 0; i < dividends.size(); ++i) {
        INFO(dividends[i] << " by " << divisor);
        CHECK(static_cast<int32_t>(got[1][3 * i]) == (divisor == 0 ? 0 : static_cast<int32_t>(int64_t{dividends[i]} / divisor)));
        CHECK(static_cast<int32_t>(got[1][3 * i + 1]) == (divisor == 0 ? 0 : static_cast<int32_t>(int64_t{dividends[i]} % divisor)));
        CHECK(static_cast<int32_t>(got[1][3 * i + 2]) == (divisor == 0 ? 0 : static_cast<int32_t>(i) / divisor));
      }
    }
  }
}

TEST_CASE("16 bytes of small elements are one access, a larger of two f32 one instruction") {
  const TargetRecord record = TargetRecord::cuda_sm80();
  kernel::Kernel k;
  REQUIRE(kernel::parse("kernel @wide simt local 1 1 1 {\n"
                        "  buffer @x read f16 align 64\n  buffer @y write f16 align 64\n  buffer @a read f32 align 64\n  buffer @b write f32 align 64\n"
                        "  %0 = const 0 : index\n  %1 = const 1 : index\n"
                        "  %2 = load @x[%0] align 8 : f16x8\n  store @y[%0], %2 align 8\n"
                        "  %3 = load @a[%0] : f32\n  %4 = load @a[%1] : f32\n  %5 = max %3, %4 : f32\n  store @b[%0], %5\n}\n", k) == "");
  REQUIRE(kernel::legalise(k, record) == "");
  const std::string text = emit::emit_ptx({&k}, record);
  INFO(text);
  CHECK(occurrences(text, "v4.b32") + occurrences(text, "v4.u32") == 2); // a load and a store
  CHECK(occurrences(text, "max.NaN.f32") == 1);
  CHECK(occurrences(text, "setp") == 0);
  for (const uint32_t other : {0x40000000u, 0x7fc00000u}) { // 2 and NaN, beside 1
    std::vector<std::vector<uint32_t>> buffers = {{1, 2, 3, 4}, {0, 0, 0, 0}, {0x3f800000u, other}, {0}};
    CHECK(run_ptx(text, "wide", buffers, {}, {1, 1, 1}, {1, 1, 1}) == "");
    CHECK(buffers[1] == buffers[0]);
    CHECK((other == 0x40000000u ? buffers[3][0] == other : (buffers[3][0] & 0x7fffffffu) > 0x7f800000u));
  }
}
