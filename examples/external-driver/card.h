// The device that this driver drives: a card, imitated by one thread. It has memory of its own, which the host reaches
// through copies only, and a queue that works by itself. Everything here stands for what a vendor's library would bring.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace card {

// Memory on the card. `bytes` is what a vendor would hide behind a handle.
struct Memory {
  explicit Memory(uint64_t size);
  ~Memory();
  uint8_t *bytes;
  uint64_t size;
};

class Card {
public:
  // The work after that many submissions is lost; 0: none is.
  explicit Card(uint64_t lost_after);
  ~Card();

  // Queues work; the card does one piece after the other. Returns its number, 0 where the card is lost.
  uint64_t submit(std::function<void()> work);
  enum class Outcome { done, late, lost };
  // Waits until the work of that number has been done, at most for `nanoseconds`.
  Outcome wait(uint64_t number, uint64_t nanoseconds);
  bool lost();

private:
  void serve();

  std::mutex mutex_;
  std::condition_variable arrived_, done_;
  std::deque<std::function<void()>> queue_;
  uint64_t submitted_ = 0, finished_ = 0, lost_after_;
  bool stop_ = false, lost_ = false;
  std::thread thread_;
};

} // namespace card
