// The backends of the test drivers themselves: mistakes of kernels that they have to find, and what they have to get right
// that whole models might not need.
#include <catch2/catch.hpp>

#include <cmath>
#include <cstdio>
#include <cstring>

#include "tests/gpu/shader_driver.h"

using namespace ingot::shaders;

namespace {

void print_skip(const char *test_case, const std::string &why) {
  std::printf("skip gpu/%s # %s\n", test_case, why.c_str());
  std::fflush(stdout);
}

// A kernel over one buffer of 8 floats, a workgroup of 8.
Kernel msl(const std::string &body, const std::string &more_parameters = "") {
  Kernel k;
  k.name = "t", k.entry = "k_t", k.local_size = {8, 1, 1}, k.binding_count = 1, k.access = {3};
  k.text = "#include <metal_stdlib>\nusing namespace metal;\nkernel void k_t(device float *mem_y [[buffer(0)]], " + more_parameters +
           "uint3 local_id [[thread_position_in_threadgroup]], uint3 group_id [[threadgroup_position_in_grid]]) {\n"
           "  threadgroup float mem_t[8];\n  const int i = int(local_id.x);\n  const int g = int(group_id.x);\n" + body + "}\n";
  return k;
}

struct Result {
  std::string wrong;
  std::vector<float> values;
  uint32_t error_word = 0;
};

Result run(Backend &backend, const Kernel &k, uint32_t groups = 1, std::vector<uint32_t> params = {}) {
  Result r;
  uint32_t first = 0;
  r.values.assign(8 * groups, 1.0f);
  if (r.wrong = backend.load({k}, &first); !r.wrong.empty()) return r;
  Memory memory;
  memory.size = 4 * r.values.size();
  REQUIRE(backend.allocate(memory, true) == "");
  REQUIRE(backend.write(memory, 0, r.values.data(), memory.size) == "");
  r.wrong = backend.dispatch(k, {first, {groups, 1, 1}, {{&memory, 0, memory.size}}, std::move(params)});
  if (r.wrong.empty()) r.wrong = backend.finish(&r.error_word);
  if (r.wrong.empty()) r.wrong = backend.read(memory, 0, r.values.data(), memory.size);
  backend.release(memory);
  return r;
}

bool holds(const std::string &text, const char *piece) { return text.find(piece) != std::string::npos; }

} // namespace

TEST_CASE("metal-shim honours barriers") {
  std::string why;
  std::unique_ptr<Backend> shim = open_metal_shim("", &why);
  if (!shim) return print_skip("metal-shim honours barriers", why);
  const std::string barrier = "threadgroup_barrier(mem_flags::mem_threadgroup);\n";

  // Each invocation reads what its neighbour wrote, on either side; workgroups run in both directions.
  for (const char *neighbour : {"(i + 1) & 7", "(i + 7) & 7"}) {
    INFO(neighbour);
    const std::string write = "mem_t[i] = float(8 * g + i);\n", read = std::string("mem_y[8 * g + i] = mem_t[") + neighbour + "];\n";
    Result good = run(*shim, msl(write + barrier + read), 2);
    REQUIRE(good.wrong == "");
    const int shift = neighbour[5] == '1' ? 1 : 7;
    for (int i = 0; i < 16; ++i)
      CHECK(good.values[size_t(i)] == float(i / 8 * 8 + (i + shift) % 8));
    Result bad = run(*shim, msl(write + read), 2);
    REQUIRE(bad.wrong == "");
    for (int group = 0; group < 2; ++group) {
      int right = 0; // without a barrier some neighbour has not written yet, whatever the direction
      for (int i = 0; i < 8; ++i)
        right += bad.values[size_t(8 * group + i)] == float(8 * group + (i + shift) % 8);
      CHECK(right < 8);
    }
  }

  CHECK(holds(run(*shim, msl("if (i < 3) {\n" + barrier + "}\n")).wrong, "do not meet at one barrier"));
  CHECK(holds(run(*shim, msl("if (i < 3) {\n" + barrier + "} else {\n" + barrier + "}\n")).wrong, "do not meet at one barrier"));
  CHECK(holds(run(*shim, msl("for (int n = 0; n < i; n += 1) {\n" + barrier + "}\n")).wrong, "do not meet at one barrier"));
  Result after = run(*shim, msl("for (int n = 0; n < 5; n += 1) {\n" + barrier + "}\nmem_y[i] = 2.0f;\n"));
  CHECK(after.wrong == ""); // the fibers start anew after a workgroup that went wrong
  CHECK(after.values == std::vector<float>(8, 2.0f));
}

TEST_CASE("metal-shim passes what the signature names") {
  std::string why;
  std::unique_ptr<Backend> shim = open_metal_shim("", &why);
  if (!shim) return print_skip("metal-shim passes what the signature names", why);
  CHECK(std::isnan(run(*shim, msl("mem_y[i] = mem_t[i];\n")).values[3])); // threadgroup memory starts as nothing
  Kernel k = msl("mem_y[i] = float(params.p_a + g);\nif (i == 2) {\nerror_word[0] = 513u;\n}\n",
                 "device uint *error_word [[buffer(2)]], constant Params &params [[buffer(1)]], ");
  k.text.insert(k.text.find("kernel"), "struct Params {\n  int p_b;\n  int p_a;\n};\n");
  k.param_count = 2, k.errors = true;
  Result r = run(*shim, k, 2, {7, 40});
  CHECK(r.wrong == "");
  CHECK(r.values[7] == 41.0f);
  CHECK(r.error_word == 513);
  CHECK(holds(run(*shim, msl("", "uint simd [[thread_index_in_simdgroup]], ")).wrong, "an attribute unknown here"));
  CHECK(holds(run(*shim, msl("mem_y[i] = expf(2.0f);\n")).wrong, "does not compile"));
  k.entry = "k_u";
  CHECK(holds(run(*shim, k).wrong, "there is no 'kernel void k_u('"));
}

TEST_CASE("dawn runs and refuses") {
  std::string why;
  std::unique_ptr<Backend> dawn = open_dawn("", &why);
  if (!dawn) return print_skip("dawn runs and refuses", why);
  Kernel k;
  k.name = "t", k.entry = "k_t", k.local_size = {8, 1, 1}, k.binding_count = 2, k.access = {1, 2}, k.param_count = 1, k.errors = true;
  k.text = "struct Params {\n  p_a: i32,\n}\n@group(0) @binding(0) var<storage, read> x: array<f32>;\n"
           "@group(0) @binding(1) var<storage, read_write> y: array<f32>;\n@group(0) @binding(2) var<uniform> params: Params;\n"
           "@group(0) @binding(3) var<storage, read_write> error_word: array<u32>;\n"
           "@compute @workgroup_size(8)\nfn k_t(@builtin(local_invocation_id) id: vec3<u32>) {\n"
           "  y[id.x] = x[id.x] + f32(params.p_a);\n  if (x[id.x] == 3f) {\n    error_word[0] = 257u;\n  }\n}\n";
  uint32_t first = 9, word = 9;
  REQUIRE(dawn->load({k}, &first) == "");
  CHECK(first == 0);
  // One memory is read and written, in ranges apart; its ends are no whole words.
  Memory memory, host;
  memory.size = 512, host.size = 512;
  REQUIRE(dawn->allocate(memory, true) == "");
  REQUIRE(dawn->allocate(host, false) == "");
  const float in[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  float out[8] = {};
  REQUIRE(dawn->write(memory, 0, in, sizeof in) == "");
  REQUIRE(dawn->dispatch(k, {first, {1, 1, 1}, {{&memory, 0, 32}, {&memory, 256, 32}}, {10}}) == "");
  REQUIRE(dawn->finish(&word) == "");
  CHECK(word == 257);
  REQUIRE(dawn->finish(&word) == "");
  CHECK(word == 0);
  REQUIRE(dawn->read(memory, 256, out, sizeof out) == "");
  for (int i = 0; i < 8; ++i)
    CHECK(out[i] == float(10 + i));
  const uint8_t bytes[3] = {1, 2, 3};
  uint8_t back[8] = {};
  REQUIRE(dawn->write(memory, 257, bytes, 3) == "");
  REQUIRE(dawn->copy({&host, 1, 5}, {&memory, 256, 5}) == "");
  REQUIRE(dawn->copy({&memory, 301, 5}, {&host, 1, 5}) == "");
  REQUIRE(dawn->read(memory, 300, back, 8) == "");
  CHECK(std::memcmp(back + 2, bytes, 3) == 0);

  // The first failure stays.
  k.text.replace(k.text.find("3f"), 2, "3i");
  std::string wrong = dawn->load({k}, &first);
  INFO(wrong);
  CHECK(holds(wrong, ":11:7"));
  CHECK(dawn->finish(&word) == wrong);
}
