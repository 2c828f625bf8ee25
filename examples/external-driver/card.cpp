#include "card.h"

#include <chrono>
#include <cstdlib>

namespace card {

Memory::Memory(uint64_t size)
    : bytes(static_cast<uint8_t *>(std::aligned_alloc(64, size_t((size + 63) / 64 * 64)))), size(size) {}
Memory::~Memory() { std::free(bytes); }

Card::Card(uint64_t lost_after) : lost_after_(lost_after), thread_([this] { serve(); }) {}

Card::~Card() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  arrived_.notify_all();
  thread_.join();
}

uint64_t Card::submit(std::function<void()> work) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (lost_) return 0;
  queue_.push_back(std::move(work));
  arrived_.notify_all();
  return ++submitted_;
}

Card::Outcome Card::wait(uint64_t number, uint64_t nanoseconds) {
  std::unique_lock<std::mutex> lock(mutex_);
  done_.wait_for(lock, std::chrono::nanoseconds(nanoseconds), [&] { return lost_ || finished_ >= number; });
  return lost_ ? Outcome::lost : finished_ >= number ? Outcome::done : Outcome::late;
}

bool Card::lost() {
  std::lock_guard<std::mutex> lock(mutex_);
  return lost_;
}

void Card::serve() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    arrived_.wait(lock, [&] { return stop_ || !queue_.empty(); });
    if (queue_.empty()) return;
    std::function<void()> work = std::move(queue_.front());
    queue_.pop_front();
    if (lost_after_ != 0 && finished_ + 1 >= lost_after_) lost_ = true;
    if (!lost_) {
      lock.unlock();
      work();
      lock.lock();
    }
    ++finished_;
    done_.notify_all();
  }
}

} // namespace card
