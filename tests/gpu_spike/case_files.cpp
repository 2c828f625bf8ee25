// See case_files.h.
#include "tests/gpu_spike/case_files.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "aotc/emit/gpu_layout.h"

namespace ingot::aotc::gpu_spike {

std::vector<std::vector<uint32_t>> guarded_buffers(const Case &c) {
  std::vector<std::vector<uint32_t>> buffers = c.buffers;
  for (std::vector<uint32_t> &buffer : buffers)
    buffer.resize(buffer.size() + kGuardWords, kCanary);
  return buffers;
}

std::vector<uint8_t> params_block(const kernel::Kernel &kernel, const std::vector<int64_t> &params) {
  emit::ParamLayout layout = emit::param_layout(kernel);
  std::vector<uint8_t> block(layout.bytes);
  for (size_t i = 0; i < params.size(); ++i)
    std::memcpy(&block[layout.offsets[i]], &params[i], kernel.params[i].type == Scalar::kI64 ? 8 : 4);
  return block;
}

std::string write_case_files(const std::string &folder, const std::vector<CaseText> &cases) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    return "cannot make " + folder + ": " + error.message();
  bool good = true;
  auto write = [&](const std::string &name, const void *data, size_t bytes) {
    std::ofstream file(folder + "/" + name, std::ios::binary);
    file.write(static_cast<const char *>(data), static_cast<std::streamsize>(bytes));
    good = good && file.good();
  };
  std::string list;
  for (size_t number = 0; number < cases.size(); ++number) {
    const Case &c = *cases[number].c;
    std::string stem = std::to_string(number), source = stem + cases[number].extension;
    write(source, cases[number].text.data(), cases[number].text.size());
    auto three = [](const std::array<uint32_t, 3> &v) {
      return std::to_string(v[0]) + " " + std::to_string(v[1]) + " " + std::to_string(v[2]);
    };
    list += "case " + c.name + "\nkernel " + source + " " + cases[number].entry + "\nlocal " + three(c.kernel.local_size) +
            "\ngrid " + three(c.grid) + "\n";
    for (size_t i = 0; i < c.params.size(); ++i) {
      bool wide = c.kernel.params[i].type == Scalar::kI64;
      char hex[24];
      std::snprintf(hex, sizeof hex, "%llx",
                    static_cast<unsigned long long>(wide ? uint64_t(c.params[i]) : uint32_t(c.params[i])));
      list += std::string("param ") + (wide ? "8 " : "4 ") + hex + "\n";
    }
    std::vector<std::vector<uint32_t>> buffers = guarded_buffers(c);
    for (size_t i = 0; i < buffers.size(); ++i) {
      std::string name = stem + "." + std::to_string(i) + ".bin";
      write(name, buffers[i].data(), buffers[i].size() * 4);
      list += std::string("buffer ") + (i == c.output ? "out " : "in ") + name + "\n";
    }
    std::vector<double> pairs;
    for (size_t i = 0; i < c.expected.size(); ++i)
      pairs.insert(pairs.end(), {c.expected[i], c.bound[i]});
    write(stem + ".expect", pairs.data(), pairs.size() * sizeof(double));
    list += "expect " + std::to_string(c.output) + " " + stem + ".expect\nresult " + stem + ".result\nend\n";
  }
  write("cases.txt", list.data(), list.size());
  return good ? "" : "cannot write the files of " + folder;
}

} // namespace ingot::aotc::gpu_spike
