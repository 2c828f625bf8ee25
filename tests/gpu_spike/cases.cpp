// See cases.h.
#include "tests/gpu_spike/cases.h"

#include <cmath>
#include <cstring>
#include <random>

#include "aotc/emit/gpu_layout.h"
#include "aotc/schedule/simt/simt.h"

namespace ingot::aotc::gpu_spike {
namespace {

namespace simt = schedule::simt;

constexpr double kEpsilon = 0x1p-23; // generous: a rounding is half of it
constexpr double kTiny = 1e-37;      // denormals may be flushed

uint32_t word(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

struct Maker {
  const TargetRecord &record;
  std::mt19937_64 random;
  std::vector<Case> cases;

  uint64_t draw(uint64_t lo, uint64_t hi) { return std::uniform_int_distribution<uint64_t>(lo, hi)(random); }

  std::vector<float> floats(size_t count, float range) {
    std::uniform_real_distribution<float> uniform(-range, range);
    std::vector<float> values(count);
    for (float &value : values)
      value = uniform(random);
    return values;
  }

  Case &add(std::string name, kernel::Kernel kernel, uint64_t groups, std::vector<int64_t> params) {
    Case c;
    c.name = std::move(name);
    c.kernel = std::move(kernel);
    c.grid = emit::fold_grid(groups, record);
    c.params = std::move(params);
    cases.push_back(std::move(c));
    return cases.back();
  }

  static void input(Case &c, const std::vector<float> &values) {
    std::vector<uint32_t> words;
    for (float value : values)
      words.push_back(word(value));
    c.buffers.push_back(std::move(words));
  }

  static void output(Case &c, size_t count) {
    c.output = c.buffers.size();
    c.buffers.emplace_back(count, kCanary);
    c.expected.resize(count);
    c.bound.resize(count);
  }

  void bias_add(uint64_t rows, uint64_t cols) {
    Case &c = add("bias_add_" + std::to_string(rows) + "x" + std::to_string(cols), simt::bias_add(record),
                  simt::bias_add_groups(record, rows, cols), {int64_t(rows), int64_t(cols)});
    std::vector<float> x = floats(rows * cols, 8), bias = floats(cols, 8);
    input(c, x);
    input(c, bias);
    output(c, rows * cols);
    for (size_t i = 0; i < x.size(); ++i) {
      c.expected[i] = double(x[i]) + bias[i % cols];
      c.bound[i] = std::fabs(c.expected[i]) * kEpsilon + kTiny;
    }
  }

  void softmax(uint64_t rows, uint64_t cols) {
    Case &c = add("softmax_" + std::to_string(rows) + "x" + std::to_string(cols), simt::row_softmax(record),
                  simt::row_softmax_groups(rows), {int64_t(rows), int64_t(cols)});
    std::vector<float> x = floats(rows * cols, 30);
    input(c, x);
    output(c, rows * cols);
    for (size_t r = 0; r < rows; ++r) {
      double top = -INFINITY, sum = 0;
      for (size_t j = 0; j < cols; ++j)
        top = std::fmax(top, x[r * cols + j]);
      for (size_t j = 0; j < cols; ++j)
        sum += std::exp(x[r * cols + j] - top);
      for (size_t j = 0; j < cols; ++j) {
        double argument = x[r * cols + j] - top, want = std::exp(argument) / sum;
        c.expected[r * cols + j] = want;
        // The argument is rounded once, exp is within 4 ulp (in both places), a sum over 256 threads and a division.
        double roundings = std::fabs(argument) + 60 + 4 + 4 + double(cols) / 256 + 10 + 3;
        c.bound[r * cols + j] = want * roundings * kEpsilon + kTiny;
      }
    }
  }

  void matmul(uint64_t m, uint64_t n, uint64_t k) {
    simt::Tile tile = simt::choose_tile(record);
    Case &c = add("matmul_" + std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k),
                  simt::matmul(record, tile), simt::matmul_groups(tile, m, n), {int64_t(m), int64_t(n), int64_t(k)});
    std::vector<float> a = floats(m * k, 1), b = floats(k * n, 1);
    input(c, a);
    input(c, b);
    if (k == 0) // bindings have at least one element on devices
      c.buffers[0] = c.buffers[1] = {word(NAN)};
    output(c, m * n);
    for (size_t i = 0; i < m; ++i)
      for (size_t j = 0; j < n; ++j) {
        double sum = 0, magnitude = 0;
        for (size_t l = 0; l < k; ++l) {
          sum += double(a[i * k + l]) * b[l * n + j];
          magnitude += std::fabs(double(a[i * k + l]) * b[l * n + j]);
        }
        c.expected[i * n + j] = sum;
        c.bound[i * n + j] = magnitude * double(k + 2) * kEpsilon + kTiny;
      }
  }

  void conv(uint64_t batch, uint64_t in, uint64_t h, uint64_t w, uint64_t out) {
    simt::Tile tile = simt::choose_tile(record);
    Case &c = add("conv3x3_" + std::to_string(batch) + "x" + std::to_string(in) + "x" + std::to_string(h) + "x" +
                      std::to_string(w) + "_" + std::to_string(out),
                  simt::conv3x3(record, tile), simt::conv3x3_groups(tile, batch, h, w, out),
                  {int64_t(batch), int64_t(in), int64_t(h), int64_t(w), int64_t(out)});
    std::vector<float> x = floats(batch * in * h * w, 1), weights = floats(out * in * 9, 1), bias = floats(out, 1);
    input(c, x);
    input(c, weights);
    input(c, bias);
    output(c, batch * out * h * w);
    for (size_t b = 0; b < batch; ++b)
      for (size_t o = 0; o < out; ++o)
        for (size_t y = 0; y < h; ++y)
          for (size_t z = 0; z < w; ++z) {
            double sum = bias[o], magnitude = std::fabs(bias[o]);
            for (size_t i = 0; i < in; ++i)
              for (int r = -1; r <= 1; ++r)
                for (int s = -1; s <= 1; ++s) {
                  int64_t yy = int64_t(y) + r, zz = int64_t(z) + s;
                  if (yy < 0 || zz < 0 || yy >= int64_t(h) || zz >= int64_t(w))
                    continue;
                  double term = double(x[((b * in + i) * h + size_t(yy)) * w + size_t(zz)]) *
                                weights[(o * in + i) * 9 + size_t((r + 1) * 3 + s + 1)];
                  sum += term;
                  magnitude += std::fabs(term);
                }
            size_t at = ((b * out + o) * h + y) * w + z;
            c.expected[at] = sum;
            c.bound[at] = magnitude * double(9 * in + 3) * kEpsilon + kTiny;
          }
  }
};

} // namespace

TargetRecord with_small_grid(TargetRecord record) {
  record.max_grid[0] = 3;
  record.max_grid[1] = 2;
  return record;
}

std::vector<Case> make_cases(const TargetRecord &record, uint64_t seed) {
  Maker maker{record, std::mt19937_64(seed), {}};
  maker.bias_add(1, 1);
  maker.bias_add(1, 257);
  maker.bias_add(251, 1);
  maker.bias_add(101, 67);
  maker.softmax(1, 1);
  maker.softmax(3, 255);
  maker.softmax(7, 1009);
  maker.softmax(13, 31);
  maker.matmul(1, 1, 1);
  maker.matmul(1, 131, 1);
  maker.matmul(127, 1, 17);
  maker.matmul(64, 64, 16);
  maker.matmul(67, 129, 37);
  maker.matmul(5, 7, 0);
  maker.conv(1, 1, 1, 1, 1);
  maker.conv(2, 3, 7, 11, 5);
  maker.conv(1, 2, 1, 67, 65);
  maker.conv(3, 1, 13, 1, 2);
  for (int i = 0; i < 2; ++i) {
    maker.bias_add(maker.draw(1, 40), maker.draw(1, 300));
    maker.softmax(maker.draw(1, 12), maker.draw(1, 700));
    maker.matmul(maker.draw(1, 100), maker.draw(1, 100), maker.draw(1, 50));
    maker.conv(maker.draw(1, 3), maker.draw(1, 6), maker.draw(1, 12), maker.draw(1, 12), maker.draw(1, 20));
  }
  // The same kernels where the grid has to be folded into three dimensions.
  TargetRecord small = with_small_grid(record);
  Maker folded{small, std::mt19937_64(seed + 1), {}};
  folded.bias_add(17, 127);
  folded.softmax(19, 23);
  folded.matmul(200, 257, 5);
  folded.conv(5, 1, 3, 43, 66);
  for (Case &c : folded.cases) {
    c.name += "_folded";
    maker.cases.push_back(std::move(c));
  }
  return std::move(maker.cases);
}

std::string check(const Case &c, const std::vector<uint32_t> &words) {
  if (words.size() < c.expected.size())
    return c.name + ": the output is too short";
  for (size_t i = 0; i < c.expected.size(); ++i) {
    if (words[i] == kCanary)
      return c.name + ": element " + std::to_string(i) + " was not written";
    double got;
    if (c.integer) {
      got = static_cast<int32_t>(words[i]);
    } else {
      float value;
      std::memcpy(&value, &words[i], sizeof value);
      got = value;
    }
    if (!(std::fabs(got - c.expected[i]) <= c.bound[i]))
      return c.name + ": element " + std::to_string(i) + " is " + std::to_string(got) + ", expected " +
             std::to_string(c.expected[i]) + " within " + std::to_string(c.bound[i]);
  }
  for (size_t i = c.expected.size(); i < words.size(); ++i)
    if (words[i] != kCanary)
      return c.name + ": wrote past the end of the output";
  return "";
}

} // namespace ingot::aotc::gpu_spike
