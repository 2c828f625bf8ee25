// A driver that passes everything on to the example driver, with one fault planted: faulty:0?fault=N. Options after the
// number and '&' are the example's. Fault 0 is none.
#pragma once

namespace conformance {

int fault_count(); // 1 .. that
const char *fault_name(int fault);
bool fault_is_early(int fault); // finish returns before the end: seen only while the device is still at work

} // namespace conformance
