// Kernels that are fed (tests/kernel/feed_kernel.h) as PTX, in an interpreter: what they leave, and that faults in the text are found.
#include <catch2/catch.hpp>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "aotc/emit/gpu_layout.h"
#include "aotc/emit/ptx/ptx.h"
#include "aotc/kernel/legalise.h"
#include "aotc/kernel/text.h"
#include "tests/gpu_spike/case_files.h"
#include "tests/gpu_spike/cases.h"
#include "tests/gpu_spike/ptx_host.h"
#include "tests/gpu_spike/tools.h"
#include "tests/kernel/feed_kernel.h"

using namespace ingot::aotc;
using namespace ingot::aotc::gpu_spike;
namespace feeding = kernel::feeding;

namespace {

template <class T> std::vector<uint32_t> words(const std::vector<T> &values) {
  std::vector<uint32_t> out((values.size() * sizeof(T) + 3) / 4);
  std::memcpy(out.data(), values.data(), values.size() * sizeof(T));
  return out;
}

// A kernel with its buffers, the last being what it writes.
struct Fed {
  kernel::Kernel kernel;
  std::string text;
  std::vector<std::vector<uint32_t>> buffers;
  std::vector<uint32_t> wanted;
  std::vector<int64_t> params;
  uint32_t groups = 1;
  bool more = false; // slices than stages

  void emit() {
    const TargetRecord record = TargetRecord::cuda_sm90a();
    REQUIRE(kernel::legalise(kernel, record) == "");
    text = emit::emit_ptx({&kernel}, record, *emit::ptx_options("sm_90a"));
    buffers.emplace_back(wanted.size() + kGuardWords, kCanary);
  }
  // "", what is said to be wrong, or "wrong" where another result comes without a word.
  std::string run(const std::string &of, size_t *early_reads = nullptr) const {
    std::vector<std::vector<uint32_t>> b = buffers;
    const auto shared = static_cast<uint32_t>(emit::workgroup_layout(kernel, TargetRecord::cuda_sm90a()).bytes);
    const std::string problem = run_ptx(of, kernel.name, b, param_words(kernel, params), {groups, 1, 1}, kernel.local_size, shared, &kernel, early_reads);
    if (!problem.empty())
      return problem;
    std::vector<uint32_t> all = wanted;
    all.resize(all.size() + kGuardWords, kCanary);
    return b.back() == all ? "" : "wrong";
  }
};

Fed boxes(uint64_t seed, size_t rank, int64_t stages, int64_t slices, std::optional<bool> constant = {}, std::optional<bool> known = {}) {
  feeding::Case c = feeding::make_case(seed, rank, stages, slices);
  c.constant = constant.value_or(c.constant);
  c.slices_known = known.value_or(c.slices_known);
  Fed f;
  f.kernel = feeding::make_kernel(c);
  f.buffers = {words(c.buffers[0]), words(c.buffers[1])};
  f.wanted = words(feeding::expected(c)); // what the interpreter gives too, as tests/kernel has it
  if (!c.slices_known)
    f.params = {slices};
  f.groups = c.groups;
  f.more = slices > stages;
  f.emit();
  return f;
}
Fed product(int64_t columns, int64_t slices, int64_t stages, bool constant) {
  Fed f;
  const feeding::Factors factors(columns, slices, 9);
  f.kernel = feeding::make_product(columns, slices, stages, constant);
  f.buffers = {words(factors.x), words(factors.w)};
  f.wanted = words(factors.y);
  f.more = slices > stages;
  f.emit();
  return f;
}

// Where `what` stands in the text.
std::vector<size_t> places(const std::string &text, const std::string &what) {
  std::vector<size_t> out;
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; ++at)
    out.push_back(at);
  return out;
}

} // namespace

TEST_CASE("feeds as PTX, in an interpreter") {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const int64_t stages = 1 + static_cast<int64_t>(seed / 4 % 4), slices = seed % 3 == 0 ? stages : static_cast<int64_t>(seed % 9);
    const Fed f = boxes(seed, static_cast<size_t>(2 + seed % 4), stages, slices);
    INFO("seed " << seed << "\n" << kernel::print(f.kernel) << f.text);
    const bool constant = f.kernel.memories[0].constant;
    size_t early_reads = 0;
    CHECK(f.run(f.text, &early_reads) == "");
    if (!constant)
      CHECK(early_reads == 0);
    if (f.params.empty() && !f.more)
      CHECK(places(f.text, "mbarrier.arrive.shared").empty()); // no place is taken twice
  }
}

TEST_CASE("products that are fed as PTX, in an interpreter") {
  const std::string tool = find_tool("INGOT_PTXAS", "ptxas"), folder = make_folder("ingot-ptx-feeds");
  if (tool.empty())
    print_skip("products that are fed assembled", "no ptxas (PyPI's nvidia-cuda-nvcc; INGOT_PTXAS)");
  auto assembled = [&](const Fed &f) {
    if (tool.empty())
      return;
    std::ofstream(folder + "/k.ptx") << f.text;
    const Run run = run_command(tool + " -v -O1 -arch=sm_90a -o " + folder + "/out.cubin " + folder + "/k.ptx");
    INFO(run.output);
    CHECK(run.status == 0);
    CHECK(run.output.find("serialized") == std::string::npos);
  };
  for (auto [columns, slices, stages] : {std::tuple(64, 5, 3), std::tuple(40, 4, 4), std::tuple(128, 3, 1 + 1)})
    for (const bool constant : {false, true}) {
      const Fed f = product(columns, slices, stages, constant);
      INFO(columns << " x " << slices << " x " << stages << (constant ? ", a constant\n" : "\n") << f.text);
      size_t early_reads = 0;
      CHECK(f.run(f.text, &early_reads) == "");
      CHECK((early_reads > 0) == constant);
      CHECK(places(f.text, "mbarrier.arrive.shared").empty() == !f.more);
      assembled(f);
    }
  for (size_t rank = 2; rank <= kernel::TensorMap::kMaxRank; ++rank)
    assembled(boxes(rank, rank, 2, 5));
  std::filesystem::remove_all(folder);
}

// Each fault by itself, at each place in the text that has what it is about.
TEST_CASE("faults of feeds are found") {
  for (const bool multiplies : {false, true})
    for (const bool more : {false, true}) {
      const int64_t stages = 3, slices = more ? 8 : 3;
      const Fed f = multiplies ? product(32, slices, stages, true) : boxes(8, 3, stages, slices, /*constant=*/true, /*known=*/true);
      REQUIRE(f.run(f.text) == "");
      auto found = [&](const std::string &text, const char *what, const char *reason = "") {
        const std::string problem = f.run(text);
        INFO(what << (multiplies ? ", product" : ", boxes") << (more ? ", places taken again: " : ": ") << problem << "\n" << f.text);
        CHECK(problem != "");
        CHECK(problem.rfind("line ", 0) != 0); // it is PTX
        CHECK(problem.find(reason) != std::string::npos);
      };
      // The instruction at `at` left out, or another for it.
      auto changed = [&](size_t at, const std::function<std::string(const std::string &)> &by) {
        const size_t end = f.text.find(';', at) + 1;
        return f.text.substr(0, at) + by(f.text.substr(at, end - at)) + f.text.substr(end);
      };
      auto none = [](const std::string &) { return std::string(); };
      size_t frees = 0;
      for (const size_t at : places(f.text, "mbarrier.arrive.shared")) {
        found(changed(at, none), "a free dropped", "an mbarrier whose phase never ends");
        found(changed(at, [](const std::string &op) { return op + "\n\t" + op; }), "freed twice");
        ++frees;
      }
      CHECK(frees == more);
      for (const size_t at : places(f.text, "mbarrier.arrive.expect_tx"))
        for (const int64_t by : {-128, 128})
          found(changed(at,
                        [&](const std::string &op) {
                          const size_t comma = op.rfind(", ") + 2;
                          return op.substr(0, comma) + std::to_string(std::stoll(op.substr(comma)) + by) + ";";
                        }),
                by < 0 ? "fewer bytes expected" : "more bytes expected",
                by < 0 ? "boxes of more bytes than their mbarrier expects" : "an mbarrier whose phase never ends");
      const std::vector<size_t> waits = places(f.text, "griddepcontrol.wait"), tries = places(f.text, "mbarrier.try_wait");
      const std::vector<size_t> inits = places(f.text, "mbarrier.init");
      CHECK(waits.size() == 3); // who feeds, who feeds nothing, and the others
      for (const size_t at : waits)
        found(changed(at, none), "no wait for the kernels ahead", "griddepcontrol.wait");
      CHECK(tries.size() == (more ? 2 : 1));
      for (const size_t at : tries) {
        auto at_once = [](const std::string &op) { return "setp.eq.s32 " + op.substr(op.find('%'), op.find(',') - op.find('%')) + ", 0, 0;"; };
        found(changed(at, at_once), "no wait for a slice or a place");
        found(changed(at, [](const std::string &op) { return op.substr(0, op.rfind(", ")) + ", 1;"; }), "a parity that stays");
      }
      CHECK(inits.size() == (more ? 2 : 1));
      for (const size_t at : inits) {
        found(changed(at, none), "a signal that nobody made", "an mbarrier that was not initialised");
        auto of_nine = [](const std::string &op) { return op.substr(0, op.rfind(", ")) + ", 9;"; };
        found(changed(at, of_nine), "arrivals that do not come", "an mbarrier whose phase never ends");
      }
      for (const size_t at : places(f.text, "cp.async.bulk.tensor"))
        found(changed(at, none), "a box that is not asked for", "an mbarrier whose phase never ends");
    }
}
