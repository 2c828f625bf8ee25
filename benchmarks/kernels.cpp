// GFLOP/s (or GB/s) of scheduled kernels on one core, beside the measured peak of fused multiply-adds.
//
//   build/benchmarks/kernels [FILTER] [--target=x86-64-v3]     runs the rows whose name contains FILTER
//   build/benchmarks/kernels --dispatches=FILE [--dim=N]       the dispatches of `aotc --emit=dispatches`, symbols as N
//
// Each row is a dispatch as fusion produces it, scheduled and compiled for the target, on random data. The best of
// several rounds is printed: what the code can do on a quiet machine.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <memory>

#include "aotc/emit/llvm/native_runner.h"
#include "aotc/kernel/builder.h"
#include "aotc/kernel/math_library.h"
#include "aotc/kernel/text.h"
#include "tests/schedule/run.h"

using namespace ingot::aotc;
using namespace ingot::aotc::testing;

namespace {

struct Aligned {
  explicit Aligned(const std::vector<uint8_t> &from)
      : data(static_cast<uint8_t *>(std::aligned_alloc(64, (from.size() + 127) / 64 * 64)), std::free) {
    memcpy(data.get(), from.data(), from.size());
  }
  std::unique_ptr<uint8_t, void (*)(void *)> data;
};

// Time on the processor, so that what else the machine runs does not count.
double now() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

// Seconds of the best run.
double best_time(NativeCall &call, double budget = 0.15) {
  call.run();
  double best = 1e9, start = now();
  int rounds = 0;
  while (now() - start < budget || rounds < 5) {
    double t = now();
    call.run();
    best = std::min(best, now() - t);
    ++rounds;
  }
  return best;
}

// Twelve independent chains of multiply-adds.
double peak(const CpuTarget &target) {
  kernel::Kernel k;
  k.name = "peak";
  kernel::Builder b(k);
  uint32_t x = b.add_buffer("x", kernel::Access::kReadWrite, Scalar::kF32);
  uint32_t lanes = record_of(target).vector_bytes / 4;
  kernel::Values init;
  for (int i = 0; i < 12; ++i)
    init.push_back(b.load(x, b.index(i * lanes), lanes));
  kernel::ValueId f = b.load(x, b.index(0), lanes);
  constexpr int64_t kTrips = 100000;
  kernel::Values sums = b.for_loop(b.index(0), b.index(kTrips), b.index(1), init,
                                   [&](kernel::ValueId, const kernel::Values &acc) {
                                     kernel::Values next;
                                     for (kernel::ValueId a : acc)
                                       next.push_back(b.mad(a, f, f));
                                     return next;
                                   });
  for (int i = 0; i < 12; ++i)
    b.store(x, b.index(i * lanes), sums[static_cast<size_t>(i)]);
  std::string error;
  auto native = NativeKernel::compile(k, target, &error);
  if (!native) {
    fprintf(stderr, "peak: %s\n", error.c_str());
    exit(1);
  }
  Aligned data(std::vector<uint8_t>(12 * 64, 0));
  NativeCall call = native->call({{data.data.get()}, {}, {1, 1, 1}});
  return 2.0 * 12 * lanes * kTrips / best_time(call) * 1e-9;
}

struct Bench {
  CpuTarget target;
  const char *filter;
  bool dump;
  double peak;

  // Seconds of one run; 0 where the row was left out.
  double run(const char *name, Case c, double flops) {
    if (filter && !strstr(name, filter))
      return 0;
    Buffers buffers = make_buffers(c, 1);
    if (std::string problem = prepack(c, buffers); !problem.empty()) {
      printf("%-28s %s\n", name, problem.c_str());
      return 0;
    }
    schedule::Scheduled s = schedule::schedule(c.dispatch, record_of(target));
    if (dump)
      puts(kernel::print(s.kernel).c_str());
    kernel::expand_math(s.kernel);
    std::string error;
    if (dump) {
      CpuOptions options;
      options.on_asm = [](const std::string &text) { puts(text.c_str()); };
      compile_cpu({{&s.kernel, s.kernel.name, record_of(target), target}}, options);
    }
    auto native = NativeKernel::compile(s.kernel, target, &error);
    if (!native) {
      printf("%-28s %s\n", name, error.c_str());
      return 0;
    }
    std::vector<Aligned> data;
    NativeArgs args;
    double bytes = 0;
    for (auto &b : buffers.bytes) {
      data.emplace_back(b);
      bytes += static_cast<double>(b.size());
    }
    for (auto &d : data)
      args.bindings.push_back(d.data.get());
    for (const Symbol &symbol : c.dispatch.free_symbols())
      args.params.push_back(value_of(symbol, c));
    for (size_t i = 0; i < 3; ++i)
      args.grid[i] = static_cast<uint32_t>(value_of(s.grid[i], c));
    NativeCall call = native->call(args);
    double t = best_time(call);
    printf("%-28s %9.1f us %7.1f GFLOP/s %5.1f%% %7.1f GB/s  groups %-4u scratch %-7llu %s\n", name, t * 1e6, flops / t * 1e-9,
           flops / t * 1e-9 / peak * 100, bytes / t * 1e-9, args.grid[0],
           static_cast<unsigned long long>(native->symbol().scratch_bytes), s.description.c_str());
    fflush(stdout);
    return t;
  }
};

ConvShape conv_shape(int64_t groups, int64_t in, int64_t out, int64_t h, int64_t w, int64_t k, int64_t stride, int activation) {
  ConvShape s;
  s.groups = groups;
  s.in = in;
  s.out = out;
  s.size = {h, w};
  s.kernel = {k, k};
  s.stride = {stride, stride};
  s.pad = {k / 2, k / 2};
  s.activation = activation;
  return s;
}

double conv_flops(const ConvShape &s) {
  double out = static_cast<double>(s.n * s.groups * s.out), taps = static_cast<double>(s.in);
  for (size_t i = 0; i < s.size.size(); ++i) {
    out *= static_cast<double>((s.size[i] + 2 * s.pad[i] - s.dilation[i] * (s.kernel[i] - 1) - 1) / s.stride[i] + 1);
    taps *= static_cast<double>(s.kernel[i]);
  }
  return 2 * out * taps;
}

} // namespace

namespace {

// Every dispatch of a text as aotc prints it; the largest total first is for the reader to sort out.
int run_file(Bench &bench, const char *path, int64_t dim) {
  std::ifstream in(path);
  std::string line, text;
  double total = 0;
  while (std::getline(in, line)) {
    if (text.empty() && line.rfind("dispatch @", 0) != 0)
      continue;
    text += line + "\n";
    if (line != "}")
      continue;
    std::string error;
    auto d = dispatch::parse(text, error);
    text.clear();
    if (!d) {
      fprintf(stderr, "kernels: %s: %s\n", path, error.c_str());
      return 1;
    }
    Case c{*d, {}};
    for (const Symbol &s : d->free_symbols())
      c.dims.emplace_back(s, dim);
    double flops = static_cast<double>(value_of(schedule::cost(*d).flops, c));
    total += bench.run(d->name.c_str(), c, flops);
  }
  printf("total %.1f us\n", total * 1e6);
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  const char *filter = nullptr, *name = "host", *file = nullptr;
  int64_t dim = 1;
  bool dump = false;
  for (int i = 1; i < argc; ++i) {
    if (!strncmp(argv[i], "--target=", 9))
      name = argv[i] + 9;
    else if (!strncmp(argv[i], "--dispatches=", 13))
      file = argv[i] + 13;
    else if (!strncmp(argv[i], "--dim=", 6))
      dim = atoll(argv[i] + 6);
    else if (!strcmp(argv[i], "--dump"))
      dump = true;
    else
      filter = argv[i];
  }
  std::string error;
  auto target = parse_cpu_target(name, &error);
  if (!target || !runs_here(*target, &error)) {
    fprintf(stderr, "kernels: %s\n", error.c_str());
    return 1;
  }
  Bench bench{*target, filter, dump, peak(*target)};
  printf("peak %.1f GFLOP/s (%s)\n", bench.peak, name);
  if (file)
    return run_file(bench, file, dim);
  auto mm = [&](const char *what, int64_t b, int64_t m, int64_t n, int64_t k, bool transposed, bool weight, bool batched) {
    bench.run(what, matmul(b, m, n, k, transposed, weight, 1, batched), 2.0 * static_cast<double>(b * m * n * k));
  };
  mm("matmul 1024", 1, 1024, 1024, 1024, false, true, false);
  mm("matmul 1000", 1, 1000, 1000, 1000, false, true, false);
  mm("matmul 512", 1, 512, 512, 512, false, true, false);
  mm("matmul 512 no weight", 1, 512, 512, 512, false, false, false);
  mm("matmul 512 transposed", 1, 512, 512, 512, true, false, false);
  mm("matmul 40x360x120", 1, 40, 360, 120, false, true, false);
  mm("matmul 40x6625x120", 1, 40, 6625, 120, false, true, false);
  mm("attention scores 8x40x40x15", 8, 40, 40, 15, true, false, true);
  mm("attention values 8x40x15x40", 8, 40, 15, 40, false, false, true);
  mm("attention scores 12x128x64", 12, 128, 128, 64, true, false, true);
  mm("gemv 1024", 1, 1, 1024, 1024, false, true, false);
  mm("gemv 4096x1024", 1, 1, 4096, 1024, false, true, false);
  mm("gemv 60x240", 1, 1, 60, 240, false, true, false);
  auto cv = [&](const char *what, ConvShape s) { bench.run(what, conv(s), conv_flops(s)); };
  cv("conv1x1 16->32 24x160", conv_shape(1, 16, 32, 24, 160, 1, 1, 2));
  cv("conv1x1 64->64 24x160", conv_shape(1, 64, 64, 24, 160, 1, 1, 2));
  cv("conv1x1 128->128 12x160", conv_shape(1, 128, 128, 12, 160, 1, 1, 2));
  cv("conv1x1 240->240 12x80", conv_shape(1, 240, 240, 12, 80, 1, 1, 2));
  cv("conv1x1 480->480 3x80", conv_shape(1, 480, 480, 3, 80, 1, 1, 2));
  cv("conv1x1 24->24 128x128", conv_shape(1, 24, 24, 128, 128, 1, 1, 3));
  cv("conv1x1 48->48 32x32", conv_shape(1, 48, 48, 32, 32, 1, 1, 3));
  cv("conv1x1 96->96 16x16", conv_shape(1, 96, 96, 16, 16, 1, 1, 3));
  cv("conv3x3s2 3->16 48x320", conv_shape(1, 3, 16, 48, 320, 3, 2, 2));
  cv("conv5x5s2 3->24 256x256", conv_shape(1, 3, 24, 256, 256, 5, 2, 1));
  cv("conv3x3 64->64 56x56", conv_shape(1, 64, 64, 56, 56, 3, 1, 1));
  cv("conv3x3 128->128 28x28", conv_shape(1, 128, 128, 28, 28, 3, 1, 1));
  cv("conv3x3 512->512 7x7", conv_shape(1, 512, 512, 7, 7, 3, 1, 1));
  cv("conv3x3s2 64->128 56x56", conv_shape(1, 64, 128, 56, 56, 3, 2, 1));
  cv("dw3x3 16 24x160", conv_shape(16, 1, 1, 24, 160, 3, 1, 2));
  cv("dw3x3 64 24x160", conv_shape(64, 1, 1, 24, 160, 3, 1, 2));
  cv("dw3x3 24 128x128", conv_shape(24, 1, 1, 128, 128, 3, 1, 0));
  cv("dw3x3s2 32 128x128", conv_shape(32, 1, 1, 128, 128, 3, 2, 0));
  cv("dw3x3 96 16x16", conv_shape(96, 1, 1, 16, 16, 3, 1, 0));
  cv("dw3x3 96 8x8", conv_shape(96, 1, 1, 8, 8, 3, 1, 0));
  cv("dw5x5 240 12x80", conv_shape(240, 1, 1, 12, 80, 5, 1, 2));
  cv("dw5x5 480 3x80", conv_shape(480, 1, 1, 3, 80, 5, 1, 2));
  cv("dw5x5s2 64 56x56", conv_shape(64, 1, 1, 56, 56, 5, 2, 1));
  auto symbolic = [&](const char *what, ConvShape s) {
    s.width = Symbol::dim("w", 8, 1 << 20);
    cv(what, s);
  };
  symbolic("w? conv3x3s2 3->16 48x320", conv_shape(1, 3, 16, 48, 320, 3, 2, 2));
  symbolic("w? conv1x1 64->64 24x160", conv_shape(1, 64, 64, 24, 160, 1, 1, 2));
  symbolic("w? dw3x3 64 24x160", conv_shape(64, 1, 1, 24, 160, 3, 1, 2));
  symbolic("w? dw5x5 240 12x80", conv_shape(240, 1, 1, 12, 80, 5, 1, 2));
  ConvShape line = conv_shape(1, 256, 512, 1, 512, 1, 1, 0);
  line.size = {512};
  line.kernel = {5};
  line.stride = {1};
  line.dilation = {1};
  line.pad = {0};
  cv("conv1d5 256->512 512", line);
  bench.run("softmax 512x1024", softmax(512, 1024), 512.0 * 1024);
  bench.run("softmax 320x40", softmax(320, 40), 320.0 * 40);
  bench.run("softmax 40x6625", softmax(40, 6625), 40.0 * 6625);
  bench.run("layernorm 40x120", layer_norm(40, 120), 40.0 * 120 * 8);
  bench.run("layernorm 512x768", layer_norm(512, 768), 512.0 * 768 * 8);
  bench.run("add 1M", elementwise({1 << 20}, 0, 0), 1 << 20);
  bench.run("tanh 1M", elementwise({1 << 20}, 0, 1), 1 << 20);
  bench.run("global average 480x6x80", reduce(ReduceKind::kAdd, {480, 480}, {1}), 480.0 * 480);
  bench.run("mean over rows 512x512", reduce(ReduceKind::kAdd, {512, 512}, {0}), 512.0 * 512);
  bench.run("maxpool 3x3s2 64x112x112", pool(64, {112, 112}, {3, 3}, {2, 2}, {1, 1}, true), 64.0 * 56 * 56 * 9);
  bench.run("averagepool 3x2 480x3x80", pool(480, {3, 80}, {3, 2}, {3, 2}, {0, 0}, false), 480.0 * 40 * 6);
  bench.run("transpose 40x8x15", transpose({40, 8, 15}, {1, 0, 2}), 4800);
  bench.run("transpose 512x512", transpose({512, 512}, {1, 0}), 512.0 * 512);
  bench.run("concat 24+24 x128x128", concat({1, 24, 24, 16384}), 48.0 * 16384);
  return 0;
}
