// The four kernels on every GPU target at hand: interpreter (with race detection), SPIR-V (spirv-val, Vulkan with the
// validation layer), WGSL (Dawn in node), PTX (ptxas). Each result is compared with a reference in double.
//
// INGOT_SEED draws other sizes and inputs. INGOT_GPU_CASES=FOLDER keeps the PTX case files for run_cuda.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "aotc/emit/ptx/ptx.h"
#include "aotc/emit/spirv/spirv.h"
#include "aotc/emit/text/text.h"
#include "aotc/kernel/interpreter.h"
#include "aotc/kernel/legalise.h"
#include "aotc/kernel/verifier.h"
#include "tests/gpu_spike/case_files.h"
#include "tests/gpu_spike/ptx_host.h"
#include "tests/gpu_spike/tools.h"
#include "tests/gpu_spike/vulkan_host.h"

using namespace ingot::aotc;
using namespace ingot::aotc::gpu_spike;

namespace {

uint64_t seed() {
  const char *text = std::getenv("INGOT_SEED");
  return text ? std::strtoull(text, nullptr, 10) : 20261122;
}

// The case's kernel as the record's emitter takes it.
kernel::Kernel legal(const Case &c, const TargetRecord &record) {
  kernel::Kernel kernel = c.kernel;
  std::string problem = kernel::legalise(kernel, record);
  INFO(problem);
  REQUIRE(problem.empty());
  REQUIRE(kernel::verify_for(kernel, record) == "");
  return kernel;
}

std::string interpret(const Case &c, const kernel::Kernel &kernel) {
  std::vector<std::vector<uint32_t>> buffers = c.buffers;
  std::vector<kernel::Binding> bindings;
  for (std::vector<uint32_t> &buffer : buffers)
    bindings.push_back({buffer.data(), buffer.size() * 4});
  kernel::RunOptions options;
  options.params = c.params;
  options.grid = c.grid;
  kernel::RunResult result = kernel::interpret(kernel, bindings, options);
  if (!result.ok)
    return c.name + ": " + result.message;
  return check(c, buffers[c.output]);
}

} // namespace

TEST_CASE("interpreter") {
  for (const TargetRecord &record : {TargetRecord::vulkan_baseline(), TargetRecord::webgpu_baseline(), TargetRecord::cuda_sm80()})
    for (const Case &c : make_cases(record, seed())) {
      INFO(record.name << " " << c.name);
      REQUIRE(kernel::verify(c.kernel) == "");
      if (record.name == "vulkan-1.1") // the kernel as scheduled is the same for all
        CHECK(interpret(c, c.kernel) == "");
      if (record.name != "webgpu")
        CHECK(interpret(c, legal(c, record)) == "");
    }
}

TEST_CASE("a wrong result is noticed") {
  std::vector<Case> cases = make_cases(TargetRecord::vulkan_baseline(), seed());
  for (Case &c : cases) {
    std::vector<uint32_t> words;
    for (double value : c.expected) {
      float narrow = static_cast<float>(value);
      uint32_t bits;
      std::memcpy(&bits, &narrow, sizeof bits);
      words.push_back(bits);
    }
    CHECK(check(c, words) == "");
    std::vector<uint32_t> changed = words;
    changed.back() += 0x04000000; // a factor of 256; for 0 a number of 1.5e-36
    CHECK(check(c, changed) != "");
    changed = words;
    changed[0] = kCanary;
    CHECK(check(c, changed) != "");
    changed = words;
    changed.push_back(0);
    CHECK(check(c, changed) != "");
  }
}

TEST_CASE("spirv is valid") {
  std::string tool = find_tool("INGOT_SPIRV_VAL", "spirv-val");
  if (tool.empty())
    return print_skip("spirv is valid", "no spirv-val (Debian's spirv-tools)");
  TargetRecord record = TargetRecord::vulkan_baseline();
  std::string folder = make_folder("ingot-spirv"), seen;
  for (const Case &c : make_cases(record, seed())) {
    if (seen.find(c.kernel.name + ";") != std::string::npos)
      continue; // the module does not depend on sizes
    seen += c.kernel.name + ";";
    std::vector<uint32_t> words = emit::emit_spirv(legal(c, record), record);
    CHECK(words == emit::emit_spirv(legal(c, record), record)); // deterministic
    std::string path = folder + "/" + c.kernel.name + ".spv";
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char *>(words.data()), std::streamsize(words.size() * 4));
    Run run = run_command(tool + " --target-env vulkan1.1 " + path);
    INFO(c.kernel.name << ": " << run.output);
    CHECK(run.status == 0);
    words[5] ^= 0x7; // and the tool does refuse: a capability instruction of another length
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char *>(words.data()), std::streamsize(words.size() * 4));
    CHECK(run_command(tool + " --target-env vulkan1.1 " + path).status != 0);
  }
  std::filesystem::remove_all(folder);
}

TEST_CASE("spirv runs on Vulkan") {
  std::string why;
  std::unique_ptr<VulkanHost> host = VulkanHost::open(why);
  if (!host)
    return print_skip("spirv runs on Vulkan", why);
  TargetRecord record = TargetRecord::vulkan_baseline();
  for (const Case &c : make_cases(record, seed())) {
    INFO(host->device_name() << " " << c.name);
    std::vector<std::vector<uint32_t>> buffers = guarded_buffers(c);
    kernel::Kernel kernel = legal(c, record);
    CHECK(host->run(emit::emit_spirv(kernel, record), kernel.name, buffers, params_block(kernel, c.params), c.grid) == "");
    CHECK(check(c, buffers[c.output]) == "");
  }
}

TEST_CASE("wgsl runs on Dawn") {
  Dawn dawn;
  if (!dawn.missing.empty())
    return print_skip("wgsl runs on Dawn", dawn.missing);

  TargetRecord record = TargetRecord::webgpu_baseline();
  std::vector<Case> cases = make_cases(record, seed());
  std::vector<DeviceCase> texts;
  for (const Case &c : cases) {
    kernel::Kernel kernel = legal(c, record);
    texts.push_back(device_case(c, emit::emit_wgsl(kernel, record), emit::text_entry(kernel), ".wgsl"));
  }
  std::string folder = make_folder("ingot-wgsl");
  REQUIRE(write_case_files(folder, texts) == "");
  for (size_t first = 0; first < cases.size(); first += Dawn::kBatch) {
    Run run = dawn.run(folder, first);
    INFO(run.output);
    REQUIRE(run.output.find("adapter ") != std::string::npos);
    CHECK(run.status == 0);
    for (size_t i = first; i < std::min(cases.size(), first + Dawn::kBatch); ++i)
      CHECK(check(cases[i], read_result(folder, i, cases[i].output)) == "");
  }
  std::filesystem::remove_all(folder);
}

TEST_CASE("ptx assembles") {
  std::string tool = find_tool("INGOT_PTXAS", "ptxas");
  if (tool.empty())
    return print_skip("ptx assembles", "no ptxas (PyPI's nvidia-cuda-nvcc; INGOT_PTXAS)");
  TargetRecord record = TargetRecord::cuda_sm80();
  std::vector<Case> cases = make_cases(record, seed());
  const char *kept = std::getenv("INGOT_GPU_CASES");
  std::string folder = kept ? kept : make_folder("ingot-ptx"), seen;
  std::vector<DeviceCase> texts;
  for (const Case &c : cases) {
    kernel::Kernel kernel = legal(c, record);
    texts.push_back(device_case(c, emit::emit_ptx({&kernel}, record), kernel.name, ".ptx"));
    std::vector<std::vector<uint32_t>> buffers = guarded_buffers(c);
    INFO(c.name);
    CHECK(run_ptx(texts.back().text, kernel.name, buffers, param_words(kernel, c.params), c.grid, kernel.local_size) == "");
    CHECK(check(c, buffers[c.output]) == "");
  }
  REQUIRE(write_case_files(folder, texts) == "");
  for (size_t i = 0; i < cases.size(); ++i) {
    if (seen.find(cases[i].kernel.name + ";") != std::string::npos)
      continue;
    seen += cases[i].kernel.name + ";";
    for (const char *architecture : {"sm_80", "sm_90"}) {
      Run run = run_command(tool + " -arch=" + architecture + " -v -o " + folder + "/out.cubin " + folder + "/" +
                            std::to_string(i) + ".ptx");
      INFO(cases[i].kernel.name << " " << architecture << ": " << run.output);
      CHECK(run.status == 0);
    }
  }
  if (!kept)
    std::filesystem::remove_all(folder);
}
