// Threads of the platform contract, on POSIX threads.
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "src/runtime/platform/platform.h"

namespace ingot::platform {

static_assert(sizeof(pthread_t) <= sizeof(uintptr_t));

Code start_thread(void *(*entry)(void *), void *argument, Thread *out, Error *error) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); // a new thread inherits the mask
  pthread_t thread;
  const int result = pthread_create(&thread, nullptr, entry, argument);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (result != 0)
    return fail(error, INGOT_UNAVAILABLE, "the system starts no further thread: %s", strerror(result));
  memcpy(&out->handle, &thread, sizeof thread);
  out->process = uint32_t(getpid());
  return INGOT_OK;
}

void yield() { sched_yield(); }

void join_thread(const Thread &thread) {
  if (thread.process != uint32_t(getpid())) return;
  pthread_t handle;
  memcpy(&handle, &thread.handle, sizeof handle);
  pthread_join(handle, nullptr);
}

} // namespace ingot::platform
