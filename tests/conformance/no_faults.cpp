// Where no driver has memory of its own, none is faulty.
#include "tests/conformance/faulty.h"

namespace conformance {

int fault_count() { return -1; }
const char *fault_name(int) { return ""; }
bool fault_is_early(int) { return false; }

} // namespace conformance
