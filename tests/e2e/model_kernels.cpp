// Every kernel of a model, by every schedule and code version, against the reference interpreter.
//
//   model_kernels MODEL.onnx [--dim=NAME=VALUE]...     prints `ok|not ok|skip SUITE/TEST` lines, one per kernel and version
//
// The oracle is the naive schedule in the interpreter, on seeded data, over a sample of its workgroups (all of them where
// they are few): the output elements that those groups write are compared. The tuned schedules run natively on this
// machine for each x86 version that it has, and under qemu for aarch64; INGOT_AARCH64_RUNNER names the runner
// (tests/emit_llvm/image_runner.c). Free dims are small unless --dim says otherwise.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>

#include "aotc/driver/compile.h"
#include "aotc/emit/llvm/native_runner.h"
#include "aotc/import/onnx/import.h"
#include "aotc/kernel/interpreter.h"
#include "aotc/kernel/legalise.h"

using namespace ingot::aotc;
namespace dispatch = ingot::aotc::dispatch;
namespace schedule = ingot::aotc::schedule;
namespace kernel = ingot::aotc::kernel;

namespace {

constexpr uint8_t kCanary = 0xa5;
constexpr size_t kSampledGroups = 24;

std::string suite;
int failures = 0;

void show(const char *word, const std::string &test, const std::string &reason = "") {
  std::printf("%s %s/%s%s%s\n", word, suite.c_str(), test.c_str(), reason.empty() ? "" : " # ", reason.c_str());
  std::fflush(stdout);
  failures += std::string(word) == "not ok";
}

std::map<std::string, int64_t> dim_values;

int64_t value_of(const Symbol &s) {
  auto it = dim_values.find(s.name());
  int64_t v = it != dim_values.end() ? it->second : s.kind() == SymbolKind::kDim ? 1 : 3;
  return std::min(std::max(v, s.min()), s.max());
}

int64_t value_of(const Expr &e) {
  return e.evaluate([](const Symbol &s) -> std::optional<int64_t> { return value_of(s); }).value();
}

struct Aligned {
  explicit Aligned(size_t bytes) : size(bytes), data(static_cast<uint8_t *>(std::aligned_alloc(64, (bytes + 127) / 64 * 64)), std::free) {}
  size_t size;
  std::unique_ptr<uint8_t, void (*)(void *)> data;
};

using Contents = std::vector<std::vector<uint8_t>>;

Contents make_contents(const dispatch::Dispatch &d, uint64_t seed) {
  Contents out;
  std::mt19937_64 random(seed);
  for (const dispatch::Operand &o : d.operands) {
    size_t count = static_cast<size_t>(value_of(o.count)), width = byte_size(o.type);
    std::vector<uint8_t> bytes(count * width, kCanary);
    for (size_t i = 0; i < count && !o.output; ++i) {
      if (o.type == ElementType::kF32) {
        float f = static_cast<float>(static_cast<double>(random() >> 11) * 0x1p-53 * 2 - 1);
        std::memcpy(&bytes[i * 4], &f, 4);
      } else if (o.type == ElementType::kF64) {
        double f = static_cast<double>(random() >> 11) * 0x1p-53 * 2 - 1;
        std::memcpy(&bytes[i * 8], &f, 8);
      } else if (o.type == ElementType::kBool) {
        bytes[i] = random() & 1;
      } else if (o.type == ElementType::kF16 || o.type == ElementType::kBF16) {
        uint16_t bits = static_cast<uint16_t>(0x3000 | (random() & 0x8fff));
        std::memcpy(&bytes[i * 2], &bits, 2);
      } else {
        int64_t v = static_cast<int64_t>(random() % 100);
        std::memcpy(&bytes[i * width], &v, width);
      }
    }
    out.push_back(std::move(bytes));
  }
  return out;
}

std::array<uint32_t, 3> grid_of(const schedule::Scheduled &s) {
  std::array<uint32_t, 3> grid;
  for (size_t i = 0; i < 3; ++i)
    grid[i] = static_cast<uint32_t>(value_of(s.grid[i]));
  return grid;
}

std::vector<int64_t> params_of(const dispatch::Dispatch &d) {
  std::vector<int64_t> params;
  if (d.loop)
    for (const Expr &e : d.loop->params)
      params.push_back(value_of(e));
  else
    for (const Symbol &s : d.free_symbols())
      params.push_back(value_of(s));
  return params;
}

// The naive schedule over a sample of groups; what it did not write keeps the canary.
std::string oracle(const dispatch::Dispatch &d, Contents &contents, std::mt19937_64 &random) {
  TargetRecord record = TargetRecord::x86_64_v2();
  schedule::Scheduled s = schedule::schedule_naive(d, record);
  if (std::string problem = kernel::legalise(s.kernel, record); !problem.empty())
    return problem;
  std::vector<kernel::Binding> bindings;
  for (auto &bytes : contents)
    bindings.push_back({bytes.data(), bytes.size()});
  kernel::RunOptions options;
  std::vector<int64_t> params = params_of(d);
  options.params = params;
  options.grid = grid_of(s);
  options.check_races = false;
  uint64_t total = uint64_t{options.grid[0]} * options.grid[1] * options.grid[2];
  if (total == 0)
    return "";
  std::set<uint64_t> chosen = {0, total - 1};
  while (chosen.size() < std::min<uint64_t>(total, kSampledGroups))
    chosen.insert(random() % total);
  std::vector<uint64_t> groups(chosen.begin(), chosen.end());
  options.groups = groups;
  kernel::RunResult result = kernel::interpret(s.kernel, bindings, options);
  return result.ok ? "" : result.message;
}

double to_double(const uint8_t *p, ElementType type) {
  if (type == ElementType::kF32) {
    float f;
    std::memcpy(&f, p, 4);
    return f;
  }
  if (type == ElementType::kF64) {
    double f;
    std::memcpy(&f, p, 8);
    return f;
  }
  uint16_t bits;
  std::memcpy(&bits, p, 2);
  if (type == ElementType::kF16) {
    _Float16 h;
    std::memcpy(&h, &bits, 2);
    return static_cast<double>(h);
  }
  uint32_t wide = uint32_t{bits} << 16;
  float f;
  std::memcpy(&f, &wide, 4);
  return f;
}

// Elements that the oracle wrote agree: floats within 1e-4 |b| + 1e-5 max |b|, everything else equal.
std::string compare(const dispatch::Dispatch &d, const Contents &expected, const Contents &got, size_t &compared) {
  compared = 0;
  for (size_t o = 0; o < d.operands.size(); ++o) {
    if (!d.operands[o].output)
      continue;
    ElementType type = d.operands[o].type;
    size_t width = byte_size(type), count = expected[o].size() / width;
    double scale = 0;
    auto written = [&](size_t i) {
      for (size_t b = 0; b < width; ++b)
        if (expected[o][i * width + b] != kCanary)
          return true;
      return false;
    };
    if (is_float(type))
      for (size_t i = 0; i < count; ++i)
        if (written(i))
          scale = std::max(scale, std::fabs(to_double(&expected[o][i * width], type)));
    double step = type == ElementType::kF16 ? 2e-3 : type == ElementType::kBF16 ? 2e-2 : 1e-4;
    for (size_t i = 0; i < count; ++i) {
      if (!written(i))
        continue;
      ++compared;
      if (!is_float(type)) {
        if (std::memcmp(&expected[o][i * width], &got[o][i * width], width) != 0)
          return "element " + std::to_string(i) + " of output " + std::to_string(o) + " differs";
        continue;
      }
      double want = to_double(&expected[o][i * width], type), is = to_double(&got[o][i * width], type);
      bool same = std::isnan(want) ? std::isnan(is) : want == is || std::fabs(want - is) <= step * std::fabs(want) + step / 10 * scale;
      if (!same) {
        char text[160];
        std::snprintf(text, sizeof text, "element %zu of output %zu is %.9g, expected %.9g", i, o, is, want);
        return text;
      }
    }
  }
  return compared ? "" : "the sample wrote nothing";
}

void pad(std::vector<uint8_t> &out, const void *data, size_t bytes) {
  const auto *p = static_cast<const uint8_t *>(data);
  out.insert(out.end(), p, p + bytes);
  out.resize((out.size() + 63) / 64 * 64);
}

// One kernel under qemu, by the protocol of image_runner.c.
std::string run_qemu(const std::string &runner, const CpuModule &module, const Contents &contents,
                     const std::vector<int64_t> &params, std::array<uint32_t, 3> grid, Contents &out) {
  std::string error;
  std::vector<uint8_t> image = flatten_image(module.elf, &error), input;
  if (!error.empty())
    return error;
  uint64_t head[8] = {image.size(), 1};
  pad(input, head, sizeof head);
  pad(input, image.data(), image.size());
  uint64_t fields[8] = {module.symbols[0].offset, module.symbols[0].scratch_bytes, contents.size(), params.size(), grid[0], grid[1], grid[2]};
  pad(input, fields, sizeof fields);
  pad(input, params.data(), params.size() * 8);
  for (const auto &b : contents) {
    uint64_t size[8] = {b.size()};
    pad(input, size, sizeof size);
    pad(input, b.data(), b.size());
  }
  std::string folder = (std::filesystem::temp_directory_path() / "ingot-kernels-XXXXXX").string();
  if (!mkdtemp(folder.data()))
    return "no temporary folder";
  std::ofstream(folder + "/in", std::ios::binary).write(reinterpret_cast<const char *>(input.data()), static_cast<std::streamsize>(input.size()));
  int status = std::system(("qemu-aarch64-static " + runner + " < " + folder + "/in > " + folder + "/out").c_str());
  std::ifstream read(folder + "/out", std::ios::binary);
  std::vector<char> output((std::istreambuf_iterator<char>(read)), {});
  std::filesystem::remove_all(folder);
  if (status != 0)
    return "qemu ended with status " + std::to_string(status);
  size_t at = 64; // the error word
  for (const auto &b : contents) {
    if (at + b.size() > output.size())
      return "qemu's output is too short";
    out.emplace_back(output.begin() + static_cast<std::ptrdiff_t>(at), output.begin() + static_cast<std::ptrdiff_t>(at + b.size()));
    at = (at + b.size() + 63) / 64 * 64;
  }
  return "";
}

void check_kernel(const dispatch::Dispatch &d, const std::vector<CpuTarget> &targets, const std::string &runner, uint64_t seed) {
  std::mt19937_64 random(seed);
  Contents inputs = make_contents(d, seed), expected = inputs;
  if (std::string problem = oracle(d, expected, random); !problem.empty())
    return show("not ok", d.name + "/oracle", problem);
  for (const CpuTarget &target : targets) {
    TargetRecord record = record_of(target);
    bool arm = target.triple.rfind("aarch64", 0) == 0;
    for (schedule::Scheduled &s : schedule::all_schedules(d, record)) {
      std::string test = d.name + "/" + target.name + "/" + s.description;
      for (char &c : test)
        if (c == ' ')
          c = '_';
      std::string reason;
      if (!arm && !runs_here(target, &reason)) {
        show("skip", test, reason);
        continue;
      }
      if (arm && runner.empty()) {
        show("skip", test, "no aarch64 runner or qemu");
        continue;
      }
      if (std::string problem = kernel::legalise(s.kernel, record); !problem.empty()) {
        show("not ok", test, problem);
        continue;
      }
      CpuResult compiled = compile_cpu({{&s.kernel, "k", record, target}}, {});
      if (!compiled.module) {
        show("not ok", test, compiled.error);
        continue;
      }
      Contents got;
      std::string problem;
      std::array<uint32_t, 3> grid = grid_of(s);
      if (arm) {
        problem = run_qemu(runner, *compiled.module, inputs, params_of(d), grid, got);
      } else {
        auto image = NativeImage::load(compiled.module->elf, &problem);
        if (image) {
          std::vector<std::unique_ptr<Aligned>> memory;
          NativeArgs args;
          for (const auto &b : inputs) {
            memory.push_back(std::make_unique<Aligned>(b.size()));
            std::memcpy(memory.back()->data.get(), b.data(), b.size());
            args.bindings.push_back(memory.back()->data.get());
          }
          args.params = params_of(d);
          args.grid = grid;
          if (grid[0] && grid[1] && grid[2])
            NativeCall(image->at(compiled.module->symbols[0].offset), args, compiled.module->symbols[0].scratch_bytes).run();
          for (auto &m : memory)
            got.emplace_back(m->data.get(), m->data.get() + m->size);
        }
      }
      size_t compared = 0;
      if (problem.empty())
        problem = compare(d, expected, got, compared);
      show(problem.empty() ? "ok" : "not ok", test, problem);
    }
  }
}

} // namespace

int main(int argc, char **argv) {
  std::string path;
  for (int i = 1; i < argc; ++i) {
    std::string a = argv[i];
    if (a.rfind("--dim=", 0) == 0) {
      size_t equals = a.rfind('=');
      dim_values[a.substr(6, equals - 6)] = std::atoll(a.c_str() + equals + 1);
    } else {
      path = a;
    }
  }
  suite = "kernels-" + std::filesystem::path(path).stem().string();
  if (!std::filesystem::exists(path)) {
    std::printf("skip %s/all # the model is not there: tools/setup.sh test brings it\n", suite.c_str());
    return 0;
  }
  ImportOptions import;
  import.path = path;
  Diagnostics diagnostics;
  auto function = import_onnx(import, diagnostics);
  if (!function) {
    for (const Diagnostic &d : diagnostics.list())
      show("not ok", "import", to_string(d));
    return 1;
  }
  fuse::Program program = lower(*function);
  std::vector<CpuTarget> targets;
  std::string error;
  for (const char *name : {"x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64-linux-gnu"})
    targets.push_back(parse_cpu_target(name, &error).value());
  const char *runner_path = std::getenv("INGOT_AARCH64_RUNNER");
  std::string runner = runner_path && std::filesystem::exists(runner_path) &&
                               std::filesystem::exists("/usr/bin/qemu-aarch64-static")
                           ? runner_path : "";
  std::set<uint32_t> used;
  for (const fuse::Step &step : program.steps)
    if (step.kind == fuse::Step::Kind::kDispatch)
      used.insert(step.dispatch);
  std::set<std::string> seen;
  uint64_t seed = 1;
  for (uint32_t d : used)
    if (seen.insert(dispatch::canonical_text(program.dispatches[d])).second)
      check_kernel(program.dispatches[d], targets, runner, seed++);
  return failures ? 1 : 0;
}
