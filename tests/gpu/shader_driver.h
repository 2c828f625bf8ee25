// Test drivers that run the shader text of archives: metal-shim (MSL, compiled for this CPU) and dawn (WGSL, in Dawn over
// SwiftShader). The runtime, its recordings and the `ingot` tool are the real ones; here is what both share. They run each
// submission to its end before they return.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace ingot::shaders {

struct Memory {
  uint64_t size = 0;         // a multiple of 4
  std::vector<uint8_t> host; // empty where the device has it
  uint32_t id = 0;           // of the device's
};

struct Span {
  Memory *memory = nullptr; // nullptr: no bytes
  uint64_t offset = 0, length = 0;
};

struct Kernel {
  std::string name, entry, text;
  std::array<uint32_t, 3> local_size = {};
  uint32_t binding_count = 0, param_count = 0;
  std::vector<uint8_t> access; // of each binding: 1 read, 2 write, 3 both
  bool errors = false;
};

struct Dispatch {
  uint32_t kernel = 0;
  std::array<uint32_t, 3> grid = {};
  std::vector<Span> bindings;
  std::vector<uint32_t> params;
};

// Each call gives "" or what went wrong; a backend that failed may fail ever after.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string allocate(Memory &memory, bool on_device) = 0;
  virtual void release(Memory &) {}
  virtual std::string write(Memory &memory, uint64_t offset, const void *data, size_t length) = 0;
  virtual std::string read(Memory &memory, uint64_t offset, void *data, size_t length) = 0;
  // Adds the kernels; the number of the first is `first`.
  virtual std::string load(const std::vector<Kernel> &kernels, uint32_t *first) = 0;
  // `kernel` counts over all that were loaded.
  virtual std::string dispatch(const Kernel &k, const Dispatch &d) = 0;
  virtual std::string copy(const Span &target, const Span &source) = 0;
  // Waits for all of the above; *error_word is the kernels' (schemas/gpu_abi.h), which is then 0 again.
  virtual std::string finish(uint32_t *error_word) = 0;
};

// What a driver's table names: its device, or why there is none.
std::string metal_shim_missing();
std::unique_ptr<Backend> open_metal_shim(const std::string &options, std::string *why);
std::string dawn_missing();
std::unique_ptr<Backend> open_dawn(const std::string &options, std::string *why);

} // namespace ingot::shaders
