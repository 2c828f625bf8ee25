// A driver that passes everything on to the example driver, with one fault planted: faulty:0?fault=N. Options after the
// number and '&' are the example's. Fault 0 is none.
#pragma once

namespace conformance {

int fault_count(); // 1 .. that
const char *fault_name(int fault);

} // namespace conformance
