// A temporary folder that never stays behind, and the programs that work in it.
#pragma once

#include <string>
#include <vector>

namespace ingot::tool {

// Makes a folder and goes on in a child process, which may use it as it likes: the calling process waits for the child,
// removes the folder whatever happened, and ends as the child did. SIGINT, SIGTERM and SIGHUP end the child and all that
// it started first. Returns the folder's path, in the child only. Pre: one thread.
std::string enter_scratch_folder();

struct ProgramResult {
  bool found = false; // else the program could not be started, for the reason in `output`
  int status = 0;     // exit status; 128 + the signal that ended it
  std::string output; // what it wrote to the standard output, then to the standard error
};
// Runs a program (looked for in PATH, unless its name holds a slash) and waits for its end.
ProgramResult run_program(const std::vector<std::string> &command, const std::string &folder);

} // namespace ingot::tool
