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

// A folder of this run's own under the working directory's temporary one; removed by its owner.
std::string make_folder(const std::string &name);

// Prints the line by which a test says that it could not run here: "skip gpu_spike/CASE # why".
void print_skip(const std::string &test_case, const std::string &why);

} // namespace ingot::aotc::gpu_spike
