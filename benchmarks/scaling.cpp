// How models scale from one thread to several, beside what the machine gives to a loop of fused multiply-adds
// that shares nothing: on a busy or throttled machine two threads are not worth two. In each round the loop and
// every model run with one thread and with several, in turn, for about the same time; the scaling of a round is
// the ratio of its two times.
//
//   scaling [--threads=2] [--rounds=21] [--check=0.9] MODEL.ingot[+INPUT]...     INPUT as in `ingot run
//   --input`
//
// Prints the median scaling, p10 and p90, and the ratio of each model's to the loop's. With --check, the exit
// status is 1 where a ratio is below it. Results of both numbers of threads are compared bit for bit on the
// way.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tools/ingot/failure.h"
#include "tools/ingot/machine.h"
#include "tools/ingot/model.h"

using namespace ingot;
using namespace ingot::tool;

namespace {

constexpr double kSliceMs = 40; // of one measurement

double ms_of(const std::function<void()> &work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, size_t(q * double(values.size())))];
}

// Something that runs on one thread or on several: `run(several, n)` does n times the work of one step.
struct Subject {
  std::string name;
  std::function<void(bool several, long n)> run;
  double work_ratio = 1;  // work of a step with several threads over that with one
  long one = 1, many = 1; // steps that take about a slice
  std::vector<double> scaling;

  void calibrate() {
    for (bool several : {false, true}) {
      long &n = several ? many : one;
      run(several, n);
      while (ms_of([&] { run(several, n); }) < kSliceMs / 2) n *= 2;
    }
  }
  void round() {
    const double alone = ms_of([&] { run(false, one); }) / double(one);
    const double together = ms_of([&] { run(true, many); }) / double(many);
    scaling.push_back(work_ratio * alone / together);
  }
};

// A model prepared on a device, with its tensors.
struct Prepared {
  Prepared(const Instance &instance, const std::string &path, const std::vector<std::string> &specs,
           unsigned threads)
      : archive(open_archive(path)),
        in(inputs_of(archive, 0)),
        inputs(make_inputs(specs, in, true)),
        views(views_of(inputs)),
        device(open_device(instance, archive, "local-task://0?threads=" + std::to_string(threads))),
        session(device.prepare(archive)),
        context(session->context()),
        outputs(make_outputs(*session, 0, in, inputs, outputs_of(archive, 0).size())),
        fresh(outputs.views) {
    check(context.status(), path);
  }
  void run() {
    outputs.views = fresh;
    check(context->run({views.data(), views.size()}, {outputs.views.data(), outputs.views.size()}));
  }
  Archive archive;
  std::vector<Signature> in;
  std::vector<HostTensor> inputs;
  std::vector<Tensor> views;
  Device device;
  Result<Session> session;
  Result<Context> context;
  Outputs outputs;
  std::vector<Tensor> fresh;
};

Subject fma_loop(unsigned threads) {
  Subject s;
  s.name = "FMA loop";
  s.work_ratio = threads;
  s.run = [threads](bool several, long n) {
    std::vector<std::thread> others;
    for (unsigned t = 1; several && t < threads; ++t) others.emplace_back([n] { run_fma_loop(20'000 * n); });
    run_fma_loop(20'000 * n);
    for (std::thread &thread : others) thread.join();
  };
  return s;
}

Subject model(const Instance &instance, const std::string &argument, unsigned threads) {
  std::vector<std::string> specs;
  std::stringstream parts(argument);
  for (std::string part; std::getline(parts, part, '+');) specs.push_back(part);
  const std::string path = specs.front();
  specs.erase(specs.begin());
  auto alone = std::make_shared<Prepared>(instance, path, specs, 1u),
       together = std::make_shared<Prepared>(instance, path, specs, threads);
  alone->run();
  together->run();
  for (size_t i = 0; i < alone->outputs.tensors.size(); ++i)
    if (std::memcmp(alone->outputs.views[i].data, together->outputs.views[i].data,
                    alone->outputs.views[i].size) != 0)
      fail(path + ": other results with " + std::to_string(threads) + " threads than with one");
  Subject s;
  s.name = path.substr(path.find_last_of('/') + 1);
  s.run = [alone, together](bool several, long n) {
    for (long i = 0; i < n; ++i) (several ? together : alone)->run();
  };
  return s;
}

int scale(unsigned threads, int rounds, double bar, const std::vector<std::string> &models) {
  const Instance instance;
  check(instance.status());
  std::vector<Subject> subjects = {fma_loop(threads)};
  for (const std::string &argument : models) subjects.push_back(model(instance, argument, threads));
  for (Subject &s : subjects) s.calibrate();
  for (int round = 0; round < rounds; ++round)
    for (Subject &s : subjects) s.round();
  const double loop = quantile(subjects[0].scaling, 0.5);
  bool good = true;
  std::printf("scaling from 1 to %u threads, %d rounds\n%8s %8s %8s %10s\n", threads, rounds, "median", "p10",
              "p90", "of the loop");
  for (const Subject &s : subjects) {
    const double median = quantile(s.scaling, 0.5);
    std::printf("%8.2f %8.2f %8.2f %10.2f  %s\n", median, quantile(s.scaling, 0.1), quantile(s.scaling, 0.9),
                median / loop, s.name.c_str());
    good = good && median / loop >= bar;
  }
  return good ? 0 : 1;
}

} // namespace

int main(int argc, char **argv) {
  unsigned threads = 2;
  int rounds = 21;
  double bar = 0;
  std::vector<std::string> models;
  for (int i = 1; i < argc; ++i)
    if (std::strncmp(argv[i], "--threads=", 10) == 0)
      threads = unsigned(std::atoi(argv[i] + 10));
    else if (std::strncmp(argv[i], "--rounds=", 9) == 0)
      rounds = std::max(1, std::atoi(argv[i] + 9));
    else if (std::strncmp(argv[i], "--check=", 8) == 0)
      bar = std::atof(argv[i] + 8);
    else
      models.push_back(argv[i]);
  try {
    return scale(threads, rounds, bar, models);
  } catch (const Failure &failure) {
    std::fprintf(stderr, "scaling: %s\n", failure.what());
    return 2;
  }
}
