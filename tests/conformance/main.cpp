// The conformance suite: every case against every driver, then the suite against drivers with planted faults.
//
//   conformance [--driver=WORD] [--only=WORD]   the rows and the cases whose names hold the word
//   conformance --faults                        each planted fault is found by some case
//   conformance --list
//
// Each case runs in a process of its own, as a faulty driver may crash or hang. A driver costs one row below.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "src/drivers/table.h"
#include "src/runtime/platform/platform.h"
#include "tests/conformance/faulty.h"
#include "tests/conformance/kernels.h"
#include "tests/conformance/suite.h"

namespace conformance {

std::vector<Case> &cases() {
  static std::vector<Case> all;
  return all;
}

const ingot_driver_t *driver_of(const std::string &uri) {
  const std::string name = uri.substr(0, uri.find_first_of(":?"));
  for (size_t i = 0; i < ingot::driver_count(); ++i)
    if (ingot::driver_at(i).name == name) return &ingot::driver_at(i);
  return nullptr;
}

namespace {

const Subject kSubjects[] = {
    //  name             uri                        target          lose                spin      groups wide_params
    {"null",              "null",                   "",             "",                 0,        0,    true},
    {"local-sync",        "local-sync",             "llvm-cpu",     "",                 20000000, 1,    true},
    {"local-sync vmvx",   "local-sync",             "vmvx",         "",                 300000,   1,    true},
    {"local-task",        "local-task://0?threads=4", "llvm-cpu",   "",                 20000000, 1,    true},
    {"local-task vmvx",   "local-task://0?threads=4", "vmvx",       "",                 300000,   1,    true},
    {"example",           "example",                "llvm-cpu",     "example:0?lose=",  20000000, 1,    true},
    {"vulkan",            "vulkan:0?validation=1",  "vulkan-spirv", "",                 50000,    400,  false},
    {"cuda",              "cuda:0",                 "cuda",         "",                 4000000,  4,    false},
    {"mock cuda",         "cuda:0",                 "cuda",         "cuda:",            400000,   1,    false},
    {"mock hip",          "hip:0",                  "rocm",         "hip:",             400000,   1,    false},
    {"mock amdgpu",       "amdgpu:0",               "rocm",         "amdgpu:",          400000,   1,    false},
};

bool holds(const std::string &text, const std::string &word) { return text.find(word) != std::string::npos; }

// Why the case does not apply; null where it does.
const char *not_for(const Case &c, const Subject &s) {
  const ingot_driver_t &driver = *driver_of(s.uri);
  if ((c.needs & Case::kernels) && s.target.empty()) return "it runs no kernels";
  if ((c.needs & Case::own_memory) && driver.host_memory) return "it works in host memory";
  if ((c.needs & Case::loss) && s.lose.empty()) return "it cannot be lost on demand";
  if ((c.needs & Case::import) && !driver.import) return "it imports no memory";
  if ((c.needs & Case::vulkan) && strcmp(driver.name, "vulkan") != 0) return "it is not the driver vulkan";
  if ((c.needs & Case::cuda) && strcmp(driver.name, "cuda") != 0) return "it is not the driver cuda";
  if ((c.needs & Case::amdgpu) && strcmp(driver.name, "amdgpu") != 0) return "it is not the driver amdgpu";
  if ((c.needs & Case::stream) && strcmp(driver.name, "cuda") != 0 && strcmp(driver.name, "hip") != 0) return "it is neither cuda nor hip";
  return nullptr;
}

// Runs in a process of its own; empty where it passes.
std::string outcome(const Case &c, const Subject &s, unsigned seconds) {
  int pipes[2];
  if (pipe(pipes) != 0) return "no pipe";
  const pid_t child = fork();
  if (child == 0) {
    alarm(seconds);
    std::string wrong;
    try {
      c.run(s);
    } catch (const Failed &f) {
      wrong = f.what;
    } catch (const std::exception &e) {
      wrong = e.what();
    }
    if (write(pipes[1], wrong.data(), wrong.size()) < 0) _exit(2);
    std::fflush(nullptr);
    exit(wrong.empty() ? 0 : 1);
  }
  close(pipes[1]);
  std::string wrong;
  char part[512];
  for (ssize_t n; (n = read(pipes[0], part, sizeof part)) > 0;) wrong.append(part, size_t(n));
  close(pipes[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) wrong = WTERMSIG(status) == SIGALRM ? "it hangs" : "killed by signal " + std::to_string(WTERMSIG(status));
  else if (WEXITSTATUS(status) != 0 && wrong.empty()) wrong = "exit status " + std::to_string(WEXITSTATUS(status));
  for (char &ch : wrong) ch = ch == '\n' ? ' ' : ch;
  return wrong;
}

// Why the row cannot run here; empty where it can. A device is opened in a process of its own too: some libraries do not work
// in a child of a process that has used them.
std::string missing(const Subject &s) {
  if (!driver_of(s.uri)) return "this build has no such driver";
  const bool mocked = std::getenv("INGOT_MOCK_LIBRARY") != nullptr; // set by who puts tests/mock in the way of the real library
  if (mocked != holds(s.name, "mock")) return mocked ? "a mock takes its library's place" : "no mock takes its library's place";
  const Case opens = {"", 0, [](const Subject &subject) {
    ingot::Instance instance;
    auto device = instance.open(subject.uri.c_str());
    if (!device.ok()) throw Failed{device.message()};
  }};
  return outcome(opens, s, 60);
}

int run_all(const std::string &driver, const std::string &only) {
  int failures = 0;
  for (const Subject &s : kSubjects) {
    if (!holds(s.name, driver)) continue;
    if (const std::string why = missing(s); !why.empty()) {
      if (std::getenv("INGOT_MOCK_LIBRARY") && holds(s.name, "mock")) { // it is there for this run: nothing may be missing
        std::printf("not ok conformance/%s: it opens # %s\n", s.name.c_str(), why.c_str());
        ++failures;
        continue;
      }
      std::printf("skip conformance/%s # %s\n", s.name.c_str(), why.c_str());
      continue;
    }
    for (const Case &c : cases()) {
      if (!holds(c.name, only) || not_for(c, s)) continue;
      const std::string wrong = outcome(c, s, 240);
      failures += !wrong.empty();
      std::printf("%s conformance/%s: %s%s%s\n", wrong.empty() ? "ok" : "not ok", s.name.c_str(), c.name, wrong.empty() ? "" : " # ", wrong.c_str());
      std::fflush(stdout);
    }
  }
  return failures;
}

int run_faults(const std::string &only) {
  int failures = 0;
  Subject s = kSubjects[5];
  if (!driver_of("faulty")) return std::printf("skip conformance/faults # this build has no driver with memory of its own\n"), 0;
  for (int fault = 0; fault <= fault_count(); ++fault) {
    s.name = "faulty";
    s.uri = "faulty:0?fault=" + std::to_string(fault);
    s.lose = s.uri + "&lose=";
    s.spin = fault_is_early(fault) ? 100000000 : 5000000; // long enough that a look at the result comes first
    std::string caught;
    for (const Case &c : cases()) {
      if (!holds(c.name, only) || not_for(c, s)) continue;
      const std::string wrong = outcome(c, s, fault == 0 ? 240 : 30);
      if (wrong.empty()) continue;
      caught = std::string(c.name) + ": " + wrong;
      break;
    }
    const bool good = caught.empty() == (fault == 0);
    failures += !good;
    std::printf("%s conformance/fault %d: %s # %s\n", good ? "ok" : "not ok", fault, fault_name(fault), caught.empty() ? "no case fails" : caught.c_str());
    std::fflush(stdout);
  }
  return failures;
}

} // namespace
} // namespace conformance

int main(int argc, char **argv) {
  std::string driver, only;
  bool faults = false;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    if (a.rfind("--driver=", 0) == 0) driver = a.substr(9);
    else if (a.rfind("--only=", 0) == 0) only = a.substr(7);
    else if (a == "--faults") faults = true;
    else if (a == "--list") {
      for (const conformance::Case &c : conformance::cases()) std::printf("%s\n", c.name);
      return 0;
    } else return std::fprintf(stderr, "conformance: unknown argument %s\n", argv[i]), 2;
  }
  conformance::targets(); // compiled once, before any process is made
  return (faults ? conformance::run_faults(only) : conformance::run_all(driver, only)) != 0;
}
