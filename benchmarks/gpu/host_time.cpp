// What a run of a model with fixed dims costs the host on cuda and hip, beside the launch of its graph alone.
//
//   gpu_host_time MODEL.ingot [--device=cuda:0] [--input=...]... [--on-device] [--rounds=41] [--runs=100] [--check=2] [--json]
//
// Inputs as for `ingot run`, random ones else; --on-device: inputs and outputs stay in the device's memory, else the run copies
// what the host has to pinned memory and back, which is part of its time.
//
// The driver's `submit` and `finish` are watched: the host's time is that from run() to the end of submit, and from the end of
// finish to run()'s return; the wait in between is left out. The launch alone is the library's function on the very graph that
// the run launches, on its stream, with nothing under way. Rounds of --runs of both alternate; medians of rounds' medians. With
// --check, the exit status is 1 where a run costs that many microseconds more than the launch.
#include "src/drivers/stream/stream.h" // first: it names the driver's handles

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "src/runtime/api/objects.h"
#include "tools/ingot/failure.h"
#include "tools/ingot/model.h"

using namespace ingot;
using namespace ingot::tool;

namespace {

using Clock = std::chrono::steady_clock;
double us_between(Clock::time_point a, Clock::time_point b) { return std::chrono::duration<double, std::micro>(b - a).count(); }

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + long(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// The driver's own entries, and what they were called with last.
struct Watched {
  const ingot_driver_t *driver = nullptr;
  ingot_driver_stream_t *stream = nullptr;
  Clock::time_point submitted, finished;
  uint64_t submissions = 0;
} watched;

ingot_code_t submit(ingot_driver_stream_t *stream, ingot_driver_recording_t *const *recordings, uint32_t count, ingot_driver_submit_t *options,
                    ingot_error_t *error) {
  const ingot_code_t code = watched.driver->submit(stream, recordings, count, options, error);
  watched.submitted = Clock::now();
  watched.stream = stream;
  ++watched.submissions;
  return code;
}

ingot_code_t finish(ingot_driver_stream_t *stream, ingot_driver_submit_t *options, ingot_error_t *error) {
  const ingot_code_t code = watched.driver->finish(stream, options, error);
  watched.finished = Clock::now();
  return code;
}

struct Options {
  std::string model, device = "cuda:0";
  std::vector<std::string> inputs;
  bool on_device = false, json = false;
  int rounds = 41, runs = 100;
  double bar = 0; // 0: none
};

struct Tensors {
  Tensors(const Archive &archive, const Session &session, const Device &device, const Options &options)
      : signature(inputs_of(archive, 0)), inputs(make_inputs(options.inputs, signature, true)), in(views_of(inputs)),
        outputs(make_outputs(session, 0, signature, inputs, outputs_of(archive, 0).size())) {
    if (!options.on_device) return;
    for (Tensor &t : in) move(device, t, true);
    for (Tensor &t : outputs.views) move(device, t, false);
  }
  void move(const Device &device, Tensor &t, bool filled) {
    auto buffer = device.allocate(std::max<size_t>(t.size, 1));
    check(buffer.status(), "device memory");
    if (filled && t.size) check(buffer->write(0, t.data, t.size), "device memory");
    t.data = nullptr, t.buffer = buffer->get(), t.buffer_offset = 0;
    buffers.push_back(std::move(*buffer));
  }
  std::vector<Signature> signature;
  std::vector<HostTensor> inputs;
  std::vector<Tensor> in;
  Outputs outputs;
  std::vector<Buffer> buffers;
};

// The graph that the last run launched.
stream::GraphExec graph_of(const ingot_driver_stream_t &s) {
  const ingot_driver_stream_t::Kept *latest = nullptr;
  uint32_t graphs = 0;
  for (const ingot_driver_stream_t::Kept &k : s.kept)
    if (k.exec) latest = &k, ++graphs;
  if (graphs != 1) fail("the model's runs are " + std::to_string(graphs) + " graphs: this is for models of fixed dims without control flow");
  return latest->exec;
}

double launch_us(ingot_driver_stream_t &s, stream::GraphExec graph) {
  const stream::Current current(*s.device);
  const auto start = Clock::now();
  const int result = s.device->api.GraphLaunch(graph, s.used);
  const double us = us_between(start, Clock::now());
  int state = result;
  if (result == stream::kSuccess)
    do state = s.device->api.StreamQuery(s.used);
    while (state == stream::kNotReady);
  if (state != stream::kSuccess) fail("launching the graph gives " + std::to_string(state));
  return us;
}

int measure(const Options &options) {
  const Instance instance;
  check(instance.status());
  const Archive archive = open_archive(options.model);
  const Device device = open_device(instance, archive, options.device);
  ingot_driver_t driver = *device.get()->driver;
  if (std::strcmp(driver.name, "cuda") != 0 && std::strcmp(driver.name, "hip") != 0) fail("this is for devices of cuda and hip, not " + options.device);
  auto session = device.prepare(archive);
  check(session.status(), options.model);
  auto context = session->context();
  check(context.status(), options.model);
  Tensors tensors(archive, *session, device, options);
  const std::vector<Tensor> fresh = tensors.outputs.views;
  const auto run = [&] {
    tensors.outputs.views = fresh;
    const auto start = Clock::now();
    const Status status = context->run({tensors.in.data(), tensors.in.size()}, {tensors.outputs.views.data(), tensors.outputs.views.size()});
    const auto end = Clock::now();
    check(status, options.model);
    return std::pair(us_between(start, watched.submitted) + us_between(watched.finished, end), us_between(start, end));
  };
  struct Watch { // until it ends, whatever ends it
    const Device &device;
    ~Watch() { device.get()->driver = watched.driver; }
  };
  watched.driver = device.get()->driver;
  driver.submit = submit, driver.finish = finish;
  const Watch watch{device};
  device.get()->driver = &driver;
  for (int i = 0; i < 3; ++i) run(); // the third launches a graph that is there
  const uint64_t before = watched.submissions;
  run();
  if (watched.submissions != before + 1) fail("a run of the model is " + std::to_string(watched.submissions - before) + " submissions");
  const stream::GraphExec graph = graph_of(*watched.stream);
  std::vector<double> hosts, launches, totals;
  for (int round = 0; round < options.rounds; ++round) {
    std::vector<double> host, launch, total;
    for (int i = 0; i < options.runs; ++i) {
      const auto [h, t] = run();
      host.push_back(h), total.push_back(t);
    }
    for (int i = 0; i < options.runs; ++i) launch.push_back(launch_us(*watched.stream, graph));
    hosts.push_back(median(host)), launches.push_back(median(launch)), totals.push_back(median(total));
  }
  const double host = median(hosts), launch = median(launches), total = median(totals);
  std::printf(options.json ? "{\"host_us\": %.3f, \"launch_us\": %.3f, \"more_us\": %.3f, \"run_us\": %.3f}\n"
                           : "host %.2f us a run, its graph's launch alone %.2f us: %.2f us more; run and wait %.2f us\n",
              host, launch, host - launch, total);
  if (options.bar > 0 && host - launch > options.bar) {
    std::fprintf(stderr, "gpu_host_time: above the bar of %g us\n", options.bar);
    return 1;
  }
  return 0;
}

// The value of a flag, from `least` on.
double number(const std::string &argument, const std::string &value, double least) {
  char *end = nullptr;
  const double out = std::strtod(value.c_str(), &end);
  if (value.empty() || *end || !(out >= least) || out > 1e6) fail(argument + ": a number from " + std::to_string(int(least)) + " to 1000000 is expected");
  return out;
}

Options parse(int argc, char **argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i], value = argument.substr(std::min(argument.size(), argument.find('=') + 1));
    const auto is = [&](const char *name) { return argument.rfind(name, 0) == 0; };
    if (is("--device=")) options.device = value;
    else if (is("--input=")) options.inputs.push_back(value);
    else if (is("--rounds=")) options.rounds = int(number(argument, value, 1));
    else if (is("--runs=")) options.runs = int(number(argument, value, 1));
    else if (is("--check=")) options.bar = number(argument, value, 0);
    else if (argument == "--on-device") options.on_device = true;
    else if (argument == "--json") options.json = true;
    else if (is("-")) fail(argument + ": no such flag; they are --device=, --input=, --on-device, --rounds=, --runs=, --check=, --json");
    else if (!options.model.empty()) fail(argument + ": a second model");
    else options.model = argument;
  }
  if (options.model.empty()) fail("usage: gpu_host_time MODEL.ingot [--device=cuda:0] [--input=...]... [--on-device] [--rounds=41] [--runs=100] [--check=2] [--json]");
  return options;
}

} // namespace

int main(int argc, char **argv) {
  try {
    return measure(parse(argc, argv));
  } catch (const Failure &failure) {
    std::fprintf(stderr, "gpu_host_time: %s\n", failure.what());
    return 2;
  }
}
