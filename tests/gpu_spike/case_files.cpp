// See case_files.h.
#include "tests/gpu_spike/case_files.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "aotc/emit/gpu_layout.h"

namespace ingot::aotc::gpu_spike {

std::vector<std::vector<uint32_t>> guarded_buffers(const Case &c) {
  std::vector<std::vector<uint32_t>> buffers = c.buffers;
  for (std::vector<uint32_t> &buffer : buffers)
    buffer.resize(buffer.size() + kGuardWords, kCanary);
  return buffers;
}

std::vector<std::pair<int, uint64_t>> param_words(const kernel::Kernel &kernel, const std::vector<int64_t> &params) {
  std::vector<std::pair<int, uint64_t>> words;
  for (size_t i = 0; i < params.size(); ++i) {
    bool wide = kernel.params[i].type == Scalar::kI64;
    words.emplace_back(wide ? 8 : 4, wide ? uint64_t(params[i]) : uint32_t(params[i]));
  }
  return words;
}

std::vector<uint8_t> params_block(const kernel::Kernel &kernel, const std::vector<int64_t> &params) {
  emit::ParamLayout layout = emit::param_layout(kernel);
  std::vector<uint8_t> block(layout.bytes);
  std::vector<std::pair<int, uint64_t>> words = param_words(kernel, params);
  for (size_t i = 0; i < words.size(); ++i)
    std::memcpy(&block[layout.offsets[i]], &words[i].second, size_t(words[i].first));
  return block;
}

DeviceCase device_case(const Case &c, std::string text, std::string entry, std::string extension) {
  DeviceCase d{c.name, std::move(text), std::move(entry), std::move(extension), c.kernel.local_size, c.grid,
               param_words(c.kernel, c.params), guarded_buffers(c), {}};
  std::vector<double> pairs;
  for (size_t i = 0; i < c.expected.size(); ++i)
    pairs.insert(pairs.end(), {c.expected[i], c.bound[i]});
  const auto *first = reinterpret_cast<const uint8_t *>(pairs.data());
  d.expectations.push_back({c.output, "bound", {first, first + pairs.size() * sizeof(double)}});
  return d;
}

std::vector<uint32_t> read_result(const std::string &folder, size_t number, size_t buffer) {
  std::ifstream file(folder + "/" + std::to_string(number) + "." + std::to_string(buffer) + ".result", std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(file)), {});
  std::vector<uint32_t> words(bytes.size() / 4);
  std::copy_n(bytes.begin(), words.size() * 4, reinterpret_cast<char *>(words.data()));
  return words;
}

std::string write_case_files(const std::string &folder, const std::vector<DeviceCase> &cases) {
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
  auto three = [](const std::array<uint32_t, 3> &v) {
    return std::to_string(v[0]) + " " + std::to_string(v[1]) + " " + std::to_string(v[2]);
  };
  std::string list;
  for (size_t number = 0; number < cases.size(); ++number) {
    const DeviceCase &c = cases[number];
    std::string stem = std::to_string(number), source = stem + c.extension;
    write(source, c.text.data(), c.text.size());
    list += "case " + c.name + "\nkernel " + source + " " + c.entry + "\nlocal " + three(c.local) + "\ngrid " +
            three(c.grid) + "\n";
    for (auto [bytes, bits] : c.params) {
      char hex[24];
      std::snprintf(hex, sizeof hex, "%llx", static_cast<unsigned long long>(bits));
      list += "param " + std::to_string(bytes) + " " + hex + "\n";
    }
    for (size_t i = 0; i < c.buffers.size(); ++i) {
      std::string name = stem + "." + std::to_string(i) + ".bin";
      write(name, c.buffers[i].data(), c.buffers[i].size() * 4);
      list += "buffer " + name + "\n";
    }
    for (const DeviceCase::Expectation &expectation : c.expectations) {
      std::string name = stem + "." + std::to_string(expectation.buffer) + ".expect";
      write(name, expectation.bytes.data(), expectation.bytes.size());
      list += "expect " + std::to_string(expectation.buffer) + " " + expectation.type + " " + name + "\n";
    }
    list += "end\n";
  }
  write("cases.txt", list.data(), list.size());
  return good ? "" : "cannot write the files of " + folder;
}

} // namespace ingot::aotc::gpu_spike
