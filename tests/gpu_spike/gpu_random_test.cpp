// Random simt kernels (tests/kernel/random_kernel.h) on Vulkan and WebGPU, and as PTX: what the emitted code leaves in
// its buffers must be what the interpreter leaves, bit for bit. Floats are kept where these targets promise exact
// results: no division, no NaN or infinity among the inputs.
#include <catch2/catch.hpp>

#include <algorithm>

#include <cstdlib>
#include <filesystem>

#include "aotc/emit/ptx/ptx.h"
#include "aotc/emit/spirv/spirv.h"
#include "aotc/emit/text/text.h"
#include "aotc/kernel/legalise.h"
#include "aotc/kernel/text.h"
#include "aotc/kernel/verifier.h"
#include "tests/gpu_spike/case_files.h"
#include "tests/gpu_spike/metal_host.h"
#include "tests/gpu_spike/ptx_host.h"
#include "tests/gpu_spike/tools.h"
#include "tests/gpu_spike/vulkan_host.h"
#include "tests/kernel/random_kernel.h"

using namespace ingot::aotc;
using namespace ingot::aotc::gpu_spike;
namespace random_kernels = ingot::aotc::kernel::random;

namespace {

random_kernels::Options portable_options(uint64_t seed, std::vector<Scalar> scalars) {
  random_kernels::Options options;
  options.seed = seed;
  options.kind = kernel::Class::kSimt;
  options.scalars = std::move(scalars);
  options.lanes = {1, 1, 1, 2, 4};
  options.float_division = options.float_remainder = options.special_floats = false;
  options.convert_from_float_to = {Scalar::kI32};
  return options;
}

struct Sample {
  random_kernels::Case c;
  kernel::Kernel legal;
  std::vector<std::vector<uint8_t>> expected;
  size_t words(size_t buffer) const { return (c.buffers[buffer].size() + 3) / 4; }
};

Sample sample(const random_kernels::Options &options, const TargetRecord &record) {
  Sample s{random_kernels::make(options), {}, {}};
  kernel::RunResult run = s.c.run(s.c.kernel, s.expected);
  INFO(run.message);
  REQUIRE(run.ok);
  s.legal = s.c.kernel;
  REQUIRE(kernel::legalise(s.legal, record) == "");
  REQUIRE(kernel::verify_for(s.legal, record) == "");
  return s;
}

// Cuts each device buffer back to the bytes of the kernel's.
std::string compare(const Sample &s, const std::vector<std::vector<uint32_t>> &results) {
  std::vector<std::vector<uint8_t>> bytes;
  for (size_t i = 0; i < results.size(); ++i) {
    const auto *first = reinterpret_cast<const uint8_t *>(results[i].data());
    bytes.emplace_back(first, first + s.c.buffers[i].size());
  }
  return random_kernels::same_results(s.c.kernel, s.expected, bytes);
}

std::vector<std::vector<uint32_t>> device_buffers(const Sample &s) {
  std::vector<std::vector<uint32_t>> buffers;
  for (const std::vector<uint8_t> &bytes : s.c.buffers) {
    std::vector<uint32_t> words((bytes.size() + 3) / 4);
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<uint8_t *>(words.data()));
    buffers.push_back(std::move(words));
  }
  return buffers;
}

DeviceCase device_case(const Sample &s, std::string text, std::string entry, std::string extension) {
  DeviceCase d{s.legal.name, std::move(text), std::move(entry), std::move(extension), s.legal.local_size, s.c.grid,
               param_words(s.legal, s.c.params), device_buffers(s), {}};
  for (size_t i = 0; i < s.expected.size(); ++i)
    if (s.c.kernel.memories[i].access != kernel::Access::kRead)
      d.expectations.push_back({i, std::string(name(s.c.kernel.memories[i].type)), s.expected[i]});
  return d;
}

} // namespace

TEST_CASE("random kernels on Vulkan") {
  std::string why;
  std::unique_ptr<VulkanHost> host = VulkanHost::open(why);
  if (!host)
    return print_skip("random kernels on Vulkan", why);
  TargetRecord record = TargetRecord::vulkan_baseline();
  record.max_buffers = 64; // the generator has two a type
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    random_kernels::Options options = portable_options(seed, {Scalar::kBool, Scalar::kI32, Scalar::kF32});
    options.byte_stores = false; // several threads share a word here
    Sample s = sample(options, record);
    INFO("seed " << seed << "\n" << kernel::print(s.legal));
    std::vector<std::vector<uint32_t>> buffers = device_buffers(s);
    CHECK(host->run(emit::emit_spirv(s.legal, record), s.legal.name, buffers, params_block(s.legal, s.c.params),
                    s.c.grid) == "");
    CHECK(compare(s, buffers) == "");
  }
}

TEST_CASE("random kernels on Dawn") {
  Dawn dawn;
  if (!dawn.missing.empty())
    return print_skip("random kernels on Dawn", dawn.missing);
  TargetRecord record = TargetRecord::webgpu_baseline();
  std::vector<Sample> samples;
  std::vector<DeviceCase> cases;
  for (uint64_t seed = 101; seed <= 110; ++seed) {
    random_kernels::Options options = portable_options(seed, {Scalar::kBool, Scalar::kI32, Scalar::kF32});
    options.byte_stores = false;
    samples.push_back(sample(options, record));
    cases.push_back(device_case(samples.back(), emit::emit_wgsl(samples.back().legal, record),
                                emit::text_entry(samples.back().legal), ".wgsl"));
  }
  std::string folder = make_folder("ingot-wgsl-random");
  REQUIRE(write_case_files(folder, cases) == "");
  for (size_t first = 0; first < cases.size(); first += Dawn::kBatch) {
    Run run = dawn.run(folder, first);
    INFO(run.output);
    REQUIRE(run.output.find("adapter ") != std::string::npos);
    CHECK(run.status == 0);
  }
  for (size_t i = 0; i < cases.size(); ++i) {
    INFO(cases[i].name << "\n" << kernel::print(samples[i].legal));
    std::vector<std::vector<uint32_t>> results = cases[i].buffers;
    for (const DeviceCase::Expectation &expectation : cases[i].expectations)
      results[expectation.buffer] = read_result(folder, i, expectation.buffer);
    CHECK(compare(samples[i], results) == "");
  }
  std::filesystem::remove_all(folder);
}

// Metal has integers of all widths.
TEST_CASE("random kernels as MSL") {
  std::string why;
  std::unique_ptr<MetalHost> host = MetalHost::open(why);
  if (!host)
    return print_skip("random kernels as MSL", why);
  TargetRecord record = metal_record();
  record.max_buffers = 64; // the generator has two a type
  std::vector<Sample> samples;
  for (uint64_t seed = 301; seed <= 340; ++seed) {
    random_kernels::Options options =
        portable_options(seed, {Scalar::kBool, Scalar::kI8, Scalar::kI16, Scalar::kI32, Scalar::kI64, Scalar::kF32});
    samples.push_back(sample(options, record));
    host->add(samples.back().legal, record);
  }
  REQUIRE(host->load() == "");
  for (size_t i = 0; i < samples.size(); ++i) {
    INFO("seed " << 301 + i << "\n" << kernel::print(samples[i].legal) << host->text(i));
    std::vector<std::vector<uint32_t>> buffers = device_buffers(samples[i]);
    CHECK(host->run(i, buffers, params_block(samples[i].legal, samples[i].c.params), samples[i].c.grid) == "");
    CHECK(compare(samples[i], buffers) == "");
  }
}

// All scalars and special floats: PTX has them. With INGOT_GPU_CASES the case files are kept for run_cuda.
TEST_CASE("random kernels as PTX") {
  std::string tool = find_tool("INGOT_PTXAS", "ptxas");
  if (tool.empty())
    return print_skip("random kernels as PTX", "no ptxas (PyPI's nvidia-cuda-nvcc; INGOT_PTXAS)");
  TargetRecord record = TargetRecord::cuda_sm80();
  const char *kept = std::getenv("INGOT_GPU_CASES");
  std::string folder = kept ? std::string(kept) + "/random" : make_folder("ingot-ptx-random");
  std::vector<DeviceCase> cases;
  for (uint64_t seed = 201; seed <= 220; ++seed) {
    random_kernels::Options options;
    options.seed = seed;
    options.kind = kernel::Class::kSimt;
    options.lanes = {1, 1, 1, 2, 4};
    Sample s = sample(options, record);
    cases.push_back(device_case(s, emit::emit_ptx({&s.legal}, record), s.legal.name, ".ptx"));
  }
  REQUIRE(write_case_files(folder, cases) == "");
  for (size_t i = 0; i < cases.size(); i += kept ? 1 : 4) {
    Run run = run_command(tool + " -O1 -arch=" + (i % 2 ? "sm_90" : "sm_80") + " -o " + folder + "/out.cubin " + folder + "/" + std::to_string(i) + ".ptx");
    INFO(cases[i].name << ": " << run.output);
    CHECK(run.status == 0);
  }
  if (!kept)
    std::filesystem::remove_all(folder);
}

TEST_CASE("random kernels as PTX, in an interpreter") {
  TargetRecord record = TargetRecord::cuda_sm80();
  for (uint64_t seed = 401; seed <= 460; ++seed) {
    random_kernels::Options options;
    options.seed = seed;
    options.kind = kernel::Class::kSimt;
    options.lanes = {1, 1, 1, 2, 4};
    Sample s = sample(options, record);
    std::string text = emit::emit_ptx({&s.legal}, record);
    INFO("seed " << seed << "\n" << kernel::print(s.legal) << text);
    std::vector<std::vector<uint32_t>> buffers = device_buffers(s);
    CHECK(run_ptx(text, s.legal.name, buffers, param_words(s.legal, s.c.params), s.c.grid, s.legal.local_size) == "");
    CHECK(compare(s, buffers) == "");
  }
}
