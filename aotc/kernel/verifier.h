// The verifier: says whether a kernel is legal, in general and for one target. Schedules, the legaliser and tests run
// it; emitters may rely on it. A failure is a bug of the compiler (or of a hand-written kernel text).
#pragma once

#include <string>

#include "aotc/kernel/kernel.h"
#include "aotc/kernel/target.h"

namespace ingot::aotc::kernel {

// "" if legal, else "kernel NAME: WHAT, in: OP". Checks the kernel's header, types, dominance, region shapes,
// memory access rights, constants and barriers (control flow must be workgroup-uniform, as WGSL defines it).
std::string verify(const Kernel &kernel);

// verify(), and that nothing in it exceeds what the record offers: types, storage, lanes, limits, fma, subgroup ops;
// math ops must have been expanded. What legalise() gives passes.
std::string verify_for(const Kernel &kernel, const TargetRecord &target);

} // namespace ingot::aotc::kernel
