// The simt schedules on GPUs: dispatches of every form that fusion produces (tests/schedule/dispatch_maker.h),
// scheduled for each target's record, against the naive CPU schedule in the interpreter. Together with the four hand-
// scheduled kernels this says that any dispatch can reach SPIR-V, WGSL and PTX.
#include <catch2/catch.hpp>

#include <algorithm>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "aotc/emit/gpu_layout.h"
#include "aotc/emit/ptx/hsaco.h"
#include "aotc/emit/ptx/ptx.h"
#include "aotc/emit/spirv/spirv.h"
#include "aotc/emit/text/text.h"
#include "aotc/kernel/legalise.h"
#include "aotc/kernel/text.h"
#include "aotc/schedule/simt/fragments.h"
#include "tests/gpu_spike/amd_host.h"
#include "tests/gpu_spike/case_files.h"
#include "tests/gpu_spike/metal_host.h"
#include "tests/gpu_spike/hsaco_check.h"
#include "tests/gpu_spike/ptx_host.h"
#include "tests/gpu_spike/tools.h"
#include "tests/gpu_spike/vulkan_host.h"
#include "tests/sanitizers.h"
#include "tests/schedule/run.h"

using namespace ingot::aotc;
using namespace ingot::aotc::gpu_spike;
namespace made = ingot::aotc::testing;

namespace {

struct Work {
  std::string name;
  made::Case c;
  made::Buffers inputs, reference;
};

Work make_work(const std::string &name, made::Case c, uint64_t seed) {
  Work work{name, std::move(c), {}, {}};
  work.inputs = made::make_buffers(work.c, seed);
  work.reference = work.inputs;
  INFO(name);
  REQUIRE(made::interpret(work.c, schedule::schedule_naive(work.c.dispatch, TargetRecord::x86_64_v2()), work.reference) == "");
  return work;
}

std::vector<Work> all_work() {
  std::vector<Work> out;
  auto add = [&](const std::string &name, made::Case c) { out.push_back(make_work(name, std::move(c), out.size() + 1)); };
  for (int kind = 0; kind < 4; ++kind)
    add("elementwise_" + std::to_string(kind), made::elementwise({3, 5, 17}, kind, kind));
  add("elementwise_one", made::elementwise({1}, 0, 0));
  Symbol rows = Symbol::dim("rows", 1, 1000), columns = Symbol::dim("columns", 1, 1000);
  add("softmax", made::softmax(Expr(7), Expr(131)));
  add("softmax_symbolic", made::softmax(Expr(rows), Expr(columns), {{rows, 5}, {columns, 67}}));
  add("layer_norm", made::layer_norm(Expr(13), Expr(64)));
  add("matmul", made::matmul(1, 17, 31, 23, false, true, 1, false));
  add("matmul_batched", made::matmul(3, 5, 7, 11, true, false, 0, true));
  made::ConvShape plain;
  add("conv", made::conv(plain));
  made::ConvShape grouped;
  grouped.groups = 3, grouped.in = 2, grouped.out = 2, grouped.stride = {2, 1}, grouped.dilation = {1, 2}, grouped.activation = 2;
  add("conv_grouped", made::conv(grouped));
  add("pool_max", made::pool(3, {9, 7}, {3, 2}, {2, 2}, {1, 0}, true));
  add("pool_average", made::pool(2, {5, 6}, {2, 3}, {1, 2}, {0, 1}, false));
  using made::ReduceKind;
  for (auto [kind, name] : {std::pair{ReduceKind::kAdd, "add"}, {ReduceKind::kMax, "max"}, {ReduceKind::kMul, "mul"},
                            {ReduceKind::kArgMax, "argmax"}, {ReduceKind::kArgMinLast, "argminlast"}})
    add(std::string("reduce_") + name, made::reduce(kind, {4, 19, 3}, {1}));
  // Where there are matrix units, these use them.
  add("matmul_deep", made::matmul(1, 35, 40, 200, false, true, 3, false));
  add("matmul_half", made::in_half(made::matmul(2, 33, 40, 136, false, true, 1, true)));
  made::ConvShape wide;
  wide.in = 16, wide.out = 17, wide.size = {9, 8}, wide.pad = {1, 1}, wide.kernel = {3, 3}, wide.activation = 1;
  add("conv_half", made::in_half(made::conv(wide)));
  made::AttentionShape heads;
  heads.rows = 21, heads.keys = 70, heads.depth = 24, heads.columns = 16, heads.mask = made::AttentionShape::Mask::kKeys;
  add("attention", made::attention(heads));
  heads.depth = 21, heads.columns = 11, heads.keys = 140, heads.mask = made::AttentionShape::Mask::kCausal, heads.values_transposed = true;
  add("attention_uneven", made::attention(heads));
  add("transpose", made::transpose({3, 7, 5}, {2, 0, 1}));
  add("concat", made::concat({3, 4, 5, 6}));
  add("gather_rows", made::gather_rows(6, 11, 9));
  return out;
}

struct Launch {
  kernel::Kernel kernel;
  std::array<uint32_t, 3> grid = {1, 1, 1};
  std::vector<int64_t> params;
  std::vector<std::vector<uint32_t>> buffers;
};

enum class Which { kNaive, kBest };

// Attention on matrix units rounds its weights to f16: "" where what is f32 is as near as that leaves it.
std::string compare(const Work &work, const made::Buffers &got, bool weights_of_f16) {
  if (!weights_of_f16)
    return made::compare(work.c, got, work.reference);
  for (size_t o = 0; o < got.bytes.size(); ++o) {
    if (!work.c.dispatch.operands[o].output || work.c.dispatch.operands[o].type != ElementType::kF32)
      continue;
    std::vector<float> x(got.bytes[o].size() / 4), y(x.size());
    std::memcpy(x.data(), got.bytes[o].data(), x.size() * 4);
    std::memcpy(y.data(), work.reference.bytes[o].data(), y.size() * 4);
    float largest = 0;
    for (float value : y)
      largest = std::isnan(value) ? largest : std::max(largest, std::fabs(value));
    for (size_t i = 0; i < x.size(); ++i)
      if (std::isnan(x[i]) != std::isnan(y[i]) || std::fabs(x[i] - y[i]) > 1e-3F * largest)
        return "element " + std::to_string(i) + " is " + std::to_string(x[i]) + ", expected " + std::to_string(y[i]);
  }
  return "";
}

Launch launch_for(const Work &work, const TargetRecord &record, const schedule::Scheduled &scheduled, bool weights_of_f16 = false) {
  INFO(work.name << " for " << record.name << "\n" << dispatch::print(work.c.dispatch));
  made::Buffers simt = work.inputs;
  REQUIRE(made::interpret(work.c, scheduled, simt) == "");
  REQUIRE(compare(work, simt, weights_of_f16) == "");
  Launch launch;
  launch.kernel = scheduled.kernel;
  REQUIRE(kernel::legalise(launch.kernel, record) == "");
  for (size_t i = 0; i < 3; ++i)
    launch.grid[i] = static_cast<uint32_t>(made::value_of(scheduled.grid[i], work.c));
  for (const Symbol &symbol : work.c.dispatch.free_symbols())
    launch.params.push_back(made::value_of(symbol, work.c));
  for (const std::vector<uint8_t> &bytes : work.inputs.bytes) {
    std::vector<uint32_t> words(std::max<size_t>(1, (bytes.size() + 3) / 4));
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<uint8_t *>(words.data()));
    words.resize(words.size() + kGuardWords, kCanary);
    launch.buffers.push_back(std::move(words));
  }
  return launch;
}

Launch launch_for(const Work &work, const TargetRecord &record, Which which = Which::kNaive) {
  return launch_for(work, record, which == Which::kNaive ? schedule::schedule_naive(work.c.dispatch, record) : schedule::schedule(work.c.dispatch, record));
}

std::string judge(const Work &work, const std::vector<std::vector<uint32_t>> &results, bool weights_of_f16 = false) {
  made::Buffers got = work.inputs;
  for (size_t i = 0; i < results.size(); ++i) {
    std::copy_n(reinterpret_cast<const uint8_t *>(results[i].data()), got.bytes[i].size(), got.bytes[i].begin());
    if (results[i].back() != kCanary || results[i][results[i].size() - kGuardWords] != kCanary)
      return "wrote past the end of buffer " + std::to_string(i);
  }
  return compare(work, got, weights_of_f16);
}

DeviceCase device_case(const Work &work, const Launch &launch, std::string text, std::string entry, std::string extension) {
  DeviceCase d{work.name, std::move(text), std::move(entry), std::move(extension), launch.kernel.local_size, launch.grid,
               param_words(launch.kernel, launch.params), launch.buffers, {}};
  for (size_t i = 0; i < work.c.dispatch.operands.size(); ++i) {
    const dispatch::Operand &operand = work.c.dispatch.operands[i];
    if (!operand.output)
      continue;
    const std::vector<uint8_t> &bytes = work.reference.bytes[i];
    if (operand.type != ElementType::kF32) {
      d.expectations.push_back({i, std::string(name(to_scalar(operand.type))), bytes});
      continue;
    }
    std::vector<float> values(bytes.size() / 4);
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<uint8_t *>(values.data()));
    float largest = 0;
    for (float value : values)
      largest = std::max(largest, std::fabs(value));
    std::vector<double> pairs;
    for (float value : values)
      pairs.insert(pairs.end(), {value, 1e-4 * std::fabs(value) + 1e-5 * largest});
    const auto *first = reinterpret_cast<const uint8_t *>(pairs.data());
    d.expectations.push_back({i, "bound", {first, first + pairs.size() * sizeof(double)}});
  }
  return d;
}

} // namespace

TEST_CASE("schedules on Vulkan") {
  std::string why;
  std::unique_ptr<VulkanHost> host = VulkanHost::open(why);
  if (!host)
    return print_skip("schedules on Vulkan", why);
  TargetRecord record = TargetRecord::vulkan_baseline();
  for (const Work &work : all_work())
    for (Which which : {Which::kNaive, Which::kBest}) {
      Launch launch = launch_for(work, record, which);
      INFO(work.name << "\n" << kernel::print(launch.kernel));
      CHECK(host->run(emit::emit_spirv(launch.kernel, record), launch.kernel.name, launch.buffers,
                      params_block(launch.kernel, launch.params), launch.grid) == "");
      CHECK(judge(work, launch.buffers) == "");
    }
}

TEST_CASE("schedules on Dawn") {
  Dawn dawn;
  if (!dawn.missing.empty())
    return print_skip("schedules on Dawn", dawn.missing);
  TargetRecord record = TargetRecord::webgpu_baseline();
  std::vector<Work> works = all_work();
  std::vector<DeviceCase> cases;
  for (const Work &work : works) {
    Launch launch = launch_for(work, record, Which::kBest);
    cases.push_back(device_case(work, launch, emit::emit_wgsl(launch.kernel, record), emit::text_entry(launch.kernel), ".wgsl"));
  }
  std::string folder = make_folder("ingot-wgsl-naive");
  REQUIRE(write_case_files(folder, cases) == "");
  for (size_t first = 0; first < cases.size(); first += Dawn::kBatch) {
    Run run = dawn.run(folder, first);
    INFO(run.output);
    REQUIRE(run.output.find("adapter ") != std::string::npos);
    CHECK(run.status == 0);
  }
  for (size_t i = 0; i < cases.size(); ++i) {
    INFO(works[i].name << "\n" << cases[i].text);
    std::vector<std::vector<uint32_t>> results = cases[i].buffers;
    for (const DeviceCase::Expectation &expectation : cases[i].expectations) {
      std::vector<uint32_t> words = read_result(folder, i, expectation.buffer);
      REQUIRE(words.size() == results[expectation.buffer].size());
      results[expectation.buffer] = std::move(words);
    }
    CHECK(judge(works[i], results) == "");
  }
  std::filesystem::remove_all(folder);
}

TEST_CASE("schedules as MSL") {
  std::string why;
  std::unique_ptr<MetalHost> host = MetalHost::open(why);
  if (!host)
    return print_skip("schedules as MSL", why);
  TargetRecord record = metal_record();
  std::vector<Work> works = all_work();
  std::vector<Launch> launches;
  for (const Work &work : works) {
    launches.push_back(launch_for(work, record, Which::kBest));
    host->add(launches.back().kernel, record);
  }
  REQUIRE(host->load() == "");
  for (size_t i = 0; i < works.size(); ++i) {
    INFO(works[i].name << "\n" << host->text(i));
    CHECK(host->run(i, launches[i].buffers, params_block(launches[i].kernel, launches[i].params), launches[i].grid) == "");
    CHECK(judge(works[i], launches[i].buffers) == "");
  }
}

// With INGOT_GPU_CASES the case files are kept for run_cuda.
TEST_CASE("naive schedules as PTX") {
  std::string tool = find_tool("INGOT_PTXAS", "ptxas");
  if (tool.empty())
    return print_skip("naive schedules as PTX", "no ptxas (PyPI's nvidia-cuda-nvcc; INGOT_PTXAS)");
  TargetRecord record = TargetRecord::cuda_sm80();
  const char *kept = std::getenv("INGOT_GPU_CASES");
  std::string folder = kept ? std::string(kept) + "/naive" : make_folder("ingot-ptx-naive");
  std::vector<DeviceCase> cases;
  for (const Work &work : all_work()) {
    Launch launch = launch_for(work, record);
    cases.push_back(device_case(work, launch, emit::emit_ptx({&launch.kernel}, record), launch.kernel.name, ".ptx"));
  }
  REQUIRE(write_case_files(folder, cases) == "");
  for (size_t i = 0; i < cases.size(); ++i) {
    Run run = run_command(tool + " -O1 -arch=sm_80 -o " + folder + "/out.cubin " + folder + "/" + std::to_string(i) + ".ptx");
    INFO(cases[i].name << ": " << run.output);
    CHECK(run.status == 0);
  }
  if (!kept)
    std::filesystem::remove_all(folder);
}

TEST_CASE("schedules as PTX, in an interpreter") {
  TargetRecord record = TargetRecord::cuda_sm80();
  size_t constant_loads[2] = {}; // kernels with such
  for (const Work &work : all_work()) {
    Launch launch = launch_for(work, record, Which::kBest);
    for (const char *architecture : {"sm_80", "sm_90"}) {
      std::vector<std::vector<uint32_t>> buffers = launch.buffers;
      std::string text = emit::emit_ptx({&launch.kernel}, record, *emit::ptx_options(architecture));
      INFO(work.name << "\n" << text);
      // What starts early may read what is being written: no load of the kind whose memory may not change, but of constants.
      const bool constants = std::any_of(launch.kernel.memories.begin(), launch.kernel.memories.end(), [](const kernel::Memory &m) { return m.constant; });
      if (architecture == std::string("sm_80") || !constants)
        (architecture == std::string("sm_80") ? constant_loads[0] : constant_loads[1]) += text.find("ld.global.nc") != std::string::npos;
      CHECK(run_ptx(text, launch.kernel.name, buffers, param_words(launch.kernel, launch.params), launch.grid, launch.kernel.local_size,
                    static_cast<uint32_t>(emit::workgroup_layout(launch.kernel, record).bytes), architecture == std::string("sm_90") ? &launch.kernel : nullptr) == "");
      CHECK(judge(work, buffers) == "");
    }
  }
  CHECK(constant_loads[0] > 10);
  CHECK(constant_loads[1] == 0);
}

TEST_CASE("schedules as code objects for AMD GPUs") {
  if (std::string why = hsaco_tools_missing(); !why.empty())
    return print_skip("schedules as code objects for AMD GPUs", why);
  const std::vector<std::string> chips = {"gfx90a", "gfx942", "gfx1030", "gfx1100", "gfx1201"};
  std::vector<Work> works = all_work();
  for (size_t i = 0; i < works.size(); ++i) {
    const std::string &chip = chips[i % chips.size()];
    const TargetRecord record = *emit::rocm_record(chip);
    const Launch launch = launch_for(works[i], record, Which::kBest);
    INFO(works[i].name << " " << chip);
    std::vector<uint8_t> object = emit::emit_hsaco(launch.kernel, record, chip);
    CHECK(check_hsaco(launch.kernel, object) == "");
    CHECK(object == emit::emit_hsaco(launch.kernel, record, chip)); // deterministic
    kernel::Kernel other = launch.kernel;
    other.local_size[0] += 1;
    CHECK(check_hsaco(other, object) != "");
  }
  CHECK(!emit::rocm_record("gfx906"));
}

TEST_CASE("schedules for AMD GPUs, on this CPU", "[amd]") {
  const std::vector<Work> works = all_work();
  for (const char *chip : {"gfx942", "gfx1030", "gfx1100", "gfx1201"}) {
    const TargetRecord record = *emit::rocm_record(chip);
    size_t products = 0;
    for (const Work &work : works) {
      Launch launch = launch_for(work, record, Which::kBest);
      INFO(work.name << " " << chip << "\n" << kernel::print(launch.kernel).substr(0, 4000));
      CHECK(run_amd(launch.kernel, record, launch.buffers, param_words(launch.kernel, launch.params), launch.grid, &products) == "");
      CHECK(judge(work, launch.buffers) == "");
    }
    CHECK((products > 0) == record.fragment_f16);
  }
}

namespace {

// Products, convolutions and attention of f16 of seeded sizes, with each tile in turn.
struct FragmentWork {
  Work work;
  schedule::Scheduled scheduled;
  bool attention() const { return scheduled.description.find("simt_attention_fragments") != std::string::npos; }
};
std::vector<FragmentWork> fragment_work(const TargetRecord &record, uint64_t seed, int count) {
  std::mt19937_64 random(seed);
  auto draw = [&](int64_t lo, int64_t hi) { return lo + static_cast<int64_t>(random() % static_cast<uint64_t>(hi - lo + 1)); };
  std::vector<FragmentWork> out;
  auto add = [&](made::Case c, int tile) {
    Work work = make_work("fragments", std::move(c), random());
    if (auto scheduled = schedule::schedule_simt_fragments(work.c.dispatch, record, tile))
      out.push_back({std::move(work), std::move(*scheduled)});
  };
  for (int i = 0; i < count; ++i) {
    const bool even = i % 3 != 0; // else lines that do not come 16 bytes at once
    const int64_t n = even ? 8 * draw(1, 12) : draw(1, 90), k = even ? 8 * draw(2, 24) : draw(9, 150);
    add(made::in_half(made::matmul(draw(1, 2), draw(1, 90), n, k, i % 2 == 0, true, i % 4, false)), i);
    if (i % 3 == 0) {
      made::ConvShape conv;
      conv.in = 8 * draw(1, 3), conv.out = draw(1, 3) * 8, conv.activation = i % 4;
      add(made::in_half(made::conv(conv)), i / 3 + 4);
    }
    if (i % 2 == 0) {
      made::AttentionShape heads;
      heads.rows = draw(1, 40), heads.keys = draw(1, 150), heads.depth = 8 * draw(1, 9), heads.columns = 8 * draw(1, 5);
      heads.mask = static_cast<made::AttentionShape::Mask>(i / 2 % 5), heads.interleaved = i % 4 == 0, heads.batch = draw(1, 2);
      Work work = make_work("attention", made::in_half(made::attention(heads), 3), random());
      schedule::Scheduled s = schedule::schedule(work.c.dispatch, record);
      if (FragmentWork w{std::move(work), std::move(s)}; w.attention())
        out.push_back(std::move(w));
    }
  }
  return out;
}

} // namespace

TEST_CASE("matrix units of AMD GPUs, on this CPU", "[amd]") {
  const bool tools = hsaco_tools_missing().empty();
  if (!tools)
    print_skip("matrix units of AMD GPUs as code objects", hsaco_tools_missing());
#ifdef INGOT_ADDRESS_SANITIZER // eight times as long
  const std::vector<const char *> chips = {"gfx1100"};
#else
  const std::vector<const char *> chips = {"gfx942", "gfx90a", "gfx1100", "gfx1201"};
#endif
  for (const char *chip : chips) {
    const TargetRecord record = *emit::rocm_record(chip);
    const std::string instruction = record.fragment.threads == 64 ? "v_mfma_f32_16x16x16" : "v_wmma_f32_16x16x16_f16";
    std::vector<FragmentWork> works = fragment_work(record, 17, 10);
    size_t attention = 0, number = 0;
    for (FragmentWork &w : works) {
      INFO(chip << " " << w.scheduled.description);
      attention += w.attention();
      Launch launch = launch_for(w.work, record, w.scheduled, w.attention());
      CAPTURE(kernel::print(launch.kernel).substr(0, 6000));
      size_t products = 0;
      CHECK(run_amd(launch.kernel, record, launch.buffers, param_words(launch.kernel, launch.params), launch.grid, &products) == "");
      CHECK(judge(w.work, launch.buffers, w.attention()) == "");
      CHECK(products > 0);
      if (!tools || number++ % 4 != 0)
        continue;
      const std::vector<uint8_t> object = emit::emit_hsaco(launch.kernel, record, chip);
      CHECK(check_hsaco(launch.kernel, object) == "");
      CHECK(look_into_hsaco(object, instruction).instructions > 0);
      CHECK(look_into_hsaco(object, "v_nothing").instructions == 0);
    }
    CHECK((attention > 3) == record.fragment_subnormals);
    // Faults are found.
    for (AmdFault fault : {AmdFault::kSumsElsewhere, AmdFault::kFactorElsewhere, AmdFault::kNoExchange, AmdFault::kNoBarriers}) {
      if (fault == AmdFault::kNoExchange && record.fragment.threads == 64)
        continue;
      size_t found = 0;
      for (size_t i = 0; i < works.size() && found == 0; ++i) {
        if (fault == AmdFault::kNoExchange && !works[i].attention())
          continue;
        Launch launch = launch_for(works[i].work, record, works[i].scheduled, works[i].attention());
        const std::string wrong = run_amd(launch.kernel, record, launch.buffers, param_words(launch.kernel, launch.params), launch.grid, nullptr, fault);
        found += !wrong.empty() || !judge(works[i].work, launch.buffers, works[i].attention()).empty();
      }
      INFO(chip << " fault " << static_cast<int>(fault));
      CHECK(found == 1);
    }
  }
}

TEST_CASE("products on matrix units as PTX") {
  std::string tool = find_tool("INGOT_PTXAS", "ptxas");
  if (tool.empty())
    return print_skip("products on matrix units as PTX", "no ptxas (PyPI's nvidia-cuda-nvcc; INGOT_PTXAS)");
  TargetRecord record = TargetRecord::cuda_sm80();
  std::string folder = make_folder("ingot-ptx-fragments");
  made::ConvShape shape;
  shape.in = 8, shape.out = 16, shape.activation = 3;
  std::vector<made::Case> cases = {made::in_half(made::matmul(1, 70, 80, 72, false, true, 1, false)),
                                   made::in_half(made::matmul(2, 33, 40, 64, true, true, 3, true)), made::in_half(made::conv(shape))};
  for (size_t i = 0; i < cases.size(); ++i)
    for (int tile = 0; tile < 13; tile += 1 + static_cast<int>(i)) {
      auto s = schedule::schedule_simt_fragments(cases[i].dispatch, record, tile);
      REQUIRE(s);
      INFO(s->description);
      REQUIRE(kernel::legalise(s->kernel, record) == "");
      std::string text = emit::emit_ptx({&s->kernel}, record);
      CHECK(text.find("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32") != std::string::npos);
      CHECK(text.find("ldmatrix.sync.aligned.m8n8.x4") != std::string::npos);
      CHECK((text.find("cp.async.cg.shared.global") != std::string::npos) == (s->description.find("copied") != std::string::npos));
      std::ofstream(folder + "/k.ptx") << text;
      for (const char *architecture : {"sm_80", "sm_90"}) {
        Run run = run_command(tool + " -O1 -arch=" + architecture + " -o " + folder + "/out.cubin " + folder + "/k.ptx");
        INFO(run.output);
        CHECK(run.status == 0);
      }
    }
  std::filesystem::remove_all(folder);
}

TEST_CASE("products of bytes on matrix units as PTX") {
  const std::string tool = find_tool("INGOT_PTXAS", "ptxas"), folder = make_folder("ingot-ptx-bytes");
  if (tool.empty())
    print_skip("products of bytes on matrix units assembled", "no ptxas (PyPI's nvidia-cuda-nvcc; INGOT_PTXAS)");
  made::ByteConvShape padded, stem;
  padded.in = 32, padded.out = 48, padded.pad = 1, padded.size = {6, 9};
  stem.in = 3, stem.out = 16, stem.kernel = 5, stem.stride = 2, stem.requantise = false;
  const made::Case cases[] = {made::byte_matmul(1, 70, 80, 208, true, true, true, {}, true), made::byte_matmul(2, 33, 40, 65, false, true, false, {}, true),
                              made::byte_matmul(1, 40, 36, 96, true, false, true), made::byte_conv(padded), made::byte_conv(stem)};
  constexpr ElementType kTypes[] = {ElementType::kU8, ElementType::kI8};
  uint64_t seed = 0;
  for (const made::Case &c : cases)
    for (ElementType left : kTypes)
      for (ElementType right : kTypes) {
        Work work = make_work("bytes", made::with_bytes(c, left, right), ++seed);
        for (const char *architecture : {"sm_80", "sm_90", "sm_90a"}) {
          const TargetRecord record = architecture == std::string("sm_90a") ? TargetRecord::cuda_sm90a() : TargetRecord::cuda_sm80();
          auto scheduled = schedule::schedule_simt_fragments(work.c.dispatch, record, static_cast<int>(seed % 13));
          REQUIRE(scheduled);
          INFO(scheduled->description);
          const Launch launch = launch_for(work, record, *scheduled);
          const std::string text = emit::emit_ptx({&launch.kernel}, record, *emit::ptx_options(architecture));
          const std::string signs = std::string(left == ElementType::kU8 ? "u8" : "s8") + (right == ElementType::kU8 ? ".u8" : ".s8");
          CHECK(text.find("mma.sync.aligned.m16n8k32.row.col.s32." + signs + ".s32") != std::string::npos);
          CHECK((text.find("cp.async.cg.shared.global") != std::string::npos) == (scheduled->description.find("copied") != std::string::npos));
          std::vector<std::vector<uint32_t>> buffers = launch.buffers;
          CHECK(run_ptx(text, launch.kernel.name, buffers, param_words(launch.kernel, launch.params), launch.grid, launch.kernel.local_size,
                        static_cast<uint32_t>(emit::workgroup_layout(launch.kernel, record).bytes), architecture == std::string("sm_80") ? nullptr : &launch.kernel) == "");
          CHECK(judge(work, buffers) == "");
          if (tool.empty())
            continue;
          std::ofstream(folder + "/k.ptx") << text;
          const Run run = run_command(tool + " -O1 -arch=" + architecture + " -o " + folder + "/out.cubin " + folder + "/k.ptx");
          INFO(run.output);
          CHECK(run.status == 0);
        }
      }
  std::filesystem::remove_all(folder);
}

// A kernel that begins early asks for its constants first, and waits before it touches anything else.
TEST_CASE("what kernels ahead may write is touched behind a wait") {
  const TargetRecord record = TargetRecord::cuda_sm90a();
  const std::string wait = "griddepcontrol.wait;";
  for (int tile : {6, 20, 22})
    for (const bool constant : {true, false}) {
      Work work = make_work("early", made::in_half(made::matmul(1, 70, 64, 512, true, true, 1, false)), 5);
      work.c.dispatch.operands[1].constant = constant;
      auto scheduled = schedule::schedule_simt_fragments(work.c.dispatch, record, tile);
      REQUIRE(scheduled);
      INFO(scheduled->description << (constant ? ", a constant" : ""));
      const Launch launch = launch_for(work, record, *scheduled);
      const std::string text = emit::emit_ptx({&launch.kernel}, record, *emit::ptx_options("sm_90a"));
      size_t early_reads = 0;
      auto result = [&](const std::string &of) {
        std::vector<std::vector<uint32_t>> buffers = launch.buffers;
        std::string problem = run_ptx(of, launch.kernel.name, buffers, param_words(launch.kernel, launch.params), launch.grid, launch.kernel.local_size,
                                      static_cast<uint32_t>(emit::workgroup_layout(launch.kernel, record).bytes), &launch.kernel, &early_reads);
        return problem.empty() ? judge(work, buffers) : problem;
      };
      CHECK(result(text) == "");
      CHECK((early_reads > 0) == constant);
      CHECK(text.find("st.global.v4") != std::string::npos); // a thread's columns lie side by side
      std::string without = text;
      for (size_t at; (at = without.find(wait)) != std::string::npos;)
        without.erase(at, wait.size());
      CHECK(result(without).find("before griddepcontrol.wait") != std::string::npos);
      std::string late = without; // behind all else
      late.insert(late.rfind("ret;"), wait + "\n\t");
      CHECK(result(late).find("what a kernel ahead writes is read before griddepcontrol.wait") != std::string::npos);
    }
  // One that touches no buffer waits too: who waits for it relies on that.
  kernel::Kernel nothing;
  REQUIRE(kernel::parse("kernel @nothing simt local 32 1 1 {\n  buffer @x read f32 align 64\n}\n", nothing) == "");
  std::vector<std::vector<uint32_t>> buffers = {std::vector<uint32_t>(4)};
  const std::string text = emit::emit_ptx({&nothing}, record, *emit::ptx_options("sm_90a"));
  CHECK(run_ptx(text, "nothing", buffers, {}, {1, 1, 1}, {32, 1, 1}, 0, &nothing) == "");
  std::string without = text;
  without.erase(without.find(wait), wait.size());
  CHECK(run_ptx(without, "nothing", buffers, {}, {1, 1, 1}, {32, 1, 1}, 0, &nothing).find("ends without griddepcontrol.wait") != std::string::npos);
}

// A row by a matrix asks for its first batches before it waits: by ld.global, as ptxas moves the wait ahead of ld.global.nc.
TEST_CASE("a row by a matrix reads constants before its wait") {
  const TargetRecord record = TargetRecord::cuda_sm90a();
  Work work = make_work("early_row", made::in_half(made::matmul(1, 1, 64, 4096, false, true, 1, false)), 7);
  work.c.dispatch.operands[1].constant = true;
  const Launch launch = launch_for(work, record, Which::kBest);
  const std::string text = emit::emit_ptx({&launch.kernel}, record, *emit::ptx_options("sm_90a"));
  const size_t wait = text.find("griddepcontrol.wait;");
  REQUIRE(wait != std::string::npos);
  CHECK(text.find("ld.global.v4") < wait);
  const size_t nc = text.find("ld.global.nc.v4");
  CHECK(nc != std::string::npos);
  CHECK(nc > wait);
  std::vector<std::vector<uint32_t>> buffers = launch.buffers;
  size_t early_reads = 0;
  CHECK(run_ptx(text, launch.kernel.name, buffers, param_words(launch.kernel, launch.params), launch.grid, launch.kernel.local_size,
                static_cast<uint32_t>(emit::workgroup_layout(launch.kernel, record).bytes), &launch.kernel, &early_reads) == "");
  CHECK(judge(work, buffers) == "");
  CHECK(early_reads > 0);
  const std::string tool = find_tool("INGOT_PTXAS", "ptxas"), folder = make_folder("ingot-ptx-early-row");
  if (tool.empty())
    return print_skip("registers of a row by a matrix", "no ptxas (PyPI's nvidia-cuda-nvcc; INGOT_PTXAS)");
  made::Case large = made::in_half(made::matmul(1, 1, 4096, 4096, false, true, 0, false));
  large.dispatch.operands[1].constant = true;
  schedule::Scheduled scheduled = schedule::schedule(large.dispatch, record);
  REQUIRE(kernel::legalise(scheduled.kernel, record) == "");
  std::ofstream(folder + "/k.ptx") << emit::emit_ptx({&scheduled.kernel}, record, *emit::ptx_options("sm_90a"));
  Run run = run_command(tool + " -v -arch=sm_90a -o " + folder + "/out.cubin " + folder + "/k.ptx");
  INFO(run.output);
  CHECK(run.status == 0);
  const size_t used = run.output.find("Used ");
  REQUIRE(used != std::string::npos);
  CHECK(std::stoi(run.output.substr(used + 5)) <= 64); // two workgroups a processor
  std::filesystem::remove_all(folder);
}

// What is under way reads its factors as late as it may, in the mock: when it is waited for.
TEST_CASE("products by warpgroups as PTX") {
  const TargetRecord record = TargetRecord::cuda_sm90a();
  const std::string tool = find_tool("INGOT_PTXAS", "ptxas"), folder = make_folder("ingot-ptx-warpgroups");
  if (tool.empty())
    print_skip("products by warpgroups assembled", "no ptxas (PyPI's nvidia-cuda-nvcc; INGOT_PTXAS)");
  std::vector<std::string> seen;
  for (int tile = 13; tile < 31; ++tile)
    for (int64_t depth : {200, 1160}) {
      Work work = make_work("warpgroups", made::in_half(made::matmul(1, tile % 2 ? 70 : 33, tile % 3 ? 40 : 140, depth, true, true, tile % 4, false)), static_cast<uint64_t>(tile));
      auto scheduled = schedule::schedule_simt_fragments(work.c.dispatch, record, tile);
      if (!scheduled)
        continue; // too deep for its slices
      INFO(scheduled->description);
      seen.push_back(scheduled->description);
      const Launch launch = launch_for(work, record, *scheduled);
      const std::string text = emit::emit_ptx({&launch.kernel}, record, *emit::ptx_options("sm_90a"));
      CHECK(text.find("wgmma.mma_async.sync.aligned.m64n") != std::string::npos);
      std::vector<std::vector<uint32_t>> buffers = launch.buffers;
      CHECK(run_ptx(text, launch.kernel.name, buffers, param_words(launch.kernel, launch.params), launch.grid, launch.kernel.local_size,
                    static_cast<uint32_t>(emit::workgroup_layout(launch.kernel, record).bytes), &launch.kernel) == "");
      CHECK(judge(work, buffers) == "");
      if (tool.empty())
        continue;
      std::ofstream(folder + "/k.ptx") << text;
      const Run run = run_command(tool + " -v -O1 -arch=sm_90a -o " + folder + "/out.cubin " + folder + "/k.ptx");
      INFO(run.output);
      CHECK(run.status == 0);
      CHECK(run.output.find("serialized") == std::string::npos); // what ptxas says where products would wait for each other
    }
  for (const char *what : {"stages=3", "stages=4", "deep=4", "n=256"})
    if (std::none_of(seen.begin(), seen.end(), [&](const std::string &s) { return s.find(what) != std::string::npos; }))
      FAIL_CHECK("no kernel with " << what);
  std::filesystem::remove_all(folder);
}
