#include "tests/emit_llvm/case.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <catch2/catch.hpp>

#include "aotc/emit/llvm/native_runner.h"
#include "aotc/kernel/legalise_passes.h"
#include "aotc/kernel/interpreter.h"
#include "aotc/kernel/text.h"
#include "aotc/kernel/verifier.h"

namespace ingot::aotc::test {
namespace {

constexpr size_t kGuard = 64;        // bytes behind each buffer that must stay as they are
constexpr uint8_t kGuardByte = 0xa5;

struct Outcome {
  std::vector<std::vector<uint8_t>> buffers;
  uint64_t error = 0;
};

struct Aligned {
  uint8_t *data;
  explicit Aligned(size_t bytes)
      : data(static_cast<uint8_t *>(std::aligned_alloc(64, (bytes + kGuard + 63) / 64 * 64))) {}
  ~Aligned() { std::free(data); }
  Aligned(const Aligned &) = delete;
};

Outcome interpret_case(const Case &c, bool mad_fused) {
  Outcome out;
  out.buffers = c.buffers;
  std::vector<kernel::Binding> bindings;
  for (auto &b : out.buffers)
    bindings.push_back({b.data(), b.size()});
  kernel::RunOptions options;
  options.params = c.params;
  options.grid = c.grid;
  options.mad_fused = mad_fused;
  kernel::RunResult result = kernel::interpret(c.kernel, bindings, options);
  INFO(kernel::print(c.kernel));
  INFO(result.message);
  REQUIRE(result.ok);
  out.error = result.error_word;
  return out;
}

// In two calls, so that a range that starts inside the grid is covered.
Outcome run_native(const Case &c, const NativeImage &image, const CpuModule::Symbol &symbol) {
  Outcome out;
  std::vector<std::unique_ptr<Aligned>> memory;
  NativeArgs args;
  args.params = c.params;
  args.grid = c.grid;
  for (const auto &b : c.buffers) {
    memory.push_back(std::make_unique<Aligned>(b.size()));
    std::copy(b.begin(), b.end(), memory.back()->data);
    std::memset(memory.back()->data + b.size(), kGuardByte, kGuard);
    args.bindings.push_back(memory.back()->data);
  }
  uint32_t total = c.grid[0] * c.grid[1] * c.grid[2], half = total / 2;
  if (half > 0) {
    args.group_end = half;
    out.error = NativeCall(image.at(symbol.offset), args, symbol.scratch_bytes).run();
  }
  args.group_begin = half;
  args.group_end = total;
  uint64_t error = NativeCall(image.at(symbol.offset), args, symbol.scratch_bytes).run();
  out.error = out.error ? out.error : error;
  for (size_t k = 0; k < c.buffers.size(); k++) {
    const uint8_t *data = memory[k]->data;
    out.buffers.emplace_back(data, data + c.buffers[k].size());
    bool intact = std::all_of(data + c.buffers[k].size(), data + c.buffers[k].size() + kGuard,
                              [](uint8_t b) { return b == kGuardByte; });
    INFO(kernel::print(c.kernel) << "writes behind buffer " << k);
    CHECK(intact);
  }
  return out;
}

uint64_t element(const std::vector<uint8_t> &buffer, uint32_t bytes, size_t i) {
  uint64_t bits = 0;
  std::memcpy(&bits, buffer.data() + i * bytes, bytes);
  return bits;
}

bool is_nan(Scalar s, uint64_t bits) {
  switch (s) {
  case Scalar::kF16: return (bits & 0x7fff) > 0x7c00;
  case Scalar::kBF16: return (bits & 0x7fff) > 0x7f80;
  case Scalar::kF32: return (bits & 0x7fffffff) > 0x7f800000;
  case Scalar::kF64: return (bits & INT64_MAX) > 0x7ff0000000000000;
  default: return false;
  }
}

void compare(const Case &c, const std::string &target, const Outcome &expected, const Outcome &got) {
  int shown = 0;
  size_t wrong = 0;
  std::string report;
  for (size_t b = 0; b < c.buffers.size(); b++) {
    Scalar s = c.kernel.memories[b].type;
    uint32_t bytes = byte_size(s);
    for (size_t i = 0; i < c.buffers[b].size() / bytes; i++) {
      uint64_t want = element(expected.buffers[b], bytes, i), is = element(got.buffers[b], bytes, i);
      uint64_t magnitude = ~uint64_t{0} >> (65 - 8 * bytes);
      bool same = want == is || (is_nan(s, want) && is_nan(s, is)) ||
                  (is_float(s) && !c.signed_zeros && (want & magnitude) == 0 && (is & magnitude) == 0);
      if (same)
        continue;
      wrong++;
      if (shown++ < 8) {
        char line[160];
        std::snprintf(line, sizeof line, "buffer %zu element %zu: expected %llx, got %llx\n", b, i,
                      static_cast<unsigned long long>(want), static_cast<unsigned long long>(is));
        report += line;
      }
    }
  }
  std::string text;
  if (wrong > 0 || (expected.error != 0) != (got.error != 0))
    text = kernel::print(c.kernel);
  INFO(target << "\n" << text << report);
  CHECK(wrong == 0);
  CHECK((expected.error != 0) == (got.error != 0)); // any one of several errors may be reported
}

std::string qemu() {
  for (const char *path : {"/usr/bin/qemu-aarch64-static", "/usr/bin/qemu-aarch64"})
    if (std::filesystem::exists(path))
      return path;
  return "";
}

// The program that runs images on aarch64; built beside this test, see meson.build.
std::string aarch64_runner() {
  const char *path = std::getenv("INGOT_AARCH64_RUNNER");
  return path && std::filesystem::exists(path) ? path : "";
}

void append(std::vector<uint8_t> &out, const void *data, size_t bytes) {
  const auto *p = static_cast<const uint8_t *>(data);
  out.insert(out.end(), p, p + bytes);
  out.resize((out.size() + 63) / 64 * 64);
}

// The runner's stdin and stdout are described in image_runner.c.
std::vector<uint8_t> runner_input(const std::vector<Case> &cases, const CpuModule &module) {
  std::vector<uint8_t> input;
  std::string error;
  std::vector<uint8_t> image = flatten_image(module.elf, &error);
  REQUIRE(error == "");
  uint64_t head[8] = {image.size(), cases.size()};
  append(input, head, sizeof head);
  append(input, image.data(), image.size());
  for (size_t k = 0; k < cases.size(); k++) {
    const Case &c = cases[k];
    uint64_t fields[8] = {module.symbols[k].offset, module.symbols[k].scratch_bytes, c.buffers.size(), c.params.size(),
                          c.grid[0], c.grid[1], c.grid[2]};
    append(input, fields, sizeof fields);
    append(input, c.params.data(), c.params.size() * 8);
    for (const auto &b : c.buffers) {
      uint64_t size[8] = {b.size()};
      append(input, size, sizeof size);
      append(input, b.data(), b.size());
    }
  }
  return input;
}

std::vector<Outcome> runner_outcomes(const std::vector<Case> &cases, const std::string &file) {
  std::ifstream read(file, std::ios::binary);
  std::vector<char> output((std::istreambuf_iterator<char>(read)), {});
  std::vector<Outcome> outcomes;
  size_t at = 0;
  auto take = [&](void *to, size_t bytes) {
    REQUIRE(at + bytes <= output.size());
    std::copy_n(output.data() + at, bytes, static_cast<char *>(to));
    at = (at + bytes + 63) / 64 * 64;
  };
  for (const Case &c : cases) {
    Outcome o;
    uint64_t word[8];
    take(word, sizeof word);
    o.error = word[0];
    for (const auto &b : c.buffers) {
      o.buffers.emplace_back(b.size());
      take(o.buffers.back().data(), b.size());
    }
    outcomes.push_back(std::move(o));
  }
  return outcomes;
}

void write_file(const std::string &path, const std::vector<uint8_t> &bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

std::vector<Outcome> run_under_qemu(const std::vector<Case> &cases, const CpuModule &module) {
  namespace fs = std::filesystem;
  std::string folder = (fs::temp_directory_path() / "ingot-test-XXXXXX").string();
  REQUIRE(mkdtemp(folder.data()) != nullptr);
  std::string in = folder + "/in", out = folder + "/out";
  write_file(in, runner_input(cases, module));
  int status = std::system((qemu() + " " + aarch64_runner() + " < " + in + " > " + out).c_str());
  REQUIRE(status == 0);
  std::vector<Outcome> outcomes = runner_outcomes(cases, out);
  fs::remove_all(folder);
  return outcomes;
}

// Through files and another machine, see case.h. False where there is nothing to compare yet.
bool run_elsewhere(const std::vector<Case> &cases, const CpuTarget &target, const CpuModule &module,
                   std::vector<Outcome> &outcomes) {
  const char *folder = std::getenv("INGOT_CASE_FOLDER");
  if (!folder)
    return false;
  std::string test = Catch::getResultCapture().getCurrentTestName();
  for (char &c : test)
    if (!std::isalnum(static_cast<unsigned char>(c)))
      c = '_';
  std::string name = std::string(folder) + "/" + target.name + "-" + test; // a test calls check_cases() once
  if (!std::filesystem::exists(name + ".out")) {
    write_file(name + ".in", runner_input(cases, module));
    return false;
  }
  outcomes = runner_outcomes(cases, name + ".out");
  return true;
}

CpuModule compile_all(const std::vector<Case> &cases, const CpuTarget &target) {
  std::vector<CpuKernel> kernels;
  std::vector<kernel::Kernel> legal;
  for (const Case &c : cases) {
    legal.push_back(c.kernel);
    kernel::expand_dots(legal.back(), record_of(target));
  }
  for (size_t k = 0; k < cases.size(); k++)
    kernels.push_back({&legal[k], cases[k].kernel.name + "_" + std::to_string(k), record_of(target), target});
  CpuOptions options;
  options.jobs = 2;
  CpuResult result = compile_cpu(kernels, options);
  INFO(target.name << ": " << result.error);
  REQUIRE(result.module.has_value());
  return std::move(*result.module);
}

} // namespace

std::vector<CpuTarget> x86_targets() {
  std::vector<CpuTarget> targets;
  std::string error;
  for (const char *name : {"x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4-vnni"}) {
    targets.push_back(parse_cpu_target(name, &error).value());
    REQUIRE(error == "");
  }
  return targets;
}

void check_cases(const std::vector<Case> &cases) {
  for (const Case &c : cases) {
    INFO(kernel::print(c.kernel));
    REQUIRE(kernel::verify(c.kernel) == "");
  }
  std::vector<Outcome> expected[2]; // by mad_fused
  auto expect = [&](bool fused) -> const std::vector<Outcome> & {
    if (expected[fused].empty())
      for (const Case &c : cases)
        expected[fused].push_back(interpret_case(c, fused));
    return expected[fused];
  };
  for (const CpuTarget &target : x86_targets()) {
    CpuModule module = compile_all(cases, target);
    std::string reason, error;
    if (!runs_here(target, &reason)) {
      std::vector<Outcome> got;
      if (run_elsewhere(cases, target, module, got))
        for (size_t k = 0; k < cases.size(); k++)
          compare(cases[k], target.name, expect(record_of(target).has_fma)[k], got[k]);
      else
        WARN("compiled, not run: " << reason);
      continue;
    }
    auto image = NativeImage::load(module.elf, &error);
    INFO(error);
    REQUIRE(image);
    for (size_t k = 0; k < cases.size(); k++)
      compare(cases[k], target.name, expect(record_of(target).has_fma)[k],
              run_native(cases[k], *image, module.symbols[k]));
  }
  std::string error;
  auto arm = parse_cpu_target("aarch64-linux-gnu", &error);
  REQUIRE(arm.has_value());
  CpuModule module = compile_all(cases, *arm);
  if (qemu().empty() || aarch64_runner().empty()) {
    WARN("aarch64: compiled, not run: needs qemu-user-static, and clang-19 and lld-19 at build time");
    return;
  }
  std::vector<Outcome> got = run_under_qemu(cases, module);
  for (size_t k = 0; k < cases.size(); k++)
    compare(cases[k], arm->name, expect(true)[k], got[k]);
}

std::vector<uint8_t> zeros(Scalar s, size_t count) { return std::vector<uint8_t>(count * byte_size(s)); }

void put(std::vector<uint8_t> &buffer, Scalar s, size_t i, uint64_t bits) {
  if (s == Scalar::kBool)
    bits &= 1;
  std::memcpy(buffer.data() + i * byte_size(s), &bits, byte_size(s));
}

namespace {

const std::vector<uint64_t> &specials(Scalar s) {
  static const std::vector<uint64_t> kBool = {0, 1};
  static const std::vector<uint64_t> kInt = {0, 1, ~uint64_t{0}, 2, 7, 31, 0x7f, 0x80, 0x7fff, 0x8000, 0x7fffffff,
                                             0x80000000, INT64_MAX, uint64_t{1} << 63, 0xffffffff, 0x123456789abcdef0};
  // 0, 1, -1, 0.5, 1.5, 2.5, -2.5, 3.7, tiny, greatest, infinity, NaN, smallest denormal and large integers.
  static const std::vector<uint64_t> kF16 = {0, 0x8000, 0x3c00, 0xbc00, 0x3800, 0x3e00, 0x4100, 0xc100, 0x4366, 0x0400,
                                             0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 1, 0x83ff, 0x5bf8, 0x63ff};
  static const std::vector<uint64_t> kBF16 = {0,      0x8000, 0x3f80, 0xbf80, 0x3f00, 0x3fc0, 0x4020,
                                              0xc020, 0x406d, 0x80,   0x7f7f, 0xff7f, 0x7f80, 0xff80,
                                              0x7fc0, 1,      0x807f, 0x4f00, 0xcf00, 0x5f00};
  static const std::vector<uint64_t> kF32 = {
      0, 0x80000000, 0x3f800000, 0xbf800000, 0x3f000000, 0x3fc00000, 0x40200000, 0xc0200000, 0x406ccccd, 0x00800000,
      0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 1, 0x807fffff, 0x4f000000, 0xcf000000, 0x4effffff,
      0x5f000000, 0xdf000000, 0x477fe000, 0x477fefff, 0x477ff000, 0x4b000000, 0x4b800001, 0x33000000, 0x33000001,
      0x387fc000, 0x387fe000, 0x43000000, 0xc3010000, 0x437f8000, 0x4f800000, 0x5f800000, 0xbf7fffff, 0x4b7fffff};
  static const std::vector<uint64_t> kF64 = {
      0, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000, 0x3fe0000000000000, 0x3ff8000000000000,
      0x4004000000000000, 0xc004000000000000, 0x400d99999999999a, 0x0010000000000000, 0x7fefffffffffffff,
      0xffefffffffffffff, 0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 1, 0x800fffffffffffff,
      0x41dfffffffc00000, 0x41e0000000000000, 0xc1e0000000000000, 0xc1e0000000200000, 0x43e0000000000000,
      0xc3e0000000000000, 0x43f0000000000000, 0x41efffffffe00000, 0x40effc0000000000, 0x40effe0000000000,
      0x40effdffffffffff, 0x3e60000000000000, 0x3e60000000000001, 0x47efffffe0000000, 0x47effffff0000000,
      0x380fffffffffffff, 0x3690000000000001, 0x3ff0020000000001, 0x3ff0020000000000, 0x3fefffffffffffff};
  switch (s) {
  case Scalar::kBool: return kBool;
  case Scalar::kF16: return kF16;
  case Scalar::kBF16: return kBF16;
  case Scalar::kF32: return kF32;
  case Scalar::kF64: return kF64;
  default: return kInt;
  }
}

} // namespace

size_t special_count(Scalar s) { return specials(s).size(); }

uint64_t interesting(Scalar s, size_t k, Random &random) {
  if (k < special_count(s))
    return specials(s)[k];
  uint64_t bits = random.next();
  // Half of the random floats lie where arithmetic is not all overflow.
  if (s == Scalar::kF32 && (bits >> 40 & 1))
    return (bits & 0x83ffffff) | 0x3c000000;
  if (s == Scalar::kF64 && (bits >> 8 & 1))
    return (bits & 0x803fffffffffffff) | 0x3fc0000000000000;
  if (is_int(s) && (bits >> 60) < 6)
    return bits & 0xff;
  return bits;
}

std::vector<uint8_t> random_elements(Scalar s, size_t count, Random &random) {
  std::vector<uint8_t> buffer = zeros(s, count);
  for (size_t i = 0; i < count; i++)
    put(buffer, s, i, interesting(s, random.below(special_count(s) * 2), random));
  return buffer;
}

} // namespace ingot::aotc::test
