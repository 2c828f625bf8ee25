// A recording of local-task: the commands of a straight line in waves. Commands of one wave are independent of
// each other (hazards.h) and may run at the same time; waves run in order. A command is cut into units,
// contiguous ranges of its workgroups (or bytes, of a copy or fill), and the units of a wave are dealt to
// parties by what they cost. All of it follows from the commands and the number of threads, never from time,
// and where a command is cut has no influence on its results, as workgroups are independent.
#pragma once

#include <ingot/driver.h>

#include "src/drivers/common/host_recording.h"
#include "src/drivers/local/hazards.h"

namespace ingot::drivers {

// What the division of work rests on. Costs are of one thread, on the slow side of what a good kernel takes on
// current cores: too many parties on a small wave lose half a microsecond, too few on a slow kernel lose much
// more.
constexpr uint64_t kFlopsPerNs = 16, kBytesPerNs = 8;
constexpr uint64_t kCommandNs = 50;
constexpr uint64_t kPartyNs = 2'000;  // the least that a party is given
constexpr uint64_t kUnitNs = 500;     // the least worth taking as a chunk
constexpr uint64_t kRouseNs = 50'000; // what must be ahead in this recording to wake sleeping threads
constexpr uint64_t kPatienceNs =
    100'000; // what runs between two looks at deadline and cancel, where it can be cut
constexpr uint32_t kUnitsPerParty = 16;
constexpr uint32_t kMaxWaveCommands = 16'384;

struct TaskCommand {
  HostCommand *command;
  uint64_t cost_ns;
  uint32_t order; // as recorded: the last error in this order is the one reported, as on one thread
  uint32_t level;
  uint32_t first_unit, units; // of its wave
};

struct Wave {
  uint32_t first, count; // commands
  uint32_t units, parties;
  uint32_t cuts; // index of parties + 1 numbers
  uint64_t cost_ns;
  uint64_t spread_ns; // cost of this and all later waves with more than one party
};

class TaskRecording {
 public:
  // `hazards` is the stream's, shared by its recordings, and has room for this one's accesses.
  static Code create(const ingot_allocator_t &allocator, ingot_driver_stream_t *stream,
                     const ingot_driver_recording_size_t &size, uint32_t threads, Hazards *hazards,
                     TaskRecording **out, Error *error);
  static void destroy(TaskRecording *recording);
  static size_t accesses(const ingot_driver_recording_size_t &size) {
    return size_t(size.bindings) + 2 * size_t(size.copies) + size.fills;
  }

  void begin();
  // Adds what was just appended to host(). `access`: as in ingot_driver_kernel_t.
  void add(HostDispatch *dispatch, const ingot_driver_dispatch_t &what, const uint8_t *access);
  void add_copy(const ingot_driver_span_t &target, const ingot_driver_span_t &source);
  void add_fill(const ingot_driver_span_t &target, uint64_t pattern, uint32_t pattern_bytes);
  void end(); // sorts into waves

  HostRecording &host() { return *host_; }
  const TaskCommand &command(uint32_t index) const { return commands_[index]; }
  const Wave *begin_waves() const { return waves_.begin(); }
  const Wave *end_waves() const { return waves_.begin() + wave_count_; }
  const uint16_t *cuts(const Wave &wave) const { return cuts_.begin() + wave.cuts; }

 private:
  void append(HostCommand *command, uint64_t cost_ns, uint32_t level);
  void divide(Wave &wave);

  ingot_allocator_t allocator_ = {};
  HostRecording *host_ = nullptr;
  Hazards *hazards_ = nullptr;
  uint32_t threads_ = 1, count_ = 0, wave_count_ = 0, levels_ = 0;
  Array<TaskCommand> commands_, sorted_;
  Array<uint32_t> level_ends_;
  Array<Wave> waves_;
  Array<uint16_t> cuts_;
};

// How many units a command can be cut into at most.
uint64_t divisible(const HostCommand &command);

// Runs units [begin, end) of the command's `units`. Kernels get `scratch`; the value returned is the error word
// that they stored.
uint64_t run_units(const TaskCommand &command, uint32_t begin, uint32_t end, uint8_t *scratch);

} // namespace ingot::drivers
