// `ingot bench`: what a model costs here. Load, prepare and the first run are timed once, as they happen; then
// runs are repeated. With --kernels further runs follow, in which the driver times each dispatch.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "tools/ingot/commands.h"
#include "tools/ingot/machine.h"
#include "tools/ingot/model.h"

namespace ingot::tool {

namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::ordered_json;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Pages that had to be made present so far: what a first run may cost more than a later one.
uint64_t page_faults() {
  struct rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return uint64_t(usage.ru_minflt) + uint64_t(usage.ru_majflt);
}

// malloc that counts, so that peak memory and allocations a run are facts and not estimates.
struct Meter {
  std::atomic<uint64_t> held{0}, peak{0}, calls{0};
  static void *allocate(void *user, size_t size, size_t alignment) {
    Meter &meter = *static_cast<Meter *>(user);
    void *memory = nullptr;
    if (posix_memalign(&memory, std::max(alignment, sizeof(void *)), size) != 0) return nullptr;
    const uint64_t now = meter.held += size;
    for (uint64_t peak = meter.peak; now > peak && !meter.peak.compare_exchange_weak(peak, now);) {
    }
    ++meter.calls;
    return memory;
  }
  static void release(void *user, void *memory, size_t size, size_t) {
    static_cast<Meter *>(user)->held -= size;
    std::free(memory);
  }
  ingot_allocator_t allocator() { return {this, allocate, release}; }
};

// What this process holds in memory, shared pages of mapped files included; 0 where the system does not say.
uint64_t resident_bytes() {
  unsigned long long total = 0, resident = 0; // in pages
  FILE *file = std::fopen("/proc/self/statm", "r");
  if (!file) return 0;
  if (std::fscanf(file, "%llu %llu", &total, &resident) != 2) resident = 0;
  std::fclose(file);
  return resident * uint64_t(sysconf(_SC_PAGESIZE));
}

double quantile(const std::vector<double> &sorted, double q) {
  const double at = q * double(sorted.size() - 1);
  const size_t below = size_t(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (at - double(below));
}

// Dispatches of one kernel in a profiled run, and over all of them.
struct KernelCost {
  uint32_t version = INGOT_NONE, dispatches = 0; // dispatches in one run
  double run_ns = 0;                             // of the run under way
  int64_t flops = 0, bytes = 0;                  // of one run; -1: unknown
  std::vector<double> ns;                        // sum over the dispatches, one entry a run
};

// One place of the program: what its dispatches take in a run.
struct SiteCost {
  uint32_t kernel = 0;
  double run_ns = 0;
  std::vector<double> ns;
};

struct Profile {
  std::map<uint32_t, KernelCost> kernels;
  std::map<uint32_t, SiteCost> sites;
  static void on_dispatch(void *user, const ingot_dispatch_event_t *event) {
    Profile &profile = *static_cast<Profile *>(user);
    SiteCost &site = profile.sites[event->site];
    site.kernel = event->kernel;
    site.run_ns += double(event->end_ns - event->start_ns);
    KernelCost &cost = profile.kernels[event->kernel];
    cost.version = event->version;
    ++cost.dispatches;
    cost.run_ns += double(event->end_ns - event->start_ns);
    const auto add = [](int64_t &sum, int64_t value) { sum = sum < 0 || value < 0 ? -1 : sum + value; };
    add(cost.flops, event->flops);
    add(cost.bytes, event->bytes);
  }
  void begin_run() {
    for (auto &[kernel, cost] : kernels) cost.dispatches = 0, cost.run_ns = 0, cost.flops = 0, cost.bytes = 0;
    for (auto &[number, site] : sites) site.run_ns = 0;
  }
  void end_run() {
    for (auto &[kernel, cost] : kernels) cost.ns.push_back(cost.run_ns);
    for (auto &[number, site] : sites) site.ns.push_back(site.run_ns);
  }
};

// The device's URI with a number of threads, where one is wanted and the URI says none itself.
std::string with_threads(const std::string &uri, std::optional<unsigned> threads) {
  if (!threads || uri.find("threads=") != std::string::npos) return uri;
  const size_t query = uri.find('?');
  std::string base = uri.substr(0, query);
  return base + "?threads=" + std::to_string(*threads) +
         (query == std::string::npos ? "" : "&" + uri.substr(query + 1));
}

std::string device_threads(const Device &device) {
  std::string threads;
  ingot_error_t error;
  const ingot_code_t code = ingot_device_describe(
      device.get(),
      [](void *user, const char *key, const char *value) {
        if (std::strcmp(key, "threads") == 0) *static_cast<std::string *>(user) = value;
      },
      &threads, &error);
  check(code, error);
  return threads;
}

ordered_json kernels_json(const Profile &profile, const Archive &archive, uint32_t variant,
                          const MachinePeak &peak) {
  ordered_json out = ordered_json::array();
  for (const auto &[index, cost] : profile.kernels) {
    std::vector<double> ns = cost.ns;
    std::sort(ns.begin(), ns.end());
    const double time = quantile(ns, 0.5);
    ingot_kernel_info_t kernel{};
    ingot_version_info_t version{};
    ordered_json item;
    if (ingot_archive_kernel(archive.get(), variant, index, &kernel) == INGOT_OK) item["name"] = kernel.name;
    if (cost.version != INGOT_NONE &&
        ingot_archive_kernel_version(archive.get(), variant, index, cost.version, &version) == INGOT_OK) {
      item["version"] = version.entry;
      item["schedule"] = version.schedule;
    }
    item["dispatches"] = cost.dispatches;
    item["time_us"] = time / 1e3;
    item["flops"] = cost.flops < 0 ? ordered_json(nullptr) : ordered_json(cost.flops);
    item["bytes"] = cost.bytes < 0 ? ordered_json(nullptr) : ordered_json(cost.bytes);
    if (time > 0 && cost.flops >= 0) {
      item["gflops"] = double(cost.flops) / time;
      item["share_of_fma_peak"] = double(cost.flops) / time / peak.fma_gflops;
    }
    if (time > 0 && cost.bytes >= 0) {
      item["gbps"] = double(cost.bytes) / time;
      item["share_of_copy_peak"] = double(cost.bytes) / time / peak.copy_gbps;
    }
    out.push_back(std::move(item));
  }
  std::sort(out.begin(), out.end(), [](const ordered_json &a, const ordered_json &b) {
    return a["time_us"].get<double>() > b["time_us"].get<double>();
  });
  return out;
}

// In the order of the archive: time a run, and the source nodes that it covers.
ordered_json sites_json(const Profile &profile, const Archive &archive, uint32_t variant, uint32_t function) {
  ordered_json out = ordered_json::array();
  for (const auto &[number, cost] : profile.sites) {
    std::vector<double> ns = cost.ns;
    std::sort(ns.begin(), ns.end());
    ingot_kernel_info_t kernel{};
    ingot_site_info_t site{};
    ordered_json item = {{"site", number}, {"time_us", quantile(ns, 0.5) / 1e3}, {"nodes", ordered_json::array()}};
    if (ingot_archive_kernel(archive.get(), variant, cost.kernel, &kernel) == INGOT_OK) item["kernel"] = kernel.name;
    if (ingot_archive_site(archive.get(), variant, function, number, &site) == INGOT_OK)
      for (uint32_t n = 0; n < site.node_count; ++n)
        item["nodes"].push_back(ingot_archive_site_node(archive.get(), variant, function, number, n));
    out.push_back(std::move(item));
  }
  return out;
}

void print_kernels(const ordered_json &report) {
  const ordered_json &peak = report["peak"];
  std::printf(
      "\none core's peak: %.1f GFLOP/s FMA (%s), copy %.1f GB/s in memory, %.1f GB/s in cache (read + "
      "written)\n",
      peak["fma_gflops"].get<double>(), peak["vector"].get<std::string>().c_str(),
      peak["copy_gbps"].get<double>(), peak["cache_copy_gbps"].get<double>());
  std::printf("%10s %6s %5s %9s %6s %10s %8s %6s  %s\n", "us a run", "share", "calls", "GFLOP/s", "% FMA",
              "bytes", "GB/s", "% copy", "kernel");
  double total = 0;
  for (const ordered_json &k : report["kernels"]) total += k["time_us"].get<double>();
  const auto cell = [](const ordered_json &k, const char *key, double scale, int width, int digits) {
    if (!k.contains(key) || k[key].is_null()) return format("%*s", width, "-");
    return format("%*.*f", width, digits, k[key].get<double>() * scale);
  };
  for (const ordered_json &k : report["kernels"])
    std::printf(
        "%s %5.1f%% %5u %s %s %s %s %s  %s\n", cell(k, "time_us", 1, 10, 1).c_str(),
        total > 0 ? 100 * k["time_us"].get<double>() / total : 0.0, k["dispatches"].get<unsigned>(),
        cell(k, "gflops", 1, 9, 1).c_str(), cell(k, "share_of_fma_peak", 100, 6, 1).c_str(),
        cell(k, "bytes", 1, 10, 0).c_str(), cell(k, "gbps", 1, 8, 1).c_str(),
        cell(k, "share_of_copy_peak", 100, 6, 1).c_str(),
        (k.value("name", "?") + (k.contains("version") ? " [" + k["version"].get<std::string>() + "]" : ""))
            .c_str());
  std::printf("%10.1f us in kernels\n", total);
}

// The tensor in memory of the device instead of the host's; `filled`: with what it holds.
Buffer move_to(const Device &device, const HostTensor &held, Tensor *tensor, bool filled) {
  if (held.value) fail("--on-device: strings, sequences and optionals live in the host's memory; leave the flag out");
  auto buffer = device.allocate(std::max<size_t>(tensor->size, 1));
  if (!buffer) check(buffer.status(), "--on-device");
  if (filled && tensor->size) check(buffer->write(0, tensor->data, tensor->size), "--on-device");
  tensor->data = nullptr;
  tensor->buffer = buffer->get();
  tensor->buffer_offset = 0;
  return std::move(*buffer);
}

} // namespace

int bench_command(const BenchOptions &options) {
  if (options.threads && *options.threads == 0) misuse("--threads must be at least 1");
  if (!(options.seconds >= 0 && options.seconds <= 3600)) misuse("--seconds must lie in 0 .. 3600");
  Meter meter;
  const ingot_allocator_t allocator = meter.allocator();
  const Instance instance(allocator);
  check(instance.status());
  const uint64_t empty_bytes = resident_bytes();

  auto start = Clock::now();
  const Archive archive = open_archive(options.archive, &allocator);
  const double load_ms = ms_since(start);
  const uint32_t function = find_function(archive, options.archive, options.function);
  const std::vector<Signature> in = inputs_of(archive, function), out = outputs_of(archive, function);
  const std::vector<HostTensor> inputs = make_inputs(options.inputs, in, true);
  std::vector<Tensor> views = views_of(inputs);
  const Device device = open_device(instance, archive, with_threads(options.device, options.threads));
  const std::string threads = device_threads(device);
  if (options.threads && threads != std::to_string(*options.threads))
    fail(format("--threads=%u: %s runs on %s thread(s)", *options.threads, device.uri(),
                threads.empty() ? "its own number of" : threads.c_str()));

  start = Clock::now();
  auto session = device.prepare(archive);
  if (!session) check(session.status(), options.archive);
  auto context = session->context();
  if (!context) check(context.status(), options.archive);
  const double prepare_ms = ms_since(start);

  Outputs outputs = make_outputs(*session, function, in, inputs, out.size());
  std::vector<Buffer> buffers;
  if (options.on_device) {
    for (size_t i = 0; i < views.size(); ++i) buffers.push_back(move_to(device, inputs[i], &views[i], true));
    for (size_t i = 0; i < outputs.views.size(); ++i)
      buffers.push_back(move_to(device, outputs.tensors[i], &outputs.views[i], false));
  }
  const std::vector<Tensor> fresh = outputs.views; // data-dependent dims are free again before each run
  const auto run = [&](const ingot_run_options_t *run_options = nullptr) {
    outputs.views = fresh;
    const Status status = context->run({views.data(), views.size()},
                                       {outputs.views.data(), outputs.views.size()}, run_options, function);
    check(status);
  };
  const uint64_t faults_before = page_faults();
  start = Clock::now();
  run();
  const double first_ms = ms_since(start);
  const uint64_t first_faults = page_faults() - faults_before;

  run();
  const uint64_t calls_before = meter.calls;
  std::vector<double> times;
  const auto begin = Clock::now();
  const size_t wanted = options.runs ? options.runs : 10;
  while (times.size() < wanted ||
         (!options.runs && ms_since(begin) < options.seconds * 1e3 && times.size() < 10'000'000)) {
    start = Clock::now();
    run();
    times.push_back(ms_since(start));
  }
  const uint64_t allocations = meter.calls - calls_before;
  const ingot_memory_info_t memory = context->memory();
  const uint64_t peak_bytes = meter.peak, resident = resident_bytes();
  std::sort(times.begin(), times.end());

  ordered_json report;
  report["archive"] = options.archive;
  report["device"] = device.uri();
  report["function"] = options.function;
  report["threads"] = threads.empty() ? ordered_json(nullptr) : ordered_json(std::stoul(threads));
  for (size_t i = 0; i < inputs.size(); ++i) report["inputs"].push_back(to_text(inputs[i].type));
  uint64_t device_bytes = 0; // of inputs and results
  for (const Buffer &buffer : buffers) device_bytes += buffer.size();
  report["device_tensor_bytes"] = device_bytes;
  report["load_ms"] = load_ms;
  report["prepare_ms"] = prepare_ms;
  report["first_run_ms"] = first_ms;
  report["first_run_page_faults"] = first_faults;
  report["runs"] = times.size();
  report["median_ms"] = quantile(times, 0.5);
  report["p10_ms"] = quantile(times, 0.1);
  report["p90_ms"] = quantile(times, 0.9);
  report["allocations_per_run"] = double(allocations) / double(times.size());
  report["arena_bytes"] = memory.arena_bytes;
  report["state_bytes"] = memory.state_bytes;
  report["recording_bytes"] = memory.recording_bytes;
  report["peak_bytes"] = peak_bytes;
  struct rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  report["process_peak_bytes"] = uint64_t(usage.ru_maxrss) * 1024;
  report["process_resident_bytes"] = resident; // after the runs
  report["process_empty_bytes"] = empty_bytes; // before anything was loaded

  if (options.kernels) {
    const MachinePeak peak = measure_machine();
    Profile profile;
    ingot_run_options_t run_options{};
    run_options.struct_size = sizeof run_options;
    run_options.on_dispatch = Profile::on_dispatch;
    run_options.user = &profile;
    const auto profiled = Clock::now();
    for (int n = 0; n < 7 || (ms_since(profiled) < options.seconds * 1e3 && n < 1000); ++n) {
      profile.begin_run();
      run(&run_options);
      profile.end_run();
    }
    report["peak"] = {{"fma_gflops", peak.fma_gflops},
                      {"vector", peak.vector},
                      {"copy_gbps", peak.copy_gbps},
                      {"cache_copy_gbps", peak.cache_copy_gbps}};
    report["sites"] = sites_json(profile, archive, ingot_session_variant(session->get()), function);
    report["kernels"] = kernels_json(profile, archive, ingot_session_variant(session->get()), peak);
  }
  if (options.json) {
    std::printf("%s\n", report.dump(2).c_str());
    return 0;
  }
  std::printf("%s on %s, %s thread(s)\n", options.archive.c_str(), device.uri(),
              threads.empty() ? "?" : threads.c_str());
  std::printf("load + verify %10.4g ms\nprepare       %10.4g ms\nfirst run     %10.4g ms\n", load_ms,
              prepare_ms, first_ms);
  std::printf("run           %10.4g ms median, %.4g p10, %.4g p90 of %zu\n", quantile(times, 0.5),
              quantile(times, 0.1), quantile(times, 0.9), times.size());
  std::printf(
      "memory        %llu bytes of arena, %llu of state, %llu of recordings; %llu at peak, %g allocations a "
      "run\n",
      (unsigned long long)memory.arena_bytes, (unsigned long long)memory.state_bytes,
      (unsigned long long)memory.recording_bytes, (unsigned long long)peak_bytes,
      double(allocations) / double(times.size()));
  if (options.kernels) print_kernels(report);
  return 0;
}

} // namespace ingot::tool
