// The tool's commands, one file each. They throw Failure; what they return is the exit status.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/ingot/compare.h"

namespace ingot::tool {

struct RunOptions {
  std::string archive, device = "auto", function = "main";
  std::vector<std::string> inputs, outputs, expected;
  Tolerance tolerance;
};
int run_command(const RunOptions &options);
int run_many_command(const std::string &list);

struct BenchOptions {
  std::string archive, device = "auto", function = "main";
  std::vector<std::string> inputs;
  std::optional<unsigned> threads; // none: as many as the device has
  double seconds = 1;
  unsigned runs = 0; // 0: as many as fit into `seconds`, at least 10
  bool kernels = false, json = false, on_device = false;
};
int bench_command(const BenchOptions &options);

struct VerifyNumericsOptions {
  std::string model, archive; // archive: may be empty
  std::string device = "auto", function = "main", reference = "onnxruntime", aotc, python = "python3";
  std::vector<std::string> inputs, input_shapes, targets;
  Tolerance tolerance;
  uint64_t seed = 0;
  bool all = false, json = false;
};
// Exit status 0: all agrees; kFailed: something does not; kWrongUsage: nothing could be compared.
int verify_numerics_command(const VerifyNumericsOptions &options);

int inspect_command(const std::string &archive, bool json, bool commands, bool code);
int verify_command(const std::string &archive, bool hash);
int explain_command(const std::string &archive, const std::string &device);
int list_drivers_command();
int list_devices_command(const std::string &driver);
int dump_devices_command(const std::string &driver);

} // namespace ingot::tool
