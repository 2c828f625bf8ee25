// See hsaco_check.h.
#include "tests/gpu_spike/hsaco_check.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>

#include "aotc/emit/gpu_layout.h"
#include "tests/gpu_spike/tools.h"

namespace ingot::aotc::gpu_spike {
namespace {

std::string readobj() { return find_tool("INGOT_READOBJ", "llvm-readobj-19"); }
std::string objdump() { return find_tool("INGOT_OBJDUMP", "llvm-objdump-19"); }

size_t count(const std::string &text, const std::string &word) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(word, at)) != std::string::npos; at += word.size())
    ++n;
  return n;
}

// The number after `key:`; -1 where it is not there.
long long number(const std::string &text, const std::string &key) {
  std::smatch found;
  return std::regex_search(text, found, std::regex("\\" + key + ":\\s+(\\d+)")) ? std::stoll(found[1]) : -1;
}

bool has_barrier(const kernel::Region &region) {
  return std::any_of(region.ops.begin(), region.ops.end(), [](const kernel::Op &op) {
    return op.code == kernel::Opcode::kBarrier || std::any_of(op.regions.begin(), op.regions.end(), has_barrier);
  });
}

} // namespace

std::string hsaco_tools_missing() { return readobj().empty() || objdump().empty() ? "no llvm-readobj-19 or llvm-objdump-19" : ""; }

HsacoCode look_into_hsaco(const std::vector<uint8_t> &object, const std::string &instruction) {
  const std::string folder = make_folder("ingot-hsaco"), file = folder + "/kernel.hsaco";
  std::ofstream(file, std::ios::binary).write(reinterpret_cast<const char *>(object.data()), std::streamsize(object.size()));
  const std::string notes = run_command(readobj() + " --notes " + file).output;
  const Run code = run_command(objdump() + " -d " + file);
  std::filesystem::remove_all(folder);
  return {code.status == 0 ? static_cast<int>(count(code.output, "\t" + instruction)) : -1, number(notes, ".vgpr_spill_count")};
}

std::string check_hsaco(const kernel::Kernel &kernel, const std::vector<uint8_t> &object) {
  const std::string folder = make_folder("ingot-hsaco"), file = folder + "/kernel.hsaco";
  std::ofstream(file, std::ios::binary).write(reinterpret_cast<const char *>(object.data()), std::streamsize(object.size()));
  const std::string notes = run_command(readobj() + " --notes " + file).output;
  const Run code = run_command(objdump() + " -d " + file);
  std::filesystem::remove_all(folder);
  std::string wrong;
  auto expect = [&](bool good, const std::string &what) {
    if (!good && wrong.empty())
      wrong = kernel.name + ": " + what;
  };
  const size_t buffers = kernel.buffer_count() + (emit::has_error_ops(kernel) ? 1 : 0);
  uint64_t shared = 0;
  for (const kernel::Memory &memory : kernel.memories)
    if (memory.space == kernel::Space::kWorkgroup)
      shared += memory.count * byte_size(memory.type);
  const auto &size = kernel.local_size;
  expect(count(notes, "amdhsa.target:") == 1, "no metadata: " + notes.substr(0, 200));
  expect(notes.find(" " + kernel.name + "\n") != std::string::npos, "not named in the metadata");
  expect(notes.find(kernel.name + ".kd") != std::string::npos, "no descriptor");
  expect(count(notes, "global_buffer") == buffers, "other than " + std::to_string(buffers) + " buffers");
  expect(count(notes, "by_value") == kernel.params.size(), "other than " + std::to_string(kernel.params.size()) + " params");
  expect(std::regex_search(notes, std::regex("\\.reqd_workgroup_size:\\s+- " + std::to_string(size[0]) + "\\s+- " + std::to_string(size[1]) +
                                             "\\s+- " + std::to_string(size[2]))), "other workgroups");
  const long long fixed = number(notes, ".group_segment_fixed_size");
  expect(fixed >= static_cast<long long>(shared) && fixed <= 64 << 10, "workgroup memory of " + std::to_string(fixed) + " bytes");
  expect(number(notes, ".vgpr_count") > 0, "no registers");
  expect(code.status == 0 && code.output.find("<unknown>") == std::string::npos, "its code does not disassemble");
  expect(code.output.find("s_endpgm") != std::string::npos, "its code does not end");
  expect(!has_barrier(kernel.body) || size[0] * size[1] * size[2] <= 64 || code.output.find("s_barrier") != std::string::npos, "its barriers are gone");
  return wrong;
}

} // namespace ingot::aotc::gpu_spike
