// The legaliser: rewrites a kernel so that it uses only what a target record offers, keeping its meaning.
#pragma once

#include <string>

#include "aotc/kernel/kernel.h"
#include "aotc/kernel/target.h"

namespace ingot::aotc::kernel {

// "" on success: verify_for(kernel, target) then passes. Else what cannot be expressed on the target and what to do;
// the kernel is then unspecified.
std::string legalise(Kernel &kernel, const TargetRecord &target);

} // namespace ingot::aotc::kernel
