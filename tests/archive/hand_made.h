// Archives built by hand for the runtime's tests, with native kernels from kernels.c.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "aotc/archive/commands.h"
#include "aotc/archive/program.h"
#include "aotc/archive/writer.h"

namespace hand_made {

using namespace ingot::aotc::archive;
using ingot::program::kAccessRead;
using ingot::program::kAccessReadWrite;
using ingot::program::kAccessWrite;

// The shared object compiled from kernels.c, and the address of a symbol in it (throws where it is not there).
std::vector<uint8_t> kernel_image();
uint64_t symbol_address(const std::vector<uint8_t> &image, const std::string &name);

// A model with one llvm-cpu variant for this machine and the kernels of kernels.c; no function yet.
struct Builder {
  Builder();
  ArchiveModel model;
  std::vector<uint8_t> image;
  Variant &variant() { return model.variants[0]; }
  // Adds a kernel with one version (feature mask 0); returns its index.
  uint32_t kernel(const std::string &entry, std::vector<uint8_t> bindings, uint32_t params, uint64_t scratch = 0);
  // Adds a function; the reference stays valid until the next one is added.
  Function &function(const std::string &name = "main");
  uint32_t weights(const std::vector<float> &values); // a segment
  std::vector<uint8_t> bytes() const { return write_archive(model); }
};

// Slot helpers; each returns the slot's index.
uint32_t input_slot(Function &f, uint32_t input, uint32_t size);
uint32_t output_slot(Function &f, uint32_t output, uint32_t size);
uint32_t constant_slot(Function &f, uint32_t segment, uint64_t offset, uint32_t size);
uint32_t transient_slot(Function &f, uint32_t arena, uint32_t offset, uint32_t size);
uint32_t alias_slot(Function &f, uint32_t of, uint32_t offset, uint32_t size);
uint32_t splat_slot(Function &f, uint64_t pattern, uint8_t pattern_bytes, uint32_t size);
uint32_t state_slot(Function &f, uint32_t state, uint32_t size);
uint32_t prepared_slot(Function &f, uint32_t number, uint32_t size);

// y = x + w over `n` f32, n fixed, where w is copied by the prepare section. `change` sees both texts before they are written.
std::vector<uint8_t> prepared(int64_t n, const std::function<void(Function &prepare, Function &main)> &change = nullptr, bool with_section = true);

// y = (x + w) * 2 over `n` f32, n fixed: a constant, a transient, an in-place kernel, a copy to the output.
std::vector<uint8_t> add_scale(int64_t n, uint32_t io_alignment = 1);
// z[B, W] = x[B, W] + y[B, W]: two free dims; W is 1 .. 4096, B is 1 .. 64.
std::vector<uint8_t> free_add();
// positions of the non-zero elements of x[N]: an output whose size depends on data, with scratch memory.
std::vector<uint8_t> nonzero();
// y = sum over i < x of (3 + i), + 100 where x is odd, else + 200; then + 1000 for each halving until 0. Uses If, both
// kinds of Loop, a subroutine and a check that x is not negative.
std::vector<uint8_t> control_flow();
// out = table[index], 4 entries, with an error site.
std::vector<uint8_t> gather();
// One kernel in three versions: no features (rank 1), features of the host's level (rank 2), features nobody has (rank 3).
std::vector<uint8_t> versions(uint64_t middle_mask, uint64_t top_mask);
// Lists, optionals and strings, without kernels: parts of x[n] in a list with more of it, their concatenation, what the
// optional o holds if anything, and words split, normalised, compared, matched and looked up.
std::vector<uint8_t> values();
// A state slot of one i64 that each run raises by 1 and copies to the output.
std::vector<uint8_t> counter();
// `dispatches` empty kernels.
std::vector<uint8_t> empties(uint32_t dispatches);
// y = 1 / x, one f32.
std::vector<uint8_t> reciprocal();

} // namespace hand_made
