// Case files: what a GPU program outside this process needs to run cases and judge them. A folder with `cases.txt` and
// raw little-endian files beside it. Read by run_wgsl.mjs and run_cuda.cpp. One directive a line:
//
//   case NAME
//   kernel FILE ENTRY        source text and entry function
//   local X Y Z              threads of a workgroup
//   grid X Y Z               workgroups
//   param BYTES HEX          one kernel param: 4 or 8 bytes, its bits as one hexadecimal number
//   buffer FILE              in binding order; the bytes before the run
//   expect INDEX TYPE FILE   what buffer INDEX must hold afterwards. TYPE `bound`: f32 elements within (value, bound)
//                            pairs of doubles, and behind them still the canary word. Else an element type (i32, f16
//                            ...): equal to the file, any NaN equal to any NaN
//   end
//
// A runner that does not judge writes each expected buffer to NUMBER.INDEX.result, NUMBER being the case's, from 0.
#pragma once

#include <string>
#include <vector>

#include "tests/gpu_spike/cases.h"

namespace ingot::aotc::gpu_spike {

struct DeviceCase {
  struct Expectation {
    size_t buffer;
    std::string type;
    std::vector<uint8_t> bytes;
  };
  std::string name, text, entry, extension; // source of the kernel as the target takes it
  std::array<uint32_t, 3> local, grid;
  std::vector<std::pair<int, uint64_t>> params; // bytes, bits
  std::vector<std::vector<uint32_t>> buffers;
  std::vector<Expectation> expectations;
};

DeviceCase device_case(const Case &c, std::string text, std::string entry, std::string extension);

// Writes the folder (made if missing). Returns "" or why not.
std::string write_case_files(const std::string &folder, const std::vector<DeviceCase> &cases);
std::vector<uint32_t> read_result(const std::string &folder, size_t number, size_t buffer);

// The case's buffers as devices get them: kGuardWords of canary behind each.
std::vector<std::vector<uint32_t>> guarded_buffers(const Case &c);
// Params as (bytes, bits), and as the block in the layout of gpu_layout.h.
std::vector<std::pair<int, uint64_t>> param_words(const kernel::Kernel &kernel, const std::vector<int64_t> &params);
std::vector<uint8_t> params_block(const kernel::Kernel &kernel, const std::vector<int64_t> &params);

} // namespace ingot::aotc::gpu_spike
