// See tools.h.
#include "tests/gpu_spike/tools.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace ingot::aotc::gpu_spike {

Run run_command(const std::string &command) {
  Run run;
  std::FILE *pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe)
    return run;
  char buffer[4096];
  size_t count;
  while ((count = std::fread(buffer, 1, sizeof buffer, pipe)) > 0)
    run.output.append(buffer, count);
  int status = pclose(pipe);
  run.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return run;
}

std::string find_tool(const char *variable, const char *program) {
  if (const char *path = std::getenv(variable); path && access(path, R_OK) == 0)
    return path;
  if (!*program)
    return "";
  Run which = run_command(std::string("command -v ") + program);
  while (!which.output.empty() && which.output.back() == '\n')
    which.output.pop_back();
  return which.status == 0 ? which.output : "";
}

Dawn::Dawn()
    : node_(find_tool("INGOT_NODE", "node")), package_(find_tool("INGOT_WEBGPU_PACKAGE", "")),
      driver_(find_tool("INGOT_SWIFTSHADER_ICD", "")), script_(find_tool("INGOT_RUN_WGSL", "")) {
  constexpr const char *kDebianDriver = "/usr/lib/chromium/vk_swiftshader_icd.json";
  if (driver_.empty() && access(kDebianDriver, R_OK) == 0)
    driver_ = kDebianDriver;
  if (node_.empty())
    missing = "no node";
  else if (package_.empty())
    missing = "no npm package webgpu (INGOT_WEBGPU_PACKAGE)";
  else if (driver_.empty())
    missing = "no SwiftShader (Debian's chromium)";
  else if (script_.empty())
    missing = "INGOT_RUN_WGSL does not name run_wgsl.mjs";
}

Run Dawn::run(const std::string &folder, size_t first) const {
  return run_command("VK_ICD_FILENAMES='" + driver_ + "' VK_DRIVER_FILES='" + driver_ + "' '" + node_ + "' '" + script_ +
                     "' '" + folder + "' '" + package_ + "' " + std::to_string(first) + " " + std::to_string(kBatch));
}

std::string make_folder(const std::string &name) {
  std::filesystem::path folder = std::filesystem::temp_directory_path() / (name + "-" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  return folder.string();
}

void print_skip(const std::string &test_case, const std::string &why) {
  std::printf("skip gpu_spike/%s # %s\n", test_case.c_str(), why.c_str());
  std::fflush(stdout);
}

} // namespace ingot::aotc::gpu_spike
