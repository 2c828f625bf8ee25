// The models of the conformance suite: a few commands each, over the kernels of kernels.h. Inputs and outputs are i32.
#pragma once

#include <vector>

#include <ingot/ingot.h>

#include "tests/conformance/kernels.h"

namespace conformance {

// Each: an archive with the target's variant first.
using Bytes = std::vector<uint8_t>;

Bytes line(const std::string &target);     // y[64] = (x[64] + w) * 3 - 5, w[i] = 10 i; fixed dims
// y: the last `tail` bytes of each constant, one after the other. The segment of the constants, the archive's last, is not
// filled: 64 bytes stand for it.
Bytes large(const std::string &target, uint32_t constants, uint64_t bytes, uint64_t tail);
Bytes bindings(const std::string &target); // y[64] of every kind of slot in one dispatch; raises a state by 1 before
int32_t bindings_expected(int i, int32_t x, int run);
Bytes prepared(const std::string &target); // y[64] = x[64] + what was prepared once: (10 i + 7) * 3 - 5 + 1
int32_t prepared_expected(int i, int32_t x);
Bytes free_dims(const std::string &target); // y[N] = x[N] * 2 + 1, N 0 .. 100000
Bytes many_params(const std::string &target, const std::vector<int64_t> &params); // y[1]
Bytes wide_param(const std::string &target, int64_t value);                       // y[1] = value >> 32
Bytes grid(const std::string &target, uint32_t x, uint32_t y, uint32_t z);        // y[z, y, x]
Bytes control(const std::string &target);  // y[] of x[]: host decisions of every kind
int32_t control_expected(int32_t x);
Bytes scalar(const std::string &target, ingot_element_type_t type); // y[1] = x[1], of that type, read by the host
Bytes counter(const std::string &target);  // y[1]: how often it ran
Bytes refuse(const std::string &target);   // y[N] = x[N], an error where one is negative
Bytes nonzero(const std::string &target);  // positions[found] of x[N]
Bytes spin(const std::string &target, int64_t steps, uint32_t groups, int dispatches); // y[groups] of x[groups]; `dispatches` times `steps`
Bytes looped(const std::string &target, int64_t steps, uint32_t groups); // y[groups] of x[groups] and trips[1]: that many dispatches
Bytes moves(const std::string &target);    // no kernels: a[40] = x[40], b[40] = 0x01020304 everywhere, c[8] f64 = pattern
Bytes weights(const std::string &target, uint32_t segments, uint32_t elements); // y[elements] = sum of all segments
// y[kMirrored] of x: the kernel of make_mirror_archive twice.
Bytes mirror(const std::string &target, const std::vector<uint64_t> &asked, bool dependent = false);
int32_t mirror_expected(int i, int32_t x);
// y[kFed / 2] of x, two words each: the kernel of make_fed_archive, on all of x but the first `from` bytes.
Bytes fed(const std::string &target, bool masked = true, bool other = false, uint32_t from = 0);
Bytes chain(const std::string &target, int dispatches); // y[1] = x[1] + 1 + 2 + .. dispatches, a barrier between all

} // namespace conformance
