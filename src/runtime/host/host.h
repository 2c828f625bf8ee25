// The table of the module for lists, optionals and strings.
#pragma once

#include "src/runtime/host/module.h"

namespace ingot {

const HostModule &host_module();

} // namespace ingot
