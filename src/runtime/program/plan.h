// What a session works out once about a function: which expressions depend on host scalars, where the command tree cuts
// into straight-line segments, and how large their recordings get.
#pragma once

#include <ingot/driver.h>

#include "src/runtime/archive/schema.h"

namespace ingot {

// Commands [begin, end) of one text: dispatches, copies, fills and barriers only.
struct StraightLine {
  uint32_t text = 0; // kNone: the main one; else the subroutine
  uint32_t begin = 0, end = 0;
  bool late = false; // something in it depends on host scalars
  ingot_driver_recording_size_t size = {};
};

class FunctionPlan {
public:
  Code build(const schema::Function *function, const ingot_allocator_t &allocator, Error *error);

  const schema::Function *function = nullptr;
  Array<uint8_t> late;          // per expression: depends on host scalars
  Array<StraightLine> segments; // ordered by (text, begin), the main text last
  // Per slot: where the session keeps the bytes of constants that it holds itself (in block, at offset).
  struct Held {
    uint32_t block;
    uint64_t offset;
  };
  Array<Held> held;
  bool single = false;          // the main text is at most one segment, and no expression is late
  bool any_late = false;
  bool fixed = false;           // no symbols: all dims are constants
  uint32_t dispatches = 0, decisions = 0;

  const flatbuffers::Vector<uint32_t> *words(uint32_t text) const {
    return text == program::kNone ? function->commands() : function->subroutines()->Get(text)->commands();
  }
  // The segment that starts there.
  uint32_t find(uint32_t text, uint32_t begin) const;

private:
  uint32_t walk(uint32_t text, uint32_t begin, uint32_t end, StraightLine *out);
  bool slot_late(uint32_t slot) const;
};

} // namespace ingot
