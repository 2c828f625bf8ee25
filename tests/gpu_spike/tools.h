// Programs that the GPU tests call, and where they are: an environment variable, else the PATH.
#pragma once

#include <string>

namespace ingot::aotc::gpu_spike {

struct Run {
  int status = -1;     // exit status; 128 + n for signal n
  std::string output;  // stdout and stderr together
};
Run run_command(const std::string &command);

// The path in environment variable `variable`, else `program` from the PATH; "" if neither is there.
std::string find_tool(const char *variable, const char *program);

// Dawn in node over SwiftShader.
struct Dawn {
  Dawn(); // looks for what it needs
  std::string missing;                 // what is not there, or ""
  static constexpr size_t kBatch = 40; // cases a child process: Dawn may take its process down with it
  // Runs cases [first, first + kBatch) of the case files in `folder`.
  Run run(const std::string &folder, size_t first) const;

 private:
  std::string node_, package_, driver_, script_;
};

// A folder of this run's own under the working directory's temporary one; removed by its owner.
std::string make_folder(const std::string &name);

// Prints the line by which a test says that it could not run here: "skip gpu_spike/CASE # why".
void print_skip(const std::string &test_case, const std::string &why);

} // namespace ingot::aotc::gpu_spike
