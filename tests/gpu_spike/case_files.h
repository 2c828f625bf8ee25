// Case files: what a GPU program outside this process needs to run cases and judge them. A folder with `cases.txt` and
// raw little-endian files beside it. Read by run_wgsl.mjs and run_cuda.cpp. One directive a line:
//
//   case NAME
//   kernel FILE ENTRY        source text and entry function
//   local X Y Z              threads of a workgroup
//   grid X Y Z               workgroups
//   param BYTES HEX          one kernel param: 4 or 8 bytes, its bits as one hexadecimal number
//   buffer in|out FILE       in binding order; the file holds the words before the run (outputs: the canary)
//   expect INDEX FILE        the words of buffer INDEX that must come out: pairs of doubles (value, bound) in FILE;
//                            what lies behind them must still be the canary
//   result FILE              where a runner may write that buffer's words
//   end
#pragma once

#include <string>
#include <vector>

#include "tests/gpu_spike/cases.h"

namespace ingot::aotc::gpu_spike {

struct CaseText {
  const Case *c = nullptr;
  std::string text, entry, extension; // source of the kernel as the target takes it
};

// Writes the folder (made if missing). Returns "" or why not.
std::string write_case_files(const std::string &folder, const std::vector<CaseText> &cases);

// The case's buffers as devices get them: kGuardWords of canary behind each.
std::vector<std::vector<uint32_t>> guarded_buffers(const Case &c);
// The params block in the layout of gpu_layout.h.
std::vector<uint8_t> params_block(const kernel::Kernel &kernel, const std::vector<int64_t> &params);

} // namespace ingot::aotc::gpu_spike
