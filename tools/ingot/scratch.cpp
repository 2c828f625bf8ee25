#include "tools/ingot/scratch.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tools/ingot/failure.h"

extern char **environ;

namespace ingot::tool {

namespace {

constexpr int kEnding[] = {SIGINT, SIGTERM, SIGHUP};
// Of the one process that waits; signal handlers reach nothing else.
volatile pid_t worker = 0;
volatile sig_atomic_t ended_by = 0;

void end_worker(int signal) {
  ended_by = signal;
  kill(-worker, SIGTERM);
}

int wait_for(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

std::string text_of(const std::string &path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

} // namespace

std::string enter_scratch_folder() {
  const char *base = std::getenv("TMPDIR");
  std::string folder = std::string(base && *base ? base : "/tmp") + "/ingot-XXXXXX";
  sigset_t held, before;
  sigemptyset(&held);
  for (int s : kEnding) sigaddset(&held, s);
  sigprocmask(SIG_BLOCK, &held, &before);
  if (!mkdtemp(folder.data())) {
    const std::string why = std::strerror(errno);
    sigprocmask(SIG_SETMASK, &before, nullptr);
    misuse("no temporary folder can be made as " + folder + ": " + why + "; TMPDIR names another place");
  }
  std::fflush(nullptr);
  const pid_t child = fork();
  const int error = errno;
  if (child == 0) {
    setpgid(0, 0); // so that the waiting process reaches all that is started here
    sigprocmask(SIG_SETMASK, &before, nullptr);
    setenv("TMPDIR", folder.c_str(), 1); // what the programs started here leave lying about goes, too
    return folder;
  }
  int status = 0;
  if (child > 0) {
    setpgid(child, child); // both do, as either may come first
    worker = child;
    struct sigaction action{};
    action.sa_handler = end_worker;
    for (int s : kEnding) sigaction(s, &action, nullptr);
    sigprocmask(SIG_SETMASK, &before, nullptr);
    status = wait_for(child);
  }
  if (ended_by) { // what the child started ends, too, before its files go
    kill(-child, SIGKILL);
    for (int n = 0; kill(-child, 0) == 0 && n < 1000; ++n) usleep(1000);
  }
  std::error_code code;
  std::filesystem::remove_all(folder, code);
  if (child < 0) {
    sigprocmask(SIG_SETMASK, &before, nullptr);
    fail("no process can be started: " + std::string(std::strerror(error)));
  }
  const int signal = ended_by ? int(ended_by) : WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  if (signal) {
    ::signal(signal, SIG_DFL);
    raise(signal);
  }
  _exit(WEXITSTATUS(status));
}

ProgramResult run_program(const std::vector<std::string> &command, const std::string &folder) {
  const std::string out = folder + "/stdout", err = folder + "/stderr";
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  constexpr int kWrite = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, out.c_str(), kWrite, 0600);
  posix_spawn_file_actions_addopen(&files, 2, err.c_str(), kWrite, 0600);
  std::vector<char *> arguments;
  for (const std::string &a : command) arguments.push_back(const_cast<char *>(a.c_str()));
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int error = posix_spawnp(&child, arguments[0], &files, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  ProgramResult result;
  if (error) {
    result.output = std::strerror(error);
    return result;
  }
  const int status = wait_for(child);
  result.found = true;
  result.status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  result.output = text_of(out) + text_of(err);
  return result;
}

} // namespace ingot::tool
